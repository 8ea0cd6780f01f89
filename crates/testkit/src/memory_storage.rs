//! A storage in memory, for tests that need no disk, and for power cuts.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard};

use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, FreeSpace, ObjectStat, Put, Storage, StorageError};

use crate::bytes_of;

/// Keeps its objects in memory; clones share them.
///
/// What was put is visible at once, and durable once it was flushed: [`MemoryStorage::crash`] loses the rest.
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectName, Object>,
    total_bytes: Option<u64>,
    time: Option<jiff::Timestamp>,
}

#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    is_durable: bool,
    stored: Option<jiff::Timestamp>,
}

impl MemoryStorage {
    /// An empty storage without bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty storage that has room for `total_bytes`.
    pub fn with_room_for(total_bytes: u64) -> Self {
        let storage = Self::default();
        storage.state().total_bytes = Some(total_bytes);
        storage
    }

    /// Cuts the power: every object that was put and not flushed is gone.
    pub fn crash(&self) {
        self.state().objects.retain(|_, object| object.is_durable);
    }

    /// A storage of its own with the same objects.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let objects = state.objects.iter();
        Self(Arc::new(Mutex::new(State {
            objects: objects
                .map(|(name, object)| (name.clone(), object.clone()))
                .collect(),
            ..*state
        })))
    }

    /// Sets the clock of the storage, which it has none of before; it stands still.
    pub fn set_time(&self, time: jiff::Timestamp) {
        self.state().time = Some(time);
    }

    /// How many bytes all objects have.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The names of all objects, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        self.state().objects.keys().cloned().collect()
    }

    /// Changes the stored bytes of an object, as a failing disk would; false when it is not there.
    pub fn damage(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some(object) = state.objects.get_mut(name) else {
            return false;
        };
        let mut bytes = object.bytes.to_vec();
        change(&mut bytes);
        object.bytes = bytes.into();
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }

    fn bytes(&self, name: &ObjectName) -> Result<Arc<[u8]>, StorageError> {
        match self.state().objects.get(name) {
            Some(object) => Ok(Arc::clone(&object.bytes)),
            None => Err(StorageError::NotFound { name: name.clone() }),
        }
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        let sizes = self
            .objects
            .values()
            .map(|object| object.bytes.len() as u64);
        sizes.sum()
    }

    fn insert(&mut self, name: &ObjectName, mut object: Object) -> Result<(), StorageError> {
        object.stored = self.time;
        let needed = self.used_bytes() + object.bytes.len() as u64;
        if self.total_bytes.is_some_and(|total| needed > total) {
            return Err(StorageError::NoSpace {
                operation: "store",
                name: name.to_string(),
            });
        }
        self.objects.insert(name.clone(), object);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn location(&self) -> &'static str {
        "memory:"
    }

    fn put(&self, name: &ObjectName, body: Body<'_>) -> Result<(), StorageError> {
        let bytes = bytes_of(&body).map_err(|source| StorageError::io("store", name, source))?;
        let mut state = self.state();
        if let Some(object) = state.objects.get(name) {
            if object.bytes.len() == bytes.len() {
                return Ok(());
            }
            let why = std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "an object of another size is there",
            );
            return Err(StorageError::io("store", name, why));
        }
        let bytes = bytes.into();
        state.insert(
            name,
            Object {
                bytes,
                is_durable: false,
                stored: None,
            },
        )
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, StorageError> {
        self.flush()?;
        let mut state = self.state();
        if state.objects.contains_key(name) {
            return Ok(Put::AlreadyThere);
        }
        let bytes = bytes.into();
        state.insert(
            name,
            Object {
                bytes,
                is_durable: true,
                stored: None,
            },
        )?;
        Ok(Put::Stored)
    }

    fn flush(&self) -> Result<(), StorageError> {
        for object in self.state().objects.values_mut() {
            object.is_durable = true;
        }
        Ok(())
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Read + Send>, StorageError> {
        Ok(Box::new(Cursor::new(self.bytes(name)?)))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let bytes = self.bytes(name)?;
        let start = usize::try_from(offset).map_or(bytes.len(), |start| start.min(bytes.len()));
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectName, ObjectStat),
    ) -> Result<(), StorageError> {
        // Listed before the first visit: a visitor may call the storage.
        let found: Vec<_> = self
            .state()
            .objects
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, object)| (name.clone(), stat_of(object)))
            .collect();
        for (name, stat) in found {
            visit(name, stat);
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectStat>, StorageError> {
        Ok(self.state().objects.get(name).map(stat_of))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.state().objects.remove(name);
        Ok(())
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        let state = self.state();
        Ok(state.total_bytes.map(|total_bytes| FreeSpace {
            free_bytes: total_bytes - state.used_bytes().min(total_bytes),
            total_bytes,
        }))
    }
}

fn stat_of(object: &Object) -> ObjectStat {
    ObjectStat {
        size_bytes: object.bytes.len() as u64,
        stored: object.stored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_conforms() {
        crate::storage_conformance::run(&mut || Box::new(MemoryStorage::new()));
    }

    #[test]
    fn a_crash_loses_what_was_not_flushed() {
        let storage = MemoryStorage::new();
        let [early, late] = [1, 2].map(ObjectName::repository);
        storage.put(&early, Body::Bytes(b"early")).expect("stores");
        storage.flush().expect("flushes");
        storage.put(&late, Body::Bytes(b"late")).expect("stores");
        storage.crash();
        assert_eq!(storage.names(), [early]);
    }

    #[test]
    fn a_full_storage_says_so() {
        let storage = MemoryStorage::with_room_for(3);
        let name = ObjectName::repository(1);
        let error = storage.put(&name, Body::Bytes(b"four")).expect_err("full");
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error}");
        assert_eq!(storage.names(), []);
    }
}
