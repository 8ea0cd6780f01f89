//! What a server that was killed leaves in the way: files of tables that are gone, statements of clients that are gone.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::time::{Duration, Instant};

use super::*;

/// Drops a table and leaves its file, as a server does that is killed at the wrong moment.
fn leave_the_file_of(server: &Server, database: &str, table: &str) {
    let file = server
        .data_directory()
        .join(database)
        .join(format!("{table}.ibd"));
    let aside = file.with_extension("aside");
    let owner = std::fs::metadata(&file).expect("the table's file");
    std::fs::copy(&file, &aside).expect("copies");
    server
        .sql(database, &format!("DROP TABLE {table};"))
        .expect("drops");
    std::fs::rename(&aside, &file).expect("puts back");
    chown(&file, Some(owner.uid()), Some(owner.gid())).expect("gives back");
}

#[test]
fn a_database_is_dropped_whatever_a_killed_drop_left() {
    let server = server();
    let port = MariadbServer::new(connection(&server));
    let make = "CREATE TABLE `o``dd` (id INT PRIMARY KEY); CREATE TABLE parent (id INT PRIMARY KEY);\n\
        CREATE TABLE child (id INT REFERENCES parent (id)); CREATE SEQUENCE numbers;\n\
        CREATE VIEW seen AS SELECT id FROM parent; CREATE TABLE other (id INT) ENGINE = Aria;\n\
        CREATE TABLE gone (id INT);";
    for stopped in ["never", "among the tables", "after the tables"] {
        with_fixture(&server, "x", make);
        if stopped == "among the tables" {
            let record = "CREATE TABLE strongroom_dropping (name VARCHAR(64)) SELECT 'gone' AS name UNION SELECT 'parent';";
            server.sql("x", record).expect("records");
            leave_the_file_of(&server, "x", "gone");
        } else if stopped == "after the tables" {
            let all = "DROP TABLE `o``dd`, child, parent, other, gone; DROP SEQUENCE numbers; CREATE TABLE strongroom_dropping (id INT);";
            server.sql("x", all).expect("drops");
            leave_the_file_of(&server, "x", "strongroom_dropping");
        }
        port.drop_database("x")
            .unwrap_or_else(|error| panic!("{stopped}: {error:?}"));
        assert!(!port.has("x").expect("looks"), "{stopped}");
        assert!(!server.data_directory().join("x").exists(), "{stopped}");
    }
}

#[test]
fn a_table_that_another_database_refers_to_is_not_dropped() {
    let server = server();
    let port = MariadbServer::new(connection(&server));
    for database in ["x", "y"] {
        server.create_database(database).expect("creates");
    }
    let sql = "CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE y.u (id INT, FOREIGN KEY (id) REFERENCES x.t (id));";
    server.sql("x", sql).expect("makes");
    port.drop_database("x").expect_err("is refused");
    server.sql("x", "SELECT id FROM t").expect("is still there");
}

#[test]
fn the_next_run_waits_for_what_an_interrupted_one_still_does() {
    let server = server();
    let port = MariadbServer::new(connection(&server));
    server.create_database("x").expect("creates");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As a session of a run that is gone: at work, and then it drops the database.
            let sql = "SELECT GET_LOCK(CONCAT('strongroom-', MD5('x')), 10); DO SLEEP(1); DROP DATABASE x;";
            server.sql("mysql", sql).expect("drops");
        });
        let held = "SELECT IS_USED_LOCK(CONCAT('strongroom-', MD5('x'))) IS NOT NULL";
        while server.sql("mysql", held).expect("asks").trim() != "1" {
            assert!(begin.elapsed() < Duration::from_secs(10), "never begins");
        }
        assert!(!port.has("x").expect("looks"), "looked too early");
    });
}
