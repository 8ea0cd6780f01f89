//! Digests of whole streams, computed on a thread of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::format::Digest;
use crate::format::id::Hasher;

/// Zeros for holes.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

enum Job {
    Bytes(u64, Arc<Vec<u8>>, usize),
    Hole(u64, u64),
    Finish(u64, Sender<Digest>),
    Forget(u64),
}

/// Hashes streams, several at a time.
pub(crate) struct StreamHasher {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    begun: AtomicU64,
}

/// The digest of one stream.
pub(crate) struct StreamDigest {
    jobs: Sender<Job>,
    number: u64,
}

impl StreamHasher {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let (jobs, receiver) = bounded(2);
        let thread = std::thread::Builder::new()
            .name("stream-digest".into())
            .spawn(move || work(&receiver))
            .expect("the system can start a thread");
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
            begun: AtomicU64::new(0),
        }
    }

    /// Begins the digest of a stream.
    pub(crate) fn begin(&self) -> StreamDigest {
        let jobs = self.jobs.as_ref().expect("open until dropped");
        StreamDigest {
            jobs: jobs.clone(),
            number: self.begun.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for StreamHasher {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was seen by the caller already, who got no answer.
            let _ = thread.join();
        }
    }
}

impl StreamDigest {
    /// Adds a block but for its first `skip` bytes.
    pub(crate) fn update(&self, block: Arc<Vec<u8>>, skip: usize) {
        self.send(Job::Bytes(self.number, block, skip));
    }

    /// Adds zeros.
    pub(crate) fn hole(&self, length: u64) {
        self.send(Job::Hole(self.number, length));
    }

    /// The digest of everything that was added.
    pub(crate) fn finish(&self) -> Digest {
        let (sender, receiver) = bounded(1);
        self.send(Job::Finish(self.number, sender));
        receiver
            .recv()
            .expect("the digest thread answers every question")
    }

    fn send(&self, job: Job) {
        self.jobs
            .send(job)
            .expect("the digest thread lives as long as anybody may send");
    }
}

impl Drop for StreamDigest {
    fn drop(&mut self) {
        // After a finished stream there is nothing to forget.
        let _ = self.jobs.send(Job::Forget(self.number));
    }
}

fn work(jobs: &Receiver<Job>) {
    let mut hashers: HashMap<u64, Hasher> = HashMap::new();
    for job in jobs {
        match job {
            Job::Bytes(number, bytes, skip) => {
                hashers.entry(number).or_default().update(&bytes[skip..]);
            }
            Job::Hole(number, length) => {
                update_zeros(hashers.entry(number).or_default(), length);
            }
            Job::Finish(number, answer) => {
                let digest = hashers.remove(&number).unwrap_or_default().finish();
                // Who asked may have given up; then nobody misses the answer.
                let _ = answer.send(digest);
            }
            Job::Forget(number) => drop(hashers.remove(&number)),
        }
    }
}

/// Adds `length` zero bytes.
pub(crate) fn update_zeros(hasher: &mut Hasher, mut length: u64) {
    while length > 0 {
        let piece = length.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..usize::try_from(piece).expect("at most 64 KiB")]);
        length -= piece;
    }
}
