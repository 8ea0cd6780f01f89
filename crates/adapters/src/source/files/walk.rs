//! A sorted walk over everything that a selection covers; it follows no link and reads no content.
//!
//! Memory holds the names of the directories that are open, not those of the whole tree.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use strongroom_core::cancel::{Cancel, Interrupted};
use strongroom_core::plan::restore::is_restore_name;

use super::findings::{Findings, Quoted};
use super::select::{Root, Selection, sorted_names};
use crate::secret_scan::is_telling;

/// How often a directory that changes while it is walked is listed in all.
const LISTINGS: u8 = 3;

/// Something that the walk came to.
pub(super) struct Visit {
    pub(super) path: PathBuf,
    /// Of the path itself, not of what a link points to.
    pub(super) metadata: Metadata,
    /// For a path that the settings select themselves: whether they name it as it is.
    pub(super) root: Option<Root>,
}

/// Walks one selection.
pub(super) struct Walk<'a> {
    selection: &'a Selection,
    next_root: usize,
    /// The last root that was a directory: what lies below it was visited.
    last_directory: Option<&'a Path>,
    stack: Vec<Level>,
    /// Paths that were left out by an exclude.
    pub(super) excluded: u64,
}

struct Level {
    directory: PathBuf,
    names: Vec<OsString>,
    next: usize,
    stamp: Option<Stamp>,
    listings: u8,
}

/// What changes when a name is added to a directory or removed from it.
type Stamp = (u64, u64, i64, i64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.symlink_metadata().ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

impl<'a> Walk<'a> {
    pub(super) fn new(selection: &'a Selection) -> Self {
        Self {
            selection,
            next_root: 0,
            last_directory: None,
            stack: Vec::new(),
            excluded: 0,
        }
    }

    /// The next path; a directory comes before what it holds. What cannot be looked at is a problem.
    pub(super) fn next(&mut self, findings: &mut Findings) -> Option<Visit> {
        loop {
            if let Some(level) = self.stack.last_mut() {
                if level.next == level.names.len() && !level.list_again(findings) {
                    self.stack.pop();
                    continue;
                }
                let path = level.directory.join(&level.names[level.next]);
                level.next += 1;
                let waits = path.file_name().is_some_and(is_restore_name);
                if waits || self.selection.is_excluded(&path) {
                    self.excluded += 1;
                    continue;
                }
                if let Some(visit) = self.visit(path, None, findings) {
                    return Some(visit);
                }
            } else {
                let root = self.selection.roots.get(self.next_root)?;
                self.next_root += 1;
                let waits = root.path.file_name().is_some_and(is_restore_name);
                if waits || self.was_visited(&root.path) {
                    continue;
                }
                let path = root.path.clone();
                if let Some(visit) = self.visit(path, Some(root), findings) {
                    if visit.metadata.is_dir() {
                        self.last_directory = Some(&root.path);
                    }
                    return Some(visit);
                }
            }
        }
    }

    /// Whether a root lies below an earlier one and was visited from there.
    fn was_visited(&self, path: &Path) -> bool {
        self.last_directory.is_some_and(|directory| {
            self.selection.reaches(directory, path)
                && path.symlink_metadata().is_ok()
                && path
                    .ancestors()
                    .skip(1)
                    .take_while(|part| *part != directory)
                    .all(|part| part.symlink_metadata().is_ok_and(|part| part.is_dir()))
        })
    }

    fn visit(
        &mut self,
        path: PathBuf,
        root: Option<&Root>,
        findings: &mut Findings,
    ) -> Option<Visit> {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                missing(&path, root, &error, findings);
                return None;
            }
        };
        if metadata.is_dir() {
            let mut level = Level {
                directory: path.clone(),
                names: Vec::new(),
                next: 0,
                stamp: stamp(&path),
                listings: 1,
            };
            match sorted_names(&path, false) {
                Ok(names) => level.names = names,
                Err(error) => {
                    level.listings = LISTINGS;
                    findings.problem(format!(
                        "{}: the directory cannot be listed: {error}",
                        Quoted(&path)
                    ));
                }
            }
            self.stack.push(level);
        }
        Some(Visit {
            path,
            metadata,
            root: root.cloned(),
        })
    }
}

