//! The port to a server that holds databases under names: how an asset of such a server is restored.
//!
//! A database is loaded under a new name, compared with the facts of its capture, and only then swapped with the one that
//! is live; that one is kept under an old name until the sign-off. The executor decides what is done when, and asks by
//! names how far an interrupted restore came; an implementation does one step, and can be asked for the same step again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CaptureError, Proof};
use crate::cancel::Cancel;
use crate::format::manifest::Stream;

/// The database that the path of a dump belongs to: its first part, percent-decoded. None for what belongs to the server as a whole.
pub fn database_of(path: &Path) -> Option<String> {
    let mut parts = path.to_str()?.strip_prefix('/')?.splitn(2, '/');
    let (first, rest) = (parts.next()?, parts.next()?);
    if first.is_empty() || rest.is_empty() {
        return None;
    }
    decode_part(first)
}

/// A name as one part of a dump's path: ASCII other than letters, digits, `_` and `-` is percent-encoded, byte by byte, and so are
/// control characters. A dot can then stand between two names.
pub fn encode_part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for letter in name.chars() {
        let is_plain = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        if is_plain || !letter.is_ascii() && !letter.is_control() {
            part.push(letter);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in letter.encode_utf8(&mut bytes).bytes() {
            // Writing to a string cannot fail.
            let _ = write!(part, "%{byte:02X}");
        }
    }
    part
}

/// The name that a part of a path stands for; none if it is not encoded as [`encode_part`] does.
pub fn decode_part(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A server, as the operator's configuration names it.
///
/// Every method can be repeated: after an error, an interruption or a `kill -9` the same call does what is left to do.
pub trait DatabaseServer: Send + Sync {
    /// Looks at the server for a plan, and changes nothing.
    fn observe(&self, wanted: &[WantedDatabase<'_>]) -> Result<ServerSeen, CaptureError>;

    /// Whether there is a database of that name.
    fn has(&self, name: &str) -> Result<bool, CaptureError>;

    /// Creates the database of a load, empty; what an interrupted load left under its name is dropped first.
    fn begin_load<'l>(
        &'l self,
        job: LoadJob<'l>,
    ) -> Result<Box<dyn DatabaseLoad + 'l>, CaptureError>;

    /// Counts again, and compares what is in `name` with the facts of the capture.
    fn prove(&self, name: &str, database: &LoadedDatabase<'_>) -> Result<Proof, CaptureError>;

    /// Puts `new` in the place of `live`, which is kept as `old` where it exists. Sessions of `live` are ended.
    ///
    /// Until this is done, `new` exists; when it is done, `new` does not. Where nothing was live, `old` may be an empty
    /// database that says so. Where nothing is to be replaced and something is live all the same, this is an error that
    /// changes nothing.
    fn swap_in(&self, names: &SwapNames<'_>) -> Result<(), CaptureError>;

    /// Puts `old` back in the place of `live`; what was live is `new` again or gone.
    ///
    /// Until this is done, `old` exists; when it is done, `old` does not. Where nothing was live before, the name may be free again.
    fn swap_back(&self, names: &SwapNames<'_>) -> Result<(), CaptureError>;

    /// Drops a database that this restore made or put aside; its sessions are ended. Nothing to do where there is none.
    fn drop_database(&self, name: &str) -> Result<(), CaptureError>;
}

/// A database that a plan wants to restore.
#[derive(Clone, Copy, Debug)]
pub struct WantedDatabase<'a> {
    /// Its name when it was captured.
    pub original: &'a str,
    /// Its name after the restore.
    pub name: &'a str,
    /// The facts of the asset.
    pub facts: &'a serde_json::Value,
    /// What else was asked for.
    pub options: &'a LoadOptions,
}

/// What an operator can ask of a load besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadOptions {
    /// Only the rows of these tables, `schema.table` or `table`; all if empty. The schema is whole, but what needs the rows of
    /// other tables (foreign keys) is left out.
    pub tables: BTreeSet<String>,
    /// Roles of the backup and the roles of the server that take their place.
    pub roles: BTreeMap<String, String>,
    /// Another server than the asset's own.
    pub server: Option<OtherServer>,
    /// Another token than the asset's own.
    #[serde(default)]
    pub token: Option<OtherToken>,
}

impl LoadOptions {
    /// Whether anything is asked for that only a database server can do.
    pub(crate) fn is_for_databases(&self) -> bool {
        !self.tables.is_empty() || !self.roles.is_empty() || self.server.is_some()
    }
}

/// A server that the operator names for one restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherServer {
    /// Where it is, as the asset's configuration would write it.
    pub url: String,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
}

/// A token that the operator names for one restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherToken {
    /// Which one, as a PKCS#11 URI (RFC 7512).
    pub uri: String,
    /// The file with its PIN.
    pub pin_file: Option<PathBuf>,
}

/// What a look at a server shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSeen {
    /// Product, version and place: `PostgreSQL 15.8 at db.example:5432`.
    pub server: String,
    /// The databases that are there now, of those that are wanted.
    pub databases: BTreeMap<String, DatabaseSeen>,
    /// Free bytes for databases, where the server tells.
    pub free_bytes: Option<u64>,
    /// Why the restore may not be done.
    pub refusals: Vec<String>,
    /// What the operator should know before it is done: roles that will be created, another collation version.
    pub warnings: Vec<String>,
}

