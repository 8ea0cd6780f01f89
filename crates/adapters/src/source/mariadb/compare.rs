//! Compares what was dumped with what was there, and puts the facts of a database together.

use std::collections::BTreeMap;

use strongroom_core::source::tables::TableFacts;
use strongroom_core::source::{Capture, CaptureError};

use super::accounts::{self, Account};
use super::capture::asked;
use super::catalogue::{Catalogue, Kind};
use super::connection::Version;
use super::facts::{Counted, DatabaseFacts, TableDefinition};
use super::rows::Dumped;
use super::session::Session;

/// Compares what was dumped of one database with what was there.
pub(super) struct Compared<'a> {
    pub(super) name: &'a str,
    pub(super) catalogue: &'a Catalogue,
    pub(super) capture: &'a mut Capture,
    pub(super) client: Version,
}

impl Compared<'_> {
    /// Reads the catalogue again: what changed since the cut is a problem.
    pub(super) fn definitions(&mut self, session: &mut Session) -> Result<(), CaptureError> {
        let later = Catalogue::read(session, self.name).map_err(asked("read the catalogue"))?;
        let changes = self.catalogue.changes(&later.unwrap_or_default());
        for change in changes {
            self.capture.problems.push(format!(
                "{}: definitions changed while the dump ran: {change}; run the backup again",
                self.name
            ));
        }
        Ok(())
    }

    /// Compares rows in the dump with rows in the snapshot.
    pub(super) fn rows(
        &mut self,
        dumped: &Dumped,
        counted: Option<&Counted>,
        has_one_position: bool,
    ) {
        let name = self.name;
        let problems = &mut self.capture.problems;
        problems.extend(dumped.faults.iter().map(|fault| format!("{name}: {fault}")));
        let hint = if has_one_position {
            "run the backup again, and look at the server's log"
        } else {
            "facts and dump have no common position: GRANT RELOAD ON *.*, or run the backup again"
        };
        for (table, its) in &self.catalogue.tables {
            if its.kind == Kind::Sequence {
                if !dumped.sequences.contains_key(table) {
                    problems.push(format!(
                        "{name}.{table}: the sequence is not in the dump; {hint}"
                    ));
                }
                continue;
            }
            let Some(rows) = dumped.tables.get(table).and_then(TableFacts::rows) else {
                problems.push(format!(
                    "{name}.{table}: the table is not in the dump; {hint}"
                ));
                continue;
            };
            let there = counted.and_then(|counted| counted.rows.get(table));
            if let Some(there) = there.filter(|there| **there != rows) {
                problems.push(format!(
                    "{name}.{table}: the snapshot has {there} rows and the dump {rows}; {hint}"
                ));
            }
        }
    }

    /// What a dump cannot hold.
    pub(super) fn remarks(&mut self) {
        let name = self.name;
        for (table, its) in &self.catalogue.tables {
            if its.is_elsewhere() {
                self.capture.notes.push(format!(
                    "{name}.{table}: the engine {} keeps its rows elsewhere; only the definition is captured for certain",
                    its.engine
                ));
            }
            if its.kind == Kind::Versioned && self.client < (10, 11) {
                self.capture.problems.push(format!(
                    "{name}.{table}: its history is left out, because mariadb-dump {}.{} cannot dump it; install client programs of 10.11 or later",
                    self.client.0, self.client.1
                ));
            }
        }
        if !self.catalogue.floats.is_empty() {
            let tables: Vec<&str> = self.catalogue.floats.iter().map(String::as_str).collect();
            self.capture.notes.push(format!(
                "{name}: columns of type FLOAT are dumped with six digits, as the server prints them, in {}; DOUBLE and DECIMAL are exact",
                tables.join(", ")
            ));
        }
    }
}

/// All that is known of a database.
pub(super) fn database_facts(
    catalogue: &Catalogue,
    dumped: Dumped,
    counted: Option<&Counted>,
    name: &str,
    accounts: &BTreeMap<String, Account>,
) -> DatabaseFacts {
    let definers = catalogue.definers();
    let definitions = dumped.definitions.into_iter().map(|(table, definition)| {
        let its = catalogue.tables.get(&table);
        let definition = TableDefinition {
            engine: its.map(|its| its.engine.clone()).unwrap_or_default(),
            create_options: its
                .map(|its| its.create_options.clone())
                .unwrap_or_default(),
            definition,
        };
        (table, definition)
    });
    DatabaseFacts {
        character_set: catalogue.character_set.clone(),
        collation: catalogue.collation.clone(),
        tables: dumped.tables,
        definitions: definitions.collect(),
        sequences: dumped.sequences,
        objects: catalogue.objects.clone(),
        accounts: accounts::concerning(accounts, name, &definers),
        definers: definers.into_iter().collect(),
        newest: counted
            .map(|counted| counted.newest.clone())
            .unwrap_or_default(),
        migrations: counted
            .map(|counted| counted.migrations.clone())
            .unwrap_or_default(),
    }
}
