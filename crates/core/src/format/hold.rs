//! The hold on a backup: signed, readable by anybody (docs/format.md, section 5).

use serde::{Deserialize, Serialize};

use super::dsse::SigningKey;
use super::name::ObjectName;
use super::repository_document::RepositoryDocument;
use super::{FormatError, Label, RepositoryId};

const WHAT: &str = "hold";
const KIND: &str = "application/vnd.strongroom.hold+json";
/// The longest reason, in bytes.
pub const REASON_MAX: usize = 4096;

/// Says that a backup must not expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The format of the document.
    pub format: u32,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The backup that is held.
    pub label: Label,
    /// Why, in the words of whoever placed it; at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// When it was placed.
    pub placed: jiff::Timestamp,
    /// The program that wrote it.
    pub tool: String,
}

impl Hold {
    /// Serialises and signs.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.sign_document(KIND, self)
    }

    /// Reads a stored hold, found under `name` in the repository of `document`.
    pub fn open(
        bytes: &[u8],
        name: &ObjectName,
        document: &RepositoryDocument,
    ) -> Result<Self, FormatError> {
        let (hold, _): (Self, _) = document.open_signed(WHAT, KIND, bytes)?;
        let damaged = |why: &str| Err(FormatError::damaged(WHAT, why));
        if name.hold_label().as_ref() != Some(&hold.label) {
            return damaged("it lies under a name that is not its own");
        }
        if hold.repository != document.repository {
            return damaged("it belongs to another repository");
        }
        if hold.reason.trim().is_empty() || hold.reason.len() > REASON_MAX {
            return damaged("its reason is empty or too long");
        }
        Ok(hold)
    }

    /// The name under which it is stored.
    pub fn name(&self) -> ObjectName {
        ObjectName::hold(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::writer_key::WriterKey;

    #[test]
    fn a_hold_is_for_its_backup_and_its_repository_only() {
        let key = WriterKey::generate().expect("random bytes");
        let document = RepositoryDocument::with_writer(&key.signing);
        let hold = Hold {
            format: 1,
            repository: document.repository,
            label: "20261120-153000Z-k3f9".parse().expect("a label"),
            reason: "case 7".into(),
            placed: jiff::Timestamp::UNIX_EPOCH,
            tool: "test".into(),
        };
        let open =
            |hold: &Hold, name: &ObjectName| Hold::open(&hold.sign(&key.signing), name, &document);
        assert_eq!(open(&hold, &hold.name()).expect("opens"), hold);
        let other: Label = "20261120-153000Z-k3f8".parse().expect("a label");
        open(&hold, &ObjectName::hold(&other)).expect_err("another backup");
        let empty = Hold {
            reason: " ".into(),
            ..hold.clone()
        };
        open(&empty, &empty.name()).expect_err("no reason");
        let elsewhere = Hold {
            repository: RepositoryId::from_bytes([2; 16]),
            ..hold.clone()
        };
        open(&elsewhere, &hold.name()).expect_err("another repository");
        let stranger = WriterKey::generate().expect("random bytes");
        Hold::open(&hold.sign(&stranger.signing), &hold.name(), &document)
            .expect_err("a stranger's");
    }
}
