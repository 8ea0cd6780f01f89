//! Opens one backup: its epoch, its manifest, and the content of its streams, each checked as it is read.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Sender, unbounded};

use super::{Repository, RepositoryError};
use crate::cancel::Cancel;
use crate::format::envelope::Envelope;
use crate::format::id::Hasher;
use crate::format::manifest::{
    Asset, AssetResult, Content, Header, Line, ManifestReader, Run, Stream,
};
use crate::format::name::{self, ObjectName};
use crate::format::pack::{PackReader, open_artifact};
use crate::format::seal::{BoxedIdentity, EpochIdentity};
use crate::format::{Digest, FormatError, limits};
use crate::storage::StorageError;

/// How many runs are put in order at once: about 32 MB.
const WINDOW_RUNS: usize = 1 << 20;
/// Packs whose pieces are spread wider than this are written first, so that the digest can follow the rest.
const SCATTERED: u64 = 64 << 20;
/// How much is read at once for digests, in bytes.
const READ: usize = 256 << 10;

/// A backup that an identity has opened.
pub struct BackupReader<'a> {
    repository: &'a Repository,
    envelope: &'a Envelope,
    epoch: EpochIdentity,
}

/// What a manifest tells, one after the other.
#[derive(Debug)]
pub enum Item {
    /// An asset begins.
    Asset(Asset),
    /// A stream of it, with the runs of its content if it is packed.
    Stream(Stream, Vec<Run>),
    /// The asset ends.
    Result(AssetResult),
}

/// A manifest being read, and the packs that it has numbered so far.
pub struct ManifestItems<R: BufRead> {
    lines: ManifestReader<R>,
    packs: Vec<Digest>,
    ahead: Option<Line>,
}

impl<R: BufRead> ManifestItems<R> {
    /// Reads the first line.
    pub fn new(input: R) -> Result<Self, FormatError> {
        Ok(Self {
            lines: ManifestReader::new(input)?,
            packs: Vec::new(),
            ahead: None,
        })
    }

    /// The manifest's first line.
    pub fn header(&self) -> &Header {
        self.lines.header()
    }

    /// The packs that runs up to here refer to, by number.
    pub fn packs(&self) -> &[Digest] {
        &self.packs
    }

    /// The next item; `None` at the end of a whole manifest.
    pub fn next_item(&mut self) -> Result<Option<Item>, FormatError> {
        loop {
            let line = match self.ahead.take() {
                Some(line) => Some(line),
                None => self.lines.next_line()?,
            };
            return Ok(match line {
                None => None,
                Some(Line::Asset(asset)) => Some(Item::Asset(asset)),
                Some(Line::Result(result)) => Some(Item::Result(result)),
                Some(Line::Stream(stream)) => {
                    let runs = self.runs()?;
                    Some(Item::Stream(stream, runs))
                }
                Some(Line::Pack { object }) => {
                    self.packs.push(object);
                    continue;
                }
                Some(Line::Manifest(_) | Line::Runs { .. } | Line::End { .. }) => continue,
            });
        }
    }

    fn runs(&mut self) -> Result<Vec<Run>, FormatError> {
        let mut all = Vec::new();
        loop {
            match self.lines.next_line()? {
                Some(Line::Runs { mut runs }) => all.append(&mut runs),
                Some(Line::Pack { object }) => self.packs.push(object),
                other => {
                    self.ahead = other;
                    return Ok(all);
                }
            }
        }
    }
}

/// Opens the epoch of a backup: by the object that the envelope names, or by another one of that epoch.
fn open_epoch(
    repository: &Repository,
    envelope: &Envelope,
    identities: &[BoxedIdentity],
) -> Result<EpochIdentity, RepositoryError> {
    let name = envelope.epoch.name();
    let error = match repository.open_epoch_object(&name, identities) {
        Ok(epoch) => return Ok(epoch),
        Err(error) => error,
    };
    // Sealed to others since, or lost: another object of the epoch opens the same identity.
    let prefix = format!("{}{}/", name::EPOCHS, envelope.epoch.id);
    let mut others = Vec::new();
    let listed = repository
        .storage()
        .list(&prefix, &mut |other, _| others.push(other));
    if listed.is_ok() {
        others.retain(|other| *other != name && other.digest().is_some());
        for other in others {
            if let Ok(epoch) = repository.open_epoch_object(&other, identities) {
                return Ok(epoch);
            }
        }
    }
    Err(error)
}

/// Hears how many more bytes of content are written and proved.
pub type OnBytes<'p> = &'p (dyn Fn(u64) + Sync);

