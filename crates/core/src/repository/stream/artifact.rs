//! A stream that becomes one object of its own.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::PoisonError;

use zeroize::Zeroizing;

use super::{AssetSink, describe};
use crate::format::Digest;
use crate::format::id::Hasher;
use crate::format::manifest::Content;
use crate::format::pack::{ArtifactWriter, seal_artifact};
use crate::private_file;
use crate::repository::RepositoryError;
use crate::repository::hashing::update_zeros;
use crate::repository::index::{ArtifactId, StoredObject};
use crate::source::{CaptureError, Entry, StreamSummary, StreamWriter};
use crate::storage::Body;

/// Zeros for holes in artifacts.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
/// How long an artifact may be to be sealed in memory, in bytes.
const ARTIFACT_IN_MEMORY: usize = 1 << 20;

/// An artifact on its way; one is open at a time.
pub(super) struct ArtifactStream<'s, 'a> {
    sink: &'s AssetSink<'a>,
    /// The content, while it is small.
    buffer: Zeroizing<Vec<u8>>,
    /// Where the sealed content goes, once it is not.
    spool: Option<Spool>,
    content_id: blake3::Hasher,
    digest: Hasher,
    size_bytes: u64,
}

/// A sealed artifact on its way through a file; only sealed bytes reach the disk.
struct Spool {
    path: PathBuf,
    output: ArtifactWriter<DigestingFile>,
}

/// A file whose digest is computed as it is written.
struct DigestingFile {
    file: File,
    hasher: Hasher,
    size_bytes: u64,
}

impl Write for DigestingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl<'s, 'a> ArtifactStream<'s, 'a> {
    pub(super) fn new(sink: &'s AssetSink<'a>) -> Self {
        let buffer = sink.buffer.lock();
        let mut buffer = std::mem::take(&mut *buffer.unwrap_or_else(PoisonError::into_inner));
        buffer.reserve_exact(ARTIFACT_IN_MEMORY);
        Self {
            content_id: blake3::Hasher::new_keyed(&sink.chunk_key),
            sink,
            buffer,
            spool: None,
            digest: Hasher::new(),
            size_bytes: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), RepositoryError> {
        self.sink.cancel.check()?;
        self.content_id.update(bytes);
        self.size_bytes += bytes.len() as u64;
        if self.spool.is_none() {
            if self.buffer.len() + bytes.len() <= ARTIFACT_IN_MEMORY {
                self.buffer.extend_from_slice(bytes);
                return Ok(());
            }
            self.begin_spool()?;
        }
        let spool = self.spool.as_mut().expect("begun above");
        spool
            .output
            .write_all(bytes)
            .map_err(RepositoryError::state("write", &spool.path))
    }

    fn begin_spool(&mut self) -> Result<(), RepositoryError> {
        let path = self.sink.scratch.join("artifact.age");
        let file = private_file::create_or_truncate(&path)
            .map_err(RepositoryError::state("create", &path))?;
        let file = DigestingFile {
            file,
            hasher: Hasher::new(),
            size_bytes: 0,
        };
        let mut output = ArtifactWriter::new(&self.sink.writer().recipient, file)?;
        output
            .write_all(&self.buffer)
            .map_err(RepositoryError::state("write", &path))?;
        self.spool = Some(Spool { path, output });
        Ok(())
    }

    fn store(&mut self) -> Result<Digest, RepositoryError> {
        let id: ArtifactId = *self.content_id.finalize().as_bytes();
        if let Some(digest) = self.sink.writer().find_artifact(&id)? {
            return Ok(digest);
        }
        let Some(spool) = self.spool.take() else {
            let sealed = seal_artifact(&self.sink.writer().recipient, &self.buffer)?;
            let object = StoredObject {
                digest: sealed.digest,
                size_bytes: sealed.bytes.len() as u64,
            };
            let body = Body::Bytes(&sealed.bytes);
            self.sink
                .writer()
                .add_artifact(&id, object, body, self.size_bytes)?;
            return Ok(object.digest);
        };
        let Spool { path, output } = spool;
        let file = output.finish()?;
        let object = StoredObject {
            digest: file.hasher.finish(),
            size_bytes: file.size_bytes,
        };
        let stored =
            self.sink
                .writer()
                .add_artifact(&id, object, Body::File(&path), self.size_bytes);
        // The scratch directory is emptied after the run in any case.
        let _ = std::fs::remove_file(&path);
        stored.map(|()| object.digest)
    }
}

impl Drop for ArtifactStream<'_, '_> {
    fn drop(&mut self) {
        self.buffer.clear();
        let buffer = self.sink.buffer.lock();
        *buffer.unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut self.buffer);
    }
}

impl StreamWriter for ArtifactStream<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.digest.update(bytes);
        Ok(self.push(bytes).map_err(Box::new)?)
    }

    fn hole(&mut self, mut length: u64) -> Result<(), CaptureError> {
        update_zeros(&mut self.digest, length);
        while length > 0 {
            let piece = length.min(ZEROS.len() as u64);
            let zeros = &ZEROS[..usize::try_from(piece).expect("at most 64 KiB")];
            self.push(zeros).map_err(Box::new)?;
            length -= piece;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        let object = self.store().map_err(Box::new)?;
        let sha256 = std::mem::take(&mut self.digest).finish();
        let summary = StreamSummary {
            sha256,
            size_bytes: self.size_bytes,
        };
        let stream = describe(entry, Some((summary, Content::Artifact { object })));
        let added = self.sink.writer().add_stream(stream, Vec::new());
        added.map_err(Box::new)?;
        Ok(summary)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        Ok(())
    }
}
