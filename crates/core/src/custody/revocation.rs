//! That a set is not to be used any more, signed by the writer that learned of it.

use serde::{Deserialize, Serialize};

use crate::format::dsse::{self, SigningKey, VerifyingKey};
use crate::format::{FormatError, SetId};

const WHAT: &str = "revocation";
const KIND: &str = "application/vnd.strongroom.revocation+json";

/// A set that backups must not be sealed to any more. Takes nothing away from those who hold its shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The format of the document.
    pub format: u32,
    /// The set.
    pub set: SetId,
    /// Since when.
    pub time: jiff::Timestamp,
    /// Why, in the words of whoever revoked it.
    pub reason: String,
    /// The program.
    pub tool: String,
    /// The key that signed it, in base64.
    pub writer: String,
}

impl Revocation {
    /// Serialises and signs.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.sign_document(KIND, self)
    }

    /// Reads a revocation, which brings its key with it.
    pub fn open(bytes: &[u8]) -> Result<Self, FormatError> {
        dsse::open_stated(WHAT, KIND, bytes, |stated: &Self, _| {
            VerifyingKey::from_base64(&stated.writer)
        })
    }
}
