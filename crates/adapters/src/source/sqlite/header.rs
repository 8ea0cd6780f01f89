//! The first 100 bytes of a database file, read before SQLite is let near it.
//!
//! Nothing is written and no lock is taken. Closing any descriptor of a file drops all POSIX locks that this process
//! holds on it, SQLite's too; so [`examine`] must run before a connection to that file is opened or
//! after it was closed, never in between (<https://www.sqlite.org/howtocorrupt.html>, section 2.2).

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

use strongroom_core::source::CaptureError;

use super::stream::fill;

/// What every database begins with.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The length of the header (<https://www.sqlite.org/fileformat2.html>, section 1.3).
pub(super) const LENGTH: usize = 100;

/// The header of a database.
#[derive(Clone, Debug)]
pub(super) struct Header([u8; LENGTH]);

/// What a file turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Zero bytes: to SQLite a database without tables.
    Empty,
    /// A database.
    Database(Header),
}

impl Header {
    /// Checks the magic and the page size.
    pub(super) fn parse(bytes: [u8; LENGTH]) -> Result<Self, &'static str> {
        if !bytes.starts_with(MAGIC) {
            return Err("not a SQLite database, or encrypted (SQLCipher)");
        }
        let header = Self(bytes);
        let page_size = header.page_size();
        if page_size.is_power_of_two() && (512..=65536).contains(&page_size) {
            Ok(header)
        } else {
            Err("the header of the SQLite database is damaged: it states an impossible page size")
        }
    }

    /// The page size in bytes, 512 to 65536.
    pub(super) fn page_size(&self) -> u32 {
        match u16::from_be_bytes([self.0[16], self.0[17]]) {
            1 => 65536,
            size => u32::from(size),
        }
    }

    /// Whether the database is in WAL mode: its file format write version is 2.
    pub(super) fn is_wal(&self) -> bool {
        self.0[18] == 2
    }

    /// Counts the transactions that changed the file; a WAL defers it to the checkpoint.
    pub(super) fn change_counter(&self) -> u32 {
        self.u32_at(24)
    }

    /// The change counter for which the size in the header holds.
    pub(super) fn version_valid_for(&self) -> u32 {
        self.u32_at(92)
    }

    /// The bytes from the version-valid-for number to the end: it, and the version of the library that wrote last.
    pub(super) fn last_writer(&self) -> &[u8] {
        &self.0[92..LENGTH]
    }

    /// The change counter as it is stored.
    pub(super) fn change_counter_bytes(&self) -> &[u8] {
        &self.0[24..28]
    }

    fn u32_at(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_be_bytes(bytes)
    }
}

/// Looks at a database file: it must be a regular file that is empty or has a header.
pub(super) fn examine(path: &Path) -> Result<(Metadata, Content), CaptureError> {
    let unsuitable = |why: &str, hint| CaptureError::Unsuitable {
        path: path.as_os_str().to_owned(),
        why: why.to_owned(),
        hint,
    };
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unsuitable(
            "there is no such file",
            "Correct the path of the asset, or start the server once so that it creates its database.",
        ),
        _ => CaptureError::io("look at", path)(error),
    })?;
    if !metadata.is_file() {
        return Err(unsuitable(
            "not a regular file",
            "The path of a SQLite asset is the database file itself.",
        ));
    }
    let mut file = File::open(path).map_err(CaptureError::io("open", path))?;
    let mut bytes = [0; LENGTH];
    let filled = fill(&mut bytes, &mut file).map_err(CaptureError::io("read", path))?;
    if filled == 0 {
        return Ok((metadata, Content::Empty));
    }
    if filled < LENGTH {
        // Shorter than any header: what is missing must not be read as zeros.
        bytes.fill(0);
    }
    let header = Header::parse(bytes).map_err(|why| {
        unsuitable(
            why,
            "Capture an encrypted database with the server's own export, or as a file while the server is stopped.",
        )
    })?;
    Ok((metadata, Content::Database(header)))
}

/// Whether a file begins like a database; errors count as no.
pub(super) fn has_magic(path: &Path) -> bool {
    let mut bytes = [0; MAGIC.len()];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .is_ok_and(|()| &bytes == MAGIC)
}
