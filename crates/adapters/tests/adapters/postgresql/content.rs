//! What is captured: every shape, exactly, and loadable with stock programs alone.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests run stock programs on files, as an operator does by hand"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_adapters::source::postgresql::facts::{DatabaseFacts, RelationKind};
use strongroom_adapters::source::postgresql::{FactsMode, NewestColumn, PostgresqlRestorer};
use strongroom_adapters::throwaway::postgresql::Cluster;
use strongroom_core::source::{Capture, Class, RestoredAsset, Restorer as _};
use strongroom_testkit::fixtures;
use strongroom_testkit::recording_sink::RecordingSink;

use super::{captured, cluster, connection, facts, streams};

#[test]
fn every_shape_is_captured_and_loads_by_hand() {
    let cluster = cluster();
    cluster.create_database("shapes").expect("creates");
    cluster
        .psql("shapes", fixtures::POSTGRESQL_SHAPES)
        .expect("fills");
    cluster
        .psql(
            "shapes",
            "SELECT pg_create_logical_replication_slot('a_slot', 'test_decoding');",
        )
        .expect("makes a slot");
    let connection = connection(&cluster.url("shapes"));
    let sink = RecordingSink::new();
    let capture = captured(&connection, &sink).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
    let facts = facts(&capture);
    let database = &facts.databases["shapes"];
    has_every_shape(database);
    let all = streams(&sink);
    lie_in_order(&sink, &all);

    let again = RecordingSink::new();
    let capture_again = captured(&connection, &again).expect("is captured again");
    let facts_again = super::facts(&capture_again);
    assert_eq!(facts_again.databases["shapes"].tables, database.tables);
    for (path, content) in streams(&again) {
        // The archive holds its time; plain dumps a key of their own.
        if path.contains("/data") {
            assert!(content == all[&path], "{path}");
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    prove_files(directory.path(), &capture, &sink);

    load_by_hand(&cluster, &directory.path().join("shapes"), "loaded");
    let loaded = super::connection(&cluster.url("loaded"));
    let capture = captured(&loaded, &RecordingSink::new()).expect("is captured");
    let restored = &super::facts(&capture).databases["loaded"];
    assert_eq!(restored.tables, database.tables);
    assert_eq!(restored.sequences, database.sequences);
    assert_eq!(restored.materialized_views, database.materialized_views);
    assert_eq!(restored.large_objects, database.large_objects);
}

fn has_every_shape(database: &DatabaseFacts) {
    assert_eq!(database.large_objects, 3);
    assert_eq!(database.replication_slots, ["a_slot"]);
    assert_eq!(database.publications, ["every_table", "some_tables"]);
    assert_eq!(database.event_triggers, ["note_ddl"]);
    assert!(database.extensions.contains_key("hstore"));
    assert_eq!(database.tables["public.no_columns"].rows(), Some(3));
    assert_eq!(database.tables["public.secured"].rows(), Some(20));
    assert_eq!(database.tables["\"a.b\".c"].rows(), Some(1));
    assert_eq!(database.tables["a.\"b.c\""].rows(), Some(2));
    assert_eq!(database.tables["public.parent"].rows(), Some(2));
    assert!(!database.tables.contains_key("public.by_range"));
    let kind = |key: &str| database.relations[key].kind;
    assert_eq!(kind("public.by_range"), RelationKind::Partitioned);
    assert_eq!(kind("public.by_range_2024"), RelationKind::Partition);
    assert_eq!(kind("public.unlogged_table"), RelationKind::Unlogged);
    assert_eq!(kind("public.foreign_file"), RelationKind::Foreign);
    let columns = &database.relations["public.with_identity"].columns;
    assert_eq!(columns.join(" "), "always word by_default");
    let views: Vec<_> = database
        .materialized_views
        .iter()
        .map(|view| (view.name.as_str(), view.rows))
        .collect();
    assert_eq!(
        views,
        [
            ("filled", Some(4)),
            ("not_filled", None),
            ("on_filled", Some(1))
        ]
    );
    for role in [
        "shapes_owner",
        "shapes_reader",
        "shapes_tenant",
        "Shapes \"odd\" role",
    ] {
        assert!(database.roles.contains_key(role), "{role}");
    }
    assert!(database.roles["shapes_tenant"].member_of["shapes_reader"]);
}

fn lie_in_order(sink: &RecordingSink, all: &BTreeMap<String, Vec<u8>>) {
    let order: Vec<String> = sink
        .recorded()
        .iter()
        .map(|recorded| recorded.entry.path.to_string_lossy().into_owned())
        .collect();
    assert_eq!(order[..2], ["/shapes/schema.dump", "/shapes/data.sql"]);
    assert_eq!(
        order[order.len() - 2..],
        ["/shapes/large-objects.sql", "/globals.sql"]
    );
    assert!(all["/shapes/schema.dump"].starts_with(b"PGDMP"));
    let globals = String::from_utf8_lossy(&all["/globals.sql"]).into_owned();
    assert!(globals.contains("shapes_tenant"));
    assert!(!globals.contains("SCRAM-SHA-256") && !globals.contains("PASSWORD"));
    let hostile =
        String::from_utf8_lossy(&all["/shapes/data/public.hostile_text.copy"]).into_owned();
    assert!(hostile.contains("3\t\\\\N\t\\\\x5c4e\n"), "{hostile}");
}

/// Leaves the files in `directory`.
fn prove_files(directory: &Path, capture: &Capture, sink: &RecordingSink) {
    let files = write(directory, sink);
    let asset = RestoredAsset {
        name: "asset",
        settings: &serde_json::Value::Null,
        facts: &capture.facts,
        files: &files,
        all_files: &files,
    };
    let proof = PostgresqlRestorer.prove(&asset).expect("is proved");
    assert_eq!(proof.failures, Vec::<String>::new());
    assert_eq!(proof.shown.len(), 1);
    let hostile = &files[Path::new("/shapes/data/public.hostile_text.copy")];
    std::fs::write(hostile, "1\t\\N\t\\N\n\\.\n\n\n").expect("writes");
    let damaged = PostgresqlRestorer.prove(&asset).expect("is looked at");
    assert_eq!(damaged.failures.len(), 1, "{damaged:?}");
    let files = write(directory, sink);
    assert!(!files.is_empty());
}

#[test]
fn of_an_extension_only_its_configuration_is_captured() {
    let cluster = cluster();
    // As a script of an extension does with pg_extension_config_dump().
    cluster
        .psql(
            "postgres",
            "CREATE EXTENSION hstore; CREATE TABLE configured (n int, t text); CREATE TABLE fixed (n int); \
             INSERT INTO configured SELECT n, 'x' FROM generate_series(1, 10) AS n; \
             ALTER EXTENSION hstore ADD TABLE configured; ALTER EXTENSION hstore ADD TABLE fixed; \
             UPDATE pg_extension SET extconfig = ARRAY['configured'::regclass::oid], extcondition = ARRAY['WHERE n > 7'] WHERE extname = 'hstore';",
        )
        .expect("fills");
    let sink = RecordingSink::new();
    let capture = captured(&connection(&cluster.url("postgres")), &sink).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
    let database = &facts(&capture).databases["postgres"];
    assert_eq!(database.tables["public.configured"].rows(), Some(3));
    assert!(!database.tables.contains_key("public.fixed"));
    let rows = sink.content("/postgres/data/public.configured.copy");
    assert_eq!(rows.as_deref(), Some(&b"8\tx\n9\tx\n10\tx\n\\.\n\n\n"[..]));
}

/// Writes the streams as files, and returns where.
fn write(directory: &Path, sink: &RecordingSink) -> BTreeMap<PathBuf, PathBuf> {
    let mut files = BTreeMap::new();
    for recorded in sink.recorded() {
        let path = directory.join(recorded.entry.path.strip_prefix("/").expect("is absolute"));
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("creates");
        std::fs::write(&path, recorded.content.expect("has content")).expect("writes");
        files.insert(recorded.entry.path, path);
    }
    files
}

/// As the head of `data.sql` says.
fn load_by_hand(cluster: &Cluster, directory: &Path, name: &str) {
    cluster.create_database(name).expect("creates");
    let url = cluster.url(name);
    let run = |program: &str, arguments: &[&str]| {
        let path = cluster
            .programs()
            .map_or_else(|| program.into(), |directory| directory.join(program));
        let output = Command::new(path)
            .args(arguments)
            .current_dir(directory)
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    };
    run(
        "pg_restore",
        &["--section=pre-data", "-e", "-d", &url, "schema.dump"],
    );
    run("psql", &["-Xq", "-d", &url, "-f", "data.sql"]);
    let errors = ["-v", "ON_ERROR_STOP=1"];
    run(
        "psql",
        &[
            "-Xq",
            errors[0],
            errors[1],
            "-d",
            &url,
            "-f",
            "large-objects.sql",
        ],
    );
    run(
        "pg_restore",
        &["--section=post-data", "-e", "-d", &url, "schema.dump"],
    );
}

#[test]
fn databases_of_one_server_and_its_roles() {
    let cluster = cluster();
    cluster.create_database("certctl").expect("creates");
    cluster
        .psql("certctl", &fixtures::postgresql_certctl(fixtures::FEW))
        .expect("fills");
    cluster
        .psql("postgres", fixtures::POSTGRESQL_LATIN1_DATABASE)
        .expect("creates");
    cluster
        .psql("old_ca", fixtures::POSTGRESQL_LATIN1)
        .expect("fills");
    cluster
        .psql(
            "postgres",
            "CREATE ROLE hashed LOGIN PASSWORD 'planted-hash';",
        )
        .expect("makes a role");
    cluster
        .psql(
            "certctl",
            "CREATE TABLE one_large_value AS SELECT convert_to(repeat('0123456789abcdef', 30 * 65536), 'SQL_ASCII') AS b;",
        )
        .expect("fills");
    let mut connection = connection(&cluster.url("postgres"));
    let odd = "it's \"a\" = b/c%d";
    cluster.create_database(odd).expect("creates");
    let databases = [odd, "certctl", "old_ca"];
    connection.settings.databases = databases.map(str::to_owned).to_vec();
    connection.settings.facts = FactsMode::Counts;
    let newest = "certctl.public.certificate_versions.created_at".to_owned();
    connection.settings.newest = vec![NewestColumn::try_from(newest).expect("is a column")];
    let sink = RecordingSink::new();
    let capture = captured(&connection, &sink).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
    assert!(
        capture
            .notes
            .iter()
            .any(|note| note.contains("point-in-time"))
    );
    let facts = facts(&capture);
    assert_eq!(facts.databases["old_ca"].encoding, "LATIN1");
    assert_eq!(
        facts.databases["old_ca"].tables["public.pr\u{fc}fung"].rows(),
        Some(1)
    );
    let certctl = &facts.databases["certctl"];
    assert_eq!(certctl.newest.len(), 1);
    assert!(certctl.newest.values().all(serde_json::Value::is_string));
    assert!(
        !certctl.migrations["public.schema_migrations"]
            .rows
            .is_empty()
    );
    let all = streams(&sink);
    assert!(all.contains_key("/it%27s%20%22a%22%20%3D%20b%2Fc%25d/schema.dump"));
    let large = &all["/certctl/data/public.one_large_value.copy"];
    assert_eq!(large.len(), 4 + 2 * 30 * 1024 * 1024 + 5);
    // In the encoding of the database: AE OE UE.
    assert_eq!(
        all["/old_ca/data/public.pr\u{fc}fung.copy"],
        b"\xc4\xd6\xdc\n\\.\n\n\n"
    );
    assert!(
        !all["/globals.sql"]
            .windows(13)
            .any(|text| text == b"SCRAM-SHA-256")
    );

    connection.settings.class = Class::Secret;
    let sink = RecordingSink::new();
    let capture = captured(&connection, &sink).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
    let all = streams(&sink);
    assert_eq!(all.len(), 1);
    assert!(
        all["/roles.sql"]
            .windows(13)
            .any(|text| text == b"SCRAM-SHA-256")
    );
}
