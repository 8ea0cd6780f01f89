//! A `psql` that stays.

use strongroom_adapters::source::postgresql::Connection;
use strongroom_adapters::source::postgresql::conninfo::conninfo;
use strongroom_adapters::source::postgresql::programs::Programs;
use strongroom_adapters::source::postgresql::session::{Session, SessionError};
use strongroom_core::cancel::Cancel;

use super::{cluster, connection};

fn open(connection: &Connection, cancel: &Cancel) -> Result<Session, SessionError> {
    let programs = Programs::first(connection).expect("programs");
    let conninfo = conninfo(&connection.settings, Some("postgres"));
    Session::open(&programs.client(connection), &conninfo, cancel)
}

#[test]
fn a_session() {
    let cluster = cluster();
    let connection = connection(&cluster.url("postgres"));
    answers_errors_and_copies(&connection);
    a_lost_connection_says_so(&connection);
    an_interruption_ends_a_statement(&connection);
}

fn answers_errors_and_copies(connection: &Connection) {
    let mut session = open(connection, &Cancel::default()).expect("connects");
    assert_eq!(session.server_major(), 15);
    let value = session
        .query("SELECT json_build_object('a', E'x\\n\\\\M y', 'b', 1)")
        .expect("answers");
    assert_eq!(value["a"], "x\n\\M y");
    let error = session.execute("SELECT 1/0").expect_err("fails");
    assert_eq!(error.sqlstate(), Some("22012"));
    assert_eq!(error.to_string(), "division by zero (SQLSTATE 22012)");
    assert_eq!(
        session.query("SELECT null::json").expect("answers"),
        serde_json::Value::Null
    );
    let mut lines = 0;
    let rows = session
        .copy_out(
            "COPY (SELECT g, repeat('x', 100) FROM generate_series(1, 1000000) AS g) TO STDOUT",
            |block| {
                lines += block.split(|byte| *byte == b'\n').count() - 1;
                Ok::<(), SessionError>(())
            },
        )
        .expect("copies");
    assert_eq!((rows, lines), (Some(1_000_000), 1_000_000));
    let error = session
        .copy_out(
            "COPY (SELECT 1/(10 - g) FROM generate_series(1, 100) AS g) TO STDOUT",
            |_| Ok::<(), SessionError>(()),
        )
        .expect_err("fails in the middle");
    assert!(matches!(error, SessionError::Copy { .. }), "{error:?}");
    assert_eq!(error.to_string(), "division by zero");
    let mut session = open(connection, &Cancel::default()).expect("connects");
    let rows = session
        .copy_out("COPY (SELECT WHERE false) TO STDOUT", |_| {
            Ok::<(), SessionError>(())
        })
        .expect("copies");
    assert_eq!(rows, Some(0));
}

fn a_lost_connection_says_so(connection: &Connection) {
    let mut session = open(connection, &Cancel::default()).expect("connects");
    let error = session
        .query("SELECT to_json(pg_terminate_backend(pg_backend_pid()))")
        .expect_err("is killed");
    assert!(matches!(error, SessionError::Lost(_)), "{error:?}");
    assert!(matches!(
        session.execute("SELECT 1"),
        Err(SessionError::Ended)
    ));
}

fn an_interruption_ends_a_statement(connection: &Connection) {
    let cancel = Cancel::default();
    let mut session = open(connection, &cancel).expect("connects");
    let flag = cancel.clone();
    let begun = std::time::Instant::now();
    let waiting = std::thread::spawn(move || session.execute("SELECT pg_sleep(60)"));
    flag.request();
    let error = waiting
        .join()
        .expect("no panic")
        .expect_err("is interrupted");
    assert!(matches!(error, SessionError::Interrupted(_)));
    assert!(begun.elapsed().as_secs() < 5);
}
