//! The entry of a path as the file system tells it: owner, mode, times. Shared by the sources that read files.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::Entry;

/// The names of owners and groups on this machine, from `/etc/passwd` and `/etc/group`.
#[derive(Default)]
pub(super) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// Reads both files; one that cannot be read names nobody.
    pub(super) fn read() -> Self {
        let lookup = |path| parse(&std::fs::read(path).unwrap_or_default());
        Self {
            users: lookup("/etc/passwd"),
            groups: lookup("/etc/group"),
        }
    }
}

/// The first name of each id in lines of `name:password:id:...`.
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        if let Ok(id) = id.parse() {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// Builds the entry of a path from its metadata.
pub(super) fn describe(
    names: &Names,
    kind: StreamKind,
    path: &Path,
    metadata: &Metadata,
    xattrs: BTreeMap<String, Vec<u8>>,
    target: Option<PathBuf>,
) -> Entry {
    let (uid, gid) = (metadata.uid(), metadata.gid());
    Entry {
        kind,
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        uid,
        gid,
        user: names.users.get(&uid).cloned(),
        group: names.groups.get(&gid).cloned(),
        mtime: (
            metadata.mtime(),
            u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
        ),
        xattrs,
        target,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_counts() {
        let names = parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0\nbad\nca:x:990:\n");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&990).map(String::as_str), Some("ca"));
        assert_eq!(names.len(), 2);
    }
}
