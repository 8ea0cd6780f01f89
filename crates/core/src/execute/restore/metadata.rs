//! Owners, modes, times and attributes of what is restored.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::format::manifest::Stream;
use crate::plan::restore::Found;

/// Sets everything on an open file or directory; what only root may do and was not possible is told in `problems`.
pub(super) fn apply(
    file: impl AsFd,
    stream: &Stream,
    path: &Path,
    problems: &mut Vec<String>,
) -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let (uid, gid) = (Uid::from_raw(stream.uid), Gid::from_raw(stream.gid));
        rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    for (name, value) in &stream.xattrs {
        let set = rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty());
        if let Err(error) = set {
            problems.push(format!(
                "{}: attribute {name} cannot be set: {error}",
                path.display()
            ));
        }
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(stream.mode))?;
    rustix::fs::futimens(&file, &timestamps(stream.mtime))?;
    Ok(())
}

/// Sets owner and time of a symbolic link.
pub(super) fn apply_to_link(directory: impl AsFd, name: &str, stream: &Stream) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(stream.uid), Gid::from_raw(stream.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&directory, name, Some(uid), Some(gid), flags)?;
    }
    let times = timestamps(stream.mtime);
    Ok(rustix::fs::utimensat(
        &directory,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Puts back what a directory was before the restore.
pub(super) fn revert(directory: &File, before: &Found) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(before.uid), Gid::from_raw(before.gid));
        rustix::fs::fchown(directory, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(directory, Mode::from_raw_mode(before.mode))?;
    Ok(rustix::fs::futimens(directory, &timestamps(before.mtime))?)
}

/// Sets the time of an open file or directory.
pub(super) fn set_time(file: impl AsFd, mtime: (i64, u32)) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &timestamps(mtime))?)
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
