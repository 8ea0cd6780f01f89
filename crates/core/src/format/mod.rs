//! The repository format, version 1, as docs/format.md specifies it.
//!
//! Pure and synchronous: bytes in, values out, and back. Nothing here opens a file, reads a clock or
//! talks to a storage, and every decoder is a fuzz target. Every number read is bounded by [`limits`]
//! before it is used.

pub mod dsse;
pub mod envelope;
pub mod expiry;
pub mod frame;
pub mod hold;
pub mod id;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod pack;
pub mod repository_document;
pub mod seal;
pub mod writer_key;

pub use id::{Digest, EpochId, Label, RepositoryId, SetId, WriterId};

/// The version of the format that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Why stored bytes could not be read, or could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes break a rule of docs/format.md.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// Which kind of object, for instance "envelope".
        what: &'static str,
        /// The rule that is broken.
        why: String,
    },
    /// The object was written by a later version of the format.
    #[error("{what} has format version {found}, this program reads version {VERSION}")]
    NewerVersion {
        /// Which kind of object.
        what: &'static str,
        /// The version it states.
        found: u64,
    },
    /// The signature does not belong to the document and the key.
    #[error("{what} is not signed by {expected}")]
    Signature {
        /// Which kind of object.
        what: &'static str,
        /// The key that should have signed.
        expected: String,
    },
    /// None of the identities given opens the age file.
    #[error("none of the identities given opens {what}")]
    WrongIdentity {
        /// Which kind of object.
        what: &'static str,
    },
    /// An identity might open it, but its plugin did not: its device is missing, its PIN was wrong.
    #[error("cannot open {what}: {why}")]
    IdentityRefused {
        /// Which kind of object.
        what: &'static str,
        /// What the plugin says.
        why: String,
    },
    /// Sealing or opening an age file failed for another reason.
    #[error("cannot {operation} the age file")]
    Age {
        /// "seal" or "open".
        operation: &'static str,
        /// What the age library says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Reading or writing the stream under a codec failed.
    #[error("cannot {operation}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The error of the stream.
        #[source]
        source: std::io::Error,
    },
    /// The cryptographic library refused.
    #[error("the cryptographic library cannot {operation}")]
    Crypto {
        /// What was asked of it.
        operation: &'static str,
    },
}

impl FormatError {
    /// Builds [`FormatError::Damaged`].
    pub fn damaged(what: &'static str, why: impl Into<String>) -> Self {
        Self::Damaged {
            what,
            why: why.into(),
        }
    }

    /// Builds [`FormatError::Io`], for `map_err`.
    pub fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}
