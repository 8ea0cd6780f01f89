//! The capture of databases: the protocol of the module page, step by step.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use strongroom_core::source::tables::TableFacts;
use strongroom_core::source::{Capture, CaptureError, Chunking, Sink};

use super::accounts::{self, Account, Privileges};
use super::catalogue::{Catalogue, Kind};
use super::connection::{Connection, Version, version_in};
use super::dump::{self, Job};
use super::facts::{self, Counted, DatabaseFacts, Facts, TableDefinition};
use super::lock::Lock;
use super::rows::Dumped;
use super::session::{Session, SessionError};
use super::settings::{FactsKind, MariadbSettings};
use super::sql;

/// How long commits are held back for the dumps to begin.
const BEGIN_SECONDS: u64 = 30;

/// What a dump of a database needs; without it something is left out in silence.
const NEEDED: [(&str, &str); 4] = [
    ("SELECT", "tables"),
    ("SHOW VIEW", "views"),
    ("TRIGGER", "triggers"),
    ("EVENT", "events"),
];

/// Captures the databases of the settings in one cut.
pub(super) fn databases(
    settings: &MariadbSettings,
    sink: &dyn Sink,
) -> Result<Capture, CaptureError> {
    let connection = &settings.connection;
    let client = connection.client_version()?;
    let mut snapshot = Session::open(connection)?;
    let mut capture = Capture::default();
    let privileges = look(&mut snapshot, client, settings, &mut capture.problems)?;

    let mut lock = Lock::take(connection)?;
    let mut cut = Cut::open(settings, &mut lock, &mut snapshot)?;
    cut.is_locked = lock.is_held();
    let mut writers_waited = Vec::new();
    for (name, catalogue) in &cut.catalogues {
        for (table, its) in &catalogue.tables {
            if !its.is_transactional() && !its.is_elsewhere() {
                writers_waited.push(format!("{name}.{table} ({})", its.engine));
            }
        }
    }

    let (ready, begun) = mpsc::channel();
    let turns = Turns::new(cut.catalogues.len());
    let names: Vec<&String> = cut.catalogues.keys().collect();
    let mut has_one_position = cut.is_locked;
    let (dumped, counted) = std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                let (job, ready, turns) = (
                    cut.job(settings, client, &privileges, name, sink),
                    ready.clone(),
                    &turns,
                );
                let is_counting_only = settings.facts == FactsKind::Counts;
                scope.spawn(move || {
                    let turn = turns.of(number);
                    stream(&job, is_counting_only, ready, &turn, sink)
                })
            })
            .collect();
        drop(ready);
        // Ends when every dump has begun or failed.
        match begun.recv_timeout(Duration::from_secs(BEGIN_SECONDS)) {
            Err(RecvTimeoutError::Disconnected) | Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => has_one_position = false,
        }
        let released = if writers_waited.is_empty() || !has_one_position {
            lock.release()
        } else {
            Ok(())
        };
        let counted = count(settings, &cut, client, &mut snapshot, sink);
        let dumped: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("a dump does not panic"))
            .collect();
        (dumped, released.and(counted))
    });
    lock.release()?;
    let counted = counted?;

    if !cut.is_locked {
        capture.notes.push(
            "the account has no RELOAD privilege, so that commits could not be held back: facts and dump were taken one \
             after the other, and their counts were compared; GRANT RELOAD ON *.* gives them one position"
                .to_owned(),
        );
        if !writers_waited.is_empty() {
            capture.problems.push(format!(
                "{}: tables without transactions cannot be captured in one state without RELOAD; GRANT RELOAD ON *.* to the account",
                writers_waited.join(", ")
            ));
        }
    } else if !has_one_position {
        capture.problems.push(format!(
            "a dump had not begun after {BEGIN_SECONDS} seconds, so that commits were let go on before: some session keeps a table locked; run the backup again when it is done"
        ));
    } else if !writers_waited.is_empty() {
        capture.notes.push(format!(
            "writers waited until the dump had ended, because of tables without transactions: {}",
            writers_waited.join(", ")
        ));
    }

    let accounts = all_accounts(settings, &privileges, &mut capture)?;
    let mut facts = Facts {
        server: cut.server.clone(),
        ..Facts::default()
    };
    facts.server.is_one_position = has_one_position;
    let later = Session::open(connection);
    let mut later = later?;
    let mut failures = Vec::new();
    for (name, outcome) in names.iter().zip(dumped) {
        let (name, catalogue) = (name.as_str(), &cut.catalogues[name.as_str()]);
        let dumped = match outcome {
            Ok(dumped) => dumped,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        let mut one = Compared {
            name,
            catalogue,
            capture: &mut capture,
            client,
        };
        one.definitions(&mut later)?;
        let counted = counted.get(name);
        one.rows(&dumped, counted, has_one_position);
        one.remarks();
        let database = database_facts(catalogue, dumped, counted, name, &accounts);
        facts.databases.insert(name.to_owned(), database);
    }
    if facts.databases.is_empty()
        && let Some(error) = failures.pop()
    {
        return Err(error);
    }
    for error in failures {
        let chain = strongroom_core::error_chain(&error);
        capture.problems.push(chain);
    }
    if settings.grants && !accounts.is_empty() {
        let mut writer = sink.begin(Chunking::Lines)?;
        writer.write(accounts::script(&accounts).as_bytes())?;
        writer.finish(dump::entry("/globals.sql".into()))?;
    }
    capture.facts = serde_json::to_value(facts).unwrap_or_default();
    Ok(capture)
}

