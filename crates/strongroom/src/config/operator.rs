//! The `[operator.NAME]` tables, and how many of them must approve.

use std::collections::BTreeMap;

use toml::Spanned;

use super::Approvals;
use super::error::Problems;
use super::parse::check_name;
use super::section::Section;
use crate::approval::{KeyFault, OperatorKey};

/// For how many hours a plan holds when the configuration does not say.
const PLAN_HOURS_DEFAULT: u32 = 24;
/// The longest time that a plan may hold: a month.
const PLAN_HOURS_MAX: i64 = 720;

const KEY_HINT: &str = "Write the line of the operator's public key, such as that of ~/.ssh/id_ed25519.pub: key = \"ssh-ed25519 AAAA...\".";
const COUNT_HINT: &str =
    "Write how many operators must sign a plan, 1 or more; where nobody must, leave the key out.";

/// What `[deployment]` says of approvals.
#[derive(Default)]
pub(super) struct Rule {
    approvals: Option<Spanned<i64>>,
    plan_hours: Option<Spanned<i64>>,
}

impl Rule {
    /// Reads `approvals` and `plan_hours`.
    pub(super) fn read(section: &Section<'_, '_>) -> Self {
        let approvals = section.integer("approvals");
        if let Some(count) = approvals.as_ref().filter(|count| *count.get_ref() < 1) {
            let what = format!("\"approvals\" is {}", count.get_ref());
            section.report(&count.span(), what, COUNT_HINT);
        }
        let plan_hours = section.integer("plan_hours");
        if let Some(hours) = &plan_hours {
            if !(1..=PLAN_HOURS_MAX).contains(hours.get_ref()) {
                section.report(
                    &hours.span(),
                    format!("\"plan_hours\" is {}", hours.get_ref()),
                    format!("A plan holds for 1 to {PLAN_HOURS_MAX} hours."),
                );
            } else if section.value("approvals").is_none() {
                section.report(
                    &hours.span(),
                    "\"plan_hours\" without approvals",
                    "It says for how long a plan waits for signatures; write approvals = 2 beside it, or take it out.",
                );
            }
        }
        Self {
            approvals,
            plan_hours,
        }
    }
}

/// Reads the operators; `None` where nobody must approve, or something was reported.
pub(super) fn read(
    root: &Section<'_, '_>,
    rule: Rule,
    problems: &Problems<'_>,
) -> Option<Approvals> {
    let tables = root.tables("operator");
    let count = tables.len();
    let mut operators: BTreeMap<String, OperatorKey> = BTreeMap::new();
    for (place, name, span, table) in tables {
        let section = Section::new(format!("operator \"{name}\""), span, table, problems);
        check_name(&section, &place, name);
        if rule.approvals.is_none() {
            section.report(
                &place,
                "nothing asks for this operator's approval",
                "Write approvals = 2, or another number, into [deployment]; or take the operators out.",
            );
        }
        if let Some(key) = key(&section) {
            let same = operators.iter().find(|(_, other)| **other == key.1);
            if let Some((other, _)) = same {
                section.report(
                    &key.0,
                    format!("the same key as operator \"{other}\""),
                    "Who holds one key is one operator; give each a key of their own.",
                );
            }
            operators.insert(name.to_owned(), key.1);
        }
        section.finish();
    }
    let needed = rule.approvals?;
    let hours = rule.plan_hours.map(Spanned::into_inner);
    if i64::try_from(count).unwrap_or(i64::MAX) < *needed.get_ref() {
        let there = match count {
            0 => "there is no operator".to_owned(),
            1 => "there is 1 operator".to_owned(),
            count => format!("there are {count} operators"),
        };
        problems.report(
            &needed.span(),
            format!(
                "[deployment]: \"approvals\" is {}, and {there}",
                needed.get_ref()
            ),
            "Add a table [operator.NAME] with key = \"ssh-ed25519 AAAA...\" for each operator.",
        );
    }
    Some(Approvals {
        needed: u32::try_from(*needed.get_ref()).ok()?,
        plan_hours: hours
            .and_then(|hours| u32::try_from(hours).ok())
            .unwrap_or(PLAN_HOURS_DEFAULT),
        operators,
    })
}

/// The operator's key and its place.
fn key(section: &Section<'_, '_>) -> Option<(std::ops::Range<usize>, OperatorKey)> {
    let text = section.required("key", KEY_HINT)?;
    let (what, hint) = match OperatorKey::parse(text.get_ref()) {
        Ok(key) => return Some((text.span(), key)),
        // What was written there may be a secret, and is never shown.
        Err(KeyFault::Private) => (
            "\"key\" is a private key",
            "Take it out, and make a new key: this one has been written where others read. Here belongs the public one.",
        ),
        Err(KeyFault::Kind) => (
            "\"key\" is of a kind that is not accepted",
            "Operators sign with Ed25519: ssh-keygen -t ed25519, or -t ed25519-sk for a key in hardware.",
        ),
        Err(KeyFault::NotAKey) => ("\"key\" is not the public key of OpenSSH", KEY_HINT),
    };
    section.report(&text.span(), what, hint);
    None
}
