//! The configuration seals to whom the repository was made for.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "recipients-pinned",
    about: "the recipients in the configuration are those that the repository was made for",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let repositories = inventory.repositories.iter();
    let opened = repositories.filter_map(|repository| {
        repository
            .opened
            .as_ref()
            .ok()
            .map(|opened| (&repository.name, opened))
    });
    opened
        .map(|(name, opened)| {
            if opened.recipients_agree {
                RULE.finding(Severity::Good, name, "the recipients are the pinned ones")
            } else {
                RULE.finding(
                    Severity::Problem,
                    name,
                    "the recipients in the configuration are not those that the repository was made for",
                )
                .hint(
                    "If you changed them: `strongroom init --accept-recipients NAME`. If not, somebody else did, to \
                     read your backups.",
                )
            }
        })
        .collect()
}
