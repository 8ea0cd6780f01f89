//! Heals a repository from a copy of it: looks at both, and carries out the plan that was made of what was seen.
//!
//! Nothing is deleted before the good bytes are in memory or on disk and proved by their digest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{below, list_all};
use super::transfer::{Expected, Fetch, Fetched, Proved};
use super::{Event, Observer};
use crate::cancel::Cancel;
use crate::error_chain;
use crate::format::envelope::Envelope;
use crate::format::expiry::ExpiryRecord;
use crate::format::manifest::Content;
use crate::format::name::{self, ObjectName};
use crate::format::repository_document::RepositoryDocument;
use crate::format::seal::BoxedIdentity;
use crate::format::{Digest, Label, RepositoryId, limits};
use crate::plan::repair::{DocumentSeen, Heal, RepairPlan, RepairWorld, Side};
use crate::repository::reader::{BackupReader, Item, used_packs};
use crate::repository::{ExpiryRecords, Replaced, Repository, RepositoryError};
use crate::storage::{Put, Storage, StorageError};

/// What a repair needs.
pub struct RepairJob<'a> {
    /// The storage of the repository that is healed, opened by whoever may delete.
    pub target: Arc<dyn Storage>,
    /// Its name.
    pub name: &'a str,
    /// The name of the copy that is healed; none for a repository that backups go to.
    pub copy: Option<&'a str>,
    /// The repository that good bytes come from.
    pub from: &'a Repository,
    /// A private directory for objects that are too long for the memory.
    pub scratch: &'a Path,
    /// Stops the run.
    pub cancel: &'a Cancel,
    /// Hears of it.
    pub observer: &'a dyn Observer,
}

/// What a repair did.
#[derive(Clone, Debug, Default)]
pub struct RepairReport {
    /// What was brought back.
    pub healed: Vec<ObjectName>,
    /// How many bytes.
    pub bytes: u64,
    /// What could not be, and why.
    pub failed: BTreeMap<ObjectName, String>,
    /// When the objects that were brought back were stored, by the storage's clock.
    pub stored: Replaced,
}

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// A repository failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// They are not the same repository.
    #[error(
        "{target} is repository {here}, {from} is repository {there}: they have nothing in common"
    )]
    Other {
        /// The address of the one to be healed.
        target: String,
        /// Its id.
        here: RepositoryId,
        /// The address of the other.
        from: String,
        /// Its id.
        there: RepositoryId,
    },
}

impl From<StorageError> for RepairError {
    fn from(error: StorageError) -> Self {
        Self::Repository(error.into())
    }
}

/// Looks at both sides: what they hold, and which documents and envelopes are good.
///
/// `damaged_here` and `damaged_there` are what verifications found out about bytes of the right length.
pub fn look(
    job: &RepairJob<'_>,
    damaged_here: BTreeMap<ObjectName, String>,
    damaged_there: BTreeSet<ObjectName>,
) -> Result<RepairWorld, RepairError> {
    let (target, from) = (&*job.target, job.from.storage());
    let mut world = RepairWorld {
        here: list_all(target)?,
        there: list_all(from)?,
        damaged_here,
        damaged_there,
        expired: Vec::new(),
        documents: BTreeMap::new(),
    };
    let document = documents(job, &mut world)?;
    expiry_records(job, &mut world, &document)?;
    let names: BTreeSet<ObjectName> = below(&world.here, name::ENVELOPES)
        .chain(below(&world.there, name::ENVELOPES))
        .cloned()
        .collect();
    for name in names {
        job.cancel.check().map_err(RepositoryError::from)?;
        let seen = DocumentSeen {
            here: envelope(target, &name, &document)?,
            there: envelope(from, &name, &document)?,
        };
        world.documents.insert(name, seen);
    }
    Ok(world)
}

/// Which envelopes may be missing, and the newest record of either side, which is brought back where it is lost.
///
/// What the healed side has let go by a retention of its own, as a copy, only its own record tells, and nobody else has
/// that one. The own record of the other side says nothing here.
fn expiry_records(
    job: &RepairJob<'_>,
    world: &mut RepairWorld,
    document: &RepositoryDocument,
) -> Result<(), RepairError> {
    let (target, from) = (&*job.target, job.from.storage());
    let of_original = |listing| {
        let names = below(listing, name::EXPIRED);
        names.filter(|name| name.expired_number().is_some()).last()
    };
    let newest_here = of_original(&world.here).cloned();
    let newest: BTreeSet<ObjectName> = newest_here
        .iter()
        .chain(of_original(&world.there))
        .cloned()
        .collect();
    let mut originals: Vec<ExpiryRecord> = Vec::new();
    for name in &newest {
        let mut side = |storage: &dyn Storage| -> Result<Side, RepairError> {
            let (side, record) = expiry_record(storage, name, document)?;
            originals.extend(record);
            Ok(side)
        };
        let (here, there) = (side(target)?, side(from)?);
        // Older ones are not kept for ever.
        if newest_here.as_ref().is_none_or(|newest| newest <= name) {
            let seen = DocumentSeen { here, there };
            world.documents.insert(name.clone(), seen);
        }
    }
    let own = own_record(job, world, document)?;
    world.expired = if own.is_none() {
        let all = originals.iter().map(|record| record.expired.clone());
        all.collect()
    } else {
        let records = ExpiryRecords {
            newest: originals.into_iter().max_by_key(|record| record.number),
            own,
            ..ExpiryRecords::default()
        };
        vec![records.ranges()]
    };
    Ok(())
}

