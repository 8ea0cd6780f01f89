//! `kill -9` at moments drawn by lot: the next run works, and a restore ends as it was or as it shall be.

use std::path::PathBuf;
use std::time::Duration;

use crate::fixture::{Host, Random, copy_tree};
use crate::lots::{killed, random, timed};
use crate::snapshot::Snapshot;

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

fn labels(host: &Host) -> Vec<String> {
    let listed = host.ok(&["list", "--json"]).document();
    let backups = listed["backups"].as_array().expect("a list").clone();
    for backup in &backups {
        // A run that was killed between two envelopes is there, and not called complete.
        let missing = backup["missing_repositories"].as_array().expect("a list");
        let status = if missing.is_empty() {
            "complete"
        } else {
            "incomplete"
        };
        assert_eq!(backup["status"], status, "{backup}");
    }
    let whole = backups
        .iter()
        .filter(|backup| backup["status"] == "complete");
    whole
        .map(|backup| backup["label"].as_str().expect("a label").to_owned())
        .collect()
}

#[test]
fn a_killed_backup_leaves_nothing_in_the_way() {
    let host = Host::new();
    let mut random = random(20_261_120);
    host.backup();
    host.insert(10_000, 300);
    let usual = timed(|| drop(host.backup()));
    let mut wanted = Vec::new();
    let backup = owned(&["backup", "--quiet"]);
    for round in 0..30_u32 {
        host.insert(20_000 + round * 1000, 300);
        killed(&host, &backup, usual, &mut random);
        if round % 5 == 4 {
            let label = host.backup();
            assert!(labels(&host).contains(&label));
            wanted.push((label, host.contents()));
        }
    }
    let all = host.with_identities(&["verify", "--all", "--level", "L3"]);
    let verified = host.run(&all);
    assert!(matches!(verified.status, 0 | 3), "{}", verified.stderr);
    assert!(!verified.has("DAMAGED"), "{}", verified.stdout);
    for (number, (label, wanted)) in wanted.iter().enumerate().step_by(3) {
        let out = format!("out-{number}");
        host.restore_to(label, &out).exits(0);
        assert_eq!(&host.restored(&out), wanted);
    }
    let left = std::fs::read_dir(host.path("repo/offsite/tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "unfinished objects are swept away");
}

struct Restores {
    host: Host,
    /// Where the times of directories must come back, too.
    times: Vec<PathBuf>,
    before: Snapshot,
    after: Snapshot,
    random: Random,
    apply: Vec<String>,
    resume: Vec<String>,
    usual: Duration,
}

impl Restores {
    /// A CA that changed since its backup, and how it looks before and after a restore.
    fn new() -> Self {
        let host = Host::new();
        let label = host.backup();
        let times = vec![host.path("ca/conf"), host.path("ca/certs")];
        std::fs::remove_file(host.path("ca/conf/empty")).expect("removes");
        std::fs::remove_dir_all(host.path("ca/conf/sub")).expect("removes");
        crate::fixture::write(&host.path("ca/conf/ca.toml"), "days = 1\n");
        crate::fixture::write(&host.path("ca/conf/new"), "not in the backup\n");
        let (one, two) = (
            host.path("ca/private/token"),
            host.path("ca/private/second"),
        );
        std::fs::hard_link(one, two).expect("links");
        host.insert(40_000, 200);
        crate::fixture::write(&host.path("ca/var/ca.sqlite3-journal"), "stale");
        copy_tree(&host.ca(), &host.path("pristine"));
        let before = Snapshot::of(&host.ca(), &times);
        let apply = host.with_identities(&["restore", &label, "--apply", "--quiet"]);
        let resume = host.with_identities(&["restore", "--resume", "--quiet"]);
        let usual = timed(|| drop(host.ok(&apply)));
        host.ok(&["restore", "--sign-off"]);
        let after = Snapshot::of(&host.ca(), &times);
        let random = random(20_261_120);
        let mut restores = Self {
            host,
            times,
            before,
            after,
            random,
            apply,
            resume,
            usual,
        };
        restores.begin_again();
        restores
    }

    fn begin_again(&mut self) {
        copy_tree(&self.host.path("pristine"), &self.host.ca());
        let now = Snapshot::of(&self.host.ca(), &self.times);
        now.assert_is(&self.before, "a copy");
    }

    fn is_unfinished(&self) -> bool {
        self.host.path("host/state/restore/plan.json").exists()
    }

    fn assert_before(&self, when: &str) {
        Snapshot::of(&self.host.ca(), &self.times).assert_is(&self.before, when);
    }

    fn assert_after(&self, when: &str) {
        Snapshot::of(&self.host.ca(), &self.times).assert_is(&self.after, when);
    }

    fn undo(&self) {
        let undone = self.host.run(&["restore", "--undo"]);
        let expected = if undone.status == 4 { 4 } else { 0 };
        undone.exits(expected);
        assert!(!self.is_unfinished());
    }
}

#[test]
fn a_killed_restore_is_undone_exactly() {
    let mut restores = Restores::new();
    for round in 0..25 {
        let (apply, usual) = (restores.apply.clone(), restores.usual);
        killed(&restores.host, &apply, usual, &mut restores.random);
        if restores.is_unfinished() {
            restores.host.ok(&["restore", "--undo"]);
        }
        restores.assert_before(&format!("round {round}"));
    }
}

#[test]
fn a_killed_restore_is_resumed_to_its_end() {
    let mut restores = Restores::new();
    let mut resumed = 0;
    for round in 0..20 {
        let (apply, usual) = (restores.apply.clone(), restores.usual);
        let done = killed(&restores.host, &apply, usual, &mut restores.random);
        if !restores.is_unfinished() {
            restores.assert_before(&format!("round {round}, not begun"));
            continue;
        }
        // Killed once more while it is resumed; a restore that had ended has nothing to resume.
        let resume = restores.resume.clone();
        killed(&restores.host, &resume, usual, &mut restores.random);
        let last = restores.host.run(&resume);
        assert!(
            last.status == 0 || last.status == 4 && last.has("waiting for the sign-off"),
            "round {round} ({done}): {}",
            last.stderr
        );
        resumed += u32::from(last.status == 0);
        if round % 2 == 0 {
            restores.host.ok(&["restore", "--sign-off"]);
            restores.assert_after(&format!("round {round}, signed off"));
            restores.begin_again();
        } else {
            restores.undo();
            restores.assert_before(&format!("round {round}, undone"));
        }
    }
    assert!(resumed > 0, "no kill came in time");
}

#[test]
fn a_killed_undo_is_undone_again() {
    let mut restores = Restores::new();
    let (apply, undo) = (restores.apply.clone(), owned(&["restore", "--undo"]));
    restores.host.ok(&apply);
    let usual = timed(|| restores.undo());
    for round in 0..20 {
        restores.host.ok(&apply);
        killed(&restores.host, &undo, usual, &mut restores.random);
        restores.undo();
        restores.assert_before(&format!("round {round}"));
    }
}

#[test]
fn a_killed_sign_off_is_signed_off_again() {
    let mut restores = Restores::new();
    let (apply, sign_off) = (restores.apply.clone(), owned(&["restore", "--sign-off"]));
    restores.host.ok(&apply);
    let usual = timed(|| drop(restores.host.ok(&sign_off)));
    for round in 0..15 {
        restores.begin_again();
        restores.host.ok(&apply);
        killed(&restores.host, &sign_off, usual, &mut restores.random);
        if restores.is_unfinished() {
            restores.host.ok(&sign_off);
        }
        restores.assert_after(&format!("round {round}"));
    }
}
