//! There is room for the next backup.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "room-left",
    about: "repositories have room for a whole new epoch, and the state directory for a copy of the databases",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let sizes = |database_only: bool| -> u64 {
        let assets = inventory.assets.iter();
        assets
            .filter(|asset| !database_only || asset.source != "files")
            .filter_map(|asset| asset.inspection.as_ref().ok())
            .map(|inspection| inspection.size_bytes)
            .fold(0, u64::saturating_add)
    };
    let all = sizes(false);
    let mut findings = Vec::new();
    for repository in &inventory.repositories {
        let Some(room) = repository
            .opened
            .as_ref()
            .ok()
            .and_then(|opened| opened.room)
        else {
            continue;
        };
        let free = room.free_bytes;
        let finding = if free < all.max(64 << 20) {
            let message =
                format!("{free} bytes are free; all assets together have {all} before compression");
            RULE.finding(Severity::Warning, &repository.name, message)
                .hint("Make room before the next epoch begins, which stores everything once more.")
        } else {
            RULE.finding(
                Severity::Good,
                &repository.name,
                format!("{free} bytes are free"),
            )
        };
        findings.push(finding);
    }
    let databases = sizes(true);
    if let Some(room) = inventory
        .scratch_room
        .filter(|room| room.free_bytes < databases)
    {
        let message = format!(
            "{} bytes are free for the private copy of databases of {databases} bytes",
            room.free_bytes
        );
        let finding = RULE.finding(Severity::Problem, "state directory", message);
        findings
            .push(finding.hint("Make room, or set `state_dir` under [writer] to a larger place."));
    }
    findings
}
