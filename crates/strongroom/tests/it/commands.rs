//! The surface that is promised: documents, statuses, hints.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::{Host, write};

#[test]
fn the_document_of_a_backup_has_what_is_promised() {
    let host = Host::new();
    let document = host.ok(&["backup", "--json"]).document();
    assert_eq!(document["status"], "complete");
    let label = document["label"].as_str().expect("a label");
    let assets = document["assets"].as_array().expect("assets");
    assert_eq!(assets.len(), 6);
    for asset in assets {
        for field in ["name", "class", "repository", "label", "status"] {
            assert!(asset[field].is_string(), "{field}: {asset}");
        }
        assert_eq!(asset["label"], label);
        assert_eq!(asset["status"], "complete");
        for field in ["size_bytes", "new_chunk_bytes", "stored_bytes"] {
            assert!(asset[field].is_u64(), "{field}: {asset}");
        }
        assert!(asset["seconds"].is_f64(), "{asset}");
        assert!(asset.get("facts").is_some(), "{asset}");
    }
    let names: Vec<&str> = assets
        .iter()
        .filter_map(|asset| asset["name"].as_str())
        .collect();
    assert_eq!(names[0], "database", "databases first");
    assert_eq!(names[5], "ca-key", "keys last: {names:?}");
    assert_eq!(assets[0]["facts"]["tables"]["certificates"]["rows"], 200);

    // What a run stored is what the repositories grew by.
    let again = host.ok(&["backup", "--json"]).document();
    for asset in again["assets"].as_array().expect("assets") {
        assert_eq!(asset["new_chunk_bytes"], 0, "{asset}");
        assert_eq!(asset["stored_bytes"], 0, "{asset}");
    }
    let part = host.ok(&["backup", "config", "--json"]).document();
    assert_eq!(part["assets"].as_array().map(Vec::len), Some(1));
    let listed = host.ok(&["list", "--json"]).document();
    let scopes: Vec<&Value> = listed["backups"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|backup| &backup["scope"])
        .collect();
    assert_eq!(scopes, ["all", "all", "partial"]);
}

#[test]
fn every_command_prints_one_document() {
    let host = Host::new();
    host.ok(&["init", "--json"]).document();
    host.ok(&["check", "--json"]).document();
    host.ok(&["list", "--json"]).document();
    host.ok(&["backup", "--dry-run", "--json"]).document();
    let first = host.backup();
    host.insert(900, 3);
    let second = host.backup();
    let out = host.text("out");
    host.ok(&["list", "--json"]).document();
    host.ok(&["show", &first, "--json"]).document();
    let shown = host
        .ok(&host.with_identities(&["show", &second, "--json"]))
        .document();
    assert_eq!(shown["assets"].as_array().map(Vec::len), Some(6));
    for level in ["L1", "L2", "L3", "L4"] {
        let verify = host.with_identities(&["verify", "--all", "--level", level, "--json"]);
        let verified = host.ok(&verify).document();
        assert_eq!(verified["level"], level);
    }
    let differs = host.ok(&host.with_identities(&["diff", &first, &second, "--json"]));
    assert!(
        differs.document()["facts"]
            .to_string()
            .contains("certificates")
    );
    let planned = host.with_identities(&["restore", &first, "--to-dir", &out, "--json"]);
    assert_eq!(host.ok(&planned).document()["applied"], false);
    let applied = host.with_identities(&["restore", &first, "--to-dir", &out, "--apply", "--json"]);
    assert_eq!(host.ok(&applied).document()["applied"], true);
    let export = host.text("export");
    host.ok(&host.with_identities(&["export", "latest", "--out", &export, "--json"]))
        .document();
    let file = host.text("id/more");
    host.ok(&[
        "identity",
        "new",
        "--no-passphrase",
        "--out",
        &file,
        "--json",
    ])
    .document();
}

