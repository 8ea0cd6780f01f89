//! Restores: fetches everything next to where it goes, proves it, and only then swaps it in.
//!
//! Every step leaves a state from which the same plan goes on ([`resume`]) or back ([`undo`]); the
//! journal says which. What was replaced is kept until [`sign_off`].

mod databases;
mod fetch;
pub mod journal;
mod metadata;
pub mod observe;
mod spool;
mod swap;
mod tokens;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use self::journal::{Journal, Phase};
use super::{Event, Observer};
use crate::cancel::{Cancel, Interrupted};
use crate::format::Digest;
use crate::format::manifest::{Asset, AssetResult, Run, Stream, StreamKind};
use crate::plan::restore::{RestorePlan, Target};
use crate::repository::RepositoryError;
use crate::repository::reader::{BackupReader, Item};
use crate::source::server::{DatabaseServer, LoadOptions};
use crate::source::token::Token;
use crate::source::{CaptureError, Restorer};

/// Finds the restorer of a kind of source.
pub type FindRestorer<'a> = &'a (dyn Fn(&str) -> Option<&'static dyn Restorer> + Sync);

/// Opens the server that an asset is restored to: the asset's name, its kind of source, what else was asked for.
pub type FindServer<'a> =
    &'a (dyn Fn(&str, &str, &LoadOptions) -> Result<Box<dyn DatabaseServer>, CaptureError> + Sync);

/// Opens the token that an asset is restored to, in the same way.
pub type FindToken<'a> =
    &'a (dyn Fn(&str, &str, &LoadOptions) -> Result<Box<dyn Token>, CaptureError> + Sync);

/// Called before each step that changes something; an error stops the restore there. For tests that fail
/// every step, and for fences.
pub type BeforeStep<'a> = &'a (dyn Fn(&str) -> io::Result<()> + Sync);

/// Shows that the operator wants this very plan carried out.
#[derive(Debug)]
pub struct Consent<'p>(&'p RestorePlan);

impl<'p> Consent<'p> {
    /// The operator has seen the plan and said `--apply`; refused while the plan has refusals.
    pub fn to(plan: &'p RestorePlan) -> Result<Self, RestoreError> {
        if plan.refusals.is_empty() {
            Ok(Self(plan))
        } else {
            Err(RestoreError::Refused(plan.refusals.clone()))
        }
    }
}

/// What a restore works with.
pub struct RestoreContext<'a> {
    /// Finds restorers.
    pub restorers: FindRestorer<'a>,
    /// Opens servers.
    pub servers: FindServer<'a>,
    /// Opens tokens.
    pub tokens: FindToken<'a>,
    /// Stops the restore; it can be resumed.
    pub cancel: &'a Cancel,
    /// Hears of it.
    pub observer: &'a dyn Observer,
    /// Called before each step.
    pub before_step: BeforeStep<'a>,
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RestoreReport {
    /// Things restored.
    pub items: u64,
    /// Bytes of content written and proved.
    pub bytes: u64,
    /// What was proved of each asset, by its name.
    pub shown: BTreeMap<String, Vec<String>>,
    /// How long the loads and comparisons of databases took, in seconds, in words and in order.
    pub timings: Vec<(String, f64)>,
    /// What is not as it was: an incomplete asset's failed proof, metadata that could not be set.
    pub problems: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Objects that the restore has made in tokens, which an undo takes out again.
    pub made_in_tokens: u64,
    /// Whether the restore can be undone, and waits for the sign-off.
    pub awaits_sign_off: bool,
}

