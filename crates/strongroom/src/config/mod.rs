//! The configuration file: what is protected, where the backups go, and for whom they are sealed.
//!
//! Reading it touches nothing but the file itself and the recipients files it names. Everything that
//! can be refused by looking at the text alone is refused here, all of it at once, with file, line and
//! hint; whether paths exist and repositories answer is the business of `strongroom check`.

mod asset;
mod error;
mod location;
mod operator;
mod parse;
mod place;
mod recipient;
mod repository;
mod retention;
mod section;
mod suggest;
mod syntax;
mod template;
#[cfg(test)]
mod tests;
mod units;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use strongroom_adapters::source::files::{FilesSettings, OnSecret};
use strongroom_adapters::source::mariadb::MariadbSettings;
use strongroom_adapters::source::pkcs11::Pkcs11Settings;
use strongroom_adapters::source::postgresql;
use strongroom_adapters::source::sqlite::TimestampColumn;
use strongroom_adapters::storage::{Credentials, Place, StorageSettings};
use strongroom_core::format::seal::BoxedRecipient;
use strongroom_core::plan::backup::part_name;
use strongroom_core::plan::expire::Retention;
use strongroom_core::source::Class;
use strongroom_core::source::server::OtherServer;

use crate::approval::OperatorKey;

pub(crate) use error::{ConfigErrors, LoadError};
pub(crate) use parse::is_valid_name;
pub(crate) use recipient::{RecipientError, parse_recipient};
pub(crate) use template::{parse_repository_argument, template};

/// The newest version of the configuration that this program reads.
pub(crate) const VERSION: i64 = 1;
/// How many days an epoch lasts when a repository does not say.
pub(crate) const EPOCH_DAYS_DEFAULT: u32 = 14;

/// After how many days a share is to be rehearsed again when nothing else is said.
pub(crate) const REHEARSAL_DAYS_DEFAULT: u32 = 180;

/// A configuration without contradictions; all paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The file, as it was named.
    pub(crate) file: PathBuf,
    /// Its directory, from which relative paths count.
    pub(crate) directory: PathBuf,
    /// The protected installation.
    pub(crate) deployment: Deployment,
    /// What this host writes with.
    pub(crate) writer: Writer,
    /// What is expected of custodians.
    pub(crate) custody: CustodyConfig,
    /// The repositories that backups go to, by name; at least one.
    pub(crate) repositories: BTreeMap<String, RepositoryConfig>,
    /// Copies of them, by name; no backup is ever written there.
    pub(crate) copies: BTreeMap<String, RepositoryConfig>,
    /// The assets in the order of the file; at least one.
    pub(crate) assets: Vec<AssetConfig>,
    /// Who must approve restores, exports and expiries; nobody when it is not said.
    pub(crate) approvals: Option<Approvals>,
}

/// Dual control: `approvals` in `[deployment]`, and the `[operator.NAME]` tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approvals {
    /// How many operators must sign a plan; at least one, at most all.
    pub(crate) needed: u32,
    /// For how many hours a plan holds.
    pub(crate) plan_hours: u32,
    /// The operators' keys by their names, no two the same.
    pub(crate) operators: BTreeMap<String, OperatorKey>,
}

/// The `[deployment]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// Its name.
    pub(crate) name: String,
    /// In which hours and days retention counts.
    pub(crate) time_zone: TimeZone,
}

/// The `[custody]` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CustodyConfig {
    /// After how many days a share that was not rehearsed is reported, 1 to 3650.
    pub(crate) rehearsal_days: u32,
}

/// The `[writer]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The signing key and chunk-id secret of this host.
    pub(crate) key_file: PathBuf,
    /// Caches and what a run leaves for the next; `state` beside the key file unless said.
    pub(crate) state_dir: PathBuf,
}

