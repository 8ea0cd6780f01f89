//! A host whose CA keeps its databases on a server.

use std::path::PathBuf;
use std::process::Command;

use strongroom_adapters::throwaway::postgresql::Cluster;
use strongroom_adapters::throwaway::{Options, mariadb};
use strongroom_testkit::fixtures;

use crate::fixture::Host;

/// A server of either kind.
pub(crate) enum Server {
    Postgresql(Cluster),
    Mariadb(mariadb::Server),
}

/// Which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgresql,
    Mariadb,
}

impl Server {
    pub(crate) fn start(kind: Kind, options: &Options) -> Self {
        match kind {
            Kind::Postgresql => Self::Postgresql(Cluster::start(options).expect("PostgreSQL")),
            Kind::Mariadb => Self::Mariadb(mariadb::Server::start(options).expect("MariaDB")),
        }
    }

    pub(crate) fn create(&self, database: &str) {
        match self {
            Self::Postgresql(server) => server.create_database(database).expect("creates"),
            Self::Mariadb(server) => server.create_database(database).expect("creates"),
        }
    }

    #[track_caller]
    pub(crate) fn sql(&self, database: &str, script: &str) -> String {
        match self {
            Self::Postgresql(server) => server.psql(database, script).expect("runs"),
            Self::Mariadb(server) => server.sql(database, script).expect("runs"),
        }
    }

    pub(crate) fn kill(&mut self) {
        match self {
            Self::Postgresql(server) => server.kill(),
            Self::Mariadb(server) => server.kill(),
        }
    }

    pub(crate) fn restart(&mut self) {
        match self {
            Self::Postgresql(server) => server.restart().expect("starts again"),
            Self::Mariadb(server) => server.restart().expect("starts again"),
        }
    }

    /// Names of all databases but the server's own.
    pub(crate) fn databases(&self) -> Vec<String> {
        let text = match self {
            Self::Postgresql(_) => self.sql(
                "postgres",
                "select datname from pg_database where not datistemplate and datname <> 'postgres' order by 1",
            ),
            Self::Mariadb(_) => self.sql(
                "mysql",
                "select schema_name from information_schema.schemata where schema_name not in \
                 ('mysql', 'sys', 'information_schema', 'performance_schema') order by 1",
            ),
        };
        text.lines().map(str::to_owned).collect()
    }

    /// Everything that a database holds, as its stock program dumps it, without what differs at each dump.
    pub(crate) fn dump(&self, database: &str) -> String {
        let mut command = match self {
            Self::Postgresql(server) => {
                let mut command = Command::new("pg_dump");
                command.arg("-d").arg(server.url(database));
                command
            }
            Self::Mariadb(server) => {
                let mut command = Command::new("mariadb-dump");
                command
                    .arg("--no-defaults")
                    .arg(format!("--socket={}", server.socket().display()))
                    .args([
                        "--user=root",
                        "--single-transaction",
                        "--hex-blob",
                        "--order-by-primary",
                    ])
                    .args([
                        "--routines",
                        "--events",
                        "--triggers",
                        "--skip-dump-date",
                        "--skip-comments",
                    ])
                    .arg(database);
                command
            }
        };
        let output = command.output().expect("the dump program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{database}: {said}");
        let text = String::from_utf8_lossy(&output.stdout);
        let differs =
            |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
        let plain = |line: &str| {
            // PostgreSQL itself writes `(a AND b) AND c` without the inner brackets once it has read it again.
            if line.contains("CHECK (") {
                line.replace(['(', ')'], "")
            } else {
                line.to_owned()
            }
        };
        let lines = text.lines().filter(|line| !differs(line));
        let mut lines: Vec<String> = lines.map(plain).collect();
        // The order of rows in a table says nothing.
        lines.sort_unstable();
        lines.join("\n")
    }

    /// Where the server is, as the configuration and `--server` name it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Postgresql(server) => server.url("postgres"),
            Self::Mariadb(server) => {
                let socket = server.socket();
                format!("mariadb://root@localhost?socket={}", socket.display())
            }
        }
    }

    /// The asset's table in the configuration.
    pub(crate) fn asset(&self, name: &str, databases: &[&str]) -> String {
        let list = databases
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect::<Vec<_>>()
            .join(", ");
        match self {
            Self::Postgresql(server) => format!(
                "[asset.{name}]\nsource = \"postgresql\"\nclass = \"database\"\nurl = \"{}\"\n\
                 databases = [{list}]\n[asset.{name}-roles]\nsource = \"postgresql\"\nclass = \"secret\"\n\
                 url = \"{}\"\n",
                server.url("postgres"),
                server.url("postgres"),
            ),
            Self::Mariadb(server) => {
                let url = format!(
                    "mariadb://root@localhost?socket={}",
                    server.socket().display()
                );
                format!(
                    "[asset.{name}]\nsource = \"mariadb\"\nclass = \"database\"\nurl = \"{url}\"\n\
                     databases = [{list}]\n[asset.{name}-roles]\nsource = \"mariadb\"\nclass = \"secret\"\n\
                     url = \"{url}\"\n",
                )
            }
        }
    }
}

