//! `strongroom custody rehearse`: a custodian proves the share, alone.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::custody::{Quorum, Rehearsal, Statement as _};

use super::{own_share, session_if_any};
use crate::cli::PlainIdentityOptions;
use crate::command::backup::TOOL;
use crate::custody::{Records, read_record};
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;
use crate::sheet::write_new;

/// Arguments of `custody rehearse`.
#[derive(Args)]
pub(crate) struct RehearseArgs {
    /// The share; without it, it is asked for at the terminal
    #[arg(long, value_name = "FILE")]
    share: Option<PathBuf>,
    #[command(flatten)]
    identity: PlainIdentityOptions,
    /// Whose share it is to be
    #[arg(long, value_name = "NAME")]
    custodian: Option<String>,
    /// The custody record, on a machine without the configuration
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write the signed rehearsal to this file, for `custody import` on the host that takes the backups
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &RehearseArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = session_if_any(around)?;
    let kept = session
        .as_ref()
        .map(|session| Records::of(&session.config.writer.state_dir));
    let mut records = match &kept {
        Some(kept) => kept.all()?,
        None => Vec::new(),
    };
    if let Some(path) = &args.record {
        records = vec![read_record(path)?];
    }
    if records.is_empty() {
        return Err(
            Failure::usage("there is no custody record to hold the share against")
                .hint("Name it: --record FILE. `custody create` left it beside the shares."),
        );
    }
    let mut text = own_share(args.share.as_deref(), &args.identity, around)?;
    if let Some(name) = &args.custodian {
        text.custodian = Some(name.clone());
    }
    let refused = |refusal: &strongroom_core::custody::Refusal| {
        Failure::new(Exit::Refused, "share-refused", refusal.to_string()).hint(refusal.hint())
    };
    let own = records.iter().find(|record| record.set == text.share.set());
    let Some(record) = own else {
        let names: Vec<String> = records
            .iter()
            .map(|record| format!("{} ({})", record.name, record.set))
            .collect();
        let message = format!(
            "share {} is of the set {}, which no record describes",
            text.share.index(),
            text.share.set()
        );
        return Err(Failure::new(Exit::Refused, "share-refused", message)
            .hint(format!("Known are {}.", names.join(", "))));
    };
    let quorum = Quorum::of(&text.share, Some(record.clone()));
    quorum.examine(&text).map_err(|refusal| refused(&refusal))?;
    let rehearsal = Rehearsal {
        format: strongroom_core::format::VERSION,
        set: record.set,
        index: text.share.index(),
        time: whole_seconds(around.clock.now()),
        tool: TOOL.to_owned(),
    };
    let signed = rehearsal.sign(&text.share)?;
    let is_ours = kept
        .as_ref()
        .map(Records::all)
        .transpose()?
        .is_some_and(|all| all.iter().any(|one| one.set == record.set));
    if let (Some(kept), true) = (&kept, is_ours) {
        kept.add_rehearsal(&signed)?;
    }
    if let Some(out) = &args.out {
        write_new(out, &signed)?;
    }
    let who = quorum.name(&text);
    let report = &around.report;
    report.line(format!(
        "Proved: {who} of {} (set {}) is there and whole.",
        record.name, record.set
    ));
    if !is_ours && args.out.is_none() {
        report.note("nothing was kept of it: --out FILE writes it for `custody import`");
    }
    report.document(json!({
        "name": record.name, "set": record.set, "index": rehearsal.index,
        "custodian": record.custodian(rehearsal.index).map(|one| &one.name),
        "time": rehearsal.time, "kept": is_ours, "file": args.out,
    }));
    Ok(Exit::Done)
}
