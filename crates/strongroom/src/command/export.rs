//! `strongroom export`: a backup as plain standard files, with SHA256SUMS.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use strongroom_core::execute::restore::observe::observe;
use strongroom_core::execute::restore::{self, Consent};
use strongroom_core::plan::approval::RestoreWork;
use strongroom_core::plan::restore::{RestoreAsset, Target, place, plan_restore};
use strongroom_core::private_file;
use strongroom_core::source::server::LoadOptions;

use crate::approval::{self, ApprovalOptions, Gate, Work};
use crate::cli::{IdentityOptions, ReadOptions};
use crate::custody::Purpose;
use crate::failure::{Exit, Failure, io};
use crate::opened::{self, OpenedAsset};
use crate::report::{Progress, bytes};
use crate::runs::Runs;
use crate::session::Surroundings;

/// Arguments of `export`.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The backup, or `latest`
    #[arg(required_unless_present = "approval")]
    label: Option<String>,
    /// The assets to export; all if none is named
    #[arg(value_name = "ASSET")]
    assets: Vec<String>,
    /// An empty or new directory
    #[arg(short, long, value_name = "DIR", required_unless_present = "approval")]
    out: Option<PathBuf>,
    #[command(flatten)]
    approval: ApprovalOptions,
    #[command(flatten)]
    read: ReadOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

/// What is asked for, by arguments or by a plan that operators signed.
struct Request {
    label: String,
    assets: Vec<String>,
    out: PathBuf,
    read: ReadOptions,
}

impl Request {
    fn new(args: &ExportArgs, gate: &Gate) -> Result<Self, Failure> {
        let Some(approved) = gate.approved() else {
            let out = args.out.clone().unwrap_or_default();
            return Ok(Self {
                label: args.label.clone().unwrap_or_default(),
                assets: args.assets.clone(),
                out: std::path::absolute(&out).map_err(io("resolve", &out))?,
                read: args.read.clone(),
            });
        };
        if args.label.is_some() || args.out.is_some() || args.read != ReadOptions::default() {
            return Err(approval::contradicted());
        }
        match &approved.document.scope.work {
            Work::Export(work) => match &work.target {
                Target::Directory(out) => Ok(Self {
                    label: work.label.to_string(),
                    assets: work.assets.clone(),
                    out: out.clone(),
                    read: approved.read_options(),
                }),
                _ => Err(approved.of_another_command("export")),
            },
            _ => Err(approved.of_another_command("export")),
        }
    }
}

pub(crate) fn run(args: &ExportArgs, around: &Surroundings) -> Result<Exit, Failure> {
    // Without --plan an export is carried out at once.
    let shows_only = args.approval.plan.is_some() && args.approval.approval.is_empty();
    let gate = Gate::find(&around.session()?, &args.approval, !shows_only)?;
    let request = Request::new(args, &gate)?;
    let session = around.session_reading(&request.read)?;
    let only = &request.assets;
    let repositories = session.repositories_for(only)?;
    let runs = Runs::read(&session, &repositories)?;
    let run = runs.find(&request.label, only)?;
    let purpose = Purpose {
        command: "export",
        target: run.label.as_str(),
    };
    let identities = session.identities(&args.identity, &repositories, &purpose)?;
    let readers = opened::open(run, &repositories, only, &identities)?;
    let assets = opened::assets(&readers, only)?;
    let outlines: Vec<RestoreAsset> = assets.iter().map(OpenedAsset::outline).collect();
    let out = request.out.clone();
    let target = Target::Directory(out.clone());
    let options = LoadOptions::default();
    let restorers = session.find_restorer();
    let (servers, tokens) = (session.find_server(), session.find_token());
    let world = observe(
        &target,
        &outlines,
        &options,
        (&restorers, &servers, &tokens),
    )?;
    let plan = plan_restore(
        run.label.clone(),
        target.clone(),
        &options,
        &outlines,
        &world,
    );
    let consent = Consent::to(&plan)?;
    let envelopes = approval::envelopes(&session, run, &readers);
    let work = Work::Export(RestoreWork::of(&plan, only, envelopes));
    if shows_only {
        super::restore::print_plan(&around.report, &plan);
        let mut document = json!({ "label": run.label, "out": out, "applied": false });
        if let Some(written) = gate.write(&session, &request.read, work)? {
            document["plan"] = written;
        }
        around.report.document(document);
        return Ok(Exit::Done);
    }
    if let Some(approved) = gate.approved() {
        approved.compare(&session, &request.read, work)?;
        approved.use_up(&session)?;
    }
    let progress = Progress::new(&around.report);
    let context = super::restore::context(around, &progress, (&restorers, &servers, &tokens));
    let readers: Vec<_> = readers.into_iter().map(|(_, reader)| reader).collect();
    let mut done = restore::restore(
        &consent,
        &session.config.writer.state_dir,
        &readers,
        &context,
    )?;
    done.problems.extend(run.gaps(only));
    let sums = sums(&target, &out, &assets);
    write(&out.join("SHA256SUMS"), &sums)?;
    let facts = assets.iter().map(|asset| {
        json!({
            "name": asset.asset.name, "class": asset.asset.class, "source": asset.asset.source,
            "settings": asset.asset.settings, "status": asset.result.status,
            "facts": asset.result.facts, "problems": asset.result.problems,
        })
    });
    let about = json!({
        "deployment": run.any().deployment, "label": run.label, "taken": run.any().started,
        "status": run.status(), "assets": facts.collect::<Vec<_>>(),
    });
    let text = serde_json::to_vec_pretty(&about).expect("JSON values serialise");
    write(&out.join("backup.json"), &text)?;
    let report = &around.report;
    super::restore::print_done(report, &done, &[]);
    report.line(format!(
        "Exported {} to {}: {} items, {}. Check them with `sha256sum -c SHA256SUMS` in there.",
        run.label,
        out.display(),
        done.items,
        bytes(done.bytes)
    ));
    let mut document = json!({
        "label": run.label, "out": out, "items": done.items, "bytes": done.bytes,
        "problems": done.problems, "notes": done.notes,
    });
    if let Some(approved) = gate.approved() {
        document["approved"] = approved.to_json();
    }
    report.document(document);
    Ok(if done.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Problems
    })
}

/// The lines of `sha256sum`, with its escapes for odd names (GNU coreutils, "Checksum output format").
fn sums(target: &Target, out: &Path, assets: &[OpenedAsset]) -> Vec<u8> {
    let mut text = Vec::new();
    for asset in assets {
        for stream in &asset.streams {
            let Some(digest) = stream.sha256 else {
                continue;
            };
            let path = place(target, &asset.asset.name, &stream.path);
            let name = path
                .strip_prefix(out)
                .unwrap_or(&path)
                .as_os_str()
                .as_bytes();
            if name
                .iter()
                .any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'))
            {
                text.push(b'\\');
            }
            text.extend_from_slice(format!("{digest}  ").as_bytes());
            for byte in name {
                match byte {
                    b'\\' => text.extend_from_slice(b"\\\\"),
                    b'\n' => text.extend_from_slice(b"\\n"),
                    b'\r' => text.extend_from_slice(b"\\r"),
                    byte => text.push(*byte),
                }
            }
            text.push(b'\n');
        }
    }
    text
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = private_file::create_new(path).map_err(io("create", path))?;
    file.write_all(bytes).map_err(io("write", path))
}
