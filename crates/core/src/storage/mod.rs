//! The storage port: where a repository's objects are kept.
//!
//! An implementation lives in `strongroom-adapters`, passes the conformance suite of the test kit and
//! is wrapped, never changed, for faults, limits and retries.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::format::Digest;
use crate::format::name::ObjectName;

/// What a storage keeps an object's bytes from.
pub enum Body<'a> {
    /// Bytes in memory, at most some packs long.
    Bytes(&'a [u8]),
    /// The same, handed over: a storage that sends them later need not copy them.
    Owned(Vec<u8>),
    /// A sealed file; it is only read.
    File(&'a Path),
}

impl Body<'_> {
    /// How many bytes there are.
    pub fn size(&self) -> std::io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::Owned(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok(std::fs::metadata(path)?.len()),
        }
    }
}

/// What `create` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object was not there and is stored now.
    Stored,
    /// An object of that name was there; it was left as it was.
    AlreadyThere,
}

/// What a storage knows of an object without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectStat {
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When it was stored, by the clock of the storage.
    pub stored: Option<jiff::Timestamp>,
}

/// Room on a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// How many small objects are asked for together, at most.
const TOGETHER_MAX: usize = 32;

/// Shares work on many small objects out to the readers of a storage, and to each together what goes together.
pub(crate) fn batches<'n, T>(
    storage: &dyn Storage,
    items: &'n [T],
) -> (usize, std::slice::Chunks<'n, T>) {
    let readers = storage.readers().max(1);
    let size = items.len().div_ceil(readers).clamp(1, TOGETHER_MAX);
    (readers.min(items.len().div_ceil(size)), items.chunks(size))
}

/// Hears what came of each of several objects; must not use the storage itself, which waits for it.
pub type Outcomes<'v, T> = &'v mut dyn FnMut(&ObjectName, Result<T, StorageError>);

/// Named, immutable objects.
///
/// Contract, held by `strongroom_testkit::storage_conformance`:
///
/// - Nothing is ever changed in place, and nothing is deleted but by [`Storage::delete`].
/// - Objects are whole or absent: after a crash or a failed call no name leads to part of an object.
/// - Every call may be repeated after an error, and from several threads at once.
/// - What [`Storage::put`] took is visible and durable once a later [`Storage::flush`] returned `Ok`; before that it
///   is absent or whole. [`Storage::create`] is durable when it returns, and implies `flush` of what its caller put before.
/// - A name that is not there is [`StorageError::NotFound`], never an empty object.
pub trait Storage: Send + Sync {
    /// The storage's address, without secrets.
    fn location(&self) -> &str;

    /// Stores an object under a name that its content decides; leaves one that is there.
    ///
    /// It may still be on its way when this returns. What goes wrong then, an object of another size under that
    /// name included, is an error of a later call, of [`Storage::flush`] at the latest.
    fn put(&self, name: &ObjectName, body: Body<'_>) -> Result<(), StorageError>;

    /// Hears that objects will be put soon; a storage behind a network may connect ahead.
    fn expect_puts(&self) {}

    /// Stores an object only if the name is free, and tells which; durable when it returns.
    ///
    /// When an answer got lost on the way, an object with these very bytes counts as the one just stored.
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, StorageError>;

    /// Makes everything put before visible and durable.
    fn flush(&self) -> Result<(), StorageError>;

    /// Opens an object for reading from its first byte.
    fn open(&self, name: &ObjectName) -> Result<Box<dyn Read + Send>, StorageError>;

    /// Reads `length` bytes from `offset`; fewer only where the object ends.
    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError>;

    /// Reads a whole object of at most `limit` bytes.
    fn get(&self, name: &ObjectName, limit: usize) -> Result<Vec<u8>, StorageError> {
        let mut bytes = Vec::new();
        if let Some(stat) = self.stat(name)? {
            bytes.reserve_exact(usize::try_from(stat.size_bytes).unwrap_or(limit).min(limit));
        }
        self.open(name)?
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| StorageError::io("read", name, source))?;
        if bytes.len() > limit {
            return Err(StorageError::TooLarge {
                name: name.clone(),
                limit,
            });
        }
        Ok(bytes)
    }

