//! What is known of a server and its databases at the position of a capture, as it stands in the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strongroom_core::source::tables::TableFacts;

use super::super::migrations::{MIGRATION_TABLES, Migrations};
use super::accounts::Account;
use super::catalogue::{Catalogue, Kind, Object};
use super::rows::{Definition, Sequence};
use super::session::{Session, SessionError};
use super::settings::NewestColumn;
use super::sql;

/// The migration table that is looked for here only.
const FLYWAY: &str = "flyway_schema_history";

/// The rows of a migration table that are kept, and how many characters of one value.
const MIGRATION_ROWS: usize = 500;
const VALUE_CHARS: usize = 256;

/// The facts of an asset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) server: ServerFacts,
    pub(super) databases: BTreeMap<String, DatabaseFacts>,
}

/// What is known of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServerFacts {
    pub(super) version: String,
    pub(super) sql_mode: String,
    pub(super) lower_case_table_names: u8,
    pub(super) time_zone: String,
    pub(super) character_set: String,
    pub(super) collation: String,
    /// Where the binary log ended, if there is one: file and offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) binlog: Option<(String, u64)>,
    /// The GTID of the last transaction in the binary log, and the last one applied.
    pub(super) gtid_binlog_pos: String,
    pub(super) gtid_current_pos: String,
    /// Whether all databases of the asset have this very position.
    pub(super) is_one_position: bool,
}

/// What is known of a database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct DatabaseFacts {
    pub(super) character_set: String,
    pub(super) collation: String,
    /// Rows and digest of every table.
    pub(super) tables: BTreeMap<String, TableFacts>,
    /// How every table is defined.
    pub(super) definitions: BTreeMap<String, TableDefinition>,
    pub(super) sequences: BTreeMap<String, Sequence>,
    /// Views, triggers, routines and events, by kind and name.
    pub(super) objects: BTreeMap<String, Object>,
    /// Who defines the objects, `user@host`.
    pub(super) definers: Vec<String>,
    /// Users and roles that define objects or may do something in the database, with what concerns it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) accounts: BTreeMap<String, Account>,
    /// The newest value of each declared column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) newest: BTreeMap<String, serde_json::Value>,
    /// The rows of the migration tables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) migrations: BTreeMap<String, Migrations>,
}

/// How a table is defined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TableDefinition {
    pub(super) engine: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) create_options: String,
    #[serde(flatten)]
    pub(super) definition: Definition,
}

/// What the snapshot says of the rows of a database.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) newest: BTreeMap<String, serde_json::Value>,
    pub(super) migrations: BTreeMap<String, Migrations>,
    pub(super) notes: Vec<String>,
}

/// Reads what is known of the server; inside of the snapshot, so that the position of the binary log is that of the snapshot.
pub(super) fn server(session: &mut Session) -> Result<ServerFacts, SessionError> {
    type Row = (
        String,
        String,
        u8,
        String,
        String,
        String,
        String,
        String,
        String,
    );
    let row: Row = session.value(
        "SELECT JSON_ARRAY(@@version, @@global.sql_mode, @@lower_case_table_names, @@global.time_zone, @@system_time_zone, \
         @@character_set_server, @@collation_server, @@gtid_binlog_pos, @@gtid_current_pos)",
    )?;
    let (version, sql_mode, lower_case_table_names, time_zone, system_time_zone, ..) = row.clone();
    let mut status = BTreeMap::new();
    for line in session.lines("SHOW STATUS LIKE 'binlog_snapshot_%'")? {
        if let Some((name, value)) = line.split_once('\t') {
            status.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    let file = status.get("binlog_snapshot_file");
    let offset = status.get("binlog_snapshot_position");
    let binlog = match (file, offset.and_then(|offset| offset.parse().ok())) {
        (Some(file), Some(offset)) if !file.is_empty() => Some((file.clone(), offset)),
        _ => None,
    };
    Ok(ServerFacts {
        version,
        sql_mode,
        lower_case_table_names,
        time_zone: match time_zone.as_str() {
            "SYSTEM" => system_time_zone,
            _ => time_zone,
        },
        character_set: row.5,
        collation: row.6,
        binlog,
        gtid_binlog_pos: row.7,
        gtid_current_pos: row.8,
        is_one_position: false,
    })
}

/// Counts the rows of a table. `with_history`: those too that were replaced or deleted, where the table keeps them.
pub(super) fn count(
    session: &mut Session,
    database: &str,
    table: &str,
    with_history: bool,
) -> Result<u64, SessionError> {
    let history = if with_history {
        " FOR SYSTEM_TIME ALL"
    } else {
        ""
    };
    session.value(&format!(
        "SELECT COUNT(*) FROM {}.{}{history}",
        sql::name(database),
        sql::name(table)
    ))
}

/// Reads newest values and migrations of a database into `counted`.
pub(super) fn read_values(
    session: &mut Session,
    database: &str,
    catalogue: &Catalogue,
    newest: &[NewestColumn],
    counted: &mut Counted,
) -> Result<(), SessionError> {
    for column in newest.iter().filter(|column| column.database() == database) {
        let columns = columns(session, database, column.table())?;
        if !columns.iter().any(|name| name == column.column()) {
            let note = format!("newest {column}: there is no such column");
            counted.notes.push(note);
            continue;
        }
        let name = sql::name(column.column());
        let value = session.value::<Vec<serde_json::Value>>(&format!(
            "SELECT JSON_ARRAY(MAX({name})) FROM {}.{}",
            sql::name(database),
            sql::name(column.table())
        ))?;
        let value = value.into_iter().next().unwrap_or_default();
        counted.newest.insert(column.to_string(), value);
    }
    for table in catalogue.tables.keys() {
        let is_known = MIGRATION_TABLES
            .iter()
            .chain(&[FLYWAY])
            .any(|known| known.eq_ignore_ascii_case(table));
        if is_known && catalogue.tables[table].kind == Kind::Base {
            let migrations = migrations(session, database, table)?;
            counted.migrations.insert(table.clone(), migrations);
        }
    }
    Ok(())
}

fn columns(
    session: &mut Session,
    database: &str,
    table: &str,
) -> Result<Vec<String>, SessionError> {
    session.json(&format!(
        "SELECT JSON_QUOTE(column_name) FROM information_schema.columns \
         WHERE table_schema = {} AND table_name = {} ORDER BY ordinal_position",
        sql::text(database),
        sql::text(table)
    ))
}

fn migrations(
    session: &mut Session,
    database: &str,
    table: &str,
) -> Result<Migrations, SessionError> {
    let columns = columns(session, database, table)?;
    // Blobs in hexadecimal: they need not be text.
    let blobs: Vec<String> = session.json(&format!(
        "SELECT JSON_QUOTE(column_name) FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
         AND (data_type LIKE '%blob' OR data_type LIKE '%binary')",
        sql::text(database),
        sql::text(table)
    ))?;
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            if blobs.contains(column) {
                format!("LEFT(LOWER(HEX({})), {VALUE_CHARS})", sql::name(column))
            } else {
                format!("LEFT({}, {VALUE_CHARS})", sql::name(column))
            }
        })
        .collect();
    let rows = session.json(&format!(
        "SELECT JSON_ARRAY({}) FROM (SELECT * FROM {}.{} ORDER BY 1 DESC LIMIT {MIGRATION_ROWS}) newest ORDER BY 1",
        values.join(", "),
        sql::name(database),
        sql::name(table)
    ))?;
    Ok(Migrations { columns, rows })
}
