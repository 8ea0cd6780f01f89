//! Where repositories are: the keys of storages, and copies.

use super::*;

/// Lines after an S3 url, and the line and the message of the fault.
const S3_FAULTS: &[(&str, usize, &str)] = &[
    (
        "endpoint = \"http://10.0.0.1:9000\"",
        11,
        "\"endpoint\" is reached without TLS",
    ),
    (
        "endpoint = \"https://u:planted@h\"",
        11,
        "\"endpoint\" is not the address of a host",
    ),
    (
        "storage_class = \"GLACIER\"",
        11,
        "\"storage_class\" is \"GLACIER\"",
    ),
    ("sse = \"kms\"", 11, "\"sse\" is \"kms\""),
    (
        "sse_kms_key = \"k\"",
        11,
        "\"sse_kms_key\" has no effect without sse = \"aws:kms\"",
    ),
    ("immutable = \"30\"", 11, "\"immutable\" is \"30\""),
    (
        "immutable = \"30d\"\nimmutable_mode = \"strict\"",
        12,
        "\"immutable_mode\" is \"strict\"",
    ),
    (
        "immutable_mode = \"governance\"",
        11,
        "\"immutable_mode\" has no effect without \"immutable\"",
    ),
    ("path_stile = true", 11, "unknown key \"path_stile\""),
];

#[test]
fn single_faults_of_s3() {
    for &(lines, line, message) in S3_FAULTS {
        let message = format!("repository \"keysafe\": {message}");
        let to = format!("\"s3://example-backups/keys\"\n{lines}");
        let hint = refused("\"file:keysafe\"", &to, line, &message);
        assert!(!hint.is_empty(), "{message}");
    }
    let hint = refused(
        "file:keysafe",
        "s3://user@bucket/x",
        10,
        "repository \"keysafe\": \"url\": a bucket's name is 3 to 63 lower-case letters, digits, dots and hyphens; user, host and port do not belong there",
    );
    assert!(hint.contains("endpoint"), "{hint}");
}

#[test]
fn a_bucket_is_read_with_all_its_keys() {
    let keys = r#""s3://example-backups/keys"
region = "eu-central-1"
endpoint = "http://minio.example:9000/"
allow_http = true
path_style = true
storage_class = "STANDARD_IA"
sse = "aws:kms"
sse_kms_key = "alias/backups"
ca_file = "ca.pem"
epoch_days = 7
immutable = "30d"
immutable_mode = "governance"
credentials_file = "s3.credentials""#;
    let config = parse(&example().replacen("\"file:keysafe\"", keys, 1)).expect("valid");
    let storage = &config.repositories["keysafe"].storage;
    let mut wanted = S3Settings::from_url("s3://example-backups/keys").expect("a URL");
    wanted.region = Some("eu-central-1".into());
    wanted.endpoint = Some("http://minio.example:9000".into());
    wanted.path_style = true;
    wanted.storage_class = Some("STANDARD_IA".into());
    wanted.encryption = Some(Encryption::Kms(Some("alias/backups".into())));
    wanted.ca_file = Some("/etc/s/ca.pem".into());
    wanted.lock = Some(Lock {
        days: 37,
        mode: LockMode::Governance,
    });
    assert_eq!(storage.place, Place::S3(wanted));
    let file = Some(PathBuf::from("/etc/s/s3.credentials"));
    assert_eq!(storage.credentials.file, file);
    let short = example().replacen("file:keysafe", "s3://example-backups", 1);
    let config = parse(&short.replacen(
        "accepts = [\"key\"",
        "immutable = \"1d\"\naccepts = [\"key\"",
        1,
    ));
    let config = config.expect("valid");
    let Place::S3(place) = &config.repositories["keysafe"].storage.place else {
        panic!("not a bucket");
    };
    let lock = Lock {
        days: 15,
        mode: LockMode::Compliance,
    };
    assert_eq!((place.lock, place.prefix.as_str()), (Some(lock), ""));
}

