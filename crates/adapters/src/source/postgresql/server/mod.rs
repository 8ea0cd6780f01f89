//! Restores databases into a PostgreSQL server: the port [`strongroom_core::source::server`].
//!
//! Everything goes through the stock programs: `psql` for questions and rows, `pg_restore` for the schema, `vacuumdb` for statistics.
//! Nothing here takes a backup, and nothing touches a live database but [`swap`].
//!
//! # A load
//!
//! 1. What lies under the name is dropped, missing roles are made (all or none, without passwords), then the database.
//! 2. The schema, taken apart by [`archive`]: what rows need goes to `pg_restore --exit-on-error`. What every new database has is left
//!    out, so that no error has to be tolerated. Privileges wait for the end, so that an owner without `INSERT` hinders nothing.
//! 3. Rows, several tables at a time ([`rows`]): one transaction a table, emptied first, frozen at once, committed when
//!    the content has ended well and the server has counted what was captured.
//! 4. Sequences; indexes, constraints, triggers and privileges by `pg_restore`; materialised views in their order; settings, grants and
//!    comment of the database; statistics.
//!
//! With single tables the schema is whole and foreign keys are left out. Other roles take the place of those of the backup by new
//! names in the archive, not by reassigning: what roles of the same name own in other databases is not touched.
//!
//! # A swap
//!
//! | live | new | old | what it is | `swap_in` | `swap_back` |
//! |---|---|---|---|---|---|
//! | open | yes | no | not begun, or undone | swaps | nothing |
//! | closed | yes | no | interrupted before the renames | swaps | opens live |
//! | closed | no | closed | interrupted after the renames | opens live | swaps |
//! | open | no | closed | done | nothing | swaps |
//! | no | yes | no | the name was free | renames, and leaves a mark in `keep` | nothing |
//! | open | no | no | signed off; or the name was free, by the mark | nothing | by the mark: renames |

pub mod archive;
mod load;
mod observe;
mod prove;
mod rows;
mod swap;
mod wanted;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use strongroom_core::cancel::Cancel;
use strongroom_core::source::server::{
    DatabaseLoad, DatabaseServer, LoadJob, LoadedDatabase, ServerSeen, SwapNames, WantedDatabase,
};
use strongroom_core::source::{CaptureError, Proof};

use super::conninfo::conninfo;
use super::programs::Programs;
use super::session::{Session, literal};
use super::settings::Connection;

/// Where questions about the whole server are asked: one of these is always there.
const MAINTENANCE: [&str; 2] = ["postgres", "template1"];

/// A rename must outlive a crash of the machine; with it, all that was committed before is written.
const DURABLE: &str = "SET synchronous_commit = on; SET default_transaction_read_only = off";

/// The first number of the advisory locks that keep two runs from changing the same database; the second is of its name.
const ALONE: i32 = 0x7374_726f;

/// How long a session waits for one that an interrupted run left behind.
const ALONE_SECONDS: u32 = 120;

/// The wait for a lock was too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A PostgreSQL server that databases are restored into.
#[derive(Clone, Debug)]
pub struct PostgresqlServer {
    connection: Connection,
}

impl PostgresqlServer {
    /// The server of these settings; nothing is asked of it yet.
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Opens a session in a database.
    fn open(&self, database: &str, cancel: &Cancel) -> Result<Session, CaptureError> {
        let client = Programs::first(&self.connection)?.client(&self.connection);
        let target = conninfo(&self.connection.settings, Some(database));
        Session::open(&client, &target, cancel).map_err(|error| {
            let place = self.connection.place();
            error.while_doing(format!("connect to database {database:?} at {place}"))
        })
    }

