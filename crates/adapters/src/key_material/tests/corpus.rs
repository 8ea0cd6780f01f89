//! The public corpus of the Python package `cryptography-vectors`: every key, certificate, CRL and PKCS#12 file in it.
//!
//! `corpus.txt` says what becomes of each file that is not simply read and proved, and how many are.
#![expect(clippy::disallowed_methods, reason = "tests read where the corpus is")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::key_material::{Closed, Key, Password, State, look};

/// Set by `./test` to the directory of the corpus.
const VECTORS: &str = "STRONGROOM_VECTORS";
/// The passwords of the corpus; no file opens with two of them.
const PASSWORDS: [&str; 9] = [
    "password",
    "foobar",
    "baz",
    "123456",
    "a123456",
    "cryptography",
    "hunter42",
    "PolarSSLTest",
    "Red Hat Enterprise Linux 7.4",
];
/// What is written down to be compared.
const EXPECTED: &str = include_str!("corpus.txt");

#[test]
fn the_public_corpus_is_read_as_it_is_written_down() {
    let Some(root) = std::env::var_os(VECTORS).map(PathBuf::from) else {
        let why = "no corpus: the package cryptography-vectors could not be fetched";
        strongroom_testkit::skip("key_material::corpus", why);
        return;
    };
    let mut tally = Tally::default();
    for file in files(&root) {
        let path = file.strip_prefix(&root).expect("below").to_string_lossy();
        let bytes = std::fs::read(&file).expect("a file of the corpus");
        tally.add(&path, &bytes);
    }
    let found = tally.text();
    assert!(found == EXPECTED, "{}", differences(EXPECTED, &found));
}

/// Files that may hold keys, certificates or CRLs, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    names.sort();
    for path in names {
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Some("pem" | "der" | "key" | "p12" | "crt" | "crl") =
            path.extension().and_then(|ending| ending.to_str())
        {
            found.push(path);
        }
    }
    found
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, usize>,
    said: String,
}

impl Tally {
    fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    fn add(&mut self, path: &str, bytes: &[u8]) {
        let mut found = look(bytes, None);
        let is_closed = |keys: &[Key]| {
            keys.iter().any(|key| {
                let why = [Closed::NoPassword, Closed::WrongPassword];
                matches!(&key.state, State::Closed(closed) if why.contains(closed))
            })
        };
        for password in PASSWORDS {
            if is_closed(&found.keys) {
                found = look(bytes, Some(&Password::from_file(password.as_bytes())));
            }
        }
        for key in &found.keys {
            let algorithm = key.algorithm.as_deref().unwrap_or("unknown");
            let format = key.format;
            let why = match &key.state {
                State::Signed(signed) => {
                    let public = key.public.as_ref().expect("the other half");
                    assert!(public.verifies(signed), "{path}");
                    let how = if key.is_encrypted { "encrypted " } else { "" };
                    self.count(format!("proved: {how}{format} {algorithm}"));
                    continue;
                }
                State::Closed(why) => format!("closed: {why}"),
                State::Unprovable => "cannot sign here".to_owned(),
                State::Stateful => "stateful".to_owned(),
                State::Damaged(error) => format!("damaged: {error}"),
            };
            writeln!(self.said, "{path}: {format} {algorithm}: {why}").expect("a string");
        }
        let certificates = found.certificates.len();
        let is_x509 = path.contains("x509/") && found.keys.is_empty();
        for certificate in &found.certificates {
            self.count(format!(
                "certificate: {}",
                certificate.public_key.algorithm()
            ));
        }
        for _ in 0..found.crls {
            self.count("crl");
        }
        let other = path.contains("/ocsp/") || path.contains("/requests/");
        if is_x509 && certificates + found.crls == 0 && !other {
            writeln!(self.said, "{path}: neither certificate nor CRL").expect("a string");
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (what, count) in &self.counts {
            writeln!(text, "{count} {what}").expect("a string");
        }
        text + &self.said
    }
}

/// The lines that are in one and not in the other.
fn differences(expected: &str, found: &str) -> String {
    let missing = |from: &str, to: &str, sign: char| {
        let mut text = String::new();
        for line in from
            .lines()
            .filter(|line| !to.lines().any(|one| one == *line))
        {
            writeln!(text, "{sign} {line}").expect("a string");
        }
        text
    };
    missing(expected, found, '-') + &missing(found, expected, '+')
}
