//! What the commands share: the configuration, opened repositories, keys, sources and the run lock.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use strongroom_adapters::source::files::{FilesRestorer, FilesSettings, FilesSource};
use strongroom_adapters::source::mariadb::server::MariadbServer;
use strongroom_adapters::source::mariadb::{self, MariadbSource};
use strongroom_adapters::source::pkcs11::{PinEntry, Pkcs11Source, TokenStore, TokenUri};
use strongroom_adapters::source::postgresql::server::PostgresqlServer;
use strongroom_adapters::source::postgresql::{PostgresqlSource, PostgresqlUrl};
use strongroom_adapters::source::sqlite::{SqliteSettings, SqliteSource};
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::SystemClock;
use strongroom_core::execute::lock::RunLock;
use strongroom_core::format::seal::BoxedIdentity;
use strongroom_core::format::writer_key::WriterKey;
use strongroom_core::plan::backup::{AssetOutline, RepositoryOutline};
use strongroom_core::repository::Repository;
use strongroom_core::repository::state::WriterState;
use strongroom_core::source::server::{DatabaseServer, LoadOptions};
use strongroom_core::source::token::Token;
use strongroom_core::source::{CaptureError, Restorer, Source};
use strongroom_core::storage::Storage;
use zeroize::Zeroizing;

use crate::cli::{Global, IdentityOptions, PlainIdentityOptions, ReadOptions};
use crate::config::{AssetConfig, Config, RepositoryConfig, Settings};
use crate::environment::Environment;
use crate::failure::{Exit, Failure, io};
use crate::identity;
use crate::key_password::AskedPasswords;
use crate::pin::Pins;
use crate::report::Report;

/// Where the configuration is looked for, in this order.
const CONFIGURATIONS: [&str; 2] = ["strongroom.toml", "/etc/strongroom/strongroom.toml"];

/// How many repositories are waited for at the same time.
const AT_ONCE: usize = 16;

/// The surroundings of a command.
pub(crate) struct Surroundings {
    pub(crate) global: Global,
    pub(crate) environment: Environment,
    pub(crate) report: Report,
    pub(crate) cancel: Cancel,
    pub(crate) clock: SystemClock,
}

impl Surroundings {
    /// The configuration file that is meant, whether it exists or not.
    pub(crate) fn configuration_file(&self) -> PathBuf {
        let named = self
            .global
            .config
            .clone()
            .or_else(|| self.environment.config.clone());
        named.unwrap_or_else(|| {
            let found = CONFIGURATIONS.iter().find(|path| Path::new(path).exists());
            found.unwrap_or(&CONFIGURATIONS[0]).into()
        })
    }

