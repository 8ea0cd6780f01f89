//! `strongroom repository show`: how large a repository is, what it saves, how it grows, and who may do what.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_adapters::storage::Place;
use strongroom_core::format::name::{self, ObjectName};
use strongroom_core::format::{Digest, EpochId};
use strongroom_core::repository::{Repository, StoredEnvelope};

use crate::config::RepositoryConfig;
use crate::failure::{Exit, Failure};
use crate::report::{Report, bytes, table, when};
use crate::session::{Session, Surroundings};

/// Arguments of `repository`.
#[derive(Args)]
pub(crate) struct RepositoryArgs {
    #[command(subcommand)]
    command: RepositoryCommand,
}

#[derive(Subcommand)]
enum RepositoryCommand {
    /// Show size, deduplication, growth, epochs, recipients, writers and lock
    Show(RepositoryShowArgs),
}

/// Arguments of `repository show`.
#[derive(Args)]
struct RepositoryShowArgs {
    /// The repository or copy; all if none is named
    name: Option<String>,
    /// How many of the newest backups are shown
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    last: usize,
}

pub(crate) fn run(args: &RepositoryArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let RepositoryCommand::Show(args) = &args.command;
    let session = around.session()?;
    let config = &session.config;
    let chosen: Vec<&RepositoryConfig> = if let Some(name) = &args.name {
        vec![session.any_repository(name)?]
    } else {
        let originals = config.repositories.values();
        originals.chain(config.copies.values()).collect()
    };
    let mut documents = Vec::new();
    let mut exit = Exit::Done;
    for config in &chosen {
        match Figures::of(&session, config) {
            Ok(figures) => {
                figures.print(&around.report, config, args.last);
                documents.push(figures.document(config, args.last));
                if !figures.problems.is_empty() {
                    exit = exit.and(Exit::Problems);
                }
            }
            Err(failure) if chosen.len() == 1 => return Err(failure),
            Err(failure) => {
                around.report.failed_part(&failure);
                exit = exit.and(failure.exit);
            }
        }
    }
    around.report.document(json!({ "repositories": documents }));
    Ok(exit)
}

/// For how many days each object is locked when it is written, where the configuration says so.
pub(crate) fn immutable_days(config: &RepositoryConfig) -> Option<u32> {
    match &config.storage.place {
        Place::S3(place) => place.lock.as_ref().map(|lock| lock.days),
        _ => None,
    }
}

struct Figures {
    repository: Repository,
    backups: Vec<StoredEnvelope>,
    problems: Vec<String>,
    objects: u64,
    stored_bytes: u64,
    /// What no envelope names.
    unneeded: u64,
    unneeded_bytes: u64,
    logical_bytes: u64,
    /// Bytes of objects that a backup was the first to name, by its place among `backups`.
    growth: Vec<u64>,
    epochs: BTreeMap<EpochId, Epoch>,
}

struct Epoch {
    backups: u64,
    bytes: u64,
    first: jiff::Timestamp,
    last: jiff::Timestamp,
}

impl Figures {
    fn of(session: &Session<'_>, config: &RepositoryConfig) -> Result<Self, Failure> {
        let context =
            |error| Failure::from(error).context(format_args!("repository {}", config.name));
        let repository = session.repository(config)?;
        let catalogue = repository.catalogue().map_err(context)?;
        let mut backups = catalogue.backups;
        backups.sort_by_key(|stored| stored.envelope.run);
        let mut figures = Self {
            problems: catalogue.problems,
            objects: 0,
            stored_bytes: 0,
            unneeded: 0,
            unneeded_bytes: 0,
            logical_bytes: 0,
            growth: Vec::new(),
            epochs: BTreeMap::new(),
            backups,
            repository,
        };
        let named = figures.add_backups();
        let storage = figures.repository.storage();
        let mut sums = [0_u64; 4];
        storage
            .list(name::OBJECTS, &mut |name: ObjectName, stat| {
                sums[0] += 1;
                sums[1] += stat.size_bytes;
                if !name.digest().is_some_and(|digest| named.contains(&digest)) {
                    sums[2] += 1;
                    sums[3] += stat.size_bytes;
                }
            })
            .map_err(|error| context(error.into()))?;
        [
            figures.objects,
            figures.stored_bytes,
            figures.unneeded,
            figures.unneeded_bytes,
        ] = sums;
        Ok(figures)
    }

