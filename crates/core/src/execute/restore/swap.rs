//! Puts proved content in place, puts back what was there, or deletes it.
//!
//! An item goes through three states, told apart by the names that exist: `new` only - `new` and `old` -
//! `old` only. The first step gives what is in place a second name, `old`; the second renames `new` over it. At
//! no moment is there nothing in place.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::journal::{Journal, Phase};
use super::{RestoreContext, RestoreError, RestoreReport, metadata};
use crate::execute::beneath::Directory;
use crate::format::manifest::StreamKind;
use crate::plan::restore::{RestoreItem, Target};

/// The paths where something lies now and nothing did when the plan was made.
pub(super) fn appeared(journal: &Journal) -> Result<Vec<PathBuf>, RestoreError> {
    let mut appeared = Vec::new();
    for item in &journal.plan().items {
        if item.kind == StreamKind::Directory || item.replaces.is_some() {
            continue;
        }
        let failed = |operation| RestoreError::io(operation, &item.path);
        let (directory, name) = open_parent(item).map_err(failed("open the directory of"))?;
        if directory.has(name).map_err(failed("look at"))? {
            appeared.push(item.path.clone());
        }
    }
    Ok(appeared)
}

/// Swaps every item in; repeated after an interruption, it goes on where it stopped.
pub(super) fn swap(
    journal: &mut Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan();
    let mut touched: BTreeSet<(PathBuf, PathBuf)> = BTreeSet::new();
    // Two assets may hold the same file.
    let mut own: HashSet<&Path> = HashSet::new();
    for (number, item) in plan.items.iter().enumerate() {
        if item.kind == StreamKind::Directory {
            continue;
        }
        let failed = |operation| RestoreError::io(operation, &item.path);
        let (directory, name) = open_parent(item).map_err(failed("open the directory of"))?;
        touched.insert((item.root.clone(), parent(&item.path).to_owned()));
        let is_own = !own.insert(&item.path);
        let (new, old) = (plan.new_name(number), plan.old_name(number));
        let (new, old) = (OsStr::new(&new), OsStr::new(&old));
        let step = |what: &'static str| (context.before_step)(what).map_err(failed(what));
        if !directory.has(new).map_err(failed("look at"))? {
            // Swapped before an interruption.
            continue;
        }
        let in_place = directory.has(name).map_err(failed("look at"))?;
        if in_place && item.replaces.is_none() && !is_own {
            return Err(RestoreError::Appeared(vec![
                item.path.display().to_string(),
            ]));
        }
        for (place, companion) in item.companions.iter().enumerate() {
            let aside = plan.companion_name(number, place);
            let companion = companion.file_name().unwrap_or_default();
            let aside = OsStr::new(&aside);
            let waits = directory.has(companion).map_err(failed("look at"))?
                && !directory.has(aside).map_err(failed("look at"))?;
            if waits {
                step("put the companions aside of")?;
                directory
                    .rename(companion, aside)
                    .map_err(failed("put the companions aside of"))?;
            }
        }
        let is_kept = in_place && item.replaces.is_some();
        if is_kept && !directory.has(old).map_err(failed("look at"))? {
            step("keep")?;
            keep(&directory, name, old).map_err(failed("keep"))?;
        }
        step("put in place")?;
        directory
            .rename(new, name)
            .map_err(failed("put in place"))?;
    }
    set_directories(journal, report)?;
    if journal.plan().target == Target::InPlace {
        for (root, path) in touched {
            let failed = RestoreError::io("write", &path);
            Directory::open(&root, &path, None)
                .and_then(|directory| directory.sync())
                .map_err(failed)?;
        }
    }
    Ok(())
}

/// Gives what is in place a second name; where the file system has no hard links, the only one.
fn keep(directory: &Directory, name: &OsStr, old: &OsStr) -> io::Result<()> {
    match directory.link(directory, name, old) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            directory.rename(name, old)
        }
        result => result,
    }
}

fn set_directories(journal: &Journal, report: &mut RestoreReport) -> Result<(), RestoreError> {
    // Deepest first: a directory without write permission must have got all that goes into it.
    for item in journal.plan().items.iter().rev() {
        let Some(stream) = item
            .directory
            .as_ref()
            .filter(|_| item.kind == StreamKind::Directory)
        else {
            continue;
        };
        let failed = |operation| RestoreError::io(operation, &item.path);
        let directory = Directory::open(&item.root, &item.path, None).map_err(failed("open"))?;
        metadata::apply(
            directory.descriptor(),
            stream,
            &item.path,
            &mut report.problems,
        )
        .map_err(failed("set owner, mode and time of"))?;
    }
    Ok(())
}

