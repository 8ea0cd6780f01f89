//! What a restore will write, replace and keep, and why it may not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::path_text;
use crate::format::Label;
use crate::format::manifest::{Stream, StreamKind};
use crate::source::Class;
use crate::source::server::{DatabaseSeen, LoadOptions, ServerSeen, database_of};
use crate::source::token::{OBJECT_MAX, TokenObject, TokenSeen};

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// To where everything was.
    InPlace,
    /// Below an empty directory, as `DIR/<asset>/<path>`.
    Directory(#[serde(with = "path_text")] PathBuf),
    /// Into a new database of this name on the asset's server; nothing is replaced.
    Database(String),
}

impl Target {
    /// Whether dumps are loaded into servers and tokens, and not written as files.
    pub const fn loads_databases(&self) -> bool {
        matches!(self, Self::InPlace | Self::Database(_))
    }

    /// What a database is called after the restore.
    pub fn database_name<'n>(&'n self, original: &'n str) -> &'n str {
        match self {
            Self::Database(name) => name,
            Self::InPlace | Self::Directory(_) => original,
        }
    }
}

/// An asset of the backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreAsset {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// The kind of source.
    pub source: String,
    /// The repository that it comes from.
    pub repository: String,
    /// Whether it was captured whole.
    pub complete: bool,
    /// Its streams, in the order of the manifest.
    pub streams: Vec<Stream>,
    /// What was found out about it when it was captured.
    pub facts: serde_json::Value,
}

impl RestoreAsset {
    /// The databases in its dumps, by the names that they had, each with the bytes of its streams.
    pub fn databases(&self) -> BTreeMap<String, u64> {
        let mut databases = BTreeMap::new();
        for stream in &self.streams {
            if stream.kind == StreamKind::Dump
                && let Some(name) = database_of(&stream.path)
            {
                *databases.entry(name).or_insert(0) += stream.size.unwrap_or(0);
            }
        }
        databases
    }
}

/// What lies at a path now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it is; `None` for sockets, devices and pipes.
    pub kind: Option<StreamKind>,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Why it must not be replaced now.
    pub in_use: Option<String>,
}

/// What the executor saw before the plan was made.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// What lies at the paths that would be written; absent paths are missing.
    pub found: BTreeMap<PathBuf, Found>,
    /// Files that would belong to a path and must go with it, by that path.
    pub companions: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Directories that this user may not write to.
    pub unwritable: BTreeSet<PathBuf>,
    /// Free bytes where the target lies, by the existing directory that was asked.
    pub free_bytes: BTreeMap<PathBuf, u64>,
    /// What the server of each asset shows, or why it cannot be looked at; by asset.
    pub servers: BTreeMap<String, Result<ServerSeen, String>>,
    /// The same for assets whose dumps are objects of a token.
    pub tokens: BTreeMap<String, Result<TokenSeen, String>>,
    /// Whether the target directory exists and holds something.
    pub target_not_empty: bool,
    /// Whether the run may give files to others.
    pub is_root: bool,
    /// The user that the run belongs to.
    pub uid: u32,
}

/// One thing to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreItem {
    /// The asset it belongs to.
    pub asset: String,
    /// The kind of source that captured it.
    pub source: String,
    /// What it is.
    pub kind: StreamKind,
    /// Where it was when it was captured.
    #[serde(with = "path_text")]
    pub original: PathBuf,
    /// Where it goes.
    #[serde(with = "path_text")]
    pub path: PathBuf,
    /// An existing directory; from there on to `path`, symbolic links are not followed.
    #[serde(with = "path_text")]
    pub root: PathBuf,
    /// The length of its content in bytes.
    pub size_bytes: u64,
    /// Where the first name of a hard-linked file goes.
    #[serde(with = "path_text::option")]
    pub link_to: Option<PathBuf>,
    /// What is replaced; for directories, what they are now.
    pub replaces: Option<Found>,
    /// Files that, where they exist, are put aside together with what is replaced.
    #[serde(with = "path_text::list")]
    pub companions: Vec<PathBuf>,
    /// Owner, mode and times of a directory; set when everything below it is in place.
    pub directory: Option<Stream>,
}

/// A database to restore into a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreDatabase {
    /// The asset it belongs to.
    pub asset: String,
    /// The kind of source that captured it.
    pub source: String,
    /// Its name when it was captured.
    pub original: String,
    /// Its name after the restore.
    pub name: String,
    /// The server, in words.
    pub server: String,
    /// The bytes of its streams.
    pub size_bytes: u64,
    /// What is replaced.
    pub replaces: Option<DatabaseSeen>,
}

