//! Every share was shown to be there not long ago.

use super::{CustodySeen, Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "custody-rehearsed",
    about: "each custodian has shown not long ago that his share is there",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let current = inventory.custody.iter().filter(|set| set.revoked.is_none());
    current.map(judge_set).collect()
}

fn judge_set(set: &CustodySeen) -> Finding {
    let days = set.interval_days;
    let overdue: Vec<String> = set
        .custodians
        .iter()
        .filter(|(_, age)| age.is_none_or(|age| age > days))
        .map(|(name, age)| match age {
            Some(age) => format!("{name} (last {age} days ago)"),
            None => format!("{name} (never)"),
        })
        .collect();
    if overdue.is_empty() {
        let message = format!("every custodian has rehearsed in the last {days} days");
        return RULE.finding(Severity::Good, &set.name, message);
    }
    let in_time = set.custodians.len() - overdue.len();
    let message = format!(
        "shares not rehearsed in the last {days} days: {}; {in_time} of {} are known to be there, {} are needed",
        overdue.join(", "),
        set.custodians.len(),
        set.threshold
    );
    RULE.finding(Severity::Warning, &set.name, message).hint(
        "Let them run `strongroom custody rehearse`; for what is lost, `custody create` and `custody rotate` make new shares.",
    )
}
