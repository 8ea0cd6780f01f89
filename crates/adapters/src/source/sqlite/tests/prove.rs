//! The restorer.

use std::collections::BTreeMap;

use strongroom_core::source::{Proof, RestoredAsset, Restorer as _};

use super::*;
use crate::source::sqlite::SqliteRestorer;

const SQL: &str = "CREATE TABLE certificates(id INTEGER PRIMARY KEY, serial TEXT, created INTEGER);
    INSERT INTO certificates(serial, created) VALUES('a', 1), ('b', 2);
    CREATE TABLE other(x); INSERT INTO other VALUES(1);
    CREATE TABLE schema_migrations(version); INSERT INTO schema_migrations VALUES(1);";

fn prove(bench: &Bench, facts: &serde_json::Value, restored: &Path) -> Proof {
    let files = BTreeMap::from([(bench.path().to_owned(), restored.to_owned())]);
    SqliteRestorer
        .prove(&RestoredAsset {
            name: "asset",
            settings: &bench.source.settings(),
            facts,
            files: &files,
            all_files: &files,
        })
        .unwrap()
}

#[test]
fn what_was_captured_is_proved_and_left_alone() {
    for mode in ["delete", "wal"] {
        let mut bench = Bench::new(&format!("PRAGMA journal_mode = {mode}; {SQL}"));
        bench.source = source(bench.path(), &["certificates.created"]);
        let facts = bench.capture_whole().facts;
        let restored = bench.restored();
        let before = snapshot(bench.restored.path());
        let proof = prove(&bench, &facts, &restored);
        assert_eq!(proof.failures, Vec::<String>::new());
        assert_eq!(
            proof.shown,
            [
                "integrity_check finds no defect",
                "schema and 4 rows in 3 tables equal those captured"
            ]
        );
        assert_eq!(before, snapshot(bench.restored.path()));
    }
}

#[test]
fn every_difference_is_named() {
    for (change, expected) in [
        (
            "UPDATE certificates SET serial = 'B' WHERE id = 2",
            "table \"certificates\" has other content than when it was captured",
        ),
        (
            "INSERT INTO other VALUES(1)",
            "table \"other\" had 1 rows when captured and has 2",
        ),
        ("DROP TABLE other", "table \"other\" is missing"),
        (
            "CREATE TABLE more(x)",
            "table \"more\" was not there when the database was captured",
        ),
        (
            "CREATE INDEX i ON other(x)",
            "the digest of the schema was ",
        ),
        (
            "PRAGMA user_version = 3",
            "the user version was 0 when captured and is 3",
        ),
        (
            "UPDATE certificates SET created = 9",
            "the newest certificates.created was 2 when captured and is 9",
        ),
        (
            "INSERT INTO schema_migrations VALUES(2)",
            "the migrations in \"schema_migrations\" are others than when they were captured",
        ),
        (
            "PRAGMA journal_mode = wal",
            "the journal mode was rollback when captured and is wal",
        ),
    ] {
        let mut bench = Bench::new(SQL);
        bench.source = source(bench.path(), &["certificates.created"]);
        let facts = bench.capture_whole().facts;
        let restored = bench.restored();
        Connection::open(&restored)
            .unwrap()
            .execute_batch(change)
            .unwrap();
        let failures = prove(&bench, &facts, &restored).failures;
        assert!(
            failures.iter().any(|failure| failure.starts_with(expected)),
            "{change}: {failures:?}"
        );
    }
}

#[test]
fn damage_and_absence_are_failures() {
    let mut bench = Bench::new(SQL);
    let facts = bench.capture_whole().facts;
    let restored = bench.directory.path().join("broken.db");
    private_file::create_new(&restored).unwrap();
    assert_eq!(
        prove(&bench, &facts, &restored).failures,
        ["the restored file is empty"]
    );
    private_file::replace(&restored, &[0xa7; 4096]).unwrap();
    assert!(prove(&bench, &facts, &restored).failures[0].contains("not a SQLite database"));
    let mut bytes = bench.bytes();
    bytes[4096..8192].fill(0x5a);
    private_file::replace(&restored, &bytes).unwrap();
    assert!(prove(&bench, &facts, &restored).failures[0].starts_with("integrity_check: "));
    bytes.truncate(4096);
    private_file::replace(&restored, &bytes).unwrap();
    assert!(!prove(&bench, &facts, &restored).failures.is_empty());

    let proof = SqliteRestorer
        .prove(&RestoredAsset {
            name: "asset",
            settings: &bench.source.settings(),
            facts: &facts,
            files: &BTreeMap::new(),
            all_files: &BTreeMap::new(),
        })
        .unwrap();
    assert!(proof.failures[0].contains("holds no such stream"));
}

#[test]
fn an_empty_database_comes_back_empty() {
    let mut bench = Bench::without_file("ca.db");
    private_file::create_new(bench.path()).unwrap();
    let facts = bench.capture_whole().facts;
    assert_eq!(
        prove(&bench, &facts, &bench.restored()).failures,
        Vec::<String>::new()
    );
    let other = Bench::new(SQL);
    assert_eq!(prove(&bench, &facts, other.path()).failures.len(), 1);
}

#[test]
fn the_companions_of_a_target() {
    assert_eq!(
        SqliteRestorer.companions(Path::new("/var/ca.db")),
        ["/var/ca.db-wal", "/var/ca.db-shm", "/var/ca.db-journal"].map(PathBuf::from)
    );
}
