//! What can be in the way of a restore.

use std::os::unix::fs::symlink;

use crate::fixture::{Host, copy_tree, must, write};
use crate::snapshot::Snapshot;

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let host = Host::new();
    host.backup();
    write(&host.path("out/mine"), "mine");
    host.restore_to("latest", "out")
        .exits(4)
        .says("is not empty");
    let out = host.text("out");
    host.run(&host.with_identities(&["export", "latest", "--out", &out]))
        .exits(4)
        .says("is not empty");
    let left = std::fs::read_dir(host.path("out")).expect("reads").count();
    assert_eq!(left, 1);
}

#[test]
fn a_plan_touches_nothing() {
    let host = Host::new();
    host.backup();
    let before = Snapshot::of(&host.ca(), &[host.ca()]);
    let out = host.text("out");
    host.ok(&host.with_identities(&["restore", "--to-dir", &out]))
        .says("Nothing was changed");
    host.ok(&host.with_identities(&["restore"]))
        .says("replaces");
    Snapshot::of(&host.ca(), &[host.ca()]).assert_is(&before, "after the plan");
    assert!(!host.path("out").exists());
}

#[test]
fn a_link_in_place_of_a_captured_directory_is_not_followed() {
    let host = Host::new();
    host.backup();
    let elsewhere = host.path("elsewhere");
    copy_tree(&host.path("ca/conf/sub"), &elsewhere);
    let before = Snapshot::of(&elsewhere, std::slice::from_ref(&elsewhere));
    for directory in ["ca/conf/sub", "ca/conf"] {
        copy_tree(&host.ca(), &host.path("kept"));
        std::fs::remove_dir_all(host.path(directory)).expect("removes");
        symlink(&elsewhere, host.path(directory)).expect("links");
        let apply = host.with_identities(&["restore", "latest", "config", "--apply"]);
        let refused = host.run(&apply);
        assert!(
            matches!(refused.status, 1 | 4),
            "{directory}: {}",
            refused.status
        );
        if refused.status == 1 {
            host.ok(&["restore", "--undo"]);
        }
        Snapshot::of(&elsewhere, std::slice::from_ref(&elsewhere)).assert_is(&before, directory);
        std::fs::remove_file(host.path(directory)).expect("the link is still there");
        copy_tree(&host.path("kept"), &host.ca());
    }
}

#[test]
fn a_link_in_place_of_a_captured_file_is_replaced_and_not_followed() {
    let host = Host::new();
    host.backup();
    let wanted = host.contents();
    write(&host.path("elsewhere"), "not of the CA");
    std::fs::remove_file(host.path("ca/conf/ca.toml")).expect("removes");
    symlink(host.path("elsewhere"), host.path("ca/conf/ca.toml")).expect("links");
    host.ok(&host.with_identities(&["restore", "latest", "config", "--apply"]));
    assert_eq!(host.contents(), wanted);
    let elsewhere = std::fs::read(host.path("elsewhere")).expect("reads");
    assert_eq!(elsewhere, b"not of the CA");
    host.ok(&["restore", "--undo"]);
    let link = std::fs::read_link(host.path("ca/conf/ca.toml")).expect("a link again");
    assert_eq!(link, host.path("elsewhere"));
}

#[test]
fn what_stands_where_something_else_was_is_refused() {
    let host = Host::new();
    host.backup();
    std::fs::remove_file(host.path("ca/conf/ca.toml")).expect("removes");
    std::fs::create_dir(host.path("ca/conf/ca.toml")).expect("creates");
    let apply = host.with_identities(&["restore", "latest", "config", "--apply"]);
    host.run(&apply).exits(4).says("a directory now");
    std::fs::remove_dir(host.path("ca/conf/ca.toml")).expect("removes");
    must("mkfifo", &[host.path("ca/conf/ca.toml")]);
    host.run(&apply).exits(4).says("socket, device or pipe");
}

