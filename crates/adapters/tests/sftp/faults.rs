//! What breaks over there: the server, ssh, the disk; and two writers at once.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Put, StorageError};

use super::place::{create, run, server};
use strongroom_testkit::skip;

#[test]
fn a_server_that_was_killed_is_found_again() {
    let Some(mut server) = server("faults::a_server_that_was_killed_is_found_again", "") else {
        return;
    };
    let storage = create(&server.here("r"));
    let name = ObjectName::repository(1);
    storage.create(&name, b"{}").expect("creates");
    server.sshd.stop();
    server.sshd.restart().expect("starts again");
    assert_eq!(storage.get(&name, 10).expect("reads"), b"{}");
    let second = ObjectName::repository(2);
    assert_eq!(
        storage.create(&second, b"{}").expect("creates"),
        Put::Stored
    );
}

#[test]
fn an_ssh_that_was_killed_is_started_again() {
    let Some(server) = server("faults::an_ssh_that_was_killed_is_started_again", "") else {
        return;
    };
    let storage = create(&server.here("r"));
    // The children of this process that talk to this server's port.
    let port = format!("Port={}", server.sshd.address().port());
    let own = std::process::id().to_string();
    let found = Command::new("ps")
        .args(["-o", "pid=,args=", "--ppid", &own])
        .output()
        .expect("ps");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    let children: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(&port))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(!children.is_empty(), "no ssh: {text}");
    for child in children {
        assert!(run("kill", &["-9", child]));
    }
    let name = ObjectName::repository(1);
    assert_eq!(storage.create(&name, b"{}").expect("creates"), Put::Stored);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let test = "faults::a_full_disk_is_told_and_leaves_nothing";
    let Some(server) = server(test, "") else {
        return;
    };
    let disk = server.path("disk");
    std::fs::create_dir(&disk).expect("creates");
    let path = disk.to_str().expect("UTF-8").to_owned();
    if !run("mount", &["-t", "tmpfs", "-o", "size=2m", "none", &path]) {
        skip(test, "cannot mount a tmpfs here");
        return;
    }
    let storage = create(&server.here("disk/r"));
    let store = |bytes: &[u8]| {
        let name = ObjectName::object(Digest::of(bytes));
        let put = storage.put(&name, Body::Bytes(bytes));
        put.and_then(|()| storage.flush())
    };
    store(&[1; 1000]).expect("there is room");
    let error = store(&vec![2; 4 << 20]);
    let left: Vec<_> = std::fs::read_dir(server.path("disk/r/tmp"))
        .expect("reads")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| !name.to_string_lossy().starts_with("rename-"))
        .collect();
    let enlarged = run("mount", &["-o", "remount,size=20m", &path]);
    let again = store(&vec![2; 4 << 20]);
    drop(storage);
    assert!(run("umount", &["-l", &path]));
    assert!(
        matches!(error, Err(StorageError::NoSpace { .. })),
        "{error:?}"
    );
    assert!(left.is_empty(), "{left:?}");
    assert!(enlarged);
    again.expect("there is room again");
}

#[test]
fn of_two_writers_one_gets_the_name() {
    let Some(server) = server("faults::of_two_writers_one_gets_the_name", "") else {
        return;
    };
    let (first, second) = (create(&server.here("r")), create(&server.here("r")));
    for revision in 1..=20 {
        let name = ObjectName::repository(revision);
        let puts: Vec<Put> = std::thread::scope(|scope| {
            let threads: Vec<_> = [(&first, b"0"), (&second, b"1")]
                .into_iter()
                .map(|(writer, bytes)| {
                    let name = &name;
                    scope.spawn(move || writer.create(name, bytes).expect("answers"))
                })
                .collect();
            let joined = threads.into_iter().map(|one| one.join().expect("no panic"));
            joined.collect()
        });
        let winner = puts.iter().position(|put| *put == Put::Stored);
        let winner = winner.expect("one of them");
        assert_ne!(puts[0], puts[1]);
        let there = first.get(&name, 1).expect("reads");
        assert_eq!(there, winner.to_string().as_bytes());
    }
}

#[test]
fn leftovers_go_and_modes_are_narrow() {
    let Some(server) = server("faults::leftovers_go_and_modes_are_narrow", "") else {
        return;
    };
    let settings = server.here("r");
    drop(create(&settings));
    let tmp = server.path("r/tmp");
    std::fs::create_dir(&tmp).expect("creates");
    let random = "0123456789abcdef0123456789abcdef";
    let [old, young, foreign] = ["a.age", "b.age", "c"].map(|name| match name {
        "c" => tmp.join(name),
        _ => tmp.join(format!("{name}.{random}")),
    });
    for path in [&old, &young, &foreign] {
        std::fs::write(path, "x").expect("writes");
    }
    for path in [&old, &foreign] {
        assert!(run(
            "touch",
            &["-d", "3 days ago", path.to_str().expect("UTF-8")]
        ));
    }
    let storage = create(&settings);
    let bytes = b"an object";
    let name = ObjectName::object(Digest::of(bytes));
    storage.put(&name, Body::Bytes(bytes)).expect("puts");
    storage.flush().expect("flushes");
    assert!(!old.exists() && young.exists() && foreign.exists());
    let object = std::fs::metadata(server.path("r").join(name.as_str())).expect("is there");
    assert_eq!(object.mode() & 0o777, 0o600);
    assert_eq!(object.nlink(), 1, "a second name was left");
    let directory = std::fs::metadata(server.path("r/objects")).expect("is there");
    assert_eq!(directory.mode() & 0o777, 0o700);
    let stored = storage.stat(&name).expect("answers").expect("is there");
    let seconds = stored.stored.expect("a time").as_second();
    assert_eq!(seconds, object.mtime());
}
