//! Entries of what lies in no file system, for sources in memory.

use std::path::PathBuf;

use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::Entry;

/// An entry of root's, for root alone, of no time.
pub fn entry(kind: StreamKind, path: impl Into<PathBuf>) -> Entry {
    Entry {
        kind,
        mode: match kind {
            StreamKind::Directory => 0o700,
            _ => 0o600,
        },
        ..Entry::dump(path, 0)
    }
}
