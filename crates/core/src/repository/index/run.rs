//! A run: a file of sorted chunks that is written once and looked up with one read.
//!
//! Entries of 32 bytes in blocks of 256; then a fence for every block, its first id and its digest, which stay in
//! memory (16 bytes for 256 chunks); then how many entries there are and the digest of the fences. A block
//! whose digest is wrong counts as empty: a cache may forget, but never mislead.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

use super::{ChunkId, ChunkPlace};
use crate::private_file;

const ENTRY_BYTES: usize = 32;
const BLOCK_ENTRIES: usize = 256;
const BLOCK_BYTES: usize = ENTRY_BYTES * BLOCK_ENTRIES;
const FENCE_BYTES: usize = 16;
const TRAILER_BYTES: usize = 16;

/// A chunk and its place.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: ChunkId,
    pub(super) place: ChunkPlace,
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let ChunkPlace {
            pack,
            frame,
            offset,
            length,
        } = self.place;
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.id);
        for (bytes, field) in bytes[16..]
            .chunks_exact_mut(4)
            .zip([pack, frame, offset, length])
        {
            bytes.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[..16]);
        let field = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let place = ChunkPlace {
            pack: field(16),
            frame: field(20),
            offset: field(24),
            length: field(28),
        };
        Self { id, place }
    }
}

/// Where a block begins in the order of ids, and what its bytes must be.
#[derive(Clone, Copy)]
struct Fence {
    first: u64,
    sum: u64,
}

fn prefix(id: &ChunkId) -> u64 {
    u64::from_be_bytes([id[0], id[1], id[2], id[3], id[4], id[5], id[6], id[7]])
}

/// An open run.
pub(super) struct Run {
    path: PathBuf,
    number: u64,
    file: File,
    entries: usize,
    fences: Vec<Fence>,
    durable: bool,
}

impl Run {
    /// Writes a run of entries that come sorted.
    pub(super) fn write(
        directory: &Path,
        number: u64,
        entries: impl Iterator<Item = io::Result<Entry>>,
    ) -> io::Result<Self> {
        let path = directory.join(format!("{number}.run"));
        let mut output =
            BufWriter::with_capacity(64 << 10, private_file::create_or_truncate(&path)?);
        let mut fences = Vec::new();
        let mut count = 0;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut end_block = |block: &mut Vec<u8>| -> io::Result<()> {
            if !block.is_empty() {
                let first = prefix(&Entry::from_bytes(&block[..ENTRY_BYTES]).id);
                fences.push(Fence {
                    first,
                    sum: XxHash3_64::oneshot(block),
                });
                output.write_all(block)?;
                block.clear();
            }
            Ok(())
        };
        for entry in entries {
            block.extend_from_slice(&entry?.to_bytes());
            count += 1;
            if block.len() == BLOCK_BYTES {
                end_block(&mut block)?;
            }
        }
        end_block(&mut block)?;
        let mut tail = Vec::with_capacity(fences.len() * FENCE_BYTES + TRAILER_BYTES);
        for fence in &fences {
            tail.extend_from_slice(&fence.first.to_le_bytes());
            tail.extend_from_slice(&fence.sum.to_le_bytes());
        }
        tail.extend_from_slice(&(count as u64).to_le_bytes());
        let sum = XxHash3_64::oneshot(&tail);
        tail.extend_from_slice(&sum.to_le_bytes());
        output.write_all(&tail)?;
        let file = output
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok(Self {
            path,
            number,
            file,
            entries: count,
            fences,
            durable: false,
        })
    }

