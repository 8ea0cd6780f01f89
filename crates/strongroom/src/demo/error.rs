//! What can go wrong in the demonstration's authority.

use std::io;
use std::path::{Path, PathBuf};

/// Why the demonstration's authority could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DemoError {
    /// The directory already holds an authority, which is never written over.
    #[error("{} already holds something under etc or var", dir.display())]
    Exists {
        /// The directory asked for.
        dir: PathBuf,
    },
    /// The directory was not made by the demonstration, so nothing in it is deleted.
    #[error("{} is not a directory of the demonstration", dir.display())]
    Foreign {
        /// The directory asked for.
        dir: PathBuf,
    },
    /// A file of the authority could not be read or written.
    #[error("could not {operation} {}", path.display())]
    File {
        /// The verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration is not what this authority writes.
    #[error("could not understand the configuration {}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Where it stopped making sense.
        source: toml::de::Error,
    },
    /// The database of certificates refused.
    #[error("could not {operation} the certificate database")]
    Database {
        /// The verb.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A key, certificate or CRL could not be made or loaded.
    #[error("could not {operation}")]
    Sign {
        /// What was being made.
        operation: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// A certificate or CRL is not the DER it should be.
    #[error("could not parse {what}")]
    Parse {
        /// The object.
        what: String,
        /// Where it stopped being DER.
        source: x509_cert::der::Error,
    },
    /// A signature is not by the key it should be by.
    #[error("the signature on {what} does not verify")]
    Signature {
        /// The object.
        what: String,
    },
    /// The audit log is not one unbroken chain.
    #[error("line {line} of the audit log {problem}")]
    Audit {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A code that no full CRL may carry as a reason.
    #[error("revocation reason {code} cannot stand in a full CRL")]
    Reason {
        /// The code of RFC 5280, 5.3.1.
        code: i64,
    },
    /// A CRL number cannot be written any more.
    #[error("the CRL number {number} cannot be used")]
    CrlNumber {
        /// The number as the database holds it.
        number: i64,
    },
    /// The system gave no random bytes.
    #[error("no random bytes to be had")]
    Random,
}

impl DemoError {
    /// Says what was done to which file, for `map_err`.
    pub(super) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }

    /// Says what was done to the database, for `map_err`.
    pub(super) fn database(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { operation, source }
    }

    /// Says what was being made, for `map_err`.
    pub(super) fn sign(operation: impl Into<String>) -> impl FnOnce(rcgen::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Sign { operation, source }
    }

    /// Says what was being parsed, for `map_err`.
    pub(super) fn parse(what: &str) -> impl Fn(x509_cert::der::Error) -> Self + '_ {
        move |source| Self::Parse {
            what: what.to_owned(),
            source,
        }
    }
}
