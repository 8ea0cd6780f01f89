//! `strongroom status`: one screen of what there is, where, and what needs attention. Reads envelopes only.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::json;
use strongroom_core::clock::Clock as _;
use strongroom_core::execute::restore::journal::{Journal, Phase};
use strongroom_core::execute::restore::journal_directory;
use strongroom_core::format::envelope::Status;
use strongroom_core::format::expiry::ExpiredRanges;
use strongroom_core::format::{Digest, Label};
use strongroom_core::plan::restore::Target;
use strongroom_core::repository::state::{DAMAGED, Verified};
use strongroom_core::repository::{Repository, StoredEnvelope};
use strongroom_core::storage::FreeSpace;

use super::repository::immutable_days;
use crate::config::RepositoryConfig;
use crate::failure::{Exit, Failure};
use crate::report::{Report, bytes, table};
use crate::runs::{Runs, rolled_back};
use crate::session::{Session, Surroundings, each};

/// Arguments of `status`.
#[derive(Args)]
pub(crate) struct StatusArgs {}

/// A repository or a copy as it was found.
struct PlaceSeen<'c> {
    config: &'c RepositoryConfig,
    opened: Result<OpenedSeen, Failure>,
}

struct OpenedSeen {
    repository: Repository,
    backups: Vec<StoredEnvelope>,
    problems: Vec<String>,
    /// What it has let go, or never got because the original had let it go.
    expired: ExpiredRanges,
    /// The bytes of all objects that the backups need.
    needed_bytes: u64,
    room: Option<FreeSpace>,
    verified: BTreeMap<Label, Verified>,
    /// How many objects are known to be damaged.
    damaged: usize,
}

impl OpenedSeen {
    fn newest(&self) -> Option<&StoredEnvelope> {
        self.backups.iter().max_by_key(|stored| stored.envelope.run)
    }
}

/// On how many places the newest complete backup is.
struct Spread {
    label: Label,
    copies: usize,
    storages: usize,
    off_host: usize,
}

/// A restore that is to be ended.
struct Unfinished {
    label: Label,
    phase: Phase,
    is_interrupted: bool,
}

impl Unfinished {
    fn told(&self) -> String {
        let (label, phase) = (&self.label, self.phase);
        if phase != Phase::Applied && !self.is_interrupted {
            return format!("the restore of {label} is at work: {phase}");
        }
        let was = if self.is_interrupted {
            "was interrupted,"
        } else {
            "is"
        };
        let ways_on = phase.ways_on();
        format!("the restore of {label} {was} {phase}; end it with `strongroom restore` {ways_on}")
    }
}

pub(crate) fn run(_: &StatusArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let session = around.session()?;
    let config = &session.config;
    let all = config.repositories.values().chain(config.copies.values());
    let places: Vec<PlaceSeen<'_>> = each(all, |config| look(&session, config))
        .into_iter()
        .map(|(config, opened)| PlaceSeen { config, opened })
        .collect();
    let originals = places.iter().filter(|place| place.config.copy_of.is_none());
    let repositories = originals
        .filter_map(|place| {
            let opened = place.opened.as_ref().ok()?;
            Some((place.config.name.clone(), opened.repository.clone()))
        })
        .collect();
    let runs = Runs::read(&session, &repositories)?;
    let spread = spread(&runs, &places, config.repositories.len());
    let mut attention = Vec::new();
    for place in &places {
        attention.extend(needs_attention(place));
    }
    if runs.all.is_empty() {
        attention.push("there is no backup yet".to_owned());
    } else if spread.is_none() {
        attention.push(
            "no backup of all assets is complete in all repositories that can be reached"
                .to_owned(),
        );
    }
    let unfinished = unfinished(&session).unwrap_or_else(|failure| {
        attention.push(failure.message);
        None
    });
    if let Some(restore) = unfinished.as_ref().filter(|one| one.is_interrupted) {
        attention.push(restore.told());
    }
    print(
        &session,
        &places,
        spread.as_ref(),
        (&attention, unfinished.as_ref()),
    );
    let documents: Vec<_> = places
        .iter()
        .map(|place| document(place, &places))
        .collect();
    around.report.document(json!({
        "deployment": config.deployment.name,
        "places": documents,
        "newest_complete": spread.map(|spread| json!({
            "label": spread.label, "copies": spread.copies, "storages": spread.storages,
            "off_host": spread.off_host,
        })),
        "restore": unfinished.map(|restore| json!({
            "label": restore.label, "phase": restore.phase, "interrupted": restore.is_interrupted,
        })),
        "attention": attention,
    }));
    Ok(if attention.is_empty() {
        Exit::Done
    } else {
        Exit::Problems
    })
}

