//! `expire` and `hold` as an operator runs them.

use serde_json::Value;

use crate::fixture::{Host, write};
use crate::reader::{must_read, read};

const RETENTION: &str = r#"
[repository.offsite.retention]
keep_last = 2
[repository.keysafe.retention]
keep_last = 1
"#;

/// A host with retention, and its four backups.
fn host() -> (Host, Vec<String>) {
    let host = Host::new();
    host.configure(RETENTION);
    let mut labels = Vec::new();
    for number in 0..4 {
        host.insert(1000 + number * 50, 40);
        labels.push(host.backup());
    }
    (host, labels)
}

fn repository<'d>(document: &'d Value, name: &str) -> &'d Value {
    let mut all = document["repositories"].as_array().expect("a list").iter();
    all.find(|one| one["repository"] == name).expect("is there")
}

fn labels<'d>(list: &'d Value) -> Vec<&'d str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|one| one["label"].as_str().expect("a label"))
        .collect()
}

#[test]
fn nothing_goes_before_the_newest_is_verified() {
    let (host, made) = host();
    let refused = host.run(&["expire", "--json"]).exits(4).document();
    assert_eq!(refused["refusals"][0]["code"], "newest-unverified");
    host.run(&["expire", "--apply"])
        .exits(4)
        .says(&format!("strongroom verify {}", made[3]));
    host.ok(&["verify"]);
    let plan = host.ok(&["expire", "--json"]).document();
    assert_eq!(plan["applied"], false);
    assert_eq!(labels(&repository(&plan, "offsite")["going"]), made[..2]);
    // Each database that stays keeps the keys of its run.
    let keys = repository(&plan, "keysafe");
    assert_eq!(labels(&keys["going"]), made[..2]);
    assert_eq!(keys["kept"][1]["reasons"][0]["code"], "needed-by-database");
    host.ok(&["expire"]).says("--apply").says("goes");
    assert_eq!(
        labels(&host.ok(&["list", "--json"]).document()["backups"]),
        made
    );
}

#[test]
fn what_expired_is_gone_and_nobody_complains() {
    let (host, made) = host();
    let held = host.contents();
    host.ok(&["verify"]);
    let done = host.ok(&["expire", "--apply", "--json"]).document();
    assert_eq!(done["applied"], true);
    let deleted = &repository(&done, "offsite")["deleted"];
    assert_eq!(deleted["backups"], 2);
    // All of it is of the current epoch, and so young that a backup may be at work with it.
    assert_eq!(deleted["objects"], 0);
    assert!(repository(&done, "offsite")["waiting"]["epoch_bytes"].as_u64() > Some(0));
    host.ok(&["list"]);
    host.ok(&["verify", "--all"]);
    for place in ["repo/offsite", "repo/keysafe"] {
        must_read(&["verify", &host.text(place)]);
    }
    host.run(&["check"])
        .says("the chain of envelopes is unbroken");
    host.restore_to(&made[3], "out").exits(0);
    assert_eq!(host.restored("out"), held);
    host.backup();
    host.ok(&["verify", "--all"]);

    // One more, deleted by somebody else, shows.
    let envelopes = host.path("repo/offsite/envelopes");
    let writer = std::fs::read_dir(envelopes).expect("reads").next();
    let writer = writer.expect("a writer").expect("reads").path();
    std::fs::remove_file(writer.join("0000000003.json")).expect("removes");
    host.run(&["list"]).exits(3).says("envelope 3 of writer");
    let output = read(&["list", &host.text("repo/offsite")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("0000000004.json"),
        "{said}"
    );
    let refused = host.run(&["expire", "--json"]).exits(4).document();
    assert_eq!(refused["refusals"][0]["code"], "history");
    host.ok(&["expire", "--accept-missing", "--apply"]);
    host.ok(&["list"]);
}

#[test]
fn parts_that_expired_are_told_apart_from_parts_that_are_missing() {
    let (host, made) = host();
    // Databases go, the keys of all runs stay.
    host.configure("[repository.offsite.retention]\nkeep_last = 2\n");
    host.ok(&["verify"]);
    host.ok(&["expire", "offsite", "--apply"]);
    let listed = host.ok(&["list", "--json"]).document();
    let first = &listed["backups"][0];
    assert_eq!(first["label"], made[0].as_str());
    assert_eq!(first["expired_repositories"][0], "offsite");
    assert_eq!(
        first["missing_repositories"].as_array().map(Vec::len),
        Some(0)
    );
    host.ok(&["list"]).says("offsite expired");
    host.ok(&["verify", "--all"]);
}

#[test]
fn a_hold_keeps_a_backup_until_it_is_released() {
    let (host, made) = host();
    host.run(&["hold", &made[0]]).exits(2).says("--reason");
    host.run(&["hold", "20200101-000000Z-aaaa", "--reason", "x"])
        .exits(4);
    host.ok(&["hold", &made[0], "--reason", "case 7, ask Ada"]);
    host.ok(&["hold", "--list"])
        .says("case 7, ask Ada")
        .says("keysafe");
    host.ok(&["verify"]);
    host.ok(&["expire", "--apply"])
        .says("held: case 7, ask Ada");
    let listed = host.ok(&["list", "--json"]).document();
    assert_eq!(labels(&listed["backups"]), [&made[0], &made[2], &made[3]]);
    host.ok(&["verify", "--all"]);
    host.run(&["hold", &made[0], "--release"]).exits(2);
    host.run(&["hold", &made[1], "--release", "--reason", "x"])
        .exits(4);
    host.ok(&["hold", &made[0], "--release", "--reason", "case closed"])
        .says("case 7");
    host.ok(&["hold", "--list"]).says("No backup is held");
    host.ok(&["expire", "--apply"]);
    let listed = host.ok(&["list", "--json"]).document();
    assert_eq!(labels(&listed["backups"]), made[2..]);
}

#[test]
fn one_host_signs_and_another_deletes() {
    let (host, made) = host();
    host.ok(&["verify"]);
    let key = host.path("host/writer.key");
    let kept = std::fs::read(&key).expect("reads");
    std::fs::remove_file(&key).expect("removes");
    host.run(&["expire", "--record"])
        .exits(4)
        .says("writer key");
    host.run(&["expire", "--apply"])
        .exits(3)
        .says("expire --record");
    write(&key, &kept);
    crate::fixture::must("chmod", &["600", &host.text("host/writer.key")]);
    host.ok(&["expire", "--record"]).says("on record");
    assert_eq!(
        labels(&host.ok(&["list", "--json"]).document()["backups"]),
        made
    );
    std::fs::remove_file(&key).expect("removes");
    host.ok(&["expire", "--apply"]);
    assert_eq!(
        labels(&host.ok(&["list", "--json"]).document()["backups"]),
        made[2..]
    );
}

#[test]
fn wrong_arguments_are_named() {
    let (host, _) = host();
    host.run(&["expire", "nowhere"]).exits(2).says("nowhere");
    host.run(&["expire", "--apply", "--record"]).exits(2);
    host.run(&["hold"]).exits(2);
    host.run(&["hold", "--list", "--release"]).exits(2);
}
