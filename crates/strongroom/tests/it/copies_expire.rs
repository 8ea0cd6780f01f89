//! Copies with a retention of their own: what the original let go is restored from them, what they let go stays away.

use std::collections::BTreeMap;

use serde_json::Value;
use strongroom_testkit::servers::minio::{Account, Kind, Minio, Options};

use crate::fixture::{Contents, Host, Random};
use crate::lots::{killed, timed};
use crate::reader::{must_read, read};

const WRITER: &str = include_str!("../../../../docs/policies/s3-writer.json");
const EXPIRER: &str = include_str!("../../../../docs/policies/s3-expirer.json");

/// A host whose offsite repository has a copy, with what each of its backups held.
struct Copied {
    host: Host,
    /// In the order in which they were taken.
    made: Vec<String>,
    held: BTreeMap<String, Contents>,
}

impl Copied {
    /// `second` is the table of the copy below its header, `more` what comes before it.
    fn new(host: Host, second: &str, more: &str) -> Self {
        host.configure(&format!(
            "{more}\n[repository.second]\ncopy_of = \"offsite\"\n{second}\n"
        ));
        host.ok(&["init"]);
        Self {
            host,
            made: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    fn on_disk(retention: &str, more: &str) -> Self {
        let host = Host::new();
        let url = format!("url = \"file://{}/repo/second\"", host.root.display());
        let second = format!("{url}\n[repository.second.retention]\n{retention}");
        Self::new(host, &second, more)
    }

    /// Takes backups, each copied.
    fn backups(&mut self, count: u32) {
        for _ in 0..count {
            let number = u32::try_from(self.held.len()).expect("few");
            self.host.insert(1000 + number * 50, 40);
            let label = self.host.backup();
            self.held.insert(label.clone(), self.host.contents());
            self.made.push(label);
            self.host.ok(&["copy"]);
        }
    }

    /// The backups that have their part in the repository, or in the copy that is read in its place.
    fn listed(&self, more: &[&str]) -> Vec<String> {
        let arguments = [&["list", "--json"], more].concat();
        let document = self.host.ok(&arguments).document();
        let backups = document["backups"].as_array().expect("a list").iter();
        let is_there = |one: &&Value| {
            let places = one["repositories"].as_array().expect("a list");
            places.iter().any(|name| name == "offsite")
        };
        let there: Vec<Value> = backups.filter(is_there).cloned().collect();
        labels(&Value::from(there))
    }

    /// Restores a backup, its databases from the copy.
    fn restore_from_copy(&self, label: &str) {
        let out = format!("out-{}-{label}", self.held.len());
        let place = self.host.text(&out);
        let restore = [
            "restore", label, "--from", "second", "--to-dir", &place, "--apply",
        ];
        self.host.ok(&self.host.with_identities(&restore));
        assert_eq!(self.host.restored(&out), self.held[label], "{label}");
    }
}

fn labels(list: &Value) -> Vec<String> {
    let list = list.as_array().expect("a list").iter();
    list.map(|one| one["label"].as_str().expect("a label").to_owned())
        .collect()
}

fn part<'d>(document: &'d Value, name: &str) -> &'d Value {
    let mut all = document["repositories"].as_array().expect("a list").iter();
    all.find(|one| one["repository"] == name).expect("is there")
}

const ONE_EACH: &str = "[repository.offsite.retention]\nkeep_last = 1\n[repository.keysafe.retention]\nkeep_last = 1\n";

#[test]
fn a_backup_that_the_original_let_go_is_restored_from_the_copy() {
    let mut copied = Copied::on_disk("keep_last = 3", ONE_EACH);
    copied.backups(5);
    let (host, made) = (&copied.host, copied.made.clone());
    host.ok(&["verify"]);
    // What is not known to be good in the copy stops the copy alone.
    let plan = host.run(&["expire", "--json"]).exits(3).document();
    assert_eq!(plan["refusals"][0]["code"], "newest-unverified");
    assert_eq!(plan["refusals"][0]["copy"], "second");
    assert_eq!(labels(&part(&plan, "offsite")["going"]), made[..4]);
    host.run(&["expire", "second"]).exits(4).says(&format!(
        "strongroom verify {} --repository second",
        made[4]
    ));
    host.ok(&["verify", "--repository", "second"]);
    let done = host.ok(&["expire", "--apply", "--json"]).document();
    assert_eq!(part(&done, "offsite")["deleted"]["backups"], 4);
    assert_eq!(part(&done, "second")["deleted"]["backups"], 2);
    // The databases in the copy keep the keys of their runs.
    assert_eq!(part(&done, "keysafe")["deleted"]["backups"], 2);
    assert_eq!(
        part(&done, "keysafe")["kept"][1]["reasons"][0]["code"],
        "needed-by-database"
    );
    assert_eq!(copied.listed(&["--from", "second"]), made[2..]);
    copied.restore_from_copy(&made[2]);
    host.ok(&["verify", "--all", "--repository", "second"]);
    host.ok(&["verify", "--all", "--repository", "offsite"]);
    must_read(&["verify", &host.text("repo/second")]);
    // Neither side misses anything, and but for the record nothing goes back or forth.
    host.ok(&["copy"]).says("0 backups, 1 objects");
    host.ok(&["copy"]).says("second has all of offsite");
    host.ok(&["repair", "--from", "second"])
        .says("they stay there");
    host.ok(&["repair", "--from", "offsite", "--to", "second"])
        .says("Nothing is known to be damaged");
    host.ok(&["status"]);

    // A hold reaches the copy, also for a backup that only it has.
    host.ok(&["hold", &made[2], "--reason", "case 7"])
        .says("in keysafe, second");
    copied.backups(2);
    let host = &copied.host;
    host.ok(&["verify"]);
    host.ok(&["verify", "--repository", "second"]);
    host.ok(&["expire", "--apply"]).says("held: case 7");
    let kept = copied.listed(&["--from", "second"]);
    assert_eq!(kept, [&made[2..3], &copied.made[4..]].concat());
    copied.restore_from_copy(&made[2]);

    // A thief takes it from the copy. The record of the original, which let it go, does not hide that.
    let envelopes = host.path("repo/second/envelopes");
    let writer = std::fs::read_dir(envelopes).expect("reads").next();
    let writer = writer.expect("a writer").expect("reads").path();
    std::fs::remove_file(writer.join("0000000003.json")).expect("removes");
    host.run(&["list", "--from", "second"])
        .exits(3)
        .says("envelope 3 of writer");
    host.run(&["status"]).exits(3).says("envelope 3 of writer");
    let output = read(&["list", &host.text("repo/second")]);
    assert!(!output.status.success(), "the reader sees it, too");
    let refused = host.run(&["expire", "--json"]).exits(3).document();
    assert_eq!(refused["refusals"][0]["code"], "history");
    host.ok(&["list"]);
    host.ok(&["hold", &made[2], "--release", "--reason", "closed"]);
    host.ok(&["hold", "--list"]).says("No backup is held");
}

