//! The shared half of network storages, over requests that fail by script.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, ObjectStat, Put, Storage as _, StorageError};

use super::super::TransferLimits;
use super::{RemoteStorage, RequestError, Requests};

/// Objects in memory; each request but every `good_every`-th fails first.
#[derive(Clone)]
struct Flaky {
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    calls: Arc<AtomicU64>,
    good_every: u64,
    /// Every other failure comes after the request was carried out.
    fails_after: bool,
}

impl Flaky {
    fn new(good_every: u64) -> Self {
        Self {
            objects: Arc::default(),
            calls: Arc::default(),
            good_every,
            fails_after: good_every > 1,
        }
    }

    fn answer<T>(
        &self,
        request: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T,
    ) -> Result<T, RequestError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.good_every == 0 {
            return Err(RequestError::transient("never"));
        }
        let is_good = call.is_multiple_of(self.good_every);
        if !is_good && (!self.fails_after || call.is_multiple_of(2)) {
            return Err(RequestError::transient("before"));
        }
        let answer = request(&mut self.objects.lock().expect("no panic under the lock"));
        if is_good {
            Ok(answer)
        } else {
            Err(RequestError::transient("after"))
        }
    }
}

impl Requests for Flaky {
    fn location(&self) -> &'static str {
        "flaky:"
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<Put, RequestError> {
        self.answer(|objects| {
            if objects.contains_key(key) {
                return Put::AlreadyThere;
            }
            objects.insert(key.to_owned(), body.to_vec());
            Put::Stored
        })
    }

    fn put_new_file(&self, key: &str, file: &Path, _: u64) -> Result<Put, RequestError> {
        let bytes = std::fs::read(file)?;
        self.put_new(key, bytes.into())
    }

    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, RequestError> {
        self.answer(|objects| {
            let object = objects.get(key)?;
            let begin =
                usize::try_from(offset).map_or(object.len(), |begin| begin.min(object.len()));
            let end = begin.saturating_add(length).min(object.len());
            Some(object[begin..end].to_vec())
        })?
        .ok_or(RequestError::NotFound)
    }

    fn head(&self, key: &str) -> Result<Option<ObjectStat>, RequestError> {
        self.answer(|objects| {
            objects.get(key).map(|object| ObjectStat {
                size_bytes: object.len() as u64,
                stored: None,
            })
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectStat)>, RequestError> {
        self.answer(|objects| {
            let found = objects.iter().filter(|(key, _)| key.starts_with(prefix));
            let stat = |object: &Vec<u8>| ObjectStat {
                size_bytes: object.len() as u64,
                stored: None,
            };
            found
                .map(|(key, object)| (key.clone(), stat(object)))
                .collect()
        })
    }

    fn delete(&self, key: &str) -> Result<(), RequestError> {
        self.answer(|objects| drop(objects.remove(key)))
    }
}

fn limits() -> TransferLimits {
    TransferLimits::default()
}

#[test]
fn without_faults_it_conforms() {
    strongroom_testkit::storage_conformance::run(&mut || {
        Box::new(RemoteStorage::new(
            Flaky::new(1),
            limits(),
            Cancel::default(),
        ))
    });
}

#[test]
fn what_fails_is_asked_again_and_nothing_is_stored_twice() {
    let flaky = Flaky::new(3);
    let storage = RemoteStorage::new(flaky.clone(), limits(), Cancel::default());
    let bytes = vec![7; 100_000];
    let name = ObjectName::object(Digest::of(&bytes));
    storage.put(&name, Body::Bytes(&bytes)).expect("is taken");
    storage.flush().expect("arrives in the end");
    assert_eq!(storage.get(&name, 1 << 20).expect("is there"), bytes);
    assert_eq!(flaky.objects.lock().expect("no panic").len(), 1);
}

#[test]
fn a_create_whose_answer_was_lost_is_ours() {
    // The second request is carried out and its answer lost, the third finds what the second stored.
    let storage = RemoteStorage::new(Flaky::new(3), limits(), Cancel::default());
    let name = ObjectName::repository(1);
    assert_eq!(storage.create(&name, b"{}").expect("creates"), Put::Stored);
    let put = storage.create(&name, b"other").expect("answers");
    assert_eq!(put, Put::AlreadyThere);
}

#[test]
fn patience_ends_and_the_error_says_where() {
    let mut limits = limits();
    limits.patience = Duration::from_millis(300);
    let storage = RemoteStorage::new(Flaky::new(0), limits, Cancel::default());
    let name = ObjectName::repository(1);
    let error = storage.create(&name, b"{}").expect_err("never answers");
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("flaky:"), "{error}");
    let bytes = b"x";
    let name = ObjectName::object(Digest::of(bytes));
    storage.put(&name, Body::Bytes(bytes)).expect("is taken");
    storage.flush().expect_err("never arrives");
    storage.flush().expect("an error is told once");
}

#[test]
fn an_interruption_ends_waiting() {
    let cancel = Cancel::default();
    let storage = RemoteStorage::new(Flaky::new(0), limits(), cancel.clone());
    let begun = Instant::now();
    let error = std::thread::scope(|scope| {
        let asked = scope.spawn(|| storage.stat(&ObjectName::repository(1)));
        cancel.request();
        asked.join().expect("no panic").expect_err("interrupted")
    });
    assert!(matches!(error, StorageError::Interrupted(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}
