//! What can be wrong around a backup: identities, recipients, history, disks, users, other runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_testkit::skip;

use crate::fixture::{Host, Outcome, PROGRAM, copy_tree, is_root, must, write};

fn restore_with(host: &Host, identity: &str, more: &[&str]) -> Outcome {
    let (identity, out) = (host.text(identity), host.text("out"));
    let keys = host.text("id/keys");
    let mut arguments = vec![
        "restore",
        "--to-dir",
        &out,
        "--apply",
        "--identity",
        &identity,
    ];
    arguments.extend(["--identity", &keys]);
    arguments.extend(more);
    host.run(&arguments)
}

#[test]
fn a_wrong_identity_opens_nothing() {
    let host = Host::new();
    host.backup();
    restore_with(&host, "id/stranger", &[])
        .exits(12)
        .says("none of the identities given opens")
        .says("hint:");
    assert!(!host.path("out").exists());
    for level in ["L2", "L3", "L4"] {
        let stranger = host.text("id/stranger");
        host.run(&["verify", "--level", level, "--identity", &stranger])
            .exits(12);
    }
    let stranger = host.text("id/stranger");
    host.run(&["show", "latest", "--identity", &stranger])
        .exits(12);
    let out = host.text("out");
    host.run(&["export", "latest", "--out", &out, "--identity", &stranger])
        .exits(12);
    host.ok(&["show", "latest"]);
}

#[test]
fn an_identity_file_that_is_missing_or_garbage_is_wrong_usage() {
    let host = Host::new();
    host.backup();
    restore_with(&host, "id/nowhere", &[])
        .exits(2)
        .says("hint:");
    for (name, content) in [
        ("empty", &b""[..]),
        ("text", b"not an identity\n"),
        ("bytes", &[0xff; 300]),
        ("cut", b"AGE-SECRET-KEY-1QQQ\n"),
        ("sealed-cut", b"age-encryption.org/v1\n-> scrypt"),
    ] {
        write(&host.path(format!("id/{name}")), content);
        restore_with(&host, &format!("id/{name}"), &[]).exits(2);
    }
    assert!(!host.path("out").exists());
}

#[test]
fn a_sealed_identity_opens_with_its_passphrase_only() {
    let host = Host::new();
    let passphrase = "canary passphrase, long enough to be found";
    host.learn_secret(passphrase);
    write(&host.path("id/right"), format!("{passphrase}\n"));
    write(
        &host.path("id/wrong"),
        "another one entirely, just as long\n",
    );
    let (file, right, wrong) = (
        host.text("id/sealed"),
        host.text("id/right"),
        host.text("id/wrong"),
    );
    for file in ["id/right", "id/wrong"] {
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(host.path(file), private).expect("sets");
    }
    let new = [
        "identity",
        "new",
        "--out",
        &file,
        "--passphrase-file",
        &right,
    ];
    let made = host.ok(&new);
    write(&host.path("id/sealed.pub"), made.stdout.trim());
    host.run(&new).exits(2).says("exists already");
    host.configure_sealed_to("sealed", "keys", "");
    host.ok(&["init", "--accept-recipients", "offsite"]);
    host.backup();
    restore_with(&host, "id/sealed", &["--passphrase-file", &wrong])
        .exits(12)
        .says("wrong passphrase");
    assert!(!host.path("out").exists());
    restore_with(&host, "id/sealed", &["--passphrase-file", &right]).exits(0);
    assert_eq!(host.restored("out"), host.contents());
}

