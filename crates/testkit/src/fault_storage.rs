//! A decorator that makes any storage fail by script.
//!
//! Calls are counted from 0 in the order in which they arrive, so a test first runs without faults, asks for
//! [`FaultStorage::calls`] and then fails each call in turn: `for n in 0..calls`.

use std::io::Read;
use std::sync::Mutex;

use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, FreeSpace, ObjectStat, Put, Silence, Storage, StorageError};

use crate::bytes_of;

/// A method of [`Storage`] that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Operation {
    Put,
    Create,
    Flush,
    Open,
    GetRange,
    Get,
    List,
    Stat,
    Delete,
    FreeSpace,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Create => "create",
            Self::Flush => "flush",
            Self::Open => "open",
            Self::GetRange => "get a range of",
            Self::Get => "get",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Delete => "delete",
            Self::FreeSpace => "ask for the free space of",
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and an error is reported.
    Fail,
    /// It is done, and an error is reported: the answer was lost on its way.
    FailAfter,
    /// `put` and `create` store only the first bytes and report success; `open`, `get` and `get_range`
    /// return only the first bytes. Others are not affected.
    Tear(usize),
    /// `put` and `create` report `Stored`, `flush` and `delete` success, and nothing is done; reading
    /// calls see nothing: `NotFound`, `None`, an empty list.
    Lose,
    /// The hook of [`FaultStorage::on_delay`] is called first, then everything goes well.
    Delay,
    /// `put` and `create` report `Stored`, and the object becomes visible only later. Others are not affected.
    Reorder(Until),
    /// Nothing is done; [`StorageError::NoSpace`] is reported.
    NoSpace,
    /// Nothing is done; [`StorageError::Unreachable`] is reported.
    NoAnswer,
}

/// When a reordered object becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Before call number `n` of any operation, counted like [`FaultStorage::calls`].
    Call(u64),
    /// With the next flush (or create, which implies one).
    Flush,
    /// Never: it is lost when the storage is dropped.
    Never,
}

/// A storage around another that fails by script; without a script it changes nothing.
pub struct FaultStorage<S> {
    inner: S,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    shown: Mutex<Option<Listing>>,
}

/// What a storage held at some time.
pub type Listing = Vec<(ObjectName, ObjectStat)>;

type Hook = Box<dyn FnMut(Operation) + Send>;

#[derive(Default)]
struct State {
    script: Vec<Entry>,
    log: Vec<Operation>,
    late: Vec<Late>,
}

struct Entry {
    operation: Option<Operation>,
    call: u64,
    fault: Fault,
}

struct Late {
    until: Until,
    name: ObjectName,
    bytes: Vec<u8>,
}

impl<S: Storage> FaultStorage<S> {
    /// Wraps a storage, without faults yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            state: Mutex::default(),
            hook: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    /// What there is now.
    pub fn remember(&self) -> Result<Listing, StorageError> {
        let mut found = Vec::new();
        let visit = &mut |name, stat| found.push((name, stat));
        self.inner.list("", visit)?;
        Ok(found)
    }

    /// From now on every list shows this in the place of what is there; `None` ends it.
    pub fn show(&self, listing: Option<Listing>) {
        *self.shown.lock().expect("no panic under the lock") = listing;
    }

    /// Adds a fault at call number `call`, counted from 0: of `operation`, or of any operation for `None`.
    pub fn fault_at(&self, operation: impl Into<Option<Operation>>, call: u64, fault: Fault) {
        let operation = operation.into();
        self.state().script.push(Entry {
            operation,
            call,
            fault,
        });
    }

    /// Removes all faults that have not happened.
    pub fn clear_faults(&self) {
        self.state().script.clear();
    }

    /// Sets what [`Fault::Delay`] calls; it runs outside all locks but its own.
    pub fn on_delay(&self, hook: impl FnMut(Operation) + Send + 'static) {
        *self.hook.lock().expect("no panic under the lock") = Some(Box::new(hook));
    }

    /// How many calls there were so far.
    pub fn calls(&self) -> u64 {
        self.state().log.len() as u64
    }

    /// How many calls of one operation there were so far.
    pub fn calls_of(&self, operation: Operation) -> u64 {
        let state = self.state();
        state.log.iter().filter(|done| **done == operation).count() as u64
    }

    /// All calls so far, in order.
    pub fn log(&self) -> Vec<Operation> {
        self.state().log.clone()
    }

