//! What the writing host remembers of a repository between runs.
//!
//! One directory a repository, 0700. All of it may be lost: then a new epoch begins and rolled-back history
//! is found by the chain alone. `head.json` is what a thief of the storage cannot change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Replaced, RepositoryError};
use crate::format::name::ObjectName;
use crate::format::{Digest, EpochId, Label, RepositoryId, WriterId};
use crate::private_file;

/// The directory of one repository's state.
#[derive(Clone, Debug)]
pub struct WriterState {
    directory: PathBuf,
}

/// The newest envelope that this host has written or seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The repository it is in.
    pub repository: RepositoryId,
    /// Its sequence number.
    pub sequence: u64,
    /// The digest of its stored bytes.
    pub digest: Digest,
    /// Its run.
    pub run: u64,
    /// Whose chain it is in.
    pub writer: WriterId,
    /// When it was stored, by the storage's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<jiff::Timestamp>,
}

/// The epoch that new backups are sealed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EpochState {
    pub(crate) repository: RepositoryId,
    pub(crate) id: EpochId,
    pub(crate) object: Digest,
    pub(crate) size_bytes: u64,
    /// The epoch's own recipient; its identity is forgotten.
    pub(crate) recipient: String,
    pub(crate) opened: jiff::Timestamp,
    /// To whom the identity was sealed, sorted.
    pub(crate) recipients: Vec<String>,
}

/// In place of a level, for a backup that was found damaged; sorts before all levels.
pub const DAMAGED: &str = "DAMAGED";

/// The highest level that a backup was verified at, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// `L1` to `L4`, or [`DAMAGED`].
    pub level: String,
    /// When.
    pub time: jiff::Timestamp,
}

/// What a verification found wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDamage {
    /// What is wrong with it.
    pub why: String,
    /// When that was found.
    pub time: jiff::Timestamp,
}

/// What is remembered of single objects of one repository.
#[derive(Serialize, Deserialize)]
struct ObjectsRecord<T> {
    repository: RepositoryId,
    objects: BTreeMap<String, T>,
}

/// The objects that were found damaged.
const DAMAGED_FILE: &str = "damaged.json";

/// The objects that were read and found whole although they had been stored once more, and when they had been.
const PROVED_FILE: &str = "proved.json";

impl WriterState {
    /// The state of the repository called `name` under the state directory; made when something is noted.
    pub fn open(state: &Path, name: &str) -> Self {
        Self {
            directory: state.join("repository").join(name),
        }
    }

    /// The newest envelope known here, if it is of `repository`.
    pub fn head(&self, repository: RepositoryId) -> Result<Option<Head>, RepositoryError> {
        let head: Option<Head> = self.load("head.json")?;
        Ok(head.filter(|head| head.repository == repository))
    }

    /// The repository that this host has written to under this name, if it has.
    pub fn repository(&self) -> Result<Option<RepositoryId>, RepositoryError> {
        let head: Option<Head> = self.load("head.json")?;
        Ok(head.map(|head| head.repository))
    }

    /// Where all of it lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Remembers the newest envelope.
    pub fn save_head(&self, head: &Head) -> Result<(), RepositoryError> {
        self.save("head.json", head)
    }

    pub(crate) fn epoch(&self) -> Result<Option<EpochState>, RepositoryError> {
        self.load("epoch.json")
    }

    pub(crate) fn save_epoch(&self, epoch: &EpochState) -> Result<(), RepositoryError> {
        self.save("epoch.json", epoch)
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.directory.join("index")
    }

    /// What the sources left for their next capture, by asset.
    pub(crate) fn memory(&self) -> Result<BTreeMap<String, serde_json::Value>, RepositoryError> {
        Ok(self.load("memory.json")?.unwrap_or_default())
    }

    pub(crate) fn save_memory(
        &self,
        memory: &BTreeMap<String, serde_json::Value>,
    ) -> Result<(), RepositoryError> {
        self.save("memory.json", memory)
    }

    /// The levels that backups were verified at on this host.
    pub fn verified(&self) -> Result<BTreeMap<Label, Verified>, RepositoryError> {
        Ok(self.load("verified.json")?.unwrap_or_default())
    }

