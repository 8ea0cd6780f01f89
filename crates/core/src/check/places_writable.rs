//! What a backup writes to can be written.

use super::{Finding, Inventory, Rule, Severity};

pub(super) const RULE: Rule = Rule {
    id: "places-writable",
    about: "the state directory, and repositories that are directories, can be written",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let mut findings = Vec::new();
    for place in &inventory.written {
        let Some((path, why)) = &place.unwritable else {
            findings.push(RULE.finding(Severity::Good, &place.subject, "it can be written"));
            continue;
        };
        let message = format!("{} cannot be written: {why}", path.display());
        let hint = if place.is_state {
            "Give it to the account that takes backups, or set `state_dir` under [writer] to another place."
        } else {
            "Is it mounted read-only, or does it belong to another account than the one that takes backups?"
        };
        findings.push(
            RULE.finding(Severity::Problem, &place.subject, message)
                .hint(hint),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::WrittenSeen;
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_is_a_problem() {
        let seen = |is_state, unwritable: Option<&str>| Inventory {
            written: vec![WrittenSeen {
                subject: "offsite".into(),
                is_state,
                unwritable: unwritable.map(|why| ("/srv/x".into(), why.to_owned())),
            }],
            ..Inventory::default()
        };
        let good = judge(&seen(false, None));
        assert_eq!(good[0].severity, Severity::Good);
        for (is_state, hint) in [(false, "read-only"), (true, "state_dir")] {
            let found = judge(&seen(is_state, Some("Read-only file system")));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].severity, Severity::Problem);
            assert!(found[0].message.contains("/srv/x"), "{found:?}");
            let told = found[0].hint.as_deref().unwrap_or_default();
            assert!(told.contains(hint), "{told}");
        }
    }
}