/// Puts everything back, last item first.
pub(super) fn undo(
    journal: &mut Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    // Once a swap has begun, all `new` files were there: a missing one has been put in place.
    let swapped = journal.swap_begun();
    let items = journal.plan().items.clone();
    for item in &items {
        let restorer = (context.restorers)(&item.source)
            .filter(|_| swapped && item.kind == StreamKind::Database);
        let Some(restorer) = restorer else { continue };
        let in_use = restorer.in_use(&item.path);
        if let Some(why) = in_use.map_err(RestoreError::io("look at", &item.path))? {
            let refusal = format!("{} is in use: {why}", item.path.display());
            return Err(RestoreError::Refused(vec![refusal]));
        }
    }
    if journal.phase() != Phase::Undoing {
        journal.enter(Phase::Undoing)?;
    }
    for (number, item) in items.iter().enumerate().rev() {
        if item.kind == StreamKind::Directory || journal.is_undone(number) {
            continue;
        }
        let failed = |operation| RestoreError::io(operation, &item.path);
        (context.before_step)("undo").map_err(failed("undo"))?;
        match undo_item(journal, number, item, swapped) {
            // Its directory was never made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(failed("undo"))?,
        }
        journal.note_undone(number)?;
        report.items += 1;
    }
    let mut created = journal.created().to_vec();
    created.sort();
    for path in created.iter().rev() {
        match std::fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                report
                    .notes
                    .push(format!("{} is not empty and stays", path.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(RestoreError::io("remove", path))?,
        }
    }
    revert_directories(&items, context, report)
}

/// Gives directories back what they were, last of all: whatever comes and goes in them sets their times.
fn revert_directories(
    items: &[RestoreItem],
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    for item in items.iter().rev() {
        let Some(before) = item
            .replaces
            .as_ref()
            .filter(|_| item.kind == StreamKind::Directory)
        else {
            continue;
        };
        let failed = |operation| RestoreError::io(operation, &item.path);
        (context.before_step)("undo").map_err(failed("undo"))?;
        let revert = Directory::open(&item.root, &item.path, None)
            .and_then(|directory| directory.descriptor().try_clone())
            .and_then(|directory| metadata::revert(&File::from(directory), before));
        match revert {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(failed("undo"))?,
        }
        report.items += 1;
    }
    Ok(())
}

fn undo_item(
    journal: &Journal,
    number: usize,
    item: &RestoreItem,
    swapped: bool,
) -> io::Result<()> {
    let plan = journal.plan();
    let (directory, name) = open_parent(item)?;
    let (new, old) = (plan.new_name(number), plan.old_name(number));
    let (new, old) = (OsStr::new(&new), OsStr::new(&old));
    let drop_companions = || -> io::Result<()> {
        // What the restored server wrote beside its file belongs to that file only.
        for companion in &item.companions {
            directory.unlink(companion.file_name().unwrap_or_default())?;
        }
        Ok(())
    };
    if directory.has(old)? {
        if !directory.has(new)? {
            drop_companions()?;
        }
        directory.rename(old, name)?;
        // Two names of one file stay two when one is renamed to the other.
        directory.unlink(old)?;
    } else if swapped && item.replaces.is_none() && !directory.has(new)? && directory.has(name)? {
        drop_companions()?;
        directory.unlink(name)?;
    }
    directory.unlink(new)?;
    for (place, companion) in item.companions.iter().enumerate() {
        let aside = plan.companion_name(number, place);
        if directory.has(aside.as_ref())? {
            directory.rename(aside.as_ref(), companion.file_name().unwrap_or_default())?;
        }
    }
    directory.sync()
}

/// Deletes what was kept.
pub(super) fn delete_old(
    journal: &mut Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan().clone();
    for (number, item) in plan.items.iter().enumerate() {
        if item.kind == StreamKind::Directory {
            continue;
        }
        let failed = |operation| RestoreError::io(operation, &item.path);
        (context.before_step)("delete what was replaced by").map_err(failed("sign off"))?;
        let (directory, _) = open_parent(item).map_err(failed("open the directory of"))?;
        let old = plan.old_name(number);
        let time = directory.modified().map_err(failed("look at"))?;
        let time = journal.modified_before(parent(&item.path), time)?;
        if directory
            .unlink(old.as_ref())
            .map_err(failed("delete what was replaced by"))?
        {
            report.items += 1;
        }
        for place in 0..item.companions.len() {
            let aside = plan.companion_name(number, place);
            directory
                .unlink(aside.as_ref())
                .map_err(failed("delete what was replaced by"))?;
        }
        (context.before_step)("set the time of the directory of").map_err(failed("sign off"))?;
        // That a name of ours goes is no change of the directory; where it is another user's, its time stays new.
        match metadata::set_time(directory.descriptor(), time) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result.map_err(failed("set the time of the directory of"))?,
        }
    }
    Ok(())
}

fn open_parent(item: &RestoreItem) -> io::Result<(Directory, &OsStr)> {
    let directory = Directory::open(&item.root, parent(&item.path), None)?;
    let name = item.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((directory, name))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
