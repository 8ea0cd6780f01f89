//! One run at a time on one host: a lock that dies with its process.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::private_file;

/// How often the lock is tried, at [`PAUSE`]: a program that a killed run was just about to start holds it until it is
/// executed, which takes long where the processors are busy.
const TRIES: u32 = 20;

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(50);

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
        for tries_left in (0..TRIES).rev() {
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if tries_left > 0 => pause(),
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(error) => {
                    return Err(LockError::Io {
                        path,
                        source: error.into(),
                    });
                }
            }
        }
        Err(LockError::Busy { path })
    }
}

/// Waits; for another process, which no channel announces.
fn pause() {
    let (_sender, receiver) = channel::<()>();
    let _ = receiver.recv_timeout(PAUSE);
}
