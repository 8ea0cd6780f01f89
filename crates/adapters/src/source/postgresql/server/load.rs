//! Loads one database: makes it, its schema, the rows, and then all that needs rows.
//!
//! The schema comes first, without anything that needs rows or forbids something; rows go into plain tables without
//! indexes; indexes, constraints, triggers, views and privileges come last. `pg_restore` stops at its first error: what every new database
//! has already is left out of what it is given (see [`archive`]).

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use strongroom_core::format::manifest::Stream;
use strongroom_core::private_file;
use strongroom_core::source::CaptureError;
use strongroom_core::source::server::{DatabaseLoad, LoadJob, StreamContent};

use super::super::conninfo::conninfo;
use super::super::facts::{DatabaseFacts, Relation};
use super::super::paths;
use super::super::programs::Programs;
use super::super::session::{column_list, identifier, qualified};
use super::archive::{self, ArchiveError};
use super::rows::{Rows, failed, load_script};
use super::wanted::{NO_MAPPING, Wanted, create_database, create_roles};
use super::{PostgresqlServer, execute, swap};
use crate::client::{Client, Running};

/// Statements that are sent at once.
const STATEMENTS_AT_ONCE: usize = 200;

/// How soon an interruption is noticed, in nanoseconds.
const ATTENTION: i64 = 100_000_000;

/// A load that has begun.
pub(super) struct Load<'l> {
    server: &'l PostgresqlServer,
    job: LoadJob<'l>,
    wanted: Wanted,
    client: Client,
    conninfo: String,
    programs_major: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    schema: Vec<u8>,
    loaded: BTreeSet<String>,
    notes: Vec<String>,
}

impl<'l> Load<'l> {
    pub(super) fn begin(
        server: &'l PostgresqlServer,
        job: LoadJob<'l>,
    ) -> Result<Self, CaptureError> {
        let cancel = job.database.cancel;
        let wanted = Wanted::read(
            job.database.original,
            job.database.facts,
            job.database.options,
        )?;
        if wanted.mapped_roles().next().is_some() && wanted.facts.large_objects > 0 {
            return Err(server.unsuitable(
                NO_MAPPING.to_owned(),
                "Make the roles of the backup on the server, restore, and reassign afterwards (REASSIGN OWNED).",
            ));
        }
        swap::drop_database(server, job.name, cancel)?;
        let mut session = server.maintenance(&[job.name], cancel)?;
        let programs = Programs::find(
            &server.connection,
            session.server_major(),
            &["psql", "pg_restore", "vacuumdb"],
        )?;
        let notes = create_roles(&mut session, &wanted)?;
        create_database(&mut session, job.name, &wanted)?;
        Ok(Self {
            server,
            job,
            wanted,
            client: programs.client(&server.connection),
            conninfo: conninfo(&server.connection.settings, Some(job.name)),
            programs_major: programs.major,
            state: Mutex::new(State {
                notes,
                ..State::default()
            }),
        })
    }

    /// The path of a stream below its database; none if it belongs to another one.
    fn part(&self, stream: &Stream) -> Option<String> {
        let schema = paths::schema(self.job.database.original);
        let folder = schema.strip_suffix("schema.dump")?;
        let below = stream.path.to_str()?.strip_prefix(folder)?;
        Some(below.to_owned())
    }

    fn relation(&self, stream: &Stream) -> Option<(&String, &Relation)> {
        let part = self.part(stream)?;
        let mut relations = self.facts().relations.iter();
        relations.find(|(_, relation)| relation.path.as_deref() == Some(part.as_str()))
    }

    fn facts(&self) -> &DatabaseFacts {
        &self.wanted.facts
    }

    fn load_schema(&self, content: StreamContent<'_>) -> Result<(), CaptureError> {
        let mut schema = Vec::new();
        content(&mut schema)?;
        let written_by = archive::dump_version(&schema).map_err(unreadable)?;
        let major = written_by
            .as_deref()
            .and_then(super::super::programs::major_of);
        if let Some(major) = major.filter(|major| *major > self.programs_major) {
            return Err(self.server.unsuitable(
                format!("the schema was written by pg_dump {major}, and pg_restore is of version {}", self.programs_major),
                "Install the client programs of that version, or name their directory as `programs` in the asset.",
            ));
        }
        let roles = &self.job.database.options.roles;
        let schemas = archive::schemas(&schema, roles).map_err(unreadable)?;
        self.pg_restore("schemas.dump", &schemas, self.server.jobs())?;
        let before = archive::before_rows(&schema, roles).map_err(unreadable)?;
        self.pg_restore("before-rows.dump", &before, self.server.jobs())?;
        self.state().schema = schema;
        Ok(())
    }

