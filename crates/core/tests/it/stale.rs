//! Lists that are out of date: what was stored is not listed yet, what was deleted still is. And runs that die late.

use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::Storage as _;
use strongroom_testkit::fault_storage::{Fault, Operation};

use crate::expire::{advance, apply, backup, plan_of, rules, some_days};
use crate::world::{World, contents, lines};

/// Every backup that is there has all that it needs.
#[track_caller]
fn assert_whole(world: &World, case: &str) {
    let catalogue = world.repository().catalogue().expect(case);
    assert_eq!(catalogue.problems, [""; 0], "{case}");
    for backup in &catalogue.backups {
        for (name, _) in backup.envelope.needs() {
            let stat = world.storage.inner().stat(&name).expect(case);
            assert!(
                stat.is_some(),
                "{case}: {} lacks {name}",
                backup.envelope.label
            );
        }
    }
}

#[test]
fn a_backup_is_whole_whatever_its_lists_have_not_seen() {
    // The repository alone, one backup of it, two.
    for seen in 0..3 {
        let case = format!("{seen} backups were listed");
        let world = World::new();
        let mut old = world.storage.remember().expect("lists");
        for number in 1..=2 {
            world.write("log/ca.log", &lines(number * 300, 3000));
            world.must_backup();
            if number == seen {
                old = world.storage.remember().expect("lists");
            }
        }
        world.write("log/ca.log", &lines(0, 4000));
        world.storage.show(Some(old));
        let blind = world.must_backup();
        world.storage.show(None);
        assert_eq!(world.damage(&blind.label), [""; 0], "{case}");
        let restored = world.restore_to(&blind.label).expect(&case);
        assert_eq!(restored, contents(&world.root()), "{case}");
        let next = world.must_backup();
        assert_eq!(next.problems, [""; 0], "{case}");
        assert_whole(&world, &case);
    }
}

#[test]
fn an_expiry_by_old_lists_takes_nothing_that_a_kept_backup_needs() {
    let mut deleted = 0;
    for hours in [0, 12, 24, 48, 72, 96, 120] {
        let case = format!("lists are {hours} hours old");
        let mut world = World::new();
        some_days(&mut world);
        let old = world.storage.remember().expect("lists");
        for number in 0..hours / 12 {
            advance(&world, 12);
            let number = u32::try_from(number).expect("few");
            world.write("log/ca.log", &lines(20_000 + number * 500, 1500));
            backup(&world);
        }
        world.storage.show(Some(old));
        let plan = plan_of(&world, rules()).expect("plans");
        assert_eq!(plan.refusals, [], "{case}");
        let report = apply(&world, &plan.repositories["all"]).expect(&case);
        deleted += report.objects;
        world.storage.show(None);
        assert_whole(&world, &case);
        // What is still listed although it is gone harms nobody either.
        let plan = plan_of(&world, rules()).expect("plans");
        let before = world.storage.remember().expect("lists");
        apply(&world, &plan.repositories["all"]).expect(&case);
        world.storage.show(Some(before));
        advance(&world, 12);
        let label = backup(&world);
        world.storage.show(None);
        assert_eq!(world.damage(&label), [""; 0], "{case}");
        assert_whole(&world, &case);
    }
    assert!(deleted > 100, "{deleted}");
}

/// Pseudo-random bytes, which neither compress nor repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

#[test]
fn a_first_backup_that_dies_late_is_not_stored_again() {
    let world = World::new();
    world.write("log/ca.log", &noise(330 << 20));
    let orphans = |world: &World| {
        let names = world.storage.inner().names();
        let is_object = |name: &&ObjectName| name.as_str().starts_with("objects/");
        names.iter().filter(is_object).count()
    };
    // Some 37 packs of a little more than 8 MiB; the power is cut at the 35th.
    world.storage.fault_at(Operation::Put, 34, Fault::Fail);
    world.backup().expect_err("it dies");
    world.storage.inner().crash();
    let durable = orphans(&world);
    assert!(durable >= 25, "{durable} were made durable on the way");
    let next = world.must_backup();
    assert!(next.stored_bytes < 100 << 20, "{} bytes", next.stored_bytes);
    assert_eq!(world.damage(&next.label), [""; 0]);
}
