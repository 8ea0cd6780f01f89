//! The storages: one file or folder a kind.
//!
//! What a repository's configuration says is in [`StorageSettings`]; [`open_storage`] opens it. What the kinds
//! behind a network share is in [`remote`].

use std::path::PathBuf;
use std::time::Duration;

use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Refusal, Storage, StorageError};

#[cfg(feature = "storage-azure")]
pub mod azure;
#[cfg(feature = "storage-gcs")]
pub mod gcs;
#[cfg(feature = "storage-local")]
pub mod local;
#[cfg(any(feature = "storage-azure", feature = "storage-gcs"))]
pub mod object_stores;
pub mod remote;
#[cfg(feature = "storage-s3")]
pub mod s3;
#[cfg(feature = "storage-sftp")]
pub mod sftp;

/// The kinds of storage in this build, by URL scheme, in order.
pub const STORAGES: &[&str] = &[
    #[cfg(feature = "storage-azure")]
    "az",
    #[cfg(feature = "storage-local")]
    "file",
    #[cfg(feature = "storage-gcs")]
    "gs",
    #[cfg(feature = "storage-s3")]
    "s3",
    #[cfg(feature = "storage-sftp")]
    "sftp",
];

/// Where a repository is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// The kind and the place.
    pub place: Place,
    /// With what it is opened; none where the kind has its own ways (environment, instance role, agent).
    pub credentials: Credentials,
    /// How hard it may be used; for kinds behind a network.
    pub limits: TransferLimits,
    /// Shows the storage as it was then; for kinds that keep versions.
    pub as_of: Option<jiff::Timestamp>,
}

/// A kind of storage with the place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A directory of this host, absolute.
    #[cfg(feature = "storage-local")]
    Local(PathBuf),
    /// A bucket of an S3-compatible object store.
    #[cfg(feature = "storage-s3")]
    S3(s3::S3Settings),
    /// A bucket of Google Cloud Storage.
    #[cfg(feature = "storage-gcs")]
    Gcs(gcs::GcsSettings),
    /// A container of Azure Blob Storage.
    #[cfg(feature = "storage-azure")]
    Azure(azure::AzureSettings),
    /// A directory of an SSH server.
    #[cfg(feature = "storage-sftp")]
    Sftp(sftp::SftpSettings),
}

impl Place {
    /// Whether it can be read as of a time.
    pub fn keeps_versions(&self) -> bool {
        match self {
            #[cfg(feature = "storage-s3")]
            Self::S3(_) => true,
            _ => false,
        }
    }
}

/// With what a storage is opened; each kind says which of them it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A file that only its owner reads: an AWS credentials file, a service account, a shared access signature, an SSH key.
    pub file: Option<PathBuf>,
    /// A profile of an AWS configuration.
    pub profile: Option<String>,
    /// A user name, for SSH.
    pub user: Option<String>,
}

/// How hard a storage behind a network may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Requests at the same time, at least 1.
    pub connections: usize,
    /// Bytes sent a second.
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes received a second.
    pub download_bytes_per_second: Option<u64>,
    /// Requests a second.
    pub requests_per_second: Option<u32>,
    /// How long a request is repeated before the storage counts as down.
    pub patience: Duration,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self {
            connections: 4,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
            requests_per_second: None,
            patience: Duration::from_mins(1),
        }
    }
}

/// Opens a storage that exists. `cancel` ends waiting for one behind a network.
pub fn open_storage(
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    if settings.as_of.is_some() && !settings.place.keeps_versions() {
        return Err(StorageError::Refused(Box::new(Refusal {
            location: "this kind of storage".to_owned(),
            operation: "show",
            name: "the past".to_owned(),
            why: "it keeps no versions that this program can read".to_owned(),
            hint: "Only versioned buckets of S3 can be read as of a time. Without --as-of, what is there now is read.",
        })));
    }
    match &settings.place {
        #[cfg(feature = "storage-local")]
        Place::Local(path) => Ok(Box::new(local::LocalStorage::open(path)?)),
        #[cfg(feature = "storage-s3")]
        Place::S3(place) => s3::open(place, settings, cancel),
        #[cfg(feature = "storage-gcs")]
        Place::Gcs(place) => gcs::open(place, settings, cancel),
        #[cfg(feature = "storage-azure")]
        Place::Azure(place) => azure::open(place, settings, cancel),
        #[cfg(feature = "storage-sftp")]
        Place::Sftp(place) => sftp::open(place, settings, cancel),
    }
}

/// Makes the place where it does not exist and the kind can (directories; never buckets), and opens it.
pub fn create_storage(
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    match &settings.place {
        #[cfg(feature = "storage-local")]
        Place::Local(path) => Ok(Box::new(local::LocalStorage::create(path)?)),
        #[cfg(feature = "storage-sftp")]
        Place::Sftp(place) => sftp::create(place, settings, cancel),
        _ => open_storage(settings, cancel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storage_file_is_listed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage");
        let shared = ["mod.rs", "object_stores", "remote"];
        let kinds: std::collections::BTreeSet<_> = std::fs::read_dir(folder)
            .expect("the sources of this crate")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| !shared.iter().any(|name| path.ends_with(name)))
            .map(|path| path.with_extension(""))
            .collect();
        assert_eq!(kinds.len(), STORAGES.len(), "a storage is not listed");
    }
}
