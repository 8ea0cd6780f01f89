//! Archives that `pg_restore` reads, put together without a server.

use strongroom_adapters::source::postgresql::facts::Facts;
use strongroom_adapters::source::postgresql::server::archive::{
    ArchiveData, DATA_END, SequenceData, TableData, directory_archive,
};
use strongroom_core::private_file;

use super::*;

/// Writes a captured database as an archive in a directory.
fn write(captured: &Captured, to: &std::path::Path) {
    let facts: Facts = serde_json::from_value(captured.facts.clone()).expect("facts");
    let facts = &facts.databases[&captured.name];
    let with_rows = facts.relations.values().filter(|one| one.path.is_some());
    let with_rows: Vec<_> = with_rows.collect();
    let tables: Vec<TableData<'_>> = with_rows
        .iter()
        .map(|one| TableData {
            schema: &one.schema,
            name: &one.name,
            columns: &one.columns,
        })
        .collect();
    let sequences: Vec<SequenceData<'_>> = facts
        .sequences
        .values()
        .map(|one| SequenceData {
            schema: &one.schema,
            name: &one.name,
            value: one.last_value,
            is_called: one.is_called,
        })
        .collect();
    let views = facts.materialized_views.iter();
    let views: Vec<(&str, &str)> = views
        .filter(|view| view.is_populated)
        .map(|view| (view.schema.as_str(), view.name.as_str()))
        .collect();
    let data = ArchiveData {
        tables: &tables,
        encoding: &facts.encoding,
        sequences: &sequences,
        views: &views,
    };
    let archive = directory_archive(captured.content("schema.dump"), &data).expect("an archive");
    let file = |name: &str, parts: &[&[u8]]| {
        let mut file = private_file::create_new(&to.join(name)).expect("a file");
        for part in parts {
            file.write_all(part).expect("written");
        }
    };
    file("toc.dat", &[&archive.toc]);
    for (relation, name) in with_rows.iter().zip(&archive.files) {
        let path = relation.path.as_deref().expect("a path");
        file(name, &[captured.content(path), DATA_END]);
    }
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
            let output = output.unwrap_or_else(|error| panic!("{name}: {}", words(&error)));
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
        for jobs in ["1", "2"] {
            let new = format!("{name} {jobs}");
            cluster
                .psql(
                    "postgres",
                    &format!("CREATE DATABASE \"{new}\" TEMPLATE template0"),
                )
                .expect("a database");
            let url = cluster.url(&new);
            run(&["--exit-on-error", "--jobs", jobs, "--dbname", &url, path]);
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
    }];
    let data = ArchiveData {
        tables: &tables,
        ..none
    };
    let error = directory_archive(schema, &data).expect_err("there is no such table");
    assert_eq!(error.to_string(), "the schema has no table \"public.none\"");
}
