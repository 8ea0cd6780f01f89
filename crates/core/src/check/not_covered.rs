//! What lies next to the assets and no asset covers.

use super::{Finding, Inventory, Rule, Severity};
use crate::source::{Inspection, not_covered};

pub(super) const RULE: Rule = Rule {
    id: "not-covered",
    about: "nothing that looks like part of the server lies next to the assets without being covered",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let inspections: Vec<&Inspection> = inventory
        .assets
        .iter()
        .filter_map(|asset| asset.inspection.as_ref().ok())
        .collect();
    let paths = not_covered(&inspections);
    paths
        .iter()
        .map(|path| {
            let subject = path.display().to_string();
            RULE.finding(
                Severity::Warning,
                &subject,
                "it lies next to an asset and no asset covers it",
            )
            .hint("Add it to the configuration if it belongs to the CA.")
        })
        .collect()
}
