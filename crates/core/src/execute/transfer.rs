//! One object on its way from a storage to another: read, proved, held in memory or on disk, stored.
//!
//! What is held was proved by its digest; nothing else can be stored from here.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cancel::Cancel;
use crate::error_chain;
use crate::format::Digest;
use crate::format::id::Hasher;
use crate::format::name::ObjectName;
use crate::private_file;
use crate::repository::RepositoryError;
use crate::storage::{Body, Storage, StorageError};

/// The longest object that is held in memory, in bytes; packs are shorter.
const IN_MEMORY_MAX: u64 = 16 << 20;
/// How much is read at once, in bytes.
const READ: usize = 256 << 10;
/// Copies and repairs use at most this many threads.
pub(super) const THREADS_MAX: usize = 8;

/// An object whose bytes were proved.
pub(super) struct Proved {
    held: Held,
    pub(super) size_bytes: u64,
}

enum Held {
    Memory(Vec<u8>),
    /// A file without a name, gone when it is closed.
    File(File),
}

/// What reading an object came to.
pub(super) enum Fetched {
    Good(Proved),
    /// It is not what it should be, and why.
    Damaged(String),
}

/// What is expected of an object.
#[derive(Clone, Copy)]
pub(super) struct Expected<'n> {
    pub(super) name: &'n ObjectName,
    pub(super) digest: Digest,
    pub(super) size_bytes: Option<u64>,
}

/// Where and for whom objects are fetched.
#[derive(Clone, Copy)]
pub(super) struct Fetch<'a> {
    /// A private directory for what is too long for the memory.
    pub(super) scratch: &'a Path,
    pub(super) cancel: &'a Cancel,
    pub(super) on_bytes: &'a (dyn Fn(u64) + Sync),
}

impl Fetch<'_> {
    /// Reads an object and proves size and digest; an error means that the storage cannot be used.
    pub(super) fn fetch(
        self,
        storage: &dyn Storage,
        expected: Expected<'_>,
    ) -> Result<Fetched, RepositoryError> {
        let mut held = match expected.size_bytes {
            Some(size) if size > IN_MEMORY_MAX => Held::File(self.spool()?),
            _ => Held::Memory(Vec::new()),
        };
        let outcome = self.read(storage, expected, &mut |block| match &mut held {
            Held::Memory(bytes) => {
                bytes.extend_from_slice(block);
                Ok(())
            }
            Held::File(file) => file
                .write_all(block)
                .map_err(RepositoryError::state("write", self.scratch)),
        })?;
        Ok(match outcome {
            Ok(size_bytes) => Fetched::Good(Proved { held, size_bytes }),
            Err(why) => Fetched::Damaged(why),
        })
    }

    /// Reads an object to its end; its length when size and digest are right, else what is wrong.
    pub(super) fn prove(
        self,
        storage: &dyn Storage,
        expected: Expected<'_>,
    ) -> Result<Result<u64, String>, RepositoryError> {
        self.read(storage, expected, &mut |_| Ok(()))
    }

    fn read(
        self,
        storage: &dyn Storage,
        expected: Expected<'_>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<Result<u64, String>, RepositoryError> {
        self.cancel.check()?;
        let mut reader = match storage.open(expected.name) {
            Ok(reader) => reader,
            Err(StorageError::NotFound { .. }) => return Ok(Err("it is missing".to_owned())),
            Err(error) if error.is_of_object() => return Ok(Err(error_chain(&error))),
            Err(error) => return Err(error.into()),
        };
        let limit = expected.size_bytes.unwrap_or(IN_MEMORY_MAX);
        let mut hasher = Hasher::new();
        let mut block = vec![0; READ];
        let mut length = 0;
        loop {
            self.cancel.check()?;
            let read = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = StorageError::of_reader(expected.name, error);
                    if error.is_of_object() {
                        return Ok(Err(error_chain(&error)));
                    }
                    return Err(error.into());
                }
            };
            length += read as u64;
            if length > limit {
                return Ok(Err(format!("it is longer than {limit} bytes")));
            }
            hasher.update(&block[..read]);
            take(&block[..read])?;
            (self.on_bytes)(read as u64);
        }
        if let Some(size) = expected.size_bytes.filter(|size| *size != length) {
            return Ok(Err(format!("it has {length} bytes, {size} were written")));
        }
        if hasher.finish() != expected.digest {
            return Ok(Err("its bytes were changed".to_owned()));
        }
        Ok(Ok(length))
    }

    /// A private file whose name is removed at once, so that nothing stays of a run that is killed.
    fn spool(self) -> Result<File, RepositoryError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        private_file::create_dir_all(self.scratch)
            .map_err(RepositoryError::state("create", self.scratch))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("spool-{}-{number}", std::process::id());
        let path = self.scratch.join(name);
        let file = private_file::create_or_truncate(&path)
            .map_err(RepositoryError::state("create", &path))?;
        std::fs::remove_file(&path).map_err(RepositoryError::state("remove", &path))?;
        Ok(file)
    }
}

impl Proved {
    /// Stores it under the name that its digest decides.
    pub(super) fn put(&self, storage: &dyn Storage, name: &ObjectName) -> Result<(), StorageError> {
        match &self.held {
            Held::Memory(bytes) => storage.put(name, Body::Bytes(bytes)),
            Held::File(file) => {
                let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                // It may still be read after `put` returned, but not after `flush`; small objects are the rule.
                storage.put(name, Body::File(&path))?;
                storage.flush()
            }
        }
    }
}