impl<'a> BackupReader<'a> {
    /// Opens the epoch of a backup.
    pub fn open(
        repository: &'a Repository,
        envelope: &'a Envelope,
        identities: &[BoxedIdentity],
    ) -> Result<Self, RepositoryError> {
        let epoch = open_epoch(repository, envelope, identities)?;
        Ok(Self {
            repository,
            envelope,
            epoch,
        })
    }

    /// The envelope that was opened.
    pub fn envelope(&self) -> &Envelope {
        self.envelope
    }

    /// Reads the manifest; it must be the one that the envelope was signed for.
    pub fn manifest(&self) -> Result<ManifestItems<impl BufRead + use<>>, RepositoryError> {
        let name = ObjectName::object(self.envelope.manifest);
        let sealed = Cursor::new(self.fetch(self.envelope.manifest)?);
        let damaged = |error| RepositoryError::damaged(&name, error);
        let content = open_artifact(&self.epoch, sealed).map_err(damaged)?;
        let damaged = |error| RepositoryError::damaged(&name, error);
        let items = ManifestItems::new(BufReader::new(content)).map_err(damaged)?;
        let header = items.header();
        let document = self.repository.document();
        if header.label != self.envelope.label || header.repository != document.repository {
            let error = FormatError::damaged("manifest", "it belongs to another backup");
            return Err(RepositoryError::damaged(&name, error));
        }
        Ok(items)
    }

    /// Ties an error in the manifest to its object.
    pub fn manifest_error(&self, error: FormatError) -> RepositoryError {
        RepositoryError::damaged(&ObjectName::object(self.envelope.manifest), error)
    }

    /// Reads a whole object of this backup and proves its digest and size.
    fn fetch(&self, object: Digest) -> Result<Vec<u8>, RepositoryError> {
        let bytes = self.fetch_unproved(object)?;
        prove_object(object, &bytes)?;
        Ok(bytes)
    }

    /// Reads a whole object of this backup and proves its size alone: for what is proved in another way.
    fn fetch_unproved(&self, object: Digest) -> Result<Vec<u8>, RepositoryError> {
        let name = ObjectName::object(object);
        let size = self.size_of(object)?;
        let limit = usize::try_from(size).unwrap_or(usize::MAX);
        let damaged =
            |why: &str| RepositoryError::damaged(&name, FormatError::damaged("object", why));
        let bytes = match self.repository.storage().get(&name, limit) {
            Err(StorageError::TooLarge { .. }) => return Err(damaged("it is longer than written")),
            other => other?,
        };
        if bytes.len() as u64 != size {
            return Err(damaged("it is shorter than written"));
        }
        Ok(bytes)
    }

    fn size_of(&self, object: Digest) -> Result<u64, RepositoryError> {
        self.envelope.size_of(object).ok_or_else(|| {
            let error = FormatError::damaged("object", "the envelope does not name it");
            RepositoryError::damaged(&ObjectName::object(object), error)
        })
    }

    /// Decrypts an object to its end without looking at its content (L2).
    pub fn decrypt(&self, object: Digest) -> Result<(), RepositoryError> {
        let name = ObjectName::object(object);
        let damaged = |error| RepositoryError::damaged(&name, error);
        let sealed = self.repository.storage().open(&name)?;
        let mut plain = self
            .epoch
            .open_object("object", BufReader::with_capacity(READ, sealed))
            .map_err(damaged)?;
        std::io::copy(&mut plain, &mut std::io::sink())
            .map_err(|error| damaged(FormatError::damaged("object", error.to_string())))?;
        Ok(())
    }

    /// Writes the content of a stream into an empty file and proves its size and digest (L3).
    ///
    /// Holes stay holes. The file is not made durable.
    pub fn write_content(
        &self,
        stream: &Stream,
        runs: &[Run],
        packs: &[Digest],
        file: &File,
        cancel: &Cancel,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), RepositoryError> {
        let (Some(size), Some(expected)) = (stream.size, stream.sha256) else {
            return Ok(());
        };
        let digest = match &stream.content {
            Some(Content::Artifact { object }) => {
                self.write_artifact(*object, size, file, cancel, on_bytes)?
            }
            Some(Content::Packed) => {
                let writing = PackedWriting {
                    reader: self,
                    packs,
                    file,
                    cancel,
                    on_bytes,
                };
                writing.run(runs, size)?
            }
            None => return Ok(()),
        };
        if digest == expected {
            return Ok(());
        }
        // Which object is it? Packs were not digested on the way, since the digest of the stream covers what came out of them.
        for object in used_packs(runs, packs) {
            self.fetch(object)?;
        }
        let why = format!("{:?} has not the digest that was captured", stream.path);
        Err(self.manifest_error(FormatError::damaged("stream", why)))
    }

