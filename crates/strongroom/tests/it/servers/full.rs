//! Full disks around a server's backup and restore: the repository's, the state directory's, the server's own.

use std::os::unix::fs::PermissionsExt as _;

use strongroom_adapters::throwaway::Options;

use super::host::{Kind, Server, ServerHost};
use crate::faults::SmallDisk;
use crate::fixture::{Host, Outcome, must};

/// Enough rows that no disk of these tests takes them by chance.
const CERTIFICATES: u32 = 2000;

fn repository(kind: Kind, test: &str) {
    let place = ServerHost::new(kind, CERTIFICATES);
    let host = &place.host;
    std::fs::remove_dir_all(host.path("repo/offsite")).expect("removes");
    let Some(disk) = SmallDisk::mount(test, host.path("repo/offsite"), "300k") else {
        return;
    };
    host.ok(&["init"]);
    for _ in 0..2 {
        host.run(&["backup"])
            .exits(3)
            .says("repository offsite")
            .says("no space left")
            .says("run it again");
        host.run(&["list"]).says("INCOMPLETE");
    }
    disk.resize("50m");
    let wanted = place.dumps_but_counters();
    let label = host.backup();
    host.ok(&host.with_identities(&["verify", &label, "--level", "L4"]));
    place.damage();
    host.ok(&place.restore(&[&label, "ca-db", "--apply"]));
    place.assert_dumps_but_counters(&wanted, "restored");
}

#[test]
fn a_full_repository_stops_a_backup_of_postgresql() {
    repository(
        Kind::Postgresql,
        "servers::full::a_full_repository_stops_a_backup_of_postgresql",
    );
}

#[test]
fn a_full_repository_stops_a_backup_of_mariadb() {
    repository(
        Kind::Mariadb,
        "servers::full::a_full_repository_stops_a_backup_of_mariadb",
    );
}

/// Asserts that the restore stopped for want of room, and says how it goes on.
#[track_caller]
fn stopped(outcome: Outcome, place: &str) {
    let outcome = outcome.exits(1);
    let is_told = [
        "o space left",
        "is full",
        "Make room where",
        "Check free disk space",
    ]
    .iter()
    .any(|text| outcome.has(text));
    assert!(is_told, "{}{}", outcome.stdout, outcome.stderr);
    outcome.says(place).says("--resume").says("--undo");
}

