//! What travels with the tables of a database that is not live: the text that creates its objects, and its character set.
//!
//! It is a table whose name says in which state the schema is. It comes and goes whole: filled under another name and then renamed,
//! or renamed together with the tables.

use serde::{Deserialize, Serialize};
use strongroom_core::source::CaptureError;

use super::super::capture::asked;
use super::super::catalogue::Catalogue;
use super::super::session::Session;
use super::super::sql;

/// The schema holds a whole database, tables and text.
pub(super) const PARKED: &str = "strongroom_parked";
/// The schema is where the live tables are going to, and holds their text already.
pub(super) const SAVED: &str = "strongroom_saved";
/// The schema's tables are live now; the text is to be loaded, then the schema goes.
pub(super) const MOVED: &str = "strongroom_moved";
/// A text that is being written.
pub(super) const PARTIAL: &str = "strongroom_partial";

/// The names of the tables of a schema that is being dropped.
pub(super) const DROPPING: &str = "strongroom_dropping";
/// Those names, while they are written.
pub(super) const DROPPING_PARTIAL: &str = "strongroom_dropping_partial";
/// A table that takes the place of a file without a table.
pub(super) const HEALING: &str = "strongroom_healing";

/// All of them.
pub(in super::super) const ALL: [&str; 7] = [
    PARKED,
    SAVED,
    MOVED,
    PARTIAL,
    DROPPING,
    DROPPING_PARTIAL,
    HEALING,
];

/// How much of the text goes into one row.
const PART_BYTES: usize = 512 * 1024;

/// What is known of the database besides its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stowage {
    pub(super) character_set: String,
    pub(super) collation: String,
    /// The objects that the text creates, by kind and name.
    pub(super) objects: Vec<String>,
    /// There was no such database: what is put aside is that.
    #[serde(default)]
    pub(super) is_absent: bool,
    /// The name under which the database was captured.
    #[serde(default)]
    pub(super) original: String,
    /// What accounts may do in it that were created for it.
    #[serde(default)]
    pub(super) grants: Vec<String>,
    /// The text.
    #[serde(skip)]
    pub(super) text: Vec<u8>,
}

impl Stowage {
    /// Puts this into `schema`, under the name of a state.
    pub(super) fn put(
        &self,
        session: &mut Session,
        schema: &str,
        state: &str,
    ) -> Result<(), CaptureError> {
        let failed = || asked("save the text of triggers, views, routines and events");
        let partial = format!("{}.{PARTIAL}", sql::name(schema));
        let mut statements = vec![
            format!("DROP TABLE IF EXISTS {partial}"),
            format!(
                "CREATE TABLE {partial} (part INT NOT NULL PRIMARY KEY, content LONGBLOB NOT NULL) ENGINE = InnoDB"
            ),
            "START TRANSACTION".to_owned(),
        ];
        let head = serde_json::to_vec(self).unwrap_or_default();
        let parts = std::iter::once(&head[..]).chain(self.text.chunks(PART_BYTES));
        for (number, part) in parts.enumerate() {
            statements.push(format!(
                "INSERT INTO {partial} VALUES ({number}, {})",
                sql::hex(part)
            ));
        }
        statements.push("COMMIT".to_owned());
        statements.push(format!(
            "RENAME TABLE {partial} TO {}.{state}",
            sql::name(schema)
        ));
        for statement in statements {
            session.execute(&statement).map_err(failed())?;
        }
        Ok(())
    }

    /// Reads what is in `schema` under the name of a state.
    pub(super) fn get(
        session: &mut Session,
        schema: &str,
        state: &str,
    ) -> Result<Self, CaptureError> {
        let failed = "read the text of triggers, views, routines and events";
        let lines = session
            .lines(&format!(
                "SELECT HEX(content) FROM {}.{state} ORDER BY part",
                sql::name(schema)
            ))
            .map_err(asked(failed))?;
        let mut parts = lines
            .iter()
            .map(|line| sql::unhex(line).unwrap_or_default());
        let head = parts.next().unwrap_or_default();
        let mut stowage: Self =
            serde_json::from_slice(&head).map_err(CaptureError::library(failed))?;
        stowage.text = parts.collect::<Vec<_>>().concat();
        Ok(stowage)
    }
}

/// The text as it can be tried beside the tables: without its events, which could run, and with the account of the session in
/// the place of all definers, whose rights hold for the live name only.
pub(super) fn for_trial(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut is_event = false;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"-- Dumping events for database ") {
            is_event = true;
        } else if line.starts_with(b"-- Dumping routines for database ") {
            is_event = false;
        }
        if is_event {
            continue;
        }
        match definer(line) {
            Some((before, after)) => {
                kept.extend_from_slice(before);
                kept.extend_from_slice(b"DEFINER=CURRENT_USER");
                kept.extend_from_slice(after);
            }
            None => kept.extend_from_slice(line),
        }
    }
    kept
}

/// What stands before and after the definer on a line that creates an object.
fn definer(line: &[u8]) -> Option<(&[u8], &[u8])> {
    const WORD: &[u8] = b"DEFINER=";
    let begins = [
        &b"CREATE DEFINER="[..],
        b"/*!50013 DEFINER=",
        b"/*!50003 CREATE*/ /*!50017 DEFINER=",
    ];
    let begin = begins.into_iter().find(|begin| line.starts_with(begin))?;
    let at = begin.len();
    let (_, mut after) = sql::quoted_name(&line[at..])?;
    if let Some(host) = after.strip_prefix(b"@") {
        after = sql::quoted_name(host)?.1;
    }
    Some((&line[..at - WORD.len()], after))
}

/// The text in two: triggers and routines, then views.
pub(super) fn code_and_views(text: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memmem::rfind(text, b"\n-- MariaDB dump ").unwrap_or(0);
    text.split_at(at)
}

/// Takes the tables of this module out of a catalogue.
pub(super) fn forget(catalogue: &mut Catalogue) {
    catalogue
        .tables
        .retain(|table, _| !ALL.contains(&table.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_has_no_event_and_no_definer() {
        let text = b"-- MariaDB dump 10\n/*!50003 CREATE*/ /*!50017 DEFINER=`a b`@`%`*/ /*!50003 TRIGGER x */;;\n\
            -- Dumping events for database 'ca'\n/*!50106 CREATE*/ EVENT e\n-- Dumping routines for database 'ca'\n\
            CREATE DEFINER=`role` FUNCTION f() RETURN 'DEFINER=`x`@`y`'\n\n-- MariaDB dump 10\n/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */\n";
        let trial = for_trial(text);
        let trial = String::from_utf8_lossy(&trial);
        assert_eq!(trial.matches("DEFINER=CURRENT_USER").count(), 3, "{trial}");
        assert!(
            !trial.contains("EVENT e") && trial.contains("'DEFINER=`x`@`y`'"),
            "{trial}"
        );
        let (code, views) = code_and_views(text);
        assert!(code.ends_with(b"@`y`'\n") && views.starts_with(b"\n-- MariaDB dump"));
    }
}
