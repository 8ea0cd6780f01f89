//! The private directory of a throwaway server, the account it runs as, its process, and the watching shell.
//!
//! Knows no kind of server. Signals only processes that it started and has not yet reaped.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use strongroom_core::private_file;
use tempfile::TempDir;

use super::{Options, ThrowawayError};

/// The longest path of a Unix socket, in bytes (Linux: `sun_path` with its final zero has 108).
pub(super) const SOCKET_PATH_MAX: usize = 107;

/// How long a server may take to get ready or to stop; recovery after a kill counts.
pub(super) const PATIENCE: Duration = Duration::from_mins(2);

/// How long a server that is thrown away may take before it is killed.
const LAST_PATIENCE: Duration = Duration::from_secs(15);

/// How often a server is asked.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// How much of a log or of an error output goes into an error, in bytes.
const TAIL: usize = 2_000;

/// Variables of the caller that would lead the programs elsewhere.
const MISLEADING: &[&str] = &[
    "PGAPPNAME",
    "PGCLUSTER",
    "PGCLIENTENCODING",
    "PGDATA",
    "PGDATABASE",
    "PGHOST",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLMODE",
    "PGTZ",
    "PGUSER",
    "MYSQL_HOME",
    "MYSQL_HOST",
    "MYSQL_PWD",
    "MYSQL_TCP_PORT",
    "MYSQL_UNIX_PORT",
    "MARIADB_HOME",
    "NOTIFY_SOCKET",
];

/// Reads pids, a line for each server started, `0` for none, `done` for the end. When the lines end without `done`,
/// the caller was killed: it ends the last server and removes the directory.
const WATCH: &str = r#"
pid=0
while read -r line; do
    [ "$line" = done ] && exit 0
    pid=$line
done
if [ "$pid" -gt 0 ]; then
    kill -s "$2" "$pid"
    tries=0
    while kill -0 "$pid"; do
        tries=$((tries + 1))
        [ "$tries" -eq 100 ] && kill -s KILL "$pid"
        [ "$tries" -ge 150 ] && break
        sleep 0.1
    done
fi
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"#;

/// A program of a server's package.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    /// A path, or the bare name when it is found by `PATH`.
    pub(super) path: PathBuf,
}

impl Program {
    /// In `named` only when that is given, else by `PATH`, else in the first of `directories` that has it.
    pub(super) fn find(
        name: &'static str,
        package: &'static str,
        named: Option<&Path>,
        directories: &[PathBuf],
    ) -> Result<Self, ThrowawayError> {
        let inside = |directory: &Path| {
            let path = directory.join(name);
            path.is_file().then_some(path)
        };
        let path = match named {
            Some(directory) => inside(directory),
            None if answers(name) => Some(PathBuf::from(name)),
            None => directories.iter().find_map(|one| inside(one)),
        };
        match path {
            Some(path) => Ok(Self {
                name,
                package,
                path,
            }),
            None => Err(ThrowawayError::ProgramMissing {
                program: name,
                package,
            }),
        }
    }

