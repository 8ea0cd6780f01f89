//! `strongroom custody show`: who holds shares of what, and what became of them.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_core::clock::Clock as _;
use strongroom_core::custody::{CustodyRecord, Opening, Rehearsal};

use crate::custody::Records;
use crate::failure::{Exit, Failure};
use crate::report::{table, when};
use crate::session::{Session, Surroundings};

/// Arguments of `custody show`.
#[derive(Args)]
pub(crate) struct ShowArgs {
    /// Only the sets of this name
    name: Option<String>,
}

pub(crate) fn run(args: &ShowArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let kept = Records::of(&session.config.writer.state_dir);
    let mut records = kept.all()?;
    records.retain(|record| args.name.as_ref().is_none_or(|name| *name == record.name));
    let report = &around.report;
    if let Some(name) = args.name.as_ref().filter(|_| records.is_empty()) {
        return Err(super::no_set(name));
    }
    if records.is_empty() {
        report.answer("No identity is in custody here. `strongroom custody create` splits one; `custody import` takes the record of one.");
    }
    let revoked = kept.revocations()?;
    let mut sets = Vec::new();
    for record in &records {
        let rehearsals = kept.rehearsals(record)?;
        let openings = kept.openings(record)?;
        let used_by = used_by(&session, record);
        print(around, record, &rehearsals, &openings, &used_by);
        let revoked = revoked.get(&record.set);
        if let Some(one) = revoked {
            report.answer(format!("Revoked at {}: {}", when(one.time), one.reason));
        }
        let mut set = document(record, &rehearsals, &openings, &used_by);
        set["revoked"] =
            json!(revoked.map(|one| json!({ "time": one.time, "reason": one.reason })));
        sets.push(set);
    }
    report.document(json!({ "sets": sets }));
    Ok(Exit::Done)
}

/// When a custodian of this number has last shown the share.
pub(crate) fn last_rehearsal(rehearsals: &[Rehearsal], index: u8) -> Option<Timestamp> {
    let own = rehearsals.iter().filter(|one| one.index == index);
    own.map(|one| one.time).max()
}

/// The repositories whose next epochs are sealed to it.
fn used_by(session: &Session<'_>, record: &CustodyRecord) -> Vec<String> {
    let all = session.config.repositories.iter();
    all.filter(|(_, repository)| repository.recipients.contains(&record.recipient))
        .map(|(name, _)| name.clone())
        .collect()
}

fn numbered(record: &CustodyRecord) -> impl Iterator<Item = (u8, &str, Option<&str>)> {
    let custodians = (1..=u8::MAX).zip(&record.custodians);
    custodians.map(|(index, one)| (index, one.name.as_str(), one.recipient.as_deref()))
}

fn print(
    around: &Surroundings,
    record: &CustodyRecord,
    rehearsals: &[Rehearsal],
    openings: &[Opening],
    used_by: &[String],
) {
    let report = &around.report;
    report.answer(format!(
        "{}: any {} of {} custodians; set {}, made {}",
        record.name,
        record.threshold,
        record.custodians.len(),
        record.set,
        when(record.created)
    ));
    report.answer(format!("  opens {}", record.recipient));
    report.answer(match used_by {
        [] => "  no repository of the configuration is sealed to it".to_owned(),
        names => format!("  sealed to it: {}", names.join(", ")),
    });
    let now = around.clock.now();
    let rows = numbered(record).map(|(index, name, recipient)| {
        let last = last_rehearsal(rehearsals, index);
        vec![
            index.to_string(),
            name.to_owned(),
            recipient.map_or("on paper".to_owned(), shortened),
            last.map_or("never".to_owned(), |time| {
                let days = now.duration_since(time).as_hours() / 24;
                format!("{} ({days} days ago)", when(time))
            }),
        ]
    });
    report.answer(table(
        &["share", "custodian", "sealed to", "rehearsed"],
        rows.collect(),
    ));
    if !openings.is_empty() {
        let rows = openings.iter().map(|one| {
            let name = record
                .custodian(one.index)
                .map_or("?", |custodian| &custodian.name);
            vec![
                when(one.time),
                name.to_owned(),
                format!("{} {}", one.command, one.target),
                format!("{} on {}", one.user, one.host),
                one.given.clone(),
            ]
        });
        report.answer("Opened:");
        report.answer(table(
            &["when", "custodian", "for", "by", "share from"],
            rows.collect(),
        ));
    }
}

/// A recipient in a table: those that withstand quantum computers are two thousand characters long.
fn shortened(recipient: &str) -> String {
    const LENGTH_MAX: usize = 80;
    match (recipient.len() > LENGTH_MAX, recipient.get(..40)) {
        (true, Some(begin)) => format!("{begin}..."),
        _ => recipient.to_owned(),
    }
}

fn document(
    record: &CustodyRecord,
    rehearsals: &[Rehearsal],
    openings: &[Opening],
    used_by: &[String],
) -> Value {
    let custodians = numbered(record).map(|(index, name, recipient)| {
        json!({
            "share": index, "name": name, "recipient": recipient,
            "rehearsed": last_rehearsal(rehearsals, index),
        })
    });
    json!({
        "name": record.name, "set": record.set, "recipient": record.recipient, "threshold": record.threshold,
        "created": record.created, "repositories": used_by,
        "custodians": custodians.collect::<Vec<_>>(), "openings": openings,
    })
}
