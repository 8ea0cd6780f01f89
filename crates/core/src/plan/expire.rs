//! What may expire: which backups go, why each of the others stays, and which objects nobody needs then.
//!
//! [`rules`] counts by the calendar, [`objects`] finds what is not needed any more. Nothing here asks a clock or a
//! storage. When in doubt a backup stays, and when the doubt is about the whole nothing goes: docs/adr/0017.

mod objects;
mod refusals;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::backup::part_name;
use crate::format::envelope::{Envelope, EnvelopeAsset, Status};
use crate::format::expiry::ExpiredRanges;
use crate::format::{Digest, EpochId, Label, WriterId};
use crate::source::Class;

pub use objects::{EpochCost, ORPHAN_HOURS, Waiting};
pub use rules::Retention;

/// By how much clocks may disagree before they count as wrong.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// Everything that the plan depends on.
#[derive(Clone, Debug)]
pub struct ExpireInput {
    /// The time, by the clock of this host.
    pub now: Timestamp,
    /// In which hours, days and weeks are counted.
    pub time_zone: TimeZone,
    /// The operator says that the clock is right, whatever it looks like.
    pub clock_is_right: bool,
    /// The operator says that envelopes which are missing without a record are lost and to be forgotten.
    pub accept_missing: bool,
    /// The repositories that may lose something; empty for all.
    pub chosen: BTreeSet<String>,
    /// All repositories of the configuration.
    pub repositories: BTreeMap<String, RepositorySeen>,
}

/// A repository, looked at.
#[derive(Clone, Debug, Default)]
pub struct RepositorySeen {
    /// What it keeps; without it everything.
    pub retention: Option<Retention>,
    /// What single assets keep instead.
    pub assets: BTreeMap<String, Retention>,
    /// Its envelopes, in any order.
    pub backups: Vec<BackupSeen>,
    /// What is wrong with its history, a sentence each.
    pub problems: Vec<String>,
    /// How many problems there are besides missing envelopes.
    pub other_problems: usize,
    /// Envelopes that are missing without a record; each range is one of the problems.
    pub missing: ExpiredRanges,
    /// Envelopes on record as let go.
    pub expired: ExpiredRanges,
    /// Backups that are held, and why.
    pub holds: Vec<(Label, String)>,
    /// The level, 1 to 4, that backups were verified at on this host; 0 for damaged ones.
    pub verified: BTreeMap<Label, u8>,
    /// What lies below `objects/`.
    pub objects: Vec<ObjectSeen>,
    /// What lies below `epochs/`.
    pub epochs: Vec<(EpochId, ObjectSeen)>,
    /// When the repository was made, by the storage's clock.
    pub created: Option<Timestamp>,
    /// For how many days after its storing the storage refuses to delete an object.
    pub protected_days: Option<u32>,
    /// Whether it is a copy of one of the others: no backup is written to it.
    pub is_copy: bool,
}

/// A backup in one repository.
#[derive(Clone, Debug)]
pub struct BackupSeen {
    /// Its envelope.
    pub envelope: Envelope,
    /// The digest of its stored bytes.
    pub digest: Digest,
    /// When it was stored, by the storage's clock.
    pub stored: Option<Timestamp>,
}

/// An object, as the storage lists it.
#[derive(Clone, Copy, Debug)]
pub struct ObjectSeen {
    /// The digest that is its name.
    pub digest: Digest,
    /// Its stored size.
    pub size_bytes: u64,
    /// When it was stored, by the storage's clock.
    pub stored: Option<Timestamp>,
}

/// Why a backup stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// A stable code.
    pub code: &'static str,
    /// The same for people.
    pub text: String,
}

/// Why nothing goes at all, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A stable code.
    pub code: &'static str,
    /// The copy that it is about, when nothing goes from that alone.
    pub copy: Option<String>,
    /// What stands in the way.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// What goes and what stays.
