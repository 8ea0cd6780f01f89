//! What is read, and every refusal with its line and its hint.

mod operators;
mod passwords;
mod secrets;
mod servers;
mod storages;
mod tokens;

use std::path::{Path, PathBuf};

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::s3::{Encryption, Lock, LockMode, S3Settings};

use super::error::ConfigError;
use super::*;

const A: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const B: &str = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg";

/// The configuration of the specification, line by line.
fn example() -> String {
    format!(
        r#"[deployment]
name = "example-ca"
[writer]
key_file = "writer.key"
[repository.offsite]
url = "file:///srv/backups/example"
recipients = ["{A}"]
accepts = ["database", "config", "certificate", "log", "audit"]
[repository.keysafe]
url = "file:keysafe"
recipients = ["{B}"]
accepts = ["key", "secret"]
[asset.database]
source = "sqlite"
class = "database"
path = "/var/lib/example/ca.sqlite3"
[asset.ca-key]
source = "files"
class = "key"
paths = ["ca.key.pem"]
certificate = "../example/ca.cert.pem"
"#
    )
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("strongroom.toml"), Path::new("/etc/s"))
}

/// The faults of a configuration, each as `LINE: MESSAGE`.
fn faults(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err("refused");
    for error in errors.iter() {
        assert!(error.column() >= 1 && error.line() >= 1);
        if let Some(hint) = error.hint() {
            assert!(hint.ends_with(['.', '?', '!']), "{hint}");
        }
    }
    let line = |error: &ConfigError| format!("{}: {}", error.line(), error.message());
    errors.iter().map(line).collect()
}

/// The only fault after one replacement in the example.
#[track_caller]
fn refused(from: &str, to: &str, line: usize, message: &str) -> String {
    let text = example();
    assert!(text.contains(from), "{from}");
    let text = text.replacen(from, to, 1);
    let errors = parse(&text).expect_err("refused");
    let all: Vec<&ConfigError> = errors.iter().collect();
    let [error] = all[..] else {
        panic!("not one fault:\n{errors}");
    };
    assert_eq!((error.line(), error.message()), (line, message));
    error.hint().unwrap_or_default().to_owned()
}

#[test]
fn the_example_is_read() {
    let config = parse(&example()).expect("valid");
    assert_eq!(config.deployment.name, "example-ca");
    assert_eq!(config.writer.key_file, Path::new("/etc/s/writer.key"));
    assert_eq!(config.writer.state_dir, Path::new("/etc/s/state"));
    let keysafe = &config.repositories["keysafe"];
    let place = Place::Local("/etc/s/keysafe".into());
    assert_eq!((&keysafe.storage.place, keysafe.line), (&place, 9));
    assert_eq!(keysafe.recipients, [B]);
    assert_eq!(keysafe.accepts, [Class::Key, Class::Secret]);
    assert_eq!(keysafe.epoch_days, 14);
    assert_eq!(keysafe.open_recipients().expect("native").len(), 1);
    let names: Vec<&str> = config.assets.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["database", "ca-key"], "the order of the file");
    let key = config.asset("ca-key").expect("there");
    assert_eq!(config.repository_of(key).name, "keysafe");
    assert_eq!((key.source(), key.line), ("files", 17));
    let settings = Settings::Files {
        paths: vec!["/etc/s/ca.key.pem".into()],
        exclude: vec![],
        certificate: Some("/etc/example/ca.cert.pem".into()),
        key_password_file: None,
        asks_key_password: false,
        shared_password_reason: None,
        on_secret: None,
    };
    assert_eq!(key.settings, settings);
}

#[test]
fn a_message_begins_with_file_and_line() {
    let text = example()
        .replace(", \"secret\"]", "]")
        .replace("\"key\"]", "\"secret\"]");
    let errors = parse(&text).expect_err("refused");
    assert_eq!(
        errors.to_string(),
        "strongroom.toml:19: asset \"ca-key\": no repository accepts class \"key\""
    );
}

#[test]
fn unknown_keys_at_every_level() {
    let near = refused(
        "name = ",
        "nmae = 1\nname = ",
        2,
        "[deployment]: unknown key \"nmae\"",
    );
    assert_eq!(near, "Did you mean \"name\"?");
    let far = refused(
        "[deployment]",
        "schedule = 1\n[deployment]",
        1,
        "unknown key \"schedule\"",
    );
    assert_eq!(
        far,
        "Valid here: version, deployment, operator, writer, custody, repository, asset."
    );
    let near = refused(
        "path = ",
        "ecxlude = []\npath = ",
        16,
        "asset \"database\": unknown key \"ecxlude\"",
    );
    assert!(
        near.starts_with("Valid here"),
        "exclude is for files: {near}"
    );
    let near = refused(
        "url = ",
        "epoch_day = 3\nurl = ",
        6,
        "repository \"offsite\": unknown key \"epoch_day\"",
    );
    assert_eq!(near, "Did you mean \"epoch_days\"?");
}

