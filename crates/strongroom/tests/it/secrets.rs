//! Secrets in the configuration of the CA: refused, redirected, allowed.

use std::path::Path;

use crate::fixture::{Host, Outcome, must, write};
use crate::reader::must_read;

/// Planted in `akamu.toml`; nothing may print it, and only the keysafe may hold it.
const SECRET: &str = "canary-eab-7c31f0a95be24d18";

/// A host whose configuration holds a secret; `more` goes into the table of the asset `config`.
fn host(more: &str) -> Host {
    let host = Host::new();
    host.learn_secret(SECRET);
    let text = format!("[server]\n\neab_master_secret = \"{SECRET}\"\n");
    write(&host.path("ca/conf/akamu.toml"), text);
    write(
        &host.path("ca/conf/sub/.env"),
        format!("NAME=ca\nDB_PASSWORD={SECRET}\n"),
    );
    configure(&host, more);
    host
}

fn configure(host: &Host, more: &str) {
    host.configure("");
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let table = "[asset.config]\n";
    assert!(text.contains(table));
    write(&file, text.replace(table, &format!("{table}{more}\n")));
}

/// Everything in a repository that its identity opens, as the independent reader writes it, with what it says.
fn opened(host: &Host, repository: &str, identity: &str) -> Vec<u8> {
    let (place, identity) = (host.text(repository), host.text(identity));
    let listed = must_read(&["list", &place]);
    let labels: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_once(": run ").map(|(label, _)| label))
        .collect();
    assert!(!labels.is_empty(), "{listed}");
    let mut all = listed.clone().into_bytes();
    for label in labels {
        let out = host.text(&format!("opened/{repository}/{label}"));
        let restore = ["restore", &place, "--label", label, "--identity", &identity];
        all.extend(must_read(&[&restore[..], &["--out", &out]].concat()).into_bytes());
        collect(Path::new(&out), &mut all);
        std::fs::remove_dir_all(&out).expect("removes");
    }
    all
}

