//! What is captured, and what the facts say of it.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::json;
use strongroom_core::format::manifest::StreamKind;

use strongroom_core::source::Chunking;

use super::*;

const SCHEMA: &str = "CREATE TABLE certificates(id INTEGER PRIMARY KEY, serial TEXT, der BLOB, created INTEGER);
    INSERT INTO certificates VALUES(1, 'a1', x'3000', 100), (2, 'b2', NULL, 300), (3, NULL, x'', 200);";

#[test]
fn the_stored_database_is_whole_and_described() {
    let mut bench = Bench::new(SCHEMA);
    bench.execute("PRAGMA user_version = 7; PRAGMA application_id = 99; CREATE TABLE empty(a);");
    bench.source = source(
        bench.path(),
        &["certificates.created", "Certificates.SERIAL", "no.where"],
    );
    let capture = bench.capture_whole();
    let facts = &capture.facts;
    assert_eq!(facts["tables"]["certificates"]["rows"], 3);
    assert_eq!(facts["tables"]["empty"]["rows"], 0);
    assert_eq!(facts["tables"]["empty"]["digest"], "0".repeat(32));
    assert_eq!(
        facts["newest"],
        json!({"certificates.created": 300, "Certificates.SERIAL": "b2"})
    );
    assert_eq!(capture.notes, ["newest no.where: there is no such table"]);
    assert_eq!(facts["user_version"], 7);
    assert_eq!(facts["application_id"], 99);
    assert_eq!(facts["encoding"], "UTF-8");
    assert_eq!(facts["journal_mode"], "rollback");
    assert_eq!(facts["integrity"], "ok");
    assert_eq!(bench.stored::<i64>("SELECT count(*) FROM certificates"), 3);
    let schema_version: i64 = bench
        .open()
        .query_row("PRAGMA schema_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(facts["schema_version"], schema_version);
}

#[test]
fn the_copy_is_the_file_byte_for_byte() {
    for mode in ["delete", "wal", "persist", "truncate"] {
        let mut bench = Bench::new(&format!("PRAGMA journal_mode = {mode}; {SCHEMA}"));
        bench.capture_whole();
        assert_eq!(bench.bytes(), fs::read(bench.path()).unwrap(), "{mode}");
    }
}

#[test]
fn the_entry_is_that_of_the_original() {
    let mut bench = Bench::new(SCHEMA);
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o640)).unwrap();
    bench.capture_whole();
    let entry = &bench.stream().entry;
    let metadata = fs::metadata(bench.path()).unwrap();
    assert_eq!(entry.kind, StreamKind::Database);
    assert_eq!(entry.path, bench.path());
    assert_eq!(entry.mode, 0o640);
    assert_eq!((entry.uid, entry.gid), (metadata.uid(), metadata.gid()));
    assert_eq!(entry.mtime.0, metadata.mtime());
}

#[test]
fn every_page_size_is_cut_at_its_pages() {
    for exponent in 9..=16 {
        let size = 1_u32 << exponent;
        let mut bench = Bench::new(&format!("PRAGMA page_size = {size}; {SCHEMA}"));
        let capture = bench.capture_whole();
        assert_eq!(capture.facts["page_size"], size);
        assert_eq!(
            bench.stream().chunking,
            Some(Chunking::Fixed(size.max(4096)))
        );
        assert_eq!(bench.stored::<i64>("SELECT count(*) FROM certificates"), 3);
    }
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let mut bench = Bench::without_file("ca.db");
    private_file::create_new(bench.path()).unwrap();
    let capture = bench.capture_whole();
    assert_eq!(bench.bytes(), b"");
    assert_eq!(capture.facts, json!({"empty": true}));
    assert!(
        capture.notes[0].contains("the file is empty"),
        "{:?}",
        capture.notes
    );
}

#[test]
fn a_database_that_was_emptied_is_a_problem() {
    let mut bench = Bench::new("CREATE TABLE certificates(serial TEXT)");
    bench.capture_whole();
    private_file::replace(bench.path(), b"").unwrap();
    let capture = bench.capture();
    assert_eq!(capture.problems.len(), 1, "{:?}", capture.problems);
    assert!(capture.problems[0].contains("Who emptied it?"));
}

#[test]
fn a_database_without_tables_has_facts_too() {
    let mut bench = Bench::new("PRAGMA user_version = 1");
    let capture = bench.capture_whole();
    assert_eq!(capture.facts["tables"], json!({}));
    assert_eq!(capture.facts["page_count"], 1);
}

