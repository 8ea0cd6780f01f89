//! The source `sqlite`: one SQLite database, captured whole while its server goes on writing.
//!
//! # A capture
//!
//! 1. `header` looks at the file, `copy` takes a private copy of one consistent state of it.
//! 2. While the copy is streamed into the sink, one thread runs `PRAGMA integrity_check` on it (`integrity`) and
//!    another reads the facts (`facts`): they describe exactly the bytes that are stored.
//! 3. The copy is removed, whatever happened.
//!
//! # A database that did not change
//!
//! A copy of a database whose WAL is absent, empty or checkpointed equals its file byte for byte (see `copy`). So when
//! `memory` says that the file looks as it did, and everything is in the file, then the file itself is streamed, without copy, check or facts, and without any lock:
//! a slow storage never keeps a writer waiting. Only if the BLAKE3 digest of what was read equals the one of
//! the earlier stream, the new stream is finished, with the facts and the integrity of those very bytes. This is
//! consistent without a lock, because equal bytes are the state that was checked; and it is not stale, because all that was
//! committed before the first byte was read stood in the file. A file that was read while it changed has another
//! digest; that stream is discarded, and the capture goes the long way.
//!
//! When the WAL holds more than the file, but both look as they did, the copy is made and streamed first; check and facts
//! follow only if its digest is another one.
//!
//! # Memory
//!
//! 8 MB of page cache for the check, 2 MB for each other connection, 1 MiB for the stream.

mod checks;
mod connection;
mod copy;
mod differences;
mod digest;
mod facts;
mod header;
mod integrity;
mod memory;
mod open_files;
mod restorer;
mod schema;
mod settings;
mod stream;

#[cfg(test)]
mod tests;

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use strongroom_core::plan::restore::is_restore_name;
use strongroom_core::source::{Capture, CaptureError, Inspection, Sink, Source};

pub use restorer::SqliteRestorer;
pub use settings::{SqliteSettings, TimestampColumn, TimestampColumnError};

use connection::{COMPANIONS, companion};
use copy::ScratchCopy;
use header::{Content, Header};
use memory::{Likeness, Memory, State};

/// The name of the source in the configuration.
pub const KIND: &str = "sqlite";

/// Neighbours looked at for [`Inspection::suggestions`].
const NEIGHBOURS: usize = 1000;

/// One SQLite database.
#[derive(Clone, Debug)]
pub struct SqliteSource {
    settings: SqliteSettings,
}

impl SqliteSource {
    /// The database that `settings` name.
    pub const fn new(settings: SqliteSettings) -> Self {
        Self { settings }
    }

    /// The database file, symbolic links followed: SQLite keeps the other files beside that.
    fn real_path(&self) -> Result<PathBuf, CaptureError> {
        // What is missing is reported by `examine`, with a hint.
        if self.settings.path.exists() {
            std::fs::canonicalize(&self.settings.path)
                .map_err(CaptureError::io("resolve", &self.settings.path))
        } else {
            Ok(self.settings.path.clone())
        }
    }
}

impl Source for SqliteSource {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.settings).unwrap_or_default()
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        let path = self.real_path()?;
        let mut inspection = Inspection {
            covered: covered(&self.settings.path, &path),
            ..Inspection::default()
        };
        match header::examine(&path) {
            Ok((metadata, content)) => {
                inspection.files = 1;
                inspection.size_bytes = metadata.len();
                inspection.notes.extend(self.notes(&path, &content));
                let wal = std::fs::metadata(companion(&path, "-wal")).map_or(0, |wal| wal.len());
                if wal > metadata.len() {
                    inspection.notes.push(format!(
                        "{}: the write-ahead log is larger ({wal} bytes) than the database ({} bytes): is it ever checkpointed?",
                        path.display(),
                        metadata.len()
                    ));
                }
            }
            Err(error @ CaptureError::Unsuitable { .. }) => {
                inspection.problems.push(error.to_string());
            }
            Err(error) => return Err(error),
        }
        inspection.suggestions = neighbours(&path, &inspection.covered);
        Ok(inspection)
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let path = self.real_path()?;
        let (metadata, content) = header::examine(&path)?;
        let notes = self.notes(&path, &content);
        let mut capture = match content {
            Content::Empty => self.capture_empty(&metadata, sink)?,
            Content::Database(header) => self.capture_database(&path, &metadata, &header, sink)?,
        };
        capture.notes.splice(0..0, notes);
        Ok(capture)
    }
}

impl SqliteSource {
    fn notes(&self, path: &Path, content: &Content) -> Vec<String> {
        let mut notes = Vec::new();
        let shown = self.settings.path.display();
        if self.settings.path.is_symlink() {
            notes.push(format!(
                "{shown}: a symbolic link to {}; restored as the file itself",
                path.display()
            ));
        }
        if matches!(content, Content::Empty) {
            notes.push(format!(
                "{shown}: the file is empty, a database without tables"
            ));
        }
        notes
    }

