//! Drops a database so that it can be dropped again when the server was killed on the way.
//!
//! `DROP DATABASE` is not atomic. A server that is killed while it drops a table may come up again without the table and with its
//! file; the directory is then not empty, the database cannot be dropped, and no statement shows the file's name. So the names are
//! written into a table of the database first, tables go by `DROP TABLE`, and what lies under a recorded name
//! is removed: a table takes the file's name without having a file (`DISCARD TABLESPACE`), and is dropped.

use strongroom_core::source::CaptureError;

use super::super::capture::asked;
use super::super::session::{Session, SessionError};
use super::super::sql;
use super::stowage::{DROPPING, DROPPING_PARTIAL, HEALING, PARTIAL};

/// The directory of a database is not empty, or a file is in the way of a table that is made or renamed.
const ORPHANS: [u32; 3] = [1010, 1005, 1025];

/// How many tables go by one statement.
const TABLES_AT_ONCE: usize = 100;

/// Tables whose names need no record.
const OWN: [&str; 4] = [DROPPING, DROPPING_PARTIAL, PARTIAL, HEALING];

/// Drops the database `name`, which nobody uses; `open` makes the session anew that an error has ended.
pub(super) fn drop_database(
    name: &str,
    mut session: Session,
    open: impl Fn() -> Result<Session, CaptureError>,
) -> Result<(), CaptureError> {
    let what = format!("drop the database {name:?}");
    let failed = || asked(&what);
    let dropped = all(&mut session, name);
    let Err(error) = dropped else { return Ok(()) };
    if !error
        .number()
        .is_some_and(|number| ORPHANS.contains(&number))
    {
        return Err(failed()(error));
    }
    drop(session);
    let mut session = open()?;
    let own = OWN.map(str::to_owned);
    let healed = own.iter().filter(|table| *table != HEALING);
    heal(&mut session, name, healed).map_err(failed())?;
    all(&mut session, name).map_err(asked(&format!(
        "drop the database {name:?}; if files of a killed server are left in its directory, remove them, then run the command again"
    )))
}

fn all(session: &mut Session, name: &str) -> Result<(), SessionError> {
    let schema = sql::name(name);
    // Tables of one database go in any order; those of another one must not refer to them.
    let others: Vec<String> = session.json(&format!(
        "SELECT JSON_QUOTE(CONCAT(constraint_schema, '.', table_name)) FROM information_schema.referential_constraints \
         WHERE unique_constraint_schema = {0} AND constraint_schema <> {0}",
        sql::text(name)
    ))?;
    let mut there = tables(session, name)?;
    let is_interrupted = there.iter().any(|table| table == DROPPING);
    there.retain(|table| !OWN.contains(&table.as_str()));
    if others.is_empty() && is_interrupted {
        let mut recorded: Vec<String> =
            session.json(&format!("SELECT JSON_QUOTE(name) FROM {schema}.{DROPPING}"))?;
        recorded.retain(|table| !there.contains(table));
        heal(session, name, recorded.iter())?;
    }
    if others.is_empty() && !there.is_empty() {
        if !is_interrupted {
            record(session, &schema, &there)?;
        }
        session.execute("SET SESSION foreign_key_checks = 0")?;
        for some in there.chunks(TABLES_AT_ONCE) {
            let names: Vec<String> = some
                .iter()
                .map(|table| format!("{schema}.{}", sql::name(table)))
                .collect();
            session.execute(&format!("DROP TABLE IF EXISTS {}", names.join(", ")))?;
        }
        session.execute("SET SESSION foreign_key_checks = 1")?;
    }
    session.execute(&format!("DROP DATABASE IF EXISTS {schema}"))
}

/// All that has a file: tables and sequences.
fn tables(session: &mut Session, name: &str) -> Result<Vec<String>, SessionError> {
    session.json(&format!(
        "SELECT JSON_QUOTE(table_name) FROM information_schema.tables \
         WHERE table_schema = {} AND table_type <> 'VIEW' ORDER BY table_name",
        sql::text(name)
    ))
}

/// Writes the names down; the record is there whole or not at all.
fn record(session: &mut Session, schema: &str, names: &[String]) -> Result<(), SessionError> {
    session.execute(&format!("DROP TABLE IF EXISTS {schema}.{DROPPING_PARTIAL}"))?;
    session.execute(&format!(
        "CREATE TABLE {schema}.{DROPPING_PARTIAL} (name VARCHAR(64) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin NOT NULL) ENGINE = InnoDB"
    ))?;
    for some in names.chunks(TABLES_AT_ONCE) {
        let rows: Vec<String> = some
            .iter()
            .map(|name| format!("({})", sql::text(name)))
            .collect();
        session.execute(&format!(
            "INSERT INTO {schema}.{DROPPING_PARTIAL} VALUES {}",
            rows.join(", ")
        ))?;
    }
    session.execute(&format!(
        "RENAME TABLE {schema}.{DROPPING_PARTIAL} TO {schema}.{DROPPING}"
    ))
}

/// Removes files of tables that are not there.
fn heal<'t>(
    session: &mut Session,
    name: &str,
    tables: impl Iterator<Item = &'t String>,
) -> Result<(), SessionError> {
    let schema = sql::name(name);
    let there = self::tables(session, name)?;
    for table in tables.filter(|table| !there.contains(table)) {
        let healing = format!("{schema}.{HEALING}");
        let table = format!("{schema}.{}", sql::name(table));
        for statement in [
            format!("DROP TABLE IF EXISTS {healing}"),
            format!("CREATE TABLE {healing} (nothing INT) ENGINE = InnoDB"),
            format!("ALTER TABLE {healing} DISCARD TABLESPACE"),
            format!("RENAME TABLE {healing} TO {table}"),
            format!("DROP TABLE {table}"),
        ] {
            session.execute(&statement)?;
        }
    }
    Ok(())
}
