//! What the server's catalogue says of a database: its tables, views, triggers, routines and events, and who defines them.
//!
//! Read while the lock is held, and once more when the dump has ended: if the two differ, somebody changed definitions
//! in between, and rows and definitions may not fit together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strongroom_core::format::Digest;
use strongroom_core::format::id::Hasher;

use super::session::{Session, SessionError};
use super::sql;

/// Engines that keep rows elsewhere, or none: `mariadb-dump` takes their definition only, or fetches the rows from afar.
const ELSEWHERE: [&str; 8] = [
    "MRG_MYISAM",
    "FEDERATED",
    "S3",
    "CONNECT",
    "SPIDER",
    "BLACKHOLE",
    "OQGRAPH",
    "SPHINX",
];

/// A database as its catalogue has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    pub(super) character_set: String,
    pub(super) collation: String,
    pub(super) tables: BTreeMap<String, Table>,
    /// `view NAME`, `trigger NAME`, `procedure NAME`, `function NAME`, `event NAME`.
    pub(super) objects: BTreeMap<String, Object>,
    /// Tables with columns whose text in a dump has fewer digits than their value.
    pub(super) floats: BTreeSet<String>,
}

/// A table or sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) kind: Kind,
    pub(super) engine: String,
    /// SHA-256 over its columns and indexes. The time of its creation tells less: the server changes it without an ALTER.
    pub(super) definition: String,
    pub(super) create_options: String,
}

/// What a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Base,
    Versioned,
    Sequence,
}

/// Something with a definition and no rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Object {
    /// SHA-256 of its definition.
    pub(super) sha256: String,
    /// `user@host` under whose rights it runs.
    pub(super) definer: String,
}

impl Table {
    /// Whether rows that others write are kept out of a snapshot.
    pub(super) fn is_transactional(&self) -> bool {
        self.kind == Kind::Sequence
            || ["InnoDB", "ROCKSDB", "TokuDB"]
                .iter()
                .any(|engine| self.engine.eq_ignore_ascii_case(engine))
    }

    /// Whether its rows are kept by another table or server.
    pub(super) fn is_elsewhere(&self) -> bool {
        ELSEWHERE
            .iter()
            .any(|engine| self.engine.eq_ignore_ascii_case(engine))
    }
}

impl Catalogue {
    /// Reads what the server says of `database`; none if there is none of that name.
    pub(super) fn read(
        session: &mut Session,
        database: &str,
    ) -> Result<Option<Self>, SessionError> {
        let wanted = sql::text(database);
        let schemata = session.json::<(String, String)>(&format!(
            "SELECT JSON_ARRAY(default_character_set_name, default_collation_name) \
             FROM information_schema.schemata WHERE schema_name = {wanted}"
        ))?;
        let Some((character_set, collation)) = schemata.into_iter().next() else {
            return Ok(None);
        };
        let mut catalogue = Self {
            character_set,
            collation,
            ..Self::default()
        };
        catalogue.read_tables(session, &wanted)?;
        catalogue.read_objects(session, &wanted)?;
        let floats: Vec<String> = session.json(&format!(
            "SELECT DISTINCT JSON_QUOTE(table_name) FROM information_schema.columns \
             WHERE table_schema = {wanted} AND data_type = 'float'"
        ))?;
        catalogue.floats = floats
            .into_iter()
            .filter(|name| catalogue.tables.contains_key(name))
            .collect();
        Ok(Some(catalogue))
    }

    fn read_tables(&mut self, session: &mut Session, wanted: &str) -> Result<(), SessionError> {
        type Row = (String, String, Option<String>, Option<String>);
        let questions = [
            format!(
                "SELECT JSON_ARRAY(table_name, column_name, column_type, is_nullable, column_default, extra, \
                 generation_expression, character_set_name, collation_name, column_comment) \
                 FROM information_schema.columns WHERE table_schema = {wanted} ORDER BY table_name, ordinal_position"
            ),
            format!(
                "SELECT JSON_ARRAY(table_name, index_name, column_name, sub_part, non_unique, index_type, index_comment) \
                 FROM information_schema.statistics WHERE table_schema = {wanted} ORDER BY table_name, index_name, seq_in_index"
            ),
        ];
        let mut definitions: BTreeMap<String, Hasher> = BTreeMap::new();
        for question in questions {
            for line in session.lines(&question)? {
                let parts: Vec<serde_json::Value> =
                    serde_json::from_str(&line).map_err(SessionError::Answer)?;
                let table = parts.first().and_then(|name| name.as_str());
                let definition = definitions.entry(table.unwrap_or_default().to_owned());
                let definition = definition.or_default();
                definition.update(line.as_bytes());
                definition.update(b"\n");
            }
        }
        let rows: Vec<Row> = session.json(&format!(
            "SELECT JSON_ARRAY(table_name, table_type, engine, create_options) \
             FROM information_schema.tables WHERE table_schema = {wanted}"
        ))?;
        for (name, kind, engine, create_options) in rows {
            let kind = match kind.as_str() {
                "BASE TABLE" => Kind::Base,
                "SYSTEM VERSIONED" => Kind::Versioned,
                "SEQUENCE" => Kind::Sequence,
                _ => continue,
            };
            let definition = definitions.remove(&name).unwrap_or_default();
            let table = Table {
                kind,
                definition: definition.finish().to_string(),
                engine: engine.unwrap_or_default(),
                create_options: create_options.unwrap_or_default(),
            };
            self.tables.insert(name, table);
        }
        Ok(())
    }

