//! Which objects nobody needs: no kept envelope names them, and no running backup can.
//!
//! A running backup needs what it stores itself, and what earlier runs of its epoch have stored: deduplication never
//! crosses an epoch. All of that was stored after the epoch's own object was. So nothing goes that was stored since
//! the oldest epoch that may still be written to began, by the one clock of the storage.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::{CLOCK_TOLERANCE, Ledger, ObjectSeen, RepositoryPlan, days_of};
use crate::format::{Digest, EpochId, Label, WriterId};

/// No backup runs longer: what was stored within so many hours of the newest object stays.
pub const ORPHAN_HOURS: i64 = 48;
/// The longest epoch that can be configured, in days.
const EPOCH_DAYS_MAX: u32 = 90;

/// What no kept backup needs and stays for now, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Stored since the current epoch began: the next backup may use it again.
    pub epoch_bytes: u64,
    /// So young that a running backup may have stored it.
    pub young_bytes: u64,
    /// Protected by the storage.
    pub protected_bytes: u64,
    /// The storage does not say when it was stored, or says what cannot be.
    pub unknown_bytes: u64,
}

impl Waiting {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.epoch_bytes + self.young_bytes + self.protected_bytes + self.unknown_bytes
    }
}

/// What an epoch costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochCost {
    /// The epoch.
    pub epoch: EpochId,
    /// When its first backup that is still there was taken.
    pub begins: Timestamp,
    /// When its last one was.
    pub ends: Timestamp,
    /// How many backups of it stay.
    pub kept: usize,
    /// How many go.
    pub going: usize,
    /// What those that stay need.
    pub kept_bytes: u64,
    /// What only those that go need; freed now, or once the epoch is over.
    pub unneeded_bytes: u64,
    /// Whether new backups are sealed to it.
    pub is_open: bool,
    /// The newest backup that keeps it.
    pub needed_by: Option<Label>,
}

/// Adds objects, epochs and costs to the plan.
pub(super) fn plan(ledger: &Ledger<'_>, plan: &mut RepositoryPlan) {
    let needed: HashSet<Digest> = (0..ledger.backups.len())
        .filter(|index| ledger.is_kept(*index))
        .flat_map(|index| ledger.backups[index].objects.iter())
        .map(|(digest, _)| *digest)
        .collect();
    let epochs: BTreeSet<EpochId> = (0..ledger.backups.len())
        .filter(|index| ledger.is_kept(*index))
        .map(|index| ledger.backups[index].epoch.id)
        .collect();
    let judge = Judge::new(ledger);
    for object in &ledger.seen.objects {
        if !needed.contains(&object.digest) && judge.may_go(object, &mut plan.waiting) {
            plan.objects.push((object.digest, object.size_bytes));
            plan.freed_bytes += object.size_bytes;
        }
    }
    for (epoch, object) in &ledger.seen.epochs {
        if !epochs.contains(epoch) && judge.may_go(object, &mut plan.waiting) {
            plan.epochs.push((*epoch, object.digest, object.size_bytes));
            plan.freed_bytes += object.size_bytes;
        }
    }
    plan.costs = costs(ledger, &judge.open);
}

/// Judges by times of the storage alone.
struct Judge {
    /// Epochs that may still be written to.
    open: BTreeSet<EpochId>,
    /// Nothing that was stored after it goes; none when it cannot be told.
    epoch_began: Option<Timestamp>,
    /// The newest time that the storage states.
    newest: Timestamp,
    /// Before it there was no repository.
    created: Timestamp,
    protected_days: u32,
}

