//! Writes the content of a backup next to where it goes, and proves it there.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::journal::Journal;
use super::{RestoreContext, RestoreError, RestoreReport, metadata};
use crate::execute::Event;
use crate::execute::beneath::Directory;
use crate::format::Digest;
use crate::format::envelope::Status;
use crate::format::manifest::{Asset, AssetResult, Run, Stream, StreamKind};
use crate::plan::restore::{RestoreItem, Target, place};
use crate::repository::reader::{BackupReader, Item};
use crate::source::RestoredAsset;

/// Fetches every item of the plan that is not fetched yet, asset by asset, and proves each asset.
pub(super) fn fetch(
    journal: &mut Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let mut numbers: HashMap<(String, PathBuf), usize> = HashMap::new();
    for (number, item) in journal.plan().items.iter().enumerate() {
        numbers.insert((item.asset.clone(), item.original.clone()), number);
    }
    let mut all_files: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for backup in backups {
        let mut manifest = backup.manifest()?;
        let mut current: Option<(Asset, BTreeMap<PathBuf, PathBuf>)> = None;
        while let Some(item) = manifest
            .next_item()
            .map_err(|error| backup.manifest_error(error))?
        {
            match item {
                Item::Asset(asset) => {
                    let wanted = journal
                        .plan()
                        .items
                        .iter()
                        .any(|item| item.asset == asset.name);
                    if wanted {
                        let (name, what) = (asset.name.as_str(), "restore");
                        context.observer.event(Event::Begin {
                            name,
                            what,
                            size_bytes: None,
                        });
                    }
                    current = wanted.then_some((asset, BTreeMap::new()));
                }
                Item::Stream(stream, runs) => {
                    let Some((asset, files)) = &mut current else {
                        continue;
                    };
                    let key = (asset.name.clone(), stream.path.clone());
                    let Some(&number) = numbers.get(&key) else {
                        continue;
                    };
                    let mut fetching = Fetching {
                        journal: &mut *journal,
                        backup,
                        context,
                        report: &mut *report,
                    };
                    fetching.stream(number, &stream, &runs, manifest.packs())?;
                    if stream.kind.has_content() {
                        let waiting = new_path(journal, number);
                        all_files.insert(stream.path.clone(), waiting.clone());
                        files.insert(stream.path, waiting);
                    }
                }
                Item::Result(result) => {
                    let Some((asset, files)) = current.take() else {
                        continue;
                    };
                    prove(&asset, &result, &files, &all_files, context, report)?;
                    context.observer.event(Event::End { name: &asset.name });
                }
            }
        }
    }
    Ok(())
}

/// Lets restorers add to what was restored below a directory, once everything is in place.
pub(super) fn complete_directories(
    journal: &Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan();
    if !matches!(plan.target, Target::Directory(_)) {
        return Ok(());
    }
    for backup in backups {
        let mut manifest = backup.manifest()?;
        let mut current: Option<(Asset, BTreeMap<PathBuf, PathBuf>)> = None;
        while let Some(item) = manifest
            .next_item()
            .map_err(|error| backup.manifest_error(error))?
        {
            match item {
                Item::Asset(asset) => {
                    let wanted = plan.items.iter().any(|item| item.asset == asset.name);
                    current = wanted.then_some((asset, BTreeMap::new()));
                }
                Item::Stream(stream, _) => {
                    if let Some((asset, files)) = &mut current {
                        let path = place(&plan.target, &asset.name, &stream.path);
                        files.insert(stream.path, path);
                    }
                }
                Item::Result(result) => {
                    let Some((asset, files)) = current.take() else {
                        continue;
                    };
                    let Some(restorer) = (context.restorers)(&asset.source) else {
                        continue;
                    };
                    let restored = RestoredAsset {
                        name: &asset.name,
                        settings: &asset.settings,
                        facts: &result.facts,
                        files: &files,
                        all_files: &files,
                    };
                    match restorer.complete_directory(&restored) {
                        Ok(notes) => report.notes.extend(notes),
                        // The streams are there, whole and proved.
                        Err(error) => report.problems.push(format!(
                            "asset {}: {}",
                            asset.name,
                            crate::error_chain(&error)
                        )),
                    }
                }
            }
        }
    }
    Ok(())
}