fn collect(directory: &Path, all: &mut Vec<u8>) {
    for entry in std::fs::read_dir(directory).expect("reads") {
        let entry = entry.expect("reads");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            collect(&entry.path(), all);
        } else if kind.is_file() {
            all.extend(std::fs::read(entry.path()).expect("reads"));
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[track_caller]
fn names_the_places(outcome: Outcome) -> Outcome {
    outcome
        .says("conf/akamu.toml\": holds the secret of akamu's external account binding in line 3 [akamu]")
        .says("sub/.env\": holds a password in line 2 [password]")
}

#[test]
fn a_secret_in_the_configuration_is_refused_with_file_and_line() {
    let host = host("");
    names_the_places(host.run(&["check"]).exits(3))
        .says("secrets-apart")
        .says("on_secret");
    let document = host.run(&["backup", "--json"]).exits(3).document();
    assert_eq!(document["status"], "incomplete");
    names_the_places(host.run(&["backup"]).exits(3))
        .says("name it in an asset of class secret and exclude it here")
        .says("INCOMPLETE");
    let common = opened(&host, "repo/offsite", "id/database");
    assert!(holds(&common, "days = 90"), "the rest is there");
    assert!(!holds(&common, SECRET));
    // What the message advises.
    let conf = host.text("ca/conf");
    configure(&host, "exclude = [\"akamu.toml\", \".env\"]");
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let more = format!(
        "[asset.eab]\nsource = \"files\"\nclass = \"secret\"\npaths = [\"{conf}/akamu.toml\", \"{conf}/sub/.env\"]\n"
    );
    write(&file, text + &more);
    must(
        "chmod",
        &[
            "600",
            &format!("{conf}/akamu.toml"),
            &format!("{conf}/sub/.env"),
        ],
    );
    host.ok(&["check"]);
    let label = host.backup();
    host.restore_to(&label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
}

#[test]
fn a_redirected_file_comes_back_and_the_databases_identity_never_sees_it() {
    let host = host("on_secret = \"redirect\"");
    names_the_places(host.ok(&["check"])).says("goes to the asset config-secrets");
    let label = host.backup();
    names_the_places(host.ok(&["backup"])).says("goes to the asset config-secrets");

    let common = opened(&host, "repo/offsite", "id/database");
    assert!(holds(&common, "days = 90"));
    assert!(
        !holds(&common, SECRET),
        "the identity of the databases opens the secret"
    );
    assert!(holds(&opened(&host, "repo/keysafe", "id/keys"), SECRET));

    for command in [
        vec!["list"],
        vec!["show", "latest"],
        vec!["verify", "--all"],
    ] {
        let outcome = host.ok(&command);
        assert!(command[0] != "show" || outcome.has("config-secrets"));
    }
    host.ok(&host.with_identities(&["verify", "--level", "L4"]));
    host.ok(&host.with_identities(&["diff", &label, "latest"]));
    let out = host.text("export");
    host.ok(&host.with_identities(&["export", "latest", "--out", &out]));

    host.restore_to(&label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    // In place: everything to where it was.
    let before = host.contents();
    std::fs::remove_dir_all(host.path("ca/conf")).expect("removes");
    host.ok(&host.with_identities(&["restore", &label, "--apply"]));
    assert_eq!(host.contents(), before);
    host.ok(&["restore", "--sign-off"]);

    // Without its other half, and that is said.
    let (keys, out) = (host.text("id/database"), host.text("half"));
    host.run(&[
        "restore",
        &label,
        "config",
        "--to-dir",
        &out,
        "--apply",
        "--identity",
        &keys,
    ])
    .says("its files that hold secrets are in the asset config-secrets");
    // Either half brings the other along.
    for name in ["config", "config-secrets"] {
        let document = host.ok(&["backup", name, "--json"]).document();
        let assets = document["assets"].as_array().expect("assets");
        let names: Vec<_> = assets.iter().map(|asset| asset["name"].as_str()).collect();
        assert_eq!(names, [Some("config"), Some("config-secrets")]);
    }
    host.ok(&["status"]);
}

#[test]
fn a_redirected_part_stays_as_long_as_a_backup_needs_it() {
    let host = host("on_secret = \"redirect\"");
    let file = host.path("host/strongroom.toml");
    let text = std::fs::read_to_string(&file).expect("reads");
    let retention = "[repository.offsite.retention]\nkeep_last = 3\n[repository.keysafe.retention]\nkeep_last = 1\n";
    write(&file, format!("{text}{retention}"));
    let akamu = host.path("ca/conf/akamu.toml");
    let secret = |number: usize| {
        let secret = format!("{SECRET}-{number}");
        host.learn_secret(&secret);
        write(&akamu, format!("eab_master_secret = \"{secret}\"\n"));
    };
    let backup = |number: usize, assets: &[&str]| {
        secret(number);
        let arguments = [&["backup", "--json"][..], assets].concat();
        let document = host.ok(&arguments).document();
        document["label"].as_str().expect("a label").to_owned()
    };
    // The first runs have no databases, whose keys would stay anyway.
    let mut made = vec![backup(0, &["config"]), backup(1, &["config"])];
    made.push(backup(2, &[]));
    let listed = || -> Vec<String> {
        let document = host.ok(&["list", "--json"]).document();
        let backups = document["backups"].as_array().expect("a list").iter();
        let whole = backups.filter(|one| {
            let expired = one["expired_repositories"].as_array();
            expired.is_none_or(Vec::is_empty)
        });
        let labels = whole.map(|one| one["label"].as_str().expect("a label").to_owned());
        labels.collect()
    };
    host.ok(&["verify"]);
    host.ok(&["expire", "--apply"])
        .says("has the files with secrets of config");
    assert_eq!(listed(), made);
    host.ok(&["verify", "--all"]);
    for (number, label) in made.iter().enumerate() {
        let out = format!("out-{number}");
        host.restore_to(label, &out).exits(0);
        secret(number);
        let akamu = Path::new("conf/akamu.toml");
        let wanted = host.contents().remove(akamu).expect("is there");
        let restored = host.restored(&out).remove(akamu).expect("comes back");
        assert!(restored == wanted, "{label}");
    }

    // What lets a backup go lets its part go.
    made.push(backup(3, &["config"]));
    host.ok(&["verify", "--all"]);
    host.ok(&["expire", "--apply"]);
    assert_eq!(listed(), made[1..]);
    let table = "[asset.config.retention]\nkeep_last = 1\n";
    write(&file, format!("{text}{retention}{table}"));
    host.ok(&["expire", "--apply"]);
    // The third has the newest of everything else.
    assert_eq!(listed(), made[2..]);
    host.ok(&["verify", "--all"]);
}

#[test]
fn nothing_is_redirected_where_nothing_is_secret() {
    let host = host("on_secret = \"redirect\"");
    write(&host.path("ca/conf/akamu.toml"), "[server]\n");
    write(&host.path("ca/conf/sub/.env"), "NAME=ca\n");
    host.ok(&["check"]).says("no secrets in");
    let label = host.backup();
    host.restore_to(&label, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    must_read(&[
        "verify",
        &host.text("repo/keysafe"),
        "--identity",
        &host.text("id/keys"),
    ]);
}

#[test]
fn the_keysafe_that_is_down_leaves_the_run_incomplete_and_the_secret_out() {
    let host = host("on_secret = \"redirect\"");
    host.backup();
    std::fs::rename(host.path("repo/keysafe"), host.path("repo/away")).expect("renames");
    host.run(&["backup"]).exits(3).says("keysafe");
    assert!(!holds(
        &opened(&host, "repo/offsite", "id/database"),
        SECRET
    ));
}

#[test]
fn an_allowed_secret_is_noted_in_each_run_with_its_reason() {
    let reason = "one person runs this CA and holds both identities";
    let host = host(&format!(
        "on_secret = \"allow\"\non_secret_reason = \"{reason}\""
    ));
    names_the_places(host.ok(&["check"])).says(reason);
    for _ in 0..2 {
        names_the_places(host.ok(&["backup"]))
            .says("stays here")
            .says(reason);
    }
    assert!(holds(&opened(&host, "repo/offsite", "id/database"), SECRET));
    host.restore_to("latest", "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    let shown = host.ok(&host.with_identities(&["show", "latest", "--json"]));
    assert!(
        shown.has(reason),
        "the reason is in the manifest\n{}",
        shown.stdout
    );
}

#[test]
fn a_token_in_a_log_is_noted() {
    let host = Host::new();
    let token = "hvs.Zx81kQp07RtYw2NvLm4cBd9F";
    host.learn_secret(token);
    write(
        &host.path("ca/var/log/vault.log"),
        format!("started\nusing {token}\n"),
    );
    host.ok(&["backup"])
        .says("vault.log\": holds a Vault token in line 2 [vault-token]")
        .says("whoever opens the backup can read it");
}