    /// Counts what the envelopes say; the objects that they name.
    fn add_backups(&mut self) -> BTreeSet<Digest> {
        let mut named = BTreeSet::new();
        for stored in &self.backups {
            let envelope = &stored.envelope;
            let new = envelope.objects.iter();
            let new = new.filter(|(digest, _)| named.insert(*digest));
            let new: u64 = new.map(|(_, size)| size).sum();
            self.growth.push(new);
            self.logical_bytes += envelope
                .assets
                .iter()
                .map(|one| one.size_bytes)
                .sum::<u64>();
            let epoch = self.epochs.entry(envelope.epoch.id).or_insert(Epoch {
                backups: 0,
                bytes: 0,
                first: envelope.started,
                last: envelope.finished,
            });
            epoch.backups += 1;
            epoch.bytes += new;
            epoch.first = epoch.first.min(envelope.started);
            epoch.last = epoch.last.max(envelope.finished);
        }
        named
    }

    fn ratio(&self) -> Option<String> {
        let tenths = self
            .logical_bytes
            .saturating_mul(10)
            .checked_div(self.stored_bytes)?;
        Some(format!("{}.{}", tenths / 10, tenths % 10))
    }

    fn newest(&self, last: usize) -> impl Iterator<Item = (&StoredEnvelope, u64)> {
        let all = self.backups.iter().zip(self.growth.iter().copied());
        all.skip(self.backups.len().saturating_sub(last))
    }

    fn print(&self, report: &Report, config: &RepositoryConfig, last: usize) {
        let document = self.repository.document();
        report.heading(&format!("Repository {}", config.name));
        let line = |what: &str, text: String| report.answer(format!("  {what:<12}{text}"));
        line("url", config.url.clone());
        if let Some(original) = &config.copy_of {
            line("copy of", original.clone());
        }
        line(
            "size",
            format!("{} in {} objects", bytes(self.stored_bytes), self.objects),
        );
        if self.unneeded > 0 {
            let of = bytes(self.unneeded_bytes);
            line(
                "unneeded",
                format!("{of} in {} objects that no backup names", self.unneeded),
            );
        }
        line(
            "backups",
            format!(
                "{}, {} of content",
                self.backups.len(),
                bytes(self.logical_bytes)
            ),
        );
        if let Some(ratio) = self.ratio() {
            line(
                "ratio",
                format!("{ratio} bytes of content for each byte stored"),
            );
        }
        line(
            "accepts",
            document
                .accepts
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        );
        line("recipients", document.recipients.join(", "));
        line(
            "writers",
            document
                .writers
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        );
        line(
            "immutable",
            match immutable_days(config) {
                Some(days) => format!("{days} days from writing on"),
                None => "not set in the configuration".to_owned(),
            },
        );
        if !self.backups.is_empty() {
            let rows = self.epochs.iter().map(|(id, epoch)| {
                vec![
                    format!("  {id}"),
                    when(epoch.first),
                    when(epoch.last),
                    epoch.backups.to_string(),
                    bytes(epoch.bytes),
                ]
            });
            report.answer(table(
                &[
                    "  epoch",
                    "first backup",
                    "last backup",
                    ">backups",
                    ">stored",
                ],
                rows.collect(),
            ));
            let rows = self.newest(last).map(|(stored, new)| {
                let content = stored
                    .envelope
                    .assets
                    .iter()
                    .map(|one| one.size_bytes)
                    .sum();
                vec![
                    format!("  {}", stored.envelope.label),
                    bytes(content),
                    bytes(new),
                ]
            });
            report.answer(table(&["  backup", ">content", ">added"], rows.collect()));
        }
        for problem in &self.problems {
            report.problem(format!("repository {}: {problem}", config.name));
        }
    }

    fn document(&self, config: &RepositoryConfig, last: usize) -> serde_json::Value {
        let document = self.repository.document();
        let epochs = self.epochs.iter().map(|(id, epoch)| {
            json!({
                "id": id, "first": epoch.first, "last": epoch.last, "backups": epoch.backups,
                "stored_bytes": epoch.bytes,
            })
        });
        let growth = self
            .newest(last)
            .map(|(stored, new)| json!({ "label": stored.envelope.label, "added_bytes": new }));
        json!({
            "name": config.name,
            "copy_of": config.copy_of,
            "url": config.url,
            "repository": document.repository,
            "revision": document.revision,
            "objects": self.objects,
            "stored_bytes": self.stored_bytes,
            "unneeded_objects": self.unneeded,
            "unneeded_bytes": self.unneeded_bytes,
            "backups": self.backups.len(),
            "content_bytes": self.logical_bytes,
            "epochs": epochs.collect::<Vec<_>>(),
            "growth": growth.collect::<Vec<_>>(),
            "accepts": document.accepts,
            "recipients": document.recipients,
            "writers": document.writers.keys().collect::<Vec<_>>(),
            "immutable_days": immutable_days(config),
            "problems": self.problems,
        })
    }
}
