//! A second copy, and repair from it: made, killed, damaged, healed, and restored from when the original is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Host, Random, copy_tree, must};
use crate::repository_damage::largest_object;

const COPY: &str = "copy_of = \"offsite\"";

/// A host whose offsite repository has a copy, `second`.
fn host() -> Host {
    let host = Host::new();
    configure(&host);
    host.ok(&["init"]).says("copy second");
    host
}

fn configure(host: &Host) {
    let root = host.root.display();
    host.configure(&format!(
        "[repository.second]\nurl = \"file://{root}/repo/second\"\n{COPY}\n"
    ));
}

/// All files of a repository below its directory, but what is unfinished.
fn files(repository: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![repository.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("reads") {
            let path = entry.expect("reads").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(repository).expect("below").to_owned();
                if !below.starts_with("tmp") {
                    found.insert((below, std::fs::read(&path).expect("reads")));
                }
            }
        }
    }
    found
}

/// Changes a byte in the middle of a file and leaves its length.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    must("chmod", &["u+w", path.to_str().expect("UTF-8")]);
    std::fs::write(path, bytes).expect("writes");
}

fn remove(path: &Path) {
    must("rm", &["-rf", path.to_str().expect("UTF-8")]);
}

fn labels(document: &Value) -> Vec<String> {
    let backups = document["backups"].as_array().expect("backups");
    let labels = backups.iter().map(|backup| backup["label"].as_str());
    labels.map(|label| label.expect("a label").to_owned()).collect()
}

#[test]
fn a_copy_is_the_repository_byte_for_byte() {
    let host = host();
    let first = host.backup();
    let copied = host.ok(&["copy"]).says("Copied offsite to second: 1 backups");
    assert!(copied.has(&first), "{}", copied.stdout);
    let (offsite, second) = (host.path("repo/offsite"), host.path("repo/second"));
    assert_eq!(files(&offsite), files(&second));
    // Nothing is copied twice.
    let again = host.ok(&["copy", "--to", "second", "--json"]).document();
    assert_eq!(again["copies"][0]["objects"], 0, "{again}");
    assert_eq!(again["copies"][0]["complete"], true);
    host.insert(5000, 50);
    let next = host.backup();
    let third = host.ok(&["copy", "--from", "offsite", "--to", "second", "--json"]);
    let third = third.document();
    assert_eq!(third["copies"][0]["backups"], serde_json::json!([next]));
    assert_eq!(third["copies"][0]["backups_there"], 2);
    assert_eq!(files(&offsite), files(&second));
    // No identity was needed, and one reads it.
    host.ok(&host.with_identities(&["verify", "--all", "--level", "L4", "--from", "second"]));
    host.ok(&["verify", "--all", "--repository", "second"])
        .says("in offsite holds at L1");
}

#[test]
fn the_original_is_gone_and_the_copy_restores() {
    let host = host();
    host.backup();
    host.insert(7000, 20);
    let label = host.backup();
    let wanted = host.contents();
    host.ok(&["copy"]);
    remove(&host.path("repo/offsite"));
    host.run(&["list"]).exits(10).says("repository offsite");
    let listed = host.ok(&["list", "--from", "second", "--json"]).document();
    assert_eq!(labels(&listed).len(), 2);
    host.ok(&["show", &label, "--from", "second"]);
    host.ok(&["verify", "--all", "--from", "second"]);
    let out = host.text("restored");
    host.ok(&host.with_identities(&[
        "restore", "latest", "--from", "second", "--to-dir", &out, "--apply",
    ]));
    assert_eq!(host.restored("restored"), wanted);
    let export = host.text("export");
    host.ok(&host.with_identities(&["export", &label, "--from", "second", "--out", &export]));
    let older = labels(&listed)[0].clone();
    host.ok(&host.with_identities(&["diff", &older, &label, "--from", "second"]));
}

