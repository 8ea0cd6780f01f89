//! All that a file system says of a tree, to compare two moments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What lies at each path below a root.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, String>);

impl Snapshot {
    /// Takes one of everything below `root`; the times of directories count only below those in `times_below`.
    pub(crate) fn of(root: &Path, times_below: &[PathBuf]) -> Self {
        let mut found = BTreeMap::new();
        let mut names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
        walk(root, root, times_below, &mut names, &mut found);
        Self(found)
    }

    /// Asserts that both are the same, and tells what is not.
    #[track_caller]
    pub(crate) fn assert_is(&self, wanted: &Self, when: &str) {
        let mut differences = Vec::new();
        for (path, text) in &wanted.0 {
            match self.0.get(path) {
                None => differences.push(format!("{} is gone", path.display())),
                Some(now) if now != text => {
                    differences.push(format!("{}:\n  was {text}\n  is  {now}", path.display()));
                }
                Some(_) => {}
            }
        }
        for path in self.0.keys().filter(|path| !wanted.0.contains_key(*path)) {
            differences.push(format!("{} is new", path.display()));
        }
        assert!(
            differences.is_empty(),
            "{when}:\n{}",
            differences.join("\n")
        );
    }
}

fn walk(
    root: &Path,
    path: &Path,
    times_below: &[PathBuf],
    names: &mut BTreeMap<(u64, u64), PathBuf>,
    found: &mut BTreeMap<PathBuf, String>,
) {
    let metadata = std::fs::symlink_metadata(path).expect("is there");
    let relative = path.strip_prefix(root).expect("below").to_owned();
    let mut text = format!(
        "mode {:o} owner {}:{}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid()
    );
    let is_directory = metadata.is_dir();
    if !is_directory || times_below.iter().any(|below| path.starts_with(below)) {
        text.push_str(
            &format_args!(" mtime {}.{:09}", metadata.mtime(), metadata.mtime_nsec()).to_string(),
        );
    }
    if metadata.is_symlink() {
        text.push_str(
            &format_args!(" -> {:?}", std::fs::read_link(path).expect("a link")).to_string(),
        );
    } else if metadata.is_file() {
        let first = names
            .entry((metadata.dev(), metadata.ino()))
            .or_insert_with(|| relative.clone());
        let bytes = std::fs::read(path).expect("reads");
        let digest = strongroom_core::format::Digest::of(&bytes);
        let (links, length) = (metadata.nlink(), metadata.len());
        text.push_str(
            &format_args!(" links {links} with {first:?} {length} bytes {digest}").to_string(),
        );
    }
    found.insert(relative, text);
    if is_directory {
        let entries = std::fs::read_dir(path).expect("reads");
        let mut children: Vec<OsString> = entries
            .map(|entry| entry.expect("reads").file_name())
            .collect();
        children.sort();
        for name in children {
            walk(root, &path.join(name), times_below, names, found);
        }
    }
}
