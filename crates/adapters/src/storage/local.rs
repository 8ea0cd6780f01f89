//! A directory as storage: `file:///absolute/path`, on a disk or over NFS.
//!
//! An object is written to `tmp/` and linked to its name once its bytes are durable, so that no name
//! ever leads to part of an object. Reading and naming is here; [`writer`] makes things durable in the
//! background, [`temporary`] owns the files in `tmp/`.

mod temporary;
mod writer;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use strongroom_core::format::name::{ENVELOPES, EPOCHS, OBJECTS, ObjectName, PREFIXES};
use strongroom_core::private_file;
use strongroom_core::storage::{Body, FreeSpace, ObjectStat, Put, Storage, StorageError};

use temporary::Temporary;
use writer::{Job, Writer};

/// Objects as files below one directory.
///
/// `put` writes a temporary file and leaves fsync and link to a thread behind a bounded queue; `flush` waits for
/// it and reports the first error since the last report. Dropping the storage waits for the queue, too.
pub struct LocalStorage {
    root: PathBuf,
    location: String,
    writer: Writer,
}

/// The directories that a backup writes to, below a repository's; those that do not exist are made.
pub fn directories_of_a_backup(root: &Path) -> Vec<PathBuf> {
    let tops = [temporary::DIRECTORY, EPOCHS, OBJECTS, ENVELOPES];
    tops.iter()
        .map(|top| root.join(top.trim_end_matches('/')))
        .collect()
}

