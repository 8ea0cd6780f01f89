//! A repository that is down, and one that somebody with the storage's credentials has written to.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;

use crate::fixture::{Host, copy_tree, must, write};

/// The directory of this host's envelopes in a repository.
fn chain(host: &Host, repository: &str) -> PathBuf {
    let envelopes = host.path(repository).join("envelopes");
    let mut writers = std::fs::read_dir(envelopes).expect("envelopes");
    writers.next().expect("a writer").expect("reads").path()
}

#[test]
fn a_repository_that_is_down_does_not_stop_the_others() {
    let host = Host::new();
    host.backup();
    host.insert(1000, 5);
    let (there, away) = (host.path("repo/keysafe"), host.path("repo/away"));
    std::fs::rename(&there, &away).expect("is unmounted");
    let run = host.run(&["backup", "--json"]).exits(3);
    let document = run.document();
    assert_eq!(document["status"], "incomplete");
    let problems = document["problems"].to_string();
    assert!(problems.contains("repository keysafe"), "{problems}");
    for asset in document["assets"].as_array().expect("a list") {
        let is_stored = asset["repository"] == "offsite";
        assert_eq!(asset["status"] == "complete", is_stored, "{asset}");
    }
    let label = document["label"].as_str().expect("a label");
    host.run(&["list"]).exits(10).says("keysafe").says("hint:");
    // What was not read is not called missing.
    let listed = host.run(&["list"]).exits(10).says("keysafe not read");
    assert!(!listed.has("MISSING"), "{}", listed.stdout);
    let listed = host.run(&["list", "--json"]).exits(10).document();
    let whole = &listed["backups"][0];
    assert_eq!(whole["status"], "unknown", "{whole}");
    assert_eq!(whole["missing_repositories"], serde_json::json!([]));
    assert_eq!(whole["unread_repositories"], serde_json::json!(["keysafe"]));

    std::fs::rename(&away, &there).expect("is mounted again");
    // What the other repository got is there, and counts as incomplete.
    let listed = host.run(&["list", "--json"]).exits(0).document();
    let backups = listed["backups"].as_array().expect("a list");
    let run = backups.iter().find(|backup| backup["label"] == label);
    assert_eq!(run.expect("is listed")["status"], "incomplete");
    let next = host.backup();
    host.restore_to(&next, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
}

/// By events, not by time: the second repository is asked before the first one is given up.
#[test]
fn repositories_that_never_answer_are_waited_for_at_the_same_time() {
    let host = Host::new();
    write(
        &host.path("host/s3.credentials"),
        "[default]\naws_access_key_id = a\naws_secret_access_key = planted-secret-key\n",
    );
    must("chmod", &["600", &host.text("host/s3.credentials")]);
    host.learn_secret("planted-secret-key");
    let silent = || TcpListener::bind("127.0.0.1:0").expect("binds");
    let lines = |at: SocketAddr| {
        format!(
            "url = \"s3://bucket/ca\"\nendpoint = \"http://{at}\"\npath_style = true\n\
             credentials_file = \"s3.credentials\"\npatience_seconds = 1\n"
        )
    };
    // `list` fails where no repository can be opened, the others say what they could not see.
    for (command, status) in [("status", 3), ("check", 3), ("list", 1), ("backup", 1)] {
        let (one, two) = (silent(), silent());
        let [first, second] = [&one, &two].map(|it| it.local_addr().expect("an address"));
        host.configure_at(&lines(first), &lines(second), "");
        let child = host
            .command(&[command])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let ended = std::thread::spawn(move || {
            let output = child.wait_with_output().expect("ends");
            // Nobody waits for a program that has ended.
            for address in [first, second] {
                drop(TcpStream::connect(address));
            }
            output
        });
        let (mut asked, _) = one.accept().expect("the first is asked");
        let (other, _) = two.accept().expect("the second is asked");
        asked.set_nonblocking(true).expect("a socket");
        let mut bytes = [0; 4096];
        let waits = loop {
            match asked.read(&mut bytes) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        assert!(
            waits,
            "{command}: the first was given up before the second was asked"
        );
        drop((one, two, asked, other));
        let output = ended.join().expect("no panic");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{command}: {said}");
    }
}

#[test]
fn what_was_captured_for_a_repository_that_fails_at_the_end_is_not_called_complete() {
    let host = Host::new();
    host.backup();
    // Objects can be stored, the envelope cannot.
    let chain = chain(&host, "repo/keysafe");
    std::fs::rename(&chain, chain.with_extension("away")).expect("renames");
    write(&chain, "no directory");
    let document = host.run(&["backup", "--json"]).exits(3).document();
    assert_eq!(document["status"], "incomplete");
    for asset in document["assets"].as_array().expect("a list") {
        let is_stored = asset["repository"] == "offsite";
        assert_eq!(asset["status"] == "complete", is_stored, "{asset}");
        assert_eq!(asset["problems"][0].is_null(), is_stored, "{asset}");
    }
}

/// Whoever can write to the storage can make a repository of the same names, with the public halves of all keys.
#[test]
fn another_repository_in_the_place_of_the_own_one_is_refused() {
    let host = Host::new();
    host.backup();
    let state = host.path("host/state");
    for name in ["offsite", "keysafe"] {
        std::fs::rename(
            host.path("repo").join(name),
            host.path("repo").join(format!("{name}-own")),
        )
        .expect("is taken away");
    }
    host.run(&["init"])
        .exits(4)
        .says("is no repository any more, and this host has written to one there")
        .says("hint:");
    // The thief's host remembers nothing.
    let own = host.path("host/state-own");
    std::fs::rename(&state, &own).expect("moves");
    host.ok(&["init"]);
    let forged = host.backup();
    std::fs::remove_dir_all(&state).expect("removes");
    std::fs::rename(&own, &state).expect("moves");
    for command in [&["backup"][..], &["list"], &["verify", &forged]] {
        host.run(command)
            .exits(4)
            .says("is another repository than the one that this host has written to")
            .says("repository/");
    }
    host.restore_to(&forged, "out").exits(4);
    host.run(&["check"]).exits(3).says("is another repository");
    // Begun anew on purpose.
    std::fs::rename(&state, &own).expect("moves");
    host.ok(&["backup"]);
}

#[test]
fn all_repositories_down_is_an_error() {
    let host = Host::new();
    host.backup();
    std::fs::rename(host.path("repo"), host.path("away")).expect("is unmounted");
    host.run(&["backup"]).exits(10).says("hint:");
}

#[test]
fn forged_envelopes_are_told_and_stop_no_backup() {
    let host = Host::new();
    let first = host.backup();
    let chain = chain(&host, "repo/offsite");
    let real = std::fs::read(chain.join("0000000001.json")).expect("reads");
    write(&chain.join("0000000002.json"), &real);
    write(&chain.join("0000000003.json"), b"{}");
    for number in 0..200_u64 {
        write(
            &chain.join(format!("{:010}.json", 9_999_999_999 - number)),
            b"garbage",
        );
    }
    let stranger = chain.with_file_name("00112233445566ff");
    std::fs::create_dir(&stranger).expect("creates");
    for number in 1..300 {
        write(&stranger.join(format!("{number:010}.json")), &real);
    }
    host.run(&["check"])
        .exits(3)
        .says("history-unbroken")
        .says("299 envelopes of writer 00112233445566ff")
        .says("problems more");
    host.insert(1000, 5);
    let document = host.run(&["backup", "--json"]).exits(3).document();
    assert_eq!(document["status"], "complete");
    assert!(!document["problems"].as_array().expect("a list").is_empty());
    let second = document["label"].as_str().expect("a label").to_owned();
    host.restore_to(&second, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    host.restore_to(&first, "first").exits(0);
    // The next one continues the envelope that holds, whatever lies between.
    host.run(&["backup"]).exits(3);
    let third = std::fs::read_to_string(chain.join("0000000005.json"));
    assert!(third.is_ok(), "the numbers that are free are used");
}

#[test]
fn a_writer_key_used_elsewhere_is_told() {
    let host = Host::new();
    host.backup();
    copy_tree(&host.path("host/state"), &host.path("state before"));
    host.backup();
    host.run(&["check"]).exits(0);
    copy_tree(&host.path("state before"), &host.path("host/state"));
    host.run(&["check"])
        .exits(3)
        .says("history-unbroken")
        .says("envelope 2 with its signature");
    host.backup();
    host.run(&["check"]).exits(0);
}

#[test]
fn objects_that_were_taken_away_cut_or_added_are_told() {
    let host = Host::new();
    host.backup();
    let objects = host.path("repo/offsite/objects");
    let mut files: Vec<PathBuf> = Vec::new();
    for room in std::fs::read_dir(&objects).expect("reads") {
        let room = room.expect("reads").path();
        let inside = std::fs::read_dir(room).expect("reads");
        files.extend(inside.map(|file| file.expect("reads").path()));
    }
    files.sort();
    let cut = std::fs::OpenOptions::new()
        .write(true)
        .open(&files[0])
        .expect("opens");
    cut.set_len(10).expect("cuts");
    std::fs::remove_file(&files[1]).expect("removes");
    let flood =
        std::fs::File::create_new(objects.join("00").join(format!("{}.age", "00".repeat(32))));
    let flood = flood.or_else(|_| {
        std::fs::create_dir_all(objects.join("00"))?;
        std::fs::File::create_new(objects.join("00").join(format!("{}.age", "00".repeat(32))))
    });
    flood.expect("creates").set_len(1 << 30).expect("a hole");
    host.run(&["check"])
        .exits(3)
        .says("objects-there")
        .says("1 objects that backups need are missing")
        .says("1 objects that backups need have another size")
        .says("belong to no backup");
}
