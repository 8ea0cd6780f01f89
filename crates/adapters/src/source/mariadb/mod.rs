//! The source `mariadb`: databases of one server, in one cut, through the stock client programs.
//!
//! # A capture
//!
//! 1. `session` logs in, `connection` compares the versions of client and server, `accounts` tells what the account may
//!    not see: it would be missing from a dump in silence.
//! 2. `lock` holds commits back. Meanwhile a session opens the snapshot of the facts and reads the position of the binary log,
//!    `catalogue` reads all definitions, and one `mariadb-dump --single-transaction` a database is started. A dump has certainly opened its
//!    snapshot when it writes the first line about a table, because it asks for tables inside of its transaction only; when all
//!    have, commits go on. So rows, facts and all databases have one position. With tables that know no transactions, commits are held back to the end.
//! 3. `rows` counts and digests what goes by, while the snapshot of the facts counts the same tables. A dump must end well,
//!    with its last line, and with as many rows of each table as the snapshot has.
//! 4. Triggers, events, routines and views go into a stream of their own: they cannot be loaded before the swap. The
//!    catalogue is read again; what changed in between is a problem.
//!
//! All dumps run at a time, each from its own thread: one that waits for its turn would be cut off by the server's `net_write_timeout`.
//!
//! # Streams
//!
//! `/<database>/tables.sql`: tables, rows, sequences. `/<database>/objects.sql`: triggers, events, routines, views. `/globals.sql`: users, roles and
//! grants without passwords. An asset of class `secret` has `/users.sql` instead, with the password hashes. Each can be loaded by stock `mariadb`.

mod accounts;
mod capture;
mod catalogue;
mod compare;
mod connection;
mod dump;
mod facts;
mod lock;
mod look;
mod restorer;
mod rows;
pub mod server;
mod session;
mod settings;
mod sql;
mod turns;
pub mod url;

use strongroom_core::source::{Capture, CaptureError, Class, Inspection, Sink, Source};

pub use connection::Connection;
pub use restorer::MariadbRestorer;
pub use rows::{ReadDump, read_dump};
pub use settings::{FactsKind, MariadbSettings, NewestColumn, NewestColumnError};

use session::Session;

/// The name of the source in the configuration.
pub const KIND: &str = "mariadb";

/// Databases of one server, or its users.
#[derive(Clone, Debug)]
pub struct MariadbSource {
    settings: MariadbSettings,
}

impl MariadbSource {
    /// What `settings` name.
    pub const fn new(settings: MariadbSettings) -> Self {
        Self { settings }
    }
}

impl Source for MariadbSource {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::to_value(&self.settings).unwrap_or_default()
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        let connection = &self.settings.connection;
        let client = connection.client_version()?;
        let mut session = Session::open(connection)?;
        let mut inspection = Inspection::default();
        let problems = &mut inspection.problems;
        look::account(&mut session, client, &self.settings, problems)?;
        let (files, size_bytes, missing) = look::sizes(connection, &self.settings.databases)?;
        let (major, minor) = client;
        inspection.about = Some(format!(
            "MariaDB at {}, client programs {major}.{minor}",
            connection.place()
        ));
        inspection.files = files;
        inspection.size_bytes = size_bytes;
        inspection.problems.extend(missing);
        Ok(inspection)
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        match self.settings.class {
            Class::Secret => capture::users(&self.settings, sink),
            _ => capture::databases(&self.settings, sink),
        }
    }
}
