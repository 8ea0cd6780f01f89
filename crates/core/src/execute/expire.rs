//! Deletes what a plan lets go: the record first, then envelopes, then objects, so that a crash at any point leaves
//! a repository that verifies, and the next run finishes.
//!
//! No lock: docs/adr/0017 has the argument why a running backup needs none of what goes.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Event, Observer};
use crate::cancel::Cancel;
use crate::clock::{Clock, whole_seconds};
use crate::error_chain;
use crate::format::expiry::{ExpiredRanges, ExpiryRecord, OfCopy};
use crate::format::name::{self, ObjectName};
use crate::format::writer_key::WriterKey;
use crate::format::{Digest, EpochId, Label, VERSION, WriterId};
use crate::plan::expire::{BackupSeen, Going, ObjectSeen, RepositoryPlan, RepositorySeen};
use crate::repository::{ExpiryRecords, Repository, RepositoryError};
use crate::storage::{ObjectStat, Put, StorageError, batches};

/// How many records of expired backups stay: one may be being read while the next takes its place.
const RECORDS_KEPT: u64 = 2;

/// What applying a plan to one repository needs.
pub struct ExpireJob<'a> {
    /// The repository, opened with credentials that may delete.
    pub repository: &'a Repository,
    /// The same, opened with credentials that may write: the record is stored with them.
    pub writer: &'a Repository,
    /// This host's key, which signs the record; without it, only what is on record already goes.
    pub key: Option<&'a WriterKey>,
    /// What goes.
    pub plan: &'a RepositoryPlan,
    /// The program's name and version.
    pub tool: &'a str,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// Stops the run.
    pub cancel: &'a Cancel,
    /// Hears of it.
    pub observer: &'a dyn Observer,
}

/// What was deleted.
#[derive(Clone, Debug, Default)]
pub struct ExpireReport {
    /// The number of envelopes.
    pub envelopes: u64,
    /// The number of objects and epochs.
    pub objects: u64,
    /// The bytes of objects.
    pub freed_bytes: u64,
    /// What the storage refused to delete, a sentence each.
    pub refused: Vec<String>,
    /// Backups that would go and are not on record yet, for want of the writer key.
    pub not_recorded: u64,
}

/// Why applying stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpireError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Somebody placed a hold since the plan was made; nothing was deleted.
    #[error("backup {label} was put on hold while the plan was made; nothing was deleted")]
    Held {
        /// The backup.
        label: Label,
    },
    /// Another run has stored a record since the plan was made; nothing was deleted.
    #[error("another run of expire has just written record {number}; nothing was deleted")]
    Conflict {
        /// The number that was taken.
        number: u64,
    },
}

impl From<StorageError> for ExpireError {
    fn from(error: StorageError) -> Self {
        Self::Repository(error.into())
    }
}

/// Looks at a repository as plans see it: one list of each prefix, and every envelope.
///
/// Retention, verification and protection are for the caller to fill in.
pub fn look(repository: &Repository) -> Result<RepositorySeen, RepositoryError> {
    let catalogue = repository.catalogue()?;
    let holds = repository.holds()?;
    let storage = repository.storage();
    let seen = |digest: Digest, stat: ObjectStat| ObjectSeen {
        digest,
        size_bytes: stat.size_bytes,
        stored: stat.stored,
    };
    let mut objects = Vec::new();
    storage.list(name::OBJECTS, &mut |name, stat| {
        objects.extend(name.digest().map(|digest| seen(digest, stat)));
    })?;
    let mut epochs: Vec<(EpochId, ObjectSeen)> = Vec::new();
    storage.list(name::EPOCHS, &mut |name, stat| {
        if let (Some(epoch), Some(digest)) = (name.epoch_id(), name.digest()) {
            epochs.push((epoch, seen(digest, stat)));
        }
    })?;
    // In the order of the storage plans would differ from run to run.
    objects.sort_unstable_by_key(|object| object.digest);
    epochs.sort_unstable_by_key(|(epoch, object)| (*epoch, object.digest));
    let created = storage.stat(&ObjectName::repository(1))?;
    Ok(RepositorySeen {
        expired: catalogue.records.ranges(),
        backups: catalogue
            .backups
            .into_iter()
            .map(|stored| BackupSeen {
                envelope: stored.envelope,
                digest: stored.digest,
                stored: stored.stored,
            })
            .collect(),
        problems: catalogue.problems,
        other_problems: catalogue.other_problems,
        missing: catalogue.missing,
        holds: holds
            .iter()
            .map(|hold| (hold.label.clone(), hold.reason().to_owned()))
            .collect(),
        objects,
        epochs,
        created: created.and_then(|stat| stat.stored),
        is_copy: repository.copy().is_some(),
        ..RepositorySeen::default()
    })
}