/// Why a restore stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The plan may not be carried out.
    #[error("the restore is refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// Another restore is neither signed off nor undone.
    #[error("the restore of {label} is not finished")]
    Unfinished {
        /// The backup that it restores.
        label: String,
    },
    /// There is no restore to go on with.
    #[error("there is no unfinished restore")]
    NothingToDo,
    /// The restore is not at a point where this can be done.
    #[error("the restore of {label} cannot be {wanted} now: it is {phase}")]
    WrongPhase {
        /// The backup.
        label: String,
        /// What was asked for.
        wanted: &'static str,
        /// Where it stands.
        phase: Phase,
    },
    /// The backup opened is not the one that the journal is about.
    #[error("the unfinished restore is of {journal}, not of {asked}")]
    OtherBackup {
        /// The journal's label.
        journal: String,
        /// The label given.
        asked: String,
    },
    /// A restored asset is not what was captured.
    #[error("asset {asset} is not what was captured: {}", failures.join("; "))]
    NotProved {
        /// The asset.
        asset: String,
        /// What does not hold.
        failures: Vec<String>,
    },
    /// A restored asset could not be examined.
    #[error("cannot examine the restored asset {asset}")]
    Proof {
        /// The asset.
        asset: String,
        /// Why.
        #[source]
        source: CaptureError,
    },
    /// A database on a server could not be restored.
    #[error("cannot {operation} database {database:?} of asset {asset}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// The asset.
        asset: String,
        /// The database, by its name after the restore.
        database: String,
        /// Why.
        #[source]
        source: Box<CaptureError>,
    },
    /// An object could not be put into a token.
    #[error("cannot {operation} {what} of asset {asset}")]
    Token {
        /// What was being done.
        operation: &'static str,
        /// The asset.
        asset: String,
        /// The object, in words.
        what: String,
        /// Why.
        #[source]
        source: Box<CaptureError>,
    },
    /// The token is not the one that the plan was made for.
    #[error("asset {asset}: the plan is for {planned}, and here is {found}")]
    OtherToken {
        /// The asset.
        asset: String,
        /// The token of the plan, in words.
        planned: String,
        /// This one.
        found: String,
    },
    /// All is undone but for objects in a token.
    #[error("not undone: what the restore has made is still in the token: {}", objects.join("; "))]
    LeftInToken {
        /// The objects, each with its asset.
        objects: Vec<String>,
        /// Why.
        #[source]
        source: Box<RestoreError>,
    },
    /// The plan replaces nothing in some places, and something is there now. It is left alone.
    #[error("not there when the restore was planned, and there now: {}", .0.join(", "))]
    Appeared(Vec<String>),
    /// The plan names an asset that the backup does not hold.
    #[error("the backup holds no asset {asset}")]
    NotInBackup {
        /// The asset.
        asset: String,
    },
    /// The file system refused.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The backup could not be read.
    #[error("cannot restore {path}")]
    Content {
        /// What was being restored.
        path: PathBuf,
        /// Why.
        #[source]
        source: RepositoryError,
    },
    /// The manifest could not be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The operator interrupted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl RestoreError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// Where the journal of a restore to `target` is kept; in place, in the state directory.
pub fn journal_directory(target: &Target, state: &Path) -> PathBuf {
    match target {
        Target::InPlace | Target::Database(_) => state.join("restore"),
        Target::Directory(directory) => directory.join(".strongroom-restore"),
    }
}

/// Carries out a plan from the start.
pub fn restore(
    consent: &Consent<'_>,
    state: &Path,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
) -> Result<RestoreReport, RestoreError> {
    let plan = consent.0;
    let directory = journal_directory(&plan.target, state);
    if let Target::Directory(target) = &plan.target {
        crate::private_file::create_dir_all(target).map_err(RestoreError::io("create", target))?;
    }
    let journal = Journal::create(&directory, plan)?;
    go_on(journal, backups, context)
}

/// Goes on with the restore whose journal lies in `directory`.
pub fn resume(
    directory: &Path,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
) -> Result<RestoreReport, RestoreError> {
    let journal = Journal::open(directory)?.ok_or(RestoreError::NothingToDo)?;
    let label = &journal.plan().label;
    if let Some(other) = backups
        .iter()
        .find(|backup| backup.envelope().label != *label)
    {
        return Err(RestoreError::OtherBackup {
            journal: label.to_string(),
            asked: other.envelope().label.to_string(),
        });
    }
    match journal.phase() {
        Phase::Fetching | Phase::Swapping => go_on(journal, backups, context),
        phase => Err(RestoreError::WrongPhase {
            label: label.to_string(),
            wanted: "resumed",
            phase,
        }),
    }
}

