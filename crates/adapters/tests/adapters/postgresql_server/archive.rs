//! Archives that `pg_restore` reads, put together without a server.

use std::collections::BTreeMap;

use strongroom_adapters::source::postgresql::PostgresqlRestorer;
use strongroom_adapters::source::postgresql::facts::Facts;
use strongroom_adapters::source::postgresql::server::archive::{
    ArchiveData, TableData, directory_archive,
};
use strongroom_core::private_file;
use strongroom_core::source::{RestoredAsset, Restorer as _};

use super::*;

/// Writes a captured database into a directory, as a restore does.
fn write(captured: &Captured, to: &std::path::Path) {
    let facts: Facts = serde_json::from_value(captured.facts.clone()).expect("facts");
    let relations = &facts.databases[&captured.name].relations;
    let mut files = BTreeMap::new();
    let paths = relations.values().filter_map(|one| one.path.as_deref());
    for below in paths.chain(["schema.dump"]) {
        let path = to.join(below);
        private_file::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let mut file = private_file::create_new(&path).expect("a file");
        file.write_all(captured.content(below)).expect("written");
        files.insert(PathBuf::from(format!("/{}/{below}", captured.name)), path);
    }
    let asset = RestoredAsset {
        name: "asset",
        settings: &serde_json::Value::Null,
        facts: &captured.facts,
        files: &files,
        all_files: &files,
    };
    let proof = PostgresqlRestorer.prove(&asset).expect("can be read");
    assert_eq!(proof.failures, Vec::<String>::new());
    let notes = PostgresqlRestorer
        .complete_directory(&asset)
        .expect("an archive");
    assert!(notes[0].contains("pg_restore"), "{notes:?}");
}

#[test]
fn pg_restore_lists_prints_and_loads_an_archive_in_a_directory() {
    let cluster = cluster();
    for (name, script) in [
        ("certctl", fixtures::postgresql_certctl(fixtures::FEW)),
        ("akamu", fixtures::postgresql_akamu(fixtures::FEW)),
        ("shapes", fixtures::POSTGRESQL_SHAPES.to_owned()),
    ] {
        with_fixture(&cluster, name, &script);
        let captured = capture(&cluster, name);
        let directory = tempfile::tempdir().expect("a directory");
        write(&captured, directory.path());
        let path = directory.path().to_str().expect("a path");
        let client = connection(&cluster, "postgres").client(cluster.programs());
        let run = |arguments: &[&str]| {
            let output = client.output("pg_restore", arguments);
            let output = output.unwrap_or_else(|error| panic!("{name}: {}", error_chain(&error)));
            String::from_utf8_lossy(&output).into_owned()
        };
        let list = run(&["--list", path]);
        let count = |word: &str| list.lines().filter(|line| line.contains(word)).count();
        assert!(count(" TABLE DATA ") > 1, "{list}");
        let text = run(&["--file=-", path]);
        assert_eq!(
            text.matches("\n\\.\n").count(),
            count(" TABLE DATA "),
            "{name}"
        );
        assert_eq!(
            text.matches("pg_catalog.setval(").count(),
            count(" SEQUENCE SET ")
        );
        // A check of `shapes` reads another table, whose rows must come first: pg_restore in parallel promises no order.
        let all = if name == "shapes" {
            &["1"][..]
        } else {
            &["1", "2"]
        };
        for jobs in all {
            let new = format!("{name} {jobs}");
            cluster
                .psql(
                    "postgres",
                    &format!("CREATE DATABASE \"{new}\" TEMPLATE template0"),
                )
                .expect("a database");
            let url = cluster.url(&new);
            run(&["--exit-on-error", "--jobs", *jobs, "--dbname", &url, path]);
            if captured.facts["databases"][name]["large_objects"] == 0 {
                assert_same(&cluster, name, &new);
            }
            let proof = captured.prove(&server(&cluster), &new, &LoadOptions::default());
            // Properties of the database itself and large objects are no part of it.
            let other: Vec<&String> = proof
                .failures
                .iter()
                .filter(|failure| {
                    ![
                        "settings of the database",
                        "privileges on the database",
                        "large objects",
                        "the owner",
                        "the comment",
                        "connection limit",
                        "collation",
                        "character type",
                    ]
                    .iter()
                    .any(|what| failure.contains(what))
                })
                .collect();
            assert!(other.is_empty(), "{name}: {other:?}");
        }
    }
}

#[test]
fn what_is_missing_cut_or_unknown_is_told() {
    let cluster = cluster();
    let captured = certctl(&cluster);
    let schema = captured.content("schema.dump");
    let none = ArchiveData::default();
    assert!(directory_archive(schema, &none).is_ok());
    for length in (0..schema.len()).step_by(101) {
        assert!(
            directory_archive(&schema[..length], &none).is_err(),
            "{length}"
        );
    }
    let mut newer = schema.to_vec();
    newer[6] = 17;
    let error = directory_archive(&newer, &none).expect_err("nobody knows it");
    assert!(error.to_string().contains("version 1.17"), "{error}");
    let tables = [TableData {
        schema: "public",
        name: "none",
        columns: &[],
        file: "none",
    }];
    let data = ArchiveData {
        tables: &tables,
        ..none
    };
    let error = directory_archive(schema, &data).expect_err("there is no such table");
    assert_eq!(error.to_string(), "the schema has no table \"public.none\"");
}
