//! The storages: one file a kind.
//!
//! Addresses are URLs; this module parses them, and each storage knows its own kind only.

use strongroom_core::storage::{Storage, StorageError};

#[cfg(feature = "storage-local")]
pub mod local;

/// The kinds of storage in this build, by URL scheme, in order.
pub const STORAGES: &[&str] = &[
    #[cfg(feature = "storage-local")]
    "file",
];

/// Why an address leads to no storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStorageError {
    /// The address is no URL of a kind that this build knows. It is not shown: it may hold a password.
    #[error("the address of a repository must be file:///absolute/path, {why}")]
    Address {
        /// What is wrong with it.
        why: String,
    },
    /// The storage itself refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Opens the storage at a URL.
pub fn open_storage(url: &str) -> Result<Box<dyn Storage>, OpenStorageError> {
    match parse(url)? {
        #[cfg(feature = "storage-local")]
        Address::Local(path) => Ok(Box::new(local::LocalStorage::open(&path)?)),
    }
}

/// Makes the place at a URL where it does not exist, and opens it.
pub fn create_storage(url: &str) -> Result<Box<dyn Storage>, OpenStorageError> {
    match parse(url)? {
        #[cfg(feature = "storage-local")]
        Address::Local(path) => Ok(Box::new(local::LocalStorage::create(&path)?)),
    }
}

enum Address {
    #[cfg(feature = "storage-local")]
    Local(std::path::PathBuf),
}

fn parse(url: &str) -> Result<Address, OpenStorageError> {
    let refuse = |why: String| Err(OpenStorageError::Address { why });
    let Some(parts) = url.split_once("://") else {
        return refuse("this one has no scheme".to_owned());
    };
    match parts {
        #[cfg(feature = "storage-local")]
        ("file", rest) => match local::path_from_url(rest) {
            Ok(path) => Ok(Address::Local(path)),
            Err(why) => refuse(why.to_owned()),
        },
        (scheme, _) => refuse(format!("and not of the scheme {scheme:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storage_file_is_listed() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/storage");
        let files = std::fs::read_dir(folder)
            .expect("the sources of this crate")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file() && !path.ends_with("mod.rs"));
        assert_eq!(files.count(), STORAGES.len(), "a storage is not listed");
    }

    #[test]
    fn addresses_lead_to_storages_or_say_why_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a b%");
        let url = format!("file://{}/a%20b%25", dir.path().display());
        assert!(open_storage(&url).is_err(), "it does not exist yet");
        let storage = create_storage(&url).expect("creates");
        assert!(path.is_dir());
        assert_eq!(storage.location(), url);
        open_storage(&url).expect("opens");
        for bad in [
            "/plain/path",
            "file://relative/path",
            "file:///a%zzb",
            "file:///a%00b",
            "s3://user:secret@bucket/x",
            "",
        ] {
            let error = match open_storage(bad) {
                Ok(_) => panic!("{bad} is no address"),
                Err(error) => error.to_string(),
            };
            assert!(error.contains("file:///"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