/// The newest record that holds of what the healed side has let go itself, as the copy that it is. One of another copy that lies
/// there says nothing; damaged ones are noted. [`ExpiryRecords::read`] does the same, but where a record cannot be read it gives up.
fn own_record(
    job: &RepairJob<'_>,
    world: &mut RepairWorld,
    document: &RepositoryDocument,
) -> Result<Option<ExpiryRecord>, RepairError> {
    let Some(copy) = job.copy else {
        return Ok(None);
    };
    let names = below(&world.here, name::EXPIRED);
    let names = names.filter_map(|name| Some((name.expired_in_copy_number()?, name.clone())));
    let names: BTreeMap<u64, ObjectName> = names.collect();
    for name in names.into_values().rev() {
        let (here, record) = expiry_record(&*job.target, &name, document)?;
        match record {
            Some(record) if record.is_of_copy(copy) => return Ok(Some(record)),
            Some(_) => {}
            None => {
                let there = Side::Missing;
                world.documents.insert(name, DocumentSeen { here, there });
            }
        }
    }
    Ok(None)
}

fn expiry_record(
    storage: &dyn Storage,
    name: &ObjectName,
    document: &RepositoryDocument,
) -> Result<(Side, Option<ExpiryRecord>), RepairError> {
    Ok(match bytes(storage, name)? {
        Ok(None) => (Side::Missing, None),
        Err(why) => (Side::Damaged(why), None),
        Ok(Some(bytes)) => match ExpiryRecord::open(&bytes, name, document) {
            Ok(record) => (Side::Good(Digest::of(&bytes), None), Some(record)),
            Err(error) => (Side::Damaged(error_chain(&error)), None),
        },
    })
}

/// The bytes under a name; `None` when there are none, an error of its own when they cannot be read.
fn bytes(
    storage: &dyn Storage,
    name: &ObjectName,
) -> Result<Result<Option<Vec<u8>>, String>, RepairError> {
    match storage.get(name, limits::DOCUMENT_MAX) {
        Ok(bytes) => Ok(Ok(Some(bytes))),
        Err(StorageError::NotFound { .. }) => Ok(Ok(None)),
        Err(error @ (StorageError::Io { .. } | StorageError::TooLarge { .. })) => {
            Ok(Err(error_chain(&error)))
        }
        Err(error) => Err(error.into()),
    }
}

fn envelope(
    storage: &dyn Storage,
    name: &ObjectName,
    document: &RepositoryDocument,
) -> Result<Side, RepairError> {
    Ok(match bytes(storage, name)? {
        Ok(None) => Side::Missing,
        Err(why) => Side::Damaged(why),
        Ok(Some(bytes)) => match Envelope::open(&bytes, name, document) {
            Ok(envelope) => Side::Good(Digest::of(&bytes), Some(Box::new(envelope))),
            Err(error) => Side::Damaged(error_chain(&error)),
        },
    })
}

/// Compares the repository documents, and gives the newest that holds.
fn documents(
    job: &RepairJob<'_>,
    world: &mut RepairWorld,
) -> Result<RepositoryDocument, RepairError> {
    let (target, from) = (&*job.target, job.from.storage());
    let mut newest: Option<(RepositoryDocument, Digest)> = None;
    let mut revisions: Vec<u32> = below(&world.here, name::REPOSITORY)
        .chain(below(&world.there, name::REPOSITORY))
        .filter_map(ObjectName::revision)
        .collect();
    revisions.sort_unstable();
    revisions.dedup();
    for revision in revisions {
        let name = ObjectName::repository(revision);
        let before = newest.clone();
        let before = before
            .as_ref()
            .map(|(document, digest)| (document, *digest));
        let mut good = Vec::new();
        let mut side = |storage: &dyn Storage| -> Result<Side, RepairError> {
            Ok(match bytes(storage, &name)? {
                Ok(None) => Side::Missing,
                Err(why) => Side::Damaged(why),
                Ok(Some(bytes)) => match RepositoryDocument::open(&bytes, before) {
                    Ok(document) => {
                        let digest = Digest::of(&bytes);
                        good.push((document, digest));
                        Side::Good(digest, None)
                    }
                    Err(error) => Side::Damaged(error_chain(&error)),
                },
            })
        };
        let seen = DocumentSeen {
            here: side(target)?,
            there: side(from)?,
        };
        if let [(one, _), (other, _)] = good.as_slice()
            && one.repository != other.repository
        {
            return Err(RepairError::Other {
                target: target.location().to_owned(),
                here: one.repository,
                from: from.location().to_owned(),
                there: other.repository,
            });
        }
        if let Some(last) = good.into_iter().next() {
            newest = Some(last);
        }
        world.documents.insert(name, seen);
    }
    let (document, _) = newest.ok_or_else(|| RepositoryError::NotARepository {
        location: target.location().to_owned(),
    })?;
    Ok(document)
}

