//! One position for everything: commits are held back while the snapshots are opened.
//!
//! `BACKUP STAGE BLOCK_COMMIT` lets reading go on and waits for no long query; it holds back commits, writes to tables without
//! transactions, sequences and changes of definitions. Where the server does not know it, `FLUSH TABLES WITH READ LOCK`
//! does the same, and waits for running queries. Either waits a bounded time.

use strongroom_core::source::CaptureError;

use super::connection::Connection;
use super::session::{Session, SessionError};

/// How long the lock may take, in seconds: writers wait as long.
const LOCK_WAIT_SECONDS: u32 = 20;

const ER_PARSE_ERROR: u32 = 1064;
const ER_LOCK_WAIT_TIMEOUT: u32 = 1205;
const ACCESS_DENIED: [u32; 3] = [1044, 1045, 1227];

/// A session that holds commits back, or tells why it cannot.
pub(super) struct Lock {
    session: Session,
    /// What gives the lock up; none if there is none.
    release: Option<&'static str>,
}

impl Lock {
    /// Waits for the lock, and goes without where the account may not have it.
    pub(super) fn take(connection: &Connection) -> Result<Self, CaptureError> {
        let ways = [
            (
                &["BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"][..],
                "BACKUP STAGE END",
            ),
            (&["FLUSH TABLES WITH READ LOCK"][..], "UNLOCK TABLES"),
        ];
        for (statements, release) in ways {
            let mut session = Session::open(connection)?;
            match lock(&mut session, statements) {
                Ok(()) => {
                    return Ok(Self {
                        session,
                        release: Some(release),
                    });
                }
                Err(error) => match error.number() {
                    Some(ER_PARSE_ERROR) => {}
                    Some(number) if ACCESS_DENIED.contains(&number) => break,
                    Some(ER_LOCK_WAIT_TIMEOUT) => {
                        let blockers = blockers(connection);
                        return Err(CaptureError::library(format!(
                            "hold commits back within {LOCK_WAIT_SECONDS} seconds{blockers}"
                        ))(error));
                    }
                    _ => return Err(CaptureError::library("hold commits back")(error)),
                },
            }
        }
        Ok(Self {
            session: Session::open(connection)?,
            release: None,
        })
    }

    /// Whether commits are held back.
    pub(super) fn is_held(&self) -> bool {
        self.release.is_some()
    }

    /// The session that holds the lock.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Gives the lock up. Writers go on.
    pub(super) fn release(&mut self) -> Result<(), CaptureError> {
        match self.release.take() {
            Some(statement) => self
                .session
                .execute(statement)
                .map_err(CaptureError::library("let commits go on")),
            None => Ok(()),
        }
    }
}

fn lock(session: &mut Session, statements: &[&str]) -> Result<(), SessionError> {
    session.execute(&format!(
        "SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}"
    ))?;
    for statement in statements {
        session.execute(statement)?;
    }
    Ok(())
}

/// Who is at work for longest, in words; nothing where the account may not see it.
fn blockers(connection: &Connection) -> String {
    type Row = (u64, String, u64, Option<String>);
    let asked = Session::open(connection).map(|mut session| {
        session.json::<Row>(
            "SELECT JSON_ARRAY(id, user, time, state) FROM information_schema.processlist \
             WHERE id <> CONNECTION_ID() AND command IN ('Query', 'Execute') ORDER BY time DESC LIMIT 3",
        )
    });
    let Ok(Ok(rows)) = asked else {
        return String::new();
    };
    let told: Vec<String> = rows
        .into_iter()
        .map(|(id, user, time, state)| {
            let state = state.unwrap_or_default();
            format!("session {id} of {user:?}, {time} s, {state:?}")
        })
        .collect();
    if told.is_empty() {
        String::new()
    } else {
        format!("; at work: {}", told.join("; "))
    }
}