/// A token to put objects into; nothing in it is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreToken {
    /// The asset it belongs to.
    pub asset: String,
    /// The kind of source that captured it.
    pub source: String,
    /// The token, in words.
    pub token: String,
    /// What is made, and what is there already.
    pub objects: Vec<RestoreObject>,
    /// What will not be there after the restore: the backup does not hold it.
    pub missing: Vec<String>,
}

/// An object of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreObject {
    /// What it is.
    pub object: TokenObject,
    /// The length of its stream.
    pub size_bytes: u64,
    /// Whether it was there when the plan was made; an undo leaves it alone.
    pub is_there: bool,
}

/// Everything that a restore will do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// The backup.
    pub label: Label,
    /// Where it goes.
    pub target: Target,
    /// The databases to load into servers; they come first.
    pub databases: Vec<RestoreDatabase>,
    /// The tokens that objects are put into; they come last.
    #[serde(default)]
    pub tokens: Vec<RestoreToken>,
    /// What was asked for besides, for the databases and tokens.
    pub options: LoadOptions,
    /// The things to restore.
    pub items: Vec<RestoreItem>,
    /// Why it may not be done.
    pub refusals: Vec<String>,
    /// What is not as it should be, and is done all the same.
    pub warnings: Vec<String>,
    /// What the operator should know before it is done.
    pub notes: Vec<String>,
    /// The same, where it holds for the moment only.
    #[serde(default)]
    pub passing: Vec<String>,
}

impl RestorePlan {
    /// How many bytes will be written into files.
    pub fn size_bytes(&self) -> u64 {
        self.items
            .iter()
            .fold(0, |sum, item| sum.saturating_add(item.size_bytes))
    }

    /// Whether anything that is there now will be replaced.
    pub fn replaces_anything(&self) -> bool {
        self.items
            .iter()
            .any(|item| item.kind != StreamKind::Directory && item.replaces.is_some())
            || self
                .databases
                .iter()
                .any(|database| database.replaces.is_some())
    }

    /// The name under which a database waits until everything is proved. Servers allow 63 bytes and more.
    pub fn new_database(&self, number: usize) -> String {
        format!("strongroom-{}-{number}-new", self.label)
    }

    /// The name under which the database that it replaced is kept until sign-off.
    pub fn old_database(&self, number: usize) -> String {
        format!("strongroom-{}-{number}-old", self.label)
    }

    /// The name, next to an item, under which its content waits until everything is proved.
    pub fn new_name(&self, number: usize) -> String {
        format!(".strongroom-{}-{number}.new", self.label)
    }

    /// The name, next to an item, under which what it replaced is kept until sign-off.
    pub fn old_name(&self, number: usize) -> String {
        format!(".strongroom-{}-{number}.old", self.label)
    }

    /// The same for the companion `companion` of an item.
    pub fn companion_name(&self, number: usize, companion: usize) -> String {
        format!(".strongroom-{}-{number}-{companion}.old", self.label)
    }
}

/// Whether a name is one that a restore leaves next to its targets until it is signed off or undone.
pub fn is_restore_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".strongroom-") && (name.ends_with(b".new") || name.ends_with(b".old"))
}

/// Where a stream of an asset goes.
pub fn place(target: &Target, asset: &str, original: &Path) -> PathBuf {
    match target {
        Target::InPlace | Target::Database(_) => original.to_owned(),
        Target::Directory(directory) => {
            let relative = original.strip_prefix("/").unwrap_or(original);
            directory.join(asset).join(relative)
        }
    }
}

/// Plans the restore of `assets`.
pub fn plan_restore(
    label: Label,
    target: Target,
    options: &LoadOptions,
    assets: &[RestoreAsset],
    world: &Observations,
) -> RestorePlan {
    let mut plan = RestorePlan {
        label,
        target,
        databases: Vec::new(),
        tokens: Vec::new(),
        options: options.clone(),
        items: Vec::new(),
        refusals: Vec::new(),
        warnings: Vec::new(),
        notes: Vec::new(),
        passing: Vec::new(),
    };
    if let Target::Directory(directory) = &plan.target
        && world.target_not_empty
    {
        plan.refusals
            .push(format!("{} is not empty", directory.display()));
    }
    for asset in assets {
        if !asset.complete {
            plan.warnings
                .push(format!("asset {} was not captured whole", asset.name));
        }
        if let Some(other) = asset.facts["secrets"]["redirected_to"].as_str()
            && !assets.iter().any(|asset| asset.name == other)
        {
            plan.warnings.push(format!(
                "asset {}: its files that hold secrets are in the asset {other}, which this restore does not bring back",
                asset.name
            ));
        }
        match world.tokens.get(&asset.name) {
            Some(seen) => plan_token(&mut plan, asset, seen),
            None => plan_databases(&mut plan, asset, world),
        }
        plan_asset(&mut plan, asset, world);
    }
    check_options(&mut plan);
    for directory in &world.unwritable {
        plan.refusals.push(format!(
            "this user may not write to {}",
            directory.display()
        ));
    }
    let needed = plan.size_bytes();
    for (directory, free) in &world.free_bytes {
        if *free < needed {
            plan.refusals.push(format!(
                "{needed} bytes are needed and {free} are free at {}",
                directory.display()
            ));
        }
    }
    if !world.is_root {
        plan.warnings
            .push("not run as root: everything will belong to the user who restores".to_owned());
    }
    plan
}

