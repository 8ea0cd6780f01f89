//! A directory of an SSH server: `sftp://user@host:port/path`.

use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Storage, StorageError};

use super::StorageSettings;

/// A directory, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpSettings {
    /// The URL as it was written.
    pub url: String,
}

/// Opens it.
pub fn open(
    place: &SftpSettings,
    _settings: &StorageSettings,
    _cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    Err(StorageError::Unusable {
        location: place.url.clone(),
        source: std::io::ErrorKind::Unsupported.into(),
    })
}

/// Makes the directory where it does not exist, and opens it.
pub fn create(
    place: &SftpSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    open(place, settings, cancel)
}