/// The last restore in place or into a database, if it has not ended.
fn unfinished(session: &Session<'_>) -> Result<Option<Unfinished>, Failure> {
    let directory = journal_directory(&Target::InPlace, &session.config.writer.state_dir);
    let Some(journal) = Journal::open(&directory)? else {
        return Ok(None);
    };
    let phase = journal.phase();
    Ok(Some(Unfinished {
        label: journal.plan().label.clone(),
        phase,
        // One that is at work holds the lock of the host.
        is_interrupted: phase != Phase::Applied
            && !session
                .lock()
                .is_err_and(|failure| failure.exit == Exit::Busy),
    }))
}

fn look(session: &Session<'_>, config: &RepositoryConfig) -> Result<OpenedSeen, Failure> {
    let context = |error| Failure::from(error).context(format_args!("repository {}", config.name));
    let repository: Repository = session.repository(config)?;
    let catalogue = repository.catalogue().map_err(context)?;
    let mut problems = catalogue.problems;
    let id = repository.document().repository;
    let state = session.state(&config.name);
    if let Some(head) = state.head(id)? {
        let backups = catalogue.backups.iter();
        let backups = backups.map(|stored| (&stored.envelope, stored.digest));
        problems.extend(rolled_back(&head, backups));
    }
    let mut needed: BTreeMap<Digest, u64> = BTreeMap::new();
    for stored in &catalogue.backups {
        needed.extend(stored.envelope.objects.iter().copied());
    }
    let room = repository.storage().free_space();
    Ok(OpenedSeen {
        room: room.map_err(|error| context(error.into()))?,
        repository,
        backups: catalogue.backups,
        problems,
        expired: catalogue.records.ranges(),
        needed_bytes: needed.values().sum(),
        verified: state.verified()?,
        damaged: state.damaged(id)?.len(),
    })
}

/// Scheme and host of a url; all directories of this host are one.
fn storage_of(config: &RepositoryConfig) -> String {
    let (scheme, rest) = config.url.split_once(':').unwrap_or(("file", ""));
    if scheme == "file" {
        return "file".to_owned();
    }
    let host = rest.trim_start_matches('/').split('/').next();
    format!("{scheme}://{}", host.unwrap_or_default())
}

/// For the newest complete run, the repository with the fewest copies counts.
fn spread(runs: &Runs, places: &[PlaceSeen<'_>], repositories: usize) -> Option<Spread> {
    let run = runs.find("latest", &[]).ok()?;
    let mut worst: Option<Spread> = None;
    for (name, stored) in run.envelopes.iter().take(repositories) {
        let mut holders = Vec::new();
        for place in places {
            let has_it = place.config.document_name() == name
                && place.opened.as_ref().is_ok_and(|opened| {
                    let mut backups = opened.backups.iter();
                    backups.any(|one| one.digest == stored.digest)
                });
            if has_it {
                holders.push(storage_of(place.config));
            }
        }
        let off_host = holders.iter().filter(|storage| *storage != "file").count();
        let copies = holders.len();
        let storages = holders.into_iter().collect::<BTreeSet<_>>().len();
        let so_far = worst.get_or_insert_with(|| Spread {
            label: run.label.clone(),
            copies,
            storages,
            off_host,
        });
        so_far.copies = so_far.copies.min(copies);
        so_far.storages = so_far.storages.min(storages);
        so_far.off_host = so_far.off_host.min(off_host);
    }
    worst
}

fn needs_attention(place: &PlaceSeen<'_>) -> Vec<String> {
    let name = &place.config.name;
    let opened = match &place.opened {
        Ok(opened) => opened,
        Err(failure) => return vec![failure.message.clone()],
    };
    let mut found: Vec<String> = opened
        .problems
        .iter()
        .map(|problem| format!("repository {name}: {problem}"))
        .collect();
    if opened.damaged > 0 {
        found.push(format!(
            "repository {name}: {} objects are damaged; `strongroom repair` heals them from a copy",
            opened.damaged
        ));
    }
    if let Some(newest) = opened.newest()
        && place.config.copy_of.is_none()
    {
        let envelope = &newest.envelope;
        if envelope.status != Status::Complete {
            found.push(format!(
                "repository {name}: its newest backup {} is incomplete",
                envelope.label
            ));
        }
        let verified = opened.verified.get(&envelope.label);
        if verified.is_some_and(|verified| verified.level == DAMAGED) {
            found.push(format!(
                "repository {name}: its newest backup {} is damaged; take another one",
                envelope.label
            ));
        }
    }
    found
}

/// How many backups of the original a copy lacks.
fn behind(place: &PlaceSeen<'_>, places: &[PlaceSeen<'_>]) -> Option<usize> {
    let original = place.config.copy_of.as_ref()?;
    let original = places.iter().find(|other| other.config.name == *original)?;
    let (Ok(here), Ok(there)) = (&place.opened, &original.opened) else {
        return None;
    };
    let held: BTreeSet<Digest> = here.backups.iter().map(|stored| stored.digest).collect();
    let all = there.backups.iter();
    let is_lacking = |stored: &&StoredEnvelope| {
        let envelope = &stored.envelope;
        let has_expired = here.expired.covers(envelope.writer, envelope.sequence);
        !has_expired && !held.contains(&stored.digest)
    };
    Some(all.filter(is_lacking).count())
}

