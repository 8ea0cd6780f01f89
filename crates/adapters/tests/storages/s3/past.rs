//! A bucket as it was: what was deleted and overwritten comes back.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::ByteStream;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Storage, StorageError};
use strongroom_testkit::servers::minio::{Kind, Minio};

use super::{Bucket, block_on, put, refusal, server};

/// Everything that a storage shows.
pub(super) fn content(storage: &dyn Storage) -> BTreeMap<String, Vec<u8>> {
    let mut names = Vec::new();
    let mut visit = |name, _| names.push(name);
    storage.list("", &mut visit).expect("lists");
    let read = |name: ObjectName| {
        let bytes = storage.get(&name, 1 << 20).expect("reads");
        (name.to_string(), bytes)
    };
    names.into_iter().map(read).collect()
}

/// The time of the newest object by the server's clock; what happens to it next happens later.
pub(super) fn newest(storage: &dyn Storage) -> jiff::Timestamp {
    let mut newest = jiff::Timestamp::MIN;
    storage
        .list("", &mut |_, stat| {
            newest = newest.max(stat.stored.expect("it tells the time"));
        })
        .expect("lists");
    newest
}

#[test]
fn what_was_deleted_and_overwritten_comes_back() {
    let Some(server) = server("what_was_deleted_and_overwritten_comes_back") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Versioned);
    let storage = bucket.open(&bucket.writer, "ca");
    let names = [&b"one"[..], b"two", b"three"].map(|bytes| put(storage.as_ref(), bytes));
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect("creates");
    let before = content(storage.as_ref());
    let then = newest(storage.as_ref());

    let root = bucket.client(&Minio::root());
    let delete = root.delete_object().bucket(&bucket.name);
    block_on(delete.key(format!("ca/{}", names[0])).send()).expect("root may");
    let overwrite = root
        .put_object()
        .bucket(&bucket.name)
        .key(format!("ca/{}", names[1]))
        .body(ByteStream::from_static(b"gone"));
    block_on(overwrite.send()).expect("root may");
    let later = put(storage.as_ref(), b"later");
    assert_ne!(content(storage.as_ref()), before);

    let past = bucket.open_past("ca", then);
    assert_eq!(content(past.as_ref()), before);
    assert_eq!(past.get_range(&names[1], 1, 9).expect("reads"), b"wo");
    assert_eq!(past.get_range(&names[1], 1 << 60, 9).expect("reads"), b"");
    assert_eq!(past.stat(&later).expect("answers"), None);
    let error = past.get(&later, 10).expect_err("was not there yet");
    assert!(matches!(error, StorageError::NotFound { .. }), "{error:?}");
    for text in [
        refusal(past.create(&ObjectName::repository(2), b"{}")),
        refusal(past.delete(&names[1])),
        refusal(
            past.put(&later, Body::Bytes(b"later"))
                .and_then(|()| past.flush()),
        ),
    ] {
        assert!(text.contains("as it was at"), "{text}");
    }

    let long_ago = "2020-01-01T00:00:00Z".parse().expect("a time");
    assert!(content(bucket.open_past("ca", long_ago).as_ref()).is_empty());
}

#[test]
fn more_versions_than_a_page_holds_are_all_seen() {
    let Some(server) = server("more_versions_than_a_page_holds_are_all_seen") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Versioned);
    let storage = bucket.open(&bucket.writer, "pages");
    for number in 1..=1100_u32 {
        let bytes = number.to_be_bytes();
        let name = ObjectName::object(strongroom_core::format::Digest::of(&bytes));
        storage.put(&name, Body::Bytes(&bytes)).expect("is taken");
    }
    storage.flush().expect("arrives");
    let then = newest(storage.as_ref());
    assert_eq!(content(storage.as_ref()).len(), 1100);
    assert_eq!(
        content(bucket.open_past("pages", then).as_ref()).len(),
        1100
    );
}