    fn write_artifact(
        &self,
        object: Digest,
        size: u64,
        file: &File,
        cancel: &Cancel,
        on_bytes: OnBytes<'_>,
    ) -> Result<Digest, RepositoryError> {
        let name = ObjectName::object(object);
        let damaged = |error| RepositoryError::damaged(&name, error);
        let bad = |error: std::io::Error| {
            RepositoryError::damaged(&name, FormatError::damaged("artifact", error.to_string()))
        };
        // Small ones, which are nearly all, are proved whole before they are opened.
        let sealed: Box<dyn Read> = if self.size_of(object)? <= limits::PACK_MAX as u64 {
            Box::new(Cursor::new(self.fetch(object)?))
        } else {
            self.repository.storage().open(&name)?
        };
        let mut content = open_artifact(&self.epoch, sealed).map_err(damaged)?;
        let mut hasher = Hasher::new();
        let mut block = zeroize::Zeroizing::new(vec![0; READ]);
        let mut position = 0;
        loop {
            cancel.check()?;
            let length = read_full(&mut content, &mut block).map_err(bad)?;
            if length == 0 {
                break;
            }
            let bytes = &block[..length];
            hasher.update(bytes);
            if position + length as u64 > size {
                let error = FormatError::damaged("artifact", "it is longer than captured");
                return Err(RepositoryError::damaged(&name, error));
            }
            if bytes.iter().any(|byte| *byte != 0) {
                file.write_all_at(bytes, position)
                    .map_err(target("write"))?;
            }
            position += length as u64;
            on_bytes(length as u64);
        }
        file.set_len(position).map_err(target("write"))?;
        Ok(hasher.finish())
    }
}

/// Whether the stored bytes of an object are those that it is named by.
fn prove_object(object: Digest, bytes: &[u8]) -> Result<(), RepositoryError> {
    if Digest::of(bytes) == object {
        return Ok(());
    }
    let error = FormatError::damaged("object", "its digest is not its name");
    Err(RepositoryError::damaged(&ObjectName::object(object), error))
}

/// The packs that runs refer to, each once.
pub(crate) fn used_packs(runs: &[Run], packs: &[Digest]) -> BTreeSet<Digest> {
    let used = runs.iter().filter_map(Run::pack_index);
    used.filter_map(|index| packs.get(index).copied()).collect()
}

