//! The contract over a good network and over bad ones.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use strongroom_adapters::storage::{Place, sftp};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Storage, StorageError};
use strongroom_testkit::proxy::{Faults, Proxy};
use strongroom_testkit::storage_conformance;

use super::place::{Server, create, server};

fn conform(server: &Server, address: SocketAddr) {
    let mut count = 0;
    storage_conformance::run(&mut || {
        count += 1;
        create(&server.settings(&format!("r{count}/of/test"), address))
    });
}

#[test]
fn it_conforms() {
    let Some(server) = server("network::it_conforms", "") else {
        return;
    };
    conform(&server, server.sshd.address());
}

#[test]
fn it_conforms_a_long_way_off() {
    let Some(server) = server("network::it_conforms_a_long_way_off", "") else {
        return;
    };
    let proxy = Proxy::start(server.sshd.address()).expect("starts");
    proxy.set(Faults::round_trip(Duration::from_millis(20)));
    conform(&server, proxy.address());
}

#[test]
fn it_conforms_when_connections_drop() {
    let Some(server) = server("network::it_conforms_when_connections_drop", "") else {
        return;
    };
    let proxy = Proxy::start(server.sshd.address()).expect("starts");
    proxy.set(Faults {
        // The largest object of the suite passes in some 260 pieces.
        drop_one_in: Some(1000),
        ..Faults::default()
    });
    conform(&server, proxy.address());
    assert!(proxy.counts().broken > 2, "{:?}", proxy.counts());
}

#[test]
fn it_conforms_when_connections_are_torn() {
    let Some(server) = server("network::it_conforms_when_connections_are_torn", "") else {
        return;
    };
    let proxy = Proxy::start(server.sshd.address()).expect("starts");
    proxy.set(Faults {
        // The largest object of the suite has 8 MiB, which must pass once.
        tear_after_bytes: Some(9_500_000),
        ..Faults::default()
    });
    conform(&server, proxy.address());
    assert!(proxy.counts().broken > 0, "{:?}", proxy.counts());
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn put_and_flush(storage: &dyn Storage, bytes: &[u8]) -> Result<ObjectName, StorageError> {
    let name = ObjectName::object(Digest::of(bytes));
    storage.put(&name, Body::Bytes(bytes))?;
    storage.flush()?;
    Ok(name)
}

#[test]
fn latency_does_not_limit_throughput() {
    let Some(server) = server("network::latency_does_not_limit_throughput", "") else {
        return;
    };
    let proxy = Proxy::start(server.sshd.address()).expect("starts");
    proxy.set(Faults::round_trip(Duration::from_millis(40)));
    let settings = server.settings("r", proxy.address());
    drop(create(&settings));
    let Place::Sftp(place) = &settings.place else {
        unreachable!("as made");
    };
    let storage = sftp::connect(place, &settings, &Cancel::default()).expect("opens");
    let bytes = noise(64 << 20);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &bytes).expect("writes");
    let name = ObjectName::object(Digest::of(&bytes));
    let begun = Instant::now();
    storage.put(&name, Body::File(file.path())).expect("puts");
    storage.flush().expect("flushes");
    let stored = Instant::now();
    let in_flight = storage.requests().most_in_flight();
    assert!(storage.get(&name, bytes.len()).expect("reads") == bytes);
    let (put, got) = (stored - begun, stored.elapsed());
    eprintln!("40 ms: put 64 MiB in {put:?}, read them in {got:?}, {in_flight} in flight");
    assert!(in_flight >= 64, "only {in_flight} requests in flight");
    // One request after the other would be 2048 round trips, 82 s, in each direction.
    assert!(begun.elapsed().as_secs() < 120, "{put:?} {got:?}");
}

#[test]
fn what_was_on_its_way_when_the_line_broke_arrives() {
    let Some(server) = server(
        "network::what_was_on_its_way_when_the_line_broke_arrives",
        "",
    ) else {
        return;
    };
    let proxy = Proxy::start(server.sshd.address()).expect("starts");
    let storage = create(&server.settings("r", proxy.address()));
    let bytes = noise(8 << 20);
    proxy.set(Faults {
        bytes_per_second: Some(16 << 20),
        ..Faults::default()
    });
    let name = std::thread::scope(|scope| {
        let putting = scope.spawn(|| put_and_flush(storage.as_ref(), &bytes));
        while proxy.counts().bytes_there < 2 << 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        proxy.break_all();
        proxy.set(Faults::default());
        putting.join().expect("no panic").expect("arrives")
    });
    assert!(storage.get(&name, bytes.len()).expect("reads") == bytes);
    assert!(proxy.counts().connections >= 2);
}

#[test]
fn a_server_that_is_silent_or_gone_is_told() {
    let Some(server) = server("network::a_server_that_is_silent_or_gone_is_told", "") else {
        return;
    };
    let proxy = Proxy::start(server.sshd.address()).expect("starts");
    let mut settings = server.settings("r", proxy.address());
    settings.limits.patience = Duration::from_secs(2);
    let storage = create(&settings);
    for (faults, wanted) in [
        (
            Faults {
                stall: true,
                ..Faults::default()
            },
            "no answer for 2 seconds",
        ),
        (
            Faults {
                refuse: true,
                ..Faults::default()
            },
            "nothing listens there",
        ),
    ] {
        proxy.set(faults);
        proxy.break_all();
        let error = if wanted.starts_with("no answer") {
            proxy.set(Faults::default());
            storage.stat(&ObjectName::repository(1)).expect("connects");
            proxy.set(Faults {
                stall: true,
                ..Faults::default()
            });
            storage
                .stat(&ObjectName::repository(1))
                .expect_err("is silent")
        } else {
            storage
                .stat(&ObjectName::repository(1))
                .expect_err("is gone")
        };
        let text = strongroom_core::error_chain(&error);
        assert!(matches!(error, StorageError::Unreachable(_)), "{text}");
        assert!(text.contains(wanted), "{text}");
    }
    proxy.set(Faults::default());
    storage.stat(&ObjectName::repository(1)).expect("is back");
}