#[test]
fn unusual_names_and_kinds_of_tables() {
    let mut bench = Bench::new(
        r#"CREATE TABLE "a ""quoted"" name; DROP TABLE x"("col ""1""" TEXT, "select" INT);
        INSERT INTO "a ""quoted"" name; DROP TABLE x" VALUES('v', 1);
        CREATE TABLE "schlüssel 鍵"(a); INSERT INTO "schlüssel 鍵" VALUES('ü'), ('ü');
        CREATE TABLE kv(k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO kv VALUES('b', 2), ('a', 1);
        CREATE TABLE g(a INT, v INT AS (a * 2) VIRTUAL, s INT AS (a * 3) STORED); INSERT INTO g(a) VALUES(5);
        CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO counted DEFAULT VALUES;
        CREATE TABLE strict(a REAL) STRICT; INSERT INTO strict VALUES(1), (-0.5);
        CREATE VIRTUAL TABLE notes USING fts5(body); INSERT INTO notes VALUES('revoked today');
        CREATE VIEW v AS SELECT 1; CREATE INDEX i ON g(s);"#,
    );
    let capture = bench.capture_whole();
    let tables = capture.facts["tables"].as_object().unwrap();
    for (name, rows) in [
        ("a \"quoted\" name; DROP TABLE x", 1),
        ("schlüssel 鍵", 2),
        ("kv", 2),
        ("g", 1),
        ("counted", 1),
        ("sqlite_sequence", 1),
        ("strict", 2),
        ("notes_content", 1),
    ] {
        assert_eq!(tables[name]["rows"], rows, "{name}");
    }
    assert_eq!(capture.facts["virtual_tables"], json!({"notes": "fts5"}));
    assert_eq!(capture.notes, Vec::<String>::new());
}

#[test]
fn a_module_that_is_not_here_is_noted() {
    let mut bench = Bench::new(
        "PRAGMA writable_schema = ON;
        INSERT INTO sqlite_schema VALUES('table', 'odd', 'odd', 0, 'CREATE VIRTUAL TABLE odd USING proprietary(x)');
        CREATE TABLE odd_data(a); INSERT INTO odd_data VALUES(1);",
    );
    let capture = bench.capture_whole();
    assert_eq!(
        capture.notes,
        ["virtual table \"odd\" was not looked into: this program has no module \"proprietary\""]
    );
    assert_eq!(capture.facts["tables"]["odd_data"]["rows"], 1);
}

#[test]
fn what_only_the_application_has_is_noted_and_the_rest_is_checked() {
    let mut bench = Bench::without_file("ca.db");
    let connection = bench.open();
    connection
        .execute_batch(
            "CREATE TABLE a(x); CREATE TABLE b(y CHECK(length(y) > 0)); INSERT INTO b VALUES('z');
            PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = 'CREATE TABLE a(x, CHECK(application_rule(x)))' WHERE name = 'a';",
        )
        .unwrap();
    drop(connection);
    let capture = bench.capture_whole();
    assert_eq!(capture.facts["tables"]["b"]["rows"], 1);
    assert_eq!(capture.facts["integrity"], "ok");
}

#[test]
fn rows_count_in_any_order_and_as_often_as_they_are_there() {
    let digest = |rows: &str| {
        let mut bench = Bench::new(&format!(
            "CREATE TABLE t(a, b); INSERT INTO t VALUES {rows}"
        ));
        bench.capture_whole().facts["tables"]["t"]["digest"].clone()
    };
    let one = digest("(1, 'x'), (2, x'00ff'), (3.5, NULL)");
    assert_eq!(one, digest("(3.5, NULL), (1, 'x'), (2, x'00ff')"));
    for other in [
        "(1, 'x'), (1, 'x'), (2, x'00ff'), (3.5, NULL)",
        "(1, 'x'), (1, 'x'), (1, 'x'), (2, x'00ff'), (3.5, NULL)",
        "(1, 'x'), (2, x'00ff')",
        "(1, x'78'), (2, x'00ff'), (3.5, NULL)",
        "('1', 'x'), (2, x'00ff'), (3.5, NULL)",
        "(1.0, 'x'), (2, x'00ff'), (3.5, NULL)",
        "(1, 'x'), (2, x'00ff'), (3.5, '')",
        "('x', 1), (x'00ff', 2), (NULL, 3.5)",
    ] {
        assert_ne!(one, digest(other), "{other}");
    }
    assert_eq!(
        digest("(1, zeroblob(700000))"),
        digest("(1, zeroblob(700000))")
    );
    assert_ne!(
        digest("(1, zeroblob(700000))"),
        digest("(1, zeroblob(700001))")
    );
}

#[test]
fn migrations_are_kept() {
    let mut bench = Bench::new(
        "CREATE TABLE _sqlx_migrations(version BIGINT PRIMARY KEY, description TEXT, checksum BLOB);
        INSERT INTO _sqlx_migrations VALUES(1, 'init', x'0aff');
        CREATE TABLE goose_db_version(id INTEGER PRIMARY KEY, version_id INTEGER);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1500)
        INSERT INTO goose_db_version SELECT i, i FROM n;",
    );
    let facts = bench.capture_whole().facts;
    assert_eq!(
        facts["migrations"]["_sqlx_migrations"],
        json!({"columns": ["version", "description", "checksum"], "rows": [[1, "init", "0aff"]]})
    );
    let rows = facts["migrations"]["goose_db_version"]["rows"]
        .as_array()
        .unwrap();
    assert_eq!((rows.len(), &rows[999]), (1000, &json!([1500, 1500])));
}

