//! `strongroom custody rotate`: epochs that exist are sealed to the recipients of the configuration as well.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::json;
use strongroom_core::execute::reseal::{epochs, reseal};
use strongroom_core::format::name::ObjectName;
use strongroom_core::format::{Digest, EpochId};
use strongroom_core::repository::Repository;

use crate::cli::IdentityOptions;
use crate::config::RepositoryConfig;
use crate::custody::{Purpose, Resealed};
use crate::failure::{Exit, Failure};
use crate::session::{Role, Session, Surroundings};

/// Arguments of `custody rotate`.
#[derive(Args)]
pub(crate) struct RotateArgs {
    /// Look at this repository only; may be given several times
    #[arg(long, value_name = "NAME")]
    repository: Vec<String>,
    /// Do it, with the identity or the quorum that opens the epochs now
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    identity: IdentityOptions,
}

/// What there is to do in one repository.
struct Work<'c> {
    config: &'c RepositoryConfig,
    /// Recipients that the document does not name yet.
    added: Vec<String>,
    /// Recipients that are not in the configuration any more.
    removed: Vec<String>,
    /// Epochs that were not sealed to the recipients of the configuration yet, as far as this host knows.
    epochs: BTreeMap<EpochId, BTreeSet<ObjectName>>,
    /// Epochs that were.
    done: usize,
}

pub(crate) fn run(args: &RotateArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    for name in &args.repository {
        if !session.config.repositories.contains_key(name) {
            return Err(Failure::usage(format!("there is no repository {name:?}")));
        }
    }
    let chosen = session
        .config
        .repositories
        .iter()
        .filter(|(name, _)| args.repository.is_empty() || args.repository.contains(name));
    let _lock = args.apply.then(|| session.lock()).transpose()?;
    let mut repositories = BTreeMap::new();
    let mut plan = Vec::new();
    for (name, config) in chosen {
        let repository = session.repository(config)?;
        plan.push(look(&session, &repository, config)?);
        repositories.insert(name.clone(), repository);
    }
    for work in &plan {
        tell(around, work);
    }
    let is_idle = |work: &Work<'_>| {
        work.epochs.is_empty() && work.added.is_empty() && work.removed.is_empty()
    };
    plan.retain(|work| !is_idle(work));
    if args.apply && !plan.is_empty() {
        apply(&session, args, &plan, &mut repositories)?;
    } else if !plan.is_empty() {
        around.report.line("Nothing was changed. With --apply and the identity or quorum that opens these epochs now, it is done.");
    }
    let documents = plan.iter().map(|work| {
        json!({
            "repository": work.config.name, "added": work.added, "removed": work.removed,
            "epochs": work.epochs.keys().collect::<Vec<_>>(), "done_before": work.done,
        })
    });
    around.report.document(json!({
        "applied": args.apply, "repositories": documents.collect::<Vec<_>>(),
    }));
    Ok(Exit::Done)
}

fn look<'c>(
    session: &Session<'_>,
    repository: &Repository,
    config: &'c RepositoryConfig,
) -> Result<Work<'c>, Failure> {
    let document = repository.document();
    let stated: BTreeSet<&String> = document.recipients.iter().collect();
    let wanted: BTreeSet<&String> = config.recipients.iter().collect();
    let noted = Resealed::of(session, document.repository)?;
    let is_same = stated == wanted;
    let mut first: BTreeMap<EpochId, jiff::Timestamp> = BTreeMap::new();
    for stored in repository.catalogue()?.backups {
        let started = stored.envelope.started;
        let entry = first.entry(stored.envelope.epoch.id).or_insert(started);
        *entry = started.min(*entry);
    }
    let mut epochs = epochs(repository)?;
    // What no backup needs is the rest of an interrupted run.
    epochs.retain(|id, _| first.contains_key(id));
    let all = epochs.len();
    epochs.retain(|id, objects| {
        let has = |digest: &Digest| objects.contains(&ObjectName::epoch(*id, *digest));
        let is_noted = noted.object(*id, &config.recipients).is_some_and(has);
        // Since the document names these recipients, epochs are sealed to them from their beginning.
        let is_born_so = is_same && first[id] >= document.created;
        !is_noted && !is_born_so
    });
    Ok(Work {
        config,
        added: wanted
            .difference(&stated)
            .map(|one| (*one).clone())
            .collect(),
        removed: stated
            .difference(&wanted)
            .map(|one| (*one).clone())
            .collect(),
        done: all - epochs.len(),
        epochs,
    })
}

fn tell(around: &Surroundings, work: &Work<'_>) {
    let report = &around.report;
    let name = &work.config.name;
    for recipient in &work.added {
        report.line(format!("{name}: new recipient {recipient}"));
    }
    for recipient in &work.removed {
        report.line(format!("{name}: no recipient any more: {recipient}"));
    }
    report.line(format!(
        "{name}: epochs to seal to the recipients of the configuration: {}; sealed to them: {}",
        work.epochs.len(),
        work.done
    ));
}

fn apply(
    session: &Session<'_>,
    args: &RotateArgs,
    plan: &[Work<'_>],
    repositories: &mut BTreeMap<String, Repository>,
) -> Result<(), Failure> {
    let around = session.around;
    let key = session.writer_key()?;
    repositories.retain(|name, _| plan.iter().any(|work| work.config.name == *name));
    let target = repositories.keys().cloned().collect::<Vec<_>>().join(" ");
    let purpose = Purpose {
        command: "custody rotate",
        target: &target,
    };
    let identities = if plan.iter().all(|work| work.epochs.is_empty()) {
        Vec::new()
    } else {
        session.identities(&args.identity, repositories, &purpose)?
    };
    for work in plan {
        let name = &work.config.name;
        let context = |failure: Failure| failure.context(format_args!("repository {name}"));
        let repository = session.repository_as(work.config, Role::Writer)?;
        let recipients = work.config.open_recipients()?;
        let stored = reseal(
            &repository,
            &work.epochs,
            &identities,
            &recipients,
            &around.cancel,
        )
        .map_err(|error| context(error.into()))?;
        let mut noted = Resealed::of(session, repository.document().repository)?;
        noted.note(&stored, &work.config.recipients)?;
        if !work.added.is_empty() || !work.removed.is_empty() {
            repository
                .change_recipients(work.config.recipients.clone(), &key, &around.clock)
                .map_err(|error| context(error.into()))?;
        }
        around.report.line(format!(
            "{name}: sealed {} to the recipients of the configuration too, and all later ones will be.",
            epochs_counted(stored.len())
        ));
        if !work.removed.is_empty() {
            around.report.note(format!(
                "{name}: whoever held the old identity still opens the epochs that were sealed to it, here and in every copy"
            ));
        }
    }
    Ok(())
}

fn epochs_counted(count: usize) -> String {
    match count {
        1 => "1 epoch".to_owned(),
        count => format!("{count} epochs"),
    }
}
