//! The contract over a network that drops, delays, tears, refuses, throttles and loses answers.

use std::net::SocketAddr;
use std::time::Duration;

use strongroom_adapters::storage::Place;
use strongroom_testkit::proxy::{Faults, HttpAnswer, HttpFaults, Proxy};
use strongroom_testkit::servers::minio::{Kind, Minio};
use strongroom_testkit::storage_conformance::{CASES, CREATE_SAME};

use super::{Bucket, open, server};

/// Every case of the contract on a bucket behind a proxy with these faults.
fn conform(test: &str, faults: Faults) {
    let Some(server) = server(test) else { return };
    let bucket = Bucket::make(server, Kind::Versioned);
    let endpoint = server.endpoint();
    let target: SocketAddr = endpoint
        .strip_prefix("http://")
        .and_then(|address| address.parse().ok())
        .expect("an address");
    let proxy = Proxy::start_http(target).expect("starts");
    proxy.seed(20_261_120);
    proxy.set(faults);
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
    assert!(counts.broken + counts.answered > 5, "{counts:?}");
}

#[test]
fn the_contract_holds_while_connections_drop() {
    conform(
        "the_contract_holds_while_connections_drop",
        Faults {
            drop_one_in: Some(30),
            ..Faults::default()
        },
    );
}

#[test]
fn the_contract_holds_while_connections_tear() {
    conform(
        "the_contract_holds_while_connections_tear",
        Faults {
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
            Faults {
                http,
                ..Faults::default()
            },
        );
    }
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
        Faults {
            http,
            ..Faults::default()
        },
    );
}
