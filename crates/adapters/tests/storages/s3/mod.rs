//! S3 against `MinIO`, with the very policies that the guide hands out.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests are the operator, and the thief"
)]

mod conformance;
mod encryption;
mod errors;
mod faults;
mod past;
mod ransomware;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(
    deprecated,
    reason = "the new names are in a crate that is not ours to depend on"
)]
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use strongroom_adapters::storage::remote::runtime::block_on;
use strongroom_adapters::storage::s3::{Lock, LockMode, S3Settings};
use strongroom_adapters::storage::{
    Credentials, Place, StorageSettings, TransferLimits, open_storage,
};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Storage, StorageError};
use strongroom_testkit::servers::minio::{Account, Kind, Minio, Options};

const WRITER: &str = include_str!("../../../../../docs/policies/s3-writer.json");
const RESTORER: &str = include_str!("../../../../../docs/policies/s3-restorer.json");
const EXPIRER: &str = include_str!("../../../../../docs/policies/s3-expirer.json");

/// The lock of tests: two days.
const LOCK: Lock = Lock {
    days: 2,
    mode: LockMode::Compliance,
};

/// The server that the tests of this program share; `None`, said so for `test`, without Go.
fn server(test: &str) -> Option<&'static Minio> {
    static SERVER: OnceLock<Option<Minio>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Minio::start("storages::s3", &Options::default()));
    if server.is_none() {
        strongroom_testkit::skip(test, "go is not installed");
    }
    server.as_ref()
}

/// A bucket with one account a policy.
struct Bucket {
    server: &'static Minio,
    name: String,
    writer: Account,
    restorer: Account,
    expirer: Account,
    directory: tempfile::TempDir,
}

impl Bucket {
    fn make(server: &'static Minio, kind: Kind) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        server.make_bucket(&name, kind);
        let user = |role, policy| server.make_user(&format!("{name}-{role}"), policy, &name);
        Self {
            server,
            writer: user("writer", WRITER),
            restorer: user("restorer", RESTORER),
            expirer: user("expirer", EXPIRER),
            directory: tempfile::tempdir().expect("a temporary directory"),
            name,
        }
    }

    /// What a configuration would say, below a prefix.
    fn settings(&self, account: &Account, prefix: &str) -> (S3Settings, StorageSettings) {
        let url = format!("s3://{}/{prefix}", self.name);
        let mut place = S3Settings::from_url(&url).expect("a URL");
        place.endpoint = Some(self.server.endpoint());
        place.path_style = true;
        let limits = TransferLimits {
            patience: Duration::from_secs(5),
            ..TransferLimits::default()
        };
        let settings = StorageSettings {
            place: Place::S3(place.clone()),
            credentials: Credentials {
                file: Some(account.write(self.directory.path())),
                ..Credentials::default()
            },
            limits,
            as_of: None,
        };
        (place, settings)
    }

    fn open(&self, account: &Account, prefix: &str) -> Box<dyn Storage> {
        let (_, settings) = self.settings(account, prefix);
        open(&settings)
    }

    /// Opened with a lock on everything that is written.
    fn open_locking(&self, account: &Account, prefix: &str) -> Box<dyn Storage> {
        let (mut place, mut settings) = self.settings(account, prefix);
        place.lock = Some(LOCK);
        settings.place = Place::S3(place);
        open(&settings)
    }

    /// As it was, for who restores.
    fn open_past(&self, prefix: &str, at: jiff::Timestamp) -> Box<dyn Storage> {
        let (_, mut settings) = self.settings(&self.restorer, prefix);
        settings.as_of = Some(at);
        open(&settings)
    }

    /// The protocol itself, as somebody uses it who has stolen the credentials.
    #[expect(deprecated, reason = "as above")]
    fn client(&self, account: &Account) -> Client {
        let file: PathBuf = account.write(self.directory.path());
        let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, file);
        let credentials = ProfileFileCredentialsProvider::builder()
            .profile_files(files.build())
            .build();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(self.server.endpoint())
            .force_path_style(true)
            .credentials_provider(credentials)
            .build();
        Client::from_conf(config)
    }

    /// How many versions and marks of deletions a key has.
    fn versions_of(&self, key: &str) -> (usize, usize) {
        let request = self
            .client(&Minio::root())
            .list_object_versions()
            .bucket(&self.name)
            .prefix(key);
        let answer = block_on(request.send()).expect("root may list");
        (answer.versions().len(), answer.delete_markers().len())
    }
}

fn open(settings: &StorageSettings) -> Box<dyn Storage> {
    open_storage(settings, &Cancel::default()).expect("opens")
}

fn put(storage: &dyn Storage, bytes: &[u8]) -> ObjectName {
    let name = ObjectName::object(Digest::of(bytes));
    storage.put(&name, Body::Bytes(bytes)).expect("is taken");
    storage.flush().expect("arrives");
    name
}

/// A refusal with its reason and its hint, as one text.
#[track_caller]
fn refusal<T>(result: Result<T, StorageError>) -> String {
    match result {
        Err(StorageError::Refused(refusal)) => {
            let text = format!("{refusal} | {}", refusal.hint);
            assert!(!text.contains("secret-key"), "a secret is told: {text}");
            eprintln!("{text}");
            text
        }
        Err(other) => panic!("not refused but: {}", strongroom_core::error_chain(&other)),
        Ok(_) => panic!("not refused"),
    }
}
