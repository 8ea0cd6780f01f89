//! Identities: what opens backups, from files, from the keyboard, through plugins; and new ones.
//!
//! Nothing that is secret appears in an error, and what was read is wiped from memory.

mod file;
mod new;
mod passphrase;
mod plugin;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use strongroom_core::format::seal::BoxedIdentity;

pub(crate) use file::{load, typed};
pub(crate) use new::new_identity;
pub(crate) use passphrase::{PassphraseFile, PassphraseSource, Terminal, ask};

/// The identities that were found, and what is not right with their files.
pub(crate) struct Identities {
    /// All of them, in the order of the files.
    pub(crate) identities: Vec<BoxedIdentity>,
    /// What the operator should know.
    pub(crate) warnings: Vec<IdentityWarning>,
}

/// Something about an identity file that does not keep it from being used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum IdentityWarning {
    /// Its permissions let others read it.
    #[error("others can read the identity file {} (mode {mode:04o})", path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl IdentityWarning {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::ReadableByOthers { .. } => {
                "Run `chmod 600` on it; if others may have read it, make a new identity."
            }
        }
    }
}

/// Why there is no identity, or no passphrase for it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum IdentityError {
    /// The operating system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done: `read the identity file`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A new identity would overwrite something.
    #[error("{} exists already and was left alone", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{origin} is not an identity file: {why}")]
    NotAnIdentity {
        /// The file, or the keyboard.
        origin: String,
        /// What it holds, without quoting it.
        why: String,
    },
    /// The identity file is sealed to other identities in turn.
    #[error("the identity file {} is sealed to a recipient, not by a passphrase", path.display())]
    SealedToRecipient {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase is not the one.
    #[error("wrong passphrase for the identity file {}", path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// Opening it would take too long.
    #[error("the identity file {} asks for too much work (2^{required})", path.display())]
    TooMuchWork {
        /// The file.
        path: PathBuf,
        /// The logarithm of scrypt's N.
        required: u8,
    },
    /// A sealed identity file was cut or changed.
    #[error("the identity file {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What age says.
        #[source]
        source: age::DecryptError,
    },
    /// The program of a plugin identity is missing.
    #[error("the program {program} that {origin} needs was not found")]
    PluginMissing {
        /// The file, or the keyboard.
        origin: String,
        /// `age-plugin-NAME`.
        program: String,
    },
    /// There is nobody to ask.
    #[error("there is no terminal to ask for {what}")]
    NoTerminal {
        /// What is wanted.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No identity was given, and there is nobody to ask for one.
    #[error("no identity was given, and there is no terminal to ask for one")]
    NoneGiven(#[source] io::Error),
    /// A passphrase must be something.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A new passphrase is typed twice.
    #[error("the two passphrases differ")]
    PassphrasesDiffer,
    /// age refused to seal.
    #[error("cannot seal the new identity")]
    Seal(#[source] age::EncryptError),
}

impl IdentityError {
    /// What to do about it, in whole sentences; empty when the message says it all.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "Look at the path; identity files are kept apart from the host that takes backups."
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "Run the command as the owner of the file."
            }
            Self::Exists { .. } => {
                "Choose another file; an identity that is overwritten takes its backups with it."
            }
            Self::NotAnIdentity { .. } => {
                "An identity file has a line AGE-SECRET-KEY-1... or AGE-PLUGIN-...; `strongroom identity new` makes one."
            }
            Self::SealedToRecipient { .. } => "Open it with `age -d` first, and pass the result.",
            Self::WrongPassphrase { .. } => {
                "Try again; a passphrase file may have been made for another identity."
            }
            Self::Damaged { .. } => "Take another copy of the file.",
            Self::TooMuchWork { .. } => {
                "Open it with `age -d` on a larger machine, and seal it again with a smaller work factor."
            }
            Self::PluginMissing { .. } => {
                "Install the plugin so that it is in the PATH of this command (sudo sets another), or leave that identity out where the others are enough."
            }
            Self::NoTerminal { .. } => {
                "Pass --passphrase-file, or set STRONGROOM_PASSPHRASE_FILE to the path of a file."
            }
            Self::NoneGiven(_) => {
                "Pass --identity FILE, or set STRONGROOM_IDENTITY_FILE to the path of a file; custodians' shares open backups with --share or --quorum-socket."
            }
            Self::EmptyPassphrase => {
                "Give a passphrase, or say --no-passphrase when a new identity shall lie open."
            }
            Self::PassphrasesDiffer => "Try again.",
            Self::Io { .. } | Self::Seal(_) => "",
        }
    }

    fn io(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
