//! A small asset tree, one repository in memory, and the engine run on both.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use strongroom_adapters::source::files::{FilesSettings, FilesSource};
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::FixedClock;
use strongroom_core::execute::Silent;
use strongroom_core::execute::backup::{
    BackupError, BackupJob, BackupReport, BackupRepository, NotOpened, backup,
};
use strongroom_core::execute::restore::observe::observe;
use strongroom_core::execute::restore::{
    Consent, RestoreContext, RestoreError, RestoreReport, restore,
};
use strongroom_core::execute::verify::{Level, VerifyJob, VerifyReport, verify};
use strongroom_core::format::Label;
use strongroom_core::format::envelope::{Envelope, Status};
use strongroom_core::format::seal::BoxedIdentity;
use strongroom_core::format::writer_key::WriterKey;
use strongroom_core::plan::backup::{AssetOutline, RepositoryOutline, plan_backup};
use strongroom_core::plan::restore::{RestoreAsset, RestorePlan, Target, plan_restore};
use strongroom_core::repository::reader::{BackupReader, Item};
use strongroom_core::repository::state::WriterState;
use strongroom_core::repository::writer::Sealing;
use strongroom_core::repository::{NewRepository, Repository, RepositoryError};
use strongroom_core::source::server::{DatabaseServer, LoadOptions};
use strongroom_core::source::token::Token;
use strongroom_core::source::{CaptureError, Class, Restorer, Source};
use strongroom_core::storage::Storage;
use strongroom_testkit::fault_storage::FaultStorage;
use strongroom_testkit::memory_server::{MemoryRestorer, MemoryServer};
use strongroom_testkit::memory_storage::MemoryStorage;
use strongroom_testkit::memory_token::{MemoryToken, MemoryTokenRestorer};
use tempfile::TempDir;

const ASSETS: [(&str, Class); 3] = [
    ("log", Class::Log),
    ("config", Class::Config),
    ("token", Class::Secret),
];

/// What a run needs and leaves.
pub(crate) struct World {
    directory: TempDir,
    pub(crate) storage: Arc<FaultStorage<MemoryStorage>>,
    pub(crate) key: WriterKey,
    identity: age::x25519::Identity,
    pub(crate) clock: FixedClock,
    pub(crate) epoch_days: u32,
    /// The server of the fourth asset, which is captured once it has a database.
    pub(crate) server: MemoryServer,
    /// The token of the fifth asset, which is captured once it has an object.
    pub(crate) keys: MemoryToken,
    /// Captures the fourth asset in its place.
    pub(crate) source: Option<Box<dyn Fn() -> Box<dyn Source> + Send + Sync>>,
    pub(crate) options: LoadOptions,
    /// The name of the copy that is read in the place of the repository.
    pub(crate) copy: Option<String>,
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

impl World {
    /// Assets that were never backed up, and an empty repository.
    pub(crate) fn new() -> Self {
        let clock = FixedClock::new(time("2026-11-20T15:30:00Z"));
        let world = Self {
            directory: tempfile::tempdir().expect("a directory"),
            storage: Arc::new(FaultStorage::new(MemoryStorage::new())),
            key: WriterKey::generate().expect("random bytes"),
            identity: age::x25519::Identity::generate(),
            clock,
            epoch_days: 14,
            server: MemoryServer::new(),
            keys: MemoryToken::new(),
            source: None,
            options: LoadOptions::default(),
            copy: None,
        };
        let new = NewRepository {
            deployment: "example-ca".into(),
            name: "all".into(),
            accepts: Class::ALL.to_vec(),
            recipients: vec![world.recipient()],
        };
        Repository::create(world.shared(), new, &world.key, &world.clock).expect("creates");
        world.write("log/ca.log", &lines(0, 3000));
        world.write("config/ca.toml", b"days = 90\n");
        world.write("config/sub/extra", b"one = 1\n");
        world.write("config/empty", b"");
        world.write("token/token", b"a secret of the CA");
        std::fs::hard_link(world.live("config/sub/extra"), world.live("config/same"))
            .expect("links");
        std::os::unix::fs::symlink("ca.toml", world.live("config/current")).expect("links");
        world
    }

    fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }

    fn shared(&self) -> Arc<dyn Storage> {
        let storage: Arc<FaultStorage<MemoryStorage>> = Arc::clone(&self.storage);
        storage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("live")
    }

    pub(crate) fn live(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        put(&self.live(name), bytes);
    }

    pub(crate) fn repository(&self) -> Repository {
        let opened = match &self.copy {
            Some(name) => Repository::open_copy(self.shared(), name),
            None => Repository::open(self.shared()),
        };
        opened.expect("opens")
    }

    /// Sets the clocks of the host and of the storage.
    pub(crate) fn set_time(&self, now: Timestamp) {
        self.clock.set(now);
        self.storage.inner().set_time(now);
    }

