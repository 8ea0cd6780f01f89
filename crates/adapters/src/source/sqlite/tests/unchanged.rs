//! When facts are taken over, and when not.

use strongroom_testkit::recording_sink::Moment;

use super::*;

const SQL: &str =
    "CREATE TABLE t(id INTEGER PRIMARY KEY, a); INSERT INTO t(a) VALUES(1), (2), (3);";

fn in_mode(mode: &str) -> Bench {
    Bench::new(&format!("PRAGMA journal_mode = {mode}; {SQL}"))
}

#[test]
fn an_unchanged_database_is_streamed_without_a_copy() {
    for mode in ["delete", "wal"] {
        let mut bench = in_mode(mode);
        let first = bench.capture_whole();
        assert_eq!(reused(&first), 0);
        let before = snapshot(bench.directory.path());
        for times in 1..=2 {
            let again = bench.capture_whole();
            assert_eq!(reused(&again), times, "{mode}");
            assert_eq!(again.facts, first.facts);
            assert_eq!(bench.sink.recorded()[0].content, bench.stream().content);
        }
        assert_eq!(bench.sink.discarded(), 0);
        assert_eq!(
            before,
            snapshot(bench.directory.path()),
            "nothing appears beside the database"
        );
    }
}

#[test]
fn any_change_is_captured() {
    for mode in ["delete", "wal"] {
        let mut bench = in_mode(mode);
        bench.capture_whole();
        for change in [
            "INSERT INTO t(a) VALUES(4)",
            "UPDATE t SET a = a + 1",
            "DELETE FROM t WHERE id = 1",
            "CREATE TABLE u(b)",
            "PRAGMA user_version = 5",
            "VACUUM",
        ] {
            bench.execute(change);
            let capture = bench.capture_whole();
            assert_eq!(reused(&capture), 0, "{mode}: {change}");
            assert_eq!(bench.bytes(), fs::read(bench.path()).unwrap());
            assert_eq!(reused(&bench.capture_whole()), 1, "{mode}: after {change}");
        }
    }
}

#[test]
fn a_change_in_the_wal_alone_is_captured() {
    let mut bench = in_mode("wal");
    let server = bench.open();
    server
        .execute_batch("PRAGMA wal_autocheckpoint = 0; SELECT * FROM t;")
        .unwrap();
    bench.capture_whole();
    assert_eq!(reused(&bench.capture_whole()), 1);

    server.execute_batch("INSERT INTO t(a) VALUES(4)").unwrap();
    let capture = bench.capture_whole();
    assert_eq!(reused(&capture), 0);
    assert_eq!(capture.facts["tables"]["t"]["rows"], 4);

    // Nothing more was written: copied, but not checked again.
    let again = bench.capture_whole();
    assert_eq!(reused(&again), 1);
    assert_eq!(again.facts, capture.facts);

    // The same size of the WAL, another content.
    server.execute_batch("INSERT INTO t(a) VALUES(5)").unwrap();
    let capture = bench.capture_whole();
    assert_eq!(
        (reused(&capture), &capture.facts["tables"]["t"]["rows"]),
        (0, &5.into())
    );

    // Checkpointed: the file is looked at once more, from then on it is streamed itself, the server being open.
    server
        .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
        .unwrap();
    assert!(
        fs::metadata(bench.path().with_extension("db-wal"))
            .unwrap()
            .len()
            > 0
    );
    assert_eq!(reused(&bench.capture_whole()), 0);
    let again = bench.capture_whole();
    assert_eq!(reused(&again), 1);
    assert_eq!(again.facts["tables"]["t"]["rows"], 5);
    assert_eq!(bench.bytes(), fs::read(bench.path()).unwrap());
}

#[test]
fn a_file_that_only_looks_the_same_is_found_out() {
    for mode in ["delete", "wal"] {
        let mut bench = in_mode(mode);
        bench.capture_whole();
        // Changed behind the back of SQLite, with the old size, inode and time.
        let times = fs::metadata(bench.path()).unwrap().modified().unwrap();
        let mut bytes = fs::read(bench.path()).unwrap();
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        let file = fs::File::options().write(true).open(bench.path()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        file.set_modified(times).unwrap();
        drop(file);
        let capture = bench.capture();
        assert_eq!(bench.sink.discarded(), 1);
        assert_eq!(bench.bytes(), bytes);
        assert!(capture.memory.is_none_or(|memory| memory["reused"] == 0));
    }
}

#[test]
fn a_write_during_the_stream_is_found_out() {
    let mut bench = in_mode("delete");
    bench.capture_whole();
    let path = bench.path().to_owned();
    let mut times = 0;
    bench.sink.set_hook(move |moment| {
        times += u32::from(matches!(moment, Moment::Begin { .. }));
        if times == 1 && matches!(moment, Moment::Begin { .. }) {
            let connection = Connection::open(&path).unwrap();
            connection
                .execute_batch("INSERT INTO t(a) VALUES(4)")
                .unwrap();
        }
    });
    let capture = bench.capture_whole();
    assert_eq!(bench.sink.discarded(), 1);
    assert_eq!(reused(&capture), 0);
    assert_eq!(capture.facts["tables"]["t"]["rows"], 4);
    assert_eq!(bench.stored::<i64>("SELECT count(*) FROM t"), 4);
}

#[test]
fn memory_of_something_else_is_not_used() {
    let mut bench = in_mode("delete");
    bench.capture_whole();
    let good = bench.sink.memory().unwrap().clone();
    bench.source = source(bench.path(), &["t.a"]);
    let capture = bench.capture_whole();
    assert_eq!(
        (reused(&capture), &capture.facts["newest"]["t.a"]),
        (0, &3.into())
    );
    bench.source = source(bench.path(), &[]);
    for spoiled in [
        serde_json::json!({}),
        serde_json::json!("x"),
        serde_json::json!({"version": 99}),
    ] {
        bench.sink.set_memory(Some(spoiled));
        assert_eq!(reused(&bench.capture_whole()), 0);
    }
    bench.sink.set_memory(Some(good));
    assert_eq!(reused(&bench.capture_whole()), 1);
}
