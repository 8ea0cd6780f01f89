//! A MariaDB server that databases are restored into: the port [`DatabaseServer`].
//!
//! MariaDB cannot rename a database, but tables, and many in one statement that is atomic. So a database is loaded into a new schema, and
//! `exchange` moves the tables of the live one away and those of the new one in by one `RENAME TABLE`. Triggers, views, routines and events
//! cannot be moved: they are dropped before and created again after. The text that creates them travels with the tables it belongs
//! to, in a table of its own, so that all that a repetition or an undo needs is in the server.

mod drop;
mod exchange;
mod load;
mod stowage;

pub(super) use stowage::ALL as STOWAGE;

use std::collections::BTreeSet;

use serde::Deserialize as _;
use strongroom_core::source::server::{
    DatabaseLoad, DatabaseSeen, DatabaseServer, LoadJob, LoadOptions, LoadedDatabase, ServerSeen,
    SwapNames, WantedDatabase,
};
use strongroom_core::source::tables::TableFacts;
use strongroom_core::source::{CaptureError, Proof};

use super::accounts::{self, Privileges};
use super::capture::asked;
use super::catalogue::Catalogue;
use super::connection::{Connection, version_in};
use super::dump::Job;
use super::facts::{DatabaseFacts, Facts};
use super::restorer;
use super::rows::Dumped;
use super::session::Session;
use super::settings::MariadbSettings;
use super::sql;

/// How long a change of definitions waits for the sessions that use a table, in seconds.
const LOCK_WAIT_SECONDS: u32 = 10;

/// How long a session waits for one that an interrupted run left behind, in seconds.
const ALONE_SECONDS: u32 = 120;

/// How often the server is asked whether the sessions are gone that were ended, ten times a second.
const END_TRIES: u32 = 100;

/// How many tables are read at a time when a load is proved, at most.
const JOBS_MAX: usize = 16;

/// A server, as the operator's configuration names it.
#[derive(Clone, Debug)]
pub struct MariadbServer {
    connection: Connection,
}

impl MariadbServer {
    /// The server that `connection` leads to.
    pub const fn new(connection: Connection) -> Self {
        Self { connection }
    }

    fn session(&self) -> Result<Session, CaptureError> {
        let mut session = Session::open(&self.connection)?;
        session
            .execute(&format!(
                "SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}"
            ))
            .map_err(asked("prepare the session"))?;
        Ok(session)
    }

    /// A session that is the only one of its kind for these databases.
    ///
    /// A server finishes the statement of a client that was killed: what an interrupted run was doing may become true only
    /// now. The lock ends with its session, so that nothing of it outlives the statement or the server.
    fn session_alone(&self, names: &[&str]) -> Result<Session, CaptureError> {
        let mut session = self.session()?;
        // In one order, so that two runs do not wait for each other.
        let names: BTreeSet<&str> = names.iter().copied().collect();
        for name in names {
            let got: Option<u8> = session
                .value(&format!(
                    "SELECT JSON_EXTRACT(JSON_ARRAY(GET_LOCK(CONCAT('strongroom-', MD5({})), {ALONE_SECONDS})), '$[0]')",
                    sql::text(name)
                ))
                .map_err(asked("wait for other sessions"))?;
            if got != Some(1) {
                return Err(CaptureError::Unsuitable {
                    path: name.into(),
                    why: format!(
                        "another session has been at work on it for {ALONE_SECONDS} seconds"
                    ),
                    hint: "Wait until it has ended (SHOW PROCESSLIST shows it), then run the command again.",
                });
            }
        }
        Ok(session)
    }