fn plan_databases(plan: &mut RestorePlan, asset: &RestoreAsset, world: &Observations) {
    let dumps = asset
        .streams
        .iter()
        .filter(|stream| stream.kind == StreamKind::Dump);
    if !plan.target.loads_databases() {
        return;
    }
    for stream in dumps.filter(|stream| database_of(&stream.path).is_none()) {
        plan.notes.push(format!(
            "asset {}: {} belongs to the server as a whole and is not loaded; restore it with --to-dir and look at it",
            asset.name,
            stream.path.display()
        ));
    }
    let databases = asset.databases();
    if databases.is_empty() {
        return;
    }
    let seen = match world.servers.get(&asset.name) {
        Some(Ok(seen)) => seen,
        Some(Err(why)) => {
            let refusal = format!("asset {}: {why}", asset.name);
            return plan.refusals.push(refusal);
        }
        None => {
            let refusal = format!("asset {}: its server was not looked at", asset.name);
            return plan.refusals.push(refusal);
        }
    };
    let told = |lines: &[String]| -> Vec<String> {
        let lines = lines.iter();
        lines
            .map(|line| format!("asset {}: {line}", asset.name))
            .collect()
    };
    plan.refusals.extend(told(&seen.refusals));
    plan.notes.extend(told(&seen.warnings));
    let needed: u64 = databases.values().sum();
    if let Some(free) = seen.free_bytes.filter(|free| *free < needed) {
        plan.refusals.push(format!(
            "asset {}: {needed} bytes are needed and {free} are free at {}",
            asset.name, seen.server
        ));
    }
    for (original, size_bytes) in databases {
        let name = plan.target.database_name(&original).to_owned();
        let replaces = seen.databases.get(&name).cloned();
        if matches!(plan.target, Target::Database(_)) && replaces.is_some() {
            plan.refusals.push(format!(
                "there is a database {name:?} at {} already; choose a name that is free",
                seen.server
            ));
        }
        if let Some(sessions) = replaces
            .as_ref()
            .map(|seen| seen.sessions)
            .filter(|n| *n > 0)
        {
            let use_it = if sessions == 1 {
                "1 session uses".to_owned()
            } else {
                format!("{sessions} sessions use")
            };
            plan.passing.push(format!(
                "{use_it} database {name:?}; sessions are ended when it is replaced"
            ));
        }
        if plan
            .databases
            .iter()
            .any(|other| other.name == name && other.server == seen.server)
        {
            plan.refusals.push(format!(
                "two databases would become {name:?}; name one asset that holds one database"
            ));
        }
        plan.databases.push(RestoreDatabase {
            asset: asset.name.clone(),
            source: asset.source.clone(),
            original,
            name,
            server: seen.server.clone(),
            size_bytes,
            replaces,
        });
    }
}

/// What goes into a token. Two assets of one token are two plans: each looked at it before the other has changed it.
fn plan_token(plan: &mut RestorePlan, asset: &RestoreAsset, seen: &Result<TokenSeen, String>) {
    if !plan.target.loads_databases() {
        return;
    }
    let told = |line: &String| format!("asset {}: {line}", asset.name);
    if matches!(plan.target, Target::Database(_)) {
        let why = "keys do not go into a database; name only the asset that holds it";
        return plan.refusals.push(told(&why.to_owned()));
    }
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => return plan.refusals.push(told(why)),
    };
    plan.refusals.extend(seen.refusals.iter().map(told));
    plan.notes.extend(seen.notes.iter().map(told));
    plan.warnings.extend(seen.missing.iter().map(told));
    let size = |path: &Path| {
        let mut streams = asset.streams.iter();
        let stream = streams.find(|stream| stream.kind == StreamKind::Dump && stream.path == path);
        stream.and_then(|stream| stream.size)
    };
    let mut objects = Vec::new();
    for (object, is_there) in &seen.objects {
        match size(&object.stream) {
            Some(size_bytes) if size_bytes <= OBJECT_MAX => objects.push(RestoreObject {
                object: object.clone(),
                size_bytes,
                is_there: *is_there,
            }),
            Some(_) => {
                let why = format!("{} is too long for an object of a token", object.what);
                plan.refusals.push(told(&why));
            }
            None => {
                let why = format!("the backup holds no stream of {}", object.what);
                plan.refusals.push(told(&why));
            }
        }
    }
    plan.tokens.push(RestoreToken {
        asset: asset.name.clone(),
        source: asset.source.clone(),
        token: seen.token.clone(),
        objects,
        missing: seen.missing.clone(),
    });
}