#[derive(Clone, Debug)]
pub struct ExpirePlan {
    /// The chosen repositories, by name.
    pub repositories: BTreeMap<String, RepositoryPlan>,
    /// Why nothing may go; then the rest of the plan, or that of one copy, is for reading only.
    pub refusals: Vec<Refusal>,
}

/// What goes and stays in one repository.
#[derive(Clone, Debug, Default)]
pub struct RepositoryPlan {
    /// The backups that stay, newest first.
    pub kept: Vec<Kept>,
    /// The backups that go, oldest first.
    pub going: Vec<Going>,
    /// What may be missing afterwards; to be recorded before anything is deleted.
    pub expired: ExpiredRanges,
    /// The newest sequence number that is known of each writer.
    pub seen: BTreeMap<WriterId, u64>,
    /// Objects that no kept backup needs, with their sizes.
    pub objects: Vec<(Digest, u64)>,
    /// Sealed identities of epochs that no kept backup needs.
    pub epochs: Vec<(EpochId, Digest, u64)>,
    /// The bytes of what goes.
    pub freed_bytes: u64,
    /// What no kept backup needs and stays for now.
    pub waiting: Waiting,
    /// What each epoch costs, oldest first.
    pub costs: Vec<EpochCost>,
}

/// A backup that stays.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its label.
    pub label: Label,
    /// When it was taken.
    pub started: Timestamp,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
}

/// A backup that goes.
#[derive(Clone, Debug)]
pub struct Going {
    /// Its label.
    pub label: Label,
    /// Whose chain it is in.
    pub writer: WriterId,
    /// Its place there.
    pub sequence: u64,
    /// When it was taken.
    pub started: Timestamp,
    /// The objects that it needs, for when it cannot be deleted.
    pub objects: Vec<Digest>,
}

impl ExpirePlan {
    /// Whether nothing may go from any repository.
    pub fn is_refused(&self) -> bool {
        self.refusals.iter().any(|refusal| refusal.copy.is_none())
    }

    /// Whether nothing may go from this one.
    pub fn refuses(&self, repository: &str) -> bool {
        let mut refusals = self.refusals.iter();
        refusals.any(|refusal| refusal.copy.as_ref().is_none_or(|copy| copy == repository))
    }

    /// Whether there is anything to do.
    pub fn is_empty(&self) -> bool {
        self.repositories
            .values()
            .all(|plan| plan.going.is_empty() && plan.objects.is_empty() && plan.epochs.is_empty())
    }
}

/// The envelopes of one repository, oldest first, with the reasons found so far.
struct Ledger<'i> {
    seen: &'i RepositorySeen,
    is_chosen: bool,
    /// Ordered by run.
    backups: Vec<&'i Envelope>,
    /// When each was stored, by the storage's clock.
    stored: Vec<Option<Timestamp>>,
    /// The times that rules count by; none for those whose clock was wrong.
    times: Vec<Option<Timestamp>>,
    reasons: Vec<BTreeSet<Reason>>,
}

/// Plans what goes.
pub fn plan_expire(input: &ExpireInput) -> ExpirePlan {
    let mut ledgers: BTreeMap<&str, Ledger<'_>> = BTreeMap::new();
    for (name, seen) in &input.repositories {
        let is_chosen = input.chosen.is_empty() || input.chosen.contains(name);
        let mut ledger = Ledger::new(seen, is_chosen, input.clock_is_right);
        if is_chosen {
            ledger.keep_newest();
            ledger.keep_levels();
            ledger.keep_holds();
            ledger.keep_protected(input.now);
            rules::apply(&mut ledger, &input.time_zone, input.now);
        } else {
            ledger.keep_all();
        }
        ledgers.insert(name, ledger);
    }
    // What is needed may need something itself.
    let count = |ledgers: &BTreeMap<&str, Ledger<'_>>| -> usize {
        ledgers.values().map(Ledger::kept).sum()
    };
    let mut before = None;
    while before != Some(count(&ledgers)) {
        before = Some(count(&ledgers));
        keep_keys(&mut ledgers);
        keep_parts(&mut ledgers);
    }
    let refusals = refusals::refusals(input, &ledgers);
    let chosen = ledgers.into_iter().filter(|(_, ledger)| ledger.is_chosen);
    let repositories = chosen
        .map(|(name, ledger)| (name.to_owned(), ledger.finish(input.accept_missing)))
        .collect();
    ExpirePlan {
        repositories,
        refusals,
    }
}

