//! How connections are opened: the original never for writing, the copy never with locks.
//!
//! Nothing here reads the schema, which may be damaged; that rules out most pragmas. SQLite's own page cache of 2 MB is kept.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use strongroom_core::source::CaptureError;

/// How long SQLite itself waits for a lock before it reports that the database is busy.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The suffixes of the files that SQLite keeps beside a database.
pub(super) const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The path of a file beside the database.
pub(super) fn companion(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the original for reading only.
pub(super) fn open_original(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Opens a private file for writing, alone.
pub(super) fn open_private(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    Ok(connection)
}

/// Opens a file that nobody changes: without locks, and without files beside it even in WAL mode.
pub(super) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(immutable_uri(path), flags)?;
    // A misspelled column must be an error, not a string.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    Ok(connection)
}

/// An identifier as SQL wants it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Wraps an error of SQLite; damage becomes [`CaptureError::Unsuitable`] with the way out.
pub(super) fn failed(
    operation: impl Into<String>,
    path: &Path,
) -> impl FnOnce(rusqlite::Error) -> CaptureError {
    let path = path.as_os_str().to_owned();
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            CaptureError::Unsuitable {
                path,
                why: format!("the database is damaged: {error}"),
                hint: "Restore the newest complete backup; what is newer than it may be salvaged from a copy of the file with `sqlite3 COPY .recover`.",
            }
        }
        Some(rusqlite::ErrorCode::OperationInterrupted) => {
            CaptureError::Interrupted(strongroom_core::cancel::Interrupted)
        }
        _ => CaptureError::library(operation)(error),
    }
}

fn immutable_uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            uri.push_str(&strongroom_core::format::id::to_hex(&[byte]));
        }
    }
    uri.push_str("?immutable=1");
    uri
}
