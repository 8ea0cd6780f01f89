//! Files in `tmp/`: written, then linked to an object's name, or removed.
//!
//! A writer holds an flock on its file; a file whose lock is free was left by a writer that died. Where the
//! file system knows no flock, leftovers stay, and nothing else is lost.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use strongroom_core::format::id;
use strongroom_core::private_file;
use strongroom_core::storage::{Body, Put};

use super::writer::Touched;

pub(super) const DIRECTORY: &str = "tmp";
/// How often a new name is tried when another process removes the file before its lock is taken.
const ATTEMPTS: usize = 16;

/// A locked file in `tmp/`; dropping it removes its name there.
pub(super) struct Temporary {
    /// `None` only while it is dropped.
    file: Option<File>,
    path: PathBuf,
}

impl Temporary {
    /// Creates and locks an empty file.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let random = id::random::<16>().map_err(io::Error::other)?;
            let path = root.join(DIRECTORY).join(id::to_hex(&random));
            let file = match private_file::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_directory(&root.join(DIRECTORY))?;
                    private_file::create_new(&path)?
                }
                other => other?,
            };
            let temporary = Self {
                file: Some(file),
                path,
            };
            // Between creation and lock another process may take the file for a leftover.
            let is_locked =
                match rustix::fs::flock(temporary.file(), FlockOperation::NonBlockingLockExclusive)
                {
                    Err(Errno::WOULDBLOCK) => false,
                    Ok(()) | Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                        true
                    }
                    Err(error) => return Err(error.into()),
                };
            if is_locked && temporary.file().metadata()?.nlink() > 0 {
                return Ok(temporary);
            }
        }
        Err(io::Error::other(
            "every new file in tmp/ is removed at once",
        ))
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("open until it is dropped")
    }

    /// Writes the body into the file.
    pub(super) fn fill(&mut self, body: &Body<'_>) -> io::Result<()> {
        match body {
            Body::Bytes(bytes) => self.file().write_all(bytes),
            Body::Owned(bytes) => self.file().write_all(bytes),
            Body::File(path) => {
                let mut from = File::open(path)?;
                let expected = from.metadata()?.len();
                let copied = io::copy(&mut from, &mut self.file())?;
                if copied == expected {
                    Ok(())
                } else {
                    let why = "the file changed while it was copied";
                    Err(io::Error::new(io::ErrorKind::InvalidData, why))
                }
            }
        }
    }

    /// Makes the bytes durable and gives them their name, unless it is taken. The directories that
    /// must be synced for the name to last are added to `touched`.
    pub(super) fn publish(
        self,
        root: &Path,
        path: &Path,
        touched: &mut Touched,
    ) -> io::Result<Put> {
        self.file().sync_all()?;
        let put = match self.link(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_parents(root, path, touched)?;
                self.link(path)?
            }
            other => other?,
        };
        touched.add(path);
        Ok(put)
    }

    /// The length of what was written.
    pub(super) fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file().metadata()?.len())
    }

    fn link(&self, path: &Path) -> io::Result<Put> {
        match rustix::fs::link(&self.path, path) {
            Ok(()) => Ok(Put::Stored),
            // NFS repeats a call whose answer was lost, and then finds its own link; a soft mount gives up after
            // the server has made it.
            Err(error) if self.is_at(path).or_else(|why| nowhere(error, why))? => Ok(Put::Stored),
            Err(Errno::EXIST) => Ok(Put::AlreadyThere),
            // FAT, exFAT and some network file systems have no hard links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                let flags = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(CWD, &self.path, CWD, path, flags) {
                    Ok(()) => Ok(Put::Stored),
                    Err(Errno::EXIST) => Ok(Put::AlreadyThere),
                    Err(error) if self.is_at(path).or_else(|why| nowhere(error, why))? => {
                        Ok(Put::Stored)
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.file().metadata()?;
        let there = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
    }
}

/// What to think when nobody can say whether a link was made: for a name that is taken that is an error of its
/// own, else the first error is the better one to tell.
fn nowhere(error: Errno, why: io::Error) -> io::Result<bool> {
    if error == Errno::EXIST {
        Err(why)
    } else {
        Ok(false)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Closed first: over NFS a file that is open gets another name in place of being removed.
        self.file = None;
        // Renamed away, or left for the next `remove_leftovers`.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the files in `tmp/` whose writers are dead; what cannot be removed stays and does no harm.
pub(super) fn remove_leftovers(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root.join(DIRECTORY)) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| {
            // What NFS calls a file that was removed while it was open, by a client that then died.
            id::from_hex::<16>(name).is_some() || name.starts_with(".nfs")
        });
        if is_ours {
            let _ = remove_unless_locked(&entry.path());
        }
    }
}

fn remove_unless_locked(path: &Path) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    // Over NFS an exclusive lock needs a file that is open for writing.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Makes the directories between `root`, which must exist, and `path`.
fn make_parents(root: &Path, path: &Path, touched: &mut Touched) -> io::Result<()> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let mut directory = root.to_owned();
    for part in below.parent().into_iter().flat_map(Path::components) {
        directory.push(part);
        make_directory(&directory)?;
        // Even one that exists: whoever made it may not have synced it yet.
        touched.add(&directory);
    }
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
