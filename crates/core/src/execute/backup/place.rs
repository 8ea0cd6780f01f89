//! A repository of a run: it may still be opening while the first asset is captured.
//!
//! A source does much before it has anything to store, a copy of a database and its check for instance. Its sink waits for
//! the repository when the first stream begins, and not before.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::Receiver;

use crate::cancel::Cancel;
use crate::format::manifest::Asset;
use crate::repository::RepositoryError;
use crate::repository::stream::AssetSink;
use crate::repository::writer::BackupWriter;
use crate::source::{CaptureError, Chunking, Entry, Sink, StreamWriter};

/// Why a repository was not opened.
pub enum NotOpened<E> {
    /// It is down; the other repositories get their part.
    Down {
        /// A sentence that says which and why.
        told: String,
        /// What the run fails with when all of them are down.
        error: E,
    },
    /// It is not what it should be, and nothing is backed up.
    Wrong(E),
}

/// Why a repository takes nothing.
pub(super) enum Failed<E> {
    Open(NotOpened<E>),
    Use(RepositoryError),
}

/// A repository that was opened, or not.
pub(super) type Begun<'a, E> = Result<Box<BackupWriter<'a>>, Failed<E>>;

/// A repository on its way.
pub(super) enum Place<'a, E> {
    Opening(Receiver<Begun<'a, E>>),
    Ready(Box<BackupWriter<'a>>),
    /// It has failed, which was said, or its writer is in use.
    Gone,
}

impl<'a, E> Place<'a, E> {
    /// Waits until it is open; none once it has failed.
    pub(super) fn into_writer(self) -> Result<Option<Box<BackupWriter<'a>>>, Failed<E>> {
        match self {
            Self::Opening(receiver) => {
                let begun = receiver.recv();
                begun.expect("the opening thread answers").map(Some)
            }
            Self::Ready(writer) => Ok(Some(writer)),
            Self::Gone => Ok(None),
        }
    }
}

/// What an asset is stored with, whatever its repository.
pub(super) struct AssetSurroundings<'a> {
    pub(super) asset: Asset,
    pub(super) scratch: &'a Path,
    pub(super) cancel: &'a Cancel,
    /// What an earlier capture left behind.
    pub(super) memory: Option<serde_json::Value>,
}

/// The sink of an asset whose repository may still be opening.
pub(super) struct LateSink<'a, E> {
    around: AssetSurroundings<'a>,
    place: Mutex<Place<'a, E>>,
    sink: OnceLock<AssetSink<'a>>,
    failed: Mutex<Option<Failed<E>>>,
}

impl<'a, E: Send> LateSink<'a, E> {
    pub(super) fn new(around: AssetSurroundings<'a>, place: Place<'a, E>) -> Self {
        Self {
            around,
            place: Mutex::new(place),
            sink: OnceLock::new(),
            failed: Mutex::new(None),
        }
    }

    /// The writer, with the asset begun; or why there is none.
    pub(super) fn into_writer(self) -> Result<Box<BackupWriter<'a>>, Failed<E>> {
        // A source that stored nothing has not waited for it.
        let _ = self.sink();
        if let Some(failed) = lock(&self.failed).take() {
            return Err(failed);
        }
        let sink = self.sink.into_inner();
        Ok(Box::new(sink.expect("what has not failed").into_writer()))
    }

    /// The sink of the opened repository; the first call waits for it.
    fn sink(&self) -> Result<&AssetSink<'a>, CaptureError> {
        let mut place = lock(&self.place);
        if let Some(sink) = self.sink.get() {
            return Ok(sink);
        }
        let around = &self.around;
        let begun = std::mem::replace(&mut *place, Place::Gone)
            .into_writer()
            .and_then(|writer| {
                let Some(mut writer) = writer else {
                    return Ok(None);
                };
                let begun = writer.begin_asset(around.asset.clone());
                begun.map(|()| Some(writer)).map_err(Failed::Use)
            });
        match begun {
            Ok(Some(writer)) => {
                let class = around.asset.class;
                let sink = writer.into_sink(class, around.scratch, around.cancel);
                return Ok(self.sink.get_or_init(|| sink));
            }
            // It has failed before.
            Ok(None) => {}
            Err(failed) => *lock(&self.failed) = Some(failed),
        }
        Err(CaptureError::Store(Box::new(RepositoryError::NotOpen)))
    }
}

impl<E: Send> Sink for LateSink<'_, E> {
    fn entry(&self, entry: Entry) -> Result<(), CaptureError> {
        self.sink()?.entry(entry)
    }

    fn begin(&self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        self.sink()?.begin(chunking)
    }

    fn scratch(&self) -> &Path {
        self.around.scratch
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        self.around.memory.as_ref()
    }

    fn cancel(&self) -> &Cancel {
        self.around.cancel
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
