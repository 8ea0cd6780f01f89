//! A connection to the server: a `psql` that stays, is given statements and answers.
//!
//! Every answer ends with a line that holds a number nobody else knows, so that no content can pass for the end of an answer. A statement
//! that fails leaves the session usable; a `psql` that ends does not. Nothing here knows what the statements are for.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::process::{ChildStdin, ChildStdout};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strongroom_core::cancel::{Cancel, Interrupted};
use strongroom_core::source::CaptureError;

use crate::client::{Client, ClientError, Running};

/// How soon an interruption is noticed while the server works, in nanoseconds.
const ATTENTION: i64 = 100_000_000;

/// How `psql` ends at an error of a statement; 2 is a lost connection.
const STOPPED: i32 = 3;

/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// How much the system keeps between psql and this program, where it allows that.
const PIPE_BYTES: usize = 1024 * 1024;

/// An answer that is longer than this is none: the facts of a hundred thousand tables are shorter.
const ANSWER_MAX: usize = 1 << 30;

/// What every session sets first: nothing of the server's or the user's configuration changes what is read.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET search_path = ''; SET standard_conforming_strings = on; \
    SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning;";

/// Settings that older servers do not have: no limit for idle sessions and transactions, and work stops when nobody waits for it.
const NEWER_SETTINGS: &str = "SELECT set_config(name, value, false) FROM (VALUES \
    ('idle_session_timeout', '0'), ('transaction_timeout', '0')) AS wanted(name, value) \
    WHERE EXISTS (SELECT FROM pg_catalog.pg_settings AS s WHERE s.name = wanted.name)";

/// Not on every platform, so that its failure is no matter.
const NOTICE_THE_END: &str = "SET client_connection_check_interval = '2s'";

/// Why a statement was of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server refused it; the session goes on.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Sql {
        /// Five letters and digits, as in the appendix of PostgreSQL's manual.
        sqlstate: String,
        /// The server's primary message.
        message: String,
    },
    /// A copy broke off, and the session with it.
    #[error("{message}")]
    Copy {
        /// The server's message.
        message: String,
    },
    /// There is no connection, or not any more.
    #[error("the connection to the server is lost")]
    Lost(#[source] ClientError),
    /// `psql` did not come about.
    #[error("cannot connect to the server")]
    Connect(#[source] ClientError),
    /// The answer is not of the form that was asked for.
    #[error("the server answers in another form than expected: {0}")]
    Answer(String),
    /// The session was given up before.
    #[error("the session has ended")]
    Ended,
    /// The operator interrupted; the session is over.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl SessionError {
    /// The SQLSTATE, if the server refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Sql { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// Whether nothing more can be asked of the session.
    pub const fn is_end(&self) -> bool {
        !matches!(self, Self::Sql { .. } | Self::Answer(_))
    }

    /// As an error of a capture.
    pub fn while_doing(self, operation: impl Into<String>) -> CaptureError {
        match self {
            Self::Interrupted(interrupted) => interrupted.into(),
            other => CaptureError::library(operation)(other),
        }
    }
}

/// An identifier as SQL wants it.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name with that of its schema, as SQL wants it.
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(name))
}

/// Columns in parentheses, with a blank before; nothing where there is none.
pub fn column_list(columns: &[String]) -> String {
    if columns.is_empty() {
        return String::new();
    }
    let columns: Vec<String> = columns.iter().map(|name| identifier(name)).collect();
    format!(" ({})", columns.join(", "))
}

/// A string as SQL wants it, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A `psql` connected to one database.
pub struct Session {
    /// None once it has ended.
    running: Option<Running>,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Begins the line that ends an answer; no line of COPY text begins like that.
    marker: String,
    cancel: Cancel,
    version: u32,
    is_local: bool,
}

/// How a statement ended.
struct End {
    is_error: bool,
    sqlstate: String,
    rows: Option<u64>,
}

