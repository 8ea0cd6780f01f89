//! One request a call: what [`RemoteStorage`](super::super::remote::RemoteStorage) asks of a bucket.

use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::ChecksumMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::Clock;
use strongroom_core::format::Digest;
use strongroom_core::storage::{ObjectStat, Put};

use super::super::TransferLimits;
use super::super::remote::runtime::block_on;
use super::super::remote::{RequestError, Requests};
use super::{S3Settings, errors};

/// How long a request may take besides the bytes that it moves.
const PATIENCE: Duration = Duration::from_mins(1);
/// The slowest transfer that is waited for, in bytes a second.
const SLOWEST: u64 = 32 << 10;
/// Beyond any object (5 TiB); servers read offsets as signed numbers.
const OFFSET_MAX: u64 = 1 << 50;

/// A bucket, with what requests to it need.
pub(super) struct S3Requests {
    pub(super) client: Client,
    pub(super) place: S3Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: TransferLimits,
    pub(super) cancel: Cancel,
    /// Whether a deletion leaves versions behind; asked once.
    pub(super) keeps_versions: OnceLock<bool>,
    /// Filled once the bucket has answered.
    pub(super) is_there: OnceLock<()>,
}

impl S3Requests {
    /// What a failed request means.
    pub(super) fn judge<E>(&self, error: &SdkError<E, HttpResponse>) -> RequestError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        errors::classify(error, &self.place, self.clock.as_ref())
    }

    /// At most `length` bytes of an object, or of one of its versions.
    pub(super) fn read(
        &self,
        key: &str,
        version: Option<&str>,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, RequestError> {
        if length == 0 || offset >= OFFSET_MAX {
            // There is nothing to read, but the object must be there.
            let there = self.look(key, version)?;
            return there.map(|_| Vec::new()).ok_or(RequestError::NotFound);
        }
        let last = offset.saturating_add(length as u64 - 1).min(OFFSET_MAX);
        let request = self
            .client
            .get_object()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .set_version_id(version.map(str::to_owned))
            .range(format!("bytes={offset}-{last}"));
        let answer = match wait(0, request.send())? {
            Ok(answer) => answer,
            Err(error) if errors::is_behind_the_end(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.judge(&error)),
        };
        let promised = answer.content_length().unwrap_or_default();
        let promised = u64::try_from(promised).unwrap_or_default();
        if promised > length as u64 {
            let why = "it sends more than was asked for";
            return Err(RequestError::Refused {
                why: why.into(),
                hint: "The server does not know ranges; the guide's page on s3 says what it needs.",
            });
        }
        let mut body = answer.body;
        let bytes = wait(promised, async {
            let mut bytes = Vec::with_capacity(usize::try_from(promised).unwrap_or_default());
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece?);
            }
            Ok::<_, aws_sdk_s3::primitives::ByteStreamError>(bytes)
        })?;
        let bytes = bytes.map_err(RequestError::transient)?;
        if bytes.len() as u64 != promised {
            return Err(RequestError::transient("the answer ended early"));
        }
        Ok(bytes)
    }

    /// What is known of an object, or of one of its versions.
    pub(super) fn look(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<ObjectStat>, RequestError> {
        let request = self
            .client
            .head_object()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .set_version_id(version.map(str::to_owned));
        match wait(0, request.send())? {
            Ok(found) => Ok(Some(stat(found.content_length(), found.last_modified()))),
            Err(error) => match errors::status(&error) {
                // Neither object nor bucket: which of them is asked once.
                Some(404) if self.is_there.get().is_some() => Ok(None),
                Some(404) => {
                    self.try_to_list(key)?;
                    self.is_there.get_or_init(|| ());
                    Ok(None)
                }
                // Such answers have no body that says why; those to a list do.
                Some(300..=403) => {
                    self.try_to_list(key)?;
                    Err(self.judge(&error))
                }
                _ => Err(self.judge(&error)),
            },
        }
    }

    /// Lists one object, for the sake of the error.
    fn try_to_list(&self, key: &str) -> Result<(), RequestError> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.place.bucket)
            .prefix(self.place.key(key))
            .max_keys(1);
        let answer = wait(0, request.send())?;
        answer.map(drop).map_err(|error| self.judge(&error))
    }
}

