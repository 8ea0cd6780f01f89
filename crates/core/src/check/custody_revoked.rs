//! No repository is sealed to custodians that were revoked.

use super::{CustodySeen, Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "custody-revoked",
    about: "no repository is sealed to custodians who were revoked",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    inventory.custody.iter().filter_map(judge_set).collect()
}

fn judge_set(set: &CustodySeen) -> Option<Finding> {
    let reason = set.revoked.as_ref()?;
    let message = format!("backups are sealed to these custodians, who were revoked: {reason}");
    let finding = RULE.finding(Severity::Problem, &set.name, message);
    Some(finding.hint(
        "Make a new set with `strongroom custody create`, put its recipient into the configuration, and run `strongroom custody rotate`.",
    ))
}
