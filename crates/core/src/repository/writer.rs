//! Stores one backup in one repository: epoch, packs and artifacts, manifest; [`super::commit`] writes the envelope, last.
//!
//! The order is the crash safety: until there is the envelope, everything stored is an orphan that does no harm
//! and that the next run uses again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use zeroize::Zeroizing;

use super::commit::SealedBackup;
use super::hashing::StreamHasher;
use super::index::{ArtifactId, ChunkId, Index, StoredObject};
use super::packer::{Frame, FrameChunk, FramePlaces, Packer, SealedPack};
use super::presence::Presence;
use super::replaced::LastBackup;
use super::state::{EpochState, FoundDamage, WriterState};
use super::stream::AssetSink;
use super::{Repository, RepositoryError};
use crate::cancel::Cancel;
use crate::clock::{Clock, whole_seconds};
use crate::format::envelope::{EnvelopeAsset, EnvelopeCertificates, EnvelopeEpoch, Status};
use crate::format::id::random;
use crate::format::manifest::{self, AssetResult, ManifestWriter, Run, Stream};
use crate::format::name::ObjectName;
use crate::format::pack::{ArtifactWriter, SealedObject};
use crate::format::seal::{BoxedRecipient, EpochIdentity, EpochRecipient};
use crate::format::writer_key::WriterKey;
use crate::format::{Digest, EpochId, Label, limits};
use crate::source::Class;
use crate::storage::Body;

/// After how many bytes of packs what was stored is made durable and known to later runs: a run that is killed loses no more.
const BYTES_BETWEEN_COMMITS: u64 = 256 << 20;

/// To whom a repository seals, and for how long one epoch lasts.
pub struct Sealing {
    /// The recipients as the configuration writes them.
    pub recipients: Vec<String>,
    /// The same, ready to seal to.
    pub keys: Vec<BoxedRecipient>,
    /// How many days until the next epoch begins.
    pub epoch_days: u32,
    /// For how many days after a backup the storage protects everything that it needs.
    pub immutable_days: Option<u32>,
}

/// What all repositories of a run have in common.
#[derive(Clone)]
pub struct RunHeader {
    /// The installation.
    pub deployment: String,
    /// The backup's name.
    pub label: Label,
    /// The program.
    pub tool: String,
}

/// A backup being stored.
pub struct BackupWriter<'a> {
    pub(super) repository: Repository,
    key: &'a WriterKey,
    state: &'a WriterState,
    epoch: EpochState,
    pub(super) recipient: EpochRecipient,
    pub(super) chunk_key: Zeroizing<[u8; 32]>,
    pub(super) index: Index,
    packer: Packer,
    pub(super) hasher: StreamHasher,
    manifest: ManifestWriter<ArtifactWriter<Vec<u8>>>,
    memory: BTreeMap<String, serde_json::Value>,
    notes: Vec<String>,
    /// Objects that a verification found damaged.
    damaged: BTreeMap<ObjectName, FoundDamage>,

    objects: BTreeMap<Digest, u64>,
    /// Packs of the index: whether the storage still has them.
    present: HashMap<u32, bool>,
    presence: Presence,
    /// What the last backup of this host needed, and when its envelope was stored; none until the first question.
    last: Option<LastBackup>,
    /// Numbers of packs in the manifest.
    numbered: HashMap<u32, i32>,
    /// The frame that each open stream fills: its chunks lie together, so that a restore of it decodes little else.
    frames: BTreeMap<u64, Frame>,
    /// Frames that finished streams left with room.
    spare: Vec<Frame>,
    next_frame: u64,
    next_stream: u64,
    /// New chunks whose pack is not stored yet.
    unresolved: HashMap<ChunkId, (u64, u32)>,
    places: FramePlaces,
    /// Streams whose runs wait for their packs.
    waiting: Vec<(Stream, Vec<DraftRun>)>,
    waiting_runs: usize,
    bytes_since_commit: u64,
    assets: Vec<EnvelopeAsset>,
    pub(super) stats: AssetStats,
    stored_bytes: u64,
    immutable_days: Option<u32>,
}

/// What storing an asset cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssetStats {
    /// The bytes of all its streams.
    pub size_bytes: u64,
    /// Bytes that the repository did not have yet, before compression.
    pub new_chunk_bytes: u64,
    /// Bytes that were added to the repository.
    pub stored_bytes: u64,
}

