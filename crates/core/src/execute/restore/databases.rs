//! Databases on servers: loaded under a new name, proved there, swapped in by names, kept until the sign-off.
//!
//! How far an interrupted restore came is asked of the server, by the names that exist.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use super::journal::Journal;
use super::{RestoreContext, RestoreError, RestoreReport, each_part, find_asset, spool};
use crate::execute::{Event, Stopwatch};
use crate::format::Digest;
use crate::format::envelope::Status;
use crate::format::manifest::{AssetResult, Run, Stream};
use crate::plan::restore::{RestoreDatabase, RestorePlan};
use crate::private_file;
use crate::repository::reader::BackupReader;
use crate::source::CaptureError;
use crate::source::server::{
    DatabaseLoad, DatabaseServer, LoadJob, LoadedDatabase, SwapNames, database_of,
};

/// A server, opened for one database of the plan.
struct Opened<'p> {
    database: &'p RestoreDatabase,
    server: Box<dyn DatabaseServer>,
    new: String,
    old: String,
    keep: PathBuf,
}

impl Opened<'_> {
    fn names(&self) -> SwapNames<'_> {
        SwapNames {
            live: &self.database.name,
            new: &self.new,
            old: &self.old,
            replaces: self.database.replaces.is_some(),
            keep: &self.keep,
        }
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(CaptureError) -> RestoreError {
        failed(self.database, operation)
    }
}

fn failed(
    database: &RestoreDatabase,
    operation: &'static str,
) -> impl FnOnce(CaptureError) -> RestoreError + use<> {
    let (asset, database) = (database.asset.clone(), database.name.clone());
    move |source| match source {
        CaptureError::Interrupted(error) => error.into(),
        source => RestoreError::Database {
            operation,
            asset,
            database,
            source: Box::new(source),
        },
    }
}

fn open<'p>(
    plan: &'p RestorePlan,
    number: usize,
    journal: &Journal,
    context: &RestoreContext<'_>,
) -> Result<Opened<'p>, RestoreError> {
    let database = &plan.databases[number];
    let server = (context.servers)(&database.asset, &database.source, &plan.options)
        .map_err(failed(database, "reach the server of"))?;
    let keep = journal.directory().join(format!("database-{number}"));
    private_file::create_dir_all(&keep).map_err(RestoreError::io("create", &keep))?;
    Ok(Opened {
        database,
        server,
        new: plan.new_database(number),
        old: plan.old_database(number),
        keep,
    })
}

fn step(
    context: &RestoreContext<'_>,
    what: &'static str,
    database: &RestoreDatabase,
) -> Result<(), RestoreError> {
    context.cancel.check()?;
    (context.before_step)(what).map_err(RestoreError::io(what, Path::new(&database.name)))
}

/// Loads and proves every database of the plan that is not yet.
pub(super) fn load(
    journal: &mut Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan().clone();
    for (number, database) in plan.databases.iter().enumerate() {
        if journal.is_loaded(number) {
            continue;
        }
        step(context, "load", database)?;
        let (backup, asset, result) = find_asset(backups, &database.asset)?;
        let opened = open(&plan, number, journal, context)?;
        context.observer.event(Event::Begin {
            name: &database.name,
            what: "load",
            size_bytes: Some(database.size_bytes),
        });
        let loaded = LoadedDatabase {
            original: &database.original,
            settings: &asset.settings,
            facts: &result.facts,
            options: &plan.options,
            cancel: context.cancel,
        };
        let watch = Stopwatch::start();
        let scratch = opened.keep.join("scratch");
        spool::empty(&scratch)?;
        let load = opened
            .server
            .begin_load(LoadJob {
                name: &opened.new,
                database: loaded,
                scratch: &scratch,
                keep: &opened.keep,
            })
            .map_err(opened.failed("create"))?;
        stream(backup, &opened, load.as_ref(), &scratch, context, report)?;
        step(context, "finish the load of", database)?;
        let notes = load.finish().map_err(opened.failed("finish the load of"))?;
        report.notes.extend(
            notes
                .into_iter()
                .map(|note| format!("database {}: {note}", database.name)),
        );
        spool::remove(&scratch)?;
        context.observer.event(Event::End {
            name: &database.name,
        });
        let timed = |what, watch: &Stopwatch| {
            (
                format!("database {}: {what}", database.name),
                watch.seconds(),
            )
        };
        report.timings.push(timed("loaded", &watch));
        step(context, "prove", database)?;
        let watch = Stopwatch::start();
        prove(&opened, &loaded, &result, context, report)?;
        report.timings.push(timed("compared", &watch));
        journal.note_loaded(number)?;
    }
    Ok(())
}