#[test]
fn errors_are_documents_too() {
    let host = Host::new();
    let cases: [(&[&str], i32); 7] = [
        (&["show", "20200101-000000Z-aaaa"], 4),
        (&["verify", "latest"], 4),
        (&["restore", "--undo"], 4),
        (&["backup", "no-such-asset"], 2),
        (
            &["export", "latest", "--out", "x", "--identity", "/nowhere"],
            4,
        ),
        (&["verify", "--repository", "nowhere"], 2),
        (
            &[
                "identity",
                "new",
                "--no-passphrase",
                "--out",
                "/proc/none/x",
            ],
            2,
        ),
    ];
    for (arguments, status) in cases {
        let mut all = arguments.to_vec();
        all.push("--json");
        let error = host.run(&all).exits(status).document()["error"].clone();
        assert_eq!(error["exit_status"], status, "{arguments:?}");
        for field in ["code", "message"] {
            assert!(error[field].is_string(), "{arguments:?}: {error}");
        }
    }
    std::fs::remove_dir_all(host.path("repo")).expect("removes");
    let gone = host.run(&["backup", "--json"]).exits(10).document();
    assert_eq!(gone["error"]["code"], "no-repository");
    host.run(&["list"]).exits(10).says("hint:");
    std::fs::remove_file(host.path("host/strongroom.toml")).expect("removes");
    host.run(&["list"]).exits(2).says("strongroom init");
}

#[test]
fn where_a_configuration_was_looked_for_is_told() {
    const SHARED: &str = "/etc/strongroom/strongroom.toml";
    if std::path::Path::new(SHARED).exists() {
        return;
    }
    let host = Host::without_repositories();
    let mut command = Command::new(crate::fixture::PROGRAM);
    command
        .arg("list")
        .env_remove("STRONGROOM_CONFIG")
        .current_dir(host.path("id"))
        .stdin(Stdio::null());
    host.finish(&mut command)
        .exits(2)
        .says("neither strongroom.toml (in this directory) nor /etc/strongroom/strongroom.toml")
        .says("--config");
}

#[test]
fn a_configuration_of_a_newer_version_is_refused() {
    let host = Host::new();
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    write(&file, format!("version = 2\nunheard-of = true\n{text}"));
    for command in [&["backup"][..], &["list"], &["check"], &["init"]] {
        let run = host.run(command).exits(2).says("newer Strongroom");
        assert!(
            !run.has("unheard-of"),
            "one message is enough: {}",
            run.stderr
        );
    }
    write(&file, format!("version = 1\n{text}"));
    host.backup();
}

#[test]
fn a_key_that_is_not_known_is_refused_with_a_guess() {
    let host = Host::new();
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    write(
        &file,
        text.replace("accepts = [\"key\"", "acepts = [\"key\""),
    );
    host.run(&["backup"])
        .exits(2)
        .says("acepts")
        .says("accepts")
        .says("strongroom.toml:");
    write(
        &file,
        text.replace("class = \"database\"", "class = \"databse\""),
    );
    host.run(&["backup"])
        .exits(2)
        .says("databse")
        .says("database");
}

