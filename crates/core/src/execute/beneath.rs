//! Working below a directory without ever following a symbolic link out of it.
//!
//! Every directory is opened part by part with `O_NOFOLLOW`, and everything in it is done relative to
//! its descriptor: what a path meant when it was looked at is what is written to.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens `path`, following links: the place that the operator named.
    pub(super) fn open_root(path: &Path) -> io::Result<Self> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            descriptor,
            path: path.to_owned(),
        })
    }

    /// Opens the directory at `path`, which lies at or below `root`; links below `root` are refused.
    ///
    /// Missing directories, `root` among them, are created 0700 when `created` is given, and their paths added to it.
    pub(super) fn open(
        root: &Path,
        path: &Path,
        mut created: Option<&mut Vec<PathBuf>>,
    ) -> io::Result<Self> {
        let root = root.ancestors().find(|root| root.is_dir()).unwrap_or(root);
        let mut directory = Self::open_root(root)?;
        let relative = path.strip_prefix(root).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path is not below its root",
            )
        })?;
        for part in relative.components() {
            let Component::Normal(name) = part else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a path that climbs",
                ));
            };
            directory = directory.descend(name, created.as_deref_mut())?;
        }
        Ok(directory)
    }

    fn descend(&self, name: &OsStr, created: Option<&mut Vec<PathBuf>>) -> io::Result<Self> {
        let path = self.path.join(name);
        let open = || rustix::fs::openat(&self.descriptor, name, DIRECTORY, Mode::empty());
        let descriptor = match (open(), created) {
            (Err(rustix::io::Errno::NOENT), Some(created)) => {
                match rustix::fs::mkdirat(&self.descriptor, name, Mode::RWXU) {
                    Ok(()) => created.push(path.clone()),
                    Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open()
            }
            (result, _) => result,
        };
        match descriptor {
            Ok(descriptor) => Ok(Self { descriptor, path }),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!(
                    "{} is a link or no directory; it is not followed",
                    path.display()
                ),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// The descriptor, for setting the directory's own metadata.
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Creates a file that must not exist, 0600.
    pub(super) fn create_new(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.descriptor, name, flags, mode)?.into())
    }

    /// Creates a symbolic link.
    pub(super) fn symlink(&self, target: &Path, name: &str) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.descriptor, name)?)
    }

    /// Gives a file of `from` a second name here; links themselves are linked, not followed.
    pub(super) fn link(&self, from: &Self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(
            &from.descriptor,
            old,
            &self.descriptor,
            new,
            flags,
        )?)
    }

    /// Renames within this directory, replacing `new`.
    pub(super) fn rename(&self, old: &OsStr, new: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(
            &self.descriptor,
            old,
            &self.descriptor,
            new,
        )?)
    }

    /// Removes a file or link; true when there was one.
    pub(super) fn unlink(&self, name: &OsStr) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of a name, without following it.
    pub(super) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// When the directory was last changed: seconds since 1970 and nanoseconds.
    pub(super) fn modified(&self) -> io::Result<(i64, u32)> {
        let stat = rustix::fs::fstat(&self.descriptor)?;
        Ok((
            stat.st_mtime,
            u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ))
    }

    /// Whether a name exists.
    pub(super) fn has(&self, name: &OsStr) -> io::Result<bool> {
        Ok(self.stat(name)?.is_some())
    }

    /// Makes the names of this directory durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_below_the_root_is_not_followed() {
        let outside = tempfile::tempdir().expect("a directory");
        let inside = tempfile::tempdir().expect("a directory");
        let link = inside.path().join("link");
        std::os::unix::fs::symlink(outside.path(), &link).expect("a link");
        let error = Directory::open(inside.path(), &link, None).expect_err("refused");
        assert!(error.to_string().contains("not followed"), "{error}");
        let below = link.join("deeper");
        Directory::open(inside.path(), &below, Some(&mut Vec::new())).expect_err("refused");
        assert_eq!(outside.path().read_dir().expect("reads").count(), 0);
        Directory::open(&link, &link, None).expect("the root itself may be a link");
    }

    #[test]
    fn missing_directories_are_made_and_told() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a/b");
        let mut created = Vec::new();
        Directory::open(root.path(), &path, Some(&mut created)).expect("made");
        assert_eq!(created, [root.path().join("a"), path.clone()]);
        Directory::open(root.path(), &path.join("../.."), None).expect_err("climbs");
    }
}
