//! The private copy: one consistent state of a database that others may be writing to.
//!
//! Two ways lead to it.
//!
//! **Online**, through SQLite's backup API on a read-only connection. In WAL mode one read transaction is held, so writers go on
//! and never restart the copy. In rollback-journal mode the lock is given up between steps, so that a writer waits no longer
//! than for another reader; SQLite starts over when the database changed in between. After [`MAX_RESTARTS`] the lock is
//! kept until the end.
//!
//! **Cold**, file by file, when nobody has the database open (WAL mode without `-shm`), or when a read-only connection
//! cannot recover it: a hot journal must be rolled back, or the shared memory cannot be made. The files are copied, SQLite recovers the *copy*, and the copy counts only
//! if no file changed meanwhile. So nothing is ever written beside the original: opening an idle database in WAL mode
//! creates `-wal` and `-shm`, and where this program runs as another user the server could no longer open its own database.
//!
//! The backup API rewrites three fields of the header: the change counter, the schema cookie, and the
//! version-valid-for number with the library's version. They are put back, so that the copy of a database without a WAL is the file byte for byte.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, ffi};
use strongroom_core::cancel::Cancel;
use strongroom_core::private_file;
use strongroom_core::source::CaptureError;

use super::connection::{COMPANIONS, companion, failed, open_original, open_private};
use super::header::Header;

/// How often a writer may make SQLite start over before it is kept out.
pub(super) const MAX_RESTARTS: u32 = 5;

/// Pages a step in WAL mode, where a step blocks nobody: between two looks at the cancel flag.
const WAL_STEP: i32 = 4096;

/// Pages a step in rollback-journal mode, where writers wait during a step.
const ROLLBACK_STEP: i32 = 512;

/// How often SQLite may wait for [`super::connection::BUSY_TIMEOUT`] without getting the lock.
const MAX_BUSY: u32 = 15;

/// How often a cold copy is tried while the files change.
const COLD_TRIES: u32 = 3;

/// How much of a file is copied between two looks at the cancel flag.
const COPY_BYTES: u64 = 64 * 1024 * 1024;

/// A database file in the scratch directory, removed with all that SQLite puts beside it when this is dropped.
#[derive(Debug)]
pub(super) struct ScratchCopy {
    path: PathBuf,
    /// What the operator should know of how it came to be.
    pub(super) notes: Vec<String>,
}

impl ScratchCopy {
    /// Copies `original`, whose header was read before.
    pub(super) fn take(
        original: &Path,
        header: &Header,
        scratch: &Path,
        cancel: &Cancel,
    ) -> Result<Self, CaptureError> {
        let mut copy = Self {
            path: scratch.join("database.sqlite3"),
            notes: Vec::new(),
        };
        let idle = header.is_wal() && !companion(original, "-shm").exists();
        if idle && copy.take_cold(original, cancel)? {
            return Ok(copy);
        }
        match copy.take_online(original, header, cancel) {
            Ok(()) => Ok(copy),
            Err(Refusal::ReadOnly(error)) => {
                if copy.take_cold(original, cancel)? {
                    copy.notes.push(format!(
                        "{}: cannot be read in place ({error}), so its files were copied and recovered in the copy, as the server will do when it starts",
                        original.display()
                    ));
                    return Ok(copy);
                }
                Err(CaptureError::library(format!(
                    "read {} without writing beside it, and its files change while they are copied",
                    original.display()
                ))(error))
            }
            Err(Refusal::Other(error)) => Err(error),
        }
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn create(&self) -> Result<File, CaptureError> {
        self.remove();
        private_file::create_or_truncate(&self.path).map_err(CaptureError::io("create", &self.path))
    }

    fn take_online(
        &mut self,
        original: &Path,
        header: &Header,
        cancel: &Cancel,
    ) -> Result<(), Refusal> {
        drop(self.create()?);
        let refused = |error| Refusal::of(original, error);
        let source = open_original(original).map_err(refused)?;
        let mut cookie = begin(&source, original, header.is_wal(), cancel)?;
        let mut target = open_private(&self.path).map_err(refused)?;
        // It is thrown away after a failure, so it needs neither journal nor fsync.
        for (pragma, value) in [("journal_mode", "off"), ("synchronous", "off")] {
            target.pragma_update(None, pragma, value).map_err(refused)?;
        }
        let backup = Backup::new(&source, &mut target).map_err(refused)?;
        let mut steps = Steps::new(header.is_wal());
        loop {
            cancel.check().map_err(CaptureError::from)?;
            let result = backup.step(steps.pages()).map_err(refused)?;
            match result {
                StepResult::Done => break,
                StepResult::More => {
                    if steps.restarted(backup.progress().remaining) {
                        self.notes.push(format!(
                            "{}: the database changed {MAX_RESTARTS} times while it was copied, so writers were kept waiting for the rest",
                            original.display()
                        ));
                        begin(&source, original, true, cancel)?;
                    }
                }
                _ => {
                    steps.busy(original)?;
                    // A step after one that timed out does not wait again; a statement does.
                    begin(&source, original, false, cancel)?;
                }
            }
        }
        drop(backup);
        if source.is_autocommit() {
            cookie = source
                .pragma_query_value(None, "schema_version", |row| row.get(0))
                .unwrap_or(cookie);
        }
        target
            .close()
            .map_err(|(_, error)| Refusal::of(&self.path, error))?;
        Ok(self.put_header_back(header, cookie)?)
    }

    fn put_header_back(&self, header: &Header, cookie: u32) -> Result<(), CaptureError> {
        let write = || {
            let file = File::options().write(true).open(&self.path)?;
            file.write_all_at(header.change_counter_bytes(), 24)?;
            file.write_all_at(&cookie.to_be_bytes(), 40)?;
            file.write_all_at(header.last_writer(), 92)
        };
        write().map_err(CaptureError::io("write", &self.path))
    }

    /// Copies the files and lets SQLite recover the copy; false when they changed meanwhile.
    fn take_cold(&mut self, original: &Path, cancel: &Cancel) -> Result<bool, CaptureError> {
        for _ in 0..COLD_TRIES {
            let before = states(original)?;
            let mut file = self.create()?;
            copy_file(original, &mut file, cancel)?;
            let mut recover = false;
            for (suffix, state) in COMPANIONS.iter().zip(&before[1..]) {
                if *suffix != "-shm" && state.is_some_and(|state| state.size > 0) {
                    let path = companion(&self.path, suffix);
                    let mut file = private_file::create_or_truncate(&path)
                        .map_err(CaptureError::io("create", &path))?;
                    copy_file(&companion(original, suffix), &mut file, cancel)?;
                    recover = true;
                }
            }
            if states(original)? != before {
                continue;
            }
            drop(file);
            if recover {
                self.recover().map_err(failed(
                    format!("recover a copy of {}", original.display()),
                    original,
                ))?;
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Rolls a hot journal back, or moves the content of the WAL into the copy.
    fn recover(&self) -> rusqlite::Result<()> {
        let connection = open_private(&self.path)?;
        connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        if mode.eq_ignore_ascii_case("wal") {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        connection.close().map_err(|(_, error)| error)
    }

    fn remove(&self) {
        let beside = COMPANIONS.map(|suffix| companion(&self.path, suffix));
        for path in beside.iter().chain([&self.path]) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove the private copy");
                }
                _ => {}
            }
        }
    }
}

impl Drop for ScratchCopy {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Why the online way did not work.
enum Refusal {
    /// A connection that may not write cannot read this database; a copy of its files can be recovered.
    ReadOnly(rusqlite::Error),
    /// Anything else.
    Other(CaptureError),
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        Self::Other(error)
    }
}

impl Refusal {
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => Self::ReadOnly(error),
            _ => Self::Other(failed(format!("copy {}", path.display()), path)(error)),
        }
    }
}

