//! Where the PIN of a token comes from. It is in no argument and no message, and it is wiped when it is dropped.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Gives the PIN of a token.
pub trait PinEntry: Send + Sync {
    /// The PIN; none where the token shall ask for it itself, which it can when it `has_keypad`. `token` says in words which one is meant.
    fn pin(&self, token: &str, has_keypad: bool) -> Result<Option<Zeroizing<String>>, PinError>;
}

/// Why there is no PIN.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The file cannot be read.
    #[error("cannot read the PIN file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("the PIN file {path} can be read by others; chmod 600")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("the PIN file {path} has no first line")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Nobody can be asked.
    #[error("no PIN: {0}")]
    NotGiven(String),
}

/// A file whose first line is the PIN, readable by its owner alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinFile(pub PathBuf);

/// The longest PIN file that is read, in bytes.
const FILE_MAX: u64 = 4096;

impl PinEntry for PinFile {
    fn pin(&self, _: &str, _: bool) -> Result<Option<Zeroizing<String>>, PinError> {
        read(&self.0).map(Some)
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, PinError> {
    let failed = |source| PinError::File {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(PinError::Exposed {
            path: path.to_owned(),
        });
    }
    if metadata.len() > FILE_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(PinError::Empty {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_private_file_with_a_line_is_a_pin_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pin");
        let entry = PinFile(path.clone());
        assert!(matches!(entry.pin("t", false), Err(PinError::File { .. })));
        let mut file = strongroom_core::private_file::create_new(&path).expect("creates");
        assert!(matches!(entry.pin("t", false), Err(PinError::Empty { .. })));
        file.write_all(b"12 34\nmore\n").expect("writes");
        let pin = entry.pin("t", false).expect("a PIN").expect("from a file");
        assert_eq!(pin.as_str(), "12 34");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("sets");
        assert!(matches!(
            entry.pin("t", false),
            Err(PinError::Exposed { .. })
        ));
    }
}
