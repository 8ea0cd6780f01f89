//! The sink of an asset: cuts packed streams into chunks, seals artifacts whole.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::RepositoryError;
use super::hashing::update_zeros;
use super::index::{ArtifactId, ChunkId, StoredObject};
use super::writer::{BackupWriter, DraftRun, Place};
use crate::cancel::Cancel;
use crate::format::Digest;
use crate::format::id::Hasher;
use crate::format::manifest::{Content, Stream};
use crate::format::pack::{ArtifactWriter, seal_artifact};
use crate::private_file;
use crate::source::{CaptureError, Chunking, Class, Entry, Sink, StreamSummary, StreamWriter};
use crate::storage::Body;

/// Zeros for holes in artifacts.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
/// How much of a packed stream is cut at once, in bytes.
const BLOCK: usize = 1 << 20;
/// The chunks of FastCDC: smallest, average, largest.
const CONTENT_CHUNKS: (usize, usize, usize) = (2 << 10, 8 << 10, 64 << 10);
/// How long an artifact may be to be sealed in memory, in bytes.
const ARTIFACT_IN_MEMORY: usize = 1 << 20;

/// Takes the streams of one asset for one repository.
pub struct AssetSink<'w, 'a> {
    writer: &'w mut BackupWriter<'a>,
    class: Class,
    scratch: &'w Path,
    cancel: &'w Cancel,
    memory: Option<serde_json::Value>,
    /// Reused for every artifact, so that no copy of a key stays behind in memory.
    buffer: Zeroizing<Vec<u8>>,
}

impl<'w, 'a> AssetSink<'w, 'a> {
    pub(super) fn new(
        writer: &'w mut BackupWriter<'a>,
        class: Class,
        scratch: &'w Path,
        cancel: &'w Cancel,
        memory: Option<serde_json::Value>,
    ) -> Self {
        Self {
            writer,
            class,
            scratch,
            cancel,
            memory,
            buffer: Zeroizing::new(Vec::new()),
        }
    }
}

impl Sink for AssetSink<'_, '_> {
    fn entry(&mut self, entry: Entry) -> Result<(), CaptureError> {
        self.cancel.check()?;
        Ok(self
            .writer
            .add_stream(describe(entry, None), Vec::new())
            .map_err(Box::new)?)
    }

    fn begin(&mut self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        self.cancel.check()?;
        if self.class.is_packed() {
            let writer = PackedStream::new(self.writer, chunking, self.cancel);
            return Ok(Box::new(writer));
        }
        self.buffer.clear();
        self.buffer.reserve_exact(ARTIFACT_IN_MEMORY);
        Ok(Box::new(ArtifactStream {
            content_id: blake3::Hasher::new_keyed(&self.writer.chunk_key),
            writer: self.writer,
            scratch: self.scratch,
            cancel: self.cancel,
            buffer: &mut self.buffer,
            spool: None,
            digest: Hasher::new(),
            size_bytes: 0,
        }))
    }

    fn scratch(&self) -> &Path {
        self.scratch
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        self.memory.as_ref()
    }

    fn cancel(&self) -> &Cancel {
        self.cancel
    }
}

/// The manifest's line for an entry.
fn describe(entry: Entry, content: Option<(StreamSummary, Content)>) -> Stream {
    let (summary, content) = content.unzip();
    Stream {
        kind: entry.kind,
        path: entry.path,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user,
        group: entry.group,
        mtime: entry.mtime,
        xattrs: entry.xattrs,
        target: entry.target,
        size: summary.map(|summary| summary.size_bytes),
        sha256: summary.map(|summary| summary.sha256),
        content,
    }
}

/// A stream that is cut into chunks.
struct PackedStream<'s, 'a> {
    writer: &'s mut BackupWriter<'a>,
    cancel: &'s Cancel,
    chunking: Chunking,
    block: Vec<u8>,
    /// Bytes at the start of `block` that were digested with the block before.
    digested: usize,
    ids: Vec<ChunkId>,
    ends: Vec<usize>,
    runs: Vec<DraftRun>,
    size_bytes: u64,
}

