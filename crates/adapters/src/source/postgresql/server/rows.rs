//! Loads rows: COPY text into one table, in one transaction of a `psql` of its own.
//!
//! Nothing is committed before the content has ended well and the server has counted as many rows as went by. To give up, the
//! `psql` is killed: an unfinished COPY is rolled back, and one that only lost its input was never committed.

use std::io::{self, BufRead as _, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

use strongroom_core::source::CaptureError;
use strongroom_core::source::server::StreamContent;

use super::super::session::literal;
use super::super::snapshot::PINNED;
use crate::client::{Client, ClientError, Running};

/// What the configuration of the server or the role must not decide, besides what the capture pins too.
const SETTINGS: &str = "SET client_encoding = 'UTF8'; SET search_path = ''; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET client_min_messages = warning; SET standard_conforming_strings = on; SET synchronous_commit = off; \
    SET default_transaction_read_only = off;";

/// What a load of one table needs to know.
pub(super) struct Rows<'a> {
    /// The programs.
    pub(super) client: &'a Client,
    /// The database.
    pub(super) conninfo: &'a str,
    /// The table, as SQL wants it.
    pub(super) table: &'a str,
    /// Its columns in parentheses.
    pub(super) columns: &'a str,
    /// Whether the table holds rows already, which an extension brought.
    pub(super) has_others: bool,
    /// The encoding of the text.
    pub(super) encoding: &'a str,
    /// How many rows there must be, if that is known.
    pub(super) expected: Option<u64>,
}

impl Rows<'_> {
    /// Loads the content of one stream.
    pub(super) fn load(&self, content: StreamContent<'_>) -> Result<u64, CaptureError> {
        let mut script = Script::start(self.client, self.conninfo)?;
        let (table, columns) = (self.table, self.columns);
        let encoding = literal(self.encoding);
        // Rows of a table that is emptied in the same transaction are frozen at once, and need no write-ahead log where
        // the server keeps none for archives.
        let begin = if self.has_others {
            format!("BEGIN;\nCOPY {table}{columns} FROM STDIN WITH (ENCODING {encoding});\n")
        } else {
            format!(
                "BEGIN;\nTRUNCATE TABLE ONLY {table};\nCOPY {table}{columns} FROM STDIN WITH (FREEZE, ENCODING {encoding});\n"
            )
        };
        script.say(begin.as_bytes())?;
        let mut guard = Guard {
            to: &mut script.stdin,
            ends: CopyEnds::default(),
            failure: None,
        };
        let written = content(&mut guard);
        let (ends, failure) = (guard.ends, guard.failure);
        match (written, failure) {
            (Ok(()), None) => {}
            // The program has ended, and says why.
            (_, Some(failure)) => return Err(script.broken(failure)),
            // Dropping the script kills the program.
            (Err(error), None) => return Err(error),
        }
        if !ends.has_ended {
            return Err(wrong(self.table, "the rows have no end".to_owned()));
        }
        let (script, loaded) = script.ask(b"", ":ROW_COUNT")?;
        let loaded: u64 = loaded.parse().map_err(|_| {
            wrong(
                self.table,
                "psql does not tell how many rows were loaded".to_owned(),
            )
        })?;
        for expected in [Some(ends.lines), self.expected].into_iter().flatten() {
            if loaded != expected {
                let why = format!("{expected} rows were captured and {loaded} were loaded");
                return Err(wrong(self.table, why));
            }
        }
        script.ask(b"COMMIT;\n", "done")?.0.end()?;
        Ok(loaded)
    }
}

/// Executes what `pg_dump` wrote of large objects. It has transactions of its own: what is left of a failure goes with the new database.
pub(super) fn load_script(
    client: &Client,
    conninfo: &str,
    content: StreamContent<'_>,
) -> Result<(), CaptureError> {
    let mut script = Script::start(client, conninfo)?;
    let mut guard = Guard {
        to: &mut script.stdin,
        ends: CopyEnds {
            is_script: true,
            ..CopyEnds::default()
        },
        failure: None,
    };
    let written = content(&mut guard);
    match (written, guard.failure) {
        (Ok(()), None) => {}
        (_, Some(failure)) => return Err(script.broken(failure)),
        (Err(error), None) => return Err(error),
    }
    script.ask(b"\n;\n", "done")?.0.end()
}

