//! The suite that every server passes.

use strongroom_core::source::server::DatabaseServer;
use strongroom_testkit::server_conformance::{ServerFixture, run};

use super::*;

struct Fixture {
    server: Server,
    port: MariadbServer,
}

impl Fixture {
    fn create(&self, name: &str, mark: &str) {
        let script = format!(
            "CREATE DATABASE `{name}`; CREATE TABLE `{name}`.mark (mark TEXT); INSERT INTO `{name}`.mark VALUES ('{mark}');"
        );
        self.server.sql("mysql", &script).expect("a database");
    }
}

impl ServerFixture for Fixture {
    fn server(&self) -> &dyn DatabaseServer {
        &self.port
    }

    /// What waits for a swap was loaded from a backup; the others are as an application leaves them.
    fn make(&self, name: &str, mark: &str) {
        if !name.ends_with("-new") {
            return self.create(name, mark);
        }
        self.create("original", mark);
        let backup = capture(&settings(&self.server, &["original"])).complete();
        backup
            .load(&self.port, "original", name, &LoadOptions::default())
            .expect("loads");
        self.port.drop_database("original").expect("drops");
    }

    fn mark(&self, name: &str) -> Option<String> {
        let script = format!(
            "SELECT count(*) FROM information_schema.schemata WHERE schema_name = '{name}'"
        );
        let found = self.server.sql("mysql", &script).expect("an answer");
        if found.trim() == "0" {
            return None;
        }
        let script = format!(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = '{name}' AND table_name = 'mark'"
        );
        let has_mark = self.server.sql("mysql", &script).expect("an answer");
        if has_mark.trim() == "0" {
            return Some(String::new());
        }
        let script = format!("SELECT mark FROM `{name}`.mark");
        let answer = self.server.sql("mysql", &script).expect("an answer");
        Some(answer.trim().to_owned())
    }
}

#[test]
fn it_conforms() {
    let server = server();
    let port = MariadbServer::new(connection(&server));
    let keep = tempfile::tempdir().expect("a directory");
    run(&Fixture { server, port }, keep.path());
}