/// A `[repository.NAME]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryConfig {
    /// Its name.
    pub(crate) name: String,
    /// The line of its header.
    pub(crate) line: usize,
    /// The URL, as it was written.
    pub(crate) url: String,
    /// Where that is, and how this host writes to it.
    pub(crate) storage: StorageSettings,
    /// What `expire` and `repair` open it with, where that is something else.
    pub(crate) expirer: Option<Credentials>,
    /// What restores open it with, where that is something else.
    pub(crate) restorer: Option<Credentials>,
    /// To whom backups are sealed, in canonical spelling, in the order of the file; at least one, no duplicates.
    pub(crate) recipients: Vec<String>,
    /// The classes that may go there; at least one.
    pub(crate) accepts: Vec<Class>,
    /// The length of an epoch, 1 to 90.
    pub(crate) epoch_days: u32,
    /// Whether one recipient may open databases and secrets.
    pub(crate) allow_shared_recipient: bool,
    /// Why.
    pub(crate) shared_recipient_reason: Option<String>,
    /// The repository that this one is a copy of.
    pub(crate) copy_of: Option<String>,
    /// How long backups are kept; without it for ever. A copy has its own, or none.
    pub(crate) retention: Option<Retention>,
}

impl RepositoryConfig {
    /// The name in the repository's own document: a copy has that of its original.
    pub(crate) fn document_name(&self) -> &str {
        self.copy_of.as_ref().unwrap_or(&self.name)
    }

    /// Whether assets of this class may go there.
    pub(crate) fn accepts(&self, class: Class) -> bool {
        self.accepts.contains(&class)
    }

    /// For how many days after its storing the storage refuses to delete an object.
    pub(crate) fn protected_days(&self) -> Option<u32> {
        match &self.storage.place {
            Place::S3(s3) => s3.lock.map(|lock| lock.days),
            _ => None,
        }
    }

    /// For how many days after a backup everything that it needs is protected: its oldest object is an epoch old at most.
    pub(crate) fn immutable_days(&self) -> Option<u32> {
        let days = self.protected_days()?;
        Some(days.saturating_sub(self.epoch_days))
    }

    /// The recipients, ready to seal to; finds the programs of plugin recipients.
    pub(crate) fn open_recipients(&self) -> Result<Vec<BoxedRecipient>, RecipientError> {
        self.recipients
            .iter()
            .map(|text| parse_recipient(text))
            .collect()
    }
}

/// An `[asset.NAME]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AssetConfig {
    /// Its name.
    pub(crate) name: String,
    /// The line of its header.
    pub(crate) line: usize,
    /// Its class.
    pub(crate) class: Class,
    /// The repository that the file names; see [`Config::repository_of`].
    pub(crate) repository: Option<String>,
    /// How long backups that hold it are kept, where that is not what its repository says.
    pub(crate) retention: Option<Retention>,
    /// What its source reads.
    pub(crate) settings: Settings,
}

impl AssetConfig {
    /// The asset of class `secret` that takes what this one redirects.
    fn redirected(&self, repository: String) -> Self {
        let mut retention = self.retention.clone();
        if let Some(retention) = &mut retention
            && retention.after_expiry_days.take().is_some()
        {
            // Its certificates are not there to be asked: no part of a backup goes before the rest.
            *retention = Retention {
                forever: true,
                ..Retention::default()
            };
        }
        Self {
            name: part_name(&self.name),
            line: self.line,
            class: Class::Secret,
            repository: Some(repository),
            retention,
            settings: Settings::Redirected {
                of: self.name.clone(),
            },
        }
    }

    /// The asset whose capture decides what is in this one.
    pub(crate) fn part_of(&self) -> Option<&str> {
        match &self.settings {
            Settings::Redirected { of } => Some(of),
            _ => None,
        }
    }

    /// The name of its source in the configuration and the format.
    pub(crate) fn source(&self) -> &'static str {
        match self.settings {
            Settings::Files { .. } | Settings::Redirected { .. } => "files",
            Settings::Sqlite { .. } => "sqlite",
            Settings::Postgresql(_) => "postgresql",
            Settings::Mariadb(_) => "mariadb",
            Settings::Pkcs11 { .. } => "pkcs11",
        }
    }
}

