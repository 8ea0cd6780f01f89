//! What operators sign: everything that a plan will do, without what was merely seen while it was made.
//!
//! Sizes of live databases, open sessions and times of files change from minute to minute and decide nothing; they are
//! left out, so that the plan that is made again before it is carried out is the same as the one that was signed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::expire::ExpirePlan;
use super::path_text;
use super::restore::{RestorePlan, RestoreToken, Target};
use crate::format::expiry::ExpiredRanges;
use crate::format::manifest::StreamKind;
use crate::format::{Digest, EpochId, Label, WriterId};
use crate::source::server::LoadOptions;

/// A restore or an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreWork {
    /// The backup.
    pub label: Label,
    /// Where it goes.
    pub target: Target,
    /// The assets that were named; empty for all.
    pub assets: Vec<String>,
    /// What was asked for besides, for the databases.
    pub options: LoadOptions,
    /// The envelopes that it is read by; through the manifest that each names, they decide every byte.
    pub backups: Vec<ReadEnvelope>,
    /// The databases to load into servers.
    pub databases: Vec<DatabaseWork>,
    /// What is put into tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<RestoreToken>,
    /// The things to write.
    pub items: Vec<ItemWork>,
    /// What is not as it should be, and is done all the same.
    pub warnings: Vec<String>,
    /// What follows from it.
    pub notes: Vec<String>,
}

/// The part of a backup in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadEnvelope {
    /// The name of the repository.
    pub repository: String,
    /// Where it is read.
    pub url: String,
    /// Who wrote the envelope.
    pub writer: WriterId,
    /// Its place in the writer's chain.
    pub sequence: u64,
    /// The digest of its stored bytes.
    pub envelope: Digest,
}

/// A database that is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseWork {
    /// The asset it belongs to.
    pub asset: String,
    /// Its name when it was captured.
    pub original: String,
    /// Its name after the restore.
    pub name: String,
    /// The server, in words.
    pub server: String,
    /// The bytes of its streams.
    pub size_bytes: u64,
    /// Whether a database of that name is replaced.
    pub replaces: bool,
}

/// A file, directory or link that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemWork {
    /// The asset it belongs to.
    pub asset: String,
    /// What it is.
    pub kind: StreamKind,
    /// Where it goes.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// The length of its content in bytes.
    pub size_bytes: u64,
    /// Where the first name of a hard-linked file goes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "path_text::option"
    )]
    pub link_to: Option<PathBuf>,
    /// What is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Replaced>,
    /// Files that, where they exist, are put aside with what is replaced.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        with = "path_text::list"
    )]
    pub companions: Vec<PathBuf>,
}

/// What is replaced; of a directory, what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// What it is.
    pub kind: Option<StreamKind>,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
}

impl RestoreWork {
    /// What `plan` will do with the `assets` named, read by `backups`.
    pub fn of(plan: &RestorePlan, assets: &[String], backups: Vec<ReadEnvelope>) -> Self {
        let databases = plan.databases.iter().map(|database| DatabaseWork {
            asset: database.asset.clone(),
            original: database.original.clone(),
            name: database.name.clone(),
            server: database.server.clone(),
            size_bytes: database.size_bytes,
            replaces: database.replaces.is_some(),
        });
        let items = plan.items.iter().map(|item| ItemWork {
            asset: item.asset.clone(),
            kind: item.kind,
            path: item.path.clone(),
            size_bytes: item.size_bytes,
            link_to: item.link_to.clone(),
            replaces: item.replaces.as_ref().map(|found| Replaced {
                kind: found.kind,
                uid: found.uid,
                gid: found.gid,
                mode: found.mode,
            }),
            companions: item.companions.clone(),
        });
        Self {
            label: plan.label.clone(),
            target: plan.target.clone(),
            assets: assets.to_vec(),
            options: plan.options.clone(),
            backups,
            databases: databases.collect(),
            tokens: plan.tokens.clone(),
            items: items.collect(),
            warnings: plan.warnings.clone(),
            notes: plan.notes.clone(),
        }
    }

    /// Whether `plan`, begun before and read by `backups` now, is what was signed. Which copy is read does not matter, the envelopes do.
    pub fn is_of(&self, plan: &RestorePlan, backups: &[ReadEnvelope]) -> bool {
        let is_signed = |now: &ReadEnvelope| {
            let mut signed = self.backups.iter();
            signed.any(|one| (&one.repository, one.envelope) == (&now.repository, now.envelope))
        };
        backups.iter().all(is_signed) && Self::of(plan, &self.assets, self.backups.clone()) == *self
    }
}

/// An expiry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpireWork {
    /// The repositories that were named; empty for all.
    pub chosen: Vec<String>,
    /// Whether envelopes that are missing are given up.
    pub accept_missing: bool,
    /// Whether the clock is taken at the operator's word.
    pub clock_is_right: bool,
    /// What goes, by repository.
    pub repositories: BTreeMap<String, RepositoryWork>,
}