    /// Reads all tables of `name`, several at a time.
    fn dump_again(
        &self,
        name: &str,
        database: &LoadedDatabase<'_>,
        facts: &DatabaseFacts,
        catalogue: &Catalogue,
    ) -> Result<Dumped, CaptureError> {
        let client = self.connection.client_version()?;
        let is_counting_only = restorer::counts_only(facts);
        let jobs = MariadbSettings::deserialize(database.settings).map_or(1, |its| its.jobs);
        let mut shares: Vec<Vec<&str>> = vec![Vec::new(); jobs.clamp(1, JOBS_MAX)];
        let count = shares.len();
        for (number, table) in by_rows(facts, catalogue).into_iter().enumerate() {
            shares[number % count].push(table);
        }
        // A share without tables would be all of them.
        shares.retain(|share| !share.is_empty());
        let job = |tables| Job {
            connection: &self.connection,
            client,
            database: name,
            catalogue,
            cancel: database.cancel,
            sees_events: false,
            tables,
        };
        let read: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|share| {
                    let (begun, _) = std::sync::mpsc::channel();
                    let job = job(share);
                    scope.spawn(move || job.tables(is_counting_only, begun, &mut |_| Ok(())))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a dump does not panic"))
                .collect()
        });
        let mut all = Dumped::default();
        for dumped in read {
            let dumped = dumped?;
            all.tables.extend(dumped.tables);
            all.definitions.extend(dumped.definitions);
            all.sequences.extend(dumped.sequences);
            all.faults.extend(dumped.faults);
        }
        Ok(all)
    }

    /// Ends all sessions that have `name` as their database.
    fn end_sessions(&self, name: &str) -> Result<(), CaptureError> {
        let mut session = self.session()?;
        let ids: Vec<u64> = session
            .json(&format!(
                "SELECT id FROM information_schema.processlist WHERE db = {} AND id <> CONNECTION_ID() \
                 AND user NOT IN ('system user', 'event_scheduler')",
                sql::text(name)
            ))
            .map_err(asked("list the sessions"))?;
        for id in &ids {
            // It may have ended by itself, and an error ends the session that kills.
            let killed = session.execute(&format!("KILL CONNECTION {id}"));
            if killed.is_err() {
                session = self.session()?;
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let still = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id IN ({})",
            ids.join(", ")
        );
        // What a session does when it is told to end, it may finish first, or take back for a while. Who needs it to be over, waits for its locks.
        for _ in 0..END_TRIES {
            let count: u64 = session.value(&still).map_err(asked("list the sessions"))?;
            if count == 0 {
                break;
            }
            let waited = session.execute("DO SLEEP(0.1)");
            waited.map_err(asked("wait for sessions to end"))?;
        }
        Ok(())
    }
}

impl DatabaseServer for MariadbServer {
    fn observe(&self, wanted: &[WantedDatabase<'_>]) -> Result<ServerSeen, CaptureError> {
        let mut session = self.session()?;
        let failed = || asked("look at the server");
        let (version, case): (String, u8) = session
            .value("SELECT JSON_ARRAY(VERSION(), @@lower_case_table_names)")
            .map_err(failed())?;
        let mut seen = ServerSeen {
            server: format!("MariaDB {version} at {}", self.connection.place()),
            ..ServerSeen::default()
        };
        let privileges = Privileges::read(&mut session).map_err(failed())?;
        if !privileges.has("ALL PRIVILEGES") && !privileges.has("SUPER") {
            seen.warnings.push(
                "the account has not all privileges: a restore creates databases, objects of other definers and users".to_owned(),
            );
        }
        let existing = if privileges.has_in("SELECT", "mysql") {
            Some(accounts::existing(&mut session).map_err(failed())?)
        } else {
            None
        };
        for database in wanted {
            observe_one(&mut session, database, &mut seen)?;
            let Ok(facts) = Facts::deserialize(database.facts) else {
                let refusal = format!("{}: the backup holds no facts of it", database.original);
                seen.refusals.push(refusal);
                continue;
            };
            let was = version_in(&facts.server.version);
            if was > version_in(&version) {
                seen.refusals.push(format!(
                    "{}: comes from MariaDB {}, and the server is older; restore it into a server of that version or a later one",
                    database.original, facts.server.version
                ));
            }
            if case != facts.server.lower_case_table_names {
                seen.warnings.push(format!(
                    "{}: lower_case_table_names was {} when it was captured and is {case}: names of tables may clash or not be found",
                    database.original, facts.server.lower_case_table_names
                ));
            }
            let Some(facts) = facts.databases.get(database.original) else {
                let refusal = format!("{}: the backup holds no facts of it", database.original);
                seen.refusals.push(refusal);
                continue;
            };
            for table in unknown_tables(facts, database.options) {
                let refusal = format!("{}: the backup holds no table {table:?}", database.original);
                seen.refusals.push(refusal);
            }
            if !database.options.roles.is_empty() {
                seen.refusals.push(format!(
                    "{}: accounts cannot be put in the place of others on MariaDB: create those that are missing, or let the restore do it",
                    database.original
                ));
            }
            let Some(existing) = &existing else { continue };
            let missing: Vec<&str> = missing_accounts(facts, existing).collect();
            if !missing.is_empty() {
                seen.warnings.push(format!(
                    "{}: {} will be created, locked and without a password, with their grants on it",
                    database.original,
                    missing.join(", ")
                ));
            }
        }
        Ok(seen)
    }

    fn has(&self, name: &str) -> Result<bool, CaptureError> {
        exists(&mut self.session_alone(&[name])?, name)
    }

    fn begin_load<'l>(
        &'l self,
        job: LoadJob<'l>,
    ) -> Result<Box<dyn DatabaseLoad + 'l>, CaptureError> {
        let facts = facts_of(&job.database)?;
        if let Some(table) = unknown_tables(&facts, job.database.options).pop() {
            return Err(CaptureError::Unsuitable {
                path: table.into(),
                why: "there is no such table in the backup".to_owned(),
                hint: "Name tables as the backup has them.",
            });
        }
        self.drop_database(job.name)?;
        let mut session = self.session_alone(&[job.name])?;
        session
            .execute(&format!(
                "CREATE DATABASE {} CHARACTER SET {} COLLATE {}",
                sql::name(job.name),
                sql::name(&facts.character_set),
                sql::name(&facts.collation)
            ))
            .map_err(asked(&format!("create the database {:?}", job.name)))?;
        Ok(Box::new(load::Load::new(self, job, facts)))
    }

    fn prove(&self, name: &str, database: &LoadedDatabase<'_>) -> Result<Proof, CaptureError> {
        let facts = facts_of(database)?;
        let mut session = self.session()?;
        let read = Catalogue::read(&mut session, name).map_err(asked("read the catalogue"))?;
        let Some(mut catalogue) = read else {
            return Err(CaptureError::Unsuitable {
                path: name.into(),
                why: "there is no such database".to_owned(),
                hint: "Run the restore again; it loads the database anew.",
            });
        };
        stowage::forget(&mut catalogue);
        let dumped = self.dump_again(name, database, &facts, &catalogue)?;
        let mut proof = Proof::default();
        let only = plain_names(&database.options.tables);
        restorer::compare(name, &facts, &dumped, &only, &mut proof);
        Ok(proof)
    }

    fn swap_in(&self, names: &SwapNames<'_>) -> Result<(), CaptureError> {
        self.exchange(names.live, (names.new, names.old), names.replaces)
    }

    fn swap_back(&self, names: &SwapNames<'_>) -> Result<(), CaptureError> {
        self.exchange(names.live, (names.old, names.new), true)
    }

    fn drop_database(&self, name: &str) -> Result<(), CaptureError> {
        let mut session = self.session_alone(&[name])?;
        if !exists(&mut session, name)? {
            return Ok(());
        }
        self.end_sessions(name)?;
        drop::drop_database(name, session, || self.session_alone(&[name]))
    }
}