    /// The storage inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    /// Counts a call, stores what is due and tells the fault of this call.
    fn enter(&self, operation: Operation) -> Result<Option<Fault>, StorageError> {
        let (fault, due) = {
            let mut state = self.state();
            let number = state.log.len() as u64;
            let of_kind = state.log.iter().filter(|done| **done == operation).count() as u64;
            state.log.push(operation);
            let fits = |entry: &Entry| match entry.operation {
                None => entry.call == number,
                Some(wanted) => wanted == operation && entry.call == of_kind,
            };
            let found = state.script.iter().position(fits);
            let fault = found.map(|index| state.script.remove(index).fault);
            let flushes = matches!(operation, Operation::Flush | Operation::Create);
            let is_due = |late: &mut Late| match late.until {
                Until::Call(call) => number >= call,
                Until::Flush => flushes,
                Until::Never => false,
            };
            let due: Vec<Late> = state.late.extract_if(.., is_due).collect();
            (fault, due)
        };
        for late in due {
            self.inner.put(&late.name, Body::Bytes(&late.bytes))?;
        }
        if fault == Some(Fault::Delay)
            && let Some(hook) = self.hook.lock().expect("no panic under the lock").as_mut()
        {
            hook(operation);
        }
        Ok(fault)
    }

    /// Runs a call under its fault. `lost` is what a caller sees when nothing was done and no error reported.
    fn call<T>(
        &self,
        operation: Operation,
        name: &str,
        run: impl FnOnce(Option<Fault>) -> Result<T, StorageError>,
        lost: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let failure = || {
            let why = std::io::Error::other("fault by script");
            Err(StorageError::io(operation.as_str(), &name, why))
        };
        match self.enter(operation)? {
            Some(Fault::Fail) => failure(),
            Some(Fault::FailAfter) => {
                run(None)?;
                failure()
            }
            Some(Fault::NoSpace) => Err(StorageError::NoSpace {
                operation: operation.as_str(),
                name: name.to_owned(),
            }),
            Some(Fault::NoAnswer) => Err(StorageError::Unreachable(Box::new(Silence {
                location: self.inner.location().to_owned(),
                operation: operation.as_str(),
                name: name.to_owned(),
                source: "no answer by script".into(),
            }))),
            Some(Fault::Lose) => lost(),
            fault => run(fault),
        }
    }

    /// What `put` and `create` store under a fault; `None` when the object comes later.
    fn torn_or_late(&self, name: &ObjectName, bytes: &[u8], fault: Fault) -> Option<Vec<u8>> {
        match fault {
            Fault::Tear(length) => Some(bytes[..length.min(bytes.len())].to_vec()),
            Fault::Reorder(until) => {
                self.state().late.push(Late {
                    until,
                    name: name.clone(),
                    bytes: bytes.to_vec(),
                });
                None
            }
            _ => Some(bytes.to_vec()),
        }
    }
}

fn missing<T>(name: &ObjectName) -> Result<T, StorageError> {
    Err(StorageError::NotFound { name: name.clone() })
}

fn torn(mut bytes: Vec<u8>, fault: Option<Fault>) -> Vec<u8> {
    if let Some(Fault::Tear(length)) = fault {
        bytes.truncate(length);
    }
    bytes
}

impl<S: Storage> Storage for FaultStorage<S> {
    fn location(&self) -> &str {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, body: Body<'_>) -> Result<(), StorageError> {
        let run = |fault| {
            let Some(fault @ (Fault::Tear(_) | Fault::Reorder(_))) = fault else {
                return self.inner.put(name, body);
            };
            let bytes = bytes_of(&body).map_err(|source| StorageError::io("put", name, source))?;
            match self.torn_or_late(name, &bytes, fault) {
                Some(bytes) => self.inner.put(name, Body::Bytes(&bytes)),
                None => Ok(()),
            }
        };
        self.call(Operation::Put, name.as_str(), run, || Ok(()))
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, StorageError> {
        let run = |fault| {
            let Some(fault) = fault else {
                return self.inner.create(name, bytes);
            };
            match self.torn_or_late(name, bytes, fault) {
                Some(bytes) => self.inner.create(name, &bytes),
                None => Ok(Put::Stored),
            }
        };
        self.call(Operation::Create, name.as_str(), run, || Ok(Put::Stored))
    }

    fn flush(&self) -> Result<(), StorageError> {
        let run = |_| self.inner.flush();
        self.call(Operation::Flush, self.location(), run, || Ok(()))
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Read + Send>, StorageError> {
        let run = |fault| {
            let reader = self.inner.open(name)?;
            Ok(match fault {
                Some(Fault::Tear(length)) => Box::new(reader.take(length as u64)),
                _ => reader,
            })
        };
        self.call(Operation::Open, name.as_str(), run, || missing(name))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let run = |fault| Ok(torn(self.inner.get_range(name, offset, length)?, fault));
        self.call(Operation::GetRange, name.as_str(), run, || missing(name))
    }

    fn get(&self, name: &ObjectName, limit: usize) -> Result<Vec<u8>, StorageError> {
        let run = |fault| Ok(torn(self.inner.get(name, limit)?, fault));
        self.call(Operation::Get, name.as_str(), run, || missing(name))
    }

    fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectName, ObjectStat),
    ) -> Result<(), StorageError> {
        let run = |_| {
            let shown = self.shown.lock().expect("no panic under the lock").clone();
            let Some(shown) = shown else {
                return self.inner.list(prefix, visit);
            };
            let below = shown.into_iter();
            below
                .filter(|(name, _)| name.as_str().starts_with(prefix))
                .for_each(|(name, stat)| visit(name, stat));
            Ok(())
        };
        self.call(Operation::List, prefix, run, || Ok(()))
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectStat>, StorageError> {
        let run = |_| self.inner.stat(name);
        self.call(Operation::Stat, name.as_str(), run, || Ok(None))
    }

    fn checksum(&self, name: &ObjectName) -> Result<Option<Digest>, StorageError> {
        let run = |_| self.inner.checksum(name);
        self.call(Operation::Stat, name.as_str(), run, || Ok(None))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        let run = |_| self.inner.delete(name);
        self.call(Operation::Delete, name.as_str(), run, || Ok(()))
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        let run = |_| self.inner.free_space();
        self.call(Operation::FreeSpace, self.location(), run, || Ok(None))
    }
}

impl<S> std::fmt::Debug for FaultStorage<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FaultStorage")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::memory_storage::MemoryStorage;

