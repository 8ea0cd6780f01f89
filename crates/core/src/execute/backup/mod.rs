//! Takes a backup: opens each asset's cut in the order of the plan, stores it, and writes the envelopes last.
//!
//! Repositories are opened meanwhile, each by a thread of its own ([`place`]).

mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crossbeam_channel::bounded;

use self::place::{AssetSurroundings, Failed, LateSink, Place};
use super::observed::ObservedSink;
use super::{Event, Observer, Stopwatch};
use crate::cancel::{Cancel, Interrupted};
use crate::clock::Clock;
use crate::error_chain;
use crate::format::envelope::Status;
use crate::format::manifest::{Asset, AssetResult};
use crate::format::writer_key::WriterKey;
use crate::format::{FormatError, Label};
use crate::plan::backup::{AssetOutline, BackupPlan};
use crate::private_file;
use crate::repository::commit::{RunSummary, SealedBackup};
use crate::repository::state::WriterState;
use crate::repository::writer::{AssetStats, BackupWriter, RunHeader, Sealing};
use crate::repository::{Repository, RepositoryError};
use crate::source::{Capture, CaptureError, Inspection, Source, not_covered};
use crate::storage::StorageError;

pub use self::place::NotOpened;

/// A repository that a run writes to, once it is open.
pub struct BackupRepository {
    /// What this host remembers of it.
    pub state: WriterState,
    /// To whom it is sealed.
    pub sealing: Sealing,
}

/// Everything that a run needs.
pub struct BackupJob<'a> {
    /// The plan.
    pub plan: &'a BackupPlan,
    /// The installation.
    pub deployment: &'a str,
    /// The program's name and version.
    pub tool: &'a str,
    /// The sources of the plan's assets, by name.
    pub sources: &'a BTreeMap<String, Box<dyn Source>>,
    /// The repositories of the plan, by name.
    pub repositories: &'a BTreeMap<String, BackupRepository>,
    /// This host's key.
    pub key: &'a WriterKey,
    /// Where sources may keep private copies; emptied before and after.
    pub scratch: &'a Path,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// Stops the run.
    pub cancel: &'a Cancel,
    /// Hears of it.
    pub observer: &'a dyn Observer,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// The backup's name.
    pub label: Label,
    /// The run's number.
    pub run: u64,
    /// Whether everything is in it.
    pub status: Status,
    /// Each asset, in the order of capture.
    pub assets: Vec<AssetReport>,
    /// What is wrong besides the assets: history, clock.
    pub problems: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Paths that look as if they belonged to the server and that no asset covers.
    pub not_covered: Vec<PathBuf>,
    /// Bytes added to all repositories, manifests and envelopes included.
    pub stored_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What a run did with one asset.
#[derive(Clone, Debug)]
pub struct AssetReport {
    /// Name, class, source and repository.
    pub outline: AssetOutline,
    /// Whether it was captured whole.
    pub status: Status,
    /// What storing it cost.
    pub stats: AssetStats,
    /// How long it took.
    pub seconds: f64,
    /// What was found out about it.
    pub facts: serde_json::Value,
    /// Why it is incomplete.
    pub problems: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// A repository failed.
    #[error("repository {name:?}")]
    Repository {
        /// Its name.
        name: String,
        /// Its error.
        #[source]
        source: RepositoryError,
    },
    /// The scratch directory failed.
    #[error("cannot {operation} the scratch directory {path}")]
    Scratch {
        /// What was being done.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// Its error.
        #[source]
        source: std::io::Error,
    },
    /// No label could be made.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The operator interrupted.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// Takes a backup, in the repositories that `open` opens by their names, from several threads. An error means that no
/// envelope was written, or not all of them: such a run is no complete backup and the next one uses again what it stored.
///
/// A repository that fails does not stop the others: the run is incomplete and says so. Only when all of them fail
/// is that an error.
pub fn backup<E: From<BackupError> + Send>(
    job: &BackupJob<'_>,
    open: &(dyn Fn(&str) -> Result<Repository, NotOpened<E>> + Sync),
) -> Result<BackupReport, E> {
    let watch = Stopwatch::start();
    let started = job.clock.now();
    let header = RunHeader {
        deployment: job.deployment.to_owned(),
        label: Label::new(started).map_err(BackupError::from)?,
        tool: job.tool.to_owned(),
    };
    empty_directory(job.scratch)?;
    let (key, clock) = (job.key, job.clock);
    std::thread::scope(|scope| {
        let opening = job.repositories.iter().map(|(name, place)| {
            let (sender, receiver) = bounded(1);
            let header = &header;
            scope.spawn(move || {
                let begun = open(name).map_err(Failed::Open).and_then(|repository| {
                    let (state, sealing) = (&place.state, &place.sealing);
                    let begun = BackupWriter::begin(repository, state, key, sealing, header, clock);
                    begun.map(Box::new).map_err(Failed::Use)
                });
                // Nobody takes it when the run has ended before.
                let _ = sender.send(begun);
            });
            (name.as_str(), Place::Opening(receiver))
        });
        let run = Run {
            job,
            header: &header,
            started,
            places: opening.collect(),
            down: Down::default(),
        };
        let mut report = run.carry_out()?;
        empty_directory(job.scratch)?;
        report.seconds = watch.seconds();
        Ok(report)
    })
}

/// A run under way.
struct Run<'a, E> {
    job: &'a BackupJob<'a>,
    header: &'a RunHeader,
    started: jiff::Timestamp,
    places: BTreeMap<&'a str, Place<'a, E>>,
    down: Down<E>,
}

