//! The journal of a restore: its plan, its phase, and what is done already.
//!
//! Two files in a private directory: `plan.json`, written once, and `progress.jsonl`, appended to.
//! A line that was cut by a crash counts as not written; what it told is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RestoreError;
use crate::plan::path_text;
use crate::plan::restore::RestorePlan;
use crate::private_file;

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// New content is written next to its place; nothing in place is touched.
    Fetching,
    /// Proved content is being put in place.
    Swapping,
    /// Everything is in place; what was replaced is kept.
    Applied,
    /// What was in place before is being put back.
    Undoing,
    /// All else is undone; what the restore made in tokens is being taken out.
    EmptyingTokens,
    /// What was replaced is being deleted.
    SigningOff,
}

impl Phase {
    /// The options of the command line that are possible now.
    pub const fn ways_on(self) -> &'static str {
        match self {
            Self::Fetching | Self::Swapping => "--resume or --undo",
            Self::Applied => "--sign-off or --undo",
            Self::Undoing => "--undo",
            Self::EmptyingTokens => {
                "--undo, or --sign-off, which leaves in the token what is there"
            }
            Self::SigningOff => "--sign-off",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fetching => "fetching",
            Self::Swapping => "half in place",
            Self::Applied => "in place, waiting for the sign-off",
            Self::Undoing => "half undone",
            Self::EmptyingTokens => "undone but for objects in a token",
            Self::SigningOff => "half signed off",
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    Phase(Phase),
    /// The content of an item is whole next to its place.
    Fetched(usize),
    /// A database is whole on its server, and proved.
    Loaded(usize),
    /// An item is as it was before.
    Undone(usize),
    /// A database is as it was before.
    DatabaseUndone(usize),
    /// An object is about to be made in a token: the numbers of the token and of the object.
    Making(usize, usize),
    /// It is not in the token any more.
    TakenOut(usize, usize),
    /// A directory that was not there before.
    Created(#[serde(with = "path_text")] PathBuf),
    /// When a directory was last modified before the sign-off: seconds and nanoseconds.
    Modified(#[serde(with = "path_text")] PathBuf, i64, u32),
}

/// An open journal.
pub struct Journal {
    directory: PathBuf,
    plan: RestorePlan,
    progress: File,
    phase: Phase,
    swap_begun: bool,
    fetched: BTreeSet<usize>,
    loaded: BTreeSet<usize>,
    undone: BTreeSet<usize>,
    databases_undone: BTreeSet<usize>,
    made: BTreeSet<(usize, usize)>,
    created: Vec<PathBuf>,
    modified: BTreeMap<PathBuf, (i64, u32)>,
}

const PLAN: &str = "plan.json";
const PROGRESS: &str = "progress.jsonl";

impl Journal {
    /// Begins the journal of a plan; refused while another one is there.
    pub fn create(directory: &Path, plan: &RestorePlan) -> Result<Self, RestoreError> {
        if let Some(other) = Self::open(directory)? {
            return Err(RestoreError::Unfinished {
                label: other.plan.label.to_string(),
            });
        }
        private_file::create_dir_all(directory).map_err(RestoreError::io("create", directory))?;
        let progress = directory.join(PROGRESS);
        match std::fs::remove_file(&progress) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(RestoreError::io("remove", &progress)(error));
            }
            _ => {}
        }
        let path = directory.join(PLAN);
        let bytes = serde_json::to_vec(plan).expect("a plan of plain values serialises");
        private_file::replace(&path, &bytes).map_err(RestoreError::io("write", &path))?;
        Self::open(directory)?.ok_or(RestoreError::NothingToDo)
    }

    /// Opens the journal in `directory`, if there is one.
    pub fn open(directory: &Path) -> Result<Option<Self>, RestoreError> {
        let path = directory.join(PLAN);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RestoreError::io("read", &path)(error)),
        };
        let plan = serde_json::from_slice(&bytes)
            .map_err(|error| RestoreError::io("read", &path)(error.into()))?;
        let path = directory.join(PROGRESS);
        let progress = private_file::append(&path).map_err(RestoreError::io("open", &path))?;
        let mut journal = Self {
            directory: directory.to_owned(),
            plan,
            progress,
            phase: Phase::Fetching,
            swap_begun: false,
            fetched: BTreeSet::new(),
            loaded: BTreeSet::new(),
            undone: BTreeSet::new(),
            databases_undone: BTreeSet::new(),
            made: BTreeSet::new(),
            created: Vec::new(),
            modified: BTreeMap::new(),
        };
        let text = std::fs::read(&path).map_err(RestoreError::io("read", &path))?;
        for line in text.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Entry::Phase(phase)) => journal.note_phase(phase),
                Ok(Entry::Fetched(number)) => drop(journal.fetched.insert(number)),
                Ok(Entry::Loaded(number)) => drop(journal.loaded.insert(number)),
                Ok(Entry::Undone(number)) => drop(journal.undone.insert(number)),
                Ok(Entry::DatabaseUndone(number)) => {
                    journal.databases_undone.insert(number);
                }
                Ok(Entry::Making(token, object)) => drop(journal.made.insert((token, object))),
                Ok(Entry::TakenOut(token, object)) => {
                    journal.made.remove(&(token, object));
                }
                Ok(Entry::Created(path)) => journal.created.push(path),
                Ok(Entry::Modified(path, seconds, nanoseconds)) => {
                    journal.modified.insert(path, (seconds, nanoseconds));
                }
                Err(_) => {}
            }
        }
        Ok(Some(journal))
    }

    /// The plan.
    pub fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether anything may have been put in place.
    pub(super) fn swap_begun(&self) -> bool {
        self.swap_begun
    }

    /// Where it lies.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn is_loaded(&self, number: usize) -> bool {
        self.loaded.contains(&number)
    }

    pub(super) fn is_database_undone(&self, number: usize) -> bool {
        self.databases_undone.contains(&number)
    }

    pub(super) fn note_loaded(&mut self, number: usize) -> Result<(), RestoreError> {
        self.loaded.insert(number);
        self.append(&Entry::Loaded(number))
    }

    pub(super) fn note_database_undone(&mut self, number: usize) -> Result<(), RestoreError> {
        self.databases_undone.insert(number);
        self.append(&Entry::DatabaseUndone(number))
    }

    /// The objects that this restore has made in tokens, or has begun to make: numbers of tokens and objects, in order.
    pub(super) fn made(&self) -> &BTreeSet<(usize, usize)> {
        &self.made
    }

    /// Notes that an object is about to be made; durable when it returns, so that whatever is made is known.
    pub(super) fn note_making(&mut self, token: usize, object: usize) -> Result<(), RestoreError> {
        self.made.insert((token, object));
        self.append(&Entry::Making(token, object))?;
        self.sync()
    }

    pub(super) fn note_taken_out(
        &mut self,
        token: usize,
        object: usize,
    ) -> Result<(), RestoreError> {
        self.made.remove(&(token, object));
        self.append(&Entry::TakenOut(token, object))
    }

    pub(super) fn is_fetched(&self, number: usize) -> bool {
        self.fetched.contains(&number)
    }

    pub(super) fn is_undone(&self, number: usize) -> bool {
        self.undone.contains(&number)
    }

    pub(super) fn created(&self) -> &[PathBuf] {
        &self.created
    }

    pub(super) fn note_fetched(&mut self, number: usize) -> Result<(), RestoreError> {
        self.fetched.insert(number);
        self.append(&Entry::Fetched(number))
    }

    pub(super) fn note_undone(&mut self, number: usize) -> Result<(), RestoreError> {
        self.undone.insert(number);
        self.append(&Entry::Undone(number))
    }

    pub(super) fn note_created(&mut self, paths: Vec<PathBuf>) -> Result<(), RestoreError> {
        for path in paths {
            self.append(&Entry::Created(path.clone()))?;
            self.created.push(path);
        }
        Ok(())
    }

    /// The time to give back to a directory: the one noted first, by this run or an interrupted one before it.
    pub(super) fn modified_before(
        &mut self,
        directory: &Path,
        now: (i64, u32),
    ) -> Result<(i64, u32), RestoreError> {
        if let Some(noted) = self.modified.get(directory) {
            return Ok(*noted);
        }
        self.append(&Entry::Modified(directory.to_owned(), now.0, now.1))?;
        self.modified.insert(directory.to_owned(), now);
        Ok(now)
    }

    /// Enters a phase; durable when it returns.
    pub(super) fn enter(&mut self, phase: Phase) -> Result<(), RestoreError> {
        self.append(&Entry::Phase(phase))?;
        self.sync()?;
        self.note_phase(phase);
        Ok(())
    }

    fn sync(&self) -> Result<(), RestoreError> {
        let path = self.directory.join(PROGRESS);
        let synced = self.progress.sync_all();
        synced
            .and_then(|()| private_file::sync_parent(&path))
            .map_err(RestoreError::io("write", &path))
    }

    fn note_phase(&mut self, phase: Phase) {
        self.swap_begun |= phase == Phase::Swapping;
        self.phase = phase;
    }

    fn append(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        // The line break comes first, so that a line cut by a crash spoils no other.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, entry).expect("an entry of plain values serialises");
        let path = self.directory.join(PROGRESS);
        self.progress
            .write_all(&line)
            .map_err(RestoreError::io("write", &path))
    }

    /// Ends the restore: the plan goes first, without which the rest is nothing.
    pub(super) fn remove(self) -> Result<(), RestoreError> {
        for name in [PLAN, PROGRESS] {
            let path = self.directory.join(name);
            std::fs::remove_file(&path).map_err(RestoreError::io("remove", &path))?;
        }
        // What databases kept there went with them.
        super::spool::remove(&self.directory)
    }
}