/// Whether what was asked for besides fits the target.
fn check_options(plan: &mut RestorePlan) {
    let has_options = plan.options.is_for_databases();
    if plan.options.token.is_some() && plan.tokens.is_empty() && plan.refusals.is_empty() {
        plan.refusals.push(
            "no key is put into a token, so no token can be chosen; name the asset of source pkcs11"
                .to_owned(),
        );
    }
    if plan.options.token.is_some() && plan.tokens.len() > 1 {
        plan.refusals.push(
            "the objects of several assets would go into the one token; name one asset".to_owned(),
        );
    }
    if matches!(plan.target, Target::Database(_)) {
        if plan.databases.is_empty() {
            plan.refusals.push(
                "there is no database of a server among these assets; name the asset that holds it"
                    .to_owned(),
            );
        }
        if !plan.items.is_empty() {
            plan.refusals.push(
                "files do not go into a database; name only the asset that holds it".to_owned(),
            );
        }
    } else if has_options && plan.databases.is_empty() && plan.refusals.is_empty() {
        plan.refusals.push(
            "no database is restored into a server, so tables and roles cannot be chosen"
                .to_owned(),
        );
    }
    if plan.target == Target::InPlace && !plan.options.tables.is_empty() {
        plan.refusals.push(
            "single tables do not replace a database; restore them into another one with --to-database NAME"
                .to_owned(),
        );
    }
}

fn plan_asset(plan: &mut RestorePlan, asset: &RestoreAsset, world: &Observations) {
    let directories: BTreeSet<&Path> = asset
        .streams
        .iter()
        .filter(|stream| stream.kind == StreamKind::Directory)
        .map(|stream| stream.path.as_path())
        .collect();
    let mut taken: BTreeSet<&Path> = BTreeSet::new();
    let loads = plan.target.loads_databases();
    let files = asset
        .streams
        .iter()
        .filter(|stream| !(loads && stream.kind == StreamKind::Dump));
    for stream in files {
        if !taken.insert(&stream.path) {
            plan.refusals
                .push(format!("the backup holds {} twice", stream.path.display()));
            continue;
        }
        let path = place(&plan.target, &asset.name, &stream.path);
        let replaces = world.found.get(&path).cloned();
        if let Some(found) = &replaces {
            plan.refusals
                .extend(refusal(&path, stream.kind, found, world));
        }
        let root = match &plan.target {
            Target::Directory(directory) => directory.clone(),
            Target::InPlace | Target::Database(_) => root_of(&stream.path, &directories),
        };
        plan.items.push(RestoreItem {
            asset: asset.name.clone(),
            kind: stream.kind,
            original: stream.path.clone(),
            root,
            size_bytes: stream.size.unwrap_or(0),
            source: asset.source.clone(),
            directory: (stream.kind == StreamKind::Directory).then(|| stream.clone()),
            link_to: stream
                .target
                .as_deref()
                .filter(|_| stream.kind == StreamKind::Hardlink)
                .map(|first| place(&plan.target, &asset.name, first)),
            companions: world.companions.get(&path).cloned().unwrap_or_default(),
            replaces,
            path,
        });
    }
}

/// The parent of the topmost directory of the asset that holds `path`, or of the path itself.
fn root_of(path: &Path, directories: &BTreeSet<&Path>) -> PathBuf {
    let top = path
        .ancestors()
        .filter(|ancestor| directories.contains(ancestor))
        .last();
    top.unwrap_or(path)
        .parent()
        .unwrap_or(Path::new("/"))
        .to_owned()
}

fn refusal(path: &Path, kind: StreamKind, found: &Found, world: &Observations) -> Vec<String> {
    let path = path.display();
    let mut refusals = Vec::new();
    let is_directory = found.kind == Some(StreamKind::Directory);
    if found.kind.is_none() {
        refusals.push(format!("{path} is a socket, device or pipe now"));
    } else if is_directory != (kind == StreamKind::Directory) {
        let now = if is_directory {
            "a directory"
        } else {
            "no directory"
        };
        refusals.push(format!(
            "{path} is {now} now and was not when it was captured"
        ));
    } else if !world.is_root && found.uid != world.uid {
        refusals.push(format!(
            "{path} belongs to user {}, not to this one",
            found.uid
        ));
    }
    if let Some(why) = &found.in_use {
        refusals.push(format!("{path} is in use: {why}"));
    }
    refusals
}

#[cfg(test)]
mod tests;
