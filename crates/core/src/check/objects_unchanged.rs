//! Nothing that a backup needs was stored once more after it.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "objects-unchanged",
    about: "no object was stored after a backup that needs it, so none was overwritten with as many bytes",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for repository in &inventory.repositories {
        let Ok(opened) = &repository.opened else {
            continue;
        };
        let (name, replaced) = (&repository.name, &opened.replaced);
        let before = findings.len();
        if let Some(first) = replaced.overwritten.first() {
            let message = format!(
                "{} objects that backups need were overwritten with other bytes, {first} for one: the storage or `verify` \
                 found another digest",
                replaced.overwritten.len()
            );
            findings.push(RULE.finding(Severity::Problem, name, message).hint(
                "Find out who changed the storage. `strongroom verify --all` tells which backups are damaged; `--as-of` reads what was there before, where the storage keeps versions. The next backup stores anew what it needs.",
            ));
        }
        if let Some(first) = replaced.unread.first() {
            let message = format!(
                "{} objects were stored after backups that need them, {first} for one; their bytes may be others",
                replaced.unread.len()
            );
            findings.push(RULE.finding(Severity::Warning, name, message).hint(
                "Was the storage put back from somewhere, or repaired from another host? Then `strongroom verify --all` reads them and this ends. If not, somebody overwrites objects. Until then the next backup stores anew what it needs of them.",
            ));
        }
        if findings.len() == before && opened.backups.0 > 0 {
            findings.push(RULE.finding(
                Severity::Good,
                name,
                "no object was stored after a backup that needs it",
            ));
        }
    }
    findings
}
