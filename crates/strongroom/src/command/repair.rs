//! `strongroom repair`: shows what a repository has lost and a copy still has; with --apply, brings it back.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::json;
use strongroom_core::clock::{Clock as _, whole_seconds};
use strongroom_core::execute::repair::{
    LostStream, RepairJob, RepairReport, look, lost_streams, repair,
};
use strongroom_core::execute::verify::{Level, VerifyJob, verify};
use strongroom_core::format::Label;
use strongroom_core::format::envelope::Envelope;
use strongroom_core::format::name::ObjectName;
use strongroom_core::format::seal::BoxedIdentity;
use strongroom_core::plan::repair::{RepairPlan, RepairWorld, Side, plan_repair};
use strongroom_core::repository::{Repository, RepositoryError};

use crate::cli::IdentityOptions;
use crate::config::RepositoryConfig;
use crate::custody::Purpose;
use crate::failure::{Exit, Failure};
use crate::report::{Progress, Report, bytes, shown_path};
use crate::session::{Role, Session, Surroundings};

/// How many objects and streams are shown without --verbose.
const SHOWN: usize = 20;

/// Arguments of `repair`.
#[derive(Args)]
pub(crate) struct RepairArgs {
    /// The copy, or the original, that still has the good bytes
    #[arg(long, value_name = "NAME")]
    from: String,
    /// The repository or copy to heal; the original of --from if none is named
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Read every object of it first, as `verify --all` does; else what the last verifications found is healed, and what
    /// a list shows
    #[arg(long)]
    read_all: bool,
    /// Carry out the plan
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    identity: IdentityOptions,
}

pub(crate) fn run(args: &RepairArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let (from, to) = pair(args, &session)?;
    let _lock = if args.apply {
        Some(session.lock()?)
    } else {
        None
    };
    let good = session.repository(from)?;
    let target = session.storage(to, Role::Expirer).map_err(|failure| {
        if failure.exit == Exit::NoRepository {
            failure.hint("Is it mounted? To rebuild a repository that is gone, make its empty directory first.")
        } else {
            failure
        }
    })?;
    if args.read_all {
        read_all(&session, to, &good)?;
    }
    let id = good.document().repository;
    let damaged_here = session.state(&to.name).damaged(id)?;
    let damaged_here: BTreeMap<ObjectName, String> = damaged_here
        .into_iter()
        .map(|(name, damage)| (name, damage.why))
        .collect();
    let damaged_there = session.state(&from.name).damaged(id)?;
    let progress = Progress::new(&around.report);
    let job = RepairJob {
        target,
        name: &to.name,
        copy: to.copy_of.as_ref().map(|_| to.name.as_str()),
        from: &good,
        scratch: &session.config.writer.state_dir.join("copy"),
        cancel: &around.cancel,
        observer: &progress,
    };
    let world = look(&job, damaged_here, damaged_there.into_keys().collect())?;
    let plan = plan_repair(&world);
    let lost = Losses::of(&session, &world, &plan, &good, args)?;
    let report = &around.report;
    print_plan(report, &plan, to, args.read_all);
    lost.print(report, &plan, to);
    let mut done = None;
    if args.apply && !plan.heal.is_empty() {
        let repaired = repair(&job, &plan).map_err(|error| {
            Failure::from(error).context(format_args!("repository {}", to.name))
        })?;
        let time = whole_seconds(around.clock.now());
        let state = session.state(&to.name);
        state.note_objects(id, &BTreeMap::new(), &repaired.healed, time)?;
        // They are newer than the backups that need them, and were read back.
        state.note_proved(id, repaired.stored.clone(), |_| true)?;
        print_done(report, &repaired, to);
        done = Some(repaired);
    } else if !plan.heal.is_empty() {
        report.line("Nothing was changed. `--apply` does it.");
    }
    report.document(document(&plan, &lost, done.as_ref(), (from, to)));
    let failed = done.is_some_and(|done| !done.failed.is_empty());
    let is_clean = plan.lost.is_empty() && plan.problems.is_empty();
    Ok(if is_clean && !failed {
        Exit::Done
    } else {
        Exit::Problems
    })
}

