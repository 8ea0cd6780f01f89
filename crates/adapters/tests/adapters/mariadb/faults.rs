//! What fails, and what is said then; what is killed, and what is left to do then.

use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_adapters::source::mariadb::server::MariadbServer;
use strongroom_adapters::throwaway::mariadb::Server;
use strongroom_adapters::throwaway::{Listen, Options};
use strongroom_core::error_chain;
use strongroom_core::source::server::{DatabaseServer as _, LoadOptions, SwapNames};
use strongroom_core::source::{CaptureError, Source as _};
use strongroom_testkit::fixtures;
use strongroom_testkit::recording_sink::{Moment, RecordingSink};
use zeroize::Zeroizing;

use super::{
    Backup, capture, connection, dump, names, server, settings, try_capture, with_fixture,
};

#[track_caller]
fn failing(result: Result<strongroom_core::source::Capture, CaptureError>) -> String {
    error_chain(&result.expect_err("fails"))
}

fn secret_file(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join(format!("password-{}", text.len()));
    let mut file = strongroom_core::private_file::create_new(&path).expect("creates");
    file.write_all(text.as_bytes()).expect("writes");
    path
}

#[test]
fn a_password_opens_the_server_by_tcp_and_a_wrong_one_does_not() {
    let right = "planted 'word\\ \"x";
    let mut options = Options::for_tests();
    options.listen = Listen::Loopback {
        password: Zeroizing::new(right.to_owned()),
    };
    let server = Server::start(&options).expect("a server");
    server.create_database("ca").expect("creates");
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = settings(&server, &["ca"]);
    settings.connection.socket = None;
    settings.connection.host = Some("127.0.0.1".to_owned());
    settings.connection.port = server.port();
    settings.connection.password_file = Some(secret_file(directory.path(), right));
    capture(&settings).complete();
    settings.connection.password_file = Some(secret_file(directory.path(), "planted-wrong"));
    let said = failing(try_capture(&settings, &RecordingSink::new()));
    assert!(said.contains("1045") && !said.contains("planted"), "{said}");
    settings.connection.port = Some(1);
    let said = failing(try_capture(&settings, &RecordingSink::new()));
    assert!(said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn what_the_account_may_not_see_is_a_problem() {
    let server = server();
    with_fixture(
        &server,
        "ca",
        "CREATE TABLE t (id INT); CREATE TABLE m (id INT) ENGINE = MyISAM; CREATE USER little@localhost; GRANT SELECT ON ca.* TO little@localhost",
    );
    let mut settings = settings(&server, &["ca"]);
    settings.connection.user = Some("little".to_owned());
    let problems = |settings| {
        let sink = RecordingSink::new();
        let capture = try_capture(settings, &sink).expect("captures");
        (capture.problems.join("\n"), capture.notes.join("\n"))
    };
    let (said, notes) = problems(&settings);
    for word in [
        "SHOW VIEW",
        "TRIGGER",
        "EVENT",
        "routines",
        "users and grants",
        "ca.m (MyISAM)",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(notes.contains("RELOAD"), "{notes}");
    server
        .sql("ca", "GRANT SHOW VIEW, TRIGGER, EVENT ON ca.* TO little@localhost; GRANT SELECT ON mysql.* TO little@localhost; GRANT RELOAD ON *.* TO little@localhost")
        .expect("grants");
    let (said, notes) = problems(&settings);
    assert_eq!(said, "");
    assert!(notes.contains("writers waited"), "{notes}");
    server
        .sql(
            "ca",
            "DROP TABLE m; REVOKE RELOAD ON *.* FROM little@localhost",
        )
        .expect("drops");
    assert_eq!(problems(&settings).0, "");
    settings.databases.push("none".to_owned());
    let said = failing(try_capture(&settings, &RecordingSink::new()));
    assert!(said.contains("none"), "{said}");
    assert!(
        !strongroom_adapters::source::mariadb::MariadbSource::new(settings)
            .inspect()
            .expect("looks")
            .problems
            .is_empty()
    );
}

#[test]
fn a_server_or_a_client_killed_in_the_middle_is_told() {
    let mut server = server();
    with_fixture(
        &server,
        "ca",
        "CREATE TABLE t (id INT PRIMARY KEY, t TEXT); INSERT INTO t SELECT seq, repeat('x', 500) FROM seq_1_to_100000",
    );
    let settings = settings(&server, &["ca"]);
    // A dump whose connection is ended.
    let killer = settings.connection.socket.clone().expect("a socket");
    let done = AtomicU64::new(0);
    let kill = std::sync::Arc::new(Mutex::new(Vec::new()));
    let ids = kill.clone();
    let sink = RecordingSink::new();
    sink.set_hook(move |moment| {
        if matches!(moment, Moment::Write { offset, .. } if offset > 1_000_000)
            && done.fetch_add(1, Ordering::Relaxed) == 0
        {
            ids.lock().expect("no panic").push(kill_dump(&killer));
        }
    });
    let said = failing(try_capture(&settings, &sink));
    assert!(
        said.contains("dump the database \"ca\"") && said.contains("Lost connection"),
        "{said}"
    );
    assert_eq!(sink.discarded(), 1);
    drop(sink);
    // The server itself.
    let pid = server.pid().expect("runs");
    let sink = RecordingSink::new();
    sink.set_hook(move |moment| {
        if matches!(moment, Moment::Write { offset, .. } if offset > 1_000_000) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("small"))
                .expect("a process");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    failing(try_capture(&settings, &sink));
    server.restart().expect("starts again");
    capture(&settings).complete();
}

/// Ends the connection that reads rows, as an operator does.
#[expect(
    clippy::disallowed_methods,
    reason = "the test acts as an operator does"
)]
fn kill_dump(socket: &Path) -> bool {
    let script = "BEGIN NOT ATOMIC DECLARE i BIGINT; SELECT id INTO i FROM information_schema.processlist \
        WHERE info LIKE 'SELECT /*!40001 SQL_NO_CACHE%' LIMIT 1; KILL i; END";
    std::process::Command::new("mariadb")
        .args([
            "--no-defaults",
            "--user=root",
            "--delimiter=//",
            "--execute",
            script,
            "--socket",
        ])
        .arg(socket)
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
fn a_change_of_definitions_while_the_dump_runs_is_a_problem() {
    let server = server();
    with_fixture(
        &server,
        "ca",
        "CREATE TABLE a (id INT PRIMARY KEY, t TEXT); INSERT INTO a SELECT seq, repeat('x', 500) FROM seq_1_to_20000; CREATE VIEW v AS SELECT 1",
    );
    let socket = server.socket();
    let sink = RecordingSink::new();
    let done = AtomicU64::new(0);
    sink.set_hook(move |moment| {
        if matches!(moment, Moment::Write { offset, .. } if offset > 3_000_000)
            && done.fetch_add(1, Ordering::Relaxed) == 0
        {
            run(
                &socket,
                "CREATE OR REPLACE VIEW ca.v AS SELECT 2; CREATE TABLE ca.new_one (id INT)",
            );
        }
    });
    let capture = try_capture(&settings(&server, &["ca"]), &sink).expect("captures");
    let said = capture.problems.join("\n");
    assert!(
        said.contains("table new_one") && said.contains("view v"),
        "{said}"
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test acts as an operator does"
)]
fn run(socket: &Path, script: &str) {
    let status = std::process::Command::new("mariadb")
        .args([
            "--no-defaults",
            "--user=root",
            "--execute",
            script,
            "--socket",
        ])
        .arg(socket)
        .status();
    assert!(status.is_ok_and(|status| status.success()));
}

const LIVE: &str = "CREATE TABLE parent (id INT PRIMARY KEY); CREATE TABLE child (id INT PRIMARY KEY, p INT, CONSTRAINT fk FOREIGN KEY (p) REFERENCES parent (id)); \
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1); CREATE TABLE log (t TEXT); CREATE VIEW v AS SELECT * FROM child; \
    CREATE TRIGGER tr AFTER INSERT ON parent FOR EACH ROW INSERT INTO log VALUES ('live'); CREATE PROCEDURE p() SELECT 1; \
    CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO SELECT 1; CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN 7;";

/// A server with `ca`, a backup of it loaded under the new name, and something else live; and both states as they show.
fn loaded() -> (Server, MariadbServer, Backup, String, String) {
    let server = server();
    with_fixture(&server, "ca", LIVE);
    let captured = dump(&server, "ca");
    let backup = capture(&settings(&server, &["ca"])).complete();
    server
        .sql("ca", "DROP TRIGGER tr; DROP VIEW v; DELETE FROM child; CREATE TABLE extra (id INT); CREATE TRIGGER tr2 BEFORE INSERT ON extra FOR EACH ROW SET NEW.id = 2; CREATE VIEW w AS SELECT * FROM extra")
        .expect("damages");
    let damaged = dump(&server, "ca");
    let port = MariadbServer::new(connection(&server));
    backup
        .load(&port, "ca", names("ca").new, &LoadOptions::default())
        .expect("loads");
    (server, port, backup, captured, damaged)
}

/// A `mariadb` that dies after so many statements that change something.
fn dying_client(directory: &Path, server: &Server, after: u32) -> MariadbServer {
    let count = directory.join("count");
    let _ = std::fs::remove_file(&count);
    let script = format!(
        r#"#!/bin/bash
# Passes statements on one by one; the one too many is not passed on, and all is over.
n=$(cat "{count}" 2>/dev/null || echo 0)
while IFS= read -r line || [ -n "$line" ]; do
  case "$line" in
    CREATE*|DROP*|RENAME*|ALTER*|INSERT*|COMMIT*|'/*!5'*|KILL*)
      n=$((n+1)); echo $n > "{count}"
      if [ $n -gt {after} ]; then exit 1; fi;;
  esac
  printf '%s\n' "$line"
done | {client} "$@"
exit $((PIPESTATUS[0] | PIPESTATUS[1]))
"#,
        count = count.display(),
        client = "/usr/bin/mariadb",
    );
    let programs = directory.join("programs");
    let _ = std::fs::remove_dir_all(&programs);
    std::fs::create_dir(&programs).expect("creates");
    for (name, text) in [
        ("mariadb", script.as_str()),
        (
            "mariadb-dump",
            "#!/bin/sh\nexec /usr/bin/mariadb-dump \"$@\"\n",
        ),
    ] {
        let path = programs.join(name);
        let mut file = strongroom_core::private_file::create_new(&path).expect("creates");
        file.write_all(text.as_bytes()).expect("writes");
        drop(file);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).expect("sets");
    }
    let mut connection = connection(server);
    connection.programs = Some(programs);
    MariadbServer::new(connection)
}

#[test]
fn a_swap_stopped_anywhere_is_finished_or_undone() {
    let (server, port, _backup, captured, damaged) = loaded();
    let directory = tempfile::tempdir().expect("a directory");
    let names = names("ca");
    let mut stops = 0;
    // Forward, stopped at each change, then finished; back, stopped at each change, then finished.
    for after in (0..).step_by(2) {
        let dying = dying_client(directory.path(), &server, after);
        let ended = dying.swap_in(&names);
        if ended.is_err() {
            stops += 1;
            port.swap_in(&names).expect("is finished");
        }
        assert_eq!(dump(&server, "ca"), captured, "after {after}");
        assert!(!port.has(names.new).expect("looks"));
        let dying = dying_client(directory.path(), &server, after);
        let undone = dying.swap_back(&names);
        if undone.is_err() {
            port.swap_back(&names).expect("is finished");
        }
        assert_eq!(dump(&server, "ca"), damaged, "back after {after}");
        assert!(!port.has(names.old).expect("looks"));
        if ended.is_ok() && undone.is_ok() {
            break;
        }
    }
    assert!(stops > 8, "{stops} stops");
}

#[test]
fn a_swap_stopped_anywhere_is_undone_at_once() {
    let (server, port, _backup, captured, damaged) = loaded();
    let directory = tempfile::tempdir().expect("a directory");
    let names = names("ca");
    for after in (0..).step_by(4) {
        let dying = dying_client(directory.path(), &server, after);
        let ended = dying.swap_in(&names);
        port.swap_back(&names).expect("is undone");
        assert_eq!(dump(&server, "ca"), damaged, "after {after}");
        assert!(!port.has(names.old).expect("looks"), "after {after}");
        assert!(port.has(names.new).expect("looks"), "after {after}");
        // And the undo is stopped, and the swap is wanted after all.
        port.swap_in(&names).expect("swaps");
        let dying = dying_client(directory.path(), &server, after);
        let _ = dying.swap_back(&names);
        port.swap_in(&names).expect("swaps");
        let there = port.has(names.old).expect("looks");
        if there {
            assert_eq!(dump(&server, "ca"), captured, "after {after}");
            port.swap_back(&names).expect("swaps back");
        }
        if ended.is_ok() {
            break;
        }
    }
}

#[test]
fn a_swap_to_where_nothing_was_is_undone_wherever_it_stopped() {
    let (server, port, _backup, captured, _) = loaded();
    let directory = tempfile::tempdir().expect("a directory");
    let names = SwapNames {
        replaces: false,
        ..names("ca")
    };
    port.drop_database("ca").expect("drops");
    let has = |name| port.has(name).expect("looks");
    for after in (0..).step_by(3) {
        let ended = dying_client(directory.path(), &server, after).swap_in(&names);
        if after % 2 == 0 {
            port.swap_in(&names).expect("is finished");
            assert_eq!(dump(&server, "ca"), captured, "after {after}");
        }
        // As an undo does.
        if has(names.old) {
            port.swap_back(&names).expect("is undone");
        }
        let there = [names.live, names.old, names.new].map(has);
        assert_eq!(there, [false, false, true], "after {after}");
        if ended.is_ok() {
            break;
        }
    }
}

#[test]
fn sessions_of_the_live_database_are_ended() {
    let (server, port, _backup, captured, _) = loaded();
    let socket = server.socket();
    let before = std::time::Instant::now();
    std::thread::scope(|scope| {
        // An open transaction that has used a table, and would wait for long.
        scope.spawn(|| {
            let script = "BEGIN; INSERT INTO parent VALUES (99); SELECT SLEEP(60)";
            server.sql("ca", script).expect_err("is ended");
        });
        scope.spawn(|| {
            for _ in 0..3000 {
                let waits = server.sql("mysql", "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'");
                if waits.expect("asks").trim() == "1" {
                    break;
                }
            }
            port.swap_in(&names("ca")).expect("swaps");
        });
    });
    drop(socket);
    assert!(before.elapsed().as_secs() < 50);
    assert_eq!(dump(&server, "ca"), captured);
}

#[test]
fn a_load_whose_content_fails_is_loaded_anew() {
    let server = server();
    with_fixture(&server, "akamu", &fixtures::mariadb_akamu(500));
    let backup = capture(&settings(&server, &["akamu"])).complete();
    let port = MariadbServer::new(connection(&server));
    let options = LoadOptions::default();
    let error = backup.load_with(
        &port,
        "akamu",
        "strongroom-1-new",
        &options,
        &mut |content, to| {
            to.write_all(&content[..content.len() / 2])
                .map_err(CaptureError::io("write to", Path::new("x")))?;
            Err(CaptureError::io("read", Path::new("the stream"))(
                std::io::Error::other("by script"),
            ))
        },
    );
    assert!(error_chain(&error.expect_err("fails")).contains("by script"));
    let error = port.swap_in(&names("akamu")).expect_err("is not loaded");
    assert!(
        error_chain(&error).contains("was not loaded to its end"),
        "{error}"
    );
    // A statement that the server refuses.
    let error = backup.load_with(
        &port,
        "akamu",
        "strongroom-1-new",
        &options,
        &mut |content, to| {
            let text = String::from_utf8_lossy(content).replace("ENGINE=InnoDB", "ENGINE=None");
            to.write_all(text.as_bytes())
                .map_err(CaptureError::io("write to", Path::new("x")))
        },
    );
    let said = error_chain(&error.expect_err("fails"));
    assert!(
        said.contains("ERROR 1") && !said.contains("CREATE TABLE"),
        "{said}"
    );
    backup
        .load(&port, "akamu", "strongroom-1-new", &options)
        .expect("loads");
    assert_eq!(
        backup.prove(&port, "akamu", "strongroom-1-new").failures,
        [""; 0]
    );
    // Other rows are noticed.
    server
        .sql(
            "strongroom-1-new",
            "SET foreign_key_checks = 0; DELETE FROM certificates LIMIT 1",
        )
        .expect("damages");
    let proof = backup.prove(&port, "akamu", "strongroom-1-new");
    assert!(
        proof
            .failures
            .iter()
            .any(|failure| failure.contains("certificates")),
        "{proof:?}"
    );
}

#[test]
fn what_cannot_be_created_is_found_out_before_the_swap() {
    let mut options = Options::for_tests();
    let trusting = ["log-bin", "log-bin-trust-function-creators"];
    let values = ["binlog", "ON"];
    for (name, value) in trusting.into_iter().zip(values) {
        options.settings.push((name.to_owned(), value.to_owned()));
    }
    let server = Server::start(&options).expect("a server");
    with_fixture(
        &server,
        "ca",
        "CREATE TABLE t (id INT); CREATE FUNCTION f() RETURNS INT RETURN rand()",
    );
    let backup = capture(&settings(&server, &["ca"])).complete();
    server
        .sql("ca", "SET GLOBAL log_bin_trust_function_creators = OFF")
        .expect("sets");
    let port = MariadbServer::new(connection(&server));
    let loaded = backup.load(&port, "ca", names("ca").new, &LoadOptions::default());
    let said = error_chain(&loaded.expect_err("fails"));
    assert!(
        said.contains("1418") && said.contains("log_bin_trust_function_creators"),
        "{said}"
    );
}

#[test]
fn tls_is_asked_for_and_the_server_must_prove_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("sets");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        let mut file = strongroom_core::private_file::create_new(&path).expect("creates");
        file.write_all(text.as_bytes()).expect("writes");
        // The server reads it as another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, mode).expect("sets");
        path
    };
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let other =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (
        write("server.pem", &made.cert.pem()),
        write("server.key", &made.signing_key.serialize_pem()),
    );
    let stranger = write("other.pem", &other.cert.pem());
    let password = "planted-tls";
    let mut options = Options::for_tests();
    options.listen = Listen::Loopback {
        password: Zeroizing::new(password.to_owned()),
    };
    for (name, path) in [("ssl-cert", &certificate), ("ssl-key", &key)] {
        let path = path.to_string_lossy().into_owned();
        options.settings.push((name.to_owned(), path));
    }
    let server = Server::start(&options).expect("a server");
    with_fixture(&server, "ca", "ALTER USER root@'127.0.0.1' REQUIRE SSL");
    let mut settings = settings(&server, &["ca"]);
    settings.connection.socket = None;
    settings.connection.host = Some("localhost".to_owned());
    settings.connection.port = server.port();
    settings.connection.password_file = Some(secret_file(directory.path(), password));
    settings.connection.ssl_ca = Some(stranger);
    let said = failing(try_capture(&settings, &RecordingSink::new()));
    assert!(
        said.to_lowercase().contains("ssl") || said.contains("certificate"),
        "{said}"
    );
    settings.connection.ssl_ca = Some(certificate);
    capture(&settings).complete();
    // Another name than the certificate's.
    settings.connection.host = Some("127.0.0.1".to_owned());
    let said = failing(try_capture(&settings, &RecordingSink::new()));
    assert!(said.contains("certificate"), "{said}");
    settings.connection.ssl_verify = Some(false);
    capture(&settings).complete();
}

