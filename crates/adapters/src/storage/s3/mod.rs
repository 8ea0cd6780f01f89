//! Amazon S3 and what speaks its protocol: `s3://bucket/prefix`.
//!
//! What a configuration says of a bucket is here. [`client`] connects, [`requests`] and [`upload`] ask one thing a
//! call, [`versions`] reads a bucket as it was and deletes for good, [`errors`] says what an answer means.

mod client;
mod errors;
mod requests;
mod upload;
mod versions;

use std::path::PathBuf;
use std::sync::Arc;

use strongroom_core::cancel::Cancel;
use strongroom_core::clock::{Clock, SystemClock};
use strongroom_core::storage::{Storage, StorageError};

use super::StorageSettings;
use super::remote::RemoteStorage;

/// A bucket, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The URL as it was written.
    pub url: String,
    /// The bucket.
    pub bucket: String,
    /// What the keys of the repository begin with, without a slash at either end; may be empty.
    pub prefix: String,
    /// The region; from the environment or the profile if there is none, `us-east-1` at an endpoint of one's own.
    pub region: Option<String>,
    /// The address of a server that is not Amazon's, `https://host:port`.
    pub endpoint: Option<String>,
    /// The bucket is in the path, not in the host name.
    pub path_style: bool,
    /// Another class than the bucket's usual one, for what lies below `objects/`.
    pub storage_class: Option<String>,
    /// How the server encrypts; as the bucket says if there is none.
    pub encryption: Option<Encryption>,
    /// Certificates, in PEM, that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long each object is locked when it is written.
    pub lock: Option<Lock>,
}

/// How the server encrypts what it stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With a key of the storage (SSE-S3).
    Aes256,
    /// With a key of the key management service (SSE-KMS), by its id or ARN; the account's own if there is none.
    Kms(Option<String>),
}

/// An object lock (S3 Object Lock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// From writing on; the length of an epoch is contained.
    pub days: u32,
    /// Who may lift it.
    pub mode: LockMode,
}

/// Who may lift an object lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody, the owner of the account included.
    Compliance,
    /// Who has `s3:BypassGovernanceRetention`.
    Governance,
}

impl S3Settings {
    /// The bucket that a URL names, with everything else as usual; the error says what is wrong with the URL.
    pub fn from_url(url: &str) -> Result<Self, &'static str> {
        let rest = url
            .strip_prefix("s3://")
            .ok_or("it does not begin with s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_bucket = (3..=63).contains(&bucket.len())
            && bucket.starts_with(|first: char| first.is_ascii_alphanumeric())
            && bucket.ends_with(|last: char| last.is_ascii_alphanumeric())
            && bucket
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        if !is_bucket {
            return Err(
                "a bucket's name is 3 to 63 lower-case letters, digits, dots and hyphens; user, host and port do not belong there",
            );
        }
        let is_part = |part: &str| {
            !part.is_empty()
                && !matches!(part, "." | "..")
                && part.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=')
                })
        };
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            return Err(
                "the parts of a prefix are letters, digits, hyphens, underscores, dots and equals signs, with one slash between them",
            );
        }
        Ok(Self {
            url: url.to_owned(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: None,
            endpoint: None,
            path_style: false,
            storage_class: None,
            encryption: None,
            ca_file: None,
            lock: None,
        })
    }

    /// The key of an object, or of what names begin with.
    fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// The name of the object at a key.
    fn name<'k>(&self, key: &'k str) -> Option<&'k str> {
        match self.prefix.as_str() {
            "" => Some(key),
            prefix => key.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }
}

/// Opens it; nothing is asked of the server yet.
pub fn open(
    place: &S3Settings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let requests = requests::S3Requests {
        client: client::connect(place, &settings.credentials)?,
        place: place.clone(),
        clock,
        limits: settings.limits.clone(),
        cancel: cancel.clone(),
        keeps_versions: std::sync::OnceLock::new(),
        is_there: std::sync::OnceLock::new(),
    };
    let (limits, cancel) = (settings.limits.clone(), cancel.clone());
    Ok(match settings.as_of {
        None => Box::new(RemoteStorage::new(requests, limits, cancel)),
        Some(at) => {
            let past = versions::Past::new(requests, at);
            Box::new(RemoteStorage::new(past, limits, cancel))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_bucket_and_prefix() {
        for (url, bucket, prefix) in [
            ("s3://example-backups", "example-backups", ""),
            ("s3://example-backups/", "example-backups", ""),
            ("s3://a.b.c/ca/one", "a.b.c", "ca/one"),
            ("s3://abc/Ca_1/", "abc", "Ca_1"),
        ] {
            let settings = S3Settings::from_url(url).expect(url);
            assert_eq!(
                (settings.bucket.as_str(), settings.prefix.as_str()),
                (bucket, prefix)
            );
        }
        for (url, why) in [
            ("s3:bucket", "does not begin"),
            ("s3://", "a bucket's name"),
            ("s3://ab/x", "a bucket's name"),
            ("s3://Bucket", "a bucket's name"),
            ("s3://user@bucket/x", "a bucket's name"),
            ("s3://host:9000/bucket", "a bucket's name"),
            ("s3://bucket//x", "the parts of a prefix"),
            ("s3://bucket/../x", "the parts of a prefix"),
            ("s3://bucket/a b", "the parts of a prefix"),
            ("s3://bucket/x?y", "the parts of a prefix"),
        ] {
            let error = S3Settings::from_url(url).expect_err(url);
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn keys_lie_below_the_prefix() {
        let settings = S3Settings::from_url("s3://bucket/a/b").expect("a URL");
        assert_eq!(settings.key("objects/x"), "a/b/objects/x");
        assert_eq!(settings.key(""), "a/b/");
        assert_eq!(settings.name("a/b/objects/x"), Some("objects/x"));
        assert_eq!(settings.name("a/bc"), None);
        let bare = S3Settings::from_url("s3://bucket").expect("a URL");
        assert_eq!(bare.name(&bare.key("x/y")), Some("x/y"));
    }
}