    /// Opens a run and reads its fences.
    pub(super) fn open(directory: &Path, number: u64) -> io::Result<Self> {
        let damaged =
            || io::Error::new(io::ErrorKind::InvalidData, "a run of the index is damaged");
        let path = directory.join(format!("{number}.run"));
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let trailer_at = length
            .checked_sub(TRAILER_BYTES as u64)
            .ok_or_else(damaged)?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, trailer_at)?;
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[..8]);
            u64::from_le_bytes(word)
        };
        let entries = usize::try_from(word(&trailer)).map_err(|_| damaged())?;
        let fences_at = entries.checked_mul(ENTRY_BYTES).ok_or_else(damaged)? as u64;
        let fences_bytes = entries.div_ceil(BLOCK_ENTRIES) * FENCE_BYTES;
        if fences_at.checked_add(fences_bytes as u64) != Some(trailer_at) {
            return Err(damaged());
        }
        let mut tail = vec![0; fences_bytes + 8];
        file.read_exact_at(&mut tail, fences_at)?;
        if XxHash3_64::oneshot(&tail) != word(&trailer[8..]) {
            return Err(damaged());
        }
        let fences = tail[..fences_bytes]
            .chunks_exact(FENCE_BYTES)
            .map(|fence| Fence {
                first: word(fence),
                sum: word(&fence[8..]),
            })
            .collect();
        Ok(Self {
            path,
            number,
            file,
            entries,
            fences,
            durable: true,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Makes the file durable, once.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if !self.durable {
            self.file.sync_all()?;
            self.durable = true;
        }
        Ok(())
    }

    /// Looks one chunk up; `block` is working memory.
    pub(super) fn find(&self, id: &ChunkId, block: &mut Vec<u8>) -> io::Result<Option<ChunkPlace>> {
        let key = prefix(id);
        // Ids that share eight bytes may straddle two blocks: then the earlier one is looked at, too.
        let end = self.fences.partition_point(|fence| fence.first <= key);
        let begin = self.fences[..end].partition_point(|fence| fence.first < key);
        for number in begin.saturating_sub(1)..end {
            self.read_block(number, block)?;
            let entries = block.chunks_exact(ENTRY_BYTES);
            let place = {
                let count = entries.len();
                let at = |number: usize| &block[number * ENTRY_BYTES..(number + 1) * ENTRY_BYTES];
                let (mut low, mut high) = (0, count);
                while low < high {
                    let middle = usize::midpoint(low, high);
                    if at(middle)[..16] < id[..] {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                (low < count && at(low)[..16] == id[..]).then(|| Entry::from_bytes(at(low)).place)
            };
            if place.is_some() {
                return Ok(place);
            }
        }
        Ok(None)
    }

    /// Reads a block; one with a wrong digest is empty.
    fn read_block(&self, number: usize, block: &mut Vec<u8>) -> io::Result<()> {
        let begin = number * BLOCK_ENTRIES;
        let entries = BLOCK_ENTRIES.min(self.entries - begin);
        block.resize(entries * ENTRY_BYTES, 0);
        self.file
            .read_exact_at(block, (begin * ENTRY_BYTES) as u64)?;
        if XxHash3_64::oneshot(block) != self.fences[number].sum {
            tracing::warn!(path = %self.path.display(), number, "a block of the chunk index is damaged and forgotten");
            block.clear();
        }
        Ok(())
    }

    /// All entries in order.
    fn entries(&self) -> impl Iterator<Item = io::Result<Entry>> {
        (0..self.fences.len()).flat_map(|number| {
            let mut block = Vec::new();
            let read = self.read_block(number, &mut block);
            let failure = read.err().map(Err);
            let entries: Vec<_> = block
                .chunks_exact(ENTRY_BYTES)
                .map(|bytes| Ok(Entry::from_bytes(bytes)))
                .collect();
            failure.into_iter().chain(entries)
        })
    }
}

/// Merges two runs into a third; where both know a chunk, `newer` counts.
pub(super) fn merge(
    directory: &Path,
    number: u64,
    older: &Run,
    newer: &Run,
    mut keep: impl FnMut(&Entry) -> bool,
) -> io::Result<Run> {
    let mut older = older.entries().peekable();
    let mut newer = newer.entries().peekable();
    let merged = std::iter::from_fn(|| match (older.peek(), newer.peek()) {
        (Some(Ok(old)), Some(Ok(new))) if old.id < new.id => older.next(),
        (Some(Ok(old)), Some(Ok(new))) if old.id == new.id => {
            older.next();
            newer.next()
        }
        (_, Some(_)) => newer.next(),
        (_, None) => older.next(),
    });
    let kept = merged.filter(|entry| entry.as_ref().map_or(true, &mut keep));
    Run::write(directory, number, kept)
}
