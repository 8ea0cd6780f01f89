//! Which objects a repository has: learned by one list, so that a backup asks once and not for every pack.

use std::collections::HashMap;

use crate::format::Digest;
use crate::format::name::{OBJECTS, ObjectName};
use crate::storage::{Storage, StorageError};

/// What is known of the objects of a repository.
#[derive(Default)]
pub(super) struct Presence {
    /// None until the first question.
    listed: Option<HashMap<Digest, u64>>,
    /// Handed to the storage by this run; they may still be on their way.
    stored: HashMap<Digest, u64>,
}

impl Presence {
    /// Notes an object that this run has put.
    pub(super) fn note(&mut self, object: Digest, size_bytes: u64) {
        self.stored.insert(object, size_bytes);
    }

    /// The size of an object, or none if it is not there.
    pub(super) fn size_bytes(
        &mut self,
        storage: &dyn Storage,
        object: Digest,
    ) -> Result<Option<u64>, StorageError> {
        if let Some(size_bytes) = self.stored.get(&object) {
            return Ok(Some(*size_bytes));
        }
        let listed = match &mut self.listed {
            Some(listed) => listed,
            none => none.insert(list(storage)?),
        };
        if let Some(size_bytes) = listed.get(&object) {
            return Ok(Some(*size_bytes));
        }
        // A list may lag behind; an object that it does not show is asked for by name.
        let stat = storage.stat(&ObjectName::object(object))?;
        Ok(stat.map(|stat| stat.size_bytes))
    }
}

fn list(storage: &dyn Storage) -> Result<HashMap<Digest, u64>, StorageError> {
    let mut listed = HashMap::new();
    storage.list(OBJECTS, &mut |name, stat| {
        if let Some(object) = name.digest() {
            listed.insert(object, stat.size_bytes);
        }
    })?;
    Ok(listed)
}