    /// Reads several objects of at most `limit` bytes each, and hands over what came of each, one at a time and in no order. A
    /// storage behind a network may ask for them together.
    fn get_each(&self, names: &[ObjectName], limit: usize, visit: Outcomes<'_, Vec<u8>>) {
        for name in names {
            visit(name, self.get(name, limit));
        }
    }

    /// Every object whose name begins with `prefix`, with its size, in no order; foreign names are passed over.
    fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectName, ObjectStat),
    ) -> Result<(), StorageError>;

    /// What is known of an object; `None` when it is not there.
    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectStat>, StorageError>;

    /// The SHA-256 of an object's bytes, as the storage itself computed it when it took them and without reading them now;
    /// `None` where it tells none.
    fn checksum(&self, _name: &ObjectName) -> Result<Option<Digest>, StorageError> {
        Ok(None)
    }

    /// Deletes an object; one that is gone already is no error.
    fn delete(&self, name: &ObjectName) -> Result<(), StorageError>;

    /// Deletes several, and tells what came of each, in no order.
    fn delete_each(&self, names: &[ObjectName], visit: Outcomes<'_, ()>) {
        for name in names {
            visit(name, self.delete(name));
        }
    }

    /// The room left, where the storage can tell.
    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError>;

    /// How many readers at once it serves best; each may ask for many objects together.
    fn readers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
}

/// Why a storage could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The object is not there.
    #[error("object {name} is missing")]
    NotFound {
        /// The object.
        name: ObjectName,
    },
    /// The object is longer than its kind may be.
    #[error("object {name} is longer than {limit} bytes")]
    TooLarge {
        /// The object.
        name: ObjectName,
        /// The bound.
        limit: usize,
    },
    /// The place itself is missing or no directory.
    #[error("{location} cannot be used as a repository")]
    Unusable {
        /// The storage's address.
        location: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What is needed to reach it cannot be used: a file of credentials, a key.
    #[error("{location} cannot be used as a repository")]
    Settings {
        /// The storage's address.
        location: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The storage answered, and said no: credentials, permissions, a missing bucket, a held lock.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// The storage gave no answer, or none that helps, however often it was asked.
    #[error(transparent)]
    Unreachable(Box<Silence>),
    /// The operator interrupted.
    #[error(transparent)]
    Interrupted(#[from] crate::cancel::Interrupted),
    /// There is no room left.
    #[error("no space left while trying to {operation} {name}")]
    NoSpace {
        /// What was being done.
        operation: &'static str,
        /// To which object.
        name: String,
    },
    /// The operating system or the network failed.
    #[error("cannot {operation} {name}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which object or directory.
        name: String,
        /// Its error.
        #[source]
        source: std::io::Error,
    },
}

/// A storage said no.
#[derive(Debug, thiserror::Error)]
#[error("{location} refuses to {operation} {name}: {why}")]
pub struct Refusal {
    /// The storage's address.
    pub location: String,
    /// What was being done.
    pub operation: &'static str,
    /// To which object or directory.
    pub name: String,
    /// Its answer.
    pub why: String,
    /// What the operator can do.
    pub hint: &'static str,
}

/// A storage did not answer.
#[derive(Debug, thiserror::Error)]
#[error("{location} does not answer: cannot {operation} {name}")]
pub struct Silence {
    /// The storage's address.
    pub location: String,
    /// What was being done.
    pub operation: &'static str,
    /// To which object or directory.
    pub name: String,
    /// What happened the last time.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl StorageError {
    /// Whether it tells something of the object itself; otherwise the storage, or the way to it, has failed.
    pub fn is_of_object(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::TooLarge { .. } => true,
            // The account may not read it, and perhaps nothing else either.
            Self::Io { source, .. } => source.kind() != std::io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// Why a reader of [`Storage::open`] failed: what the storage said, where it is behind a network.
    pub fn of_reader(name: &ObjectName, source: std::io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::io("read", name, source),
        }
    }

    /// Wraps an I/O error with what was done and to what; sorts out the full disk.
    pub fn io(operation: &'static str, name: &dyn fmt::Display, source: std::io::Error) -> Self {
        let name = name.to_string();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { operation, name }
            }
            _ => Self::Io {
                operation,
                name,
                source,
            },
        }
    }
}
