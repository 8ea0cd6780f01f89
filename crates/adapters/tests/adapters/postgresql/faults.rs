//! Bad luck while a database is captured: locks, drops, deaths, interruptions.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use strongroom_adapters::client::{Client, Running};
use strongroom_adapters::throwaway::postgresql::Cluster;
use strongroom_core::source::CaptureError;
use strongroom_testkit::recording_sink::{Moment, RecordingSink};

use super::{captured, cluster, connection, facts};

/// Large enough that it is not read before the fault happens.
const BIG: &str = "CREATE TABLE big AS SELECT n, repeat('x', 900) AS t FROM generate_series(1, 60000) AS n; CREATE TABLE small (n int); INSERT INTO small VALUES (1);";

/// Another session, that holds a transaction open.
struct Other {
    running: Running,
    stdin: std::process::ChildStdin,
}

impl Other {
    fn connect(cluster: &Cluster) -> Self {
        let client = Client {
            programs: cluster.programs().map(ToOwned::to_owned),
            ..Client::default()
        };
        let url = cluster.url("postgres");
        let mut running = client
            .start("psql", &["-Xq", "-d", &url])
            .expect("psql starts");
        let stdin = running.stdin();
        Self { running, stdin }
    }

    fn say(&mut self, sql: &str) {
        self.stdin.write_all(sql.as_bytes()).expect("is heard");
        self.stdin.write_all(b"\n").expect("is heard");
    }

    fn end(self) {
        drop(self.stdin);
        self.running.finish().expect("ends well");
    }
}

/// Waits until a statement yields `t`.
fn wait_for(cluster: &Cluster, condition: &str) {
    let begun = Instant::now();
    while cluster
        .psql("postgres", &format!("SELECT {condition};"))
        .expect("answers")
        .trim()
        != "t"
    {
        assert!(begun.elapsed() < Duration::from_mins(1), "{condition}");
    }
}

#[test]
fn a_locked_table_is_named_with_its_holder_and_a_truncated_one_makes_a_new_cut() {
    let cluster = cluster();
    cluster.psql("postgres", BIG).expect("fills");
    let mut other = Other::connect(&cluster);
    other.say("SET application_name = 'migration'; BEGIN; LOCK TABLE small;");
    wait_for(
        &cluster,
        "EXISTS (SELECT FROM pg_locks WHERE relation = 'small'::regclass AND granted)",
    );
    let mut connection = connection(&cluster.url("postgres"));
    connection.settings.lock_timeout = 1;
    let sink = RecordingSink::new();
    let capture = captured(&connection, &sink).expect("the rest is captured");
    assert_eq!(capture.problems.len(), 1, "{:?}", capture.problems);
    assert!(capture.problems[0].contains("public.small"));
    assert!(
        capture.problems[0].contains("migration"),
        "{:?}",
        capture.problems
    );
    assert!(sink.find("/postgres/data/public.big.copy").is_some());

    // The snapshot is taken while the lock is held; what follows it empties the table without a trace in the rows.
    connection.settings.lock_timeout = 60;
    let release = |other: &mut Other, script: &str| {
        let sink = RecordingSink::new();
        let capture = std::thread::scope(|scope| {
            let capture = scope.spawn(|| captured(&connection, &sink));
            wait_for(
                &cluster,
                "EXISTS (SELECT FROM pg_locks WHERE relation = 'small'::regclass AND NOT granted)",
            );
            other.say(script);
            capture.join().expect("no panic")
        });
        let capture = capture.expect("is captured");
        assert_eq!(capture.problems, Vec::<String>::new());
        (capture, sink)
    };
    let (_, sink) = release(
        &mut other,
        "TRUNCATE small; INSERT INTO small VALUES (7), (8); COMMIT;",
    );
    assert_eq!(
        sink.content("/postgres/data/public.small.copy").as_deref(),
        Some(&b"7\n8\n\\.\n\n\n"[..])
    );
    other.say("BEGIN; LOCK TABLE small;");
    wait_for(
        &cluster,
        "EXISTS (SELECT FROM pg_locks WHERE relation = 'small'::regclass AND granted)",
    );
    let (capture, _) = release(&mut other, "DROP TABLE small; COMMIT;");
    let tables = &facts(&capture).databases["postgres"].tables;
    assert!(!tables.contains_key("public.small"));
    other.end();
}

/// Captures, and does something in the middle of the stream of rows.
fn in_the_middle(
    cluster: &Cluster,
    act: impl FnOnce() + Send + 'static,
) -> (
    Result<strongroom_core::source::Capture, CaptureError>,
    RecordingSink,
) {
    let connection = connection(&cluster.url("postgres"));
    let mut act = Some(act);
    let sink = RecordingSink::new().with_hook(move |moment| {
        if matches!(moment, Moment::Write { offset, .. } if offset > 1_000_000)
            && let Some(act) = act.take()
        {
            act();
        }
    });
    (captured(&connection, &sink), sink)
}

