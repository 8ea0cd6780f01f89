//! The source `postgresql` on a real server.

mod access;
mod content;
mod faults;
mod session;

use std::collections::BTreeMap;

use strongroom_adapters::source::postgresql::facts::Facts;
use strongroom_adapters::source::postgresql::{
    Connection, PostgresqlSettings, PostgresqlSource, PostgresqlUrl,
};
use strongroom_adapters::throwaway::Options;
use strongroom_adapters::throwaway::postgresql::Cluster;
use strongroom_core::source::{Capture, CaptureError, Source as _};
use strongroom_testkit::recording_sink::RecordingSink;

fn cluster() -> Cluster {
    let mut options = Options::for_tests();
    let settings = [("wal_level", "logical"), ("max_wal_senders", "2")];
    options.settings = settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    Cluster::start(&options).expect("a cluster")
}

fn connection(url: &str) -> Connection {
    Connection {
        settings: PostgresqlSettings {
            url: Some(PostgresqlUrl::parse(url).expect("a URL without a password")),
            ..PostgresqlSettings::default()
        },
        ..Connection::default()
    }
}

fn captured(connection: &Connection, sink: &RecordingSink) -> Result<Capture, CaptureError> {
    PostgresqlSource::new(connection.clone()).capture(sink)
}

fn facts(capture: &Capture) -> Facts {
    serde_json::from_value(capture.facts.clone()).expect("facts can be read again")
}

/// All streams by their paths.
fn streams(sink: &RecordingSink) -> BTreeMap<String, Vec<u8>> {
    sink.recorded()
        .into_iter()
        .map(|recorded| {
            let path = recorded.entry.path.to_string_lossy().into_owned();
            (path, recorded.content.expect("all streams have content"))
        })
        .collect()
}
