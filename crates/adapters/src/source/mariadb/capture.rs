//! The capture of databases: the protocol of the module page, step by step.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use strongroom_core::source::{Capture, CaptureError, Chunking, Sink};

use super::accounts::{self, Account, Privileges};
use super::catalogue::{Catalogue, Kind};
use super::compare::{self, Compared};
use super::connection::Version;
use super::dump::{self, Job};
use super::facts::{self, Counted, Facts};
use super::lock::Lock;
use super::look;
use super::rows::Dumped;
use super::session::{Session, SessionError};
use super::settings::{FactsKind, MariadbSettings};
use super::sql;
use super::turns::{Turn, Turns};

/// How long commits are held back for the dumps to begin.
const BEGIN_SECONDS: u64 = 30;

/// Captures the databases of the settings in one cut.
pub(super) fn databases(
    settings: &MariadbSettings,
    sink: &dyn Sink,
) -> Result<Capture, CaptureError> {
    let connection = &settings.connection;
    let client = connection.client_version()?;
    let mut snapshot = Session::open(connection)?;
    let mut capture = Capture::default();
    let privileges = look::account(&mut snapshot, client, settings, &mut capture.problems)?;
    let mut lock = Lock::take(connection)?;
    let mut cut = Cut::open(settings, &mut lock, &mut snapshot, client, &privileges)?;
    let (dumped, counted) = cut.read(&mut lock, &mut snapshot, sink)?;
    cut.tell(&mut capture);

    let accounts = all_accounts(settings, &privileges, &mut capture)?;
    let mut facts = Facts {
        server: cut.server.clone(),
        ..Facts::default()
    };
    facts.server.is_one_position = cut.has_one_position;
    let mut later = Session::open(connection)?;
    let mut failures = Vec::new();
    for ((name, catalogue), outcome) in cut.catalogues.iter().zip(dumped) {
        let dumped = match outcome {
            Ok(dumped) => dumped,
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        let mut compared = Compared {
            name,
            catalogue,
            capture: &mut capture,
            client,
        };
        compared.definitions(&mut later)?;
        let counted = counted.get(name);
        compared.rows(&dumped, counted, cut.has_one_position);
        compared.remarks();
        let database = compare::database_facts(catalogue, dumped, counted, name, &accounts);
        facts.databases.insert(name.clone(), database);
    }
    if facts.databases.is_empty()
        && let Some(error) = failures.pop()
    {
        return Err(error);
    }
    let failures = failures.iter();
    let failures = failures.map(|error| strongroom_core::error_chain(error));
    capture.problems.extend(failures);
    if !accounts.is_empty() {
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
    look::refuse_old_client(client, &server.version)?;
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

/// What each dump held, in the order of the databases, and what the snapshot counted.
type ReadCut = (Vec<Result<Dumped, CaptureError>>, BTreeMap<String, Counted>);

/// What is taken while commits are held back.
struct Cut<'c> {
    settings: &'c MariadbSettings,
    client: Version,
    privileges: &'c Privileges,
    catalogues: BTreeMap<String, Catalogue>,
    server: facts::ServerFacts,
    /// Commits could be held back.
    is_locked: bool,
    /// Facts and all dumps show the very same state.
    has_one_position: bool,
}

impl<'c> Cut<'c> {
    fn open(
        settings: &'c MariadbSettings,
        lock: &mut Lock,
        snapshot: &mut Session,
        client: Version,
        privileges: &'c Privileges,
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
            settings,
            client,
            privileges,
            catalogues,
            server,
            is_locked: lock.is_held(),
            has_one_position: lock.is_held(),
        })
    }

    /// Dumps all databases, lets commits go on as soon as all dumps have their snapshot, and counts.
    fn read(
        &mut self,
        lock: &mut Lock,
        snapshot: &mut Session,
        sink: &dyn Sink,
    ) -> Result<ReadCut, CaptureError> {
        let (ready, begun) = mpsc::channel();
        let turns = Turns::new(self.catalogues.len());
        let is_counting_only = self.settings.facts == FactsKind::Counts;
        let must_wait = !self.without_transactions().is_empty();
        let (this, turns) = (&*self, &turns);
        let (dumped, counted, has_begun) = std::thread::scope(|scope| {
            let threads: Vec<_> = this
                .catalogues
                .keys()
                .enumerate()
                .map(|(number, name)| {
                    let (job, ready) = (this.job(name, sink), ready.clone());
                    scope.spawn(move || {
                        let turn = turns.of(number);
                        stream(&job, is_counting_only, ready, &turn, sink)
                    })
                })
                .collect();
            drop(ready);
            // Disconnected when every dump has begun or failed.
            let waited = begun.recv_timeout(Duration::from_secs(BEGIN_SECONDS));
            let has_begun = waited != Err(RecvTimeoutError::Timeout);
            let released = if must_wait && has_begun {
                Ok(())
            } else {
                lock.release()
            };
            let counted = released.and_then(|()| this.count(snapshot, sink));
            let dumped: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().expect("a dump does not panic"))
                .collect();
            (dumped, counted, has_begun)
        });
        lock.release()?;
        self.has_one_position &= has_begun;
        Ok((dumped, counted?))
    }

    /// Counts in the snapshot, while the dumps go on.
    fn count(
        &self,
        snapshot: &mut Session,
        sink: &dyn Sink,
    ) -> Result<BTreeMap<String, Counted>, CaptureError> {
        let mut all = BTreeMap::new();
        for (name, catalogue) in &self.catalogues {
            let mut counted = Counted::default();
            let job = self.job(name, sink);
            for (table, its) in &catalogue.tables {
                sink.cancel().check()?;
                if its.kind == Kind::Sequence || its.is_elsewhere() {
                    continue;
                }
                let rows = facts::count(snapshot, name, table, job.has_history(table))
                    .map_err(asked(&format!("count the rows of {name}.{table}")))?;
                counted.rows.insert(table.clone(), rows);
            }
            let newest = &self.settings.newest;
            facts::read_values(snapshot, name, catalogue, newest, &mut counted)
                .map_err(asked(&format!("read the newest values of {name}")))?;
            all.insert(name.clone(), counted);
        }
        Ok(all)
    }

    /// Tables that no snapshot keeps still.
    fn without_transactions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, catalogue) in &self.catalogues {
            for (table, its) in &catalogue.tables {
                if !its.is_transactional() && !its.is_elsewhere() {
                    found.push(format!("{name}.{table} ({})", its.engine));
                }
            }
        }
        found
    }

    /// Tells how the cut was made.
    fn tell(&self, capture: &mut Capture) {
        let tables = self.without_transactions().join(", ");
        if !self.is_locked {
            capture.notes.push(
                "the account has no RELOAD privilege, so that commits could not be held back: facts and dump were taken one \
                 after the other, and their counts were compared; GRANT RELOAD ON *.* gives them one position"
                    .to_owned(),
            );
            if !tables.is_empty() {
                capture.problems.push(format!(
                    "{tables}: tables without transactions cannot be captured in one state without RELOAD; GRANT RELOAD ON *.* to the account"
                ));
            }
        } else if !self.has_one_position {
            capture.problems.push(format!(
                "a dump had not begun after {BEGIN_SECONDS} seconds, so that commits were let go on before: some session keeps a table locked; run the backup again when it is done"
            ));
        } else if !tables.is_empty() {
            capture.notes.push(format!(
                "writers waited until the dump had ended, because of tables without transactions: {tables}"
            ));
        }
    }

    fn job<'j>(&'j self, database: &'j str, sink: &'j dyn Sink) -> Job<'j> {
        Job {
            connection: &self.settings.connection,
            client: self.client,
            database,
            catalogue: &self.catalogues[database],
            cancel: sink.cancel(),
            sees_events: self.privileges.has_in("EVENT", database),
            tables: Vec::new(),
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

/// Wraps what a session said with what it was asked.
pub(super) fn asked(operation: &str) -> impl FnOnce(SessionError) -> CaptureError {
    CaptureError::library(operation)
}
