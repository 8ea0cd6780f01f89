//! The storages of Google and Azure against their emulators.
//!
//! What a page of the guide says of permissions is tried as far as an emulator has them. Without `go` or `npm` the
//! tests of that service say so at the end of `./test`.
#![expect(
    clippy::disallowed_methods,
    reason = "tests make files of their own and a stub that waits"
)]

mod azure;
mod gcs;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use strongroom_adapters::storage::{
    Credentials, Place, StorageSettings, TransferLimits, open_storage,
};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Put, Storage, StorageError};
use strongroom_testkit::proxy::{Faults, HttpAnswer, HttpFaults, Proxy};
use strongroom_testkit::storage_conformance::{CASES, CREATE_SAME};
use strongroom_testkit::stub;

/// A prefix that nothing else uses.
fn fresh() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("tests/p{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn settings(place: Place, credentials: PathBuf) -> StorageSettings {
    StorageSettings {
        place,
        credentials: Credentials {
            file: Some(credentials),
            ..Credentials::default()
        },
        limits: TransferLimits {
            patience: Duration::from_secs(20),
            ..TransferLimits::default()
        },
        as_of: None,
    }
}

fn open(settings: &StorageSettings) -> Box<dyn Storage> {
    open_storage(settings, &Cancel::default()).expect("opens")
}

/// The sentence and the hint of a refusal.
#[track_caller]
fn refusal<T>(result: Result<T, StorageError>) -> (String, &'static str) {
    match result.map(drop) {
        Err(StorageError::Refused(refusal)) => (refusal.why.clone(), refusal.hint),
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn assert_refused<T>(result: Result<T, StorageError>, why: &str, hint: &str) {
    let found = refusal(result);
    assert!(found.0.contains(why), "{found:?}");
    assert!(found.1.contains(hint), "{found:?}");
    assert!(!found.0.contains("planted"), "{found:?}");
}

fn put(storage: &dyn Storage, bytes: &[u8]) -> Result<ObjectName, StorageError> {
    let name = ObjectName::object(Digest::of(bytes));
    storage.put(&name, Body::Bytes(bytes))?;
    storage.flush()?;
    Ok(name)
}

/// 80 MB arrive in parts and come back; a second upload leaves the first alone.
fn a_large_file_goes_in_parts(storage: &dyn Storage) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let bytes: Vec<u8> = (0..20_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(file.path(), &bytes).expect("writes");
    let name = ObjectName::object(Digest::of(&bytes));
    storage.put(&name, Body::File(file.path())).expect("puts");
    storage.flush().expect("flushes");
    let first = storage.stat(&name).expect("stats").expect("is there");
    assert_eq!(first.size_bytes, bytes.len() as u64);
    assert!(first.stored.is_some());
    assert!(storage.get(&name, bytes.len()).expect("reads") == bytes);
    let mut read = Vec::new();
    let mut reader = storage.open(&name).expect("opens");
    std::io::Read::read_to_end(&mut reader, &mut read).expect("reads");
    assert!(read == bytes);
    storage.put(&name, Body::File(file.path())).expect("puts");
    let second = storage.stat(&name).expect("stats").expect("is there");
    assert_eq!(second, first, "it was stored again");
}

/// Two threads that store the same large file: both succeed, and it is whole.
fn a_race_of_large_files(storage: &dyn Storage) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let bytes: Vec<u8> = (0..9_000_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(file.path(), &bytes).expect("writes");
    let name = ObjectName::object(Digest::of(&bytes));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                storage.put(&name, Body::File(file.path())).expect("puts");
                storage.flush().expect("flushes");
            });
        }
    });
    assert!(storage.get(&name, bytes.len()).expect("reads") == bytes);
}

/// More names than a page of the emulator's listing has.
fn a_listing_has_pages(storage: &dyn Storage) {
    let mut names = Vec::new();
    for number in 0..230_u32 {
        let bytes = number.to_le_bytes();
        let name = ObjectName::object(Digest::of(&bytes));
        storage.put(&name, Body::Bytes(&bytes)).expect("puts");
        names.push(name);
    }
    storage.flush().expect("flushes");
    let mut found = Vec::new();
    let mut visit = |name, _| found.push(name);
    storage.list("objects/", &mut visit).expect("lists");
    names.sort();
    found.sort();
    assert_eq!(found, names);
}

/// A bucket or container for itself.
fn names_need_no_prefix(storage: &dyn Storage) {
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect("creates");
    let mut visited = Vec::new();
    let mut visit = |name: ObjectName, _| visited.push(name.to_string());
    storage.list("repository/", &mut visit).expect("lists");
    assert_eq!(visited, ["repository/00000001.json"]);
}

