//! `strongroom custody revoke`: a set is not to be used any more, and what that cannot undo.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::custody::{CustodyRecord, Revocation};
use strongroom_core::format::hold::REASON_MAX;
use strongroom_core::repository::Repository;

use crate::command::backup::TOOL;
use crate::config::RepositoryConfig;
use crate::custody::Records;
use crate::failure::{Exit, Failure};
use crate::session::{Session, Surroundings};

/// Arguments of `custody revoke`.
#[derive(Args)]
pub(crate) struct RevokeArgs {
    /// The set, by its 16 digits, or by its name where only one set has that
    set: String,
    /// Why, for whoever reads it later
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(crate) fn run(args: &RevokeArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.len() > REASON_MAX {
        let message = format!("the reason is empty or longer than {REASON_MAX} bytes");
        return Err(Failure::usage(message));
    }
    let session = around.session()?;
    let kept = Records::of(&session.config.writer.state_dir);
    let records = kept.all()?;
    let record = find(&records, &args.set)?;
    let key = session.writer_key()?;
    let known = kept.revocations()?;
    if !known.contains_key(&record.set) {
        let revocation = Revocation {
            format: strongroom_core::format::VERSION,
            set: record.set,
            time: whole_seconds(around.clock.now()),
            reason: reason.to_owned(),
            tool: TOOL.to_owned(),
            writer: key.signing.verifying_key().to_base64(),
        };
        kept.add_revocation(&revocation.sign(&key.signing))?;
    }
    let report = &around.report;
    report.line(format!(
        "The set {} of {} is revoked.",
        record.set, record.name
    ));
    let mut exit = Exit::Done;
    let mut left = Vec::new();
    for (name, config) in &session.config.repositories {
        let seen = match session.repository(config) {
            Ok(repository) => look(&repository, config, record)?,
            Err(failure) => {
                report.failed_part(&failure);
                exit = Exit::Problems;
                continue;
            }
        };
        if seen.is_sealed {
            report.problem(format!(
                "repository {name} is sealed to it; change its recipients and run `strongroom custody rotate --apply`"
            ));
            exit = Exit::Problems;
        }
        tell(&session, name, config, &seen);
        left.push(json!({
            "repository": name, "sealed_to_it": seen.is_sealed, "epochs_open_to_it": seen.epochs,
            "newest_backup_open_to_it": seen.newest, "copies": copies(&session, name),
        }));
    }
    report.document(json!({
        "set": record.set, "name": record.name, "reason": reason, "left": Value::Array(left),
    }));
    Ok(exit)
}

fn find<'r>(records: &'r [CustodyRecord], wanted: &str) -> Result<&'r CustodyRecord, Failure> {
    let is_meant =
        |record: &&CustodyRecord| record.set.to_string() == wanted || record.name == wanted;
    let found: Vec<&CustodyRecord> = records.iter().filter(is_meant).collect();
    match found.as_slice() {
        [record] => Ok(record),
        [] => Err(super::no_set(wanted)),
        several => {
            let sets: Vec<String> = several
                .iter()
                .map(|record| record.set.to_string())
                .collect();
            Err(
                Failure::usage(format!("several sets are called {wanted:?}"))
                    .hint(format!("Name one by its digits: {}.", sets.join(", "))),
            )
        }
    }
}

/// What the quorum of a set still opens in a repository.
struct Left {
    /// Whether the next epoch would be sealed to it.
    is_sealed: bool,
    /// At most so many epochs.
    epochs: usize,
    newest: Option<String>,
}

fn look(
    repository: &Repository,
    config: &RepositoryConfig,
    record: &CustodyRecord,
) -> Result<Left, Failure> {
    let document = repository.document();
    let is_sealed = document.recipients.contains(&record.recipient)
        || config.recipients.contains(&record.recipient);
    let mut epochs = BTreeSet::new();
    let mut newest = None;
    if repository.all_recipients().contains(&record.recipient) {
        for stored in repository.catalogue()?.backups {
            let envelope = stored.envelope;
            // Epochs that began since the document names others are not open to it. Times are whole seconds: one that
            // may have begun before counts.
            if is_sealed || envelope.started <= document.created {
                epochs.insert(envelope.epoch.id);
                newest = newest.max(Some((envelope.run, envelope.label.to_string())));
            }
        }
    }
    Ok(Left {
        is_sealed,
        epochs: epochs.len(),
        newest: newest.map(|(_, label)| label),
    })
}

fn copies(session: &Session<'_>, name: &str) -> Vec<String> {
    let all = session.config.copies.iter();
    all.filter(|(_, copy)| copy.copy_of.as_deref() == Some(name))
        .map(|(copy, _)| copy.clone())
        .collect()
}

fn tell(session: &Session<'_>, name: &str, config: &RepositoryConfig, left: &Left) {
    let report = &session.around.report;
    let Some(newest) = &left.newest else {
        report.line(format!("  {name}: nothing was ever sealed to it."));
        return;
    };
    report.line(format!(
        "  {name}: its quorum still opens backups up to {newest}; epochs: at most {}. That ends when they expire.",
        left.epochs
    ));
    let copies = copies(session, name);
    if !copies.is_empty() {
        report.line(format!(
            "    the same holds for the copies {}, where nothing expires",
            copies.join(", ")
        ));
    }
    if let Some(days) = config.protected_days() {
        report.line(format!(
            "    the storage keeps each object for {days} days, whoever asks"
        ));
    }
}