#[test]
fn recipients_replaced_in_the_configuration_are_refused_until_accepted() {
    let host = Host::new();
    let first = host.backup();
    host.configure_sealed_to("stranger", "keys", "");
    host.run(&["backup"])
        .exits(4)
        .says("recipients")
        .says("--accept-recipients");
    host.run(&["check"]).exits(3).says("recipients-pinned");
    let count = host.ok(&["list", "--json"]).document();
    assert_eq!(count["backups"].as_array().map(Vec::len), Some(1));
    host.ok(&["init"]);
    host.run(&["backup"]).exits(4);
    host.ok(&["init", "--accept-recipients", "offsite"]);
    let second = host.backup();
    host.ok(&["check"]).says("unbroken");

    let epoch = |label: &str| {
        let shown = host.ok(&["show", label, "--json"]).document();
        let parts = shown["repositories"].as_array().expect("parts").clone();
        let part = parts
            .into_iter()
            .find(|part| part["repository"] == "offsite");
        part.expect("offsite")["epoch"].clone()
    };
    assert_ne!(epoch(&first), epoch(&second), "a new epoch");
    host.restore_to(&first, "first").exits(0);
    host.restore_to(&second, "second").exits(12);
    let (stranger, keys, out) = (
        host.text("id/stranger"),
        host.text("id/keys"),
        host.text("new"),
    );
    let new = [
        "restore", &second, "--to-dir", &out, "--apply", "-i", &stranger, "-i", &keys,
    ];
    host.ok(&new);
    assert_eq!(host.restored("new"), host.contents());
}

/// The envelopes of a repository, oldest first.
pub(crate) fn envelopes(repository: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for writer in std::fs::read_dir(repository.join("envelopes")).expect("reads") {
        let writer = writer.expect("reads").path();
        for envelope in std::fs::read_dir(writer).expect("reads") {
            found.push(envelope.expect("reads").path());
        }
    }
    found.sort();
    found
}

