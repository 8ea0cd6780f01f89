//! Storing: only where nothing is, with the digest that the server compares and the lock that keeps it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ObjectLockMode,
    ServerSideEncryption, StorageClass,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use jiff::{SignedDuration, Timestamp};
use strongroom_core::format::Digest;
use strongroom_core::format::id::Hasher;
use strongroom_core::format::name::{OBJECTS, ObjectName};
use strongroom_core::storage::Put;

use super::super::remote::{RequestError, Requests as _, until_answered};
use super::requests::{S3Requests, wait};
use super::{Encryption, LockMode, errors};

/// The usual length of a part, in bytes; the protocol wants 5 MiB at least.
const PART: u64 = 16 << 20;
/// The most parts of an object (Amazon S3 limits).
const PARTS_MAX: u64 = 10_000;

/// How an object is stored, besides its bytes.
struct Manner {
    class: Option<StorageClass>,
    encryption: Option<ServerSideEncryption>,
    kms_key: Option<String>,
    lock: Option<ObjectLockMode>,
    locked_until: Option<DateTime>,
}

/// A part on its way.
struct Part {
    number: i32,
    bytes: Bytes,
    checksum: String,
}

impl S3Requests {
    /// Stores bytes in one request.
    pub(super) fn store(&self, key: &str, bytes: &Bytes) -> Result<Put, RequestError> {
        // A name that is a digest is what the server has to find in the bytes.
        let digest = promised(key).unwrap_or_else(|| Digest::of(bytes));
        let manner = self.manner(key)?;
        let request = self
            .client
            .put_object()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .if_none_match("*")
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(BASE64.encode(digest.as_bytes()))
            .set_storage_class(manner.class)
            .set_server_side_encryption(manner.encryption)
            .set_ssekms_key_id(manner.kms_key)
            .set_object_lock_mode(manner.lock)
            .set_object_lock_retain_until_date(manner.locked_until)
            .body(ByteStream::from(bytes.clone()));
        match wait(bytes.len() as u64, request.send())? {
            Ok(_) => Ok(Put::Stored),
            Err(error) if errors::is_there_already(&error) => Ok(Put::AlreadyThere),
            Err(error) => Err(self.judge(&error)),
        }
    }

    /// Stores a file in parts; on an error the parts are taken back.
    pub(super) fn store_file(
        &self,
        key: &str,
        file: &Path,
        size_bytes: u64,
    ) -> Result<Put, RequestError> {
        // Only the end of the upload would tell, after all bytes were sent.
        if self.head(key)?.is_some() {
            return Ok(Put::AlreadyThere);
        }
        let file = File::open(file)?;
        let upload = self.begin(key)?;
        let put = self
            .send_parts(key, &upload, file, size_bytes)
            .and_then(|parts| self.complete(key, &upload, parts));
        if !matches!(put, Ok(Put::Stored)) {
            self.abort(key, &upload);
        }
        put
    }

    fn begin(&self, key: &str) -> Result<String, RequestError> {
        let manner = self.manner(key)?;
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .set_storage_class(manner.class)
            .set_server_side_encryption(manner.encryption)
            .set_ssekms_key_id(manner.kms_key)
            .set_object_lock_mode(manner.lock)
            .set_object_lock_retain_until_date(manner.locked_until);
        let answer = wait(0, request.send())?;
        let answer = answer.map_err(|error| self.judge(&error))?;
        let upload = answer.upload_id().map(str::to_owned);
        upload.ok_or_else(|| RequestError::transient("an upload without an id"))
    }

