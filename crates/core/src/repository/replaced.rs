//! Objects that were stored once more: a storage tells when, and nothing that an envelope names is stored after it.
//!
//! Who overwrites an object with as many bytes cannot be seen by its size. Where the storage computes digests itself, that
//! of the object tells; elsewhere only reading it does, and until then nothing leans on it. In a directory or over SFTP a
//! thief may set the time as he likes: there this finds who does not think of it.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::state::WriterState;
use super::{Repository, RepositoryError};
use crate::format::Digest;
use crate::format::name::ObjectName;
use crate::storage::{Storage, StorageError};

/// By how much the times of one storage may disagree: some state whole seconds.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);
/// How many objects a storage is asked about one by one.
const ASKED_MAX: usize = 1000;

/// When each object was stored that was stored after a backup that needs it.
pub type Replaced = BTreeMap<ObjectName, Timestamp>;

/// What is known of objects that were stored once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplacedSeen {
    /// Those that have other bytes, by the word of the storage or by what a verification found.
    pub overwritten: Vec<ObjectName>,
    /// Those that may be whole: nobody has read them since.
    pub unread: Vec<ObjectName>,
}

/// Whether something that was stored at `stored` was stored after what was there at `by`.
pub(super) fn is_later(stored: Option<Timestamp>, by: Option<Timestamp>) -> bool {
    let (Some(stored), Some(by)) = (stored, by) else {
        return false;
    };
    stored.duration_since(by) > TOLERANCE
}

/// What the storage says of the bytes of an object that is named by its digest.
fn is_whole(storage: &dyn Storage, name: &ObjectName) -> Result<Option<bool>, StorageError> {
    let digest = storage.checksum(name)?;
    Ok(digest.map(|digest| name.digest() == Some(digest)))
}

/// The backup that this host has written last, as far as it remembers.
#[derive(Default)]
pub(super) struct LastBackup {
    objects: HashSet<Digest>,
    /// When its envelope was stored; all of the objects were before.
    stored: Option<Timestamp>,
    /// Objects that were stored later and found whole.
    proved: Replaced,
}

impl LastBackup {
    /// Nothing is known of it where the host does not remember it, or where the envelope is another one now.
    pub(super) fn of(
        repository: &Repository,
        state: &WriterState,
    ) -> Result<Self, RepositoryError> {
        let id = repository.document().repository;
        let Some(head) = state.head(id)?.filter(|head| head.stored.is_some()) else {
            return Ok(Self::default());
        };
        let name = ObjectName::envelope(head.writer, head.sequence);
        let envelope = match repository.envelope(&name) {
            Ok(found) if found.digest == head.digest => found.envelope,
            Ok(_)
            | Err(
                RepositoryError::Damaged { .. }
                | RepositoryError::Storage(StorageError::NotFound { .. }),
            ) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let objects = envelope.objects.iter().map(|(digest, _)| *digest);
        Ok(Self {
            objects: objects.collect(),
            stored: head.stored,
            proved: state.proved(id)?,
        })
    }

    /// Whether somebody has stored an object that this backup needs once more, and nobody has proved it since.
    pub(super) fn is_in_doubt(
        &self,
        storage: &dyn Storage,
        name: &ObjectName,
        stored: Option<Timestamp>,
    ) -> Result<bool, StorageError> {
        let is_named = name
            .digest()
            .is_some_and(|digest| self.objects.contains(&digest));
        let is_doubtful =
            is_named && is_later(stored, self.stored) && self.proved.get(name).copied() != stored;
        Ok(is_doubtful && is_whole(storage, name)? != Some(true))
    }
}

impl Repository {
    /// Asks the storage about objects that were stored once more, but for those that this host has read since.
    pub fn look_at_replaced(
        &self,
        replaced: &Replaced,
        state: &WriterState,
    ) -> Result<ReplacedSeen, RepositoryError> {
        let id = self.document().repository;
        let (proved, damaged) = (state.proved(id)?, state.damaged(id)?);
        let mut seen = ReplacedSeen::default();
        let doubtful = replaced
            .iter()
            .filter(|(name, stored)| proved.get(*name) != Some(*stored));
        for (number, (name, _)) in doubtful.enumerate() {
            let is_whole = if damaged.contains_key(name) {
                Some(false)
            } else if number < ASKED_MAX {
                is_whole(self.storage(), name)?
            } else {
                None
            };
            match is_whole {
                Some(true) => {}
                Some(false) => seen.overwritten.push(name.clone()),
                None => seen.unread.push(name.clone()),
            }
        }
        Ok(seen)
    }
}