impl Session {
    /// Connects, and fixes encoding and settings. `cancel` also ends a statement that is being answered.
    pub fn open(client: &Client, conninfo: &str, cancel: &Cancel) -> Result<Self, SessionError> {
        let arguments = [
            "-X",
            "-A",
            "-t",
            "-q",
            "-w",
            "-v",
            "ON_ERROR_STOP=0",
            "-v",
            "VERBOSITY=terse",
            "-d",
            conninfo,
        ];
        let mut running = client
            .start("psql", &arguments)
            .map_err(SessionError::Connect)?;
        let (stdin, stdout) = (running.stdin(), running.stdout());
        // Fewer, larger reads; a smaller pipe does as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES);
        let mut session = Self {
            running: Some(running),
            stdin,
            stdout,
            marker: format!("\\M{:016x}{:016x}", random(), random()),
            cancel: cancel.clone(),
            version: 0,
            is_local: client.is_local(),
        };
        let connected = |error| match error {
            SessionError::Lost(error) => SessionError::Connect(error),
            other => other,
        };
        session.execute(SETTINGS).map_err(connected)?;
        session.execute(NEWER_SETTINGS)?;
        match session.execute(NOTICE_THE_END) {
            Ok(()) | Err(SessionError::Sql { .. }) => {}
            Err(error) => return Err(error),
        }
        let version =
            session.query("SELECT to_json(current_setting('server_version_num')::int)")?;
        session.version = version
            .as_u64()
            .and_then(|version| u32::try_from(version).ok())
            .ok_or_else(|| SessionError::Answer(version.to_string()))?;
        Ok(session)
    }

    /// The server's version: 150008 is 15.8, 90624 is 9.6.24.
    pub const fn server_version(&self) -> u32 {
        self.version
    }

    /// The server's major version.
    pub const fn server_major(&self) -> u32 {
        self.version / 10_000
    }

    /// Asks for one value of type `json` or `jsonb`; none, or a NULL, is `null`.
    pub fn query(&mut self, sql: &str) -> Result<serde_json::Value, SessionError> {
        let mut answer = Vec::new();
        self.run(sql, ";", |bytes| {
            if answer.len() + bytes.len() > ANSWER_MAX {
                return Err(SessionError::Answer("it is too long".to_owned()));
            }
            answer.extend_from_slice(bytes);
            Ok(())
        })?;
        let text = String::from_utf8_lossy(&answer);
        let text = text.trim();
        if text.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_str(text).map_err(|error| SessionError::Answer(error.to_string()))
    }

    /// Asks for one value that reads as `T`.
    pub fn read<T: serde::de::DeserializeOwned>(&mut self, sql: &str) -> Result<T, SessionError> {
        serde_json::from_value(self.query(sql)?)
            .map_err(|error| SessionError::Answer(error.to_string()))
    }

    /// Executes statements without an answer; the last one's failure is the error.
    pub fn execute(&mut self, sql: &str) -> Result<(), SessionError> {
        self.run(sql, ";", |_| Ok::<(), SessionError>(())).map(drop)
    }

    /// Copies out: hands every block of what `COPY ... TO STDOUT` yields to `take`, and returns the rows that the server says it was, where `psql` tells.
    ///
    /// A failure ends the session. That is how it is known at all: psql 15 sets none of its variables when a copy breaks off in the middle,
    /// but it does end where it is told to stop at errors.
    pub fn copy_out<E: From<SessionError>>(
        &mut self,
        sql: &str,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        // Only what is written to a file or a pipe is counted by psql.
        let terminator = if self.is_local {
            "\\g /dev/stdout"
        } else {
            "\\g |cat"
        };
        // The first statement sets the count to 0, where this psql does not set it for a copy.
        let sql = format!("SET search_path = '';\n\\set ON_ERROR_STOP on\n{sql}");
        let after = format!("{terminator}\n\\set ON_ERROR_STOP off");
        self.run(&sql, &after, take)
    }

