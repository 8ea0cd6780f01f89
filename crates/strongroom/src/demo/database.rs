//! The authority's SQLite database, in WAL mode: what was issued, revoked and published.
//!
//! Times are RFC 3339 in UTC with whole seconds, so that they sort as text.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use strongroom_core::private_file;

use super::error::DemoError;

/// The newest migration this code knows.
pub(super) const SCHEMA_VERSION: &str = "0001_initial";

const SCHEMA: &str = "\
CREATE TABLE certificates (
    id INTEGER PRIMARY KEY,
    serial TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    not_before TEXT NOT NULL,
    not_after TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('valid', 'revoked')),
    revoked_at TEXT,
    reason INTEGER,
    der BLOB NOT NULL,
    CHECK ((status = 'revoked') = (revoked_at IS NOT NULL)),
    CHECK ((status = 'revoked') = (reason IS NOT NULL))
) STRICT;
CREATE INDEX certificates_by_status ON certificates (status, id);
CREATE TABLE crls (
    number INTEGER PRIMARY KEY,
    this_update TEXT NOT NULL,
    next_update TEXT NOT NULL,
    der BLOB NOT NULL
) STRICT;
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    token_sha256 TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE schema_migrations (
    version TEXT PRIMARY KEY,
    applied_at TEXT NOT NULL
) STRICT;
";

/// One issued certificate.
#[derive(Debug)]
pub(super) struct Row {
    /// In hexadecimal.
    pub(super) serial: String,
    /// As RFC 4514 writes a name.
    pub(super) subject: String,
    /// RFC 3339.
    pub(super) not_before: String,
    /// RFC 3339.
    pub(super) not_after: String,
    /// When it was revoked and why (RFC 5280, 5.3.1), if it was.
    pub(super) revoked: Option<(String, i64)>,
    /// The certificate.
    pub(super) der: Vec<u8>,
}

/// Makes the database with its schema and one account, whose token has this digest.
pub(super) fn create(
    path: &Path,
    now: jiff::Timestamp,
    token_sha256: &str,
) -> Result<Connection, DemoError> {
    // SQLite gives the -wal and -shm files the mode of the database.
    private_file::create_new(path).map_err(DemoError::file("create", path))?;
    let connection = open(path)?;
    let now = now.to_string();
    connection
        .pragma_update(None, "journal_mode", "wal")
        .and_then(|()| connection.execute_batch(SCHEMA))
        .and_then(|()| {
            connection.execute(
                "INSERT INTO schema_migrations (version, applied_at) VALUES (?1, ?2)",
                params![SCHEMA_VERSION, now],
            )
        })
        .and_then(|_| {
            connection.execute(
                "INSERT INTO accounts (name, token_sha256, created_at) VALUES (?1, ?2, ?3)",
                params!["registration", token_sha256, now],
            )
        })
        .map_err(DemoError::database("set up"))?;
    Ok(connection)
}

/// Opens the database that is there.
pub(super) fn open(path: &Path) -> Result<Connection, DemoError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(DemoError::database("open"))?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .and_then(|()| connection.pragma_update(None, "synchronous", "full"))
        .map_err(DemoError::database("open"))?;
    Ok(connection)
}

/// Opens the database that is there and refuses every change through this connection.
///
/// Not opened read-only: the last connection could then not clear the WAL files away again.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, DemoError> {
    let connection = open(path)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(DemoError::database("open"))?;
    Ok(connection)
}

/// Adds a certificate, valid.
pub(super) fn insert_certificate(connection: &Connection, row: &Row) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO certificates (serial, subject, not_before, not_after, status, der) \
             VALUES (?1, ?2, ?3, ?4, 'valid', ?5)",
        )?
        .execute(params![
            row.serial,
            row.subject,
            row.not_before,
            row.not_after,
            row.der
        ])
        .map(|_| ())
}

/// Serial numbers of the oldest certificates that are valid at `now`, at most `count`.
pub(super) fn oldest_valid(
    connection: &Connection,
    now: &str,
    count: usize,
) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT serial FROM certificates WHERE status = 'valid' AND not_after > ?1 \
             ORDER BY id LIMIT ?2",
        )?
        .query_map(
            params![now, i64::try_from(count).unwrap_or(i64::MAX)],
            |row| row.get(0),
        )?
        .collect()
}

/// Marks a certificate revoked.
pub(super) fn revoke(
    connection: &Connection,
    serial: &str,
    now: &str,
    reason: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE certificates SET status = 'revoked', revoked_at = ?2, reason = ?3 \
             WHERE serial = ?1",
        )?
        .execute(params![serial, now, reason])
        .map(|_| ())
}

/// Every certificate, oldest first.
pub(super) fn certificates(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    connection
        .prepare(
            "SELECT serial, subject, not_before, not_after, status, revoked_at, reason, der \
             FROM certificates ORDER BY id",
        )?
        .query_map([], |row| {
            let revoked = match row.get_ref(4)?.as_str()? {
                "revoked" => Some((row.get(5)?, row.get(6)?)),
                _ => None,
            };
            Ok(Row {
                serial: row.get(0)?,
                subject: row.get(1)?,
                not_before: row.get(2)?,
                not_after: row.get(3)?,
                revoked,
                der: row.get(7)?,
            })
        })?
        .collect()
}

/// How many certificates there are: all, valid, revoked.
pub(super) fn count_certificates(connection: &Connection) -> rusqlite::Result<(u64, u64, u64)> {
    connection.query_row(
        "SELECT count(*), count(*) FILTER (WHERE status = 'valid'), \
         count(*) FILTER (WHERE status = 'revoked') FROM certificates",
        [],
        |row| {
            let count = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
            Ok((count(0)?, count(1)?, count(2)?))
        },
    )
}

/// Serial number of the newest certificate.
pub(super) fn newest_serial(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT serial FROM certificates ORDER BY id DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()
}

/// Adds a CRL.
pub(super) fn insert_crl(
    connection: &Connection,
    number: i64,
    [this_update, next_update]: [&str; 2],
    der: &[u8],
) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO crls (number, this_update, next_update, der) VALUES (?1, ?2, ?3, ?4)",
            params![number, this_update, next_update, der],
        )
        .map(|_| ())
}

/// Every CRL's number and DER, oldest first.
pub(super) fn crls(connection: &Connection) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    connection
        .prepare("SELECT number, der FROM crls ORDER BY number")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The newest CRL's number.
pub(super) fn newest_crl_number(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT max(number) FROM crls", [], |row| row.get(0))
}

/// Whether an account has a token with this digest.
pub(super) fn has_token(connection: &Connection, token_sha256: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM accounts WHERE token_sha256 = ?1)",
        [token_sha256],
        |row| row.get(0),
    )
}

/// The first complaint of SQLite's own check, if it has one.
pub(super) fn complaint(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let answer: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    Ok(Some(answer).filter(|answer| answer != "ok"))
}

/// The newest migration that was applied.
pub(super) fn schema_version(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT max(version) FROM schema_migrations", [], |row| {
        row.get(0)
    })
}