impl<E: From<BackupError> + Send> Run<'_, E> {
    fn carry_out(mut self) -> Result<BackupReport, E> {
        let job = self.job;
        // All assets of the configuration count for what is covered, also in a run of some.
        let inspections: BTreeMap<&String, Inspection> = job
            .sources
            .iter()
            .map(|(name, source)| (name, source.inspect().unwrap_or_default()))
            .collect();
        let assets = self.capture_all(&inspections)?;
        let mut sealed: Vec<(&str, SealedBackup<'_>)> = Vec::new();
        for (name, place) in std::mem::take(&mut self.places) {
            let writer = match place.into_writer() {
                Ok(writer) => writer,
                Err(failed) => {
                    self.down.add(name, failed)?;
                    None
                }
            };
            if let Some(writer) = writer
                && let Some(backup) = self.down.unless_failed(name, writer.seal())?
            {
                sealed.push((name, backup));
            }
        }
        job.cancel.check().map_err(BackupError::from)?;
        let mut run = 1;
        let mut to_commit = Vec::new();
        for (name, backup) in sealed {
            if let Some(placed) = self.down.unless_failed(name, backup.find_place())? {
                run = run.max(placed.last_run() + 1);
                to_commit.push((name, placed));
            }
        }
        let is_whole = assets.iter().all(|asset| asset.status == Status::Complete);
        let status = if is_whole && self.down.is_none() {
            Status::Complete
        } else {
            Status::Incomplete
        };
        let summary = RunSummary {
            run,
            header: self.header.clone(),
            started: self.started,
            finished: job.clock.now(),
            scope: job.plan.scope,
            status,
            repositories: job.plan.repositories.clone(),
        };
        let mut report = BackupReport {
            label: summary.header.label.clone(),
            run,
            status,
            assets,
            problems: Vec::new(),
            notes: Vec::new(),
            not_covered: not_covered(&inspections.values().collect::<Vec<_>>()),
            stored_bytes: 0,
            seconds: 0.0,
        };
        let mut committed = BTreeSet::new();
        for (name, backup) in to_commit {
            let Some(backup) = self.down.unless_failed(name, backup.commit(&summary))? else {
                // The others say complete and name this one: a run without all its envelopes counts as incomplete.
                report.status = Status::Incomplete;
                continue;
            };
            committed.insert(name);
            let named = |text: String| format!("repository {name}: {text}");
            report
                .problems
                .extend(backup.problems.into_iter().map(named));
            report.notes.extend(backup.notes.into_iter().map(named));
            report.stored_bytes += backup.stored_bytes;
        }
        if committed.is_empty() {
            return Err(self.down.into_error());
        }
        for asset in &mut report.assets {
            // Without the envelope what was captured of it is in no backup.
            if !committed.contains(asset.outline.repository.as_str()) {
                *asset = not_captured(&asset.outline);
            }
        }
        report.problems.extend(self.down.told);
        Ok(report)
    }

    /// Captures every asset of the plan whose repository has not failed.
    fn capture_all(
        &mut self,
        inspections: &BTreeMap<&String, Inspection>,
    ) -> Result<Vec<AssetReport>, E> {
        let job = self.job;
        let mut assets = Vec::new();
        for outline in &job.plan.assets {
            let size_bytes = inspections
                .get(&outline.name)
                .map(|inspection| inspection.size_bytes);
            job.observer.event(Event::Begin {
                name: &outline.name,
                what: "capture",
                size_bytes,
            });
            let report = self.capture(outline)?;
            job.observer.event(Event::End {
                name: &outline.name,
            });
            assets.push(report.unwrap_or_else(|| not_captured(outline)));
        }
        Ok(assets)
    }

    /// Captures an asset; none when its repository has failed.
    fn capture(&mut self, outline: &AssetOutline) -> Result<Option<AssetReport>, E> {
        let job = self.job;
        let name = outline.repository.as_str();
        let place = self.places.get_mut(name).expect("the plan names it");
        let place = match std::mem::replace(place, Place::Gone) {
            Place::Gone => return Ok(None),
            place => place,
        };
        let source = &*job.sources[&outline.name];
        let watch = Stopwatch::start();
        // Of the host's own state: the writer, which has it too, may still be opening its repository.
        let memory = job.repositories[name].state.memory();
        let Some(mut memory) = self.down.unless_failed(name, memory)? else {
            return Ok(None);
        };
        let around = AssetSurroundings {
            asset: Asset {
                name: outline.name.clone(),
                class: outline.class,
                source: source.kind().to_owned(),
                settings: source.settings(),
            },
            scratch: job.scratch,
            cancel: job.cancel,
            memory: memory.remove(&outline.name),
        };
        let sink = LateSink::new(around, place);
        let outcome = source.capture(&ObservedSink::new(&sink, job.observer));
        let mut writer = match sink.into_writer() {
            Ok(writer) => writer,
            Err(failed) => return self.down.add(name, failed).map(|()| None),
        };
        let capture = match outcome {
            Ok(capture) => capture,
            Err(CaptureError::Interrupted(error)) => return Err(BackupError::from(error).into()),
            Err(CaptureError::Store(error)) => {
                return self.down.unless_failed(name, Err(*error));
            }
            Err(CaptureError::Storage(error)) => {
                return self.down.unless_failed(name, Err(error.into()));
            }
            Err(error) => Capture {
                problems: vec![error.advice()],
                ..Capture::default()
            },
        };
        let status = if capture.problems.is_empty() {
            Status::Complete
        } else {
            Status::Incomplete
        };
        let result = AssetResult {
            name: outline.name.clone(),
            status,
            facts: capture.facts.clone(),
            problems: capture.problems.clone(),
            notes: capture.notes.clone(),
        };
        let memory = capture.memory.filter(|_| status == Status::Complete);
        let stats = writer.end_asset(result, memory);
        let Some(stats) = self.down.unless_failed(name, stats)? else {
            return Ok(None);
        };
        let place = self.places.get_mut(name).expect("the plan names it");
        *place = Place::Ready(writer);
        Ok(Some(AssetReport {
            outline: outline.clone(),
            status,
            stats,
            seconds: watch.seconds(),
            facts: capture.facts,
            problems: capture.problems,
            notes: capture.notes,
        }))
    }
}

