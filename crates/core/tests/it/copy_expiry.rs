//! A copy with a retention of its own: longer or shorter than that of its original, copied late, killed, robbed, repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::Clock as _;
use strongroom_core::execute::Silent;
use strongroom_core::execute::copy::{CopyJob, CopyReport, copy};
use strongroom_core::execute::expire::{ExpireError, ExpireReport, look};
use strongroom_core::execute::repair::{self, RepairJob, repair};
use strongroom_core::format::Label;
use strongroom_core::format::envelope::Envelope;
use strongroom_core::format::expiry::{ExpiredRanges, ExpiryRecord, OfCopy};
use strongroom_core::format::name::ObjectName;
use strongroom_core::plan::expire::{ExpireInput, RepositoryPlan, Retention, plan_expire};
use strongroom_core::plan::repair::{RepairPlan, plan_repair};
use strongroom_core::repository::Repository;
use strongroom_core::storage::Storage;
use strongroom_testkit::fault_storage::{Fault, FaultStorage};
use strongroom_testkit::memory_storage::MemoryStorage;

use crate::expire::apply_to;
use crate::world::{Tree, World, contents, lines, time};

type Store = Arc<FaultStorage<MemoryStorage>>;

/// A repository, a copy of it called `far`, and what every backup held.
struct Pair {
    world: World,
    /// The storage of the side that `world` does not look at.
    other: Store,
    held: BTreeMap<Label, Tree>,
}

fn keep_last(last: u32) -> Retention {
    Retention {
        last,
        ..Retention::default()
    }
}

impl Pair {
    fn new() -> Self {
        let mut world = World::new();
        world.epoch_days = 3;
        let other = Arc::new(FaultStorage::new(MemoryStorage::new()));
        let pair = Self {
            world,
            other,
            held: BTreeMap::new(),
        };
        pair.set_time(time("2026-11-20T12:00:00Z"));
        pair
    }

    fn set_time(&self, now: jiff::Timestamp) {
        self.world.set_time(now);
        self.other.inner().set_time(now);
    }

    /// A backup every twelve hours.
    fn backups(&mut self, count: u32) {
        for _ in 0..count {
            self.set_time(self.world.clock.now() + 12.hours());
            let number = u32::try_from(self.held.len()).expect("few");
            self.world.write("log/ca.log", &lines(number * 500, 1500));
            let label = self.world.must_backup().label;
            self.held.insert(label, contents(&self.world.root()));
        }
    }

    /// Looks at the copy in the place of the original, or back again.
    fn turn(&mut self) {
        std::mem::swap(&mut self.world.storage, &mut self.other);
        self.world.copy = match self.world.copy {
            Some(_) => None,
            None => Some("far".to_owned()),
        };
    }

