//! The password of an encrypted key comes back too, as a secret.

use super::{Finding, Inventory, Rule, Severity};
use crate::source::Class;

pub(super) const RULE: Rule = Rule {
    id: "key-password-covered",
    about: "the password file of encrypted keys is in an asset of class secret",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let assets = inventory.assets.iter();
    assets
        .filter_map(|asset| {
            let password = asset.password.as_ref()?;
            let file = password.file.display();
            let mut covering = password.covered_by.iter();
            Some(match covering.find(|(_, class)| *class == Class::Secret) {
                Some((secret, _)) => RULE.finding(
                    Severity::Good,
                    &asset.name,
                    format!("the password of its keys is in asset \"{secret}\""),
                ),
                None => RULE
                    .finding(
                        Severity::Warning,
                        &asset.name,
                        format!("the password file {file} is in no asset of class secret: without it the keys come back and do not open"),
                    )
                    .hint("Add an asset with class = \"secret\" for it, in a repository with recipients other than those of the keys."),
            })
        })
        .collect()
}