impl Judge {
    fn new(ledger: &Ledger<'_>) -> Self {
        let seen = ledger.seen;
        let stored = seen
            .objects
            .iter()
            .chain(seen.epochs.iter().map(|(_, one)| one));
        let newest = stored.filter_map(|one| one.stored).max();
        let newest = newest.unwrap_or(Timestamp::MIN);
        let mut began: HashMap<EpochId, Option<Timestamp>> = HashMap::new();
        for (epoch, object) in &seen.epochs {
            // The first object of an epoch is as old as the epoch.
            let entry = began.entry(*epoch).or_insert(object.stored);
            *entry = match (*entry, object.stored) {
                (Some(one), Some(other)) => Some(one.min(other)),
                _ => None,
            };
        }
        // Unless it was stored again since, by a repair or a thief: what its backups need is older then.
        let stored: HashMap<Digest, Timestamp> = seen
            .objects
            .iter()
            .filter_map(|one| Some((one.digest, one.stored?)))
            .collect();
        let mut current: BTreeMap<WriterId, EpochId> = BTreeMap::new();
        for envelope in &ledger.backups {
            current.insert(envelope.writer, envelope.epoch.id);
            let of_objects = envelope.objects.iter();
            let of_objects = of_objects.filter_map(|(digest, _)| stored.get(digest).copied());
            if let (Some(oldest), Some(Some(began))) =
                (of_objects.min(), began.get_mut(&envelope.epoch.id))
            {
                *began = oldest.min(*began);
            }
        }
        let long_ago = newest
            .checked_sub(days_of(EPOCH_DAYS_MAX) + SignedDuration::from_hours(ORPHAN_HOURS))
            .unwrap_or(Timestamp::MIN);
        let began = |epoch: &EpochId| began.get(epoch).copied().flatten();
        // A writer that stopped long ago does not write to its last epoch any more.
        let open: BTreeSet<EpochId> = current
            .into_values()
            .filter(|epoch| began(epoch).is_none_or(|time| time >= long_ago))
            .collect();
        let times: Option<Vec<Timestamp>> = open.iter().map(began).collect();
        let epoch_began = times.and_then(|times| times.into_iter().min());
        Self {
            open,
            epoch_began: epoch_began.and_then(|time| time.checked_sub(CLOCK_TOLERANCE).ok()),
            newest,
            created: seen
                .created
                .and_then(|time| time.checked_sub(CLOCK_TOLERANCE).ok())
                .unwrap_or(Timestamp::MIN),
            protected_days: seen.protected_days.unwrap_or(0),
        }
    }

    fn may_go(&self, object: &ObjectSeen, waiting: &mut Waiting) -> bool {
        let size = object.size_bytes;
        let (Some(stored), Some(epoch_began)) = (object.stored, self.epoch_began) else {
            waiting.unknown_bytes += size;
            return false;
        };
        let age = self.newest.duration_since(stored);
        if stored < self.created {
            waiting.unknown_bytes += size;
        } else if stored >= epoch_began {
            waiting.epoch_bytes += size;
        } else if age <= SignedDuration::from_hours(ORPHAN_HOURS) {
            waiting.young_bytes += size;
        } else if age <= days_of(self.protected_days) {
            waiting.protected_bytes += size;
        } else {
            return true;
        }
        false
    }
}

fn costs(ledger: &Ledger<'_>, open: &BTreeSet<EpochId>) -> Vec<EpochCost> {
    let mut costs: Vec<EpochCost> = Vec::new();
    let mut places: HashMap<EpochId, usize> = HashMap::new();
    // Objects by whether a kept backup needs them; no object is in two epochs.
    let mut objects: HashMap<Digest, (usize, u64, bool)> = HashMap::new();
    for (index, envelope) in ledger.backups.iter().enumerate() {
        let epoch = envelope.epoch.id;
        let place = *places.entry(epoch).or_insert_with(|| {
            costs.push(EpochCost {
                epoch,
                begins: envelope.started,
                ends: envelope.started,
                kept: 0,
                going: 0,
                kept_bytes: 0,
                unneeded_bytes: 0,
                is_open: open.contains(&epoch),
                needed_by: None,
            });
            costs.len() - 1
        });
        let is_kept = ledger.is_kept(index);
        let cost = &mut costs[place];
        cost.ends = envelope.started;
        if is_kept {
            cost.kept += 1;
            cost.needed_by = Some(envelope.label.clone());
        } else {
            cost.going += 1;
        }
        for (digest, size) in &envelope.objects {
            let entry = objects.entry(*digest).or_insert((place, *size, false));
            entry.2 |= is_kept;
        }
    }
    for (place, size, is_kept) in objects.into_values() {
        let cost = &mut costs[place];
        if is_kept {
            cost.kept_bytes += size;
        } else {
            cost.unneeded_bytes += size;
        }
    }
    costs
}