/// A run whose frame may not have a pack yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct DraftRun {
    pub(super) place: Place,
    pub(super) offset: u32,
    pub(super) length: u64,
}

/// Where the content of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: zeros.
    Hole,
    /// In a pack of the index, in the frame that begins there.
    Packed { pack: u32, frame: u32 },
    /// In a frame of this run.
    Frame(u64),
}

impl<'a> BackupWriter<'a> {
    /// Begins a backup: checks who may write and to whom it is sealed, opens or begins the epoch.
    pub fn begin(
        repository: Repository,
        state: &'a WriterState,
        key: &'a WriterKey,
        sealing: &Sealing,
        run: &RunHeader,
        clock: &dyn Clock,
    ) -> Result<Self, RepositoryError> {
        let document = repository.document();
        let writer = key.signing.id();
        document
            .writer(writer)
            .map_err(|_| RepositoryError::UnknownWriter { writer })?;
        let configured: BTreeSet<&String> = sealing.recipients.iter().collect();
        if configured != document.recipients.iter().collect() {
            return Err(RepositoryError::RecipientsChanged);
        }
        let (epoch, index) = open_epoch(&repository, state, sealing, clock)?;
        repository.storage().expect_puts();
        let recipient = EpochRecipient::parse(&epoch.recipient)?;
        let header = manifest::Header {
            format: crate::format::VERSION,
            deployment: run.deployment.clone(),
            label: run.label.clone(),
            repository: document.repository,
            tool: run.tool.clone(),
        };
        let manifest = ManifestWriter::new(ArtifactWriter::new(&recipient, Vec::new())?, header)?;
        let mut writer = Self {
            key,
            state,
            chunk_key: key.chunk_key(epoch.id),
            epoch,
            index,
            packer: Packer::start(repository.shared_storage(), recipient.clone()),
            recipient,
            hasher: StreamHasher::start(),
            manifest,
            memory: state.memory()?,
            notes: Vec::new(),
            damaged: state.damaged(repository.document().repository)?,
            objects: BTreeMap::new(),
            present: HashMap::new(),
            presence: Presence::default(),
            last: None,
            numbered: HashMap::new(),
            frames: BTreeMap::new(),
            spare: Vec::new(),
            next_frame: 0,
            next_stream: 0,
            unresolved: HashMap::new(),
            places: FramePlaces::new(),
            waiting: Vec::new(),
            waiting_runs: 0,
            bytes_since_commit: 0,
            assets: Vec::new(),
            stats: AssetStats::default(),
            stored_bytes: 0,
            immutable_days: sealing.immutable_days,
            repository,
        };
        writer.look_ahead()?;
        Ok(writer)
    }

    /// Asks now what the first known chunk would ask: nobody waits for the answers yet.
    fn look_ahead(&mut self) -> Result<(), RepositoryError> {
        if self.index.pack(0).is_some() {
            self.presence.learn(self.repository.storage())?;
            self.last = Some(LastBackup::of(&self.repository, self.state)?);
        }
        Ok(())
    }

    /// Begins an asset.
    pub fn begin_asset(&mut self, asset: manifest::Asset) -> Result<(), RepositoryError> {
        self.stats = AssetStats::default();
        self.assets.push(EnvelopeAsset {
            name: asset.name.clone(),
            class: asset.class,
            source: asset.source.clone(),
            status: Status::Incomplete,
            size_bytes: 0,
            certificates: None,
        });
        Ok(self.manifest.asset(asset)?)
    }

