//! The pages of the database servers, each followed on a throwaway server with the databases of two CAs, and that of tokens.

use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_adapters::throwaway::{Listen, Options, mariadb, postgresql};
use strongroom_testkit::servers::softhsm::{PIN, SoftHsm};
use strongroom_testkit::{fixtures, skip};
use zeroize::Zeroizing;

use super::page::Page;
use super::{PASSPHRASE, PLAIN, authority, programs};

const DATABASES: [&str; 2] = ["akamu", "certctl"];
const CERTIFICATES: u32 = 200;

/// Follows the page on PostgreSQL, and compares the databases with what they were.
pub(crate) fn postgresql() {
    let server = postgresql::Cluster::start(&options()).expect("PostgreSQL");
    for (name, fill) in [
        ("akamu", fixtures::postgresql_akamu(CERTIFICATES)),
        ("certctl", fixtures::postgresql_certctl(CERTIFICATES)),
    ] {
        server.create_database(name).expect("creates");
        server.psql(name, &fill).expect("fills");
    }
    let host = Host::new();
    // What Debian has in the PATH chooses among versions first.
    let found = [
        "psql",
        "pg_dump",
        "pg_dumpall",
        "pg_restore",
        "createdb",
        "vacuumdb",
    ];
    host.link(server.programs(), &found);
    let dump = |name: &str| {
        let program = host.programs.join("pg_dump");
        let mut command = Command::new(program);
        lines(command.arg("-d").arg(server.url(name)))
    };
    let before = DATABASES.map(dump);
    let socket = server.socket_directory().display();
    let address = server.tcp_address().expect("listens");
    let port = server.port().to_string();
    let said = host.follow(
        "sources/postgresql.md",
        &[
            ("SERVER", address.to_string()),
            (
                "ADMIN",
                format!("postgresql://postgres@?host={socket}&port={port}"),
            ),
            ("PGHOST", socket.to_string()),
            ("PGPORT", port),
            ("PGUSER", server.superuser().to_owned()),
        ],
    );
    compare(&before, &DATABASES.map(dump));
    let left = server
        .psql(
            "postgres",
            "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1",
        )
        .expect("answers");
    assert_eq!(left.trim(), "akamu\ncertctl\npostgres");
    host.assert_no_secret(&said, "postgresql.password");
}

/// Follows the page on MariaDB, and compares the databases with what they were.
pub(crate) fn mariadb() {
    let server = mariadb::Server::start(&options()).expect("MariaDB");
    for (name, fill) in [
        ("akamu", fixtures::mariadb_akamu(CERTIFICATES)),
        ("certctl", fixtures::mariadb_certctl(CERTIFICATES)),
    ] {
        server.create_database(name).expect("creates");
        server.sql(name, &fill).expect("fills");
    }
    let host = Host::new();
    host.link(None, &["mariadb", "mariadb-dump"]);
    let options = format!(
        "[client]\nsocket={}\nuser={}\n",
        server.socket().display(),
        server.superuser()
    );
    authority::write(&host.path(".my.cnf"), options.as_bytes());
    let dump = |name: &str| {
        let mut command = Command::new(host.programs.join("mariadb-dump"));
        let options = host.path(".my.cnf");
        command
            .arg(format!("--defaults-file={}", options.display()))
            .args(["--single-transaction", "--hex-blob", "--order-by-primary"])
            .args(["--routines", "--events", "--triggers", "--skip-comments"])
            .arg(name);
        lines(&mut command)
    };
    let before = DATABASES.map(dump);
    let address = server.tcp_address().expect("listens");
    let said = host.follow(
        "sources/mariadb.md",
        &[
            ("SERVER", address.to_string()),
            ("CLIENT", address.ip().to_string()),
        ],
    );
    compare(&before, &DATABASES.map(dump));
    host.assert_no_secret(&said, "mariadb-backup.password");
    host.assert_no_secret(&said, "mariadb-restore.password");
}

