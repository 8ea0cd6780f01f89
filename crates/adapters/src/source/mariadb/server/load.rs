//! Loads the streams of a database into a new schema.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ChildStdin;
use std::sync::{Mutex, PoisonError};

use strongroom_core::format::manifest::Stream;
use strongroom_core::source::CaptureError;
use strongroom_core::source::server::{DatabaseLoad, LoadJob, StreamContent};

use super::super::accounts;
use super::super::capture::asked;
use super::super::catalogue::Catalogue;
use super::super::facts::DatabaseFacts;
use super::super::rows::DumpReader;
use super::super::session::Session;
use super::super::sql;
use super::exchange;
use super::stowage::{self, PARKED, Stowage};
use super::{MariadbServer, plain_names};

/// A schema being loaded.
pub(super) struct Load<'l> {
    server: &'l MariadbServer,
    job: LoadJob<'l>,
    facts: DatabaseFacts,
    only: BTreeSet<String>,
    objects: Mutex<Vec<u8>>,
}

impl<'l> Load<'l> {
    pub(super) fn new(server: &'l MariadbServer, job: LoadJob<'l>, facts: DatabaseFacts) -> Self {
        Self {
            server,
            only: plain_names(&job.database.options.tables),
            job,
            facts,
            objects: Mutex::default(),
        }
    }

    fn is(&self, stream: &Stream, name: &str) -> bool {
        stream.path == sql::path(self.job.database.original, name)
    }

    /// Pipes tables and rows into the client. What an error leaves behind is dropped with the schema by the next load.
    fn load_tables(&self, content: StreamContent<'_>) -> Result<(), CaptureError> {
        let failed = || CaptureError::library(format!("load the database {:?}", self.job.name));
        let connection = &self.server.connection;
        let mut running = connection.script(self.job.name).map_err(failed())?;
        let mut pipe = Pipe {
            stdin: running.stdin(),
            reader: (!self.only.is_empty()).then(|| DumpReader::only("", &self.only)),
            out: Vec::new(),
            error: None,
        };
        let written = content(&mut pipe).and_then(|()| {
            let ended = pipe.end();
            ended.map_err(CaptureError::io("write to", self.job.name.as_ref()))
        });
        if let Some(error) = pipe.error.take() {
            // The client ended first, and knows why.
            drop(pipe);
            return Err(failed()(running.broken("write to", error)));
        }
        written?;
        drop(pipe);
        running.finish().map_err(failed())
    }

    /// Creates users and roles that the server lacks, locked, and returns their grants on this database: they can be given
    /// when the database is live.
    fn create_accounts(&self, notes: &mut Vec<String>) -> Result<Vec<String>, CaptureError> {
        let mut session = self.server.session()?;
        let existing = accounts::existing(&mut session).map_err(asked("list the users"))?;
        let mut created = Vec::new();
        for (name, account) in &self.facts.accounts {
            // Locked and without any privilege: an interrupted restore made it and came no further.
            if existing.contains(name) && !is_unfinished(&mut session, name)? {
                continue;
            }
            session
                .execute(&accounts::create(name, account))
                .map_err(asked(&format!("create {name}")))?;
            created.push(name);
        }
        let mut grants = Vec::new();
        for name in created {
            grants.extend(self.facts.accounts[name].grants.iter().cloned());
            notes.push(format!(
                "{name} was missing and is created, locked: set a password, then ALTER USER {name} ACCOUNT UNLOCK"
            ));
        }
        Ok(grants)
    }

    /// Creates the objects beside the tables, sees that all are there, and drops them again: what cannot be created is
    /// found out before anything is swapped. Events are left out, because they could run.
    fn try_objects(&self, session: &mut Session, text: &[u8]) -> Result<(), CaptureError> {
        let name = self.job.name;
        self.server.run_script(name, &stowage::for_trial(text))?;
        let read = Catalogue::read(session, name).map_err(asked("read the catalogue"))?;
        let there = read.unwrap_or_default();
        let wanted = self.facts.objects.keys();
        let missing: Vec<&str> = wanted
            .filter(|object| !object.starts_with("event ") && !there.objects.contains_key(*object))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(CaptureError::Unsuitable {
                path: name.into(),
                why: format!("lacks {} after their text was loaded", missing.join(", ")),
                hint: "Look at the server's log, and compare its version and settings with those of the facts.",
            });
        }
        exchange::drop_objects(session, name, &there)
    }
}

/// Whether an account is locked and may do nothing at all.
fn is_unfinished(session: &mut Session, name: &str) -> Result<bool, CaptureError> {
    let failed = || asked("look at a user");
    if !name.contains("`@`") {
        return Ok(false);
    }
    let created = session
        .lines(&format!("SHOW CREATE USER {name}"))
        .map_err(failed())?;
    let grants = session
        .lines(&format!("SHOW GRANTS FOR {name}"))
        .map_err(failed())?;
    let is_locked = created.iter().any(|line| line.contains(" ACCOUNT LOCK"));
    Ok(is_locked
        && grants
            .iter()
            .all(|grant| grant.starts_with("GRANT USAGE ON *.*")))
}

impl DatabaseLoad for Load<'_> {
    fn jobs(&self) -> usize {
        1
    }

    fn wants(&self, stream: &Stream) -> bool {
        self.is(stream, "tables.sql") || self.is(stream, "objects.sql")
    }

    /// There are two, and only one of them is loaded now.
    fn is_alone(&self, _: &Stream) -> bool {
        true
    }

    fn load(&self, stream: &Stream, content: StreamContent<'_>) -> Result<(), CaptureError> {
        if self.is(stream, "tables.sql") {
            return self.load_tables(content);
        }
        let mut text = Vec::new();
        content(&mut text)?;
        *self.objects.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<String>, CaptureError> {
        let mut notes = Vec::new();
        let grants = if self.facts.accounts.is_empty() {
            Vec::new()
        } else {
            self.create_accounts(&mut notes)?
        };
        let text =
            std::mem::take(&mut *self.objects.lock().unwrap_or_else(PoisonError::into_inner));
        let mut session = self.server.session()?;
        self.try_objects(&mut session, &text)?;
        let stowage = Stowage {
            character_set: self.facts.character_set.clone(),
            collation: self.facts.collation.clone(),
            objects: self.facts.objects.keys().cloned().collect(),
            is_absent: false,
            original: self.job.database.original.to_owned(),
            grants,
            text,
        };
        stowage.put(&mut session, self.job.name, PARKED)?;
        Ok(notes)
    }
}

/// The way into the client, through the filter for single tables.
struct Pipe<'r> {
    stdin: ChildStdin,
    reader: Option<DumpReader<'r>>,
    out: Vec<u8>,
    error: Option<io::Error>,
}

impl Pipe<'_> {
    fn end(&mut self) -> io::Result<()> {
        if let Some(reader) = self.reader.take() {
            let mut out = Vec::new();
            reader.finish(&mut out);
            self.out = out;
            return self.flush();
        }
        Ok(())
    }

    fn kept<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(reader) = &mut self.reader else {
            let written = self.stdin.write(bytes);
            return self.kept(written);
        };
        reader.feed(bytes, &mut self.out);
        self.flush()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stdin.write_all(&self.out);
        self.out.clear();
        self.kept(written)
    }
}
