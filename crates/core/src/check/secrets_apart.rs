//! No asset holds secrets that its class is not for.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "secrets-apart",
    about: "secrets are in assets that are for them, or it is on record why not",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for asset in &inventory.assets {
        let name = &asset.name;
        match &asset.secrets {
            None => {}
            Some(Err(why)) => findings.push(RULE.finding(Severity::Problem, name, why.clone())),
            Some(Ok(seen)) => {
                for problem in &seen.problems {
                    findings.push(RULE.finding(Severity::Problem, name, problem.clone()));
                }
                for note in &seen.notes {
                    findings.push(RULE.finding(Severity::Good, name, note.clone()));
                }
                if seen.problems.is_empty() && seen.notes.is_empty() {
                    let files = seen.files;
                    let message = match seen.too_long {
                        0 => format!("no secrets in {files} files"),
                        more => format!(
                            "no secrets in {files} files; {more} long ones are looked at by the backup"
                        ),
                    };
                    findings.push(RULE.finding(Severity::Good, name, message));
                }
            }
        }
    }
    findings
}
