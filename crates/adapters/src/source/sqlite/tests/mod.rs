//! Tests of the source and the restorer, against real databases.

mod content;
mod damage;
mod live;
mod prove;
mod unchanged;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use strongroom_core::format::Digest;
use strongroom_core::private_file;
use strongroom_core::source::{Capture, CaptureError, Class, Sink as _, Source as _};
use strongroom_testkit::recording_sink::{Recorded, RecordingSink};
use tempfile::TempDir;

use super::{SqliteSettings, SqliteSource};

/// A directory with a database, and the source for it.
struct Bench {
    directory: TempDir,
    restored: TempDir,
    source: SqliteSource,
    sink: RecordingSink,
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
        let captured = self.source.capture(&self.sink);
        let left = fs::read_dir(self.sink.scratch()).unwrap().count();
        assert_eq!(left, 0, "the scratch directory is empty afterwards");
        captured
    }

    /// Captures, and hands the memory to the next capture.
    fn capture(&mut self) -> Capture {
        let capture = self.try_capture().unwrap();
        self.sink.set_memory(capture.memory.clone());
        capture
    }

    /// Captures without a problem.
    fn capture_whole(&mut self) -> Capture {
        let capture = self.capture();
        assert_eq!(capture.problems, Vec::<String>::new());
        capture
    }

    fn stream(&self) -> Recorded {
        self.sink.recorded().pop().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        self.stream().content.unwrap()
    }

    /// The last stream, as a file in a directory of its own.
    fn restored(&self) -> PathBuf {
        let path = self.restored.path().join("restored.db");
        private_file::replace(&path, &self.bytes()).unwrap();
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
