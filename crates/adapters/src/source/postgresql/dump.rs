//! The streams that stock programs write: the schema, the large objects, the roles.
//!
//! A stream is finished only when its program has ended well and its content has the beginning or the end that it must have.

use std::io::{self, Read as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strongroom_core::cancel::Cancel;
use strongroom_core::source::{CaptureError, Chunking, Entry, Sink};

use super::conninfo;
use super::programs::Programs;
use super::session::qualified;
use super::settings::Connection;
use crate::client::{ClientError, Running};

/// The first bytes of an archive of `pg_dump`.
const ARCHIVE_MAGIC: &[u8] = b"PGDMP";

/// What `pg_dump` and `pg_dumpall` write at the very end of plain text.
const COMPLETE: &[u8] = b"dump complete";

/// How much of the end is kept to look for that.
const TAIL_BYTES: usize = 512;

/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// How soon an interruption is noticed, in nanoseconds.
const ATTENTION: i64 = 100_000_000;

/// Where stock programs find the database, and which snapshot they use.
pub(super) struct Dumper<'a> {
    pub(super) connection: &'a Connection,
    pub(super) programs: &'a Programs,
    pub(super) sink: &'a dyn Sink,
}

/// Why a stream of a program is not there.
#[derive(Debug)]
pub(super) enum DumpError {
    /// The program failed, or its output is not whole: a problem of the asset.
    Program(String),
    /// The sink failed, or the operator interrupted.
    Capture(CaptureError),
}

impl From<CaptureError> for DumpError {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

impl From<ClientError> for DumpError {
    fn from(error: ClientError) -> Self {
        let said = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        // What follows is the text of a long statement.
        let end = said
            .find("; pg_dump: detail: Query was")
            .unwrap_or(said.len());
        Self::Program(said[..end].to_owned())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Archive,
    Text,
}

impl Dumper<'_> {
    /// The schema as an archive for `pg_restore`. Subscriptions are left out: their definition holds a password, and a copy of one would
    /// take changes away from the original.
    pub(super) fn schema(
        &self,
        database: &str,
        snapshot: &str,
        without: &[(String, String)],
        entry: Entry,
    ) -> Result<(), DumpError> {
        let mut arguments = vec![
            "--format=custom".to_owned(),
            "--schema-only".to_owned(),
            "--compress=0".to_owned(),
            "--no-subscriptions".to_owned(),
        ];
        arguments.extend(self.common(database, snapshot));
        let without = without.iter();
        arguments.extend(
            without.map(|(schema, table)| format!("--exclude-table={}", qualified(schema, table))),
        );
        self.stream("pg_dump", &arguments, Form::Archive, entry)
    }

    /// All large objects, with their owners, grants and comments, as SQL text.
    pub(super) fn large_objects(
        &self,
        database: &str,
        snapshot: &str,
        entry: Entry,
    ) -> Result<(), DumpError> {
        let mut arguments = vec![
            "--format=plain".to_owned(),
            "--data-only".to_owned(),
            "--blobs".to_owned(),
            "--exclude-table=*.*".to_owned(),
        ];
        arguments.extend(self.common(database, snapshot));
        self.stream("pg_dump", &arguments, Form::Text, entry)
    }

    /// Roles, memberships and tablespaces, without passwords.
    pub(super) fn globals(&self, database: &str, entry: Entry) -> Result<(), DumpError> {
        let arguments =
            self.globals_arguments(database, &["--globals-only", "--no-role-passwords"]);
        self.stream("pg_dumpall", &arguments, Form::Text, entry)
    }

    /// Roles with their password hashes; a superuser's right.
    pub(super) fn roles(&self, database: &str, entry: Entry) -> Result<(), DumpError> {
        let arguments = self.globals_arguments(database, &["--roles-only"]);
        self.stream("pg_dumpall", &arguments, Form::Text, entry)
    }

    fn globals_arguments(&self, database: &str, what: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = what.iter().map(|&word| word.to_owned()).collect();
        arguments.extend([
            "--no-password".to_owned(),
            "--dbname".to_owned(),
            conninfo::conninfo(&self.connection.settings, Some(database)),
            "--database".to_owned(),
            conninfo::initial_database(database),
        ]);
        arguments
    }

