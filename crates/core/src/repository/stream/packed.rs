//! A stream that is cut into chunks.

use std::sync::Arc;

use super::cut::cut;
use super::{AssetSink, describe};
use crate::format::manifest::Content;
use crate::repository::RepositoryError;
use crate::repository::hashing::StreamDigest;
use crate::repository::index::ChunkId;
use crate::repository::writer::{BackupWriter, DraftRun, Place};
use crate::source::{CaptureError, Chunking, Entry, StreamSummary, StreamWriter};

/// How much of a stream is cut at once, in bytes.
const BLOCK: usize = 1 << 20;

/// Cuts and identifies on the thread of its source; only the look-up and what is new go through the writer, which streams share.
pub(super) struct PackedStream<'s, 'a> {
    sink: &'s AssetSink<'a>,
    digest: StreamDigest,
    /// The writer's number of it.
    number: u64,
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
    pub(super) fn new(sink: &'s AssetSink<'a>, chunking: Chunking) -> Self {
        let chunking = match chunking {
            Chunking::Fixed(size) if size == 0 || size as usize > BLOCK => Chunking::Content,
            chunking => chunking,
        };
        let (number, digest) = {
            let mut writer = sink.writer();
            (writer.open_stream(), writer.hasher.begin())
        };
        Self {
            digest,
            number,
            sink,
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
            Chunking::Content | Chunking::Lines => BLOCK,
        }
    }

    /// Cuts the block; unless it is the last of its stretch, a tail may be carried over.
    fn cut(&mut self, last: bool) -> Result<(), RepositoryError> {
        self.sink.cancel.check()?;
        cut(self.chunking, &self.block, last, &mut self.ends);
        let taken = self.ends.last().copied().unwrap_or(0);
        let carried = self.block[taken..].to_vec();
        let block = Arc::new(std::mem::take(&mut self.block));
        self.digest.update(Arc::clone(&block), self.digested);
        self.digested = carried.len();
        self.block = carried;
        self.identify(&block);
        let sink = self.sink;
        self.place(&mut sink.writer(), &block)
    }

    fn identify(&mut self, block: &[u8]) {
        self.ids.clear();
        let mut begin = 0;
        for &end in &self.ends {
            let hash = blake3::keyed_hash(&self.sink.chunk_key, &block[begin..end]);
            let mut id = [0; 16];
            id.copy_from_slice(&hash.as_bytes()[..16]);
            self.ids.push(id);
            begin = end;
        }
    }

    fn place(
        &mut self,
        writer: &mut BackupWriter<'a>,
        block: &[u8],
    ) -> Result<(), RepositoryError> {
        let mut known = Vec::with_capacity(self.ids.len());
        writer
            .index
            .find_chunks(&self.ids, |_, place| known.push(place))?;
        let mut begin = 0;
        for (number, known) in known.into_iter().enumerate() {
            let bytes = &block[begin..self.ends[number]];
            begin = self.ends[number];
            let id = self.ids[number];
            let (place, offset) = match known {
                Some(known)
                    if known.length as usize == bytes.len() && writer.is_present(known.pack)? =>
                {
                    (
                        Place::Packed {
                            pack: known.pack,
                            frame: known.frame,
                        },
                        known.offset,
                    )
                }
                _ => match writer.find_unresolved(&id) {
                    Some((frame, offset)) => (Place::Frame(frame), offset),
                    None => writer.add_chunk(self.number, id, bytes)?,
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

impl Drop for PackedStream<'_, '_> {
    fn drop(&mut self) {
        self.sink.writer().close_stream(self.number);
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
        self.digest.hole(length);
        self.size_bytes += length;
        self.push_run(Place::Hole, 0, length);
        Ok(())
    }

    fn finish(mut self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        if !self.block.is_empty() {
            self.cut(true).map_err(Box::new)?;
        }
        let summary = StreamSummary {
            sha256: self.digest.finish(),
            size_bytes: self.size_bytes,
        };
        let stream = describe(entry, Some((summary, Content::Packed)));
        let runs = std::mem::take(&mut self.runs);
        let added = self.sink.writer().add_stream(stream, runs);
        added.map_err(Box::new)?;
        Ok(summary)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}
