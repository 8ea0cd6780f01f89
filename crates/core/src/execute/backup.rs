//! Takes a backup: opens each asset's cut in the order of the plan, stores it, and writes the envelopes last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// A repository that a run writes to.
pub struct BackupRepository {
    /// The opened repository.
    pub repository: Repository,
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
    /// The repositories of the plan that could be opened, by name.
    pub repositories: &'a BTreeMap<String, BackupRepository>,
    /// Those that could not, with a sentence that says which and why. The run goes on without them and is incomplete.
    pub unreachable: &'a BTreeMap<String, String>,
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

/// Takes a backup. An error means that no envelope was written, or not all of them: such a run
/// is no complete backup and the next one uses again what it stored.
///
/// A repository that fails does not stop the others: the run is incomplete and says so. Only when all of them fail
/// is that an error.
pub fn backup(job: &BackupJob<'_>) -> Result<BackupReport, BackupError> {
    let watch = Stopwatch::start();
    let started = job.clock.now();
    let header = RunHeader {
        deployment: job.deployment.to_owned(),
        label: Label::new(started)?,
        tool: job.tool.to_owned(),
    };
    empty_directory(job.scratch)?;
    let mut down = Down::new(job);
    let mut writers: BTreeMap<&str, BackupWriter<'_>> = BTreeMap::new();
    for (name, place) in job.repositories {
        let writer = BackupWriter::begin(
            &place.repository,
            &place.state,
            job.key,
            &place.sealing,
            &header,
            job.clock,
        );
        if let Some(writer) = down.unless_failed(name, writer)? {
            writers.insert(name, writer);
        }
    }

    // All assets of the configuration count for what is covered, also in a run of some.
    let inspections: BTreeMap<&String, Inspection> = job
        .sources
        .iter()
        .map(|(name, source)| (name, source.inspect().unwrap_or_default()))
        .collect();
    let assets = capture_all(job, &inspections, &mut writers, &mut down)?;
    let mut sealed: Vec<(&str, SealedBackup<'_>)> = Vec::new();
    for (name, writer) in writers {
        if let Some(backup) = down.unless_failed(name, writer.seal())? {
            sealed.push((name, backup));
        }
    }
    job.cancel.check()?;
    let mut run = 1;
    let mut to_commit = Vec::new();
    for (name, backup) in sealed {
        if let Some(placed) = down.unless_failed(name, backup.find_place())? {
            run = run.max(placed.last_run() + 1);
            to_commit.push((name, placed));
        }
    }
    let complete = assets.iter().all(|asset| asset.status == Status::Complete) && down.is_none();
    let status = if complete {
        Status::Complete
    } else {
        Status::Incomplete
    };
    let summary = RunSummary {
        run,
        header,
        started,
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
    let mut committed = 0;
    for (name, backup) in to_commit {
        let Some(backup) = down.unless_failed(name, backup.commit(&summary))? else {
            // The others say complete and name this one: a run without all its envelopes counts as incomplete.
            report.status = Status::Incomplete;
            continue;
        };
        committed += 1;
        let named = |text: String| format!("repository {name}: {text}");
        report
            .problems
            .extend(backup.problems.into_iter().map(named));
        report.notes.extend(backup.notes.into_iter().map(named));
        report.stored_bytes += backup.stored_bytes;
    }
    if committed == 0 {
        return Err(down.into_error());
    }
    report.problems.extend(down.told());
    empty_directory(job.scratch)?;
    report.seconds = watch.seconds();
    Ok(report)
}

/// Captures every asset of the plan whose repository has not failed.
fn capture_all<'a>(
    job: &BackupJob<'a>,
    inspections: &BTreeMap<&String, Inspection>,
    writers: &mut BTreeMap<&str, BackupWriter<'a>>,
    down: &mut Down<'a>,
) -> Result<Vec<AssetReport>, BackupError> {
    let mut assets = Vec::new();
    for outline in &job.plan.assets {
        let source = &job.sources[&outline.name];
        let size_bytes = inspections
            .get(&outline.name)
            .map(|inspection| inspection.size_bytes);
        job.observer.event(Event::Begin {
            name: &outline.name,
            what: "capture",
            size_bytes,
        });
        let report = match writers.get_mut(outline.repository.as_str()) {
            Some(writer) => match capture(job, outline, &**source, writer) {
                Ok(report) => report,
                Err(error) => {
                    down.add(&outline.repository, error)?;
                    writers.remove(outline.repository.as_str());
                    not_captured(outline)
                }
            },
            None => not_captured(outline),
        };
        job.observer.event(Event::End {
            name: &outline.name,
        });
        assets.push(report);
    }
    Ok(assets)
}

/// The repositories that a run has given up.
struct Down<'a> {
    unreachable: &'a BTreeMap<String, String>,
    failed: Vec<(String, RepositoryError)>,
}

impl<'a> Down<'a> {
    fn new(job: &BackupJob<'a>) -> Self {
        Self {
            unreachable: job.unreachable,
            failed: Vec::new(),
        }
    }