impl<'i> Ledger<'i> {
    fn new(seen: &'i RepositorySeen, is_chosen: bool, clock_is_right: bool) -> Self {
        let mut ordered: Vec<&BackupSeen> = seen.backups.iter().collect();
        ordered.sort_by_key(|one| {
            let envelope = &one.envelope;
            (envelope.run, envelope.writer, envelope.sequence)
        });
        let stored = ordered.iter().map(|one| one.stored).collect();
        let backups: Vec<&Envelope> = ordered.iter().map(|one| &one.envelope).collect();
        // A backup cannot be younger than one that was taken after it.
        let mut ceiling = Timestamp::MAX;
        let mut times: Vec<Option<Timestamp>> = backups
            .iter()
            .rev()
            .map(|one| {
                let is_sound =
                    clock_is_right || one.started.duration_since(ceiling) <= CLOCK_TOLERANCE;
                ceiling = ceiling.min(one.started);
                is_sound.then_some(one.started)
            })
            .collect();
        times.reverse();
        let reasons = vec![BTreeSet::new(); backups.len()];
        Self {
            seen,
            is_chosen,
            backups,
            stored,
            times,
            reasons,
        }
    }

    fn keep(&mut self, index: usize, code: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.reasons[index].insert(Reason { code, text });
    }

    fn level(&self, index: usize) -> Option<u8> {
        self.seen.verified.get(&self.backups[index].label).copied()
    }

    fn is_damaged(&self, index: usize) -> bool {
        self.level(index) == Some(0)
    }

    /// The backups that hold an asset, newest first: those that hold it whole, or, if there is none, all.
    fn holding(&self, name: &str) -> Vec<usize> {
        let all = |good: bool| -> Vec<usize> {
            let fits = |asset: &EnvelopeAsset, index: usize| {
                let is_good = asset.status == Status::Complete && !self.is_damaged(index);
                asset.name == name && (is_good || !good)
            };
            let indices = (0..self.backups.len()).rev();
            indices
                .filter(|index| {
                    let mut assets = self.backups[*index].assets.iter();
                    assets.any(|asset| fits(asset, *index))
                })
                .collect()
        };
        let good = all(true);
        if good.is_empty() { all(false) } else { good }
    }

