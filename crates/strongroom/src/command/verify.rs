//! `strongroom verify`: reads stored backups back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::execute::verify::{Level, VerifiedBackup, VerifyJob, VerifyReport, verify};
use strongroom_core::format::name::ObjectName;
use strongroom_core::repository::state::Verified;
use strongroom_core::repository::{Replaced, Repository, RepositoryError, StoredEnvelope};

use crate::cli::{IdentityOptions, ReadOptions};
use crate::custody::Purpose;
use crate::failure::{Exit, Failure, io};
use crate::report::{Progress, Report, bytes, duration, rate};
use crate::runs::{Run, Runs};
use crate::session::{Session, Surroundings};

/// Arguments of `verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The backup to verify
    #[arg(default_value = "latest", conflicts_with = "all")]
    label: String,
    /// Verify every backup
    #[arg(long)]
    all: bool,
    /// How thoroughly: L1 digests, L2 decryption, L3 whole content, L4 agreement with facts and certificates
    #[arg(long, value_enum, ignore_case = true, default_value = "L1")]
    level: LevelArg,
    /// Look at this repository only; may be given several times
    #[arg(long, value_name = "NAME")]
    repository: Vec<String>,
    #[command(flatten)]
    read: ReadOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

impl VerifyArgs {
    /// Every backup, by its digests.
    pub(crate) fn all_l1() -> Self {
        Self {
            label: "latest".to_owned(),
            all: true,
            level: LevelArg::L1,
            repository: Vec::new(),
            read: ReadOptions::default(),
            identity: IdentityOptions::default(),
        }
    }

    /// The latest backup, as thoroughly as can be.
    pub(crate) fn latest_l4(identities: &[PathBuf]) -> Self {
        let identity = IdentityOptions {
            identity: identities.to_vec(),
            ..IdentityOptions::default()
        };
        Self {
            all: false,
            level: LevelArg::L4,
            identity,
            ..Self::all_l1()
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum LevelArg {
    L1,
    L2,
    L3,
    L4,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::L1 => Self::L1,
            LevelArg::L2 => Self::L2,
            LevelArg::L3 => Self::L3,
            LevelArg::L4 => Self::L4,
        }
    }
}

pub(crate) fn run(args: &VerifyArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let level = Level::from(args.level);
    let (session, wanted) = session(args, around)?;
    // What is not looked at need not be there.
    let repositories = session.some_repositories(&wanted)?;
    let runs = Runs::read(&session, &repositories)?;
    let chosen: Vec<&Run> = if args.all {
        runs.all.iter().collect()
    } else {
        vec![runs.find(&args.label, &[])?]
    };
    if chosen.is_empty() {
        return Err(runs
            .find("latest", &[])
            .err()
            .unwrap_or_else(|| Failure::usage("no backup")));
    }
    let identities = if level > Level::L1 {
        let purpose = Purpose {
            command: "verify",
            target: if args.all { "all" } else { &args.label },
        };
        session.identities(&args.identity, &repositories, &purpose)?
    } else {
        Vec::new()
    };
    let _lock = if level > Level::L2 {
        Some(session.lock()?)
    } else {
        None
    };
    let scratch = session.scratch();
    strongroom_core::private_file::create_dir_all(&scratch).map_err(io("create", &scratch))?;

    let mut exit = if runs.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    };
    let mut documents = Vec::new();
    for problem in &runs.problems {
        around.report.problem(problem);
    }
    for run in &chosen {
        let looked_at = |name: &&str| wanted.is_empty() || wanted.contains(*name);
        for name in run.missing().into_iter().filter(looked_at) {
            let problem = format!(
                "backup {}: repository {name} has no envelope of it",
                run.label
            );
            around.report.problem(&problem);
            exit = exit.and(Exit::Problems);
        }
    }
    for (name, repository) in &repositories {
        if !wanted.is_empty() && !wanted.contains(name) {
            continue;
        }
        // A copy that is read in its place is called by its own name.
        let read = session.config.repositories.get(name);
        let shown = read.map_or(name.as_str(), |config| &config.name);
        let backups = chosen.iter().filter_map(|run| run.envelopes.get(name));
        let progress = Progress::new(&around.report);
        let job = VerifyJob {
            repository,
            name: shown,
            backups: backups.map(|stored| &stored.envelope).collect(),
            level,
            identities: &identities,
            scratch: &scratch,
            restorers: &session.find_restorer(),
            cancel: &around.cancel,
            observer: &progress,
        };
        let context = |error| Failure::from(error).context(format_args!("repository {shown}"));
        // Before anything is read: what is stored once more later is not proved by it.
        let replaced = replaced(&session, name, repository, &runs).map_err(context)?;
        let found = verify(&job).map_err(context)?;
        // What the past held says nothing of what is there now.
        if args.read.as_of.is_none() {
            note(&session, name, repository, (&found, &replaced))?;
        }
        print(&around.report, shown, level, &found);
        if found
            .backups
            .iter()
            .any(|backup| backup.level != Some(level))
        {
            exit = Exit::Failed;
        }
        documents.push(document(shown, level, &found));
    }
    around.report.document(json!({
        "level": level.as_str(), "repositories": documents, "problems": runs.problems,
    }));
    Ok(exit)
}

