//! The writer's cache of what an epoch already holds: chunks in packs, and artifacts.
//!
//! It is disposable: a lost or damaged one begins a new epoch. Nothing is visible to the next run before
//! [`Index::commit`], which a run calls only after the objects are durable.
//!
//! A directory: `current.json` names what counts and is replaced at each commit; `packs.bin` and `artifacts.bin` only
//! grow; the chunks are in sorted [`run`] files, a few, each at most half as long as the one before it. A lookup
//! reads one block of a run. docs/adr/0010 has the measurements behind it.

mod run;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::run::{Entry, Run};
use super::RepositoryError;
use crate::format::{Digest, EpochId};
use crate::private_file;

/// The first 16 bytes of the keyed BLAKE3 of a chunk.
pub type ChunkId = [u8; 16];
/// The keyed BLAKE3 of an artifact's content.
pub type ArtifactId = [u8; 32];

/// How many new chunks are held in memory before they become a run: about 4 MB.
const PENDING_MAX: usize = 64 << 10;
const CURRENT: &str = "current.json";
const PACKS: &str = "packs.bin";
const ARTIFACTS: &str = "artifacts.bin";
const OBJECT_BYTES: usize = 40;
const ARTIFACT_BYTES: usize = 32 + OBJECT_BYTES;

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

/// A stored object as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// The digest of its stored bytes.
    pub digest: Digest,
    /// Their length.
    pub size_bytes: u64,
}

impl StoredObject {
    fn to_bytes(self) -> [u8; OBJECT_BYTES] {
        let mut bytes = [0; OBJECT_BYTES];
        bytes[..32].copy_from_slice(self.digest.as_bytes());
        bytes[32..].copy_from_slice(&self.size_bytes.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(&bytes[..32]);
        let mut size = [0; 8];
        size.copy_from_slice(&bytes[32..OBJECT_BYTES]);
        Self {
            digest: Digest::from_bytes(digest),
            size_bytes: u64::from_le_bytes(size),
        }
    }
}

/// What counts of the files in the directory.
#[derive(Serialize, Deserialize)]
struct Current {
    epoch: EpochId,
    packs: u32,
    artifacts: u64,
    /// XXH3 of what counts of `packs.bin` and `artifacts.bin`.
    packs_sum: u64,
    artifacts_sum: u64,
    /// The runs by their number, longest first.
    runs: Vec<u64>,
    next_run: u64,
    /// Packs that the storage has lost; their chunks count as unknown.
    lost: BTreeSet<u32>,
}

/// The open index of one epoch.
pub struct Index {
    directory: PathBuf,
    epoch: EpochId,
    packs: Vec<StoredObject>,
    artifacts: HashMap<ArtifactId, StoredObject>,
    packs_file: Tail,
    artifacts_file: Tail,
    pending: HashMap<ChunkId, ChunkPlace>,
    runs: Vec<Run>,
    next_run: u64,
    lost: BTreeSet<u32>,
    /// Run files that the next commit makes superfluous.
    replaced: Vec<PathBuf>,
}

/// A file that grows, with the digest of all of it.
struct Tail {
    file: File,
    sum: twox_hash::XxHash3_64,
}

impl Tail {
    /// Opens `path`, cuts it to the `length` bytes that count, and reads those.
    fn open(path: &Path, length: usize) -> io::Result<(Self, Vec<u8>)> {
        let file = private_file::append(path)?;
        if file.metadata()?.len() < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.set_len(length as u64)?;
        let bytes = std::fs::read(path)?;
        let mut sum = twox_hash::XxHash3_64::new();
        sum.write(&bytes);
        Ok((Self { file, sum }, bytes))
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.write(bytes);
        self.file.write_all(bytes)
    }

    fn sum(&self) -> u64 {
        self.sum.finish()
    }
}

impl Index {
    /// Opens the index of `epoch`; `None` when there is none, or one of another epoch, or a damaged one.
    pub fn open(directory: &Path, epoch: EpochId) -> Result<Option<Self>, RepositoryError> {
        match Self::load(directory, epoch) {
            Ok(index) => Ok(index),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let path = directory.display();
                tracing::warn!(%path, %error, "the chunk index is unusable; a new epoch begins");
                Ok(None)
            }
        }
    }