#[test]
fn a_server_killed_during_the_swap_can_be_swapped_when_it_is_back() {
    let (mut server, port, _backup, captured, damaged) = loaded();
    let names = names("ca");
    let mut broken = 0;
    for wait in (0..).map(|step| step * 40) {
        let pid = i32::try_from(server.pid().expect("runs")).expect("small");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process");
        let ended = std::thread::scope(|scope| {
            scope.spawn(move || {
                let (_keep, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(std::time::Duration::from_millis(wait));
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            });
            port.swap_in(&names)
        });
        server.restart().expect("starts again");
        broken += u32::from(ended.is_err());
        if wait % 80 == 0 {
            port.swap_in(&names).expect("is finished");
            assert_eq!(dump(&server, "ca"), captured, "after {wait} ms");
        }
        port.swap_back(&names).expect("is undone");
        assert_eq!(dump(&server, "ca"), damaged, "after {wait} ms");
        if ended.is_ok() {
            break;
        }
    }
    assert!(broken > 1, "{broken}");
}

#[test]
fn who_keeps_commits_from_being_held_back_is_named() {
    let server = server();
    with_fixture(
        &server,
        "ca",
        "CREATE TABLE m (id INT) ENGINE = MyISAM; INSERT INTO m VALUES (1)",
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = server.sql("ca", "UPDATE m SET id = id + SLEEP(24)");
        });
        for _ in 0..3000 {
            let busy =
                "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE m%'";
            if server.sql("mysql", busy).expect("asks").trim() == "1" {
                break;
            }
        }
        let said = failing(try_capture(
            &settings(&server, &["ca"]),
            &RecordingSink::new(),
        ));
        assert!(
            said.contains("hold commits back within") && said.contains("session"),
            "{said}"
        );
    });
    capture(&settings(&server, &["ca"])).complete();
}