fn pair<'c>(
    args: &RepairArgs,
    session: &'c Session<'_>,
) -> Result<(&'c RepositoryConfig, &'c RepositoryConfig), Failure> {
    let from = session.any_repository(&args.from)?;
    let to = match (&args.to, &from.copy_of) {
        (Some(to), _) => session.any_repository(to)?,
        (None, Some(original)) => session.any_repository(original)?,
        (None, None) => {
            let message = format!(
                "{:?} is no copy, so it is not clear what it heals",
                args.from
            );
            return Err(Failure::usage(message).hint("Name the copy to heal: --to COPY."));
        }
    };
    if from.name == to.name || from.document_name() != to.document_name() {
        let message = format!("{:?} is no copy of {:?}", from.name, to.name);
        return Err(Failure::usage(message).hint(
            "A repository is healed from its copy, a copy from its original or another copy of it.",
        ));
    }
    Ok((from, to))
}

/// Reads every object that the envelopes name, and notes what is damaged.
fn read_all(
    session: &Session<'_>,
    to: &RepositoryConfig,
    good: &Repository,
) -> Result<(), Failure> {
    let in_target = |error| Failure::from(error).context(format_args!("repository {}", to.name));
    let opened = Repository::open(session.storage(to, Role::Expirer)?);
    let repository = match opened {
        Ok(repository) => repository,
        // What cannot be opened is healed first and read by the next run.
        Err(RepositoryError::Damaged { .. } | RepositoryError::NotARepository { .. }) => {
            return Ok(());
        }
        Err(error) => return Err(in_target(error)),
    };
    if repository.document().repository != good.document().repository {
        return Ok(());
    }
    let catalogue = repository.catalogue().map_err(in_target)?;
    let progress = Progress::new(&session.around.report);
    let scratch = session.scratch();
    let found = verify(&VerifyJob {
        repository: &repository,
        name: &to.name,
        backups: catalogue
            .backups
            .iter()
            .map(|stored| &stored.envelope)
            .collect(),
        level: Level::L1,
        identities: &[],
        scratch: &scratch,
        restorers: &session.find_restorer(),
        cancel: &session.around.cancel,
        observer: &progress,
    })
    .map_err(in_target)?;
    let time = whole_seconds(session.around.clock.now());
    let id = repository.document().repository;
    let state = session.state(&to.name);
    Ok(state.note_objects(id, &found.damaged, &found.whole, time)?)
}

/// What cannot be restored any more, by backup, asset and file.
struct Losses {
    streams: Vec<LostStream>,
    /// Whether the manifests were looked into.
    is_exact: bool,
}

impl Losses {
    fn of(
        session: &Session<'_>,
        world: &RepairWorld,
        plan: &RepairPlan,
        good: &Repository,
        args: &RepairArgs,
    ) -> Result<Self, Failure> {
        let around = session.around;
        let objects = plan.lost_objects();
        let is_exact = !objects.is_empty() && around.has_identity(&args.identity);
        let identities = if is_exact {
            let only = BTreeMap::from([(good.document().name.clone(), good.clone())]);
            let purpose = Purpose {
                command: "repair",
                target: &args.from,
            };
            session.identities(&args.identity, &only, &purpose)?
        } else {
            Vec::new()
        };
        let labels: BTreeSet<&Label> = plan.lost.iter().flat_map(|lost| &lost.backups).collect();
        let mut streams = Vec::new();
        for seen in world.documents.values() {
            let ((Side::Good(_, Some(envelope)), _) | (_, Side::Good(_, Some(envelope)))) =
                (&seen.here, &seen.there)
            else {
                continue;
            };
            if !labels.contains(&envelope.label) {
                continue;
            }
            let inside = if is_exact {
                Self::inside(good, envelope, &identities, &objects)?
            } else {
                None
            };
            streams.extend(inside.unwrap_or_else(|| {
                let whole = |asset: &strongroom_core::format::envelope::EnvelopeAsset| LostStream {
                    label: envelope.label.clone(),
                    asset: asset.name.clone(),
                    path: None,
                };
                envelope.assets.iter().map(whole).collect()
            }));
        }
        Ok(Self { streams, is_exact })
    }