/// What goes in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryWork {
    /// The backups that go, oldest first.
    pub going: Vec<GoingWork>,
    /// Objects that go.
    pub objects: Vec<Digest>,
    /// Sealed identities of epochs that go.
    pub epochs: Vec<EpochId>,
    /// What may be missing afterwards, of all time.
    pub expired: ExpiredRanges,
    /// The bytes of what goes.
    pub freed_bytes: u64,
}

/// A backup that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoingWork {
    /// Its label.
    pub label: Label,
    /// Whose chain it is in.
    pub writer: WriterId,
    /// Its place there.
    pub sequence: u64,
}

impl ExpireWork {
    /// What `plan` will delete.
    pub fn of(
        plan: &ExpirePlan,
        chosen: &[String],
        accept_missing: bool,
        clock_is_right: bool,
    ) -> Self {
        let repositories = plan.repositories.iter().map(|(name, part)| {
            let going = part.going.iter().map(|going| GoingWork {
                label: going.label.clone(),
                writer: going.writer,
                sequence: going.sequence,
            });
            let work = RepositoryWork {
                going: going.collect(),
                objects: part.objects.iter().map(|(digest, _)| *digest).collect(),
                epochs: part.epochs.iter().map(|(epoch, ..)| *epoch).collect(),
                expired: part.expired.clone(),
                freed_bytes: part.freed_bytes,
            };
            (name.clone(), work)
        });
        Self {
            chosen: chosen.to_vec(),
            accept_missing,
            clock_is_right,
            repositories: repositories.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::restore::{Found, RestoreDatabase, RestoreItem};
    use crate::source::server::DatabaseSeen;

    fn plan() -> RestorePlan {
        RestorePlan {
            label: "20261120-153000Z-k3f9".parse().expect("a label"),
            target: Target::InPlace,
            databases: vec![RestoreDatabase {
                asset: "db".into(),
                source: "postgresql".into(),
                original: "ca".into(),
                name: "ca".into(),
                server: "PostgreSQL 17 at db.example:5432".into(),
                size_bytes: 20,
                replaces: Some(DatabaseSeen {
                    size_bytes: 1,
                    sessions: 1,
                }),
            }],
            tokens: vec![RestoreToken {
                asset: "hsm".into(),
                source: "pkcs11".into(),
                token: "the token \"ca\", serial 1".into(),
                objects: Vec::new(),
                missing: Vec::new(),
            }],
            options: LoadOptions::default(),
            items: vec![RestoreItem {
                asset: "config".into(),
                source: "files".into(),
                kind: StreamKind::File,
                original: "/etc/ca.toml".into(),
                path: "/etc/ca.toml".into(),
                root: "/etc".into(),
                size_bytes: 10,
                link_to: None,
                replaces: Some(Found {
                    kind: Some(StreamKind::File),
                    uid: 7,
                    gid: 7,
                    mode: 0o600,
                    mtime: (1, 1),
                    in_use: None,
                }),
                companions: Vec::new(),
                directory: None,
            }],
            refusals: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
            passing: vec!["1 session uses database \"ca\"".into()],
        }
    }

    fn work(change: impl FnOnce(&mut RestorePlan)) -> RestoreWork {
        let mut plan = plan();
        change(&mut plan);
        RestoreWork::of(&plan, &[], Vec::new())
    }

    #[test]
    fn what_passes_is_not_signed_and_what_is_done_is() {
        let signed = work(|_| {});
        let busy = work(|plan| {
            plan.passing.clear();
            plan.databases[0].replaces = Some(DatabaseSeen::default());
            let found = plan.items[0].replaces.as_mut().expect("replaces");
            found.mtime = (2, 2);
        });
        assert_eq!(signed, busy);
        let changes: [fn(&mut RestorePlan); 9] = [
            |plan| plan.target = Target::Directory("/restore".into()),
            |plan| plan.options.tables.extend(["t".to_owned()]),
            |plan| plan.databases[0].replaces = None,
            |plan| plan.databases[0].server = "PostgreSQL 17 at other.example".into(),
            |plan| plan.tokens[0].token = "the token \"ca\", serial 2".into(),
            |plan| plan.items[0].replaces = None,
            |plan| plan.items[0].path = "/etc/other.toml".into(),
            |plan| {
                plan.warnings
                    .push("asset config was not captured whole".into());
            },
            |plan| plan.notes.push("these roles will be made: ca".into()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_ne!(signed, work(change), "change {number}");
        }
    }

    #[test]
    fn it_is_read_back_as_it_was_written() {
        let signed = work(|plan| {
            use std::ffi::OsStr;
            use std::os::unix::ffi::OsStrExt as _;
            plan.items[0].path = OsStr::from_bytes(b"/etc/\xff").into();
        });
        let text = serde_json::to_vec(&signed).expect("serialises");
        let read: RestoreWork = serde_json::from_slice(&text).expect("reads");
        assert_eq!(read, signed);
    }
}
