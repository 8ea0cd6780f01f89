//! The source port: how one kind of asset is read, and what a restore needs to know to write it.
//!
//! A source opens one consistent cut and pushes its streams into a [`Sink`]; it never sees a repository,
//! a chunk or a key. An implementation lives in `strongroom-adapters`.

pub mod server;
pub mod tables;
pub mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::format::Digest;
use crate::format::manifest::StreamKind;
use crate::storage::StorageError;

/// What kind of thing an asset is; decides which repository it may go to, and in which order it is captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A database: what the CA remembers.
    Database,
    /// A log.
    Log,
    /// An audit trail.
    Audit,
    /// Configuration without secrets.
    Config,
    /// Certificates and CRLs.
    Certificate,
    /// Passwords, tokens, configuration that holds them.
    Secret,
    /// Private keys.
    Key,
}

impl Class {
    /// All classes, in the order of capture: databases first, keys last, so that the keys are never older
    /// than the database that needs them.
    pub const ALL: [Self; 7] = [
        Self::Database,
        Self::Log,
        Self::Audit,
        Self::Config,
        Self::Certificate,
        Self::Secret,
        Self::Key,
    ];

    /// The name in configuration and format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Log => "log",
            Self::Audit => "audit",
            Self::Config => "config",
            Self::Certificate => "certificate",
            Self::Secret => "secret",
            Self::Key => "key",
        }
    }

    /// Whether streams of this class are cut into chunks and packed; the others are artifacts,
    /// readable with `age` and `zstd` alone.
    pub const fn is_packed(self) -> bool {
        matches!(self, Self::Database | Self::Log | Self::Audit)
    }

    /// Whether an identity that opens this class must not open the databases too.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Key | Self::Secret)
    }

    /// Whether files of this class only ever grow, so that a capture may end where the file ended when it was opened.
    pub const fn is_append_only(self) -> bool {
        matches!(self, Self::Log | Self::Audit)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a stream restores, with all that the file system says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The kind of thing.
    pub kind: StreamKind,
    /// Its absolute path.
    pub path: PathBuf,
    /// The twelve permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The owner's name.
    pub user: Option<String>,
    /// The group's name.
    pub group: Option<String>,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The text of a symbolic link, or the first name of a hard-linked file.
    pub target: Option<PathBuf>,
}

impl Entry {
    /// A part of what is no file: nobody's in particular, and for nobody else to read; `seconds` since 1970 are those of the capture.
    pub fn dump(path: impl Into<PathBuf>, seconds: i64) -> Self {
        Self {
            kind: StreamKind::Dump,
            path: path.into(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime: (seconds, 0),
            xattrs: BTreeMap::new(),
            target: None,
        }
    }
}

/// How a large stream is cut into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunking {
    /// At its content (FastCDC).
    Content,
    /// Every so many bytes: the page size of a database file.
    Fixed(u32),
    /// At ends of lines, chosen by their content: the rows of a dump.
    Lines,
}

/// Takes the streams of an asset; those of packed classes also several at a time, from several threads.
pub trait Sink: Sync {
    /// Records something without content: a directory, a symbolic or hard link.
    fn entry(&self, entry: Entry) -> Result<(), CaptureError>;

    /// Begins a stream. The manifest holds streams in the order in which they are finished.
    fn begin(&self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError>;

    /// Where a source may keep a private copy until the capture ends; 0700, emptied before and after each run.
    fn scratch(&self) -> &Path;

    /// What an earlier capture of this asset left behind with [`Capture::memory`].
    fn memory(&self) -> Option<&serde_json::Value>;

    /// Asks whether the operator wants to stop.
    fn cancel(&self) -> &Cancel;
}

/// Takes the content of one stream.
pub trait StreamWriter: Send {
    /// Adds bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError>;

    /// Adds zero bytes that the file system does not store.
    fn hole(&mut self, length: u64) -> Result<(), CaptureError>;

    /// Ends the stream: its content and the entry belong together.
    fn finish(self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError>;

    /// Forgets the stream; what was stored of it does no harm.
    fn discard(self: Box<Self>) -> Result<(), CaptureError>;
}

/// What a finished stream turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSummary {
    /// The digest of the whole content, holes read as zeros.
    pub sha256: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// What a capture found out.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// Facts of the asset, taken in the same cut.
    pub facts: serde_json::Value,
    /// What makes the asset incomplete.
    pub problems: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
    /// Kept on this host for the next capture; holds nothing that the asset itself does not show.
    pub memory: Option<serde_json::Value>,
}

/// What a look at an asset shows, without reading its content.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Files that a capture would read.
    pub files: u64,
    /// How many bytes they hold.
    pub size_bytes: u64,
    /// What it is and where, if it is no file: a server with its version.
    pub about: Option<String>,
    /// Absolute paths that the asset covers: itself, or everything below it; databases of a server as `KIND://PLACE/NAME`.
    pub covered: Vec<PathBuf>,
    /// What would make a capture incomplete.
    pub problems: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
    /// Neighbours that look as if they belonged to the server and that this asset does not cover.
    pub suggestions: Vec<PathBuf>,
}

/// What a look for secrets in an asset that is not for them shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretsSeen {
    /// Files that were looked at.
    pub files: u64,
    /// Files that only a backup looks at, because they are long.
    pub too_long: u64,
    /// What would make a capture incomplete.
    pub problems: Vec<String>,
    /// What would go elsewhere, or is allowed.
    pub notes: Vec<String>,
}

