//! Asks the server's catalogues: which tables there are, and all facts but their rows.
//!
//! Every statement runs in the snapshot of the cut, unless it says otherwise. Nothing here changes anything.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::migrations::{MIGRATION_TABLES, Migrations};
use super::facts::{
    self, DatabaseFacts, MaterializedView, Relation, RelationKind, Role, Sequence, ServerFacts,
};
use super::session::{Session, SessionError, column_list, identifier, literal, qualified};
use super::settings::NewestColumn;

/// The newest rows of a migration table that are kept.
const MIGRATION_ROWS: usize = 1000;

/// How much of one value is kept, in characters.
const VALUE_LETTERS: usize = 256;

/// Sequences asked for in one statement.
const SEQUENCES_A_STATEMENT: usize = 100;

/// Schemas that every database has, and temporary ones.
const USER_SCHEMAS: &str =
    "n.nspname !~ '^pg_(toast|temp_|toast_temp_|catalog$)' AND n.nspname <> 'information_schema'";

/// A table as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Table {
    pub(super) oid: u64,
    pub(super) schema: String,
    pub(super) name: String,
    kind: String,
    persistence: String,
    is_partition: bool,
    pub(super) is_readable: bool,
    /// Whether row-level security hides rows from this role.
    pub(super) is_filtered: bool,
    pub(super) columns: Vec<String>,
    extension: Option<String>,
    condition: Option<String>,
    /// Bytes, where it is known.
    #[serde(default)]
    pub(super) size: u64,
}

impl Table {
    /// Its key among the facts.
    pub(super) fn key(&self) -> String {
        facts::key(&self.schema, &self.name)
    }