    /// Reads the configuration.
    pub(crate) fn session(&self) -> Result<Session<'_>, Failure> {
        let file = self.configuration_file();
        let config = Config::load(&file).map_err(|error| {
            let is_named = self.global.config.is_some() || self.environment.config.is_some();
            let is_missing = error.is_missing();
            let mut failure = Failure::from(error);
            if is_missing && !is_named {
                let places = CONFIGURATIONS.join(" (in this directory) nor ");
                failure.message = format!("there is no configuration, neither {places}");
            }
            failure
        })?;
        let credentials = &self.environment.credentials_directory;
        let pins = Pins::new(credentials.clone());
        let passwords = Arc::new(AskedPasswords::new(credentials.clone()));
        Ok(Session {
            config,
            around: self,
            pins,
            passwords,
        })
    }

    /// Reads the configuration, with copies in the place of the repositories that they copy, and as of the time asked for.
    pub(crate) fn session_reading(&self, options: &ReadOptions) -> Result<Session<'_>, Failure> {
        let mut session = self.session()?;
        for name in &options.from {
            let copy = session.copy(name)?.clone();
            let original = copy.document_name().to_owned();
            session.config.repositories.insert(original, copy);
        }
        if options.as_of.is_some() {
            session.read_as_of(options.as_of);
        }
        Ok(session)
    }

    /// The identities that a command was given: by option, by environment, as credentials of systemd, or typed.
    pub(crate) fn identities(
        &self,
        options: &IdentityOptions,
    ) -> Result<Vec<BoxedIdentity>, Failure> {
        let mut files = options.identity.clone();
        if files.is_empty() {
            files.extend(self.environment.identity_file.clone());
        }
        if files.is_empty() {
            files = self.environment.credential_identities().map_err(io(
                "read",
                self.environment
                    .credentials_directory
                    .as_deref()
                    .unwrap_or(Path::new("")),
            ))?;
        }
        if files.is_empty() {
            return Ok(identity::typed()?);
        }
        let passphrase_file = options
            .passphrase_file
            .clone()
            .or_else(|| self.environment.passphrase_file.clone());
        let loaded = match passphrase_file {
            Some(file) => identity::load(&files, &identity::PassphraseFile(file))?,
            None => identity::load(&files, &identity::Terminal)?,
        };
        for warning in &loaded.warnings {
            self.report
                .problem(format!("{warning}. {}", warning.hint()));
        }
        Ok(loaded.identities)
    }

    /// Whether identities or shares were given, so that nothing has to be asked for.
    pub(crate) fn has_identity(&self, options: &IdentityOptions) -> bool {
        options.has_shares() || self.has_identity_file(options)
    }

    /// The identities that open a custodian's own share, where they were given.
    pub(crate) fn custodian_identities(
        &self,
        options: &PlainIdentityOptions,
    ) -> Result<Vec<BoxedIdentity>, Failure> {
        let options = IdentityOptions {
            identity: options.identity.clone(),
            passphrase_file: options.passphrase_file.clone(),
            ..IdentityOptions::default()
        };
        if self.has_identity_file(&options) {
            self.identities(&options)
        } else {
            Ok(Vec::new())
        }
    }

    /// Whether an identity was given as a file.
    pub(crate) fn has_identity_file(&self, options: &IdentityOptions) -> bool {
        !options.identity.is_empty()
            || self.environment.identity_file.is_some()
            || self
                .environment
                .credential_identities()
                .is_ok_and(|files| !files.is_empty())
    }
}

/// Who opens a storage: each may have credentials of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Takes backups, lists and verifies them.
    Writer,
    /// Restores them.
    Restorer,
    /// Deletes what is not needed any more, and repairs.
    Expirer,
}

/// A command that has read its configuration.
pub(crate) struct Session<'s> {
    pub(crate) config: Config,
    pub(crate) around: &'s Surroundings,
    /// The PINs of tokens, each asked for once.
    pins: Pins,
    /// The passwords of keys, each asked for once.
    passwords: Arc<AskedPasswords>,
}

