//! Sends a large file in parts, several at a time, each from its own place in the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Attributes, MultipartId, PutMultipartOptions, PutPayload};
use tokio::task::JoinSet;

use super::answers::Answer;
use super::refusal::find;

/// How long a part is at least, in bytes.
const PART_MIN: u64 = 8 << 20;
/// How many parts a file becomes at most; Google takes 10,000, Azure 50,000.
const PARTS_MAX: u64 = 9_000;
/// How often a part is sent at most, so that one cut connection does not cost the whole file.
const ATTEMPTS: u32 = 4;
/// How long to wait before a part is sent again, times the number of attempts so far.
const PAUSE: Duration = Duration::from_millis(250);

/// Where a file goes.
pub(super) struct Upload<'s, S> {
    pub(super) store: &'s Arc<S>,
    pub(super) path: Path,
    pub(super) attributes: Attributes,
    pub(super) connections: usize,
}

/// Why a file did not arrive.
pub(super) enum UploadError {
    /// The service.
    Store(object_store::Error),
    /// The file itself.
    File(io::Error),
}

impl From<object_store::Error> for UploadError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

impl<S: MultipartStore> Upload<'_, S> {
    /// Sends the file; after an error nothing of it can be seen, and its parts are thrown away where possible.
    pub(super) async fn send(&self, file: &FilePath, size_bytes: u64) -> Result<(), UploadError> {
        let file = Arc::new(File::open(file).map_err(UploadError::File)?);
        let options = PutMultipartOptions {
            attributes: self.attributes.clone(),
            ..PutMultipartOptions::default()
        };
        let id = self
            .store
            .create_multipart_opts(&self.path, options)
            .await?;
        let sent = match self.send_parts(&file, size_bytes, &id).await {
            Ok(parts) => self.complete(&id, parts).await,
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // A lifecycle rule of the bucket removes what this leaves.
            let _ = self.store.abort_multipart(&self.path, &id).await;
        }
        sent
    }

    async fn complete(&self, id: &MultipartId, parts: Vec<PartId>) -> Result<(), UploadError> {
        self.store.complete_multipart(&self.path, id, parts).await?;
        Ok(())
    }

    async fn send_parts(
        &self,
        file: &Arc<File>,
        size_bytes: u64,
        id: &MultipartId,
    ) -> Result<Vec<PartId>, UploadError> {
        let part_bytes = PART_MIN.max(size_bytes.div_ceil(PARTS_MAX));
        let count = usize::try_from(size_bytes.div_ceil(part_bytes)).unwrap_or(usize::MAX);
        let mut parts: Vec<Option<PartId>> = vec![None; count];
        let mut at_work = JoinSet::new();
        let mut next = 0;
        loop {
            while next < count && at_work.len() < self.connections.max(1) {
                let part = Part {
                    index: next,
                    offset: next as u64 * part_bytes,
                    length: part_bytes.min(size_bytes - next as u64 * part_bytes),
                };
                let (store, file) = (Arc::clone(self.store), Arc::clone(file));
                let (path, id) = (self.path.clone(), id.clone());
                at_work.spawn(async move { part.send(&*store, &file, &path, &id).await });
                next += 1;
            }
            // Those still at work end with the set.
            match at_work.join_next().await {
                Some(joined) => {
                    let (index, part) = joined.expect("a part does not panic")?;
                    parts[index] = Some(part);
                }
                None => break,
            }
        }
        let parts = parts.into_iter().collect::<Option<Vec<_>>>();
        Ok(parts.expect("each part was sent"))
    }
}

struct Part {
    index: usize,
    offset: u64,
    length: u64,
}

impl Part {
    async fn send(
        self,
        store: &impl MultipartStore,
        file: &File,
        path: &Path,
        id: &MultipartId,
    ) -> Result<(usize, PartId), UploadError> {
        let length = usize::try_from(self.length).expect("a part fits into memory");
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, self.offset)
            .map_err(UploadError::File)?;
        let payload = PutPayload::from(bytes);
        let mut attempt = 1;
        loop {
            let sent = store.put_part(path, id, self.index, payload.clone()).await;
            match sent {
                Ok(part) => return Ok((self.index, part)),
                Err(error) if attempt < ATTEMPTS && may_pass(&error) => {
                    tracing::info!(part = self.index, "sending a part again");
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether sending it again may help.
fn may_pass(error: &object_store::Error) -> bool {
    match find::<Answer>(error) {
        Some(answer) => matches!(answer.status, 408 | 429 | 500..),
        None => true,
    }
}
