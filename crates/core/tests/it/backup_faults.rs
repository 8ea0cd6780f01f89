//! Every storage call of a backup goes wrong once, in every way.

use strongroom_core::format::envelope::Status;
use strongroom_testkit::fault_storage::{Fault, Until};

use crate::world::{World, contents, lines};

/// Runs a second backup with a fault at call `number`, then a third without; false when there is no such call.
fn fail_at(number: u64, fault: Fault, power_cut: bool) -> bool {
    let case = format!("{fault:?} at call {number}");
    let world = World::new();
    let first = world.must_backup();
    let at_first = contents(&world.root());
    world.write("log/ca.log", &lines(0, 4000));
    world.write("config/ca.toml", b"days = 30\n");
    let wanted = contents(&world.root());

    let before = world.storage.calls();
    world.storage.fault_at(None, before + number, fault);
    let second = world.backup();
    let reached = world.storage.calls() > before + number;
    world.storage.clear_faults();
    if power_cut {
        world.storage.inner().crash();
    }
    let silent = matches!(fault, Fault::Lose | Fault::Tear(_) | Fault::Reorder(_));
    match second {
        Ok(report) => {
            assert_eq!(report.status, Status::Complete, "{case}");
            let damage = world.damage(&report.label);
            let restored = world.restore_to(&report.label);
            if damage.is_empty() {
                assert_eq!(restored.expect(&case), wanted, "{case}");
            } else {
                // A storage that lies: it shows, and nothing wrong is restored.
                assert!(silent, "{case}: {damage:?}");
                if let Ok(restored) = restored {
                    assert_eq!(restored, wanted, "{case}");
                }
            }
        }
        Err(error) => assert!(!error.to_string().is_empty(), "{case}"),
    }
    let third = world.must_backup();
    assert_eq!(
        world.restore_to(&third.label).expect(&case),
        wanted,
        "{case}"
    );
    assert!(third.run > first.run, "{case}");
    if !silent {
        assert_eq!(world.damage(&third.label), [""; 0], "{case}");
    }
    let restored = world.restore_to(&first.label).expect(&case);
    assert_eq!(restored, at_first, "{case}");
    reached
}

fn fail_each(fault: Fault, power_cut: bool) {
    let mut number = 0;
    while fail_at(number, fault, power_cut) {
        number += 1;
    }
    assert!(number > 10, "a backup makes more than {number} calls");
}

#[test]
fn each_call_fails() {
    fail_each(Fault::Fail, false);
}

#[test]
fn each_call_fails_and_the_power_is_cut() {
    fail_each(Fault::Fail, true);
}

#[test]
fn the_answer_to_each_call_is_lost() {
    fail_each(Fault::FailAfter, false);
}

#[test]
fn each_call_finds_the_disk_full() {
    fail_each(Fault::NoSpace, true);
}

#[test]
fn what_each_call_does_is_lost() {
    fail_each(Fault::Lose, false);
}

#[test]
fn each_object_is_torn() {
    fail_each(Fault::Tear(70), false);
}

#[test]
fn each_object_comes_late() {
    fail_each(Fault::Reorder(Until::Flush), false);
}

#[test]
fn each_object_never_comes() {
    fail_each(Fault::Reorder(Until::Never), false);
}

#[test]
fn the_power_is_cut_after_a_backup() {
    let world = World::new();
    let report = world.must_backup();
    world.storage.inner().crash();
    assert_eq!(world.damage(&report.label), [""; 0]);
    let restored = world.restore_to(&report.label).expect("restores");
    assert_eq!(restored, contents(&world.root()));
}