#[test]
fn a_copy_that_keeps_less_does_not_get_it_back() {
    let mut copied = Copied::on_disk("keep_last = 2", "");
    copied.backups(5);
    let (host, made) = (&copied.host, copied.made.clone());
    host.ok(&["verify"]);
    host.ok(&["verify", "--repository", "second"]);
    host.ok(&["expire", "second", "--apply"])
        .says("Repository second (copy of offsite) keeps 2 last.")
        .says("3 backups");
    assert_eq!(copied.listed(&["--from", "second"]), made[3..]);
    host.ok(&["copy"]).says("second has let go 3 backups");
    assert_eq!(copied.listed(&["--from", "second"]), made[3..]);
    let status = host.ok(&["status"]);
    assert!(!status.has("behind"), "{}", status.stdout);
    assert_eq!(copied.listed(&[]), made);
    host.ok(&["verify", "--all"]);
    copied.restore_from_copy(&made[3]);
    // What it lost without having let it go comes back.
    let host = &copied.host;
    let envelopes = host.path("repo/second/envelopes");
    let writer = std::fs::read_dir(envelopes).expect("reads").next();
    let writer = writer.expect("a writer").expect("reads").path();
    std::fs::remove_file(writer.join("0000000004.json")).expect("removes");
    host.run(&["list", "--from", "second"]).exits(3);
    host.ok(&["repair", "--from", "offsite", "--to", "second", "--apply"])
        .says("Brought back 1 objects");
    assert_eq!(copied.listed(&["--from", "second"]), made[3..]);
}

#[test]
fn a_killed_expiry_of_a_copy_leaves_what_verifies() {
    let mut copied = Copied::on_disk("keep_last = 2", "");
    copied.backups(12);
    let (host, made) = (&copied.host, copied.made.clone());
    host.ok(&["verify"]);
    host.ok(&["verify", "--repository", "second"]);
    let usual = timed(|| drop(host.ok(&["expire", "second"]))) * 2;
    let mut random = Random(20_261_127);
    for round in 0..6 {
        let expire = ["expire", "second", "--apply", "--quiet"];
        killed(host, &expire, usual, &mut random);
        // In between a copy runs, as the timer has it.
        host.ok(&["copy", "--quiet"]);
        let listed = copied.listed(&["--from", "second"]);
        assert!(listed.ends_with(&made[10..]), "round {round}: {listed:?}");
        host.ok(&["verify", "--all", "--repository", "second"]);
    }
    host.ok(&["expire", "second", "--apply"]);
    assert_eq!(copied.listed(&["--from", "second"]), made[10..]);
    host.ok(&["copy"]).says("second has let go 10 backups");
    copied.restore_from_copy(&made[10]);
}

#[test]
fn a_copy_in_a_bucket_expires_by_the_policies_of_the_guide() {
    let test = "copies_expire::a_copy_in_a_bucket_expires_by_the_policies_of_the_guide";
    let Some(server) = Minio::start(test, &Options::default()) else {
        return;
    };
    let host = Host::new();
    server.make_bucket("second", Kind::Plain);
    for (role, policy) in [("writer", WRITER), ("expirer", EXPIRER)] {
        let account = server.make_user(&format!("second-{role}"), policy, "second");
        account.write(&host.path("host"));
        host.learn_secret(&Account::new(&format!("second-{role}")).secret_key);
    }
    let second = format!(
        "url = \"s3://second/ca\"\nendpoint = \"{}\"\npath_style = true\ncredentials_file = \"second-writer.credentials\"\n\
         [repository.second.expirer]\ncredentials_file = \"second-expirer.credentials\"\n\
         [repository.second.retention]\nkeep_last = 3\n",
        server.endpoint()
    );
    let mut copied = Copied::new(host, &second, ONE_EACH);
    copied.backups(5);
    let (host, made) = (&copied.host, copied.made.clone());
    host.ok(&["verify"]);
    host.ok(&["verify", "--repository", "second"]);
    let done = host.ok(&["expire", "--apply", "--json"]).document();
    assert_eq!(part(&done, "second")["deleted"]["backups"], 2);
    assert_eq!(
        part(&done, "second")["deleted"]["refused"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    assert_eq!(copied.listed(&["--from", "second"]), made[2..]);
    host.ok(&["copy"]).says("0 backups");
    host.ok(&["verify", "--all", "--repository", "second"]);
    copied.restore_from_copy(&made[2]);
}