/// After history was rolled back: it is told, and the next backup's chain shows it.
fn assert_told(host: &Host) {
    host.run(&["check"])
        .exits(3)
        .says("history-unbroken")
        .says("rolled back");
    let run = host.run(&["backup", "--json"]).exits(3);
    let document = run.document();
    assert_eq!(document["status"], "complete");
    let problems = document["problems"].to_string();
    assert!(problems.contains("rolled back"), "{problems}");
    let label = document["label"].as_str().expect("a label");
    host.restore_to(label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    host.run(&["list"]).exits(3).says("missing");
    let verified = host.run(&["verify", "--all"]);
    assert_ne!(verified.status, 0);
    verified.says("missing");
    host.run(&["check"]).exits(3).says("history-unbroken");
}

#[test]
fn a_chain_that_lost_its_newest_envelopes_is_told() {
    let host = Host::new();
    for number in 1..=3 {
        host.insert(1000 * number, 5);
        host.backup();
    }
    for repository in ["repo/offsite", "repo/keysafe"] {
        for envelope in &envelopes(&host.path(repository))[1..] {
            std::fs::remove_file(envelope).expect("removes");
        }
    }
    assert_told(&host);
}

#[test]
fn a_repository_put_back_from_an_earlier_copy_is_told() {
    let host = Host::new();
    host.backup();
    copy_tree(&host.path("repo"), &host.path("earlier"));
    host.insert(1000, 5);
    host.backup();
    copy_tree(&host.path("earlier"), &host.path("repo"));
    assert_told(&host);
}

#[test]
fn a_second_run_finds_the_first_at_work() {
    let host = Host::new();
    host.backup();
    let lock = std::fs::File::open(host.path("host/state/lock")).expect("the lock file");
    let exclusive = rustix::fs::FlockOperation::LockExclusive;
    rustix::fs::flock(&lock, exclusive).expect("locks");
    host.run(&["backup"])
        .exits(11)
        .says("another run")
        .says("hint:");
    let failure = host.run(&["backup", "--json"]).exits(11).document();
    assert_eq!(failure["error"]["exit_status"], 11);
    restore_with(&host, "id/database", &[]).exits(11);
    host.ok(&["list"]);
    host.ok(&["verify"]);
    drop(lock);

    host.insert(1000, 400);
    let mut first = host
        .command(&["backup", "--quiet"])
        .spawn()
        .expect("starts");
    let second = host.run(&["backup", "--quiet"]);
    let first = first.wait().expect("ends").code();
    let both = [first, Some(second.status)];
    assert!(both.contains(&Some(0)), "{both:?}");
    assert!(
        both.iter().all(|status| matches!(status, Some(0 | 11))),
        "{both:?}"
    );
    host.backup();
    host.ok(&["verify", "--all"]);
}

/// A small file system of its own, gone when it is dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(test: &str, path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).expect("creates");
        if !is_root() {
            skip(test, "needs root to mount a small disk");
            return None;
        }
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&path)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skip(test, "cannot mount a tmpfs here");
            return None;
        }
        Some(Self(path))
    }

    pub(crate) fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        must("mount", &["-o", &option, self.0.to_str().expect("UTF-8")]);
    }

    /// Leaves this much room besides what is used now, in KiB.
    pub(crate) fn leave(&self, kibibytes: u64) {
        let disk = rustix::fs::statvfs(&self.0).expect("a file system");
        let used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize / 1024;
        self.resize(&format!("{}k", used + kibibytes));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_stops_a_backup_and_the_next_one_works() {
    let host = Host::new();
    std::fs::remove_dir_all(host.path("repo/offsite")).expect("removes");
    let name = "faults::a_full_disk_stops_a_backup_and_the_next_one_works";
    let Some(disk) = SmallDisk::mount(name, host.path("repo/offsite"), "300k") else {
        return;
    };
    host.ok(&["init"]);
    host.insert(1000, 1000);
    host.run(&["backup"])
        .exits(3)
        .says("no space left")
        .says("run it again");
    host.run(&["list"]).says("INCOMPLETE");
    // Nothing else to write to: then it is an error.
    let again = host.run(&["backup", "database", "--json"]).exits(1);
    assert_eq!(again.document()["error"]["code"], "no-space");
    disk.resize("20m");
    let label = host.backup();
    let verify = host.with_identities(&["verify", &label, "--level", "L4"]);
    host.ok(&verify);
    host.restore_to(&label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
}

#[test]
fn a_full_disk_stops_a_restore_and_nothing_in_place_changes() {
    let host = Host::new();
    let name = "faults::a_full_disk_stops_a_restore_and_nothing_in_place_changes";
    let Some(disk) = SmallDisk::mount(name, host.path("ca/many"), "8m") else {
        return;
    };
    host.configure(&format!(
        "[asset.many]\nsource = \"files\"\nclass = \"config\"\npaths = [\"{}/ca/many/all\"]\n",
        host.root.display()
    ));
    for number in 0..400 {
        let file = host.path(format!("ca/many/all/{number:03}"));
        write(&file, format!("content {number}\n"));
    }
    host.backup();
    let wanted = host.contents();
    // A page for each of 400 small files is more than their bytes: the plan finds room enough.
    for number in 0..400 {
        std::fs::remove_file(host.path(format!("ca/many/all/{number:03}"))).expect("removes");
    }
    write(&host.path("ca/many/all/000"), "in place");
    disk.resize("1m");
    let apply = host.with_identities(&["restore", "latest", "many", "--apply"]);
    let stopped = host.run(&apply).exits(1);
    assert!(
        stopped.has("o space left"),
        "{}{}",
        stopped.stdout,
        stopped.stderr
    );
    stopped.says("--resume").says("--undo");
    let in_place = std::fs::read(host.path("ca/many/all/000")).expect("still there");
    assert_eq!(in_place, b"in place");
    host.run(&apply).exits(4).says("--resume");
    disk.resize("8m");
    host.ok(&host.with_identities(&["restore", "--resume"]));
    assert_eq!(host.contents(), wanted);
    host.ok(&["restore", "--undo"]);
    let left: Vec<_> = std::fs::read_dir(host.path("ca/many/all"))
        .expect("reads")
        .map(|entry| entry.expect("reads").file_name())
        .collect();
    assert_eq!(left, ["000"]);
    host.ok(&apply);
    host.ok(&["restore", "--sign-off"]);
    assert_eq!(host.contents(), wanted);
}

#[test]
fn a_plan_that_has_no_room_is_refused_before_it_begins() {
    let host = Host::new();
    host.backup();
    let name = "faults::a_plan_that_has_no_room_is_refused_before_it_begins";
    let Some(_disk) = SmallDisk::mount(name, host.path("out"), "64k") else {
        return;
    };
    host.restore_to("latest", "out")
        .exits(4)
        .says("bytes are needed");
    assert_eq!(host.restored("out").len(), 0);
}

/// The program run by nobody, on a copy that nobody may execute; `None` where that cannot be.
fn as_nobody(test: &str, host: &Host) -> Option<impl Fn(&[&str]) -> Outcome> {
    let there = Command::new("setpriv").arg("--version").output();
    if !is_root() || !there.is_ok_and(|output| output.status.success()) {
        skip(test, "needs root and setpriv to run as another user");
        return None;
    }
    let program = host.path("strongroom");
    std::fs::copy(PROGRAM, &program).expect("copies");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&host.root, open).expect("sets");
    let host = Host::at(&host.root);
    host.learn_secrets();
    Some(move |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&program);
        host.prepare(&mut command, arguments);
        host.finish(&mut command)
    })
}

