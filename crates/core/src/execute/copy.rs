//! Copies a repository to another storage: sealed objects verbatim, each proved by its digest, envelopes last.
//!
//! No identity is needed, nothing in either storage is deleted or replaced. What is there already is not read again: the
//! copy is listed once. A copy that was interrupted lists and verifies what is in it, and the next run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::transfer::{Expected, Fetch, Fetched, THREADS_MAX};
use super::{Event, Observer, Stopwatch};
use crate::cancel::Cancel;
use crate::error_chain;
use crate::format::name::{self, ObjectName};
use crate::format::repository_document::RepositoryDocument;
use crate::format::{Digest, Label, WriterId, limits};
use crate::plan::copy::{CopyPlan, CopyStep};
use crate::repository::{ExpiryRecords, Repository, RepositoryError, StoredEnvelope};
use crate::storage::{Put, Storage, StorageError};

/// Envelopes are stored whenever this many bytes of objects have arrived.
const PART_BYTES: u64 = 256 << 20;

/// What a copy needs.
pub struct CopyJob<'a> {
    /// The repository that is copied.
    pub from: &'a Repository,
    /// Where to.
    pub to: &'a dyn Storage,
    /// The name of the copy.
    pub name: &'a str,
    /// A private directory for objects that are too long for the memory.
    pub scratch: &'a Path,
    /// Stops the run.
    pub cancel: &'a Cancel,
    /// Hears of it.
    pub observer: &'a dyn Observer,
}

/// What a copy did.
#[derive(Clone, Debug, Default)]
pub struct CopyReport {
    /// Objects that were stored: documents, epochs, packs, artifacts, manifests, holds.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The backups whose envelopes were stored, in the order of their chain.
    pub backups: Vec<Label>,
    /// Backups that the copy has now.
    pub backups_there: u64,
    /// What is damaged in the repository that was copied, and was not copied.
    pub damaged: BTreeMap<ObjectName, String>,
    /// Backups that were not copied because of that.
    pub held_back: Vec<Label>,
    /// Backups that were not copied because the copy has let them go.
    pub let_go: u64,
    /// What is wrong with the copy itself, or with the history of the repository.
    pub problems: Vec<String>,
    /// The newest envelope that both have.
    pub newest: Option<StoredEnvelope>,
    /// How long it took.
    pub seconds: f64,
}

/// Why nothing, or not everything, was copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The repository that is copied failed.
    #[error("reading from {location}")]
    From {
        /// Its address.
        location: String,
        /// Its error.
        #[source]
        source: RepositoryError,
    },
    /// The copy failed.
    #[error("writing to {location}")]
    To {
        /// Its address.
        location: String,
        /// Its error.
        #[source]
        source: RepositoryError,
    },
    /// There is something else at the place of the copy.
    #[error("{location} holds {found}, it cannot become a copy of {from}")]
    Other {
        /// The address of the copy.
        location: String,
        /// What is there.
        found: String,
        /// The address of the original.
        from: String,
    },
    /// The copy knows more than the original.
    #[error(
        "{location} has revision {there} of the repository document, {from} only {here}: it was rolled back"
    )]
    RolledBack {
        /// The address of the copy.
        location: String,
        /// The address of the original.
        from: String,
        /// The copy's revision.
        there: u32,
        /// The original's revision.
        here: u32,
    },
}

/// What a storage holds, by name, with sizes.
pub(super) type Listing = BTreeMap<ObjectName, u64>;

/// Lists everything of a repository, each prefix once.
pub(super) fn list_all(storage: &dyn Storage) -> Result<Listing, StorageError> {
    let mut found = Listing::new();
    for prefix in name::PREFIXES {
        storage.list(prefix, &mut |name, stat| {
            found.insert(name, stat.size_bytes);
        })?;
    }
    Ok(found)
}

/// The names below a prefix, sorted.
pub(super) fn below<'l>(
    listing: &'l Listing,
    prefix: &'static str,
) -> impl Iterator<Item = &'l ObjectName> {
    let names = listing.keys();
    names.filter(move |name| name.as_str().starts_with(prefix))
}

