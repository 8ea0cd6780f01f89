//! What all storages behind a network share: parallel transfers, repetition, pace, and large objects in parts.
//!
//! A kind of storage implements [`Requests`], one request a call, and says of each error whether asking again may
//! help; [`RemoteStorage`] makes a [`Storage`] of it. Nothing here knows a protocol.

mod pace;
mod ranges;
mod retry;
#[cfg(any(
    feature = "storage-azure",
    feature = "storage-gcs",
    feature = "storage-s3"
))]
pub mod runtime;
#[cfg(test)]
mod tests;
mod uploads;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{
    Body, FreeSpace, ObjectStat, Outcomes, Put, Refusal, Silence, Storage, StorageError,
};

use super::TransferLimits;
use pace::Pace;
pub(in crate::storage) use retry::until_answered;
use uploads::{Job, Uploads};

/// Files longer than this are sent in parts, in bytes.
const PARTS_ABOVE: u64 = 32 << 20;

/// The requests of one kind of storage. Keys are names of objects, relative to the repository.
pub trait Requests: Send + Sync + 'static {
    /// The storage's address, without secrets.
    fn location(&self) -> &str;

    /// Stores an object if there is none of that name. The storage itself checks the digest where it can.
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put, RequestError>;

    /// Stores a file if there is none of that name, in parts; on an error nothing of it may be seen.
    fn put_new_file(&self, key: &str, file: &Path, size_bytes: u64) -> Result<Put, RequestError>;

    /// At most `length` bytes from `offset`; fewer only where the object ends, none behind its end.
    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, RequestError>;

    /// Whether several small requests are better asked together: then there are the two below.
    fn goes_together(&self) -> bool {
        false
    }

    /// The first `length` bytes of each of these objects, asked for together and once: hands over what came of each, one at a
    /// time and in their order; not of all where the connection broke, or where nothing goes together.
    fn get_together(
        &self,
        _keys: &[&str],
        _length: usize,
        _take: &mut dyn FnMut(Result<Vec<u8>, RequestError>),
    ) {
    }

    /// What is known of an object; `None` when it is not there.
    fn head(&self, key: &str) -> Result<Option<ObjectStat>, RequestError>;

    /// The SHA-256 of an object, where the storage tells the one that it computed.
    fn checksum(&self, _key: &str) -> Result<Option<Digest>, RequestError> {
        Ok(None)
    }

    /// Every key that begins with `prefix`, in no order.
    fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectStat)>, RequestError>;

    /// Deletes an object; one that is gone already is no error.
    fn delete(&self, key: &str) -> Result<(), RequestError>;

    /// Deletes these together, asked once; what came of each as in [`Requests::get_together`].
    fn delete_together(&self, _keys: &[&str], _take: &mut dyn FnMut(Result<(), RequestError>)) {}

    /// The room left, where the storage can tell.
    fn free_space(&self) -> Result<Option<FreeSpace>, RequestError> {
        Ok(None)
    }

    /// Connects ahead of objects that will be put, where that takes long. What fails here fails again when it matters.
    fn connect_ahead(&self) {}
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The object is not there.
    #[error("there is no such object")]
    NotFound,
    /// The storage said no; asking again does not help.
    #[error("{why}")]
    Refused {
        /// Its answer, without secrets.
        why: String,
        /// What the operator can do.
        hint: &'static str,
    },
    /// The place of the repository is not there.
    #[error("{why}")]
    Absent {
        /// Which, in words.
        why: String,
    },
    /// No answer, a broken one, or one that asks to come back later.
    #[error(transparent)]
    Transient(Box<dyn std::error::Error + Send + Sync>),
    /// There is no room left.
    #[error("no space left")]
    NoSpace,
    /// A file of this host failed.
    #[error(transparent)]
    Local(#[from] std::io::Error),
}

impl RequestError {
    /// Something that may go well the next time.
    pub fn transient(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Transient(source.into())
    }

    /// What the storage port says of it.
    fn at(self, location: &str, operation: &'static str, name: &str) -> StorageError {
        let (location, name) = (location.to_owned(), name.to_owned());
        match self {
            Self::NotFound => match ObjectName::parse(&name) {
                Some(name) => StorageError::NotFound { name },
                None => StorageError::io(operation, &name, std::io::ErrorKind::NotFound.into()),
            },
            Self::Refused { why, hint } => StorageError::Refused(Box::new(Refusal {
                location,
                operation,
                name,
                why,
                hint,
            })),
            Self::Absent { why } => StorageError::Unusable {
                location,
                source: std::io::Error::new(std::io::ErrorKind::NotFound, why),
            },
            Self::Transient(source) => StorageError::Unreachable(Box::new(Silence {
                location,
                operation,
                name,
                source,
            })),
            Self::NoSpace => StorageError::NoSpace { operation, name },
            Self::Local(source) => StorageError::io(operation, &name, source),
        }
    }
}

