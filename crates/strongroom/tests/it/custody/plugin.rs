//! A custodian whose share lies behind a plugin of age: a real one, one that is not there, one that refuses, one that ends.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use strongroom_testkit::servers::plugin::{Plugin, with_first};

use super::line_of;
use super::restore::Waiting;
use crate::fixture::{Host, Outcome, must, write};

/// Speaks the plugin protocol and gives nothing.
const REFUSES: &str = r#"#!/usr/bin/env python3
import sys
lines = sys.stdin.buffer
while (line := lines.readline()) and line != b"-> done\n":
    pass
lines.readline()
kind = "recipient" if sys.argv[1].endswith("recipient-v1") else "identity"
# "the device was not touched"
sys.stdout.write(f"-> error {kind} 0\ndGhlIGRldmljZSB3YXMgbm90IHRvdWNoZWQ\n")
sys.stdout.flush()
lines.readline(), lines.readline()
sys.stdout.write("-> done\n\n")
"#;

/// Ends at once.
const ENDS: &str = "#!/bin/sh\nexit 1\n";

/// The plugins that give nothing, and what is said then.
const BROKEN: [(&str, &str); 2] = [
    ("refuses", "the device was not touched"),
    ("ends", "unexpectedly died"),
];

/// Two of three: a custodian with a plugin, one with an identity, one with paper.
struct Ceremony {
    host: Host,
    plugin: Plugin,
    /// The PATH with the plugin.
    path: OsString,
}

impl Ceremony {
    /// None, and said so, where the plugin cannot be built.
    fn new(test: &str) -> Option<Self> {
        let plugin = Plugin::build(&format!("custody::plugin::{test}"))?;
        let host = Host::new();
        let recipient = plugin.identity(&host.path("id/officer"));
        assert!(recipient.starts_with("age1pq1"), "{recipient}");
        write(&host.path("id/officer.pub"), recipient);
        let file = host.text("id/operations");
        let made = host.ok(&["identity", "new", "--no-passphrase", "--out", &file]);
        write(&host.path("id/operations.pub"), made.stdout.trim());
        let secret = std::fs::read_to_string(host.path("id/officer")).expect("reads");
        host.learn_secret(secret.trim());
        for (name, content) in [("refuses", REFUSES), ("ends", ENDS)] {
            let program = host.path(name).join("age-plugin-pq");
            write(&program, content);
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("sets");
        }
        std::fs::create_dir(host.path("nothing")).expect("creates");
        let path = plugin.path();
        Some(Self { host, plugin, path })
    }

    /// Runs the program where this is the PATH.
    fn run(&self, path: &OsStr, arguments: &[&str]) -> Outcome {
        self.host
            .finish(self.host.command(arguments).env("PATH", path))
    }

    /// Where no plugin is.
    fn nothing(&self) -> OsString {
        self.host.path("nothing").into()
    }

    fn instead(&self, name: &str) -> OsString {
        with_first(&self.host.path(name))
    }

    fn create(&self, path: &OsStr) -> Outcome {
        let out = self.host.text("ceremony");
        let custodian = |name: &str| format!("{name}={}", self.host.recipient(name));
        let (officer, operations) = (custodian("officer"), custodian("operations"));
        let arguments = [
            "custody",
            "create",
            "ca-keys",
            "--threshold",
            "2",
            "--custodian",
            &officer,
            "--custodian",
            &operations,
            "--paper",
            "bank-safe",
            "--out",
            &out,
            "--json",
        ];
        self.run(path, &arguments)
    }

    fn share(&self, name: &str) -> String {
        self.host
            .text(&format!("ceremony/ca-keys.{name}.share.age"))
    }

    /// Makes the set, seals the keys to it, and takes a backup, for which nobody needs the plugin.
    fn hold(&self) {
        let host = &self.host;
        let made = self.create(&self.path).exits(0).document();
        let recipient = made["recipient"].as_str().expect("a recipient");
        write(&host.path("id/quorum.pub"), recipient);
        host.configure_sealed_to("database", "quorum", "");
        let nothing = self.nothing();
        self.run(&nothing, &["init", "--accept-recipients", "keysafe"])
            .exits(0);
        self.run(&nothing, &["backup"]).exits(0);
        for name in ["officer", "operations"] {
            // The program `age` opens it as well, with the same plugin.
            let identity = host.text(&format!("id/{name}"));
            let mut age = Command::new("age");
            age.args(["-d", "-i", &identity, &self.share(name)]);
            let opened = age.env("PATH", &self.path).output().expect("age starts");
            let text = String::from_utf8(opened.stdout).expect("text");
            host.learn_secret(line_of(&text));
        }
    }

