//! What an operator reads when a bucket says no, or nothing.

use std::path::Path;
use std::time::Duration;

use strongroom_adapters::storage::{Place, StorageSettings, open_storage};
use strongroom_core::cancel::Cancel;
use strongroom_core::error_chain;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::StorageError;
use strongroom_testkit::servers::minio::{Account, Kind, Minio, Options};

use super::{Bucket, LOCK, S3Settings, open, refusal, server};

/// What each kind of request says, all the same.
#[track_caller]
fn all_say(settings: &StorageSettings, why: &str, hint: &str) {
    let storage = open(settings);
    let name = ObjectName::repository(1);
    for text in [
        refusal(storage.create(&name, b"{}")),
        refusal(storage.get(&name, 10)),
        refusal(storage.stat(&name)),
        refusal(storage.list("", &mut |_, _| {})),
        refusal(storage.delete(&name)),
    ] {
        assert!(text.contains(why), "{why}: {text}");
        assert!(text.contains(hint), "{hint}: {text}");
    }
}

fn with(settings: &StorageSettings, change: impl FnOnce(&mut S3Settings)) -> StorageSettings {
    let mut settings = settings.clone();
    if let Place::S3(place) = &mut settings.place {
        change(place);
    }
    settings
}

#[test]
fn refusals_say_what_to_do() {
    let Some(server) = server("refusals_say_what_to_do") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Plain);
    let (_, good) = bucket.settings(&bucket.writer, "x");

    let nobody = Account::new("nobody");
    let (_, unknown) = bucket.settings(&nobody, "x");
    all_say(
        &unknown,
        "does not know the access key",
        "The key was deleted",
    );

    let wrong = Account {
        secret_key: "another-secret-key".into(),
        ..Minio::root()
    };
    let (_, wrong) = bucket.settings(&wrong, "x");
    all_say(
        &wrong,
        "the secret key does not belong",
        "Correct the secret key",
    );

    let elsewhere = with(&good, |place| place.bucket = "no-such-bucket".into());
    let (_, root) = bucket.settings(&Minio::root(), "x");
    let missing = with(&root, |place| place.bucket = "no-such-bucket".into());
    all_say(
        &missing,
        "there is no bucket \"no-such-bucket\"",
        "Make the bucket",
    );
    all_say(&elsewhere, "access denied", "Compare their policy");

    let locking = with(&good, |place| place.lock = Some(LOCK));
    let text = refusal(open(&locking).create(&ObjectName::repository(1), b"{}"));
    assert!(text.contains("has no object lock"), "{text}");

    let class = with(&good, |place| {
        place.storage_class = Some("NO_SUCH_CLASS".into());
    });
    let storage = open(&class);
    let name = ObjectName::object(strongroom_core::format::Digest::of(b"x"));
    storage
        .put(&name, strongroom_core::storage::Body::Bytes(b"x"))
        .expect("is taken");
    let text = refusal(storage.flush());
    assert!(text.contains("does not know the storage class"), "{text}");
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect("documents keep the usual class");
}

/// A bucket of a server, with the credentials of its root written to a directory.
fn as_root(server: &Minio, url: &str, directory: &Path) -> StorageSettings {
    let mut place = S3Settings::from_url(url).expect("a URL");
    place.endpoint = Some(server.endpoint());
    place.path_style = true;
    StorageSettings {
        place: Place::S3(place),
        credentials: strongroom_adapters::storage::Credentials {
            file: Some(Minio::root().write(directory)),
            ..Default::default()
        },
        limits: strongroom_adapters::storage::TransferLimits::default(),
        as_of: None,
    }
}

#[test]
fn the_right_region_is_told() {
    let options = Options {
        region: Some("eu-central-1"),
        certificates: None,
    };
    let Some(server) = Minio::start("the_right_region_is_told", &options) else {
        return;
    };
    server.make_bucket("regional", Kind::Plain);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let settings = as_root(&server, "s3://regional/x", directory.path());
    all_say(
        &settings,
        "in the region \"eu-central-1\"",
        "Write that region",
    );
    let right = with(&settings, |place| {
        place.region = Some("eu-central-1".into());
    });
    let storage = open(&right);
    storage
        .create(&ObjectName::repository(1), b"{}")
        .expect("the right region");
}

