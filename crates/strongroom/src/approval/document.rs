//! The plan as operators sign it: one JSON document, the same bytes whenever the same is written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_core::plan::approval::{ExpireWork, RestoreWork};

use super::differences::differences;

/// The version of the document.
pub(super) const VERSION: u32 = 1;

/// A plan that waits for signatures, or has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanDocument {
    /// [`VERSION`].
    pub(super) strongroom_plan: u32,
    /// 32 random hexadecimal digits, by which it is known when it was used.
    pub(super) id: String,
    /// When it was made.
    pub(super) made: Timestamp,
    /// From when on it is nothing any more.
    pub(super) expires: Timestamp,
    /// What it decides.
    pub(crate) scope: Scope,
}

/// Everything that decides what will be done; made again before it is carried out, and compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    /// The installation.
    pub(super) deployment: String,
    /// The host that will do it, by its own name.
    pub(super) host: String,
    /// The state directory that will remember it, by its random name.
    pub(super) state: String,
    /// The program that will do it.
    pub(super) tool: String,
    /// How many operators must have signed.
    pub(super) approvals: u32,
    /// All operators, with the fingerprints of their keys.
    pub(super) operators: BTreeMap<String, String>,
    /// The copies that are read in place of the repositories that they copy.
    pub(crate) from: Vec<String>,
    /// As of when repositories are read.
    pub(crate) as_of: Option<Timestamp>,
    /// What is done.
    pub(crate) work: Work,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// A restore.
    Restore(RestoreWork),
    /// An export: a restore into a directory, with checksums.
    Export(RestoreWork),
    /// An expiry.
    Expire(ExpireWork),
}

impl Work {
    /// The command that does it.
    pub(crate) fn command(&self) -> &'static str {
        match self {
            Self::Restore(_) => "restore",
            Self::Export(_) => "export",
            Self::Expire(_) => "expire",
        }
    }
}

impl PlanDocument {
    /// The bytes that are signed.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a plan of plain values serialises");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a document that was written by [`PlanDocument::to_bytes`], and nothing else; says why not.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if document.strongroom_plan != VERSION {
            return Err(format!("it is of version {}", document.strongroom_plan));
        }
        if document.to_bytes() != bytes {
            return Err("it is not as Strongroom wrote it".to_owned());
        }
        Ok(document)
    }

    /// What would be done otherwise than it was signed, a line each.
    pub(super) fn differences(&self, now: &Scope) -> Vec<String> {
        if self.scope == *now {
            return Vec::new();
        }
        let value = |scope| serde_json::to_value(scope).expect("plain values serialise");
        let found = differences(&value(&self.scope), &value(now));
        if found.is_empty() {
            return vec!["something is written in another way".to_owned()];
        }
        found
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A plan of an expiry that deletes nothing.
    pub(crate) fn document() -> PlanDocument {
        PlanDocument {
            strongroom_plan: VERSION,
            id: "0".repeat(32),
            made: "2026-11-20T08:00:00Z".parse().expect("a time"),
            expires: "2026-11-21T08:00:00Z".parse().expect("a time"),
            scope: Scope {
                deployment: "example-ca".into(),
                host: "ca".into(),
                state: "1".repeat(32),
                tool: "strongroom 0".into(),
                approvals: 1,
                operators: [("alice".to_owned(), "SHA256:a".to_owned())].into(),
                from: Vec::new(),
                as_of: None,
                work: Work::Expire(ExpireWork {
                    chosen: Vec::new(),
                    accept_missing: false,
                    clock_is_right: false,
                    repositories: BTreeMap::new(),
                }),
            },
        }
    }

    #[test]
    fn only_the_very_bytes_are_a_plan() {
        let written = document();
        let bytes = written.to_bytes();
        assert_eq!(PlanDocument::parse(&bytes), Ok(written));
        let text = String::from_utf8(bytes).expect("JSON");
        let changes: [(&str, &str); 6] = [
            ("\"strongroom_plan\": 1", "\"strongroom_plan\": 2"),
            ("\"id\":", "\"name\":"),
            ("\"host\": \"ca\"", "\"host\": \"ca\", \"more\": 1"),
            ("\"host\": \"ca\"", "\"host\": \"ca\", \"host\": \"cb\""),
            ("\"host\": \"ca\"", "\"host\":\"ca\""),
            ("\"as_of\": null,", ""),
        ];
        for (from, to) in changes {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            assert!(PlanDocument::parse(changed.as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn a_changed_rule_is_a_difference() {
        let signed = document();
        let mut now = signed.scope.clone();
        assert!(signed.differences(&now).is_empty());
        now.approvals = 2;
        assert_eq!(
            signed.differences(&now),
            ["approvals: signed is 1, now it is 2"]
        );
    }
}