/// The part of an asset that belongs to its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    /// Files and directories.
    Files {
        /// Absolute paths and globs; at least one.
        paths: Vec<PathBuf>,
        /// Globs of what is left out, as written.
        exclude: Vec<String>,
        /// The certificate that the key must belong to; class `key` only.
        certificate: Option<PathBuf>,
        /// The file with the password of the encrypted keys; class `key` only.
        key_password_file: Option<PathBuf>,
        /// The password of the keys is asked for.
        asks_key_password: bool,
        /// Why one identity may open the keys and that file.
        shared_password_reason: Option<String>,
        /// What follows when a file holds a secret; none where nobody looks.
        on_secret: Option<OnSecret>,
    },
    /// The files of another asset that hold secrets; made for each asset with `on_secret = "redirect"`.
    Redirected {
        /// The other asset.
        of: String,
    },
    /// One `SQLite` database.
    Sqlite {
        /// The database file.
        path: PathBuf,
        /// Timestamp columns, `table.column`, whose newest value is recorded.
        newest: Vec<TimestampColumn>,
    },
    /// Databases of a PostgreSQL server, or its roles.
    Postgresql(ServerSettings<postgresql::Connection>),
    /// Databases of a MariaDB server, or its users.
    Mariadb(ServerSettings<MariadbSettings>),
    /// A PKCS#11 token.
    Pkcs11 {
        /// How it is reached and what leaves it.
        source: Pkcs11Settings,
        /// The file with its PIN.
        pin_file: Option<PathBuf>,
    },
}

impl Settings {
    /// Whether the asset takes a file along, going by names alone.
    pub(crate) fn covers(&self, file: &Path) -> bool {
        let Self::Files { paths, exclude, .. } = self else {
            return false;
        };
        let paths = paths.iter().map(|path| path.to_string_lossy().into_owned());
        let mut settings = FilesSettings::new(paths.collect(), Class::Config);
        settings.exclude.clone_from(exclude);
        settings.covers(file)
    }
}

/// A database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSettings<C> {
    /// How it is reached and what is captured.
    pub(crate) source: C,
    /// The server and account that databases are restored with, where that is another one.
    pub(crate) restore: Option<OtherServer>,
}

impl Config {
    /// Reads a configuration file.
    pub(crate) fn load(file: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read {
            file: file.to_owned(),
            source,
        };
        let bytes = std::fs::read(file).map_err(read)?;
        let directory = location::directory_of(file).map_err(read)?;
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => return Err(ConfigErrors::not_utf8(file, &bytes, &error).into()),
        };
        Ok(Self::parse(text, file, &directory)?)
    }

    /// Reads the text of a configuration; `directory` is absolute.
    pub(crate) fn parse(text: &str, file: &Path, directory: &Path) -> Result<Self, ConfigErrors> {
        let problems = error::Problems::new(file, text);
        let parsed = parse::parse(&problems, directory);
        let config = parsed.and_then(|parsed| validate::validate(parsed, &problems, directory));
        problems.into_result(config)
    }

    /// The repository that an asset of this configuration goes to.
    pub(crate) fn repository_of(&self, asset: &AssetConfig) -> &RepositoryConfig {
        let named = asset.repository.as_ref();
        named
            .and_then(|name| self.repositories.get(name))
            .or_else(|| {
                let mut all = self.repositories.values();
                all.find(|repository| repository.accepts(asset.class))
            })
            .expect("each asset was checked to have exactly one repository")
    }

    /// The repository or copy of that name.
    pub(crate) fn any_repository(&self, name: &str) -> Option<&RepositoryConfig> {
        self.repositories
            .get(name)
            .or_else(|| self.copies.get(name))
    }

    /// The asset of that name.
    pub(crate) fn asset(&self, name: &str) -> Option<&AssetConfig> {
        self.assets.iter().find(|asset| asset.name == name)
    }
}