    fn load(directory: &Path, epoch: EpochId) -> io::Result<Option<Self>> {
        let current: Current = serde_json::from_slice(&std::fs::read(directory.join(CURRENT))?)?;
        if current.epoch != epoch {
            return Ok(None);
        }
        let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let length = current.packs as usize * OBJECT_BYTES;
        let (packs_file, bytes) = Tail::open(&directory.join(PACKS), length)?;
        let packs = bytes
            .chunks_exact(OBJECT_BYTES)
            .map(StoredObject::from_bytes)
            .collect();
        let length = usize::try_from(current.artifacts).ok();
        let length = length.and_then(|count| count.checked_mul(ARTIFACT_BYTES));
        let length = length.ok_or_else(|| damaged("too many artifacts"))?;
        let (artifacts_file, bytes) = Tail::open(&directory.join(ARTIFACTS), length)?;
        let artifacts = bytes.chunks_exact(ARTIFACT_BYTES).map(|bytes| {
            let mut id = [0; 32];
            id.copy_from_slice(&bytes[..32]);
            (id, StoredObject::from_bytes(&bytes[32..]))
        });
        let artifacts = artifacts.collect();
        if (packs_file.sum(), artifacts_file.sum()) != (current.packs_sum, current.artifacts_sum) {
            return Err(damaged("its lists of packs and artifacts were changed"));
        }
        let runs = current
            .runs
            .iter()
            .map(|number| Run::open(directory, *number));
        let index = Self {
            directory: directory.to_owned(),
            epoch,
            packs,
            artifacts,
            packs_file,
            artifacts_file,
            pending: HashMap::new(),
            runs: runs.collect::<io::Result<_>>()?,
            next_run: current.next_run,
            lost: current.lost,
            replaced: Vec::new(),
        };
        index.remove_strangers()?;
        Ok(Some(index))
    }

    /// Removes what an interrupted run has left behind.
    fn remove_strangers(&self) -> io::Result<()> {
        let known: BTreeSet<&Path> = self.runs.iter().map(Run::path).collect();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension() == Some("run".as_ref()) && !known.contains(path.as_path()) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Makes an empty index for `epoch` in place of whatever was there.
    pub fn create(directory: &Path, epoch: EpochId) -> Result<Self, RepositoryError> {
        let build = || {
            match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => private_file::create_dir_all(directory)?,
            }
            Ok(Self {
                directory: directory.to_owned(),
                epoch,
                packs: Vec::new(),
                artifacts: HashMap::new(),
                packs_file: Tail::open(&directory.join(PACKS), 0)?.0,
                artifacts_file: Tail::open(&directory.join(ARTIFACTS), 0)?.0,
                pending: HashMap::new(),
                runs: Vec::new(),
                next_run: 1,
                lost: BTreeSet::new(),
                replaced: Vec::new(),
            })
        };
        build().map_err(RepositoryError::state("create the chunk index", directory))
    }

    /// The packs of this epoch.
    pub fn pack(&self, number: u32) -> Option<StoredObject> {
        self.packs.get(number as usize).copied()
    }

    /// Takes note that the storage has lost a pack: from here on its chunks are unknown.
    pub fn forget_pack(&mut self, number: u32) {
        self.lost.insert(number);
    }

