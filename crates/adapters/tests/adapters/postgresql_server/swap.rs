//! Swaps: while applications connect again and again, repeated, interrupted, undone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

fn names(keep: &std::path::Path) -> SwapNames<'_> {
    SwapNames {
        live: "ca",
        new: "strongroom-2026-1-new",
        old: "strongroom-2026-1-old",
        replaces: true,
        keep,
    }
}

/// Databases that say who they are.
fn make(cluster: &Cluster, name: &str, says: &str) {
    cluster.create_database(name).expect("a database");
    // A test server forgets what it did not write yet when it is killed.
    let script = format!("CREATE TABLE says AS SELECT '{says}'::text AS what; CHECKPOINT;");
    cluster.psql(name, &script).expect("a table");
}

fn says(cluster: &Cluster, name: &str) -> String {
    let said = cluster.psql(name, "SELECT what FROM says");
    said.map_or_else(|_| "nothing".to_owned(), |said| said.trim().to_owned())
}

/// The databases and whether they take connections.
fn databases(cluster: &Cluster) -> String {
    let script = "SELECT string_agg(datname || ' ' || datallowconn, ', ' ORDER BY datname) FROM pg_database \
        WHERE datname NOT IN ('postgres', 'template0', 'template1')";
    let found = cluster.psql("postgres", script).expect("databases");
    found.trim().replace("strongroom-2026-1-", "")
}

#[test]
fn a_swap_and_its_undo_can_be_repeated() {
    let (cluster, keep) = (cluster(), tempfile::tempdir().expect("a directory"));
    let (server, names) = (server(&cluster), names(keep.path()));
    make(&cluster, names.live, "before");
    make(&cluster, names.new, "restored");
    for _ in 0..2 {
        for _ in 0..2 {
            server.swap_in(&names).expect("swapped");
            assert_eq!(databases(&cluster), "ca true, old false");
            assert_eq!(says(&cluster, names.live), "restored");
        }
        for _ in 0..2 {
            server.swap_back(&names).expect("swapped back");
            assert_eq!(databases(&cluster), "ca true, new true");
            assert_eq!(says(&cluster, names.live), "before");
        }
    }
    for _ in 0..2 {
        server.drop_database(names.new).expect("dropped");
        assert_eq!(databases(&cluster), "ca true");
    }
    server.swap_back(&names).expect("nothing is left to do");
    assert_eq!(says(&cluster, names.live), "before");
    // A kept one is closed, and can be dropped all the same.
    make(&cluster, names.new, "restored");
    server.swap_in(&names).expect("swapped");
    server.drop_database(names.old).expect("dropped");
    assert_eq!(databases(&cluster), "ca true");
    server.drop_database(names.live).expect("dropped");
    let error = server.swap_in(&names).expect_err("nothing is there");
    assert!(
        error.to_string().contains("there is no database"),
        "{error}"
    );
}

#[test]
fn a_name_that_was_free_is_free_again_after_an_undo() {
    let (cluster, keep) = (cluster(), tempfile::tempdir().expect("a directory"));
    let (server, names) = (server(&cluster), names(keep.path()));
    make(&cluster, names.new, "restored");
    for _ in 0..2 {
        server.swap_in(&names).expect("swapped");
        assert_eq!(databases(&cluster), "ca true");
    }
    for _ in 0..2 {
        server.swap_back(&names).expect("swapped back");
        assert_eq!(databases(&cluster), "new true");
    }
}

#[test]
fn a_name_that_was_taken_meanwhile_keeps_its_database() {
    let (cluster, keep) = (cluster(), tempfile::tempdir().expect("a directory"));
    let (server, names) = (server(&cluster), names(keep.path()));
    make(&cluster, names.new, "restored");
    // Interrupted after the mark and before the rename; then somebody makes a database of that name.
    let mark = keep.path().join("was-not-there-6361");
    strongroom_core::private_file::create_new(&mark).expect("a mark");
    make(&cluster, names.live, "before");
    // A plan that replaces nothing leaves it alone.
    let beside = SwapNames {
        replaces: false,
        ..names
    };
    let error = server.swap_in(&beside).expect_err("it came later");
    assert!(error.to_string().contains("\"ca\" now"), "{error}");
    assert_eq!(databases(&cluster), "ca true, new true");
    assert_eq!(says(&cluster, names.live), "before");
    server.swap_in(&names).expect("swapped");
    assert!(!mark.exists());
    server.swap_back(&names).expect("swapped back");
    server.drop_database(names.new).expect("dropped");
    server.swap_back(&names).expect("nothing is left to do");
    assert_eq!(says(&cluster, names.live), "before");
    assert_eq!(databases(&cluster), "ca true");
}