/// Captures users with their password hashes.
pub(super) fn users(settings: &MariadbSettings, sink: &dyn Sink) -> Result<Capture, CaptureError> {
    let connection = &settings.connection;
    let client = connection.client_version()?;
    let mut session = Session::open(connection)?;
    let server = facts::server(&mut session).map_err(asked("look at the server"))?;
    refuse_old_client(client, &server.version)?;
    let arguments = ["--system=users", "--skip-dump-date", "--no-tablespaces"];
    let text = dump::output(connection, "mysql", &arguments.map(str::to_owned))?;
    let names = accounts::existing(&mut session).map_err(asked("read the users"))?;
    let mut writer = sink.begin(Chunking::Lines)?;
    writer.write(&text)?;
    writer.finish(dump::entry("/users.sql".into()))?;
    Ok(Capture {
        facts: serde_json::json!({ "server": server, "users": names }),
        ..Capture::default()
    })
}

/// Looks whether the programs can dump the server, and what the account may not see.
pub(super) fn look(
    session: &mut Session,
    client: Version,
    settings: &MariadbSettings,
    problems: &mut Vec<String>,
) -> Result<Privileges, CaptureError> {
    let version: String = session
        .value("SELECT JSON_QUOTE(VERSION())")
        .map_err(asked("look at the server"))?;
    refuse_old_client(client, &version)?;
    let privileges = Privileges::read(session).map_err(asked("read the account's privileges"))?;
    for database in &settings.databases {
        for (privilege, what) in NEEDED {
            if !privileges.has_in(privilege, database) {
                problems.push(format!(
                    "{database}: the account has no {privilege} on it, so {what} may be left out; GRANT {privilege} ON {}.*",
                    sql::name(database)
                ));
            }
        }
        if !privileges.sees_routines(database) {
            problems.push(format!(
                "{database}: the account cannot read the definitions of routines, so they may be left out; GRANT SELECT ON mysql.*"
            ));
        }
    }
    if settings.grants && !privileges.has_in("SELECT", "mysql") {
        problems.push(
            "the account may not read users and grants: GRANT SELECT ON mysql.*, or set `grants = false`"
                .to_owned(),
        );
    }
    Ok(privileges)
}

