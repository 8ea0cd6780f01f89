//! One run at a time on one host: a lock that dies with its process.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::private_file;

/// Held while a run changes state; released by the kernel however the run ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another run holds it.
    #[error("another run of Strongroom is at work with {path}")]
    Busy {
        /// The state directory.
        path: String,
    },
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path}")]
    Io {
        /// The state directory.
        path: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

impl RunLock {
    /// Takes the lock of a state directory, which is made where it is missing.
    pub fn acquire(state: &Path) -> Result<Self, LockError> {
        let path = state.display().to_string();
        let open = || {
            private_file::create_dir_all(state)?;
            private_file::append(&state.join("lock"))
        };
        let file = open().map_err(|source| LockError::Io {
            path: path.clone(),
            source,
        })?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Busy { path }),
            Err(error) => Err(LockError::Io {
                path,
                source: error.into(),
            }),
        }
    }
}
