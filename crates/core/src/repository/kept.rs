//! What says which backups stay and which were let go: holds, and the record of expired backups.
//!
//! It stores and reads the documents; what may expire is decided by a plan.

use super::{Repository, RepositoryError, error_chain};
use crate::clock::{Clock, whole_seconds};
use crate::format::expiry::{ExpiredRanges, ExpiryRecord};
use crate::format::hold::Hold;
use crate::format::name::{self, ObjectName};
use crate::format::writer_key::WriterKey;
use crate::format::{Label, VERSION, limits};
use crate::storage::{Put, StorageError};

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
    /// The newest that holds.
    pub newest: Option<ExpiryRecord>,
    /// The numbers of all.
    pub numbers: Vec<u64>,
    /// Those that do not hold, a sentence each.
    pub problems: Vec<String>,
}

impl ExpiryRecords {
    /// Which envelopes may be missing.
    pub fn ranges(&self) -> ExpiredRanges {
        self.newest
            .as_ref()
            .map_or_else(ExpiredRanges::default, |record| record.expired.clone())
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

    /// Reads the newest record of expired backups that holds.
    pub fn expiry_records(&self) -> Result<ExpiryRecords, RepositoryError> {
        let mut records = ExpiryRecords::default();
        let mut names = Vec::new();
        self.storage().list(name::EXPIRED, &mut |name, _| {
            if let Some(number) = name.expired_number() {
                names.push((number, name));
            }
        })?;
        names.sort();
        records.numbers = names.iter().map(|(number, _)| *number).collect();
        for (_, name) in names.iter().rev() {
            let opened = match self.storage().get(name, limits::DOCUMENT_MAX) {
                Ok(bytes) => ExpiryRecord::open(&bytes, name, self.document()),
                // A newer one took its place since it was listed.
                Err(StorageError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            match opened {
                Ok(record) => {
                    records.newest = Some(record);
                    break;
                }
                Err(error) => records
                    .problems
                    .push(error_chain(&RepositoryError::damaged(name, error))),
            }
        }
        Ok(records)
    }
}
