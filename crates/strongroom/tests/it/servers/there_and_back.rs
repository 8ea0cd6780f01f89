//! Backup, damage, restore, compare, undo, swap, sign-off, for both servers.

use super::host::{DATABASES, Kind, ServerHost};

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
