//! The paths of the streams of a token.

use std::collections::BTreeSet;

use strongroom_core::format::Digest;
use strongroom_core::source::server::encode_part;

use super::facts::{ObjectFacts, ObjectKind};
use super::module::TokenFacts;

/// The longest label that stands in a path, encoded.
const LABEL_MAX: usize = 100;

/// The first part of all paths of a token: its label, or its serial where it has none.
pub(super) fn token(facts: &TokenFacts) -> String {
    let name = [&facts.label, &facts.serial]
        .into_iter()
        .find(|name| !name.is_empty());
    encode_part(name.map_or("token", String::as_str))
}

/// What the vendor's procedure made.
pub(super) fn vendor_backup(token: &str) -> String {
    format!("/{token}/vendor-backup")
}

/// The facts of the token and its objects, for those who restore by hand.
pub(super) fn objects(token: &str) -> String {
    format!("/{token}/objects.json")
}

/// `/TOKEN/CLASS.ID.LABEL.SUFFIX`, with a number where that is taken.
pub(super) fn object(token: &str, facts: &ObjectFacts, taken: &mut BTreeSet<String>) -> String {
    let suffix = match facts.class {
        ObjectKind::Certificate => "der",
        ObjectKind::PublicKey => "spki.der",
        ObjectKind::SecretKey | ObjectKind::PrivateKey => "wrapped",
        ObjectKind::Data | ObjectKind::Other => "bin",
    };
    let mut label = encode_part(&facts.label);
    if label.len() > LABEL_MAX {
        label = Digest::of(label.as_bytes()).to_string();
    }
    let id: String = facts.id.chars().take(LABEL_MAX).collect();
    let names = [facts.class.name(), &id, &label];
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let name = names.join(".");
    let mut number = 1;
    loop {
        let path = match number {
            1 => format!("/{token}/{name}.{suffix}"),
            number => format!("/{token}/{name}.{number}.{suffix}"),
        };
        if taken.insert(path.clone()) {
            return path;
        }
        number += 1;
    }
}