    /// Where the streams of the asset go; [`AssetSink::into_writer`] gives the writer back.
    pub fn into_sink(self, class: Class, scratch: &'a Path, cancel: &'a Cancel) -> AssetSink<'a> {
        AssetSink::new(self, class, scratch, cancel)
    }

    /// Ends the asset, after all of its packs are stored.
    pub fn end_asset(
        &mut self,
        result: AssetResult,
        memory: Option<serde_json::Value>,
    ) -> Result<AssetStats, RepositoryError> {
        self.drain()?;
        // Not before: streams that are still open have runs in frames that were stored long ago.
        self.places.clear();
        let asset = self.assets.last_mut().expect("an asset was begun");
        asset.status = result.status;
        asset.size_bytes = self.stats.size_bytes;
        if asset.class == Class::Certificate {
            asset.certificates = certificates(&result.facts, &self.chunk_key);
        }
        match memory {
            Some(memory) => self.memory.insert(result.name.clone(), memory),
            // What failed has seen nothing that is newer.
            None if result.status == Status::Incomplete => None,
            None => self.memory.remove(&result.name),
        };
        self.manifest.result(result)?;
        self.stored_bytes += self.stats.stored_bytes;
        Ok(self.stats)
    }

    /// Stores the manifest and makes everything durable; only the envelope is missing then.
    pub fn seal(mut self) -> Result<SealedBackup<'a>, RepositoryError> {
        self.drain()?;
        let sealed = SealedObject::new(self.manifest.finish()?.finish()?);
        let storage = self.repository.storage();
        storage.put(
            &ObjectName::object(sealed.digest),
            Body::Bytes(&sealed.bytes),
        )?;
        storage.flush()?;
        self.objects
            .insert(sealed.digest, sealed.bytes.len() as u64);
        Ok(SealedBackup {
            repository: self.repository,
            key: self.key,
            state: self.state,
            epoch: EnvelopeEpoch {
                id: self.epoch.id,
                object: self.epoch.object,
            },
            index: self.index,
            memory: self.memory,
            objects: self.objects,
            manifest: sealed.digest,
            assets: self.assets,
            notes: self.notes,
            stored_bytes: self.stored_bytes + sealed.bytes.len() as u64,
            immutable_days: self.immutable_days,
        })
    }

    /// Whether the pack of a known chunk is still stored, asked once a pack.
    pub(super) fn is_present(&mut self, pack: u32) -> Result<bool, RepositoryError> {
        if let Some(present) = self.present.get(&pack) {
            return Ok(*present);
        }
        let present = match self.index.pack(pack) {
            Some(object) => self.is_stored(object)?,
            None => false,
        };
        if !present {
            self.index.forget_pack(pack);
        }
        self.present.insert(pack, present);
        Ok(present)
    }

    /// Whether an object is there with its size; says so when it is not.
    pub(super) fn is_stored(&mut self, object: StoredObject) -> Result<bool, RepositoryError> {
        let name = ObjectName::object(object.digest);
        if let Some(damage) = self.damaged.get(&name) {
            let when = damage.time.strftime("%F");
            let what = format!("object {name} was found damaged on {when} ({})", damage.why);
            self.note_stored_anew(&what);
            return Ok(false);
        }
        let storage = self.repository.storage();
        let stat = self.presence.stat(storage, object.digest)?;
        let Some(stat) = stat.filter(|stat| stat.size_bytes == object.size_bytes) else {
            let what = format!("object {name} is missing from the repository or has another size");
            self.note_stored_anew(&what);
            return Ok(false);
        };
        let last = match &mut self.last {
            Some(last) => last,
            none => none.insert(LastBackup::of(&self.repository, self.state)?),
        };
        if last.is_in_doubt(storage, &name, stat.stored)? {
            let what = format!("object {name} was stored once more after the last backup");
            self.note_stored_anew(&what);
            return Ok(false);
        }
        Ok(true)
    }

    fn note_stored_anew(&mut self, what: &str) {
        let asset = self.assets.last().map_or("", |asset| asset.name.as_str());
        self.notes.push(format!(
            "{what}; what asset {asset} needs of it is stored anew from the source, older backups that need it are \
             damaged; `strongroom repair` heals them from a copy"
        ));
    }

    /// Where a chunk of this run waits for its pack.
    pub(super) fn find_unresolved(&self, id: &ChunkId) -> Option<(u64, u32)> {
        self.unresolved.get(id).copied()
    }

    /// Takes a chunk that the repository does not have.
    pub(super) fn add_chunk(
        &mut self,
        stream: u64,
        id: ChunkId,
        bytes: &[u8],
    ) -> Result<(Place, u32), RepositoryError> {
        let fits =
            |frame: &Frame| frame.content.len() + bytes.len() <= limits::FRAME_CONTENT_TARGET;
        let frame = match self.frames.remove(&stream) {
            Some(frame) => frame,
            None => self.spare.pop().unwrap_or_else(|| self.new_frame()),
        };
        let mut frame = if fits(&frame) || frame.chunks.is_empty() {
            frame
        } else {
            self.submit(frame)?;
            self.new_frame()
        };
        let offset = u32::try_from(frame.content.len()).expect("frames are small");
        let length = u32::try_from(bytes.len()).expect("chunks are small");
        frame.content.extend_from_slice(bytes);
        frame.chunks.push(FrameChunk { id, offset, length });
        let number = frame.number;
        self.frames.insert(stream, frame);
        self.unresolved.insert(id, (number, offset));
        self.stats.new_chunk_bytes += bytes.len() as u64;
        Ok((Place::Frame(number), offset))
    }

    /// Begins a packed stream.
    pub(super) fn open_stream(&mut self) -> u64 {
        self.next_stream += 1;
        self.next_stream
    }

    /// Ends a packed stream; the next one goes on in its frame.
    pub(super) fn close_stream(&mut self, stream: u64) {
        self.spare.extend(self.frames.remove(&stream));
    }

    fn new_frame(&mut self) -> Frame {
        self.next_frame += 1;
        let mut content = Vec::new();
        content.reserve_exact(limits::FRAME_CONTENT_TARGET);
        Frame {
            number: self.next_frame,
            content,
            chunks: Vec::new(),
        }
    }

    fn submit(&mut self, frame: Frame) -> Result<(), RepositoryError> {
        self.packer.submit(frame)?;
        let packs = self.packer.collect()?;
        packs.iter().try_for_each(|pack| self.take_pack(pack))
    }

    fn take_pack(&mut self, pack: &SealedPack) -> Result<(), RepositoryError> {
        let chunks = pack.frames.iter().flat_map(|frame| {
            let place = |chunk: &FrameChunk| (chunk.id, frame.begin, chunk.offset, chunk.length);
            frame.chunks.iter().map(place)
        });
        let number = self.index.add_pack(pack.object, chunks)?;
        self.present.insert(number, true);
        self.presence
            .note(pack.object.digest, pack.object.size_bytes);
        for frame in &pack.frames {
            self.places.insert(frame.number, (number, frame.begin));
            for chunk in &frame.chunks {
                self.unresolved.remove(&chunk.id);
            }
        }
        self.stats.stored_bytes += pack.object.size_bytes;
        self.bytes_since_commit += pack.object.size_bytes;
        if self.bytes_since_commit >= BYTES_BETWEEN_COMMITS {
            self.bytes_since_commit = 0;
            self.repository.storage().flush()?;
            self.index.commit()?;
        }
        Ok(())
    }

    /// Takes a finished stream; its line is written once all its packs are known.
    pub(super) fn add_stream(
        &mut self,
        stream: Stream,
        runs: Vec<DraftRun>,
    ) -> Result<(), RepositoryError> {
        /// About 5 MB of runs.
        const WAITING_MAX: usize = 200_000;
        self.stats.size_bytes += stream.size.unwrap_or(0);
        self.waiting_runs += runs.len() + 8;
        self.waiting.push((stream, runs));
        if self.waiting_runs > WAITING_MAX {
            self.drain()
        } else {
            Ok(())
        }
    }

    /// Waits for all packs of this run and writes the streams that waited for them.
    fn drain(&mut self) -> Result<(), RepositoryError> {
        let open = std::mem::take(&mut self.frames).into_values();
        let frames: Vec<Frame> = open.chain(std::mem::take(&mut self.spare)).collect();
        frames
            .into_iter()
            .try_for_each(|frame| self.submit(frame))?;
        let packs = self.packer.drain()?;
        packs.iter().try_for_each(|pack| self.take_pack(pack))?;
        let mut runs = Vec::new();
        for (stream, drafts) in std::mem::take(&mut self.waiting) {
            self.manifest.stream(stream)?;
            runs.clear();
            for draft in drafts {
                let run = self.settle(draft)?;
                runs.push(run);
            }
            self.manifest.runs(&runs)?;
        }
        self.waiting_runs = 0;
        Ok(())
    }

    fn settle(&mut self, draft: DraftRun) -> Result<Run, RepositoryError> {
        let (pack, frame) = match draft.place {
            Place::Hole => {
                return Ok(Run {
                    pack: Run::HOLE,
                    frame: 0,
                    offset: 0,
                    length: draft.length,
                });
            }
            Place::Packed { pack, frame } => (pack, frame),
            Place::Frame(number) => *self
                .places
                .get(&number)
                .expect("the packer was drained, every frame has a pack"),
        };
        let pack = if let Some(number) = self.numbered.get(&pack) {
            *number
        } else {
            let object = self
                .index
                .pack(pack)
                .expect("runs lead to packs of the index");
            self.objects.insert(object.digest, object.size_bytes);
            let number = self.manifest.pack(object.digest)?;
            self.numbered.insert(pack, number);
            number
        };
        Ok(Run {
            pack,
            frame,
            offset: draft.offset,
            length: draft.length,
        })
    }

    /// An artifact of this epoch with the same content, if it is still stored.
    pub(super) fn find_artifact(
        &mut self,
        id: &ArtifactId,
    ) -> Result<Option<Digest>, RepositoryError> {
        let Some(object) = self.index.find_artifact(id) else {
            return Ok(None);
        };
        if !self.is_stored(object)? {
            return Ok(None);
        }
        self.objects.insert(object.digest, object.size_bytes);
        Ok(Some(object.digest))
    }

    /// Stores a sealed artifact.
    pub(super) fn add_artifact(
        &mut self,
        id: &ArtifactId,
        object: StoredObject,
        body: Body<'_>,
        content_bytes: u64,
    ) -> Result<(), RepositoryError> {
        self.repository
            .storage()
            .put(&ObjectName::object(object.digest), body)?;
        self.presence.note(object.digest, object.size_bytes);
        self.index.add_artifact(id, object)?;
        self.objects.insert(object.digest, object.size_bytes);
        self.stats.new_chunk_bytes += content_bytes;
        self.stats.stored_bytes += object.size_bytes;
        Ok(())
    }
}

