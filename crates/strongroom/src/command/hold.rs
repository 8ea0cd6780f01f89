//! `strongroom hold`: keeps a backup from expiring, shows what is held, and lets go again.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;
use strongroom_core::format::hold::REASON_MAX;
use strongroom_core::repository::{Repository, StoredEnvelope};
use strongroom_core::storage::Put;

use crate::command::backup::TOOL;
use crate::failure::{Exit, Failure};
use crate::report::{Report, table, when};
use crate::runs::{Run, Runs};
use crate::session::{Role, Session, Surroundings};

/// Arguments of `hold`.
#[derive(Args)]
pub(crate) struct HoldArgs {
    /// The backup to hold
    #[arg(required_unless_present = "list")]
    label: Option<String>,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT", required_unless_present = "list")]
    reason: Option<String>,
    /// Take the hold away, with the credentials of [repository.NAME.expirer]
    #[arg(long)]
    release: bool,
    /// Show all holds
    #[arg(long, conflicts_with_all = ["label", "reason", "release"])]
    list: bool,
}

pub(crate) fn run(args: &HoldArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let mut repositories = session.repositories()?;
    let (copies, failures) = session.expiring_copies();
    for failure in &failures {
        around.report.failed_part(failure);
    }
    let reached = failures.first().map_or(Exit::Done, |_| Exit::Problems);
    if args.list {
        repositories.extend(copies);
        return Ok(reached.and(list(&session, &repositories)?));
    }
    let reason = args.reason.as_deref().unwrap_or_default().trim();
    if reason.is_empty() || reason.len() > REASON_MAX {
        let message = format!("the reason is empty or longer than {REASON_MAX} bytes");
        return Err(Failure::usage(message));
    }
    let label = args.label.as_deref().unwrap_or_default();
    if args.release {
        repositories.extend(copies);
        return Ok(reached.and(release(&session, &repositories, label, reason)?));
    }
    // A copy that lets backups go by a rule of its own may have one longer than its original, or lose it sooner.
    let runs = Runs::read(&session, &repositories)?;
    let in_copies = Runs::read(&session, &copies)?;
    let here = runs.find(label, &[]);
    let label = here.as_ref().map_or(label, |run| run.label.as_str());
    let there = in_copies.find(label, &[]);
    let held: BTreeMap<String, &StoredEnvelope> = [&here, &there]
        .into_iter()
        .flatten()
        .flat_map(|run| &run.envelopes)
        .map(|(name, stored)| (name.clone(), stored))
        .collect();
    let run = here.or_else(|failure| there.map_err(|_| failure))?;
    repositories.extend(copies);
    Ok(reached.and(place(&session, &repositories, (run, &held), reason)?))
}

fn list(
    session: &Session<'_>,
    repositories: &BTreeMap<String, Repository>,
) -> Result<Exit, Failure> {
    let report = &session.around.report;
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    let mut exit = Exit::Done;
    for (name, repository) in repositories {
        for held in repository.holds()? {
            let placed = held.hold.as_ref().ok().map(|hold| hold.placed);
            if let Err(problem) = &held.hold {
                report.problem(format!(
                    "repository {name}: {problem}; the backup is held all the same"
                ));
                exit = Exit::Problems;
            }
            rows.push(vec![
                held.label.to_string(),
                name.clone(),
                placed.map_or("?".to_owned(), when),
                held.reason().to_owned(),
            ]);
            documents.push(json!({
                "label": held.label, "repository": name, "placed": placed, "reason": held.reason(),
            }));
        }
    }
    if rows.is_empty() {
        report.answer("No backup is held.");
    } else {
        report.answer(table(&["label", "repository", "placed", "reason"], rows));
    }
    report.document(json!({ "holds": documents }));
    Ok(exit)
}

fn place(
    session: &Session<'_>,
    repositories: &BTreeMap<String, Repository>,
    (run, envelopes): (&Run, &BTreeMap<String, &StoredEnvelope>),
    reason: &str,
) -> Result<Exit, Failure> {
    let report = &session.around.report;
    let key = session.writer_key()?;
    let mut exit = Exit::Done;
    let mut held = Vec::new();
    for (name, stored) in envelopes {
        let repository = &repositories[name];
        let clock = &session.around.clock;
        let put = repository
            .place_hold(&run.label, reason, TOOL, &key, clock)
            .map_err(|error| Failure::from(error).context(format_args!("repository {name}")))?;
        if put == Put::AlreadyThere {
            report.note(format!(
                "{} is held in {name} already; the reason there stays",
                run.label
            ));
        }
        if let Some(problem) = too_late(repository, stored)? {
            report.problem(format!("repository {name}: {problem}"));
            exit = Exit::Problems;
        }
        held.push(name.clone());
    }
    report.line(format!("{} is held in {}.", run.label, held.join(", ")));
    report.document(json!({ "label": run.label, "held": held, "reason": reason }));
    Ok(exit)
}

/// Whether somebody deletes the backup right now.
fn too_late(repository: &Repository, stored: &StoredEnvelope) -> Result<Option<String>, Failure> {
    let envelope = &stored.envelope;
    if repository.storage().stat(&envelope.name())?.is_none() {
        return Ok(Some(format!(
            "{} has just expired; the hold came too late",
            envelope.label
        )));
    }
    let recorded = repository.expiry_records()?.ranges();
    Ok(recorded.covers(envelope.writer, envelope.sequence).then(|| {
        format!(
            "{} is on record to expire; unless `expire --apply` is deleting it at this moment, the hold keeps it: look \
             again with `strongroom list`",
            envelope.label
        )
    }))
}

fn release(
    session: &Session<'_>,
    repositories: &BTreeMap<String, Repository>,
    label: &str,
    reason: &str,
) -> Result<Exit, Failure> {
    let report: &Report = &session.around.report;
    let mut released = Vec::new();
    for (name, repository) in repositories {
        let holds = repository.holds()?;
        let Some(held) = holds.iter().find(|held| held.label.as_str() == label) else {
            continue;
        };
        let config = session.any_repository(name)?;
        let expirer = session.repository_as(config, Role::Expirer)?;
        expirer
            .release_hold(&held.label)
            .map_err(|error| Failure::from(error).context(format_args!("repository {name}")))?;
        report.line(format!(
            "{label} is no longer held in {name}: {reason}. It was held for: {}",
            held.reason()
        ));
        released.push(name.clone());
    }
    if released.is_empty() {
        let message = format!("no hold is on a backup {label:?}");
        return Err(Failure::new(Exit::Refused, "no-such-hold", message)
            .hint("`strongroom hold --list` shows the holds."));
    }
    report.document(json!({ "label": label, "released": released, "reason": reason }));
    Ok(Exit::Done)
}
