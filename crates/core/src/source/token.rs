//! The port to a cryptographic token: how the objects of an asset are put into one again.
//!
//! A token holds objects, and one call makes one of them whole, under the identifier that servers look for. So there is nothing to
//! swap: what is there already is left as it is, what is missing is made, and what is in the way is a refusal of the plan.
//! Every method can be repeated: after an error, an interruption or a `kill -9` the same call does what is left to do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::server::LoadOptions;
use super::{CaptureError, Proof};
use crate::format::manifest::Stream;

/// The longest stream that becomes one object, in bytes.
pub const OBJECT_MAX: u64 = 1 << 20;

/// A token, as the operator's configuration names it.
pub trait Token: Send + Sync {
    /// Which token it is, in words; the same as [`TokenSeen::token`].
    fn name(&self) -> Result<String, CaptureError>;

    /// Looks at the token for a plan, and changes nothing.
    fn observe(&self, wanted: &WantedObjects<'_>) -> Result<TokenSeen, CaptureError>;

    /// Shows that an object can be made of this content and is what was captured, and leaves nothing behind: a key is unwrapped for
    /// this session only, signs, and its signature is verified.
    fn rehearse(&self, object: &TokenObject, content: &[u8]) -> Result<(), CaptureError>;

    /// Whether the object is there, with its own key or content.
    fn has(&self, object: &TokenObject) -> Result<bool, CaptureError>;

    /// Makes the object, in one call of the token; nothing to do where it is there.
    fn put(&self, object: &TokenObject, content: &[u8]) -> Result<(), CaptureError>;

    /// Proves what is in the token now: each object is there with its identifier, each key signs.
    fn prove(&self, objects: &[&TokenObject]) -> Result<Proof, CaptureError>;

    /// Destroys an object that this restore made; one with another key or content is not touched. Nothing to do where there is none.
    fn remove(&self, object: &TokenObject) -> Result<(), CaptureError>;
}

/// What a plan wants to put into a token.
#[derive(Clone, Copy)]
pub struct WantedObjects<'a> {
    /// The facts of the asset.
    pub facts: &'a serde_json::Value,
    /// Its streams.
    pub streams: &'a [Stream],
    /// What else was asked for.
    pub options: &'a LoadOptions,
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenObject {
    /// The stream that it is made of; UTF-8.
    pub stream: PathBuf,
    /// What it is, in words: `private key "ca" (id 01)`.
    pub what: String,
    /// What the adapter knows of it; no secrets.
    pub about: serde_json::Value,
}

/// What a look at a token shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSeen {
    /// Which token it is, in words.
    pub token: String,
    /// The objects of the backup that can be made of it, and whether they are there already.
    pub objects: Vec<(TokenObject, bool)>,
    /// What the token had and what neither the backup nor this token holds.
    pub missing: Vec<String>,
    /// Why the restore may not be done.
    pub refusals: Vec<String>,
    /// What the operator should know before it is done.
    pub notes: Vec<String>,
}