impl<'s, 'a> PackedStream<'s, 'a> {
    fn new(writer: &'s mut BackupWriter<'a>, chunking: Chunking, cancel: &'s Cancel) -> Self {
        // A stream before this one may have been given up in the middle.
        writer.hasher.restart();
        let chunking = match chunking {
            Chunking::Fixed(size) if size == 0 || size as usize > BLOCK => Chunking::Content,
            chunking => chunking,
        };
        Self {
            writer,
            cancel,
            chunking,
            block: Vec::new(),
            digested: 0,
            ids: Vec::new(),
            ends: Vec::new(),
            runs: Vec::new(),
            size_bytes: 0,
        }
    }

    /// How long a full block is: a multiple of the chunk size.
    fn block_size(&self) -> usize {
        match self.chunking {
            Chunking::Fixed(size) => BLOCK / size as usize * size as usize,
            Chunking::Content => BLOCK,
        }
    }

    /// Cuts the block; unless it is the last of its stretch, a tail may be carried over.
    fn cut(&mut self, last: bool) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        self.ends.clear();
        match self.chunking {
            Chunking::Fixed(size) => {
                let size = size as usize;
                self.ends
                    .extend((1..=self.block.len() / size).map(|number| number * size));
                if !self.block.len().is_multiple_of(size) {
                    self.ends.push(self.block.len());
                }
            }
            Chunking::Content => {
                let (min, average, max) = CONTENT_CHUNKS;
                let chunks = fastcdc::v2020::FastCDC::new(&self.block, min, average, max);
                self.ends
                    .extend(chunks.map(|chunk| chunk.offset + chunk.length));
                if !last && self.ends.len() > 1 {
                    // Where the last chunk ends depends on what follows.
                    self.ends.pop();
                }
            }
        }
        let taken = self.ends.last().copied().unwrap_or(0);
        let carried = self.block[taken..].to_vec();
        let block = Arc::new(std::mem::take(&mut self.block));
        let fresh = self.digested;
        self.digested = carried.len();
        if fresh == 0 {
            self.writer.hasher.update(Arc::clone(&block));
        } else {
            self.writer.hasher.update(Arc::new(block[fresh..].to_vec()));
        }
        self.block = carried;
        self.identify(&block);
        self.place(&block)
    }

    fn identify(&mut self, block: &[u8]) {
        self.ids.clear();
        let mut begin = 0;
        for &end in &self.ends {
            let hash = blake3::keyed_hash(&self.writer.chunk_key, &block[begin..end]);
            let mut id = [0; 16];
            id.copy_from_slice(&hash.as_bytes()[..16]);
            self.ids.push(id);
            begin = end;
        }
    }

    fn place(&mut self, block: &[u8]) -> Result<(), RepositoryError> {
        let mut known = Vec::with_capacity(self.ids.len());
        self.writer
            .index
            .find_chunks(&self.ids, |_, place| known.push(place))?;
        let mut begin = 0;
        for (number, known) in known.into_iter().enumerate() {
            let bytes = &block[begin..self.ends[number]];
            begin = self.ends[number];
            let id = self.ids[number];
            let (place, offset) = match known {
                Some(known)
                    if known.length as usize == bytes.len()
                        && self.writer.is_present(known.pack)? =>
                {
                    (
                        Place::Packed {
                            pack: known.pack,
                            frame: known.frame,
                        },
                        known.offset,
                    )
                }
                _ => match self.writer.find_unresolved(&id) {
                    Some((frame, offset)) => (Place::Frame(frame), offset),
                    None => self.writer.add_chunk(id, bytes)?,
                },
            };
            self.push_run(place, offset, bytes.len() as u64);
        }
        Ok(())
    }

    fn push_run(&mut self, place: Place, offset: u32, length: u64) {
        if let Some(last) = self.runs.last_mut()
            && last.place == place
            && (place == Place::Hole || u64::from(last.offset) + last.length == u64::from(offset))
        {
            last.length += length;
            return;
        }
        self.runs.push(DraftRun {
            place,
            offset,
            length,
        });
    }
}

impl StreamWriter for PackedStream<'_, '_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), CaptureError> {
        self.size_bytes += bytes.len() as u64;
        let full = self.block_size();
        while !bytes.is_empty() {
            if self.block.capacity() < full {
                self.block.reserve_exact(full - self.block.len());
            }
            let room = full - self.block.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == full {
                self.cut(false).map_err(Box::new)?;
            }
        }
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), CaptureError> {
        if length == 0 {
            return Ok(());
        }
        if !self.block.is_empty() {
            self.cut(true).map_err(Box::new)?;
        }
        self.writer.hasher.hole(length);
        self.size_bytes += length;
        self.push_run(Place::Hole, 0, length);
        Ok(())
    }

    fn finish(mut self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        if !self.block.is_empty() {
            self.cut(true).map_err(Box::new)?;
        }
        let sha256 = self.writer.hasher.finish();
        let summary = StreamSummary {
            sha256,
            size_bytes: self.size_bytes,
        };
        let stream = describe(entry, Some((summary, Content::Packed)));
        let runs = std::mem::take(&mut self.runs);
        self.writer.add_stream(stream, runs).map_err(Box::new)?;
        Ok(summary)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}

