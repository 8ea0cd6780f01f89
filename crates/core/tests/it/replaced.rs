//! Objects that were overwritten with as many bytes: seen by their times, and not leaned on; what was repaired is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan as _;
use strongroom_core::clock::Clock as _;
use strongroom_core::execute::backup::BackupReport;
use strongroom_core::format::name::{ENVELOPES, OBJECTS, ObjectName};
use strongroom_core::repository::ReplacedSeen;
use strongroom_core::repository::state::WriterState;
use strongroom_core::storage::{Body, Storage as _};

use crate::world::{World, contents, lines, time};

/// A world with one backup, an hour ago.
fn world() -> World {
    let world = World::new();
    world.set_time(time("2026-11-20T12:00:00Z"));
    world.must_backup();
    world.set_time(world.clock.now() + 1.hours());
    world
}

fn state(world: &World) -> WriterState {
    WriterState::open(&world.state(), "all")
}

/// Stores an object anew, with other bytes of the same number or with the same.
fn overwrite(world: &World, name: &ObjectName, other: bool) {
    let storage = world.storage.inner();
    let mut bytes = storage.get(name, 1 << 24).expect("reads");
    if other {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    storage.delete(name).expect("deletes");
    storage.put(name, Body::Bytes(&bytes)).expect("stores");
    storage.flush().expect("flushes");
}

/// The largest object: a pack with the log.
fn pack(world: &World) -> ObjectName {
    let mut objects = Vec::new();
    let list = world.storage.inner().list(OBJECTS, &mut |name, stat| {
        objects.push((stat.size_bytes, name));
    });
    list.expect("lists");
    objects.into_iter().max().expect("an object").1
}

/// What `check` sees.
fn seen(world: &World) -> ReplacedSeen {
    let repository = world.repository();
    let id = repository.document().repository;
    let backups = repository.catalogue().expect("reads").backups;
    let head = state(world).head(id).expect("reads");
    let survey = repository.survey(&backups, head.as_ref()).expect("lists");
    assert_eq!((survey.missing, survey.of_another_size), (vec![], vec![]));
    let seen = repository.look_at_replaced(&survey.replaced, &state(world));
    seen.expect("asks")
}

fn notes(report: &BackupReport) -> String {
    format!("{report:?}")
}

#[test]
fn what_was_overwritten_is_seen_and_not_leaned_on() {
    let world = world();
    assert_eq!(seen(&world), ReplacedSeen::default());
    let victim = pack(&world);
    overwrite(&world, &victim, true);
    assert_eq!(seen(&world).unread, std::slice::from_ref(&victim));
    let report = world.must_backup();
    assert!(notes(&report).contains("stored once more after the last backup"));
    assert_eq!(world.damage(&report.label), [""; 0]);
    let restored = world.restore_to(&report.label).expect("restores");
    assert_eq!(restored, contents(&world.root()));
    // The older backup is still damaged, and that is still seen.
    assert_eq!(seen(&world).unread, [victim]);
    // The next one leans on what is whole, and on that alone.
    world.set_time(world.clock.now() + 1.hours());
    let next = world.must_backup();
    assert!(!notes(&next).contains("stored once more"));
    assert_eq!(world.damage(&next.label), [""; 0]);
}

#[test]
fn storing_the_envelopes_once_more_hides_nothing() {
    let world = world();
    let victim = pack(&world);
    overwrite(&world, &victim, true);
    let names = world.storage.inner().names();
    let envelopes = names
        .iter()
        .filter(|name| name.as_str().starts_with(ENVELOPES));
    for name in envelopes {
        overwrite(&world, name, false);
    }
    assert_eq!(seen(&world).unread, [victim]);
    let report = world.must_backup();
    assert_eq!(world.damage(&report.label), [""; 0]);
}

#[test]
fn what_was_read_since_is_leaned_on() {
    let world = world();
    let victim = pack(&world);
    overwrite(&world, &victim, false);
    assert_eq!(seen(&world).unread, std::slice::from_ref(&victim));
    // What `verify` and `repair` note.
    let repository = world.repository();
    let stat = world
        .storage
        .stat(&victim)
        .expect("asks")
        .expect("is there");
    let times = BTreeMap::from([(victim.clone(), stat.stored.expect("a time"))]);
    let id = repository.document().repository;
    let note = state(&world).note_proved(id, times, |_| true);
    note.expect("notes");
    assert_eq!(seen(&world), ReplacedSeen::default());
    let report = world.must_backup();
    assert!(!notes(&report).contains("stored once more"));
    // Once more, and nobody has read it.
    world.set_time(world.clock.now() + 1.hours());
    overwrite(&world, &victim, true);
    assert_eq!(seen(&world).unread, [victim]);
    let report = world.must_backup();
    assert!(notes(&report).contains("stored once more"));
    assert_eq!(world.damage(&report.label), [""; 0]);
}

#[test]
fn backups_expiries_and_killed_runs_are_not_cried_about() {
    let world = world();
    for round in 0..4 {
        world.write("log/ca.log", &lines(round * 500, 3000));
        // A run that dies before its envelope leaves orphans, younger than the newest envelope, which the next one uses.
        let calls = world.storage.calls();
        let fault = strongroom_testkit::fault_storage::Fault::Fail;
        world.storage.fault_at(None, calls + 9, fault);
        drop(world.backup());
        world.storage.clear_faults();
        world.set_time(world.clock.now() + 1.hours());
        let report = world.must_backup();
        assert!(!notes(&report).contains("stored once more"));
        assert_eq!(seen(&world), ReplacedSeen::default());
        assert_eq!(world.damage(&report.label), [""; 0]);
        world.set_time(world.clock.now() + 1.hours());
    }
}

#[test]
fn a_missing_epoch_is_seen() {
    let world = world();
    let names = world.storage.inner().names();
    let epochs: BTreeSet<&ObjectName> = names
        .iter()
        .filter(|name| name.epoch_id().is_some())
        .collect();
    let epoch = *epochs.first().expect("an epoch");
    world.storage.inner().delete(epoch).expect("deletes");
    let repository = world.repository();
    let backups = repository.catalogue().expect("reads").backups;
    let survey = repository.survey(&backups, None).expect("lists");
    assert_eq!(survey.missing, std::slice::from_ref(epoch));
}