fn age(session: &Session<'_>, time: jiff::Timestamp) -> String {
    let seconds = session.around.clock.now().duration_since(time).as_secs();
    match seconds {
        ..0 => "in the future".to_owned(),
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn print(
    session: &Session<'_>,
    places: &[PlaceSeen<'_>],
    spread: Option<&Spread>,
    (attention, restore): (&[String], Option<&Unfinished>),
) {
    let report: &Report = &session.around.report;
    let rows = places.iter().map(|place| row(session, place));
    let headings = [
        "repository",
        "newest backup",
        ">age",
        "status",
        "verified",
        ">backups",
        ">stored",
        ">free",
        "immutable",
    ];
    report.answer(table(&headings, rows.collect()));
    for place in places {
        if let Some(count @ 1..) = behind(place, places) {
            report.answer(format!(
                "{} is {count} backups behind {}; `strongroom copy --to {}` brings them.",
                place.config.name,
                place.config.document_name(),
                place.config.name
            ));
        }
    }
    if let Some(spread) = spread {
        report.answer(format!(
            "3-2-1: the newest complete backup {} has {} of 3 copies (the assets themselves are one), on {} of 2 kinds \
             of storage, {} of 1 off this host.",
            spread.label,
            spread.copies + 1,
            spread.storages,
            spread.off_host
        ));
    }
    for text in attention {
        report.problem(text);
    }
    match restore {
        Some(restore) if !restore.is_interrupted => report.answer(restore.told()),
        _ => {}
    }
    if attention.is_empty() && restore.is_none() {
        report.line("Nothing needs attention.");
    }
}

fn row(session: &Session<'_>, place: &PlaceSeen<'_>) -> Vec<String> {
    let config = place.config;
    let name = match &config.copy_of {
        Some(original) => format!("{} (copy of {original})", config.name),
        None => config.name.clone(),
    };
    let immutable = immutable_days(config).map_or("no".to_owned(), |days| format!("{days} days"));
    let Ok(opened) = &place.opened else {
        let mut cells = vec![name, "UNREACHABLE".to_owned()];
        cells.extend(std::iter::repeat_n("-".to_owned(), 6));
        cells.push(immutable);
        return cells;
    };
    let newest = opened.newest().map(|stored| &stored.envelope);
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let verified = newest.map(|newest| {
        let verified = opened.verified.get(&newest.label);
        verified.map_or("never".to_owned(), |verified| {
            format!("{} {}", verified.level, verified.time.strftime("%F"))
        })
    });
    vec![
        name,
        text(newest.map(|newest| newest.label.to_string())),
        text(newest.map(|newest| age(session, newest.finished))),
        text(newest.map(|newest| newest.status.as_str().to_owned())),
        text(verified),
        opened.backups.len().to_string(),
        bytes(opened.needed_bytes),
        text(opened.room.map(|room| bytes(room.free_bytes))),
        immutable,
    ]
}

fn document(place: &PlaceSeen<'_>, places: &[PlaceSeen<'_>]) -> serde_json::Value {
    let config = place.config;
    let mut document = json!({
        "name": config.name,
        "copy_of": config.copy_of,
        "url": config.url,
        "immutable_days": immutable_days(config),
        "reachable": place.opened.is_ok(),
    });
    match &place.opened {
        Err(failure) => document["failure"] = json!(failure.message),
        Ok(opened) => {
            let newest = opened.newest().map(|stored| &stored.envelope);
            let verified = newest.and_then(|newest| opened.verified.get(&newest.label));
            document["newest"] = json!(newest.map(|newest| json!({
                "label": newest.label, "finished": newest.finished, "status": newest.status,
                "verified": verified,
            })));
            document["backups"] = json!(opened.backups.len());
            document["stored_bytes"] = json!(opened.needed_bytes);
            document["free_bytes"] = json!(opened.room.map(|room| room.free_bytes));
            document["damaged_objects"] = json!(opened.damaged);
            document["problems"] = json!(opened.problems);
            document["behind"] = json!(behind(place, places));
        }
    }
    document
}
