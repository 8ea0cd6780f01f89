//! The writer key exists, can be used, and nobody else can read it.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "writer-key-private",
    about: "the writer key exists, can be used, and only its owner can read it",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let key = &inventory.writer_key;
    let subject = key.path.display().to_string();
    let finding = match (key.mode, &key.unusable) {
        (None, _) => RULE
            .finding(Severity::Problem, &subject, "the writer key is missing")
            .hint("Put its file back; only for a new deployment, `strongroom init` makes one."),
        (Some(mode), _) if mode & 0o077 != 0 => RULE
            .finding(
                Severity::Problem,
                &subject,
                "others can read the writer key",
            )
            .hint(format!("chmod 600 {subject}")),
        (_, Some(why)) => RULE.finding(Severity::Problem, &subject, why.clone()),
        _ => RULE.finding(Severity::Good, &subject, "only its owner can read it"),
    };
    vec![finding]
}
