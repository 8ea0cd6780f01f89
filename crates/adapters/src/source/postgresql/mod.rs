//! The source `postgresql`: databases of one server, each in one consistent cut, by the stock client programs.
//!
//! # A capture of a database
//!
//! 1. A session (`session`, a `psql` that stays) begins a read-only transaction, exports its snapshot and locks every table that will be read against
//!    changes of its shape, with a limit of time (`snapshot`). A table that was dropped, truncated or rewritten in between means a new cut.
//! 2. That session asks the catalogues (`catalogue`) for everything that the facts hold (`facts`).
//! 3. At the same time: `pg_dump` writes the schema under the snapshot (`dump`); `jobs` sessions copy the rows of the tables out, largest first, each
//!    under the same snapshot (`copy`), and count and digest the lines as they go by; the first session counts the rows of every table.
//! 4. Large objects follow, if there are any. At the end of the asset come the roles, once for the server.
//!
//! Rows in the stream, rows in the server's answer to the copy, and rows that the server counts must be the same number. Schema and script come first in the
//! manifest: streams of rows wait for them before they are finished. Any end of a program or of a connection that is not the right one is a problem.
//!
//! Rows travel in the encoding of the database and in the text format of `COPY`; settings that change how a value is written are pinned.
//!
//! # On a standby
//!
//! All of this works on a hot standby, but unlogged tables, which have no rows there; and the standby may cancel a long cut in favour of replay
//! (`max_standby_streaming_delay`, `hot_standby_feedback`), which is a problem like any lost connection.
//!
//! # Several databases
//!
//! Each has a snapshot of its own, one after the other. Only a base backup with its WAL has one cut for all.
//!
//! # Memory
//!
//! A block of 256 KiB for each job, and the catalogue: about 1 KB a table. Nothing is written to disk here.

mod catalogue;
pub mod conninfo;
mod copy;
mod database;
mod dump;
pub mod facts;
mod inspect;
mod paths;
pub mod programs;
mod restorer;
mod script;
pub mod server;
pub mod session;
pub mod settings;
mod snapshot;

use strongroom_core::cancel::Cancel;
use strongroom_core::source::{Capture, CaptureError, Class, Inspection, Sink, Source};

pub use restorer::PostgresqlRestorer;
pub use settings::{
    Connection, FactsMode, NewestColumn, PostgresqlSettings, PostgresqlUrl, PostgresqlUrlError,
};

use database::Job;
use dump::{DumpError, Dumper};
use facts::{Facts, ServerFacts};
use programs::Programs;
use session::Session;

/// The name of the source in the configuration.
pub const KIND: &str = "postgresql";

/// Programs that must be as new as the server.
const PROGRAMS: [&str; 2] = ["psql", "pg_dump"];

/// Databases of one server, or its roles.
#[derive(Clone, Debug)]
pub struct PostgresqlSource {
    connection: Connection,
}

impl PostgresqlSource {
    /// What `connection` leads to.
    pub const fn new(connection: Connection) -> Self {
        Self { connection }
    }
}

impl Source for PostgresqlSource {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.connection.settings).unwrap_or_default()
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        inspect::inspect(&self.connection)
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let reached = Reached::connect(&self.connection, sink.cancel())?;
        if self.connection.settings.class == Class::Secret {
            self.capture_roles(reached, sink)
        } else {
            self.capture_databases(&reached, sink)
        }
    }
}

impl PostgresqlSource {
    fn capture_databases(
        &self,
        reached: &Reached,
        sink: &dyn Sink,
    ) -> Result<Capture, CaptureError> {
        let mut capture = Capture::default();
        let mut facts = Facts {
            server: reached.server.clone(),
            ..Facts::default()
        };
        for name in &reached.databases {
            let job = Job {
                connection: &self.connection,
                programs: &reached.programs,
                server: &reached.server,
                database: name,
                sink,
            };
            let captured = job.run()?;
            capture.problems.extend(captured.problems);
            capture.notes.extend(captured.notes);
            facts.databases.insert(name.clone(), captured.facts);
        }
        if reached.databases.len() > 1 {
            capture.notes.push(format!(
                "the {} databases were captured one after the other, each in a cut of its own; only point-in-time recovery (a base backup and its WAL) has one cut for all",
                reached.databases.len()
            ));
        }
        let entry = paths::entry(paths::GLOBALS, reached.seconds);
        match self.dumper(reached, sink).globals(reached.first(), entry) {
            Ok(()) => {}
            Err(DumpError::Capture(error)) => return Err(error),
            Err(DumpError::Program(why)) => capture
                .problems
                .push(format!("the roles are not in the backup: {why}")),
        }
        capture.facts =
            serde_json::to_value(facts).map_err(CaptureError::library("write down the facts"))?;
        Ok(capture)
    }

    fn capture_roles(
        &self,
        mut reached: Reached,
        sink: &dyn Sink,
    ) -> Result<Capture, CaptureError> {
        let mut capture = Capture {
            facts: serde_json::json!({ "server": reached.server, "databases": {} }),
            ..Capture::default()
        };
        let is_superuser = inspect::is_superuser(&mut reached.session)
            .map_err(|error| error.while_doing("ask for the rights of the role"))?;
        if !is_superuser {
            capture.problems.push(inspect::PASSWORDS_NEED.to_owned());
            return Ok(capture);
        }
        let entry = paths::entry(paths::ROLES, reached.seconds);
        match self.dumper(&reached, sink).roles(reached.first(), entry) {
            Ok(()) => {}
            Err(DumpError::Capture(error)) => return Err(error),
            Err(DumpError::Program(why)) => capture
                .problems
                .push(format!("the roles are not in the backup: {why}")),
        }
        Ok(capture)
    }

    fn dumper<'a>(&'a self, reached: &'a Reached, sink: &'a dyn Sink) -> Dumper<'a> {
        Dumper {
            connection: &self.connection,
            programs: &reached.programs,
            sink,
        }
    }
}

/// A server that answers, and programs that are new enough for it.
struct Reached {
    /// Connected to the first database.
    session: Session,
    programs: Programs,
    server: ServerFacts,
    /// At least one.
    databases: Vec<String>,
    /// The server's clock.
    seconds: i64,
}

impl Reached {
    fn connect(connection: &Connection, cancel: &Cancel) -> Result<Self, CaptureError> {
        let failed = |error: session::SessionError| {
            error.while_doing(format!("read from PostgreSQL at {}", connection.place()))
        };
        let first = Programs::first(connection)?;
        let settings = &connection.settings;
        let wanted = settings.databases.first().map(String::as_str);
        let conninfo = conninfo::conninfo(settings, wanted);
        let mut session =
            Session::open(&first.client(connection), &conninfo, cancel).map_err(failed)?;
        let programs = Programs::find(connection, session.server_major(), &PROGRAMS)?;
        let mut server = catalogue::server(&mut session).map_err(failed)?;
        server.programs_major = programs.major;
        let databases = if settings.databases.is_empty() {
            let name = session.read("SELECT to_json(current_database())");
            vec![name.map_err(failed)?]
        } else {
            settings.databases.clone()
        };
        let seconds = session
            .read("SELECT to_json(extract(epoch FROM now())::int8)")
            .map_err(failed)?;
        Ok(Self {
            session,
            programs,
            server,
            databases,
            seconds,
        })
    }

    fn first(&self) -> &str {
        &self.databases[0]
    }
}
