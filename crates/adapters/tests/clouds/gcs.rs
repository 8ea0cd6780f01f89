//! Google Cloud Storage against fake-gcs-server, with the XML interface of `tests/servers/gcs` before it.

use std::path::PathBuf;

use strongroom_adapters::storage::gcs::GcsSettings;
use strongroom_adapters::storage::object_stores::Endpoint;
use strongroom_adapters::storage::{Place, open_storage};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Storage, StorageError};
use strongroom_testkit::servers::clouds::{self, Emulator};
use strongroom_testkit::storage_conformance;

use super::{fresh, open, settings};

const BUCKET: &str = "strongroom-tests";

struct Service {
    emulator: Emulator,
    key: tempfile::NamedTempFile,
}

impl Service {
    fn start(test: &str) -> Option<Self> {
        match clouds::gcs(&[BUCKET]) {
            Ok(emulator) => {
                let key = key();
                Some(Self { emulator, key })
            }
            Err(why) => {
                strongroom_testkit::skip(test, &why);
                None
            }
        }
    }

    fn key(&self) -> PathBuf {
        self.key.path().to_owned()
    }

    fn at(&self, url: String, bucket: &str, prefix: &str) -> Box<dyn Storage> {
        let place = GcsSettings {
            url: format!("gs://{bucket}/{prefix}"),
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: Endpoint {
                url: Some(url),
                ..Endpoint::default()
            },
            storage_class: Some("NEARLINE".into()),
        };
        open(&settings(Place::Gcs(place), self.key()))
    }

    fn role(&self, role: &str, prefix: &str) -> Box<dyn Storage> {
        self.at(format!("{}/as/{role}", self.emulator.url), BUCKET, prefix)
    }

    fn owner(&self, prefix: &str) -> Box<dyn Storage> {
        self.at(self.emulator.url.clone(), BUCKET, prefix)
    }
}

/// What the crate takes for emulators: no token is asked for.
fn key() -> tempfile::NamedTempFile {
    let key = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = r#"{"private_key":"planted","private_key_id":"1","client_email":"a@b","disable_oauth":true}"#;
    std::fs::write(key.path(), text).expect("writes");
    key
}

#[test]
fn it_conforms() {
    let Some(service) = Service::start("gcs::it_conforms") else {
        return;
    };
    storage_conformance::run(&mut || service.owner(&fresh()));
    // A bucket for itself.
    let storage = service.owner("");
    super::names_need_no_prefix(&*storage);
}

#[test]
fn the_whole_contract_holds_with_a_writers_role() {
    let Some(service) = Service::start("gcs::the_whole_contract_holds_with_a_writers_role") else {
        return;
    };
    storage_conformance::run_by(&mut |deletes| {
        service.role(if deletes { "owner" } else { "writer" }, &fresh())
    });
}

#[test]
fn large_files_races_and_pages() {
    let Some(service) = Service::start("gcs::large_files_races_and_pages") else {
        return;
    };
    for role in ["owner", "writer"] {
        super::a_large_file_goes_in_parts(&*service.role(role, &fresh()));
        super::a_race_of_large_files(&*service.role(role, &fresh()));
    }
    super::a_listing_has_pages(&*service.owner(&fresh()));
}

#[test]
fn faults_pass() {
    let Some(service) = Service::start("gcs::faults_pass") else {
        return;
    };
    let prefix = fresh();
    let open_at = |url| service.at(url, BUCKET, &prefix);
    super::faults_pass(&open_at, &service.emulator.url);
}

#[test]
fn the_contract_holds_over_bad_networks() {
    let Some(service) = Service::start("gcs::the_contract_holds_over_bad_networks") else {
        return;
    };
    let open_at = |url, prefix: &str| service.at(url, BUCKET, prefix);
    super::the_contract_holds_over_bad_networks(&open_at, &service.emulator.url);
}

#[test]
fn a_writer_adds_and_changes_nothing() {
    let Some(service) = Service::start("gcs::a_writer_adds_and_changes_nothing") else {
        return;
    };
    let prefix = fresh();
    let [writer, restorer, expirer] =
        ["writer", "restorer", "expirer"].map(|role| service.role(role, &prefix));
    super::roles_do_what_they_are_for(&*writer, &*restorer, &*expirer, "storages/gcs.md");
}

#[test]
fn refusals_say_what_to_do() {
    let Some(service) = Service::start("gcs::refusals_say_what_to_do") else {
        return;
    };
    let stranger = service.role("stranger", &fresh());
    super::everything_is_refused(&*stranger, "do not allow", "storages/gcs.md");
    let unknown = service.role("unknown", &fresh());
    super::everything_is_refused(&*unknown, "not accepted", "credentials_file");
    let missing = service.at(service.emulator.url.clone(), "no-such-bucket", "x");
    super::everything_is_refused(&*missing, "no such bucket", "Make the bucket");
}

#[test]
fn nobody_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let key = key();
    let place = GcsSettings {
        url: "gs://bucket".into(),
        bucket: "bucket".into(),
        endpoint: Endpoint {
            url: Some(url),
            ..Endpoint::default()
        },
        ..GcsSettings::default()
    };
    let mut settings = settings(Place::Gcs(place), key.path().to_owned());
    settings.limits.patience = std::time::Duration::from_millis(300);
    let storage = open(&settings);
    let error = storage
        .stat(&ObjectName::repository(1))
        .expect_err("nobody");
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    let text = strongroom_core::error_chain(&error);
    assert!(text.contains("the connection was refused"), "{text}");

    settings.as_of = Some(jiff::Timestamp::UNIX_EPOCH);
    let error = open_storage(&settings, &Cancel::default())
        .err()
        .expect("refused");
    assert!(matches!(error, StorageError::Refused(_)), "{error:?}");
}
