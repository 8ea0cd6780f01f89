//! `strongroom show LABEL`: one backup, from its envelopes and, with an identity, from inside.

use clap::Args;
use serde_json::json;
use strongroom_core::format::envelope::Status;
use strongroom_core::format::manifest::Stream;

use crate::cli::{IdentityOptions, ReadOptions};
use crate::custody::Purpose;
use crate::failure::{Exit, Failure};
use crate::opened::{self, OpenedAsset};
use crate::report::{Report, bytes, shown_path, table, when};
use crate::runs::{Run, Runs};
use crate::session::Surroundings;

/// How many files of an asset are shown without --verbose.
const FILES_SHOWN: usize = 20;
/// How many lines of its facts.
const FACTS_SHOWN: usize = 100;

/// Arguments of `show`.
#[derive(Args)]
pub(crate) struct ShowArgs {
    /// The backup
    #[arg(default_value = "latest")]
    label: String,
    #[command(flatten)]
    read: ReadOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

pub(crate) fn run(args: &ShowArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session_reading(&args.read)?;
    let repositories = session.repositories()?;
    let runs = Runs::read(&session, &repositories)?;
    let run = runs.find(&args.label, &[])?;
    let report = &around.report;
    print_run(report, run);
    let mut parts = Vec::new();
    for (name, stored) in &run.envelopes {
        let envelope = &stored.envelope;
        let recipients = &repositories[name].document().recipients;
        print_part(report, name, stored, recipients);
        parts.push(json!({
            "repository": name,
            "envelope": envelope.name().as_str(),
            "envelope_sha256": stored.digest,
            "sequence": envelope.sequence,
            "writer": envelope.writer,
            "tool": envelope.tool,
            "epoch": envelope.epoch.id,
            "recipients": recipients,
            "objects": envelope.objects.len(),
            "stored_bytes": envelope.stored_bytes(),
            "assets": envelope.assets,
        }));
    }
    let mut inside = Vec::new();
    if around.has_identity(&args.identity) {
        let purpose = Purpose {
            command: "show",
            target: run.label.as_str(),
        };
        let identities = session.identities(&args.identity, &repositories, &purpose)?;
        let readers = opened::open(run, &repositories, &[], &identities)?;
        inside = opened::assets(&readers, &[])?;
        for asset in &inside {
            print_asset(report, asset);
        }
    } else {
        report.note("with --identity FILE, files and facts are shown too");
    }
    let document = |asset: &OpenedAsset| {
        json!({
            "name": asset.asset.name, "class": asset.asset.class, "source": asset.asset.source,
            "repository": asset.repository, "settings": asset.asset.settings,
            "status": asset.result.status, "facts": asset.result.facts,
            "problems": asset.result.problems, "notes": asset.result.notes,
            "streams": asset.streams,
        })
    };
    report.document(json!({
        "label": run.label,
        "run": run.number,
        "status": run.status(),
        "scope": run.any().scope,
        "started": run.any().started,
        "finished": run.any().finished,
        "missing_repositories": run.missing(),
        "repositories": parts,
        "assets": inside.iter().map(document).collect::<Vec<_>>(),
    }));
    Ok(if run.status() == Status::Complete {
        Exit::Done
    } else {
        Exit::Problems
    })
}

fn print_run(report: &Report, run: &Run) {
    let envelope = run.any();
    report.answer(format!(
        "{}  {}  of deployment {}, taken {} by {}",
        run.label,
        run.status().as_str(),
        envelope.deployment,
        when(envelope.started),
        envelope.tool
    ));
    for name in run.missing() {
        report.problem(format!("repository {name} has no envelope of this backup"));
    }
}

fn print_part(
    report: &Report,
    name: &str,
    stored: &strongroom_core::repository::StoredEnvelope,
    recipients: &[String],
) {
    let envelope = &stored.envelope;
    report.answer(format!(
        "\nRepository {name}: envelope {} of writer {}, {} objects, {}",
        envelope.sequence,
        envelope.writer,
        envelope.objects.len(),
        bytes(envelope.stored_bytes())
    ));
    report.answer(format!(
        "  epoch {}; new epochs are sealed to: {}",
        envelope.epoch.id,
        recipients.join(", ")
    ));
    let rows = envelope.assets.iter().map(|asset| {
        vec![
            format!("  {}", asset.name),
            asset.class.to_string(),
            asset.source.clone(),
            asset.status.as_str().to_owned(),
            bytes(asset.size_bytes),
        ]
    });
    report.answer(table(
        &["  asset", "class", "source", "status", ">size"],
        rows.collect(),
    ));
}

fn print_asset(report: &Report, asset: &OpenedAsset) {
    report.answer(format!(
        "\nAsset {} ({})",
        asset.asset.name, asset.asset.class
    ));
    let shown = if report.verbose > 0 {
        usize::MAX
    } else {
        FILES_SHOWN
    };
    let rows = asset.streams.iter().take(shown).map(stream_row).collect();
    report.answer(table(&["  kind", "mode", "owner", ">size", "path"], rows));
    if asset.streams.len() > shown {
        report.answer(format!(
            "  and {} more; -v shows all",
            asset.streams.len() - shown
        ));
    }
    let facts = serde_json::to_string_pretty(&asset.result.facts).expect("JSON values serialise");
    let facts = format!("facts: {facts}");
    let (lines, limit) = (
        facts.lines(),
        if report.verbose > 0 {
            usize::MAX
        } else {
            FACTS_SHOWN
        },
    );
    let hidden = lines.clone().count().saturating_sub(limit);
    for line in lines.take(limit) {
        report.answer(format!("  {line}"));
    }
    if hidden > 0 {
        report.answer(format!("  and {hidden} more lines; -v and --json show all"));
    }
    for problem in &asset.result.problems {
        report.problem(format!("asset {}: {problem}", asset.asset.name));
    }
    for note in &asset.result.notes {
        report.note(format!("asset {}: {note}", asset.asset.name));
    }
}

fn stream_row(stream: &Stream) -> Vec<String> {
    let kind = serde_json::to_value(stream.kind).expect("a kind is a word");
    let owner = stream
        .user
        .clone()
        .unwrap_or_else(|| stream.uid.to_string());
    let mut path = shown_path(&stream.path);
    if let Some(target) = &stream.target {
        path = format!("{path} -> {}", shown_path(target));
    }
    vec![
        format!("  {}", kind.as_str().unwrap_or_default()),
        format!("{:04o}", stream.mode),
        owner,
        stream.size.map(bytes).unwrap_or_default(),
        path,
    ]
}