/// A storage behind a network.
pub struct RemoteStorage<R> {
    link: Arc<Link<R>>,
    uploads: Uploads,
}

/// The requests, repeated and paced.
struct Link<R> {
    requests: R,
    limits: TransferLimits,
    pace: Pace,
    cancel: Cancel,
}

impl<R: Requests> Link<R> {
    /// Asks until there is an answer, patience ends, or the operator interrupts.
    fn ask<T>(
        &self,
        operation: &'static str,
        name: &str,
        sent_bytes: u64,
        request: impl Fn(&R) -> Result<T, RequestError>,
    ) -> Result<T, StorageError> {
        let attempt = || {
            self.pace.before_request(sent_bytes, &self.cancel)?;
            Ok(request(&self.requests))
        };
        until_answered(&self.limits, &self.cancel, attempt)?
            .map_err(|error| error.at(self.requests.location(), operation, name))
    }

    /// An object that is there must have the size that was to be stored.
    fn must_have(&self, key: &str, size_bytes: u64) -> Result<(), StorageError> {
        let there = self.ask("look at", key, 0, |requests| requests.head(key))?;
        // Gone again since: whoever deletes must be seen, so this is no success either.
        if there.is_some_and(|stat| stat.size_bytes == size_bytes) {
            return Ok(());
        }
        let why = "an object of another size is there, and is left as it is";
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, why);
        Err(StorageError::io("store", &key, source))
    }

    fn put_bytes(&self, key: &str, bytes: &Bytes) -> Result<(), StorageError> {
        let size_bytes = bytes.len() as u64;
        let put = self.ask("store", key, size_bytes, |requests| {
            requests.put_new(key, bytes.clone())
        })?;
        match put {
            Put::Stored => Ok(()),
            Put::AlreadyThere => self.must_have(key, size_bytes),
        }
    }

    fn put_file(&self, key: &str, file: &Path, size_bytes: u64) -> Result<(), StorageError> {
        let put = self.ask("store", key, size_bytes, |requests| {
            requests.put_new_file(key, file, size_bytes)
        })?;
        match put {
            Put::Stored => Ok(()),
            Put::AlreadyThere => self.must_have(key, size_bytes),
        }
    }

    /// Asks about several objects together, and then one by one about those that have no answer.
    fn ask_together<T>(
        &self,
        operation: &'static str,
        names: &[ObjectName],
        together: impl Fn(&R, &[&str], &mut dyn FnMut(Result<T, RequestError>)),
        alone: impl Fn(&ObjectName) -> Result<T, StorageError>,
        visit: Outcomes<'_, T>,
    ) {
        let keys: Vec<&str> = names.iter().map(ObjectName::as_str).collect();
        let mut unanswered = Vec::new();
        let mut rest = names.iter();
        // Together they are still as many requests.
        let mut paced = keys
            .iter()
            .map(|_| self.pace.before_request(0, &self.cancel));
        let is_better = keys.len() > 1 && self.requests.goes_together();
        if is_better && paced.all(|waited| waited.is_ok()) {
            together(&self.requests, &keys, &mut |answer| {
                let name = rest.next().expect("one answer each");
                match answer {
                    // Not here: what asks together may hold a connection that asking alone waits for.
                    Err(RequestError::Transient(_)) => unanswered.push(name),
                    answer => {
                        let location = self.requests.location();
                        visit(
                            name,
                            answer.map_err(|error| error.at(location, operation, name.as_str())),
                        );
                    }
                }
            });
        }
        for name in unanswered.into_iter().chain(rest) {
            visit(name, alone(name));
        }
    }

    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let bytes = self.ask("read", key, 0, |requests| requests.get(key, offset, length))?;
        self.pace.after_bytes(bytes.len() as u64, &self.cancel)?;
        Ok(bytes)
    }
}

impl<R: Requests> RemoteStorage<R> {
    /// Makes a storage of requests; `cancel` ends waiting.
    pub fn new(requests: R, limits: TransferLimits, cancel: Cancel) -> Self {
        let link = Arc::new(Link {
            requests,
            pace: Pace::new(&limits),
            limits,
            cancel,
        });
        let uploads = Uploads::start(link.limits.connections, {
            let link = Arc::clone(&link);
            move |job: &Job| match job {
                Job::ConnectAhead => {
                    link.requests.connect_ahead();
                    Ok(())
                }
                Job::Put(key, bytes) => link.put_bytes(key, bytes),
            }
        });
        Self { link, uploads }
    }

    /// The requests themselves.
    pub fn requests(&self) -> &R {
        &self.link.requests
    }
}

impl<R: Requests> Storage for RemoteStorage<R> {
    fn location(&self) -> &str {
        self.link.requests.location()
    }