/// Copies what the copy does not have yet. Damage is in the report; an error means that a storage could not be used.
pub fn copy(job: &CopyJob<'_>) -> Result<CopyReport, CopyError> {
    let watch = Stopwatch::start();
    let copying = Copying {
        job,
        report: CopyReport::default(),
    };
    let mut report = copying.run()?;
    report.seconds = watch.seconds();
    Ok(report)
}

struct Copying<'j, 'a> {
    job: &'j CopyJob<'a>,
    report: CopyReport,
}

impl Copying<'_, '_> {
    fn run(mut self) -> Result<CopyReport, CopyError> {
        let (from, to) = (self.job.from.storage(), self.job.to);
        let there = list_all(to).map_err(|error| self.to(error))?;
        let documents = self.documents(&there)?;
        // Envelopes are listed first: what they name was stored before them.
        let mut envelopes = Vec::new();
        from.list(name::ENVELOPES, &mut |name, _| envelopes.push(name))
            .map_err(|error| self.from(error))?;
        envelopes.sort();
        let known = |name: &ObjectName| {
            let writer = name.envelope_parts().map(|(writer, _)| writer);
            writer.is_none_or(|writer| self.job.from.document().writer(writer).is_ok())
        };
        let all = envelopes.len();
        envelopes.retain(known);
        if envelopes.len() < all {
            self.report.problems.push(format!(
                "{} envelopes of writers who may not write to the repository were not copied",
                all - envelopes.len()
            ));
        }
        self.look_for_rollback(&envelopes, &there);
        self.leave_out_what_it_let_go(&mut envelopes, &there)?;
        let plan = self.plan(&envelopes, &there)?;
        for (name, (found, size)) in &plan.other_size {
            self.report.problems.push(format!(
                "the copy has {name} with {found} bytes, {size} were written; it is damaged"
            ));
        }

        self.job.observer.event(Event::Begin {
            name: self.job.name,
            what: "copy",
            size_bytes: Some(plan.size_bytes()),
        });
        for (name, bytes) in documents {
            self.create(&name, &bytes)?;
        }
        self.epochs(&plan, &there)?;
        // A record of what has expired comes before the envelopes, so that none is missed.
        // What another copy let go says nothing about this one.
        self.documents_below(name::EXPIRED, &there, |name| {
            name.expired_number().is_some()
        })?;
        self.documents_below(name::HOLDS, &there, |_| true)?;
        for part in plan.parts(PART_BYTES) {
            self.part(part, &plan)?;
        }
        self.job.observer.event(Event::End {
            name: self.job.name,
        });
        let known = below(&there, name::ENVELOPES).count() + self.report.backups.len();
        self.report.backups_there = known as u64;
        Ok(self.report)
    }

    fn from(&self, source: impl Into<RepositoryError>) -> CopyError {
        CopyError::From {
            location: self.job.from.storage().location().to_owned(),
            source: source.into(),
        }
    }

    fn to(&self, source: impl Into<RepositoryError>) -> CopyError {
        CopyError::To {
            location: self.job.to.location().to_owned(),
            source: source.into(),
        }
    }

