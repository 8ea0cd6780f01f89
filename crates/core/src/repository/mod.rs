//! A repository: the objects of a storage, read and written as the format demands.
//!
//! [`Repository`] knows who may write and reads the chain of envelopes; [`writer`] stores a backup;
//! [`reader`] opens one. What the writing host remembers between runs is [`state`].

pub mod commit;
mod hashing;
pub mod index;
pub mod kept;
mod packer;
mod presence;
pub mod reader;
mod replaced;
pub mod state;
pub(crate) mod stream;
pub mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use hashing::update_zeros;
pub use kept::{ExpiryRecords, StoredHold};
pub use replaced::{Replaced, ReplacedSeen};

use crate::clock::{Clock, whole_seconds};
use crate::error_chain;
use crate::format::envelope::Envelope;
use crate::format::expiry::ExpiredRanges;
use crate::format::id::random;
use crate::format::name::{self, ObjectName};
use crate::format::repository_document::RepositoryDocument;
use crate::format::seal::{BoxedIdentity, EpochIdentity};
use crate::format::writer_key::WriterKey;
use crate::format::{Digest, FormatError, RepositoryId, WriterId, limits};
use crate::source::Class;
use crate::storage::{self, Put, Storage, StorageError};
use state::Head;

/// How many envelopes above the known ones are read at most, in search of one that holds.
const FORGERIES_READ: usize = 64;
/// How many problems of one kind are told one by one.
const PROBLEMS_TOLD: usize = 20;

/// An opened repository.
#[derive(Clone)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    document: RepositoryDocument,
    document_digest: Digest,
    /// Those of this and of all earlier revisions.
    all_recipients: BTreeSet<String>,
    /// The name of the copy that this is, if it is one.
    copy: Option<String>,
}

/// What a new repository shall be.
pub struct NewRepository {
    /// The installation that is protected.
    pub deployment: String,
    /// The repository's name in the configuration.
    pub name: String,
    /// Which classes it takes.
    pub accepts: Vec<Class>,
    /// To whom its epochs are sealed.
    pub recipients: Vec<String>,
}

/// An envelope as it is stored.
#[derive(Clone, Debug)]
pub struct StoredEnvelope {
    /// The envelope.
    pub envelope: Envelope,
    /// The digest of its stored bytes.
    pub digest: Digest,
    /// When it was stored, by the clock of the storage, where a list has told it.
    pub stored: Option<jiff::Timestamp>,
}

/// All backups of a repository, and what is wrong with its history.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The envelopes that hold, by writer and sequence number.
    pub backups: Vec<StoredEnvelope>,
    /// What does not: damaged, foreign, missing or rolled-back envelopes, a sentence each.
    pub problems: Vec<String>,
    /// Envelopes that are missing and were not let go; `problems` says so in words.
    pub missing: ExpiredRanges,
    /// How many problems there are besides missing envelopes; `problems` may not name them all.
    pub other_problems: usize,
    /// Envelopes that are there and cannot be read; `problems` says why.
    pub unreadable: usize,
    /// What is on record as let go.
    pub records: ExpiryRecords,
}

/// What a list of the stored objects shows.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What all backups need, in bytes.
    pub needed_bytes: u64,
    /// Objects that a backup needs and that are not there.
    pub missing: Vec<ObjectName>,
    /// Objects that have another size than was written.
    pub of_another_size: Vec<ObjectName>,
    /// Objects that no backup needs: of interrupted runs, of expired backups, or somebody else's.
    pub unneeded: u64,
    /// Their bytes.
    pub unneeded_bytes: u64,
    /// Objects that were stored after a backup that needs them, by what the storage says, and when.
    pub replaced: Replaced,
}

