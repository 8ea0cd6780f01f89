//! Which asset is captured when, and where it goes.

use std::collections::BTreeSet;

use crate::format::envelope::Scope;
use crate::source::Class;

/// What the plan needs to know of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetOutline {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// The kind of source.
    pub source: String,
    /// The repository that it goes to.
    pub repository: String,
    /// The asset whose capture decides what is in this one: they are captured in one run or not at all.
    pub part_of: Option<String>,
}

/// The name of the asset that takes what another one redirects.
pub fn part_name(asset: &str) -> String {
    format!("{asset}-secrets")
}

/// What the plan needs to know of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryOutline {
    /// Its name.
    pub name: String,
    /// Which classes it takes.
    pub accepts: Vec<Class>,
}

/// The order of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupPlan {
    /// Whether all assets are in it.
    pub scope: Scope,
    /// The assets in the order of their capture: databases first, keys last, so that no key is older than
    /// the database that needs it.
    pub assets: Vec<AssetOutline>,
    /// The repositories written to, sorted.
    pub repositories: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupPlanError {
    /// An asset was asked for that the configuration does not have.
    #[error("there is no asset {name:?}; the configuration has {known}")]
    UnknownAsset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The asset's repository does not take its class.
    #[error("repository {repository:?} does not accept class {class}, asset {asset:?} is of it")]
    NotAccepted {
        /// The asset.
        asset: String,
        /// Its class.
        class: Class,
        /// The repository.
        repository: String,
    },
    /// There is nothing to back up.
    #[error("the configuration has no assets")]
    Empty,
}

/// Plans a run over `assets`, or over those that `only` names; where an asset is part of another, both or none are in it.
pub fn plan_backup(
    assets: &[AssetOutline],
    repositories: &[RepositoryOutline],
    only: &[String],
) -> Result<BackupPlan, BackupPlanError> {
    let known = || {
        assets
            .iter()
            .map(|asset| asset.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    for name in only {
        if !assets.iter().any(|asset| asset.name == *name) {
            return Err(BackupPlanError::UnknownAsset {
                name: name.clone(),
                known: known(),
            });
        }
    }
    let mut chosen: Vec<AssetOutline> = assets
        .iter()
        .filter(|asset| only.is_empty() || is_meant(asset, assets, only))
        .cloned()
        .collect();
    if chosen.is_empty() {
        return Err(BackupPlanError::Empty);
    }
    for asset in &chosen {
        let accepted = repositories.iter().any(|repository| {
            repository.name == asset.repository && repository.accepts.contains(&asset.class)
        });
        if !accepted {
            return Err(BackupPlanError::NotAccepted {
                asset: asset.name.clone(),
                class: asset.class,
                repository: asset.repository.clone(),
            });
        }
    }
    chosen.sort_by_key(|asset| asset.class);
    let scope = if chosen.len() == assets.len() {
        Scope::All
    } else {
        Scope::Partial
    };
    let repositories: BTreeSet<_> = chosen
        .iter()
        .map(|asset| asset.repository.clone())
        .collect();
    Ok(BackupPlan {
        scope,
        assets: chosen,
        repositories: repositories.into_iter().collect(),
    })
}

fn is_meant(asset: &AssetOutline, assets: &[AssetOutline], only: &[String]) -> bool {
    let parts = assets
        .iter()
        .filter(|other| other.part_of.as_ref() == Some(&asset.name));
    let names = parts.map(|part| &part.name).chain(&asset.part_of);
    names.chain([&asset.name]).any(|name| only.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(name: &str, class: Class, repository: &str) -> AssetOutline {
        AssetOutline {
            name: name.into(),
            class,
            source: "files".into(),
            repository: repository.into(),
            part_of: None,
        }
    }

    fn repositories() -> Vec<RepositoryOutline> {
        let accepts = Class::ALL.into_iter().partition(|class| class.is_secret());
        let (secret, open): (Vec<_>, Vec<_>) = accepts;
        vec![
            RepositoryOutline {
                name: "keysafe".into(),
                accepts: secret,
            },
            RepositoryOutline {
                name: "offsite".into(),
                accepts: open,
            },
        ]
    }

    #[test]
    fn databases_come_first_and_keys_last() {
        let assets = [
            asset("key", Class::Key, "keysafe"),
            asset("log", Class::Log, "offsite"),
            asset("db", Class::Database, "offsite"),
        ];
        let plan = plan_backup(&assets, &repositories(), &[]).expect("a plan");
        let order: Vec<_> = plan
            .assets
            .iter()
            .map(|asset| asset.name.as_str())
            .collect();
        assert_eq!(order, ["db", "log", "key"]);
        assert_eq!(plan.scope, Scope::All);
        assert_eq!(plan.repositories, ["keysafe", "offsite"]);
        let part = plan_backup(&assets, &repositories(), &["key".into()]).expect("a plan");
        assert_eq!(
            (part.scope, part.repositories),
            (Scope::Partial, vec!["keysafe".into()])
        );
    }

    #[test]
    fn a_key_never_goes_to_the_databases() {
        let assets = [asset("key", Class::Key, "offsite")];
        let error = plan_backup(&assets, &repositories(), &[]).expect_err("refused");
        assert!(
            matches!(error, BackupPlanError::NotAccepted { .. }),
            "{error}"
        );
        let error = plan_backup(&assets, &repositories(), &["kye".into()]).expect_err("refused");
        assert!(error.to_string().contains("kye"), "{error}");
    }

    #[test]
    fn a_part_and_its_whole_are_captured_together() {
        let assets = [
            AssetOutline {
                part_of: Some("config".into()),
                ..asset("config-secrets", Class::Secret, "keysafe")
            },
            asset("database", Class::Database, "offsite"),
            asset("config", Class::Config, "offsite"),
        ];
        for only in ["config", "config-secrets"] {
            let plan = plan_backup(&assets, &repositories(), &[only.into()]).expect("a plan");
            let names: Vec<&str> = plan.assets.iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names, ["config", "config-secrets"], "the whole comes first");
            assert_eq!(plan.scope, Scope::Partial);
        }
        let plan = plan_backup(&assets, &repositories(), &["database".into()]).expect("a plan");
        assert_eq!(plan.assets.len(), 1);
    }
}