    /// Refuses a place that holds anything but this repository; the documents that it lacks.
    fn documents(&self, there: &Listing) -> Result<Vec<(ObjectName, Vec<u8>)>, CopyError> {
        let (from, to) = (self.job.from.storage(), self.job.to);
        let here = self.job.from.document();
        let other = |found: String| CopyError::Other {
            location: to.location().to_owned(),
            found,
            from: from.location().to_owned(),
        };
        let revisions = below(there, name::REPOSITORY).filter_map(ObjectName::revision);
        let newest = revisions.max().unwrap_or(0);
        if newest == 0 && below(there, name::ENVELOPES).next().is_some() {
            return Err(other("envelopes without a repository document".to_owned()));
        }
        let mut missing = Vec::new();
        for revision in 1..=here.revision {
            let name = ObjectName::repository(revision);
            let bytes = from
                .get(&name, limits::DOCUMENT_MAX)
                .map_err(|error| self.from(error))?;
            if !there.contains_key(&name) {
                missing.push((name, bytes));
                continue;
            }
            let found = to
                .get(&name, limits::DOCUMENT_MAX)
                .map_err(|error| self.to(error))?;
            if found == bytes {
                continue;
            }
            return Err(match RepositoryDocument::open(&found, None) {
                Ok(document) if document.repository != here.repository => other(format!(
                    "the repository {:?} of deployment {:?}",
                    document.name, document.deployment
                )),
                Ok(_) => other("another history of this repository".to_owned()),
                Err(error) if revision == 1 => self.to(RepositoryError::damaged(&name, error)),
                Err(_) => other(format!("another {name}")),
            });
        }
        if newest > here.revision {
            return Err(CopyError::RolledBack {
                location: to.location().to_owned(),
                from: from.location().to_owned(),
                there: newest,
                here: here.revision,
            });
        }
        Ok(missing)
    }

    /// A copy that has newer envelopes than the original tells of history that was removed there.
    fn look_for_rollback(&mut self, envelopes: &[ObjectName], there: &Listing) {
        let mut last: BTreeMap<WriterId, u64> = BTreeMap::new();
        for (writer, sequence) in envelopes.iter().filter_map(ObjectName::envelope_parts) {
            let known = last.entry(writer).or_default();
            *known = sequence.max(*known);
        }
        let mut ahead: BTreeMap<WriterId, u64> = BTreeMap::new();
        for name in below(there, name::ENVELOPES) {
            if let Some((writer, sequence)) = name.envelope_parts()
                && sequence > last.get(&writer).copied().unwrap_or(0)
            {
                let known = ahead.entry(writer).or_default();
                *known = sequence.max(*known);
            }
        }
        for (writer, sequence) in ahead {
            self.report.problems.push(format!(
                "the copy has envelope {sequence} of writer {writer}, the repository only {}: its newest backups were removed",
                last.get(&writer).copied().unwrap_or(0)
            ));
        }
    }

    /// What a copy with a retention of its own has let go does not come back.
    fn leave_out_what_it_let_go(
        &mut self,
        envelopes: &mut Vec<ObjectName>,
        there: &Listing,
    ) -> Result<(), CopyError> {
        let (document, name) = (self.job.from.document(), Some(self.job.name));
        let records = ExpiryRecords::read(self.job.to, document, name);
        let mut records = records.map_err(|error| self.to(error))?;
        self.report.problems.append(&mut records.problems);
        let expired = records.let_go();
        let all = envelopes.len();
        envelopes.retain(|name| {
            let parts = name.envelope_parts();
            let is_gone = parts.is_some_and(|(writer, number)| expired.covers(writer, number));
            // One that it has still, because the expiry was interrupted or a hold came, is looked after.
            !is_gone || there.contains_key(name)
        });
        self.report.let_go = (all - envelopes.len()) as u64;
        Ok(())
    }

    /// Reads all envelopes, several at a time, and plans them in their order.
    fn plan(&mut self, names: &[ObjectName], there: &Listing) -> Result<CopyPlan, CopyError> {
        /// How many envelopes are in memory at once.
        const AT_ONCE: usize = 32;
        let mut plan = CopyPlan::default();
        for names in names.chunks(AT_ONCE) {
            let read = self.read_envelopes(names);
            for (name, outcome) in names.iter().zip(read) {
                match outcome {
                    Ok(Some(stored)) => {
                        plan.add(&stored.envelope, there);
                        let newest = self.report.newest.as_ref();
                        let is_newer =
                            newest.is_none_or(|newest| newest.envelope.run < stored.envelope.run);
                        if is_newer && there.contains_key(name) {
                            self.report.newest = Some(stored);
                        }
                    }
                    Ok(None) => {}
                    Err(error @ RepositoryError::Damaged { .. }) => {
                        self.report
                            .damaged
                            .insert(name.clone(), error_chain(&error));
                    }
                    Err(error) => return Err(self.from(error)),
                }
            }
        }
        Ok(plan)
    }