    /// What came of a step in a repository; none when the repository has failed. Other errors end the run.
    fn unless_failed<T>(
        &mut self,
        name: &str,
        result: Result<T, RepositoryError>,
    ) -> Result<Option<T>, BackupError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => self.add(name, in_repository(name)(error)).map(|()| None),
        }
    }

    /// Gives a repository up when it is its storage that failed.
    fn add(&mut self, name: &str, error: BackupError) -> Result<(), BackupError> {
        match error {
            BackupError::Repository {
                source: RepositoryError::Storage(StorageError::Interrupted(error)),
                ..
            } => Err(error.into()),
            BackupError::Repository {
                source: source @ RepositoryError::Storage(_),
                ..
            } => {
                tracing::warn!(repository = name, error = %error_chain(&source), "given up for this run");
                self.failed.push((name.to_owned(), source));
                Ok(())
            }
            error => Err(error),
        }
    }

    fn is_none(&self) -> bool {
        self.unreachable.is_empty() && self.failed.is_empty()
    }

    /// A sentence for each.
    fn told(&self) -> impl Iterator<Item = String> {
        let failed = self.failed.iter();
        let failed =
            failed.map(|(name, error)| format!("repository {name}: {}", error_chain(error)));
        failed.chain(self.unreachable.values().cloned()).map(|why| {
            format!("{why}. The other repositories have their part; run it again when this one works: what was stored already is used again")
        })
    }

    fn into_error(self) -> BackupError {
        let (name, source) = self
            .failed
            .into_iter()
            .next()
            .expect("a run without any repository is not begun");
        BackupError::Repository { name, source }
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

fn capture(
    job: &BackupJob<'_>,
    outline: &AssetOutline,
    source: &dyn Source,
    writer: &mut BackupWriter<'_>,
) -> Result<AssetReport, BackupError> {
    let failed = in_repository(&outline.repository);
    let watch = Stopwatch::start();
    let begun = writer.begin_asset(Asset {
        name: outline.name.clone(),
        class: outline.class,
        source: source.kind().to_owned(),
        settings: source.settings(),
    });
    if let Err(error) = begun {
        return Err(failed(error));
    }
    let outcome = {
        let sink = writer.sink(outline.class, job.scratch, job.cancel);
        let sink = super::observed::ObservedSink::new(&sink, job.observer);
        source.capture(&sink)
    };
    let capture = match outcome {
        Ok(capture) => capture,
        Err(error) => match error {
            CaptureError::Interrupted(error) => return Err(error.into()),
            CaptureError::Store(error) => return Err(interrupted_or(*error, failed)),
            CaptureError::Storage(error) => return Err(failed(error.into())),
            error => Capture {
                problems: vec![error.advice()],
                ..Capture::default()
            },
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
    let stats = writer.end_asset(result, memory).map_err(failed)?;
    Ok(AssetReport {
        outline: outline.clone(),
        status,
        stats,
        seconds: watch.seconds(),
        facts: capture.facts,
        problems: capture.problems,
        notes: capture.notes,
    })
}

fn in_repository(name: &str) -> impl FnOnce(RepositoryError) -> BackupError + use<> {
    let name = name.to_owned();
    move |source| BackupError::Repository { name, source }
}

fn interrupted_or(
    error: RepositoryError,
    otherwise: impl FnOnce(RepositoryError) -> BackupError,
) -> BackupError {
    match error {
        RepositoryError::Interrupted(error) => error.into(),
        error => otherwise(error),
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
