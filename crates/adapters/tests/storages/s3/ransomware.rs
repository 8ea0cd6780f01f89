//! The writer's credentials are stolen: whatever is done with them, no object is lost.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, Delete, ExpirationStatus,
    LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ObjectIdentifier, ObjectLockRetention,
    ObjectLockRetentionMode, VersioningConfiguration,
};
use strongroom_core::format::WriterId;
use strongroom_core::format::name::ObjectName;
use strongroom_testkit::servers::minio::{Kind, Minio};

use super::past::{content, newest};
use super::{Bucket, block_on, put, server};

#[test]
fn stolen_credentials_of_the_writer_lose_nothing() {
    let Some(server) = server("stolen_credentials_of_the_writer_lose_nothing") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Locking);
    let storage = bucket.open_locking(&bucket.writer, "ca");
    for bytes in [&b"one"[..], b"two", b"three"] {
        put(storage.as_ref(), bytes);
    }
    let writer = WriterId::from_bytes([7; 8]);
    for name in [ObjectName::repository(1), ObjectName::envelope(writer, 1)] {
        storage.create(&name, b"{}").expect("creates");
    }
    let before = content(storage.as_ref());
    let then = newest(storage.as_ref());
    let ids = |version: &aws_sdk_s3::types::ObjectVersion| {
        let part = |text: Option<&str>| text.expect("it is told").to_owned();
        (part(version.key()), part(version.version_id()))
    };
    let root = bucket.client(&Minio::root());
    let listed = block_on(root.list_object_versions().bucket(&bucket.name).send());
    let versions: Vec<_> = listed
        .expect("root may")
        .versions()
        .iter()
        .map(ids)
        .collect();
    assert_eq!(versions.len(), before.len());

    let thief = bucket.client(&bucket.writer);
    let name = bucket.name.as_str();
    for (key, version) in &versions {
        let delete = || thief.delete_object().bucket(name).key(key);
        block_on(delete().send()).expect_err("deletes");
        block_on(delete().version_id(version).send()).expect_err("deletes a version");
        let bypass = delete()
            .version_id(version)
            .bypass_governance_retention(true);
        block_on(bypass.send()).expect_err("deletes in spite of the lock");
        let shorter = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(DateTime::from_secs(jiff::Timestamp::now().as_second() + 5))
            .build();
        let shorten = thief.put_object_retention().bucket(name).key(key);
        block_on(shorten.version_id(version).retention(shorter).send())
            .expect_err("shortens the lock");
        let longer = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Compliance)
            .retain_until_date(DateTime::from_secs(4_000_000_000))
            .build();
        let lengthen = thief.put_object_retention().bucket(name).key(key);
        block_on(lengthen.version_id(version).retention(longer).send())
            .expect_err("makes the lock last for decades");
        // A bucket with versions takes a new one; the old one stays.
        let overwrite = thief.put_object().bucket(name).key(key);
        let _ = block_on(overwrite.body(ByteStream::from_static(b"")).send());
    }
    let key = ObjectIdentifier::builder().key(&versions[0].0).build();
    let keys = Delete::builder().objects(key.expect("a key")).build();
    let many = thief
        .delete_objects()
        .bucket(name)
        .delete(keys.expect("keys"));
    if let Ok(answer) = block_on(many.send()) {
        assert_eq!((answer.deleted().len(), answer.errors().len()), (0, 1));
    }
    let rule = LifecycleRule::builder()
        .id("wipe")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build())
        .expiration(LifecycleExpiration::builder().days(1).build())
        .build();
    let rules = BucketLifecycleConfiguration::builder().rules(rule.expect("a rule"));
    let wipe = thief.put_bucket_lifecycle_configuration().bucket(name);
    let wipe = wipe.lifecycle_configuration(rules.build().expect("a rule"));
    block_on(wipe.send()).expect_err("changes the lifecycle");
    let suspended = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Suspended)
        .build();
    let suspend = thief.put_bucket_versioning().bucket(name);
    block_on(suspend.versioning_configuration(suspended).send()).expect_err("stops versions");
    block_on(thief.put_bucket_policy().bucket(name).policy("{}").send())
        .expect_err("changes the policy");
    block_on(thief.delete_bucket().bucket(name).send()).expect_err("deletes the bucket");
    // What a writer may do, a thief can, too: more of it is no loss.
    for sequence in 2..50 {
        let fake = ObjectName::envelope(writer, sequence);
        storage.create(&fake, b"fake").expect("creates");
    }
    for byte in 0..50 {
        put(storage.as_ref(), &[byte; 1000]);
    }

    assert_ne!(content(storage.as_ref()), before, "it is seen");
    let past = bucket.open_past("ca", then);
    assert_eq!(content(past.as_ref()), before, "nothing is lost");
    for (key, version) in &versions {
        let get = root.get_object().bucket(name).key(key).version_id(version);
        block_on(get.send()).expect("every version is there");
    }
}
