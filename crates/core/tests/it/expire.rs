//! Expiry under faults, beside a running backup, and over a month of hourly backups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::Clock as _;
use strongroom_core::execute::Silent;
use strongroom_core::execute::expire::{
    ExpireError, ExpireJob, ExpireReport, expire, look, record,
};
use strongroom_core::format::Label;
use strongroom_core::format::name::{ENVELOPES, ObjectName};
use strongroom_core::format::writer_key::WriterKey;
use strongroom_core::plan::expire::{
    ExpireInput, ExpirePlan, RepositoryPlan, Retention, plan_expire,
};
use strongroom_core::repository::state::{Verified, WriterState};
use strongroom_core::repository::{Repository, RepositoryError};
use strongroom_core::storage::Storage as _;
use strongroom_testkit::fault_storage::{Fault, FaultStorage, Operation};

use crate::world::{Tree, World, contents, lines, time};

/// Days and weeks; nothing else.
pub(crate) fn rules() -> Retention {
    Retention {
        daily: 2,
        weekly: 3,
        ..Retention::default()
    }
}

pub(crate) fn advance(world: &World, hours: i64) {
    world.set_time(world.clock.now() + hours.hours());
}

/// Takes a backup and notes it as verified.
pub(crate) fn backup(world: &World) -> Label {
    let label = world.must_backup().label;
    let verified = Verified {
        level: "L1".into(),
        time: world.clock.now(),
    };
    let state = WriterState::open(&world.state(), "all");
    state.note_verified(&label, verified).expect("notes");
    label
}

pub(crate) fn plan_of(world: &World, retention: Retention) -> Result<ExpirePlan, RepositoryError> {
    let mut seen = look(&world.repository())?;
    seen.retention = Some(retention);
    let verified = WriterState::open(&world.state(), "all").verified()?;
    seen.verified = verified.into_keys().map(|label| (label, 1)).collect();
    Ok(plan_expire(&ExpireInput {
        now: world.clock.now(),
        time_zone: TimeZone::UTC,
        clock_is_right: false,
        accept_missing: false,
        chosen: BTreeSet::new(),
        repositories: BTreeMap::from([("all".to_owned(), seen)]),
    }))
}

#[track_caller]
fn must_plan(world: &World, retention: Retention) -> RepositoryPlan {
    let mut plan = plan_of(world, retention).expect("plans");
    assert_eq!(plan.refusals, []);
    plan.repositories.remove("all").expect("was asked for")
}

fn apply_with(
    world: &World,
    plan: &RepositoryPlan,
    key: Option<&WriterKey>,
) -> Result<ExpireReport, ExpireError> {
    apply_to(world, &world.repository(), plan, key)
}

pub(crate) fn apply_to(
    world: &World,
    repository: &Repository,
    plan: &RepositoryPlan,
    key: Option<&WriterKey>,
) -> Result<ExpireReport, ExpireError> {
    expire(&ExpireJob {
        repository,
        writer: repository,
        key,
        plan,
        tool: "test",
        clock: &world.clock,
        cancel: &Cancel::default(),
        observer: &Silent,
    })
}

pub(crate) fn apply(world: &World, plan: &RepositoryPlan) -> Result<ExpireReport, ExpireError> {
    apply_with(world, plan, Some(&world.key))
}

fn labels(plan: &RepositoryPlan) -> Vec<Label> {
    plan.kept.iter().map(|kept| kept.label.clone()).collect()
}

/// Backups every twelve hours over four epochs of three days; what each holds, by label.
pub(crate) fn some_days(world: &mut World) -> BTreeMap<Label, Tree> {
    world.epoch_days = 3;
    let mut held = BTreeMap::new();
    world.set_time(time("2026-11-20T12:00:00Z"));
    for number in 0..20 {
        advance(world, 12);
        world.write("log/ca.log", &lines(number * 500, 1500));
        let label = backup(world);
        held.insert(label, contents(&world.root()));
    }
    held
}

/// Every backup that stays is whole, restores to what it was, and nobody complains of what is gone.
#[track_caller]
fn assert_kept(world: &World, kept: &[Label], held: &BTreeMap<Label, Tree>, case: &str) {
    for label in kept {
        assert_eq!(world.damage(label), [""; 0], "{case}: {label}");
        let restored = world.restore_to(label).expect(case);
        assert_eq!(restored, held[label], "{case}: {label}");
    }
}