    fn capture_empty(&self, metadata: &Metadata, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let writer = sink.begin(stream::chunking(0))?;
        writer.finish(stream::entry(&self.settings.path, metadata))?;
        let mut capture = Capture {
            facts: serde_json::json!({ "empty": true }),
            ..Capture::default()
        };
        if sink.memory().is_some() {
            capture.problems.push(format!(
                "{}: the file is empty, and it held a database at an earlier backup. Who emptied it? If that is right, give the \
                 asset another name",
                self.settings.path.display()
            ));
        }
        Ok(capture)
    }

    fn capture_database(
        &self,
        path: &Path,
        metadata: &Metadata,
        header: &Header,
        sink: &dyn Sink,
    ) -> Result<Capture, CaptureError> {
        let state = State::of(path, metadata, header);
        let memory = Memory::read(sink.memory(), &self.settings.newest);
        let likeness = memory
            .as_ref()
            .map_or(Likeness::None, |memory| memory.likeness(path, &state));
        if let (Likeness::File, Some(memory)) = (likeness, &memory)
            && let Some(capture) =
                self.stream_unchanged(path, metadata, header, memory, &state, sink)?
        {
            return Ok(capture);
        }
        let copy = ScratchCopy::take(path, header, sink.scratch(), sink.cancel())?;
        let as_before = match (likeness, memory) {
            (Likeness::FileAndWal, Some(memory)) => Some(memory),
            _ => None,
        };
        self.stream_copy(&copy, metadata, as_before, state, sink)
    }

    /// Streams the file itself; none if it is not what was captured before.
    fn stream_unchanged(
        &self,
        path: &Path,
        metadata: &Metadata,
        header: &Header,
        memory: &Memory,
        state: &State,
        sink: &dyn Sink,
    ) -> Result<Option<Capture>, CaptureError> {
        let cancel = sink.cancel().clone();
        let mut writer = sink.begin(stream::chunking(header.page_size()))?;
        let blake3 = stream::push(path, writer.as_mut(), &cancel)?;
        if blake3.to_string() != memory.blake3 {
            writer.discard()?;
            return Ok(None);
        }
        writer.finish(stream::entry(&self.settings.path, metadata))?;
        Ok(Some(reused(memory, state.clone())))
    }

    fn stream_copy(
        &self,
        copy: &ScratchCopy,
        metadata: &Metadata,
        as_before: Option<Memory>,
        state: State,
        sink: &dyn Sink,
    ) -> Result<Capture, CaptureError> {
        let cancel = sink.cancel().clone();
        let header = match header::examine(copy.path())? {
            (_, Content::Database(header)) => header,
            (_, Content::Empty) => return self.capture_empty(metadata, sink),
        };
        let stream = || {
            let mut writer = sink.begin(stream::chunking(header.page_size()))?;
            let blake3 = stream::push(copy.path(), writer.as_mut(), &cancel)?;
            let summary = writer.finish(stream::entry(&self.settings.path, metadata))?;
            Ok((summary, blake3))
        };
        let newest = &self.settings.newest;
        let ((summary, blake3), findings) = if let Some(memory) = as_before {
            let (summary, blake3) = stream()?;
            if blake3.to_string() == memory.blake3 {
                return Ok(reused(&memory, state));
            }
            let ((), findings) =
                checks::run_beside(copy.path(), &header, newest, &cancel, || Ok(()))?;
            ((summary, blake3), findings)
        } else {
            checks::run_beside(copy.path(), &header, newest, &cancel, stream)?
        };
        let digest = (summary.sha256, summary.size_bytes, &blake3);
        let memory = Memory::new(
            newest,
            state,
            digest,
            findings.facts.clone(),
            findings.notes.clone(),
        );
        let mut notes = copy.notes.clone();
        notes.extend(findings.notes);
        Ok(Capture {
            facts: findings.facts,
            memory: findings
                .problems
                .is_empty()
                .then(|| serde_json::to_value(memory).unwrap_or_default()),
            problems: findings.problems,
            notes,
        })
    }
}

/// The capture of bytes that were captured and checked before.
fn reused(memory: &Memory, state: State) -> Capture {
    let memory = memory.once_more(state);
    Capture {
        facts: memory.facts.clone(),
        problems: Vec::new(),
        notes: memory.notes.clone(),
        memory: Some(serde_json::to_value(memory).unwrap_or_default()),
    }
}

fn covered(configured: &Path, real: &Path) -> Vec<PathBuf> {
    let mut covered = Vec::new();
    for path in [configured, real] {
        covered.push(path.to_owned());
        covered.extend(COMPANIONS.map(|suffix| companion(path, suffix)));
        if configured == real {
            break;
        }
    }
    covered
}

/// Other databases in the same directory.
fn neighbours(path: &Path, covered: &[PathBuf]) -> Vec<PathBuf> {
    let Some(Ok(entries)) = path.parent().map(std::fs::read_dir) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .take(NEIGHBOURS)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        // What a restore keeps until its sign-off is no part of the server.
        .filter(|entry| !is_restore_name(&entry.file_name()))
        .map(|entry| entry.path())
        .filter(|path| !covered.contains(path) && header::has_magic(path))
        .collect();
    found.sort_unstable();
    found
}
