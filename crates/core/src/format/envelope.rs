//! The envelope of a backup: clear, signed, chained, small (docs/format.md, section 5).

use serde::{Deserialize, Serialize};

use super::dsse::SigningKey;
use super::name::ObjectName;
use super::repository_document::RepositoryDocument;
use super::{Digest, EpochId, FormatError, Label, RepositoryId, WriterId, limits};
use crate::source::Class;

const WHAT: &str = "envelope";
const KIND: &str = "application/vnd.strongroom.envelope+json";

/// Whether something was captured whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything that the inventory names is in it.
    Complete,
    /// Something is missing; the manifest says what and why.
    Incomplete,
}

impl Status {
    /// `complete` or `incomplete`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Whether a run was asked for every asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All assets of the configuration.
    All,
    /// Only some, named by the operator.
    Partial,
}

/// What the envelope says of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeAsset {
    /// The asset's name in the configuration.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// The kind of source that read it.
    pub source: String,
    /// Whether it was captured whole.
    pub status: Status,
    /// The bytes of all its streams.
    pub size_bytes: u64,
    /// When the certificates in it expire, where it holds some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<EnvelopeCertificates>,
}

/// What retention needs to know of the certificates in an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeCertificates {
    /// The latest notAfter of them.
    pub expire: jiff::Timestamp,
    /// The same for the same certificates within an epoch; says nothing about them.
    pub set: String,
}

/// The epoch that a backup is sealed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeEpoch {
    /// The epoch.
    pub id: EpochId,
    /// The digest of the object that holds its sealed identity.
    pub object: Digest,
}

impl EnvelopeEpoch {
    /// The name of the sealed identity.
    pub fn name(&self) -> ObjectName {
        ObjectName::epoch(self.id, self.object)
    }
}

/// The clear, signed record of one backup in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The format of the backup.
    pub format: u32,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The installation.
    pub deployment: String,
    /// Who signed.
    pub writer: WriterId,
    /// The number in this writer's chain, from 1.
    pub sequence: u64,
    /// The digest of the stored envelope before this one.
    pub previous: Option<Digest>,
    /// The number of the run, the same in every repository.
    pub run: u64,
    /// The backup's name.
    pub label: Label,
    /// When the run began.
    pub started: jiff::Timestamp,
    /// When this envelope was written.
    pub finished: jiff::Timestamp,
    /// The program that wrote it.
    pub tool: String,
    /// Whether all assets were asked for.
    pub scope: Scope,
    /// Whether all that was asked for is there.
    pub status: Status,
    /// Every repository that the run wrote to, sorted.
    pub repositories: Vec<String>,
    /// The assets in this repository.
    pub assets: Vec<EnvelopeAsset>,
    /// The epoch that opens it.
    pub epoch: EnvelopeEpoch,
    /// The manifest's digest.
    pub manifest: Digest,
    /// Every object needed with its stored size, sorted.
    pub objects: Vec<(Digest, u64)>,
    /// Until when the storage refuses to delete, where it can.
    pub lock_until: Option<jiff::Timestamp>,
}

impl Envelope {
    /// Serialises and signs.
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        key.sign_document(KIND, self)
    }

    /// Reads a stored envelope, found under `name` in the repository of `document`.
    pub fn open(
        bytes: &[u8],
        name: &ObjectName,
        document: &RepositoryDocument,
    ) -> Result<Self, FormatError> {
        let (envelope, signer): (Self, _) = document.open_signed(WHAT, KIND, bytes)?;
        let damaged = |why: &str| Err(FormatError::damaged(WHAT, why));
        if name.envelope_parts() != Some((signer, envelope.sequence)) || envelope.writer != signer {
            return damaged("it lies under a name that is not its own");
        }
        if envelope.repository != document.repository {
            return damaged("it belongs to another repository");
        }
        if envelope.sequence == 0 || (envelope.sequence == 1) != envelope.previous.is_none() {
            return damaged("its sequence number and its predecessor contradict each other");
        }
        if !envelope.objects.is_sorted_by(|one, two| one.0 < two.0) {
            return damaged("its objects are not sorted");
        }
        if envelope
            .objects
            .iter()
            .any(|(_, size)| *size > limits::SIZE_MAX)
        {
            return damaged("an object is larger than 2^63 - 1 bytes");
        }
        if envelope.size_of(envelope.manifest).is_none() {
            return damaged("its manifest is not among its objects");
        }
        Ok(envelope)
    }

    /// The stored size of an object, if this backup needs it.
    pub fn size_of(&self, object: Digest) -> Option<u64> {
        let place = self
            .objects
            .binary_search_by_key(&object, |(digest, _)| *digest)
            .ok()?;
        Some(self.objects[place].1)
    }

    /// The name under which it is stored.
    pub fn name(&self) -> ObjectName {
        ObjectName::envelope(self.writer, self.sequence)
    }

    /// Every object that the backup needs, its epoch's identity first, with the size where it is known.
    pub fn needs(&self) -> impl Iterator<Item = (ObjectName, Option<u64>)> {
        let objects = self.objects.iter();
        let objects = objects.map(|(digest, size)| (ObjectName::object(*digest), Some(*size)));
        std::iter::once((self.epoch.name(), None)).chain(objects)
    }

    /// The stored bytes of all objects that it needs.
    pub fn stored_bytes(&self) -> u64 {
        self.objects
            .iter()
            .fold(0, |sum, (_, size)| sum.saturating_add(*size))
    }
}
