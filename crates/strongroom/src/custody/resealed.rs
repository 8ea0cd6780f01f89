//! What this host has sealed to other recipients, so that it is not done twice. It may be lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_core::format::{Digest, EpochId, RepositoryId};
use strongroom_core::private_file;

use super::records::read;
use crate::failure::{Failure, io};
use crate::session::Session;

/// The notes on one repository.
pub(crate) struct Resealed {
    path: PathBuf,
    notes: BTreeMap<EpochId, Vec<Note>>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    /// Sorted.
    recipients: Vec<String>,
    object: Digest,
}

impl Resealed {
    /// Those on a repository. Notes that cannot be read count as lost.
    pub(crate) fn of(session: &Session<'_>, repository: RepositoryId) -> Result<Self, Failure> {
        let directory = session.config.writer.state_dir.join("custody");
        let path = directory.join(format!("resealed-{repository}.notes"));
        let notes = if path.exists() {
            serde_json::from_slice(&read(&path)?).unwrap_or_default()
        } else {
            BTreeMap::new()
        };
        Ok(Self { path, notes })
    }

    /// The object that seals an epoch to just these recipients.
    pub(crate) fn object(&self, epoch: EpochId, recipients: &[String]) -> Option<&Digest> {
        let notes = self.notes.get(&epoch)?;
        let wanted = sorted(recipients);
        notes
            .iter()
            .rfind(|note| note.recipients == wanted)
            .map(|note| &note.object)
    }

    /// Notes what was stored.
    pub(crate) fn note(
        &mut self,
        stored: &BTreeMap<EpochId, Digest>,
        recipients: &[String],
    ) -> Result<(), Failure> {
        for (epoch, object) in stored {
            self.notes.entry(*epoch).or_default().push(Note {
                recipients: sorted(recipients),
                object: *object,
            });
        }
        if let Some(directory) = self.path.parent() {
            private_file::create_dir_all(directory).map_err(io("create", directory))?;
        }
        let bytes = serde_json::to_vec(&self.notes).expect("plain values serialise");
        private_file::replace(&self.path, &bytes).map_err(io("write", &self.path))
    }
}

fn sorted(recipients: &[String]) -> Vec<String> {
    let mut sorted = recipients.to_vec();
    sorted.sort();
    sorted
}