    fn asset_names(&self) -> BTreeSet<&'i str> {
        let assets = self.backups.iter().flat_map(|one| &one.assets);
        assets.map(|asset| asset.name.as_str()).collect()
    }

    /// The name of the copy that this is.
    fn copy(&self, name: &str) -> Option<String> {
        self.seen.is_copy.then(|| name.to_owned())
    }

    /// What the newest backup of this label says of itself, and the level that it was verified at.
    fn found(&self, label: &Label) -> Option<(Status, Option<u8>)> {
        let index = self.backups.iter().rposition(|one| one.label == *label)?;
        Some((self.backups[index].status, self.level(index)))
    }

    /// The names of all keys and secrets in it.
    fn key_names(&self) -> BTreeSet<&'i str> {
        let assets = self.backups.iter().flat_map(|one| &one.assets);
        let keys = assets.filter(|asset| is_key(asset.class));
        keys.map(|asset| asset.name.as_str()).collect()
    }

    /// Nothing goes from a repository that was not asked for.
    fn keep_all(&mut self) {
        for index in 0..self.backups.len() {
            self.keep(index, "not-asked", "its repository was not asked for");
        }
    }

    /// The newest of each chain, from which it goes on, and the newest of each asset.
    fn keep_newest(&mut self) {
        let mut writers = BTreeSet::new();
        for index in (0..self.backups.len()).rev() {
            if writers.insert(self.backups[index].writer) {
                self.keep(index, "newest", "the newest backup");
            }
        }
        for name in self.asset_names() {
            if let Some(index) = self.holding(name).first().copied()
                && !self.reasons[index]
                    .iter()
                    .any(|reason| reason.code == "newest")
            {
                self.keep(index, "newest-of-asset", format!("the newest whole {name}"));
            }
        }
    }

    fn keep_levels(&mut self) {
        for level in 1..=4 {
            let mut indices = (0..self.backups.len()).rev();
            let newest = indices.find(|index| self.level(*index).is_some_and(|one| one >= level));
            if let Some(index) = newest {
                let text = format!("the newest that was verified at L{level}");
                self.keep(index, "verified", text);
            }
        }
    }

    fn keep_holds(&mut self) {
        for (label, reason) in &self.seen.holds {
            for index in 0..self.backups.len() {
                if self.backups[index].label == *label {
                    self.keep(index, "hold", format!("held: {reason}"));
                }
            }
        }
    }

    /// What the storage would refuse to delete.
    fn keep_protected(&mut self, now: Timestamp) {
        let now = self.newest_time().map_or(now, |newest| newest.min(now));
        for index in 0..self.backups.len() {
            let envelope = self.backups[index];
            // What was copied or repaired is protected from then on.
            let stored = envelope
                .finished
                .max(self.stored[index].unwrap_or(Timestamp::MIN));
            let configured = self
                .seen
                .protected_days
                .and_then(|days| stored.checked_add(days_of(days)).ok());
            // The envelope tells what the storage does that the backup was written to.
            let written = envelope.lock_until.filter(|_| !self.seen.is_copy);
            let until = written.max(configured);
            if let Some(until) = until.filter(|until| *until > now) {
                let day = until.strftime("%F");
                self.keep(
                    index,
                    "immutable",
                    format!("the storage protects it until {day}"),
                );
            }
        }
    }

    /// When the newest backup was taken.
    fn newest_time(&self) -> Option<Timestamp> {
        self.backups.last().map(|one| one.started)
    }

    fn is_kept(&self, index: usize) -> bool {
        !self.reasons[index].is_empty()
    }

    /// How many backups stay.
    fn kept(&self) -> usize {
        (0..self.backups.len())
            .filter(|index| self.is_kept(*index))
            .count()
    }

    fn finish(self, accept_missing: bool) -> RepositoryPlan {
        let mut plan = RepositoryPlan::default();
        for (index, envelope) in self.backups.iter().enumerate() {
            let label = envelope.label.clone();
            if self.is_kept(index) {
                plan.kept.push(Kept {
                    label,
                    started: envelope.started,
                    reasons: self.reasons[index].iter().cloned().collect(),
                });
            } else {
                plan.going.push(Going {
                    label,
                    writer: envelope.writer,
                    sequence: envelope.sequence,
                    started: envelope.started,
                    objects: envelope.objects.iter().map(|(digest, _)| *digest).collect(),
                });
            }
        }
        plan.kept.reverse();
        let mut kept: Vec<(WriterId, u64)> = (0..self.backups.len())
            .filter(|index| self.is_kept(*index))
            .map(|index| (self.backups[index].writer, self.backups[index].sequence))
            .collect();
        kept.sort_unstable();
        let going = plan.going.iter().map(|one| (one.writer, one.sequence));
        let mut expired = self.seen.expired.union(&ExpiredRanges::of(going));
        if accept_missing {
            expired = expired.union(&self.seen.missing);
        }
        // What is there and stays is not on record: its loss must show.
        plan.expired = expired.without(&kept);
        plan.seen = plan.expired.union(&ExpiredRanges::of(kept)).newest();
        objects::plan(&self, &mut plan);
        plan
    }
}

