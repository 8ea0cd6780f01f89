//! What this host keeps of custody: records of sets, rehearsals, and openings. No share is among them.
//!
//! All of it is below `custody/` in the state directory and may be copied elsewhere. Records are signed by whoever
//! dealt, rehearsals and openings by the shares themselves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use strongroom_core::custody::{CustodyRecord, Opening, Rehearsal, Revocation, Statement};
use strongroom_core::format::SetId;
use strongroom_core::private_file;

use crate::failure::{Exit, Failure, io};

/// The longest record or log that is read.
const FILE_MAX: u64 = 16 << 20;
const REHEARSALS: &str = "rehearsals.jsonl";
const OPENINGS: &str = "openings.jsonl";
const REVOCATIONS: &str = "revoked.jsonl";

/// The directory of custody in the state directory.
pub(crate) struct Records {
    directory: PathBuf,
}

impl Records {
    /// That of a state directory; it need not exist.
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join("custody"),
        }
    }

    /// The records of all sets, oldest first.
    pub(crate) fn all(&self) -> Result<Vec<CustodyRecord>, Failure> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("read", &self.directory)(error)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(io("read", &self.directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                records.push(read_record(&path)?);
            }
        }
        records.sort_by_key(|record| (record.created, record.set));
        Ok(records)
    }

    /// Keeps a record.
    pub(crate) fn keep(&self, record: &CustodyRecord, signed: &[u8]) -> Result<(), Failure> {
        self.create()?;
        let path = self.directory.join(format!("{}.json", record.set));
        private_file::replace(&path, signed).map_err(io("write", &path))
    }

    /// The rehearsals of a set, oldest first. Those that do not hold count for nothing.
    pub(crate) fn rehearsals(&self, record: &CustodyRecord) -> Result<Vec<Rehearsal>, Failure> {
        let mut found = self.statements::<Rehearsal>(REHEARSALS, record)?;
        found.sort_by_key(|rehearsal| rehearsal.time);
        Ok(found)
    }

    /// The openings that the custodians of a set took part in, oldest first.
    pub(crate) fn openings(&self, record: &CustodyRecord) -> Result<Vec<Opening>, Failure> {
        let mut found = self.statements::<Opening>(OPENINGS, record)?;
        found.sort_by_key(|opening| (opening.time, opening.index));
        Ok(found)
    }

    /// Adds a signed rehearsal.
    pub(crate) fn add_rehearsal(&self, signed: &[u8]) -> Result<(), Failure> {
        self.append(REHEARSALS, signed)
    }

    /// Adds a signed opening.
    pub(crate) fn add_opening(&self, signed: &[u8]) -> Result<(), Failure> {
        self.append(OPENINGS, signed)
    }

    /// The sets that are not to be used any more. Revocations that do not hold count for nothing.
    pub(crate) fn revocations(&self) -> Result<BTreeMap<SetId, Revocation>, Failure> {
        let path = self.directory.join(REVOCATIONS);
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let bytes = read(&path)?;
        let lines = bytes.split(|byte| *byte == b'\n');
        let found = lines.filter_map(|line| Revocation::open(line).ok());
        Ok(found.map(|one| (one.set, one)).collect())
    }

    /// Adds a signed revocation.
    pub(crate) fn add_revocation(&self, signed: &[u8]) -> Result<(), Failure> {
        self.append(REVOCATIONS, signed)
    }

    fn statements<S: Statement>(
        &self,
        file: &str,
        record: &CustodyRecord,
    ) -> Result<Vec<S>, Failure> {
        let path = self.directory.join(file);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = read(&path)?;
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        Ok(lines
            .filter_map(|line| S::open(line, record).ok())
            .collect())
    }

    fn append(&self, file: &str, signed: &[u8]) -> Result<(), Failure> {
        self.create()?;
        let path = self.directory.join(file);
        let mut log = private_file::append(&path).map_err(io("open", &path))?;
        let mut line = signed.to_vec();
        line.push(b'\n');
        log.write_all(&line)
            .and_then(|()| log.sync_all())
            .map_err(io("write", &path))
    }

    fn create(&self) -> Result<(), Failure> {
        private_file::create_dir_all(&self.directory).map_err(io("create", &self.directory))
    }
}

/// Reads a record from its file.
pub(crate) fn read_record(path: &Path) -> Result<CustodyRecord, Failure> {
    CustodyRecord::open(&read(path)?).map_err(|error| {
        let message = format!("{}: {error}", path.display());
        Failure::new(Exit::Failed, "custody-record", message)
            .hint("Take another copy of it; `custody create` left one beside the shares.")
    })
}

/// Reads a small file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes))
        .map_err(io("read", path))?;
    Ok(bytes)
}
