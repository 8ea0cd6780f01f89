//! Which other processes have a database open.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::connection::{COMPANIONS, companion};

/// Names the processes that have the database or one of its companions open; empty where there are none.
///
/// Processes of other users are visible to root only. The command is the short name of the kernel: the command line may
/// hold secrets.
pub(super) fn holders(database: &Path) -> io::Result<Vec<String>> {
    let wanted: Vec<_> = COMPANIONS
        .iter()
        .map(|suffix| companion(database, suffix))
        .chain([database.to_owned()])
        .filter_map(|path| identity(&path))
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut holders = Vec::new();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // It may end, or belong to someone else.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = |descriptor: io::Result<fs::DirEntry>| {
            descriptor.is_ok_and(|entry| {
                identity(&entry.path()).is_some_and(|identity| wanted.contains(&identity))
            })
        };
        if pid != std::process::id() && descriptors.into_iter().any(holds) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            holders.push(format!("process {pid} ({})", command.trim_end()));
        }
    }
    Ok(holders)
}

/// Device and inode of what `path` leads to.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