    fn storage() -> (FaultStorage<MemoryStorage>, [ObjectName; 2]) {
        let storage = FaultStorage::new(MemoryStorage::new());
        (storage, [1, 2].map(ObjectName::repository))
    }

    fn put(storage: &impl Storage, name: &ObjectName) -> Result<(), StorageError> {
        storage.put(name, Body::Bytes(b"0123456789"))
    }

    #[test]
    fn without_a_script_it_conforms() {
        crate::storage_conformance::run(&mut || Box::new(FaultStorage::new(MemoryStorage::new())));
    }

    #[test]
    fn calls_are_counted_by_kind_and_in_all() {
        let (storage, [one, two]) = storage();
        put(&storage, &one).expect("puts");
        storage.flush().expect("flushes");
        storage.fault_at(Operation::Put, 1, Fault::Fail);
        storage.fault_at(None, 3, Fault::NoSpace);
        put(&storage, &two).expect_err("by script");
        let full = put(&storage, &two).expect_err("by script");
        assert!(matches!(full, StorageError::NoSpace { .. }));
        put(&storage, &two).expect("the script is at its end");
        assert_eq!((storage.calls(), storage.calls_of(Operation::Put)), (5, 4));
    }

    #[test]
    fn failures_before_and_after_differ_in_what_is_stored() {
        let (storage, [one, two]) = storage();
        storage.fault_at(None, 0, Fault::Fail);
        storage.fault_at(None, 1, Fault::FailAfter);
        put(&storage, &one).expect_err("by script");
        put(&storage, &two).expect_err("by script");
        assert_eq!(storage.inner().names(), [two]);
    }

    #[test]
    fn torn_objects_are_short() {
        let (storage, [one, two]) = storage();
        storage.fault_at(Operation::Put, 0, Fault::Tear(4));
        storage.fault_at(Operation::Create, 0, Fault::Tear(100));
        put(&storage, &one).expect("reports success");
        storage.create(&two, b"abc").expect("creates");
        assert_eq!(storage.get(&one, 100).expect("is there"), b"0123");
        assert_eq!(storage.get(&two, 100).expect("is there"), b"abc");
        storage.fault_at(Operation::GetRange, 0, Fault::Tear(1));
        assert_eq!(storage.get_range(&two, 1, 2).expect("is there"), b"b");
    }

    #[test]
    fn lost_objects_are_nowhere() {
        let (storage, [one, two]) = storage();
        storage.fault_at(Operation::Put, 0, Fault::Lose);
        put(&storage, &one).expect("reports success");
        put(&storage, &two).expect("puts");
        storage.fault_at(Operation::Flush, 0, Fault::Lose);
        storage.flush().expect("reports success");
        storage.inner().crash();
        assert_eq!(storage.inner().names(), []);
    }

    #[test]
    fn reordered_objects_come_later_or_never() {
        let (storage, [one, two]) = storage();
        storage.fault_at(Operation::Put, 0, Fault::Reorder(Until::Flush));
        storage.fault_at(Operation::Put, 1, Fault::Reorder(Until::Call(4)));
        storage.fault_at(Operation::Put, 2, Fault::Reorder(Until::Never));
        put(&storage, &one).expect("reports success");
        put(&storage, &two).expect("reports success");
        put(&storage, &ObjectName::repository(3)).expect("reports success");
        assert_eq!(storage.inner().names(), []);
        storage.flush().expect("flushes");
        assert_eq!(storage.inner().names(), std::slice::from_ref(&one));
        storage.stat(&two).expect("stats");
        assert_eq!(storage.inner().names(), [one, two]);
    }

    #[test]
    fn a_delay_calls_its_hook() {
        let (storage, [one, _]) = storage();
        let called = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&called);
        storage.on_delay(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        storage.fault_at(None, 0, Fault::Delay);
        put(&storage, &one).expect("puts");
        put(&storage, &one).expect("puts");
        assert_eq!(called.load(Ordering::Relaxed), 1);
    }
}
