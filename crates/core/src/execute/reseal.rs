//! Seals the identities of epochs that exist to other recipients as well. Touches no pack, and takes nothing away.

use std::collections::{BTreeMap, BTreeSet};

use crate::cancel::Cancel;
use crate::format::name::{self, ObjectName};
use crate::format::seal::{BoxedIdentity, BoxedRecipient, EpochIdentity};
use crate::format::{Digest, EpochId, FormatError};
use crate::repository::{Repository, RepositoryError};

/// The epochs of a repository, each with the objects that open it.
pub fn epochs(
    repository: &Repository,
) -> Result<BTreeMap<EpochId, BTreeSet<ObjectName>>, RepositoryError> {
    let mut found: BTreeMap<EpochId, BTreeSet<ObjectName>> = BTreeMap::new();
    repository.storage().list(name::EPOCHS, &mut |name, _| {
        if let (Some(epoch), Some(_)) = (name.epoch_id(), name.digest()) {
            found.entry(epoch).or_default().insert(name);
        }
    })?;
    Ok(found)
}

/// Opens one epoch by any of its objects; the error is that of the first.
fn open_epoch<'n>(
    repository: &Repository,
    objects: impl IntoIterator<Item = &'n ObjectName>,
    identities: &[BoxedIdentity],
) -> Result<EpochIdentity, RepositoryError> {
    let mut first = None;
    for name in objects {
        match repository.open_epoch_object(name, identities) {
            Ok(epoch) => return Ok(epoch),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(
        first.unwrap_or(RepositoryError::Format(FormatError::WrongIdentity {
            what: "epoch identity",
        })),
    )
}

/// Seals these epochs to the recipients; all of them are opened before the first object is stored.
///
/// Gives the object that was stored for each. What is stored already by an earlier run stays: another object does no harm.
pub fn reseal(
    repository: &Repository,
    epochs: &BTreeMap<EpochId, BTreeSet<ObjectName>>,
    identities: &[BoxedIdentity],
    recipients: &[BoxedRecipient],
    cancel: &Cancel,
) -> Result<BTreeMap<EpochId, Digest>, RepositoryError> {
    let mut sealed = Vec::new();
    for (id, objects) in epochs {
        cancel.check()?;
        let epoch = open_epoch(repository, objects, identities)?;
        sealed.push((*id, epoch.seal_to(recipients)?));
    }
    let mut stored = BTreeMap::new();
    for (id, bytes) in sealed {
        let digest = Digest::of(&bytes);
        repository
            .storage()
            .create(&ObjectName::epoch(id, digest), &bytes)?;
        stored.insert(id, digest);
    }
    repository.storage().flush()?;
    Ok(stored)
}
