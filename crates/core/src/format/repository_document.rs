//! The repository document: what a repository is, for whom, and who may write (docs/format.md, section 3).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::dsse::{self, SigningKey, Unverified, VerifyingKey};
use super::{Digest, FormatError, RepositoryId, WriterId};
use crate::source::Class;

const WHAT: &str = "repository document";
const KIND: &str = "application/vnd.strongroom.repository+json";

/// One revision of a repository's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryDocument {
    /// The format of everything in this repository.
    pub format: u32,
    /// The repository's random name; envelopes repeat it, so none can be moved elsewhere.
    pub repository: RepositoryId,
    /// 1, 2, 3 ...; the highest holds.
    pub revision: u32,
    /// The digest of the stored revision before this one.
    pub previous: Option<Digest>,
    /// The installation that is protected.
    pub deployment: String,
    /// The name under which the configuration knows this repository.
    pub name: String,
    /// When this revision was made.
    pub created: jiff::Timestamp,
    /// Which classes of assets may be stored here.
    pub accepts: Vec<Class>,
    /// The age recipients that new epochs are sealed to.
    pub recipients: Vec<String>,
    /// The public keys of those who may write, in base64.
    pub writers: BTreeMap<WriterId, String>,
}

impl RepositoryDocument {
    /// Serialises and signs.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.sign_document(KIND, self)
    }

    /// Reads a stored revision: the first is signed by one of its own writers, each later one
    /// by a writer of `before`, whose stored bytes have the digest given with it.
    pub fn open(bytes: &[u8], before: Option<(&Self, Digest)>) -> Result<Self, FormatError> {
        let stated = dsse::open_stated(WHAT, KIND, bytes, |stated: &Self, signer| {
            before.map_or(stated, |(before, _)| before).writer(signer)
        })?;
        let expected = match before {
            None => (1, None, stated.repository),
            Some((before, digest)) => (before.revision + 1, Some(digest), before.repository),
        };
        if (stated.revision, stated.previous, stated.repository) != expected {
            return Err(FormatError::damaged(
                WHAT,
                "it does not follow the revision before it",
            ));
        }
        Ok(stated)
    }

    /// Reads a document that a writer named here has signed, and tells which one.
    pub(super) fn open_signed<T: DeserializeOwned>(
        &self,
        what: &'static str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<(T, WriterId), FormatError> {
        let unverified = Unverified::parse(what, kind, bytes)?;
        let signer = unverified.signer();
        let payload = unverified.verify(self.writer(signer)?)?;
        Ok((dsse::parse_payload(what, &payload)?, signer))
    }

    /// A first revision, for tests.
    #[cfg(test)]
    pub(super) fn with_writer(key: &SigningKey) -> Self {
        Self {
            format: super::VERSION,
            repository: RepositoryId::from_bytes([1; 16]),
            revision: 1,
            previous: None,
            deployment: "example-ca".into(),
            name: "offsite".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            accepts: vec![Class::Database],
            recipients: vec!["age1x".into()],
            writers: [(key.id(), key.verifying_key().to_base64())].into(),
        }
    }

    /// The key of a writer that this document names.
    pub fn writer(&self, id: WriterId) -> Result<VerifyingKey, FormatError> {
        let unknown = || FormatError::Signature {
            what: WHAT,
            expected: self
                .writers
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        let key = VerifyingKey::from_base64(self.writers.get(&id).ok_or_else(unknown)?)?;
        if key.id() == id {
            Ok(key)
        } else {
            Err(unknown())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::writer_key::WriterKey;

    #[test]
    fn revisions_follow_each_other() {
        let key = WriterKey::generate().expect("random bytes");
        let stranger = WriterKey::generate().expect("random bytes");
        let first = RepositoryDocument::with_writer(&key.signing);
        let bytes = first.sign(&key.signing);
        assert_eq!(
            RepositoryDocument::open(&bytes, None).expect("own document"),
            first
        );
        RepositoryDocument::open(&first.sign(&stranger.signing), None).expect_err("a stranger");

        let digest = Digest::of(&bytes);
        let mut second = first.clone();
        second.revision = 2;
        second.previous = Some(digest);
        let open = |document: &RepositoryDocument| {
            RepositoryDocument::open(&document.sign(&key.signing), Some((&first, digest)))
        };
        open(&second).expect("the next revision");
        second.previous = None;
        open(&second).expect_err("another history");
    }
}
