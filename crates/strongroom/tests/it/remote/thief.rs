//! Ransomware that holds the writer's credentials of S3: what it can do is told, and the state from before comes back.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(
    deprecated,
    reason = "the new names are in a crate that is not ours to depend on"
)]
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, ChecksumAlgorithm, ExpirationStatus, LifecycleExpiration,
    LifecycleRule, LifecycleRuleFilter,
};
use strongroom_adapters::storage::remote::runtime::block_on;

use super::Buckets;

/// Long enough that what comes after it is later, also by clocks that tell whole seconds.
const MARGIN: Duration = Duration::from_millis(1500);

/// Somebody with the credentials of a writer, and the protocol itself.
struct Thief {
    client: Client,
    bucket: &'static str,
}

impl Thief {
    #[expect(deprecated, reason = "as above")]
    fn new(buckets: &Buckets, bucket: &'static str) -> Self {
        let file = buckets
            .host
            .path(format!("host/{bucket}-writer.credentials"));
        let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file);
        let credentials = ProfileFileCredentialsProvider::builder()
            .profile_files(files.build())
            .build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(buckets.server.endpoint())
            .force_path_style(true)
            .credentials_provider(credentials)
            .build();
        let client = Client::from_conf(config);
        Self { client, bucket }
    }

    /// Overwrites an object, and has the server check and keep its SHA-256.
    fn put_digested(&self, key: &str, bytes: &[u8]) {
        let put = self.client.put_object().bucket(self.bucket).key(key);
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256);
        block_on(put.body(ByteStream::from(bytes.to_vec())).send()).expect("puts");
    }

    /// All keys below a prefix with their sizes.
    fn keys(&self, prefix: &str) -> Vec<(String, i64)> {
        let list = self.client.list_objects_v2().bucket(self.bucket);
        let answer = block_on(list.prefix(format!("ca/{prefix}")).send()).expect("lists");
        let of = |object: &aws_sdk_s3::types::Object| {
            let key = object.key().expect("a key").to_owned();
            (key, object.size().unwrap_or(0))
        };
        answer.contents().iter().map(of).collect()
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let put = self.client.put_object().bucket(self.bucket).key(key);
        block_on(put.body(ByteStream::from(bytes.to_vec())).send()).expect("a writer may add");
    }

    fn copy(&self, from: &str, to: &str) {
        let copy = self.client.copy_object().bucket(self.bucket).key(to);
        let copy = copy.copy_source(format!("{}/{from}", self.bucket));
        block_on(copy.send()).expect("a writer may read and add");
    }

    fn get(&self, key: &str) -> Vec<u8> {
        let get = self.client.get_object().bucket(self.bucket).key(key);
        let read = async { get.send().await.expect("reads").body.collect().await };
        block_on(read).expect("reads").to_vec()
    }

    /// What the policy and the lock forbid.
    fn is_refused_the_rest(&self, key: &str) {
        let delete = self.client.delete_object().bucket(self.bucket).key(key);
        block_on(delete.send()).expect_err("deletes");
        let rule = LifecycleRule::builder()
            .id("wipe")
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .expiration(LifecycleExpiration::builder().days(1).build())
            .build()
            .expect("a rule");
        let rules = BucketLifecycleConfiguration::builder().rules(rule).build();
        let wipe = self.client.put_bucket_lifecycle_configuration();
        let wipe = wipe.bucket(self.bucket);
        let wipe = wipe.lifecycle_configuration(rules.expect("rules"));
        block_on(wipe.send()).expect_err("changes the lifecycle");
    }
}

