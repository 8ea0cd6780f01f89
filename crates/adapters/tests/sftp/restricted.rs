//! Servers that allow few requests, as docs/guide/storages/sftp.md configures them.

use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Put, StorageError};
use strongroom_testkit::storage_conformance;

use super::place::{create, open, run, server};

/// What the guide allows a writer, a restorer and an expirer.
const GUIDE: &str = include_str!("../../../../docs/guide/storages/sftp.md");

/// The arguments of internal-sftp in the block of the guide for `account`.
fn allowed(account: &str) -> String {
    let (_, block) = GUIDE
        .split_once(&format!("Match User {account}\n"))
        .expect("the guide has a block for it");
    let line = block
        .lines()
        .find_map(|line| line.trim().strip_prefix("ForceCommand internal-sftp "));
    line.expect("the block forces internal-sftp").to_owned()
}

#[test]
fn a_writer_needs_no_more_than_the_guide_allows() {
    let test = "restricted::a_writer_needs_no_more_than_the_guide_allows";
    let Some(server) = server(test, &allowed("ca-writer")) else {
        return;
    };
    let storage = create(&server.here("r"));
    let bytes = vec![3; 3 << 20];
    let name = ObjectName::object(Digest::of(&bytes));
    for _ in 0..2 {
        storage.put(&name, Body::Bytes(&bytes)).expect("puts");
        storage.flush().expect("flushes");
    }
    let document = ObjectName::repository(1);
    assert_eq!(
        storage.create(&document, b"{}").expect("creates"),
        Put::Stored
    );
    let again = storage.create(&document, b"[]").expect("answers");
    assert_eq!(again, Put::AlreadyThere);
    assert!(storage.get(&name, bytes.len()).expect("reads") == bytes);
    assert_eq!(storage.get(&document, 10).expect("reads"), b"{}");
    let mut listed = 0;
    storage.list("", &mut |_, _| listed += 1).expect("lists");
    assert_eq!(listed, 2);
    assert!(storage.free_space().expect("answers").is_some());
    let error = storage.delete(&name).expect_err("is refused");
    assert!(matches!(error, StorageError::Refused(_)), "{error:?}");
    assert!(server.path("r").join(name.as_str()).exists());
}

#[test]
fn the_whole_contract_holds_with_what_the_guide_allows() {
    let test = "restricted::the_whole_contract_holds_with_what_the_guide_allows";
    // What deletes does so as the expirer, on a server of its own.
    let (Some(writer), Some(expirer)) = (
        server(test, &allowed("ca-writer")),
        server(test, &allowed("ca-expirer")),
    ) else {
        return;
    };
    let mut number = 0;
    storage_conformance::run_by(&mut |deletes| {
        number += 1;
        let server = if deletes { &expirer } else { &writer };
        create(&server.here(&format!("r{number}")))
    });
}

#[test]
fn a_restorer_only_reads() {
    let Some(server) = server("restricted::a_restorer_only_reads", "") else {
        return;
    };
    let storage = create(&server.here("r"));
    let name = ObjectName::repository(1);
    storage.create(&name, b"{}").expect("creates");
    drop(storage);
    server
        .sshd
        .configure(&allowed("ca-restorer"))
        .expect("writes");
    let mut server = server;
    server.sshd.restart().expect("starts again");
    let storage = open(&server.here("r")).expect("opens");
    assert_eq!(storage.get(&name, 10).expect("reads"), b"{}");
    let mut listed = 0;
    storage.list("", &mut |_, _| listed += 1).expect("lists");
    assert_eq!(listed, 1);
    for error in [
        storage.delete(&name).expect_err("is refused"),
        storage
            .create(&ObjectName::repository(2), b"{}")
            .expect_err("is refused"),
    ] {
        assert!(matches!(error, StorageError::Refused(_)), "{error:?}");
    }
}

#[test]
fn an_expirer_deletes_and_tidies() {
    let Some(server) = server(
        "restricted::an_expirer_deletes_and_tidies",
        &allowed("ca-expirer"),
    ) else {
        return;
    };
    let storage = create(&server.here("r"));
    let name = ObjectName::repository(1);
    storage.create(&name, b"{}").expect("creates");
    storage.delete(&name).expect("deletes");
    assert_eq!(storage.stat(&name).expect("answers"), None);
}

#[test]
fn without_rename_a_hard_link_names_objects() {
    let test = "restricted::without_rename_a_hard_link_names_objects";
    let Some(server) = server(test, "-P rename,posix-rename") else {
        return;
    };
    let storage = create(&server.here("r"));
    let name = ObjectName::repository(1);
    assert_eq!(storage.create(&name, b"{}").expect("creates"), Put::Stored);
    assert_eq!(
        storage.create(&name, b"[]").expect("answers"),
        Put::AlreadyThere
    );
    assert_eq!(storage.get(&name, 10).expect("reads"), b"{}");
    let left = std::fs::read_dir(server.path("r/tmp"))
        .expect("reads")
        .count();
    assert_eq!(left, 2, "only the two files of the trial stay");
}

#[test]
fn a_server_that_cannot_promise_is_refused() {
    let test = "restricted::a_server_that_cannot_promise_is_refused";
    let Some(server) = server(test, "-P rename,posix-rename,hardlink") else {
        return;
    };
    let storage = create(&server.here("r"));
    let error = storage
        .create(&ObjectName::repository(1), b"{}")
        .expect_err("is refused");
    let StorageError::Refused(refusal) = error else {
        panic!("not refused: {error:?}");
    };
    assert!(refusal.why.contains("hard links"), "{refusal}");
}

/// What docs/guide/storages/sftp.md says frankly of a stolen key; if this fails, the page must change.
#[test]
fn a_thief_cannot_remove_but_can_write_over() {
    let test = "restricted::a_thief_cannot_remove_but_can_write_over";
    // What the stock client asks besides; a thief needs none of it.
    let arguments = format!("{},realpath,stat,fstat", allowed("ca-writer"));
    let Some(server) = server(test, &arguments) else {
        return;
    };
    let storage = create(&server.here("r"));
    let name = ObjectName::repository(1);
    storage.create(&name, b"{}").expect("creates");
    let object = server.path("r").join(name.as_str());
    let empty = server.path("empty");
    std::fs::write(&empty, "XX").expect("writes");
    let sftp = |request: &str| {
        let batch = server.path("batch");
        std::fs::write(&batch, format!("{request}\n")).expect("writes");
        let text = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
        let known = server.path("known");
        std::fs::write(
            &known,
            format!("* {}\n", server.sshd.host_key().expect("a key")),
        )
        .expect("writes");
        run(
            "sftp",
            &[
                "-b",
                &text(batch),
                "-P",
                &server.sshd.address().port().to_string(),
                "-i",
                &text(server.sshd.key()),
                "-o",
                &format!("UserKnownHostsFile={}", text(known)),
                &format!("{}@127.0.0.1", server.sshd.user()),
            ],
        )
    };
    let object_text = object.display();
    assert!(!sftp(&format!("rm {object_text}")));
    assert!(!sftp(&format!("chmod 0 {object_text}")));
    assert!(!sftp(&format!("symlink /etc/passwd {object_text}.x")));
    assert_eq!(std::fs::read(&object).expect("reads"), b"{}");
    assert!(sftp(&format!("put {} {object_text}", empty.display())));
    assert_eq!(std::fs::read(&object).expect("reads"), b"XX");
    assert!(sftp(&format!("rename {object_text} {object_text}.away")));
    assert!(!object.exists());
}
