//! Looks at where a restore would go, for the plan.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::{FindRestorer, FindServer, FindToken, RestoreError};
use crate::format::manifest::StreamKind;
use crate::plan::restore::{Found, Observations, RestoreAsset, Target, place};
use crate::source::server::{LoadOptions, WantedDatabase};
use crate::source::token::WantedObjects;
use crate::source::{CaptureError, Restorer};

/// Looks at every place that the restore of `assets` would write to, and touches none.
pub fn observe(
    target: &Target,
    assets: &[RestoreAsset],
    options: &LoadOptions,
    (restorers, servers, tokens): (FindRestorer<'_>, FindServer<'_>, FindToken<'_>),
) -> Result<Observations, RestoreError> {
    let uid = rustix::process::geteuid();
    let mut world = Observations {
        uid: uid.as_raw(),
        is_root: uid.is_root(),
        ..Observations::default()
    };
    if let Target::Directory(directory) = target {
        world.target_not_empty = match std::fs::read_dir(directory) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(RestoreError::io("read", directory)(error)),
        };
    }
    let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
    for asset in assets {
        let restorer = restorers(&asset.source);
        let loads = target.loads_databases();
        let databases = asset.databases();
        let has_dumps = asset
            .streams
            .iter()
            .any(|stream| stream.kind == StreamKind::Dump);
        if loads && has_dumps && restorer.is_some_and(Restorer::loads_into_token) {
            let wanted = WantedObjects {
                facts: &asset.facts,
                streams: &asset.streams,
                options,
            };
            let seen = tokens(&asset.name, &asset.source, options)
                .and_then(|token| token.observe(&wanted));
            let seen = match seen {
                Err(CaptureError::Interrupted(error)) => return Err(error.into()),
                seen => seen.map_err(|error| error.advice()),
            };
            world.tokens.insert(asset.name.clone(), seen);
        } else if loads && !databases.is_empty() {
            let wanted: Vec<_> = databases
                .keys()
                .map(|original| WantedDatabase {
                    original,
                    name: target.database_name(original),
                    facts: &asset.facts,
                    options,
                })
                .collect();
            let seen = servers(&asset.name, &asset.source, options)
                .and_then(|server| server.observe(&wanted));
            let seen = match seen {
                Err(CaptureError::Interrupted(error)) => return Err(error.into()),
                seen => seen.map_err(|error| error.advice()),
            };
            world.servers.insert(asset.name.clone(), seen);
        }
        let files = asset
            .streams
            .iter()
            .filter(|stream| !(loads && stream.kind == StreamKind::Dump));
        for stream in files {
            let path = place(target, &asset.name, &stream.path);
            if let Some(parent) = path.parent() {
                directories.insert(existing(parent).to_owned());
            }
            if let Some(restorer) = restorer.filter(|_| *target == Target::InPlace) {
                world
                    .companions
                    .insert(path.clone(), restorer.companions(&path));
            }
            let metadata = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(RestoreError::io("look at", &path)(error)),
            };
            let in_use = match restorer.filter(|_| stream.kind == StreamKind::Database) {
                Some(restorer) => restorer
                    .in_use(&path)
                    .map_err(RestoreError::io("look at", &path))?,
                None => None,
            };
            world.found.insert(path, found(&metadata, in_use));
        }
    }
    for directory in directories {
        if rustix::fs::access(&directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            world.unwritable.insert(directory.clone());
        }
        let free = rustix::fs::statvfs(&directory)
            .map_err(|error| RestoreError::io("look at", &directory)(error.into()))?;
        world
            .free_bytes
            .insert(directory, free.f_bavail.saturating_mul(free.f_frsize));
    }
    Ok(world)
}

/// The nearest ancestor that exists.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}

fn found(metadata: &std::fs::Metadata, in_use: Option<String>) -> Found {
    let kind = metadata.file_type();
    let kind = if kind.is_file() {
        Some(StreamKind::File)
    } else if kind.is_dir() {
        Some(StreamKind::Directory)
    } else if kind.is_symlink() {
        Some(StreamKind::Symlink)
    } else {
        None
    };
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
    Found {
        kind,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        mtime: (metadata.mtime(), nanoseconds),
        in_use,
    }
}