#[test]
fn files_of_another_user_are_not_replaced() {
    let host = Host::new();
    host.backup();
    let name = "faults::files_of_another_user_are_not_replaced";
    let Some(run) = as_nobody(name, &host) else {
        return;
    };
    // Everything is nobody's but one file of root, in a directory of nobody.
    must("chown", &["-R", "65534:65534", &host.text("")]);
    must("chown", &["0:0", &host.text("ca/conf/ca.toml")]);
    let apply = host.with_identities(&["restore", "latest", "config", "--apply"]);
    let apply: Vec<&str> = apply.iter().map(String::as_str).collect();
    run(&apply).exits(4).says("belongs to user 0");
    let metadata = std::fs::metadata(host.path("ca/conf/ca.toml")).expect("is there");
    assert_eq!(metadata.uid(), 0);

    must("chown", &["-R", "0:0", &host.text("ca/conf")]);
    run(&apply).exits(4).says("may not write to");
    assert!(
        !host.path("host/state/restore").exists(),
        "nothing was begun"
    );
}

#[test]
fn what_cannot_be_read_makes_a_backup_incomplete() {
    let host = Host::new();
    let name = "faults::what_cannot_be_read_makes_a_backup_incomplete";
    let Some(run) = as_nobody(name, &host) else {
        return;
    };
    must("chown", &["-R", "65534:65534", &host.text("")]);
    run(&["backup"]).exits(0);
    let secret = host.path("ca/conf/root-only");
    write(&secret, "nobody reads this");
    must("chmod", &["600", secret.to_str().expect("UTF-8")]);
    let taken = run(&["backup", "--json"]).exits(3).document();
    assert_eq!(taken["status"], "incomplete");
    let reasons = taken["reasons"].to_string();
    assert!(reasons.contains("root-only"), "{reasons}");
    run(&["backup"])
        .exits(3)
        .says("root-only")
        .says("INCOMPLETE");
    run(&["check"]).exits(3).says("root-only");
    // The newest complete one is still the one before; the incomplete one is restored by name, and says so.
    let label = taken["label"].as_str().expect("a label");
    host.restore_to(label, "out")
        .exits(3)
        .says("not captured whole");
}

#[test]
fn a_file_that_changes_while_it_is_read_makes_a_backup_incomplete() {
    let host = Host::new();
    let path = host.path("ca/conf/busy");
    write(&path, vec![0_u8; 24 << 20]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = {
        let (stop, path) = (std::sync::Arc::clone(&stop), path.clone());
        std::thread::spawn(move || {
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .expect("opens");
            let mut number = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                number += 1;
                file.write_all_at(&number.to_le_bytes(), number * 4096 % (24 << 20))
                    .expect("writes");
                std::thread::yield_now();
            }
        })
    };
    let run = host.run(&["backup", "--json"]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.join().expect("ends");
    let document = run.exits(3).document();
    assert_eq!(document["status"], "incomplete");
    assert!(document["reasons"].to_string().contains("busy"));
    host.backup();
}

#[test]
fn a_key_that_is_not_its_certificates_is_told() {
    let host = Host::new();
    host.backup();
    let other = rcgen::KeyPair::generate().expect("a key");
    write(&host.path("ca/private/ca.key.pem"), other.serialize_pem());
    host.learn_secrets();
    host.run(&["check"]).exits(3).says("key-belongs");
    host.run(&["backup"]).exits(3).says("ca-key");
}

#[test]
fn a_database_that_was_emptied_is_told_every_time() {
    let host = Host::new();
    host.backup();
    write(&host.path("ca/var/ca.sqlite3"), "");
    for _ in 0..2 {
        host.run(&["backup"]).exits(3).says("Who emptied it?");
    }
}
