//! The contract of storages, each case with the credentials that it needs and no others.

use std::io::{Read as _, Write as _};

use strongroom_core::format::Digest;
use strongroom_core::format::id::Hasher;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Put};
use strongroom_testkit::servers::minio::{Kind, Minio};
use strongroom_testkit::storage_conformance;

use super::{Bucket, LOCK, put, refusal, server};

#[test]
fn the_whole_contract_holds_in_every_kind_of_bucket() {
    let Some(server) = server("the_whole_contract_holds_in_every_kind_of_bucket") else {
        return;
    };
    for kind in [Kind::Plain, Kind::Versioned, Kind::Locking] {
        let bucket = Bucket::make(server, kind);
        let mut number = 0;
        storage_conformance::run_by(&mut |deletes| {
            number += 1;
            let prefix = format!("case/{number}");
            if deletes {
                bucket.open(&Minio::root(), &prefix)
            } else if kind == Kind::Locking {
                bucket.open_locking(&bucket.writer, &prefix)
            } else {
                bucket.open(&bucket.writer, &prefix)
            }
        });
    }
}

#[test]
fn a_file_of_80_mb_goes_in_parts_and_comes_back() {
    let Some(server) = server("a_file_of_80_mb_goes_in_parts_and_comes_back") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Locking);
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut hasher = Hasher::new();
    for block in 0..80_u32 {
        let bytes: Vec<u8> = (0..250_000_u32)
            .flat_map(|n| (n ^ block).to_le_bytes())
            .collect();
        hasher.update(&bytes);
        file.write_all(&bytes).expect("writes");
    }
    let digest = hasher.finish();
    let name = ObjectName::object(digest);
    let storage = bucket.open_locking(&bucket.writer, "parts");
    for _ in 0..2 {
        storage
            .put(&name, Body::File(file.path()))
            .expect("arrives");
        storage.flush().expect("flushes");
    }
    assert_eq!(bucket.versions_of("parts/"), (1, 0), "stored once");
    let mut reader = storage.open(&name).expect("is there");
    let (mut hasher, mut block, mut size) = (Hasher::new(), vec![0; 1 << 20], 0);
    loop {
        let read = reader.read(&mut block).expect("reads");
        if read == 0 {
            break;
        }
        size += read;
        hasher.update(&block[..read]);
    }
    assert_eq!((size, hasher.finish()), (80_000_000, digest));
    let error = refusal(bucket.open(&bucket.expirer, "parts").delete(&name));
    assert!(
        error.contains("is locked"),
        "the parts have the lock, too: {error}"
    );

    // A file that is not what its name says is not stored, and leaves no parts behind.
    let wrong = ObjectName::object(Digest::of(b"something else"));
    let error = storage
        .put(&wrong, Body::File(file.path()))
        .expect_err("another digest");
    let error = strongroom_core::error_chain(&error);
    assert!(error.contains("does not have the digest"), "{error}");
    assert_eq!(storage.stat(&wrong).expect("answers"), None);
    let root = bucket.client(&Minio::root());
    let uploads = root.list_multipart_uploads().bucket(&bucket.name);
    let uploads = super::block_on(uploads.send()).expect("root may list");
    assert_eq!(uploads.uploads().len(), 0, "parts are left");
}

#[test]
fn the_server_itself_compares_the_digest() {
    let Some(server) = server("the_server_itself_compares_the_digest") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Plain);
    let storage = bucket.open(&bucket.writer, "digest");
    let name = ObjectName::object(Digest::of(b"the whole object"));
    storage
        .put(&name, Body::Bytes(b"the who"))
        .expect("is taken");
    let error = refusal(storage.flush());
    assert!(error.contains("do not have the digest"), "{error}");
    assert_eq!(storage.stat(&name).expect("answers"), None);
}

#[test]
fn each_policy_allows_its_own_work_only() {
    let Some(server) = server("each_policy_allows_its_own_work_only") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Versioned);
    let open = |account| bucket.open(account, "roles");
    let (writer, restorer, expirer) = (
        open(&bucket.writer),
        open(&bucket.restorer),
        open(&bucket.expirer),
    );
    let name = put(writer.as_ref(), b"an object");
    let document = ObjectName::repository(1);
    assert_eq!(writer.create(&document, b"{}").expect("may"), Put::Stored);
    assert_eq!(
        writer.create(&document, b"x").expect("may"),
        Put::AlreadyThere
    );
    for storage in [&writer, &restorer, &expirer] {
        assert_eq!(storage.get(&name, 100).expect("may read"), b"an object");
    }
    let other = ObjectName::repository(2);
    for storage in [&restorer, &expirer] {
        let error = refusal(storage.create(&other, b"{}"));
        assert!(error.contains("access denied"), "{error}");
    }
    for storage in [&writer, &restorer] {
        let error = refusal(storage.delete(&name));
        assert!(error.contains("access denied"), "{error}");
    }
    // Room is freed only when every version goes.
    expirer.delete(&name).expect("may delete");
    assert_eq!(bucket.versions_of("roles/objects/"), (0, 0));
    assert_eq!(writer.stat(&name).expect("answers"), None);
}

#[test]
fn a_locked_version_cannot_be_deleted_by_anybody() {
    let Some(server) = server("a_locked_version_cannot_be_deleted_by_anybody") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Locking);
    let storage = bucket.open_locking(&bucket.writer, "locked");
    let name = put(storage.as_ref(), b"an object");
    let document = ObjectName::repository(1);
    storage.create(&document, b"{}").expect("creates");
    for account in [&bucket.expirer, &Minio::root()] {
        for name in [&name, &document] {
            let error = refusal(bucket.open(account, "locked").delete(name));
            assert!(error.contains("is locked"), "{error}");
            assert!(storage.stat(name).expect("answers").is_some(), "still seen");
        }
    }
    let key = format!("locked/{name}");
    let root = bucket.client(&Minio::root());
    let request = root.get_object_retention().bucket(&bucket.name).key(&key);
    let answer = super::block_on(request.send()).expect("root may look");
    let retention = answer.retention().expect("it is locked");
    let until = retention.retain_until_date().expect("until a time").secs();
    let left = until - jiff::Timestamp::now().as_second();
    let length = i64::from(LOCK.days) * 86_400;
    assert!((length - 60..=length + 1).contains(&left), "{left} seconds");
}
