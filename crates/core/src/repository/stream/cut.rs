//! Where streams are cut into chunks. Pure: from a block of bytes to the ends of its chunks.
//!
//! The cuts never matter for reading; they decide what the next backup finds again.

use twox_hash::XxHash3_64;

use crate::source::Chunking;

/// The chunks of FastCDC: smallest, average, largest.
const CONTENT_CHUNKS: (usize, usize, usize) = (2 << 10, 8 << 10, 64 << 10);
/// The chunks of lines: from this length on a line may end one.
const LINES_MIN: usize = 1 << 10;
/// One in so many lines ends a chunk; a power of two. Chosen with [`LINES_TARGET`] by measurement (docs/adr/0011).
const LINES_TARGET: usize = 4 << 10;
/// The longest chunk of lines; a line that is longer is cut at its content.
const LINES_MAX: usize = 32 << 10;

/// Puts the ends of the chunks of `block` into `ends`.
///
/// Unless the block is the `last` of its stretch, a tail may be left over, to be cut together with what follows; the ends
/// are empty only for an empty block.
pub(super) fn cut(chunking: Chunking, block: &[u8], last: bool, ends: &mut Vec<usize>) {
    ends.clear();
    match chunking {
        Chunking::Fixed(size) => {
            let size = size as usize;
            ends.extend((1..=block.len() / size).map(|number| number * size));
            if !block.len().is_multiple_of(size) {
                ends.push(block.len());
            }
        }
        Chunking::Content => {
            cut_content(block, 0, ends);
            if !last && ends.len() > 1 {
                // Where the last chunk ends depends on what follows.
                ends.pop();
            }
        }
        Chunking::Lines => cut_lines(block, last, ends),
    }
}

fn cut_content(bytes: &[u8], offset: usize, ends: &mut Vec<usize>) {
    let (min, average, max) = CONTENT_CHUNKS;
    let chunks = fastcdc::v2020::FastCDC::new(bytes, min, average, max);
    ends.extend(chunks.map(|chunk| offset + chunk.offset + chunk.length));
}

/// A chunk ends after a line whose digest says so. The digest is of that line alone, so that a changed row moves no cut but those
/// of its own chunk.
fn cut_lines(block: &[u8], last: bool, ends: &mut Vec<usize>) {
    let mut begin = 0;
    let mut line = 0;
    for feed in memchr::memchr_iter(b'\n', block) {
        let end = feed + 1;
        if end - begin > LINES_MAX {
            // Without this line the chunk was short enough.
            if line > begin {
                ends.push(line);
                begin = line;
            }
            if end - begin > LINES_MAX {
                cut_content(&block[begin..end], begin, ends);
                begin = end;
            }
        }
        let length = end - line;
        if end - begin >= LINES_MIN && ends_chunk(&block[line..end], length) {
            ends.push(end);
            begin = end;
        }
        line = end;
    }
    if last {
        if block.len() - begin > LINES_MAX {
            cut_content(&block[begin..], begin, ends);
        } else if block.len() > begin {
            ends.push(block.len());
        }
    } else if ends.is_empty() {
        // One line fills the whole block.
        cut_content(block, 0, ends);
        if ends.len() > 1 {
            ends.pop();
        }
    }
}

/// Whether a line of `length` bytes ends a chunk: the more bytes it has, the more likely.
fn ends_chunk(line: &[u8], length: usize) -> bool {
    let digest = XxHash3_64::oneshot(line);
    digest % (LINES_TARGET as u64) < length as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of 30 to 1,500 letters.
    fn lines(count: u64) -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| {
                let digest = XxHash3_64::oneshot(&number.to_le_bytes());
                let length = 30 + digest % 1470;
                let mut line: Vec<u8> = (0..length)
                    .map(|at| b'a' + ((digest >> (at % 57)) % 26) as u8)
                    .collect();
                line.push(b'\n');
                line
            })
            .collect()
    }

    fn chunks(chunking: Chunking, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let mut ends = Vec::new();
        while !bytes.is_empty() {
            let block = &bytes[..bytes.len().min(1 << 20)];
            let last = block.len() == bytes.len();
            cut(chunking, block, last, &mut ends);
            let mut begin = 0;
            for &end in &ends {
                assert!(end > begin, "chunks have bytes");
                chunks.push(block[begin..end].to_vec());
                begin = end;
            }
            assert!(begin > 0 && (!last || begin == block.len()), "goes on");
            bytes = &bytes[begin..];
        }
        chunks
    }

    #[test]
    fn a_changed_line_changes_its_chunk_alone() {
        let mut lines = lines(4000);
        let before = chunks(Chunking::Lines, &lines.concat());
        assert!(before.iter().all(|chunk| chunk.ends_with(b"\n")));
        let average = lines.concat().len() / before.len();
        assert!((2000..8000).contains(&average), "{average}");
        lines[1234] = b"another line\n".to_vec();
        lines.insert(3000, b"one more\n".to_vec());
        let after = chunks(Chunking::Lines, &lines.concat());
        let fresh = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!((1..=4).contains(&fresh), "{fresh}");
    }

    #[test]
    fn every_stream_is_cut_whole() {
        let long = [b"short\n".to_vec(), vec![b'x'; 3 << 20], b"\nend".to_vec()].concat();
        let same = vec![b'\n'; 100_000];
        for bytes in [
            &long,
            &same,
            &lines(500).concat(),
            &b"x".to_vec(),
            &Vec::new(),
        ] {
            for chunking in [Chunking::Lines, Chunking::Content, Chunking::Fixed(4096)] {
                let chunks = chunks(chunking, bytes);
                assert_eq!(&chunks.concat(), bytes, "{chunking:?}");
                assert!(chunks.iter().all(|chunk| chunk.len() <= 64 << 10));
            }
        }
    }
}
