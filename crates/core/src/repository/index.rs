//! The writer's cache of what an epoch already holds: chunks in packs, and artifacts.
//!
//! It is disposable: a lost or damaged one begins a new epoch. Nothing is visible to the next run before
//! [`Index::commit`], which a run calls only after the objects are durable.

use std::path::{Path, PathBuf};

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::RepositoryError;
use crate::format::{Digest, EpochId};

/// The first 16 bytes of the keyed BLAKE3 of a chunk.
pub type ChunkId = [u8; 16];
/// The keyed BLAKE3 of an artifact's content.
pub type ArtifactId = [u8; 32];

const CHUNKS: TableDefinition<'_, &ChunkId, &[u8; 16]> = TableDefinition::new("chunks");
const ARTIFACTS: TableDefinition<'_, &ArtifactId, &[u8; 40]> = TableDefinition::new("artifacts");
const PACKS: TableDefinition<'_, u32, &[u8; 40]> = TableDefinition::new("packs");
const EPOCH: TableDefinition<'_, (), &[u8; 8]> = TableDefinition::new("epoch");

/// How much memory the cache of the cache may take, in bytes.
const MEMORY: usize = 6 << 20;

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The pack's number in this index.
    pub pack: u32,
    /// Where its frame begins in the plaintext of the pack.
    pub frame: u32,
    /// Where it begins in the content of the frame.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

impl ChunkPlace {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let fields = [self.pack, self.frame, self.offset, self.length];
        for (bytes, field) in bytes.chunks_exact_mut(4).zip(fields) {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; 16]) -> Self {
        let field = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            pack: field(0),
            frame: field(4),
            offset: field(8),
            length: field(12),
        }
    }
}

/// A stored object as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The digest of its stored bytes.
    pub digest: Digest,
    /// Their length.
    pub size_bytes: u64,
}

impl StoredObject {
    fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..].copy_from_slice(&self.size_bytes.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; 40]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[..32]);
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[32..]);
        Self {
            digest: Digest::from_bytes(digest),
            size_bytes: u64::from_le_bytes(size),
        }
    }
}

/// The open index of one epoch, with one transaction for the whole run.
pub struct Index {
    path: PathBuf,
    database: Database,
    transaction: Option<WriteTransaction>,
    /// The packs of this epoch by their number.
    packs: Vec<StoredObject>,
}

impl Index {
    /// Opens the index of `epoch`; `None` when there is none, or one of another epoch, or a damaged one.
    pub fn open(path: &Path, epoch: EpochId) -> Result<Option<Self>, RepositoryError> {
        if !path.exists() {
            return Ok(None);
        }
        match Self::load(path, epoch) {
            Ok(index) => Ok(index),
            Err(error @ redb::Error::DatabaseAlreadyOpen) => {
                Err(RepositoryError::index("open", path)(error))
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the chunk index is unusable; a new epoch begins");
                Ok(None)
            }
        }
    }

    fn load(path: &Path, epoch: EpochId) -> Result<Option<Self>, redb::Error> {
        let database = Database::builder().set_cache_size(MEMORY).open(path)?;
        let mut packs = Vec::new();
        {
            let reading = database.begin_read()?;
            let stored = reading
                .open_table(EPOCH)?
                .get(())?
                .map(|value| *value.value());
            if stored != Some(*epoch.as_bytes()) {
                return Ok(None);
            }
            for row in reading.open_table(PACKS)?.iter()? {
                let (number, object) = row?;
                if number.value() as usize != packs.len() {
                    return Ok(None);
                }
                packs.push(StoredObject::from_bytes(object.value()));
            }
        }
        let transaction = database.begin_write()?;
        Ok(Some(Self {
            path: path.to_owned(),
            database,
            transaction: Some(transaction),
            packs,
        }))
    }

    /// Makes an empty index for `epoch` in place of whatever was there.
    pub fn create(path: &Path, epoch: EpochId) -> Result<Self, RepositoryError> {
        let build = || -> Result<Self, redb::Error> {
            drop(crate::private_file::create_or_truncate(path)?);
            let database = Database::builder().set_cache_size(MEMORY).create(path)?;
            let transaction = database.begin_write()?;
            transaction
                .open_table(EPOCH)?
                .insert((), epoch.as_bytes())?;
            transaction.open_table(CHUNKS)?;
            transaction.open_table(ARTIFACTS)?;
            transaction.open_table(PACKS)?;
            let transaction = Some(transaction);
            Ok(Self {
                path: path.to_owned(),
                database,
                transaction,
                packs: Vec::new(),
            })
        };
        build().map_err(RepositoryError::index("create", path))
    }

    /// The packs of this epoch.
    pub fn pack(&self, number: u32) -> Option<StoredObject> {
        self.packs.get(number as usize).copied()
    }

