//! Dual control, with the operators' own `ssh-keygen`.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::{Host, Outcome, must, write};

/// Makes the keys of operators, and asks for the approval of so many.
fn require(host: &Host, needed: u32, operators: &[&str]) {
    for name in operators {
        let key = host.text(&format!("id/{name}"));
        if !host.path(format!("id/{name}")).exists() {
            must(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &key],
            );
        }
    }
    change(host, |text| {
        let name = "name = \"example-ca\"\n";
        let mut text = text.replacen(name, &format!("{name}approvals = {needed}\n"), 1);
        for name in operators {
            let key = std::fs::read_to_string(host.path(format!("id/{name}.pub"))).expect("reads");
            let table = format!("[operator.{name}]\nkey = \"{}\"\n", key.trim());
            text.push_str(&table);
        }
        text
    });
    host.learn_secrets();
    for name in operators {
        let key = std::fs::read_to_string(host.path(format!("id/{name}"))).expect("reads");
        // The lines before hold the public half, too.
        let lines: Vec<&str> = key.lines().collect();
        host.learn_secret(lines[4]);
    }
}

fn change(host: &Host, change: impl FnOnce(String) -> String) {
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let changed = change(text.clone());
    assert_ne!(text, changed);
    write(&file, changed);
}

/// A host whose restores two of three must approve, and its backup.
fn host() -> (Host, String) {
    let host = Host::new();
    require(&host, 2, &["alice", "bob", "carol"]);
    let label = host.backup();
    (host, label)
}

/// Signs a plan as its operator does, and tells where the signature is.
fn sign_for(host: &Host, operator: &str, namespace: &str, plan: &str) -> String {
    let signature = host.path(format!("{plan}.{operator}.{namespace}.sig"));
    let status = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(host.path(format!("id/{operator}")))
        .stdin(File::open(host.path(plan)).expect("the plan"))
        .stdout(File::create(&signature).expect("a file"))
        .stderr(Stdio::null())
        .status();
    assert!(status.expect("ssh-keygen").success());
    signature.to_str().expect("UTF-8").to_owned()
}

fn sign(host: &Host, operator: &str, plan: &str) -> String {
    sign_for(host, operator, "strongroom-plan", plan)
}

/// Runs a command with a plan and signatures of it.
fn approved(host: &Host, command: &[&str], plan: &str, signatures: &[String]) -> Outcome {
    let mut arguments = host.with_identities(command);
    arguments.extend(["--plan".to_owned(), host.text(plan)]);
    for signature in signatures {
        arguments.extend(["--approval".to_owned(), signature.clone()]);
    }
    host.run(&arguments)
}

fn restore(host: &Host, plan: &str, signatures: &[String]) -> Outcome {
    approved(host, &["restore", "--apply"], plan, signatures)
}

/// Writes the plan of a restore in place.
fn plan(host: &Host, file: &str) -> Value {
    let text = host.text(file);
    let arguments = host.with_identities(&["restore", "--plan", &text, "--json"]);
    host.ok(&arguments).document()["plan"].clone()
}

