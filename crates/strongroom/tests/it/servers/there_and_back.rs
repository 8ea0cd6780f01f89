//! Backup, damage, restore, compare, undo, swap, sign-off, for both servers.

use std::os::unix::fs::PermissionsExt as _;

use strongroom_adapters::throwaway::{Listen, Options};
use strongroom_testkit::fixtures;

use super::host::{DATABASES, Kind, Server, ServerHost, assert_same};
use crate::fixture::write;

fn there_and_back(kind: Kind) {
    let place = ServerHost::new(kind, 2000);
    let (host, server) = (&place.host, &place.server);
    host.ok(&["check"]);
    let wanted = place.dumps();
    let label = host.backup();
    let shown = host.ok(&place.host.with_identities(&["show", &label, "--json"]));
    let document = shown.document();
    let asset = document["assets"]
        .as_array()
        .and_then(|assets| assets.iter().find(|asset| asset["name"] == "ca-db"))
        .expect("the asset")
        .clone();
    for database in DATABASES {
        assert!(asset["facts"]["databases"][database]["tables"].is_object());
    }
    place.damage();
    let damaged = place.dumps();
    assert_ne!(damaged, wanted);

    // The plan names what it replaces, and changes nothing.
    let planned = host.ok(&place.restore(&[&label, "ca-db"]));
    planned
        .says("replaces")
        .says("certctl")
        .says("Nothing was changed");
    place.assert_dumps(&damaged, "now");

    let apply = place.restore(&[&label, "ca-db", "--apply"]);
    host.ok(&apply).says("rows");
    place.assert_dumps(&wanted, "restored");
    assert_eq!(server.databases().len(), 4, "what was replaced is kept");
    // Nothing else can be restored meanwhile.
    host.run(&apply).exits(4).says("--sign-off");

    host.ok(&["restore", "--undo"]);
    place.assert_dumps(&damaged, "undone");
    place.assert_no_leftovers("undone");

    host.ok(&apply);
    host.ok(&["restore", "--sign-off"]);
    place.assert_dumps(&wanted, "signed off");
    place.assert_no_leftovers("signed off");
    host.run(&["restore", "--undo"]).exits(4);

    // An unchanged database adds next to nothing.
    let again = host.ok(&["backup", "--json"]).document();
    let stats = again["assets"]
        .as_array()
        .and_then(|assets| assets.iter().find(|asset| asset["name"] == "ca-db"))
        .expect("the asset")
        .clone();
    let (size, stored) = (
        stats["size_bytes"].as_u64().expect("a size"),
        stats["stored_bytes"].as_u64().expect("a size"),
    );
    assert!(stored < size / 10, "{stored} of {size} bytes");
    let verify = host.with_identities(&["verify", "latest", "--level", "L4"]);
    host.ok(&verify).says("L4");
}

#[test]
fn postgresql_goes_there_and_back() {
    there_and_back(Kind::Postgresql);
}

#[test]
fn mariadb_goes_there_and_back() {
    there_and_back(Kind::Mariadb);
}

fn beside(kind: Kind) {
    let place = ServerHost::new(kind, 200);
    let (host, server) = (&place.host, &place.server);
    // One asset for one database, so that it can get another name.
    let label = host.backup();
    host.run(&place.restore(&[&label, "ca-db", "--to-database", "look", "--apply"]))
        .exits(4)
        .says("two databases would become");
    host.run(&place.restore(&["latest", "ca-bd"]))
        .exits(4)
        .says("no backup has an asset \"ca-bd\"");
    let out = host.text("files");
    host.ok(&place.restore(&[&label, "ca-db", "--to-dir", &out, "--apply"]));
    let files = host.path("files/ca-db");
    for database in DATABASES {
        assert!(files.join(database).is_dir(), "{database}");
    }
    assert_eq!(server.databases(), DATABASES);
    host.run(&place.restore(&[&label, "ca-db", "--table", "certificates", "--apply"]))
        .exits(2);
}

#[test]
fn postgresql_is_restored_to_files() {
    beside(Kind::Postgresql);
}

#[test]
fn mariadb_is_restored_to_files() {
    beside(Kind::Mariadb);
}

/// An asset with one database of the server, which can get another name.
fn with_one(place: &ServerHost) {
    let asset = place.server.asset("one", &["certctl"]);
    place.host.configure(&asset);
}

fn under_another_name(kind: Kind) {
    let place = ServerHost::new(kind, 200);
    let (host, server) = (&place.host, &place.server);
    with_one(&place);
    let wanted = server.dump("certctl");
    let label = host.backup();
    host.ok(&place.restore(&[&label, "one", "--to-database", "look", "--apply"]));
    assert_eq!(server.databases(), ["akamu", "certctl", "look"]);
    assert_same(
        &["look"],
        &[server.dump("look")],
        std::slice::from_ref(&wanted),
        "restored",
    );
    assert!(server.dump("certctl") == wanted, "nothing live is touched");
    assert!(!place.journal().exists(), "nothing waits for a sign-off");
    // Taken already.
    host.run(&place.restore(&[&label, "one", "--to-database", "look", "--apply"]))
        .exits(4)
        .says("look");

    let some = place.restore(&[
        &label,
        "one",
        "--to-database",
        "some",
        "--table",
        "audit_events",
        "--apply",
    ]);
    host.ok(&some);
    let count = |database: &str, table: &str| {
        let sql = format!("select count(*) from {table}");
        server.sql(database, &sql).trim().to_owned()
    };
    assert_eq!(
        count("some", "audit_events"),
        count("certctl", "audit_events")
    );
    assert_ne!(count("certctl", "certificate_versions"), "0");
    assert_eq!(
        count("some", "certificate_versions"),
        "0",
        "the schema is whole, the rows are not"
    );
    host.run(&place.restore(&[
        &label,
        "one",
        "--to-database",
        "none",
        "--table",
        "no_such",
        "--apply",
    ]))
    .exits(4)
    .says("no_such");
    assert_eq!(server.databases(), ["akamu", "certctl", "look", "some"]);
}

