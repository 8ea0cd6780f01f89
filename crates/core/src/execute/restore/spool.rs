//! Streams on their way into a server: fetched whole into a private file and proved there, so that nothing unproved reaches it.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use super::{RestoreContext, RestoreError};
use crate::cancel::Cancel;
use crate::execute::Event;
use crate::format::Digest;
use crate::format::manifest::{Run, Stream};
use crate::private_file;
use crate::repository::RepositoryError;
use crate::repository::reader::BackupReader;
use crate::source::CaptureError;
use crate::storage::StorageError;

/// How much is read at once, in bytes.
const BLOCK: usize = 256 << 10;

/// A proved stream; its file is gone already and its room with the last handle.
pub(super) struct Spooled {
    file: File,
    path: PathBuf,
}

/// Fetches a stream.
pub(super) fn fetch(
    backup: &BackupReader<'_>,
    (stream, runs, packs): (&Stream, &[Run], &[Digest]),
    path: &Path,
    context: &RestoreContext<'_>,
) -> Result<Spooled, RestoreError> {
    let file = private_file::create_or_truncate(path).map_err(RestoreError::io("create", path))?;
    std::fs::remove_file(path).map_err(RestoreError::io("remove the name of", path))?;
    let observer = context.observer;
    let on_bytes = |bytes| observer.event(Event::Bytes(bytes));
    backup
        .write_content(stream, runs, packs, &file, context.cancel, &on_bytes)
        .map_err(|source| match source {
            RepositoryError::Interrupted(error) => error.into(),
            // Which disk is full, is what the operator must know.
            RepositoryError::Storage(StorageError::NoSpace { operation, .. }) => {
                RestoreError::Content {
                    path: stream.path.clone(),
                    source: RepositoryError::Storage(StorageError::NoSpace {
                        operation,
                        name: path.display().to_string(),
                    }),
                }
            }
            source => RestoreError::Content {
                path: stream.path.clone(),
                source,
            },
        })?;
    Ok(Spooled {
        file,
        path: path.to_owned(),
    })
}

impl Spooled {
    /// Writes the content to `to`; can be repeated.
    pub(super) fn copy(&self, to: &mut dyn Write, cancel: &Cancel) -> Result<(), CaptureError> {
        let mut file = &self.file;
        file.rewind()
            .map_err(CaptureError::io("read", &self.path))?;
        let mut block = vec![0; BLOCK];
        loop {
            cancel.check()?;
            let length = file
                .read(&mut block)
                .map_err(CaptureError::io("read", &self.path))?;
            if length == 0 {
                return Ok(());
            }
            to.write_all(&block[..length])
                .map_err(CaptureError::library("hand the content to the server"))?;
        }
    }
}

/// Makes `directory` an empty private directory.
pub(super) fn empty(directory: &Path) -> Result<(), RestoreError> {
    remove(directory)?;
    private_file::create_dir_all(directory).map_err(RestoreError::io("create", directory))
}

/// Removes a directory with everything in it.
pub(super) fn remove(directory: &Path) -> Result<(), RestoreError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RestoreError::io("remove", directory)(error))
        }
        _ => Ok(()),
    }
}