/// What is replaced, by what, and the line and the message of the fault.
const FAULTS: &[(&str, &str, usize, &str)] = &[
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { }\n",
        13,
        "repository \"keysafe\": retention: nothing is kept",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { keep_daily = 0 }\n",
        13,
        "repository \"keysafe\": retention: \"keep_daily\" is 0",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { keep_within = \"2 weeks\" }\n",
        13,
        "repository \"keysafe\": retention: \"keep_within\" is \"2 weeks\"",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { keep = \"always\" }\n",
        13,
        "repository \"keysafe\": retention: \"keep\" is \"always\"",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { keep = \"forever\", keep_last = 1 }\n",
        13,
        "repository \"keysafe\": retention: keep = \"forever\" and a number beside it",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { keep_last = 1, keep_until_expiry_plus = \"9d\" }\n",
        13,
        "repository \"keysafe\": retention: \"keep_until_expiry_plus\" is for assets of class \"certificate\"",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "accepts = [\"key\", \"secret\"]\nretention = { keep_last = 1, time_zone = \"Mars/Olympus\" }\n",
        13,
        "repository \"keysafe\": retention: there is no time zone \"Mars/Olympus\"",
    ),
    (
        "[writer]\nkey_file = \"writer.key\"\n",
        "",
        1,
        "the table [writer] is missing",
    ),
    (
        "name = \"example-ca\"\n",
        "",
        1,
        "[deployment]: \"name\" is missing",
    ),
    (
        "\"example-ca\"",
        "3",
        2,
        "[deployment]: \"name\" must be a string, not this integer",
    ),
    (
        "\"example-ca\"",
        "\"Example CA\"",
        2,
        "[deployment]: the name \"Example CA\" is not valid",
    ),
    (
        "\"writer.key\"",
        "\" \"",
        4,
        "[writer]: \"key_file\" is empty",
    ),
    (
        "[repository.offsite]",
        "[repository.\"off site\"]",
        5,
        "repository \"off site\": the name \"off site\" is not valid",
    ),
    (
        "url = \"file:///srv/backups/example\"\n",
        "",
        5,
        "repository \"offsite\": \"url\" is missing",
    ),
    (
        "file:///srv",
        "ftp://srv",
        6,
        "repository \"offsite\": \"url\": unknown scheme \"ftp:\"",
    ),
    (
        "file:keysafe",
        "file:../../srv/./backups/example",
        10,
        "repository \"keysafe\": the same url as repository \"offsite\"",
    ),
    (
        B,
        A,
        11,
        "repository \"keysafe\": one recipient opens the keys or secrets in \"keysafe\" and the databases in \"offsite\"",
    ),
    (
        A,
        "age1...",
        7,
        "repository \"offsite\": the recipient is still the placeholder of the template",
    ),
    (
        "accepts = [\"key\", \"secret\"]\n",
        "",
        9,
        "repository \"keysafe\": \"accepts\" is missing",
    ),
    (
        "[\"key\", \"secret\"]",
        "[\"key\", \"secert\"]",
        12,
        "repository \"keysafe\": unknown class \"secert\"",
    ),
    (
        "[\"key\", \"secret\"]",
        "[]",
        12,
        "repository \"keysafe\": \"accepts\" is empty",
    ),
    (
        "[\"key\", \"secret\"]",
        "[\"key\", \"key\"]",
        12,
        "repository \"keysafe\": \"accepts\" has \"key\" twice",
    ),
    (
        "\"audit\"]",
        "\"audit\", \"secret\"]\nallow_shared_recipient = false",
        8,
        "repository \"offsite\": it accepts both \"secret\" and \"database\", so one identity opens both",
    ),
    (
        "[repository.offsite]",
        "[custody]\nrehearsal_days = 0\n[repository.offsite]",
        6,
        "[custody]: \"rehearsal_days\" is 0",
    ),
    (
        "url = \"file:keysafe\"",
        "url = \"file:keysafe\"\nepoch_days = 91",
        11,
        "repository \"keysafe\": \"epoch_days\" is 91",
    ),
    (
        "url = \"file:keysafe\"",
        "url = \"file:keysafe\"\nallow_shared_recipient = true",
        11,
        "repository \"keysafe\": \"allow_shared_recipient\" needs a \"shared_recipient_reason\"",
    ),
    (
        "url = \"file:keysafe\"",
        "url = \"file:keysafe\"\nshared_recipient_reason = \"so\"",
        11,
        "repository \"keysafe\": \"shared_recipient_reason\" has no effect without \"allow_shared_recipient\"",
    ),
    (
        "\"sqlite\"",
        "\"sqlit\"",
        14,
        "asset \"database\": unknown source \"sqlit\"",
    ),
    (
        "class = \"database\"",
        "class = \"databse\"",
        15,
        "asset \"database\": unknown class \"databse\"",
    ),
    (
        "class = \"database\"",
        "class = \"database\"\nrepository = \"offsit\"",
        16,
        "asset \"database\": there is no repository \"offsit\"",
    ),
    (
        "class = \"database\"",
        "class = \"database\"\nrepository = \"keysafe\"",
        16,
        "asset \"database\": repository \"keysafe\" does not accept class \"database\"",
    ),
    (
        "path = \"/var",
        "newest = [\"x\"]\npath = \"/var",
        16,
        "asset \"database\": \"newest\": \"x\" is not TABLE.COLUMN",
    ),
    (
        "[\"ca.key.pem\"]",
        "[]",
        20,
        "asset \"ca-key\": \"paths\" is empty",
    ),
    (
        "[\"ca.key.pem\"]",
        "[\"a\", \"\"]",
        20,
        "asset \"ca-key\": \"paths\" is empty",
    ),
    (
        "[\"ca.key.pem\"]",
        "\"ca.key.pem\"",
        20,
        "asset \"ca-key\": \"paths\" must be an array of strings, not a string",
    ),
    (
        "class = \"key\"",
        "class = \"secret\"",
        21,
        "asset \"ca-key\": \"certificate\" belongs to a key, and the class is \"secret\"",
    ),
    (
        "[asset.ca-key]",
        "[asset.latest]",
        17,
        "asset \"latest\": the name \"latest\" stands for the latest backup",
    ),
    (
        "[asset.ca-key]",
        "[[asset.ca-key]]",
        17,
        "asset is not a table of tables",
    ),
    (
        "[asset.ca-key]",
        "[asset.database]",
        17,
        "\"database\" is given twice (first on line 13)",
    ),
    (
        "class = \"key\"",
        "class = \"key\"\nclass = \"key\"",
        20,
        "\"class\" is given twice (first on line 19)",
    ),
];

#[test]
fn single_faults() {
    for &(from, to, line, message) in FAULTS {
        let hint = refused(from, to, line, message);
        let without = ["must be", "is not valid TOML"];
        let expected = !without.iter().any(|one| message.contains(one));
        assert_eq!(!hint.is_empty(), expected, "{message}: {hint}");
    }
}

#[test]
fn a_missing_recipients_key_and_an_empty_list_are_refused() {
    let list = format!("recipients = [\"{B}\"]\n");
    refused(
        &list,
        "",
        9,
        "repository \"keysafe\": \"recipients\" is missing",
    );
    refused(
        &list,
        "recipients = []\n",
        11,
        "repository \"keysafe\": \"recipients\" is empty",
    );
    let twice = format!("recipients = [\"{B}\",\n \"{}\"]\n", B.to_uppercase());
    refused(
        &list,
        &twice,
        12,
        "repository \"keysafe\": the same recipient twice",
    );
}

#[test]
fn several_repositories_for_one_class_need_a_choice() {
    let other = format!(
        "[repository.second]\nurl = \"file:second\"\nrecipients = [\"{A}\"]\naccepts = [\"database\"]\n[asset.database]"
    );
    let hint = refused(
        "[asset.database]",
        &other,
        19,
        "asset \"database\": several repositories accept class \"database\": offsite, second",
    );
    assert_eq!(
        hint,
        "Say which one, for instance repository = \"offsite\"."
    );
    let text = example().replace(
        "[asset.database]",
        &format!("{other}\nrepository = \"second\""),
    );
    let config = parse(&text).expect("a choice was made");
    assert_eq!(config.repository_of(&config.assets[0]).name, "second");
}

#[test]
fn a_shared_recipient_is_allowed_with_a_reason_on_either_side() {
    for side in [
        "url = \"file:keysafe\"",
        "url = \"file:///srv/backups/example\"",
    ] {
        let allowed = format!(
            "{side}\nallow_shared_recipient = true\nshared_recipient_reason = \"one custodian\""
        );
        let text = example().replace(B, A).replace(side, &allowed);
        let config = parse(&text).expect("allowed");
        let mut all = config.repositories.values();
        assert!(all.any(|one| one.shared_recipient_reason.as_deref() == Some("one custodian")));
    }
}

#[test]
fn post_quantum_and_other_recipients_do_not_mix() {
    let quantum = include_str!("../../../tests/data/age1tagpq.txt").trim();
    let both = format!("[\"{B}\", \"{quantum}\"]");
    refused(
        &format!("[\"{B}\"]"),
        &both,
        11,
        "repository \"keysafe\": this recipient is not post-quantum, and others are",
    );
    let only = example().replace(B, quantum);
    assert!(parse(&only).is_ok());
}

#[test]
fn an_identity_in_the_place_of_a_recipient_is_not_shown() {
    use age::secrecy::ExposeSecret as _;
    let identity = age::x25519::Identity::generate().to_string();
    let text = example().replace(A, identity.expose_secret());
    let errors = parse(&text).expect_err("refused").to_string();
    assert!(errors.contains("private half"), "{errors}");
    assert!(!errors.contains("AGE-SECRET-KEY-1"), "{errors}");
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_lines() {
    let text = "[deployment]\nname = \"x\"\n[writer]\nkeyfile = \"w\"\n[repository.a]\nurl = \"x\"\nrecipients = [\"y\"]\naccepts = [\"key\"]\n[asset.b]\nsource = \"files\"\nclass = \"log\"\n";
    assert_eq!(
        faults(text),
        [
            "3: [writer]: \"key_file\" is missing",
            "4: [writer]: unknown key \"keyfile\"",
            "6: repository \"a\": \"url\": not a URL",
            "7: repository \"a\": not a recipient: it does not begin with age1",
            "9: asset \"b\": \"paths\" is missing",
            "11: asset \"b\": no repository accepts class \"log\"",
        ]
    );
}

#[test]
fn a_newer_configuration_is_refused_before_anything_else() {
    let text = format!("version = 2\nnews = true\n{}", example());
    assert_eq!(
        faults(&text),
        ["1: version 2: this configuration is written for a newer Strongroom"]
    );
    assert!(parse(&format!("version = 1\n{}", example())).is_ok());
    assert_eq!(
        faults(&format!("version = 0\n{}", example())),
        ["1: there is no version 0"]
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let faults = faults("[deployment]\nname = \"x\nfoo\n");
    assert!(faults[0].starts_with("2: not valid TOML: "), "{faults:?}");
}

#[test]
fn an_empty_file_is_refused() {
    assert_eq!(
        faults(""),
        [
            "1: the table [deployment] is missing",
            "1: the table [writer] is missing"
        ]
    );
}

#[test]
fn a_configuration_without_repositories_or_assets_is_refused() {
    let text = "[deployment]\nname = \"x\"\n[writer]\nkey_file = \"w\"\n";
    let faults = faults(text);
    assert!(faults[0].starts_with("1: no repository"), "{faults:?}");
    assert!(faults[1].starts_with("1: no asset"), "{faults:?}");
}

#[test]
fn recipients_come_from_a_file_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("strongroom.toml");
    let list = directory.path().join("keys.txt");
    let text = example().replace(
        &format!("recipients = [\"{B}\"]"),
        "recipients_file = \"keys.txt\"",
    );
    let write = |path: &PathBuf, bytes: &[u8]| {
        strongroom_core::private_file::replace(path, bytes).expect("written");
    };
    write(&file, text.as_bytes());
    let error = Config::load(&file).expect_err("no such file").to_string();
    assert!(
        error.contains(":11: repository \"keysafe\": cannot read the recipients file"),
        "{error}"
    );

    write(&list, format!("# custodians\n\n{B}\n").as_bytes());
    let config = Config::load(&file).expect("valid");
    assert_eq!(config.repositories["keysafe"].recipients, [B]);
    assert_eq!(config.directory, directory.path());

    write(&list, format!("# custodians\nrubbish\n{A}\n").as_bytes());
    let error = Config::load(&file).expect_err("rubbish").to_string();
    let place = format!(
        "{}:2: repository \"keysafe\": not a recipient",
        list.display()
    );
    assert!(error.contains(&place), "{error}");
    assert!(error.contains("keys.txt:3: "), "shared: {error}");

    write(&list, b"# nobody\n");
    let error = Config::load(&file).expect_err("nobody").to_string();
    assert!(
        error.contains(":11: repository \"keysafe\": no recipient in "),
        "{error}"
    );
}

#[test]
fn a_missing_file_and_one_that_is_not_text_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("strongroom.toml");
    let error = Config::load(&file).expect_err("missing");
    assert!(error.is_missing(), "{error}");
    strongroom_core::private_file::replace(&file, b"[deployment]\n\xff").expect("written");
    let error = Config::load(&file).expect_err("not UTF-8");
    assert!(!error.is_missing());
    assert!(
        error
            .to_string()
            .ends_with(":2: the file is not UTF-8 text"),
        "{error}"
    );
}
