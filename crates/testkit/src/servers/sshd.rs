//! A private OpenSSH server on loopback: its own keys, its own configuration, SFTP for this account and nothing else.
//!
//! It runs as root and as an ordinary user, logs into its own directory, and ends with all its sessions when it is
//! dropped. It never reads the system's configuration or the account's own keys.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Sshd {
    directory: tempfile::TempDir,
    address: SocketAddr,
    user: String,
    child: Option<Child>,
}

impl Sshd {
    /// Where the program lies; `None` where it is not installed.
    pub fn program() -> Option<PathBuf> {
        let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
        places.map(PathBuf::from).into_iter().find(|at| at.exists())
    }

    /// Starts one whose sessions run `internal-sftp` with these arguments, for instance `-P remove`.
    pub fn start(arguments: &str) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sr-sshd-").tempdir()?;
        let user = said(command("id").arg("-un"))?;
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut server = Self {
            address: socket.local_addr()?,
            directory,
            user,
            child: None,
        };
        drop(socket);
        for name in ["host", "client", "stranger"] {
            server.make_key(name)?;
        }
        fs::copy(server.path("client.pub"), server.path("authorized"))?;
        server.configure(arguments)?;
        server.restart()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The account that may log in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key that it knows.
    pub fn key(&self) -> PathBuf {
        self.path("client")
    }

    /// A private key that it does not know.
    pub fn strange_key(&self) -> PathBuf {
        self.path("stranger")
    }

    /// Its host key: kind and key.
    pub fn host_key(&self) -> io::Result<String> {
        self.public_key("host")
    }

    /// A host key that is not its own.
    pub fn strange_host_key(&self) -> io::Result<String> {
        self.public_key("stranger")
    }

    /// Changes what its sessions may do; holds for new ones.
    pub fn configure(&self, arguments: &str) -> io::Result<()> {
        let mut text = String::new();
        let at = |name| self.path(name).display().to_string();
        let lines = [
            ("ListenAddress", self.address.to_string()),
            ("HostKey", at("host")),
            ("AuthorizedKeysFile", at("authorized")),
            ("AllowUsers", self.user.clone()),
            ("PidFile", "none".into()),
            ("UsePAM", "no".into()),
            ("StrictModes", "no".into()),
            ("PasswordAuthentication", "no".into()),
            ("KbdInteractiveAuthentication", "no".into()),
            ("PermitRootLogin", "yes".into()),
            ("MaxStartups", "100".into()),
            ("LogLevel", "VERBOSE".into()),
            ("Subsystem", format!("sftp internal-sftp {arguments}")),
        ];
        for (key, value) in lines {
            writeln!(text, "{key} {value}").expect("a string takes everything");
        }
        write(&self.path("config"), &text)
    }

    /// Ends it with all its sessions, at once.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let group = format!("-{}", child.id());
            // Its own process group: the sessions are in it.
            let _ = command("kill").args(["-9", "--", &group]).status();
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, with what was configured.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let program = Self::program().ok_or(io::ErrorKind::NotFound)?;
        if self.user == "root" {
            // Where Debian's sshd shuts in what is not logged in yet.
            fs::create_dir_all("/run/sshd")?;
        }
        let child = command(program.as_os_str())
            .args(["-D", "-f"])
            .arg(self.path("config"))
            .arg("-E")
            .arg(self.path("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let child = self.child.insert(child);
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("sshd: {}", self.log())));
            }
            pause();
        }
        Ok(())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Seals a private key with a passphrase.
    pub fn close_key(&self, file: &Path) -> io::Result<()> {
        let mut close = command("ssh-keygen");
        close.args(["-q", "-p", "-P", "", "-N", "planted-passphrase", "-f"]);
        said(close.arg(file)).map(drop)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make_key(&self, name: &str) -> io::Result<()> {
        let mut make = command("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
        said(make.arg(self.path(name))).map(drop)
    }

    fn public_key(&self, name: &str) -> io::Result<String> {
        let text = fs::read_to_string(self.path(&format!("{name}.pub")))?;
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        Ok(words.join(" "))
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a program prints, without the line's end.
fn said(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(why));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "a test server is a program")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

#[expect(clippy::disallowed_methods, reason = "nothing in it is a secret")]
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

#[expect(clippy::disallowed_methods, reason = "a server takes time to start")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