    /// A restore of the CA key with these shares, each with its identity.
    fn restore(&self, path: &OsStr, out: &str, names: &[&str]) -> Outcome {
        let out = self.host.text(out);
        let mut all = ["restore", "latest", "ca-key", "--to-dir", &out, "--apply"]
            .map(str::to_owned)
            .to_vec();
        for name in names {
            all.extend(["--share".to_owned(), self.share(name)]);
            all.extend(["-i".to_owned(), self.host.text(&format!("id/{name}"))]);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.run(path, &all)
    }

    #[track_caller]
    fn key_is_back(&self, out: &str) {
        super::key_is_back(&self.host, out);
    }
}

#[test]
fn a_share_behind_a_plugin_is_rehearsed_and_opens_with_a_quorum() {
    let test = "a_share_behind_a_plugin_is_rehearsed_and_opens_with_a_quorum";
    let Some(ceremony) = Ceremony::new(test) else {
        return;
    };
    let host = &ceremony.host;
    ceremony.hold();
    // On the custodian's machine: the plugin is there, a configuration is not.
    let (record, statement) = (
        host.text("ceremony/ca-keys.custody.json"),
        host.text("statement.json"),
    );
    let (share, identity) = (ceremony.share("officer"), host.text("id/officer"));
    let rehearse = [
        "custody",
        "rehearse",
        "--record",
        &record,
        "--share",
        &share,
        "--identity",
        &identity,
        "--out",
        &statement,
    ];
    ceremony
        .run(&ceremony.path, &rehearse)
        .exits(0)
        .says("Proved: the share of officer of ca-keys");
    let nothing = ceremony.nothing();
    ceremony
        .run(&nothing, &["custody", "import", &statement])
        .exits(0);
    let shown = ceremony.run(&nothing, &["custody", "show", "--json"]);
    let shown = shown.exits(0).document();
    let officer = &shown["sets"][0]["custodians"][0];
    assert_eq!(officer["recipient"], host.recipient("officer").trim());
    assert!(officer["rehearsed"].is_string(), "{officer}");
    let table = ceremony.run(&nothing, &["custody", "show"]).exits(0);
    let widest = table.stdout.lines().map(|line| line.chars().count()).max();
    assert!(
        widest < Some(200),
        "a recipient of 1959 characters: {widest:?}"
    );
    ceremony
        .restore(&ceremony.path, "back", &["officer", "operations"])
        .exits(0);
    ceremony.key_is_back("back");
    let alone = ceremony.restore(&ceremony.path, "alone", &["officer"]);
    alone
        .exits(4)
        .says("1 of 2 shares are there: the share of officer");
    // Another identity of the same plugin.
    must("mv", &[&identity, &host.text("id/lost")]);
    ceremony.plugin.identity(&host.path("id/officer"));
    ceremony
        .restore(&ceremony.path, "strange", &["officer", "operations"])
        .exits(4)
        .says("none of the identities given opens this sealed share");
    assert!(!host.path("alone").exists() && !host.path("strange").exists());
}

#[test]
fn a_ceremony_whose_plugin_is_missing_or_refuses_makes_nothing() {
    let test = "a_ceremony_whose_plugin_is_missing_or_refuses_makes_nothing";
    let Some(ceremony) = Ceremony::new(test) else {
        return;
    };
    let host = &ceremony.host;
    ceremony
        .create(&ceremony.nothing())
        .exits(2)
        .says("custodian officer: the program age-plugin-pq that seals to this recipient was not found")
        .says("Install the plugin on this machine");
    assert!(!host.path("ceremony").exists());
    for (name, says) in BROKEN {
        ceremony
            .create(&ceremony.instead(name))
            .exits(1)
            .says("custodian officer: cannot seal")
            .says(says)
            .says("Nothing was made");
        let left = std::fs::read_dir(host.path("ceremony")).expect("reads");
        assert_eq!(left.count(), 0, "{name}");
    }
    host.ok(&["custody", "show"])
        .says("No identity is in custody here");
    ceremony.create(&ceremony.path).exits(0);
}

#[test]
fn a_plugin_that_is_missing_or_refuses_at_a_quorum_is_named_and_the_others_go_on() {
    let test = "a_plugin_that_is_missing_or_refuses_at_a_quorum_is_named_and_the_others_go_on";
    let Some(ceremony) = Ceremony::new(test) else {
        return;
    };
    let host = &ceremony.host;
    ceremony.hold();
    let both = ["officer", "operations"];
    ceremony
        .restore(&ceremony.nothing(), "never", &both)
        .exits(2)
        .says("the program age-plugin-pq that ")
        .says("id/officer needs was not found")
        .says("leave that identity out");
    for (name, says) in BROKEN {
        ceremony
            .restore(&ceremony.instead(name), "never", &both)
            .exits(4)
            .says("ca-keys.officer.share.age: this sealed share was not opened: ")
            .says(says)
            .says("1 of 2 shares are there: the share of operations");
    }
    assert!(!host.path("never").exists());
    // The custodians who wait for him give theirs from sessions of their own.
    let (socket, out) = (host.text("quorum"), host.text("waited"));
    let waiting = host.command(&[
        "restore",
        "latest",
        "ca-key",
        "--to-dir",
        &out,
        "--apply",
        "--quorum-socket",
        &socket,
    ]);
    let (mut waiting, _) = Waiting::start(waiting);
    let give = |path: &OsStr, name: &str| {
        let (share, identity) = (ceremony.share(name), host.text(&format!("id/{name}")));
        let arguments = [
            "custody", "combine", "--socket", &socket, "--share", &share, "-i", &identity,
        ];
        ceremony.run(path, &arguments)
    };
    give(&ceremony.nothing(), "officer")
        .exits(2)
        .says("ca-keys.officer.share.age: this share was not opened: the program age-plugin-pq")
        .says("Install the plugin");
    give(&ceremony.instead("refuses"), "officer")
        .exits(12)
        .says("ca-keys.officer.share.age: this sealed share was not opened: 'age-plugin-pq'")
        .says("the device was not touched")
        .says("try again");
    give(&ceremony.instead("ends"), "officer")
        .exits(12)
        .says("unexpectedly died");
    give(&ceremony.nothing(), "operations")
        .exits(0)
        .says("1 of 2, 1 to come");
    give(&ceremony.path, "officer").exits(0).says("enough");
    assert!(waiting.child.wait().expect("ends").success());
    ceremony.key_is_back("waited");
    // A plugin that refuses keeps enough others from nothing, though its identity comes first.
    let paper = super::scanned(&host.path("ceremony/ca-keys.bank-safe.pdf"));
    host.learn_secret(paper.trim());
    write(&host.path("paper"), paper);
    let (out, paper) = (host.text("others"), host.text("paper"));
    let (officer, operations) = (ceremony.share("officer"), ceremony.share("operations"));
    let (first, second) = (host.text("id/officer"), host.text("id/operations"));
    let arguments = [
        "restore",
        "latest",
        "ca-key",
        "--to-dir",
        &out,
        "--apply",
        "-i",
        &first,
        "-i",
        &second,
        "--share",
        &officer,
        "--share",
        &operations,
        "--share",
        &paper,
    ];
    for name in ["refuses", "ends"] {
        let told = ceremony.run(&ceremony.instead(name), &arguments).exits(0);
        told.says("ca-keys.officer.share.age: this sealed share was not opened");
        ceremony.key_is_back("others");
        must("rm", &["-r", &out]);
    }
}

#[test]
fn a_plugin_that_refuses_to_open_a_backup_is_not_called_damage() {
    let test = "a_plugin_that_refuses_to_open_a_backup_is_not_called_damage";
    let Some(ceremony) = Ceremony::new(test) else {
        return;
    };
    let host = &ceremony.host;
    host.configure_sealed_to("database", "officer", "");
    ceremony
        .run(&ceremony.path, &["init", "--accept-recipients", "keysafe"])
        .exits(0);
    ceremony.run(&ceremony.path, &["backup"]).exits(0);
    let (out, identity) = (host.text("back"), host.text("id/officer"));
    let restore = [
        "restore", "latest", "ca-key", "--to-dir", &out, "--apply", "-i", &identity,
    ];
    for (name, says) in BROKEN {
        let refused = ceremony.run(&ceremony.instead(name), &restore).exits(12);
        assert!(!refused.has("damaged"), "{}", refused.stderr);
        refused.says(says).says("try again");
    }
    ceremony.run(&ceremony.path, &restore).exits(0);
    ceremony.key_is_back("back");
}
