//! Files that are not what they should be.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use strongroom_testkit::recording_sink::Moment;

use super::*;

const ROWS: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, serial TEXT UNIQUE, der BLOB);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000)
    INSERT INTO t SELECT i, hex(randomblob(16)), randomblob(900) FROM n;";

fn why(bench: &mut Bench) -> String {
    let error = bench.try_capture().unwrap_err();
    assert!(
        matches!(error, CaptureError::Unsuitable { .. }),
        "{error:?}"
    );
    assert!(bench.sink.recorded().is_empty());
    error.to_string()
}

#[test]
fn what_is_no_database_is_refused_with_a_reason() {
    let mut bench = Bench::without_file("ca.db");
    assert!(why(&mut bench).contains("there is no such file"));
    assert_eq!(bench.source.inspect().unwrap().problems.len(), 1);

    for content in [
        b"-----BEGIN PRIVATE KEY-----".to_vec(),
        vec![0xa7; 8192],
        b"SQLite format 3".to_vec(),
    ] {
        private_file::replace(bench.path(), &content).unwrap();
        assert!(why(&mut bench).contains("not a SQLite database, or encrypted (SQLCipher)"));
        assert_eq!(bench.source.inspect().unwrap().problems.len(), 1);
    }
    fs::remove_file(bench.path()).unwrap();
    fs::create_dir(bench.path()).unwrap();
    assert!(why(&mut bench).contains("not a regular file"));
}

#[test]
fn a_truncated_file_is_damaged() {
    for mode in ["delete", "wal"] {
        let mut bench = Bench::new(&format!("PRAGMA journal_mode = {mode}; {ROWS}"));
        let size = fs::metadata(bench.path()).unwrap().len();
        File::options()
            .write(true)
            .open(bench.path())
            .unwrap()
            .set_len(size / 2)
            .unwrap();
        match bench.try_capture() {
            Ok(capture) => assert!(!capture.problems.is_empty(), "{mode}"),
            Err(error) => assert!(
                error.to_string().contains("the database is damaged"),
                "{error}"
            ),
        }
    }
}

#[test]
fn a_flipped_page_makes_the_asset_incomplete() {
    for mode in ["delete", "wal"] {
        let mut bench = Bench::new(&format!("PRAGMA journal_mode = {mode}; {ROWS}"));
        let file = File::options().write(true).open(bench.path()).unwrap();
        file.write_all_at(&[0x5a; 4096], 4096 * 5).unwrap();
        let capture = bench.capture();
        assert!(
            capture.problems[0].starts_with("integrity_check: "),
            "{:?}",
            capture.problems
        );
        assert_eq!(
            capture.memory, None,
            "a damaged database is checked each time"
        );
        assert_eq!(bench.bytes(), fs::read(bench.path()).unwrap());
    }
}

#[test]
fn a_damaged_schema_is_a_problem_and_the_bytes_are_kept() {
    let mut bench = Bench::new(
        "CREATE TABLE t(a); PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE NONSENSE';",
    );
    let capture = bench.capture();
    assert_eq!(capture.problems.len(), 2, "{:?}", capture.problems);
    assert_eq!(bench.bytes(), fs::read(bench.path()).unwrap());
}

#[test]
fn an_interruption_leaves_nothing_behind() {
    let mut bench = Bench::new(ROWS);
    let cancel = bench.sink.cancel_flag();
    bench.sink.set_hook(move |moment| {
        if matches!(moment, Moment::Write { .. }) {
            cancel.request();
        }
    });
    assert!(matches!(
        bench.try_capture(),
        Err(CaptureError::Interrupted(_))
    ));
    assert!(bench.sink.recorded().len() <= 1);
    bench.sink.cancel_flag().request();
    assert!(matches!(
        bench.try_capture(),
        Err(CaptureError::Interrupted(_))
    ));
}

#[test]
fn a_sink_that_fails_ends_the_capture() {
    let bench = Bench::new(ROWS);
    let sink = RecordingSink::new().failing_at(0);
    assert!(matches!(
        bench.source.capture(&sink),
        Err(CaptureError::Storage(_))
    ));
    assert_eq!(fs::read_dir(sink.scratch()).unwrap().count(), 0);
}