#[test]
fn a_certificate_must_be_trusted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names = vec!["127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let ca_file = directory.path().join("public.crt");
    std::fs::write(&ca_file, made.cert.pem()).expect("writes");
    let key = directory.path().join("private.key");
    std::fs::write(key, made.signing_key.serialize_pem()).expect("writes");
    let options = Options {
        region: None,
        certificates: Some(directory.path()),
    };
    let Some(server) = Minio::start("a_certificate_must_be_trusted", &options) else {
        return;
    };
    server.make_bucket("over-tls", Kind::Plain);
    let settings = as_root(&server, "s3://over-tls/x", directory.path());
    all_say(&settings, "its certificate is not trusted", "ca_file");
    let trusting = with(&settings, |place| place.ca_file = Some(ca_file));
    open(&trusting)
        .create(&ObjectName::repository(1), b"{}")
        .expect("the certificate is trusted");
    let bad = directory.path().join("bad.pem");
    std::fs::write(&bad, "no certificate").expect("writes");
    let bad = with(&settings, |place| place.ca_file = Some(bad));
    let error = open_storage(&bad, &Cancel::default())
        .err()
        .expect("refused");
    let error = error_chain(&error);
    assert!(error.contains("holds no certificates in PEM"), "{error}");

    let plain = with(&settings, |place| {
        place.endpoint = place
            .endpoint
            .as_ref()
            .map(|url| url.replace("https:", "http:"));
    });
    let text = refusal(open(&plain).stat(&ObjectName::repository(1)));
    assert!(text.contains("or https:// in its place"), "{text}");
}

#[test]
fn silence_is_told_and_patience_ends() {
    let Some(server) = server("silence_is_told_and_patience_ends") else {
        return;
    };
    let bucket = Bucket::make(server, Kind::Plain);
    let (_, mut settings) = bucket.settings(&bucket.writer, "x");
    settings.limits.patience = Duration::from_millis(300);
    let name = ObjectName::repository(1);
    let port = strongroom_testkit::servers::free_port();
    let closed = with(&settings, |place| {
        place.endpoint = Some(format!("http://127.0.0.1:{port}"));
    });
    let error = open(&closed).stat(&name).expect_err("nobody listens");
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    let text = error_chain(&error);
    eprintln!("{text}");
    assert!(text.contains("Connection refused"), "{text}");

    let over_tls = with(&settings, |place| {
        let http = place.endpoint.clone().expect("it has one");
        place.endpoint = Some(http.replace("http:", "https:"));
    });
    let text = refusal(open(&over_tls).stat(&name));
    assert!(text.contains("does not speak TLS"), "{text}");
}

#[test]
fn credentials_files_are_private_and_there() {
    let mut place = S3Settings::from_url("s3://bucket-x/x").expect("a URL");
    place.endpoint = Some("http://127.0.0.1:9".into());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open_with = |file: std::path::PathBuf| {
        let settings = StorageSettings {
            place: Place::S3(place.clone()),
            credentials: strongroom_adapters::storage::Credentials {
                file: Some(file),
                ..Default::default()
            },
            limits: strongroom_adapters::storage::TransferLimits::default(),
            as_of: None,
        };
        open_storage(&settings, &Cancel::default())
    };
    let missing = open_with(directory.path().join("missing")).err();
    let text = error_chain(&missing.expect("refused"));
    assert!(text.contains("read the credentials in"), "{text}");
    let open_file = directory.path().join("open");
    std::fs::write(&open_file, "[default]\n").expect("writes");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&open_file, mode).expect("chmod");
    let text = error_chain(&open_with(open_file.clone()).err().expect("refused"));
    assert!(text.contains("chmod 600"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&open_file, mode).expect("chmod");
    let storage = open_with(open_file).expect("opens");
    let text = refusal(storage.stat(&ObjectName::repository(1)));
    assert!(text.contains("there are no credentials"), "{text}");
}