impl Session<'_> {
    /// Reads repositories as of a time. Of those that keep no versions, the present is read, and that is said; when none
    /// keeps any, opening them is refused.
    fn read_as_of(&mut self, time: Option<jiff::Timestamp>) {
        let repositories = &mut self.config.repositories;
        let keeps_none = |one: &RepositoryConfig| !one.storage.place.keeps_versions();
        let is_vain = repositories.values().all(keeps_none);
        for (name, repository) in repositories {
            if is_vain || !keeps_none(repository) {
                repository.storage.as_of = time;
            } else {
                self.around.report.note(format!(
                    "repository {name} keeps no versions: what is there now is read, not what was"
                ));
            }
        }
    }

    /// The copy of that name.
    pub(crate) fn copy(&self, name: &str) -> Result<&RepositoryConfig, Failure> {
        let copies = &self.config.copies;
        copies.get(name).ok_or_else(|| {
            let message = if self.config.repositories.contains_key(name) {
                format!("{name:?} is no copy, backups are written to it")
            } else {
                format!("there is no copy {name:?}")
            };
            let names: Vec<&str> = copies.keys().map(String::as_str).collect();
            let known = match names.as_slice() {
                [] => "The configuration has no copy: a table [repository.NAME] with copy_of = \"...\" makes one.".to_owned(),
                names => format!("The configuration has these copies: {}.", names.join(", ")),
            };
            Failure::usage(message).hint(known)
        })
    }

    /// The repository or copy of that name.
    pub(crate) fn any_repository(&self, name: &str) -> Result<&RepositoryConfig, Failure> {
        let config = &self.config;
        config.any_repository(name).ok_or_else(|| {
            let all = config.repositories.keys().chain(config.copies.keys());
            let names: Vec<&str> = all.map(String::as_str).collect();
            Failure::usage(format!("there is no repository {name:?}")).hint(format!(
                "The configuration has these: {}.",
                names.join(", ")
            ))
        })
    }

    /// Takes the lock under which this host changes anything.
    pub(crate) fn lock(&self) -> Result<RunLock, Failure> {
        Ok(RunLock::acquire(&self.config.writer.state_dir)?)
    }

    /// Reads this host's key; refused when others can read it too.
    pub(crate) fn writer_key(&self) -> Result<WriterKey, Failure> {
        let file = &self.config.writer.key_file;
        let text = match std::fs::read_to_string(file) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("the writer key {} is missing", file.display());
                return Err(Failure::new(Exit::Refused, "no-writer-key", message).hint(
                    "`strongroom init` makes one. If there was one before, put its file back: only it continues the \
                     chain of this host's backups.",
                ));
            }
            Err(error) => return Err(io("read the writer key", file)(error)),
        };
        let mode = std::fs::metadata(file).map_err(io("look at", file))?.mode();
        if mode & 0o077 != 0 {
            let message = format!("the writer key {} can be read by others", file.display());
            return Err(Failure::new(Exit::Refused, "writer-key-exposed", message)
                .hint(format!("chmod 600 {}", file.display())));
        }
        WriterKey::from_pem(&text).map_err(|error| Failure::from(error).context(file.display()))
    }

    /// Opens the storage of a repository with the credentials of a role.
    pub(crate) fn storage(
        &self,
        config: &RepositoryConfig,
        role: Role,
    ) -> Result<Arc<dyn Storage>, Failure> {
        let mut settings = config.storage.clone();
        let own = match role {
            // Versions are not for the writer to read.
            Role::Writer if settings.as_of.is_some() => config.restorer.as_ref(),
            Role::Writer => None,
            Role::Restorer => config.restorer.as_ref(),
            Role::Expirer => config.expirer.as_ref(),
        };
        if let Some(credentials) = own {
            settings.credentials = credentials.clone();
        }
        let storage = strongroom_adapters::open_storage(&settings, &self.around.cancel);
        let storage = storage.map_err(|error| {
            Failure::from(error).context(format_args!("repository {}", config.name))
        })?;
        Ok(storage.into())
    }

    /// Opens a repository of the configuration, as the writer.
    pub(crate) fn repository(&self, config: &RepositoryConfig) -> Result<Repository, Failure> {
        self.repository_as(config, Role::Writer)
    }

    /// Opens a repository of the configuration.
    pub(crate) fn repository_as(
        &self,
        config: &RepositoryConfig,
        role: Role,
    ) -> Result<Repository, Failure> {
        let storage = self.storage(config, role)?;
        let opened = match config.copy_of {
            Some(_) => Repository::open_copy(storage, &config.name),
            None => Repository::open(storage),
        };
        let repository = opened.map_err(|error| {
            let failure = match config.storage.as_of {
                Some(time) => Failure::in_the_past(error, time),
                None => error.into(),
            };
            failure.context(format_args!("repository {}", config.name))
        })?;
        let document = repository.document();
        if document.name != config.document_name()
            || document.deployment != self.config.deployment.name
        {
            let message = format!(
                "{} is the repository {:?} of deployment {:?}, the configuration calls it {:?} of {:?}",
                config.url,
                document.name,
                document.deployment,
                config.document_name(),
                self.config.deployment.name
            );
            return Err(Failure::new(Exit::Refused, "other-repository", message)
                .hint("Is the URL right? Names of repositories and deployment cannot be changed later."));
        }
        let state = WriterState::open(&self.config.writer.state_dir, config.document_name());
        if let Some(known) = state.repository()?
            && known != document.repository
        {
            let message = format!(
                "{} is another repository than the one that this host has written to: its number is {}, and it was {known}",
                config.url, document.repository
            );
            return Err(Failure::new(Exit::Refused, "other-repository", message).hint(format!(
                "Whoever has put it there wants you to take it for yours: look at a copy, or back in time with --as-of. \
                 If you have made it anew yourself, move {} away, which is what this host remembers of the old one.",
                state.directory().display()
            )));
        }
        Ok(repository)
    }

    /// Opens all repositories of the configuration, by name.
    pub(crate) fn repositories(&self) -> Result<BTreeMap<String, Repository>, Failure> {
        let opened = each(self.config.repositories.values(), |config| {
            self.repository(config)
        });
        opened
            .into_iter()
            .map(|(config, opened)| Ok((self.key_of(config), opened?)))
            .collect()
    }

    /// Opens the copies that have a retention of their own, by name; those that cannot be opened are told in the second part.
    pub(crate) fn expiring_copies(&self) -> (BTreeMap<String, Repository>, Vec<Failure>) {
        let all = self.config.copies.values();
        self.open_each(
            all.filter(|config| config.retention.is_some()),
            Role::Writer,
        )
    }

    fn open_each<'c>(
        &self,
        configs: impl Iterator<Item = &'c RepositoryConfig>,
        role: Role,
    ) -> (BTreeMap<String, Repository>, Vec<Failure>) {
        let mut opened = BTreeMap::new();
        let mut failures = Vec::new();
        for (config, outcome) in each(configs, |config| self.repository_as(config, role)) {
            match outcome {
                Ok(repository) => drop(opened.insert(self.key_of(config), repository)),
                Err(failure) => failures.push(failure),
            }
        }
        (opened, failures)
    }

    /// The name that a repository is known by in this session: a copy that is read has that of its original.
    fn key_of(&self, config: &RepositoryConfig) -> String {
        let read = self.config.repositories.get(config.document_name());
        let is_read = read.is_some_and(|read| read.name == config.name);
        let name = if is_read {
            config.document_name()
        } else {
            &config.name
        };
        name.to_owned()
    }

    /// Opens all repositories, of which only those of these names must be there; without names, all must be.
    pub(crate) fn some_repositories(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Repository>, Failure> {
        let mut opened = BTreeMap::new();
        let all = self.config.repositories.values();
        for (config, outcome) in each(all, |config| self.repository(config)) {
            let name = self.key_of(config);
            match outcome {
                Ok(repository) => drop(opened.insert(name, repository)),
                Err(failure) if names.is_empty() || names.contains(&name) => return Err(failure),
                Err(_) => {}
            }
        }
        Ok(opened)
    }

    /// Opens those repositories that can be opened; the others are told in the second part.
    pub(crate) fn reachable_repositories(
        &self,
        role: Role,
    ) -> (BTreeMap<String, Repository>, Vec<Failure>) {
        self.open_each(self.config.repositories.values(), role)
    }

    /// Opens the repositories of a restore: all of them, or, when only some assets are meant, those that can be opened.
    pub(crate) fn repositories_for(
        &self,
        only: &[String],
    ) -> Result<BTreeMap<String, Repository>, Failure> {
        let (opened, failures) = self.reachable_repositories(Role::Restorer);
        if !only.is_empty() {
            for failure in &failures {
                self.around.report.failed_part(failure);
            }
        }
        match failures.into_iter().next() {
            Some(failure) if only.is_empty() || opened.is_empty() => Err(failure),
            _ => Ok(opened),
        }
    }

    /// What this host remembers of a repository, or of the copy that is read in its place.
    pub(crate) fn state(&self, name: &str) -> WriterState {
        let read = self.config.repositories.get(name);
        let name = read.map_or(name, |config| &config.name);
        WriterState::open(&self.config.writer.state_dir, name)
    }

    /// The private directory for copies of databases.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.config.writer.state_dir.join("scratch")
    }

    /// The assets as plans see them.
    pub(crate) fn outlines(&self) -> (Vec<AssetOutline>, Vec<RepositoryOutline>) {
        let assets = self.config.assets.iter().map(|asset| AssetOutline {
            name: asset.name.clone(),
            class: asset.class,
            source: asset.source().to_owned(),
            repository: self.config.repository_of(asset).name.clone(),
            part_of: asset.part_of().map(str::to_owned),
        });
        let repositories = self
            .config
            .repositories
            .values()
            .map(|repository| RepositoryOutline {
                name: repository.name.clone(),
                accepts: repository.accepts.clone(),
            });
        (assets.collect(), repositories.collect())
    }

    /// Opens the servers that assets are restored to.
    pub(crate) fn find_server(
        &self,
    ) -> impl Fn(&str, &str, &LoadOptions) -> Result<Box<dyn DatabaseServer>, CaptureError> + Sync + '_
    {
        let config = &self.config;
        move |asset, kind, options| server(config, asset, kind, options)
    }

    /// Opens the tokens that assets are restored to.
    pub(crate) fn find_token(
        &self,
    ) -> impl Fn(&str, &str, &LoadOptions) -> Result<Box<dyn Token>, CaptureError> + Sync + '_ {
        move |asset, kind, options| token(self, asset, kind, options)
    }

    /// The sources of all assets, by name.
    pub(crate) fn sources(&self) -> BTreeMap<String, Box<dyn Source>> {
        let mut sources = BTreeMap::new();
        for asset in &self.config.assets {
            self.add_source(asset, &mut sources);
        }
        sources
    }

    /// Finds what restores assets of a kind of source, and asks for passwords as the sources do.
    pub(crate) fn find_restorer(
        &self,
    ) -> impl Fn(&str) -> Option<&'static dyn Restorer> + Sync + '_ {
        static FILES: OnceLock<FilesRestorer> = OnceLock::new();
        move |kind| {
            let files = FILES.get_or_init(|| FilesRestorer {
                passwords: Some(self.passwords.clone()),
            });
            if kind == files.kind() {
                Some(files)
            } else {
                strongroom_adapters::restorer(kind)
            }
        }
    }

    /// Adds the source that reads an asset, and that of what it redirects: both share what the first finds.
    fn add_source(&self, asset: &AssetConfig, sources: &mut BTreeMap<String, Box<dyn Source>>) {
        let source: Box<dyn Source> = match &asset.settings {
            Settings::Files {
                paths,
                exclude,
                certificate,
                key_password_file,
                asks_key_password,
                on_secret,
                ..
            } => {
                let mut source = FilesSource::new(FilesSettings {
                    paths: paths
                        .iter()
                        .map(|path| path.to_string_lossy().into_owned())
                        .collect(),
                    exclude: exclude.clone(),
                    certificate: certificate.clone(),
                    key_password_file: key_password_file.clone(),
                    class: asset.class,
                    on_secret: on_secret.clone(),
                });
                if *asks_key_password {
                    source = source.asking(&asset.name, self.passwords.clone());
                }
                let mut others = self.config.assets.iter();
                if let Some(part) = others.find(|part| part.part_of() == Some(&asset.name)) {
                    let redirected = source.of_redirected(&asset.name);
                    sources.insert(part.name.clone(), Box::new(redirected));
                }
                Box::new(source)
            }
            Settings::Redirected { .. } => return,
            Settings::Sqlite { path, newest } => Box::new(SqliteSource::new(SqliteSettings {
                path: path.clone(),
                newest: newest.clone(),
                class: asset.class,
            })),
            Settings::Mariadb(server) => Box::new(MariadbSource::new(server.source.clone())),
            Settings::Pkcs11 { source, pin_file } => {
                let pin = self.pins.of_asset(&asset.name, pin_file.as_deref());
                Box::new(Pkcs11Source::new(source.clone(), pin))
            }
            Settings::Postgresql(server) => Box::new(PostgresqlSource::new(server.source.clone())),
        };
        sources.insert(asset.name.clone(), source);
    }
}

