//! `strongroom backup`: takes a backup of all assets, or of those named.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};
use strongroom_core::error_chain;
use strongroom_core::execute::backup::{
    AssetReport, BackupJob, BackupReport, BackupRepository, NotOpened, backup,
};
use strongroom_core::format::envelope::Status;
use strongroom_core::plan::backup::{BackupPlan, plan_backup};
use strongroom_core::repository::writer::Sealing;
use strongroom_core::source::not_covered;

use crate::failure::{Exit, Failure};
use crate::report::{Progress, Report, bytes, duration, rate, shown_path, table};
use crate::session::{Session, Surroundings};

/// The program as manifests and envelopes name it.
pub(crate) const TOOL: &str = concat!("strongroom ", env!("CARGO_PKG_VERSION"));

/// Arguments of `backup`.
#[derive(Args, Default)]
pub(crate) struct BackupArgs {
    /// The assets to back up; all of the configuration if none is named
    #[arg(value_name = "ASSET")]
    assets: Vec<String>,
    /// Show what would be read and where it would go, and store nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &BackupArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let (assets, outlines) = session.outlines();
    let plan = plan_backup(&assets, &outlines, &args.assets)?;
    if args.dry_run {
        return Ok(dry_run(&session, &plan));
    }
    let report = take(&session, &plan)?;
    print(&around.report, &report);
    around.report.document(document(&report));
    Ok(exit(&report))
}

/// Takes the backup that `plan` describes.
pub(crate) fn take(session: &Session<'_>, plan: &BackupPlan) -> Result<BackupReport, Failure> {
    let key = session.writer_key()?;
    let _lock = session.lock()?;
    let mut repositories = BTreeMap::new();
    for name in &plan.repositories {
        let config = &session.config.repositories[name];
        let place = BackupRepository {
            state: session.state(name),
            sealing: Sealing {
                recipients: config.recipients.clone(),
                keys: config.open_recipients()?,
                epoch_days: config.epoch_days,
                immutable_days: config.immutable_days(),
            },
        };
        repositories.insert(name.clone(), place);
    }
    let around = session.around;
    let progress = Progress::new(&around.report);
    let job = BackupJob {
        plan,
        deployment: &session.config.deployment.name,
        tool: TOOL,
        sources: &session.sources(),
        repositories: &repositories,
        key: &key,
        scratch: &session.scratch(),
        clock: &around.clock,
        cancel: &around.cancel,
        observer: &progress,
    };
    backup(&job, &|name| {
        let opened = session.repository(&session.config.repositories[name]);
        opened.map_err(|failure| {
            if failure.is_of_storage() {
                NotOpened::Down {
                    told: failure.message.clone(),
                    error: failure,
                }
            } else {
                NotOpened::Wrong(failure)
            }
        })
    })
}

fn exit(report: &BackupReport) -> Exit {
    if report.status == Status::Complete && report.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Problems
    }
}

fn dry_run(session: &Session<'_>, plan: &BackupPlan) -> Exit {
    let report = &session.around.report;
    let sources = session.sources();
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    let mut inspections = Vec::new();
    let mut problems = Vec::new();
    for asset in &plan.assets {
        let (name, class) = (&asset.name, asset.class);
        match sources[name].inspect() {
            Ok(inspection) => {
                let found = inspection.problems.iter();
                problems.extend(found.map(|problem| format!("asset {name}: {problem}")));
                rows.push(vec![
                    name.clone(),
                    class.to_string(),
                    asset.repository.clone(),
                    inspection.files.to_string(),
                    bytes(inspection.size_bytes),
                ]);
                documents.push(json!({
                    "name": name, "class": class, "source": asset.source, "repository": asset.repository,
                    "files": inspection.files, "size_bytes": inspection.size_bytes,
                    "problems": inspection.problems, "notes": inspection.notes,
                }));
                inspections.push(inspection);
            }
            Err(error) => {
                problems.push(format!("asset {name}: {}", error_chain(&error)));
            }
        }
    }
    report.heading("A backup would read, in this order:");
    report.answer(table(
        &["asset", "class", "repository", ">files", ">size"],
        rows,
    ));
    for problem in &problems {
        report.problem(problem);
    }
    let missing = not_covered(&inspections.iter().collect::<Vec<_>>());
    print_not_covered(report, &missing);
    report.line("Nothing was stored.");
    report.document(json!({
        "dry_run": true, "assets": documents, "problems": problems,
        "not_covered": missing.iter().map(|path| shown_path(path)).collect::<Vec<_>>(),
    }));
    if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Problems
    }
}