#[test]
fn applications_that_connect_again_and_again_do_not_hinder() {
    let (cluster, keep) = (cluster(), tempfile::tempdir().expect("a directory"));
    let (server, names) = (server(&cluster), names(keep.path()));
    make(&cluster, names.live, "before");
    make(&cluster, names.new, "restored");
    let (is_over, cluster) = (AtomicBool::new(false), &cluster);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // Cut off, refused, or well: an application tries again.
                    let _ = cluster.psql("ca", "SELECT pg_sleep(0.05)");
                }
            });
        }
        for _ in 0..5 {
            server.swap_in(&names).expect("swapped");
            assert_eq!(says(cluster, names.live), "restored");
            server.swap_back(&names).expect("swapped back");
            assert_eq!(says(cluster, names.live), "before");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(databases(cluster), "ca true, new true");
}

#[test]
fn states_of_a_crash_are_led_to_an_end() {
    let (cluster, keep) = (cluster(), tempfile::tempdir().expect("a directory"));
    let (server, names) = (server(&cluster), names(keep.path()));
    make(&cluster, names.live, "before");
    make(&cluster, names.new, "restored");
    let close = |name: &str| {
        let script = format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS false");
        cluster.psql("postgres", &script).expect("closed");
    };
    // Before the renames: undone, then done.
    close(names.live);
    server.swap_back(&names).expect("opened again");
    assert_eq!(databases(&cluster), "ca true, new true");
    close(names.live);
    server.swap_in(&names).expect("swapped");
    assert_eq!(databases(&cluster), "ca true, old false");
    // After the renames.
    close(names.live);
    server.swap_in(&names).expect("opened");
    assert_eq!(databases(&cluster), "ca true, old false");
    close(names.live);
    server.swap_back(&names).expect("swapped back");
    assert_eq!(databases(&cluster), "ca true, new true");
    close(names.live);
    close(names.new);
    server.swap_back(&names).expect("opened");
    assert_eq!(databases(&cluster), "ca true, new true");
    assert_eq!(says(&cluster, names.live), "before");
    close(names.new);
    server.drop_database(names.new).expect("dropped");
    assert_eq!(databases(&cluster), "ca true");
}

#[test]
fn a_prepared_transaction_is_named() {
    let options = Options {
        settings: vec![("max_prepared_transactions".to_owned(), "2".to_owned())],
        ..Options::for_tests()
    };
    let cluster = Cluster::start(&options).expect("a cluster");
    let keep = tempfile::tempdir().expect("a directory");
    let (server, names) = (server(&cluster), names(keep.path()));
    make(&cluster, names.live, "before");
    make(&cluster, names.new, "restored");
    let script = "BEGIN; INSERT INTO says VALUES ('x'); PREPARE TRANSACTION 'half done'";
    cluster.psql("ca", script).expect("prepared");
    let error = server.swap_in(&names).expect_err("somebody must decide");
    assert!(error.to_string().contains("'half done' in ca"), "{error}");
    // The live one goes on.
    assert_eq!(databases(&cluster), "ca true, new true");
    cluster
        .psql("ca", "ROLLBACK PREPARED 'half done'")
        .expect("decided");
    server.swap_in(&names).expect("swapped");
}

#[test]
fn a_server_killed_in_a_swap_has_swapped_or_not() {
    let (mut cluster, keep) = (cluster(), tempfile::tempdir().expect("a directory"));
    let names = names(keep.path());
    make(&cluster, names.live, "before");
    make(&cluster, names.new, "restored");
    for milliseconds in [20, 40, 60, 80, 120] {
        let server = server(&cluster);
        std::thread::scope(|scope| {
            let (begun, begins) = channel::<()>();
            let swap = scope.spawn(|| {
                drop(begun);
                // Done or not: that is what is looked at.
                let _ = server.swap_in(&names);
            });
            let _ = begins.recv();
            let (_keep, never) = channel::<()>();
            let _ = never.recv_timeout(Duration::from_millis(milliseconds));
            cluster.kill();
            swap.join().expect("no panic");
        });
        cluster.restart().expect("a restart");
        let found = databases(&cluster);
        assert!(
            [
                "ca true, new true",
                "ca false, new true",
                "ca false, old false",
                "ca true, old false"
            ]
            .contains(&found.as_str()),
            "{found}"
        );
        server.swap_in(&names).expect("swapped");
        assert_eq!(says(&cluster, names.live), "restored");
        server.swap_back(&names).expect("swapped back");
        assert_eq!(databases(&cluster), "ca true, new true");
        assert_eq!(says(&cluster, names.live), "before");
    }
}