/// The tables of a catalogue, those with most rows first.
fn by_rows<'c>(facts: &DatabaseFacts, catalogue: &'c Catalogue) -> Vec<&'c str> {
    let mut tables: Vec<&str> = catalogue.tables.keys().map(String::as_str).collect();
    tables.sort_by_key(|table| {
        std::cmp::Reverse(facts.tables.get(*table).and_then(TableFacts::rows))
    });
    tables
}

fn observe_one(
    session: &mut Session,
    database: &WantedDatabase<'_>,
    seen: &mut ServerSeen,
) -> Result<(), CaptureError> {
    if !exists(session, database.name)? {
        return Ok(());
    }
    let wanted = sql::text(database.name);
    let (size_bytes, sessions) = session
        .value(&format!(
            "SELECT JSON_ARRAY((SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS UNSIGNED) \
             FROM information_schema.tables WHERE table_schema = {wanted}), \
             (SELECT COUNT(*) FROM information_schema.processlist WHERE db = {wanted}))"
        ))
        .map_err(asked("look at the databases"))?;
    let its = DatabaseSeen {
        size_bytes,
        sessions,
    };
    seen.databases.insert(database.name.to_owned(), its);
    Ok(())
}

fn missing_accounts<'f>(
    facts: &'f DatabaseFacts,
    existing: &'f BTreeSet<String>,
) -> impl Iterator<Item = &'f str> {
    let names = facts.accounts.keys().map(String::as_str);
    names.filter(|name| !existing.contains(*name))
}

fn exists(session: &mut Session, name: &str) -> Result<bool, CaptureError> {
    let count: u64 = session
        .value(&format!(
            "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {}",
            sql::text(name)
        ))
        .map_err(asked("list the databases"))?;
    Ok(count > 0)
}

fn facts_of(database: &LoadedDatabase<'_>) -> Result<DatabaseFacts, CaptureError> {
    let mut facts = Facts::deserialize(database.facts)
        .map_err(CaptureError::library("read the facts in the manifest"))?;
    facts
        .databases
        .remove(database.original)
        .ok_or_else(|| CaptureError::Unsuitable {
            path: database.original.into(),
            why: "the backup holds no facts of this database".to_owned(),
            hint: "Choose a backup that holds the database whole.",
        })
}

/// Tables that were asked for and are not in the backup.
fn unknown_tables(facts: &DatabaseFacts, options: &LoadOptions) -> Vec<String> {
    let mut asked = plain_names(&options.tables);
    asked.retain(|table| !facts.tables.contains_key(table));
    asked.into_iter().collect()
}

/// The names of tables that may have their database before them.
fn plain_names(tables: &BTreeSet<String>) -> BTreeSet<String> {
    tables
        .iter()
        .map(|table| match table.split_once('.') {
            Some((_, table)) => table.to_owned(),
            None => table.clone(),
        })
        .collect()
}
