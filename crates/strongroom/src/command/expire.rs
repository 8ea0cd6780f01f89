//! `strongroom expire`: shows what retention lets go; with --apply, deletes it.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};
use strongroom_core::clock::Clock as _;
use strongroom_core::execute::expire::{ExpireJob, ExpireReport, expire, look, record};
use strongroom_core::format::writer_key::WriterKey;
use strongroom_core::plan::approval::ExpireWork;
use strongroom_core::plan::expire::{
    EpochCost, ExpireInput, ExpirePlan, ORPHAN_HOURS, RepositoryPlan, RepositorySeen, plan_expire,
};
use strongroom_core::repository::Repository;
use strongroom_core::repository::state::{DAMAGED, WriterState};

use crate::approval::{self, ApprovalOptions, Gate, Work};
use crate::cli::ReadOptions;
use crate::command::backup::TOOL;
use crate::failure::{Exit, Failure};
use crate::report::{Progress, Report, bytes, table, when};
use crate::runs::rolled_back;
use crate::session::{Role, Session, Surroundings};

/// Arguments of `expire`.
#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub(crate) struct ExpireArgs {
    /// Look at these repositories only
    #[arg(value_name = "REPOSITORY")]
    repositories: Vec<String>,
    /// Delete what the plan lets go, with the credentials of [repository.NAME.expirer]
    #[arg(long)]
    apply: bool,
    /// Only sign what goes, for `expire --apply` on a host without the writer key
    #[arg(long, conflicts_with_all = ["apply", "plan"])]
    record: bool,
    /// Envelopes that are missing are lost for good; forget them
    #[arg(long)]
    accept_missing: bool,
    /// This host's clock is right, although backups seem to come from the future or to have stopped long ago
    #[arg(long)]
    clock_is_right: bool,
    #[command(flatten)]
    approval: ApprovalOptions,
}

/// What is asked for, by arguments or by a plan that operators signed.
struct Request {
    chosen: Vec<String>,
    accept_missing: bool,
    clock_is_right: bool,
}

impl Request {
    fn new(args: &ExpireArgs, gate: &Gate) -> Result<Self, Failure> {
        let Some(approved) = gate.approved() else {
            return Ok(Self {
                chosen: args.repositories.clone(),
                accept_missing: args.accept_missing,
                clock_is_right: args.clock_is_right,
            });
        };
        if !args.repositories.is_empty() || args.accept_missing || args.clock_is_right {
            return Err(approval::contradicted());
        }
        match &approved.document.scope.work {
            Work::Expire(work) => Ok(Self {
                chosen: work.chosen.clone(),
                accept_missing: work.accept_missing,
                clock_is_right: work.clock_is_right,
            }),
            _ => Err(approved.of_another_command("expire")),
        }
    }
}

