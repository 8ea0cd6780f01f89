//! Restores into a PostgreSQL server: what the source captured, through the port of the servers.

mod archive;
mod conformance;
mod load;
mod swap;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use strongroom_adapters::source::postgresql::server::PostgresqlServer;
use strongroom_adapters::source::postgresql::{
    Connection, PostgresqlSettings, PostgresqlSource, PostgresqlUrl,
};
use strongroom_adapters::throwaway::{Options, postgresql::Cluster};
use strongroom_core::cancel::Cancel;
use strongroom_core::error_chain;
use strongroom_core::format::manifest::Stream;
use strongroom_core::source::server::{
    DatabaseServer as _, LoadJob, LoadOptions, LoadedDatabase, SwapNames, WantedDatabase,
};
use strongroom_core::source::{CaptureError, Proof, Source as _};
use strongroom_testkit::fixtures;
use strongroom_testkit::recording_sink::RecordingSink;

/// A database as a backup holds it.
struct Captured {
    name: String,
    streams: Vec<(Stream, Vec<u8>)>,
    facts: serde_json::Value,
}

fn cluster() -> Cluster {
    Cluster::start(&Options::for_tests()).expect("a cluster")
}

fn connection(cluster: &Cluster, database: &str) -> Connection {
    let url = PostgresqlUrl::parse(&cluster.url(database)).expect("a URL");
    Connection {
        settings: PostgresqlSettings {
            url: Some(url),
            ..PostgresqlSettings::default()
        },
        programs: cluster.programs().map(ToOwned::to_owned),
        ..Connection::default()
    }
}

fn server(cluster: &Cluster) -> PostgresqlServer {
    PostgresqlServer::new(connection(cluster, "postgres"))
}

fn with_fixture(cluster: &Cluster, name: &str, script: &str) {
    cluster.create_database(name).expect("a database");
    cluster.psql(name, script).expect("the fixture");
}

fn certctl(cluster: &Cluster) -> Captured {
    with_fixture(
        cluster,
        "certctl",
        &fixtures::postgresql_certctl(fixtures::FEW),
    );
    capture(cluster, "certctl")
}

fn capture(cluster: &Cluster, name: &str) -> Captured {
    let sink = RecordingSink::new();
    let captured = PostgresqlSource::new(connection(cluster, name))
        .capture(&sink)
        .expect("a capture");
    assert!(captured.problems.is_empty(), "{:?}", captured.problems);
    let recorded = sink.recorded().into_iter();
    Captured {
        name: name.to_owned(),
        streams: recorded
            .map(|one| (one.stream(), one.content.unwrap_or_default()))
            .collect(),
        facts: captured.facts,
    }
}

impl Captured {
    fn content(&self, below: &str) -> &[u8] {
        let path = PathBuf::from(format!("/{}/{below}", self.name));
        let found = self.streams.iter().find(|(stream, _)| stream.path == path);
        &found.expect("a stream of that path").1
    }

