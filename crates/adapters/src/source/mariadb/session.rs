//! A session with the server: the stock client as a coprocess that answers one question after the other.
//!
//! Each question is followed by one for a marker, whose answer ends the answer. The client runs without `--force`: the
//! first error ends it, so an answer without its marker is an error, and the reason is what the client said. A lost connection is never
//! made anew, because locks and snapshots would be lost with it. Values come as JSON, one row a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};

use serde::de::DeserializeOwned;
use strongroom_core::source::CaptureError;

use super::connection::{Connection, error_number, plain_session};
use crate::client::{ClientError, Running};

/// What every session begins with: nothing of the server's configuration may change what is read, or end a session that waits.
const PINNED: &str = "SET SESSION sql_mode = '', time_zone = '+00:00', max_statement_time = 0, sql_select_limit = DEFAULT, \
     wait_timeout = 86400, net_read_timeout = 3600, net_write_timeout = 3600, group_concat_max_len = 1073741824, \
     idle_transaction_timeout = 0, idle_readonly_transaction_timeout = 0, idle_write_transaction_timeout = 0";

/// A session; ended when it is dropped.
pub(super) struct Session {
    running: Option<Running>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    questions: u64,
}

/// The server, its client or the way between them failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The client ended.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The session ended before.
    #[error("the session with the server is over")]
    Over,
    /// An answer is not what the question asks for.
    #[error("the server answered in another form than it was asked for")]
    Answer(#[source] serde_json::Error),
}

impl SessionError {
    /// The server's number for the error.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Self::Client(error) => error_number(error),
            _ => None,
        }
    }
}

impl Session {
    /// Logs in.
    pub(super) fn open(connection: &Connection) -> Result<Self, CaptureError> {
        let place = connection.place();
        Self::start(connection).map_err(CaptureError::library(format!(
            "open a session with MariaDB at {place}"
        )))
    }

    fn start(connection: &Connection) -> Result<Self, SessionError> {
        let mut running = connection.start("mariadb", &plain_session())?;
        let mut session = Self {
            stdin: running.stdin(),
            stdout: BufReader::new(running.stdout()),
            running: Some(running),
            questions: 0,
        };
        session.execute(PINNED)?;
        Ok(session)
    }

    /// Runs a statement that answers nothing.
    pub(super) fn execute(&mut self, sql: &str) -> Result<(), SessionError> {
        self.lines(sql).map(drop)
    }

    /// Runs a statement and returns its rows, tabs between the columns.
    pub(super) fn lines(&mut self, sql: &str) -> Result<Vec<String>, SessionError> {
        self.questions += 1;
        let marker = format!("strongroom-answer-{}", self.questions);
        let question = format!("{sql};\nSELECT '{marker}';\n");
        let asked = self.stdin.write_all(question.as_bytes());
        if let Err(error) = asked.and_then(|()| self.stdin.flush()) {
            return Err(self.ended(error));
        }
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            match self.stdout.read_until(b'\n', &mut line) {
                Ok(0) => return Err(self.ended(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(self.ended(error)),
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line == marker.as_bytes() {
                return Ok(lines);
            }
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
    }

    /// Runs a statement whose rows are one JSON value each.
    pub(super) fn json<T: DeserializeOwned>(&mut self, sql: &str) -> Result<Vec<T>, SessionError> {
        let lines = self.lines(sql)?;
        lines
            .iter()
            .map(|line| serde_json::from_str(line).map_err(SessionError::Answer))
            .collect()
    }

    /// Runs a statement with one row of one JSON value.
    pub(super) fn value<T: DeserializeOwned>(&mut self, sql: &str) -> Result<T, SessionError> {
        let line = self.lines(sql)?.into_iter().next().unwrap_or_default();
        serde_json::from_str(&line).map_err(SessionError::Answer)
    }

    fn ended(&mut self, error: std::io::Error) -> SessionError {
        match self.running.take() {
            Some(running) => SessionError::Client(running.broken("ask", error)),
            None => SessionError::Over,
        }
    }
}