fn go_on(
    mut journal: Journal,
    backups: &[BackupReader<'_>],
    context: &RestoreContext<'_>,
) -> Result<RestoreReport, RestoreError> {
    let mut report = RestoreReport::default();
    if journal.phase() == Phase::Fetching {
        databases::load(&mut journal, backups, context, &mut report)?;
        fetch::fetch(&mut journal, backups, context, &mut report)?;
        tokens::rehearse(&journal, backups, context)?;
        (context.before_step)("begin to swap")
            .map_err(RestoreError::io("begin to swap", Path::new("")))?;
        refuse_what_appeared(&journal, context)?;
        journal.enter(Phase::Swapping)?;
    }
    context.observer.event(Event::Begin {
        name: "swap",
        what: "put in place",
        size_bytes: None,
    });
    databases::swap(&journal, context, &mut report)?;
    swap::swap(&mut journal, context, &mut report)?;
    tokens::put(&mut journal, backups, context, &mut report)?;
    fetch::complete_directories(&journal, backups, context, &mut report)?;
    context.observer.event(Event::End { name: "swap" });
    report.items += journal.plan().items.len() as u64;
    report.made_in_tokens = journal.made().len() as u64;
    report.awaits_sign_off = journal.plan().replaces_anything() || report.made_in_tokens > 0;
    if report.awaits_sign_off {
        journal.enter(Phase::Applied)?;
    } else {
        // Nothing waits, but a server may note under the old name that there was none.
        databases::drop_old(&journal, context, &mut RestoreReport::default())?;
        journal.remove()?;
    }
    Ok(report)
}

/// Stops where something came into a place since the plan was made, while nothing is replaced yet: the operator has not
/// agreed to that, and nobody would be asked for a sign-off.
fn refuse_what_appeared(
    journal: &Journal,
    context: &RestoreContext<'_>,
) -> Result<(), RestoreError> {
    let mut appeared = databases::appeared(journal, context)?;
    let paths = swap::appeared(journal)?;
    appeared.extend(paths.iter().map(|path| path.display().to_string()));
    if appeared.is_empty() {
        return Ok(());
    }
    Err(RestoreError::Appeared(appeared))
}

/// Goes back: everything that was replaced is put in place again, everything that was added is removed.
pub fn undo(directory: &Path, context: &RestoreContext<'_>) -> Result<RestoreReport, RestoreError> {
    let mut journal = Journal::open(directory)?.ok_or(RestoreError::NothingToDo)?;
    let mut report = RestoreReport::default();
    if journal.phase() == Phase::SigningOff {
        return Err(RestoreError::WrongPhase {
            label: journal.plan().label.to_string(),
            wanted: "undone",
            phase: journal.phase(),
        });
    }
    // What needs no token does not wait for one.
    if journal.phase() != Phase::EmptyingTokens {
        swap::undo(&mut journal, context, &mut report)?;
        databases::undo(&mut journal, context, &mut report)?;
    }
    if !journal.made().is_empty() {
        journal.enter(Phase::EmptyingTokens)?;
        tokens::undo(&mut journal, context, &mut report)?;
    }
    journal.remove()?;
    Ok(report)
}

/// Deletes what a finished restore has replaced; from here on there is no way back. Of one that is undone but for objects in a token,
/// these stay.
pub fn sign_off(
    directory: &Path,
    context: &RestoreContext<'_>,
) -> Result<RestoreReport, RestoreError> {
    let mut journal = Journal::open(directory)?.ok_or(RestoreError::NothingToDo)?;
    let mut report = RestoreReport::default();
    if journal.phase() == Phase::EmptyingTokens {
        let stay = tokens::made(&journal).into_iter();
        report
            .notes
            .extend(stay.map(|object| format!("{object} stays in the token")));
        journal.remove()?;
        return Ok(report);
    }
    if !matches!(journal.phase(), Phase::Applied | Phase::SigningOff) {
        return Err(RestoreError::WrongPhase {
            label: journal.plan().label.to_string(),
            wanted: "signed off",
            phase: journal.phase(),
        });
    }
    journal.enter(Phase::SigningOff)?;
    databases::drop_old(&journal, context, &mut report)?;
    swap::delete_old(&mut journal, context, &mut report)?;
    journal.remove()?;
    Ok(report)
}

/// The backup that holds an asset, and what its manifest says of it.
fn find_asset<'b, 'a>(
    backups: &'b [BackupReader<'a>],
    name: &str,
) -> Result<(&'b BackupReader<'a>, Asset, AssetResult), RestoreError> {
    for backup in backups {
        let mut manifest = backup.manifest()?;
        let mut current = None;
        while let Some(item) = manifest
            .next_item()
            .map_err(|error| backup.manifest_error(error))?
        {
            match item {
                Item::Asset(asset) => current = (asset.name == name).then_some(asset),
                Item::Result(result) => {
                    if let Some(asset) = current.take() {
                        return Ok((backup, asset, result));
                    }
                }
                Item::Stream(..) => {}
            }
        }
    }
    Err(RestoreError::NotInBackup {
        asset: name.to_owned(),
    })
}

/// Takes one part of an asset, with its runs and the packs that they count; false ends it.
type TakePart<'t> = &'t mut dyn FnMut(Stream, Vec<Run>, &[Digest]) -> Result<bool, RestoreError>;

/// Goes through the parts of an asset that are in no file, databases and objects of tokens, until `take` says no.
fn each_part(
    backup: &BackupReader<'_>,
    asset: &str,
    take: TakePart<'_>,
) -> Result<(), RestoreError> {
    let mut manifest = backup.manifest()?;
    let mut in_asset = false;
    while let Some(item) = manifest
        .next_item()
        .map_err(|error| backup.manifest_error(error))?
    {
        match item {
            Item::Asset(this) => in_asset = this.name == asset,
            Item::Stream(stream, runs) if in_asset && stream.kind == StreamKind::Dump => {
                if !take(stream, runs, manifest.packs())? {
                    return Ok(());
                }
            }
            Item::Stream(..) | Item::Result(_) => {}
        }
    }
    Ok(())
}