    fn database<'a>(&'a self, options: &'a LoadOptions, cancel: &'a Cancel) -> LoadedDatabase<'a> {
        LoadedDatabase {
            original: &self.name,
            settings: &serde_json::Value::Null,
            facts: &self.facts,
            options,
            cancel,
        }
    }

    /// Loads as an executor does; `spoil` may end a stream with an error.
    fn load(
        &self,
        server: &PostgresqlServer,
        name: &str,
        options: &LoadOptions,
        spoil: &(dyn Fn(&Stream, &mut dyn Write) -> Result<(), CaptureError> + Sync),
    ) -> Result<Vec<String>, CaptureError> {
        let (cancel, scratch) = (Cancel::default(), tempfile::tempdir().expect("scratch"));
        // The scratch directory of a real run belongs to who runs it, and so do the programs.
        let load = server.begin_load(LoadJob {
            name,
            database: self.database(options, &cancel),
            scratch: scratch.path(),
            keep: scratch.path(),
        })?;
        let give = |stream: &Stream, content: &[u8]| {
            // What spoils rows comes before their end.
            let rows = content.strip_suffix(b"\\.\n\n\n").unwrap_or(content);
            load.load(stream, &mut |to| {
                let mut write = |bytes: &[u8]| {
                    to.write_all(bytes)
                        .map_err(CaptureError::library("write a block"))
                };
                rows.chunks(10_000).try_for_each(&mut write)?;
                spoil(stream, to)?;
                to.write_all(&content[rows.len()..])
                    .map_err(CaptureError::library("write the end"))
            })
        };
        let wanted: Vec<_> = self
            .streams
            .iter()
            .filter(|(stream, _)| load.wants(stream))
            .collect();
        let mut rest = wanted.as_slice();
        while let Some((one, after)) = rest.split_first() {
            if load.is_alone(&one.0) {
                give(&one.0, &one.1)?;
                rest = after;
                continue;
            }
            let alone = rest.iter().position(|one| load.is_alone(&one.0));
            let (together, after) = rest.split_at(alone.unwrap_or(rest.len()));
            let queue = Mutex::new(together.iter());
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..load.jobs())
                    .map(|_| {
                        scope.spawn(|| {
                            loop {
                                let next = queue.lock().expect("a queue").next();
                                let Some(one) = next else { return Ok(()) };
                                give(&one.0, &one.1)?;
                            }
                        })
                    })
                    .collect();
                let ended = workers.into_iter().map(|one| one.join().expect("no panic"));
                ended.collect::<Result<(), CaptureError>>()
            })?;
            rest = after;
        }
        load.finish()
    }

    fn load_well(
        &self,
        server: &PostgresqlServer,
        name: &str,
        options: &LoadOptions,
    ) -> Vec<String> {
        let loaded = self.load(server, name, options, &|_, _| Ok(()));
        loaded.unwrap_or_else(|error| panic!("{}", error_chain(&error)))
    }

    /// Loads a database and proves it.
    #[track_caller]
    fn comes_back(&self, server: &PostgresqlServer, name: &str, options: &LoadOptions) {
        self.load_well(server, name, options);
        self.prove_well(server, name, options);
    }

    /// Proves a database in which nothing is other than it was captured.
    #[track_caller]
    fn prove_well(&self, server: &PostgresqlServer, name: &str, options: &LoadOptions) {
        let proof = self.prove(server, name, options);
        assert!(proof.failures.is_empty(), "{name}: {:?}", proof.failures);
        assert!(!proof.shown.is_empty(), "{name}");
    }

    fn prove(&self, server: &PostgresqlServer, name: &str, options: &LoadOptions) -> Proof {
        let cancel = Cancel::default();
        server
            .prove(name, &self.database(options, &cancel))
            .unwrap_or_else(|error| panic!("{}", error_chain(&error)))
    }
}

/// What `pg_dump` says of a database, without what names it or counts time.
fn dump(cluster: &Cluster, database: &str) -> String {
    let connection = connection(cluster, database);
    let client = connection.client(cluster.programs());
    let url = cluster.url(database);
    let output = client
        .output("pg_dump", &["--no-password", "--dbname", &url])
        .expect("a dump");
    let text = String::from_utf8_lossy(&output);
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    kept.collect::<Vec<_>>().join("\n")
}

/// Two databases have the same dump, but for the order of rows.
fn assert_same(cluster: &Cluster, one: &str, other: &str) {
    let sorted = |database: &str| {
        let text = dump(cluster, database);
        // The server writes parentheses of its own into a condition that it has parsed once more.
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.replace(['(', ')'], ""))
            .collect();
        lines.sort();
        lines
    };
    let (left, right) = (sorted(one), sorted(other));
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        let these = these.iter();
        let not = these.filter(|line| others.binary_search(line).is_err());
        not.take(20).cloned().collect()
    };
    assert_eq!(
        only(&left, &right),
        only(&right, &left),
        "{one} and {other}"
    );
    assert_eq!(left.len(), right.len(), "{one} and {other}");
}
