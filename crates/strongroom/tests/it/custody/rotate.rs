//! Custodians change: rotation and revocation.

use super::{Ceremony, create};
use crate::fixture::{Host, Outcome, copy_tree, must, write};
use crate::reader::must_read;

/// A host whose keys were in the custody of one set and are in that of another now.
struct Rotated {
    ceremony: Ceremony,
    /// A backup before the rotation, and one after it.
    labels: [String; 2],
    /// The arguments that give a quorum of each set.
    quorums: [Vec<String>; 2],
}

impl Rotated {
    fn new() -> Self {
        let ceremony = Ceremony::new();
        let host = &ceremony.host;
        let old = host.backup();
        let objects = host.path("repo/keysafe/objects");
        copy_tree(&objects, &host.path("objects-before"));
        let recipient = create(host, "next-keys", "next");
        assert_ne!(recipient, ceremony.recipient);
        write(&host.path("id/next.pub"), &recipient);
        host.configure_sealed_to("database", "next", "");
        ceremony.learn("next", "next-keys");
        let quorums = ["ceremony", "next"].map(|directory| {
            let names = ["operations", "bank-safe", "deputy"].iter();
            let share = |name| host.text(&format!("{directory}/{name}.share"));
            names
                .flat_map(|name| ["--share".to_owned(), share(name)])
                .collect()
        });
        let [old_quorum, new_quorum]: &[Vec<String>; 2] = &quorums;
        let plan = with(host, &["custody", "rotate"], &[]).exits(0);
        plan.says("keysafe: epochs to seal to the recipients of the configuration: 1;")
            .says("Nothing was changed");
        host.run(&["backup"]).exits(4);
        with(host, &["custody", "rotate", "--apply"], new_quorum)
            .exits(4)
            .says("the share of deputy is of the set");
        with(host, &["custody", "rotate", "--apply"], old_quorum).exits(0);
        let again = with(host, &["custody", "rotate"], &[]).exits(0);
        again.says("keysafe: epochs to seal to the recipients of the configuration: 0;");
        must(
            "diff",
            &[
                "-r",
                objects.to_str().expect("UTF-8"),
                &host.text("objects-before"),
            ],
        );
        let new = host.backup();
        let again = with(host, &["custody", "rotate"], &[]).exits(0);
        again.says("configuration: 0; sealed to them: 2");
        Self {
            ceremony,
            labels: [old, new],
            quorums,
        }
    }

    fn restore(&self, label: &str, out: &str, quorum: &[String]) -> Outcome {
        let host = &self.ceremony.host;
        let target = host.text(out);
        with(
            host,
            &["restore", label, "ca-key", "--to-dir", &target, "--apply"],
            quorum,
        )
    }
}

fn with(host: &Host, arguments: &[&str], more: &[String]) -> Outcome {
    let mut all: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
    all.extend_from_slice(more);
    host.run(&all)
}

#[test]
fn after_a_rotation_the_new_quorum_opens_old_and_new_and_the_old_one_nothing_new() {
    let rotated = Rotated::new();
    let [old, new] = &rotated.labels;
    let [old_quorum, new_quorum] = &rotated.quorums;
    rotated.restore(old, "old-by-new", new_quorum).exits(0);
    rotated.ceremony.key_is_back("old-by-new");
    rotated.restore(new, "new-by-new", new_quorum).exits(0);
    rotated.ceremony.key_is_back("new-by-new");
    rotated.restore(old, "old-by-old", old_quorum).exits(0);
    rotated.restore(new, "new-by-old", old_quorum).exits(12);
    let host = &rotated.ceremony.host;
    host.ok(&["verify", "--all"]);
    let place = host.text("repo/keysafe");
    let files = new_quorum.iter().filter(|one| *one != "--share");
    let files: Vec<&str> = files.map(String::as_str).collect();
    must_read(&[&["verify", &place, "--share"][..], &files].concat());
}

#[test]
fn a_revocation_takes_nothing_away_and_says_so() {
    let rotated = Rotated::new();
    let host = &rotated.ceremony.host;
    let [old, _] = &rotated.labels;
    let revoke = |set: &str, why: &str| host.run(&["custody", "revoke", set, "--reason", why]);
    revoke("nobody", "x")
        .exits(4)
        .says("there is no set \"nobody\"");
    revoke("ca-keys", " ").exits(2);
    revoke("ca-keys", "a sheet was seen")
        .exits(0)
        // All of it may happen within one second, which is how exact the times are.
        .says("still opens backups up to ")
        .says("; epochs: at most ")
        .says("offsite: nothing was ever sealed to it");
    rotated
        .restore(old, "old-revoked", &rotated.quorums[0])
        .exits(0)
        .says("was revoked: a sheet was seen");
    host.ok(&["custody", "show"]).says("Revoked at");
    host.run(&["custody", "show", "ca-keyz"])
        .exits(4)
        .says("there is no set \"ca-keyz\"");
    assert!(!host.run(&["check"]).has("custody-revoked"));
    revoke("next-keys", "too")
        .exits(3)
        .says("repository keysafe is sealed to it");
    host.run(&["check"])
        .exits(3)
        .says("backups are sealed to these custodians, who were revoked: too");
}
