//! Azure Blob Storage: `az://account/container/prefix`.

use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Storage, StorageError};

use super::StorageSettings;

/// A container, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureSettings {
    /// The URL as it was written.
    pub url: String,
}

/// Opens it.
pub fn open(
    place: &AzureSettings,
    _settings: &StorageSettings,
    _cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    Err(StorageError::Unusable {
        location: place.url.clone(),
        source: std::io::ErrorKind::Unsupported.into(),
    })
}