/// A stream that becomes one object of its own.
struct ArtifactStream<'s, 'a> {
    writer: &'s mut BackupWriter<'a>,
    scratch: &'s Path,
    cancel: &'s Cancel,
    /// The content, while it is small.
    buffer: &'s mut Zeroizing<Vec<u8>>,
    /// Where the sealed content goes, once it is not.
    spool: Option<Spool>,
    content_id: blake3::Hasher,
    digest: Hasher,
    size_bytes: u64,
}

/// A sealed artifact on its way through a file; only sealed bytes reach the disk.
struct Spool {
    path: PathBuf,
    output: ArtifactWriter<DigestingFile>,
}

/// A file whose digest is computed as it is written.
struct DigestingFile {
    file: File,
    hasher: Hasher,
    size_bytes: u64,
}

impl Write for DigestingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl ArtifactStream<'_, '_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        self.content_id.update(bytes);
        self.size_bytes += bytes.len() as u64;
        if self.spool.is_none() {
            if self.buffer.len() + bytes.len() <= ARTIFACT_IN_MEMORY {
                self.buffer.extend_from_slice(bytes);
                return Ok(());
            }
            self.begin_spool()?;
        }
        let spool = self.spool.as_mut().expect("begun above");
        spool
            .output
            .write_all(bytes)
            .map_err(RepositoryError::state("write", &spool.path))
    }

    fn begin_spool(&mut self) -> Result<(), RepositoryError> {
        let path = self.scratch.join("artifact.age");
        let file = private_file::create_or_truncate(&path)
            .map_err(RepositoryError::state("create", &path))?;
        let file = DigestingFile {
            file,
            hasher: Hasher::new(),
            size_bytes: 0,
        };
        let mut output = ArtifactWriter::new(&self.writer.recipient, file)?;
        output
            .write_all(self.buffer)
            .map_err(RepositoryError::state("write", &path))?;
        self.spool = Some(Spool { path, output });
        Ok(())
    }

    fn store(&mut self) -> Result<Digest, RepositoryError> {
        let id: ArtifactId = *self.content_id.finalize().as_bytes();
        if let Some(digest) = self.writer.find_artifact(&id)? {
            return Ok(digest);
        }
        let Some(spool) = self.spool.take() else {
            let sealed = seal_artifact(&self.writer.recipient, self.buffer)?;
            let object = StoredObject {
                digest: sealed.digest,
                size_bytes: sealed.bytes.len() as u64,
            };
            let body = Body::Bytes(&sealed.bytes);
            self.writer
                .add_artifact(&id, object, body, self.size_bytes)?;
            return Ok(object.digest);
        };
        let Spool { path, output } = spool;
        let file = output.finish()?;
        let object = StoredObject {
            digest: file.hasher.finish(),
            size_bytes: file.size_bytes,
        };
        let stored = self
            .writer
            .add_artifact(&id, object, Body::File(&path), self.size_bytes);
        // The scratch directory is emptied after the run in any case.
        let _ = std::fs::remove_file(&path);
        stored.map(|()| object.digest)
    }
}

impl StreamWriter for ArtifactStream<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.digest.update(bytes);
        Ok(self.push(bytes).map_err(Box::new)?)
    }

    fn hole(&mut self, mut length: u64) -> Result<(), CaptureError> {
        update_zeros(&mut self.digest, length);
        while length > 0 {
            let piece = length.min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(piece).expect("at most 64 KiB")];
            self.push(zeros).map_err(Box::new)?;
            length -= piece;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        let object = self.store().map_err(Box::new)?;
        let sha256 = std::mem::take(&mut self.digest).finish();
        let summary = StreamSummary {
            sha256,
            size_bytes: self.size_bytes,
        };
        let stream = describe(entry, Some((summary, Content::Artifact { object })));
        self.writer
            .add_stream(stream, Vec::new())
            .map_err(Box::new)?;
        Ok(summary)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}