#[test]
fn a_database_of_postgresql_is_restored_under_another_name() {
    under_another_name(Kind::Postgresql);
}

#[test]
fn a_database_of_mariadb_is_restored_under_another_name() {
    under_another_name(Kind::Mariadb);
}

fn onto_another_server(kind: Kind) {
    let place = ServerHost::new(kind, 200);
    let host = &place.host;
    with_one(&place);
    let wanted = place.server.dump("certctl");
    let label = host.backup();
    let other = Server::start(kind, &Options::for_tests());
    let url = other.url();
    let onto = |more: &[&str]| {
        let mut all = vec![label.as_str(), "one", "--server", &url];
        all.extend(more);
        place.restore(&all)
    };
    // What is missing there is told before anything is done.
    host.ok(&onto(&[])).says("certctl_app");
    assert_eq!(other.databases(), [""; 0]);
    host.ok(&onto(&["--apply"]));
    assert_eq!(other.databases(), ["certctl"]);
    assert_same(
        &["certctl"],
        &[other.dump("certctl")],
        &[wanted],
        "owners and grants too",
    );
    assert_eq!(place.server.databases(), DATABASES);
    let mapped = onto(&[
        "--to-database",
        "mapped",
        "--map-role",
        "certctl_app=other",
        "--apply",
    ]);
    if kind == Kind::Mariadb {
        host.run(&mapped).exits(4).says("accounts cannot be put");
        return;
    }
    host.run(&mapped).exits(4).says("other");
    other.sql("postgres", "create role other");
    host.ok(&mapped);
    let grants = |database: &str, role: &str| {
        let sql = format!(
            "select count(*) from information_schema.role_table_grants where grantee = '{role}'"
        );
        other.sql(database, &sql).trim().to_owned()
    };
    assert_eq!(grants("mapped", "certctl_app"), "0");
    assert_eq!(grants("mapped", "other"), grants("certctl", "certctl_app"));
    assert_ne!(grants("mapped", "other"), "0");
}

#[test]
fn a_database_of_postgresql_is_restored_onto_another_server() {
    onto_another_server(Kind::Postgresql);
}

#[test]
fn a_database_of_mariadb_is_restored_onto_another_server() {
    onto_another_server(Kind::Mariadb);
}

/// The password that a server on TCP asks for; no run may print it.
const PASSWORD: &str = "planted-over-tcp-7f3a";

fn with_a_password(kind: Kind) {
    let options = Options {
        listen: Listen::Loopback {
            password: PASSWORD.to_owned().into(),
        },
        ..Options::for_tests()
    };
    let place = ServerHost::with_options(kind, 200, &options);
    let host = &place.host;
    host.learn_secret(PASSWORD);
    let wrong = "planted-and-not-the-password";
    host.learn_secret(wrong);
    let file = host.path("host/server.pass");
    let (url, source) = match &place.server {
        Server::Postgresql(server) => (
            format!("postgresql://postgres@127.0.0.1:{}/postgres", server.port()),
            "postgresql",
        ),
        Server::Mariadb(server) => (
            format!("mariadb://root@127.0.0.1:{}", server.port().expect("TCP")),
            "mariadb",
        ),
    };
    host.configure(&format!(
        "[asset.ca-db]\nsource = \"{source}\"\nclass = \"database\"\nurl = \"{url}\"\n\
         databases = [\"akamu\", \"certctl\"]\npassword_file = \"{}\"\n",
        file.display()
    ));
    let give = |password: &str, mode: u32| {
        write(&file, format!("{password}\n"));
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&file, mode).expect("sets");
    };
    give(PASSWORD, 0o644);
    host.run(&["backup"]).exits(3).says("chmod 600");
    give(wrong, 0o600);
    let refused = match kind {
        Kind::Postgresql => "password authentication failed",
        Kind::Mariadb => "Access denied",
    };
    host.run(&["backup"]).exits(3).says(refused);
    give(PASSWORD, 0o600);
    let wanted = place.dumps_but_counters();
    let label = host.backup();
    place.damage();
    let apply = place.restore(&[&label, "ca-db", "--apply"]);
    give(wrong, 0o600);
    host.run(&apply).exits(4).says(refused);
    give(PASSWORD, 0o600);
    host.ok(&apply);
    place.assert_dumps_but_counters(&wanted, "restored");
}

#[test]
fn a_password_opens_postgresql_on_tcp() {
    with_a_password(Kind::Postgresql);
}

#[test]
fn a_password_opens_mariadb_on_tcp() {
    with_a_password(Kind::Mariadb);
}

fn large(kind: Kind) {
    let place = ServerHost::new(kind, fixtures::MANY);
    let host = &place.host;
    let wanted = place.server.dump("certctl");
    with_one(&place);
    let label = host.backup();
    place.damage();
    host.ok(&place.restore(&[&label, "one", "--apply"]));
    assert_same(
        &["certctl"],
        &[place.server.dump("certctl")],
        &[wanted],
        "restored",
    );
    host.ok(&["restore", "--sign-off"]);
    place.assert_no_leftovers("signed off");
}

#[test]
fn a_large_database_of_postgresql_goes_there_and_back() {
    large(Kind::Postgresql);
}

#[test]
fn a_large_database_of_mariadb_goes_there_and_back() {
    large(Kind::Mariadb);
}
