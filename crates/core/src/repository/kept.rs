//! What says which backups stay and which were let go: holds, and the record of expired backups.
//!
//! It stores and reads the documents; what may expire is decided by a plan.

use super::{Repository, RepositoryError, error_chain};
use crate::clock::{Clock, whole_seconds};
use crate::format::expiry::{ExpiredRanges, ExpiryRecord};
use crate::format::hold::Hold;
use crate::format::name::{self, ObjectName};
use crate::format::repository_document::RepositoryDocument;
use crate::format::writer_key::WriterKey;
use crate::format::{Label, VERSION, limits};
use crate::storage::{Put, Storage, StorageError};

/// A hold as it is stored.
#[derive(Clone, Debug)]
pub struct StoredHold {
    /// The backup that it is on.
    pub label: Label,
    /// The hold, or why it cannot be read; one that cannot be read holds, too.
    pub hold: Result<Hold, String>,
}

impl StoredHold {
    /// Why it was placed, or what is wrong with it.
    pub fn reason(&self) -> &str {
        match &self.hold {
            Ok(hold) => &hold.reason,
            Err(problem) => problem,
        }
    }
}

/// The records of expired backups that a repository has.
#[derive(Clone, Debug, Default)]
pub struct ExpiryRecords {
    /// The newest that holds of the repository that backups go to.
    pub newest: Option<ExpiryRecord>,
    /// The numbers of all of those.
    pub numbers: Vec<u64>,
    /// In a copy, the newest of its own.
    pub own: Option<ExpiryRecord>,
    /// The numbers of all records that copies wrote here.
    pub own_numbers: Vec<u64>,
    /// Those that do not hold, a sentence each.
    pub problems: Vec<String>,
}

impl ExpiryRecords {
    /// Which envelopes may be missing.
    ///
    /// A copy that let something go itself says so for all that it knew then; what is newer than that may have been let go
    /// by the original before it was copied.
    pub fn ranges(&self) -> ExpiredRanges {
        let of = |record: &Option<ExpiryRecord>| {
            let record = record.as_ref();
            record.map_or_else(ExpiredRanges::default, |record| record.expired.clone())
        };
        match self.own.as_ref().and_then(|own| own.copy.as_ref()) {
            Some(copy) => of(&self.own).union(&of(&self.newest).after(&copy.seen)),
            None => of(&self.newest),
        }
    }

    /// What a copy let go itself; `copy` does not bring it back.
    pub fn let_go(&self) -> ExpiredRanges {
        let own = self.own.as_ref();
        own.map_or_else(ExpiredRanges::default, |own| own.expired.clone())
    }

    /// Reads the newest records that hold, in a storage that has the repository of `document` or `copy`, a copy of it.
    pub(crate) fn read(
        storage: &dyn Storage,
        document: &RepositoryDocument,
        copy: Option<&str>,
    ) -> Result<Self, RepositoryError> {
        let mut records = Self::default();
        let (mut names, mut own) = (Vec::new(), Vec::new());
        storage.list(name::EXPIRED, &mut |name, _| {
            if let Some(number) = name.expired_number() {
                names.push((number, name));
            } else if let Some(number) = name.expired_in_copy_number() {
                own.push((number, name));
            }
        })?;
        let numbers = |names: &mut Vec<(u64, ObjectName)>| {
            names.sort();
            names.iter().map(|(number, _)| *number).collect()
        };
        records.numbers = numbers(&mut names);
        records.own_numbers = numbers(&mut own);
        let mut newest = |names: &[(u64, ObjectName)], counts: &dyn Fn(&ExpiryRecord) -> bool| {
            for (_, name) in names.iter().rev() {
                let opened = match storage.get(name, limits::DOCUMENT_MAX) {
                    Ok(bytes) => ExpiryRecord::open(&bytes, name, document),
                    // A newer one took its place since it was listed.
                    Err(StorageError::NotFound { .. }) => continue,
                    Err(error) => return Err(RepositoryError::from(error)),
                };
                match opened {
                    Ok(record) if counts(&record) => return Ok(Some(record)),
                    // Of another copy: somebody put it there, or this one had another name.
                    Ok(_) => {}
                    Err(error) => records
                        .problems
                        .push(error_chain(&RepositoryError::damaged(name, error))),
                }
            }
            Ok(None)
        };
        let of_original = newest(&names, &|_| true)?;
        let of_copy = match copy {
            Some(copy) => newest(&own, &|record| record.is_of_copy(copy))?,
            None => None,
        };
        (records.newest, records.own) = (of_original, of_copy);
        Ok(records)
    }
}

impl Repository {
    /// The holds of this repository, by label.
    pub fn holds(&self) -> Result<Vec<StoredHold>, RepositoryError> {
        let mut names = Vec::new();
        self.storage()
            .list(name::HOLDS, &mut |name, _| names.push(name))?;
        names.sort();
        let mut holds = Vec::new();
        for name in names {
            let Some(label) = name.hold_label() else {
                continue;
            };
            let hold = match self.storage().get(&name, limits::DOCUMENT_MAX) {
                Ok(bytes) => Hold::open(&bytes, &name, self.document())
                    .map_err(|error| error_chain(&RepositoryError::damaged(&name, error))),
                // Released since it was listed.
                Err(StorageError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            holds.push(StoredHold { label, hold });
        }
        Ok(holds)
    }

    /// Places a hold; tells whether there was one already, which is left as it is.
    pub fn place_hold(
        &self,
        label: &Label,
        reason: &str,
        tool: &str,
        key: &WriterKey,
        clock: &dyn Clock,
    ) -> Result<Put, RepositoryError> {
        self.document().writer(key.signing.id())?;
        let hold = Hold {
            format: VERSION,
            repository: self.document().repository,
            label: label.clone(),
            reason: reason.to_owned(),
            placed: whole_seconds(clock.now()),
            tool: tool.to_owned(),
        };
        let bytes = hold.sign(&key.signing);
        Ok(self.storage().create(&hold.name(), &bytes)?)
    }

    /// Takes a hold away; one that is gone already is no error.
    pub fn release_hold(&self, label: &Label) -> Result<(), RepositoryError> {
        Ok(self.storage().delete(&ObjectName::hold(label))?)
    }

    /// Reads the newest records of expired backups that hold.
    pub fn expiry_records(&self) -> Result<ExpiryRecords, RepositoryError> {
        ExpiryRecords::read(self.storage(), self.document(), self.copy())
    }
}
