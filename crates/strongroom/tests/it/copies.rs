//! A second copy, and repair from it: made, killed, damaged, healed, and restored from when the original is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{Host, Random, copy_tree, must};
use crate::lots::{killed, timed};
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
    labels
        .map(|label| label.expect("a label").to_owned())
        .collect()
}

#[test]
fn a_copy_is_the_repository_byte_for_byte() {
    let host = host();
    let first = host.backup();
    let copied = host
        .ok(&["copy"])
        .says("Copied offsite to second: 1 backups");
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
        .says("in second holds at L1");
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
    let usual = timed(|| drop(host.ok(&["copy"])));
    let second = host.path("repo/second");
    let mut random = Random(20_261_120);
    let mut cut_short = 0;
    for round in 0..12_u64 {
        // Half of the rounds begin with an empty copy, the others go on with what was killed.
        if round % 2 == 0 {
            remove(&second);
            host.ok(&["init", "--quiet"]);
        }
        let copy = ["copy", "--to", "second", "--begin-again", "--quiet"];
        cut_short += u32::from(!killed(&host, &copy, usual, &mut random));
        if second.join("repository/00000001.json").exists() {
            let listed = host.run(&["list", "--from", "second", "--json"]);
            // Behind what this host knows to have copied is a problem of the history, and nothing else is.
            assert!(matches!(listed.status, 0 | 3), "{}", listed.stderr);
            let verified = host.run(&["verify", "--all", "--repository", "second"]);
            assert!(
                !verified.has("DAMAGED"),
                "round {round}: {}",
                verified.stdout
            );
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
    assert_eq!(
        files(&host.path("repo/second")),
        before,
        "nothing was written"
    );
    host.run(&["copy", "--to", "offsite"])
        .exits(2)
        .says("is no copy");
    host.run(&["copy", "--to", "third"])
        .exits(2)
        .says("no copy \"third\"");
    host.run(&["copy", "--from", "keysafe", "--to", "second"])
        .exits(2)
        .says("is a copy of \"offsite\"");
    host.run(&["list", "--from", "keysafe"])
        .exits(2)
        .says("is no copy");
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

/// Two backups and a copy of them; the labels.
fn host_with_copy() -> (Host, String, String) {
    let host = host();
    let first = host.backup();
    host.insert(9000, 100);
    let second = host.backup();
    host.ok(&["copy"]);
    (host, first, second)
}

fn envelopes(repository: &Path) -> Vec<PathBuf> {
    let found = files(repository).into_iter();
    let below = found.map(|(path, _)| path);
    let names = below.filter(|path| path.starts_with("envelopes"));
    names.map(|path| repository.join(path)).collect()
}

fn epochs(repository: &Path) -> Vec<PathBuf> {
    let found = files(repository).into_iter();
    let below = found.map(|(path, _)| path);
    let names = below.filter(|path| path.starts_with("epochs"));
    names.map(|path| repository.join(path)).collect()
}

#[test]
fn what_verify_found_damaged_is_stored_anew() {
    let host = Host::new();
    let first = host.backup();
    let offsite = host.path("repo/offsite");
    flip(&largest_object(&offsite));
    // Nobody knows yet: the next backup would lean on it. verify finds it.
    let out = host.text("planned");
    let plan = host.with_identities(&["restore", &first, "--to-dir", &out]);
    assert!(!host.ok(&plan).has("damaged"));
    let verified = host.run(&["verify", "--all"]).exits(1);
    let planned = host.ok(&plan);
    let told = format!("backup {first} in repository offsite was found damaged on");
    assert!(planned.has(&told), "{}", planned.stderr);
    assert!(
        verified.has("the bytes were changed"),
        "{}",
        verified.stderr
    );
    let taken = host.ok(&["backup", "--json"]).document();
    assert_eq!(taken["status"], "complete");
    let notes = taken["notes"].to_string();
    assert!(notes.contains("was found damaged on"), "{notes}");
    assert!(notes.contains("asset database"), "{notes}");
    let next = taken["label"].as_str().expect("a label").to_owned();
    let levels = ["verify", &next, "--level", "L4"];
    host.ok(&host.with_identities(&levels));
    host.restore_to(&next, "restored").exits(0);
    assert_eq!(host.restored("restored"), host.contents());
    // The older one is called what it is.
    let all = host.run(&["verify", "--all"]).exits(1);
    assert!(
        all.has(&format!("{first} in offsite is DAMAGED")),
        "{}",
        all.stdout
    );
    assert!(
        all.has(&format!("{next} in offsite holds at L1")),
        "{}",
        all.stdout
    );
    // And it is said once, not in every run.
    let again = host.ok(&["backup", "--json"]).document();
    assert_eq!(again["notes"], serde_json::json!([]));
}

#[test]
fn a_damaged_epoch_begins_a_new_one() {
    let host = Host::new();
    host.backup();
    let offsite = host.path("repo/offsite");
    flip(&epochs(&offsite)[0]);
    host.run(&["verify", "--all"]).exits(1);
    let next = host.backup();
    assert_eq!(epochs(&offsite).len(), 2);
    host.ok(&host.with_identities(&["verify", &next, "--level", "L4"]));
}

#[test]
fn repair_brings_everything_back_from_the_copy() {
    let (host, ..) = host_with_copy();
    let offsite = host.path("repo/offsite");
    let good = files(&offsite);
    let [older, newest] = envelopes(&offsite).try_into().expect("two envelopes");
    flip(&largest_object(&offsite));
    flip(&older);
    remove(&newest);
    remove(&epochs(&offsite)[0]);
    host.run(&["verify", "--all", "--repository", "offsite"]);
    let damaged = files(&offsite);
    // The plan changes nothing.
    let plan = host
        .run(&["repair", "--from", "second", "--read-all"])
        .exits(0);
    assert!(
        plan.has("objects of offsite are brought back"),
        "{}",
        plan.stdout
    );
    assert!(plan.has("Nothing was changed"), "{}", plan.stdout);
    assert_eq!(files(&offsite), damaged);
    host.ok(&["repair", "--from", "second", "--apply"])
        .says("Brought back");
    // The byte that was flipped was in no readable backup; now it is.
    host.ok(&["repair", "--from", "second", "--read-all", "--apply"]);
    assert_eq!(files(&offsite), good);
    host.ok(&["verify", "--all"]);
    host.ok(&["repair", "--from", "second", "--read-all"])
        .says("Everything in offsite was read; nothing is damaged.");
    host.backup();
    host.ok(&["list"]);
}

#[test]
fn repair_heals_a_copy_from_its_original() {
    let (host, ..) = host_with_copy();
    let second = host.path("repo/second");
    let good = files(&second);
    flip(&largest_object(&second));
    host.run(&["verify", "--all", "--repository", "second"])
        .exits(1);
    // The damage of the copy is none of the original.
    host.ok(&["verify", "--all"]);
    host.run(&["repair", "--from", "offsite"])
        .exits(2)
        .says("--to");
    host.ok(&["repair", "--from", "offsite", "--to", "second", "--apply"]);
    assert_eq!(files(&second), good);
    host.ok(&["verify", "--all", "--from", "second"]);
    host.run(&["repair", "--from", "keysafe", "--to", "second"])
        .exits(2)
        .says("is no copy of");
}

#[test]
fn a_repository_that_is_gone_is_rebuilt_from_its_copy() {
    let (host, _, label) = host_with_copy();
    let offsite = host.path("repo/offsite");
    let good = files(&offsite);
    remove(&offsite);
    host.run(&["repair", "--from", "second", "--apply"])
        .exits(10)
        .says("make its empty directory first");
    std::fs::create_dir(&offsite).expect("creates");
    host.ok(&["repair", "--from", "second", "--apply"]);
    assert_eq!(files(&offsite), good);
    host.ok(&["show", &label]);
    let next = host.backup();
    let listed = host.ok(&["list", "--json"]).document();
    assert_eq!(listed["problems"], serde_json::json!([]));
    assert!(labels(&listed).contains(&next));
    host.ok(&["copy"]);
}

#[test]
fn a_killed_repair_has_lost_nothing() {
    let (host, ..) = host_with_copy();
    let offsite = host.path("repo/offsite");
    let good = files(&offsite);
    let damage = || {
        for (path, _) in files(&offsite) {
            if path.starts_with("objects") {
                flip(&offsite.join(path));
            }
        }
        host.run(&["verify", "--all", "--repository", "offsite"])
            .exits(1);
    };
    damage();
    let usual = timed(|| drop(host.ok(&["repair", "--from", "second", "--apply"])));
    assert_eq!(files(&offsite), good);
    let mut random = Random(20_261_121);
    let mut cut_short = 0;
    for _ in 0..8 {
        damage();
        let repair = ["repair", "--from", "second", "--apply", "--quiet"];
        cut_short += u32::from(!killed(&host, &repair, usual, &mut random));
        host.ok(&["repair", "--from", "second", "--read-all", "--apply"]);
        assert_eq!(files(&offsite), good);
    }
    assert!(cut_short > 0, "no kill came in time");
}

#[test]
fn what_no_side_has_is_named_to_the_file() {
    let (host, first, second) = host_with_copy();
    let places = [host.path("repo/offsite"), host.path("repo/second")];
    for place in &places {
        flip(&largest_object(place));
    }
    host.run(&["verify", "--all"]).exits(1);
    host.run(&["verify", "--all", "--repository", "second"])
        .exits(1);
    let plain = host
        .run(&["repair", "--from", "second"])
        .exits(3)
        .says("cannot be healed: ")
        .says("asset database: some of it may be lost")
        .says("with --identity FILE");
    assert!(plain.has(&first), "{}", plain.stderr);
    let exact = host.run(&host.with_identities(&["repair", "--from", "second", "--json"]));
    let exact = exact.exits(3).document();
    let streams = exact["lost_streams"].as_array().expect("streams");
    assert!(!streams.is_empty(), "{exact}");
    for stream in streams {
        assert_eq!(stream["asset"], "database", "{exact}");
        let path = stream["path"].as_str().expect("a path");
        assert!(path.ends_with("ca.sqlite3"), "{path}");
    }
    let backups = exact["lost"][0]["backups"].as_array().expect("backups");
    assert!(backups.contains(&Value::from(first)), "{exact}");
    // The next backup stores anew what still exists.
    let next = host.backup();
    assert_ne!(next, second);
    host.ok(&host.with_identities(&["verify", &next, "--level", "L4"]));
}

#[test]
fn another_repository_heals_nothing() {
    let (host, ..) = host_with_copy();
    remove(&host.path("repo/second"));
    copy_tree(&host.path("repo/keysafe"), &host.path("repo/second"));
    host.run(&["repair", "--from", "second", "--apply"])
        .exits(4);
    remove(&host.path("repo/second"));
    copy_tree(&host.path("repo/offsite"), &host.path("repo/second"));
    remove(&host.path("repo/offsite"));
    copy_tree(&host.path("repo/keysafe"), &host.path("repo/offsite"));
    let before = files(&host.path("repo/offsite"));
    host.run(&["repair", "--from", "second", "--apply"])
        .exits(4)
        .says("nothing in common");
    assert_eq!(files(&host.path("repo/offsite")), before);
}

#[test]
fn a_lost_or_damaged_cache_is_noticed_and_begins_an_epoch() {
    let host = Host::new();
    host.backup();
    let offsite = host.path("repo/offsite");
    let index = host.path("host/state/repository/offsite/index");
    assert!(index.join("current.json").exists());
    remove(&index);
    host.backup();
    assert_eq!(epochs(&offsite).len(), 2, "a lost cache begins an epoch");
    // Unchanged after that: the epoch goes on.
    host.backup();
    assert_eq!(epochs(&offsite).len(), 2);
    for name in ["packs.bin", "artifacts.bin", "current.json"] {
        let file = index.join(name);
        let mut bytes = std::fs::read(&file).expect("reads");
        bytes[5] ^= 0x40;
        std::fs::write(&file, bytes).expect("writes");
        let before = epochs(&offsite).len();
        let label = host.backup();
        assert_eq!(epochs(&offsite).len(), before + 1, "damaged {name}");
        host.ok(&host.with_identities(&["verify", &label, "--level", "L4"]));
    }
    // A changed byte of a run leads to nothing, or to chunks that are stored anew.
    let run = std::fs::read_dir(&index).expect("reads").find_map(|entry| {
        let path = entry.expect("reads").path();
        (path.extension() == Some("run".as_ref())).then_some(path)
    });
    flip(&run.expect("a run of chunks"));
    let label = host.backup();
    host.ok(&host.with_identities(&["verify", &label, "--level", "L4"]));
}

#[test]
fn a_new_host_with_the_key_goes_on_with_the_chain() {
    let host = Host::new();
    host.backup();
    host.backup();
    remove(&host.path("host/state"));
    let label = host.backup();
    let shown = host.ok(&["show", &label, "--json"]).document();
    for part in shown["repositories"].as_array().expect("parts") {
        assert_eq!(part["sequence"], 3, "{part}");
    }
    let listed = host.ok(&["list", "--json"]).document();
    assert_eq!(listed["problems"], serde_json::json!([]));
    assert_eq!(labels(&listed).len(), 3);
    host.ok(&host.with_identities(&["verify", "--all", "--level", "L3"]));
    // It remembers from here on: history that is rolled back is noticed.
    remove(envelopes(&host.path("repo/offsite")).last().expect("one"));
    host.run(&["list"])
        .exits(3)
        .says("its history was rolled back");
}

#[test]
fn status_says_what_there_is_and_what_needs_attention() {
    let host = host();
    host.run(&["status"])
        .exits(3)
        .says("there is no backup yet");
    let first = host.backup();
    // The copy is empty and no repository yet: that is told.
    host.run(&["status"]).exits(3).says("repository second");
    host.ok(&["copy"]);
    host.ok(&["status"])
        .says("Nothing needs attention.")
        .says("never")
        .says(&first);
    host.ok(&["verify", "--all"]);
    host.ok(&["status"]).says("L1 ");
    host.insert(3000, 20);
    host.backup();
    // A copy that is behind is no problem by itself.
    let behind = host
        .ok(&["status"])
        .says("second is 1 backups behind offsite");
    assert!(behind.has("0 of 1 off this host"), "{}", behind.stdout);
    let document = host.ok(&["status", "--json"]).document();
    assert_eq!(document["attention"], serde_json::json!([]));
    assert_eq!(
        document["newest_complete"]["copies"], 1,
        "keysafe has no copy"
    );
    let places = document["places"].as_array().expect("places");
    assert_eq!(places.len(), 3);
    flip(&largest_object(&host.path("repo/offsite")));
    host.run(&["verify", "--all"]).exits(1);
    host.run(&["status"]).exits(3).says("1 objects are damaged");
    remove(&host.path("repo/second"));
    host.run(&["status"]).exits(3).says("UNREACHABLE");
}

#[test]
fn repository_show_tells_size_growth_and_rights() {
    let host = host();
    host.backup();
    host.insert(3000, 20);
    host.backup();
    let shown = host.ok(&["repository", "show", "offsite"]);
    assert!(shown.has(&host.recipient("database")), "{}", shown.stdout);
    let document = host
        .ok(&["repository", "show", "offsite", "--json"])
        .document();
    let offsite = &document["repositories"][0];
    assert_eq!(offsite["backups"], 2);
    assert_eq!(offsite["unneeded_objects"], 0);
    let growth = offsite["growth"].as_array().expect("growth");
    let added: Vec<u64> = growth
        .iter()
        .map(|one| one["added_bytes"].as_u64().expect("bytes"))
        .collect();
    assert!(added[1] < added[0], "{added:?}");
    assert_eq!(Some(added[0] + added[1]), offsite["stored_bytes"].as_u64());
    host.run(&["repository", "show", "nothing"]).exits(2);
    // The copy is none yet.
    host.run(&["repository", "show", "second"]).exits(10);
    host.ok(&["copy"]);
    let copy = host
        .ok(&["repository", "show", "second", "--json"])
        .document();
    assert_eq!(
        copy["repositories"][0]["stored_bytes"],
        offsite["stored_bytes"]
    );
}
