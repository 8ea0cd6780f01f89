//! The directory of a SoftHSM2 token, read as files while nobody writes to it.
//!
//! SoftHSM2 names the directory of a token by a UUID whose last sixteen digits are the token's serial number, writes each object into
//! a file of its own, and counts every change in files called `generation`. It keeps no file open, so that a writer is known by what he
//! changes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strongroom_core::source::{Capture, CaptureError, Class, Sink, Source as _};

use super::error::TokenError;
use super::module::TokenFacts;
use crate::source::files::{FilesSettings, FilesSource};

/// Size, inode, and the times of the last change of content and of anything.
type Look = (u64, u64, (i64, i64), (i64, i64));

/// How everything in the directory of a token looks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Look>);

impl Snapshot {
    /// Takes it.
    pub(super) fn of(directory: &Path) -> Result<Self, CaptureError> {
        let mut seen = BTreeMap::new();
        let failed = || CaptureError::io("read", directory);
        let mut look = |path: PathBuf| -> Result<(), CaptureError> {
            let metadata = std::fs::symlink_metadata(&path);
            let metadata = metadata.map_err(CaptureError::io("look at", &path))?;
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            // Whoever only looks into a token touches its lock.
            if path.extension().is_none_or(|extension| extension != "lock") {
                seen.insert(path, (metadata.len(), metadata.ino(), modified, changed));
            }
            Ok(())
        };
        for entry in std::fs::read_dir(directory).map_err(failed())? {
            look(entry.map_err(failed())?.path())?;
        }
        Ok(Self(seen))
    }
}

/// The directory of a token below SoftHSM's `directories.tokendir`.
pub(super) fn directory(tokens: &Path, token: &TokenFacts) -> Result<PathBuf, CaptureError> {
    let entries = std::fs::read_dir(tokens).map_err(CaptureError::io("read", tokens))?;
    for entry in entries {
        let entry = entry.map_err(CaptureError::io("read", tokens))?;
        let name = entry.file_name();
        let digits: String = name
            .to_string_lossy()
            .chars()
            .filter(|letter| *letter != '-')
            .collect();
        if digits.len() == 32 && !token.serial.is_empty() && digits.ends_with(&token.serial) {
            return Ok(entry.path());
        }
    }
    Err(TokenError::Object(format!(
        "there is no directory of {} below it; softhsm_tokens must be the directories.tokendir of softhsm2.conf",
        token.words()
    ))
    .of(tokens))
}

/// Reads the directory as files; one that is not as it was in `before` is a problem.
pub(super) fn capture(
    directory: &Path,
    before: &Snapshot,
    sink: &dyn Sink,
) -> Result<Capture, CaptureError> {
    let settings = FilesSettings::new(vec![pattern(directory)], Class::Key);
    let mut capture = FilesSource::new(settings).capture(sink)?;
    if Snapshot::of(directory)? != *before {
        capture.problems.push(format!(
            "the token was changed while {} was read: stop what writes to it, and back up again",
            directory.display()
        ));
    }
    Ok(capture)
}

/// A path as a pattern that matches only itself.
fn pattern(path: &Path) -> String {
    let mut pattern = String::new();
    for letter in path.to_string_lossy().chars() {
        if matches!(letter, '*' | '?' | '[' | '{' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
