//! Digests of whole streams, computed on a thread of their own.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::format::Digest;
use crate::format::id::Hasher;

/// Zeros for holes.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

enum Job {
    Bytes(Arc<Vec<u8>>),
    Hole(u64),
    Restart,
    Finish(Sender<Digest>),
}

/// Hashes one stream after the other, each from [`StreamHasher::restart`] to [`StreamHasher::finish`].
pub(crate) struct StreamHasher {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
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
        }
    }

    pub(crate) fn restart(&self) {
        self.send(Job::Restart);
    }

    pub(crate) fn update(&self, bytes: Arc<Vec<u8>>) {
        self.send(Job::Bytes(bytes));
    }

    pub(crate) fn hole(&self, length: u64) {
        self.send(Job::Hole(length));
    }

    /// The digest of everything since the restart.
    pub(crate) fn finish(&self) -> Digest {
        let (sender, receiver) = bounded(1);
        self.send(Job::Finish(sender));
        receiver
            .recv()
            .expect("the digest thread answers every question")
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("open until dropped");
        jobs.send(job)
            .expect("the digest thread lives as long as its owner");
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

fn work(jobs: &Receiver<Job>) {
    let mut hasher = Hasher::new();
    for job in jobs {
        match job {
            Job::Bytes(bytes) => hasher.update(&bytes),
            Job::Hole(length) => update_zeros(&mut hasher, length),
            Job::Restart => hasher = Hasher::new(),
            Job::Finish(answer) => {
                let digest = std::mem::take(&mut hasher).finish();
                // Who asked may have given up; then nobody misses the answer.
                let _ = answer.send(digest);
            }
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
