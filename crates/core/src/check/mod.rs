//! Checks: one rule a file, each with an id, over what was seen and nothing else.
//!
//! Rules are pure: the caller looks ([`Inventory`]), the rules judge ([`run`]). `check` is about
//! configuration and reachability; stored data is the business of `verify`.

mod asset_readable;
mod custody_rehearsed;
mod custody_revoked;
mod history_unbroken;
mod key_belongs;
mod key_password_covered;
mod not_covered;
mod objects_there;
mod objects_unchanged;
mod places_writable;
mod recipients_pinned;
mod repository_reachable;
mod room_left;
mod secrets_apart;
mod server_accounts_covered;
mod writer_key_private;

use std::path::PathBuf;

use crate::format::Label;
use crate::repository::{ReplacedSeen, Survey};
use crate::source::{Class, Inspection, SecretsSeen};
use crate::storage::FreeSpace;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is as it should be.
    Good,
    /// The operator should know.
    Warning,
    /// A backup would fail or be incomplete.
    Problem,
}

/// What a rule says about one subject.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The id of the rule.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: an asset, a repository, a file.
    pub subject: String,
    /// What was seen.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The assets.
    pub assets: Vec<AssetSeen>,
    /// The repositories.
    pub repositories: Vec<RepositorySeen>,
    /// The writer key.
    pub writer_key: WriterKeySeen,
    /// Room where private copies of databases go.
    pub scratch_room: Option<FreeSpace>,
    /// The places that a backup writes to, where that can be told without writing.
    pub written: Vec<WrittenSeen>,
    /// The identities in custody that a repository is sealed to.
    pub custody: Vec<CustodySeen>,
}

/// A place that a backup writes to.
#[derive(Debug)]
pub struct WrittenSeen {
    /// The repository, or what else it is.
    pub subject: String,
    /// Whether it is the state directory.
    pub is_state: bool,
    /// What in it cannot be written, and why.
    pub unwritable: Option<(PathBuf, String)>,
}

/// An identity in the hands of custodians.
#[derive(Debug)]
pub struct CustodySeen {
    /// Its name.
    pub name: String,
    /// How many custodians open it.
    pub threshold: u8,
    /// After how many days a share is to be rehearsed again.
    pub interval_days: u32,
    /// Why it is not to be used any more, if so.
    pub revoked: Option<String>,
    /// All custodians, and how many days ago each has last shown the share.
    pub custodians: Vec<(String, Option<u32>)>,
}

/// An asset, looked at.
#[derive(Debug)]
pub struct AssetSeen {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// The kind of source.
    pub source: String,
    /// Whether it lies on a database server, whose accounts are part of what must come back.
    pub is_on_server: bool,
    /// What the source saw, or why it could not look.
    pub inspection: Result<Inspection, String>,
    /// For assets of keys: what came of reading and proving them.
    pub keys: Option<KeysSeen>,
    /// The file with the password of its encrypted keys.
    pub password: Option<PasswordSeen>,
    /// For assets that are not for secrets: what a look for some shows, or why none could be taken.
    pub secrets: Option<Result<SecretsSeen, String>>,
}

/// Keys, after they were read and proved.
#[derive(Debug, Default)]
pub struct KeysSeen {
    /// What is wrong with them.
    pub problems: Vec<String>,
    /// What could not be proved, and what the operator should know.
    pub notes: Vec<String>,
    /// There are keys, and each signs what its certificate verifies.
    pub are_proved: bool,
}

/// A file with the password of keys.
#[derive(Debug)]
pub struct PasswordSeen {
    /// The file.
    pub file: PathBuf,
    /// The assets that cover it, with their classes.
    pub covered_by: Vec<(String, Class)>,
}

/// A repository, looked at.
#[derive(Debug)]
pub struct RepositorySeen {
    /// Its name.
    pub name: String,
    /// What was found, or why it could not be opened and what to do.
    pub opened: Result<OpenedSeen, (String, Option<String>)>,
}

/// A repository that could be opened.
#[derive(Debug)]
pub struct OpenedSeen {
    /// Whether the configuration seals to whom the repository was made for.
    pub recipients_agree: bool,
    /// Whether the writer key may write here.
    pub writer_known: bool,
    /// What is wrong with its history.
    pub history_problems: Vec<String>,
    /// The newest sequence number that this host has written, if it is above what is there.
    pub rolled_back_from: Option<u64>,
    /// The newest sequence number that this host has written and that of the newest envelope in its name, if that is above.
    pub newer_than_written: Option<(u64, u64)>,
    /// The stored objects, held against what the backups need.
    pub objects: Survey,
    /// Those of them that were stored after a backup that needs them.
    pub replaced: ReplacedSeen,
    /// How many backups there are, and the newest.
    pub backups: (usize, Option<(Label, jiff::Timestamp)>),
    /// The room left.
    pub room: Option<FreeSpace>,
}

