//! `strongroom diff`: what differs between two backups, files and facts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use strongroom_core::format::manifest::Stream;

use crate::cli::{IdentityOptions, ReadOptions};
use crate::custody::Purpose;
use crate::failure::{Exit, Failure};
use crate::opened::{self, OpenedAsset};
use crate::report::{Report, bytes, shown_path};
use crate::runs::Runs;
use crate::session::Surroundings;

/// Arguments of `diff`.
#[derive(Args)]
pub(crate) struct DiffArgs {
    /// The earlier backup
    before: String,
    /// The later backup, or `latest`
    after: String,
    #[command(flatten)]
    read: ReadOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

/// What became of a thing.
struct Change {
    asset: String,
    kind: &'static str,
    path: PathBuf,
    details: Vec<String>,
}

pub(crate) fn run(args: &DiffArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session_reading(&args.read)?;
    let repositories = session.repositories()?;
    let runs = Runs::read(&session, &repositories)?;
    let target = format!("{} {}", args.before, args.after);
    let purpose = Purpose {
        command: "diff",
        target: &target,
    };
    let identities = session.identities(&args.identity, &repositories, &purpose)?;
    let read = |label: &str| {
        let run = runs.find(label, &[])?;
        let readers = opened::open(run, &repositories, &[], &identities)?;
        Ok::<_, Failure>((run.label.clone(), opened::assets(&readers, &[])?))
    };
    let (before_label, before) = read(&args.before)?;
    let (after_label, after) = read(&args.after)?;
    let changes = changes(&before, &after);
    let facts = facts(&before, &after);
    let report = &around.report;
    report.heading(&format!("From {before_label} to {after_label}:"));
    print(report, &changes, &facts);
    report.document(json!({
        "before": before_label,
        "after": after_label,
        "changes": changes.iter().map(|change| json!({
            "asset": change.asset, "change": change.kind, "path": shown_path(&change.path),
            "details": change.details,
        })).collect::<Vec<_>>(),
        "facts": facts.iter().map(|(asset, fact, before, after)| json!({
            "asset": asset, "fact": fact, "before": before, "after": after,
        })).collect::<Vec<_>>(),
    }));
    Ok(Exit::Done)
}

fn print(report: &Report, changes: &[Change], facts: &[FactChange]) {
    if changes.is_empty() && facts.is_empty() {
        report.answer("Nothing differs.");
    }
    for change in changes {
        let details = if change.details.is_empty() {
            String::new()
        } else {
            format!(" ({})", change.details.join(", "))
        };
        let path = shown_path(&change.path);
        report.answer(format!(
            "{:8} {}  {path}{details}",
            change.kind, change.asset
        ));
    }
    for (asset, fact, before, after) in facts {
        report.answer(format!("fact     {asset}  {fact}: {before} -> {after}"));
    }
}

type Streams<'s> = BTreeMap<(&'s str, &'s PathBuf), &'s Stream>;

fn streams(assets: &[OpenedAsset]) -> Streams<'_> {
    let all = assets.iter().flat_map(|asset| {
        let name = asset.asset.name.as_str();
        asset
            .streams
            .iter()
            .map(move |stream| ((name, &stream.path), stream))
    });
    all.collect()
}

fn changes(before: &[OpenedAsset], after: &[OpenedAsset]) -> Vec<Change> {
    let (before, after) = (streams(before), streams(after));
    let mut changes = Vec::new();
    let mut push = |(asset, path): &(&str, &PathBuf), kind, details| {
        changes.push(Change {
            asset: (*asset).to_owned(),
            kind,
            path: (*path).clone(),
            details,
        });
    };
    for (key, old) in &before {
        match after.get(key) {
            None => push(key, "removed", Vec::new()),
            Some(new) => {
                let details = details(old, new);
                if !details.is_empty() {
                    push(key, "changed", details);
                }
            }
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        push(key, "added", Vec::new());
    }
    changes
}

fn details(old: &Stream, new: &Stream) -> Vec<String> {
    let mut details = Vec::new();
    if old.kind != new.kind {
        details.push("another kind of thing".to_owned());
    }
    if old.sha256 != new.sha256 {
        let size = |stream: &Stream| bytes(stream.size.unwrap_or(0));
        details.push(format!("content, {} -> {}", size(old), size(new)));
    }
    if old.mode != new.mode {
        details.push(format!("mode {:04o} -> {:04o}", old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        details.push(format!(
            "owner {}:{} -> {}:{}",
            old.uid, old.gid, new.uid, new.gid
        ));
    }
    if old.target != new.target {
        details.push("target".to_owned());
    }
    if old.xattrs != new.xattrs {
        details.push("attributes".to_owned());
    }
    details
}

/// Asset, name of the fact, before, after.
type FactChange = (String, String, Value, Value);

fn facts(before: &[OpenedAsset], after: &[OpenedAsset]) -> Vec<FactChange> {
    let mut changed = Vec::new();
    for new in after {
        let name = &new.asset.name;
        let Some(old) = before.iter().find(|old| old.asset.name == *name) else {
            continue;
        };
        let (mut old_facts, mut new_facts) = (BTreeMap::new(), BTreeMap::new());
        flatten("", &old.result.facts, &mut old_facts);
        flatten("", &new.result.facts, &mut new_facts);
        let mut names: Vec<&String> = old_facts.keys().chain(new_facts.keys()).collect();
        names.sort();
        names.dedup();
        for fact in names {
            let value =
                |facts: &BTreeMap<String, Value>| facts.get(fact).cloned().unwrap_or(Value::Null);
            let (old, new) = (value(&old_facts), value(&new_facts));
            if old != new {
                changed.push((name.clone(), fact.clone(), old, new));
            }
        }
    }
    changed
}

/// Names every single value by its path, `tables.certificates.rows`.
fn flatten(name: &str, value: &Value, facts: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() {
                    field.clone()
                } else {
                    format!("{name}.{field}")
                };
                flatten(&name, value, facts);
            }
        }
        value => {
            facts.insert(name.to_owned(), value.clone());
        }
    }
}