impl Level {
    /// Adds the names that appeared since the listing, for instance by renaming; false when there are none.
    fn list_again(&mut self, findings: &mut Findings) -> bool {
        let now = stamp(&self.directory);
        if now == self.stamp || now.is_none() {
            return false;
        }
        if self.listings == LISTINGS {
            if self.stamp.is_some() {
                findings.note(format!(
                    "{}: the directory kept changing while it was read; names that appeared last are not in this backup",
                    Quoted(&self.directory)
                ));
            }
            return false;
        }
        self.listings += 1;
        self.stamp = now;
        let Ok(names) = sorted_names(&self.directory, false) else {
            return false;
        };
        let known: HashSet<&OsString> = self.names.iter().collect();
        let fresh: Vec<OsString> = names
            .into_iter()
            .filter(|name| !known.contains(name))
            .collect();
        self.names.extend(fresh);
        self.next < self.names.len()
    }
}

/// Says that a path is not there or cannot be looked at.
pub(super) fn missing(path: &Path, root: Option<&Root>, error: &io::Error, to: &mut Findings) {
    let is_gone = error.kind() == io::ErrorKind::NotFound;
    if is_gone && root.is_some_and(|root| root.is_literal) {
        to.problem(format!("{}: does not exist", Quoted(path)));
    } else if is_gone {
        to.note(format!(
            "{}: disappeared while the directory was read",
            Quoted(path)
        ));
    } else {
        to.problem(format!("{}: cannot be looked at: {error}", Quoted(path)));
    }
}

/// Says that something is neither file, directory nor link; it is left out.
pub(super) fn skip_special(visit: &Visit, findings: &mut Findings) {
    let kind = visit.metadata.file_type();
    let what = if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "of an unknown kind"
    };
    let path = Quoted(&visit.path);
    findings.note(format!("{path}: is {what} and was left out"));
}

/// The first names of files that have several.
#[derive(Default)]
pub(super) struct FirstNames(HashMap<(u64, u64), PathBuf>);

impl FirstNames {
    /// The name under which a file with this inode was captured.
    pub(super) fn get(&self, metadata: &Metadata) -> Option<&Path> {
        let inode = (metadata.dev(), metadata.ino());
        self.0.get(&inode).map(PathBuf::as_path)
    }

    /// Remembers a file, if it has more than one name.
    pub(super) fn insert(&mut self, metadata: &Metadata, path: &Path) {
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            self.0.insert(inode, path.to_owned());
        }
    }
}

/// Those names of files with several that say what they hold, for all that a selection covers: a file is judged by all of them when the
/// first is captured.
pub(super) struct TellingNames(HashMap<(u64, u64), Vec<PathBuf>>);

impl TellingNames {
    /// Goes through the whole selection; what cannot be looked at is said by the walk that captures.
    pub(super) fn of(selection: &Selection, cancel: &Cancel) -> Result<Self, Interrupted> {
        let mut names: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
        let mut walk = Walk::new(selection);
        while let Some(Visit { path, metadata, .. }) = walk.next(&mut Findings::default()) {
            cancel.check()?;
            if metadata.is_file() && metadata.nlink() > 1 && is_telling(name(&path)) {
                let inode = (metadata.dev(), metadata.ino());
                names.entry(inode).or_default().push(path);
            }
        }
        Ok(Self(names))
    }

    /// Those of a file.
    pub(super) fn get(&self, metadata: &Metadata) -> &[PathBuf] {
        let inode = (metadata.dev(), metadata.ino());
        self.0.get(&inode).map_or(&[], Vec::as_slice)
    }
}

/// The name of a file, without its directory.
pub(super) fn name(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_bytes()
}

/// What the settings should say about a link that they select, and about links on the way to a root.
pub(super) fn note_links(visit: &Visit, selection: &Selection, findings: &mut Findings) {
    if visit.root.is_none() {
        return;
    }
    for ancestor in visit.path.ancestors().skip(1) {
        if is_link(ancestor) && !selection.is_root(ancestor) {
            findings.note(format!(
                "{}: is reached through the symbolic link {}, which is not covered",
                Quoted(&visit.path),
                Quoted(ancestor)
            ));
        }
    }
    if !visit.metadata.is_symlink() {
        return;
    }
    let path = Quoted(&visit.path);
    match std::fs::canonicalize(&visit.path) {
        Ok(target) if selection.covers(&target) => {}
        Ok(target) => {
            let text = format!(
                "{path}: is a symbolic link and points to {}, which is not covered; only the link was taken",
                Quoted(&target)
            );
            if visit.root.as_ref().is_some_and(|root| root.is_literal) {
                findings.problem(text);
            } else {
                findings.note(text);
            }
        }
        Err(error) => findings.note(format!(
            "{path}: is a symbolic link that leads nowhere: {error}"
        )),
    }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_symlink())
}