/// The writer key, looked at.
#[derive(Debug, Default)]
pub struct WriterKeySeen {
    /// The file.
    pub path: PathBuf,
    /// Its permission bits, if it exists.
    pub mode: Option<u32>,
    /// Why it cannot be used.
    pub unusable: Option<String>,
}

/// A rule: its id, what it is about, and its judgement.
pub struct Rule {
    /// A stable id.
    pub id: &'static str,
    /// What it looks at, in a sentence.
    pub about: &'static str,
    /// Judges.
    judge: fn(&Inventory) -> Vec<Finding>,
}

/// Every rule, in the order in which they are reported.
pub const RULES: &[Rule] = &[
    writer_key_private::RULE,
    repository_reachable::RULE,
    recipients_pinned::RULE,
    history_unbroken::RULE,
    objects_there::RULE,
    objects_unchanged::RULE,
    places_writable::RULE,
    room_left::RULE,
    asset_readable::RULE,
    key_belongs::RULE,
    key_password_covered::RULE,
    secrets_apart::RULE,
    not_covered::RULE,
    server_accounts_covered::RULE,
    custody_rehearsed::RULE,
    custody_revoked::RULE,
];

/// Applies every rule.
pub fn run(inventory: &Inventory) -> Vec<Finding> {
    RULES
        .iter()
        .flat_map(|rule| (rule.judge)(inventory))
        .collect()
}

impl Rule {
    fn finding(&self, severity: Severity, subject: &str, message: impl Into<String>) -> Finding {
        Finding {
            rule: self.id,
            severity,
            subject: subject.to_owned(),
            message: message.into(),
            hint: None,
        }
    }
}

impl Finding {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::name::ObjectName;

