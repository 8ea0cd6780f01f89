//! What custodians state: that they hold their share, and that they took part in opening something.
//!
//! Signed with the key of the share itself, so that whoever has the custody record can check it, and nobody needs to see a share.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{CustodyRecord, Share};
use crate::format::dsse::{self, Unverified, VerifyingKey};
use crate::format::{FormatError, SetId};

/// A statement that a share signs.
pub trait Statement: Serialize + DeserializeOwned {
    /// What it is called in errors.
    const WHAT: &'static str;
    /// The type of the signed document.
    const KIND: &'static str;

    /// The set and the number of the share that signs.
    fn signer(&self) -> (SetId, u8);

    /// Signs with the key of a share.
    fn sign(&self, share: &Share) -> Result<Vec<u8>, FormatError> {
        Ok(share.signing_key()?.sign_document(Self::KIND, self))
    }

    /// Reads a statement that a custodian of this record signed.
    fn open(bytes: &[u8], record: &CustodyRecord) -> Result<Self, FormatError> {
        dsse::open_stated(Self::WHAT, Self::KIND, bytes, |stated: &Self, _| {
            let (set, index) = stated.signer();
            let custodian = record.custodian(index).filter(|_| set == record.set);
            let custodian = custodian.ok_or_else(|| {
                FormatError::damaged(Self::WHAT, "it is of another set, or of nobody in it")
            })?;
            VerifyingKey::from_base64(&custodian.key)
        })
    }

    /// Which set a statement says it is of; nothing is checked.
    fn set_of(bytes: &[u8]) -> Result<SetId, FormatError> {
        let document = Unverified::parse(Self::WHAT, Self::KIND, bytes)?;
        let stated: Self = dsse::parse_payload(Self::WHAT, document.unverified_payload())?;
        Ok(stated.signer().0)
    }
}

/// A custodian has shown that the share is there and can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// The format of the document.
    pub format: u32,
    /// The set.
    pub set: SetId,
    /// The number of the share.
    pub index: u8,
    /// When.
    pub time: jiff::Timestamp,
    /// The program.
    pub tool: String,
}

impl Statement for Rehearsal {
    const WHAT: &'static str = "rehearsal";
    const KIND: &'static str = "application/vnd.strongroom.rehearsal+json";

    fn signer(&self) -> (SetId, u8) {
        (self.set, self.index)
    }
}

/// A custodian has given the share to a command that opened backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The format of the document.
    pub format: u32,
    /// The set.
    pub set: SetId,
    /// The number of the share.
    pub index: u8,
    /// When.
    pub time: jiff::Timestamp,
    /// The command: `restore`.
    pub command: String,
    /// What it was asked for: the label of a backup, `latest`.
    pub target: String,
    /// The installation.
    pub deployment: String,
    /// The name of the machine.
    pub host: String,
    /// The account that ran the command.
    pub user: String,
    /// How the share came: `file`, `terminal`, or `socket` and the account that gave it.
    pub given: String,
    /// The program.
    pub tool: String,
}

impl Statement for Opening {
    const WHAT: &'static str = "record of an opening";
    const KIND: &'static str = "application/vnd.strongroom.opening+json";

    fn signer(&self) -> (SetId, u8) {
        (self.set, self.index)
    }
}