#[test]
fn what_goes_is_gone_and_the_rest_restores() {
    let mut world = World::new();
    let held = some_days(&mut world);
    let before = world.storage.inner().used_bytes();
    let plan = must_plan(&world, rules());
    assert_eq!((plan.kept.len(), plan.going.len()), (3, 17));
    assert!(!plan.objects.is_empty() && !plan.epochs.is_empty());
    let report = apply(&world, &plan).expect("expires");
    assert_eq!(report.envelopes, 17);
    assert_eq!(report.freed_bytes, plan.freed_bytes);
    assert!(world.storage.inner().used_bytes() < before - plan.freed_bytes);
    assert_kept(&world, &labels(&plan), &held, "after");
    let again = must_plan(&world, rules());
    assert!(again.going.is_empty() && again.objects.is_empty() && again.epochs.is_empty());

    // The chain goes on, and the record is carried along and stays one.
    for _ in 0..6 {
        advance(&world, 24);
        let label = backup(&world);
        let plan = must_plan(&world, rules());
        apply(&world, &plan).expect("expires");
        assert_eq!(world.damage(&label), [""; 0]);
        let names = world.storage.inner().names();
        let records = names.iter().filter(|name| name.expired_number().is_some());
        assert!(records.count() <= 2);
    }
}

#[test]
fn a_theft_shows_beside_what_expired() {
    let mut world = World::new();
    some_days(&mut world);
    let plan = must_plan(&world, rules());
    apply(&world, &plan).expect("expires");
    let catalogue = world.repository().catalogue().expect("reads");
    assert_eq!(catalogue.problems, [""; 0]);
    // A thief deletes a backup that stays.
    let victim = &catalogue.backups[0].envelope;
    world
        .storage
        .inner()
        .delete(&victim.name())
        .expect("deletes");
    let problems = world.repository().catalogue().expect("reads").problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("missing"), "{problems:?}");
    let plan = plan_of(&world, rules()).expect("plans");
    assert_eq!(plan.refusals[0].code, "history");
    // Without the record, everything that expired is missing.
    world
        .storage
        .inner()
        .delete(&ObjectName::expired(1))
        .expect("deletes");
    let problems = world.repository().catalogue().expect("reads").problems;
    assert!(
        problems.len() > 1 || problems[0].contains(" to "),
        "{problems:?}"
    );
}

#[test]
fn a_record_of_a_stranger_or_of_another_place_counts_for_nothing() {
    let mut world = World::new();
    some_days(&mut world);
    let plan = must_plan(&world, rules());
    let stranger = WriterKey::generate().expect("random bytes");
    let refused = apply_with(&world, &plan, Some(&stranger)).expect_err("a stranger");
    assert!(matches!(
        refused,
        ExpireError::Repository(RepositoryError::UnknownWriter { .. })
    ));
    let names = world.storage.inner().names();
    assert!(names.iter().all(|name| name.expired_number().is_none()));
    apply(&world, &plan).expect("expires");
    let name = ObjectName::expired(1);
    world
        .storage
        .inner()
        .damage(&name, |bytes| bytes.swap(40, 41));
    let problems = world.repository().catalogue().expect("reads").problems;
    assert!(
        problems[0].contains("expired/0000000001.json"),
        "{problems:?}"
    );
    assert!(problems.len() > 1, "{problems:?}");
}

/// A crash at call `number` of applying; false when there is no such call.
fn crash_at(world: &World, held: &BTreeMap<Label, Tree>, number: u64, fault: Fault) -> bool {
    let case = format!("{fault:?} at call {number}");
    let plan = must_plan(world, rules());
    let repository = world.repository();
    let before = world.storage.calls();
    world.storage.fault_at(None, before + number, fault);
    let first = apply_to(world, &repository, &plan, Some(&world.key));
    let reached = world.storage.calls() > before + number;
    world.storage.clear_faults();
    world.storage.inner().crash();
    if reached {
        first.expect_err(&case);
    }
    // The newest and the oldest of those that stay; all of them would be many restores.
    let kept = labels(&plan);
    let some = [kept[0].clone(), kept[kept.len() - 1].clone()];
    assert_kept(world, &some, held, &case);
    // Whatever is still there is whole.
    let catalogue = world.repository().catalogue().expect(&case);
    assert_eq!(catalogue.problems, [""; 0], "{case}");
    for backup in &catalogue.backups {
        for (digest, size) in &backup.envelope.objects {
            let stat = world.storage.inner().stat(&ObjectName::object(*digest));
            let stat = stat.expect("a storage in memory");
            assert_eq!(stat.map(|stat| stat.size_bytes), Some(*size), "{case}");
        }
    }
    let second = must_plan(world, rules());
    assert_eq!(labels(&second), kept, "{case}");
    apply(world, &second).expect(&case);
    let last = must_plan(world, rules());
    assert!(
        last.going.is_empty() && last.objects.is_empty() && last.epochs.is_empty(),
        "{case}"
    );
    reached
}

