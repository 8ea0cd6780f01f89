//! What a database says of itself, read from the very bytes that are stored.
//!
//! [`take`] is used twice: on the private copy when a backup is made, and on the restored file when it is proved.
//! The module `differences` compares the two.

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use strongroom_core::format::id::to_hex;
use strongroom_core::source::tables::{RowDigest, TableFacts};

use super::super::migrations::{MIGRATION_TABLES, Migrations};
use super::connection::quoted;
use super::digest;
use super::header::Header;
use super::schema;
use super::settings::TimestampColumn;

/// The newest rows of a migration table that are kept, and how much of one value.
const MIGRATION_ROWS: usize = 1000;
const VALUE_BYTES: usize = 256;

/// Foreign-key violations counted before giving up.
const VIOLATIONS: usize = 1000;

/// The facts of a database, as they stand in the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Bytes a page.
    pub(super) page_size: u32,
    /// Pages in the file.
    pub(super) page_count: i64,
    /// `UTF-8`, `UTF-16le` or `UTF-16be`.
    pub(super) encoding: String,
    /// `wal` or `rollback`.
    pub(super) journal_mode: String,
    /// The schema cookie.
    pub(super) schema_version: i64,
    /// `PRAGMA user_version`.
    pub(super) user_version: i64,
    /// `PRAGMA application_id`.
    pub(super) application_id: i64,
    /// Unused pages.
    pub(super) freelist_count: i64,
    /// The library that took the facts; never compared.
    pub(super) sqlite_version: String,
    /// `ok`, or why not.
    pub(super) integrity: String,
    /// SHA-256 over the `sql` of all objects, sorted, each followed by a line feed.
    pub(super) schema_sha256: String,
    /// Rows and digest of every ordinary table.
    pub(super) tables: BTreeMap<String, TableFacts>,
    /// The module of every virtual table; its rows lie in ordinary tables.
    pub(super) virtual_tables: BTreeMap<String, String>,
    /// The newest value of each declared column.
    pub(super) newest: BTreeMap<String, serde_json::Value>,
    /// The rows of the migration tables.
    pub(super) migrations: BTreeMap<String, Migrations>,
}

/// Facts, and what was in the way of them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) facts: Facts,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Reads all of the database except for `integrity`. An error means that not even its schema can be read.
pub(super) fn take(
    connection: &Connection,
    header: &Header,
    newest: &[TimestampColumn],
) -> rusqlite::Result<Taken> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let facts = Facts {
        page_size: header.page_size(),
        page_count: number("page_count")?,
        encoding: connection.pragma_query_value(None, "encoding", |row| row.get(0))?,
        journal_mode: if header.is_wal() { "wal" } else { "rollback" }.to_owned(),
        schema_version: number("schema_version")?,
        user_version: number("user_version")?,
        application_id: number("application_id")?,
        freelist_count: number("freelist_count")?,
        sqlite_version: rusqlite::version().to_owned(),
        schema_sha256: schema::digest(connection)?,
        ..Facts::default()
    };
    let mut taken = Taken {
        facts,
        ..Taken::default()
    };
    let tables = taken.read_tables(connection)?;
    for column in newest {
        taken.read_newest(connection, &tables, column)?;
    }
    for name in MIGRATION_TABLES {
        if let Some(name) = tables.iter().find(|table| table.eq_ignore_ascii_case(name)) {
            taken.read_migrations(connection, name)?;
        }
    }
    taken.check_foreign_keys(connection)?;
    Ok(taken)
}

