//! Every asset exists and can be read whole.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "asset-readable",
    about: "every asset exists and can be read whole",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for asset in &inventory.assets {
        let name = &asset.name;
        match &asset.inspection {
            Err(why) => findings.push(RULE.finding(Severity::Problem, name, why.clone())),
            Ok(inspection) => {
                for problem in &inspection.problems {
                    findings.push(RULE.finding(Severity::Problem, name, problem.clone()));
                }
                for note in &inspection.notes {
                    findings.push(RULE.finding(Severity::Warning, name, note.clone()));
                }
                if inspection.problems.is_empty() {
                    let (files, bytes) = (inspection.files, inspection.size_bytes);
                    let message = match &inspection.about {
                        Some(about) if bytes == 0 => format!("{about}: it can be read"),
                        Some(about) => format!("{about}: {bytes} bytes can be read"),
                        None => format!("{files} files of {bytes} bytes can be read"),
                    };
                    findings.push(RULE.finding(Severity::Good, name, message));
                }
            }
        }
    }
    findings
}
