//! The suite that every server passes.

use strongroom_core::source::server::DatabaseServer;
use strongroom_testkit::server_conformance::{ServerFixture, run};

use super::*;

struct Fixture {
    cluster: Cluster,
    server: PostgresqlServer,
}

impl ServerFixture for Fixture {
    fn server(&self) -> &dyn DatabaseServer {
        &self.server
    }

    /// The mark is a comment: it goes with the database, and can be read while that is closed.
    fn make(&self, name: &str, mark: &str) {
        self.cluster.create_database(name).expect("a database");
        let script = format!("COMMENT ON DATABASE \"{name}\" IS '{mark}'");
        self.cluster.psql("postgres", &script).expect("a comment");
    }

    fn mark(&self, name: &str) -> Option<String> {
        let script = format!(
            "SELECT coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database WHERE datname = '{name}'"
        );
        let answer = self.cluster.psql("postgres", &script).expect("an answer");
        answer.lines().next().map(str::to_owned)
    }
}

#[test]
fn it_conforms() {
    let cluster = cluster();
    let server = server(&cluster);
    let keep = tempfile::tempdir().expect("a directory");
    run(&Fixture { cluster, server }, keep.path());
}