    fn in_copy<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        self.turn();
        let done = work(self);
        self.turn();
        done
    }

    fn copy(&self) -> CopyReport {
        let report = copy(&CopyJob {
            from: &self.world.repository(),
            to: &*self.other,
            name: "far",
            scratch: &self.world.path("copy"),
            cancel: &Cancel::default(),
            observer: &Silent,
        });
        let report = report.expect("copies");
        assert_eq!(report.problems, [""; 0]);
        assert!(report.damaged.is_empty() && report.held_back.is_empty());
        report
    }

    /// What goes from the side that is looked at; its newest backup counts as verified.
    #[track_caller]
    fn plan(&self, retention: Retention) -> RepositoryPlan {
        let mut seen = look(&self.world.repository()).expect("looks");
        // What other rooms test: the doubts. A copy is planned beside its original.
        seen.is_copy = false;
        seen.retention = Some(retention);
        let newest = seen.backups.last().expect("a backup");
        seen.verified = BTreeMap::from([(newest.envelope.label.clone(), 1)]);
        let mut plan = plan_expire(&ExpireInput {
            now: self.world.clock.now(),
            time_zone: TimeZone::UTC,
            clock_is_right: false,
            accept_missing: false,
            chosen: BTreeSet::new(),
            repositories: BTreeMap::from([("all".to_owned(), seen)]),
        });
        assert_eq!(plan.refusals, []);
        plan.repositories.remove("all").expect("was asked for")
    }

    fn apply(&self, plan: &RepositoryPlan) -> Result<ExpireReport, ExpireError> {
        self.apply_to(&self.world.repository(), plan)
    }

    fn apply_to(
        &self,
        repository: &Repository,
        plan: &RepositoryPlan,
    ) -> Result<ExpireReport, ExpireError> {
        apply_to(&self.world, repository, plan, Some(&self.world.key))
    }

    #[track_caller]
    fn expire(&self, keep: u32) -> ExpireReport {
        let plan = self.plan(keep_last(keep));
        self.apply(&plan).expect("expires")
    }

    /// The backups of the side that is looked at, oldest first, each whole and as it was, in a history without holes.
    #[track_caller]
    fn whole(&self) -> Vec<Label> {
        let catalogue = self.world.repository().catalogue().expect("reads");
        assert_eq!(catalogue.problems, [""; 0]);
        let backups = catalogue.backups.iter();
        let labels: Vec<Label> = backups.map(|one| one.envelope.label.clone()).collect();
        for label in &labels {
            assert_eq!(self.world.damage(label), [""; 0], "{label}");
            let restored = self.world.restore_to(label).expect("restores");
            assert_eq!(restored, self.held[label], "{label}");
        }
        labels
    }

    fn labels(&self) -> Vec<Label> {
        self.held.keys().cloned().collect()
    }

    fn problems(&self) -> Vec<String> {
        self.world.repository().catalogue().expect("reads").problems
    }

    fn oldest(&self) -> Envelope {
        let backups = self.world.repository().catalogue().expect("reads").backups;
        backups.into_iter().next().expect("a backup").envelope
    }

    /// Takes an envelope away from the side that is looked at, as a thief does.
    fn steal(&self, envelope: &Envelope) {
        let storage = self.world.storage.inner();
        storage.delete(&envelope.name()).expect("deletes");
    }

    /// What a repair of the side that is looked at, from the other one, would bring back; done, if it is to be.
    fn repair(&self, is_done: bool) -> RepairPlan {
        let other: Arc<dyn Storage> = Arc::<FaultStorage<MemoryStorage>>::clone(&self.other);
        let from = Repository::open(other).expect("opens");
        let job = RepairJob {
            target: Arc::<FaultStorage<MemoryStorage>>::clone(&self.world.storage),
            name: "all",
            copy: self.world.copy.as_deref(),
            from: &from,
            scratch: &self.world.path("copy"),
            cancel: &Cancel::default(),
            observer: &Silent,
        };
        let world = repair::look(&job, BTreeMap::new(), BTreeSet::new()).expect("looks");
        let plan = plan_repair(&world);
        if is_done {
            assert_eq!(
                repair(&job, &plan).expect("repairs").failed,
                BTreeMap::new()
            );
        }
        plan
    }
}

#[test]
fn a_copy_that_keeps_longer_has_what_the_original_let_go() {
    let mut pair = Pair::new();
    for _ in 0..10 {
        pair.backups(2);
        pair.copy();
        pair.expire(3);
        pair.in_copy(|far| far.expire(9));
    }
    let all = pair.labels();
    assert_eq!(pair.whole(), all[17..]);
    assert_eq!(pair.in_copy(|far| far.whole()), all[11..]);
    // But for the newest record nothing is to be done in either direction, and the copy keeps few records.
    assert_eq!((pair.copy().objects, pair.copy().objects), (1, 0));
    assert_eq!(pair.repair(false).heal, []);
    assert_eq!(pair.in_copy(|far| far.repair(false)).heal, []);
    let names = pair.other.inner().names();
    let records = names
        .iter()
        .filter(|name| name.as_str().starts_with("expired/"));
    assert!(records.count() <= 5, "{names:?}");

    // A thief takes a backup that only the copy has. The record of the original does not hide it.
    let stolen = pair.in_copy(|far| {
        let stolen = far.oldest();
        far.steal(&stolen);
        let problems = far.problems();
        assert!(problems[0].contains("is missing"), "{problems:?}");
        assert_eq!(problems.len(), 1);
        stolen
    });
    let records = pair.world.repository().expiry_records().expect("reads");
    assert!(records.ranges().covers(stolen.writer, stolen.sequence));
}