/// Carries out a plan. What cannot be healed is in the report; an error means that a storage could not be used.
pub fn repair(job: &RepairJob<'_>, plan: &RepairPlan) -> Result<RepairReport, RepositoryError> {
    job.observer.event(Event::Begin {
        name: job.name,
        what: "repair",
        size_bytes: Some(plan.size_bytes()),
    });
    let on_bytes = |read| job.observer.event(Event::Bytes(read));
    let fetch = Fetch {
        scratch: job.scratch,
        cancel: job.cancel,
        on_bytes: &on_bytes,
    };
    let mut report = RepairReport::default();
    for heal in &plan.heal {
        match heal_one(job, fetch, heal)? {
            Ok(length) => {
                report.bytes += length;
                report.healed.push(heal.name.clone());
                if heal.name.digest().is_some()
                    && let Some(time) = job.target.stat(&heal.name)?.and_then(|stat| stat.stored)
                {
                    report.stored.insert(heal.name.clone(), time);
                }
            }
            Err(why) => drop(report.failed.insert(heal.name.clone(), why)),
        }
    }
    job.observer.event(Event::End { name: job.name });
    Ok(report)
}

/// How many bytes were brought back, or why none were.
fn heal_one(
    job: &RepairJob<'_>,
    fetch: Fetch<'_>,
    heal: &Heal,
) -> Result<Result<u64, String>, RepositoryError> {
    let good = match good_bytes(job, fetch, heal)? {
        Ok(good) => good,
        Err(why) => return Ok(Err(format!("the copy does not have it either: {why}"))),
    };
    let target = &*job.target;
    // From here on the good bytes are at hand.
    if heal.replaces {
        match target.delete(&heal.name) {
            Ok(()) => {}
            Err(error @ (StorageError::Refused(_) | StorageError::Io { .. })) => {
                return Ok(Err(error_chain(&error)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let size_bytes = match &good {
        Good::Object(proved) => {
            proved.put(target, &heal.name)?;
            target.flush()?;
            proved.size_bytes
        }
        Good::Document(bytes) => {
            if target.create(&heal.name, bytes)? == Put::AlreadyThere {
                return Ok(Err("something was put there in the meantime".to_owned()));
            }
            bytes.len() as u64
        }
    };
    let silent = Fetch {
        on_bytes: &|_| {},
        ..fetch
    };
    let expected = Expected {
        name: &heal.name,
        digest: heal.digest,
        size_bytes: Some(size_bytes),
    };
    let stored = silent.prove(target, expected)?;
    Ok(stored.map_err(|why| format!("it was stored and reads back wrong: {why}")))
}

/// Bytes that were proved.
enum Good {
    Object(Proved),
    Document(Vec<u8>),
}

fn good_bytes(
    job: &RepairJob<'_>,
    fetch: Fetch<'_>,
    heal: &Heal,
) -> Result<Result<Good, String>, RepositoryError> {
    let from = job.from.storage();
    if heal.name.digest().is_none() {
        let bytes = from.get(&heal.name, limits::DOCUMENT_MAX)?;
        let is_right = Digest::of(&bytes) == heal.digest;
        return Ok(if is_right {
            Ok(Good::Document(bytes))
        } else {
            Err("it was changed in the meantime".to_owned())
        });
    }
    let expected = Expected {
        name: &heal.name,
        digest: heal.digest,
        size_bytes: heal.size_bytes,
    };
    Ok(match fetch.fetch(from, expected)? {
        Fetched::Good(proved) => Ok(Good::Object(proved)),
        Fetched::Damaged(why) => Err(why),
    })
}

/// A stream that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LostStream {
    /// The backup.
    pub label: Label,
    /// The asset.
    pub asset: String,
    /// The path; none when the backup cannot be looked into.
    pub path: Option<PathBuf>,
}

/// The streams of a backup that need one of the `lost` objects, read from a repository that has its manifest.
pub fn lost_streams(
    repository: &Repository,
    envelope: &Envelope,
    identities: &[BoxedIdentity],
    lost: &BTreeSet<Digest>,
) -> Result<Vec<LostStream>, RepositoryError> {
    let reader = BackupReader::open(repository, envelope, identities)?;
    let mut manifest = reader.manifest()?;
    let mut found = Vec::new();
    let mut asset = String::new();
    while let Some(item) = manifest
        .next_item()
        .map_err(|error| reader.manifest_error(error))?
    {
        match item {
            Item::Asset(begun) => asset = begun.name,
            Item::Stream(stream, runs) => {
                let is_lost = match &stream.content {
                    Some(Content::Artifact { object }) => lost.contains(object),
                    Some(Content::Packed) => !used_packs(&runs, manifest.packs()).is_disjoint(lost),
                    None => false,
                };
                if is_lost {
                    found.push(LostStream {
                        label: envelope.label.clone(),
                        asset: asset.clone(),
                        path: Some(stream.path),
                    });
                }
            }
            Item::Result(_) => {}
        }
    }
    Ok(found)
}