/// The session, and the repositories to look at; none stands for all.
fn session<'s>(
    args: &VerifyArgs,
    around: &'s Surroundings,
) -> Result<(Session<'s>, BTreeSet<String>), Failure> {
    let mut copies = ReadOptions {
        as_of: args.read.as_of,
        from: args.read.from.clone(),
    };
    let mut wanted = BTreeSet::new();
    let plain = around.session()?;
    for name in &args.repository {
        let config = plain.any_repository(name)?;
        if config.copy_of.is_some() {
            copies.from.push(name.clone());
        }
        if !wanted.insert(config.document_name().to_owned()) {
            let message = format!("{name:?}: one repository at a time is verified in one place");
            return Err(
                Failure::usage(message).hint("Verify a copy and its original one after the other.")
            );
        }
    }
    Ok((around.session_reading(&copies)?, wanted))
}

/// The objects of a repository that were stored after a backup that needs them.
fn replaced(
    session: &Session<'_>,
    name: &str,
    repository: &Repository,
    runs: &Runs,
) -> Result<Replaced, RepositoryError> {
    let head = session.state(name).head(repository.document().repository)?;
    let backups = runs.all.iter().filter_map(|run| run.envelopes.get(name));
    let backups: Vec<StoredEnvelope> = backups.cloned().collect();
    Ok(repository.survey(&backups, head.as_ref())?.replaced)
}

/// Remembers the level that each backup reached, or that it is damaged.
fn note(
    session: &Session<'_>,
    name: &str,
    repository: &Repository,
    (found, replaced): (&VerifyReport, &Replaced),
) -> Result<(), Failure> {
    let state = session.state(name);
    let time = whole_seconds(session.around.clock.now());
    let id = repository.document().repository;
    state.note_objects(id, &found.damaged, &found.whole, time)?;
    let whole = found.whole.iter();
    let proved = whole.filter_map(|name| Some((name.clone(), *replaced.get(name)?)));
    let is_kept =
        |name: &ObjectName| replaced.contains_key(name) && !found.damaged.contains_key(name);
    state.note_proved(id, proved.collect(), is_kept)?;
    for backup in &found.backups {
        match backup.level {
            Some(level) if backup.problems.is_empty() => {
                state.note_verified(
                    &backup.label,
                    Verified {
                        level: level.to_string(),
                        time,
                    },
                )?;
            }
            _ => state.note_damaged(&backup.label, time)?,
        }
    }
    Ok(())
}

fn print(report: &Report, name: &str, wanted: Level, found: &VerifyReport) {
    for backup in &found.backups {
        let reached = match backup.level {
            Some(level) if level == wanted => report.paint(&format!("holds at {level}"), "32"),
            Some(level) => report.paint(&format!("holds at {level} only"), "31"),
            None => report.paint("is DAMAGED", "31"),
        };
        report.line(format!("{} in {name} {reached}", backup.label));
        for note in &backup.notes {
            report.line(format!("    {note}"));
        }
        for problem in &backup.problems {
            report.problem(format!("{} in {name}: {problem}", backup.label));
        }
    }
    report.line(format!(
        "Repository {name}: {} objects, {} read in {} ({}).",
        found.objects,
        bytes(found.bytes),
        duration(found.l1_seconds),
        rate(found.bytes, found.l1_seconds),
    ));
}

fn document(name: &str, wanted: Level, found: &VerifyReport) -> serde_json::Value {
    let backup = |backup: &VerifiedBackup| {
        json!({
            "label": backup.label,
            "level": backup.level.map(Level::as_str),
            "holds": backup.level == Some(wanted),
            "problems": backup.problems,
            "notes": backup.notes,
        })
    };
    json!({
        "repository": name,
        "backups": found.backups.iter().map(backup).collect::<Vec<_>>(),
        "objects": found.objects,
        "bytes": found.bytes,
        "seconds": found.l1_seconds,
    })
}
