//! The backups of all repositories, put together run by run.

use std::collections::BTreeMap;

use strongroom_core::format::envelope::{Envelope, Scope, Status};
use strongroom_core::format::expiry::ExpiredRanges;
use strongroom_core::format::{Digest, Label, WriterId};
use strongroom_core::repository::state::Head;
use strongroom_core::repository::{Repository, StoredEnvelope};

use crate::failure::{Exit, Failure};
use crate::session::Session;

/// One run: the envelopes with its label.
pub(crate) struct Run {
    pub(crate) label: Label,
    /// The number that orders runs.
    pub(crate) number: u64,
    /// By repository.
    pub(crate) envelopes: BTreeMap<String, StoredEnvelope>,
    /// Repositories whose part of it has expired.
    pub(crate) expired: Vec<String>,
    /// Repositories that it wrote to and that were not read, so that nothing is known of its part there.
    pub(crate) unread: Vec<String>,
}

impl Run {
    /// Any of its envelopes; they agree in all that concerns the whole run.
    pub(crate) fn any(&self) -> &Envelope {
        let first = self.envelopes.values().next();
        &first.expect("a run is made of its envelopes").envelope
    }

    /// The repositories that it wrote to and that have no envelope of it, although it has not expired there.
    pub(crate) fn missing(&self) -> Vec<&str> {
        let named = self.any().repositories.iter();
        named
            .filter(|name| !self.envelopes.contains_key(*name) && !self.expired.contains(*name))
            .map(String::as_str)
            .collect()
    }

    /// Those of the missing ones that were read.
    pub(crate) fn known_missing(&self) -> Vec<&str> {
        let is_unread = |name: &str| self.unread.iter().any(|unread| unread == name);
        let mut missing = self.missing();
        missing.retain(|name| !is_unread(name));
        missing
    }

    /// Whether all that could be read of it is complete, and not all could be.
    pub(crate) fn is_undecided(&self) -> bool {
        let mut parts = self.envelopes.values();
        !self.unread.is_empty()
            && self.known_missing().is_empty()
            && parts.all(|stored| stored.envelope.status == Status::Complete)
    }

    /// Whether every repository has it and calls it complete.
    pub(crate) fn status(&self) -> Status {
        let complete = self
            .envelopes
            .values()
            .all(|stored| stored.envelope.status == Status::Complete);
        if complete && self.missing().is_empty() {
            Status::Complete
        } else {
            Status::Incomplete
        }
    }

    /// What a restore of `only`, or of all assets, cannot bring back, a sentence each.
    pub(crate) fn gaps(&self, only: &[String]) -> Vec<String> {
        let parts = self.envelopes.values();
        let assets = parts.flat_map(|stored| &stored.envelope.assets);
        let wanted = assets.filter(|asset| only.is_empty() || only.contains(&asset.name));
        let incomplete = wanted.filter(|asset| asset.status != Status::Complete);
        let mut gaps: Vec<String> = incomplete
            .map(|asset| format!("asset {} was not captured whole", asset.name))
            .collect();
        gaps.extend(self.missing_parts(only));
        gaps
    }

    /// The repositories whose part of the run is missing, unless only some assets are meant.
    pub(crate) fn missing_parts(&self, only: &[String]) -> Vec<String> {
        let missing = self.missing().into_iter().filter(|_| only.is_empty());
        let told = missing.map(|name| {
            format!("repository {name} has no envelope of this backup; its assets are not restored")
        });
        let expired = self.expired.iter().filter(|_| only.is_empty());
        let expired = expired.map(|name| {
            format!("the part of this backup in repository {name} has expired; its assets are not restored")
        });
        told.chain(expired).collect()
    }

    /// Whether `names` are all the assets that it has.
    pub(crate) fn is_all(&self, names: &[String]) -> bool {
        let parts = self.envelopes.values();
        parts
            .flat_map(|stored| &stored.envelope.assets)
            .all(|asset| names.contains(&asset.name))
    }

    /// Whether it is complete and of all assets.
    fn is_whole(&self) -> bool {
        self.status() == Status::Complete
            && self.any().scope == Scope::All
            && self.expired.is_empty()
    }

    /// Whether it holds all these assets whole.
    fn holds(&self, assets: &[String]) -> bool {
        assets.iter().all(|name| {
            self.envelopes.values().any(|stored| {
                let mut held = stored.envelope.assets.iter();
                held.any(|asset| asset.name == *name && asset.status == Status::Complete)
            })
        })
    }

    /// The bytes of everything in it.
    pub(crate) fn size_bytes(&self) -> u64 {
        let assets = self
            .envelopes
            .values()
            .flat_map(|stored| &stored.envelope.assets);
        assets.map(|asset| asset.size_bytes).sum()
    }
}

/// All runs, oldest first, and what is wrong with the history.
pub(crate) struct Runs {
    pub(crate) all: Vec<Run>,
    pub(crate) problems: Vec<String>,
}

