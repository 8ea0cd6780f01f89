//! How the writer's chunk index grows: bytes a chunk, time to add and to look up, size of the file.
//!
//! `cargo run --release -p strongroom-core --example index_scale -- DIR [CHUNKS]` fills an index below DIR with made-up
//! chunk ids, 50 million unless told otherwise, and prints a line at every power of ten and at the end.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use strongroom_core::format::{Digest, EpochId};
use strongroom_core::repository::index::{ChunkId, Index, StoredObject};

/// Pages of 4 KiB in a pack of 8 MiB that shrank to half.
const CHUNKS_A_PACK: u64 = 4096;
/// As in the writer.
const PACKS_A_COMMIT: u64 = 128;
const LOOKUPS: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("name a directory")?;
    let chunks: u64 = arguments
        .next()
        .map_or(Ok(50_000_000), |text| text.parse())?;
    let path = Path::new(&directory).join("index-scale");
    let mut index = Index::create(&path, EpochId::from_bytes([0; 8]))?;
    println!(
        "{:>12} {:>10} {:>12} {:>14} {:>12}",
        "chunks", "file MB", "bytes/chunk", "added/s", "lookup us"
    );
    let begin = Instant::now();
    let mut added = 0;
    let mut next_report = 100_000;
    while added < chunks {
        let count = CHUNKS_A_PACK.min(chunks - added);
        let digest = Digest::of(&added.to_le_bytes());
        let ids = (added..added + count)
            .zip(0_u32..)
            .map(|(number, place)| (id(number), place / 256 * 4000, place % 256 * 4096, 4096));
        index.add_pack(
            StoredObject {
                digest,
                size_bytes: 8 << 20,
            },
            ids,
        )?;
        added += count;
        if (added / CHUNKS_A_PACK).is_multiple_of(PACKS_A_COMMIT) {
            index.commit()?;
        }
        if added >= next_report.min(chunks) {
            index.commit()?;
            report(&index, &path, added, begin)?;
            next_report *= 10;
        }
    }
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

/// As random as real ids, and computable.
fn id(number: u64) -> ChunkId {
    let mut id = [0; 16];
    id.copy_from_slice(&Digest::of(&number.to_le_bytes()).as_bytes()[..16]);
    id
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(index: &Index, path: &Path, added: u64, begin: Instant) -> Result<(), Box<dyn Error>> {
    let seconds = begin.elapsed().as_secs_f64();
    let mut size = 0;
    for entry in std::fs::read_dir(path)? {
        size += entry?.metadata()?.len();
    }
    let step = (added / LOOKUPS).max(1);
    // Known ones in an order that is not that of insertion.
    let ids: Vec<ChunkId> = (0..LOOKUPS)
        .map(|n| id(n * 7919 % LOOKUPS * step % added))
        .collect();
    let look = Instant::now();
    let mut missing = 0;
    for ids in ids.chunks(256) {
        index.find_chunks(ids, |_, place| missing += u64::from(place.is_none()))?;
    }
    if missing > 0 {
        return Err(format!("{missing} chunks were not found again").into());
    }
    println!(
        "{added:>12} {:>10.1} {:>12.1} {:>14.0} {:>12.2}",
        size as f64 / 1e6,
        size as f64 / added as f64,
        added as f64 / seconds,
        look.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64
    );
    Ok(())
}
