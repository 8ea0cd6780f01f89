//! The program against real servers: repositories at S3, SFTP and Google Cloud Storage, from `init` to a restore.

mod thief;

use std::net::SocketAddr;

use serde_json::Value;
use strongroom_testkit::proxy::{Faults, Proxy};
use strongroom_testkit::servers::clouds;
use strongroom_testkit::servers::minio::{Account, Kind, Minio, Options};
use strongroom_testkit::servers::sshd::Sshd;
use strongroom_testkit::skip;

use crate::fixture::{Host, write};

const WRITER: &str = include_str!("../../../../docs/policies/s3-writer.json");
const RESTORER: &str = include_str!("../../../../docs/policies/s3-restorer.json");
const EXPIRER: &str = include_str!("../../../../docs/policies/s3-expirer.json");
const SFTP: &str = include_str!("../../../../docs/guide/storages/sftp.md");

/// The repositories of the usual host, each in a bucket with accounts of its own.
struct Buckets {
    server: Minio,
    host: Host,
}

impl Buckets {
    /// Buckets with object lock and accounts by the documents of the guide; nothing is configured yet.
    fn new(test: &str) -> Option<Self> {
        let server = Minio::start(test, &Options::default())?;
        let host = Host::without_repositories();
        std::fs::create_dir(host.path("host")).expect("creates");
        for bucket in ["offsite", "keysafe"] {
            server.make_bucket(bucket, Kind::Locking);
            for (role, policy) in [
                ("writer", WRITER),
                ("restorer", RESTORER),
                ("expirer", EXPIRER),
            ] {
                let account = server.make_user(&format!("{bucket}-{role}"), policy, bucket);
                account.write(&host.path("host"));
            }
        }
        Some(Self { server, host })
    }

    /// The lines of a repository in the bucket of its name.
    fn lines(&self, bucket: &str) -> String {
        lines(bucket, &self.server.endpoint(), &format!("{bucket}-writer"))
    }

    /// Configures both, with these lines for `keysafe`.
    fn configure(&self, keysafe: &str) {
        let roles = |name: &str| {
            format!(
                "[repository.{name}.restorer]\ncredentials_file = \"{name}-restorer.credentials\"\n\
                 [repository.{name}.expirer]\ncredentials_file = \"{name}-expirer.credentials\"\n"
            )
        };
        let more = roles("offsite") + &roles("keysafe");
        self.host
            .configure_at(&self.lines("offsite"), keysafe, &more);
    }

    /// Makes the repositories, and remembers the secrets.
    fn init(&self) {
        self.configure(&self.lines("keysafe"));
        self.host.ok(&["init"]);
        learn(&self.host, &["offsite", "keysafe"]);
    }
}

fn learn(host: &Host, buckets: &[&str]) {
    host.learn_secrets();
    for bucket in buckets {
        for role in ["writer", "restorer", "expirer"] {
            host.learn_secret(&Account::new(&format!("{bucket}-{role}")).secret_key);
        }
    }
}

fn lines(bucket: &str, endpoint: &str, account: &str) -> String {
    format!(
        "url = \"s3://{bucket}/ca\"\nendpoint = \"{endpoint}\"\npath_style = true\n\
         credentials_file = \"{account}.credentials\"\nimmutable = \"1d\"\npatience_seconds = 1\n"
    )
}

fn backups(host: &Host) -> Vec<Value> {
    let document = host.ok(&["list", "--json"]).document();
    document["backups"].as_array().expect("a list").clone()
}

