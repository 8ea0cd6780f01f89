//! A throwaway MariaDB server.
//!
//! Owns how a server is made, started and stopped, and how a script is run in it. Knows nothing of backups.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use zeroize::Zeroizing;

use super::process::{Instance, Program, free_port};
use super::{Durability, Listen, Options, ThrowawayError};

const SOCKET: &str = "socket";

const SUPERUSER: &str = "root";

/// A server of its own; it is stopped and removed on drop.
#[derive(Debug)]
pub struct Server {
    instance: Instance,
    programs: Programs,
    data: PathBuf,
    /// None: no TCP.
    port: Option<u16>,
    durability: Durability,
    settings: Vec<(String, String)>,
}

#[derive(Debug)]
struct Programs {
    install_db: Program,
    mariadbd: Program,
    admin: Program,
    mariadb: Program,
}

impl Server {
    /// Makes a server (utf8mb4, no option file read) and starts it; ready when this returns.
    pub fn start(options: &Options) -> Result<Self, ThrowawayError> {
        let programs = Programs::find(options.programs.as_deref())?;
        // A killed server leaves no process and no shared memory behind.
        let instance = Instance::create(options, "mysql", SOCKET, Signal::KILL)?;
        let data = instance.subdirectory("data")?;
        instance.subdirectory("tmp")?;
        let mut install = instance.command(&programs.install_db);
        install
            .arg("--no-defaults")
            .arg(assignment("--datadir", &data))
            // A server that starts removes what looks like a temporary table of another one.
            .arg(assignment("--tmpdir", &instance.path().join("tmp")))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        Instance::run(&programs.install_db, &mut install, b"")?;
        let port = match &options.listen {
            Listen::Socket => None,
            Listen::Loopback { .. } => Some(free_port()?),
        };
        let mut this = Self {
            instance,
            programs,
            data,
            port,
            durability: options.durability,
            settings: options.settings.clone(),
        };
        this.run()?;
        // No password by itself: these are for the socket, or for nobody.
        this.sql(
            "mysql",
            "DELETE FROM global_priv WHERE User = '' OR Host <> 'localhost';\nFLUSH PRIVILEGES;\n",
        )?;
        if let Listen::Loopback { password } = &options.listen {
            let password = Zeroizing::new(password.replace('\\', "\\\\").replace('\'', "''"));
            let script = Zeroizing::new(format!(
                "CREATE USER {SUPERUSER}@'127.0.0.1' IDENTIFIED BY '{}';\n\
                 GRANT ALL ON *.* TO {SUPERUSER}@'127.0.0.1' WITH GRANT OPTION;\n",
                password.as_str()
            ));
            this.sql("mysql", &script)?;
        }
        Ok(this)
    }

    /// The directory of the socket.
    pub fn socket_directory(&self) -> &Path {
        self.instance.path()
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.instance.path().join(SOCKET)
    }

    /// The port of TCP, with [`Listen::Loopback`].
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The address for TCP, with [`Listen::Loopback`].
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// The name of the superuser, who needs no password on the socket.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The directory of the server's data.
    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// Runs a script in a database as the superuser and gives the rows, tabs between the columns, a line each. The first
    /// error ends it. `mysql` is a database that is always there.
    pub fn sql(&self, database: &str, script: &str) -> Result<String, ThrowawayError> {
        let mut command = self.instance.command(&self.programs.mariadb);
        client_arguments(&mut command, &self.socket());
        command
            .args(["--batch", "--skip-column-names"])
            .args(["--default-character-set=utf8mb4", "--max-allowed-packet=1G"])
            .arg(format!("--database={database}"));
        Instance::run(&self.programs.mariadb, &mut command, script.as_bytes())
    }

    /// Creates a database of this name, empty, in utf8mb4.
    pub fn create_database(&self, name: &str) -> Result<(), ThrowawayError> {
        let name = name.replace('`', "``");
        let script = format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4;\n");
        self.sql("mysql", &script).map(drop)
    }

    /// The process of the server, while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.instance.pid()
    }

    /// The end of the server's log since its last start, for messages.
    pub fn log(&self) -> String {
        self.instance.log()
    }

    /// Stops the server in order. The data stays.
    pub fn stop(&mut self) -> Result<(), ThrowawayError> {
        self.instance.stop(&self.programs.mariadbd, Signal::TERM)
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
        let mut command = self.instance.command(&self.programs.mariadbd);
        command.args(self.arguments());
        let (socket, ask) = (self.socket(), &self.programs.admin);
        self.instance
            .start(&self.programs.mariadbd, &mut command, |instance| {
                let mut command = instance.command(ask);
                client_arguments(&mut command, &socket);
                let command = command.args(["--connect-timeout=2", "ping"]);
                let command = command.stdout(Stdio::null()).stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            })
    }

    fn arguments(&self) -> Vec<OsString> {
        let directory = self.instance.path();
        let mut arguments = vec![
            OsString::from("--no-defaults"),
            assignment("--datadir", &self.data),
            assignment("--pid-file", &directory.join("pid")),
            assignment("--tmpdir", &directory.join("tmp")),
            assignment("--secure-file-priv", &directory.join("tmp")),
            "--skip-name-resolve".into(),
            "--character-set-server=utf8mb4".into(),
            "--max-allowed-packet=1G".into(),
        ];
        match self.port {
            None => arguments.push("--skip-networking".into()),
            Some(port) => {
                arguments.push("--bind-address=127.0.0.1".into());
                arguments.push(format!("--port={port}").into());
            }
        }
        if self.durability == Durability::None {
            arguments.extend(
                [
                    // Written at each commit: only a crash of the machine loses it.
                    "--innodb-flush-log-at-trx-commit=2",
                    "--sync-binlog=0",
                    "--innodb-doublewrite=OFF",
                    "--innodb-flush-method=fsync",
                    "--debug-no-sync=ON",
                ]
                .map(OsString::from),
            );
        }
        let settings = self.settings.iter();
        arguments.extend(settings.map(|(name, value)| format!("--{name}={value}").into()));
        arguments.push(assignment("--socket", &self.socket()));
        arguments
    }
}

impl Programs {
    fn find(named: Option<&Path>) -> Result<Self, ThrowawayError> {
        let directories = ["/usr/bin", "/usr/sbin", "/usr/libexec"].map(PathBuf::from);
        let server = |name| Program::find(name, "mariadb-server-core", named, &directories);
        let client = |name| Program::find(name, "mariadb-client", named, &directories);
        Ok(Self {
            mariadbd: server("mariadbd")?,
            install_db: server("mariadb-install-db")?,
            admin: client("mariadb-admin")?,
            mariadb: client("mariadb")?,
        })
    }
}

fn client_arguments(command: &mut Command, socket: &Path) {
    command
        .arg("--no-defaults")
        .arg(assignment("--socket", socket))
        .arg("--protocol=socket")
        .arg(format!("--user={SUPERUSER}"));
}

fn assignment(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push("=");
    argument.push(path);
    argument
}