fn refuse_old_client(client: Version, server: &str) -> Result<(), CaptureError> {
    let Some(version) = version_in(server) else {
        return Err(CaptureError::Unsuitable {
            path: "the server".into(),
            why: format!("version {server} is not MariaDB"),
            hint: "This source reads MariaDB; dump another server with its own programs into files.",
        });
    };
    if client < version {
        return Err(CaptureError::Unsuitable {
            path: "mariadb-dump".into(),
            why: format!(
                "is of version {}.{}, and the server of {}.{}: what is new there would be missing",
                client.0, client.1, version.0, version.1
            ),
            hint: "Install the client programs of the server's version, and name their directory with `programs`.",
        });
    }
    Ok(())
}

/// What is taken while commits are held back.
struct Cut {
    catalogues: BTreeMap<String, Catalogue>,
    server: facts::ServerFacts,
    is_locked: bool,
}

impl Cut {
    fn open(
        settings: &MariadbSettings,
        lock: &mut Lock,
        snapshot: &mut Session,
    ) -> Result<Self, CaptureError> {
        let failed = || asked("open the snapshot of the facts");
        snapshot
            .execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            .map_err(failed())?;
        snapshot
            .execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            .map_err(failed())?;
        let server = facts::server(snapshot).map_err(failed())?;
        let mut catalogues = BTreeMap::new();
        for database in &settings.databases {
            let read = Catalogue::read(lock.session(), database);
            let Some(catalogue) = read.map_err(asked("read the catalogue"))? else {
                return Err(CaptureError::Unsuitable {
                    path: database.into(),
                    why: "there is no such database, or the account may not see it".to_owned(),
                    hint: "Correct `databases`, or grant the account SELECT on it.",
                });
            };
            catalogues.insert(database.clone(), catalogue);
        }
        Ok(Self {
            catalogues,
            server,
            is_locked: false,
        })
    }

    fn job<'j>(
        &'j self,
        settings: &'j MariadbSettings,
        client: Version,
        privileges: &Privileges,
        database: &'j str,
        sink: &'j dyn Sink,
    ) -> Job<'j> {
        Job {
            connection: &settings.connection,
            client,
            database,
            catalogue: &self.catalogues[database],
            cancel: sink.cancel(),
            sees_events: privileges.has_in("EVENT", database),
        }
    }
}

/// Dumps a database into its two streams.
fn stream(
    job: &Job<'_>,
    is_counting_only: bool,
    ready: mpsc::Sender<()>,
    turn: &Turn<'_>,
    sink: &dyn Sink,
) -> Result<Dumped, CaptureError> {
    let mut writer = sink.begin(Chunking::Lines)?;
    let dumped = match job.tables(is_counting_only, ready, &mut |bytes| writer.write(bytes)) {
        Ok(dumped) => dumped,
        Err(error) => {
            writer.discard()?;
            return Err(error);
        }
    };
    let objects = match job.objects() {
        Ok(objects) => objects,
        Err(error) => {
            writer.discard()?;
            return Err(error);
        }
    };
    turn.wait();
    writer.finish(dump::entry(sql::path(job.database, "tables.sql")))?;
    let mut writer = sink.begin(Chunking::Lines)?;
    writer.write(&objects)?;
    writer.finish(dump::entry(sql::path(job.database, "objects.sql")))?;
    Ok(dumped)
}

/// Counts in the snapshot, while the dumps go on.
fn count(
    settings: &MariadbSettings,
    cut: &Cut,
    client: Version,
    snapshot: &mut Session,
    sink: &dyn Sink,
) -> Result<BTreeMap<String, Counted>, CaptureError> {
    let mut all = BTreeMap::new();
    for (name, catalogue) in &cut.catalogues {
        let mut counted = Counted::default();
        let job = cut.job(settings, client, &Privileges::default(), name, sink);
        for (table, its) in &catalogue.tables {
            sink.cancel().check()?;
            if its.kind == Kind::Sequence || its.is_elsewhere() {
                continue;
            }
            let rows = facts::count(snapshot, name, table, job.has_history(table))
                .map_err(asked(&format!("count the rows of {name}.{table}")))?;
            counted.rows.insert(table.clone(), rows);
        }
        facts::read_values(snapshot, name, catalogue, &settings.newest, &mut counted)
            .map_err(asked(&format!("read the newest values of {name}")))?;
        all.insert(name.clone(), counted);
    }
    Ok(all)
}