impl Repository {
    /// Makes a storage into a repository; refuses one that is one already.
    pub fn create(
        storage: Arc<dyn Storage>,
        new: NewRepository,
        key: &WriterKey,
        clock: &dyn Clock,
    ) -> Result<Self, RepositoryError> {
        let document = RepositoryDocument {
            format: crate::format::VERSION,
            repository: RepositoryId::from_bytes(random()?),
            revision: 1,
            previous: None,
            deployment: new.deployment,
            name: new.name,
            created: whole_seconds(clock.now()),
            accepts: new.accepts,
            recipients: new.recipients,
            writers: BTreeMap::from([(key.signing.id(), key.signing.verifying_key().to_base64())]),
        };
        Self::store_document(storage, document, key, BTreeSet::new())
    }

    /// Stores the next revision of the repository document, with other recipients.
    pub fn change_recipients(
        &self,
        recipients: Vec<String>,
        key: &WriterKey,
        clock: &dyn Clock,
    ) -> Result<Self, RepositoryError> {
        self.document.writer(key.signing.id())?;
        let document = RepositoryDocument {
            revision: self.document.revision + 1,
            previous: Some(self.document_digest),
            created: whole_seconds(clock.now()),
            recipients,
            ..self.document.clone()
        };
        let before = self.all_recipients.clone();
        Self::store_document(Arc::clone(&self.storage), document, key, before)
    }

    fn store_document(
        storage: Arc<dyn Storage>,
        document: RepositoryDocument,
        key: &WriterKey,
        mut all_recipients: BTreeSet<String>,
    ) -> Result<Self, RepositoryError> {
        all_recipients.extend(document.recipients.iter().cloned());
        let bytes = document.sign(&key.signing);
        match storage.create(&ObjectName::repository(document.revision), &bytes)? {
            Put::Stored => Ok(Self {
                storage,
                document,
                document_digest: Digest::of(&bytes),
                all_recipients,
                copy: None,
            }),
            Put::AlreadyThere => Err(RepositoryError::AlreadyThere {
                location: storage.location().to_owned(),
            }),
        }
    }

    /// Opens a repository and follows the revisions of its document.
    pub fn open(storage: Arc<dyn Storage>) -> Result<Self, RepositoryError> {
        let mut current: Option<(RepositoryDocument, Digest)> = None;
        let mut all_recipients = BTreeSet::new();
        for revision in 1.. {
            let name = ObjectName::repository(revision);
            let bytes = match storage.get(&name, limits::DOCUMENT_MAX) {
                Ok(bytes) => bytes,
                Err(StorageError::NotFound { .. }) => break,
                Err(error) => return Err(error.into()),
            };
            let before = current
                .as_ref()
                .map(|(document, digest)| (document, *digest));
            let document = RepositoryDocument::open(&bytes, before)
                .map_err(|error| RepositoryError::damaged(&name, error))?;
            all_recipients.extend(document.recipients.iter().cloned());
            current = Some((document, Digest::of(&bytes)));
        }
        let Some((document, document_digest)) = current else {
            let location = storage.location().to_owned();
            return Err(RepositoryError::NotARepository { location });
        };
        Ok(Self {
            storage,
            document,
            document_digest,
            all_recipients,
            copy: None,
        })
    }

    /// Opens a copy, which has the objects of its original and may have a retention of its own, by its name.
    pub fn open_copy(storage: Arc<dyn Storage>, name: &str) -> Result<Self, RepositoryError> {
        let opened = Self::open(storage)?;
        Ok(Self {
            copy: Some(name.to_owned()),
            ..opened
        })
    }

    /// The name of the copy that this is; none when backups are written to it.
    pub fn copy(&self) -> Option<&str> {
        self.copy.as_deref()
    }

    /// The repository's description.
    pub fn document(&self) -> &RepositoryDocument {
        &self.document
    }

    /// Everybody that an epoch of it was ever to be sealed to, by all revisions of its document.
    pub fn all_recipients(&self) -> &BTreeSet<String> {
        &self.all_recipients
    }

    /// Where it is kept.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    pub(crate) fn shared_storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Opens an epoch by one of its objects.
    pub(crate) fn open_epoch_object(
        &self,
        name: &ObjectName,
        identities: &[BoxedIdentity],
    ) -> Result<EpochIdentity, RepositoryError> {
        let sealed = self.storage.get(name, limits::EPOCH_MAX)?;
        if name.digest() != Some(Digest::of(&sealed)) {
            let error = FormatError::damaged("epoch identity", "its digest is not its name");
            return Err(RepositoryError::damaged(name, error));
        }
        EpochIdentity::open(&sealed, identities)
            .map_err(|error| RepositoryError::damaged(name, error))
    }