/// Counts what can go wrong between two steps.
struct Steps {
    held: bool,
    remaining: i32,
    restarts: u32,
    busy: u32,
}

impl Steps {
    const fn new(held: bool) -> Self {
        Self {
            held,
            remaining: i32::MAX,
            restarts: 0,
            busy: 0,
        }
    }

    const fn pages(&self) -> i32 {
        if self.held { WAL_STEP } else { ROLLBACK_STEP }
    }

    /// Notes a step; true when from now on the lock is to be held.
    const fn restarted(&mut self, remaining: i32) -> bool {
        self.busy = 0;
        if remaining >= self.remaining {
            self.restarts += 1;
        }
        self.remaining = remaining;
        let hold = !self.held && self.restarts >= MAX_RESTARTS;
        self.held |= hold;
        hold
    }

    fn busy(&mut self, original: &Path) -> Result<(), CaptureError> {
        self.busy += 1;
        if self.busy < MAX_BUSY {
            return Ok(());
        }
        Err(locked(original))
    }
}

/// Reads the schema cookie, in a transaction that is kept open if `hold`.
fn begin(
    source: &Connection,
    original: &Path,
    hold: bool,
    cancel: &Cancel,
) -> Result<u32, Refusal> {
    let refused = |error| Refusal::of(original, error);
    if hold && source.is_autocommit() {
        source.execute_batch("BEGIN").map_err(refused)?;
    }
    for _ in 0..MAX_BUSY {
        cancel.check().map_err(CaptureError::from)?;
        match source.pragma_query_value(None, "schema_version", |row| row.get(0)) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            other => return other.map_err(refused),
        }
    }
    Err(Refusal::Other(locked(original)))
}

fn locked(original: &Path) -> CaptureError {
    let error = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None);
    CaptureError::library(format!(
        "copy {}, another process keeps it locked (a long transaction, or locking_mode=EXCLUSIVE)",
        original.display()
    ))(error)
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The state of the database and of each of its companions.
fn states(original: &Path) -> Result<[Option<FileState>; 4], CaptureError> {
    let mut states = [None; 4];
    let companions = COMPANIONS.map(|suffix| companion(original, suffix));
    for (state, path) in states
        .iter_mut()
        .zip([original.to_owned()].iter().chain(&companions))
    {
        *state = match std::fs::metadata(path) {
            Ok(metadata) => Some(FileState::of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(CaptureError::io("look at", path)(error)),
        };
    }
    Ok(states)
}

fn copy_file(from: &Path, to: &mut File, cancel: &Cancel) -> Result<(), CaptureError> {
    let file = File::open(from).map_err(CaptureError::io("open", from))?;
    loop {
        cancel.check()?;
        let copied =
            io::copy(&mut (&file).take(COPY_BYTES), to).map_err(CaptureError::io("copy", from))?;
        if copied == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_RESTARTS, ROLLBACK_STEP, Steps, WAL_STEP};

    #[test]
    fn writers_are_kept_out_after_so_many_restarts() {
        let mut steps = Steps::new(false);
        assert!(!steps.restarted(900), "the first step is none");
        assert!(!steps.restarted(800));
        for _ in 1..MAX_RESTARTS {
            assert!(!steps.restarted(900));
        }
        assert_eq!(steps.pages(), ROLLBACK_STEP);
        assert!(steps.restarted(900));
        assert_eq!(steps.pages(), WAL_STEP);
        assert!(!steps.restarted(900), "only once");
    }
}