#[test]
fn two_operators_let_a_plan_run_once_and_are_on_record() {
    let (host, label) = host();
    let wanted = host.contents();
    std::fs::remove_file(host.path("ca/private/ca.key.pem")).expect("removes");
    host.run(&host.with_identities(&["restore", "--apply"]))
        .exits(4)
        .says("2 operators must approve the plan first");
    host.ok(&host.with_identities(&["restore"]))
        .says("Nothing was changed");
    let file = host.text("plan.json");
    host.ok(&host.with_identities(&["restore", "--plan", &file]))
        .says("ssh-keygen -Y sign -f KEY -n strongroom-plan FILE")
        .says("2 of alice, bob, carol");
    host.run(&host.with_identities(&["restore", "--plan", &file]))
        .exits(2)
        .says("exists already");
    let text = std::fs::read_to_string(&file).expect("reads");
    let written: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(written["scope"]["work"]["restore"]["label"], label.as_str());

    let signatures = [
        sign(&host, "carol", "plan.json"),
        sign(&host, "alice", "plan.json"),
    ];
    approved(
        &host,
        &["restore", "latest", "--apply"],
        "plan.json",
        &signatures,
    )
    .exits(2)
    .says("leave out backup, assets and places");
    approved(&host, &["restore"], "plan.json", &signatures)
        .exits(2)
        .says("add --apply");
    let done = approved(
        &host,
        &["restore", "--apply", "--json"],
        "plan.json",
        &signatures,
    );
    let done = done.exits(0).document();
    assert_eq!(
        done["approved"]["operators"],
        serde_json::json!(["alice", "carol"])
    );
    assert_eq!(host.contents(), wanted);

    // The record says who, and stock tools can tell it too.
    let id = done["approved"]["id"].as_str().expect("an id");
    let place = host.path(format!("host/state/approvals/{id}"));
    let record = std::fs::read_to_string(place.join("record.json")).expect("a record");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(
        record["payloadType"],
        "application/vnd.strongroom.approval+json"
    );
    assert_eq!(record["signatures"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        std::fs::read_to_string(place.join("plan.json")).expect("reads"),
        text
    );
    let public = std::fs::read_to_string(host.path("id/alice.pub")).expect("reads");
    write(&host.path("signers"), format!("alice {public}"));
    let verified = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-n", "strongroom-plan", "-I", "alice", "-f"])
        .arg(host.path("signers"))
        .arg("-s")
        .arg(place.join("alice.sig"))
        .stdin(File::open(&file).expect("the plan"))
        .output();
    assert!(verified.expect("ssh-keygen").status.success());

    host.ok(&["restore", "--sign-off"]);
    std::fs::remove_file(host.path("ca/private/ca.key.pem")).expect("removes");
    restore(&host, "plan.json", &signatures)
        .exits(4)
        .says("this plan was used before");
    assert!(!host.path("ca/private/ca.key.pem").exists());
}

#[test]
fn who_does_not_approve_this_very_plan_does_not_count() {
    let (host, _) = host();
    let stranger = host.text("id/mallory");
    must(
        "ssh-keygen",
        &["-q", "-t", "ed25519", "-N", "", "-f", &stranger],
    );
    std::fs::remove_file(host.path("ca/private/ca.key.pem")).expect("removes");
    let before = host.contents();
    for name in ["plan.json", "other.json"] {
        plan(&host, name);
    }
    let alice = sign(&host, "alice", "plan.json");
    let bob = sign(&host, "bob", "plan.json");
    let refused = |signatures: &[&String], says: &str| {
        let signatures: Vec<String> = signatures.iter().map(|one| (*one).clone()).collect();
        restore(&host, "plan.json", &signatures)
            .exits(4)
            .says(says)
            .says("Nothing was changed");
        assert_eq!(host.contents(), before, "{says}");
    };
    refused(&[&alice], "1 of 2 operators have approved");
    refused(&[&alice, &alice], "alice has signed already");
    refused(
        &[&alice, &sign(&host, "mallory", "plan.json")],
        "that of no operator",
    );
    refused(
        &[&alice, &sign(&host, "bob", "other.json")],
        "it is not of this plan",
    );
    refused(
        &[&alice, &sign_for(&host, "bob", "file", "plan.json")],
        "not with -n strongroom-plan",
    );
    refused(&[&alice, &host.text("id/bob.pub")], "no signature made by");
    // One bad signature among enough good ones: somebody is mistaken, or worse.
    let carol = sign(&host, "carol", "other.json");
    refused(&[&alice, &bob, &carol], "it is not of this plan");

    // What was signed is what counts, byte by byte.
    let text = std::fs::read_to_string(host.path("plan.json")).expect("reads");
    for (from, to) in [
        ("ca.key.pem", "ca.key.bad"),
        ("\"approvals\": 2", "\"approvals\": 1"),
    ] {
        write(&host.path("plan.json"), text.replacen(from, to, 1));
        refused(&[&alice, &bob], "it is not of this plan");
    }
    write(&host.path("plan.json"), text.replace('\n', " "));
    refused(&[&alice, &bob], "it is not as Strongroom wrote it");
    write(&host.path("plan.json"), &text[..text.len() / 2]);
    refused(&[&alice, &bob], "this is no plan");
    write(&host.path("plan.json"), &text);
    restore(&host, "plan.json", &[alice, bob]).exits(0);
}

#[test]
fn a_plan_that_has_expired_is_nothing_any_more() {
    let (host, _) = host();
    std::fs::remove_file(host.path("ca/private/ca.key.pem")).expect("removes");
    plan(&host, "plan.json");
    let text = std::fs::read_to_string(host.path("plan.json")).expect("reads");
    let written: Value = serde_json::from_str(&text).expect("JSON");
    let expires = written["expires"].as_str().expect("a time");
    // All operators sign a plan of long ago, and one of the future.
    for (key, time, says) in [
        ("expires", "2026-01-01T00:00:00Z", "the plan has expired"),
        ("made", "2999-01-01T00:00:00Z", "made later than now"),
    ] {
        let old = written[key].as_str().expect("a time");
        write(&host.path("late.json"), text.replacen(old, time, 1));
        let signatures = ["alice", "bob"].map(|name| sign(&host, name, "late.json"));
        restore(&host, "late.json", &signatures).exits(4).says(says);
    }
    assert!(!host.path("ca/private/ca.key.pem").exists());
    assert!(expires > written["made"].as_str().expect("a time"));
}

#[test]
fn what_changed_since_is_shown_and_nothing_is_done() {
    let (host, _) = host();
    std::fs::remove_file(host.path("ca/private/ca.key.pem")).expect("removes");
    plan(&host, "plan.json");
    let signatures = ["alice", "bob"].map(|name| sign(&host, name, "plan.json"));
    let differs = |says: &[&str]| {
        let mut refused = restore(&host, "plan.json", &signatures)
            .exits(4)
            .says("what would be done now is not what was signed");
        for text in says {
            refused = refused.says(text);
        }
        assert!(!host.path("ca/private/ca.key.pem").exists());
    };
    // The target.
    let config = std::fs::read(host.path("ca/conf/ca.toml")).expect("reads");
    std::fs::remove_file(host.path("ca/conf/ca.toml")).expect("removes");
    differs(&["ca.toml].replaces: signed is", "now it is nothing"]);
    write(&host.path("ca/conf/ca.toml"), config);
    must("chmod", &["644", &host.text("ca/conf/ca.toml")]);
    // A log that grows, and a database that is written to, are no other plan.
    write(&host.path("ca/var/log/ca.log"), "rotated\n");
    host.insert(5000, 1);

    // The repository: somebody took the keys away.
    let writer = std::fs::read_dir(host.path("repo/keysafe/envelopes")).expect("reads");
    let writer = writer
        .map(|entry| entry.expect("reads").path())
        .next()
        .expect("one");
    std::fs::rename(&writer, host.path("taken")).expect("renames");
    differs(&[
        "ca-key",
        "is signed, and is not in it now",
        "backups: keysafe",
    ]);
    std::fs::rename(host.path("taken"), &writer).expect("renames");

    // The rule.
    let file = host.path("host/strongroom.toml");
    let rule = std::fs::read_to_string(&file).expect("reads");
    change(&host, |text| text.replace("approvals = 2", "approvals = 1"));
    differs(&["approvals: signed is 2, now it is 1"]);
    write(&file, &rule);
    require_key_of(&host, "carol", "dave");
    differs(&["operators.carol: signed is SHA256:"]);
    write(&file, rule);
    restore(&host, "plan.json", &signatures).exits(0);
}

/// Gives an operator another key.
fn require_key_of(host: &Host, operator: &str, key: &str) {
    must(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            &host.text(&format!("id/{key}")),
        ],
    );
    let read = |name: &str| {
        let text = std::fs::read_to_string(host.path(format!("id/{name}.pub"))).expect("reads");
        text.trim().to_owned()
    };
    change(host, |text| text.replace(&read(operator), &read(key)));
}

