//! Objects of tokens: each is rehearsed before anything is put in place, then made where it is missing, then proved.
//!
//! The plan says what was there before: only the rest is made, and only the rest is undone. How far an interrupted restore came
//! is asked of the token.

use std::path::Path;

use zeroize::Zeroizing;

use super::journal::Journal;
use super::{RestoreContext, RestoreError, RestoreReport, spool};
use crate::execute::Event;
use crate::format::envelope::Status;
use crate::format::manifest::StreamKind;
use crate::plan::restore::{RestoreObject, RestoreToken};
use crate::repository::reader::{BackupReader, Item};
use crate::source::CaptureError;
use crate::source::token::Token;

fn failed(
    token: &RestoreToken,
    operation: &'static str,
    what: &str,
) -> impl FnOnce(CaptureError) -> RestoreError + use<> {
    let (asset, what) = (token.asset.clone(), what.to_owned());
    move |source| match source {
        CaptureError::Interrupted(error) => error.into(),
        source => RestoreError::Token {
            operation,
            asset,
            what,
            source: Box::new(source),
        },
    }
}

fn open(
    token: &RestoreToken,
    journal: &Journal,
    context: &RestoreContext<'_>,
) -> Result<Box<dyn Token>, RestoreError> {
    (context.tokens)(&token.asset, &token.source, &journal.plan().options).map_err(failed(
        token,
        "open",
        "the token",
    ))
}

fn step(
    context: &RestoreContext<'_>,
    what: &'static str,
    object: &RestoreObject,
) -> Result<(), RestoreError> {
    context.cancel.check()?;
    (context.before_step)(what).map_err(RestoreError::io(what, &object.object.stream))
}

/// Shows of every object that is to be made that it can be made.
pub(super) fn rehearse(
    journal: &Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
) -> Result<(), RestoreError> {
    for wanted in &journal.plan().tokens {
        let token = open(wanted, journal, context)?;
        let begin = |what| Event::Begin {
            name: &wanted.asset,
            what,
            size_bytes: None,
        };
        context.observer.event(begin("rehearse"));
        contents(journal, wanted, backups, context, &mut |object, content| {
            step(context, "rehearse", object)?;
            let rehearsed = token.rehearse(&object.object, content);
            rehearsed.map_err(failed(
                wanted,
                "rehearse the restore of",
                &object.object.what,
            ))
        })?;
        context.observer.event(Event::End {
            name: &wanted.asset,
        });
    }
    Ok(())
}

/// Makes every object that is not there, and proves all of them.
pub(super) fn put(
    journal: &Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    for wanted in &journal.plan().tokens {
        let token = open(wanted, journal, context)?;
        contents(journal, wanted, backups, context, &mut |object, content| {
            step(context, "put into the token", object)?;
            let put = token.put(&object.object, content);
            put.map_err(failed(wanted, "put into the token", &object.object.what))?;
            report.bytes += object.size_bytes;
            Ok(())
        })?;
        let objects: Vec<_> = wanted.objects.iter().map(|object| &object.object).collect();
        let proof = token.prove(&objects);
        let proof = proof.map_err(failed(wanted, "prove", "the objects"))?;
        let told = |line: String| format!("asset {}: {line}", wanted.asset);
        let shown = report.shown.entry(wanted.asset.clone()).or_default();
        shown.extend(proof.shown);
        report.notes.extend(proof.notes.into_iter().map(told));
        report.items += wanted.objects.len() as u64;
        report
            .problems
            .extend(wanted.missing.iter().cloned().map(told));
        if proof.failures.is_empty() {
            continue;
        }
        if is_complete(wanted, backups)? {
            return Err(RestoreError::NotProved {
                asset: wanted.asset.clone(),
                failures: proof.failures,
            });
        }
        report.problems.extend(proof.failures.into_iter().map(told));
    }
    Ok(())
}

/// Takes out again what was put into the tokens, last object first; what was there before stays.
pub(super) fn undo(
    journal: &Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    if !journal.swap_begun() {
        return Ok(());
    }
    for wanted in journal.plan().tokens.iter().rev() {
        let token = open(wanted, journal, context)?;
        let made = wanted.objects.iter().filter(|object| !object.is_there);
        for object in made.rev() {
            step(context, "take out of the token", object)?;
            let removed = token.remove(&object.object);
            removed.map_err(failed(wanted, "take out of the token", &object.object.what))?;
            report.items += 1;
        }
    }
    Ok(())
}

/// Takes an object with its content.
type TakeContent<'t> = &'t mut dyn FnMut(&RestoreObject, &[u8]) -> Result<(), RestoreError>;

/// Hands the content of every object that the plan makes to `take`, proved, from memory that is wiped.
fn contents(
    journal: &Journal,
    wanted: &RestoreToken,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    take: TakeContent<'_>,
) -> Result<(), RestoreError> {
    let find = |path: &Path| {
        let mut objects = wanted.objects.iter();
        objects.find(|object| !object.is_there && object.object.stream == path)
    };
    for backup in backups {
        let mut manifest = backup.manifest()?;
        let mut in_asset = false;
        while let Some(item) = manifest
            .next_item()
            .map_err(|error| backup.manifest_error(error))?
        {
            match item {
                Item::Asset(asset) => in_asset = asset.name == wanted.asset,
                Item::Stream(stream, runs) if in_asset && stream.kind == StreamKind::Dump => {
                    let Some(object) = find(&stream.path) else {
                        continue;
                    };
                    let path = journal.directory().join("object");
                    let parts = (&stream, runs.as_slice(), manifest.packs());
                    let spooled = spool::fetch(backup, parts, &path, context)?;
                    // Allocated in one piece: a vector that grows would leave copies behind.
                    let capacity = usize::try_from(object.size_bytes).unwrap_or_default();
                    let mut content = Zeroizing::new(Vec::with_capacity(capacity));
                    spooled.copy(&mut *content, context.cancel).map_err(failed(
                        wanted,
                        "read",
                        &object.object.what,
                    ))?;
                    take(object, &content)?;
                }
                Item::Stream(..) | Item::Result(_) => {}
            }
        }
    }
    Ok(())
}

/// Whether the asset was captured whole.
fn is_complete(wanted: &RestoreToken, backups: &[BackupReader<'_>]) -> Result<bool, RestoreError> {
    for backup in backups {
        let mut manifest = backup.manifest()?;
        while let Some(item) = manifest
            .next_item()
            .map_err(|error| backup.manifest_error(error))?
        {
            if let Item::Result(result) = item
                && result.name == wanted.asset
            {
                return Ok(result.status == Status::Complete);
            }
        }
    }
    Err(RestoreError::NotInBackup {
        asset: wanted.asset.clone(),
    })
}