    /// Takes a backup of everything.
    pub(crate) fn backup(&self) -> Result<BackupReport, BackupError> {
        let outlines: Vec<AssetOutline> = ASSETS
            .iter()
            .map(|(name, class)| AssetOutline {
                name: (*name).to_owned(),
                class: *class,
                source: "files".into(),
                repository: "all".into(),
                part_of: None,
            })
            .chain(self.has_databases().then(|| AssetOutline {
                name: "databases".to_owned(),
                class: Class::Database,
                source: "memory".into(),
                repository: "all".into(),
                part_of: None,
            }))
            .chain((!self.keys.objects().is_empty()).then(|| AssetOutline {
                name: "keys".to_owned(),
                class: Class::Key,
                source: "memory-token".into(),
                repository: "all".into(),
                part_of: None,
            }))
            .collect();
        let accepts = Class::ALL.to_vec();
        let repositories = [RepositoryOutline {
            name: "all".into(),
            accepts,
        }];
        let plan = plan_backup(&outlines, &repositories, &[]).expect("a plan");
        let source = |(name, class): (&str, Class)| {
            let path = self.live(name).to_str().expect("UTF-8").to_owned();
            let source = FilesSource::new(FilesSettings::new(vec![path], class));
            (name.to_owned(), Box::new(source) as Box<dyn Source>)
        };
        let databases: Box<dyn Source> = match &self.source {
            Some(make) => make(),
            None => Box::new(self.server.clone()),
        };
        let databases = ("databases".to_owned(), databases);
        let keys: Box<dyn Source> = Box::new(self.keys.clone());
        let keys = ("keys".to_owned(), keys);
        let place = BackupRepository {
            state: WriterState::open(&self.state(), "all"),
            sealing: Sealing {
                recipients: vec![self.recipient()],
                keys: vec![Box::new(self.identity.to_public())],
                epoch_days: self.epoch_days,
                immutable_days: None,
            },
        };
        let job = BackupJob {
            plan: &plan,
            deployment: "example-ca",
            tool: "test",
            sources: &ASSETS
                .into_iter()
                .map(source)
                .chain([databases, keys])
                .collect(),
            repositories: &BTreeMap::from([("all".to_owned(), place)]),
            key: &self.key,
            scratch: &self.path("scratch"),
            clock: &self.clock,
            cancel: &Cancel::default(),
            observer: &Silent,
        };
        backup(&job, &|name| {
            let opened = Repository::open(self.shared());
            opened.map_err(|source| {
                let name = name.to_owned();
                NotOpened::Wrong(BackupError::Repository { name, source })
            })
        })
    }

    fn has_databases(&self) -> bool {
        self.source.is_some() || !self.server.databases().is_empty()
    }

    /// Takes a backup that must be complete.
    #[track_caller]
    pub(crate) fn must_backup(&self) -> BackupReport {
        let report = self.backup().expect("a backup");
        assert_eq!(report.status, Status::Complete);
        report
    }

    pub(crate) fn identities(&self) -> Vec<BoxedIdentity> {
        vec![Box::new(self.identity.clone())]
    }

    pub(crate) fn envelope(&self, label: &Label) -> Option<Envelope> {
        let catalogue = self.repository().catalogue().expect("reads");
        let mut found = catalogue.backups.into_iter().map(|stored| stored.envelope);
        found.find(|envelope| envelope.label == *label)
    }

    /// Everything that is wrong with a backup or the history it stands in.
    pub(crate) fn damage(&self, label: &Label) -> Vec<String> {
        let repository = self.repository();
        let catalogue = repository.catalogue().expect("reads");
        let mut problems = catalogue.problems;
        let Some(stored) = catalogue
            .backups
            .iter()
            .find(|stored| stored.envelope.label == *label)
        else {
            problems.push("the envelope is missing".into());
            return problems;
        };
        match self.verify(&repository, &stored.envelope, Level::L3) {
            Ok(report) => {
                let found = report.backups.into_iter();
                problems.extend(found.flat_map(|backup| backup.problems));
            }
            Err(error) => problems.push(error.to_string()),
        }
        problems
    }

    /// Verifies one backup.
    pub(crate) fn verify(
        &self,
        repository: &Repository,
        envelope: &Envelope,
        level: Level,
    ) -> Result<VerifyReport, RepositoryError> {
        let scratch = self.path("verify");
        std::fs::create_dir_all(&scratch).expect("creates");
        verify(&VerifyJob {
            repository,
            name: "all",
            backups: vec![envelope],
            level,
            identities: &self.identities(),
            scratch: &scratch,
            restorers: &restorer,
            cancel: &Cancel::default(),
            observer: &Silent,
        })
    }