/// What the sources saw next to their assets and no asset covers, sorted.
pub fn not_covered(inspections: &[&Inspection]) -> Vec<PathBuf> {
    let covered: BTreeSet<&Path> = inspections
        .iter()
        .flat_map(|inspection| inspection.covered.iter().map(PathBuf::as_path))
        .collect();
    let suggested: BTreeSet<&PathBuf> = inspections
        .iter()
        .flat_map(|inspection| &inspection.suggestions)
        .collect();
    suggested
        .into_iter()
        .filter(|path| !path.ancestors().any(|ancestor| covered.contains(ancestor)))
        .cloned()
        .collect()
}

/// One asset, ready to be read.
pub trait Source: Send + Sync {
    /// The name in the configuration: `files`, `sqlite`.
    fn kind(&self) -> &'static str;

    /// The asset's part of the configuration, for the manifest; no secrets.
    fn settings(&self) -> serde_json::Value;

    /// Looks without reading content and without touching anything.
    fn inspect(&self) -> Result<Inspection, CaptureError>;

    /// Looks for secrets that have no place in an asset of this class, and stores nothing; reads small files. None where it does
    /// not look for any.
    fn look_for_secrets(&self, cancel: &Cancel) -> Result<Option<SecretsSeen>, CaptureError> {
        let _ = cancel;
        Ok(None)
    }

    /// Reads everything in one consistent cut. Single failures are problems of the [`Capture`]; an error means that
    /// nothing of the asset is usable, or that the sink failed.
    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError>;
}

/// How restored streams of a kind of source are placed and proved.
///
/// Pure knowledge about files next to each other; the executor does the writing.
pub trait Restorer: Send + Sync {
    /// The kind of source whose assets it restores.
    fn kind(&self) -> &'static str;

    /// Files that belong to `target`, that must go when it is replaced and come back when that is undone.
    fn companions(&self, target: &Path) -> Vec<PathBuf> {
        let _ = target;
        Vec::new()
    }

    /// Why `target` must not be replaced at this moment, for instance because a server has it open.
    fn in_use(&self, target: &Path) -> io::Result<Option<String>> {
        let _ = target;
        Ok(None)
    }

    /// Whether the digest of its streams already shows all that [`Restorer::prove`] would show, because the
    /// facts were taken from those very bytes and nothing else has a part in them. A restore then asks no further; `verify` does.
    fn is_proved_by_digest(&self) -> bool {
        false
    }

    /// Whether its streams of kind `dump` are loaded into a server, through the port [`server`], unless the restore goes to a directory.
    fn loads_into_server(&self) -> bool {
        false
    }

    /// Whether its streams of kind `dump` are put into a token, through the port [`token`], unless the restore goes to a directory.
    fn loads_into_token(&self) -> bool {
        false
    }

    /// Adds to a restored directory what the asset's own programs need besides the streams, for instance a table of contents;
    /// can be repeated. Returns what the operator should know.
    fn complete_directory(&self, asset: &RestoredAsset<'_>) -> Result<Vec<String>, CaptureError> {
        let _ = asset;
        Ok(Vec::new())
    }

    /// Proves a restored asset (L4) against the facts that were captured with it.
    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError>;
}

/// A restored asset, whole, under names that are not its own yet.
pub struct RestoredAsset<'a> {
    /// Its name.
    pub name: &'a str,
    /// The settings from the manifest.
    pub settings: &'a serde_json::Value,
    /// The facts from the manifest.
    pub facts: &'a serde_json::Value,
    /// Where each file of the asset lies now, by its original path.
    pub files: &'a BTreeMap<PathBuf, PathBuf>,
    /// The same for the assets restored before it, and itself: a key finds its certificate there.
    pub all_files: &'a BTreeMap<PathBuf, PathBuf>,
}

/// What a proof found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// What was shown to hold, in words.
    pub shown: Vec<String>,
    /// What does not hold.
    pub failures: Vec<String>,
    /// What could not be looked at here.
    pub notes: Vec<String>,
}

/// Why a capture or a proof could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The asset is not what its source reads.
    #[error("{path:?}: {why}")]
    Unsuitable {
        /// The file.
        path: OsString,
        /// What is wrong with it.
        why: String,
        /// What to do next.
        hint: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {operation} {path:?}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Its error.
        #[source]
        source: io::Error,
    },
    /// A library that reads the asset failed.
    #[error("cannot {operation}")]
    Library {
        /// What was being done.
        operation: String,
        /// Its error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The sink could not store what it was given.
    #[error("cannot store the stream")]
    Store(#[from] Box<crate::repository::RepositoryError>),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The operator interrupted.
    #[error(transparent)]
    Interrupted(#[from] crate::cancel::Interrupted),
}

impl CaptureError {
    /// Wraps an I/O error with what was done and to which file.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Wraps a library's error.
    pub fn library<E: std::error::Error + Send + Sync + 'static>(
        operation: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let operation = operation.into();
        move |source| Self::Library {
            operation,
            source: Box::new(source),
        }
    }

    /// What to do next, where the source knows.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unsuitable { hint, .. } if !hint.is_empty() => Some(hint),
            _ => None,
        }
    }

    /// The error with its causes, and what to do next.
    pub fn advice(&self) -> String {
        let chain = crate::error_chain(self);
        match self.hint() {
            Some(hint) => format!("{chain}. {hint}"),
            None => chain,
        }
    }

    /// True when the fault is the repository's or the operator's, so that going on with other assets is in vain.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Store(_) | Self::Storage(_) | Self::Interrupted(_)
        )
    }
}