    /// The lost streams; `None` when the manifest cannot be read either.
    fn inside(
        good: &Repository,
        envelope: &Envelope,
        identities: &[BoxedIdentity],
        objects: &BTreeSet<strongroom_core::format::Digest>,
    ) -> Result<Option<Vec<LostStream>>, Failure> {
        match lost_streams(good, envelope, identities, objects) {
            Ok(streams) => Ok(Some(streams)),
            Err(RepositoryError::Damaged { .. } | RepositoryError::Storage(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn print(&self, report: &Report, plan: &RepairPlan, to: &RepositoryConfig) {
        for lost in &plan.lost {
            report.problem(format!(
                "{}: object {} cannot be healed: {}, and the other side does not have it whole",
                to.name, lost.name, lost.why
            ));
        }
        let limit = limit(report);
        for stream in self.streams.iter().take(limit) {
            let LostStream { label, asset, path } = stream;
            match path {
                Some(path) => report.problem(format!(
                    "backup {label}, asset {asset}: {} is lost",
                    shown_path(path)
                )),
                None if self.is_exact => report.problem(format!(
                    "backup {label}, asset {asset}: all of it is lost, with the list of its files"
                )),
                None => report.problem(format!(
                    "backup {label}, asset {asset}: some of it may be lost"
                )),
            }
        }
        more(report, self.streams.len());
        if !self.streams.is_empty() && !self.is_exact {
            report.note("with --identity FILE, the files that are lost are named");
        }
        if !plan.lost.is_empty() {
            report.line(
                "What is lost in older backups is stored anew by the next `strongroom backup`, as far as it still exists.",
            );
        }
    }
}

fn limit(report: &Report) -> usize {
    if report.verbose > 0 {
        usize::MAX
    } else {
        SHOWN
    }
}

fn more(report: &Report, count: usize) {
    let limit = limit(report);
    if count > limit {
        report.answer(format!(
            "  and {} more; -v and --json show all",
            count - limit
        ));
    }
}

fn print_plan(report: &Report, plan: &RepairPlan, to: &RepositoryConfig, read_all: bool) {
    for problem in &plan.problems {
        report.problem(format!("{}: {problem}", to.name));
    }
    if plan.heal.is_empty() {
        let nothing = if plan.problems.is_empty() {
            "Nothing"
        } else {
            "Nothing else"
        };
        if plan.lost.is_empty() {
            report.answer(if read_all {
                format!("Everything in {} was read; {} is damaged.", to.name, nothing.to_lowercase())
            } else {
                format!(
                    "{nothing} is known to be damaged in {}. Damage that leaves the length alone is found by \
                     `strongroom verify --all`, or with --read-all.",
                    to.name
                )
            });
        }
    } else {
        report.heading(&format!(
            "{} objects of {} are brought back, {}:",
            plan.heal.len(),
            to.name,
            bytes(plan.size_bytes())
        ));
        for heal in plan.heal.iter().take(limit(report)) {
            let how = if heal.replaces { "replaced" } else { "stored" };
            report.answer(format!("  {how}  {}  ({})", heal.name, heal.why));
        }
        more(report, plan.heal.len());
    }
    if !plan.left_out.is_empty() {
        report.line(format!(
            "{} backups that have expired in {} are in the other one still; they stay there.",
            plan.left_out.len(),
            to.name
        ));
    }
}

fn print_done(report: &Report, done: &RepairReport, to: &RepositoryConfig) {
    for (name, why) in &done.failed {
        report.problem(format!("{}: object {name} was not healed: {why}", to.name));
    }
    report.line(format!(
        "Brought back {} objects, {}. `strongroom verify --all --repository {}` shows which backups hold again.",
        done.healed.len(),
        bytes(done.bytes),
        to.name
    ));
}

fn document(
    plan: &RepairPlan,
    losses: &Losses,
    done: Option<&RepairReport>,
    (from, to): (&RepositoryConfig, &RepositoryConfig),
) -> serde_json::Value {
    let heal = plan.heal.iter().map(|heal| {
        json!({
            "object": heal.name.as_str(), "why": heal.why, "size_bytes": heal.size_bytes,
            "replaces": heal.replaces,
        })
    });
    let lost = plan.lost.iter().map(
        |lost| json!({ "object": lost.name.as_str(), "why": lost.why, "backups": lost.backups }),
    );
    let streams = losses.streams.iter().map(|stream| {
        json!({
            "label": stream.label, "asset": stream.asset,
            "path": stream.path.as_ref().map(|path| shown_path(path)),
        })
    });
    let left_out = plan.left_out.iter().map(|(_, label)| label);
    json!({
        "from": from.name,
        "to": to.name,
        "heal": heal.collect::<Vec<_>>(),
        "lost": lost.collect::<Vec<_>>(),
        "lost_streams": streams.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
        "problems": plan.problems,
        "applied": done.map(|done| json!({
            "healed": done.healed.iter().map(ObjectName::as_str).collect::<Vec<_>>(),
            "bytes": done.bytes,
            "failed": done.failed.iter()
                .map(|(name, why)| json!({ "object": name.as_str(), "why": why }))
                .collect::<Vec<_>>(),
        })),
    })
}