    /// Opens a session from which databases can be made, renamed and dropped: in none of `names`, and the only such session
    /// for each of them.
    fn maintenance(&self, names: &[&str], cancel: &Cancel) -> Result<Session, CaptureError> {
        let mut failure = None;
        for database in MAINTENANCE {
            if names.contains(&database) {
                continue;
            }
            match self.open(database, cancel) {
                Ok(mut session) => {
                    execute(&mut session, "prepare a session", DURABLE)?;
                    self.alone(&mut session, names)?;
                    return Ok(session);
                }
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            self.unsuitable(
                format!("{names:?} are the databases that questions are asked from"),
                "Restore under another name, or restore postgres and template1 one after the other.",
            )
        }))
    }

    /// Waits until no other session of [`Self::maintenance`] works on these databases.
    ///
    /// A server finishes the statement of a client that was killed: what an interrupted run was doing may become true only
    /// now. The lock ends with its session, so that nothing of it outlives the statement or the server.
    fn alone(&self, session: &mut Session, names: &[&str]) -> Result<(), CaptureError> {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        let wait = "wait for other sessions";
        execute(
            session,
            wait,
            &format!("SET lock_timeout = '{ALONE_SECONDS}s'"),
        )?;
        for name in names {
            let lock = format!(
                "SELECT pg_catalog.pg_advisory_lock({ALONE}, pg_catalog.hashtext({}))",
                literal(name)
            );
            match session.execute(&lock) {
                Ok(()) => {}
                Err(error) if error.sqlstate() == Some(LOCK_NOT_AVAILABLE) => {
                    return Err(self.unsuitable(
                        format!("another session has been at work on database {name:?} for {ALONE_SECONDS} seconds"),
                        "Wait until it has ended (pg_stat_activity shows it), then run the command again.",
                    ));
                }
                Err(error) => return Err(error.while_doing(wait)),
            }
        }
        execute(session, wait, "SET lock_timeout = 0")
    }

    /// An error about this server.
    fn unsuitable(&self, why: String, hint: &'static str) -> CaptureError {
        CaptureError::Unsuitable {
            path: self.connection.place().into(),
            why,
            hint,
        }
    }

    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.connection.settings.jobs.clamp(1, cores.max(2))
    }
}

impl DatabaseServer for PostgresqlServer {
    fn observe(&self, wanted: &[WantedDatabase<'_>]) -> Result<ServerSeen, CaptureError> {
        observe::observe(self, wanted)
    }

    fn has(&self, name: &str) -> Result<bool, CaptureError> {
        let mut session = self.maintenance(&[name], &Cancel::default())?;
        exists(&mut session, name)
    }

    fn begin_load<'l>(
        &'l self,
        job: LoadJob<'l>,
    ) -> Result<Box<dyn DatabaseLoad + 'l>, CaptureError> {
        Ok(Box::new(load::Load::begin(self, job)?))
    }

    fn prove(&self, name: &str, database: &LoadedDatabase<'_>) -> Result<Proof, CaptureError> {
        prove::prove(self, name, database)
    }

    fn swap_in(&self, names: &SwapNames<'_>) -> Result<(), CaptureError> {
        swap::swap_in(self, names)
    }

    fn swap_back(&self, names: &SwapNames<'_>) -> Result<(), CaptureError> {
        swap::swap_back(self, names)
    }

    fn drop_database(&self, name: &str) -> Result<(), CaptureError> {
        swap::drop_database(self, name, &Cancel::default())
    }
}

/// Whether there is a database of that name.
fn exists(session: &mut Session, name: &str) -> Result<bool, CaptureError> {
    let name = literal(name);
    ask(
        session,
        "look for a database",
        &format!(
            "SELECT to_json(EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = {name}))"
        ),
    )
}

/// Asks for one value, and says what for if that fails.
fn ask<T: DeserializeOwned>(
    session: &mut Session,
    operation: &str,
    sql: &str,
) -> Result<T, CaptureError> {
    session
        .read(sql)
        .map_err(|error| error.while_doing(operation))
}

/// Executes statements, and says what for if that fails.
fn execute(session: &mut Session, operation: &str, sql: &str) -> Result<(), CaptureError> {
    session
        .execute(sql)
        .map_err(|error| error.while_doing(operation))
}
