//! Tests of the source and the restorer, against real databases.

mod content;
mod damage;
mod live;
mod prove;
mod unchanged;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::private_file;
use strongroom_core::source::{
    Capture, CaptureError, Chunking, Class, Entry, Sink, Source as _, StreamSummary, StreamWriter,
};
use tempfile::TempDir;

use super::{SqliteSettings, SqliteSource};

/// A directory with a database, and the source for it.
struct Bench {
    directory: TempDir,
    restored: TempDir,
    source: SqliteSource,
    sink: RecordingSink,
}

/// A stream as it was given to the sink.
#[derive(Debug)]
struct Recorded {
    entry: Entry,
    chunking: Chunking,
    bytes: Vec<u8>,
}

/// Keeps everything in memory.
struct RecordingSink {
    scratch: TempDir,
    memory: Option<serde_json::Value>,
    cancel: Cancel,
    streams: Vec<Recorded>,
    discarded: u32,
    /// Asks for an interruption once so many bytes were written.
    cancel_after: Option<usize>,
    /// Called before the first byte of each stream.
    at_begin: Option<Box<dyn FnMut()>>,
}

struct RecordingWriter<'a> {
    sink: &'a mut RecordingSink,
    chunking: Chunking,
    bytes: Vec<u8>,
}

impl Sink for RecordingSink {
    fn entry(&mut self, _: Entry) -> Result<(), CaptureError> {
        unreachable!("a database is a stream")
    }

    fn begin(&mut self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        if let Some(hook) = &mut self.at_begin {
            hook();
        }
        Ok(Box::new(RecordingWriter {
            sink: self,
            chunking,
            bytes: Vec::new(),
        }))
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        self.memory.as_ref()
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl StreamWriter for RecordingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.bytes.extend_from_slice(bytes);
        if self
            .sink
            .cancel_after
            .is_some_and(|limit| self.bytes.len() >= limit)
        {
            self.sink.cancel.request();
        }
        Ok(())
    }

    fn hole(&mut self, _: u64) -> Result<(), CaptureError> {
        unreachable!("a database has no holes")
    }

    fn finish(self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        let summary = StreamSummary {
            sha256: Digest::of(&self.bytes),
            size_bytes: self.bytes.len() as u64,
        };
        self.sink.streams.push(Recorded {
            entry,
            chunking: self.chunking,
            bytes: self.bytes,
        });
        Ok(summary)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        self.sink.discarded += 1;
        Ok(())
    }
}

impl Bench {
    /// A database at `name`, made by `sql`, closed again.
    fn named(name: &str, sql: &str) -> Self {
        let bench = Self::without_file(name);
        bench.execute(sql);
        bench
    }

    fn new(sql: &str) -> Self {
        Self::named("ca.db", sql)
    }

    fn without_file(name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(name);
        Self {
            directory,
            source: source(&path, &[]),
            restored: TempDir::new().unwrap(),
            sink: RecordingSink::new(),
        }
    }

    fn path(&self) -> &Path {
        &self.source.settings.path
    }

    fn open(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn execute(&self, sql: &str) {
        self.open().execute_batch(sql).unwrap();
    }

    fn try_capture(&mut self) -> Result<Capture, CaptureError> {
        let captured = self.source.capture(&mut self.sink);
        let left = fs::read_dir(self.sink.scratch()).unwrap().count();
        assert_eq!(left, 0, "the scratch directory is empty afterwards");
        captured
    }

    /// Captures, and hands the memory to the next capture.
    fn capture(&mut self) -> Capture {
        let capture = self.try_capture().unwrap();
        self.sink.memory.clone_from(&capture.memory);
        capture
    }

    /// Captures without a problem.
    fn capture_whole(&mut self) -> Capture {
        let capture = self.capture();
        assert_eq!(capture.problems, Vec::<String>::new());
        capture
    }

    fn stream(&self) -> &Recorded {
        self.sink.streams.last().unwrap()
    }

    /// The last stream, as a file in a directory of its own.
    fn restored(&self) -> PathBuf {
        let path = self.restored.path().join("restored.db");
        private_file::replace(&path, &self.stream().bytes).unwrap();
        path
    }

    /// One value out of the last stream.
    fn stored<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        super::connection::open_immutable(&self.restored())
            .unwrap()
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    }
}

impl RecordingSink {
    fn new() -> Self {
        Self {
            scratch: TempDir::new().unwrap(),
            memory: None,
            cancel: Cancel::default(),
            streams: Vec::new(),
            discarded: 0,
            cancel_after: None,
            at_begin: None,
        }
    }
}

fn source(path: &Path, newest: &[&str]) -> SqliteSource {
    let newest = newest
        .iter()
        .map(|column| (*column).to_owned().try_into().unwrap())
        .collect();
    SqliteSource::new(SqliteSettings {
        class: Class::Database,
        path: path.to_owned(),
        newest,
    })
}

/// How many captures in a row took over facts.
fn reused(capture: &Capture) -> u64 {
    capture.memory.as_ref().unwrap()["reused"].as_u64().unwrap()
}

/// Copies the files of a database while a connection of this process has it open: what a crash leaves.
fn crash(path: &Path, suffixes: &[&str], to: &Path) {
    fs::copy(path, to).unwrap();
    for suffix in suffixes {
        let from = super::connection::companion(path, suffix);
        fs::copy(from, super::connection::companion(to, suffix)).unwrap();
    }
}

/// Everything in a directory, with the digest of its content.
fn snapshot(directory: &Path) -> Vec<(PathBuf, Digest)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), Digest::of(&fs::read(path).unwrap())))
        .collect();
    files.sort();
    files
}