/// A database that is there now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSeen {
    /// Its size on disk.
    pub size_bytes: u64,
    /// Sessions that a swap would end.
    pub sessions: u64,
}

/// The three names of a restore.
#[derive(Clone, Copy, Debug)]
pub struct SwapNames<'a> {
    /// The name that applications use.
    pub live: &'a str,
    /// Where the restored database waits.
    pub new: &'a str,
    /// Where the replaced one is kept.
    pub old: &'a str,
    /// Whether the plan replaces a live one. Where it does not, one that is live now came later and is left alone: nobody
    /// would be asked before it is dropped.
    pub replaces: bool,
    /// A private directory that lives until the restore is signed off or undone.
    pub keep: &'a Path,
}

/// A database of a backup, and what is known of it.
#[derive(Clone, Copy)]
pub struct LoadedDatabase<'a> {
    /// Its name when it was captured: the first part of its streams' paths.
    pub original: &'a str,
    /// The settings of the asset, from the manifest.
    pub settings: &'a serde_json::Value,
    /// The facts of the asset, from the manifest.
    pub facts: &'a serde_json::Value,
    /// What else was asked for.
    pub options: &'a LoadOptions,
    /// Asks whether the operator wants to stop.
    pub cancel: &'a Cancel,
}

/// A load to begin.
#[derive(Clone, Copy)]
pub struct LoadJob<'a> {
    /// The database to create.
    pub name: &'a str,
    /// What goes into it.
    pub database: LoadedDatabase<'a>,
    /// A private directory, removed after the load.
    pub scratch: &'a Path,
    /// The same as in [`SwapNames`]: for what the swap needs of the load.
    pub keep: &'a Path,
}

/// Writes the content of a stream, and fails at its end if the content is not what was captured: until it returns without error,
/// nothing of it may be committed.
pub type StreamContent<'c> = &'c mut dyn FnMut(&mut dyn Write) -> Result<(), CaptureError>;

/// A database being loaded.
pub trait DatabaseLoad: Sync {
    /// How many streams may be loaded at a time, besides those that [`DatabaseLoad::is_alone`].
    fn jobs(&self) -> usize;

    /// Whether the load needs this stream at all.
    fn wants(&self, stream: &Stream) -> bool;

    /// Whether everything before this stream must be loaded first, and nothing with it.
    fn is_alone(&self, stream: &Stream) -> bool;

    /// Loads one stream; called in the order of the manifest, from several threads.
    fn load(&self, stream: &Stream, content: StreamContent<'_>) -> Result<(), CaptureError>;

    /// Does what comes after the rows: indexes, constraints, sequences, settings of the database. Returns what the operator should know.
    fn finish(self: Box<Self>) -> Result<Vec<String>, CaptureError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_path() {
        for name in [
            "ca",
            "a/b",
            "100%",
            ".hidden",
            "..",
            "a.b",
            "zwei\nZeilen",
            "\u{85}",
            "Ünï ☃",
        ] {
            let part = encode_part(name);
            assert!(!part.contains('/') && !part.starts_with('.'), "{part}");
            assert_eq!(decode_part(&part).as_deref(), Some(name));
            let path = format!("/{part}/schema.dump");
            assert_eq!(database_of(Path::new(&path)).as_deref(), Some(name));
        }
        for path in ["/globals.sql", "/", "/a/", "relative/a", "/%zz/a", "/%4/a"] {
            assert_eq!(database_of(Path::new(path)), None, "{path}");
        }
    }
}