#[test]
fn a_copy_that_keeps_shorter_does_not_get_it_back() {
    let mut pair = Pair::new();
    pair.backups(8);
    pair.copy();
    let before = pair.other.inner().used_bytes();
    // The room comes free with the next epoch, as in the original.
    pair.backups(8);
    pair.copy();
    let report = pair.in_copy(|far| far.expire(2));
    assert_eq!(report.envelopes, 14);
    assert!(
        report.freed_bytes > before / 2,
        "{} of {before}",
        report.freed_bytes
    );
    let again = pair.copy();
    assert_eq!(
        (again.objects, again.backups.len(), again.let_go),
        (0, 0, 14)
    );
    pair.backups(1);
    let next = pair.copy();
    assert_eq!((next.backups.len(), next.let_go), (1, 14));
    let all = pair.labels();
    assert_eq!(pair.in_copy(|far| far.whole()), all[14..]);
    assert_eq!(pair.whole(), all);
    // A repair does not bring it back either, but it does what was stolen.
    let stolen = pair.in_copy(|far| {
        assert_eq!(far.repair(false).left_out.len(), 14);
        let stolen = far.oldest();
        far.steal(&stolen);
        assert_eq!(far.problems().len(), 1);
        let healed = far.repair(true).heal;
        assert_eq!(healed.len(), 1, "{healed:?}");
        stolen
    });
    assert_eq!(pair.in_copy(|far| far.whole()), all[14..]);
    // `copy` does the same.
    pair.other.inner().delete(&stolen.name()).expect("deletes");
    assert_eq!(pair.copy().backups, [stolen.label]);
    // And what the original has lost comes from the copy, where that has it.
    let lost = pair.world.repository().catalogue().expect("reads").backups;
    for one in [&lost[0], &lost[15]] {
        pair.steal(&one.envelope);
    }
    let healed = pair.repair(true).heal;
    assert_eq!(healed.len(), 1, "{healed:?}");
    let problems = pair.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn what_expired_before_it_was_copied_is_not_missed_in_the_copy() {
    let mut pair = Pair::new();
    for round in 0..3 {
        pair.backups(6);
        // The original thins out before the copy comes by.
        pair.expire(2);
        pair.copy();
        let kept = pair.in_copy(|far| {
            if round == 1 {
                far.expire(3);
            }
            far.whole().len()
        });
        assert_eq!(kept, [2, 3, 5][round]);
    }
    // What the copy never had is not stolen; what it had at its last expiry is missed.
    pair.in_copy(|far| {
        far.steal(&far.oldest());
        assert_eq!(far.problems().len(), 1);
    });
}

#[test]
fn a_record_of_another_copy_hides_nothing() {
    let mut pair = Pair::new();
    pair.backups(8);
    pair.copy();
    pair.in_copy(|far| {
        far.world.copy = Some("third".to_owned());
        let plan = far.plan(keep_last(1));
        far.apply(&plan).expect("expires");
        assert_eq!(far.problems(), [""; 0]);
        far.world.copy = Some("far".to_owned());
        let problems = far.problems();
        assert!(problems[0].contains("are missing"), "{problems:?}");
    });
    // In the original it says nothing at all.
    let record = ObjectName::expired_in_copy(1);
    let bytes = pair.other.get(&record, 1 << 20).expect("reads");
    pair.world.storage.create(&record, &bytes).expect("stores");
    pair.steal(&pair.oldest());
    assert_eq!(pair.problems().len(), 1);
}

impl Pair {
    /// Puts a record into the side that is looked at by which another copy has let everything go.
    fn put_record_of_another_copy(&self, number: u64) {
        let repository = self.world.repository();
        let backups = repository.catalogue().expect("reads").backups;
        let names = backups.iter();
        let names = names.map(|one| (one.envelope.writer, one.envelope.sequence));
        let expired = ExpiredRanges::of(names.collect::<Vec<_>>());
        let record = ExpiryRecord {
            format: 1,
            repository: repository.document().repository,
            number,
            time: self.world.clock.now(),
            tool: "test".to_owned(),
            copy: Some(OfCopy {
                name: "third".to_owned(),
                seen: expired.newest(),
            }),
            expired,
        };
        let bytes = record.sign(&self.world.key.signing);
        let put = self.world.storage.create(&record.name(), &bytes);
        put.expect("stores");
    }

    fn steal_the_oldest(&self) -> Label {
        let stolen = self.oldest();
        let storage = self.world.storage.inner();
        storage.delete(&stolen.name()).expect("deletes");
        stolen.label
    }
}

#[test]
fn a_repair_goes_by_no_record_of_another_copy() {
    for has_own in [false, true] {
        let mut pair = Pair::new();
        pair.backups(8);
        pair.copy();
        pair.turn();
        if has_own {
            pair.expire(3);
        }
        pair.put_record_of_another_copy(2);
        let stolen = pair.steal_the_oldest();
        assert_eq!(pair.problems().len(), 1);
        let plan = pair.repair(true);
        assert_eq!(plan.heal.len(), 1, "{plan:?}");
        // What the copy has let go itself stays away.
        assert_eq!(plan.left_out.len(), if has_own { 5 } else { 0 });
        assert_eq!(pair.whole()[0], stolen);
    }
}

#[test]
fn a_record_of_another_copy_takes_the_place_of_none() {
    let mut pair = Pair::new();
    pair.backups(8);
    pair.copy();
    pair.turn();
    pair.expire(3);
    let kept = pair.whole();
    pair.put_record_of_another_copy(2);
    // Nothing new goes, so no record is written.
    for _ in 0..2 {
        assert_eq!(pair.expire(3).envelopes, 0);
        assert_eq!(pair.whole(), kept);
    }
    // The next one has a higher number than both, which go once it is there.
    pair.expire(2);
    pair.expire(2);
    assert_eq!(pair.whole(), kept[1..]);
    let names = pair.world.storage.inner().names();
    let records = names
        .into_iter()
        .filter_map(|name| name.expired_in_copy_number());
    assert_eq!(records.collect::<Vec<_>>(), [3]);
}

#[test]
fn a_crash_at_each_call_leaves_a_copy_that_verifies_and_goes_on() {
    let mut pair = Pair::new();
    pair.backups(14);
    pair.copy();
    pair.expire(9);
    let far = pair.other.inner().copy();
    let mut number = 0;
    let mut steps = 0;
    loop {
        pair.other = Arc::new(FaultStorage::new(far.copy()));
        let reached = pair.in_copy(|far| {
            let plan = far.plan(keep_last(3));
            let repository = far.world.repository();
            let before = far.world.storage.calls();
            far.world
                .storage
                .fault_at(None, before + number, Fault::Fail);
            let first = far.apply_to(&repository, &plan);
            let reached = far.world.storage.calls() > before + number;
            far.world.storage.clear_faults();
            far.world.storage.inner().crash();
            assert_eq!(first.is_err(), reached, "at call {number}");
            assert_eq!(far.problems(), [""; 0], "at call {number}");
            reached
        });
        // A copy in between does not bring back what is on record, and gives back nothing that stays.
        let between = pair.copy();
        assert_eq!(between.backups, [], "at call {number}");
        let kept = pair.in_copy(|far| {
            far.expire(3);
            let rest = far.plan(keep_last(3));
            assert!(rest.going.is_empty() && rest.objects.is_empty() && rest.epochs.is_empty());
            far.whole()
        });
        assert_eq!(kept, pair.labels()[11..], "at call {number}");
        if !reached {
            break;
        }
        number += if number < 9 { 1 } else { 9 };
        steps += 1;
    }
    assert!(steps > 8, "{steps} steps");
}
