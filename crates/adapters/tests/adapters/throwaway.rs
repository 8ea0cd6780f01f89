//! Throwaway servers, started, filled with the test databases, stopped, killed and removed.

#![expect(
    clippy::disallowed_methods,
    reason = "the tests look for processes as an operator does"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use strongroom_adapters::throwaway::{Listen, Options, ThrowawayError, mariadb, postgresql};
use strongroom_testkit::fixtures;
use zeroize::Zeroizing;

const PASSWORD: &str = "a 'quoted\\ pass\"word";

fn loopback() -> Options {
    Options {
        listen: Listen::Loopback {
            password: Zeroizing::new(PASSWORD.to_owned()),
        },
        ..Options::for_tests()
    }
}

fn cluster() -> postgresql::Cluster {
    postgresql::Cluster::start(&Options::for_tests()).expect("a cluster")
}

fn server() -> mariadb::Server {
    mariadb::Server::start(&Options::for_tests()).expect("a server")
}

/// Tells [`a_killed_program_leaves_no_server`] that it is the program to be killed.
const HOLD: &str = "STRONGROOM_TEST_HOLD";

/// The counts of all tables, `name|rows`, as the server has them.
fn counts(cluster: &postgresql::Cluster, database: &str) -> String {
    let script = "SELECT format('%s|%s', c.oid::regclass, (xpath('//n/text()', query_to_xml(\
        format('SELECT count(*) AS n FROM ONLY %s', c.oid::regclass), false, true, '')))[1]) \
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
        WHERE c.relkind = 'r' AND s.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1;";
    cluster.psql(database, script).expect("counts")
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn postgresql_has_the_test_databases() {
    let cluster = cluster();
    let psql = |database: &str, script: &str| cluster.psql(database, script).expect("runs");
    for (name, script) in [
        ("certctl", fixtures::postgresql_certctl(fixtures::FEW)),
        ("akamu", fixtures::postgresql_akamu(fixtures::FEW)),
        ("shapes", fixtures::POSTGRESQL_SHAPES.to_owned()),
        // A second one beside it: the roles are there already.
        (
            "shapes \"2\" 'x' \\=",
            fixtures::POSTGRESQL_SHAPES.to_owned(),
        ),
    ] {
        cluster.create_database(name).expect("makes the database");
        psql(name, &script);
    }
    let certctl = counts(&cluster, "certctl");
    for line in [
        "audit_events|2000",
        "certificate_revocations|100",
        "certificate_versions|2000",
        "managed_certificates|2000",
        "schema_migrations|48",
    ] {
        assert!(certctl.lines().any(|one| one == line), "{line}: {certctl}");
    }
    let refused = cluster.psql("certctl", "SET ROLE certctl_app; DELETE FROM audit_events;");
    let Err(ThrowawayError::Failed { message, .. }) = refused else {
        panic!("the audit table only grows")
    };
    assert!(message.contains("permission denied"), "{message}");
    let akamu = counts(&cluster, "akamu");
    assert!(akamu.contains("certificates|2000\n") && akamu.contains("_sqlx_migrations|31\n"));
    let shapes = counts(&cluster, "shapes");
    for line in [
        "no_columns|3",
        "very_wide|3",
        "empty_table|0",
        "secured|20",
        "unlogged_table|50",
    ] {
        assert!(shapes.lines().any(|one| one == line), "{line}: {shapes}");
    }
    // The date style is the database's own, so only the counts are the same.
    assert_eq!(shapes, counts(&cluster, "shapes \"2\" 'x' \\="));

    psql("postgres", fixtures::POSTGRESQL_LATIN1_DATABASE);
    psql("old_ca", fixtures::POSTGRESQL_LATIN1);
    let utf8 = "SET client_encoding = 'UTF8'; SELECT name FROM subjects WHERE id = 92;";
    assert_eq!(psql("old_ca", utf8), "CN=Müller ü\n");
}

#[test]
fn the_same_script_makes_the_same_rows() {
    let cluster = cluster();
    let digest = "SELECT md5(string_agg(v::text, '' ORDER BY id)) FROM certificate_versions v;";
    let made = ["one", "two"].map(|name| {
        cluster.create_database(name).expect("makes");
        let script = fixtures::postgresql_certctl(100);
        cluster.psql(name, &script).expect("fills");
        cluster.psql(name, digest).expect("reads")
    });
    assert_eq!(made[0], made[1]);
}

#[test]
fn mariadb_has_the_test_databases() {
    let server = server();
    for (name, script) in [
        ("akamu", fixtures::mariadb_akamu(fixtures::FEW)),
        ("certctl", fixtures::mariadb_certctl(fixtures::FEW)),
        ("shapes", fixtures::MARIADB_SHAPES.to_owned()),
        ("shapes_`2` x", fixtures::MARIADB_SHAPES.to_owned()),
    ] {
        server.create_database(name).expect("makes the database");
        server.sql(name, &script).expect("fills the database");
    }
    for (database, table, rows) in [
        ("akamu", "certificates", "2000\n"),
        ("akamu", "mtc_cosignatures", "200\n"),
        ("certctl", "certificate_versions", "2000\n"),
        ("certctl", "certificate_revocations", "100\n"),
        ("shapes", "in_myisam", "100\n"),
        ("shapes", "versioned FOR SYSTEM_TIME ALL", "6\n"),
        ("shapes_`2` x", "`odd ``name`", "2\n"),
    ] {
        let script = format!("SELECT count(*) FROM {table};");
        let counted = server.sql(database, &script).expect("counts");
        assert_eq!(counted, rows, "{database}.{table}");
    }
    let bytes =
        "SELECT length(b), hex(left(b, 2)), hex(right(b, 1)) FROM hostile_text WHERE id = 11;";
    assert_eq!(
        server.sql("shapes", bytes).expect("reads"),
        "256\t0001\tFF\n"
    );
}

#[test]
fn a_cluster_stops_and_goes() {
    let mut cluster = cluster();
    let directory = cluster.socket_directory().to_owned();
    assert!(cluster.tcp_address().is_none());
    cluster
        .psql(
            "postgres",
            "CREATE TABLE t (n integer); INSERT INTO t VALUES (1);",
        )
        .expect("runs");
    let first = cluster.pid().expect("runs");
    cluster.restart().expect("starts again");
    let second = cluster.pid().expect("runs");
    assert_ne!(first, second);
    cluster.kill();
    assert_eq!(cluster.pid(), None);
    assert!(cluster.psql("postgres", "SELECT 1;").is_err());
    cluster.restart().expect("recovers");
    assert_eq!(
        cluster.psql("postgres", "SELECT n FROM t;").expect("reads"),
        "1\n"
    );
    cluster.stop().expect("stops");
    cluster.stop().expect("is stopped already");
    cluster.restart().expect("starts again");
    let last = cluster.pid().expect("runs");
    drop(cluster);
    assert!(!directory.exists() && !is_running(last));
}

#[test]
fn a_mariadb_server_stops_and_goes() {
    let mut server = server();
    let directory = server.socket_directory().to_owned();
    server.create_database("d").expect("makes");
    server
        .sql("d", "CREATE TABLE t (n integer); INSERT INTO t VALUES (1);")
        .expect("runs");
    server.kill();
    assert!(server.pid().is_none() && server.sql("d", "SELECT 1;").is_err());
    server.restart().expect("recovers");
    assert_eq!(server.sql("d", "SELECT n FROM t;").expect("reads"), "1\n");
    server.stop().expect("stops");
    server.restart().expect("starts again");
    let pid = server.pid().expect("runs");
    let users = "SELECT group_concat(User, '@', Host ORDER BY 1) FROM mysql.user WHERE authentication_string = '' AND User <> 'mariadb.sys';";
    assert_eq!(
        server.sql("mysql", users).expect("reads"),
        "root@localhost\n"
    );
    drop(server);
    assert!(!directory.exists() && !is_running(pid));
}

#[test]
fn the_superuser_of_tcp_has_a_password() {
    let cluster = postgresql::Cluster::start(&loopback()).expect("a cluster");
    let port = cluster.tcp_address().expect("a port").port().to_string();
    let psql = |password: &str| {
        Command::new(
            cluster
                .programs()
                .map_or("psql".into(), |one| one.join("psql")),
        )
        .args([
            "-X",
            "-w",
            "-h",
            "127.0.0.1",
            "-U",
            cluster.superuser(),
            "-p",
            &port,
            "-c",
            "SELECT 1",
        ])
        .env("PGPASSWORD", password)
        .output()
        .expect("runs")
        .status
        .success()
    };
    assert!(psql(PASSWORD) && !psql("another") && !psql(""));

    let server = mariadb::Server::start(&loopback()).expect("a server");
    let port = server.port().expect("a port").to_string();
    let mariadb = |password: &str| {
        Command::new("mariadb")
            .args([
                "--no-defaults",
                "--protocol=tcp",
                "--host=127.0.0.1",
                "--port",
                &port,
            ])
            .args(["--user", server.superuser(), "-e", "SELECT 1"])
            .env("MYSQL_PWD", password)
            .output()
            .expect("runs")
            .status
            .success()
    };
    assert!(mariadb(PASSWORD) && !mariadb("another") && !mariadb(""));
}

#[test]
fn what_is_missing_is_named() {
    let nowhere = tempfile::tempdir().expect("a directory");
    let options = Options {
        programs: Some(nowhere.path().to_owned()),
        ..Options::for_tests()
    };
    let messages = [
        postgresql::Cluster::start(&options)
            .expect_err("no programs")
            .to_string(),
        mariadb::Server::start(&options)
            .expect_err("no programs")
            .to_string(),
    ];
    assert!(messages[0].contains("initdb") && messages[0].contains("package postgresql"));
    assert!(messages[1].contains("mariadbd") && messages[1].contains("package mariadb-server"));
}

#[test]
fn a_path_too_long_for_a_socket_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let parent = place.path().join("x".repeat(100));
    std::fs::create_dir(&parent).expect("makes");
    let options = Options {
        parent: Some(parent),
        ..Options::for_tests()
    };
    let refused = postgresql::Cluster::start(&options);
    assert!(
        matches!(refused, Err(ThrowawayError::SocketPath { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let mut options = Options::for_tests();
    options
        .settings
        .push(("shared_buffers".into(), "much".into()));
    let error = postgresql::Cluster::start(&options).expect_err("no such setting");
    assert!(matches!(error, ThrowawayError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

#[test]
fn a_killed_program_leaves_no_server() {
    let name = "throwaway::a_killed_program_leaves_no_server";
    if std::env::var_os(HOLD).is_some() {
        let (mut cluster, mut server) = (cluster(), server());
        for (pid, directory) in [
            (cluster.pid(), cluster.socket_directory()),
            (server.pid(), server.socket_directory()),
        ] {
            println!("held {} {}", pid.expect("runs"), directory.display());
        }
        // Until it is killed; the input ends too when the test that waits fails.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut program = Command::new(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(HOLD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(program.stdout.take().expect("a pipe")).lines();
    let held: Vec<(u32, PathBuf)> = lines
        .map_while(Result::ok)
        // The harness does not end its own line before the first.
        .filter_map(|line| {
            let (_, held) = line.split_once("held ")?;
            let (pid, directory) = held.split_once(' ')?;
            Some((pid.parse().ok()?, PathBuf::from(directory)))
        })
        .take(2)
        .collect();
    assert_eq!(held.len(), 2);
    assert!(
        held.iter()
            .all(|(pid, path)| is_running(*pid) && path.exists())
    );
    program.kill().expect("kills");
    program.wait().expect("ended");
    let (_never, channel) = channel::<()>();
    let begin = Instant::now();
    while held
        .iter()
        .any(|(pid, path)| is_running(*pid) || path.exists())
    {
        assert!(begin.elapsed() < Duration::from_mins(1), "{held:?}");
        let _ = channel.recv_timeout(Duration::from_millis(50));
    }
}
