//! What a capture leaves behind for the next one, and whether the database looks as it did then.
//!
//! Looks decide only whether it is worth trying; the digest of every byte decides whether the facts hold.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_core::format::Digest;

use super::connection::{companion, open_original};
use super::header::Header;
use super::settings::TimestampColumn;

/// Raised when the facts or their digests change, so that old ones are not taken over.
const VERSION: u32 = 1;

/// What is kept on this host; only of captures without problems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    version: u32,
    sqlite_version: String,
    newest: Vec<TimestampColumn>,
    /// The state of the files when the capture began.
    pub(super) state: State,
    /// The digest of the stream, as it is in the manifest.
    pub(super) sha256: Digest,
    /// The length of the stream.
    pub(super) size_bytes: u64,
    /// BLAKE3 of the stream, which is known before the stream is finished.
    pub(super) blake3: String,
    /// The facts of the stream.
    pub(super) facts: serde_json::Value,
    /// The notes that come with the facts.
    pub(super) notes: Vec<String>,
    /// How many captures in a row took over facts and notes.
    pub(super) reused: u64,
}

/// What a database and its WAL look like from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    inode: u64,
    size_bytes: u64,
    mtime: (i64, i64),
    change_counter: u32,
    version_valid_for: u32,
    /// Size and time of the WAL; none where there is none, or an empty one.
    wal: Option<(u64, (i64, i64))>,
}

impl State {
    pub(super) fn of(path: &Path, metadata: &Metadata, header: &Header) -> Self {
        let wal = std::fs::metadata(companion(path, "-wal")).ok();
        Self {
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            change_counter: header.change_counter(),
            version_valid_for: header.version_valid_for(),
            wal: wal
                .filter(|wal| wal.size() > 0)
                .map(|wal| (wal.size(), (wal.mtime(), wal.mtime_nsec()))),
        }
    }

    fn same_file(&self, other: &Self) -> bool {
        let without_wal = |state: &Self| Self {
            wal: None,
            ..state.clone()
        };
        without_wal(self) == without_wal(other)
    }
}

/// How much the database looks like the one that was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// The file looks the same, and all of the database is in it.
    File,
    /// File and WAL look the same.
    FileAndWal,
    /// Something changed.
    None,
}

impl Memory {
    /// Remembers a capture.
    pub(super) fn new(
        newest: &[TimestampColumn],
        state: State,
        stream: (Digest, u64, &blake3::Hash),
        facts: serde_json::Value,
        notes: Vec<String>,
    ) -> Self {
        Self {
            version: VERSION,
            sqlite_version: rusqlite::version().to_owned(),
            newest: newest.to_vec(),
            state,
            sha256: stream.0,
            size_bytes: stream.1,
            blake3: stream.2.to_string(),
            facts,
            notes,
            reused: 0,
        }
    }

    /// Reads what an earlier capture left, if it was of the same settings and by the same program.
    pub(super) fn read(
        value: Option<&serde_json::Value>,
        newest: &[TimestampColumn],
    ) -> Option<Self> {
        let memory = Self::deserialize(value?).ok()?;
        let fits = memory.version == VERSION
            && memory.sqlite_version == rusqlite::version()
            && memory.newest == newest;
        fits.then_some(memory)
    }

    /// Remembers that another capture was of the same bytes.
    pub(super) fn once_more(&self, state: State) -> Self {
        Self {
            state,
            reused: self.reused + 1,
            ..self.clone()
        }
    }

    /// Compares with the database as it is now.
    pub(super) fn likeness(&self, path: &Path, state: &State) -> Likeness {
        if !self.state.same_file(state) {
            Likeness::None
        } else if state.wal.is_none() || is_checkpointed(path) {
            Likeness::File
        } else if self.state.wal == state.wal {
            Likeness::FileAndWal
        } else {
            Likeness::None
        }
    }
}

/// Whether everything in the WAL is in the database file too; asked of SQLite, which changes nothing for it.
fn is_checkpointed(path: &Path) -> bool {
    // Without shared memory nobody has it open, and to open it would create files beside it.
    if !companion(path, "-shm").exists() {
        return false;
    }
    let asked = open_original(path).and_then(|connection| {
        connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
        connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })
    });
    matches!(asked, Ok((0, log, checkpointed)) if log >= 0 && log == checkpointed)
}
