//! Keys in files: proved when they are captured and when they are restored, with passwords or without.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strongroom_adapters::restorer;
use strongroom_adapters::source::files::{FilesRestorer, FilesSettings, FilesSource, KeyPasswords};
use strongroom_core::source::{Class, Proof, RestoredAsset, Restorer, Source as _};
use strongroom_testkit::recording_sink::RecordingSink;
use zeroize::Zeroizing;

use super::{Place, assert_complete, assert_one, capture};

/// A key and its certificate in a directory.
fn key_place() -> (Place, FilesSettings) {
    let place = Place::new();
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::default()
        .self_signed(&key)
        .expect("a certificate");
    place.write("ca/ca.key", key.serialize_pem().as_bytes());
    let certificate = place.write("ca/ca.pem", certificate.pem().as_bytes());
    let mut settings = place.settings(&["ca"], Class::Key);
    settings.certificate = Some(certificate);
    (place, settings)
}

fn prove(settings: &FilesSettings, facts: &serde_json::Value, sink: &RecordingSink) -> Proof {
    let settings = FilesSource::new(settings.clone()).settings();
    let restorer = restorer("files").expect("is registered");
    prove_by(restorer, &settings, facts, sink)
}

fn prove_by(
    restorer: &dyn Restorer,
    settings: &serde_json::Value,
    facts: &serde_json::Value,
    sink: &RecordingSink,
) -> Proof {
    let place = Place::new();
    let files = sink.recorded().into_iter().enumerate();
    let files: BTreeMap<_, _> = files
        .filter_map(|(n, recorded)| {
            let path = place.write(n.to_string(), recorded.content.as_deref()?);
            Some((recorded.entry.path, path))
        })
        .collect();
    let asset = RestoredAsset {
        name: "ca-key",
        settings,
        facts,
        files: &files,
        all_files: &files,
    };
    restorer.prove(&asset).expect("proves")
}

#[test]
fn keys_are_proved_when_captured_and_when_restored() {
    let (place, settings) = key_place();
    let (complete, sink) = capture(settings.clone(), RecordingSink::new());
    assert_complete(&complete);
    assert_eq!(complete.facts["key"]["proved"], true);
    assert_eq!(complete.facts["key"]["algorithm"], "ECDSA P-256");
    let proof = prove(&settings, &complete.facts, &sink);
    assert_eq!(proof.failures, [""; 0]);
    assert_eq!((proof.shown.len(), proof.notes.len()), (3, 0), "{proof:?}");

    let (other_place, _) = key_place();
    let other_key = std::fs::read(other_place.path("ca/ca.key")).expect("reads");
    place.write("ca/ca.key", &other_key);
    let (wrong, sink) = capture(settings.clone(), RecordingSink::new());
    assert_one(&wrong.problems, "does not belong");
    assert_eq!(wrong.facts["key"]["proved"], false);
    let mut proof = prove(&settings, &complete.facts, &sink);
    proof
        .failures
        .retain(|failure| !failure.contains("is another than when"));
    assert_one(&proof.failures, "does not belong");
}

#[test]
fn a_certificate_outside_the_asset_is_read_where_it_is() {
    let (place, mut settings) = key_place();
    settings.paths = place.settings(&["ca/ca.key"], Class::Key).paths;
    let (complete, sink) = capture(settings.clone(), RecordingSink::new());
    assert_complete(&complete);
    let proof = prove(&settings, &complete.facts, &sink);
    assert_eq!(
        (proof.failures.len(), proof.shown.len()),
        (0, 3),
        "{proof:?}"
    );

    std::fs::remove_file(place.path("ca/ca.pem")).expect("removes");
    let proof = prove(&settings, &complete.facts, &sink);
    assert_eq!(proof.failures, [""; 0]);
    assert_one(&proof.notes, "neither in the backup nor on this machine");
    let (incomplete, _) = capture(settings, RecordingSink::new());
    assert_one(&incomplete.problems, "cannot be used");
}