/// The repositories that a run has given up.
struct Down<E> {
    /// A sentence for each.
    told: Vec<String>,
    /// What the first of them failed with.
    first: Option<E>,
}

impl<E> Default for Down<E> {
    fn default() -> Self {
        Self {
            told: Vec::new(),
            first: None,
        }
    }
}

impl<E: From<BackupError>> Down<E> {
    /// What came of a step in a repository; none when the repository has failed. Other errors end the run.
    fn unless_failed<T>(
        &mut self,
        name: &str,
        result: Result<T, RepositoryError>,
    ) -> Result<Option<T>, E> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.add(name, Failed::Use(error)).map(|()| None),
        }
    }

    /// Gives a repository up when it is its storage that failed.
    fn add(&mut self, name: &str, failed: Failed<E>) -> Result<(), E> {
        let (why, error) = match failed {
            Failed::Open(NotOpened::Down { told, error }) => (told, error),
            Failed::Open(NotOpened::Wrong(error)) => return Err(error),
            Failed::Use(
                RepositoryError::Interrupted(error)
                | RepositoryError::Storage(StorageError::Interrupted(error)),
            ) => return Err(BackupError::from(error).into()),
            Failed::Use(source) => {
                let is_storage = matches!(source, RepositoryError::Storage(_));
                let why = format!("repository {name}: {}", error_chain(&source));
                let name = name.to_owned();
                let error = BackupError::Repository { name, source }.into();
                if !is_storage {
                    return Err(error);
                }
                (why, error)
            }
        };
        tracing::warn!(repository = name, error = %why, "given up for this run");
        self.told.push(format!("{why}. The other repositories have their part; run it again when this one works: what was stored already is used again"));
        self.first.get_or_insert(error);
        Ok(())
    }

    fn is_none(&self) -> bool {
        self.told.is_empty()
    }

    fn into_error(self) -> E {
        self.first
            .expect("a run without any repository is not begun")
    }
}

fn not_captured(outline: &AssetOutline) -> AssetReport {
    AssetReport {
        outline: outline.clone(),
        status: Status::Incomplete,
        stats: AssetStats::default(),
        seconds: 0.0,
        facts: serde_json::Value::Null,
        problems: vec![format!(
            "not stored: repository {} has failed",
            outline.repository
        )],
        notes: Vec::new(),
    }
}

/// Makes `path` an empty private directory.
fn empty_directory(path: &Path) -> Result<(), BackupError> {
    let failed = |operation| {
        move |source| BackupError::Scratch {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(failed("empty")(error));
        }
        _ => {}
    }
    private_file::create_dir_all(path).map_err(failed("create"))
}
