//! `strongroom list`: the backups, from the clear envelopes alone.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;
use strongroom_core::format::Label;
use strongroom_core::format::envelope::{Scope, Status};
use strongroom_core::repository::state::Verified;

use crate::cli::ReadOptions;
use crate::failure::{Exit, Failure};
use crate::report::{bytes, table, when};
use crate::runs::{Run, Runs};
use crate::session::{Role, Session, Surroundings};

/// Arguments of `list`.
#[derive(Args, Default)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    read: ReadOptions,
}

pub(crate) fn run(args: &ListArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session_reading(&args.read)?;
    let (repositories, failures) = session.reachable_repositories(Role::Writer);
    let runs = Runs::read(&session, &repositories)?;
    let verified = verified(&session)?;
    let report = &around.report;
    if runs.all.is_empty() && failures.is_empty() {
        report.answer("There is no backup yet.");
    } else if !runs.all.is_empty() {
        let rows = runs.all.iter().map(|run| row(run, &verified)).collect();
        let headings = [
            "label",
            "taken",
            "status",
            "assets",
            ">size",
            "repositories",
            "verified",
        ];
        report.answer(table(&headings, rows));
    }
    for problem in &runs.problems {
        report.problem(problem);
    }
    for failure in &failures {
        report.failed_part(failure);
    }
    let backups: Vec<_> = runs
        .all
        .iter()
        .map(|run| document(run, &verified))
        .collect();
    let unreachable: Vec<_> = failures.iter().map(|failure| &failure.message).collect();
    report.document(json!({
        "backups": backups, "problems": runs.problems, "unreachable": unreachable,
    }));
    Ok(match failures.first() {
        Some(failure) => failure.exit,
        None if runs.problems.is_empty() => Exit::Done,
        None => Exit::Problems,
    })
}

/// The lowest level at which all repositories' parts of each backup were verified on this host.
fn verified(session: &Session<'_>) -> Result<BTreeMap<String, BTreeMap<Label, Verified>>, Failure> {
    let names = session.config.repositories.keys();
    names
        .map(|name| Ok((name.clone(), session.state(name).verified()?)))
        .collect()
}

fn level(run: &Run, verified: &BTreeMap<String, BTreeMap<Label, Verified>>) -> Option<Verified> {
    let levels: Option<Vec<&Verified>> = run
        .envelopes
        .keys()
        .map(|name| verified.get(name).and_then(|levels| levels.get(&run.label)))
        .collect();
    levels?
        .into_iter()
        .min_by_key(|verified| (verified.level.clone(), verified.time))
        .cloned()
}

fn status(run: &Run) -> &'static str {
    if run.is_undecided() {
        return "unknown";
    }
    match (run.status(), run.any().scope) {
        (Status::Incomplete, _) => "INCOMPLETE",
        (Status::Complete, Scope::All) => "complete",
        (Status::Complete, Scope::Partial) => "partial",
    }
}

fn row(run: &Run, verified: &BTreeMap<String, BTreeMap<Label, Verified>>) -> Vec<String> {
    let assets: usize = run
        .envelopes
        .values()
        .map(|stored| stored.envelope.assets.len())
        .sum();
    let mut places: Vec<String> = run.envelopes.keys().cloned().collect();
    let missing = run.known_missing();
    places.extend(missing.iter().map(|name| format!("{name} MISSING")));
    places.extend(run.unread.iter().map(|name| format!("{name} not read")));
    places.extend(run.expired.iter().map(|name| format!("{name} expired")));
    let badge = level(run, verified).map_or("never".to_owned(), |verified| {
        format!("{} {}", verified.level, verified.time.strftime("%F"))
    });
    vec![
        run.label.to_string(),
        when(run.any().started),
        status(run).to_owned(),
        assets.to_string(),
        bytes(run.size_bytes()),
        places.join(", "),
        badge,
    ]
}

fn document(
    run: &Run,
    verified: &BTreeMap<String, BTreeMap<Label, Verified>>,
) -> serde_json::Value {
    let any = run.any();
    let assets = run.envelopes.iter().flat_map(|(name, stored)| {
        stored.envelope.assets.iter().map(move |asset| {
            json!({
                "name": asset.name, "class": asset.class, "repository": name,
                "status": asset.status, "size_bytes": asset.size_bytes,
            })
        })
    });
    json!({
        "label": run.label,
        "run": run.number,
        "started": any.started,
        "finished": any.finished,
        "scope": any.scope,
        "status": if run.is_undecided() { "unknown" } else { run.status().as_str() },
        "repositories": run.envelopes.keys().collect::<Vec<_>>(),
        "missing_repositories": run.known_missing(),
        "unread_repositories": run.unread,
        "expired_repositories": run.expired,
        "size_bytes": run.size_bytes(),
        "assets": assets.collect::<Vec<_>>(),
        "verified": level(run, verified),
    })
}