/// Names what no asset covers.
pub(crate) fn print_not_covered(report: &Report, paths: &[std::path::PathBuf]) {
    if paths.is_empty() {
        return;
    }
    report.note("next to the assets lies what no asset covers; add it to the configuration if it belongs to the CA:");
    for path in paths {
        report.line(format!("        {}", shown_path(path)));
    }
}

fn print(to: &Report, report: &BackupReport) {
    let rows = report.assets.iter().map(|asset| {
        vec![
            asset.outline.name.clone(),
            asset.outline.class.to_string(),
            asset.outline.repository.clone(),
            asset.status.as_str().to_owned(),
            bytes(asset.stats.size_bytes),
            bytes(asset.stats.new_chunk_bytes),
            bytes(asset.stats.stored_bytes),
            duration(asset.seconds),
        ]
    });
    let headings = [
        "asset",
        "class",
        "repository",
        "status",
        ">size",
        ">new",
        ">stored",
        ">time",
    ];
    to.line(table(&headings, rows.collect()));
    for asset in &report.assets {
        let name = &asset.outline.name;
        for problem in &asset.problems {
            to.problem(format!("asset {name}: {problem}"));
        }
        for note in &asset.notes {
            to.note(format!("asset {name}: {note}"));
        }
    }
    for problem in &report.problems {
        to.problem(problem);
    }
    for note in &report.notes {
        to.note(note);
    }
    print_not_covered(to, &report.not_covered);
    let size: u64 = report
        .assets
        .iter()
        .map(|asset| asset.stats.size_bytes)
        .sum();
    let (status, color) = match report.status {
        Status::Complete => ("complete", "32"),
        Status::Incomplete => ("INCOMPLETE", "31"),
    };
    to.line(format!(
        "Backup {} is {}: {} read in {} ({}), {} added to the repositories.",
        report.label,
        to.paint(status, color),
        bytes(size),
        duration(report.seconds),
        rate(size, report.seconds),
        bytes(report.stored_bytes),
    ));
    if report.status == Status::Incomplete {
        to.problem("something is missing; what was captured is stored, and the problems above say what is not");
    }
}

fn document(report: &BackupReport) -> Value {
    let assets = report
        .assets
        .iter()
        .map(|asset| asset_document(report, asset));
    json!({
        "label": report.label,
        "run": report.run,
        "status": report.status,
        "assets": assets.collect::<Vec<_>>(),
        "stored_bytes": report.stored_bytes,
        "seconds": report.seconds,
        "reasons": reasons(report),
        "problems": report.problems,
        "notes": report.notes,
        "not_covered": report.not_covered.iter().map(|path| shown_path(path)).collect::<Vec<_>>(),
    })
}

fn asset_document(report: &BackupReport, asset: &AssetReport) -> Value {
    json!({
        "name": asset.outline.name,
        "class": asset.outline.class,
        "source": asset.outline.source,
        "repository": asset.outline.repository,
        "label": report.label,
        "status": asset.status,
        "size_bytes": asset.stats.size_bytes,
        "new_chunk_bytes": asset.stats.new_chunk_bytes,
        "stored_bytes": asset.stats.stored_bytes,
        "seconds": asset.seconds,
        "facts": asset.facts,
        "problems": asset.problems,
        "notes": asset.notes,
    })
}

/// Why the run is incomplete.
fn reasons(report: &BackupReport) -> Vec<String> {
    let assets = report.assets.iter();
    assets
        .flat_map(|asset| {
            let name = &asset.outline.name;
            asset
                .problems
                .iter()
                .map(move |problem| format!("asset {name}: {problem}"))
        })
        .collect()
}
