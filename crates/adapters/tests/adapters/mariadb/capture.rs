//! Captures of a server that is in use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use strongroom_adapters::source::mariadb::{MariadbSource, NewestColumn};
use strongroom_core::source::{Chunking, Source as _};
use strongroom_testkit::fixtures;

use super::{capture, server, settings, with_fixture};

#[test]
fn a_database_is_whole_and_described() {
    let server = server();
    with_fixture(&server, "shapes", fixtures::MARIADB_SHAPES);
    let mut settings = settings(&server, &["shapes"]);
    let newest = NewestColumn::try_from("shapes.zero_dates.s".to_owned()).expect("is one");
    settings.newest.push(newest);
    let inspection = MariadbSource::new(settings.clone())
        .inspect()
        .expect("looks");
    assert_eq!(inspection.problems, [""; 0]);
    assert!(
        inspection.files > 20 && inspection.size_bytes > 0,
        "{inspection:?}"
    );
    let backup = capture(&settings).complete();
    let streams = backup.sink.recorded();
    let paths: Vec<_> = streams
        .iter()
        .map(|one| one.entry.path.to_string_lossy())
        .collect();
    assert_eq!(
        paths,
        ["/shapes/tables.sql", "/shapes/objects.sql", "/globals.sql"]
    );
    assert!(
        streams
            .iter()
            .all(|one| one.chunking == Some(Chunking::Lines))
    );
    let tables = backup.content("/shapes/tables.sql");
    assert!(tables.ends_with("\n-- Dump completed\n"));
    assert!(
        !tables.contains("TRIGGER") && !tables.contains("VIEW"),
        "only tables"
    );
    let objects = backup.content("/shapes/objects.sql");
    assert!(!objects.contains("INSERT INTO `x`") && objects.contains("`odd view`"));
    // No password, in no form.
    let globals = backup.content("/globals.sql");
    assert!(
        globals
            .contains("CREATE USER IF NOT EXISTS `odd 'user```@`10.0.0.0/255.0.0.0` ACCOUNT LOCK;"),
        "{globals}"
    );
    assert!(globals.contains("REQUIRE SSL") && globals.contains("MAX_QUERIES_PER_HOUR 1000"));
    assert!(!globals.contains("IDENTIFIED") && !globals.contains(fixtures::PLANTED));
    let facts = &backup.capture.facts;
    assert!(!facts.to_string().contains("IDENTIFIED"));
    assert_eq!(facts["server"]["is_one_position"], true);
    assert!(
        facts["server"]["binlog"][0].is_string(),
        "{}",
        facts["server"]
    );
    let shapes = &facts["databases"]["shapes"];
    assert_eq!(shapes["tables"]["in_myisam"]["rows"], 100);
    assert_eq!(
        shapes["tables"]["in_myisam"]["digest"]
            .as_str()
            .map(str::len),
        Some(32)
    );
    assert_eq!(shapes["definitions"]["counted"]["engine"], "InnoDB");
    assert!(
        shapes["newest"]["shapes.zero_dates.s"].is_string(),
        "{shapes}"
    );
    assert!(shapes["sequences"]["numbers"]["next"].is_string());
    assert!(shapes["objects"]["view odd view"]["sha256"].is_string());
    let notes = backup.capture.notes.join("\n");
    assert!(notes.contains("shapes.in_myisam (MyISAM)"), "{notes}");
    // The same rows, the same bytes.
    let again = capture(&settings).complete();
    assert_eq!(again.content("/shapes/tables.sql"), tables);
    assert_eq!(again.content("/shapes/objects.sql"), objects);
}

#[test]
fn counts_are_enough_on_demand_and_migrations_are_kept() {
    let server = server();
    with_fixture(&server, "akamu", &fixtures::mariadb_akamu(100));
    let mut settings = settings(&server, &["akamu"]);
    settings.facts = strongroom_adapters::source::mariadb::FactsKind::Counts;
    settings.grants = false;
    let backup = capture(&settings).complete();
    let akamu = &backup.capture.facts["databases"]["akamu"];
    assert_eq!(
        akamu["tables"]["certificates"],
        serde_json::json!({ "rows": 100 })
    );
    assert!(
        akamu["migrations"]["_sqlx_migrations"]["rows"][0].is_array(),
        "{akamu}"
    );
    assert_eq!(backup.sink.content("/globals.sql"), None);
}

#[test]
fn a_writer_is_held_back_for_a_moment_and_all_counts_are_equal() {
    let server = server();
    for name in ["one", "two"] {
        with_fixture(
            &server,
            name,
            "CREATE TABLE a (n BIGINT AUTO_INCREMENT PRIMARY KEY, t CHAR(200)); CREATE TABLE b LIKE a; INSERT INTO a (t) SELECT 'x' FROM seq_1_to_20000;",
        );
    }
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut longest = std::time::Duration::ZERO;
            let mut written = 0;
            while !ended.load(Ordering::Relaxed) {
                let begin = Instant::now();
                // Both or none: a cut in between would show.
                server
                    .sql("one", "BEGIN; INSERT INTO one.b (t) VALUES ('w'); INSERT INTO two.b (t) VALUES ('w'); DELETE FROM one.a LIMIT 1; COMMIT")
                    .expect("writes");
                longest = longest.max(begin.elapsed());
                written += 1;
            }
            (written, longest)
        });
        for _ in 0..5 {
            let backup = capture(&settings(&server, &["one", "two"])).complete();
            let rows = |database: &str, table: &str| {
                let tables = &backup.capture.facts["databases"][database]["tables"];
                tables[table]["rows"].as_u64().expect("a number")
            };
            assert_eq!(rows("one", "b"), rows("two", "b"));
            assert_eq!(rows("one", "a") + rows("one", "b"), 20_000);
        }
        ended.store(true, Ordering::Relaxed);
        let (written, longest) = writer.join().expect("writes");
        println!("{written} transactions, the longest took {longest:?}");
        assert!(written > 10);
    });
}

#[test]
fn users_with_their_passwords_are_an_asset_of_their_own() {
    let server = server();
    server
        .sql("mysql", "CREATE USER app@localhost IDENTIFIED BY 'planted-app'; GRANT SELECT ON test.* TO app@localhost;")
        .expect("creates");
    let mut settings = settings(&server, &[]);
    settings.class = strongroom_core::source::Class::Secret;
    let backup = capture(&settings).complete();
    let users = backup.content("/users.sql");
    assert!(
        users.contains("`app`@`localhost` IDENTIFIED BY PASSWORD '*"),
        "{users}"
    );
    let facts = backup.capture.facts.to_string();
    assert!(
        facts.contains("`app`@`localhost`") && !facts.contains("PASSWORD"),
        "{facts}"
    );
}
