//! `strongroom copy`: brings copies of repositories up to date, sealed objects verbatim, without any identity.

use clap::Args;
use serde_json::json;
use strongroom_core::execute::copy::{CopyJob, CopyReport, copy};
use strongroom_core::format::name::ObjectName;
use strongroom_core::repository::Repository;
use strongroom_core::repository::state::Head;

use crate::config::RepositoryConfig;
use crate::failure::{Exit, Failure};
use crate::report::{Progress, Report, bytes, duration, rate, when};
use crate::session::{Role, Session, Surroundings};

/// Arguments of `copy`.
#[derive(Args, Default)]
pub(crate) struct CopyArgs {
    /// The repository to copy, or another copy of it; the original if none is named
    #[arg(long, value_name = "NAME", requires = "to")]
    from: Option<String>,
    /// The copy to bring up to date; every copy of the configuration if none is named
    #[arg(long, value_name = "COPY")]
    to: Option<String>,
    /// Fill a copy that is empty now and was not before
    #[arg(long, requires = "to")]
    begin_again: bool,
}

/// One copy to be made.
struct Pair<'c> {
    from: &'c RepositoryConfig,
    to: &'c RepositoryConfig,
}

pub(crate) fn run(args: &CopyArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let pairs = pairs(args, &session)?;
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for pair in &pairs {
        match copy_one(args, &session, pair) {
            Ok(report) => {
                print(&around.report, pair, &report);
                documents.push(document(pair, &report));
                if !is_whole(&report) {
                    exit = exit.and(Exit::Problems);
                }
            }
            Err(failure) if pairs.len() == 1 || failure.exit == Exit::Interrupted => {
                return Err(failure);
            }
            Err(failure) => {
                around.report.failed_part(&failure);
                documents.push(json!({
                    "from": pair.from.name, "to": pair.to.name, "failed": failure.message,
                }));
                exit = exit.and(Exit::Problems);
            }
        }
    }
    around.report.document(json!({ "copies": documents }));
    Ok(exit)
}

fn pairs<'c>(args: &CopyArgs, session: &'c Session<'_>) -> Result<Vec<Pair<'c>>, Failure> {
    let config = &session.config;
    let original = |copy: &RepositoryConfig| &config.repositories[copy.document_name()];
    let Some(to) = &args.to else {
        let all = config.copies.values();
        let pairs: Vec<Pair<'_>> = all
            .map(|to| Pair {
                from: original(to),
                to,
            })
            .collect();
        if pairs.is_empty() {
            return Err(Failure::usage("the configuration has no copy").hint(
                "Declare one: a table [repository.NAME] with copy_of = \"...\" and a url on another storage.",
            ));
        }
        return Ok(pairs);
    };
    if config.repositories.contains_key(to) {
        let message = format!("{to:?} is no copy, backups are written to it");
        return Err(Failure::usage(message).hint(format!(
            "What it has lost is brought back by `strongroom repair --from COPY --to {to}`."
        )));
    }
    let to = session.copy(to)?;
    let from = match &args.from {
        Some(from) => session.any_repository(from)?,
        None => original(to),
    };
    if from.document_name() != to.document_name() || from.name == to.name {
        let message = format!(
            "{:?} is a copy of {:?}, it cannot be made of {:?}",
            to.name,
            to.document_name(),
            from.name
        );
        return Err(Failure::usage(message));
    }
    Ok(vec![Pair { from, to }])
}