#[test]
fn a_copy_has_a_place_and_nothing_else_of_its_own() {
    let with = |table: &str| {
        let copy = format!("[repository.second]\nurl = \"file:second\"\n{table}\n[asset.database]");
        example().replace("[asset.database]", &copy)
    };
    let config = parse(&with("copy_of = \"offsite\"")).expect("valid");
    let names: Vec<&String> = config.repositories.keys().collect();
    assert_eq!(names, ["keysafe", "offsite"], "no backup goes to a copy");
    let copy = &config.copies["second"];
    assert_eq!(copy.document_name(), "offsite");
    assert_eq!(copy.recipients, config.repositories["offsite"].recipients);
    for (table, fault) in [
        (
            "copy_of = \"offsite\"\nepoch_days = 3",
            "\"epoch_days\" is given, and this is a copy",
        ),
        (
            "copy_of = \"offsite\"\naccepts = [\"log\"]",
            "\"accepts\" is given, and this is a copy",
        ),
        ("copy_of = \"ofsite\"", "there is no repository \"ofsite\""),
        ("copy_of = \"second\"", "\"second\" is a copy itself"),
    ] {
        let all = faults(&with(table));
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].ends_with(fault), "{all:?}");
    }
    let text = with("copy_of = \"offsite\"").replace(
        "path = \"/var/lib",
        "repository = \"second\"\npath = \"/var/lib",
    );
    let all = faults(&text);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(
        all[0].ends_with("repository \"second\" is a copy"),
        "{all:?}"
    );
    let text = with("copy_of = \"offsite\"").replace("file:second", "file:keysafe");
    assert!(faults(&text)[0].contains("the same url as repository"));
}

#[test]
fn credentials_that_mean_nothing_to_a_storage_are_refused() {
    let own = "url = \"file:///srv/backups/example\"";
    for (url, key) in [
        ("s3://bucket", "user"),
        ("sftp://h/x", "profile"),
        ("gs://bucket", "user"),
        ("az://account/container", "profile"),
    ] {
        let inside = format!("url = \"{url}\"\n{key} = \"x\"");
        let message = format!("\"{key}\" means nothing to this kind of storage");
        let told = faults(&example().replace(own, &inside));
        assert!(
            told.iter().any(|one| one.contains(&message)),
            "{url}: {told:?}"
        );
    }
}

#[test]
fn a_faulty_url_makes_no_other_key_unknown() {
    let own = "url = \"file:///srv/backups/example\"";
    let inside = "url = \"sftp://u:planted@h/x\"\ncredentials_file = \"k\"\npatience_seconds = 5\n\
                  host_key = \"ssh-ed25519 AAAA\"\nexpirer = { user = \"e\" }";
    let told = faults(&example().replace(own, inside));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("the URL holds a password"), "{told:?}");
    let told = faults(&example().replace(own, &inside.replace(":planted", "")));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("\"host_key\" is no host key"), "{told:?}");
}

#[test]
fn a_copy_has_a_retention_of_its_own_or_none() {
    let with = |keys: &str| {
        let copy = format!(
            "[repository.second]\nurl = \"file:second\"\ncopy_of = \"offsite\"\n{keys}\n[asset.database]"
        );
        example().replace("[asset.database]", &copy)
    };
    let of_original = "\n[repository.offsite.retention]\nkeep_daily = 7\n";
    let config = parse(&(with("") + of_original)).expect("valid");
    assert!(config.repositories["offsite"].retention.is_some());
    assert_eq!(
        config.copies["second"].retention, None,
        "it keeps everything"
    );
    let config = parse(&with("retention = { keep_last = 3 }")).expect("valid");
    let retention = config.copies["second"].retention.clone();
    assert_eq!(retention.map(|one| one.last), Some(3));
    let told = faults(&with("retention = { keep_last = 0 }"));
    assert!(told[0].contains("\"keep_last\" is 0"), "{told:?}");
}