/// A host with a server and the databases of a certctl and an akamu on it.
pub(crate) struct ServerHost {
    pub(crate) host: Host,
    pub(crate) server: Server,
}

pub(crate) const DATABASES: [&str; 2] = ["akamu", "certctl"];

impl ServerHost {
    pub(crate) fn new(kind: Kind, certificates: u32) -> Self {
        Self::with_options(kind, certificates, &Options::for_tests())
    }

    pub(crate) fn with_options(kind: Kind, certificates: u32, options: &Options) -> Self {
        let server = Server::start(kind, options);
        for database in DATABASES {
            server.create(database);
        }
        let (akamu, certctl) = match kind {
            Kind::Postgresql => (
                fixtures::postgresql_akamu(certificates),
                fixtures::postgresql_certctl(certificates),
            ),
            Kind::Mariadb => (
                fixtures::mariadb_akamu(certificates),
                fixtures::mariadb_certctl(certificates),
            ),
        };
        server.sql("akamu", &akamu);
        server.sql("certctl", &certctl);
        let host = Host::new();
        host.learn_secret(fixtures::PLANTED);
        host.configure(&server.asset("ca-db", &DATABASES));
        Self { host, server }
    }

    /// Loses rows, gains others, loses a table: what must not be there after a restore.
    pub(crate) fn damage(&self) {
        let more = "create table not_in_the_backup (id int primary key); insert into not_in_the_backup values (1);";
        for (database, lost) in [
            (
                "akamu",
                "delete from _sqlx_migrations; update certificates set status = 'revoked';",
            ),
            (
                "certctl",
                "delete from schema_migrations; drop table crl_cache;",
            ),
        ] {
            self.server.sql(database, &format!("{lost} {more}"));
        }
    }

    pub(crate) fn dumps(&self) -> Vec<String> {
        DATABASES.map(|name| self.server.dump(name)).to_vec()
    }

    /// The same without the values of counters: both servers let them jump when they are killed.
    pub(crate) fn dumps_but_counters(&self) -> Vec<String> {
        let is_counter = |line: &&str| line.contains("setval(") || line.contains("AUTO_INCREMENT=");
        let without = |dump: String| {
            let lines = dump.lines().filter(|line| !is_counter(line));
            lines.collect::<Vec<_>>().join("\n")
        };
        self.dumps().into_iter().map(without).collect()
    }

    /// Asserts that both databases are as in `wanted`, and shows the lines that differ.
    #[track_caller]
    pub(crate) fn assert_dumps(&self, wanted: &[String], when: &str) {
        assert_same(&DATABASES, &self.dumps(), wanted, when);
    }

    #[track_caller]
    pub(crate) fn assert_dumps_but_counters(&self, wanted: &[String], when: &str) {
        assert_same(&DATABASES, &self.dumps_but_counters(), wanted, when);
    }

    /// Arguments of a restore of the databases alone, with the identity that opens them.
    pub(crate) fn restore(&self, more: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = ["restore"]
            .into_iter()
            .chain(more.iter().copied())
            .map(str::to_owned)
            .collect();
        all.extend(["--identity".to_owned(), self.host.text("id/database")]);
        all
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.host.path("host/state/restore/plan.json")
    }

    #[track_caller]
    pub(crate) fn assert_no_leftovers(&self, when: &str) {
        assert_eq!(self.server.databases(), DATABASES, "{when}");
        assert!(!self.journal().exists(), "{when}");
    }
}

#[track_caller]
pub(crate) fn assert_same(names: &[&str], now: &[String], wanted: &[String], when: &str) {
    for (database, (now, wanted)) in names.iter().zip(now.iter().zip(wanted)) {
        if now == wanted {
            continue;
        }
        let only = |one: &str, other: &str| {
            let other: std::collections::BTreeSet<&str> = other.lines().collect();
            let mut lines = one.lines().filter(|line| !other.contains(line));
            lines
                .by_ref()
                .take(5)
                .map(|line| format!("{line:.300}"))
                .collect::<Vec<_>>()
        };
        panic!(
            "{database} {when}: too much {:#?}, missing {:#?}, lines {} for {}",
            only(now, wanted),
            only(wanted, now),
            now.lines().count(),
            wanted.lines().count()
        );
    }
}