impl Runs {
    /// Reads the catalogues of the repositories, and holds them against what this host has written itself.
    pub(crate) fn read(
        session: &Session<'_>,
        repositories: &BTreeMap<String, Repository>,
    ) -> Result<Self, Failure> {
        let mut runs: BTreeMap<(u64, Label), Run> = BTreeMap::new();
        let mut problems = Vec::new();
        let mut expired = BTreeMap::new();
        for (name, repository) in repositories {
            let context = |error| Failure::from(error).context(format_args!("repository {name}"));
            let catalogue = repository.catalogue().map_err(context)?;
            let named = |problem| format!("repository {name}: {problem}");
            problems.extend(catalogue.problems.into_iter().map(named));
            let head = session.state(name).head(repository.document().repository);
            // What is newer than the time that is looked at is not missing.
            let is_now = session
                .config
                .repositories
                .get(name)
                .is_none_or(|one| one.storage.as_of.is_none());
            if let Some(head) = head.map_err(context)?.filter(|_| is_now) {
                let own = catalogue.backups.iter();
                let own = own.map(|stored| (&stored.envelope, stored.digest));
                problems.extend(rolled_back(&head, own).map(named));
            }
            expired.insert(name, catalogue.records.ranges());
            for stored in catalogue.backups {
                let (number, label) = (stored.envelope.run, stored.envelope.label.clone());
                runs.entry((number, label.clone()))
                    .or_insert_with(|| Run {
                        label,
                        number,
                        envelopes: BTreeMap::new(),
                        expired: Vec::new(),
                        unread: Vec::new(),
                    })
                    .envelopes
                    .insert(name.clone(), stored);
            }
        }
        let mut all: Vec<Run> = runs.into_values().collect();
        for (name, ranges) in expired.into_iter().filter(|(_, ranges)| !ranges.is_empty()) {
            mark_expired(&mut all, name, &ranges);
        }
        for run in &mut all {
            let named = run.any().repositories.iter();
            let unread = named.filter(|name| !repositories.contains_key(*name));
            run.unread = unread.cloned().collect();
        }
        Ok(Self { all, problems })
    }

    /// The run that `label` names; `latest` is the newest complete one of all assets or, when only some assets are
    /// meant, the newest that holds those whole.
    pub(crate) fn find(&self, label: &str, only: &[String]) -> Result<&Run, Failure> {
        if label == "latest" {
            let mut newest_first = self.all.iter().rev();
            return newest_first
                .find(|run| {
                    if only.is_empty() {
                        run.is_whole()
                    } else {
                        run.holds(only)
                    }
                })
                .ok_or_else(|| self.no_latest(only));
        }
        self.all.iter().find(|run| run.label.as_str() == label).ok_or_else(|| {
            let message = format!("no backup has the label {label:?}");
            Failure::new(Exit::Refused, "no-such-backup", message).hint(
                "`strongroom list` shows the labels; `latest` names the newest complete backup. The label comes before \
                 the names of assets.",
            )
        })
    }

    fn no_latest(&self, only: &[String]) -> Failure {
        let is_known = |name: &&String| {
            let mut envelopes = self.all.iter().flat_map(|run| run.envelopes.values());
            envelopes.any(|stored| {
                let mut assets = stored.envelope.assets.iter();
                assets.any(|asset| asset.name == **name)
            })
        };
        let unknown = only.iter().find(|name| !is_known(name));
        let message = match unknown {
            _ if self.all.is_empty() => "there is no backup yet".to_owned(),
            Some(name) => format!("no backup has an asset {name:?}"),
            None if only.is_empty() => "no backup of all assets is complete".to_owned(),
            None => format!("no backup holds {} whole", only.join(", ")),
        };
        Failure::new(Exit::Refused, "no-such-backup", message).hint(
            "`strongroom list` shows what there is; an incomplete backup is restored by naming its label.",
        )
    }
}

/// Finds the runs that had a part in a repository which is on record as expired.
///
/// A record has numbers of a chain, not labels: a run without an envelope counts as expired when there is room for
/// it among the recorded numbers between the envelopes before and after it.
fn mark_expired(runs: &mut [Run], repository: &str, ranges: &ExpiredRanges) {
    let mut before: BTreeMap<WriterId, u64> = BTreeMap::new();
    for run in runs {
        if let Some(stored) = run.envelopes.get(repository) {
            before.insert(stored.envelope.writer, stored.envelope.sequence);
            continue;
        }
        let envelope = run.any();
        if !envelope.repositories.iter().any(|name| name == repository) {
            continue;
        }
        let writer = envelope.writer;
        let next = before.get(&writer).map_or(1, |sequence| sequence + 1);
        // Only what was let go between its neighbours can have been its envelope.
        if ranges.covers(writer, next) {
            run.expired.push(repository.to_owned());
        }
    }
}

/// What is missing of the envelopes that this host has written, by what it remembers.
pub(crate) fn rolled_back<'e>(
    head: &Head,
    backups: impl Iterator<Item = (&'e Envelope, Digest)> + Clone,
) -> Option<String> {
    let mut own = backups.filter(|(envelope, _)| envelope.writer == head.writer);
    let last = own
        .clone()
        .map(|(envelope, _)| envelope.sequence)
        .max()
        .unwrap_or(0);
    if last < head.sequence {
        return Some(format!(
            "its history was rolled back: this host has written envelope {}, the newest there is {last}",
            head.sequence
        ));
    }
    own.any(|(envelope, digest)| envelope.sequence == head.sequence && digest != head.digest)
        .then(|| {
            format!(
                "envelope {} is not the one that this host has written",
                head.sequence
            )
        })
}