    fn common(&self, database: &str, snapshot: &str) -> Vec<String> {
        let wait = self.connection.settings.lock_timeout.saturating_mul(1000);
        vec![
            format!("--snapshot={snapshot}"),
            format!("--lock-wait-timeout={}", wait.max(1)),
            "--no-password".to_owned(),
            "--dbname".to_owned(),
            conninfo::conninfo(&self.connection.settings, Some(database)),
        ]
    }

    fn stream(
        &self,
        program: &str,
        arguments: &[String],
        form: Form,
        entry: Entry,
    ) -> Result<(), DumpError> {
        let client = self.programs.client(self.connection);
        let mut running = client.start(program, arguments)?;
        drop(running.stdin());
        let mut reader = None;
        if form == Form::Archive && client.is_local() {
            reader = Some(Listing::start(self.connection, self.programs)?);
        }
        let mut writer = self.sink.begin(match form {
            Form::Archive => Chunking::Content,
            Form::Text => Chunking::Lines,
        })?;
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let pumped = pump(&mut running, self.sink.cancel(), |block| {
            if head.len() < ARCHIVE_MAGIC.len() {
                let wanted = ARCHIVE_MAGIC.len() - head.len();
                head.extend_from_slice(&block[..block.len().min(wanted)]);
            }
            tail.extend_from_slice(&block[block.len().saturating_sub(TAIL_BYTES)..]);
            tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
            if let Some(reader) = &mut reader {
                reader.give(block);
            }
            writer.write(block)
        });
        let ended = pumped.and_then(|()| Ok(running.finish()?)).and_then(|()| {
            let is_whole = match form {
                Form::Archive => head == ARCHIVE_MAGIC,
                Form::Text => memchr::memmem::find(&tail, COMPLETE).is_some(),
            };
            if !is_whole {
                let why = format!("{program} ended well, but what it wrote is not whole");
                return Err(DumpError::Program(why));
            }
            match reader {
                Some(reader) => reader.finish(),
                None => Ok(()),
            }
        });
        match ended {
            Ok(()) => {
                writer.finish(entry)?;
                Ok(())
            }
            Err(DumpError::Program(why)) => {
                writer.discard()?;
                Err(DumpError::Program(why))
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads a program's output to its end.
fn pump(
    running: &mut Running,
    cancel: &Cancel,
    mut take: impl FnMut(&[u8]) -> Result<(), CaptureError>,
) -> Result<(), DumpError> {
    let mut stdout = running.stdout();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        cancel.check().map_err(CaptureError::from)?;
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: ATTENTION,
        };
        let failed = |error: io::Error| DumpError::Program(format!("its output broke: {error}"));
        match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        match stdout.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&block[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// A `pg_restore --list` that reads the archive as it goes by. An archive without data is all table of contents, so that it is read whole.
struct Listing {
    running: Running,
    stdin: Option<std::process::ChildStdin>,
    entries: std::thread::JoinHandle<usize>,
}

impl Listing {
    fn start(connection: &Connection, programs: &Programs) -> Result<Self, DumpError> {
        let client = crate::client::Client {
            password_file: None,
            ..programs.client(connection)
        };
        let mut running = client.start("pg_restore", &["--list"])?;
        let (stdin, mut stdout) = (running.stdin(), running.stdout());
        let entries = std::thread::spawn(move || {
            let (mut lines, mut block) = (0, [0; 4096]);
            while let Ok(count @ 1..) = stdout.read(&mut block) {
                lines += memchr::memchr_iter(b'\n', &block[..count]).count();
            }
            lines
        });
        Ok(Self {
            running,
            stdin: Some(stdin),
            entries,
        })
    }

    fn give(&mut self, block: &[u8]) {
        // When it ends early, its exit status tells.
        if let Some(stdin) = &mut self.stdin
            && stdin.write_all(block).is_err()
        {
            self.stdin = None;
        }
    }

    fn finish(mut self) -> Result<(), DumpError> {
        self.stdin = None;
        let lines = self.entries.join().expect("counting lines does not panic");
        match self.running.finish() {
            Ok(()) if lines > 0 => Ok(()),
            Ok(()) => Err(DumpError::Program(
                "pg_restore --list finds nothing in the archive".to_owned(),
            )),
            Err(error) => Err(DumpError::Program(format!(
                "the archive cannot be read back: {error}"
            ))),
        }
    }
}
