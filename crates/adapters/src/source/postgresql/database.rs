//! Captures one database: cut, facts, schema, rows, large objects.
//!
//! What fails for one table is a problem of that table; a connection that breaks makes the database incomplete. An error is the fault of the sink, or an
//! interruption.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_core::source::tables::TableFacts;
use strongroom_core::source::{CaptureError, Chunking, Sink};

use super::catalogue::{self, Table};
use super::copy::{Copied, Copier, Gate, hint, said};
use super::dump::{DumpError, Dumper};
use super::facts::{DatabaseFacts, ServerFacts};
use super::programs::Programs;
use super::session::{Session, SessionError, qualified};
use super::settings::Connection;
use super::snapshot::{Cut, try_in};
use super::{conninfo, paths, script};

/// How many names a note lists.
const NAMES_SHOWN: usize = 5;

/// What a capture of a database came to.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) facts: DatabaseFacts,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// What the capture of a database needs.
pub(super) struct Job<'a> {
    pub(super) connection: &'a Connection,
    pub(super) programs: &'a Programs,
    pub(super) server: &'a ServerFacts,
    pub(super) database: &'a str,
    pub(super) sink: &'a dyn Sink,
}

impl Job<'_> {
    /// Captures the database.
    pub(super) fn run(&self) -> Result<Captured, CaptureError> {
        let mut captured = Captured::default();
        match self.capture(&mut captured) {
            Ok(()) => {}
            Err(Stopped::Capture(error)) => return Err(error),
            Err(Stopped::Session(SessionError::Interrupted(interrupted))) => {
                return Err(interrupted.into());
            }
            Err(Stopped::Session(error)) => captured.problems.push(format!(
                "database {} is not captured whole: {}",
                self.database,
                said(&error)
            )),
            Err(Stopped::Lost(why)) => captured.problems.push(format!(
                "database {} is not captured whole: {why}; look at the server's log, and back up again",
                self.database
            )),
        }
        Ok(captured)
    }

    fn capture(&self, captured: &mut Captured) -> Result<(), Stopped> {
        let settings = &self.connection.settings;
        let conninfo = conninfo::conninfo(settings, Some(self.database));
        let client = self.programs.client(self.connection);
        let mut session = Session::open(&client, &conninfo, self.sink.cancel())?;
        let cut = Cut::make(&mut session, settings.lock_timeout)?;
        captured.facts = self.facts(&mut session, &mut captured.problems)?;
        for (table, why) in &cut.unreadable {
            let key = table.key();
            captured.problems.push(format!(
                "database {}: table {key} is not in the backup: {why}",
                self.database
            ));
            if table.has_rows() {
                let error = why.clone();
                let facts = TableFacts::Unreadable { error };
                captured.facts.tables.insert(key, facts);
            }
        }
        let mut queue = self.choose(&cut, captured);
        queue.sort_by_key(|table| std::cmp::Reverse(table.size));
        let (counts, copied) = self.streams(&mut session, &cut, &queue, captured)?;
        for one in copied {
            captured.problems.extend(one.problems);
            captured.facts.tables.extend(one.tables);
        }
        self.compare(&counts, captured);
        if captured.facts.large_objects > 0 {
            let entry = paths::entry(
                &paths::large_objects(self.database),
                captured.facts.cut.seconds,
            );
            let dumped = self
                .dumper()
                .large_objects(self.database, &cut.snapshot, entry);
            self.or_problem(dumped, "large objects", captured)?;
        }
        // The snapshot must have lived until here.
        session.execute("COMMIT")?;
        Ok(())
    }

    /// All facts but those of tables and views.
    fn facts(
        &self,
        session: &mut Session,
        problems: &mut Vec<String>,
    ) -> Result<DatabaseFacts, SessionError> {
        let mut facts = catalogue::database(session)?;
        facts.roles = catalogue::roles(session)?;
        facts.materialized_views = catalogue::materialized_views(session)?;
        match try_in(session, catalogue::sequences) {
            Ok((sequences, unreadable)) => {
                facts.sequences = sequences;
                problems.extend(unreadable.iter().map(|key| {
                    format!(
                        "database {}: sequence {key} cannot be read; grant SELECT on it to the role",
                        self.database
                    )
                }));
            }
            Err(error) if error.is_end() => return Err(error),
            Err(error) => problems.push(format!(
                "database {}: the sequences cannot be read: {error}",
                self.database
            )),
        }
        Ok(facts)
    }

    /// Which tables are copied; the others are noted.
    fn choose(&self, cut: &Cut, captured: &mut Captured) -> Vec<Table> {
        let (mut queue, mut foreign, mut unlogged) = (Vec::new(), Vec::new(), Vec::new());
        for table in &cut.tables {
            if table.is_of_extension_only() {
                continue;
            }
            let is_there = !(table.is_unlogged() && self.server.is_standby);
            let is_copied = table.has_rows() && is_there && cut.can_read(table);
            let path = is_copied.then(|| paths::table_below(&table.schema, &table.name));
            let facts = &mut captured.facts.relations;
            facts.insert(table.key(), table.relation(path));
            if table.is_foreign() {
                foreign.push(table.key());
            }
            if table.is_unlogged() && table.has_rows() {
                unlogged.push(table.key());
            }
            if is_copied {
                queue.push(table.clone());
            }
        }
        let mut note = |what: &str, names: &[String]| {
            if !names.is_empty() {
                captured.notes.push(format!(
                    "database {}: {what}: {}",
                    self.database,
                    list(names)
                ));
            }
        };
        note(
            "the rows of foreign tables are elsewhere, only their definition is in the backup",
            &foreign,
        );
        note(
            if self.server.is_standby {
                "unlogged tables have no rows on a standby and are not in the backup"
            } else {
                "unlogged tables are in the backup, and empty after a crash of the server"
            },
            &unlogged,
        );
        note(
            "subscriptions are not in the backup; create them anew after a restore",
            &captured.facts.subscriptions,
        );
        note(
            "replication slots are not in the backup; create them anew after a restore",
            &captured.facts.replication_slots,
        );
        queue
    }

    /// Streams schema and rows while this session counts.
    fn streams(
        &self,
        session: &mut Session,
        cut: &Cut,
        queue: &[Table],
        captured: &mut Captured,
    ) -> Result<(BTreeMap<String, u64>, Vec<Copied>), Stopped> {
        let (gate, stop) = (Gate::default(), AtomicBool::new(false));
        let copier = Copier {
            connection: self.connection,
            programs: self.programs,
            sink: self.sink,
            database: self.database,
            snapshot: &cut.snapshot,
            encoding: &captured.facts.encoding.clone(),
            seconds: captured.facts.cut.seconds,
            gate: &gate,
            queue: Mutex::new(VecDeque::from(queue.to_vec())),
            stop: &stop,
        };
        let jobs = self.connection.settings.jobs.clamp(1, queue.len().max(1));
        let text = script::data(self.database, &captured.facts);
        let seconds = captured.facts.cut.seconds;
        let (schema, counts, copied) = std::thread::scope(|scope| {
            let schema = scope.spawn(|| {
                let _closing = gate.closing();
                let done = self.schema(cut, &text, seconds);
                if done.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                gate.open(done.is_ok());
                done
            });
            let copies: Vec<_> = (0..jobs)
                .map(|_| scope.spawn(|| copier.run(self.sink.cancel())))
                .collect();
            let counts = self.read_tables(session, queue, captured, &stop);
            if counts.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            let copied: Vec<_> = copies
                .into_iter()
                .map(|copy| copy.join().expect("copying does not panic"))
                .collect();
            let schema = schema.join().expect("dumping does not panic");
            (schema, counts, copied)
        });
        // What the sink or the operator says comes first: it is the cause of the rest.
        let copied = copied.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let Some(why) = copied.iter().find_map(|one| one.lost.clone()) {
            return Err(Stopped::Lost(why));
        }
        match schema {
            Ok(()) => {}
            Err(DumpError::Capture(error)) => return Err(error.into()),
            Err(DumpError::Program(why)) => {
                return Err(Stopped::Lost(format!("the schema cannot be dumped: {why}")));
            }
        }
        match counts {
            Ok(counts) => Ok((counts, copied)),
            Err(error) => Err(error.into()),
        }
    }

    /// The streams that come before the rows.
    fn schema(&self, cut: &Cut, text: &str, seconds: i64) -> Result<(), DumpError> {
        let without: Vec<(String, String)> = cut
            .unreadable
            .iter()
            .map(|(table, _)| (table.schema.clone(), table.name.clone()))
            .collect();
        let entry = paths::entry(&paths::schema(self.database), seconds);
        self.dumper()
            .schema(self.database, &cut.snapshot, &without, entry)?;
        let mut writer = self.sink.begin(Chunking::Lines)?;
        writer.write(text.as_bytes())?;
        writer.finish(paths::entry(&paths::script(self.database), seconds))?;
        Ok(())
    }

    /// Reads in this session, in the same snapshot: counts, newest values, migrations, materialised views.
    fn read_tables(
        &self,
        session: &mut Session,
        queue: &[Table],
        captured: &mut Captured,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<String, u64>, SessionError> {
        let mut counts = BTreeMap::new();
        for table in queue {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let sql = format!(
                "SELECT to_json(count(*)) FROM ONLY {} {}",
                table.quoted(),
                table.condition()
            );
            match try_in(session, |session| session.read(&sql)) {
                Ok(count) => {
                    counts.insert(table.key(), count);
                }
                Err(error) if error.is_end() => return Err(error),
                // The copy of the table meets the same error, and reports it.
                Err(_) => {}
            }
            if catalogue::is_migration_table(&table.name) {
                match try_in(session, |session| catalogue::migrations(session, table)) {
                    Ok(migrations) => {
                        let all = &mut captured.facts.migrations;
                        all.insert(table.key(), migrations);
                    }
                    Err(error) if error.is_end() => return Err(error),
                    Err(error) => captured.notes.push(format!(
                        "database {}: the migrations in {} cannot be read: {error}",
                        self.database,
                        table.key()
                    )),
                }
            }
        }
        for column in &self.connection.settings.newest {
            if !column.is_of(self.database) {
                continue;
            }
            match try_in(session, |session| catalogue::newest(session, column)) {
                Ok(value) => {
                    captured.facts.newest.insert(column.to_string(), value);
                }
                Err(error) if error.is_end() => return Err(error),
                Err(error) if column.database().is_none() && error.sqlstate() == Some("42P01") => {
                    captured.notes.push(format!(
                        "database {}: newest {column}: there is no such table",
                        self.database
                    ));
                }
                Err(error) => captured.notes.push(format!(
                    "database {}: newest {column} cannot be read: {error}",
                    self.database
                )),
            }
        }
        for view in &mut captured.facts.materialized_views {
            if !view.is_populated || stop.load(Ordering::Relaxed) {
                continue;
            }
            let name = qualified(&view.schema, &view.name);
            let sql = format!("SELECT to_json(count(*)) FROM {name}");
            match try_in(session, |session| session.read(&sql)) {
                Ok(rows) => view.rows = Some(rows),
                Err(error) if error.is_end() => return Err(error),
                Err(error) => captured.notes.push(format!(
                    "database {}: the rows of the materialized view {}.{} are not counted: {}",
                    self.database,
                    view.schema,
                    view.name,
                    hint(&error.to_string())
                )),
            }
        }
        Ok(counts)
    }

    /// The rows that went by are the rows that the server counted.
    fn compare(&self, counts: &BTreeMap<String, u64>, captured: &mut Captured) {
        for (key, table) in &captured.facts.tables {
            let Some(rows) = table.rows() else { continue };
            match counts.get(key) {
                Some(count) if *count == rows => {}
                Some(count) => captured.problems.push(format!(
                    "database {}: table {key}: {rows} rows are in the stream, and the server counts {count} in the same snapshot; an index may be damaged: run pg_amcheck, and back up again",
                    self.database
                )),
                None => captured.problems.push(format!(
                    "database {}: table {key}: the server could not count its rows",
                    self.database
                )),
            }
        }
    }

    fn or_problem(
        &self,
        done: Result<(), DumpError>,
        what: &str,
        captured: &mut Captured,
    ) -> Result<(), Stopped> {
        match done {
            Ok(()) => Ok(()),
            Err(DumpError::Capture(error)) => Err(error.into()),
            Err(DumpError::Program(why)) => {
                captured.problems.push(format!(
                    "database {}: the {what} are not in the backup: {why}",
                    self.database
                ));
                Ok(())
            }
        }
    }

    fn dumper(&self) -> Dumper<'_> {
        Dumper {
            connection: self.connection,
            programs: self.programs,
            sink: self.sink,
        }
    }
}

/// Why a database is not captured.
enum Stopped {
    Session(SessionError),
    Lost(String),
    Capture(CaptureError),
}

impl From<SessionError> for Stopped {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl From<CaptureError> for Stopped {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

/// The first few names.
pub(super) fn list(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(NAMES_SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMES_SHOWN {
        let _ = write!(text, " and {} more", names.len() - NAMES_SHOWN);
    }
    text
}