/// Follows the page on PKCS#11 tokens, with those of SoftHSM2.
pub(crate) fn pkcs11() {
    let Some(module) = SoftHsm::module() else {
        return skip(
            "the_page_of_pkcs11_can_be_followed",
            "softhsm2 or opensc is not installed",
        );
    };
    let hsm = SoftHsm::new();
    hsm.init_token("ca");
    for (id, label, kind) in [
        ("01", "root", "rsa:3072"),
        ("02", "issuing ca", "EC:prime256v1"),
    ] {
        hsm.key("ca", (id, label), kind, true);
        hsm.certificate("ca", id, (id, label));
    }
    let host = Host::new();
    let names = [
        "cmp",
        "od",
        "openssl",
        "pkcs11-tool",
        "shred",
        "softhsm2-util",
        "tr",
    ];
    host.link(None, &names);
    std::fs::create_dir(host.path("etc")).expect("a directory");
    authority::write(&host.path("etc/hsm.pin"), format!("{PIN}\n").as_bytes());
    let configuration = hsm.configuration();
    let said = host.follow(
        "sources/pkcs11.md",
        &[
            ("SOFTHSM2_CONF", configuration.display().to_string()),
            ("MODULE", module.display().to_string()),
        ],
    );
    host.assert_no_secret(&said, "hsm.pin");
    host.assert_no_secret(&said, "new.pin");
}

fn options() -> Options {
    let mut options = Options::for_tests();
    options.listen = Listen::Loopback {
        password: Zeroizing::new("planted-superuser".to_owned()),
    };
    options
}

/// The host of a page: a place for its files, its programs, and identities made before.
struct Host {
    place: tempfile::TempDir,
    programs: PathBuf,
}

impl Host {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        // Client programs are started by the shell, which reads their password.
        let programs = programs(&place.path().join("bin"), &[&PLAIN[..], &["sh"]].concat());
        let strongroom = Path::new(env!("CARGO_BIN_EXE_strongroom"));
        std::os::unix::fs::symlink(strongroom, programs.join("strongroom")).expect("a link");
        let host = Self { place, programs };
        authority::write(&host.path("passphrase"), PASSPHRASE.as_bytes());
        std::fs::create_dir(host.path("custodian")).expect("a directory");
        for name in ["database", "keys"] {
            let file = host.path(&format!("custodian/{name}.identity"));
            let made = Command::new(strongroom)
                .args(["identity", "new", "--out"])
                .arg(file)
                .env("STRONGROOM_PASSPHRASE_FILE", host.path("passphrase"))
                .output()
                .expect("the program");
            assert!(made.status.success());
            let recipient = host.path(&format!("custodian/{name}.recipient"));
            authority::write(&recipient, &made.stdout);
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Puts programs of a server where the page finds them.
    fn link(&self, directory: Option<&Path>, names: &[&str]) {
        let Some(directory) = directory else {
            let others = programs(&self.path("server-bin"), names);
            return self.link(Some(&others), names);
        };
        for name in names {
            let program = directory.join(name);
            std::os::unix::fs::symlink(program, self.programs.join(name)).expect("a link");
        }
    }

    /// Executes a page, and returns what it said.
    fn follow(&self, page: &str, more: &[(&str, String)]) -> String {
        let mut command = Command::new("bash");
        command
            .env_clear()
            .env("PATH", &self.programs)
            .env("HOME", self.place.path())
            .env("LC_ALL", "C.UTF-8")
            .env("ETC", self.path("etc"))
            .env("STATE", self.path("state"))
            .env("BACKUPS", self.path("backups"))
            .env("KEYSAFE", self.path("keysafe"))
            .env("CUSTODIAN", self.path("custodian"))
            .env("LOOK", self.path("look"))
            .env("STRONGROOM_PASSPHRASE_FILE", self.path("passphrase"))
            .envs(more.iter().map(|(name, value)| (name, value)))
            .current_dir(self.place.path());
        Page::read(page).execute(&mut command)
    }

    /// Asserts that neither a planted password nor the one in this file was shown.
    fn assert_no_secret(&self, said: &str, file: &str) {
        let password = std::fs::read_to_string(self.path("etc").join(file)).expect("a password");
        assert!(!said.contains(password.trim()), "{file} was shown");
        assert!(!said.contains(fixtures::PLANTED), "a password was shown");
    }
}

/// The lines of a dump, sorted, because the order of rows says nothing, without those that differ at each dump.
fn lines(command: &mut Command) -> Vec<String> {
    let output = command.output().expect("the dump program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("restrict "))
        .map(|line| {
            // PostgreSQL itself writes `(a AND b) AND c` without the inner brackets once it has read it again.
            if line.contains("CHECK (") {
                line.replace(['(', ')'], "")
            } else {
                line.to_owned()
            }
        })
        .collect();
    lines.sort_unstable();
    lines
}

#[track_caller]
fn compare(before: &[Vec<String>; 2], after: &[Vec<String>; 2]) {
    for ((database, before), after) in DATABASES.iter().zip(before).zip(after) {
        let difference = before.iter().zip(after).find(|(one, other)| one != other);
        assert!(
            before == after,
            "{database}: {} lines, now {}; the first that differs: {difference:.300?}",
            before.len(),
            after.len()
        );
    }
}
