//! Throwaway database servers: a server in a private temporary directory that goes with its value.
//!
//! Owns what both kinds of server share: options and errors here, directory, account and process in [`process`].
//! A server listens on a Unix socket that only its own account and the caller reach, runs as an unprivileged
//! account when the program runs as root, and is stopped and removed on drop. Were this program killed, a
//! watching shell ends the server and removes the directory. It never touches a server that it did not start.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

#[cfg(feature = "source-mariadb")]
pub mod mariadb;
#[cfg(feature = "source-postgresql")]
pub mod postgresql;
mod process;

/// What a crash of the machine may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed: the server's own settings.
    #[default]
    Full,
    /// Everything: no fsync. A crash of the server alone still costs nothing.
    None,
}

/// Where a server can be reached.
#[derive(Clone, Default)]
pub enum Listen {
    /// On its Unix socket only.
    #[default]
    Socket,
    /// On a free port of 127.0.0.1 too, where the superuser gives this password.
    Loopback {
        /// Not empty, one line.
        password: Zeroizing<String>,
    },
}

impl std::fmt::Debug for Listen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Socket => "Socket",
            Self::Loopback { .. } => "Loopback",
        })
    }
}

/// How a throwaway server is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What a crash of the machine may cost.
    pub durability: Durability,
    /// Where the server can be reached.
    pub listen: Listen,
    /// The directory of the server's programs; without it they are looked for where packages put them.
    pub programs: Option<PathBuf>,
    /// Where the private directory is made; without it, in the directory for temporary files.
    pub parent: Option<PathBuf>,
    /// Settings of the server, as `name` and `value`; they win over those of this module, but the socket stays where it is.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// For tests: a Unix socket, no fsync.
    pub fn for_tests() -> Self {
        Self {
            durability: Durability::None,
            ..Self::default()
        }
    }
}

/// A throwaway server cannot be made, started, asked or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThrowawayError {
    /// A program is not there.
    #[error(
        "{program} is not installed: install the Debian package {package}, or name the directory of the programs"
    )]
    ProgramMissing {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program cannot be started.
    #[error("cannot start {program}")]
    Start {
        /// Its name.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it said, without values of rows.
        message: String,
    },
    /// A program answered something else than text.
    #[error("the answer of {program} is not UTF-8")]
    NotText {
        /// Its name.
        program: &'static str,
    },
    /// No account is there to run the server as.
    #[error(
        "neither the account {preferred} nor nobody is in /etc/passwd, and the server does not run as root"
    )]
    NoAccount {
        /// The account that the server's package makes.
        preferred: &'static str,
    },
    /// The path of the socket is too long for the system.
    #[error(
        "the socket {path} has more than {} bytes: use a parent directory with a shorter path",
        process::SOCKET_PATH_MAX
    )]
    SocketPath {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file or directory cannot be made.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The server ended while it started.
    #[error("{program} ended while it started ({status}): {log}")]
    Ended {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not get ready, or did not stop, in time.
    #[error("{program} did not {what} within {seconds} seconds: {log}")]
    TooSlow {
        /// Its name.
        program: &'static str,
        /// What it was to do.
        what: &'static str,
        /// How long was waited.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
}

impl ThrowawayError {
    /// Wraps an I/O error with what was done and to which file.
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
