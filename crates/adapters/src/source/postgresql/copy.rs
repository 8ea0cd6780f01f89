//! Copies the rows of tables out, several at a time, each from a `psql` of its own in the snapshot of the cut.
//!
//! A table that fails is a problem of that table; a connection that breaks ends all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};

use strongroom_core::cancel::Cancel;
use strongroom_core::source::tables::{LineDigest, TableFacts};
use strongroom_core::source::{CaptureError, Chunking, Sink};

use super::catalogue::Table;
use super::paths;
use super::programs::Programs;
use super::session::{Session, SessionError, literal};
use super::settings::{Connection, FactsMode};
use super::snapshot::{BEGIN, PINNED};

/// What all copies of a database have in common.
pub(super) struct Copier<'a> {
    pub(super) connection: &'a Connection,
    pub(super) programs: &'a Programs,
    pub(super) sink: &'a dyn Sink,
    pub(super) database: &'a str,
    pub(super) snapshot: &'a str,
    pub(super) encoding: &'a str,
    pub(super) seconds: i64,
    /// Opened when the streams that come first are finished.
    pub(super) gate: &'a Gate,
    /// Largest first.
    pub(super) queue: Mutex<VecDeque<Table>>,
    /// Set by whoever cannot go on.
    pub(super) stop: &'a AtomicBool,
}

/// What one thread has copied.
#[derive(Default)]
pub(super) struct Copied {
    pub(super) tables: BTreeMap<String, TableFacts>,
    pub(super) problems: Vec<String>,
    /// Why the thread ended early.
    pub(super) lost: Option<String>,
}

/// Lets the streams wait that may not be finished yet.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Gate {
    /// Lets everybody through, or sends everybody home.
    pub(super) fn open(&self, may_pass: bool) {
        let mut state = self.state.lock().expect("nobody panics at the gate");
        *state = state.or(Some(may_pass));
        self.changed.notify_all();
    }

    /// Sends everybody home, unless the gate was opened before, when this is dropped: nobody waits for a thread that is gone.
    pub(super) const fn closing(&self) -> Closing<'_> {
        Closing(self)
    }

    fn pass(&self) -> bool {
        let state = self.state.lock().expect("nobody panics at the gate");
        let state = self.changed.wait_while(state, |state| state.is_none());
        state.expect("nobody panics at the gate").unwrap_or(false)
    }
}

/// Closes a gate for good.
pub(super) struct Closing<'g>(&'g Gate);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.open(false);
    }
}

enum CopyError {
    Session(SessionError),
    /// What was copied is not what the server says.
    Content(String),
    Capture(CaptureError),
    /// Another thread cannot go on.
    Stopped,
}

impl From<SessionError> for CopyError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<CaptureError> for CopyError {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

impl Copier<'_> {
    /// Copies tables until none is left.
    pub(super) fn run(&self, cancel: &Cancel) -> Result<Copied, CaptureError> {
        let mut copied = Copied::default();
        let ended = self.copy_all(&mut copied, cancel);
        if ended.is_err() || copied.lost.is_some() {
            self.stop.store(true, Ordering::Relaxed);
        }
        ended.map(|()| copied)
    }

    fn copy_all(&self, copied: &mut Copied, cancel: &Cancel) -> Result<(), CaptureError> {
        let mut session = match self.open(cancel) {
            Ok(session) => session,
            Err(SessionError::Interrupted(interrupted)) => return Err(interrupted.into()),
            Err(error) => {
                copied.lost = Some(said(&error));
                return Ok(());
            }
        };
        while let Some(table) = self.next() {
            let key = table.key();
            let why = match self.copy(&mut session, &table) {
                Ok(facts) => {
                    copied.tables.insert(key, facts);
                    continue;
                }
                Err(CopyError::Stopped) => return Ok(()),
                Err(CopyError::Capture(error)) => return Err(error),
                Err(CopyError::Session(SessionError::Interrupted(interrupted))) => {
                    return Err(interrupted.into());
                }
                Err(CopyError::Session(SessionError::Copy { message })) => {
                    session = match self.open(cancel) {
                        Ok(session) => session,
                        Err(SessionError::Interrupted(interrupted)) => {
                            return Err(interrupted.into());
                        }
                        Err(error) => {
                            copied.lost = Some(format!(
                                "after table {key} failed ({message}), {}",
                                said(&error)
                            ));
                            return Ok(());
                        }
                    };
                    hint(&message)
                }
                Err(CopyError::Session(error)) => {
                    copied.lost = Some(format!("while table {key} was read, {}", said(&error)));
                    return Ok(());
                }
                Err(CopyError::Content(why)) => why,
            };
            copied.problems.push(format!(
                "database {}: table {key} is not in the backup: {why}",
                self.database
            ));
            copied
                .tables
                .insert(key, TableFacts::Unreadable { error: why });
        }
        Ok(())
    }

