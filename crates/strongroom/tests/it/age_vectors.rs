//! The test vectors of the age format (C2SP CCTV): what must open does, with the right bytes, and nothing else does.
//!
//! Backups, identities and shares are opened by the age library and by nothing else; this holds the library to the format.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use strongroom_core::format::Digest;
use strongroom_testkit::skip;

/// Identities in software that withstand quantum computers are for plugins: the library has none.
const OF_A_PLUGIN: &str = "AGE-SECRET-KEY-PQ-1";

/// What the library takes although the format does not.
const LENIENT: [&str; 2] = ["stanza_missing_body", "stanza_missing_final_line"];
/// What it does not take although it may.
const STRICT: [&str; 1] = ["armor_whitespace_outside"];

struct Vector {
    fields: BTreeMap<String, String>,
    identities: Vec<String>,
    file: Vec<u8>,
}

impl Vector {
    /// Lines of fields, an empty line, and the age file, compressed or not.
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("reads");
        let end = bytes.windows(2).position(|two| two == b"\n\n");
        let end = end.expect("an empty line");
        let head = std::str::from_utf8(&bytes[..end]).expect("text");
        let mut fields = BTreeMap::new();
        let mut identities = Vec::new();
        for line in head.lines() {
            let (key, value) = line.split_once(": ").expect("a field");
            if key == "identity" {
                identities.push(value.to_owned());
            }
            fields.insert(key.to_owned(), value.to_owned());
        }
        let mut file = bytes[end + 2..].to_vec();
        if fields.contains_key("compressed") {
            file = decompressed(&file);
        }
        Self {
            fields,
            identities,
            file,
        }
    }

    fn field(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(String::as_str)
    }

    fn is_for_a_plugin(&self) -> bool {
        self.identities
            .iter()
            .any(|one| one.starts_with(OF_A_PLUGIN))
    }

    /// The content, if it opens whole.
    fn open(&self) -> Result<Vec<u8>, String> {
        let mut identities: Vec<Box<dyn age::Identity>> = Vec::new();
        for text in &self.identities {
            if let Ok(identity) = text.parse::<age::x25519::Identity>() {
                identities.push(Box::new(identity));
            }
        }
        if let Some(passphrase) = self.field("passphrase") {
            let passphrase = SecretString::from(passphrase.to_owned());
            let mut identity = age::scrypt::Identity::new(passphrase);
            identity.set_max_work_factor(20);
            identities.push(Box::new(identity));
        }
        let identities = identities.iter().map(|one| &**one);
        let mut content = Vec::new();
        let text = |error: &dyn std::fmt::Display| error.to_string();
        if self.field("armored") == Some("yes") {
            let decryptor = age::Decryptor::new(ArmoredReader::new(self.file.as_slice()));
            let decryptor = decryptor.map_err(|error| text(&error))?;
            let reader = decryptor.decrypt(identities);
            let mut reader = reader.map_err(|error| text(&error))?;
            reader.read_to_end(&mut content)
        } else {
            let decryptor = age::Decryptor::new(self.file.as_slice());
            let decryptor = decryptor.map_err(|error| text(&error))?;
            let reader = decryptor.decrypt(identities);
            let mut reader = reader.map_err(|error| text(&error))?;
            reader.read_to_end(&mut content)
        }
        .map_err(|error| text(&error))?;
        Ok(content)
    }
}

/// What zlib has compressed.
fn decompressed(bytes: &[u8]) -> Vec<u8> {
    let program =
        "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))";
    let mut child = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success());
    writer.join().expect("no panic").expect("is read");
    output.stdout
}

#[test]
fn what_must_open_does_and_nothing_else() {
    let Some(directory) = std::env::var_os("STRONGROOM_AGE_VECTORS").map(PathBuf::from) else {
        skip(
            "age_vectors",
            "the vectors could not be fetched; ./test does it where Go is installed",
        );
        return;
    };
    let mut counts = BTreeMap::new();
    let (mut lenient, mut strict) = (Vec::new(), Vec::new());
    for file in std::fs::read_dir(directory).expect("lists") {
        let path = file.expect("reads").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let vector = Vector::read(&path);
        let expected = vector.field("expect").expect("what is expected");
        let opened = vector.open();
        let is_to_open = expected == "success" && !vector.is_for_a_plugin();
        if opened.is_ok() && expected != "success" {
            lenient.push(name);
            continue;
        }
        if opened.is_err() && is_to_open {
            strict.push(name);
            continue;
        }
        if let Ok(content) = opened {
            let digest = Digest::of(&content).to_string();
            assert_eq!(vector.field("payload"), Some(digest.as_str()), "{name}");
        }
        *counts.entry(expected.to_owned()).or_insert(0) += 1;
    }
    lenient.sort();
    strict.sort();
    assert_eq!(
        (lenient, strict),
        (
            LENIENT.map(str::to_owned).into(),
            STRICT.map(str::to_owned).into()
        )
    );
    assert!(
        counts["success"] > 20 && counts["header failure"] > 50,
        "{counts:?}"
    );
}
