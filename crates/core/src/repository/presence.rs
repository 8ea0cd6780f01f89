//! Which objects a repository has: learned by one list, so that a backup asks once and not for every pack.

use std::collections::HashMap;

use crate::format::Digest;
use crate::format::name::{OBJECTS, ObjectName};
use crate::storage::{ObjectStat, Storage, StorageError};

/// What is known of the objects of a repository.
#[derive(Default)]
pub(super) struct Presence {
    /// None until the first question.
    listed: Option<HashMap<Digest, ObjectStat>>,
    /// Handed to the storage by this run; they may still be on their way.
    stored: HashMap<Digest, u64>,
}

impl Presence {
    /// Notes an object that this run has put.
    pub(super) fn note(&mut self, object: Digest, size_bytes: u64) {
        self.stored.insert(object, size_bytes);
    }

    /// Lists what is stored, if that was not done yet.
    pub(super) fn learn(&mut self, storage: &dyn Storage) -> Result<(), StorageError> {
        if self.listed.is_none() {
            self.listed = Some(list(storage)?);
        }
        Ok(())
    }

    /// Size and time of an object, or none if it is not there. What this run has put has no time.
    pub(super) fn stat(
        &mut self,
        storage: &dyn Storage,
        object: Digest,
    ) -> Result<Option<ObjectStat>, StorageError> {
        if let Some(size_bytes) = self.stored.get(&object).copied() {
            let stored = None;
            return Ok(Some(ObjectStat { size_bytes, stored }));
        }
        self.learn(storage)?;
        if let Some(stat) = self.listed.as_ref().and_then(|listed| listed.get(&object)) {
            return Ok(Some(*stat));
        }
        // A list may lag behind; an object that it does not show is asked for by name.
        storage.stat(&ObjectName::object(object))
    }
}

fn list(storage: &dyn Storage) -> Result<HashMap<Digest, ObjectStat>, StorageError> {
    let mut listed = HashMap::new();
    storage.list(OBJECTS, &mut |name, stat| {
        if let Some(object) = name.digest() {
            listed.insert(object, stat);
        }
    })?;
    Ok(listed)
}