    /// Reads one stored envelope.
    pub fn envelope(&self, name: &ObjectName) -> Result<StoredEnvelope, RepositoryError> {
        let bytes = self.storage.get(name, limits::DOCUMENT_MAX)?;
        self.open_envelope(name, &bytes)
    }

    fn open_envelope(
        &self,
        name: &ObjectName,
        bytes: &[u8],
    ) -> Result<StoredEnvelope, RepositoryError> {
        let envelope = Envelope::open(bytes, name, &self.document)
            .map_err(|error| RepositoryError::damaged(name, error))?;
        Ok(StoredEnvelope {
            envelope,
            digest: Digest::of(bytes),
            stored: None,
        })
    }

    /// The sequence numbers that are taken in a writer's chain, whatever lies there.
    pub fn taken_sequences(&self, writer: WriterId) -> Result<BTreeSet<u64>, RepositoryError> {
        let mut taken = BTreeSet::new();
        self.storage
            .list(&format!("{}{writer}/", name::ENVELOPES), &mut |name, _| {
                taken.extend(name.envelope_parts().map(|(_, sequence)| sequence));
            })?;
        Ok(taken)
    }

    /// The newest envelope of a writer that holds. What lies above it without holding is told, a sentence each.
    ///
    /// `known` is a number that this host has written: should somebody have put a flood of forgeries above it, only
    /// some of them are read.
    pub fn newest_envelope(
        &self,
        writer: WriterId,
        taken: &BTreeSet<u64>,
        known: Option<u64>,
    ) -> Result<(Option<StoredEnvelope>, Vec<String>), RepositoryError> {
        let mut to_read: BTreeSet<u64> = BTreeSet::new();
        match known {
            None => to_read.clone_from(taken),
            Some(known) => {
                to_read.extend(taken.range(known..).take(FORGERIES_READ));
                to_read.extend(taken.range(known..).rev().take(FORGERIES_READ));
            }
        }
        let mut problems = Vec::new();
        for sequence in to_read.into_iter().rev() {
            match self.envelope(&ObjectName::envelope(writer, sequence)) {
                Ok(stored) => return Ok((Some(stored), problems)),
                Err(error @ RepositoryError::Damaged { .. }) => {
                    if problems.len() < PROBLEMS_TOLD {
                        problems.push(error_chain(&error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok((None, problems))
    }

    /// Holds names, sizes and times of the stored objects and epochs, learned by one list each, against what backups need.
    ///
    /// `head` is what this host remembers of the newest envelope; whoever stores that once more does not move its time.
    pub fn survey(
        &self,
        backups: &[StoredEnvelope],
        head: Option<&Head>,
    ) -> Result<Survey, RepositoryError> {
        struct Needed {
            size_bytes: Option<u64>,
            /// When the first backup that needs it was there.
            by: Option<jiff::Timestamp>,
        }
        let mut needed: BTreeMap<ObjectName, Needed> = BTreeMap::new();
        for stored in backups {
            let remembered = head.filter(|head| head.digest == stored.digest);
            let remembered = remembered.and_then(|head| head.stored);
            let earlier = |one: Option<jiff::Timestamp>, other: Option<jiff::Timestamp>| {
                one.into_iter().chain(other).min()
            };
            let by = earlier(stored.stored, remembered);
            for (name, size_bytes) in stored.envelope.needs() {
                let entry = needed.entry(name).or_insert(Needed { size_bytes, by });
                entry.by = earlier(entry.by, by);
            }
        }
        let sizes = needed.values().filter_map(|needed| needed.size_bytes);
        let mut survey = Survey {
            needed_bytes: sizes.sum(),
            ..Survey::default()
        };
        for prefix in [name::OBJECTS, name::EPOCHS] {
            self.storage.list(prefix, &mut |name, stat| {
                let Some(wanted) = needed.remove(&name) else {
                    // Custodians that come and go add identities of epochs which no envelope names.
                    if prefix == name::OBJECTS {
                        survey.unneeded += 1;
                        survey.unneeded_bytes += stat.size_bytes;
                    }
                    return;
                };
                if wanted
                    .size_bytes
                    .is_some_and(|size| size != stat.size_bytes)
                {
                    survey.of_another_size.push(name);
                } else if let Some(time) = stat.stored
                    && replaced::is_later(stat.stored, wanted.by)
                {
                    survey.replaced.insert(name, time);
                }
            })?;
        }
        survey.missing = needed.into_keys().collect();
        Ok(survey)
    }

    /// Reads the envelopes of known writers, several at a time.
    fn read_envelopes(
        &self,
        names: &[ObjectName],
    ) -> BTreeMap<ObjectName, Result<StoredEnvelope, RepositoryError>> {
        let is_known = |name: &&ObjectName| {
            let writer = name.envelope_parts().map(|(writer, _)| writer);
            writer.is_some_and(|writer| self.document.writer(writer).is_ok())
        };
        let names: Vec<ObjectName> = names.iter().filter(is_known).cloned().collect();
        let (threads, batches) = storage::batches(self.storage(), &names);
        let next = Mutex::new(batches);
        let read = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let batch = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(batch) = batch else { return };
                let mut visit = |name: &ObjectName, bytes: Result<Vec<u8>, StorageError>| {
                    let bytes = bytes.map_err(RepositoryError::from);
                    let envelope = bytes.and_then(|bytes| self.open_envelope(name, &bytes));
                    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                    read.insert(name.clone(), envelope);
                };
                self.storage
                    .get_each(batch, limits::DOCUMENT_MAX, &mut visit);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        read.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and checks every envelope and the chains that they form.
    pub fn catalogue(&self) -> Result<Catalogue, RepositoryError> {
        // An envelope is deleted once a record says so: listed in this order, none is missed without it.
        let mut names = Vec::new();
        let mut times = BTreeMap::new();
        self.storage.list(name::ENVELOPES, &mut |name, stat| {
            times.insert(name.clone(), stat.stored);
            names.push(name);
        })?;
        names.sort();
        let mut records = self.expiry_records()?;
        let expired = records.ranges();
        let mut catalogue = Catalogue {
            problems: std::mem::take(&mut records.problems),
            records,
            ..Catalogue::default()
        };
        let mut missing = Vec::new();
        let mut vanished = Vec::new();
        let mut before: Option<(WriterId, u64, Option<Digest>)> = None;
        let mut strangers: BTreeMap<WriterId, u64> = BTreeMap::new();
        let mut read = self.read_envelopes(&names);
        for name in names {
            let Some((writer, sequence)) = name.envelope_parts() else {
                catalogue
                    .problems
                    .push(format!("{name} is not the name of an envelope"));
                catalogue.unreadable += 1;
                continue;
            };
            if self.document.writer(writer).is_err() {
                // No signature of theirs counts: nothing is gained by reading them, whatever their number.
                *strangers.entry(writer).or_default() += 1;
                continue;
            }
            let last = before.filter(|(of, _, _)| *of == writer);
            let expected = last.map_or(1, |(_, sequence, _)| sequence + 1);
            if sequence > expected {
                for (first, last) in expired.uncovered(writer, expected, sequence - 1) {
                    catalogue
                        .problems
                        .push(missing_envelopes(writer, first, last));
                    missing.push((writer, first, last));
                }
            }
            match read.remove(&name).expect("all of known writers were read") {
                Ok(mut stored) => {
                    stored.stored = times.get(&name).copied().flatten();
                    let previous = last
                        .filter(|_| sequence == expected)
                        .and_then(|last| last.2);
                    if previous.is_some_and(|digest| stored.envelope.previous != Some(digest)) {
                        catalogue.problems.push(format!(
                            "{name} does not continue the envelope before it: \
                             one of the two was put there later"
                        ));
                    }
                    before = Some((writer, sequence, Some(stored.digest)));
                    catalogue.backups.push(stored);
                }
                // Let go since it was listed.
                Err(RepositoryError::Storage(StorageError::NotFound { .. })) => {
                    vanished.push((name, writer, sequence));
                    before = Some((writer, sequence, None));
                }
                Err(error @ RepositoryError::Damaged { .. }) => {
                    catalogue.problems.push(error_chain(&error));
                    catalogue.unreadable += 1;
                    before = Some((writer, sequence, None));
                }
                Err(error) => return Err(error),
            }
        }
        if !vanished.is_empty() {
            let now = self.expiry_records()?.ranges();
            for (name, writer, sequence) in vanished {
                if !now.covers(writer, sequence) {
                    let problem = missing_envelopes(writer, sequence, sequence);
                    catalogue
                        .problems
                        .push(format!("{problem}: {name} vanished while it was read"));
                    missing.push((writer, sequence, sequence));
                }
            }
        }
        let gaps = missing.len();
        catalogue.missing = ExpiredRanges::of_ranges(missing);
        let strangers = strangers.into_iter().map(|(writer, count)| {
            format!("{count} envelopes of writer {writer}, who may not write here: somebody else put them there")
        });
        // In front of what may be many.
        catalogue.problems.splice(0..0, strangers);
        catalogue.other_problems = catalogue.problems.len() - gaps;
        let more = catalogue.problems.len().saturating_sub(PROBLEMS_TOLD);
        if more > 0 {
            catalogue.problems.truncate(PROBLEMS_TOLD);
            catalogue.problems.push(format!("and {more} problems more"));
        }
        Ok(catalogue)
    }
}

fn missing_envelopes(writer: WriterId, first: u64, last: u64) -> String {
    if first == last {
        format!("envelope {first} of writer {writer} is missing")
    } else {
        format!("envelopes {first} to {last} of writer {writer} are missing")
    }
}

/// Why a repository could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is no repository at this place.
    #[error("{location} is not a Strongroom repository")]
    NotARepository {
        /// The storage's address.
        location: String,
    },
    /// There is one already.
    #[error("{location} is a Strongroom repository already")]
    AlreadyThere {
        /// The storage's address.
        location: String,
    },
    /// An object is not what it should be.
    #[error("object {name} is damaged")]
    Damaged {
        /// The object.
        name: ObjectName,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// Another run of the same writer has stored the next envelope.
    #[error("another run has just written envelope {sequence}")]
    Conflict {
        /// The sequence number that was taken.
        sequence: u64,
    },
    /// The configuration seals to others than the repository says.
    #[error("the recipients in the configuration are not those that the repository was made for")]
    RecipientsChanged,
    /// The writer key is not one of the repository's.
    #[error("writer {writer} may not write to this repository")]
    UnknownWriter {
        /// The writer of this host.
        writer: WriterId,
    },
    /// It was not opened, and whoever tried says why.
    #[error("the repository was not opened")]
    NotOpen,
    /// No backup has this label.
    #[error("no backup has the label {label}")]
    NoSuchBackup {
        /// What was asked for.
        label: String,
    },
    /// A file that the writer keeps failed.
    #[error("cannot {operation} {path}")]
    State {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Its error.
        #[source]
        source: std::io::Error,
    },
    /// The format's rules or the cryptographic library refused.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The operator interrupted.
    #[error(transparent)]
    Interrupted(#[from] crate::cancel::Interrupted),
}

impl RepositoryError {
    pub(crate) fn state(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::State {
            operation,
            path,
            source,
        }
    }

    /// Ties a format error to the object it was found in; what is not the object's fault stays what it is.
    pub(crate) fn damaged(name: &ObjectName, source: FormatError) -> Self {
        match source {
            FormatError::WrongIdentity { .. }
            | FormatError::IdentityRefused { .. }
            | FormatError::NewerVersion { .. } => Self::Format(source),
            source => Self::Damaged {
                name: name.clone(),
                source,
            },
        }
    }
}