fn all_accounts(
    settings: &MariadbSettings,
    privileges: &Privileges,
    capture: &mut Capture,
) -> Result<BTreeMap<String, Account>, CaptureError> {
    if !settings.grants {
        capture
            .notes
            .push("users and grants are not captured, as `grants = false` says".to_owned());
        return Ok(BTreeMap::new());
    }
    if !privileges.has_in("SELECT", "mysql") {
        // Told as a problem by `look`.
        return Ok(BTreeMap::new());
    }
    let mut session = Session::open(&settings.connection)?;
    accounts::read(&mut session).map_err(asked("read users and grants"))
}

/// Compares what was dumped of one database with what was there.
struct Compared<'a> {
    name: &'a str,
    catalogue: &'a Catalogue,
    capture: &'a mut Capture,
    client: Version,
}

impl Compared<'_> {
    fn definitions(&mut self, session: &mut Session) -> Result<(), CaptureError> {
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

    fn rows(&mut self, dumped: &Dumped, counted: Option<&Counted>, has_one_position: bool) {
        let name = self.name;
        let problems = &mut self.capture.problems;
        problems.extend(dumped.faults.iter().map(|fault| format!("{name}: {fault}")));
        let hint = match has_one_position {
            true => "run the backup again, and look at the server's log",
            false => {
                "facts and dump have no common position: GRANT RELOAD ON *.*, or run the backup again"
            }
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
    fn remarks(&mut self) {
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

fn database_facts(
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

/// Wraps what a session said with what it was asked.
pub(super) fn asked(operation: &str) -> impl FnOnce(SessionError) -> CaptureError {
    CaptureError::library(operation)
}

/// Keeps the streams of a database together: its streams end after those of the databases before it.
struct Turns {
    done: Mutex<Vec<bool>>,
    changed: Condvar,
}

struct Turn<'t> {
    turns: &'t Turns,
    number: usize,
}

impl Turns {
    fn new(count: usize) -> Self {
        Self {
            done: Mutex::new(vec![false; count]),
            changed: Condvar::new(),
        }
    }

    fn of(&self, number: usize) -> Turn<'_> {
        Turn {
            turns: self,
            number,
        }
    }
}

impl Turn<'_> {
    fn wait(&self) {
        let done = self
            .turns
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .turns
            .changed
            .wait_while(done, |done| done[..self.number].contains(&false));
        drop(waited);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut done = self
            .turns
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        done[self.number] = true;
        self.turns.changed.notify_all();
    }
}

/// What `check` says of an asset.
pub(super) fn sizes(
    connection: &Connection,
    databases: &[String],
) -> Result<(u64, u64, Vec<String>), CaptureError> {
    let mut session = Session::open(connection)?;
    let (mut tables, mut bytes, mut problems) = (0, 0, Vec::new());
    for database in databases {
        let wanted = sql::text(database);
        let there: u64 = session
            .value(&format!(
                "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {wanted}"
            ))
            .map_err(asked("read the catalogue"))?;
        if there == 0 {
            problems.push(format!(
                "{database}: there is no such database, or the account may not see it"
            ));
        }
        let (its, size): (u64, u64) = session
            .value(&format!(
                "SELECT JSON_ARRAY(COUNT(*), CAST(COALESCE(SUM(data_length), 0) AS UNSIGNED)) \
                 FROM information_schema.tables WHERE table_schema = {wanted} AND table_type <> 'VIEW'"
            ))
            .map_err(asked("read the catalogue"))?;
        tables += its;
        bytes += size;
    }
    Ok((tables, bytes, problems))
}