fn copy_one(
    args: &CopyArgs,
    session: &Session<'_>,
    pair: &Pair<'_>,
) -> Result<CopyReport, Failure> {
    let Pair { from, to } = pair;
    let repository = session.repository(from)?;
    let storage = session.storage(to, Role::Writer).map_err(|failure| {
        if failure.exit == Exit::NoRepository {
            failure.hint("Is it mounted? The place of a new copy is made by `strongroom init`.")
        } else {
            failure
        }
    })?;
    let in_copy = |failure: Failure| failure.context(format_args!("copy {}", to.name));
    let state = session.state(&to.name);
    let known = state.head(repository.document().repository)?;
    if let (Some(head), false) = (&known, args.begin_again) {
        let first = storage.stat(&ObjectName::repository(1));
        if first.map_err(Failure::from).map_err(in_copy)?.is_none() {
            let message = format!(
                "copy {}: {} is empty, this host has copied up to envelope {} there",
                to.name, to.url, head.sequence
            );
            return Err(Failure::new(Exit::Refused, "copy-is-empty", message)
                .hint(format!(
                    "Is it mounted? If it is lost, or a new medium, say so: `strongroom copy --to {} --begin-again`.",
                    to.name
                )));
        }
    }
    let progress = Progress::new(&session.around.report);
    let job = CopyJob {
        from: &repository,
        to: &*storage,
        name: &to.name,
        scratch: &session.config.writer.state_dir.join("copy"),
        cancel: &session.around.cancel,
        observer: &progress,
    };
    let report = copy(&job)
        .map_err(|error| Failure::from(error).context(format_args!("copy {}", to.name)))?;
    remember(session, to, &repository, &report)?;
    Ok(report)
}

/// Remembers the newest envelope of the copy, so that it is noticed when it goes back.
fn remember(
    session: &Session<'_>,
    to: &RepositoryConfig,
    repository: &Repository,
    report: &CopyReport,
) -> Result<(), Failure> {
    let Some(newest) = &report.newest else {
        return Ok(());
    };
    let head = Head {
        repository: repository.document().repository,
        sequence: newest.envelope.sequence,
        digest: newest.digest,
        run: newest.envelope.run,
        writer: newest.envelope.writer,
        stored: newest.stored,
    };
    Ok(session.state(&to.name).save_head(&head)?)
}

fn is_whole(report: &CopyReport) -> bool {
    report.damaged.is_empty() && report.held_back.is_empty() && report.problems.is_empty()
}

fn print(to: &Report, pair: &Pair<'_>, report: &CopyReport) {
    let (from, copy) = (&pair.from.name, &pair.to.name);
    for (name, why) in &report.damaged {
        to.problem(format!(
            "{from}: object {name} is damaged and was not copied: {why}"
        ));
    }
    for label in &report.held_back {
        to.problem(format!(
            "backup {label} was not copied: something that it needs is damaged"
        ));
    }
    for problem in &report.problems {
        to.problem(format!("{from} to {copy}: {problem}"));
    }
    if !report.damaged.is_empty() {
        to.problem(format!(
            "the copy is incomplete; `strongroom verify --all --repository {from}` tells which backups are damaged, \
             `strongroom repair --from {copy} --to {from}` heals what the copy still has"
        ));
    }
    if report.let_go > 0 {
        to.line(format!(
            "{copy} has let go {} backups that {from} still has; they stay away.",
            report.let_go
        ));
    }
    if report.backups.is_empty() && report.objects == 0 {
        to.line(format!("{copy} has all of {from} that can be copied."));
    } else {
        to.line(format!(
            "Copied {from} to {copy}: {} backups, {} objects, {} in {} ({}).",
            report.backups.len(),
            report.objects,
            bytes(report.bytes),
            duration(report.seconds),
            rate(report.bytes, report.seconds),
        ));
    }
    let newest = report.newest.as_ref().map(|stored| {
        let envelope = &stored.envelope;
        format!(
            ", the newest {} of {}",
            envelope.label,
            when(envelope.started)
        )
    });
    to.line(format!(
        "{copy} has {} backups{}.",
        report.backups_there,
        newest.unwrap_or_default()
    ));
}

fn document(pair: &Pair<'_>, report: &CopyReport) -> serde_json::Value {
    let damaged = report.damaged.iter();
    json!({
        "from": pair.from.name,
        "to": pair.to.name,
        "backups": report.backups,
        "backups_there": report.backups_there,
        "newest": report.newest.as_ref().map(|stored| &stored.envelope.label),
        "objects": report.objects,
        "bytes": report.bytes,
        "seconds": report.seconds,
        "damaged": damaged
            .map(|(name, why)| json!({ "object": name.as_str(), "why": why }))
            .collect::<Vec<_>>(),
        "held_back": report.held_back,
        "let_go": report.let_go,
        "problems": report.problems,
        "complete": is_whole(report),
    })
}