/// How many runs wait, at most, to be put in order: about 50 MB.
const WAITING_RUNS: usize = 2_000_000;

/// A stream on its way to a worker, with the packs that its runs need and no others.
struct Work {
    stream: Stream,
    runs: Vec<Run>,
    packs: Vec<Digest>,
}

/// Counts what is at work, so that a stream can wait until it is alone.
#[derive(Default)]
struct AtWork {
    count: Mutex<usize>,
    changed: Condvar,
}

impl AtWork {
    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Counts one less when it is dropped, also by a panic.
    fn done_when_dropped(&self) -> Done<'_> {
        Done(self)
    }

    fn wait_until_none(&self) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self
                .changed
                .wait(count)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Done<'w>(&'w AtWork);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let count = self.0.count.lock();
        *count.unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.changed.notify_all();
    }
}

/// Hands the streams of a database to its load, those that may be in parallel.
fn stream(
    backup: &BackupReader<'_>,
    opened: &Opened<'_>,
    load: &dyn DatabaseLoad,
    scratch: &Path,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let at_work = AtWork::default();
    let failure: Mutex<Option<RestoreError>> = Mutex::new(None);
    // A row may need rows of another table (a check that reads it): what failed among others is tried again alone.
    let again: Mutex<Vec<Work>> = Mutex::default();
    let has_failed = || failure.lock().is_ok_and(|failure| failure.is_some());
    let one = |work: &Work, worker: usize| -> Result<(), RestoreError> {
        step(context, "load a stream of", opened.database)?;
        let spooled = spool::fetch(
            backup,
            (&work.stream, &work.runs, &work.packs),
            &scratch.join(format!("stream-{worker}")),
            context,
        )?;
        load.load(&work.stream, &mut |to| spooled.copy(to, context.cancel))
            .map_err(opened.failed("load"))
    };
    let (sender, receiver) = crossbeam_channel::bounded::<Work>(1);
    let result = std::thread::scope(|scope| {
        for worker in 0..load.jobs().max(1) {
            let (receiver, one, at_work) = (receiver.clone(), &one, &at_work);
            let (failure, again) = (&failure, &again);
            scope.spawn(move || {
                for work in receiver {
                    let _done = at_work.done_when_dropped();
                    match one(&work, worker) {
                        Ok(()) => {}
                        Err(RestoreError::Database { .. }) => {
                            again
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(work);
                        }
                        Err(error) => {
                            let mut failure =
                                failure.lock().unwrap_or_else(PoisonError::into_inner);
                            failure.get_or_insert(error);
                        }
                    }
                }
            });
        }
        drop(receiver);
        let (mut waiting, mut waiting_runs) = (Vec::new(), 0);
        // The largest first, so that nobody is alone with it at the end.
        let send = |waiting: &mut Vec<Work>| {
            waiting.sort_by_key(|work: &Work| Reverse(work.stream.size));
            for work in waiting.drain(..) {
                at_work.add();
                if sender.send(work).is_err() {
                    // All workers have panicked; the scope passes that on.
                    drop(at_work.done_when_dropped());
                }
            }
        };
        let mut take = |work: Work| -> Result<bool, RestoreError> {
            report.bytes += work.stream.size.unwrap_or(0);
            if load.is_alone(&work.stream) {
                send(&mut waiting);
                at_work.wait_until_none();
                one(&work, load.jobs())?;
            } else {
                waiting_runs += work.runs.len() + 64;
                waiting.push(work);
                if waiting_runs > WAITING_RUNS {
                    send(&mut waiting);
                    waiting_runs = 0;
                }
            }
            Ok(!has_failed())
        };
        let fed = wanted(backup, opened.database, load, &mut take);
        if fed.is_ok() {
            send(&mut waiting);
        }
        drop(sender);
        fed
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    result?;
    let again = again.into_inner().unwrap_or_else(PoisonError::into_inner);
    again.iter().try_for_each(|work| one(work, load.jobs()))
}

/// Goes through the streams of a database that its load wants, until `take` says no.
fn wanted(
    backup: &BackupReader<'_>,
    database: &RestoreDatabase,
    load: &dyn DatabaseLoad,
    take: &mut dyn FnMut(Work) -> Result<bool, RestoreError>,
) -> Result<(), RestoreError> {
    each_part(backup, &database.asset, &mut |stream, runs, packs| {
        let is_wanted =
            database_of(&stream.path).as_ref() == Some(&database.original) && load.wants(&stream);
        if is_wanted {
            take(compact(stream, runs, packs))
        } else {
            Ok(true)
        }
    })
}

/// Numbers the packs of one stream anew, so that it does not need those of all others.
fn compact(stream: Stream, mut runs: Vec<Run>, all: &[Digest]) -> Work {
    let mut numbers = std::collections::HashMap::new();
    let mut packs = Vec::new();
    for run in &mut runs {
        if let Some(index) = run.pack_index()
            && let Some(pack) = all.get(index)
        {
            let number = *numbers.entry(run.pack).or_insert_with(|| {
                packs.push(*pack);
                packs.len() - 1
            });
            run.pack = i32::try_from(number).expect("no more than all packs");
        }
    }
    Work {
        stream,
        runs,
        packs,
    }
}

/// Compares what the server holds now with the facts; what an incomplete asset fails is a problem, what a complete one fails an error.
fn prove(
    opened: &Opened<'_>,
    loaded: &LoadedDatabase<'_>,
    result: &AssetResult,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let database = opened.database;
    context.observer.event(Event::Begin {
        name: &database.name,
        what: "compare",
        size_bytes: None,
    });
    let proof = opened
        .server
        .prove(&opened.new, loaded)
        .map_err(opened.failed("compare"))?;
    context.observer.event(Event::End {
        name: &database.name,
    });
    let shown = report.shown.entry(database.asset.clone()).or_default();
    let named = |line: String| format!("database {}: {line}", database.name);
    shown.extend(proof.shown.into_iter().map(named));
    report.notes.extend(proof.notes.into_iter().map(named));
    if proof.failures.is_empty() {
        return Ok(());
    }
    let failures: Vec<_> = proof.failures.into_iter().map(named).collect();
    if result.status == Status::Incomplete {
        report.problems.extend(failures);
        return Ok(());
    }
    Err(RestoreError::NotProved {
        asset: database.asset.clone(),
        failures,
    })
}

/// The databases that are live now and were not when the plan was made, in words.
pub(super) fn appeared(
    journal: &Journal,
    context: &RestoreContext<'_>,
) -> Result<Vec<String>, RestoreError> {
    let plan = journal.plan();
    let mut appeared = Vec::new();
    for (number, database) in plan.databases.iter().enumerate() {
        if database.replaces.is_some() {
            continue;
        }
        let opened = open(plan, number, journal, context)?;
        let has = opened.server.has(&database.name);
        if has.map_err(opened.failed("look at"))? {
            appeared.push(format!(
                "database {:?} at {}",
                database.name, database.server
            ));
        }
    }
    Ok(appeared)
}

/// Swaps every database in; repeated after an interruption, it goes on where it stopped.
pub(super) fn swap(
    journal: &Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan();
    for (number, database) in plan.databases.iter().enumerate() {
        let opened = open(plan, number, journal, context)?;
        if opened
            .server
            .has(&opened.new)
            .map_err(opened.failed("look at"))?
        {
            step(context, "swap", database)?;
            let swapped = opened.server.swap_in(&opened.names());
            swapped.map_err(opened.failed("put in place"))?;
        }
        report.items += 1;
    }
    Ok(())
}

/// Puts everything back, last database first.
pub(super) fn undo(
    journal: &mut Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan().clone();
    for (number, database) in plan.databases.iter().enumerate().rev() {
        step(context, "undo", database)?;
        let opened = open(&plan, number, journal, context)?;
        let has = |name: &str| opened.server.has(name).map_err(opened.failed("look at"));
        if has(&opened.old)? {
            let back = opened.server.swap_back(&opened.names());
            back.map_err(opened.failed("put back"))?;
        } else if journal.swap_begun()
            && database.replaces.is_none()
            && !has(&opened.new)?
            && !journal.is_database_undone(number)
        {
            // There was none before: what is live is what was restored.
            let dropped = opened.server.drop_database(&database.name);
            dropped.map_err(opened.failed("drop"))?;
        }
        // Before `new` goes: without it, what is live would look like what was restored to an undo that goes on.
        journal.note_database_undone(number)?;
        step(context, "drop the restored", database)?;
        let dropped = opened.server.drop_database(&opened.new);
        dropped.map_err(opened.failed("drop what was restored of"))?;
        report.items += 1;
    }
    Ok(())
}

/// Drops what was kept.
pub(super) fn drop_old(
    journal: &Journal,
    context: &RestoreContext<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let plan = journal.plan();
    for (number, database) in plan.databases.iter().enumerate() {
        step(context, "drop what was replaced by", database)?;
        let opened = open(plan, number, journal, context)?;
        let is_there = opened
            .server
            .has(&opened.old)
            .map_err(opened.failed("look at"))?;
        if is_there {
            let dropped = opened.server.drop_database(&opened.old);
            dropped.map_err(opened.failed("drop what was replaced by"))?;
            report.items += 1;
        }
    }
    Ok(())
}
