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
        match &asset.key_problems {
            None => vec![
                RULE.finding(
                    Severity::Warning,
                    name,
                    "no certificate is named, so nothing proves the key",
                )
                .hint("Add `certificate = \"...\"` to the asset."),
            ],
            Some(problems) if problems.is_empty() => {
                vec![RULE.finding(
                    Severity::Good,
                    name,
                    "the key signs what its certificate verifies",
                )]
            }
            Some(problems) => problems
                .iter()
                .map(|problem| RULE.finding(Severity::Problem, name, problem.clone()))
                .collect(),
        }
    })
    .collect()
}
