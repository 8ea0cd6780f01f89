//! The last steps of a backup: its place in the chain, and its envelope.
//!
//! Only a [`SealedBackup`], whose objects are all durable, can be placed, and only a [`PlacedBackup`] can be committed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::index::Index;
use super::state::{Head, WriterState};
use super::writer::RunHeader;
use super::{Repository, RepositoryError, StoredEnvelope};
use crate::clock::whole_seconds;
use crate::format::envelope::{Envelope, EnvelopeAsset, EnvelopeEpoch, Scope, Status};
use crate::format::name::ObjectName;
use crate::format::writer_key::WriterKey;
use crate::format::{Digest, limits};
use crate::storage::Put;

/// By how much clocks may differ without being told.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// A backup that is stored but for its envelope.
pub struct SealedBackup<'a> {
    pub(super) repository: Repository,
    pub(super) key: &'a WriterKey,
    pub(super) state: &'a WriterState,
    pub(super) epoch: EnvelopeEpoch,
    pub(super) index: Index,
    pub(super) memory: BTreeMap<String, serde_json::Value>,
    pub(super) objects: BTreeMap<Digest, u64>,
    pub(super) manifest: Digest,
    pub(super) assets: Vec<EnvelopeAsset>,
    pub(super) notes: Vec<String>,
    pub(super) stored_bytes: u64,
    pub(super) immutable_days: Option<u32>,
}

/// What only the whole run knows.
pub struct RunSummary {
    /// The run's number.
    pub run: u64,
    /// The installation and label.
    pub header: RunHeader,
    /// When it began.
    pub started: jiff::Timestamp,
    /// When it ended.
    pub finished: jiff::Timestamp,
    /// Whether all assets were asked for.
    pub scope: Scope,
    /// Whether everything is there.
    pub status: Status,
    /// All repositories written to, sorted.
    pub repositories: Vec<String>,
}

/// A backup that exists.
#[derive(Clone, Debug)]
pub struct CommittedBackup {
    /// Its envelope.
    pub envelope: Envelope,
    /// What is wrong with the repository's history.
    pub problems: Vec<String>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
    /// Bytes that the run added, manifest and envelope included.
    pub stored_bytes: u64,
}

impl<'a> SealedBackup<'a> {
    /// Finds the end of the chain, where the envelope will go.
    pub fn find_place(self) -> Result<PlacedBackup<'a>, RepositoryError> {
        let here = self.state.head(self.repository.document().repository)?;
        let writer = self.key.signing.id();
        let taken = self.repository.taken_sequences(writer)?;
        let known = here.as_ref().map(|head| head.sequence);
        let (newest, forged) = self.repository.newest_envelope(writer, &taken, known)?;
        Ok(PlacedBackup {
            backup: self,
            here,
            taken,
            newest,
            problems: forged,
        })
    }
}

/// A sealed backup, and the end of the chain as it was found.
pub struct PlacedBackup<'a> {
    backup: SealedBackup<'a>,
    /// What this host remembers.
    here: Option<Head>,
    taken: BTreeSet<u64>,
    newest: Option<StoredEnvelope>,
    problems: Vec<String>,
}

impl PlacedBackup<'_> {
    /// The number of the newest run that this repository or this host knows of.
    pub fn last_run(&self) -> u64 {
        let there = self.newest.as_ref();
        let there = there.map_or(0, |stored| stored.envelope.run);
        self.here.as_ref().map_or(0, |head| head.run).max(there)
    }

    /// Creates the envelope: from here on the backup exists.
    pub fn commit(mut self, run: &RunSummary) -> Result<CommittedBackup, RepositoryError> {
        let (sequence, previous) = self.next_link();
        self.problems.extend(self.clock_is_behind(run.finished));
        let Self {
            backup: mut this,
            problems,
            ..
        } = self;
        let writer = this.key.signing.id();
        let repository = this.repository.document().repository;
        let envelope = Envelope {
            format: crate::format::VERSION,
            repository,
            deployment: run.header.deployment.clone(),
            writer,
            sequence,
            previous,
            run: run.run,
            label: run.header.label.clone(),
            started: whole_seconds(run.started),
            finished: whole_seconds(run.finished),
            tool: run.header.tool.clone(),
            scope: run.scope,
            status: run.status,
            repositories: run.repositories.clone(),
            assets: this.assets,
            epoch: this.epoch,
            manifest: this.manifest,
            objects: this.objects.into_iter().collect(),
            lock_until: this.immutable_days.and_then(|days| {
                let hours = SignedDuration::from_hours(i64::from(days) * 24);
                whole_seconds(run.finished).checked_add(hours).ok()
            }),
        };
        let bytes = envelope.sign(&this.key.signing);
        let name = envelope.name();
        let storage = this.repository.storage();
        if storage.create(&name, &bytes)? == Put::AlreadyThere
            && storage.get(&name, limits::DOCUMENT_MAX)? != bytes
        {
            return Err(RepositoryError::Conflict { sequence });
        }
        let digest = Digest::of(&bytes);
        this.index.commit()?;
        let mut head = Head {
            repository,
            sequence,
            digest,
            run: run.run,
            writer,
            stored: None,
        };
        this.state.save_head(&head)?;
        // The backup exists; a storage that fails now costs no more than the next run's doubt about its objects.
        if let Ok(Some(stat)) = storage.stat(&name) {
            head.stored = stat.stored;
            this.state.save_head(&head)?;
        }
        this.state.save_memory(&this.memory)?;
        let stored_bytes = this.stored_bytes + bytes.len() as u64;
        Ok(CommittedBackup {
            envelope,
            problems,
            notes: this.notes,
            stored_bytes,
        })
    }

    /// Whether the newest backup here was taken later than it is now.
    fn clock_is_behind(&self, now: jiff::Timestamp) -> Option<String> {
        let newest = self.newest.as_ref()?.envelope.finished;
        (newest.duration_since(now) > CLOCK_TOLERANCE).then(|| {
            format!(
                "it is {now} by the clock of this host, and the newest backup here was taken at {newest}: was the clock \
                 wrong then, or is it now? Retention goes by these times"
            )
        })
    }

    /// The next free sequence number, and the digest of the newest envelope that holds or that this host remembers.
    ///
    /// What somebody else put into the chain is told and passed over: it stops no backup.
    fn next_link(&mut self) -> (u64, Option<Digest>) {
        let last = self.taken.last().copied().unwrap_or(0);
        let problems = &mut self.problems;
        let (before, previous) = match (&self.here, &self.newest) {
            (Some(head), _) if head.sequence > last => {
                problems.push(format!(
                    "the repository's history was rolled back: its newest envelope is {last}, \
                     this host has written {}",
                    head.sequence
                ));
                (head.sequence, Some(head.digest))
            }
            // Newer than what this host remembers: its state was lost.
            (Some(head), Some(newest)) if newest.envelope.sequence > head.sequence => {
                (newest.envelope.sequence, Some(newest.digest))
            }
            (Some(head), newest) => {
                let is_other = |newest: &StoredEnvelope| newest.digest != head.digest;
                if newest.as_ref().is_none_or(is_other) {
                    let name = ObjectName::envelope(head.writer, head.sequence);
                    problems.push(format!(
                        "{name} is not the envelope that this host has written"
                    ));
                }
                (head.sequence, Some(head.digest))
            }
            (None, Some(newest)) => (newest.envelope.sequence, Some(newest.digest)),
            (None, None) => (0, None),
        };
        let mut free = before + 1;
        while self.taken.contains(&free) {
            free += 1;
        }
        (free, previous)
    }
}