/// Runs a command until the server, which may have crashed for want of room, takes connections again.
fn host_is_back(host: &Host, command: &[String]) {
    for _ in 0..60 {
        let outcome = host.run(command);
        let is_starting = [
            "the connection to the server is lost",
            "not yet accepting connections",
            "the database system is starting up",
            "the database system is in recovery mode",
        ];
        let is_starting = is_starting.iter().any(|text| outcome.has(text));
        if outcome.status == 0 || !is_starting {
            outcome.exits(0);
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    panic!("the server does not come back");
}

/// A restore that stops, is resumed with more room, undone; and one that stops and is undone.
fn around_a_full_disk(place: &ServerHost, disk: &SmallDisk, room: (u64, u64), names: &str) {
    let host = &place.host;
    let wanted = place.dumps_but_counters();
    let label = host.backup();
    place.damage();
    let damaged = place.dumps_but_counters();
    let apply = place.restore(&[&label, "ca-db", "--apply"]);

    disk.leave(room.0);
    stopped(host.run(&apply), names);
    place.assert_dumps_but_counters(&damaged, "with a full disk");
    // Still full: the same again.
    stopped(host.run(&place.restore(&["--resume"])), names);
    disk.leave(room.1);
    host_is_back(host, &place.restore(&["--resume"]));
    place.assert_dumps_but_counters(&wanted, "resumed");
    host.ok(&["restore", "--undo"]);
    place.assert_dumps_but_counters(&damaged, "undone");
    place.assert_no_leftovers("undone");

    disk.leave(room.0);
    stopped(host.run(&apply), names);
    // PostgreSQL does not drop a database while it cannot write a checkpoint, and may end all sessions over it.
    let undone = host.run(&["restore", "--undo"]);
    if undone.status != 0 {
        if !undone.has("the connection to the server is lost") {
            stopped(undone, names);
        }
        disk.leave(room.1);
        host_is_back(host, &["restore", "--undo"].map(str::to_owned));
    }
    place.assert_dumps_but_counters(&damaged, "undone after a full disk");
    place.assert_no_leftovers("undone after a full disk");
    disk.leave(room.1);
    host.ok(&apply);
    host.ok(&["restore", "--sign-off"]);
    place.assert_dumps_but_counters(&wanted, "signed off");
    place.assert_no_leftovers("signed off");
}

fn state(kind: Kind, test: &str) {
    let place = ServerHost::new(kind, CERTIFICATES);
    let state = place.host.path("host/state");
    let aside = place.host.path("host/state-aside");
    std::fs::rename(&state, &aside).expect("moves");
    let Some(disk) = SmallDisk::mount(test, state.clone(), "200m") else {
        return;
    };
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).expect("sets");
    must(
        "cp",
        &["-aT".as_ref(), aside.as_os_str(), state.as_os_str()],
    );
    let names = state.to_str().expect("UTF-8").to_owned();
    around_a_full_disk(&place, &disk, (300, 100_000), &names);
}

#[test]
fn a_full_state_directory_stops_a_restore_of_postgresql() {
    state(
        Kind::Postgresql,
        "servers::full::a_full_state_directory_stops_a_restore_of_postgresql",
    );
}

#[test]
fn a_full_state_directory_stops_a_restore_of_mariadb() {
    state(
        Kind::Mariadb,
        "servers::full::a_full_state_directory_stops_a_restore_of_mariadb",
    );
}

/// A server whose data lies on a small disk, in a directory that its account may enter.
struct SmallServer {
    place: ServerHost,
    disk: SmallDisk,
    directory: tempfile::TempDir,
}

fn server(kind: Kind, test: &str) -> Option<SmallServer> {
    let directory = tempfile::Builder::new()
        .prefix("sr-full-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .expect("a directory");
    let disk = SmallDisk::mount(test, directory.path().join("disk"), "1g")?;
    let options = Options {
        parent: Some(directory.path().join("disk")),
        ..Options::for_tests()
    };
    let place = ServerHost::with_options(kind, CERTIFICATES, &options);
    Some(SmallServer {
        place,
        disk,
        directory,
    })
}

#[test]
fn a_full_disk_of_postgresql_stops_a_restore() {
    let name = "servers::full::a_full_disk_of_postgresql_stops_a_restore";
    let Some(mut small) = server(Kind::Postgresql, name) else {
        return;
    };
    // The write-ahead log elsewhere: without room for it the whole server stops, which is the next test.
    let Server::Postgresql(cluster) = &mut small.place.server else {
        unreachable!("as asked for");
    };
    cluster.stop().expect("stops");
    let (wal, aside) = (
        cluster.data_directory().join("pg_wal"),
        small.directory.path().join("wal"),
    );
    must("cp", &["-aT".as_ref(), wal.as_os_str(), aside.as_os_str()]);
    std::fs::remove_dir_all(&wal).expect("removes");
    std::os::unix::fs::symlink(&aside, &wal).expect("links");
    // A checkpoint writes a small file for slots, and the whole server ends (PANIC) when there is no room for it.
    let settings = cluster.data_directory().join("postgresql.conf");
    let mut text = std::fs::read_to_string(&settings).expect("reads");
    text.push_str("max_replication_slots = 0\n");
    std::fs::write(&settings, text).expect("writes");
    cluster.restart().expect("starts again");
    around_a_full_disk(
        &small.place,
        &small.disk,
        (12_000, 300_000),
        "of asset ca-db",
    );
}

#[test]
fn a_full_disk_of_mariadb_stops_a_restore() {
    let name = "servers::full::a_full_disk_of_mariadb_stops_a_restore";
    let Some(small) = server(Kind::Mariadb, name) else {
        return;
    };
    around_a_full_disk(
        &small.place,
        &small.disk,
        (4_000, 300_000),
        "of asset ca-db",
    );
}

#[test]
fn a_postgresql_that_stops_for_want_of_room_is_restored_into_when_it_is_back() {
    let name =
        "servers::full::a_postgresql_that_stops_for_want_of_room_is_restored_into_when_it_is_back";
    let Some(mut small) = server(Kind::Postgresql, name) else {
        return;
    };
    let place = &mut small.place;
    let wanted = place.dumps_but_counters();
    let label = place.host.backup();
    place.damage();
    let damaged = place.dumps_but_counters();
    let apply = place.restore(&[&label, "ca-db", "--apply"]);
    for way_on in ["--undo", "--resume"] {
        small.disk.leave(2_000);
        let stopped = place.host.run(&apply).exits(1);
        stopped.says("--resume").says("--undo");
        // The server says so in its log, or to the client before it ends.
        small.disk.leave(300_000);
        place.server.restart();
        place.assert_dumps_but_counters(&damaged, "with a full disk");
        let on = place.restore(&[way_on]);
        if way_on == "--undo" {
            place.host.ok(&["restore", "--undo"]);
            place.assert_dumps_but_counters(&damaged, "undone");
        } else {
            place.host.ok(&on);
            place.host.ok(&["restore", "--sign-off"]);
            place.assert_dumps_but_counters(&wanted, "resumed");
        }
        place.assert_no_leftovers(way_on);
    }
}