    fn next(&self) -> Option<Table> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.queue
            .lock()
            .expect("nobody panics with the queue")
            .pop_front()
    }

    fn open(&self, cancel: &Cancel) -> Result<Session, SessionError> {
        let conninfo = super::conninfo::conninfo(&self.connection.settings, Some(self.database));
        let client = self.programs.client(self.connection);
        let mut session = Session::open(&client, &conninfo, cancel)?;
        session.execute(PINNED)?;
        session.execute(BEGIN)?;
        session.execute(&format!(
            "SET TRANSACTION SNAPSHOT {}",
            literal(self.snapshot)
        ))?;
        Ok(session)
    }

    fn copy(&self, session: &mut Session, table: &Table) -> Result<TableFacts, CopyError> {
        let mut lines = match self.connection.settings.facts {
            FactsMode::Digests => LineDigest::default(),
            FactsMode::Counts => LineDigest::counting_only(),
        };
        let mut writer = self.sink.begin(Chunking::Lines)?;
        let copied = session.copy_out(&statement(table, self.encoding), |block| {
            if self.stop.load(Ordering::Relaxed) {
                return Err(CopyError::Stopped);
            }
            lines.update(block);
            writer.write(block).map_err(CopyError::Capture)
        });
        let checked = copied.and_then(|tag| {
            let facts = lines
                .finish()
                .map_err(|error| CopyError::Content(error.to_string()))?;
            let rows = facts.rows().unwrap_or(0);
            // Not every psql tells; then it says 0.
            match tag {
                Some(tag) if tag != rows && tag != 0 => Err(CopyError::Content(format!(
                    "{rows} rows arrived, and the server sent {tag}"
                ))),
                _ => Ok(facts),
            }
        });
        let checked = checked.and_then(|facts| {
            if self.gate.pass() {
                Ok(facts)
            } else {
                Err(CopyError::Stopped)
            }
        });
        match checked {
            Ok(facts) => {
                writer.write(paths::ROWS_END)?;
                let below = paths::table_below(&table.schema, &table.name);
                let path = paths::table(self.database, &below);
                writer.finish(paths::entry(&path, self.seconds))?;
                Ok(facts)
            }
            Err(error @ CopyError::Capture(_)) => Err(error),
            Err(error) => {
                writer.discard()?;
                Err(error)
            }
        }
    }
}

/// The rows of the table itself, in the encoding of the database: nothing is converted. The statement stays in UTF-8.
fn statement(table: &Table, encoding: &str) -> String {
    let encoding = literal(encoding);
    let what = if table.condition().is_empty() {
        format!("{}{}", table.quoted(), table.column_list())
    } else {
        let columns = table.column_list();
        let columns = columns.trim().trim_start_matches('(').trim_end_matches(')');
        format!(
            "(SELECT {columns} FROM ONLY {} {})",
            table.quoted(),
            table.condition()
        )
    };
    format!("COPY {what} TO STDOUT WITH (FORMAT text, ENCODING {encoding})")
}

/// An error with its cause.
pub(super) fn said(error: &SessionError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The server's message, with what to do about it.
pub(super) fn hint(said: &str) -> String {
    if said.contains("row-level security") {
        return format!("{said}; read it with a role that has BYPASSRLS: ALTER ROLE ... BYPASSRLS");
    }
    said.to_owned()
}