    /// Works on a restore into this world; `before_step` is asked before each of its steps.
    pub(crate) fn in_context<R>(
        &self,
        before_step: &(dyn Fn(&str) -> std::io::Result<()> + Sync),
        work: impl FnOnce(&RestoreContext<'_>) -> R,
    ) -> R {
        let (servers, tokens) = (self.find_server(), self.find_token());
        work(&RestoreContext {
            restorers: &restorer,
            servers: &servers,
            tokens: &tokens,
            cancel: &CANCEL,
            observer: &Silent,
            before_step,
        })
    }

    /// Restores a backup below a new directory.
    pub(crate) fn restore_to(&self, label: &Label) -> Result<Tree, RestoreError> {
        let out = tempfile::tempdir().expect("a directory");
        let target = Target::Directory(out.path().join("out"));
        self.restoring(label, target, |plan, readers| {
            let consent = Consent::to(plan)?;
            self.in_context(&|_| Ok(()), |context| {
                restore(&consent, &self.state(), readers, context)
            })
        })?;
        let below = self.root();
        let below = below.strip_prefix("/").expect("absolute");
        let mut tree = Tree::new();
        for (name, _) in ASSETS {
            let place = out.path().join("out").join(name).join(below);
            tree.extend(contents(&place));
        }
        Ok(tree)
    }

    pub(crate) fn find_server(
        &self,
    ) -> impl Fn(&str, &str, &LoadOptions) -> Result<Box<dyn DatabaseServer>, CaptureError> + Sync + use<>
    {
        let server = self.server.clone();
        move |_, _, _| Ok(Box::new(server.clone()))
    }

    pub(crate) fn find_token(
        &self,
    ) -> impl Fn(&str, &str, &LoadOptions) -> Result<Box<dyn Token>, CaptureError> + Sync + use<>
    {
        let token = self.keys.clone();
        move |_, _, _| Ok(Box::new(token.clone()))
    }

    /// Plans a restore and hands the plan and the opened backup over.
    pub(crate) fn restoring(
        &self,
        label: &Label,
        target: Target,
        run: impl FnOnce(&RestorePlan, &[BackupReader<'_>]) -> Result<RestoreReport, RestoreError>,
    ) -> Result<RestoreReport, RestoreError> {
        let repository = self.repository();
        let Some(envelope) = self.envelope(label) else {
            return Err(RestoreError::NothingToDo);
        };
        let reader = BackupReader::open(&repository, &envelope, &self.identities())?;
        let assets = assets(&reader)?;
        let world = observe(
            &target,
            &assets,
            &self.options,
            (&restorer, &self.find_server(), &self.find_token()),
        )?;
        let plan = plan_restore(label.clone(), target, &self.options, &assets, &world);
        run(&plan, &[reader])
    }
}

fn assets(reader: &BackupReader<'_>) -> Result<Vec<RestoreAsset>, RepositoryError> {
    let mut found: Vec<RestoreAsset> = Vec::new();
    let mut manifest = reader.manifest()?;
    while let Some(item) = manifest
        .next_item()
        .map_err(|error| reader.manifest_error(error))?
    {
        match item {
            Item::Asset(asset) => found.push(RestoreAsset {
                name: asset.name,
                class: asset.class,
                source: asset.source,
                repository: "all".into(),
                complete: true,
                streams: Vec::new(),
                facts: serde_json::Value::Null,
            }),
            Item::Stream(stream, _) => {
                found.last_mut().expect("an asset").streams.push(stream);
            }
            Item::Result(result) => found.last_mut().expect("an asset").facts = result.facts,
        }
    }
    Ok(found)
}

fn restorer(kind: &str) -> Option<&'static dyn Restorer> {
    match kind {
        "memory" => Some(&MemoryRestorer),
        "memory-token" => Some(&MemoryTokenRestorer),
        kind => strongroom_adapters::restorer(kind),
    }
}

static CANCEL: std::sync::LazyLock<Cancel> = std::sync::LazyLock::new(Cancel::default);

/// What a restore works with, with a hook before each step.
/// Content by path.
pub(crate) type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// The content of all files below a directory.
pub(crate) fn contents(root: &Path) -> Tree {
    let mut tree = Tree::new();
    visit(root, &mut |path, metadata| {
        if metadata.is_file() {
            let relative = path.strip_prefix(root).expect("below").to_owned();
            tree.insert(relative, std::fs::read(path).expect("reads"));
        }
    });
    tree
}

/// All that the file system says of a tree.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    visit(root, &mut |path, metadata| {
        let mut text = format!(
            "{:o} {}:{} {}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if metadata.is_file() {
            let bytes = std::fs::read(path).expect("reads");
            let digest = strongroom_core::format::Digest::of(&bytes);
            text.push_str(&format_args!(" {} links {digest}", metadata.nlink()).to_string());
        } else if metadata.is_symlink() {
            text.push_str(
                &format_args!(" -> {:?}", std::fs::read_link(path).expect("a link")).to_string(),
            );
        }
        found.insert(path.to_owned(), text);
    });
    found
}

fn visit(path: &Path, see: &mut dyn FnMut(&Path, &std::fs::Metadata)) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return;
    };
    see(path, &metadata);
    if metadata.is_dir() {
        let entries = std::fs::read_dir(path).expect("reads");
        for entry in entries {
            visit(&entry.expect("reads").path(), see);
        }
    }
}

/// Writes a file and its directories.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("creates");
    let mut file = strongroom_core::private_file::create_or_truncate(path).expect("creates");
    file.write_all(bytes).expect("writes");
}

/// Log lines.
pub(crate) fn lines(first: u32, count: u32) -> Vec<u8> {
    let line = |n: u32| {
        let serial = u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
        format!("{n} issued {serial:x}\n").into_bytes()
    };
    (first..first + count).flat_map(line).collect()
}
