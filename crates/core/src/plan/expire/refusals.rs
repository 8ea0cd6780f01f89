//! Why nothing may go: a history with holes, a newest backup that is not known to be good, a clock that jumped.
//!
//! What is wrong with a copy stops that copy alone; what is wrong with a repository that backups go to stops all.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{CLOCK_TOLERANCE, ExpireInput, Ledger, Refusal};
use crate::format::Label;
use crate::format::envelope::{Envelope, Status};

/// How long after the newest backup the clock is believed when gaps between backups tell nothing, in days.
const SILENCE_DAYS: i64 = 45;
/// The same as a multiple of the longest gap between two backups.
const SILENCE_GAPS: i32 = 3;

/// Why nothing may go.
pub(super) fn refusals(input: &ExpireInput, ledgers: &BTreeMap<&str, Ledger<'_>>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (name, ledger) in ledgers {
        let seen = ledger.seen;
        let is_accepted = input.accept_missing && seen.other_problems == 0;
        if let Some(problem) = seen.problems.first().filter(|_| !is_accepted) {
            let more = seen.problems.len() - 1;
            let more = if more == 0 {
                String::new()
            } else {
                format!(" (and {more} more)")
            };
            refusals.push(Refusal {
                code: "history",
                copy: ledger.copy(name),
                what: format!("repository {name}: {problem}{more}"),
                hint: "Nothing is deleted while the history has holes: what looks unneeded may be all that is left of a \
                       backup. Bring the envelopes back from a copy. If they are lost for good, say so once with \
                       --accept-missing."
                    .to_owned(),
            });
        }
    }
    for (name, ledger) in ledgers.iter().filter(|(_, ledger)| ledger.seen.is_copy) {
        if let Some(newest) = ledger.backups.last() {
            let found = ledger.found(&newest.label);
            refusals.extend(newest_is_bad(name, ledger.copy(name), &newest.label, found));
        }
    }
    let newest = ledgers
        .values()
        .filter(|ledger| !ledger.seen.is_copy)
        .filter_map(|ledger| ledger.backups.last())
        .max_by_key(|one| one.run);
    let Some(newest) = newest else {
        return refusals;
    };
    for name in &newest.repositories {
        let ledger = ledgers.get(name.as_str());
        let found = ledger.and_then(|ledger| ledger.found(&newest.label));
        let refusal = newest_is_bad(name, None, &newest.label, found);
        if let Some(refusal) = refusal
            && !refusals.iter().any(|one| one.what == refusal.what)
        {
            refusals.push(refusal);
        }
    }
    if !input.clock_is_right {
        clock_is_sound(input.now, newest, ledgers, &mut refusals);
    }
    refusals
}

/// Nothing goes before its successor is known to be good.
fn newest_is_bad(
    name: &str,
    copy: Option<String>,
    label: &Label,
    found: Option<(Status, Option<u8>)>,
) -> Option<Refusal> {
    let (code, what, hint) = match found {
        None => (
            "newest-incomplete",
            format!("the newest backup {label} is incomplete: repository {name} does not have it"),
            "Take a complete backup first: `strongroom backup`.".to_owned(),
        ),
        Some((Status::Incomplete, _)) => (
            "newest-incomplete",
            format!("the newest backup {label} is incomplete"),
            "Take a complete backup first: `strongroom backup` says what was missing.".to_owned(),
        ),
        Some((_, Some(0))) => (
            "newest-damaged",
            format!("the newest backup {label} is damaged in repository {name}"),
            if copy.is_some() {
                "Bring back what it lost: `strongroom repair --from ORIGINAL --to COPY`.".to_owned()
            } else {
                "Take another backup, and verify it: `strongroom backup`, `strongroom verify`."
                    .to_owned()
            },
        ),
        Some((_, None)) => (
            "newest-unverified",
            format!("the newest backup {label} was not verified in repository {name}"),
            if copy.is_some() {
                format!(
                    "Run `strongroom verify {label} --repository {name}` on this host, then `strongroom expire` again."
                )
            } else {
                format!(
                    "Run `strongroom verify {label}` on this host, then `strongroom expire` again."
                )
            },
        ),
        Some((_, Some(_))) => return None,
    };
    Some(Refusal {
        code,
        copy,
        what,
        hint,
    })
}

/// A clock that jumped must not make everything look old.
fn clock_is_sound(
    now: Timestamp,
    newest: &Envelope,
    ledgers: &BTreeMap<&str, Ledger<'_>>,
    refusals: &mut Vec<Refusal>,
) {
    let hint =
        "Compare `date -u` with another clock. If this one is right, say so with --clock-is-right.";
    let age = now.duration_since(newest.started);
    if age < -CLOCK_TOLERANCE {
        refusals.push(Refusal {
            code: "clock",
            copy: None,
            what: format!(
                "the newest backup {} was taken at {}, and this host's clock shows {now}",
                newest.label, newest.started
            ),
            hint: hint.to_owned(),
        });
        return;
    }
    let longest = ledgers
        .values()
        .filter(|ledger| !ledger.seen.is_copy)
        .flat_map(|ledger| {
            let times: Vec<Timestamp> = ledger.times.iter().flatten().copied().collect();
            let gaps: Vec<SignedDuration> = times
                .windows(2)
                .map(|two| two[1].duration_since(two[0]))
                .collect();
            gaps
        })
        .max()
        .unwrap_or_default();
    let bound = SignedDuration::from_hours(24 * SILENCE_DAYS).max(
        longest
            .checked_mul(SILENCE_GAPS)
            .unwrap_or(SignedDuration::MAX),
    );
    if age > bound {
        refusals.push(Refusal {
            code: "clock",
            copy: None,
            what: format!(
                "the newest backup {} is {} days old: either backups have stopped or this host's clock is wrong",
                newest.label,
                age.as_hours() / 24
            ),
            hint: format!("Take a backup first. {hint}"),
        });
    }
}