    /// As SQL wants it.
    pub(super) fn quoted(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// Whether it holds rows that are to be captured.
    pub(super) fn has_rows(&self) -> bool {
        self.kind == "r" && (self.extension.is_none() || self.condition.is_some())
    }

    /// Whether it can and must be locked: what `pg_dump` locks.
    pub(super) fn is_lockable(&self) -> bool {
        matches!(self.kind.as_str(), "r" | "p") && (self.extension.is_none() || self.has_rows())
    }

    /// Whether it is empty after a crash, and unreadable on a standby.
    pub(super) fn is_unlogged(&self) -> bool {
        self.persistence == "u"
    }

    /// Whether an extension brings it with all that is in it.
    pub(super) fn is_of_extension_only(&self) -> bool {
        self.extension.is_some() && self.condition.is_none()
    }

    /// Whether its rows are elsewhere.
    pub(super) fn is_foreign(&self) -> bool {
        self.kind == "f"
    }

    /// `WHERE ...` for a table of an extension, else nothing.
    pub(super) fn condition(&self) -> &str {
        self.condition.as_deref().unwrap_or_default().trim()
    }

    /// Its columns, as [`column_list`] gives them.
    pub(super) fn column_list(&self) -> String {
        column_list(&self.columns)
    }

    /// Its description among the facts.
    pub(super) fn relation(&self, path: Option<String>) -> Relation {
        let kind = match self.kind.as_str() {
            "f" => RelationKind::Foreign,
            "p" => RelationKind::Partitioned,
            _ if self.is_unlogged() => RelationKind::Unlogged,
            _ if self.is_partition => RelationKind::Partition,
            _ => RelationKind::Table,
        };
        Relation {
            schema: self.schema.clone(),
            name: self.name.clone(),
            kind,
            columns: self.columns.clone(),
            path,
            extension: self.extension.clone(),
            condition: self.condition.clone(),
        }
    }
}

/// The server; outside of the snapshot, because one function may be forbidden.
pub(super) fn server(session: &mut Session) -> Result<ServerFacts, SessionError> {
    let mut server: ServerFacts = session.read(
        "SELECT json_build_object('version_num', current_setting('server_version_num')::int, \
         'version', version(), 'is_standby', pg_is_in_recovery())",
    )?;
    match session.read("SELECT to_json(system_identifier::text) FROM pg_control_system()") {
        Ok(identifier) => server.system_identifier = identifier,
        Err(SessionError::Sql { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(server)
}

/// The tables of the database.
pub(super) fn tables(session: &mut Session) -> Result<Vec<Table>, SessionError> {
    let generated = if session.server_major() >= 12 {
        "AND a.attgenerated = ''"
    } else {
        ""
    };
    session.read(&format!(
        "SELECT coalesce(json_agg(t ORDER BY t.schema, t.name), '[]') FROM (SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, \
         c.relkind AS kind, c.relpersistence AS persistence, c.relispartition AS is_partition, \
         has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AS is_readable, row_security_active(c.oid) AS is_filtered, \
         coalesce((SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped {generated}), '[]') AS columns, \
         e.extname AS extension, (e.extcondition)[array_position(e.extconfig, c.oid)] AS condition \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e' \
         LEFT JOIN pg_extension e ON e.oid = d.refobjid \
         WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND {USER_SCHEMAS}) AS t"
    ))
}

/// How many bytes the tables take, by their oid; only for tables that are locked, because it waits for a lock.
pub(super) fn sizes(
    session: &mut Session,
    tables: &[Table],
) -> Result<BTreeMap<String, u64>, SessionError> {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    session.read(&format!(
        "SELECT coalesce(json_object_agg(oid::text, pg_table_size(oid)), '{{}}') FROM unnest('{{{}}}'::oid[]) AS oid",
        oids.join(",")
    ))
}

/// Tables among those locked that were truncated or rewritten after the snapshot: the snapshot sees other rows in them than there were.
pub(super) fn rewritten(
    session: &mut Session,
    tables: &[Table],
) -> Result<Vec<String>, SessionError> {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    session.read(&format!(
        "SELECT coalesce(json_agg(c.oid::text), '[]') FROM pg_class c \
         WHERE c.oid = ANY ('{{{}}}'::oid[]) AND c.relkind = 'r' AND c.relfilenode <> pg_relation_filenode(c.oid)",
        oids.join(",")
    ))
}

/// The database itself: all facts that need no table.
pub(super) fn database(session: &mut Session) -> Result<DatabaseFacts, SessionError> {
    let major = session.server_major();
    let provider = if major >= 15 {
        "d.datlocprovider"
    } else {
        "'c'"
    };
    let locale = match major {
        17.. => "d.datlocale",
        15..=16 => "d.daticulocale",
        _ => "NULL",
    };
    let versions = if major >= 15 {
        "'collation_version', d.datcollversion, 'collation_version_actual', pg_database_collation_actual_version(d.oid),"
    } else {
        ""
    };
    session.read(&format!(
        "SELECT json_build_object('encoding', pg_encoding_to_char(d.encoding), 'locale_provider', {provider}, 'collate', d.datcollate, 'ctype', d.datctype, \
         'locale', {locale}, {versions} 'owner', pg_get_userbyid(d.datdba), 'comment', shobj_description(d.oid, 'pg_database'), \
         'connection_limit', d.datconnlimit, 'tablespace', (SELECT spcname FROM pg_tablespace s WHERE s.oid = d.dattablespace), \
         'grants', CASE WHEN d.datacl IS NOT NULL THEN (SELECT coalesce(json_agg(json_build_object('grantor', pg_get_userbyid(a.grantor), \
            'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, 'privilege', a.privilege_type, 'is_grantable', a.is_grantable) \
            ORDER BY a.ordinality), '[]') FROM aclexplode(d.datacl) WITH ORDINALITY AS a) END, \
         'settings', (SELECT coalesce(json_agg(json_build_object('role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END, \
            'name', split_part(c, '=', 1), 'value', substr(c, strpos(c, '=') + 1)) ORDER BY s.setrole <> 0, pg_get_userbyid(s.setrole), c), '[]') \
            FROM pg_db_role_setting s, unnest(s.setconfig) AS c WHERE s.setdatabase = d.oid), \
         'extensions', (SELECT coalesce(json_object_agg(e.extname, json_build_object('version', e.extversion, 'schema', n.nspname)), '{{}}') \
            FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace), \
         'cut', json_build_object('time', to_char(transaction_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
            'seconds', extract(epoch FROM transaction_timestamp())::int8, \
            'wal_lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END), \
         'event_triggers', (SELECT coalesce(json_agg(evtname ORDER BY evtname), '[]') FROM pg_event_trigger), \
         'publications', (SELECT coalesce(json_agg(pubname ORDER BY pubname), '[]') FROM pg_publication), \
         'subscriptions', (SELECT coalesce(json_agg(subname ORDER BY subname), '[]') FROM pg_subscription WHERE subdbid = d.oid), \
         'replication_slots', (SELECT coalesce(json_agg(slot_name ORDER BY slot_name), '[]') FROM pg_replication_slots WHERE database = d.datname), \
         'large_objects', (SELECT count(*) FROM pg_largeobject_metadata)) \
         FROM pg_database d WHERE d.datname = current_database()"
    ))
}

/// Roles that own something here, were granted something, have a policy or a setting; and those that they are members of.
pub(super) fn roles(session: &mut Session) -> Result<BTreeMap<String, Role>, SessionError> {
    let attribute = |column: &str, name: &str| {
        format!("CASE WHEN r.{column} THEN '{name}' ELSE 'NO{name}' END")
    };
    let attributes = [
        attribute("rolsuper", "SUPERUSER"),
        attribute("rolinherit", "INHERIT"),
        attribute("rolcreaterole", "CREATEROLE"),
        attribute("rolcreatedb", "CREATEDB"),
        attribute("rolcanlogin", "LOGIN"),
        attribute("rolreplication", "REPLICATION"),
        attribute("rolbypassrls", "BYPASSRLS"),
    ]
    .join(", ");
    session.read(&format!(
        "WITH RECURSIVE here AS (SELECT * FROM pg_database WHERE datname = current_database()), used(oid) AS ( \
           SELECT s.refobjid FROM pg_shdepend s, here WHERE s.dbid = here.oid AND s.refclassid = 'pg_authid'::regclass \
           UNION SELECT s.refobjid FROM pg_shdepend s, here WHERE s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = here.oid AND s.refclassid = 'pg_authid'::regclass \
           UNION SELECT datdba FROM here \
           UNION SELECT a.grantee FROM here, aclexplode(here.datacl) AS a \
           UNION SELECT s.setrole FROM pg_db_role_setting s, here WHERE s.setdatabase = here.oid \
           UNION SELECT relowner FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't' \
           UNION SELECT proowner FROM pg_proc WHERE oid >= 16384 \
           UNION SELECT nspowner FROM pg_namespace n WHERE oid >= 16384 AND {USER_SCHEMAS} \
           UNION SELECT m.roleid FROM pg_auth_members m JOIN used ON m.member = used.oid) \
         SELECT coalesce(json_object_agg(r.rolname, json_build_object('attributes', json_build_array({attributes}), \
           'connection_limit', r.rolconnlimit, 'valid_until', r.rolvaliduntil, \
           'member_of', (SELECT coalesce(json_object_agg(g.rolname, m.admin_option ORDER BY g.rolname), '{{}}') FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid))), '{{}}') \
         FROM pg_roles r WHERE r.oid IN (SELECT oid FROM used) AND r.rolname !~ '^pg_'"
    ))
}

#[derive(Deserialize)]
struct SequenceName {
    schema: String,
    name: String,
    is_readable: bool,
}

/// Where the sequences stand, and the keys of those that may not be read. Sequences know no snapshots: the values are those of a moment after it.
pub(super) fn sequences(
    session: &mut Session,
) -> Result<(BTreeMap<String, Sequence>, Vec<String>), SessionError> {
    let names: Vec<SequenceName> = session.read(&format!(
        "SELECT coalesce(json_agg(s ORDER BY s.schema, s.name), '[]') FROM (SELECT n.nspname AS schema, c.relname AS name, \
         has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AS is_readable \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' AND c.relpersistence <> 't' \
         AND NOT (pg_is_in_recovery() AND c.relpersistence = 'u') AND {USER_SCHEMAS}) AS s"
    ))?;
    let (readable, unreadable): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| name.is_readable);
    let mut sequences = BTreeMap::new();
    for group in readable.chunks(SEQUENCES_A_STATEMENT) {
        let parts: Vec<String> = group
            .iter()
            .map(|name| {
                format!(
                    "SELECT {}::text AS schema, {}::text AS name, last_value, is_called FROM {}",
                    literal(&name.schema),
                    literal(&name.name),
                    qualified(&name.schema, &name.name)
                )
            })
            .collect();
        let read: Vec<Sequence> = session.read(&format!(
            "SELECT json_agg(s) FROM ({}) AS s",
            parts.join(" UNION ALL ")
        ))?;
        for sequence in read {
            sequences.insert(facts::key(&sequence.schema, &sequence.name), sequence);
        }
    }
    let unreadable = unreadable
        .iter()
        .map(|name| facts::key(&name.schema, &name.name))
        .collect();
    Ok((sequences, unreadable))
}

/// Materialised views without their rows, those first that others are made of.
pub(super) fn materialized_views(
    session: &mut Session,
) -> Result<Vec<MaterializedView>, SessionError> {
    session.read(&format!(
        "WITH RECURSIVE needs(view, needed) AS (SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r JOIN pg_depend d \
           ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class), \
         depth(view, level) AS (SELECT oid, 0 FROM pg_class WHERE relkind IN ('v', 'm') \
           UNION SELECT needs.view, level + 1 FROM needs JOIN depth ON depth.view = needs.needed WHERE level < 50) \
         SELECT coalesce(json_agg(json_build_object('schema', n.nspname, 'name', c.relname, 'is_populated', c.relispopulated) \
           ORDER BY (SELECT max(level) FROM depth WHERE depth.view = c.oid), n.nspname, c.relname), '[]') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND {USER_SCHEMAS}"
    ))
}

/// The newest value of a column, as text.
pub(super) fn newest(
    session: &mut Session,
    column: &NewestColumn,
) -> Result<serde_json::Value, SessionError> {
    session.query(&format!(
        "SELECT to_json(max({})) FROM {}",
        identifier(column.column()),
        qualified(column.schema(), column.table())
    ))
}

/// Whether a table is one of a migration tool.
pub(super) fn is_migration_table(name: &str) -> bool {
    MIGRATION_TABLES.contains(&name)
}

/// The newest rows of a migration table, by its first column.
pub(super) fn migrations(session: &mut Session, table: &Table) -> Result<Migrations, SessionError> {
    let values: Vec<String> = table
        .columns
        .iter()
        .map(|name| format!("left({}::text, {VALUE_LETTERS})", identifier(name)))
        .collect();
    let Some(first) = table.columns.first() else {
        return Ok(Migrations {
            columns: Vec::new(),
            rows: Vec::new(),
        });
    };
    let first = identifier(first);
    let rows = session.read(&format!(
        "SELECT coalesce(json_agg(v ORDER BY o), '[]') FROM (SELECT json_build_array({}) AS v, {first} AS o FROM ONLY {} ORDER BY {first} DESC LIMIT {MIGRATION_ROWS}) AS t",
        values.join(", "),
        table.quoted()
    ))?;
    Ok(Migrations {
        columns: table.columns.clone(),
        rows,
    })
}
