//! Who may read, and with which programs.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests write files as an operator does"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use strongroom_adapters::source::postgresql::PostgresqlSource;
use strongroom_adapters::throwaway::postgresql::Cluster;
use strongroom_adapters::throwaway::{Listen, Options};
use strongroom_core::error_chain;
use strongroom_core::source::{Class, Source as _};
use strongroom_testkit::recording_sink::RecordingSink;
use zeroize::Zeroizing;

use super::{captured, cluster, connection, facts, streams};

const PASSWORD: &str = "planted 'pass\\word\" $HOME";

fn file(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).expect("writes");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("sets");
}

#[test]
fn what_a_role_may_not_read_is_named_and_the_rest_is_taken() {
    let cluster = cluster();
    cluster
        .psql(
            "postgres",
            "CREATE ROLE backup LOGIN; CREATE TABLE open_one (n int); INSERT INTO open_one SELECT generate_series(1, 10); \
             CREATE TABLE closed_one (n int); CREATE TABLE filtered (n int); ALTER TABLE filtered ENABLE ROW LEVEL SECURITY; \
             GRANT SELECT ON open_one, filtered TO backup; CREATE SEQUENCE closed_sequence;",
        )
        .expect("fills");
    let mut connection = connection(&cluster.url_as("postgres", "backup"));
    let sink = RecordingSink::new();
    let capture = captured(&connection, &sink).expect("the rest is captured");
    let problems = capture.problems.join("\n");
    assert_eq!(capture.problems.len(), 3, "{problems}");
    assert!(problems.contains("closed_one") && problems.contains("pg_read_all_data"));
    assert!(problems.contains("filtered") && problems.contains("BYPASSRLS"));
    assert!(problems.contains("closed_sequence"));
    let facts = facts(&capture);
    let tables = &facts.databases["postgres"].tables;
    assert_eq!(tables["public.open_one"].rows(), Some(10));
    assert_eq!(tables["public.closed_one"].rows(), None);
    assert_eq!(tables["public.filtered"].rows(), None);
    let all = streams(&sink);
    assert!(all.contains_key("/postgres/schema.dump"));
    assert!(all.contains_key("/postgres/data/public.open_one.copy"));

    let inspection = PostgresqlSource::new(connection.clone())
        .inspect()
        .expect("is looked at");
    assert_eq!(inspection.problems.len(), 2, "{:?}", inspection.problems);
    connection.settings.class = Class::Secret;
    let capture = captured(&connection, &RecordingSink::new()).expect("answers");
    assert!(capture.problems[0].contains("superuser"));
}

#[test]
fn passwords_arrive_and_are_never_shown() {
    let mut options = Options::for_tests();
    options.listen = Listen::Loopback {
        password: Zeroizing::new(PASSWORD.to_owned()),
    };
    let cluster = Cluster::start(&options).expect("a cluster");
    let address = cluster.tcp_address().expect("listens");
    let directory = tempfile::tempdir().expect("a directory");
    let password_file = directory.path().join("password");
    file(&password_file, &format!("{PASSWORD}\n"), 0o600);
    let mut connection = connection(&format!("postgresql://postgres@{address}/postgres"));
    connection.password_file = Some(password_file.clone());
    let capture = captured(&connection, &RecordingSink::new()).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
    connection.settings.via = vec!["env".to_owned()];
    connection.programs = cluster.programs().map(Path::to_owned);
    let capture = captured(&connection, &RecordingSink::new()).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());

    file(&password_file, "planted-wrong\n", 0o600);
    let error = captured(&connection, &RecordingSink::new()).expect_err("is refused");
    let said = error_chain(&error);
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(!said.contains("planted"), "{said}");
    connection.password_file = None;
    let error = captured(&connection, &RecordingSink::new()).expect_err("nobody is asked");
    assert!(
        error_chain(&error).contains("no password supplied"),
        "{error:?}"
    );
}

#[test]
fn a_service_file_names_the_server() {
    let cluster = cluster();
    cluster.create_database("a=b 'c'").expect("creates");
    let directory = tempfile::tempdir().expect("a directory");
    let service_file = directory.path().join("services");
    let services = format!(
        "[ca]\nhost={}\nport={}\nuser=postgres\ndbname=postgres\n",
        cluster.socket_directory().display(),
        cluster.port()
    );
    file(&service_file, &services, 0o600);
    let mut connection = connection("postgresql://");
    connection.settings.url = None;
    connection.settings.service = Some("ca".to_owned());
    let variable = format!("PGSERVICEFILE={}", service_file.display());
    connection.settings.via = vec!["env".to_owned(), variable];
    connection.programs = cluster.programs().map(Path::to_owned);
    let capture = captured(&connection, &RecordingSink::new()).expect("is captured");
    assert!(facts(&capture).databases.contains_key("postgres"));
    connection.settings.databases = vec!["a=b 'c'".to_owned()];
    let capture = captured(&connection, &RecordingSink::new()).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
    assert!(facts(&capture).databases.contains_key("a=b 'c'"));
}

#[test]
fn a_client_that_is_too_old_is_told() {
    let cluster = cluster();
    let mut connection = connection(&cluster.url("postgres"));
    let directory = tempfile::tempdir().expect("a directory");
    let real = cluster
        .programs()
        .map_or_else(|| "psql".into(), |directory| directory.join("psql"));
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", real.display());
    file(&directory.path().join("psql"), &script, 0o700);
    file(
        &directory.path().join("pg_dump"),
        "#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.19'\n",
        0o700,
    );
    connection.programs = Some(directory.path().to_owned());
    let error = captured(&connection, &RecordingSink::new()).expect_err("is refused");
    let said = error_chain(&error);
    assert!(
        said.contains("PostgreSQL 15") && said.contains("pg_dump 12"),
        "{said}"
    );
    connection.programs = Some("/nonexistent".into());
    let error = captured(&connection, &RecordingSink::new()).expect_err("is refused");
    assert!(
        error_chain(&error).contains("cannot be started"),
        "{error:?}"
    );
}
