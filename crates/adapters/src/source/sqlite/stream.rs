//! Pushes a database file into the sink, page by page for the one who deduplicates.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

use strongroom_core::cancel::Cancel;
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{CaptureError, Chunking, Entry, StreamWriter};

use crate::source::entry::{self, Names};

/// How much is read at once: a multiple of every page size.
const BLOCK_BYTES: usize = 1024 * 1024;

/// The smallest chunk; smaller pages go together.
const SMALLEST_CHUNK: u32 = 4096;

/// Cuts at pages.
pub(super) fn chunking(page_size: u32) -> Chunking {
    Chunking::Fixed(page_size.max(SMALLEST_CHUNK))
}

/// Fills a block from a file, and tells how far; less than all of it at the end only.
pub(super) fn fill(block: &mut [u8], file: &mut File) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes the whole file at `path` and returns its BLAKE3 digest.
pub(super) fn push(
    path: &Path,
    writer: &mut dyn StreamWriter,
    cancel: &Cancel,
) -> Result<blake3::Hash, CaptureError> {
    let mut file = File::open(path).map_err(CaptureError::io("open", path))?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut hasher = blake3::Hasher::new();
    loop {
        cancel.check()?;
        let filled = fill(&mut block, &mut file).map_err(CaptureError::io("read", path))?;
        hasher.update(&block[..filled]);
        if filled > 0 {
            writer.write(&block[..filled])?;
        }
        if filled < block.len() {
            return Ok(hasher.finalize());
        }
    }
}

/// The entry of the database, with what the file system says of the original.
pub(super) fn entry(path: &Path, metadata: &Metadata) -> Entry {
    let names = Names::read();
    entry::describe(
        &names,
        StreamKind::Database,
        path,
        metadata,
        BTreeMap::new(),
        None,
    )
}