    fn load_rows(
        &self,
        key: &str,
        relation: &Relation,
        content: StreamContent<'_>,
    ) -> Result<(), CaptureError> {
        let facts = self.facts().tables.get(key);
        Rows {
            client: &self.client,
            conninfo: &self.conninfo,
            table: &qualified(&relation.schema, &relation.name),
            columns: &column_list(&relation.columns),
            has_others: relation.extension.is_some(),
            encoding: &self.facts().encoding,
            expected: facts.and_then(strongroom_core::source::tables::TableFacts::rows),
        }
        .load(content)?;
        self.state().loaded.insert(key.to_owned());
        Ok(())
    }

    /// Gives `pg_restore` an archive without rows: as a file and in parallel where it runs here, else as its input.
    fn pg_restore(&self, name: &str, archive: &[u8], jobs: usize) -> Result<(), CaptureError> {
        let mut arguments = vec!["--exit-on-error", "--no-password", "--dbname"];
        arguments.push(&self.conninfo);
        let path: PathBuf = self.job.scratch.join(name);
        let (jobs, file) = (jobs.to_string(), path.to_string_lossy());
        let is_local = self.client.is_local();
        if is_local {
            private_file::create_or_truncate(&path)
                .and_then(|mut file| file.write_all(archive))
                .map_err(CaptureError::io("write", &path))?;
            arguments.extend(["--jobs", &jobs, &file]);
        }
        let mut running = self
            .client
            .start("pg_restore", &arguments)
            .map_err(failed)?;
        let mut stdin = running.stdin();
        if !is_local && let Err(error) = stdin.write_all(archive) {
            return Err(failed(running.broken("load a schema with", error)));
        }
        drop(stdin);
        self.wait(running)
    }