/// Two backups, looked at in every way, and the newest restored.
fn there_and_back(host: &Host) {
    host.ok(&["check"]);
    let first = host.backup();
    host.insert(1000, 50);
    write(&host.path("ca/conf/sub/new.conf"), "two = 2\n");
    let second = host.backup();
    let listed = backups(host);
    let labels: Vec<&Value> = listed.iter().map(|backup| &backup["label"]).collect();
    assert_eq!(labels, [first.as_str(), second.as_str()]);
    assert!(listed.iter().all(|backup| backup["status"] == "complete"));
    host.ok(&["show", &second]).says("ca-key").says("database");
    host.ok(&host.with_identities(&["verify", "latest", "--level", "L4"]));
    host.ok(&["verify", "--all"]);
    host.restore_to("latest", "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    host.ok(&["check"])
        .says("the chain of envelopes is unbroken");
}

#[test]
fn there_and_back_by_s3() {
    let Some(buckets) = Buckets::new("remote::there_and_back_by_s3") else {
        return;
    };
    buckets.init();
    there_and_back(&buckets.host);
}

#[test]
fn there_and_back_by_sftp() {
    let Some(server) = sshd("remote::there_and_back_by_sftp") else {
        return;
    };
    let host = Host::without_repositories();
    std::fs::create_dir(host.path("srv")).expect("creates");
    let key = server.host_key().expect("a key");
    host.configure_at(
        &sftp(&host, &server, "offsite", &key),
        &sftp(&host, &server, "keysafe", &key),
        "",
    );
    host.ok(&["init"]);
    host.learn_secrets();
    there_and_back(&host);
    assert!(host.path("srv/offsite/envelopes").is_dir());
}

#[test]
fn there_and_back_by_gcs() {
    let server = match clouds::gcs(&["offsite", "keysafe"]) {
        Ok(server) => server,
        Err(why) => return skip("remote::there_and_back_by_gcs", &why),
    };
    let host = Host::without_repositories();
    // What the library takes for emulators: no token is asked for.
    let text = r#"{"private_key":"planted-key-of-gcs","private_key_id":"1","client_email":"a@b","disable_oauth":true}"#;
    write(&host.path("host/gcs.json"), text);
    host.learn_secret("planted-key-of-gcs");
    let bucket = |name: &str| {
        format!(
            "url = \"gs://{name}/ca\"\nendpoint = \"{}/as/writer\"\ncredentials_file = \"gcs.json\"\n",
            server.url
        )
    };
    host.configure_at(&bucket("offsite"), &bucket("keysafe"), "");
    host.ok(&["init"]);
    there_and_back(&host);
}

#[test]
fn a_server_that_is_down_does_not_stop_the_other_repository() {
    let test = "remote::a_server_that_is_down_does_not_stop_the_other_repository";
    let Some(buckets) = Buckets::new(test) else {
        return;
    };
    let host = &buckets.host;
    let endpoint = buckets.server.endpoint();
    let address = endpoint.trim_start_matches("http://");
    let address: SocketAddr = address.parse().expect("an address");
    let proxy = Proxy::start(address).expect("starts");
    let through = format!("http://{}", proxy.address());
    buckets.configure(&lines("keysafe", &through, "keysafe-writer"));
    host.ok(&["init"]);
    learn(host, &["offsite", "keysafe"]);
    host.backup();
    host.insert(1000, 20);

    proxy.set(Faults {
        refuse: true,
        ..Faults::default()
    });
    proxy.break_all();
    let run = host.run(&["backup", "--json"]).exits(3).document();
    assert_eq!(run["status"], "incomplete");
    let problems = run["problems"].to_string();
    assert!(problems.contains("repository keysafe"), "{problems}");
    assert!(problems.contains("does not answer"), "{problems}");
    host.run(&["check"])
        .exits(3)
        .says("PROBLEM keysafe")
        .says("does not answer");
    host.run(&["list"]).says("keysafe").says("does not answer");

    proxy.set(Faults::default());
    let listed = backups(host);
    let label = run["label"].as_str().expect("a label");
    assert_eq!(listed[1]["label"], label);
    assert_eq!(listed[1]["status"], "incomplete");
    let part = host.run(&["show", label, "--json"]).exits(3).document();
    let part = part.to_string();
    assert!(part.contains("\"offsite\""), "{part}");
    let next = host.backup();
    host.restore_to(&next, "out").exits(0);
    assert_eq!(host.restored("out"), host.contents());
    host.ok(&["verify", &next]);
}

#[test]
fn what_s3_refuses_is_told_with_what_to_do() {
    let Some(buckets) = Buckets::new("remote::what_s3_refuses_is_told_with_what_to_do") else {
        return;
    };
    buckets.init();
    let host = &buckets.host;
    let directory = host.path("host");
    let wrong = Account {
        access_key: "keysafe-writer".into(),
        secret_key: "another-secret-key".into(),
    };
    std::fs::create_dir(directory.join("wrong")).expect("creates");
    wrong.write(&directory.join("wrong"));
    Account::new("nobody").write(&directory);
    Minio::root().write(&directory);
    buckets.server.make_bucket("another", Kind::Locking);
    let endpoint = buckets.server.endpoint();
    let mut no_file = buckets.lines("keysafe");
    no_file = no_file.replace("keysafe-writer", "not-there");
    for (lines, what, hint) in [
        (
            lines("keysafe", &endpoint, "wrong/keysafe-writer"),
            "the secret key does not belong to the access key",
            "redentials",
        ),
        (
            lines("keysafe", &endpoint, "nobody"),
            "does not know the access key",
            "redentials",
        ),
        (
            lines("missing", &endpoint, "strongroom-root"),
            "there is no bucket \"missing\"",
            "url",
        ),
        (
            lines("another", &endpoint, "keysafe-writer"),
            "access denied",
            "polic",
        ),
        (no_file, "not-there.credentials", "credentials_file"),
    ] {
        buckets.configure(&lines);
        let told = host.run(&["list"]).exits(1).says("repository keysafe");
        let told = told.says(what).says("hint:");
        let advice = told.stderr.split("hint:").last().unwrap_or_default();
        assert!(advice.contains(hint), "{}", told.stderr);
        host.run(&["check"])
            .exits(3)
            .says("PROBLEM keysafe")
            .says(what);
    }
    buckets.configure(&buckets.lines("keysafe"));
    host.backup();
}

#[test]
fn a_host_key_that_nobody_vouched_for_is_told_with_what_to_do() {
    let test = "remote::a_host_key_that_nobody_vouched_for_is_told_with_what_to_do";
    let Some(server) = sshd(test) else {
        return;
    };
    let host = Host::without_repositories();
    std::fs::create_dir(host.path("srv")).expect("creates");
    let offsite = sftp(
        &host,
        &server,
        "offsite",
        &server.host_key().expect("a key"),
    );
    let other = server.strange_host_key().expect("a key");
    host.configure_at(&offsite, &sftp(&host, &server, "keysafe", &other), "");
    host.run(&["init"])
        .exits(1)
        .says("repository keysafe")
        .says("the server shows another host key than the pinned one")
        .says("hint:");
    assert!(!host.path("srv/keysafe").exists());
    let unknown = sftp(&host, &server, "keysafe", &other);
    let pinned = unknown.lines().find(|line| line.starts_with("host_key"));
    let empty = host.text("host/known_hosts");
    write(host.path("host/known_hosts").as_path(), "");
    let by_file = format!("known_hosts = \"{empty}\"");
    let unknown = unknown.replace(pinned.expect("is there"), &by_file);
    host.configure_at(&offsite, &unknown, "");
    host.run(&["init"])
        .exits(1)
        .says("repository keysafe")
        .says("the server's host key is not known")
        .says("known_hosts");
    assert!(!host.path("srv/keysafe").exists());
}

/// A server that allows what the guide allows a writer.
fn sshd(test: &str) -> Option<Sshd> {
    if Sshd::program().is_none() {
        skip(test, "openssh-server is not installed");
        return None;
    }
    let (_, block) = SFTP.split_once("Match User ca-writer\n").expect("a block");
    let (_, allowed) = block
        .split_once("ForceCommand internal-sftp ")
        .expect("it forces internal-sftp");
    let allowed = allowed.lines().next().expect("a line");
    Some(Sshd::start(allowed).expect("sshd starts"))
}

/// The lines of a repository on an SSH server, below `srv/`.
fn sftp(host: &Host, server: &Sshd, name: &str, host_key: &str) -> String {
    format!(
        "url = \"sftp://{}@{}{}\"\nhost_key = \"{host_key}\"\ncredentials_file = \"{}\"\n\
         connections = 2\npatience_seconds = 5\n",
        server.user(),
        server.address(),
        host.text(&format!("srv/{name}")),
        server.key().display(),
    )
}

#[test]
fn credentials_files_that_are_missing_are_told_for_every_kind() {
    let host = Host::without_repositories();
    let keysafe = format!("url = \"file://{}\"\n", host.text("keysafe"));
    for url in [
        "s3://bucket/ca",
        "gs://bucket-1/ca",
        "az://account/container/ca",
    ] {
        let lines = format!("url = \"{url}\"\ncredentials_file = \"not-there\"\n");
        host.configure_at(&lines, &keysafe, "");
        let told = host.run(&["init"]).exits(1).says("repository offsite");
        told.says("not-there: ")
            .says("hint: Correct what is named")
            .says("credentials_file");
        // The other repository has its part all the same.
        let run = host.run(&["backup", "--json"]).exits(3).document();
        assert_eq!(run["status"], "incomplete", "{run}");
    }
    host.run(&["list"]).says("INCOMPLETE").says("not-there: ");
}