#[test]
fn a_writer_key_that_is_lost_or_exposed_is_told() {
    let host = Host::new();
    host.backup();
    let key = host.text("host/writer.key");
    crate::fixture::must("chmod", &["644", &key]);
    host.run(&["backup"]).exits(4).says("chmod 600");
    host.run(&["check"]).exits(3).says("writer-key-private");
    std::fs::remove_file(&key).expect("removes");
    host.run(&["backup"]).exits(4).says("missing");
    host.run(&["init"]).exits(4).says("Put back its file");
    host.ok(&["list"]);
    host.ok(&["verify", "--all"]);
    host.restore_to("latest", "out").exits(0);
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_backup() {
    let host = Host::new();
    host.ok(&["check"]).says("places-writable");
    let temporary = host.path("repo/offsite/tmp");
    drop(std::fs::remove_dir_all(&temporary));
    write(&temporary, "in the way");
    host.run(&["check"])
        .exits(3)
        .says("PROBLEM offsite: ")
        .says("places-writable");
    std::fs::remove_file(&temporary).expect("removes");
    host.ok(&["check"]);
    let state = host.path("host/state");
    std::fs::remove_dir_all(&state).expect("removes");
    write(&state, "in the way");
    host.run(&["check"])
        .exits(3)
        .says("PROBLEM state directory: ")
        .says("`state_dir`");
}

#[test]
fn without_a_terminal_the_hint_names_the_identity() {
    let host = Host::new();
    let label = host.backup();
    let out = host.text("out");
    let cases: [&[&str]; 3] = [
        &["restore", "latest", "--to-dir", &out],
        &["diff", &label, &label],
        &["verify", "--level", "L2"],
    ];
    for arguments in cases {
        // A session of its own has no terminal.
        let mut all = vec!["--wait".to_owned(), crate::fixture::PROGRAM.to_owned()];
        all.extend(["--config".to_owned(), host.text("host/strongroom.toml")]);
        all.extend(arguments.iter().map(|text| (*text).to_owned()));
        let mut command = Command::new("setsid");
        command.args(all).stdin(Stdio::null());
        let refused = host.finish(&mut command).exits(2).says("--identity FILE");
        assert!(!refused.has("--passphrase-file"), "{}", refused.stderr);
    }
}

#[test]
fn status_tells_of_a_restore_that_has_not_ended() {
    let host = Host::new();
    host.backup();
    let apply = host.with_identities(&["restore", "latest", "config", "--apply"]);
    host.ok(&apply);
    let waiting = host.ok(&["status"]).says("waiting for the sign-off");
    assert!(
        !waiting.has("Nothing needs attention"),
        "{}",
        waiting.stdout
    );
    // As an undo that was killed leaves it.
    let journal = host.path("host/state/restore/progress.jsonl");
    let mut text = std::fs::read_to_string(&journal).expect("reads");
    text.push_str("\n{\"phase\":\"undoing\"}");
    write(&journal, text);
    host.run(&["status"])
        .exits(3)
        .says("was interrupted, half undone; end it with `strongroom restore` --undo");
    let document = host.run(&["status", "--json"]).exits(3).document();
    assert_eq!(document["restore"]["interrupted"], true);
    host.ok(&["restore", "--undo"]);
    host.ok(&["status"]).says("Nothing needs attention");
}

#[test]
fn a_lost_state_directory_costs_an_epoch_and_no_backup() {
    let host = Host::new();
    let first = host.backup();
    let before = host.contents();
    host.insert(900, 5);
    std::fs::remove_dir_all(host.path("host/state")).expect("removes");
    let second = host.backup();
    for garbage in [
        "epoch.json",
        "head.json",
        "memory.json",
        "index/current.json",
    ] {
        write(
            &host.path(format!("host/state/repository/offsite/{garbage}")),
            "garbage",
        );
    }
    let third = host.backup();
    host.ok(&host.with_identities(&["verify", "--all", "--level", "L4"]));
    for (number, label) in [&first, &second, &third].into_iter().enumerate() {
        let out = format!("out-{number}");
        host.restore_to(label, &out).exits(0);
        let wanted = if number == 0 {
            &before
        } else {
            &host.contents()
        };
        assert_eq!(&host.restored(&out), wanted);
    }
}

#[test]
fn an_interrupt_ends_a_backup_with_130_and_the_next_one_works() {
    let host = Host::new();
    write(&host.path("ca/var/log/large.log"), vec![b'x'; 200 << 20]);
    let mut child = host
        .command(&["backup", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    // The first line of progress: it is at work.
    let mut first = String::new();
    let stderr = child.stderr.take().expect("piped");
    let mut stderr = std::io::BufReader::new(stderr);
    std::io::BufRead::read_line(&mut stderr, &mut first).expect("reads");
    let _: Value = serde_json::from_str(&first).expect("progress is JSON Lines");
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .expect("kills")
            .success()
    );
    std::io::copy(&mut stderr, &mut std::io::sink()).expect("reads");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(130));
    let failure: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(failure["error"]["code"], "interrupted");
    host.ok(&["list"]).says("There is no backup yet");
    host.backup();
}
