//! The program, the clients and the server are killed at moments drawn by lot.

use std::time::Duration;

use super::host::{Kind, ServerHost};
use crate::fixture::Random;
use crate::lots::{random, start, timed, wait_within};

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Program,
    Client,
    Server,
}

/// Processes that a process has started, and those have.
fn descendants(of: u32) -> Vec<u32> {
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let path = format!("/proc/{0}/task/{0}/children", found[at]);
        // Children belong to the thread that started them.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", found[at]));
        let mut text = std::fs::read_to_string(path).unwrap_or_default();
        for task in tasks.into_iter().flatten().flatten() {
            text.push(' ');
            text.push_str(
                &std::fs::read_to_string(task.path().join("children")).unwrap_or_default(),
            );
        }
        for pid in text.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            if !found.contains(&pid) {
                found.push(pid);
            }
        }
        at += 1;
    }
    found.remove(0);
    found
}

/// Runs a command, and kills something after a part of the usual time; true when it ended well all the same.
fn disturbed(
    place: &mut ServerHost,
    arguments: &[String],
    victim: Victim,
    usual: Duration,
    random: &mut Random,
) -> bool {
    let mut child = start(&place.host, arguments);
    wait_within(usual, random);
    match victim {
        Victim::Program => child.kill().expect("kills"),
        Victim::Client => {
            let clients = descendants(child.id());
            if !clients.is_empty() {
                let which = random.below(clients.len() as u64);
                let pid = clients[usize::try_from(which).expect("small")];
                let pid = i32::try_from(pid).expect("a process id");
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // It may have ended by itself.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        Victim::Server => place.server.kill(),
    }
    let ended = child.wait().expect("ends").success();
    if victim == Victim::Server {
        place.server.restart();
    }
    ended
}

const VICTIMS: [Victim; 3] = [Victim::Program, Victim::Client, Victim::Server];

fn backups(kind: Kind) {
    let mut place = ServerHost::new(kind, 500);
    let mut random = random(20_261_121);
    let wanted = place.dumps_but_counters();
    let backup = owned(&["backup", "--quiet"]);
    let usual = timed(|| drop(place.host.backup()));
    for round in 0..12 {
        let victim = VICTIMS[round % 3];
        let ended_well = disturbed(&mut place, &backup, victim, usual, &mut random);
        let listed = place.host.run(&["list", "--json"]).document();
        let newest = listed["backups"]
            .as_array()
            .and_then(|backups| backups.first())
            .cloned();
        if ended_well && victim != Victim::Program {
            assert_eq!(
                newest.expect("a backup")["status"],
                "complete",
                "round {round}"
            );
        }
    }
    let label = place.host.backup();
    place.damage();
    place
        .host
        .ok(&place.restore(&[&label, "ca-db", "--apply", "--quiet"]));
    place.assert_dumps_but_counters(&wanted, "now");
    // Every backup that is called complete is whole.
    let verify = place
        .host
        .with_identities(&["verify", "--all", "--level", "L3"]);
    let verified = place.host.run(&verify);
    assert!(!verified.has("DAMAGED"), "{}", verified.stdout);
}

#[test]
fn a_disturbed_backup_of_postgresql_leaves_nothing_in_the_way() {
    backups(Kind::Postgresql);
}

#[test]
fn a_disturbed_backup_of_mariadb_leaves_nothing_in_the_way() {
    backups(Kind::Mariadb);
}

fn restores(kind: Kind) {
    let mut place = ServerHost::new(kind, 500);
    let mut random = random(20_261_121);
    let wanted = place.dumps_but_counters();
    let label = place.host.backup();
    place.damage();
    let damaged = place.dumps_but_counters();
    let apply = place.restore(&[&label, "ca-db", "--apply", "--quiet"]);
    let resume = place.restore(&["--resume", "--quiet"]);
    let undo = owned(&["restore", "--undo", "--quiet"]);
    let sign_off = owned(&["restore", "--sign-off", "--quiet"]);
    let usual = timed(|| drop(place.host.ok(&apply)));
    let usual_undo = timed(|| drop(place.host.ok(&undo)));
    place.assert_dumps_but_counters(&damaged, "now");
    for round in 0..12_usize {
        let victim = VICTIMS[round % 3];
        let when = format!("round {round}, {victim:?} killed");
        disturbed(&mut place, &apply, victim, usual, &mut random);
        if round % 2 == 0 {
            if place.journal().exists() {
                disturbed(&mut place, &undo, victim, usual_undo, &mut random);
            }
            if place.journal().exists() {
                place.host.ok(&undo);
            }
            place.assert_dumps_but_counters(&damaged, &when);
            place.assert_no_leftovers(&when);
        } else {
            if place.journal().exists() {
                let resumed = place.host.run(&resume);
                let waits = resumed.status == 4 && resumed.has("waiting for the sign-off");
                assert!(resumed.status == 0 || waits, "{when}: {}", resumed.stderr);
            } else {
                place.host.ok(&apply);
            }
            place.assert_dumps_but_counters(&wanted, &when);
            disturbed(&mut place, &sign_off, victim, usual_undo, &mut random);
            if place.journal().exists() {
                place.host.ok(&sign_off);
            }
            place.assert_dumps_but_counters(&wanted, &when);
            place.assert_no_leftovers(&when);
            place.damage();
            place.assert_dumps_but_counters(&damaged, "damaged again");
        }
    }
}

#[test]
fn a_disturbed_restore_of_postgresql_is_resumed_or_undone() {
    restores(Kind::Postgresql);
}

#[test]
fn a_disturbed_restore_of_mariadb_is_resumed_or_undone() {
    restores(Kind::Mariadb);
}