#[test]
fn a_killed_copy_lists_and_verifies_and_goes_on() {
    let host = host();
    for round in 0..6_u32 {
        host.insert(10_000 + round * 1000, 150);
        host.backup();
    }
    let start = Instant::now();
    host.ok(&["copy"]);
    let usual = start.elapsed();
    let second = host.path("repo/second");
    let mut random = Random(20_261_120);
    let mut cut_short = 0;
    for round in 0..12_u64 {
        // Half of the rounds begin with an empty copy, the others go on with what was killed.
        if round % 2 == 0 {
            remove(&second);
            host.ok(&["init", "--quiet"]);
        }
        let bound = u64::try_from(usual.as_micros()).expect("short");
        let mut child = host
            .command(&["copy", "--to", "second", "--begin-again", "--quiet"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        std::thread::sleep(Duration::from_micros(random.below(bound)));
        child.kill().expect("kills");
        cut_short += u32::from(!child.wait().expect("ends").success());
        if second.join("repository/00000001.json").exists() {
            let listed = host.run(&["list", "--from", "second", "--json"]);
            // Behind what this host knows to have copied is a problem of the history, and nothing else is.
            assert!(matches!(listed.status, 0 | 3), "{}", listed.stderr);
            let verified = host.run(&["verify", "--all", "--repository", "second"]);
            assert!(!verified.has("DAMAGED"), "round {round}: {}", verified.stdout);
        }
    }
    assert!(cut_short > 0, "no kill came in time");
    host.ok(&["copy", "--begin-again", "--to", "second"]);
    assert_eq!(files(&host.path("repo/offsite")), files(&second));
    let left = std::fs::read_dir(second.join("tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "unfinished objects are swept away");
}

#[test]
fn damage_is_not_copied_and_not_hidden() {
    let host = host();
    let first = host.backup();
    host.insert(9000, 100);
    let second = host.backup();
    let before = files(&host.path("repo/offsite"));
    flip(&largest_object(&host.path("repo/offsite")));
    let copied = host
        .run(&["copy"])
        .exits(3)
        .says("is damaged and was not copied: its bytes were changed")
        .says("the copy is incomplete");
    assert!(copied.has(&first), "{}", copied.stderr);
    // What the copy has is whole; it has no backup that needs the damaged object.
    let listed = host.run(&["list", "--from", "second", "--json"]).document();
    let whole = |label: &String| {
        let backups = listed["backups"].as_array().expect("backups");
        let found = backups.iter().find(|one| one["label"] == *label);
        found.is_some_and(|one| one["status"] == "complete")
    };
    assert!(!whole(&first) || !whole(&second), "{listed}");
    let verified = host.run(&["verify", "--all", "--repository", "second"]);
    assert!(!verified.has("DAMAGED"), "{}", verified.stdout);
    // Once the original is healed, the next copy fills the gap.
    for (path, bytes) in &before {
        let path = host.path("repo/offsite").join(path);
        if std::fs::read(&path).expect("reads") != *bytes {
            std::fs::write(&path, bytes).expect("writes");
        }
    }
    host.ok(&["copy"]);
    assert_eq!(files(&host.path("repo/second")), before);
    host.ok(&["verify", "--all", "--from", "second"]);
}

#[test]
fn another_repository_is_no_place_for_a_copy() {
    let host = host();
    host.backup();
    // What lies there belongs to the keys.
    remove(&host.path("repo/second"));
    copy_tree(&host.path("repo/keysafe"), &host.path("repo/second"));
    let before = files(&host.path("repo/second"));
    host.run(&["copy"])
        .exits(4)
        .says("holds the repository \"keysafe\" of deployment \"example-ca\"");
    assert_eq!(files(&host.path("repo/second")), before, "nothing was written");
    host.run(&["copy", "--to", "offsite"]).exits(2).says("is no copy");
    host.run(&["copy", "--to", "third"]).exits(2).says("no copy \"third\"");
    host.run(&["copy", "--from", "keysafe", "--to", "second"])
        .exits(2)
        .says("is a copy of \"offsite\"");
    host.run(&["list", "--from", "keysafe"]).exits(2).says("is no copy");
}

#[test]
fn a_copy_that_is_suddenly_empty_is_not_filled_without_a_word() {
    let host = host();
    host.backup();
    host.ok(&["copy"]);
    remove(&host.path("repo/second"));
    host.run(&["copy"]).exits(10).says("Is it mounted?");
    host.ok(&["init"]);
    host.run(&["copy", "--to", "second"])
        .exits(4)
        .says("is empty, this host has copied up to envelope 1 there");
    host.ok(&["copy", "--to", "second", "--begin-again"]);
    assert_eq!(
        files(&host.path("repo/offsite")),
        files(&host.path("repo/second"))
    );
}