    /// Notes the level of a backup, unless a higher one is known.
    pub fn note_verified(&self, label: &Label, verified: Verified) -> Result<(), RepositoryError> {
        let mut all = self.verified()?;
        if all
            .get(label)
            .is_none_or(|known| known.level <= verified.level)
        {
            all.insert(label.clone(), verified);
            self.save("verified.json", &all)?;
        }
        Ok(())
    }

    /// Takes back every level: the backup was found damaged.
    pub fn note_damaged(
        &self,
        label: &Label,
        time: jiff::Timestamp,
    ) -> Result<(), RepositoryError> {
        let mut all = self.verified()?;
        all.insert(
            label.clone(),
            Verified {
                level: DAMAGED.to_owned(),
                time,
            },
        );
        self.save("verified.json", &all)
    }

    /// The objects of `repository` that were found damaged and not found whole since.
    pub fn damaged(
        &self,
        repository: RepositoryId,
    ) -> Result<BTreeMap<ObjectName, FoundDamage>, RepositoryError> {
        self.load_objects(DAMAGED_FILE, repository)
    }

    /// Remembers which objects of `repository` were found damaged, and forgets those that were found `whole`.
    pub fn note_objects<'n>(
        &self,
        repository: RepositoryId,
        damaged: &BTreeMap<ObjectName, String>,
        whole: impl IntoIterator<Item = &'n ObjectName>,
        time: jiff::Timestamp,
    ) -> Result<(), RepositoryError> {
        let known = self.damaged(repository)?;
        let mut all = known.clone();
        for name in whole {
            all.remove(name);
        }
        for (name, why) in damaged {
            all.entry(name.clone()).or_insert_with(|| FoundDamage {
                why: why.clone(),
                time,
            });
        }
        if all == known {
            return Ok(());
        }
        self.save_objects(DAMAGED_FILE, repository, all)
    }

    /// The objects of `repository` that were found whole after they had been stored once more, and when that was.
    pub fn proved(&self, repository: RepositoryId) -> Result<Replaced, RepositoryError> {
        self.load_objects(PROVED_FILE, repository)
    }

    /// Remembers that these were whole when they had been stored at these times; forgets what is not `kept`.
    pub fn note_proved(
        &self,
        repository: RepositoryId,
        proved: Replaced,
        is_kept: impl Fn(&ObjectName) -> bool,
    ) -> Result<(), RepositoryError> {
        let known = self.proved(repository)?;
        let mut all = known.clone();
        all.retain(|name, _| is_kept(name));
        all.extend(proved);
        if all == known {
            return Ok(());
        }
        self.save_objects(PROVED_FILE, repository, all)
    }

    /// What a file remembers of objects; nothing where it is about another repository.
    fn load_objects<T: DeserializeOwned>(
        &self,
        file: &str,
        repository: RepositoryId,
    ) -> Result<BTreeMap<ObjectName, T>, RepositoryError> {
        let record: Option<ObjectsRecord<T>> = self.load(file)?;
        let record = record.filter(|record| record.repository == repository);
        let objects = record.map(|record| record.objects).unwrap_or_default();
        let named = objects.into_iter();
        Ok(named
            .filter_map(|(name, known)| Some((ObjectName::parse(&name)?, known)))
            .collect())
    }

    fn save_objects<T: Serialize>(
        &self,
        file: &str,
        repository: RepositoryId,
        objects: BTreeMap<ObjectName, T>,
    ) -> Result<(), RepositoryError> {
        let objects = objects.into_iter();
        let objects = objects.map(|(name, known)| (name.as_str().to_owned(), known));
        let objects = objects.collect();
        self.save(
            file,
            &ObjectsRecord {
                repository,
                objects,
            },
        )
    }

    /// Reads a file of this directory; one that does not parse counts as lost.
    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RepositoryError> {
        let path = self.directory.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RepositoryError::state("read", &path)(error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a state file is unusable and counts as lost");
                Ok(None)
            }
        }
    }

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), RepositoryError> {
        private_file::create_dir_all(&self.directory)
            .map_err(RepositoryError::state("create", &self.directory))?;
        let path = self.directory.join(name);
        let bytes = serde_json::to_vec_pretty(value).expect("plain values serialise");
        private_file::replace(&path, &bytes).map_err(RepositoryError::state("write", &path))
    }
}