#[test]
fn deaths_in_the_middle_make_the_database_incomplete() {
    let mut cluster = cluster();
    cluster.psql("postgres", BIG).expect("fills");
    let (sender, receiver) = channel();
    let (done, is_done) = channel();
    // One backend of the capture dies.
    let result = std::thread::scope(|scope| {
        let capture = scope.spawn(|| {
            in_the_middle(&cluster, move || {
                sender.send(()).expect("is heard");
                is_done.recv().expect("is answered");
            })
        });
        receiver.recv().expect("the middle is reached");
        cluster
            .psql(
                "postgres",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'strongroom' AND query LIKE 'COPY%';",
            )
            .expect("kills");
        done.send(()).expect("is heard");
        capture.join().expect("no panic")
    });
    incomplete(result);
    // The client program that copies dies: it is the one that has answered the most.
    let socket = cluster.socket_directory().to_string_lossy().into_owned();
    let result = in_the_middle(&cluster, move || kill_clients(&socket));
    incomplete(result);
    // The whole server dies.
    let (sender, receiver) = channel();
    let (done, is_done) = channel();
    let connection = connection(&cluster.url("postgres"));
    let result = std::thread::scope(|scope| {
        let capture = scope.spawn(move || {
            let mut act = Some((sender, is_done));
            let sink = RecordingSink::new().with_hook(move |moment| {
                if matches!(moment, Moment::Write { offset, .. } if offset > 1_000_000)
                    && let Some((sender, is_done)) = act.take()
                {
                    sender.send(()).expect("is heard");
                    is_done.recv().expect("is answered");
                }
            });
            (captured(&connection, &sink), sink)
        });
        receiver.recv().expect("the middle is reached");
        cluster.kill();
        done.send(()).expect("is heard");
        capture.join().expect("no panic")
    });
    incomplete(result);
    cluster.restart().expect("comes back");
    let connection = super::connection(&cluster.url("postgres"));
    let capture = captured(&connection, &RecordingSink::new()).expect("is captured");
    assert_eq!(capture.problems, Vec::<String>::new());
}

/// Kills every `psql` of this program that is connected to the socket in `directory`.
fn kill_clients(directory: &str) {
    let own = std::process::id().to_string();
    for process in std::fs::read_dir("/proc")
        .expect("there is /proc")
        .flatten()
    {
        let read =
            |name: &str| std::fs::read_to_string(process.path().join(name)).unwrap_or_default();
        let name = process.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse() else { continue };
        let stat = read("stat");
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        let is_client = read("comm").trim() == "psql" && read("cmdline").contains(directory);
        if is_client && parent == Some(&own) {
            let pid = rustix::process::Pid::from_raw(pid).expect("is a number");
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn incomplete(
    (result, sink): (
        Result<strongroom_core::source::Capture, CaptureError>,
        RecordingSink,
    ),
) {
    let capture = result.expect("problems, no error");
    let said = capture.problems.join("\n");
    assert!(
        said.contains("database postgres is not captured whole"),
        "{said}"
    );
    // Whoever notices first, a copy or pg_dump.
    assert!(said.contains("connection"), "{said}");
    assert!(sink.find("/postgres/data/public.big.copy").is_none());
    assert!(sink.discarded() > 0);
}

#[test]
fn a_damaged_table_is_named_and_the_rest_is_taken() {
    let mut cluster = cluster();
    cluster
        .psql(
            "postgres",
            &format!("{BIG} CREATE TABLE last_one (n int); CHECKPOINT;"),
        )
        .expect("fills");
    let path = cluster
        .psql("postgres", "SELECT pg_relation_filepath('big');")
        .expect("answers");
    cluster.stop().expect("stops");
    let path = cluster.data_directory().join(path.trim());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("opens");
    // The header of a page in the middle.
    file.write_all_at(&[0xff; 24], 3000 * 8192).expect("writes");
    cluster.restart().expect("starts");
    let connection = connection(&cluster.url("postgres"));
    let sink = RecordingSink::new();
    let capture = captured(&connection, &sink).expect("the rest is captured");
    assert_eq!(capture.problems.len(), 1, "{:?}", capture.problems);
    assert!(capture.problems[0].contains("public.big"));
    assert!(
        capture.problems[0].contains("invalid page"),
        "{:?}",
        capture.problems
    );
    assert_eq!(sink.discarded(), 1);
    for name in ["small", "last_one"] {
        let path = format!("/postgres/data/public.{name}.copy");
        assert!(sink.find(path).is_some(), "{name}");
    }
    assert!(sink.find("/postgres/data/public.big.copy").is_none());
}

#[test]
fn an_interruption_and_a_full_storage_end_it() {
    let cluster = cluster();
    cluster.psql("postgres", BIG).expect("fills");
    let connection = connection(&cluster.url("postgres"));
    let sink = RecordingSink::new();
    let flag = sink.cancel_flag();
    sink.set_hook(move |moment| {
        if matches!(moment, Moment::Write { offset, .. } if offset > 1_000_000) {
            flag.request();
        }
    });
    let begun = Instant::now();
    let error = captured(&connection, &sink).expect_err("is interrupted");
    assert!(matches!(error, CaptureError::Interrupted(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let sink = RecordingSink::new();
    captured(&connection, &sink).expect("is captured");
    let calls = sink.calls();
    // At begins, in the middle, and at the end.
    for call in [0, 1, 2, 4, calls / 2, calls - 1] {
        let sink = RecordingSink::new().failing_at(call);
        let error = captured(&connection, &sink).expect_err("the storage is full");
        assert!(error.is_fatal(), "call {call}: {error:?}");
    }
    wait_for(
        &cluster,
        "NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'strongroom')",
    );
}