#[test]
fn a_plan_is_for_its_host_and_its_command() {
    let (host, _) = host();
    plan(&host, "plan.json");
    let signatures = ["alice", "bob"].map(|name| sign(&host, name, "plan.json"));
    approved(&host, &["export"], "plan.json", &signatures)
        .exits(2)
        .says("the plan is one of restore, not of export");
    let name = host.path("host/state/approvals/name");
    std::fs::remove_file(name).expect("removes");
    restore(&host, "plan.json", &signatures)
        .exits(4)
        .says("state: signed is");
}

#[test]
fn an_export_and_an_expiry_are_approved_too() {
    let (host, label) = host();
    let out = host.text("out");
    host.run(&host.with_identities(&["export", "latest", "--out", &out]))
        .exits(4)
        .says("2 operators must approve");
    let file = host.text("export.json");
    let arguments = ["export", "latest", "--out", &out, "--plan", &file];
    host.ok(&host.with_identities(&arguments))
        .says("The plan is in");
    assert!(!host.path("out").exists());
    let signatures = ["alice", "bob"].map(|name| sign(&host, name, "export.json"));
    approved(&host, &["export"], "export.json", &signatures[..1]).exits(4);
    approved(&host, &["export"], "export.json", &signatures)
        .exits(0)
        .says("Approved by alice and bob")
        .says(&format!("Exported {label}"));
    assert!(host.path("out/SHA256SUMS").exists());

    change(&host, |text| {
        text + "[repository.offsite.retention]\nkeep_last = 1\n[repository.keysafe.retention]\nkeep_last = 1\n"
    });
    host.insert(6000, 10);
    let second = host.backup();
    host.ok(&["verify"]);
    host.run(&["expire", "--apply"])
        .exits(4)
        .says("2 operators must approve");
    let file = host.text("expire.json");
    host.ok(&["expire", "--plan", &file]);
    let signatures = ["carol", "bob"].map(|name| sign(&host, name, "expire.json"));
    let expire = |signatures: &[String]| {
        let mut arguments = vec![
            "expire".to_owned(),
            "--apply".to_owned(),
            "--plan".to_owned(),
        ];
        arguments.push(file.clone());
        for signature in signatures {
            arguments.extend(["--approval".to_owned(), signature.clone()]);
        }
        host.run(&arguments)
    };
    // A backup more, and other backups would go.
    host.insert(7000, 10);
    let third = host.backup();
    host.ok(&["verify"]);
    expire(&signatures).exits(4).says(&format!("{second} "));
    let labels = host.ok(&["list", "--json"]).document();
    assert_eq!(labels["backups"].as_array().map(Vec::len), Some(3));
    std::fs::remove_file(&file).expect("removes");
    host.ok(&["expire", "--plan", &file]);
    let signatures = ["carol", "bob"].map(|name| sign(&host, name, "expire.json"));
    expire(&signatures)
        .exits(0)
        .says("Approved by bob and carol");
    let left = host.ok(&["list", "--json"]).document();
    assert_eq!(left["backups"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["backups"][0]["label"], third.as_str());
    host.ok(&["verify", "--all"]);
}

#[test]
fn only_an_approved_restore_is_resumed() {
    let host = Host::new();
    let label = host.backup();
    let wanted = host.contents();
    std::fs::remove_file(host.path("ca/private/ca.key.pem")).expect("removes");
    // A restore that nobody approved was begun before the rule, or by who has the state directory.
    let object = object_of_key(&host, &label);
    // The key itself is damaged: a restore finds that out when it has begun.
    let interrupt = |run: &dyn Fn() -> Outcome| {
        let good = std::fs::read(&object).expect("reads");
        must("chmod", &["u+w", object.to_str().expect("UTF-8")]);
        write(&object, vec![0; good.len()]);
        run().exits(1);
        write(&object, good);
        assert!(host.path("host/state/restore/plan.json").exists());
    };
    interrupt(&|| host.run(&host.with_identities(&["restore", &label, "ca-key", "--apply"])));
    require(&host, 2, &["alice", "bob"]);
    host.run(&host.with_identities(&["restore", "--resume"]))
        .exits(4)
        .says("no approved plan is on record");
    host.ok(&["restore", "--undo"]);

    let file = host.text("plan.json");
    host.ok(&host.with_identities(&["restore", &label, "ca-key", "--plan", &file]));
    let signatures = ["alice", "bob"].map(|name| sign(&host, name, "plan.json"));
    interrupt(&|| restore(&host, "plan.json", &signatures));
    restore(&host, "plan.json", &signatures)
        .exits(4)
        .says("used before");
    let resumed = host.ok(&host.with_identities(&["restore", "--resume", "--json"]));
    let resumed = resumed.document();
    assert_eq!(
        resumed["approved"]["operators"],
        serde_json::json!(["alice", "bob"])
    );
    assert_eq!(host.contents(), wanted);
}

/// Where the CA key of a backup lies.
fn object_of_key(host: &Host, label: &str) -> std::path::PathBuf {
    let shown = host.ok(&host.with_identities(&["show", label, "--json"]));
    let shown = shown.document();
    let mut assets = shown["assets"].as_array().expect("assets").iter();
    let key = assets.find(|asset| asset["name"] == "ca-key");
    let object = &key.expect("the key")["streams"][0]["object"];
    let object = object.as_str().expect("an artifact");
    host.path(format!(
        "repo/keysafe/objects/{}/{object}.age",
        &object[..2]
    ))
}
