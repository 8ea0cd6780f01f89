//! The independent reader: `tools/reader.py` against a repository that was just written.

use std::path::Path;
use std::process::{Command, Output};

use crate::fixture::{Host, copy_tree};

/// The Python of the distribution, whose packages are as old as a stranger's.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Runs the reader.
pub(crate) fn read(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/reader.py");
    assert!(script.is_file(), "{} is missing", script.display());
    Command::new(PYTHON)
        .arg(script)
        .args(arguments)
        .output()
        .expect("/usr/bin/python3 starts")
}

#[track_caller]
pub(crate) fn must_read(arguments: &[&str]) -> String {
    let output = read(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}\n{errors}");
    text
}

#[test]
fn the_reader_lists_verifies_and_restores_what_was_just_written() {
    let host = Host::new();
    let first = host.backup();
    let before = host.contents();
    host.insert(3000, 40);
    let second = host.backup();
    let (database, keys) = (host.text("id/database"), host.text("id/keys"));
    for (repository, identity) in [("repo/offsite", &database), ("repo/keysafe", &keys)] {
        let place = host.text(repository);
        let listed = must_read(&["list", &place]);
        assert!(
            listed.contains(&first) && listed.contains(&second),
            "{listed}"
        );
        must_read(&["verify", &place]);
        must_read(&["verify", &place, "--identity", identity]);
        for label in [&first, &second] {
            let out = host.text(&format!("read-{label}/{repository}"));
            let restore = ["restore", &place, "--label", label, "--identity", identity];
            must_read(&[&restore[..], &["--out", &out]].concat());
        }
    }
    let restored = |label: &str| {
        let mut all = host.restored(&format!("read-{label}/repo/offsite"));
        all.extend(host.restored(&format!("read-{label}/repo/keysafe")));
        all
    };
    assert_eq!(restored(&first), before);
    assert_eq!(restored(&second), host.contents());
}

#[test]
fn the_reader_finds_damage() {
    let host = Host::new();
    host.backup();
    let pack = crate::repository_damage::largest_object(&host.path("repo/offsite"));
    copy_tree(&host.path("repo"), &host.path("kept"));
    for damage in ["flipped", "cut", "missing"] {
        copy_tree(&host.path("kept"), &host.path("repo"));
        let mut bytes = std::fs::read(&pack).expect("reads");
        match damage {
            "flipped" => *bytes.last_mut().expect("bytes") ^= 1,
            _ => bytes.truncate(100),
        }
        std::fs::remove_file(&pack).expect("removes");
        if damage != "missing" {
            std::fs::write(&pack, bytes).expect("writes");
        }
        let output = read(&["verify", &host.text("repo/offsite")]);
        assert!(!output.status.success(), "{damage}");
    }
}