#[test]
fn violated_foreign_keys_are_a_note() {
    let mut bench = Bench::new(
        "PRAGMA foreign_keys = OFF; CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id));
        INSERT INTO c VALUES(1), (2);",
    );
    let capture = bench.capture_whole();
    assert_eq!(
        capture.notes,
        ["foreign_key_check: 2 rows refer to rows that do not exist, in \"c\""]
    );
}

#[test]
fn utf_16_text_and_odd_paths() {
    let mut bench = Bench::named(
        "a %41?b#c 鍵.db",
        "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(a); INSERT INTO t VALUES('ü');",
    );
    let capture = bench.capture_whole();
    assert_eq!(capture.facts["encoding"], "UTF-16le");
    let mut utf8 = Bench::new("CREATE TABLE t(a); INSERT INTO t VALUES('ü');");
    assert_eq!(
        capture.facts["tables"],
        utf8.capture_whole().facts["tables"]
    );

    let name = std::ffi::OsStr::from_bytes(b"not-utf8-\xff.db");
    let path = utf8.directory.path().join(name);
    fs::rename(utf8.path(), &path).unwrap();
    utf8.source = source(&path, &[]);
    utf8.capture_whole();
    assert_eq!(utf8.stream().entry.path, path);
}

#[test]
fn a_symbolic_link_leads_to_the_wal_of_its_target() {
    let mut bench = Bench::new("PRAGMA journal_mode = wal; CREATE TABLE t(a);");
    let writer = bench.open();
    writer
        .execute_batch("INSERT INTO t VALUES(1), (2)")
        .unwrap();
    let link = bench.directory.path().join("link.db");
    std::os::unix::fs::symlink(bench.path(), &link).unwrap();
    bench.source = source(&link, &[]);
    let capture = bench.capture_whole();
    assert_eq!(capture.facts["tables"]["t"]["rows"], 2);
    assert_eq!(bench.stream().entry.path, link);
    assert!(
        capture.notes[0].contains("symbolic link"),
        "{:?}",
        capture.notes
    );
}

#[test]
fn a_look_names_what_is_covered_and_what_is_not() {
    let bench = Bench::new("PRAGMA journal_mode = wal; CREATE TABLE t(a);");
    let writer = bench.open();
    writer
        .execute_batch("INSERT INTO t VALUES(zeroblob(100000)); UPDATE t SET a = zeroblob(99999);")
        .unwrap();
    let other = bench.directory.path().join("ca_crdt.db");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE n(k)")
        .unwrap();
    let kept = ".strongroom-20261120-080000Z-aaaa-0.old";
    fs::copy(&other, bench.directory.path().join(kept)).unwrap();
    private_file::replace(&bench.directory.path().join("README"), b"no database here").unwrap();
    let before = snapshot(bench.directory.path());
    let inspection = bench.source.inspect().unwrap();
    assert_eq!(before, snapshot(bench.directory.path()));
    assert_eq!(inspection.suggestions, [other]);
    assert_eq!(inspection.files, 1);
    assert_eq!(
        inspection.size_bytes,
        fs::metadata(bench.path()).unwrap().len()
    );
    let names: Vec<_> = inspection
        .covered
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    assert_eq!(names, ["ca.db", "ca.db-wal", "ca.db-shm", "ca.db-journal"]);
    assert!(
        inspection.notes[0].contains("write-ahead log is larger"),
        "{:?}",
        inspection.notes
    );
}

#[test]
fn settings_survive_the_manifest() {
    let text = r#"{"path": "/var/lib/ca.db", "newest": ["certificates.created"]}"#;
    let settings: SqliteSettings = serde_json::from_str(text).unwrap();
    let written = SqliteSource::new(settings.clone()).settings();
    assert_eq!(
        serde_json::from_value::<SqliteSettings>(written).unwrap(),
        settings
    );
    assert!(
        serde_json::from_str::<SqliteSettings>(r#"{"path": "/a", "newest": ["created"]}"#).is_err()
    );
}