    fn failed(&self, source: io::Error) -> ThrowawayError {
        if source.kind() == io::ErrorKind::NotFound {
            ThrowawayError::ProgramMissing {
                program: self.name,
                package: self.package,
            }
        } else {
            ThrowawayError::Start {
                program: self.name,
                source,
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts the programs of throwaway servers"
)]
fn program(path: &Path) -> Command {
    Command::new(path)
}

/// Whether `PATH` leads to a program of this name.
fn answers(name: &str) -> bool {
    program(Path::new(name))
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// An account that is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// The private directory with what runs in it.
#[derive(Debug)]
pub(super) struct Instance {
    /// Taken when it is removed.
    directory: Option<TempDir>,
    path: PathBuf,
    /// None: the caller's own.
    account: Option<Account>,
    server: Option<Child>,
    watch: Child,
    lines: ChildStdin,
    last_signal: Signal,
}

impl Instance {
    /// An empty directory. `account` runs the server when the caller is root; `socket` is the longest name of a socket in
    /// it; `last_signal` ends a server whose data nobody needs, without leaving processes or shared memory behind.
    pub(super) fn create(
        options: &Options,
        account: &'static str,
        socket: &str,
        last_signal: Signal,
    ) -> Result<Self, ThrowawayError> {
        let account = if geteuid().is_root() {
            Some(Account::find(account)?)
        } else {
            None
        };
        let parent = parent(options, account.is_some(), socket);
        let directory = tempfile::Builder::new()
            .prefix("sr-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(ThrowawayError::io("make a directory in", &parent))?;
        let path = directory.path().to_owned();
        let longest = path.join(socket);
        if longest.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(ThrowawayError::SocketPath { path: longest });
        }
        let (watch, lines) = watch(&path, last_signal)?;
        let this = Self {
            directory: Some(directory),
            path,
            account,
            server: None,
            watch,
            lines,
            last_signal,
        };
        this.give_away(&this.path)?;
        Ok(this)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory for the server, 0700.
    pub(super) fn subdirectory(&self, name: &str) -> Result<PathBuf, ThrowawayError> {
        let path = self.path.join(name);
        private_file::create_dir_all(&path).map_err(ThrowawayError::io("make", &path))?;
        self.give_away(&path)?;
        Ok(path)
    }

    /// Makes a file that only the server and the caller read.
    #[cfg(feature = "source-postgresql")]
    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, ThrowawayError> {
        let path = self.path.join(name);
        private_file::create_new(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(ThrowawayError::io("write", &path))?;
        self.give_away(&path)?;
        Ok(path)
    }

    fn give_away(&self, path: &Path) -> Result<(), ThrowawayError> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
            .map_err(ThrowawayError::io("give away", path))
    }

    /// A program, as the server's account: what it is fed may come from a backup, and psql can start programs.
    pub(super) fn command(&self, which: &Program) -> Command {
        let mut command = program(&which.path);
        if let Some(account) = &self.account {
            // std gives up the supplementary groups of root with this.
            command.uid(account.uid).gid(account.gid);
        }
        for name in MISLEADING {
            command.env_remove(name);
        }
        command
            .env("LC_ALL", "C")
            .env("HOME", &self.path)
            .current_dir(&self.path)
            .stdin(Stdio::null());
        command
    }

    /// Runs a program of [`Self::command`] to its end and gives what it wrote.
    pub(super) fn run(
        which: &Program,
        command: &mut Command,
        input: &[u8],
    ) -> Result<String, ThrowawayError> {
        let output = fed(command, input).map_err(|error| which.failed(error))?;
        if !output.status.success() {
            return Err(ThrowawayError::Failed {
                program: which.name,
                status: output.status,
                message: tail(&output.stderr),
            });
        }
        String::from_utf8(output.stdout).map_err(|_| ThrowawayError::NotText {
            program: which.name,
        })
    }

    /// Starts the server and waits until `is_ready` says so.
    pub(super) fn start(
        &mut self,
        which: &Program,
        command: &mut Command,
        is_ready: impl Fn(&Self) -> bool,
    ) -> Result<(), ThrowawayError> {
        let log = self.log_file()?;
        let errors = log.try_clone().map_err(|error| which.failed(error))?;
        // Its own group: an interruption at the terminal is for the program, which then ends its server.
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| which.failed(error))?;
        self.tell(child.id());
        self.server = Some(child);
        let begin = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Err(ThrowawayError::Ended {
                    program: which.name,
                    status,
                    log: self.log(),
                });
            }
            if is_ready(self) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.too_slow(which.name, "get ready"));
            }
            pause(POLL);
        }
    }

    /// The process of the server, while it runs.
    pub(super) fn pid(&mut self) -> Option<u32> {
        self.ended();
        self.server.as_ref().map(Child::id)
    }

    /// Asks the server to end and waits for it; does nothing when it does not run.
    pub(super) fn stop(&mut self, which: &Program, signal: Signal) -> Result<(), ThrowawayError> {
        self.signal(signal);
        if self.wait(PATIENCE) {
            return Ok(());
        }
        let error = self.too_slow(which.name, "stop");
        self.kill();
        Err(error)
    }

    /// Kills the server with SIGKILL; does nothing when it does not run.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(LAST_PATIENCE);
    }

    /// The end of the server's log.
    pub(super) fn log(&self) -> String {
        tail(&std::fs::read(self.log_path()).unwrap_or_default())
    }

    fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Begins a new log: an error quotes this start, not an earlier one.
    fn log_file(&self) -> Result<File, ThrowawayError> {
        let path = self.log_path();
        private_file::create_or_truncate(&path).map_err(ThrowawayError::io("write", &path))
    }

    fn too_slow(&self, program: &'static str, what: &'static str) -> ThrowawayError {
        ThrowawayError::TooSlow {
            program,
            what,
            seconds: PATIENCE.as_secs(),
            log: self.log(),
        }
    }

    /// Signals the server; until it is reaped, its number is nobody else's.
    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(server) = &self.server
        {
            // It may have ended meanwhile, which is what is wanted.
            let _ = kill_process(Pid::from_child(server), signal);
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.server.as_mut()?.try_wait().ok().flatten()?;
        self.server = None;
        self.tell(0);
        Some(status)
    }

    fn wait(&mut self, patience: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if self.server.is_none() || self.ended().is_some() {
                return true;
            }
            if begin.elapsed() > patience {
                return false;
            }
            pause(POLL / 5);
        }
    }

    fn tell(&mut self, pid: u32) {
        // Without the watching shell the server ends with this value all the same.
        let _ = writeln!(self.lines, "{pid}");
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.signal(self.last_signal);
        if !self.wait(LAST_PATIENCE) {
            self.kill();
        }
        if let Some(directory) = self.directory.take() {
            let path = directory.keep();
            let begin = Instant::now();
            // Processes of a killed server may still be writing for a moment.
            while std::fs::remove_dir_all(&path).is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
            {
                if begin.elapsed() > LAST_PATIENCE {
                    tracing::warn!("cannot remove {}: remove it by hand", path.display());
                    break;
                }
                pause(POLL);
            }
        }
        if writeln!(self.lines, "done").is_err() {
            let _ = self.watch.kill();
        }
        let _ = self.watch.wait();
    }
}