    /// Looks up many chunks at once; what is not known is `None`.
    pub fn find_chunks(
        &self,
        ids: &[ChunkId],
        mut found: impl FnMut(usize, Option<ChunkPlace>),
    ) -> Result<(), RepositoryError> {
        let counts = |place: &ChunkPlace| {
            (place.pack as usize) < self.packs.len() && !self.lost.contains(&place.pack)
        };
        let mut block = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let mut place = self.pending.get(id).copied().filter(counts);
            for run in &self.runs {
                if place.is_some() {
                    break;
                }
                place = run
                    .find(id, &mut block)
                    .map_err(RepositoryError::state("read the chunk index", run.path()))?
                    .filter(counts);
            }
            found(number, place);
        }
        Ok(())
    }

    /// Numbers a pack and remembers where its chunks are.
    pub fn add_pack(
        &mut self,
        object: StoredObject,
        chunks: impl Iterator<Item = (ChunkId, u32, u32, u32)>,
    ) -> Result<u32, RepositoryError> {
        let pack = u32::try_from(self.packs.len()).expect("fewer than 2^32 packs in an epoch");
        self.packs.push(object);
        self.packs_file
            .push(&object.to_bytes())
            .map_err(RepositoryError::state(
                "write the chunk index",
                &self.directory,
            ))?;
        for (id, frame, offset, length) in chunks {
            self.pending.insert(
                id,
                ChunkPlace {
                    pack,
                    frame,
                    offset,
                    length,
                },
            );
        }
        if self.pending.len() >= PENDING_MAX {
            self.spill()?;
        }
        Ok(pack)
    }

    /// Looks up an artifact by its content.
    pub fn find_artifact(&self, id: &ArtifactId) -> Option<StoredObject> {
        self.artifacts.get(id).copied()
    }

    /// Remembers an artifact.
    pub fn add_artifact(
        &mut self,
        id: &ArtifactId,
        object: StoredObject,
    ) -> Result<(), RepositoryError> {
        self.artifacts.insert(*id, object);
        let mut bytes = [0; ARTIFACT_BYTES];
        bytes[..32].copy_from_slice(id);
        bytes[32..].copy_from_slice(&object.to_bytes());
        self.artifacts_file
            .push(&bytes)
            .map_err(RepositoryError::state(
                "write the chunk index",
                &self.directory,
            ))
    }

    /// Turns the chunks in memory into a run, and merges runs until each is at most half as long as the one before it.
    fn spill(&mut self) -> Result<(), RepositoryError> {
        let failed = RepositoryError::state("write the chunk index", &self.directory);
        let mut spill = || -> io::Result<()> {
            if self.pending.is_empty() {
                return Ok(());
            }
            let mut entries: Vec<Entry> = self
                .pending
                .drain()
                .map(|(id, place)| Entry { id, place })
                .collect();
            entries.sort_unstable_by_key(|entry| entry.id);
            let run = Run::write(&self.directory, self.next_run, entries.into_iter().map(Ok))?;
            self.next_run += 1;
            self.runs.push(run);
            while let [.., longer, last] = self.runs.as_slice()
                && longer.len() < 2 * last.len()
            {
                let lost = &self.lost;
                let merged = run::merge(&self.directory, self.next_run, longer, last, |entry| {
                    !lost.contains(&entry.place.pack)
                })?;
                self.next_run += 1;
                for _ in 0..2 {
                    self.replaced
                        .extend(self.runs.pop().map(|run| run.path().to_owned()));
                }
                self.runs.push(merged);
            }
            Ok(())
        };
        spill().map_err(failed)
    }

    /// Makes what was added visible to later runs.
    pub fn commit(&mut self) -> Result<(), RepositoryError> {
        self.spill()?;
        let failed = RepositoryError::state("write the chunk index", &self.directory);
        let current = Current {
            epoch: self.epoch,
            packs: u32::try_from(self.packs.len()).expect("fewer than 2^32 packs in an epoch"),
            artifacts: self
                .artifacts_file
                .file
                .metadata()
                .map_or(0, |metadata| metadata.len() / ARTIFACT_BYTES as u64),
            packs_sum: self.packs_file.sum(),
            artifacts_sum: self.artifacts_file.sum(),
            runs: self.runs.iter().map(Run::number).collect(),
            next_run: self.next_run,
            lost: self.lost.clone(),
        };
        let bytes = serde_json::to_vec(&current).expect("plain values serialise");
        let mut commit = || -> io::Result<()> {
            self.packs_file.file.sync_data()?;
            self.artifacts_file.file.sync_data()?;
            for run in &mut self.runs {
                run.sync()?;
            }
            private_file::replace(&self.directory.join(CURRENT), &bytes)?;
            for path in self.replaced.drain(..) {
                std::fs::remove_file(path)?;
            }
            Ok(())
        };
        commit().map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u64) -> ChunkId {
        let mut id = [0; 16];
        id.copy_from_slice(&Digest::of(&number.to_le_bytes()).as_bytes()[..16]);
        id
    }

    fn object(number: u64) -> StoredObject {
        StoredObject {
            digest: Digest::of(&number.to_be_bytes()),
            size_bytes: number,
        }
    }

    fn find(index: &Index, id: ChunkId) -> Option<ChunkPlace> {
        let mut found = None;
        index
            .find_chunks(&[id], |_, place| found = place)
            .expect("reads");
        found
    }

    #[test]
    fn only_what_was_committed_comes_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        let epoch = EpochId::from_bytes([1; 8]);
        let mut index = Index::create(&path, epoch).expect("creates");
        index
            .add_pack(object(1), [([1; 16], 0, 0, 4096)].into_iter())
            .expect("adds");
        index.commit().expect("commits");
        index
            .add_pack(object(2), [([2; 16], 0, 0, 4096)].into_iter())
            .expect("adds");
        index.add_artifact(&[9; 32], object(3)).expect("adds");
        index.spill().expect("spills");
        drop(index);

        let index = Index::open(&path, epoch).expect("opens").expect("is there");
        assert_eq!((index.pack(0), index.pack(1)), (Some(object(1)), None));
        assert_eq!(find(&index, [2; 16]), None);
        let place = ChunkPlace {
            pack: 0,
            frame: 0,
            offset: 0,
            length: 4096,
        };
        assert_eq!(find(&index, [1; 16]), Some(place));
        assert_eq!(index.find_artifact(&[9; 32]), None);
        drop(index);
        let other = EpochId::from_bytes([2; 8]);
        assert!(
            Index::open(&path, other).expect("opens").is_none(),
            "another epoch"
        );
    }

    #[test]
    fn many_runs_merge_and_every_chunk_is_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        let epoch = EpochId::from_bytes([1; 8]);
        let mut index = Index::create(&path, epoch).expect("creates");
        for pack in 0..60_u32 {
            let chunks = (0..500).map(|n| (chunk(u64::from(pack) * 500 + n), pack, 7, 4096));
            index.add_pack(object(pack.into()), chunks).expect("adds");
            index.commit().expect("commits");
        }
        assert!(index.runs.len() < 10, "{} runs", index.runs.len());
        drop(index);
        let mut index = Index::open(&path, epoch).expect("opens").expect("is there");
        for number in 0..30_000 {
            let place = find(&index, chunk(number)).expect("known");
            assert_eq!(u64::from(place.pack), number / 500);
            assert_eq!(place.frame, place.pack);
        }
        for number in 30_000..31_000 {
            assert_eq!(find(&index, chunk(number)), None);
        }
        // A lost pack is forgotten for good, and what is stored anew is found.
        index.forget_pack(3);
        assert_eq!(find(&index, chunk(1_501)), None);
        index
            .add_pack(object(60), [(chunk(1_501), 0, 0, 1)].into_iter())
            .expect("adds");
        index.commit().expect("commits");
        drop(index);
        let index = Index::open(&path, epoch).expect("opens").expect("is there");
        assert_eq!(find(&index, chunk(1_501)).map(|place| place.pack), Some(60));
        assert_eq!(find(&index, chunk(1_502)), None);
    }

    #[test]
    fn a_changed_byte_never_leads_to_a_wrong_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("index");
        let epoch = EpochId::from_bytes([1; 8]);
        let mut index = Index::create(&path, epoch).expect("creates");
        let chunks = (0..600).map(|n| (chunk(n), 5, 6, 4096));
        index.add_pack(object(1), chunks).expect("adds");
        index.commit().expect("commits");
        drop(index);
        let file = path.join("1.run");
        let good = std::fs::read(&file).expect("reads");
        for place in (0..good.len()).step_by(397) {
            let mut bad = good.clone();
            bad[place] ^= 0x40;
            private_file::replace(&file, &bad).expect("writes");
            let Some(index) = Index::open(&path, epoch).expect("opens") else {
                continue;
            };
            for number in 0..600 {
                if let Some(place) = find(&index, chunk(number)) {
                    let right = ChunkPlace {
                        pack: 0,
                        frame: 5,
                        offset: 6,
                        length: 4096,
                    };
                    assert_eq!(place, right, "byte {place:?}");
                }
            }
        }
        for name in [CURRENT, PACKS] {
            private_file::replace(&path.join(name), b"garbage").expect("writes");
            assert!(
                Index::open(&path, epoch).expect("opens").is_none(),
                "damaged {name}"
            );
        }
    }
}
