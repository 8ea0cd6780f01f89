//! One consistent cut of a database: a transaction that exports its snapshot and keeps every table that is read from being
//! changed in shape.
//!
//! A snapshot protects rows, not tables: one that is dropped, truncated or rewritten between the snapshot and the lock is
//! lost for it. That is found out, and the cut is made anew.

use serde::Deserialize;

use super::catalogue::{self, Table};
use super::session::{Session, SessionError};

/// How often a cut is made anew.
const TRIES: u32 = 3;

/// Tables locked by one statement.
const TABLES_A_LOCK: usize = 100;

/// After one table could not be locked, the others are waited for this long, in milliseconds.
const IMPATIENT: u64 = 1000;

/// What fixes the form of every value, whatever the database, the role or the server say: the settings of `pg_dump`, and the time zone.
pub(super) const PINNED: &str = "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; \
    SET timezone = 'UTC'; SET bytea_output = 'hex'; SET synchronize_seqscans = off; SET row_security = off; \
    SET xmloption = content; SET lock_timeout = 0; SET quote_all_identifiers = off; SET check_function_bodies = off";

/// How a transaction of the cut begins.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The cut of a database.
pub(super) struct Cut {
    /// For `SET TRANSACTION SNAPSHOT`.
    pub(super) snapshot: String,
    /// All tables.
    pub(super) tables: Vec<Table>,
    /// Tables that cannot be read at all, and why.
    pub(super) unreadable: Vec<(Table, String)>,
}

impl Cut {
    /// Makes a cut in the session's database; the session must stay, and its transaction with it.
    pub(super) fn make(session: &mut Session, lock_timeout: u64) -> Result<Self, SessionError> {
        session.execute(PINNED)?;
        let mut tries = TRIES;
        loop {
            session.execute(BEGIN)?;
            let snapshot: String = session.read("SELECT to_json(pg_export_snapshot())")?;
            let tables = catalogue::tables(session)?;
            let mut cut = Self {
                snapshot,
                tables,
                unreadable: Vec::new(),
            };
            tries -= 1;
            match cut.lock(session, lock_timeout)? {
                Locked::All => return Ok(cut),
                Locked::Changed(names) if tries == 0 => {
                    for table in cut.tables.clone() {
                        if names.contains(&table.key()) {
                            cut.unreadable.push((
                                table,
                                "it is dropped, truncated or rewritten again and again while the backup begins".to_owned(),
                            ));
                        }
                    }
                    return Ok(cut);
                }
                Locked::Changed(_) => session.execute("ROLLBACK")?,
            }
        }
    }

    /// Whether a table can be read.
    pub(super) fn can_read(&self, table: &Table) -> bool {
        !self
            .unreadable
            .iter()
            .any(|(other, _)| other.oid == table.oid)
    }

    fn lock(&mut self, session: &mut Session, lock_timeout: u64) -> Result<Locked, SessionError> {
        let mut changed = Vec::new();
        let mut locked = Vec::new();
        let mut patience = lock_timeout.saturating_mul(1000).max(1);
        let lockable: Vec<Table> = self
            .tables
            .iter()
            .filter(|table| table.is_lockable())
            .cloned()
            .collect();
        let (readable, forbidden): (Vec<Table>, Vec<Table>) =
            lockable.into_iter().partition(|table| table.is_readable);
        for table in forbidden {
            let why = format!(
                "the role has no SELECT privilege; GRANT SELECT ON {} to it, or make it a member of pg_read_all_data",
                table.quoted()
            );
            self.unreadable.push((table, why));
        }
        for group in readable.chunks(TABLES_A_LOCK) {
            match lock(session, group, patience) {
                Ok(()) => {
                    locked.extend_from_slice(group);
                    continue;
                }
                Err(SessionError::Sql { .. }) => {}
                Err(error) => return Err(error),
            }
            for table in group {
                let error = match lock(session, std::slice::from_ref(table), patience) {
                    Ok(()) => {
                        locked.push(table.clone());
                        continue;
                    }
                    Err(error) if error.is_end() => return Err(error),
                    Err(error) => error,
                };
                match error.sqlstate() {
                    // Undefined table or schema.
                    Some("42P01" | "3F000") => changed.push(table.key()),
                    Some("55P03") => {
                        patience = patience.min(IMPATIENT);
                        let who = holders(session, table)?;
                        let why = format!(
                            "it is locked{who}; wait for that session or end it, or raise lock_timeout"
                        );
                        self.unreadable.push((table.clone(), why));
                    }
                    _ => self.unreadable.push((table.clone(), error.to_string())),
                }
            }
        }
        session.execute("SET LOCAL lock_timeout = 0")?;
        let rewritten = catalogue::rewritten(session, &locked)?;
        for table in &locked {
            if rewritten.contains(&table.oid.to_string()) {
                changed.push(table.key());
            }
        }
        let sizes = catalogue::sizes(session, &locked)?;
        for table in &mut self.tables {
            table.size = sizes.get(&table.oid.to_string()).copied().unwrap_or(0);
        }
        if changed.is_empty() {
            Ok(Locked::All)
        } else {
            Ok(Locked::Changed(changed))
        }
    }
}

enum Locked {
    All,
    /// Keys of tables that are not what the snapshot sees.
    Changed(Vec<String>),
}

/// Locks tables, or none of them; the transaction goes on either way.
fn lock(session: &mut Session, tables: &[Table], patience: u64) -> Result<(), SessionError> {
    let names: Vec<String> = tables
        .iter()
        .map(|table| format!("ONLY {}", table.quoted()))
        .collect();
    try_in(session, |session| {
        session.execute(&format!("SET LOCAL lock_timeout = '{patience}ms'"))?;
        session.execute(&format!(
            "LOCK TABLE {} IN ACCESS SHARE MODE",
            names.join(", ")
        ))
    })
}

/// Does something that may fail, so that the transaction outlives it.
pub(super) fn try_in<T>(
    session: &mut Session,
    work: impl FnOnce(&mut Session) -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    session.execute("SAVEPOINT attempt")?;
    let done = work(session);
    match &done {
        Err(error) if error.is_end() => {}
        Ok(_) => session.execute("RELEASE SAVEPOINT attempt")?,
        Err(_) => session.execute("ROLLBACK TO SAVEPOINT attempt")?,
    }
    done
}

#[derive(Deserialize)]
struct Holder {
    pid: i64,
    user: Option<String>,
    application: Option<String>,
    mode: String,
}

/// Who holds a lock that stands in the way, in words.
fn holders(session: &mut Session, table: &Table) -> Result<String, SessionError> {
    let holders: Vec<Holder> = session.read(&format!(
        "SELECT coalesce(json_agg(json_build_object('pid', l.pid, 'user', a.usename, 'application', a.application_name, 'mode', l.mode)), '[]') \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.relation = {} AND l.granted AND l.mode = 'AccessExclusiveLock' AND l.pid IS NOT NULL",
        table.oid
    ))?;
    let words: Vec<String> = holders
        .iter()
        .map(|holder| {
            format!(
                "process {} (user {}, application {:?}, {})",
                holder.pid,
                holder.user.as_deref().unwrap_or("unknown"),
                holder.application.as_deref().unwrap_or_default(),
                holder.mode
            )
        })
        .collect();
    if words.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(" by {}", words.join(", ")))
}