impl Account {
    fn find(preferred: &'static str) -> Result<Self, ThrowawayError> {
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::among(&accounts, preferred)
            .or_else(|| Self::among(&accounts, "nobody"))
            .ok_or(ThrowawayError::NoAccount { preferred })
    }

    /// The account of this name in a text like `/etc/passwd`, unless it is root's.
    fn among(accounts: &str, name: &str) -> Option<Self> {
        let mut fields = accounts
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

/// A port of 127.0.0.1 that nobody used a moment ago.
pub(super) fn free_port() -> Result<u16, ThrowawayError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(ThrowawayError::io(
            "find a free port on",
            Path::new("127.0.0.1"),
        ))
}

/// Waits; for another process, which no channel announces.
pub(super) fn pause(time: Duration) {
    let (_sender, receiver) = channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// The directory for temporary files, or /tmp where that is too deep for a socket or closed to the server's account.
fn parent(options: &Options, is_foreign: bool, socket: &str) -> PathBuf {
    /// What is made in it: a slash, a prefix and six letters, a slash.
    const NAME: usize = "/sr-abcdef/".len();
    if let Some(parent) = &options.parent {
        return parent.clone();
    }
    let usual = std::env::temp_dir();
    let is_short = usual.as_os_str().as_bytes().len() + NAME + socket.len() <= SOCKET_PATH_MAX;
    let is_open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    if is_short && (!is_foreign || usual.ancestors().all(is_open)) {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}

/// Starts the shell that ends the server when the caller is killed.
fn watch(directory: &Path, signal: Signal) -> Result<(Child, ChildStdin), ThrowawayError> {
    let signal = if signal == Signal::QUIT {
        "QUIT"
    } else {
        "KILL"
    };
    let mut child = program(Path::new("/bin/sh"))
        .args(["-c", WATCH, "sh"])
        .arg(directory)
        .arg(signal)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| ThrowawayError::Start {
            program: "sh",
            source,
        })?;
    let lines = child.stdin.take().expect("its input is a pipe");
    Ok((child, lines))
}

/// Runs a program with this input.
fn fed(command: &mut Command, input: &[u8]) -> io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    std::thread::scope(|scope| {
        // A program that ends early says why itself.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    })
}

/// The end of a text, from a line's beginning where it is cut.
fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    if text.len() <= TAIL {
        return text.to_owned();
    }
    let (_, end) = text.split_at(text.ceil_char_boundary(text.len() - TAIL));
    end.split_once('\n')
        .map_or(end, |(_, rest)| rest)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_root_is_none() {
        let accounts = "root:x:0:0::/root:/bin/sh\nab:x:7:8:A,B:/:/bin/false\nbad:x:z:1::/:\n";
        let found = |name| Account::among(accounts, name);
        assert_eq!(found("ab"), Some(Account { uid: 7, gid: 8 }));
        assert_eq!(
            (found("root"), found("bad"), found("a")),
            (None, None, None)
        );
    }

    #[test]
    fn a_long_text_is_cut_at_a_line() {
        let text = format!("{}\nthe end\n", "ä".repeat(TAIL));
        assert_eq!(tail(text.as_bytes()), "the end");
        assert_eq!(tail(b" short \n"), "short");
    }
}