impl Taken {
    /// Passes on that the run was interrupted; everything else is the fault of one table.
    fn failed(&mut self, what: &str, error: rusqlite::Error) -> rusqlite::Result<()> {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => return Err(error),
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                self.problems.push(format!("{what}: {error}"));
            }
            _ => self.notes.push(format!("{what}: {error}")),
        }
        Ok(())
    }

    /// Reads every ordinary table and returns their names; of virtual ones only the module is kept.
    fn read_tables(&mut self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let (ordinary, virtual_tables) = schema::tables(connection)?;
        for table in virtual_tables {
            if !table.known {
                self.notes.push(format!(
                    "virtual table {:?} was not looked into: this program has no module {:?}",
                    table.name, table.module
                ));
            }
            self.facts.virtual_tables.insert(table.name, table.module);
        }
        for name in &ordinary {
            self.read_table(connection, name)?;
        }
        Ok(ordinary)
    }

    fn read_table(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<()> {
        let table = match digest_of(connection, name) {
            Ok((rows, digest)) => TableFacts::Read {
                rows,
                digest: Some(digest),
            },
            Err(error) => {
                let unreadable = TableFacts::Unreadable {
                    error: error.to_string(),
                };
                self.failed(&format!("table {name:?} cannot be read"), error)?;
                unreadable
            }
        };
        self.facts.tables.insert(name.to_owned(), table);
        Ok(())
    }

    fn read_newest(
        &mut self,
        connection: &Connection,
        tables: &[String],
        column: &TimestampColumn,
    ) -> rusqlite::Result<()> {
        let Some(table) = tables
            .iter()
            .find(|name| name.eq_ignore_ascii_case(column.table()))
        else {
            self.notes
                .push(format!("newest {column}: there is no such table"));
            return Ok(());
        };
        let sql = format!(
            "SELECT max({}) FROM main.{}",
            quoted(column.column()),
            quoted(table)
        );
        match connection.query_row(&sql, [], |row| Ok(json(row.get_ref(0)?))) {
            Ok(value) => {
                self.facts.newest.insert(column.to_string(), value);
            }
            Err(error) => self.failed(&format!("newest {column} cannot be read"), error)?,
        }
        Ok(())
    }

    fn read_migrations(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<()> {
        match migrations_of(connection, name) {
            Ok(migrations) => {
                self.facts.migrations.insert(name.to_owned(), migrations);
            }
            Err(error) => {
                self.failed(&format!("the migrations in {name:?} cannot be read"), error)?;
            }
        }
        Ok(())
    }

    fn check_foreign_keys(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        match violations(connection) {
            Ok(tables) if tables.is_empty() => {}
            Ok(tables) => {
                let count: usize = tables.values().sum();
                let more = if count < VIOLATIONS { "" } else { " or more" };
                let names: Vec<_> = tables
                    .keys()
                    .take(3)
                    .map(|name| format!("{name:?}"))
                    .collect();
                self.notes.push(format!(
                    "foreign_key_check: {count}{more} rows refer to rows that do not exist, in {}",
                    names.join(", ")
                ));
            }
            Err(error) => self.failed("foreign_key_check cannot be done", error)?,
        }
        Ok(())
    }
}

fn digest_of(connection: &Connection, table: &str) -> rusqlite::Result<(u64, String)> {
    let columns = connection
        .prepare(
            "SELECT name FROM pragma_table_xinfo(?1, 'main') WHERE hidden IN (0, 3) ORDER BY cid",
        )?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let list: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
    // From the table itself: an index that holds every column would be read in its place.
    let sql = format!(
        "SELECT {} FROM main.{} NOT INDEXED",
        list.join(", "),
        quoted(table)
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut digest = RowDigest::default();
    while let Some(row) = rows.next()? {
        digest::add(&mut digest, row, columns.len())?;
    }
    Ok(digest.finish())
}

fn migrations_of(connection: &Connection, table: &str) -> rusqlite::Result<Migrations> {
    let total: i64 = connection.query_row(
        &format!("SELECT count(*) FROM main.{}", quoted(table)),
        [],
        |row| row.get(0),
    )?;
    let first = usize::try_from(total)
        .unwrap_or(0)
        .saturating_sub(MIGRATION_ROWS);
    let mut statement = connection.prepare(&format!("SELECT * FROM main.{}", quoted(table)))?;
    let columns: Vec<_> = statement.column_names().map(ToString::to_string).collect();
    let mut cursor = statement.query([])?;
    let (mut rows, mut index) = (Vec::new(), 0);
    while let Some(row) = cursor.next()? {
        if index >= first {
            let values = (0..columns.len()).map(|column| Ok(json(row.get_ref(column)?)));
            rows.push(values.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        index += 1;
    }
    Ok(Migrations { columns, rows })
}

fn violations(connection: &Connection) -> rusqlite::Result<BTreeMap<String, usize>> {
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    let mut tables = BTreeMap::new();
    for _ in 0..VIOLATIONS {
        let Some(row) = rows.next()? else { break };
        *tables.entry(row.get(0)?).or_insert(0) += 1;
    }
    Ok(tables)
}

/// A value as JSON: blobs in hexadecimal, text and blobs cut after [`VALUE_BYTES`].
fn json(value: ValueRef<'_>) -> serde_json::Value {
    let cut = |bytes: &[u8]| bytes[..bytes.len().min(VALUE_BYTES)].to_vec();
    match value {
        ValueRef::Null => serde_json::Value::Null,
        ValueRef::Integer(value) => value.into(),
        ValueRef::Real(value) => value.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(&cut(text)).into_owned().into(),
        ValueRef::Blob(bytes) => to_hex(&cut(bytes)).into(),
    }
}
