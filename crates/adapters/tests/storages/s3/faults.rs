//! The contract over a network that drops, delays, tears, refuses, throttles and loses answers.
//!
//! Which fault is tried against which server. `suite` is every case of the contract under it, `calls` each kind of call in turn:
//!
//! | fault | S3, here | Google and Azure, emulated: `clouds/main.rs` | SFTP |
//! |---|---|---|---|
//! | connections drop | suite | suite | suite, `sftp/network.rs` |
//! | delay | suite | suite | suite, `sftp/network.rs` |
//! | torn answers | suite | suite | suite, `sftp/network.rs` |
//! | 500, 503, 429 | suite | suite | has none; the server killed: `sftp/faults.rs` |
//! | answers to writes lost | suite | suite | `sftp/network.rs` |
//! | nobody answers | `it/remote.rs` | calls | `sftp/network.rs` |
//! | stale lists | calls | calls | has none: a directory is read where it lies |
//! | disk full | - | - | `sftp/faults.rs` |
//!
//! What the engine makes of stale lists is tried in `core/tests/it/stale.rs`, whatever the storage.

use std::net::SocketAddr;
use std::time::Duration;

use strongroom_adapters::storage::Place;
use strongroom_testkit::proxy::{Faults, HttpAnswer, HttpFaults, Proxy};
use strongroom_testkit::servers::minio::{Kind, Minio};
use strongroom_testkit::storage_conformance::{CASES, CREATE_SAME};
use strongroom_testkit::stub;

use super::{Bucket, open, server};

/// A round trip that is long.
const LATENCY: Duration = Duration::from_millis(40);

/// Every case of the contract on a bucket behind a proxy with these faults.
fn conform(test: &str, faults: &Faults) {
    let Some(server) = server(test) else { return };
    let bucket = Bucket::make(server, Kind::Versioned);
    let endpoint = server.endpoint();
    let target: SocketAddr = endpoint
        .strip_prefix("http://")
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let proxy = Proxy::start_http(target).expect("starts");
    proxy.seed(20_261_120);
    proxy.set(faults.clone());
    for (number, case) in CASES.iter().enumerate() {
        if case.name == CREATE_SAME {
            continue;
        }
        eprintln!("{test}: {}", case.name);
        let (mut place, mut settings) = bucket.settings(&Minio::root(), &format!("case/{number}"));
        place.endpoint = Some(format!("http://{}", proxy.address()));
        settings.place = Place::S3(place);
        settings.limits.patience = Duration::from_mins(1);
        (case.run)(open(&settings).as_ref());
    }
    let counts = proxy.counts();
    let breaks = *faults != Faults::round_trip(LATENCY);
    assert_eq!(counts.broken + counts.answered > 5, breaks, "{counts:?}");
}

#[test]
fn the_contract_holds_a_long_way_off() {
    conform(
        "the_contract_holds_a_long_way_off",
        &Faults::round_trip(LATENCY),
    );
}

#[test]
fn the_contract_holds_while_connections_drop() {
    conform(
        "the_contract_holds_while_connections_drop",
        &Faults {
            drop_one_in: Some(30),
            ..Faults::default()
        },
    );
}

#[test]
fn the_contract_holds_while_connections_tear() {
    conform(
        "the_contract_holds_while_connections_tear",
        &Faults {
            // More than the largest object: one request passes, what follows on the connection tears.
            tear_after_bytes: Some(12 << 20),
            drop_one_in: Some(60),
            delay_back: Duration::from_millis(2),
            ..Faults::default()
        },
    );
}

#[test]
fn the_contract_holds_while_the_server_fails_throttles_and_is_cut() {
    for (answer, every) in [
        (HttpAnswer::InternalError, 3),
        (HttpAnswer::SlowDown, 5),
        (HttpAnswer::TooManyRequests, 7),
    ] {
        let http = HttpFaults {
            answer_every: Some((every, answer)),
            cut_every: Some(11),
            ..HttpFaults::default()
        };
        conform(
            "the_contract_holds_while_the_server_fails_throttles_and_is_cut",
            &Faults {
                http,
                ..Faults::default()
            },
        );
    }
}

#[test]
fn a_stale_list_misleads_nobody() {
    let Some(server) = server("a_stale_list_misleads_nobody") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Plain);
    let stub = stub::Stub::start(&server.endpoint());
    let (mut place, mut settings) = bucket.settings(&Minio::root(), "stale");
    place.endpoint = Some(stub.url());
    settings.place = Place::S3(place);
    stub::a_stale_list_misleads_nobody(open(&settings).as_ref(), &stub);
}

#[test]
fn the_contract_holds_while_answers_to_writes_are_lost() {
    let http = HttpFaults {
        lose_every: Some(3),
        only_method: Some("PUT"),
        ..HttpFaults::default()
    };
    conform(
        "the_contract_holds_while_answers_to_writes_are_lost",
        &Faults {
            http,
            ..Faults::default()
        },
    );
}