#[test]
fn ransomware_with_the_writers_credentials_is_told_and_undone() {
    let test = "remote::ransomware_with_the_writers_credentials_is_told_and_undone";
    let Some(buckets) = Buckets::new(test) else {
        return;
    };
    buckets.init();
    let host = &buckets.host;
    host.backup();
    host.insert(1000, 50);
    let good = host.backup();
    let before = host.contents();
    host.ok(&["check"]);
    std::thread::sleep(MARGIN);
    let then = jiff::Timestamp::now().to_string();
    std::thread::sleep(MARGIN);

    let thief = Thief::new(&buckets, "offsite");
    let envelopes = thief.keys("envelopes/");
    assert_eq!(envelopes.len(), 2);
    let (newest, _) = &envelopes[1];
    let real = thief.get(newest);
    thief.put(&envelopes[0].0, b"{}");
    for (number, bytes) in [(3, &real[..]), (4, b"{}"), (9_999_999_999_u64, b"garbage")] {
        let directory = newest.rsplit_once('/').expect("a directory").0;
        thief.put(&format!("{directory}/{number:010}.json"), bytes);
    }
    let objects = thief.keys("objects/");
    let (largest, size) = objects.iter().max_by_key(|(_, size)| *size).expect("some");
    thief.put(largest, b"pay");
    assert!(*size > 3, "it has another size now");
    // `check` tells a flood above 256 MiB.
    let junk = |number: u32| format!("ca/objects/00/{number:064x}.age");
    thief.put(&junk(0), &vec![0; 30 << 20]);
    for number in 1..10 {
        thief.copy(&junk(0), &junk(number));
    }
    for (key, _) in envelopes.iter().chain(&objects) {
        thief.is_refused_the_rest(key);
    }

    host.run(&["check"])
        .exits(3)
        .says("history-unbroken")
        .says("objects-there")
        .says("1 objects that backups need have another size")
        .says("11 objects of 31457")
        .says("belong to no backup");
    host.run(&["verify", "--all"]).exits(1).says("DAMAGED");

    // As it was: the history and every byte.
    let listed = host.ok(&["list", "--as-of", &then, "--json"]).document();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(2));
    // Which says nothing of what is there now.
    let state = |name: &str| {
        let file = format!("host/state/repository/{name}");
        let remembered = ["damaged.json", "verified.json"].map(|it| host.path(&file).join(it));
        remembered.map(|it| std::fs::read_to_string(it).unwrap_or_default())
    };
    let known = ["offsite", "keysafe"].map(state);
    host.ok(&["verify", "--all", "--as-of", &then]);
    assert_eq!(["offsite", "keysafe"].map(state), known);
    let out = host.text("as-of");
    host.ok(&host.with_identities(&[
        "restore", "latest", "--as-of", &then, "--to-dir", &out, "--apply",
    ]));
    assert_eq!(host.restored("as-of"), before);

    // The next backup does not rely on what was spoiled.
    host.insert(2000, 30);
    let run = host.run(&["backup", "--json"]).document();
    assert_eq!(run["status"], "complete", "{run}");
    let label = run["label"].as_str().expect("a label");
    host.run(&host.with_identities(&["verify", label, "--level", "L4"]))
        .exits(1)
        .says(&format!("{label} in offsite holds at L4"));
    host.restore_to(label, "after").exits(0);
    assert_eq!(host.restored("after"), host.contents());
    host.run(&["list"]).exits(3).says(&good).says(label);
}

/// What docs/guide/storages/s3.md says of it.
#[test]
fn objects_replaced_by_as_many_bytes_are_found_by_check_and_stored_anew() {
    let test = "remote::objects_replaced_by_as_many_bytes_are_found_by_check_and_stored_anew";
    let Some(buckets) = Buckets::new(test) else {
        return;
    };
    buckets.init();
    let host = &buckets.host;
    let first = host.backup();
    host.ok(&["check"]);
    std::thread::sleep(MARGIN * 3);
    let thief = Thief::new(&buckets, "offsite");
    // Whole objects that were put back by somebody else are whole: the server's digest says so.
    let keys = thief.keys("objects/");
    let (same, _) = &keys[0];
    thief.put_digested(same, &thief.get(same));
    host.ok(&["check"]);
    for (key, size) in &keys {
        let other = vec![7; usize::try_from(*size).expect("small")];
        if key == same {
            thief.put_digested(key, &other);
        } else {
            thief.put(key, &other);
        }
    }
    host.run(&["check"])
        .exits(3)
        .says("1 objects that backups need were overwritten with other bytes")
        .says(&format!(
            "{} objects were stored after backups",
            keys.len() - 1
        ))
        .says("objects-unchanged");
    // No verification in between: the next backup leans on none of them.
    let run = host.run(&["backup", "--json"]).document();
    assert_eq!(run["status"], "complete", "{run}");
    let label = run["label"].as_str().expect("a label");
    host.restore_to(label, "after").exits(0);
    assert_eq!(host.restored("after"), host.contents());
    host.run(&["verify", "--all"])
        .exits(1)
        .says(&format!("{first} in offsite is DAMAGED"));
    host.run(&["check"])
        .exits(3)
        .says(&format!("{} objects that backups need were", keys.len()));
}