/// What the facts of an asset say of its certificates; the set is keyed, so that nobody can test it against known ones.
fn certificates(facts: &serde_json::Value, key: &[u8; 32]) -> Option<EnvelopeCertificates> {
    let known = &facts["certificates"];
    let set = blake3::keyed_hash(key, known["set_sha256"].as_str()?.as_bytes());
    Some(EnvelopeCertificates {
        expire: known["last_not_after"].as_str()?.parse().ok()?,
        set: set.to_hex()[..16].to_owned(),
    })
}

/// The epoch of this host, if it still serves; else a new one.
fn open_epoch(
    repository: &Repository,
    state: &WriterState,
    sealing: &Sealing,
    clock: &dyn Clock,
) -> Result<(EpochState, Index), RepositoryError> {
    let mut recipients = sealing.recipients.clone();
    recipients.sort();
    let now = clock.now();
    let path = state.index_path();
    let id = repository.document().repository;
    if let Some(epoch) = state.epoch()? {
        let age_days = now.duration_since(epoch.opened).as_hours() / 24;
        let object = ObjectName::epoch(epoch.id, epoch.object);
        let serves = epoch.repository == id
            && !state.damaged(id)?.contains_key(&object)
            && epoch.recipients == recipients
            && age_days < i64::from(sealing.epoch_days)
            && repository
                .storage()
                .stat(&object)?
                .is_some_and(|stat| stat.size_bytes == epoch.size_bytes);
        if serves && let Some(index) = Index::open(&path, epoch.id)? {
            return Ok((epoch, index));
        }
    }
    let identity = EpochIdentity::generate();
    let sealed = SealedObject::new(identity.seal_to(&sealing.keys)?);
    let epoch = EpochState {
        repository: id,
        id: EpochId::from_bytes(random()?),
        object: sealed.digest,
        size_bytes: sealed.bytes.len() as u64,
        recipient: identity.recipient().to_text(),
        opened: whole_seconds(now),
        recipients,
    };
    repository
        .storage()
        .create(&ObjectName::epoch(epoch.id, epoch.object), &sealed.bytes)?;
    let mut index = Index::create(&path, epoch.id)?;
    index.commit()?;
    state.save_epoch(&epoch)?;
    Ok((epoch, index))
}
