//! Objects of tokens: each is rehearsed before anything is put in place, then made where it is missing, then proved.
//!
//! The plan says what was there before: only the rest is made. The journal says what of it this restore has made, or has begun to
//! make: only that is undone. How far an interrupted restore came is asked of the token.

use std::path::Path;

use zeroize::Zeroizing;

use super::journal::Journal;
use super::{RestoreContext, RestoreError, RestoreReport, each_part, find_asset, spool};
use crate::execute::Event;
use crate::format::envelope::Status;
use crate::plan::restore::{RestoreObject, RestorePlan, RestoreToken};
use crate::repository::reader::BackupReader;
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

/// Opens the very token that the plan was made for: what is in another one is none of ours.
fn open(
    wanted: &RestoreToken,
    plan: &RestorePlan,
    context: &RestoreContext<'_>,
) -> Result<Box<dyn Token>, RestoreError> {
    let failed = || failed(wanted, "open", "the token");
    let token = (context.tokens)(&wanted.asset, &wanted.source, &plan.options).map_err(failed())?;
    let found = token.name().map_err(failed())?;
    if found == wanted.token {
        return Ok(token);
    }
    Err(RestoreError::OtherToken {
        asset: wanted.asset.clone(),
        planned: wanted.token.clone(),
        found,
    })
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
        let token = open(wanted, journal.plan(), context)?;
        let spool = journal.directory();
        let begin = |what| Event::Begin {
            name: &wanted.asset,
            what,
            size_bytes: None,
        };
        context.observer.event(begin("rehearse"));
        contents(spool, wanted, backups, context, &mut |number, content| {
            let object = &wanted.objects[number];
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
    journal: &mut Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let (plan, spool) = (journal.plan().clone(), journal.directory().to_owned());
    for (token_number, wanted) in plan.tokens.iter().enumerate() {
        let token = open(wanted, &plan, context)?;
        contents(&spool, wanted, backups, context, &mut |number, content| {
            let object = &wanted.objects[number];
            let failed = |operation| failed(wanted, operation, &object.object.what);
            if !journal.made().contains(&(token_number, number)) {
                if token.has(&object.object).map_err(failed("look for"))? {
                    report.notes.push(format!(
                        "asset {}: {} has come into the token since the plan was made, and is left as it is",
                        wanted.asset, object.object.what
                    ));
                    return Ok(());
                }
                step(context, "begin to make", object)?;
                journal.note_making(token_number, number)?;
            }
            step(context, "put into the token", object)?;
            let put = token.put(&object.object, content);
            put.map_err(failed("put into the token"))?;
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
        let (_, _, captured) = find_asset(backups, &wanted.asset)?;
        if captured.status == Status::Complete {
            return Err(RestoreError::NotProved {
                asset: wanted.asset.clone(),
                failures: proof.failures,
            });
        }
        report.problems.extend(proof.failures.into_iter().map(told));
    }
    Ok(())
}

/// Takes out again what was put into the tokens, last object first; what was there before stays. A token that is not there keeps no
/// other one from being emptied.
pub(super) fn undo(
    journal: &mut Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan().clone();
    let mut failure = None;
    for (number, wanted) in plan.tokens.iter().enumerate().rev() {
        let of_this = journal.made().range((number, 0)..(number + 1, 0));
        let made: Vec<usize> = of_this.map(|(_, object)| *object).rev().collect();
        if made.is_empty() {
            continue;
        }
        let token = open(wanted, &plan, context);
        let taken = token.and_then(|token| {
            made.into_iter().try_for_each(|object| {
                take_out(&*token, wanted, &wanted.objects[object], context, report)?;
                journal.note_taken_out(number, object)
            })
        });
        match taken {
            Err(RestoreError::Interrupted(error)) => return Err(error.into()),
            Err(error) => failure = failure.or(Some(error)),
            Ok(()) => {}
        }
    }
    match failure {
        Some(source) => Err(RestoreError::LeftInToken {
            objects: made(journal),
            source: Box::new(source),
        }),
        None => Ok(()),
    }
}

fn take_out(
    token: &dyn Token,
    wanted: &RestoreToken,
    object: &RestoreObject,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let failed = |operation| failed(wanted, operation, &object.object.what);
    step(context, "take out of the token", object)?;
    if !token.has(&object.object).map_err(failed("look for"))? {
        report.notes.push(format!(
            "asset {}: {} is not in the token",
            wanted.asset, object.object.what
        ));
    }
    // Also of one that was never whole something may be left.
    let removed = token.remove(&object.object);
    removed.map_err(failed("take out of the token"))?;
    report.items += 1;
    Ok(())
}

/// What this restore has made in tokens, in words.
pub(super) fn made(journal: &Journal) -> Vec<String> {
    let tokens = &journal.plan().tokens;
    let words = |(token, object): &(usize, usize)| {
        let token = &tokens[*token];
        let what = &token.objects[*object].object.what;
        format!("{what} of asset {}, {}", token.asset, token.token)
    };
    journal.made().iter().map(words).collect()
}

/// Takes the number of an object, and its content.
type TakeContent<'t> = &'t mut dyn FnMut(usize, &[u8]) -> Result<(), RestoreError>;

/// Hands the content of every object that the plan makes to `take`, proved, from memory that is wiped.
fn contents(
    spool: &Path,
    wanted: &RestoreToken,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    take: TakeContent<'_>,
) -> Result<(), RestoreError> {
    let find = |path: &Path| {
        let mut objects = wanted.objects.iter();
        objects.position(|object| !object.is_there && object.object.stream == path)
    };
    let (backup, ..) = find_asset(backups, &wanted.asset)?;
    each_part(backup, &wanted.asset, &mut |stream, runs, packs| {
        let Some(number) = find(&stream.path) else {
            return Ok(true);
        };
        let object = &wanted.objects[number];
        let path = spool.join("object");
        let spooled = spool::fetch(backup, (&stream, &runs, packs), &path, context)?;
        // Allocated in one piece: a vector that grows would leave copies behind.
        let capacity = usize::try_from(object.size_bytes).unwrap_or_default();
        let mut content = Zeroizing::new(Vec::with_capacity(capacity));
        let copied = spooled.copy(&mut *content, context.cancel);
        copied.map_err(failed(wanted, "read", &object.object.what))?;
        take(number, &content)?;
        Ok(true)
    })
}
