//! The custody record: which identity was split, among whom, and how each share is known. No share is in it.

use serde::{Deserialize, Serialize};

use super::share::{are_numbers, set_id};
use super::{Dealt, Share};
use crate::format::dsse::{self, SigningKey, VerifyingKey};
use crate::format::{FormatError, SetId};

const WHAT: &str = "custody record";
const KIND: &str = "application/vnd.strongroom.custody+json";

/// Who holds the shares of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyRecord {
    /// The format of the document.
    pub format: u32,
    /// The set.
    pub set: SetId,
    /// What the people call it.
    pub name: String,
    /// The public half of the identity.
    pub recipient: String,
    /// How many custodians open it.
    pub threshold: u8,
    /// All of them; the first has share 1.
    pub custodians: Vec<Custodian>,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// The program that made it.
    pub tool: String,
    /// The key that signed it, in base64.
    pub writer: String,
}

/// One custodian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custodian {
    /// A role rather than a person: `security-officer`.
    pub name: String,
    /// To whom the share was sealed; none when it is on paper.
    pub recipient: Option<String>,
    /// The public key that the share is known by, in base64.
    pub key: String,
}

impl CustodyRecord {
    /// Describes what was dealt to these custodians, each with the recipient its share is sealed to.
    pub fn new(
        name: &str,
        dealt: &Dealt,
        custodians: &[(String, Option<String>)],
        created: jiff::Timestamp,
        tool: &str,
        key: &SigningKey,
    ) -> Result<Self, FormatError> {
        let describe = |(share, (name, recipient)): (&Share, &(String, Option<String>))| {
            Ok(Custodian {
                name: name.clone(),
                recipient: recipient.clone(),
                key: share.verifying_key()?.to_base64(),
            })
        };
        let custodians: Result<Vec<_>, FormatError> =
            dealt.shares.iter().zip(custodians).map(describe).collect();
        Ok(Self {
            format: crate::format::VERSION,
            set: dealt.set,
            name: name.to_owned(),
            recipient: dealt.recipient.clone(),
            threshold: dealt.shares.first().map_or(0, Share::threshold),
            custodians: custodians?,
            created,
            tool: tool.to_owned(),
            writer: key.verifying_key().to_base64(),
        })
    }

    /// Serialises and signs.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.sign_document(KIND, self)
    }

    /// Reads a record. It brings its key with it: who trusts it compares the key, or has it from a place that he trusts.
    pub fn open(bytes: &[u8]) -> Result<Self, FormatError> {
        let stated = dsse::open_stated(WHAT, KIND, bytes, |stated: &Self, _| {
            VerifyingKey::from_base64(&stated.writer)
        })?;
        let damaged = |why: &str| Err(FormatError::damaged(WHAT, why));
        if !are_numbers(stated.threshold, stated.custodians.len()) {
            return damaged("its numbers make no sense");
        }
        if stated.set != set_id(&stated.recipient, stated.threshold) {
            return damaged("its set is not that of its recipient");
        }
        for (index, custodian) in stated.custodians.iter().enumerate() {
            VerifyingKey::from_base64(&custodian.key)?;
            let names = &stated.custodians[..index];
            if names.iter().any(|other| other.name == custodian.name) {
                return damaged("a custodian is in it twice");
            }
        }
        Ok(stated)
    }

    /// The custodian who has the share of this number.
    pub fn custodian(&self, index: u8) -> Option<&Custodian> {
        self.custodians.get(usize::from(index).checked_sub(1)?)
    }
}
