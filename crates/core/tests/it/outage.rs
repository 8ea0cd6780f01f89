//! A storage that does not answer, and a history with more holes than are told: neither is taken for something else.

use strongroom_core::execute::verify::Level;
use strongroom_core::format::name::ENVELOPES;
use strongroom_core::repository::RepositoryError;
use strongroom_core::storage::{Storage as _, StorageError};
use strongroom_testkit::fault_storage::Fault;

use crate::world::World;

#[test]
fn silence_during_a_verification_is_no_damage() {
    let world = World::new();
    let label = world.must_backup().label;
    let envelope = world.envelope(&label).expect("is there");
    let repository = world.repository();
    for level in [Level::L1, Level::L3] {
        for call in 0.. {
            let next = world.storage.calls() + call;
            world.storage.fault_at(None, next, Fault::NoAnswer);
            let found = world.verify(&repository, &envelope, level);
            let is_reached = world.storage.calls() > next;
            world.storage.clear_faults();
            if !is_reached {
                assert!(call > 2, "the storage was asked");
                break;
            }
            let error = found.expect_err("it did not answer");
            let is_silence = matches!(
                error,
                RepositoryError::Storage(StorageError::Unreachable(_))
            );
            assert!(is_silence, "{level}, call {call}: {error:?}");
        }
    }
    let found = world
        .verify(&repository, &envelope, Level::L3)
        .expect("verifies");
    assert_eq!(found.damaged.len(), 0);
    assert_eq!(found.backups[0].problems, [""; 0]);
}

#[test]
fn more_holes_than_are_told_hide_no_damage() {
    let world = World::new();
    for _ in 0..60 {
        world.must_backup();
    }
    let storage = world.storage.inner();
    let mut names = Vec::new();
    let mut visit = |name, _| names.push(name);
    storage.list(ENVELOPES, &mut visit).expect("lists");
    names.sort();
    for name in names.iter().step_by(2) {
        storage.delete(name).expect("deletes");
    }
    let catalogue = world.repository().catalogue().expect("reads");
    assert_eq!(catalogue.other_problems, 0);
    assert_eq!(catalogue.missing.iter().count(), 30);
    storage.delete(&names[59]).expect("deletes");
    storage.create(&names[59], b"garbage").expect("stores");
    let catalogue = world.repository().catalogue().expect("reads");
    assert!(catalogue.problems.len() < 30, "they are not all told");
    assert_eq!((catalogue.other_problems, catalogue.unreadable), (1, 1));
}