/// A `psql` that is told what to do line by line; killed when it is dropped.
struct Script {
    running: Running,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Script {
    fn start(client: &Client, conninfo: &str) -> Result<Self, CaptureError> {
        // Terse: the context of an error quotes the row. The first error ends it.
        let arguments = ["-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"];
        let arguments = [&arguments[..], &["-d", conninfo]].concat();
        let mut running = client.start("psql", &arguments).map_err(failed)?;
        let (stdin, stdout) = (running.stdin(), running.stdout());
        let mut script = Self {
            running,
            stdin,
            stdout: BufReader::new(stdout),
        };
        script.say(format!("{PINNED};\n{SETTINGS}\n").as_bytes())?;
        Ok(script)
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.stdin
            .write_all(bytes)
            .map_err(CaptureError::library("talk to psql"))
    }

    /// Says something, and waits until `psql` has shown a value.
    fn ask(mut self, bytes: &[u8], value: &str) -> Result<(Self, String), CaptureError> {
        let mut said = bytes.to_vec();
        said.extend(format!("\\echo = {value}\n").bytes());
        let mut answer = String::new();
        let asked = self.stdin.write_all(&said).and_then(|()| {
            loop {
                answer.clear();
                match self.stdout.read_line(&mut answer)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    // Whatever statements of a script show.
                    _ if !answer.starts_with("= ") => {}
                    _ => return Ok(()),
                }
            }
        });
        match asked {
            Ok(()) => Ok((self, answer[2..].trim().to_owned())),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn end(self) -> Result<(), CaptureError> {
        drop(self.stdin);
        self.running.finish().map_err(failed)
    }

    fn broken(self, error: io::Error) -> CaptureError {
        drop(self.stdin);
        failed(self.running.broken("load rows with", error))
    }
}

/// Passes content on, and stops what would end it before its end.
struct Guard<'g> {
    to: &'g mut ChildStdin,
    ends: CopyEnds,
    /// The program takes nothing more.
    failure: Option<io::Error>,
}

impl Write for Guard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ends.look(bytes)?;
        if let Err(error) = self.to.write_all(bytes) {
            let kind = error.kind();
            self.failure = Some(error);
            return Err(kind.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Counts rows up to their end ([`ROWS_END`](super::super::paths::ROWS_END)), and refuses what `psql` would take for a command of its own.
///
/// A row is never `\.`, since a backslash in a value is doubled. What follows that line would be
/// executed: only empty lines may.
#[derive(Default)]
struct CopyEnds {
    lines: u64,
    has_ended: bool,
    is_script: bool,
    /// How the current line begins, up to four bytes.
    begin: Vec<u8>,
}

impl CopyEnds {
    fn look(&mut self, block: &[u8]) -> io::Result<()> {
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            let missing = 4_usize.saturating_sub(self.begin.len());
            self.begin.extend(line.iter().take(missing));
            let Some(end) = end else { break };
            rest = &rest[end + 1..];
            let is_end = matches!(self.begin.as_slice(), b"\\." | b"\\.\r");
            let goes_on = self.has_ended && !self.begin.is_empty();
            if !self.has_ended && !self.is_script {
                if is_end {
                    self.has_ended = true;
                    self.begin.clear();
                    continue;
                }
                self.lines += 1;
            }
            // Newer ones of pg_dump lock psql up against commands in names: \restrict and \unrestrict.
            let is_lock = self.is_script && matches!(self.begin.as_slice(), b"\\res" | b"\\unr");
            let is_command = self.is_script && !is_lock && self.begin.first() == Some(&b'\\');
            if goes_on || (self.is_script && is_end) || is_command {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("after {} rows comes a command, not content", self.lines),
                ));
            }
            self.begin.clear();
        }
        Ok(())
    }
}

fn wrong(table: &str, why: String) -> CaptureError {
    CaptureError::Unsuitable {
        path: table.into(),
        why,
        hint: "Nothing of this table was kept. Verify the backup, then restore again.",
    }
}

pub(super) fn failed(error: ClientError) -> CaptureError {
    CaptureError::library("load into the new database")(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_ends_are_refused() {
        let looked = |blocks: &[&[u8]]| {
            let mut ends = CopyEnds::default();
            for block in blocks {
                ends.look(block)?;
            }
            Ok::<_, io::Error>((ends.lines, ends.has_ended))
        };
        assert_eq!(looked(&[b"a\nb", b"\n", b"\n"]).expect("rows"), (3, false));
        assert_eq!(
            looked(&[b"a\n\\", b".\n\n", b"\n"]).expect("rows"),
            (1, true)
        );
        assert_eq!(
            looked(&[b"\\.x\n\\\\.\na\\.\nab"]).expect("rows"),
            (3, false)
        );
        for blocks in [
            &[&b"\\.\n\\! id\n"[..]][..],
            &[b"a\n\\", b".", b"\n\n", b"DROP TABLE a;\n"],
            &[b"a\n\\.\r\n\\.\n"],
        ] {
            assert!(looked(blocks).is_err(), "{blocks:?}");
        }
    }
}
