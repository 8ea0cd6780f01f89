//! Sends a large file in parts, several at a time, each from its own place in the file.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path as FilePath;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::client::HttpErrorKind;
use object_store::path::Path;
use object_store::retry::{RetryContext, RetryFailure, RetryPolicy};
use object_store::{
    Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload, UploadPart,
};
use tokio::task::JoinSet;

/// How long a part is at least, in bytes.
const PART_MIN: u64 = 8 << 20;
/// How many parts a file becomes at most; Google takes 10,000, Azure 50,000.
const PARTS_MAX: u64 = 9_000;
/// How often a part is sent at most, so that one cut connection does not cost the whole file.
const ATTEMPTS: usize = 4;
/// How long to wait before a part is sent for the second time.
const PAUSE: Duration = Duration::from_millis(250);

/// Where a file goes.
pub(super) struct Upload<'s, S> {
    pub(super) store: &'s S,
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

impl<S: ObjectStore> Upload<'_, S> {
    /// Sends the file; after an error nothing of it can be seen, and its parts are thrown away where possible.
    pub(super) async fn send(&self, file: &FilePath, size_bytes: u64) -> Result<(), UploadError> {
        let file = File::open(file).map_err(UploadError::File)?;
        let options = PutMultipartOptions {
            attributes: self.attributes.clone(),
            ..PutMultipartOptions::default()
        };
        let options = options.with_retry_policy(Arc::new(Again));
        let mut upload = self.store.put_multipart_opts(&self.path, options).await?;
        let mut sent = self.send_parts(&file, size_bytes, &mut *upload).await;
        if sent.is_ok() {
            sent = upload.complete().await.map(drop).map_err(Into::into);
        }
        if sent.is_err() {
            // A lifecycle rule of the bucket removes what this leaves.
            let _ = upload.abort().await;
        }
        sent
    }

    async fn send_parts(
        &self,
        file: &File,
        size_bytes: u64,
        upload: &mut dyn MultipartUpload,
    ) -> Result<(), UploadError> {
        let part_bytes = PART_MIN.max(size_bytes.div_ceil(PARTS_MAX));
        let mut at_work: JoinSet<object_store::Result<()>> = JoinSet::new();
        let mut offset = 0;
        loop {
            while offset < size_bytes && at_work.len() < self.connections.max(1) {
                let length = part_bytes.min(size_bytes - offset);
                let part: UploadPart = upload.put_part(read(file, offset, length)?);
                at_work.spawn(part);
                offset += length;
            }
            // After an error those still at work end with the set.
            match at_work.join_next().await {
                Some(joined) => joined.expect("a part does not panic")?,
                None => return Ok(()),
            }
        }
    }
}

fn read(file: &File, offset: u64, length: u64) -> Result<PutPayload, UploadError> {
    let length = usize::try_from(length).expect("a part fits into memory");
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)
        .map_err(UploadError::File)?;
    Ok(bytes.into())
}

/// Sends a part again where that may help; [`super::answers`] says so by the kind of its error.
#[derive(Debug)]
struct Again;

impl RetryPolicy for Again {
    // What `async_trait` makes of `async fn retry`.
    fn retry<'a, 'f>(
        &'a self,
        context: RetryContext,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let may_help = match context.failure {
                RetryFailure::Transport(kind) => kind != HttpErrorKind::Unknown,
                _ => false,
            };
            if !may_help || context.attempt >= ATTEMPTS {
                return false;
            }
            tracing::info!(attempt = context.attempt, "sending a part again");
            tokio::time::sleep(PAUSE * u32::try_from(context.attempt).unwrap_or(1)).await;
            true
        })
    }
}