#[test]
fn a_crash_at_each_call_leaves_what_verifies_and_the_next_run_finishes() {
    let mut world = World::new();
    let held = some_days(&mut world);
    let storage = world.storage.inner().copy();
    for fault in [Fault::Fail, Fault::FailAfter] {
        // All calls of opening and recording, then every few of the deletions.
        let mut number = 0;
        let mut steps = 0;
        loop {
            world.storage = Arc::new(FaultStorage::new(storage.copy()));
            if !crash_at(&world, &held, number, fault) {
                break;
            }
            number += if number < 9 { 1 } else { 7 };
            steps += 1;
        }
        assert!(steps > 11, "{steps} steps");
    }
}

#[test]
fn a_hold_keeps_its_backup_also_when_it_comes_late() {
    let mut world = World::new();
    let held = some_days(&mut world);
    let plan = must_plan(&world, rules());
    let label = plan.going[3].label.clone();
    let place = |world: &World| {
        let repository = world.repository();
        repository
            .place_hold(&label, "case 7", "test", &world.key, &world.clock)
            .expect("places");
    };
    place(&world);
    let refused = apply(&world, &plan).expect_err("held since");
    assert!(matches!(refused, ExpireError::Held { label: of } if of == label));
    let names = world.storage.inner().names();
    let envelopes = names
        .iter()
        .filter(|name| name.as_str().starts_with(ENVELOPES));
    assert_eq!(envelopes.count(), 20, "nothing was deleted");
    let plan = must_plan(&world, rules());
    apply(&world, &plan).expect("expires");
    assert_kept(&world, std::slice::from_ref(&label), &held, "held");
    // It is not on record as expired: its loss would show.
    let repository = world.repository();
    let stored = world.envelope(&label).expect("is there");
    let ranges = repository.expiry_records().expect("reads").ranges();
    assert!(!ranges.covers(stored.writer, stored.sequence));
    // A hold that cannot be read holds, too.
    let name = ObjectName::hold(&label);
    world
        .storage
        .inner()
        .damage(&name, |bytes| bytes.truncate(5));
    assert!(must_plan(&world, rules()).going.is_empty());
    repository.release_hold(&label).expect("releases");
    assert_eq!(must_plan(&world, rules()).going.len(), 1);
}

#[test]
fn one_host_signs_and_another_deletes() {
    let mut world = World::new();
    let held = some_days(&mut world);
    let plan = must_plan(&world, rules());
    // Without the key, nothing that is not on record goes.
    let report = apply_with(&world, &plan, None).expect("does nothing");
    assert_eq!(
        (report.envelopes, report.objects, report.not_recorded),
        (0, 0, 17)
    );
    let repository = world.repository();
    record(&ExpireJob {
        repository: &repository,
        writer: &repository,
        key: Some(&world.key),
        plan: &plan,
        tool: "test",
        clock: &world.clock,
        cancel: &Cancel::default(),
        observer: &Silent,
    })
    .expect("records");
    assert_eq!(
        must_plan(&world, rules()).going.len(),
        17,
        "all is there still"
    );
    let report = apply_with(&world, &plan, None).expect("deletes");
    assert_eq!((report.envelopes, report.not_recorded), (17, 0));
    assert_kept(&world, &labels(&plan), &held, "after");
}