/// The directories down to `path` that do not exist.
fn missing(path: &Path) -> Vec<PathBuf> {
    let is_missing = |path: &&Path| {
        std::fs::symlink_metadata(path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    path.ancestors()
        .take_while(is_missing)
        .map(Path::to_owned)
        .collect()
}

/// Where the content of an item waits.
pub(super) fn new_path(journal: &Journal, number: usize) -> PathBuf {
    let plan = journal.plan();
    plan.items[number]
        .path
        .with_file_name(plan.new_name(number))
}

struct Fetching<'f, 'a> {
    journal: &'f mut Journal,
    backup: &'f BackupReader<'a>,
    context: &'f RestoreContext<'f>,
    report: &'f mut RestoreReport,
}

impl Fetching<'_, '_> {
    fn stream(
        &mut self,
        number: usize,
        stream: &Stream,
        runs: &[Run],
        packs: &[Digest],
    ) -> Result<(), RestoreError> {
        self.context.cancel.check()?;
        let item = self.journal.plan().items[number].clone();
        let path = item.path.clone();
        let failed = |operation| RestoreError::io(operation, &path);
        (self.context.before_step)("fetch").map_err(failed("fetch"))?;
        let whole = if item.kind == StreamKind::Directory {
            Some(item.path.as_path())
        } else {
            None
        };
        let directory = whole.or(item.path.parent()).unwrap_or(Path::new("/"));
        // Noted before they are made: a restore that is killed in between must still be undone without a trace.
        self.journal.note_created(missing(directory))?;
        let mut created = Vec::new();
        let directory = Directory::open(&item.root, directory, Some(&mut created));
        let directory = directory.map_err(failed("open the directory of"))?;
        if item.kind == StreamKind::Directory {
            return Ok(());
        }
        let new = self.journal.plan().new_name(number);
        if self.journal.is_fetched(number) {
            if directory.has(new.as_ref()).map_err(failed("look at"))? {
                self.report.bytes += item.size_bytes;
                self.context.observer.event(Event::Bytes(item.size_bytes));
                return Ok(());
            }
        } else {
            directory
                .unlink(new.as_ref())
                .map_err(failed("remove the remains of"))?;
        }
        match item.kind {
            StreamKind::Symlink => {
                let target = stream.target.as_deref().unwrap_or(Path::new(""));
                directory.symlink(target, &new).map_err(failed("create"))?;
                metadata::apply_to_link(directory.descriptor(), &new, stream)
                    .map_err(failed("set owner and time of"))?;
            }
            StreamKind::Hardlink => self.link(&item, &directory, &new)?,
            StreamKind::Directory => {}
            StreamKind::File | StreamKind::Database | StreamKind::Dump => {
                self.content(&item, stream, runs, packs, &directory, &new)?;
            }
        }
        self.journal.note_fetched(number)
    }

    fn content(
        &mut self,
        item: &RestoreItem,
        stream: &Stream,
        runs: &[Run],
        packs: &[Digest],
        directory: &Directory,
        new: &str,
    ) -> Result<(), RestoreError> {
        let failed = |operation| RestoreError::io(operation, &item.path);
        let file = directory.create_new(new).map_err(failed("create"))?;
        let observer = self.context.observer;
        let on_bytes = |bytes| observer.event(Event::Bytes(bytes));
        self.backup
            .write_content(stream, runs, packs, &file, self.context.cancel, &on_bytes)
            .map_err(|source| match source {
                crate::repository::RepositoryError::Interrupted(error) => error.into(),
                source => RestoreError::Content {
                    path: item.path.clone(),
                    source,
                },
            })?;
        metadata::apply(&file, stream, &item.path, &mut self.report.problems)
            .map_err(failed("set owner, mode and time of"))?;
        // In a directory of its own nothing is replaced: the kernel may write it when it likes.
        if self.journal.plan().target == Target::InPlace {
            file.sync_all().map_err(failed("write"))?;
        }
        self.report.bytes += item.size_bytes;
        Ok(())
    }

    fn link(
        &self,
        item: &RestoreItem,
        directory: &Directory,
        new: &str,
    ) -> Result<(), RestoreError> {
        let failed = |operation| RestoreError::io(operation, &item.path);
        let plan = self.journal.plan();
        let first = item.link_to.as_deref().unwrap_or(Path::new(""));
        let place = plan.items.iter().position(|item| item.path == first);
        let Some(place) = place else {
            let error = std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "the backup does not hold the file that it is another name of",
            );
            return Err(failed("link")(error));
        };
        let from = plan.items[place].path.parent().unwrap_or(Path::new("/"));
        let from = Directory::open(&plan.items[place].root, from, None).map_err(failed("link"))?;
        let old = plan.new_name(place);
        directory
            .link(&from, old.as_ref(), new.as_ref())
            .map_err(failed("link"))
    }
}

/// Proves a restored asset; what an incomplete one fails is a problem, what a complete one fails an error.
fn prove(
    asset: &Asset,
    result: &AssetResult,
    files: &BTreeMap<PathBuf, PathBuf>,
    all_files: &BTreeMap<PathBuf, PathBuf>,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let name = &asset.name;
    let Some(restorer) = (context.restorers)(&asset.source) else {
        report.notes.push(format!(
            "asset {name}: this program has no proof for {}",
            asset.source
        ));
        return Ok(());
    };
    if restorer.is_proved_by_digest() && result.status == Status::Complete {
        let shown = "every byte is that of the capture whose integrity and facts were checked";
        report.shown.insert(name.clone(), vec![shown.to_owned()]);
        return Ok(());
    }
    let restored = RestoredAsset {
        name,
        settings: &asset.settings,
        facts: &result.facts,
        files,
        all_files,
    };
    let proof = match restorer.prove(&restored) {
        Ok(proof) => proof,
        Err(source) if result.status == Status::Incomplete => {
            let why = crate::error_chain(&source);
            report
                .problems
                .push(format!("asset {name} was captured incomplete: {why}"));
            return Ok(());
        }
        Err(source) => {
            return Err(RestoreError::Proof {
                asset: name.clone(),
                source,
            });
        }
    };
    report.shown.insert(name.clone(), proof.shown);
    report.notes.extend(
        proof
            .notes
            .into_iter()
            .map(|note| format!("asset {name}: {note}")),
    );
    if proof.failures.is_empty() {
        return Ok(());
    }
    if result.status == Status::Incomplete {
        let failures = proof.failures.into_iter();
        report
            .problems
            .extend(failures.map(|failure| format!("asset {name}: {failure}")));
        return Ok(());
    }
    Err(RestoreError::NotProved {
        asset: name.clone(),
        failures: proof.failures,
    })
}