    fn read_objects(&mut self, session: &mut Session, wanted: &str) -> Result<(), SessionError> {
        let questions = [
            format!(
                "SELECT JSON_ARRAY(CONCAT('view ', table_name), definer, view_definition, check_option, security_type, algorithm) \
                 FROM information_schema.views WHERE table_schema = {wanted}"
            ),
            format!(
                "SELECT JSON_ARRAY(CONCAT('trigger ', trigger_name), definer, event_object_table, action_timing, event_manipulation, \
                 action_order, action_statement, sql_mode) FROM information_schema.triggers WHERE trigger_schema = {wanted}"
            ),
            format!(
                "SELECT JSON_ARRAY(CONCAT(LOWER(r.routine_type), ' ', r.routine_name), r.definer, r.routine_definition, r.sql_mode, \
                 r.is_deterministic, r.sql_data_access, r.security_type, r.routine_comment, \
                 (SELECT GROUP_CONCAT(CONCAT_WS(' ', p.parameter_mode, p.parameter_name, p.dtd_identifier) ORDER BY p.ordinal_position) \
                 FROM information_schema.parameters p WHERE p.specific_schema = {wanted} AND p.specific_name = r.specific_name \
                 AND p.routine_type = r.routine_type)) FROM information_schema.routines r WHERE r.routine_schema = {wanted}"
            ),
            format!(
                "SELECT JSON_ARRAY(CONCAT('event ', event_name), definer, event_definition, event_type, execute_at, interval_value, \
                 interval_field, starts, ends, on_completion, sql_mode, time_zone, event_comment, IF(status = 'DISABLED', 0, 1)) \
                 FROM information_schema.events WHERE event_schema = {wanted}"
            ),
        ];
        for question in questions {
            for line in session.lines(&question)? {
                let parts: Vec<serde_json::Value> =
                    serde_json::from_str(&line).map_err(SessionError::Answer)?;
                let part = |at: usize| parts.get(at).and_then(|part| part.as_str());
                let object = Object {
                    sha256: Digest::of(line.as_bytes()).to_string(),
                    definer: part(1).unwrap_or_default().to_owned(),
                };
                self.objects
                    .insert(part(0).unwrap_or_default().to_owned(), object);
            }
        }
        Ok(())
    }

    /// The names of objects of a kind: `view`, `trigger`, `procedure`, `function`, `event`.
    pub(super) fn of_kind<'c>(&'c self, kind: &'c str) -> impl Iterator<Item = &'c str> {
        self.objects.keys().filter_map(move |key| {
            let (its, name) = key.split_once(' ')?;
            (its == kind).then_some(name)
        })
    }

    /// Who defines its objects, `user@host`.
    pub(super) fn definers(&self) -> BTreeSet<String> {
        self.objects
            .values()
            .map(|object| object.definer.clone())
            .collect()
    }

    /// What differs from a later look, in words; empty if nothing does.
    pub(super) fn changes(&self, later: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let names = |catalogue: &Self| -> BTreeSet<String> {
            let tables = catalogue.tables.keys().map(|name| format!("table {name}"));
            tables.chain(catalogue.objects.keys().cloned()).collect()
        };
        let (before, after) = (names(self), names(later));
        let mut told = |what: &str, names: Vec<&String>| {
            if !names.is_empty() {
                let shown: Vec<_> = names
                    .iter()
                    .take(3)
                    .map(|name| format!("{name:?}"))
                    .collect();
                let more = names.len().saturating_sub(3);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                changes.push(format!("{} {what}{more}", shown.join(", ")));
            }
        };
        told("dropped", before.difference(&after).collect());
        told("created", after.difference(&before).collect());
        let both: Vec<&String> = before.intersection(&after).collect();
        let altered = both
            .into_iter()
            .filter(|key| match key.strip_prefix("table ") {
                Some(name) if !self.objects.contains_key(*key) => {
                    self.tables.get(name) != later.tables.get(name)
                }
                _ => self.objects.get(*key) != later.objects.get(*key),
            });
        told("altered", altered.collect());
        changes
    }
}
