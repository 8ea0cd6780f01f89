//! Measures a capture: `sqlite_capture DATABASE SCRATCH-DIRECTORY [CAPTURES]`.
//!
//! The sink stands for a repository in which every page is known: SHA-256 of the stream on one thread, BLAKE3 of
//! each chunk on another.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use strongroom_adapters::source::sqlite::{SqliteSettings, SqliteSource};
use strongroom_core::cancel::Cancel;
use strongroom_core::format::id::{Digest, Hasher};
use strongroom_core::source::{
    CaptureError, Chunking, Class, Entry, Sink, Source as _, StreamSummary, StreamWriter,
};

struct HashingSink {
    scratch: PathBuf,
    memory: Option<serde_json::Value>,
    cancel: Cancel,
}

struct HashingWriter {
    blocks: [SyncSender<Arc<Vec<u8>>>; 2],
    size_bytes: u64,
    stream: JoinHandle<Digest>,
    chunks: JoinHandle<u64>,
}

impl Sink for HashingSink {
    fn entry(&mut self, _: Entry) -> Result<(), CaptureError> {
        Ok(())
    }

    fn begin(&mut self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        let size = match chunking {
            Chunking::Fixed(size) => usize::try_from(size).expect("a page fits into memory"),
            Chunking::Content => 8192,
        };
        let (to_stream, stream) = sync_channel(4);
        let (to_chunks, chunks) = sync_channel(4);
        Ok(Box::new(HashingWriter {
            blocks: [to_stream, to_chunks],
            size_bytes: 0,
            stream: std::thread::spawn(move || hash_stream(&stream)),
            chunks: std::thread::spawn(move || hash_chunks(&chunks, size)),
        }))
    }

    fn scratch(&self) -> &Path {
        &self.scratch
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        self.memory.as_ref()
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl StreamWriter for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.size_bytes += bytes.len() as u64;
        let block = Arc::new(bytes.to_vec());
        for sender in &self.blocks {
            sender
                .send(block.clone())
                .expect("the threads live as long as the stream");
        }
        Ok(())
    }

    fn hole(&mut self, _: u64) -> Result<(), CaptureError> {
        unreachable!("a database has no holes")
    }

    fn finish(self: Box<Self>, _: Entry) -> Result<StreamSummary, CaptureError> {
        drop(self.blocks);
        let sha256 = self.stream.join().expect("hashing does not panic");
        self.chunks.join().expect("hashing does not panic");
        Ok(StreamSummary {
            sha256,
            size_bytes: self.size_bytes,
        })
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}

fn hash_stream(blocks: &Receiver<Arc<Vec<u8>>>) -> Digest {
    let mut hasher = Hasher::new();
    for block in blocks {
        hasher.update(&block);
    }
    hasher.finish()
}

fn hash_chunks(blocks: &Receiver<Arc<Vec<u8>>>, size: usize) -> u64 {
    let mut count = 0;
    for block in blocks {
        for chunk in block.chunks(size) {
            std::hint::black_box(blake3::keyed_hash(&[7; 32], chunk));
            count += 1;
        }
    }
    count
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, database, scratch, rest @ ..] = arguments.as_slice() else {
        panic!("sqlite_capture DATABASE SCRATCH-DIRECTORY [CAPTURES]");
    };
    let captures = rest
        .first()
        .map_or(2, |count| count.parse().expect("a number"));
    let source = SqliteSource::new(SqliteSettings {
        class: Class::Database,
        path: PathBuf::from(database),
        newest: Vec::new(),
    });
    let mut sink = HashingSink {
        scratch: PathBuf::from(scratch),
        memory: None,
        cancel: Cancel::default(),
    };
    for number in 1..=captures {
        let begun = Instant::now();
        let capture = source.capture(&mut sink).expect("the capture works");
        println!("capture {number}: {:.3} s", begun.elapsed().as_secs_f64());
        for line in capture.problems.iter().chain(&capture.notes) {
            println!("  {line}");
        }
        let reused = capture
            .memory
            .as_ref()
            .and_then(|memory| memory.get("reused"));
        println!(
            "  reused: {reused:?}, facts {} bytes",
            capture.facts.to_string().len()
        );
        sink.memory = capture.memory;
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or_default());
}