fn days_of(days: u32) -> SignedDuration {
    SignedDuration::from_hours(i64::from(days) * 24)
}

fn needs_keys(class: Class) -> bool {
    matches!(class, Class::Database | Class::Audit)
}

fn is_key(class: Class) -> bool {
    matches!(class, Class::Key | Class::Secret)
}

/// Keeps the keys and secrets that kept databases need: of the same run, else the newest before it, else the oldest.
fn keep_keys(ledgers: &mut BTreeMap<&str, Ledger<'_>>) {
    struct Database {
        run: u64,
        repository: String,
        /// The keys in the same envelope.
        keys: BTreeSet<String>,
    }
    let mut databases: Vec<Database> = Vec::new();
    for (repository, ledger) in &*ledgers {
        let holding: Vec<(&str, BTreeSet<usize>)> = ledger
            .key_names()
            .into_iter()
            .map(|key| (key, ledger.holding(key).into_iter().collect()))
            .collect();
        for (index, envelope) in ledger.backups.iter().enumerate() {
            if ledger.is_kept(index) && envelope.assets.iter().any(|one| needs_keys(one.class)) {
                let with = holding
                    .iter()
                    .filter(|(_, indices)| indices.contains(&index));
                databases.push(Database {
                    run: envelope.run,
                    repository: (*repository).to_owned(),
                    keys: with.map(|(key, _)| (*key).to_owned()).collect(),
                });
            }
        }
    }
    for ledger in ledgers.values_mut().filter(|ledger| ledger.is_chosen) {
        for key in ledger.key_names() {
            let mut oldest_first = ledger.holding(key);
            oldest_first.reverse();
            // A key in the same envelope needs no word, in a copy neither.
            for database in databases.iter().filter(|one| !one.keys.contains(key)) {
                let (run, place) = (database.run, &database.repository);
                let after = oldest_first.partition_point(|index| ledger.backups[*index].run <= run);
                let before = after.checked_sub(1).map(|place| oldest_first[place]);
                let Some(index) = before.or_else(|| oldest_first.first().copied()) else {
                    continue;
                };
                let text = format!("has the {key} for database backups in {place}");
                let already = Reason {
                    code: "needed-by-database",
                    text,
                };
                ledger.reasons[index].insert(already);
            }
        }
    }
}

/// Keeps what the assets of kept backups have redirected, of the same run: whether an asset has a part is told by their names, so that
/// it holds also for backups of another configuration.
fn keep_parts(ledgers: &mut BTreeMap<&str, Ledger<'_>>) {
    /// The label of a run and the name of a part.
    type Part = (Label, String);
    let mut needed: BTreeMap<Part, (String, String)> = BTreeMap::new();
    for (repository, ledger) in &*ledgers {
        for index in (0..ledger.backups.len()).filter(|index| ledger.is_kept(*index)) {
            let envelope = ledger.backups[index];
            for asset in &envelope.assets {
                let part = part_name(&asset.name);
                // A part in the same envelope needs no word, in a copy neither.
                if !envelope.assets.iter().any(|other| other.name == part) {
                    let needs = (asset.name.clone(), (*repository).to_owned());
                    needed.insert((envelope.label.clone(), part), needs);
                }
            }
        }
    }
    for ledger in ledgers.values_mut().filter(|ledger| ledger.is_chosen) {
        for index in 0..ledger.backups.len() {
            let envelope = ledger.backups[index];
            let secrets = envelope
                .assets
                .iter()
                .filter(|asset| asset.class == Class::Secret);
            for part in secrets {
                let part = (envelope.label.clone(), part.name.clone());
                if let Some((asset, place)) = needed.get(&part) {
                    let text = format!(
                        "has the files with secrets of {asset} for the same backup in {place}"
                    );
                    ledger.keep(index, "needed-by-asset", text);
                }
            }
        }
    }
}