    /// Sends a file in parts, some at the same time; each is repeated by itself.
    fn send_parts(
        &self,
        key: &str,
        upload: &str,
        file: File,
        size_bytes: u64,
    ) -> Result<Vec<CompletedPart>, RequestError> {
        let length = PART.max(size_bytes.div_ceil(PARTS_MAX));
        let parts = size_bytes.div_ceil(length).max(1);
        let threads = self
            .limits
            .connections
            .clamp(1, usize::try_from(parts).unwrap_or(1));
        let done = Mutex::new(Ok(Vec::new()));
        let (sender, receiver) = bounded::<Part>(0);
        let whole = std::thread::scope(|scope| {
            for _ in 0..threads {
                let (receiver, done) = (receiver.clone(), &done);
                scope.spawn(move || self.send_some(key, upload, &receiver, done));
            }
            drop(receiver);
            let mut whole = Hasher::new();
            let mut file = file.take(size_bytes);
            for number in 1..=i32::try_from(parts).unwrap_or(i32::MAX) {
                let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
                file.by_ref().take(length).read_to_end(&mut bytes)?;
                whole.update(&bytes);
                let checksum = BASE64.encode(Digest::of(&bytes).as_bytes());
                let part = Part {
                    number,
                    bytes: bytes.into(),
                    checksum,
                };
                // The threads end at the first failure, which is told below.
                if sender.send(part).is_err() {
                    break;
                }
            }
            drop(sender);
            Ok::<_, RequestError>(whole.finish())
        });
        let parts = done.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        // The server compares parts only; whether they are the object of that name is compared here.
        if promised(key).is_some_and(|digest| whole.as_ref().is_ok_and(|whole| *whole != digest)) {
            let why = "the file does not have the digest that the object is named by";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why).into());
        }
        whole.map(|_| parts)
    }

    /// Sends parts until there are no more, or one of them failed.
    fn send_some(
        &self,
        key: &str,
        upload: &str,
        parts: &Receiver<Part>,
        done: &Mutex<Result<Vec<CompletedPart>, RequestError>>,
    ) {
        let lock = || done.lock().unwrap_or_else(PoisonError::into_inner);
        for part in parts {
            if lock().is_err() {
                return;
            }
            let attempt = || Ok(self.send_part(key, upload, &part));
            let sent = until_answered(&self.limits, &self.cancel, attempt)
                .unwrap_or_else(|interrupted| Err(RequestError::transient(interrupted)));
            let mut done = lock();
            match (&mut *done, sent) {
                (Ok(parts), Ok(part)) => parts.push(part),
                (Ok(_), Err(error)) => {
                    *done = Err(error);
                    return;
                }
                (Err(_), _) => return,
            }
        }
    }

    fn send_part(
        &self,
        key: &str,
        upload: &str,
        part: &Part,
    ) -> Result<CompletedPart, RequestError> {
        let request = self
            .client
            .upload_part()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .upload_id(upload)
            .part_number(part.number)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .checksum_sha256(&part.checksum)
            .body(ByteStream::from(part.bytes.clone()));
        let answer = wait(part.bytes.len() as u64, request.send())?;
        let answer = answer.map_err(|error| self.judge(&error))?;
        Ok(CompletedPart::builder()
            .part_number(part.number)
            .checksum_sha256(&part.checksum)
            .set_e_tag(answer.e_tag().map(str::to_owned))
            .build())
    }

    fn complete(
        &self,
        key: &str,
        upload: &str,
        mut parts: Vec<CompletedPart>,
    ) -> Result<Put, RequestError> {
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .upload_id(upload)
            .if_none_match("*")
            .multipart_upload(parts.build());
        match wait(0, request.send())? {
            Ok(_) => Ok(Put::Stored),
            Err(error) if errors::is_there_already(&error) => Ok(Put::AlreadyThere),
            Err(error) => Err(self.judge(&error)),
        }
    }

    /// Takes back the parts of an upload; a lifecycle rule removes what cannot be taken back.
    fn abort(&self, key: &str, upload: &str) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.place.bucket)
            .key(self.place.key(key))
            .upload_id(upload);
        match wait(0, request.send()) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(key, error = %self.judge(&error), "parts of an upload are left");
            }
            Err(error) => tracing::warn!(key, %error, "parts of an upload are left"),
        }
    }

    /// How an object is stored now.
    fn manner(&self, key: &str) -> Result<Manner, RequestError> {
        let place = &self.place;
        let class = place.storage_class.as_deref();
        let (encryption, kms_key) = match &place.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        };
        let until = |days: u32| -> Result<DateTime, RequestError> {
            let time = locked_until(self.clock.now(), days).map_err(std::io::Error::other)?;
            Ok(DateTime::from_secs(time.as_second()))
        };
        Ok(Manner {
            // What is small and often looked at costs more in the classes for large things.
            class: class
                .filter(|_| key.starts_with(OBJECTS))
                .map(StorageClass::from),
            encryption,
            kms_key,
            lock: place.lock.map(|lock| match lock.mode {
                LockMode::Compliance => ObjectLockMode::Compliance,
                LockMode::Governance => ObjectLockMode::Governance,
            }),
            locked_until: place.lock.map(|lock| until(lock.days)).transpose()?,
        })
    }
}

/// The digest that a name promises of the stored bytes.
fn promised(key: &str) -> Option<Digest> {
    ObjectName::parse(key)?.digest()
}

/// When a lock of so many days ends, in whole seconds, never a second early.
fn locked_until(now: Timestamp, days: u32) -> Result<Timestamp, jiff::Error> {
    let length = SignedDuration::from_hours(i64::from(days) * 24);
    let end = now.checked_add(length + SignedDuration::from_secs(1))?;
    Timestamp::from_second(end.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_never_shorter_than_its_days() {
        let now: Timestamp = "2026-11-20T10:00:00.5Z".parse().expect("a time");
        let end = locked_until(now, 44).expect("in range");
        assert_eq!(end.to_string(), "2027-01-03T10:00:01Z");
        locked_until(now, u32::MAX).expect_err("beyond the calendar");
    }

    #[test]
    fn digests_are_promised_by_objects_and_epochs_only() {
        let digest = Digest::of(b"x");
        let object = ObjectName::object(digest);
        assert_eq!(promised(object.as_str()), Some(digest));
        assert_eq!(promised("repository/00000001.json"), None);
        assert_eq!(promised("elsewhere"), None);
    }
}
