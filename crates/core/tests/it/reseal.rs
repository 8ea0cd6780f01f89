//! Epochs are sealed to other recipients as well: each storage call fails once, and what opened before opens still.

use strongroom_core::cancel::Cancel;
use strongroom_core::execute::reseal::{epochs, reseal};
use strongroom_core::format::Label;
use strongroom_core::format::seal::{BoxedIdentity, BoxedRecipient};
use strongroom_core::repository::reader::BackupReader;
use strongroom_testkit::fault_storage::Fault;

use crate::world::World;

fn opens(world: &World, label: &Label, identities: &[BoxedIdentity]) -> bool {
    let envelope = world.envelope(label).expect("it is there");
    let repository = world.repository();
    let opened = BackupReader::open(&repository, &envelope, identities);
    opened.is_ok_and(|reader| reader.manifest().is_ok())
}

/// Two backups of an epoch each.
fn two_epochs(world: &World) -> [Label; 2] {
    let first = world.must_backup().label;
    std::fs::remove_dir_all(world.state()).expect("a lost state begins an epoch");
    [first, world.must_backup().label]
}

/// Reseals with a fault at call `number`, then again without; false when there is no such call.
fn fail_at(number: u64, fault: Fault) -> bool {
    let case = format!("{fault:?} at call {number}");
    let world = World::new();
    let labels = two_epochs(&world);
    let next = age::x25519::Identity::generate();
    let repository = world.repository();
    let run = || {
        let all = epochs(&repository)?;
        let recipients: [BoxedRecipient; 1] = [Box::new(next.to_public())];
        reseal(
            &repository,
            &all,
            &world.identities(),
            &recipients,
            &Cancel::default(),
        )
    };
    let before = world.storage.calls();
    world.storage.fault_at(None, before + number, fault);
    let failed = run();
    let reached = world.storage.calls() > before + number;
    world.storage.clear_faults();
    assert!(!reached || failed.is_err(), "{case}");
    for label in &labels {
        assert!(opens(&world, label, &world.identities()), "{case}");
    }
    assert_eq!(run().expect(&case).len(), 2, "{case}");
    let new: [BoxedIdentity; 1] = [Box::new(next)];
    let stranger: [BoxedIdentity; 1] = [Box::new(age::x25519::Identity::generate())];
    for label in &labels {
        assert!(opens(&world, label, &new), "{case}");
        assert!(opens(&world, label, &world.identities()), "{case}");
        assert!(!opens(&world, label, &stranger), "{case}");
        assert_eq!(world.damage(label), [""; 0], "{case}");
    }
    reached
}

#[test]
fn each_call_fails_and_nothing_is_lost() {
    for fault in [Fault::Fail, Fault::FailAfter] {
        let mut number = 0;
        while fail_at(number, fault) {
            number += 1;
        }
        assert!(number > 4, "it makes more than {number} calls");
    }
}

#[test]
fn nothing_is_stored_unless_every_epoch_opens() {
    let world = World::new();
    two_epochs(&world);
    let repository = world.repository();
    let all = epochs(&repository).expect("lists");
    let stranger: [BoxedIdentity; 1] = [Box::new(age::x25519::Identity::generate())];
    let recipients: [BoxedRecipient; 1] = [Box::new(age::x25519::Identity::generate().to_public())];
    reseal(
        &repository,
        &all,
        &stranger,
        &recipients,
        &Cancel::default(),
    )
    .expect_err("refused");
    assert_eq!(epochs(&repository).expect("lists"), all);
}