    /// Waits for a program that says nothing of interest; killed when the operator interrupts.
    fn wait(&self, mut running: Running) -> Result<(), CaptureError> {
        let mut stdout = running.stdout();
        let mut block = [0; 4096];
        loop {
            self.job.database.cancel.check()?;
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: ATTENTION,
            };
            let polled = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&timeout));
            let read = match polled {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => stdout.read(&mut block),
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(0) => return running.finish().map_err(failed),
                Ok(_) => {}
                Err(error) => return Err(failed(running.broken("read from", error))),
            }
        }
    }

    /// Everything that was captured and asked for must have been loaded.
    fn nothing_is_missing(&self) -> Result<(), CaptureError> {
        let state = self.state();
        let missing: Vec<&String> = self
            .facts()
            .relations
            .iter()
            .filter(|(key, relation)| {
                relation.path.is_some()
                    && self.wanted.is_table_wanted(relation)
                    && !state.loaded.contains(*key)
            })
            .map(|(key, _)| key)
            .collect();
        if state.schema.is_empty() || !missing.is_empty() {
            return Err(self.server.unsuitable(
                format!("the backup has no schema, or no rows for {missing:?}"),
                "Verify the backup; restore another one.",
            ));
        }
        Ok(())
    }

    fn statements(&self) -> Vec<String> {
        let (facts, name) = (self.facts(), self.job.name);
        let role = |role: &str| self.wanted.role(role).to_owned();
        let mut statements = facts.setting_statements(name, &role);
        statements.extend(facts.grant_statements(name, &role));
        let database = identifier(name);
        if let Some(comment) = &facts.comment {
            let comment = super::literal(comment);
            statements.push(format!("COMMENT ON DATABASE {database} IS {comment}"));
        }
        if facts.connection_limit != -1 {
            let limit = facts.connection_limit;
            statements.push(format!(
                "ALTER DATABASE {database} CONNECTION LIMIT {limit}"
            ));
        }
        statements
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DatabaseLoad for Load<'_> {
    fn jobs(&self) -> usize {
        self.server.jobs()
    }

    fn wants(&self, stream: &Stream) -> bool {
        if let Some((_, relation)) = self.relation(stream) {
            return self.wanted.is_table_wanted(relation);
        }
        match self.part(stream).as_deref() {
            Some("schema.dump") => true,
            Some("large-objects.sql") => !self.wanted.is_partial(),
            _ => false,
        }
    }

    fn is_alone(&self, stream: &Stream) -> bool {
        self.relation(stream).is_none()
    }

    fn load(&self, stream: &Stream, content: StreamContent<'_>) -> Result<(), CaptureError> {
        self.job.database.cancel.check()?;
        if let Some((key, relation)) = self.relation(stream) {
            return self.load_rows(key, relation, content);
        }
        match self.part(stream).as_deref() {
            Some("schema.dump") => self.load_schema(content),
            Some("large-objects.sql") => load_script(&self.client, &self.conninfo, content),
            _ => Err(self.server.unsuitable(
                format!(
                    "{:?} is no part of database {:?}",
                    stream.path, self.job.database.original
                ),
                "The backup was made by another version of this program; use that one.",
            )),
        }
    }

    fn finish(self: Box<Self>) -> Result<Vec<String>, CaptureError> {
        let database = &self.job.database;
        self.nothing_is_missing()?;
        let mut session = self.server.open(self.job.name, database.cancel)?;
        // The values of a table's sequences do no harm where its rows are left out.
        let values: Vec<String> = self
            .facts()
            .sequences
            .values()
            .map(|sequence| archive::set_sequence(&sequence.into()))
            .collect();
        for group in values.chunks(STATEMENTS_AT_ONCE) {
            execute_all(&mut session, "set sequences", group)?;
        }
        let schema = std::mem::take(&mut self.state().schema);
        let is_partial = self.wanted.is_partial();
        let roles = &database.options.roles;
        let after = archive::after_rows(&schema, roles).map_err(unreadable)?;
        self.pg_restore("after-rows.dump", &after, self.server.jobs())?;
        database.cancel.check()?;
        // Of a part of the tables, those that others refer to may be missing.
        let foreign_keys = archive::foreign_keys(&schema, roles).map_err(unreadable)?;
        if let Some(foreign_keys) = foreign_keys.filter(|_| !is_partial) {
            self.pg_restore("foreign-keys.dump", &foreign_keys, 1)?;
            database.cancel.check()?;
        }
        if !is_partial {
            let views = self.facts().materialized_views.iter();
            for view in views.filter(|view| view.is_populated) {
                let name = qualified(&view.schema, &view.name);
                let refresh = format!("REFRESH MATERIALIZED VIEW {name}");
                execute(&mut session, &format!("refresh {name}"), &refresh)?;
            }
        }
        drop(session);
        let mut session = self.server.maintenance(&[self.job.name], database.cancel)?;
        execute_all(
            &mut session,
            "give the database its settings and privileges",
            &self.statements(),
        )?;
        self.analyze()?;
        let notes = std::mem::take(&mut self.state().notes);
        Ok(notes)
    }
}

impl Load<'_> {
    /// A new table has no statistics, and plans without them are bad.
    fn analyze(&self) -> Result<(), CaptureError> {
        let jobs = self.server.jobs().to_string();
        let arguments = [
            "--analyze-only",
            "--quiet",
            "--no-password",
            "--jobs",
            &jobs,
        ];
        let arguments = [&arguments[..], &["--dbname", &self.conninfo]].concat();
        let mut running = self.client.start("vacuumdb", &arguments).map_err(failed)?;
        drop(running.stdin());
        self.wait(running)
    }
}

fn execute_all(
    session: &mut super::Session,
    operation: &str,
    statements: &[String],
) -> Result<(), CaptureError> {
    // In one transaction, so that the failure of one is not hidden by those after it.
    execute(session, operation, "BEGIN")?;
    for statement in statements {
        execute(session, operation, statement)?;
    }
    execute(session, operation, "COMMIT")
}

fn unreadable(error: ArchiveError) -> CaptureError {
    CaptureError::library("read the schema of the backup")(error)
}
