//! Every private key belongs to the certificate that it is said to belong to.

use super::{Finding, Inventory, Rule, Severity};
use crate::source::Class;

pub(super) const RULE: Rule = Rule {
    id: "key-belongs",
    about: "every private key signs what its certificate verifies",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let keys = inventory
        .assets
        .iter()
        .filter(|asset| asset.class == Class::Key);
    keys.flat_map(|asset| {
        let name = &asset.name;
        let unnamed = || {
            RULE.finding(
                Severity::Warning,
                name,
                "no certificate is named, so nothing proves the key",
            )
            .hint("Add `certificate = \"...\"` to the asset.")
        };
        let Some(keys) = &asset.keys else {
            return vec![unnamed()];
        };
        let problems = keys.problems.iter().map(|text| (Severity::Problem, text));
        let notes = keys.notes.iter().map(|text| (Severity::Warning, text));
        let mut findings: Vec<Finding> = problems
            .chain(notes)
            .map(|(severity, text)| RULE.finding(severity, name, text.clone()))
            .collect();
        if keys.problems.is_empty() && keys.are_proved {
            let good = "the key signs what its certificate verifies";
            findings.push(RULE.finding(Severity::Good, name, good));
        } else if findings.is_empty() {
            findings.push(unnamed());
        }
        findings
    })
    .collect()
}
