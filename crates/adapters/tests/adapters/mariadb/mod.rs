//! The source `mariadb` and its restore, with real servers.

mod capture;
mod conformance;
mod faults;
mod leftovers;
mod restore;

use std::io::Write;
use std::path::Path;

use strongroom_adapters::source::mariadb::server::MariadbServer;
use strongroom_adapters::source::mariadb::{Connection, MariadbSettings, MariadbSource};
use strongroom_adapters::throwaway::Options;
use strongroom_adapters::throwaway::mariadb::Server;
use strongroom_core::cancel::Cancel;
use strongroom_core::format::manifest::Stream;
use strongroom_core::source::server::{
    DatabaseServer as _, LoadJob, LoadOptions, LoadedDatabase, SwapNames,
};
use strongroom_core::source::{Capture, CaptureError, Proof, Source as _};
use strongroom_testkit::recording_sink::RecordingSink;

/// Passes the content of a stream on, or does something else with it.
type WriteContent<'w> = &'w mut dyn FnMut(&[u8], &mut dyn Write) -> Result<(), CaptureError>;

/// A server with a binary log.
fn server() -> Server {
    let mut options = Options::for_tests();
    options
        .settings
        .push(("log-bin".to_owned(), "binlog".to_owned()));
    options
        .settings
        .push(("event-scheduler".to_owned(), "OFF".to_owned()));
    Server::start(&options).expect("a server")
}

fn with_fixture(server: &Server, name: &str, script: &str) {
    server.create_database(name).expect("a database");
    server.sql(name, script).expect("the fixture");
}

fn connection(server: &Server) -> Connection {
    Connection {
        socket: Some(server.socket()),
        user: Some(server.superuser().to_owned()),
        ..Connection::default()
    }
}

fn settings(server: &Server, databases: &[&str]) -> MariadbSettings {
    let text = serde_json::json!({ "databases": databases });
    let mut settings: MariadbSettings = serde_json::from_value(text).expect("settings");
    settings.connection = connection(server);
    settings
}

/// What a capture brought.
struct Backup {
    sink: RecordingSink,
    capture: Capture,
    settings: serde_json::Value,
}

fn try_capture(settings: &MariadbSettings, sink: &RecordingSink) -> Result<Capture, CaptureError> {
    MariadbSource::new(settings.clone()).capture(sink)
}

fn capture(settings: &MariadbSettings) -> Backup {
    let sink = RecordingSink::new();
    let capture = try_capture(settings, &sink).expect("captures");
    Backup {
        sink,
        capture,
        settings: serde_json::to_value(settings).expect("serialises"),
    }
}

impl Backup {
    fn complete(self) -> Self {
        assert_eq!(self.capture.problems, [""; 0]);
        self
    }

    fn content(&self, path: &str) -> String {
        let content = self
            .sink
            .content(path)
            .unwrap_or_else(|| panic!("no {path}"));
        String::from_utf8(content).expect("text")
    }

    fn streams(&self) -> Vec<(Stream, Vec<u8>)> {
        let recorded = self.sink.recorded().into_iter();
        recorded
            .map(|one| (one.stream(), one.content.expect("has content")))
            .collect()
    }

    /// Loads a database of it under another name.
    fn load(
        &self,
        server: &MariadbServer,
        original: &str,
        name: &str,
        options: &LoadOptions,
    ) -> Result<Vec<String>, CaptureError> {
        self.load_with(server, original, name, options, &mut |content, to| {
            for block in content.chunks(100_000) {
                to.write_all(block)
                    .map_err(CaptureError::io("write to", Path::new(name)))?;
            }
            Ok(())
        })
    }

    fn load_with(
        &self,
        server: &MariadbServer,
        original: &str,
        name: &str,
        options: &LoadOptions,
        write: WriteContent<'_>,
    ) -> Result<Vec<String>, CaptureError> {
        let scratch = tempfile::tempdir().expect("a directory");
        let cancel = Cancel::default();
        let load = server.begin_load(LoadJob {
            name,
            database: self.database(original, options, &cancel),
            scratch: scratch.path(),
            keep: scratch.path(),
        })?;
        for (stream, content) in self.streams() {
            if load.wants(&stream) {
                load.load(&stream, &mut |to| write(&content, to))?;
            }
        }
        load.finish()
    }

    fn prove(&self, server: &MariadbServer, original: &str, name: &str) -> Proof {
        let (options, cancel) = (LoadOptions::default(), Cancel::default());
        let database = self.database(original, &options, &cancel);
        server.prove(name, &database).expect("looks")
    }

    fn database<'a>(
        &'a self,
        original: &'a str,
        options: &'a LoadOptions,
        cancel: &'a Cancel,
    ) -> LoadedDatabase<'a> {
        LoadedDatabase {
            original,
            settings: &self.settings,
            facts: &self.capture.facts,
            options,
            cancel,
        }
    }
}

fn names(live: &'static str) -> SwapNames<'static> {
    SwapNames {
        live,
        new: "strongroom-1-new",
        old: "strongroom-1-old",
        replaces: true,
        keep: Path::new("/nonexistent"),
    }
}

/// All that a database shows: rows, tables, and objects with definers.
fn dump(server: &Server, database: &str) -> String {
    let mut shown = String::new();
    let settings = settings(server, &[database]);
    let backup = capture(&settings).complete();
    for stream in ["tables.sql", "objects.sql"] {
        let text = backup.content(&format!("/{database}/{stream}"));
        shown += &text.replace(&format!("Database: {database}\n"), "");
    }
    shown
}