impl LocalStorage {
    /// Opens a directory that exists, and removes what writers that died left in its `tmp/`.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let root = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let location = url_from_path(&root);
        match std::fs::metadata(&root) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(unusable(location, io::ErrorKind::NotADirectory.into())),
            Err(source) => return Err(unusable(location, source)),
        }
        temporary::remove_leftovers(&root);
        let writer = Writer::new(root.clone());
        Ok(Self {
            root,
            location,
            writer,
        })
    }

    /// Makes the directory with its parents, 0700, where it does not exist, and opens it.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        let root = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        private_file::create_dir_all(&root)
            .and_then(|()| private_file::sync_parent(&root))
            .map_err(|source| unusable(url_from_path(&root), source))?;
        Self::open(&root)
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Opens what is there, without following a link or waiting for a pipe.
    fn open_now(&self, name: &ObjectName) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.path(name))
    }

    /// The regular file of an object.
    fn file(&self, name: &ObjectName) -> Result<(File, u64), StorageError> {
        let opened = self.open_now(name);
        match opened.and_then(|file| Ok((file.metadata()?, file))) {
            Ok((metadata, file)) if metadata.is_file() => Ok((file, metadata.len())),
            Ok(_) => Err(StorageError::NotFound { name: name.clone() }),
            Err(error) if is_absent(&error) || is_link(&error) => {
                Err(StorageError::NotFound { name: name.clone() })
            }
            Err(source) => Err(StorageError::io("open", name, source)),
        }
    }

    /// Whether an object of this size is there; an error when it has another.
    fn is_there(&self, name: &ObjectName, size_bytes: u64) -> Result<bool, StorageError> {
        match self.metadata_now(name) {
            Ok(metadata) if metadata.is_file() && metadata.len() == size_bytes => Ok(true),
            Ok(metadata) if metadata.is_dir() => {
                let source = io::ErrorKind::IsADirectory.into();
                Err(StorageError::io("store", name, source))
            }
            Ok(_) => Err(StorageError::io("store", name, of_another_size())),
            Err(error) if is_absent(&error) => Ok(false),
            Err(source) => Err(StorageError::io("store", name, source)),
        }
    }

    /// What is there at this moment. Over NFS only an open asks the server; a look-up may be answered from a cache
    /// that still knows what another host has deleted.
    fn metadata_now(&self, name: &ObjectName) -> io::Result<std::fs::Metadata> {
        match self.open_now(name).and_then(|file| file.metadata()) {
            // Another account's, or no file at all: the look-up tells what it is.
            Err(error) if is_link(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
                std::fs::symlink_metadata(self.path(name))
            }
            other => other,
        }
    }

    fn write_temporary(
        &self,
        name: &ObjectName,
        body: &Body<'_>,
    ) -> Result<Temporary, StorageError> {
        let fail = |source| StorageError::io("write", name, source);
        let mut temporary = Temporary::create(&self.root).map_err(fail)?;
        temporary.fill(body).map_err(fail)?;
        Ok(temporary)
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> &str {
        &self.location
    }

    fn put(&self, name: &ObjectName, body: Body<'_>) -> Result<(), StorageError> {
        let size_bytes = body
            .size()
            .map_err(|source| StorageError::io("read what becomes", name, source))?;
        if self.is_there(name, size_bytes)? {
            // Whoever linked it may not have flushed yet; the next flush here promises that it is durable.
            return self.writer.send(Job::Touch(self.path(name)));
        }
        let temporary = self.write_temporary(name, &body)?;
        self.writer.send(Job::Publish {
            temporary,
            name: name.clone(),
        })
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, StorageError> {
        self.flush()?;
        let path = self.path(name);
        let fail = |source| StorageError::io("create", name, source);
        if path.symlink_metadata().is_ok() {
            private_file::sync_parent(&path).map_err(fail)?;
            return Ok(Put::AlreadyThere);
        }
        let temporary = self.write_temporary(name, &Body::Bytes(bytes))?;
        let mut touched = writer::Touched::default();
        let put = temporary
            .publish(&self.root, &path, &mut touched)
            .map_err(fail)?;
        touched.sync()?;
        Ok(put)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.writer.flush()
    }

    fn open(&self, name: &ObjectName) -> Result<Box<dyn Read + Send>, StorageError> {
        Ok(Box::new(self.file(name)?.0))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let (file, size) = self.file(name)?;
        let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        read_at(&file, offset, length.min(rest))
            .map_err(|source| StorageError::io("read", name, source))
    }

    fn get(&self, name: &ObjectName, limit: usize) -> Result<Vec<u8>, StorageError> {
        let (file, size) = self.file(name)?;
        let length = usize::try_from(size).ok().filter(|size| *size <= limit);
        let Some(length) = length else {
            return Err(StorageError::TooLarge {
                name: name.clone(),
                limit,
            });
        };
        read_at(&file, 0, length).map_err(|source| StorageError::io("read", name, source))
    }

    fn list(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(ObjectName, ObjectStat),
    ) -> Result<(), StorageError> {
        if let Err(source) = std::fs::metadata(&self.root) {
            return Err(unusable(self.location.clone(), source));
        }
        let mut waiting: Vec<String> = PREFIXES
            .into_iter()
            .map(|top| top.trim_end_matches('/').to_owned())
            .filter(|top| leads_to(top, prefix))
            .collect();
        while let Some(directory) = waiting.pop() {
            self.list_directory(&directory, prefix, &mut waiting, visit)?;
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> Result<Option<ObjectStat>, StorageError> {
        match std::fs::symlink_metadata(self.path(name)) {
            Ok(metadata) => Ok(metadata.is_file().then(|| stat_of(&metadata))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(StorageError::io("look at", name, source)),
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StorageError> {
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            // A directory has no object's name, whatever it is called.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(()),
            Err(source) => Err(StorageError::io("delete", name, source)),
        }
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        let space = rustix::fs::statvfs(&self.root).map_err(|source| {
            StorageError::io("ask for the free space of", &"it", source.into())
        })?;
        Ok(Some(FreeSpace {
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        }))
    }
}

impl LocalStorage {
    /// Visits the objects of one directory and adds those of its directories that may hold more.
    fn list_directory(
        &self,
        directory: &str,
        prefix: &str,
        waiting: &mut Vec<String>,
        visit: &mut dyn FnMut(ObjectName, ObjectStat),
    ) -> Result<(), StorageError> {
        let fail = |source| StorageError::io("list", &directory, source);
        let path = self.root.join(directory);
        let entries = match std::fs::read_dir(&path) {
            // `read_dir` follows links, and a link is never part of a repository.
            Ok(_) if path.is_symlink() => return Ok(()),
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(source) => return Err(fail(source)),
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            let Ok(file_name) = entry.file_name().into_string() else {
                continue;
            };
            let name = format!("{directory}/{file_name}");
            let metadata = match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    if ObjectName::parse(&name).is_some() && leads_to(&name, prefix) {
                        waiting.push(name);
                    }
                    continue;
                }
                Ok(kind) if !kind.is_file() || !name.starts_with(prefix) => continue,
                Ok(_) => entry.metadata(),
                Err(error) => Err(error),
            };
            match metadata {
                Ok(metadata) => {
                    if let Some(name) = ObjectName::parse(&name) {
                        visit(name, stat_of(&metadata));
                    }
                }
                // Deleted since the directory was read.
                Err(error) if is_absent(&error) => {}
                Err(source) => return Err(fail(source)),
            }
        }
        Ok(())
    }
}

/// Whether names below `directory` can begin with `prefix`.
fn leads_to(directory: &str, prefix: &str) -> bool {
    let below = format!("{directory}/");
    below.starts_with(prefix) || prefix.starts_with(&below)
}

fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What `O_NOFOLLOW` answers for a symbolic link, and a socket for any `open`.
fn is_link(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(
        errno,
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO)
    )
}

fn of_another_size() -> io::Error {
    let why = "something else is there under this name, or the object is damaged: its size differs";
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn unusable(location: String, source: io::Error) -> StorageError {
    StorageError::Unusable { location, source }
}

fn stat_of(metadata: &std::fs::Metadata) -> ObjectStat {
    let modified = metadata.modified().ok();
    ObjectStat {
        size_bytes: metadata.len(),
        stored: modified.and_then(|time| jiff::Timestamp::try_from(time).ok()),
    }
}

fn url_from_path(path: &Path) -> String {
    let mut url = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(*byte)),
            letter if letter.is_ascii_alphanumeric() => url.push(char::from(*letter)),
            other => {
                use std::fmt::Write as _;
                write!(url, "%{other:02X}").expect("a string takes everything");
            }
        }
    }
    url
}

#[cfg(test)]
mod tests;