    /// The envelopes of these names; `None` for one that has been deleted since.
    fn read_envelopes(
        &self,
        names: &[ObjectName],
    ) -> Vec<Result<Option<StoredEnvelope>, RepositoryError>> {
        let from = self.job.from;
        let outcomes = in_parallel(from.storage().readers(), names, |name| {
            self.job.cancel.check()?;
            if name.envelope_parts().is_none() {
                let error =
                    crate::format::FormatError::damaged("envelope", "that is no name of one");
                return Err(RepositoryError::damaged(name, error));
            }
            match from.envelope(name) {
                Ok(stored) => Ok(Some(stored)),
                Err(RepositoryError::Storage(StorageError::NotFound { .. })) => Ok(None),
                Err(error) => Err(error),
            }
        });
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("no worker stops early"))
            .collect()
    }

    fn create(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<(), CopyError> {
        let stored = self.job.to.create(name, bytes);
        if stored.map_err(|error| self.to(error))? == Put::Stored {
            self.report.objects += 1;
            self.report.bytes += bytes.len() as u64;
        }
        Ok(())
    }

    /// Every sealed identity of the epochs that are needed: a change of custodians adds some that no envelope names.
    fn epochs(&mut self, plan: &CopyPlan, there: &Listing) -> Result<(), CopyError> {
        let mut wanted = Vec::new();
        let from = self.job.from.storage();
        from.list(name::EPOCHS, &mut |name, stat| {
            if !there.contains_key(&name) {
                wanted.push((name, Some(stat.size_bytes)));
            }
        })
        .map_err(|error| self.from(error))?;
        wanted.retain(|(name, _)| {
            let epoch = name.epoch_id().filter(|_| name.digest().is_some());
            epoch.is_some_and(|epoch| plan.epochs.contains(&epoch))
        });
        let listed: BTreeSet<&ObjectName> = wanted.iter().map(|(name, _)| name).collect();
        let needed = plan.steps.iter().flat_map(|step| &step.objects);
        for (name, _) in needed.filter(|(name, _)| name.as_str().starts_with(name::EPOCHS)) {
            if !listed.contains(name) {
                let why = "it is missing".to_owned();
                self.report.damaged.insert(name.clone(), why);
            }
        }
        self.objects(&wanted)?;
        self.job.to.flush().map_err(|error| self.to(error))
    }

    /// Holds, and records of what has expired: small signed documents.
    fn documents_below(
        &mut self,
        prefix: &str,
        there: &Listing,
        is_wanted: impl Fn(&ObjectName) -> bool,
    ) -> Result<(), CopyError> {
        let mut names = Vec::new();
        let from = self.job.from.storage();
        from.list(prefix, &mut |name, _| names.push(name))
            .map_err(|error| self.from(error))?;
        names.retain(|name| is_wanted(name) && !there.contains_key(name));
        names.sort();
        for name in names {
            match from.get(&name, limits::DOCUMENT_MAX) {
                Ok(bytes) => self.create(&name, &bytes)?,
                // Released, or replaced by a newer record, since it was listed.
                Err(StorageError::NotFound { .. }) => {}
                Err(error) => return Err(self.from(error)),
            }
        }
        Ok(())
    }

    /// The objects of some backups, and then their envelopes.
    fn part(&mut self, steps: &[CopyStep], plan: &CopyPlan) -> Result<(), CopyError> {
        let objects: Vec<(ObjectName, Option<u64>)> = steps
            .iter()
            .flat_map(|step| step.objects.iter().cloned())
            .filter(|(name, _)| !name.as_str().starts_with(name::EPOCHS))
            .collect();
        self.objects(&objects)?;
        self.job.to.flush().map_err(|error| self.to(error))?;
        for step in steps.iter().filter(|step| step.is_new) {
            self.job.cancel.check().map_err(|error| self.to(error))?;
            self.envelope(step, plan)?;
        }
        Ok(())
    }

    /// Stores an envelope, unless something that it needs is not there.
    fn envelope(&mut self, step: &CopyStep, plan: &CopyPlan) -> Result<(), CopyError> {
        let from = self.job.from.storage();
        let bytes = match from.get(&step.envelope, limits::DOCUMENT_MAX) {
            Ok(bytes) => bytes,
            Err(StorageError::NotFound { .. }) => {
                // Expired in the meantime; what of its objects is gone, too, is no damage.
                for (name, _) in &step.objects {
                    self.report.damaged.remove(name);
                }
                return Ok(());
            }
            Err(error) => return Err(self.from(error)),
        };
        let document = self.job.from.document();
        let opened = crate::format::envelope::Envelope::open(&bytes, &step.envelope, document);
        let envelope =
            opened.map_err(|error| self.from(RepositoryError::damaged(&step.envelope, error)))?;
        let is_lacking = |(name, _): (ObjectName, Option<u64>)| {
            self.report.damaged.contains_key(&name) || plan.other_size.contains_key(&name)
        };
        if envelope.needs().any(is_lacking) {
            self.report.held_back.push(step.label.clone());
            return Ok(());
        }
        let put = self.job.to.create(&step.envelope, &bytes);
        put.map_err(|error| self.to(error))?;
        self.report.bytes += bytes.len() as u64;
        self.report.backups.push(step.label.clone());
        let newest = self.report.newest.as_ref();
        if newest.is_none_or(|newest| newest.envelope.run < envelope.run) {
            let digest = Digest::of(&bytes);
            self.report.newest = Some(StoredEnvelope {
                envelope,
                digest,
                stored: None,
            });
        }
        Ok(())
    }

    /// Copies objects, several at a time, each after its digest was checked.
    fn objects(&mut self, objects: &[(ObjectName, Option<u64>)]) -> Result<(), CopyError> {
        let (from, to, job) = (self.job.from.storage(), self.job.to, self.job);
        let bytes = AtomicU64::new(0);
        let count = AtomicU64::new(0);
        let on_bytes = |read| job.observer.event(Event::Bytes(read));
        let fetch = Fetch {
            scratch: job.scratch,
            cancel: job.cancel,
            on_bytes: &on_bytes,
        };
        let stop = AtomicBool::new(false);
        let outcomes = in_parallel_until(&stop, from.readers(), objects, |(name, size)| {
            let expected = Expected {
                name,
                digest: name.digest().expect("objects and epochs are named by it"),
                size_bytes: *size,
            };
            let stored = match fetch.fetch(from, expected) {
                Ok(Fetched::Good(proved)) => {
                    let put = proved.put(to, name).map_err(|error| self.to(error));
                    count.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(proved.size_bytes, Ordering::Relaxed);
                    put.map(|()| None)
                }
                Ok(Fetched::Damaged(why)) => Ok(Some(why)),
                Err(error) => Err(self.from(error)),
            };
            if stored.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            stored
        });
        let mut first = Ok(());
        for ((name, _), outcome) in objects.iter().zip(outcomes) {
            match outcome {
                Some(Ok(Some(why))) => drop(self.report.damaged.insert(name.clone(), why)),
                Some(Ok(None)) | None => {}
                Some(Err(error)) => first = first.and(Err(error)),
            }
        }
        self.report.objects += count.into_inner();
        self.report.bytes += bytes.into_inner();
        first
    }
}

/// Works on all items with up to `threads` threads; the outcomes in the order of the items.
fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    in_parallel_until(&AtomicBool::new(false), threads, items, work)
}

/// The same, until `stop` is set; what was not begun then has no outcome.
fn in_parallel_until<T: Sync, R: Send>(
    stop: &AtomicBool,
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<Option<R>> {
    let outcomes: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let next = Mutex::new(items.iter().zip(&outcomes));
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, THREADS_MAX).min(items.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let item = next.lock().expect("no panic under the lock").next();
                    let Some((item, outcome)) = item else { return };
                    let done = work(item);
                    *outcome.lock().expect("no panic under the lock") = Some(done);
                }
            });
        }
    });
    let outcomes = outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.into_inner().expect("no panic under the lock"))
        .collect()
}