#[test]
fn a_missing_file_fails_the_proof() {
    let (_place, settings) = key_place();
    let (complete, _) = capture(settings.clone(), RecordingSink::new());
    let proof = prove(&settings, &complete.facts, &RecordingSink::new());
    assert!(
        proof
            .failures
            .iter()
            .any(|failure| failure == "0 files in place of 2"),
        "{proof:?}"
    );
}

#[test]
fn a_private_key_is_left_out_of_other_classes() {
    let place = Place::new();
    place.write("etc/ca.toml", b"x = 1");
    let key = place.write(
        "etc/ca.pem",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    let (capture, sink) = place.capture(&["etc"]);
    assert_one(
        &capture.problems,
        "holds a private key in line 1 [private-key] and is left out",
    );
    assert!(
        sink.find(&key).is_none(),
        "the key went to the repository of the databases"
    );
    assert!(sink.find(place.path("etc/ca.toml")).is_some());
}

/// The key of a CA, encrypted with the first line of a file.
#[expect(clippy::disallowed_methods, reason = "the test starts openssl")]
fn encrypted_key_place() -> (Place, FilesSettings, PathBuf) {
    let (place, settings) = key_place();
    let program = |arguments: &[&str]| {
        let status = std::process::Command::new("openssl")
            .args(arguments)
            .status();
        assert!(status.expect("openssl").success(), "{arguments:?}");
    };
    let key = place.path("ca/ca.key");
    let password = place.write("pass", b"correct horse\n");
    let (plain, pass) = (place.path("plain"), format!("file:{}", password.display()));
    std::fs::rename(&key, &plain).expect("renames");
    let text = |path: &Path| path.to_str().expect("text").to_owned();
    program(&[
        "pkcs8",
        "-topk8",
        "-in",
        &text(&plain),
        "-out",
        &text(&key),
        "-passout",
        &pass,
    ]);
    (place, settings, password)
}

#[test]
fn an_encrypted_key_is_proved_with_its_password_file() {
    let (place, mut settings, password) = encrypted_key_place();
    let (unproved, _) = capture(settings.clone(), RecordingSink::new());
    assert_eq!(unproved.problems, [""; 0]);
    assert_one(&unproved.notes, "key_password_file");
    assert_eq!(unproved.facts["key"]["proved"], false);

    settings.key_password_file = Some(password.clone());
    let (complete, sink) = capture(settings.clone(), RecordingSink::new());
    assert_complete(&complete);
    assert_eq!(complete.facts["key"]["proved"], true);
    let listed = &complete.facts["private_keys"][0];
    assert_eq!(listed["encrypted"], true);
    assert_eq!(listed["spki_sha256"], complete.facts["key"]["spki_sha256"]);
    let proof = prove(&settings, &complete.facts, &sink);
    assert_eq!(
        (proof.failures.len(), proof.notes.len()),
        (0, 0),
        "{proof:?}"
    );

    place.write("pass", b"battery staple\n");
    let (wrong, _) = capture(settings.clone(), RecordingSink::new());
    assert_one(&wrong.problems, "the password does not open it");
    assert!(!format!("{wrong:?}").contains("battery staple"));
    let proof = prove(&settings, &complete.facts, &sink);
    assert_one(&proof.failures, "the password does not open it");
    std::fs::remove_file(&password).expect("removes");
    let (gone, _) = capture(settings.clone(), RecordingSink::new());
    assert_one(&gone.problems, "password file");
    let proof = prove(&settings, &complete.facts, &sink);
    assert_eq!(proof.failures, [""; 0]);
    let inspection = FilesSource::new(settings).inspect().expect("looks");
    assert_one(&inspection.problems, "password file");
}

/// Somebody who types these passwords, the last one first.
struct Typist(Mutex<Vec<&'static str>>);

impl Typist {
    fn new(passwords: &[&'static str]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(passwords.iter().rev().copied().collect())))
    }
}

impl KeyPasswords for Typist {
    fn password(&self, asset: &str, _: &Path, _: bool) -> Result<Zeroizing<String>, String> {
        assert_eq!(asset, "ca-key");
        let next = self.0.lock().expect("alone").pop();
        next.map(|one| one.to_owned().into())
            .ok_or_else(|| "nobody is there".to_owned())
    }
}

#[test]
fn an_encrypted_key_is_proved_with_a_password_that_is_asked_for() {
    let (_place, settings, _) = encrypted_key_place();
    let asked = |passwords: &[&'static str]| {
        let source = FilesSource::new(settings.clone());
        let source = source.asking("ca-key", Typist::new(passwords));
        assert_eq!(source.settings()["key_password"], "ask");
        let sink = RecordingSink::new();
        let capture = source.capture(&sink).expect("captures");
        (capture, sink, source.settings())
    };
    let (complete, sink, described) = asked(&["battery staple", "correct horse"]);
    assert_complete(&complete);
    assert_eq!(complete.facts["key"]["proved"], true);
    let (wrong, ..) = asked(&["one", "two", "three", "correct horse"]);
    assert_one(&wrong.problems, "the password does not open it");
    let (unasked, ..) = asked(&[]);
    assert_eq!(unasked.problems, [""; 0]);
    assert_eq!(unasked.facts["key"]["proved"], false);
    let notes = unasked.notes.join("\n");
    assert!(notes.contains("was not given: nobody is there"), "{notes}");

    let restored = |passwords: Option<&[&'static str]>| {
        let passwords = passwords.map(|all| Typist::new(all) as Arc<dyn KeyPasswords>);
        prove_by(
            &FilesRestorer { passwords },
            &described,
            &complete.facts,
            &sink,
        )
    };
    let proof = restored(Some(&["correct horse"]));
    assert_eq!(proof.failures, [""; 0]);
    assert_eq!(proof.notes, [""; 0]);
    let proof = restored(Some(&["one", "two", "three"]));
    assert_one(&proof.failures, "the password does not open it");
    let proof = restored(None);
    assert_eq!(proof.failures, [""; 0]);
    assert_one(&proof.notes, "was not opened");
}

#[test]
fn another_key_in_the_place_of_the_captured_one_fails_the_proof() {
    let (place, mut settings) = key_place();
    settings.certificate = None;
    let (complete, _) = capture(settings.clone(), RecordingSink::new());
    assert_complete(&complete);
    assert_eq!(complete.facts["private_keys"][0]["proved"], true);
    let other = rcgen::KeyPair::generate().expect("a key");
    place.write("ca/ca.key", other.serialize_pem().as_bytes());
    let (changed, sink) = capture(settings.clone(), RecordingSink::new());
    assert_one(&changed.notes, "belongs to no certificate in the asset");
    let proof = prove(&settings, &complete.facts, &sink);
    assert!(
        proof
            .failures
            .iter()
            .any(|one| one.contains("is another than when the backup was made")),
        "{proof:?}"
    );
}

#[test]
fn a_key_whose_state_must_not_be_copied_is_left_out() {
    let (place, settings) = key_place();
    // `PrivateKeyInfo` with id-alg-hss-lms-hashsig (RFC 9708).
    let lms = place.write(
        "ca/lms.der",
        b"\x30\x18\x02\x01\x00\x30\x0d\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x03\x11\x04\x04abcd",
    );
    let (capture, sink) = capture(settings, RecordingSink::new());
    assert_one(&capture.problems, "NIST SP 800-208");
    assert!(sink.find(&lms).is_none());
    assert!(sink.find(place.path("ca/ca.key")).is_some());
}

#[test]
fn a_key_of_a_hundred_megabytes_is_not_read_into_memory() {
    let (place, settings) = key_place();
    let (head, line) = ("-----BEGIN PRIVATE KEY-----\n", [b'A'; 64]);
    let path = place.write("ca/huge.pem", head.as_bytes());
    let file = OpenOptions::new().append(true).open(path);
    let mut file = std::io::BufWriter::new(file.expect("opens"));
    for _ in 0..(100 << 20) / line.len() {
        file.write_all(&line).expect("writes");
    }
    drop(file);
    let (capture, sink) = capture(settings, RecordingSink::new());
    assert_one(&capture.problems, "longer than 1 MiB");
    assert!(sink.find(place.path("ca/huge.pem")).is_some());
}