/// Who writes adds and changes nothing, who restores reads, who expires deletes; `hint` is of the refusals.
fn roles_do_what_they_are_for(
    writer: &dyn Storage,
    restorer: &dyn Storage,
    expirer: &dyn Storage,
    hint: &str,
) {
    let name = ObjectName::repository(1);
    assert_eq!(writer.create(&name, b"{}").expect("creates"), Put::Stored);
    let again = writer.create(&name, b"overwritten").expect("answers");
    assert_eq!(again, Put::AlreadyThere);
    let object = put(writer, b"an object").expect("stores");
    put(writer, b"an object").expect("is there");
    assert_refused(writer.delete(&object), "do not allow", hint);

    assert_eq!(restorer.get(&name, 10).expect("reads"), b"{}");
    assert_refused(put(restorer, b"planted"), "do not allow", hint);
    assert_refused(restorer.delete(&object), "do not allow", hint);

    assert_refused(put(expirer, b"planted"), "do not allow", hint);
    expirer.delete(&object).expect("deletes");
    expirer.delete(&object).expect("is gone already");
    assert_eq!(writer.stat(&object).expect("stats"), None);
}

/// All requests of somebody whom the service refuses.
fn everything_is_refused(storage: &dyn Storage, why: &str, hint: &str) {
    let name = ObjectName::repository(1);
    assert_refused(storage.create(&name, b"{}"), why, hint);
    assert_refused(put(storage, b"planted"), why, hint);
    assert_refused(storage.list("", &mut |_, _| {}), why, hint);
    assert_refused(storage.get(&name, 10), why, hint);
}

/// Every case of the contract on the way through each kind of network; `open_at` opens a prefix at a URL.
fn the_contract_holds_over_bad_networks(
    open_at: &dyn Fn(String, &str) -> Box<dyn Storage>,
    server: &str,
) {
    let rest = server.strip_prefix("http://").expect("without TLS");
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let proxy = Proxy::start_http(address.parse().expect("an address")).expect("starts");
    let answered = |every, answer| HttpFaults {
        answer_every: Some((every, answer)),
        cut_every: Some(11),
        ..HttpFaults::default()
    };
    let http = |http| Faults {
        http,
        ..Faults::default()
    };
    let networks = [
        ("a long way", Faults::round_trip(Duration::from_millis(40))),
        (
            "connections drop",
            Faults {
                drop_one_in: Some(30),
                ..Faults::default()
            },
        ),
        (
            "connections tear",
            Faults {
                // More than the largest object: one request passes, what follows on the connection tears.
                tear_after_bytes: Some(12 << 20),
                drop_one_in: Some(60),
                ..Faults::default()
            },
        ),
        ("500", http(answered(7, HttpAnswer::InternalError))),
        ("503", http(answered(8, HttpAnswer::SlowDown))),
        ("429", http(answered(9, HttpAnswer::TooManyRequests))),
        (
            "answers to writes are lost",
            http(HttpFaults {
                lose_every: Some(3),
                only_method: Some("PUT"),
                ..HttpFaults::default()
            }),
        ),
    ];
    for (network, faults) in networks {
        proxy.seed(20_261_127);
        let breaks = faults.delay_there.is_zero();
        proxy.set(faults);
        let before = proxy.counts();
        for case in CASES {
            // An answer that is lost leaves open who stored a document.
            if case.name != CREATE_SAME {
                eprintln!("{network}: {}", case.name);
                (case.run)(&*open_at(
                    format!("http://{}{path}", proxy.address()),
                    &fresh(),
                ));
            }
        }
        let counts = proxy.counts();
        let met = counts.broken + counts.answered - before.broken - before.answered;
        assert_eq!(met > 5, breaks, "{network}: {counts:?}");
    }
}

/// Faults at the beginning of each request pass unseen.
fn faults_pass(open_at: &dyn Fn(String) -> Box<dyn Storage>, server: &str) {
    use stub::Fault::{Cut, CutAnswer, Status, Truncated};
    let proxy = stub::Stub::start(server);
    let storage = open_at(proxy.url());
    let name = ObjectName::repository(1);
    let script = [Status(503), Status(500), Status(429), Cut];
    proxy.next(&script);
    assert_eq!(storage.create(&name, b"{}").expect("creates"), Put::Stored);
    proxy.next(&script);
    assert_eq!(storage.get(&name, 10).expect("reads"), b"{}");
    proxy.next(&script);
    assert!(storage.stat(&name).expect("stats").is_some());
    proxy.next(&[Status(503), CutAnswer, Truncated]);
    let mut listed = 0;
    storage.list("", &mut |_, _| listed += 1).expect("lists");
    assert_eq!(listed, 1);
    proxy.next(&[Status(408), CutAnswer]);
    let object = put(&*storage, b"its answer is lost, and it is stored once").expect("puts");
    proxy.next(&[Truncated, CutAnswer]);
    assert!(
        storage
            .get(&object, 100)
            .expect("reads")
            .starts_with(b"its")
    );
    proxy.next(&[Status(500), CutAnswer]);
    storage.delete(&object).expect("deletes");
    assert_eq!(storage.stat(&object).expect("stats"), None);
    storage.delete(&name).expect("deletes");
    stub::a_stale_list_misleads_nobody(&*storage, &proxy);

    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let bytes = vec![3; 40 << 20];
    std::fs::write(file.path(), &bytes).expect("writes");
    let name = ObjectName::object(Digest::of(&bytes));
    proxy.next(&[Status(503), Status(500), Cut, CutAnswer, Status(503), Cut]);
    storage.put(&name, Body::File(file.path())).expect("puts");
    assert!(storage.get(&name, bytes.len()).expect("reads") == bytes);
    proxy.done();
}
