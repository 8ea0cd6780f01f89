//! Azure Blob Storage against Azurite.

use std::path::{Path, PathBuf};

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::azure::AzureSettings;
use strongroom_adapters::storage::object_stores::Endpoint;
use strongroom_core::format::Digest;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Body, Storage};
use strongroom_testkit::servers::clouds::{self, AZURE_ACCOUNT, AZURE_KEY, Emulator};
use strongroom_testkit::servers::sas;
use strongroom_testkit::storage_conformance;

use super::{assert_refused, fresh, open, settings};

const CONTAINER: &str = "strongroom-tests";

struct Service {
    emulator: Emulator,
    directory: tempfile::TempDir,
}

impl Service {
    fn start(test: &str) -> Option<Self> {
        match clouds::azurite(None) {
            Ok(emulator) => {
                sas::create_container(&emulator.url, CONTAINER);
                let directory = tempfile::tempdir().expect("a temporary directory");
                Some(Self {
                    emulator,
                    directory,
                })
            }
            Err(why) => {
                strongroom_testkit::skip(test, &why);
                None
            }
        }
    }

    fn file(&self, secret: &str) -> PathBuf {
        let path = self.directory.path().join(fresh().replace('/', "-"));
        std::fs::write(&path, format!("{secret}\n")).expect("writes");
        path
    }

    fn with(&self, secret: &str, prefix: &str) -> Box<dyn Storage> {
        let place = at(self.emulator.url.clone(), CONTAINER, prefix);
        open(&settings(Place::Azure(place), self.file(secret)))
    }

    fn permitted(&self, permissions: &str, prefix: &str) -> Box<dyn Storage> {
        self.with(&sas::of_container(CONTAINER, permissions, None), prefix)
    }
}

fn at(url: String, container: &str, prefix: &str) -> AzureSettings {
    AzureSettings {
        url: format!("az://{AZURE_ACCOUNT}/{container}/{prefix}"),
        account: AZURE_ACCOUNT.into(),
        container: container.into(),
        prefix: prefix.into(),
        endpoint: Endpoint {
            url: Some(url),
            ..Endpoint::default()
        },
        access_tier: Some("Cool".into()),
    }
}

#[test]
fn it_conforms() {
    let Some(service) = Service::start("azure::it_conforms") else {
        return;
    };
    storage_conformance::run(&mut || service.with(AZURE_KEY, &fresh()));
    // With a connection string, and a container for itself.
    let text = format!(
        "DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={};",
        service.emulator.url
    );
    let mut place = at(String::new(), CONTAINER, "");
    place.endpoint.url = None;
    let storage = open(&settings(Place::Azure(place), service.file(&text)));
    super::names_need_no_prefix(&*storage);
}

/// The permissions are those of the table in docs/guide/storages/azure.md; what deletes has the expirer's besides.
#[test]
fn the_whole_contract_holds_with_a_writers_signature() {
    let test = "azure::the_whole_contract_holds_with_a_writers_signature";
    let Some(service) = Service::start(test) else {
        return;
    };
    let page = include_str!("../../../../docs/guide/storages/azure.md");
    for writer in ["rcl", "rcwl"] {
        assert!(page.contains(&format!("| `{writer}` |")), "{writer}");
        storage_conformance::run_by(&mut |deletes| {
            let permissions = if deletes { "rcwdl" } else { writer };
            service.permitted(permissions, &fresh())
        });
    }
}

#[test]
fn large_files_and_races() {
    let Some(service) = Service::start("azure::large_files_and_races") else {
        return;
    };
    super::a_large_file_goes_in_parts(&*service.with(AZURE_KEY, &fresh()));
    super::a_large_file_goes_in_parts(&*service.permitted("rcwl", &fresh()));
    super::a_race_of_large_files(&*service.with(AZURE_KEY, &fresh()));
}

#[test]
fn faults_pass() {
    let Some(service) = Service::start("azure::faults_pass") else {
        return;
    };
    let prefix = fresh();
    let key = service.file(AZURE_KEY);
    let open_at = |url| {
        let place = at(url, CONTAINER, &prefix);
        open(&settings(Place::Azure(place), key.clone()))
    };
    super::faults_pass(&open_at, &service.emulator.url);
}

#[test]
fn the_contract_holds_over_bad_networks() {
    let Some(service) = Service::start("azure::the_contract_holds_over_bad_networks") else {
        return;
    };
    let key = service.file(AZURE_KEY);
    let open_at = |url, prefix: &str| {
        let place = at(url, CONTAINER, prefix);
        open(&settings(Place::Azure(place), key.clone()))
    };
    super::the_contract_holds_over_bad_networks(&open_at, &service.emulator.url);
}

#[test]
fn signatures_allow_what_they_name() {
    let Some(service) = Service::start("azure::signatures_allow_what_they_name") else {
        return;
    };
    let prefix = fresh();
    let hint = "storages/azure.md";
    let [writer, restorer, expirer] =
        ["rcl", "rl", "rdl"].map(|permissions| service.permitted(permissions, &prefix));
    super::roles_do_what_they_are_for(&*writer, &*restorer, &*expirer, hint);

    // Parts take the permission to write, with which objects can be replaced, too.
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(40 << 20).expect("grows");
    let large = Body::File(file.path());
    assert_refused(
        writer.put(&ObjectName::object(Digest::of(b"large")), large),
        "do not allow",
        hint,
    );
}

#[test]
fn refusals_say_what_to_do() {
    let Some(service) = Service::start("azure::refusals_say_what_to_do") else {
        return;
    };
    let wrong = AZURE_KEY.replace("Eby8", "Abcd");
    let storage = service.with(&wrong, &fresh());
    // Azurite has one code for all of these; the service's own are in the tests of `refusal`.
    let (why, hint) = ("does not serve", "credentials_file is for this account");
    super::everything_is_refused(&*storage, why, hint);
    let expired = sas::of_container(CONTAINER, "rcwl", Some("2020-01-01T00:00:00Z"));
    super::everything_is_refused(&*service.with(&expired, &fresh()), why, hint);
    let other = sas::of_container("another", "rcwl", None);
    super::everything_is_refused(&*service.with(&other, &fresh()), why, hint);
    let place = at(service.emulator.url.clone(), "no-such-container", "x");
    let missing = open(&settings(Place::Azure(place), service.file(AZURE_KEY)));
    super::everything_is_refused(&*missing, "no such container", "Make the container");
}

#[test]
fn only_known_authorities_are_trusted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name| directory.path().join(name);
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(path("cert.pem"), made.cert.pem()).expect("writes");
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).expect("writes");
    let (certificate, key): (&Path, &Path) = (&path("cert.pem"), &path("key.pem"));
    let emulator = match clouds::azurite(Some((certificate, key))) {
        Ok(emulator) => emulator,
        Err(why) => {
            return strongroom_testkit::skip("azure::only_known_authorities_are_trusted", &why);
        }
    };
    std::fs::write(path("secret"), AZURE_KEY).expect("writes");
    let mut place = at(emulator.url.clone(), CONTAINER, "x");
    let storage = open(&settings(Place::Azure(place.clone()), path("secret")));
    super::everything_is_refused(&*storage, "not trusted", "ca_file");
    place.endpoint.ca_file = Some(certificate.to_owned());
    let storage = open(&settings(Place::Azure(place), path("secret")));
    // Past TLS; there is no container.
    super::everything_is_refused(&*storage, "no such container", "Make the container");
}
