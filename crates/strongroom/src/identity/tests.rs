//! Every kind of identity file, and every way it can be wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use age::secrecy::{ExposeSecret as _, SecretString};
use strongroom_core::format::seal::EpochIdentity;
use strongroom_core::private_file;
use tempfile::TempDir;

use super::*;
use crate::config::parse_recipient;

const PASSPHRASE: &str = "correct horse";
const TIME: jiff::Timestamp = jiff::Timestamp::constant(1_795_188_600, 5);

/// Knows what it was made with, whatever is asked; counts.
struct Fixed(&'static str, std::cell::Cell<u32>);

impl PassphraseSource for Fixed {
    fn passphrase(&self, _: &Path) -> Result<SecretString, IdentityError> {
        self.1.set(self.1.get() + 1);
        Ok(SecretString::from(self.0))
    }
    fn attempts(&self) -> u32 {
        3
    }
}

fn fixed(passphrase: &'static str) -> Fixed {
    Fixed(passphrase, std::cell::Cell::new(0))
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn put(directory: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    private_file::replace(&path, bytes).expect("written");
    path
}

fn make(directory: &TempDir, name: &str, passphrase: Option<&str>) -> (PathBuf, String) {
    let path = directory.path().join(name);
    let passphrase = passphrase.map(SecretString::from);
    let recipient = new_identity(&path, passphrase, TIME, Some(2)).expect("made");
    (path, recipient)
}

#[track_caller]
fn error(path: &Path, passphrase: &dyn PassphraseSource) -> IdentityError {
    let error = load(&[path.to_owned()], passphrase).err();
    let error = error.expect("refused");
    let all = format!("{error:?} {error} {}", error.hint());
    assert!(!all.contains("AGE-SECRET-KEY-1Q"), "{all}");
    error
}

/// Whether what is sealed to the recipient opens with the identities.
fn opens(recipient: &str, found: &Identities) -> bool {
    let recipient = parse_recipient(recipient).expect("its own text");
    let sealed = EpochIdentity::generate().seal_to(&[recipient]);
    EpochIdentity::open(&sealed.expect("sealed"), &found.identities).is_ok()
}

#[test]
fn a_new_identity_opens_what_is_sealed_to_it() {
    let directory = directory();
    for (name, passphrase, asked) in [("plain", None, 0), ("sealed", Some(PASSPHRASE), 1)] {
        let (path, recipient) = make(&directory, name, passphrase);
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let source = fixed(PASSPHRASE);
        let found = load(&[path], &source).expect("opens");
        assert_eq!(source.1.get(), asked, "{name}");
        assert!(found.warnings.is_empty());
        assert!(opens(&recipient, &found), "{name}");
    }
}

#[test]
fn a_plain_file_has_the_usual_comments_and_a_sealed_one_shows_nothing() {
    let directory = directory();
    let (path, recipient) = make(&directory, "plain", None);
    let text = std::fs::read_to_string(path).expect("readable");
    let head =
        format!("# created: 2026-11-20T15:30:00Z\n# public key: {recipient}\nAGE-SECRET-KEY-1");
    assert!(text.starts_with(&head), "{}", &text[..80]);
    let (path, recipient) = make(&directory, "sealed", Some(PASSPHRASE));
    let text = std::fs::read_to_string(path).expect("armored");
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    assert!(!text.contains(&recipient) && !text.contains("SECRET-KEY"));
}

#[test]
fn a_binary_sealed_file_and_several_files_are_read() {
    use std::io::Write as _;
    let directory = directory();
    let (first, recipient) = make(&directory, "first", None);
    let identity = age::x25519::Identity::generate();
    let mut sealer = age::scrypt::Recipient::new(SecretString::from(PASSPHRASE));
    sealer.set_work_factor(2);
    let sealer = std::iter::once(&sealer as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(sealer).expect("one");
    let mut writer = encryptor.wrap_output(Vec::new()).expect("memory");
    let text = identity.to_string();
    writeln!(writer, "{}\r", text.expose_secret()).expect("memory");
    let second = put(&directory, "second", &writer.finish().expect("memory"));
    let found = load(&[first, second], &fixed(PASSPHRASE)).expect("opens");
    assert_eq!(found.identities.len(), 2);
    assert!(opens(&recipient, &found));
    assert!(opens(&identity.to_public().to_string(), &found));
}

#[test]
fn nothing_is_overwritten() {
    let directory = directory();
    let path = put(&directory, "taken", b"precious");
    let refused = new_identity(&path, None, TIME, None).expect_err("taken");
    assert!(matches!(refused, IdentityError::Exists { .. }), "{refused}");
    assert_eq!(std::fs::read(&path).expect("readable"), b"precious");
    let nowhere = directory.path().join("no/such/directory");
    let refused = new_identity(&nowhere, None, TIME, None).expect_err("no directory");
    assert!(matches!(refused, IdentityError::Io { .. }), "{refused}");
}

#[test]
fn a_wrong_passphrase_is_asked_for_again_and_then_refused() {
    let directory = directory();
    let (path, _) = make(&directory, "sealed", Some(PASSPHRASE));
    let source = fixed("wrong");
    let error = error(&path, &source);
    assert!(
        matches!(error, IdentityError::WrongPassphrase { .. }),
        "{error}"
    );
    assert_eq!(source.1.get(), 3);
}

#[test]
fn files_that_are_no_identities_are_refused_and_not_quoted() {
    let directory = directory();
    let (plain, recipient) = make(&directory, "plain", None);
    let mut text = std::fs::read_to_string(plain).expect("readable");
    text.replace_range(text.len() - 3..text.len() - 2, "B");
    let long = vec![b'#'; (1 << 20) + 1];
    for (content, expected) in [
        (&b""[..], "there is no identity in it"),
        (b"# only a comment\n", "there is no identity in it"),
        (b"\xff\xfe", "it is not text"),
        (b"\n\nhunter2\n", "line 3 holds something else"),
        (
            recipient.as_bytes(),
            "line 1 holds a recipient, the public half",
        ),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
            "line 1 begins an SSH key",
        ),
        (
            text.as_bytes(),
            "line 3 holds an identity with a wrong checksum",
        ),
        (long.as_slice(), "it is too long"),
    ] {
        let path = put(&directory, "file", content);
        let error = error(&path, &fixed(PASSPHRASE)).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn sealed_files_that_cannot_be_opened_say_why() {
    let directory = directory();
    let (path, recipient) = make(&directory, "sealed", Some(PASSPHRASE));
    let text = std::fs::read(path).expect("readable");
    for length in [40, text.len() / 2, text.len() - 40] {
        let path = put(&directory, "cut", &text[..length]);
        let error = error(&path, &fixed(PASSPHRASE));
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error:?}");
    }
    let sealed = EpochIdentity::generate().seal_to(&[parse_recipient(&recipient).expect("valid")]);
    let path = put(&directory, "other", &sealed.expect("sealed"));
    let refused = error(&path, &fixed(PASSPHRASE));
    assert!(
        matches!(refused, IdentityError::SealedToRecipient { .. }),
        "{refused}"
    );
    let greedy = b"age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n0123456789abcdef";
    let path = put(&directory, "greedy", greedy);
    let refused = error(&path, &fixed(PASSPHRASE));
    assert!(
        matches!(refused, IdentityError::TooMuchWork { required: 30, .. }),
        "{refused:?}"
    );
}

#[test]
fn missing_files_and_directories_are_named() {
    let directory = directory();
    let missing = directory.path().join("missing");
    for path in [missing.as_path(), directory.path()] {
        let error = error(path, &fixed(PASSPHRASE)).to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_file_that_others_can_read_is_used_with_a_warning() {
    let directory = directory();
    let (path, _) = make(&directory, "plain", None);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("own file");
    let found = load(std::slice::from_ref(&path), &fixed("")).expect("used");
    let expected = IdentityWarning::ReadableByOthers { path, mode: 0o640 };
    assert_eq!(found.warnings, [expected]);
    assert!(found.warnings[0].to_string().ends_with("(mode 0640)"));
}

#[test]
fn a_plugin_identity_needs_its_program() {
    // `age::plugin::Identity::default_for_plugin` spells an identity without data.
    let identity = age::plugin::Identity::default_for_plugin("nowhere").expect("a name");
    let directory = directory();
    let path = put(&directory, "plugin", identity.to_string().as_bytes());
    let error = error(&path, &fixed(PASSPHRASE)).to_string();
    assert!(error.contains("age-plugin-nowhere"), "{error}");
}

#[test]
fn a_passphrase_file_loses_one_line_end_only() {
    let directory = directory();
    for (content, expected) in [
        (&b"secret"[..], Some("secret")),
        (b"secret\n", Some("secret")),
        (b"secret\r\n", Some("secret")),
        (b"secret\n\n", Some("secret\n")),
        (b" secret ", Some(" secret ")),
        (b"", None),
        (b"\n", None),
    ] {
        let source = PassphraseFile(put(&directory, "passphrase", content));
        let read = source.new_passphrase(Path::new("x"));
        let read = read.map(|text| text.expose_secret().to_owned());
        assert_eq!(read.ok().as_deref(), expected, "{content:?}");
    }
    let missing = PassphraseFile(directory.path().join("missing"));
    let error = missing.passphrase(Path::new("x")).expect_err("missing");
    assert!(
        error
            .to_string()
            .starts_with("cannot read the passphrase file"),
        "{error}"
    );
}