    /// Sends a statement, hands on what comes back, and tells how it ended.
    fn run<E: From<SessionError>>(
        &mut self,
        sql: &str,
        terminator: &str,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        let marker = self.marker.clone();
        // In single quotes psql reads the backslash as an escape.
        let shown = marker.replace('\\', "\\\\");
        let ending = format!("\n{terminator}\n\\echo '{shown}' :ERROR :SQLSTATE :ROW_COUNT\n");
        let end = match self.exchange(&[sql, &ending], take) {
            Ok(end) => end,
            Err(error) => {
                // Nobody knows any more where the next answer begins.
                self.running = None;
                return Err(error);
            }
        };
        if !end.is_error {
            return Ok(end.rows);
        }
        let mut message = Vec::new();
        let ask =
            format!("\\echo :LAST_ERROR_MESSAGE\n\\echo '{shown}' :ERROR :SQLSTATE :ROW_COUNT\n");
        self.exchange(&[&ask], |bytes| {
            message.extend_from_slice(bytes);
            Ok::<(), SessionError>(())
        })?;
        Err(SessionError::Sql {
            sqlstate: end.sqlstate,
            message: String::from_utf8_lossy(&message).trim().to_owned(),
        }
        .into())
    }

    /// Writes, and reads up to the marker's line. `psql` then waits, so the marker always ends what there is to read.
    fn exchange<E: From<SessionError>>(
        &mut self,
        texts: &[&str],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<End, E> {
        if self.running.is_none() {
            return Err(SessionError::Ended.into());
        }
        for text in texts {
            if let Err(error) = self.stdin.write_all(text.as_bytes()) {
                return Err(self.lost(error).into());
            }
        }
        // The longest line that can end an answer: marker, two words and a number.
        let tail = self.marker.len() + 64;
        let mut block = vec![0; BLOCK_BYTES + tail];
        let mut filled = 0;
        loop {
            self.wait()?;
            match self.stdout.read(&mut block[filled..]) {
                Ok(0) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into()).into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.lost(error).into()),
            }
            if let Some(begin) = self.end_of_answer(&block[..filled]) {
                let end = self.parse_end(&block[begin..filled])?;
                if begin > 0 {
                    take(&block[..begin])?;
                }
                return Ok(end);
            }
            // A large piece at a time, and never a part of the marker's line.
            if filled >= BLOCK_BYTES {
                let give = filled - tail;
                take(&block[..give])?;
                block.copy_within(give..filled, 0);
                filled = tail;
            }
        }
    }

    /// Where the marker's line begins, if the block ends with it.
    fn end_of_answer(&self, block: &[u8]) -> Option<usize> {
        let (&last, before) = block.split_last()?;
        if last != b'\n' {
            return None;
        }
        let begin = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        block[begin..]
            .starts_with(self.marker.as_bytes())
            .then_some(begin)
    }

    fn parse_end(&self, line: &[u8]) -> Result<End, SessionError> {
        let line = String::from_utf8_lossy(line);
        let mut words = line[self.marker.len()..].split_whitespace();
        let (error, sqlstate, rows) = (words.next(), words.next(), words.next());
        let is_error = match error {
            Some("true") => true,
            Some("false") => false,
            _ => {
                return Err(SessionError::Answer(
                    "psql does not tell whether a statement failed; version 11 or newer is needed"
                        .to_owned(),
                ));
            }
        };
        Ok(End {
            is_error,
            sqlstate: sqlstate.unwrap_or_default().to_owned(),
            rows: rows.and_then(|rows| rows.parse().ok()),
        })
    }

    /// Waits until there is something to read, and looks at the cancel flag meanwhile.
    fn wait(&mut self) -> Result<(), SessionError> {
        loop {
            if let Err(interrupted) = self.cancel.check() {
                self.running = None;
                return Err(interrupted.into());
            }
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: ATTENTION,
            };
            let mut descriptors = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut descriptors, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.lost(error.into())),
            }
        }
    }

    fn lost(&mut self, error: io::Error) -> SessionError {
        match self.running.take() {
            Some(running) => match running.broken("talk to", error) {
                ClientError::Failed { status, said, .. } if status.code() == Some(STOPPED) => {
                    let (_, message) = said.rsplit_once("ERROR:").unwrap_or(("", &said));
                    SessionError::Copy {
                        message: message.trim().to_owned(),
                    }
                }
                other => SessionError::Lost(other),
            },
            None => SessionError::Ended,
        }
    }
}

/// A number that nobody can foresee.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings_are_quoted() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