    #[test]
    fn every_rule_file_is_listed() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/check");
        let files = std::fs::read_dir(directory).expect("the sources").count();
        assert_eq!(files - 1, RULES.len(), "one file a rule, and this one");
        let mut ids: Vec<_> = RULES.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len(), "ids are unique");
    }

    fn repository(opened: OpenedSeen) -> Inventory {
        let opened = Ok(opened);
        let repositories = vec![RepositorySeen {
            name: "offsite".into(),
            opened,
        }];
        Inventory {
            repositories,
            ..Inventory::default()
        }
    }

    fn opened() -> OpenedSeen {
        OpenedSeen {
            recipients_agree: true,
            writer_known: true,
            history_problems: vec![],
            rolled_back_from: None,
            newer_than_written: None,
            objects: Survey::default(),
            replaced: ReplacedSeen::default(),
            backups: (0, None),
            room: Some(FreeSpace {
                free_bytes: 1 << 40,
                total_bytes: 1 << 41,
            }),
        }
    }

    fn worst(inventory: &Inventory, rule: &str) -> Severity {
        let findings = run(inventory);
        let of_rule = findings.iter().filter(|finding| finding.rule == rule);
        of_rule
            .map(|finding| finding.severity)
            .max()
            .unwrap_or(Severity::Good)
    }

    #[test]
    fn each_fault_of_a_repository_is_found_by_its_rule() {
        assert_eq!(
            worst(&repository(opened()), "repository-reachable"),
            Severity::Good
        );
        let changed = OpenedSeen {
            recipients_agree: false,
            ..opened()
        };
        assert_eq!(
            worst(&repository(changed), "recipients-pinned"),
            Severity::Problem
        );
        for (replaced, severity) in [
            (
                ReplacedSeen {
                    overwritten: vec![ObjectName::repository(1)],
                    unread: vec![],
                },
                Severity::Problem,
            ),
            (
                ReplacedSeen {
                    overwritten: vec![],
                    unread: vec![ObjectName::repository(1)],
                },
                Severity::Warning,
            ),
        ] {
            let seen = OpenedSeen {
                replaced,
                ..opened()
            };
            assert_eq!(worst(&repository(seen), "objects-unchanged"), severity);
        }
        let stranger = OpenedSeen {
            writer_known: false,
            ..opened()
        };
        assert_eq!(
            worst(&repository(stranger), "repository-reachable"),
            Severity::Problem
        );
        let cut = OpenedSeen {
            rolled_back_from: Some(7),
            ..opened()
        };
        assert_eq!(
            worst(&repository(cut), "history-unbroken"),
            Severity::Problem
        );
        let room = Some(FreeSpace {
            free_bytes: 1 << 20,
            total_bytes: 1 << 41,
        });
        let full = OpenedSeen { room, ..opened() };
        assert_eq!(worst(&repository(full), "room-left"), Severity::Warning);
        let gone = Inventory {
            repositories: vec![RepositorySeen {
                name: "offsite".into(),
                opened: Err(("not mounted".into(), None)),
            }],
            ..Inventory::default()
        };
        assert_eq!(worst(&gone, "repository-reachable"), Severity::Problem);
    }

    #[test]
    fn each_fault_of_an_asset_is_found_by_its_rule() {
        let asset = |inspection: Inspection, keys| Inventory {
            assets: vec![AssetSeen {
                name: "ca-key".into(),
                class: Class::Key,
                source: "files".into(),
                is_on_server: false,
                inspection: Ok(inspection),
                keys,
                password: None,
                secrets: None,
            }],
            ..Inventory::default()
        };
        let unreadable = Inspection {
            problems: vec!["cannot read".into()],
            ..Inspection::default()
        };
        assert_eq!(
            worst(&asset(unreadable, None), "asset-readable"),
            Severity::Problem
        );
        let wrong = Some(KeysSeen {
            problems: vec!["the key is another".into()],
            ..KeysSeen::default()
        });
        assert_eq!(
            worst(&asset(Inspection::default(), wrong), "key-belongs"),
            Severity::Problem
        );
        let near = Inspection {
            covered: vec!["/etc/ca/ca.key".into()],
            suggestions: vec!["/etc/ca/ocsp.key".into(), "/etc/ca/ca.key".into()],
            ..Inspection::default()
        };
        let findings = run(&asset(near, None));
        let near: Vec<_> = findings
            .iter()
            .filter(|finding| finding.rule == "not-covered")
            .collect();
        assert_eq!(near.len(), 1, "{near:?}");
        assert_eq!(near[0].subject, "/etc/ca/ocsp.key");
    }

    #[test]
    fn accounts_without_an_asset_are_found() {
        let asset = |name: &str, class, source: &str, is_on_server| AssetSeen {
            name: name.into(),
            class,
            source: source.into(),
            is_on_server,
            inspection: Ok(Inspection::default()),
            keys: None,
            password: None,
            secrets: None,
        };
        let database = || asset("db", Class::Database, "postgresql", true);
        let seen = |assets| Inventory {
            assets,
            ..Inventory::default()
        };
        let rule = "server-accounts-covered";
        let file = asset("file", Class::Database, "sqlite", false);
        assert_eq!(worst(&seen(vec![file]), rule), Severity::Good);
        let other = asset("users", Class::Secret, "mariadb", true);
        let worst = |assets| worst(&seen(assets), rule);
        assert_eq!(worst(vec![database(), other]), Severity::Warning);
        let roles = asset("roles", Class::Secret, "postgresql", true);
        assert_eq!(worst(vec![database(), roles]), Severity::Good);
    }

    #[test]
    fn keys_are_judged_by_what_was_proved() {
        let seen = |keys, covered_by: Option<&[Class]>| Inventory {
            assets: vec![AssetSeen {
                name: "ca-key".into(),
                class: Class::Key,
                source: "files".into(),
                is_on_server: false,
                inspection: Ok(Inspection::default()),
                keys,
                password: covered_by.map(|classes| PasswordSeen {
                    file: "/etc/ca/password".into(),
                    covered_by: classes.iter().map(|class| ("x".into(), *class)).collect(),
                }),
                secrets: None,
            }],
            ..Inventory::default()
        };
        let keys = |notes: &[&str], are_proved| {
            Some(KeysSeen {
                notes: notes.iter().map(|note| (*note).to_owned()).collect(),
                are_proved,
                ..KeysSeen::default()
            })
        };
        let rule = "key-belongs";
        let good = worst(&seen(keys(&[], true), None), rule);
        assert_eq!(good, Severity::Good);
        let unknown = [seen(None, None), seen(keys(&[], false), None)];
        for unknown in unknown {
            assert_eq!(worst(&unknown, rule), Severity::Warning);
        }
        let expired = worst(&seen(keys(&["it expired"], true), None), rule);
        assert_eq!(expired, Severity::Warning);
        let rule = "key-password-covered";
        for (classes, wanted) in [
            (None, Severity::Good),
            (Some([Class::Secret].as_slice()), Severity::Good),
            (Some(&[Class::Config]), Severity::Warning),
            (Some(&[]), Severity::Warning),
        ] {
            let worst = worst(&seen(keys(&[], true), classes), rule);
            assert_eq!(worst, wanted, "{classes:?}");
        }
    }

    #[test]
    fn an_exposed_writer_key_is_found() {
        let seen = |mode| Inventory {
            writer_key: WriterKeySeen {
                path: "/k".into(),
                mode,
                unusable: None,
            },
            ..Inventory::default()
        };
        assert_eq!(
            worst(&seen(Some(0o600)), "writer-key-private"),
            Severity::Good
        );
        assert_eq!(
            worst(&seen(Some(0o640)), "writer-key-private"),
            Severity::Problem
        );
        assert_eq!(worst(&seen(None), "writer-key-private"), Severity::Problem);
    }
}
