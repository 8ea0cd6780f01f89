//! A throwaway PostgreSQL cluster.
//!
//! Owns how a cluster is made, started and stopped, and how a script is run in it. Knows nothing of backups.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::process::Signal;

use super::process::{Instance, PATIENCE, POLL, Program, free_port, pause};
use super::{Durability, Listen, Options, ThrowawayError};

/// The port in the socket's name where TCP is not used; the directory is private.
const SOCKET_PORT: u16 = 5432;

/// The longest name of a socket.
const SOCKET: &str = ".s.PGSQL.65535";

const SUPERUSER: &str = "postgres";

/// A cluster of its own; it is stopped and removed on drop.
#[derive(Debug)]
pub struct Cluster {
    instance: Instance,
    programs: Programs,
    data: PathBuf,
    port: u16,
    is_tcp: bool,
    durability: Durability,
    settings: Vec<(String, String)>,
}

#[derive(Debug)]
struct Programs {
    initdb: Program,
    postgres: Program,
    pg_isready: Program,
    psql: Program,
}

impl Cluster {
    /// Makes a cluster (UTF-8, locale C) and starts it; ready when this returns.
    pub fn start(options: &Options) -> Result<Self, ThrowawayError> {
        let programs = Programs::find(options.programs.as_deref())?;
        let instance = Instance::create(options, "postgres", SOCKET, Signal::QUIT)?;
        let data = instance.subdirectory("data")?;
        let password = match &options.listen {
            Listen::Socket => None,
            Listen::Loopback { password } => Some(instance.file("password", password.as_bytes())?),
        };
        let mut initdb = instance.command(&programs.initdb);
        initdb
            .arg("--pgdata")
            .arg(&data)
            .args(["--username", SUPERUSER, "--encoding=UTF8", "--locale=C"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            // Nothing of this is worth keeping through a crash before the cluster has started.
            .arg("--no-sync");
        if let Some(password) = &password {
            initdb.arg("--pwfile").arg(password);
        }
        Instance::run(&programs.initdb, &mut initdb, b"")?;
        if let Some(path) = password {
            std::fs::remove_file(&path).map_err(ThrowawayError::io("remove", &path))?;
        }
        let is_tcp = matches!(options.listen, Listen::Loopback { .. });
        let mut this = Self {
            instance,
            programs,
            data,
            port: if is_tcp { free_port()? } else { SOCKET_PORT },
            is_tcp,
            durability: options.durability,
            settings: options.settings.clone(),
        };
        this.run()?;
        Ok(this)
    }

    /// The directory of the socket: the `host` of a connection.
    pub fn socket_directory(&self) -> &Path {
        self.instance.path()
    }

    /// The port: the one in the socket's name, and that of TCP where it is used.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address for TCP, with [`Listen::Loopback`].
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        let address = (Ipv4Addr::LOCALHOST, self.port);
        self.is_tcp.then(|| address.into())
    }

    /// The name of the superuser, who needs no password on the socket.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The directory of the cluster's data.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The directory of the programs, unless they are found by `PATH`.
    pub fn programs(&self) -> Option<&Path> {
        let directory = self.programs.postgres.path.parent()?;
        (!directory.as_os_str().is_empty()).then_some(directory)
    }

    /// The URL of a database, through the socket, as the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as(database, SUPERUSER)
    }

    /// The URL of a database, through the socket, as this role.
    pub fn url_as(&self, database: &str, role: &str) -> String {
        let directory = self.socket_directory().to_string_lossy();
        format!(
            "postgresql:///{}?host={}&port={}&user={}",
            encoded(database),
            encoded(&directory),
            self.port,
            encoded(role)
        )
    }

    /// Runs a script in a database as the superuser and gives the rows, unaligned, a line each. The first error ends it.
    pub fn psql(&self, database: &str, script: &str) -> Result<String, ThrowawayError> {
        let mut command = self.client(&self.programs.psql);
        command
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            // Terse: the details of an error quote rows.
            .args(["--set", "ON_ERROR_STOP=1", "--set", "VERBOSITY=terse"])
            .arg("--dbname")
            .arg(format!("dbname={}", quoted(database)))
            .args(["--file", "-"]);
        Instance::run(&self.programs.psql, &mut command, script.as_bytes())
    }