#[test]
fn expiry_at_any_moment_of_a_backup_takes_nothing_from_it() {
    let mut number = 0;
    let mut deleted = 0;
    loop {
        let mut world = World::new();
        world.epoch_days = 6;
        world.set_time(time("2026-11-20T12:00:00Z"));
        for first in [0, 1000] {
            world.write("log/ca.log", &lines(first, 1500));
            backup(&world);
            advance(&world, 24 * 6);
        }
        // In the current epoch: a state that only one backup has, which expires, and then comes back from the index.
        world.write("log/ca.log", &lines(900_000, 1500));
        advance(&world, 1);
        backup(&world);
        world.write("log/ca.log", &lines(0, 10));
        advance(&world, 60);
        backup(&world);
        world.write("log/ca.log", &lines(900_000, 1500));
        advance(&world, 1);
        let wanted = contents(&world.root());
        let world = Arc::new(world);
        let ran = Arc::new(AtomicBool::new(false));
        let freed = Arc::new(std::sync::Mutex::new(0));
        let (inside, has_run, sum) = (Arc::clone(&world), Arc::clone(&ran), Arc::clone(&freed));
        world.storage.on_delay(move |_| {
            has_run.store(true, Ordering::Relaxed);
            let one = Retention {
                last: 1,
                ..Retention::default()
            };
            let plan = plan_of(&inside, one).expect("plans");
            if !plan.refusals.is_empty() {
                // The new backup is there already, and nobody has verified it.
                assert_eq!(plan.refusals[0].code, "newest-unverified");
                return;
            }
            let report = apply(&inside, &plan.repositories["all"]);
            let report = report.expect("expires beside the backup");
            *sum.lock().expect("no panic") += report.envelopes + report.objects;
        });
        let calls = world.storage.calls();
        world.storage.fault_at(None, calls + number, Fault::Delay);
        let report = world.must_backup();
        assert_eq!(world.damage(&report.label), [""; 0], "at call {number}");
        let restored = world.restore_to(&report.label).expect("restores");
        assert_eq!(restored, wanted, "at call {number}");
        deleted += *freed.lock().expect("no panic");
        // The hook holds the world.
        world.storage.on_delay(|_| {});
        if !ran.load(Ordering::Relaxed) {
            break;
        }
        number += 1;
    }
    assert!(
        number > 8 && deleted > 40,
        "{number} moments, {deleted} deleted"
    );
}

#[test]
fn a_month_of_hourly_backups_costs_what_changed() {
    let mut world = World::new();
    world.epoch_days = 7;
    let mut held = BTreeMap::new();
    world.set_time(time("2026-10-20T00:00:00Z"));
    let mut log = lines(0, 6_000);
    let mut first = 0;
    for hour in 0..720 {
        advance(&world, 1);
        log.extend(lines(6_000 + hour * 5, 5));
        world.write("log/ca.log", &log);
        let label = backup(&world);
        held.insert(label, contents(&world.root()));
        if hour == 0 {
            first = world.storage.inner().used_bytes();
        }
    }
    let full = world.storage.inner().used_bytes();
    let epochs = 720 / (24 * 7) + 1;
    // Five epochs store everything once; the changes of an hour and the documents of a backup are small.
    assert!(
        full < (epochs + 1) * first * 2 + 720 * 30_000,
        "{first} became {full}"
    );

    let keep = || Retention {
        hourly: 24,
        daily: 7,
        weekly: 4,
        ..Retention::default()
    };
    let calls = || {
        use Operation::{Delete, Get, List, Stat};
        [List, Delete, Get, Stat].map(|operation| world.storage.calls_of(operation))
    };
    let before = calls();
    let plan = must_plan(&world, keep());
    let report = apply(&world, &plan).expect("expires");
    let after = calls();
    let [lists, deletes, gets, stats] = std::array::from_fn(|n| after[n] - before[n]);
    assert_eq!(
        deletes,
        report.envelopes + report.objects,
        "one each, and nothing else"
    );
    assert_eq!(report.envelopes, 720 - plan.kept.len() as u64);
    // Five prefixes; holds and records are looked at once more before the first deletion.
    assert_eq!(lists, 7);
    assert!(gets <= 720 + 6 && stats <= 1, "{gets} gets, {stats} stats");
    assert!((31..=36).contains(&plan.kept.len()), "{}", plan.kept.len());
    assert!(
        report.freed_bytes > full / 3,
        "{} of {full}",
        report.freed_bytes
    );
    assert_kept(&world, &labels(&plan), &held, "after a month");
}
