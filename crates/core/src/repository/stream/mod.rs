//! The sink of an asset: cuts packed streams into chunks, seals artifacts whole.

mod artifact;
mod cut;
mod packed;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use self::artifact::ArtifactStream;
use self::packed::PackedStream;
use super::writer::BackupWriter;
use crate::cancel::Cancel;
use crate::format::manifest::{Content, Stream};
use crate::source::{CaptureError, Chunking, Class, Entry, StreamSummary, StreamWriter};

/// Takes the streams of one asset for one repository.
pub struct AssetSink<'a> {
    writer: Mutex<BackupWriter<'a>>,
    chunk_key: Zeroizing<[u8; 32]>,
    class: Class,
    scratch: &'a Path,
    cancel: &'a Cancel,
    /// Reused for every artifact, so that no copy of a key stays behind in memory.
    buffer: Mutex<Zeroizing<Vec<u8>>>,
}

impl<'a> AssetSink<'a> {
    pub(super) fn new(
        writer: BackupWriter<'a>,
        class: Class,
        scratch: &'a Path,
        cancel: &'a Cancel,
    ) -> Self {
        Self {
            chunk_key: writer.chunk_key.clone(),
            writer: Mutex::new(writer),
            class,
            scratch,
            cancel,
            buffer: Mutex::new(Zeroizing::new(Vec::new())),
        }
    }

    /// Records something without content.
    pub fn entry(&self, entry: Entry) -> Result<(), CaptureError> {
        self.cancel.check()?;
        let added = self.writer().add_stream(describe(entry, None), Vec::new());
        Ok(added.map_err(Box::new)?)
    }

    /// Begins a stream.
    pub fn begin(&self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        self.cancel.check()?;
        if self.class.is_packed() {
            Ok(Box::new(PackedStream::new(self, chunking)))
        } else {
            Ok(Box::new(ArtifactStream::new(self)))
        }
    }

    /// The writer, once all streams have ended.
    pub fn into_writer(self) -> BackupWriter<'a> {
        let writer = self.writer.into_inner();
        writer.unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer, which one stream has at a time.
    fn writer(&self) -> MutexGuard<'_, BackupWriter<'a>> {
        // A thread that panicked takes its run down when it is joined.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The manifest's line for an entry.
fn describe(entry: Entry, content: Option<(StreamSummary, Content)>) -> Stream {
    let (summary, content) = content.unzip();
    Stream {
        kind: entry.kind,
        path: entry.path,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user,
        group: entry.group,
        mtime: entry.mtime,
        xattrs: entry.xattrs,
        target: entry.target,
        size: summary.map(|summary| summary.size_bytes),
        sha256: summary.map(|summary| summary.sha256),
        content,
    }
}