/// Stores the record of what goes, without deleting anything.
pub fn record(job: &ExpireJob<'_>) -> Result<(), ExpireError> {
    let records = job.repository.expiry_records()?;
    store_record(job, &records).map(drop)
}

/// Deletes what goes.
pub fn expire(job: &ExpireJob<'_>) -> Result<ExpireReport, ExpireError> {
    let mut report = ExpireReport::default();
    let records = job.repository.expiry_records()?;
    let expired = store_record(job, &records)?;
    let (going, late): (Vec<&Going>, Vec<&Going>) = job
        .plan
        .going
        .iter()
        .partition(|going| expired.covers(going.writer, going.sequence));
    report.not_recorded = late.len() as u64;
    // After the record: who places a hold looks at the record afterwards, so one of the two sees the other.
    let held: HashSet<Label> = held_now(job)?;
    if let Some(going) = going.iter().find(|going| held.contains(&going.label)) {
        return Err(ExpireError::Held {
            label: going.label.clone(),
        });
    }
    let mut needed: HashSet<Digest> = late
        .iter()
        .flat_map(|going| &going.objects)
        .copied()
        .collect();

    let envelopes: Vec<(WriterId, u64)> = going
        .iter()
        .map(|going| (going.writer, going.sequence))
        .collect();
    let names = envelopes
        .iter()
        .map(|(writer, sequence)| (ObjectName::envelope(*writer, *sequence), 0));
    let deleted = delete_all(job, "envelopes", &names.collect::<Vec<_>>())?;
    report.envelopes = deleted.count;
    for refused in deleted.refused {
        needed.extend(&going[refused.index].objects);
        report.refused.push(refused.why);
    }

    let mut names: Vec<(ObjectName, u64)> = Vec::new();
    for (digest, size) in &job.plan.objects {
        if !needed.contains(digest) {
            names.push((ObjectName::object(*digest), *size));
        }
    }
    // The identity of an epoch goes last: without it, what is left of the epoch cannot be read.
    let objects = delete_all(job, "objects", &names)?;
    let all_gone = needed.is_empty() && objects.refused.is_empty();
    let epochs = job.plan.epochs.iter().filter(|_| all_gone);
    let names = epochs.map(|(epoch, digest, size)| (ObjectName::epoch(*epoch, *digest), *size));
    let epochs = delete_all(job, "epochs", &names.collect::<Vec<_>>())?;
    report.objects = objects.count + epochs.count;
    report.freed_bytes = objects.bytes + epochs.bytes;
    let refused = objects.refused.into_iter().chain(epochs.refused);
    report.refused.extend(refused.map(|refused| refused.why));

    // Those of the original, too: a copy gets each of them.
    let names = old(&records.numbers, records.newest.as_ref())
        .map(ObjectName::expired)
        .chain(old(&records.own_numbers, records.own.as_ref()).map(ObjectName::expired_in_copy));
    let names: Vec<(ObjectName, u64)> = names.map(|name| (name, 0)).collect();
    delete_all(job, "records", &names)?;
    Ok(report)
}

/// The records that are not needed any more: those before the newest that holds, which is not the one with the highest number where
/// that is damaged, or of another copy.
fn old(numbers: &[u64], newest: Option<&ExpiryRecord>) -> impl Iterator<Item = u64> {
    let newest = newest.map_or(0, |record| record.number);
    let numbers = numbers.iter().copied();
    numbers.filter(move |number| number + RECORDS_KEPT <= newest + 1)
}

