//! The passwords of a database server's roles, which no database holds.

use super::{Finding, Inventory, Rule, Severity};
use crate::source::Class;

pub(super) const RULE: Rule = Rule {
    id: "server-accounts-covered",
    about: "where databases of a server are captured, its accounts with their password hashes are too, as an asset of class secret",
    judge,
};

fn judge(inventory: &Inventory) -> Vec<Finding> {
    let of_servers = || inventory.assets.iter().filter(|asset| asset.is_on_server);
    let is_covered = |source: &str| {
        of_servers().any(|asset| asset.class == Class::Secret && asset.source == source)
    };
    of_servers()
        .filter(|asset| asset.class == Class::Database && !is_covered(&asset.source))
        .map(|asset| {
            RULE.finding(
                Severity::Warning,
                &asset.name,
                "the password hashes of its server's accounts are in no asset: restored on a new server, they have no passwords",
            )
            .hint(format!(
                "Add an asset with source = \"{}\" and class = \"secret\" for the same server.",
                asset.source
            ))
        })
        .collect()
}
