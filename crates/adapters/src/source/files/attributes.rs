//! Extended attributes and ACLs of a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use super::findings::{Findings, Quoted};

/// The longest list of attribute names and the longest value (Linux: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTE_MAX: usize = 64 << 10;
/// How many bytes of attributes an entry may have; base64 of them fits into a line of the manifest.
const ATTRIBUTES_MAX: usize = 512 << 10;

/// Where extended attributes are read from.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// An open file.
    Open(&'a File),
    /// A name, which is not followed when it is a link.
    Path(&'a Path),
}

impl Place<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(file) => rustix::fs::flistxattr(file, buffer),
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get(self, name: &str, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(file) => rustix::fs::fgetxattr(file, name, buffer),
            Self::Path(path) => rustix::fs::lgetxattr(path, name, buffer),
        }
    }
}

/// The extended attributes that a restore sets again; what cannot be read is a problem.
pub(super) fn xattrs(
    place: Place<'_>,
    path: &Path,
    findings: &mut Findings,
) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut list = vec![0; ATTRIBUTE_MAX];
    match place.list(&mut list) {
        Ok(length) => list.truncate(length),
        // The file system has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return found,
        Err(error) => {
            findings.problem(format!(
                "{}: its extended attributes could not be listed: {error}",
                Quoted(path)
            ));
            return found;
        }
    }
    let mut total = 0;
    for raw in list.split(|byte| *byte == 0).filter(|raw| !raw.is_empty()) {
        let Ok(name) = std::str::from_utf8(raw) else {
            findings.problem(format!(
                "{}: an extended attribute has a name that is no text and was left out",
                Quoted(path)
            ));
            continue;
        };
        if !is_recorded(name) {
            continue;
        }
        let mut value = vec![0; ATTRIBUTE_MAX];
        match place.get(name, &mut value) {
            Ok(length) => value.truncate(length),
            // Removed since it was listed.
            Err(Errno::NODATA) => continue,
            Err(error) => {
                findings.problem(format!(
                    "{}: the extended attribute {name:?} could not be read: {error}",
                    Quoted(path)
                ));
                continue;
            }
        }
        total += name.len() + value.len();
        if total > ATTRIBUTES_MAX {
            findings.problem(format!(
                "{}: it has more than 512 KiB of extended attributes; the rest was left out",
                Quoted(path)
            ));
            break;
        }
        value.shrink_to_fit();
        found.insert(name.to_owned(), value);
    }
    found
}

/// Attributes that belong to the file; the labels of `SELinux` and its like belong to the machine's policy, and
/// those of overlay file systems to the mount.
fn is_recorded(name: &str) -> bool {
    let exact = [
        "system.posix_acl_access",
        "system.posix_acl_default",
        "security.capability",
    ];
    name.starts_with("user.")
        || (name.starts_with("trusted.") && !name.starts_with("trusted.overlay."))
        || exact.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_machine_are_not_recorded() {
        for name in [
            "user.x",
            "trusted.y",
            "system.posix_acl_default",
            "security.capability",
        ] {
            assert!(is_recorded(name), "{name}");
        }
        for name in [
            "security.selinux",
            "trusted.overlay.opaque",
            "system.nfs4_acl",
        ] {
            assert!(!is_recorded(name), "{name}");
        }
    }
}
