//! `strongroom custody import`: takes what was signed on other machines, after checking it.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_core::clock::Clock as _;
use strongroom_core::custody::{CustodyRecord, Rehearsal, Statement as _};

use crate::custody::{Records, read};
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;

/// Arguments of `custody import`.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// A custody record, or a rehearsal of a set whose record is known
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(args: &ImportArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let kept = Records::of(&session.config.writer.state_dir);
    let report = &around.report;
    let mut imported = Vec::new();
    for path in &args.files {
        let context = |failure: Failure| failure.context(path.display());
        let bytes = read(path)?;
        if let Ok(set) = Rehearsal::set_of(&bytes) {
            let records = kept.all()?;
            let record = records
                .iter()
                .find(|record| record.set == set)
                .ok_or_else(|| {
                    let message =
                        format!("{}: a rehearsal of the unknown set {set}", path.display());
                    Failure::new(Exit::Refused, "no-custody-record", message)
                        .hint("Import the custody record of that set first.")
                })?;
            let rehearsal =
                Rehearsal::open(&bytes, record).map_err(|error| context(error.into()))?;
            let tomorrow = around.clock.now() + jiff::SignedDuration::from_hours(24);
            if rehearsal.time > tomorrow {
                let message = format!(
                    "{}: rehearsed at {}, which is to come",
                    path.display(),
                    rehearsal.time
                );
                return Err(Failure::new(Exit::Refused, "clock", message)
                    .hint("Is the clock of that machine right? Set it, and rehearse again."));
            }
            if !kept.rehearsals(record)?.contains(&rehearsal) {
                kept.add_rehearsal(&bytes)?;
            }
            let name = record
                .custodian(rehearsal.index)
                .map_or("?", |one| &one.name);
            report.line(format!(
                "{name} has rehearsed {} at {}.",
                record.name, rehearsal.time
            ));
            imported.push(json!({
                "file": path, "rehearsal": rehearsal, "custodian": name,
            }));
        } else {
            let record = CustodyRecord::open(&bytes).map_err(|error| context(error.into()))?;
            kept.keep(&record, &bytes)?;
            report.line(format!(
                "The record of {} (set {}): any {} of {} custodians.",
                record.name,
                record.set,
                record.threshold,
                record.custodians.len()
            ));
            imported.push(json!({ "file": path, "set": record.set, "name": record.name }));
        }
    }
    report.document(json!({ "imported": imported }));
    Ok(Exit::Done)
}