pub(crate) fn run(args: &ExpireArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let gate = Gate::find(&session, &args.approval, args.apply)?;
    let request = Request::new(args, &gate)?;
    for name in &request.chosen {
        let config = session.any_repository(name)?;
        if config.copy_of.is_some() && config.retention.is_none() {
            let message = format!("{name:?} is a copy without a retention, it keeps everything");
            return Err(Failure::usage(message).hint(format!(
                "Say what it keeps in [repository.{name}.retention]."
            )));
        }
    }
    // All of them, also for one: keys are kept for the databases in another.
    let mut repositories = session.repositories()?;
    let (copies, failures) = session.expiring_copies();
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    repositories.extend(copies);
    let plan = plan(&request, &session, &repositories)?;
    let report = &around.report;
    for (name, part) in &plan.repositories {
        print(&session, name, part)?;
    }
    for refusal in &plan.refusals {
        report.problem(format!("{}. {}", refusal.what, refusal.hint));
    }
    let changes = args.apply || args.record;
    if plan.is_refused() || plan.repositories.keys().all(|name| plan.refuses(name)) {
        report.answer("Nothing may be deleted now; the reasons are above.");
        report.document(document(&plan, &BTreeMap::new(), false));
        return Ok(Exit::Refused);
    }
    let work = ExpireWork::of(
        &plan,
        &request.chosen,
        request.accept_missing,
        request.clock_is_right,
    );
    let (read, work) = (ReadOptions::default(), Work::Expire(work));
    let mut exit = Exit::Done;
    for name in plan.repositories.keys().filter(|name| plan.refuses(name)) {
        report.problem(format!(
            "nothing may be deleted from {name} now; the others go their way"
        ));
        exit = Exit::Problems;
    }
    if !changes {
        report.line(if plan.is_empty() {
            "Nothing goes."
        } else {
            "Nothing was deleted; `strongroom expire --apply` does it."
        });
        let mut document = document(&plan, &BTreeMap::new(), false);
        if !plan.is_empty()
            && let Some(written) = gate.write(&session, &read, work)?
        {
            document["plan"] = written;
        }
        report.document(document);
        return Ok(exit);
    }
    let key = key(args, &session)?;
    if let Some(approved) = gate.approved() {
        approved.compare(&session, &read, work)?;
        approved.use_up(&session)?;
    }
    let mut done = BTreeMap::new();
    let parts = plan.repositories.iter();
    for (name, part) in parts.filter(|(name, _)| !plan.refuses(name)) {
        match apply(
            args,
            &session,
            (name, &repositories[name]),
            part,
            key.as_ref(),
        ) {
            Ok(deleted) => {
                print_deleted(report, name, &deleted, args.record);
                if !deleted.refused.is_empty() || deleted.not_recorded > 0 {
                    exit = exit.and(Exit::Problems);
                }
                done.insert(name.as_str(), deleted);
            }
            Err(failure) => {
                let failure = failure.context(format_args!("repository {name}"));
                report.failed_part(&failure);
                exit = exit.and(failure.exit);
            }
        }
    }
    let mut document = document(&plan, &done, args.apply);
    if let Some(approved) = gate.approved() {
        document["approved"] = approved.to_json();
    }
    report.document(document);
    Ok(exit)
}

/// Looks at everything and plans.
fn plan(
    request: &Request,
    session: &Session<'_>,
    repositories: &BTreeMap<String, Repository>,
) -> Result<ExpirePlan, Failure> {
    let mut seen = BTreeMap::new();
    for (name, repository) in repositories {
        let found = seen_of(session, name, repository);
        let context = |failure: Failure| failure.context(format_args!("repository {name}"));
        seen.insert(name.clone(), found.map_err(context)?);
    }
    Ok(plan_expire(&ExpireInput {
        now: session.around.clock.now(),
        time_zone: session.config.deployment.time_zone.clone(),
        clock_is_right: request.clock_is_right,
        accept_missing: request.accept_missing,
        chosen: request.chosen.iter().cloned().collect::<BTreeSet<_>>(),
        repositories: seen,
    }))
}

fn seen_of(
    session: &Session<'_>,
    name: &str,
    repository: &Repository,
) -> Result<RepositorySeen, Failure> {
    let config = session.any_repository(name)?;
    let mut seen = look(repository)?;
    let state = session.state(name);
    if let Some(head) = state.head(repository.document().repository)? {
        let envelopes = seen.backups.iter();
        let envelopes = envelopes.map(|backup| (&backup.envelope, backup.digest));
        let problems: Vec<String> = rolled_back(&head, envelopes).into_iter().collect();
        seen.other_problems += problems.len();
        seen.problems.extend(problems);
    }
    seen.retention.clone_from(&config.retention);
    // A copy goes by its own rules alone.
    let assets = session.config.assets.iter().filter(|_| !seen.is_copy);
    seen.assets = assets
        .filter_map(|asset| Some((asset.name.clone(), asset.retention.clone()?)))
        .collect();
    seen.verified = verified(&state)?;
    seen.protected_days = config.protected_days();
    Ok(seen)
}