    /// Creates a database of this name, empty, in UTF-8.
    pub fn create_database(&self, name: &str) -> Result<(), ThrowawayError> {
        let name = name.replace('"', "\"\"");
        let script = format!("CREATE DATABASE \"{name}\" TEMPLATE template0;\n");
        self.psql("postgres", &script).map(drop)
    }

    /// The process of the server, while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.instance.pid()
    }

    /// The end of the server's log since its last start, for messages.
    pub fn log(&self) -> String {
        self.instance.log()
    }

    /// Stops the server; sessions are ended, transactions rolled back (a fast shutdown). The data stays.
    pub fn stop(&mut self) -> Result<(), ThrowawayError> {
        self.instance.stop(&self.programs.postgres, Signal::INT)
    }

    /// Kills the server with SIGKILL, as a crash does. The data stays.
    pub fn kill(&mut self) {
        self.instance.kill();
    }

    /// Stops the server when it runs and starts it again on the same socket and port.
    pub fn restart(&mut self) -> Result<(), ThrowawayError> {
        self.stop()?;
        self.run()
    }

    fn run(&mut self) -> Result<(), ThrowawayError> {
        let begin = Instant::now();
        loop {
            let mut command = self.instance.command(&self.programs.postgres);
            command.args(self.arguments());
            let (port, ask) = (self.port, &self.programs.pg_isready);
            let started = self
                .instance
                .start(&self.programs.postgres, &mut command, |instance| {
                    let mut command = instance.command(ask);
                    client_arguments(&mut command, instance.path(), port);
                    let command = command.args(["--quiet", "--timeout=2"]);
                    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
                    command.status().is_ok_and(|status| status.success())
                });
            match started {
                // After a kill the server's children need a moment to notice.
                Err(ThrowawayError::Ended { log, .. })
                    if log.contains("shared memory block") && begin.elapsed() < PATIENCE =>
                {
                    pause(POLL);
                }
                other => return other,
            }
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("-D"), self.data.clone().into()];
        let addresses = if self.is_tcp { "127.0.0.1" } else { "" };
        let mut set = |name: &str, value: &str| {
            arguments.push("-c".into());
            arguments.push(format!("{name}={value}").into());
        };
        set("listen_addresses", addresses);
        set("port", &self.port.to_string());
        set("unix_socket_permissions", "0700");
        set("logging_collector", "off");
        set("log_destination", "stderr");
        set("lc_messages", "C");
        // Statements carry values, some of them secret.
        set("log_min_error_statement", "panic");
        set("log_error_verbosity", "terse");
        if self.durability == Durability::None {
            set("fsync", "off");
            set("full_page_writes", "off");
            set("max_wal_size", "4GB");
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        arguments.push("-c".into());
        let mut directory = OsString::from("unix_socket_directories=");
        directory.push(self.instance.path());
        arguments.push(directory);
        arguments
    }

    fn client(&self, program: &Program) -> std::process::Command {
        let mut command = self.instance.command(program);
        client_arguments(&mut command, self.instance.path(), self.port);
        command
    }
}

impl Programs {
    fn find(named: Option<&Path>) -> Result<Self, ThrowawayError> {
        let directories = installed();
        let server = |name| Program::find(name, "postgresql", named, &directories);
        let initdb = server("initdb")?;
        // The rest comes from the same version, whatever else PATH has.
        let beside = match initdb.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => Some(directory.to_owned()),
            _ => None,
        };
        let beside = beside.as_deref();
        let client = |name| Program::find(name, "postgresql-client", beside, &directories);
        Ok(Self {
            postgres: Program::find("postgres", "postgresql", beside, &directories)?,
            pg_isready: client("pg_isready")?,
            psql: client("psql")?,
            initdb,
        })
    }
}

/// Where packages put the programs, the newest version first.
fn installed() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix));
            if let Some(version) = version.and_then(|version| version.parse().ok()) {
                found.push((version, entry.path().join("bin")));
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

fn client_arguments(command: &mut std::process::Command, directory: &Path, port: u16) {
    command.arg("--host").arg(directory).args([
        "--port",
        &port.to_string(),
        "--username",
        SUPERUSER,
    ]);
}

/// A value in a connection string: a bare name with `=` in it would be read as such a string.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A part of a URL.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_and_quoted() {
        assert_eq!(encoded("/tmp/a b?c=d"), "/tmp/a%20b%3Fc%3Dd");
        assert_eq!(encoded("ü"), "%C3%BC");
        assert_eq!(quoted(r"a'b\c"), r"'a\'b\\c'");
    }
}