    /// Looks up many chunks at once; what is not known is `None`.
    pub fn find_chunks(
        &self,
        ids: &[ChunkId],
        mut found: impl FnMut(usize, Option<ChunkPlace>),
    ) -> Result<(), RepositoryError> {
        let mut look = || -> Result<(), redb::Error> {
            let table = self.transaction().open_table(CHUNKS)?;
            for (number, id) in ids.iter().enumerate() {
                let place = table
                    .get(id)?
                    .map(|value| ChunkPlace::from_bytes(value.value()));
                found(number, place);
            }
            Ok(())
        };
        look().map_err(RepositoryError::index("read", &self.path))
    }

    /// Numbers a pack and remembers where its chunks are.
    pub fn add_pack(
        &mut self,
        object: StoredObject,
        chunks: impl Iterator<Item = (ChunkId, u32, u32, u32)>,
    ) -> Result<u32, RepositoryError> {
        let number = u32::try_from(self.packs.len()).expect("fewer than 2^32 packs in an epoch");
        self.packs.push(object);
        let write = || -> Result<(), redb::Error> {
            self.transaction()
                .open_table(PACKS)?
                .insert(number, &object.to_bytes())?;
            let mut table = self.transaction().open_table(CHUNKS)?;
            // A B-tree takes sorted keys faster than random ones.
            let mut chunks: Vec<_> = chunks.collect();
            chunks.sort_unstable_by_key(|chunk| chunk.0);
            for (id, frame, offset, length) in chunks {
                let place = ChunkPlace {
                    pack: number,
                    frame,
                    offset,
                    length,
                };
                table.insert(&id, &place.to_bytes())?;
            }
            Ok(())
        };
        write().map_err(RepositoryError::index("write", &self.path))?;
        Ok(number)
    }

    /// Looks up an artifact by its content.
    pub fn find_artifact(&self, id: &ArtifactId) -> Result<Option<StoredObject>, RepositoryError> {
        let look = || -> Result<_, redb::Error> {
            let table = self.transaction().open_table(ARTIFACTS)?;
            let value = table.get(id)?;
            Ok(value.map(|value| StoredObject::from_bytes(value.value())))
        };
        look().map_err(RepositoryError::index("read", &self.path))
    }

    /// Remembers an artifact.
    pub fn add_artifact(
        &mut self,
        id: &ArtifactId,
        object: StoredObject,
    ) -> Result<(), RepositoryError> {
        let write = || -> Result<(), redb::Error> {
            self.transaction()
                .open_table(ARTIFACTS)?
                .insert(id, &object.to_bytes())?;
            Ok(())
        };
        write().map_err(RepositoryError::index("write", &self.path))
    }

    /// Makes what was added visible to later runs, and begins the next transaction.
    pub fn commit(&mut self) -> Result<(), RepositoryError> {
        let mut commit = || -> Result<(), redb::Error> {
            // The database allows one writer at a time: the old transaction ends before the next begins.
            if let Some(transaction) = self.transaction.take() {
                transaction.commit()?;
            }
            self.transaction = Some(self.database.begin_write()?);
            Ok(())
        };
        commit().map_err(RepositoryError::index("commit", &self.path))
    }

    fn transaction(&self) -> &WriteTransaction {
        self.transaction
            .as_ref()
            .expect("only a failed commit leaves none, and ends the run")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_committed_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index.redb");
        let epoch = EpochId::from_bytes([1; 8]);
        let object = StoredObject {
            digest: Digest::of(b"pack"),
            size_bytes: 7,
        };
        let mut index = Index::create(&path, epoch).expect("creates");
        index.commit().expect("commits");
        index
            .add_pack(object, [([1; 16], 0, 0, 4096)].into_iter())
            .expect("adds");
        index.commit().expect("commits");
        index
            .add_pack(object, [([2; 16], 0, 0, 4096)].into_iter())
            .expect("adds");
        index.add_artifact(&[9; 32], object).expect("adds");
        drop(index);

        let index = Index::open(&path, epoch).expect("opens").expect("is there");
        assert_eq!((index.pack(0), index.pack(1)), (Some(object), None));
        let mut found = Vec::new();
        index
            .find_chunks(&[[2; 16], [1; 16]], |_, place| found.push(place))
            .expect("reads");
        let place = ChunkPlace {
            pack: 0,
            frame: 0,
            offset: 0,
            length: 4096,
        };
        assert_eq!(found, [None, Some(place)]);
        assert_eq!(index.find_artifact(&[9; 32]).expect("reads"), None);
        drop(index);

        let other = EpochId::from_bytes([2; 8]);
        assert!(
            Index::open(&path, other).expect("opens").is_none(),
            "another epoch"
        );
        crate::private_file::replace(&path, b"garbage").expect("writes");
        assert!(
            Index::open(&path, epoch).expect("opens").is_none(),
            "a damaged index"
        );
    }
}