/// Does something with each of these repositories at the same time, so that one that does not answer holds up none of
/// the others; the outcomes in their order.
pub(crate) fn each<'c, T: Send>(
    configs: impl IntoIterator<Item = &'c RepositoryConfig>,
    work: impl Fn(&'c RepositoryConfig) -> T + Sync,
) -> Vec<(&'c RepositoryConfig, T)> {
    let configs: Vec<&RepositoryConfig> = configs.into_iter().collect();
    let work = &work;
    let mut outcomes = Vec::new();
    for some in configs.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let begun: Vec<_> = some
                .iter()
                .map(|config| (*config, scope.spawn(move || work(config))))
                .collect();
            outcomes.extend(begun.into_iter().map(|(config, thread)| {
                let outcome = thread.join();
                let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                (config, outcome)
            }));
        });
    }
    outcomes
}

/// The server that an asset of this kind is restored to.
fn server(
    config: &Config,
    name: &str,
    kind: &str,
    options: &LoadOptions,
) -> Result<Box<dyn DatabaseServer>, CaptureError> {
    let refused = |why: String, hint| CaptureError::Unsuitable {
        path: name.into(),
        why,
        hint,
    };
    let settings = config.asset(name).map(|asset| &asset.settings);
    let wrong_url = |error: &dyn std::fmt::Display| {
        refused(
            format!("the URL of the server: {error}"),
            "Write it as the asset's configuration would.",
        )
    };
    match (kind, settings) {
        ("postgresql", Some(Settings::Postgresql(server))) => {
            let mut connection = server.source.clone();
            if let Some(other) = options.server.as_ref().or(server.restore.as_ref()) {
                let url = PostgresqlUrl::parse(&other.url).map_err(|error| wrong_url(&error))?;
                connection.settings.url = Some(url);
                connection.settings.service = None;
                connection.password_file.clone_from(&other.password_file);
            }
            Ok(Box::new(PostgresqlServer::new(connection)))
        }
        ("mariadb", Some(Settings::Mariadb(server))) => {
            let own = &server.source.connection;
            let mut connection = own.clone();
            if let Some(other) = options.server.as_ref().or(server.restore.as_ref()) {
                (connection, _) =
                    mariadb::url::parse(&other.url).map_err(|error| wrong_url(&error))?;
                connection.via.clone_from(&own.via);
                connection.programs.clone_from(&own.programs);
                connection.password_file.clone_from(&other.password_file);
            }
            Ok(Box::new(MariadbServer::new(connection)))
        }
        _ => Err(refused(
            format!(
                "the configuration has no asset of this name with source = \"{kind}\", so its server is not known"
            ),
            "Add the asset to the configuration, with the url of the server to restore to; or restore it to a directory with --to-dir.",
        )),
    }
}

