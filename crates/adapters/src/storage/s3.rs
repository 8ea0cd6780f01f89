//! Amazon S3 and what speaks its protocol: `s3://bucket/prefix`.

use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Storage, StorageError};

use super::StorageSettings;

/// A bucket, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The URL as it was written.
    pub url: String,
}

/// Opens it.
pub fn open(
    place: &S3Settings,
    _settings: &StorageSettings,
    _cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    Err(StorageError::Unusable {
        location: place.url.clone(),
        source: std::io::ErrorKind::Unsupported.into(),
    })
}
