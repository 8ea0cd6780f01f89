//! Every object that a backup needs is stored with its size, and the repository is not flooded.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "objects-there",
    about: "every object that a backup needs is there with its size, and not much besides",
    judge,
};

/// What interrupted runs may leave without being told, in bytes.
const REMAINS_BYTES: u64 = 256 << 20;

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for repository in &inventory.repositories {
        let Ok(opened) = &repository.opened else {
            continue;
        };
        let (name, objects) = (&repository.name, &opened.objects);
        let before = findings.len();
        let damaged = [
            (&objects.missing, "are missing"),
            (
                &objects.of_another_size,
                "have another size than was written",
            ),
        ];
        for (damaged, what) in damaged {
            if let Some(first) = damaged.first() {
                let message = format!(
                    "{} objects that backups need {what}, {first} for one",
                    damaged.len()
                );
                findings.push(RULE.finding(Severity::Problem, name, message).hint(HINT));
            }
        }
        if objects.unneeded_bytes > REMAINS_BYTES.max(objects.needed_bytes / 2) {
            let message = format!(
                "{} objects of {} bytes belong to no backup",
                objects.unneeded, objects.unneeded_bytes
            );
            findings.push(RULE.finding(Severity::Warning, name, message).hint(
                "Interrupted runs and expired backups leave some, which `strongroom expire --apply` removes; as many may also be somebody who fills the storage.",
            ));
        }
        if findings.len() == before && opened.backups.0 > 0 {
            findings.push(RULE.finding(
                Severity::Good,
                name,
                "every object that a backup needs is there with its size",
            ));
        }
    }
    findings
}

const HINT: &str = "Find out who changed the storage. `strongroom verify --all` tells which backups are damaged; the next backup stores anew what it needs.";