/// The token that an asset of this kind is restored to.
fn token(
    session: &Session<'_>,
    name: &str,
    kind: &str,
    options: &LoadOptions,
) -> Result<Box<dyn Token>, CaptureError> {
    let refused = |why: String, hint| CaptureError::Unsuitable {
        path: name.into(),
        why,
        hint,
    };
    let asset = session.config.asset(name);
    let Some(Settings::Pkcs11 { source, pin_file }) = asset.map(|asset| &asset.settings) else {
        return Err(refused(
            format!(
                "the configuration has no asset of this name with source = \"{kind}\", so its module is not known"
            ),
            "Add the asset to the configuration, with the module of the token to restore to; or restore it to a directory with --to-dir.",
        ));
    };
    let mut access = source.access.clone();
    let pin: Arc<dyn PinEntry> = match &options.token {
        Some(other) => {
            access.token = TokenUri::parse(&other.uri).map_err(|error| {
                refused(
                    format!("the URI of the token: {error}"),
                    "It has the form pkcs11:token=LABEL;serial=NUMBER.",
                )
            })?;
            // The other token may have another PIN, and a wrong one costs a try.
            session.pins.of_restore(name, other.pin_file.as_deref())
        }
        None => session.pins.of_asset(name, pin_file.as_deref()),
    };
    Ok(Box::new(TokenStore::new(access, pin)))
}