/// Fills `block` as far as the reader goes.
fn read_full(reader: &mut impl Read, block: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match reader.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// An I/O error of the file being restored; the caller knows its path.
fn target(operation: &'static str) -> impl FnOnce(std::io::Error) -> RepositoryError {
    move |source| StorageError::io(operation, &"the restored file", source).into()
}

/// A run and where it goes.
#[derive(Clone, Copy)]
struct Piece {
    frame: u32,
    offset: u32,
    length: u32,
    position: u64,
}

/// The pieces of one pack.
struct PackPieces {
    object: Digest,
    pieces: Vec<Piece>,
    /// The first byte that any of them writes.
    begin: u64,
    /// The byte after the last.
    end: u64,
}

/// Writes a packed stream pack by pack and digests it behind.
struct PackedWriting<'w, 'a> {
    reader: &'w BackupReader<'a>,
    packs: &'w [Digest],
    file: &'w File,
    cancel: &'w Cancel,
    on_bytes: OnBytes<'w>,
}

impl PackedWriting<'_, '_> {
    fn run(&self, runs: &[Run], size: u64) -> Result<Digest, RepositoryError> {
        self.file.set_len(size).map_err(target("size"))?;
        let mut hasher = Hasher::new();
        let mut block = vec![0; READ];
        let mut begin = 0;
        for window in runs.chunks(WINDOW_RUNS) {
            let end = begin + window.iter().map(|run| run.length).sum::<u64>();
            self.window(window, begin, end, &mut hasher, &mut block)?;
            begin = end;
        }
        Ok(hasher.finish())
    }

    fn window(
        &self,
        runs: &[Run],
        begin: u64,
        end: u64,
        hasher: &mut Hasher,
        block: &mut [u8],
    ) -> Result<(), RepositoryError> {
        let packs = self.arrange(runs, begin)?;
        let next = Mutex::new(packs.iter().enumerate());
        let stop = AtomicBool::new(false);
        let (done, finished) = unbounded();
        std::thread::scope(|scope| {
            let workers = self.reader.repository.storage().readers().clamp(1, 4);
            for _ in 0..workers.min(packs.len()) {
                let done = done.clone();
                scope.spawn({
                    let (next, stop) = (&next, &stop);
                    move || self.work(next, stop, &done)
                });
            }
            drop(done);
            let mut waiting: Vec<bool> = vec![true; packs.len()];
            let mut digested = begin;
            let mut result = Ok(());
            for outcome in finished {
                match outcome {
                    Ok(number) => waiting[number] = false,
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        result = result.and(Err(error));
                    }
                }
                if result.is_ok() {
                    let frontier = packs
                        .iter()
                        .zip(&waiting)
                        .filter_map(|(pack, waiting)| waiting.then_some(pack.begin))
                        .min()
                        .unwrap_or(end);
                    result = self.digest(&mut digested, frontier, hasher, block);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
            result.and_then(|()| self.digest(&mut digested, end, hasher, block))
        })
    }

    /// Sorts runs by pack and frame, and packs so that the digest can follow soon.
    fn arrange(&self, runs: &[Run], begin: u64) -> Result<Vec<PackPieces>, RepositoryError> {
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut packs: Vec<PackPieces> = Vec::new();
        let mut position = begin;
        for run in runs {
            if let Some(number) = run.pack_index() {
                let object = *self.packs.get(number).ok_or_else(|| {
                    let why = "a run in a pack that was not numbered";
                    self.reader
                        .manifest_error(FormatError::damaged("manifest", why))
                })?;
                let place = *places.entry(number).or_insert_with(|| {
                    packs.push(PackPieces {
                        object,
                        pieces: Vec::new(),
                        begin: position,
                        end: 0,
                    });
                    packs.len() - 1
                });
                let length = u32::try_from(run.length).expect("bounded by the manifest reader");
                let pack = &mut packs[place];
                pack.pieces.push(Piece {
                    frame: run.frame,
                    offset: run.offset,
                    length,
                    position,
                });
                pack.end = position + run.length;
            }
            position += run.length;
        }
        for pack in &mut packs {
            pack.pieces
                .sort_unstable_by_key(|piece| (piece.frame, piece.position));
        }
        packs.sort_by_key(|pack| (pack.end - pack.begin <= SCATTERED, pack.begin));
        Ok(packs)
    }

    fn work<'p>(
        &self,
        next: &Mutex<impl Iterator<Item = (usize, &'p PackPieces)>>,
        stop: &AtomicBool,
        done: &Sender<Result<usize, RepositoryError>>,
    ) {
        loop {
            let work = next.lock().expect("no panic under the lock").next();
            let Some((number, pack)) = work.filter(|_| !stop.load(Ordering::Relaxed)) else {
                return;
            };
            let outcome = self.write_pack(pack).map(|()| number);
            if done.send(outcome).is_err() {
                return;
            }
        }
    }

    fn write_pack(&self, pack: &PackPieces) -> Result<(), RepositoryError> {
        let name = ObjectName::object(pack.object);
        let damaged = |error| RepositoryError::damaged(&name, error);
        let sealed = self.reader.fetch_unproved(pack.object)?;
        let reader = match PackReader::open(&self.reader.epoch, &sealed) {
            Ok(reader) => reader,
            Err(error) => {
                prove_object(pack.object, &sealed)?;
                return Err(damaged(error));
            }
        };
        drop(sealed);
        for pieces in pack.pieces.chunk_by(|one, two| one.frame == two.frame) {
            self.cancel.check()?;
            let content = reader.frame(pieces[0].frame).map_err(damaged)?;
            for piece in pieces {
                let begin = piece.offset as usize;
                let bytes = content
                    .get(begin..begin + piece.length as usize)
                    .ok_or_else(|| {
                        damaged(FormatError::damaged(
                            "pack",
                            "a run past the end of its frame",
                        ))
                    })?;
                self.file
                    .write_all_at(bytes, piece.position)
                    .map_err(target("write"))?;
            }
        }
        Ok(())
    }

    /// Digests what is written, from `digested` up to `frontier`.
    fn digest(
        &self,
        digested: &mut u64,
        frontier: u64,
        hasher: &mut Hasher,
        block: &mut [u8],
    ) -> Result<(), RepositoryError> {
        while *digested < frontier {
            self.cancel.check()?;
            let length = (frontier - *digested).min(block.len() as u64);
            let block = &mut block[..usize::try_from(length).expect("at most a block")];
            self.file
                .read_exact_at(block, *digested)
                .map_err(target("read back"))?;
            hasher.update(block);
            *digested += length;
            (self.on_bytes)(length);
        }
        Ok(())
    }
}