fn verified(state: &WriterState) -> Result<BTreeMap<strongroom_core::format::Label, u8>, Failure> {
    let level = |text: &str| match text {
        DAMAGED => Some(0),
        "L1" => Some(1),
        "L2" => Some(2),
        "L3" => Some(3),
        "L4" => Some(4),
        _ => None,
    };
    let all = state.verified()?.into_iter();
    Ok(all
        .filter_map(|(label, verified)| Some((label, level(&verified.level)?)))
        .collect())
}

/// The writer key; none on a host that only deletes.
fn key(args: &ExpireArgs, session: &Session<'_>) -> Result<Option<WriterKey>, Failure> {
    match session.writer_key() {
        Ok(key) => Ok(Some(key)),
        Err(failure) if failure.code == "no-writer-key" && args.apply => {
            session.around.report.note(
                "there is no writer key here, so only what `strongroom expire --record` has signed on its host goes",
            );
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

fn apply(
    args: &ExpireArgs,
    session: &Session<'_>,
    (name, writer): (&str, &Repository),
    plan: &RepositoryPlan,
    key: Option<&WriterKey>,
) -> Result<ExpireReport, Failure> {
    let config = session.any_repository(name)?;
    let progress = Progress::new(&session.around.report);
    let expirer;
    let repository = if args.apply {
        expirer = session.repository_as(config, Role::Expirer)?;
        &expirer
    } else {
        writer
    };
    let job = ExpireJob {
        repository,
        writer,
        key,
        plan,
        tool: TOOL,
        clock: &session.around.clock,
        cancel: &session.around.cancel,
        observer: &progress,
    };
    if args.record {
        record(&job)?;
        return Ok(ExpireReport::default());
    }
    Ok(expire(&job)?)
}

fn print(session: &Session<'_>, name: &str, plan: &RepositoryPlan) -> Result<(), Failure> {
    let report = &session.around.report;
    let config = session.any_repository(name)?;
    let keeps = match &config.retention {
        Some(retention) => format!("keeps {retention}"),
        None => "has no retention and keeps everything".to_owned(),
    };
    let what = match &config.copy_of {
        Some(original) => format!("{name} (copy of {original})"),
        None => name.to_owned(),
    };
    report.heading(&format!("Repository {what} {keeps}."));
    let stays = plan.kept.iter().map(|kept| {
        let reasons: Vec<&str> = kept.reasons.iter().map(|one| one.text.as_str()).collect();
        vec![
            "stays".to_owned(),
            kept.label.to_string(),
            when(kept.started),
            reasons.join("; "),
        ]
    });
    let goes = plan.going.iter().rev().map(|going| {
        vec![
            report.paint("goes", "33"),
            going.label.to_string(),
            when(going.started),
            "no rule keeps it".to_owned(),
        ]
    });
    let rows: Vec<_> = stays.chain(goes).collect();
    if !rows.is_empty() {
        report.answer(table(&["", "label", "taken", "why"], rows));
    }
    if !plan.costs.is_empty() {
        let headings = [
            "epoch",
            "from",
            "to",
            ">stay",
            ">go",
            ">needed",
            ">unneeded",
            "kept by",
        ];
        report.line(table(&headings, plan.costs.iter().map(cost_row).collect()));
    }
    report.answer(format!(
        "{} of {} backups go, {} of objects with them.",
        plan.going.len(),
        plan.going.len() + plan.kept.len(),
        bytes(plan.freed_bytes),
    ));
    print_waiting(report, plan, config.epoch_days);
    Ok(())
}

fn print_waiting(report: &Report, plan: &RepositoryPlan, epoch_days: u32) {
    let waiting = &plan.waiting;
    for (count, why) in [
        (
            waiting.epoch_bytes,
            format!(
                "belong to the current epoch, which new backups may still use; they go when it is over, after at most \
                 {epoch_days} days (epoch_days)"
            ),
        ),
        (
            waiting.young_bytes,
            format!("are younger than {ORPHAN_HOURS} hours; a running backup may have stored them"),
        ),
        (
            waiting.protected_bytes,
            "are still protected by the storage".to_owned(),
        ),
        (
            waiting.unknown_bytes,
            "stay, because the storage does not say when they were stored".to_owned(),
        ),
    ] {
        if count > 0 {
            report.note(format!("{} that no backup needs {why}", bytes(count)));
        }
    }
}

fn cost_row(cost: &EpochCost) -> Vec<String> {
    let day = |time: jiff::Timestamp| time.strftime("%F").to_string();
    let open = if cost.is_open { " (current)" } else { "" };
    vec![
        format!("{}{open}", cost.epoch),
        day(cost.begins),
        day(cost.ends),
        cost.kept.to_string(),
        cost.going.to_string(),
        bytes(cost.kept_bytes),
        bytes(cost.unneeded_bytes),
        cost.needed_by
            .as_ref()
            .map_or("nothing".to_owned(), ToString::to_string),
    ]
}

fn print_deleted(report: &Report, name: &str, deleted: &ExpireReport, recorded: bool) {
    if recorded {
        report.line(format!(
            "Repository {name}: what goes is on record; `strongroom expire --apply` deletes it."
        ));
        return;
    }
    report.line(format!(
        "Repository {name}: {} backups and {} objects were deleted, {} are free.",
        deleted.envelopes,
        deleted.objects,
        bytes(deleted.freed_bytes)
    ));
    for refused in &deleted.refused {
        report.problem(format!("repository {name}: not deleted: {refused}"));
    }
    if deleted.not_recorded > 0 {
        report.problem(format!(
            "repository {name}: {} more backups may go and are not on record; run `strongroom expire --record` on the \
             host with the writer key, then this again",
            deleted.not_recorded
        ));
    }
}

fn document(plan: &ExpirePlan, done: &BTreeMap<&str, ExpireReport>, applied: bool) -> Value {
    let repositories = plan
        .repositories
        .iter()
        .map(|(name, part)| repository_document(name, part, done.get(name.as_str())));
    let refusals = plan.refusals.iter().map(|refusal| {
        json!({
            "code": refusal.code, "copy": refusal.copy, "what": refusal.what, "hint": refusal.hint,
        })
    });
    json!({
        "applied": applied,
        "refusals": refusals.collect::<Vec<_>>(),
        "repositories": repositories.collect::<Vec<_>>(),
    })
}

fn repository_document(name: &str, plan: &RepositoryPlan, done: Option<&ExpireReport>) -> Value {
    let kept = plan.kept.iter().map(|kept| {
        let reasons = kept.reasons.iter();
        let reasons = reasons.map(|one| json!({ "code": one.code, "text": one.text }));
        json!({
            "label": kept.label, "started": kept.started,
            "reasons": reasons.collect::<Vec<_>>(),
        })
    });
    let going = plan
        .going
        .iter()
        .map(|going| json!({ "label": going.label, "started": going.started }));
    let epochs = plan.costs.iter().map(|cost| {
        json!({
            "epoch": cost.epoch, "from": cost.begins, "to": cost.ends, "current": cost.is_open,
            "kept": cost.kept, "going": cost.going, "needed_bytes": cost.kept_bytes,
            "unneeded_bytes": cost.unneeded_bytes, "needed_by": cost.needed_by,
        })
    });
    let waiting = &plan.waiting;
    let deleted = done.map(|done| {
        json!({
            "backups": done.envelopes, "objects": done.objects, "freed_bytes": done.freed_bytes,
            "refused": done.refused, "not_recorded": done.not_recorded,
        })
    });
    json!({
        "repository": name,
        "kept": kept.collect::<Vec<_>>(),
        "going": going.collect::<Vec<_>>(),
        "objects": plan.objects.len() + plan.epochs.len(),
        "freed_bytes": plan.freed_bytes,
        "waiting": {
            "epoch_bytes": waiting.epoch_bytes, "young_bytes": waiting.young_bytes,
            "protected_bytes": waiting.protected_bytes, "unknown_bytes": waiting.unknown_bytes,
        },
        "epochs": epochs.collect::<Vec<_>>(),
        "deleted": deleted,
    })
}