const COMPANIONS: [&str; 3] = [
    "ca/var/ca.sqlite3-wal",
    "ca/var/ca.sqlite3-shm",
    "ca/var/ca.sqlite3-journal",
];

#[test]
fn what_lies_beside_a_database_goes_with_it_and_comes_back() {
    let host = Host::new();
    host.backup();
    let wanted = host.contents();
    host.insert(5000, 50);
    for name in COMPANIONS {
        write(&host.path(name), format!("stale {name}"));
    }
    let before = Snapshot::of(&host.path("ca/var"), &[]);
    let apply = host.with_identities(&["restore", "latest", "database", "--apply"]);
    host.ok(&apply);
    for name in COMPANIONS {
        assert!(!host.path(name).exists(), "{name} is still there");
    }
    // What a server writes beside the restored database does not outlive the undo.
    write(&host.path(COMPANIONS[0]), "of the restored database");
    host.ok(&["restore", "--undo"]);
    Snapshot::of(&host.path("ca/var"), &[]).assert_is(&before, "after the undo");

    host.ok(&apply);
    host.ok(&["restore", "--sign-off"]);
    assert_eq!(host.contents(), wanted);
    let left = std::fs::read_dir(host.path("ca/var"))
        .expect("reads")
        .count();
    assert_eq!(left, 2, "the database and the log");
}

#[test]
fn a_database_in_use_is_not_replaced() {
    let host = Host::new();
    host.backup();
    let connection = host.database();
    let _: i64 = connection
        .query_row("select count(*) from certificates", (), |row| row.get(0))
        .expect("counts");
    let apply = host.with_identities(&["restore", "--apply"]);
    host.run(&apply).exits(4).says("in use");
    drop(connection);
    host.ok(&apply);
    let connection = host.database();
    let _: i64 = connection
        .query_row("select count(*) from certificates", (), |row| row.get(0))
        .expect("counts");
    host.run(&["restore", "--undo"]).exits(4).says("in use");
    drop(connection);
    host.ok(&["restore", "--undo"]);
}

#[test]
fn one_restore_at_a_time_and_its_ends_in_order() {
    let host = Host::new();
    let first = host.backup();
    for end in ["--undo", "--sign-off", "--resume"] {
        host.run(&host.with_identities(&["restore", end])[..2])
            .exits(4);
    }
    host.insert(5000, 5);
    let before = Snapshot::of(&host.ca(), &[host.path("ca/conf")]);
    let apply = host.with_identities(&["restore", &first, "--apply"]);
    host.ok(&apply).says("--sign-off");
    host.run(&apply).exits(4).says("--undo");
    host.run(&host.with_identities(&["restore", "--resume"]))
        .exits(4);
    host.ok(&["restore", "--undo"]);
    Snapshot::of(&host.ca(), &[host.path("ca/conf")]).assert_is(&before, "after the undo");
    host.run(&["restore", "--undo"]).exits(4);
    host.ok(&apply);
    host.ok(&["restore", "--sign-off"]);
    host.run(&["restore", "--undo"]).exits(4);
}

#[test]
fn what_the_hint_of_a_failed_restore_says_can_be_typed() {
    let host = Host::new();
    let label = host.backup();
    let objects = std::fs::read_dir(host.path("repo/offsite/objects")).expect("objects");
    let files = objects.flat_map(|shard| {
        let shard = std::fs::read_dir(shard.expect("reads").path()).expect("a directory");
        shard.map(|file| file.expect("reads").path())
    });
    let largest = files.max_by_key(|file| file.metadata().map_or(0, |it| it.len()));
    let largest = largest.expect("an object");
    let mut bytes = std::fs::read(&largest).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    write(&largest, bytes);
    let out = host.text("out");
    let undo = format!("strongroom restore --to-dir {out} --undo");
    host.restore_to(&label, "out").exits(1).says(&undo);
    host.ok(&["restore", "--to-dir", &out, "--undo"]);
    let left = std::fs::read_dir(host.path("out")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing is left in it");
}