    fn put(&self, name: &ObjectName, body: Body<'_>) -> Result<(), StorageError> {
        let size_bytes = body
            .size()
            .map_err(|source| StorageError::io("read what becomes", name, source))?;
        match body {
            Body::Bytes(bytes) => {
                let bytes = Bytes::copy_from_slice(bytes);
                self.uploads.send(name.as_str(), bytes)
            }
            Body::Owned(bytes) => self.uploads.send(name.as_str(), bytes.into()),
            Body::File(path) if size_bytes > PARTS_ABOVE => {
                self.link.put_file(name.as_str(), path, size_bytes)
            }
            Body::File(path) => {
                let bytes = std::fs::read(path)
                    .map_err(|source| StorageError::io("read what becomes", name, source))?;
                self.uploads.send(name.as_str(), bytes.into())
            }
        }
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, StorageError> {
        self.flush()?;
        let bytes = Bytes::copy_from_slice(bytes);
        let asked = AtomicU32::new(0);
        let put = self
            .link
            .ask("create", name.as_str(), bytes.len() as u64, |requests| {
                asked.fetch_add(1, Ordering::Relaxed);
                requests.put_new(name.as_str(), bytes.clone())
            })?;
        if put == Put::AlreadyThere && asked.into_inner() > 1 {
            // Perhaps the first request was carried out and its answer lost: then what is there is ours.
            let there = self.link.get(name.as_str(), 0, bytes.len() + 1)?;
            if *there == *bytes {
                return Ok(Put::Stored);
            }
        }
        Ok(put)
    }

    fn expect_puts(&self) {
        self.uploads.connect_ahead();
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.uploads.flush()
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Read + Send>, StorageError> {
        let link = Arc::clone(&self.link);
        let key = name.clone();
        let reader = ranges::RangeReader::open(move |offset, length| {
            link.get(key.as_str(), offset, length)
        })?;
        Ok(Box::new(reader))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        if length == 0 {
            return match self.stat(name)? {
                Some(_) => Ok(Vec::new()),
                None => Err(StorageError::NotFound { name: name.clone() }),
            };
        }
        self.link.get(name.as_str(), offset, length)
    }

    fn get(&self, name: &ObjectName, limit: usize) -> Result<Vec<u8>, StorageError> {
        // One byte more than may be there tells the longer object without a second request.
        let bytes = self.link.get(name.as_str(), 0, limit.saturating_add(1))?;
        at_most(limit, name, bytes)
    }

    fn get_each(&self, names: &[ObjectName], limit: usize, visit: Outcomes<'_, Vec<u8>>) {
        let length = limit.saturating_add(1);
        self.link.ask_together(
            "read",
            names,
            |requests, keys, take| {
                requests.get_together(keys, length, &mut |answer| {
                    let received = answer.as_ref().map_or(0, Vec::len) as u64;
                    let waited = self.link.pace.after_bytes(received, &self.link.cancel);
                    take(answer.and_then(|bytes| match waited {
                        Ok(()) => Ok(bytes),
                        // Asked for alone, the interruption is told.
                        Err(interrupted) => Err(RequestError::transient(interrupted)),
                    }));
                });
            },
            |name| self.link.get(name.as_str(), 0, length),
            &mut |name, read| visit(name, read.and_then(|bytes| at_most(limit, name, bytes))),
        );
    }

    fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectName, ObjectStat),
    ) -> Result<(), StorageError> {
        let found = self
            .link
            .ask("list", prefix, 0, |requests| requests.list(prefix))?;
        for (key, stat) in found {
            if let Some(name) = ObjectName::parse(&key) {
                visit(name, stat);
            }
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectStat>, StorageError> {
        self.link.ask("look at", name.as_str(), 0, |requests| {
            requests.head(name.as_str())
        })
    }

    fn checksum(&self, name: &ObjectName) -> Result<Option<Digest>, StorageError> {
        self.link.ask("look at", name.as_str(), 0, |requests| {
            requests.checksum(name.as_str())
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        self.link.ask("delete", name.as_str(), 0, |requests| {
            requests.delete(name.as_str())
        })
    }

    fn delete_each(&self, names: &[ObjectName], visit: Outcomes<'_, ()>) {
        let alone = |name: &ObjectName| self.delete(name);
        self.link
            .ask_together("delete", names, R::delete_together, alone, visit);
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        self.link
            .ask("look at the room of", "", 0, Requests::free_space)
    }

    fn readers(&self) -> usize {
        self.link.limits.connections
    }
}

/// What was read with one byte more than `limit`, unless the object is longer.
fn at_most(limit: usize, name: &ObjectName, bytes: Vec<u8>) -> Result<Vec<u8>, StorageError> {
    if bytes.len() > limit {
        return Err(StorageError::TooLarge {
            name: name.clone(),
            limit,
        });
    }
    Ok(bytes)
}
