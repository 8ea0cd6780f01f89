//! What the server encrypts besides: with its own keys, and with one of its key management.

use aws_sdk_s3::types::ServerSideEncryption;
use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::remote::runtime::block_on;
use strongroom_adapters::storage::s3::Encryption;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Storage};
use strongroom_testkit::servers::minio::{Account, KMS_KEY, Kind, Minio};
use strongroom_testkit::storage_conformance;

use super::{Bucket, open, put, refusal, server};

fn open_encrypting(
    bucket: &Bucket,
    account: &Account,
    prefix: &str,
    encryption: &Encryption,
) -> Box<dyn Storage> {
    let (mut place, mut settings) = bucket.settings(account, prefix);
    place.encryption = Some(encryption.clone());
    settings.place = Place::S3(place);
    open(&settings)
}

/// How the server says that it keeps an object.
fn encryption_of(bucket: &Bucket, key: &str) -> (Option<ServerSideEncryption>, Option<String>) {
    let client = bucket.client(&Minio::root());
    let request = client.head_object().bucket(&bucket.name).key(key);
    let head = block_on(request.send()).expect("is there");
    let key = head.ssekms_key_id().map(str::to_owned);
    (head.server_side_encryption().cloned(), key)
}

#[test]
fn the_whole_contract_holds_and_everything_is_encrypted() {
    let Some(server) = server("the_whole_contract_holds_and_everything_is_encrypted") else {
        return;
    };
    for (encryption, wanted) in [
        (Encryption::Aes256, ServerSideEncryption::Aes256),
        (
            Encryption::Kms(Some(KMS_KEY.into())),
            ServerSideEncryption::AwsKms,
        ),
    ] {
        let bucket = Bucket::make(server, Kind::Versioned);
        let mut number = 0;
        storage_conformance::run_by(&mut |deletes| {
            number += 1;
            let root = Minio::root();
            let account = if deletes { &root } else { &bucket.writer };
            open_encrypting(&bucket, account, &format!("case/{number}"), &encryption)
        });

        let storage = open_encrypting(&bucket, &bucket.writer, "whole", &encryption);
        let document = ObjectName::repository(1);
        storage.create(&document, b"{}").expect("creates");
        let object = put(&*storage, b"an object");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let bytes = vec![7; 40 << 20];
        std::fs::write(file.path(), &bytes).expect("writes");
        let parts = ObjectName::object(Digest::of(&bytes));
        storage
            .put(&parts, Body::File(file.path()))
            .expect("arrives");
        storage.flush().expect("flushes");
        assert!(storage.get(&parts, bytes.len()).expect("reads") == bytes);
        for name in [document, object, parts] {
            let (how, key) = encryption_of(&bucket, &format!("whole/{name}"));
            assert_eq!(how.as_ref(), Some(&wanted), "{name}");
            let is_named = key.is_some_and(|key| key.ends_with(KMS_KEY));
            assert_eq!(is_named, wanted == ServerSideEncryption::AwsKms, "{name}");
        }
    }
}

#[test]
fn a_key_that_is_not_there_is_told() {
    let Some(server) = server("a_key_that_is_not_there_is_told") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Plain);
    let encryption = Encryption::Kms(Some("no-such-key".into()));
    let storage = open_encrypting(&bucket, &bucket.writer, "x", &encryption);
    let text = refusal(storage.create(&ObjectName::repository(1), b"{}"));
    assert!(text.contains("its key management refuses"), "{text}");
    assert!(text.contains("sse_kms_key"), "{text}");
}
