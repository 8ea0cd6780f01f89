//! Repositories of each format version, written once and never changed, read with the program of today.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Host, copy_tree};
use crate::reader::{must_read, read};

/// A copy of the golden repository of version 1, its configuration among it.
fn golden() -> (tempfile::TempDir, Host) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("golden");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden-v1");
    copy_tree(&source, &root);
    (directory, Host::at(&root))
}

fn assert_sums(host: &Host, below: &Path) {
    let output = Command::new("sha256sum")
        .args(["-c", "--strict", "--quiet"])
        .arg(host.path("SHA256SUMS"))
        .current_dir(below)
        .output()
        .expect("sha256sum starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{found}{said}");
}

fn count(below: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(below).expect("reads") {
        let entry = entry.expect("reads");
        files += match entry.file_type().expect("a kind") {
            kind if kind.is_dir() => count(&entry.path()),
            _ => 1,
        };
    }
    files
}

#[test]
fn version_1_is_listed_verified_and_restored() {
    let (_directory, host) = golden();
    let listed = host.ok(&["list", "--json"]).document();
    let backups = listed["backups"].as_array().expect("a list");
    assert_eq!(backups.len(), 2);
    assert!(backups.iter().all(|backup| backup["status"] == "complete"));
    host.ok(&["verify", "--all"]);
    host.ok(&host.with_identities(&["verify", "--all", "--level", "L4"]));
    let label = backups[1]["label"].as_str().expect("a label");
    host.restore_to(label, "out").exits(0);
    assert_sums(&host, &host.path("out"));
    let sums = std::fs::read_to_string(host.path("SHA256SUMS")).expect("reads");
    // The symbolic link and the second name are no lines of the sums.
    assert_eq!(count(&host.path("out")), sums.lines().count() + 2);
    let conf: PathBuf = host.path("out/config/srv/strongroom-golden/conf");
    let link = std::fs::read_link(conf.join("current")).expect("a link");
    assert_eq!(link, Path::new("ca.toml"));
}

#[test]
fn version_1_is_read_by_the_independent_reader() {
    let (_directory, host) = golden();
    let mut all = host.path("read");
    for (repository, identity) in [("offsite", "id/database"), ("keysafe", "id/keys")] {
        let (place, identity) = (
            host.text(&format!("repo/{repository}")),
            host.text(identity),
        );
        assert_eq!(must_read(&["list", &place]).matches("complete").count(), 2);
        must_read(&["verify", &place, "--identity", &identity]);
        let out = host.text(&format!("read-{repository}"));
        let restore = [
            "restore",
            &place,
            "--label",
            "latest",
            "--identity",
            &identity,
        ];
        must_read(&[&restore[..], &["--out", &out]].concat());
        all = host.path("read");
        std::fs::create_dir_all(&all).expect("creates");
        crate::fixture::must(
            "cp",
            &["-a", &format!("{out}/."), all.to_str().expect("UTF-8")],
        );
    }
    assert_sums(&host, &all);
    let (place, wrong) = (host.text("repo/keysafe"), host.text("id/database"));
    assert!(
        !read(&["verify", &place, "--identity", &wrong])
            .status
            .success()
    );
}