/// Stores a new record where what goes is not on record yet; tells what is.
fn store_record(
    job: &ExpireJob<'_>,
    records: &ExpiryRecords,
) -> Result<ExpiredRanges, ExpireError> {
    let before = records.ranges();
    let Some(key) = job.key else {
        return Ok(before);
    };
    if before == job.plan.expired {
        return Ok(before);
    }
    let copy = job.writer.copy().map(|name| OfCopy {
        name: name.to_owned(),
        seen: job.plan.seen.clone(),
    });
    let numbers = match copy {
        Some(_) => &records.own_numbers,
        None => &records.numbers,
    };
    let number = numbers.iter().max().copied().unwrap_or(0) + 1;
    let document = job.writer.document();
    document
        .writer(key.signing.id())
        .map_err(|_| RepositoryError::UnknownWriter {
            writer: key.signing.id(),
        })?;
    let record = ExpiryRecord {
        format: VERSION,
        repository: document.repository,
        number,
        time: whole_seconds(job.clock.now()),
        tool: job.tool.to_owned(),
        expired: job.plan.expired.clone(),
        copy,
    };
    let bytes = record.sign(&key.signing);
    match job.writer.storage().create(&record.name(), &bytes)? {
        Put::Stored => Ok(record.expired),
        Put::AlreadyThere => Err(ExpireError::Conflict { number }),
    }
}

fn held_now(job: &ExpireJob<'_>) -> Result<HashSet<Label>, ExpireError> {
    if job.plan.going.is_empty() {
        return Ok(HashSet::new());
    }
    let mut held = HashSet::new();
    job.repository.storage().list(name::HOLDS, &mut |name, _| {
        held.extend(name.hold_label());
    })?;
    Ok(held)
}

#[derive(Default)]
struct Deleted {
    count: u64,
    bytes: u64,
    refused: Vec<Refused>,
}

struct Refused {
    index: usize,
    why: String,
}

/// Deletes objects, several at a time, begun in their order; stops at the first error that is no refusal.
fn delete_all(
    job: &ExpireJob<'_>,
    what: &str,
    names: &[(ObjectName, u64)],
) -> Result<Deleted, ExpireError> {
    if names.is_empty() {
        return Ok(Deleted::default());
    }
    job.observer.event(Event::Begin {
        name: what,
        what: "delete",
        size_bytes: None,
    });
    let storage = job.repository.storage();
    let numbered: Vec<(usize, &(ObjectName, u64))> = names.iter().enumerate().collect();
    let (threads, batches) = batches(storage, &numbered);
    let next = Mutex::new(batches);
    let has_failed = AtomicBool::new(false);
    let (count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let refused = Mutex::new(Vec::new());
    let failure: Mutex<Option<ExpireError>> = Mutex::new(None);
    let stop = |error: ExpireError| {
        has_failed.store(true, Ordering::Relaxed);
        failure
            .lock()
            .expect("no panic under the lock")
            .get_or_insert(error);
    };
    let work = || {
        while !has_failed.load(Ordering::Relaxed) {
            let batch = next.lock().expect("no panic under the lock").next();
            let Some(batch) = batch else { return };
            if let Err(interrupted) = job.cancel.check() {
                return stop(StorageError::from(interrupted).into());
            }
            let together: Vec<ObjectName> =
                batch.iter().map(|(_, (name, _))| name.clone()).collect();
            storage.delete_each(&together, &mut |name, outcome| {
                let same = |(_, (one, _)): &&(usize, &(ObjectName, u64))| one == name;
                let (index, (_, size)) = batch.iter().find(same).expect("one of the batch");
                match outcome {
                    Ok(()) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        bytes.fetch_add(*size, Ordering::Relaxed);
                    }
                    Err(error @ StorageError::Refused(_)) => {
                        let why = format!("{name}: {}", error_chain(&error));
                        let index = *index;
                        refused
                            .lock()
                            .expect("no panic under the lock")
                            .push(Refused { index, why });
                    }
                    Err(error) => stop(error.into()),
                }
            });
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    job.observer.event(Event::End { name: what });
    if let Some(error) = failure.into_inner().expect("no panic under the lock") {
        return Err(error);
    }
    let mut refused = refused.into_inner().expect("no panic under the lock");
    refused.sort_by_key(|refused| refused.index);
    Ok(Deleted {
        count: count.into_inner(),
        bytes: bytes.into_inner(),
        refused,
    })
}
