//! No envelope was removed, replaced or rolled back.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "history-unbroken",
    about: "no envelope was removed, replaced, damaged or rolled back",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for repository in &inventory.repositories {
        let Ok(opened) = &repository.opened else {
            continue;
        };
        let name = &repository.name;
        let before = findings.len();
        for problem in &opened.history_problems {
            findings.push(RULE.finding(Severity::Problem, name, problem.clone()));
        }
        if let Some(sequence) = opened.rolled_back_from {
            let message = format!(
                "its history was rolled back: this host has written envelope {sequence}, which is not there"
            );
            findings.push(RULE.finding(Severity::Problem, name, message).hint(
                "Find out who changed the storage; restore it from a copy of its own if there is one.",
            ));
        }
        if let Some((written, newest)) = opened.newer_than_written {
            let message = format!(
                "this host remembers envelope {written} as its last, and there is envelope {newest} with its signature"
            );
            findings.push(RULE.finding(Severity::Warning, name, message).hint(
                "Was its state directory lost or put back, or a run killed at its end? Then the next backup goes on from there. If not, somebody else has the writer key.",
            ));
        }
        if findings.len() == before && opened.backups.0 > 0 {
            findings.push(RULE.finding(Severity::Good, name, "the chain of envelopes is unbroken"));
        }
    }
    findings
}
