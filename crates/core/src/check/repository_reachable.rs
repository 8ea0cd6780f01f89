//! Every repository can be opened, and this host may write to it.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "repository-reachable",
    about: "every repository can be opened, and the writer key is one of its own",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let repositories = inventory.repositories.iter();
    repositories
        .map(|repository| match &repository.opened {
            Err((why, hint)) => {
                let mut finding = RULE.finding(Severity::Problem, &repository.name, why.clone());
                finding.hint.clone_from(hint);
                finding
            }
            Ok(opened) if !opened.writer_known => RULE
                .finding(
                    Severity::Problem,
                    &repository.name,
                    "the writer key is not the one that this repository was made with",
                )
                .hint("Put back the file of the writer key, or make a new repository."),
            Ok(opened) => {
                let message = match &opened.backups {
                    (0, _) | (_, None) => "it can be opened and holds no backup yet".to_owned(),
                    (count, Some((label, _))) => {
                        format!("it can be opened and holds {count} backups, the newest {label}")
                    }
                };
                RULE.finding(Severity::Good, &repository.name, message)
            }
        })
        .collect()
}
