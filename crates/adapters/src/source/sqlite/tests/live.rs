//! Writers that go on writing, and what crashed ones leave behind.
//!
//! The writer is a process of its own, as a server is: POSIX locks do not hold between the connections of a test
//! and the descriptors of the source in one process. It is this test binary, told by its environment.
#![expect(
    clippy::disallowed_methods,
    reason = "tests start the writer and read what it was told"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::source::sqlite::SqliteRestorer;
use strongroom_core::source::Restorer as _;

const DATABASE: &str = "STRONGROOM_TEST_WRITER";
const HOLD: &str = "STRONGROOM_TEST_HOLD";

/// Accounts whose balances always add up to zero, and ballast so that a copy takes several steps.
const ACCOUNTS: &str = "CREATE TABLE debit(id INTEGER PRIMARY KEY, amount INT, filler BLOB);
    CREATE TABLE credit(id INTEGER PRIMARY KEY, amount INT);
    CREATE TABLE ballast(id INTEGER PRIMARY KEY, b BLOB);
    CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, amount INT);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 4000)
    INSERT INTO ballast SELECT i, randomblob(3000) FROM n;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50)
    INSERT INTO debit SELECT i, 0, zeroblob(4000) FROM n;
    INSERT INTO credit SELECT id, 0 FROM debit;";

/// Not a test of its own: what the writer's process runs.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let connection = Connection::open(path).unwrap();
    connection
        .busy_timeout(std::time::Duration::from_mins(1))
        .unwrap();
    // The lock is held while a commit waits for the disk; how slow that is here is no part of the test.
    connection
        .pragma_update(None, "synchronous", "off")
        .unwrap();
    if std::env::var_os(HOLD).is_some() {
        connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
        println!("writing");
        loop {
            std::thread::park();
        }
    }
    for round in 0_i64.. {
        // A server does something else between two transactions; readers come in then.
        std::thread::park_timeout(std::time::Duration::from_millis(1));
        let id = round % 50 + 1;
        let amount = round * 7 + 1;
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; UPDATE debit SET amount = amount - {amount} WHERE id = {id};
                INSERT INTO log(amount) VALUES({amount});
                UPDATE credit SET amount = amount + {amount} WHERE id = 51 - {id}; COMMIT;"
            ))
            .unwrap();
        if round == 5 {
            println!("writing");
        }
    }
}

struct Writer(Child);

impl Writer {
    fn start(path: &Path, hold: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "source::sqlite::tests::live::writer",
                "--nocapture",
            ])
            .env(DATABASE, path)
            .stdout(Stdio::piped());
        if hold {
            command.env(HOLD, "1");
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines
                .map_while(Result::ok)
                .any(|line| line.contains("writing")),
            "the writer began to write"
        );
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_copy_is_consistent_while_a_server_writes() {
    for mode in ["wal", "delete", "persist"] {
        let mut bench = Bench::new(&format!("PRAGMA journal_mode = {mode}; {ACCOUNTS}"));
        let writer = Writer::start(bench.path(), false);
        let mut last = 0;
        for _ in 0..3 {
            let capture = bench.capture_whole();
            assert_eq!(reused(&capture), 0);
            let balance: i64 = bench.stored(
                "SELECT (SELECT sum(amount) FROM debit) + (SELECT sum(amount) FROM credit)",
            );
            let logged: i64 = bench
                .stored("SELECT (SELECT sum(amount) FROM log) - (SELECT sum(amount) FROM credit)");
            assert_eq!((balance, logged), (0, 0), "{mode}");
            let rows = capture.facts["tables"]["log"]["rows"].as_u64().unwrap();
            assert!(
                rows > last,
                "{mode}: the writer went on, {last} rows, then {rows}"
            );
            last = rows;
        }
        drop(writer);
        let capture = bench.capture_whole();
        assert!(capture.facts["tables"]["log"]["rows"].as_u64().unwrap() >= last);
    }
}

#[test]
fn a_database_that_stays_locked_is_an_error_that_says_so() {
    let mut bench = Bench::new(ACCOUNTS);
    let writer = Writer::start(bench.path(), true);
    let in_use = SqliteRestorer.in_use(bench.path()).unwrap().unwrap();
    assert!(
        in_use.starts_with(&format!("process {} (", writer.0.id())),
        "{in_use}"
    );
    assert!(in_use.ends_with(" has it open"), "{in_use}");
    let cancel = bench.sink.cancel_flag();
    std::thread::scope(|scope| {
        // The whole wait is half a minute; an interruption ends it.
        scope.spawn(move || cancel.request());
        let error = bench.try_capture().unwrap_err();
        assert!(matches!(error, CaptureError::Interrupted(_)), "{error}");
    });
    drop(writer);
    assert_eq!(SqliteRestorer.in_use(bench.path()).unwrap(), None);
}

#[test]
fn the_wal_of_a_crashed_server_is_captured() {
    for suffixes in [&["-wal"][..], &["-wal", "-shm"]] {
        let origin = Bench::new(&format!("PRAGMA journal_mode = wal; {ACCOUNTS}"));
        let server = origin.open();
        server
            .execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO log(amount) VALUES(5), (6);")
            .unwrap();
        let mut bench = Bench::without_file("ca.db");
        crash(origin.path(), suffixes, bench.path());
        drop(server);
        let before = snapshot(bench.directory.path());
        let capture = bench.capture_whole();
        assert_eq!(capture.facts["tables"]["log"]["rows"], 2);
        let after = snapshot(bench.directory.path());
        // SQLite keeps its locks and indexes in the shared memory where there is one.
        let without_shm = |files: Vec<(PathBuf, Digest)>| -> Vec<_> {
            files
                .into_iter()
                .filter(|(path, _)| !path.ends_with("ca.db-shm"))
                .collect()
        };
        assert_eq!(before.len(), after.len());
        assert_eq!(without_shm(before), without_shm(after));
    }
}

#[test]
fn a_hot_journal_is_rolled_back_in_the_copy_alone() {
    let origin = Bench::new(ACCOUNTS);
    let server = origin.open();
    server
        .execute_batch("PRAGMA cache_size = 10; BEGIN IMMEDIATE; UPDATE ballast SET b = zeroblob(3000); DELETE FROM debit;")
        .unwrap();
    let mut bench = Bench::without_file("ca.db");
    crash(origin.path(), &["-journal"], bench.path());
    drop(server);
    assert_ne!(
        fs::read(bench.path()).unwrap(),
        fs::read(origin.path()).unwrap(),
        "pages were spilled"
    );
    let before = snapshot(bench.directory.path());
    let capture = bench.capture_whole();
    assert!(
        capture.notes[0].contains("recovered in the copy"),
        "{:?}",
        capture.notes
    );
    assert_eq!(capture.facts["tables"]["debit"]["rows"], 50);
    assert_eq!(
        bench.stored::<i64>("SELECT count(*) FROM ballast WHERE b = zeroblob(3000)"),
        0
    );
    assert_eq!(
        before,
        snapshot(bench.directory.path()),
        "the original is as the crash left it"
    );
}