impl Requests for S3Requests {
    fn location(&self) -> &str {
        &self.place.url
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<Put, RequestError> {
        self.store(key, &body)
    }

    fn put_new_file(&self, key: &str, file: &Path, size_bytes: u64) -> Result<Put, RequestError> {
        self.store_file(key, file, size_bytes)
    }

    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, RequestError> {
        self.read(key, None, offset, length)
    }

    fn head(&self, key: &str) -> Result<Option<ObjectStat>, RequestError> {
        self.look(key, None)
    }

    fn checksum(&self, key: &str) -> Result<Option<Digest>, RequestError> {
        let request = self
            .client
            .head_object()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .checksum_mode(ChecksumMode::Enabled);
        match wait(0, request.send())? {
            // That of an upload in parts is one of the parts' digests, and says so by its number of parts.
            Ok(found) => Ok(found.checksum_sha256().and_then(digest)),
            Err(error) if errors::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.judge(&error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectStat)>, RequestError> {
        if !can_be_listed(prefix) {
            return Ok(Vec::new());
        }
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.place.bucket)
            .prefix(self.place.key(prefix))
            .into_paginator()
            .send();
        let mut found = Vec::new();
        loop {
            let page = async { pages.next().await.transpose() };
            let page = wait(0, page)?.map_err(|error| self.judge(&error))?;
            let Some(page) = page else {
                return Ok(found);
            };
            for object in page.contents() {
                let name = object.key().and_then(|key| self.place.name(key));
                if let Some(name) = name {
                    let stat = stat(object.size(), object.last_modified());
                    found.push((name.to_owned(), stat));
                }
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), RequestError> {
        self.delete_for_good(key)
    }
}

/// A digest as the protocol writes it; none for one of an upload in parts.
fn digest(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = BASE64.decode(text).ok()?.try_into().ok()?;
    Some(Digest::from_bytes(bytes))
}

/// Waits for a request that moves so many bytes, but not for ever.
pub(super) fn wait<T, E>(
    moved_bytes: u64,
    request: impl Future<Output = Result<T, E>>,
) -> Result<Result<T, E>, RequestError> {
    let limit = PATIENCE + Duration::from_secs(moved_bytes / SLOWEST);
    let answer = block_on(async { tokio::time::timeout(limit, request).await });
    answer.map_err(|_| {
        let seconds = limit.as_secs();
        RequestError::transient(format!("no answer within {seconds} seconds"))
    })
}

/// Whether names can begin so; servers refuse to list what is no path.
pub(super) fn can_be_listed(prefix: &str) -> bool {
    !prefix.starts_with('/')
        && !prefix.contains("//")
        && prefix.split('/').all(|part| !matches!(part, "." | ".."))
}

/// Size and time as the port knows them.
pub(super) fn stat(size: Option<i64>, stored: Option<&DateTime>) -> ObjectStat {
    ObjectStat {
        size_bytes: size
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or_default(),
        stored: stored.and_then(timestamp),
    }
}

/// A time of the library as one of ours.
pub(super) fn timestamp(time: &DateTime) -> Option<jiff::Timestamp> {
    let nanoseconds = i32::try_from(time.subsec_nanos()).ok()?;
    jiff::Timestamp::new(time.secs(), nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_are_listed() {
        for prefix in ["", "objects/", "objects/ab", "env", "epochs/x.y"] {
            assert!(can_be_listed(prefix), "{prefix}");
        }
        for prefix in ["/", "../", "objects//", "objects/../repository", "./x"] {
            assert!(!can_be_listed(prefix), "{prefix}");
        }
    }

    #[test]
    fn a_digest_of_parts_is_none_of_the_object() {
        let of = Digest::of(b"x");
        let text = BASE64.encode(of.as_bytes());
        assert_eq!(digest(&text), Some(of));
        assert_eq!(digest(&format!("{text}-3")), None);
        assert_eq!(digest("AAAA"), None);
    }

    #[test]
    fn times_keep_their_fractions() {
        let time = DateTime::from_secs_and_nanos(1_763_632_800, 250_000_000);
        let wanted = "2025-11-20T10:00:00.25Z".parse().expect("a time");
        assert_eq!(timestamp(&time), Some(wanted));
    }
}
