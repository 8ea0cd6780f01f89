//! Turns frames of new chunks into stored packs, on threads of its own.
//!
//! Frames are compressed in parallel and sealed, in whatever order they arrive, into packs; the
//! owner learns from [`Packer::collect`] where each frame ended up. Nothing here knows chunks or streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::RepositoryError;
use super::index::{ChunkId, StoredObject};
use crate::format::frame::FrameEncoder;
use crate::format::name::ObjectName;
use crate::format::pack::PackBuilder;
use crate::format::seal::EpochRecipient;
use crate::storage::{Body, Storage};

/// Where a new chunk lies in the content of its frame.
#[derive(Clone, Copy)]
pub(crate) struct FrameChunk {
    pub(crate) id: ChunkId,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// A frame that was filled and not compressed yet.
pub(crate) struct Frame {
    /// Counts up in a run.
    pub(crate) number: u64,
    pub(crate) content: Vec<u8>,
    pub(crate) chunks: Vec<FrameChunk>,
}

/// A frame in its pack.
pub(crate) struct PackedFrame {
    pub(crate) number: u64,
    /// Where it begins in the plaintext of the pack.
    pub(crate) begin: u32,
    pub(crate) chunks: Vec<FrameChunk>,
}

/// A pack that the storage has taken.
pub(crate) struct SealedPack {
    pub(crate) object: StoredObject,
    pub(crate) frames: Vec<PackedFrame>,
}

enum Work {
    Frame(Frame),
    /// Everything submitted before belongs into packs that are closed now.
    Close {
        after: u64,
    },
}

enum Sealing {
    Frame(u64, Vec<u8>, Vec<FrameChunk>),
    Close { after: u64 },
}

type Outcome = Result<Option<SealedPack>, RepositoryError>;

/// The threads behind one repository's packs.
pub(crate) struct Packer {
    work: Option<Sender<Work>>,
    sealed: Receiver<Outcome>,
    threads: Vec<JoinHandle<()>>,
    submitted: u64,
}

impl Packer {
    /// Starts one thread a core for compression and one for sealing and storing.
    pub(crate) fn start(storage: Arc<dyn Storage>, recipient: EpochRecipient) -> Self {
        let cores = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(4);
        let (work, frames) = bounded::<Work>(1);
        let (compressed, sealing) = bounded::<Result<Sealing, RepositoryError>>(1);
        let (outcome, sealed) = unbounded();
        let mut threads: Vec<_> = (0..cores)
            .map(|_| {
                let (frames, compressed) = (frames.clone(), compressed.clone());
                spawn("compress", move || compress(&frames, &compressed))
            })
            .collect();
        threads.push(spawn("seal", move || {
            let mut sealer = Sealer::new(storage, recipient);
            for step in sealing {
                if !sealer.step(step, &outcome) {
                    break;
                }
            }
        }));
        Self {
            work: Some(work),
            sealed,
            threads,
            submitted: 0,
        }
    }

    /// Hands over a frame; waits while the threads have enough to do.
    pub(crate) fn submit(&mut self, frame: Frame) -> Result<(), RepositoryError> {
        self.submitted += 1;
        self.send(Work::Frame(frame))
    }

    /// The packs that were stored since the last call.
    pub(crate) fn collect(&self) -> Result<Vec<SealedPack>, RepositoryError> {
        self.sealed
            .try_iter()
            .filter_map(Result::transpose)
            .collect()
    }

    /// Closes the current pack, waits until all frames are in stored packs, and returns those not collected yet.
    pub(crate) fn drain(&mut self) -> Result<Vec<SealedPack>, RepositoryError> {
        self.send(Work::Close {
            after: self.submitted,
        })?;
        let mut packs = Vec::new();
        loop {
            let outcome = self
                .sealed
                .recv()
                .expect("the sealing thread answers before it ends");
            match outcome? {
                Some(pack) => packs.push(pack),
                None => return Ok(packs),
            }
        }
    }

    fn send(&self, work: Work) -> Result<(), RepositoryError> {
        if self
            .work
            .as_ref()
            .expect("open until dropped")
            .send(work)
            .is_ok()
        {
            return Ok(());
        }
        // The threads only hang up after they have said why.
        self.sealed.iter().find_map(Result::err).map_or_else(
            || unreachable!("a thread that hangs up has reported an error"),
            Err,
        )
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            // A panic there has been reported by the missing answer.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .expect("the system can start a thread")
}

fn compress(frames: &Receiver<Work>, compressed: &Sender<Result<Sealing, RepositoryError>>) {
    let mut encoder = match FrameEncoder::new() {
        Ok(encoder) => encoder,
        Err(error) => {
            let _ = compressed.send(Err(error.into()));
            return;
        }
    };
    for work in frames {
        let step = match work {
            Work::Frame(frame) => encoder
                .encode(&frame.content)
                .map(|bytes| Sealing::Frame(frame.number, bytes, frame.chunks))
                .map_err(RepositoryError::from),
            Work::Close { after } => Ok(Sealing::Close { after }),
        };
        if compressed.send(step).is_err() {
            break;
        }
    }
}

/// Fills and stores packs one after the other.
struct Sealer {
    storage: Arc<dyn Storage>,
    recipient: EpochRecipient,
    pack: Option<PackBuilder>,
    frames: Vec<PackedFrame>,
    received: u64,
    /// A close that has to wait for frames which another thread still compresses.
    closing: Option<u64>,
}

impl Sealer {
    fn new(storage: Arc<dyn Storage>, recipient: EpochRecipient) -> Self {
        Self {
            storage,
            recipient,
            pack: None,
            frames: Vec::new(),
            received: 0,
            closing: None,
        }
    }

    /// Takes one step; false once there is no sense in going on.
    fn step(&mut self, step: Result<Sealing, RepositoryError>, outcome: &Sender<Outcome>) -> bool {
        let report = |result: Outcome| {
            let good = result.is_ok();
            outcome.send(result).is_ok() && good
        };
        match step {
            Err(error) => return report(Err(error)),
            Ok(Sealing::Close { after }) => self.closing = Some(after),
            Ok(Sealing::Frame(number, bytes, chunks)) => {
                self.received += 1;
                match self.push(number, &bytes, chunks) {
                    Ok(None) => {}
                    done => {
                        if !report(done) {
                            return false;
                        }
                    }
                }
            }
        }
        if self.closing == Some(self.received) {
            self.closing = None;
            let last = self.close();
            if !matches!(last, Ok(None)) && !report(last) {
                return false;
            }
            return report(Ok(None));
        }
        true
    }

    fn push(&mut self, number: u64, bytes: &[u8], chunks: Vec<FrameChunk>) -> Outcome {
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(PackBuilder::new(&self.recipient)?),
        };
        let begin = pack.push(bytes)?;
        let full = pack.is_full();
        self.frames.push(PackedFrame {
            number,
            begin,
            chunks,
        });
        if full { self.close() } else { Ok(None) }
    }

    fn close(&mut self) -> Outcome {
        let Some(pack) = self.pack.take() else {
            return Ok(None);
        };
        let sealed = pack.finish()?;
        let size_bytes = sealed.bytes.len() as u64;
        let object = StoredObject {
            digest: sealed.digest,
            size_bytes,
        };
        self.storage.put(
            &ObjectName::object(object.digest),
            Body::Owned(sealed.bytes),
        )?;
        Ok(Some(SealedPack {
            object,
            frames: std::mem::take(&mut self.frames),
        }))
    }
}

/// Where the frames of a run ended up: pack number of the index, and offset.
pub(crate) type FramePlaces = HashMap<u64, (u32, u32)>;
