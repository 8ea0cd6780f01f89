//! Reads stored backups back, level by level (docs/format.md, section 9).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::restore::FindRestorer;
use super::{Event, Observer, Stopwatch};
use crate::cancel::Cancel;
use crate::error_chain;
use crate::format::envelope::{Envelope, Status};
use crate::format::id::Hasher;
use crate::format::manifest::{Asset, AssetResult};
use crate::format::name::ObjectName;
use crate::format::seal::BoxedIdentity;
use crate::private_file;
use crate::repository::reader::{BackupReader, Item, ManifestItems};
use crate::repository::{Repository, RepositoryError};
use crate::source::{Class, RestoredAsset};
use crate::storage::{Storage, StorageError};

/// How much is read at once, in bytes.
const READ: usize = 512 << 10;

/// How thoroughly a backup was looked at; each level includes those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Stored bytes match their digests.
    L1,
    /// Everything decrypts.
    L2,
    /// Everything decodes in full to what was captured.
    L3,
    /// The assets agree with each other and with the facts.
    L4,
}

impl Level {
    /// `L1` to `L4`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a verification needs.
pub struct VerifyJob<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// Its name.
    pub name: &'a str,
    /// The backups to verify.
    pub backups: Vec<&'a Envelope>,
    /// How thoroughly.
    pub level: Level,
    /// What opens them; none is needed for L1.
    pub identities: &'a [BoxedIdentity],
    /// A private directory for what is decoded; keys and secrets never reach it.
    pub scratch: &'a Path,
    /// Finds the proofs of L4.
    pub restorers: FindRestorer<'a>,
    /// Stops the run.
    pub cancel: &'a Cancel,
    /// Hears of it.
    pub observer: &'a dyn Observer,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Each backup.
    pub backups: Vec<VerifiedBackup>,
    /// How many objects were read for L1.
    pub objects: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How long L1 took.
    pub l1_seconds: f64,
    /// The objects that are damaged, and why.
    pub damaged: BTreeMap<ObjectName, String>,
    /// The objects whose stored bytes are what they were.
    pub whole: Vec<ObjectName>,
}

/// What was found about one backup.
#[derive(Clone, Debug)]
pub struct VerifiedBackup {
    /// Its label.
    pub label: crate::format::Label,
    /// The highest level that it reached.
    pub level: Option<Level>,
    /// Why not a higher one.
    pub problems: Vec<String>,
    /// What was shown to hold, and what could not be looked at.
    pub notes: Vec<String>,
}

/// Verifies backups of one repository. Damage is in the report; an error means that it could not be looked at.
pub fn verify(job: &VerifyJob<'_>) -> Result<VerifyReport, RepositoryError> {
    let watch = Stopwatch::start();
    let (damage, bytes, objects) = verify_objects(job)?;
    let all: BTreeSet<ObjectName> = job
        .backups
        .iter()
        .flat_map(|envelope| envelope.needs().map(|(name, _)| name))
        .collect();
    let is_whole = |name: &ObjectName| !damage.contains_key(name);
    let mut report = VerifyReport {
        objects,
        bytes,
        l1_seconds: watch.seconds(),
        whole: all.into_iter().filter(is_whole).collect(),
        damaged: damage.clone().into_iter().collect(),
        ..VerifyReport::default()
    };
    for envelope in &job.backups {
        let mut backup = VerifiedBackup {
            label: envelope.label.clone(),
            level: None,
            problems: envelope
                .needs()
                .filter_map(|(name, _)| Some(format!("object {name}: {}", damage.get(&name)?)))
                .collect(),
            notes: Vec::new(),
        };
        if backup.problems.is_empty() {
            backup.level = Some(Level::L1);
            if job.level > Level::L1 {
                verify_inside(job, envelope, &mut backup)?;
            }
        }
        report.backups.push(backup);
    }
    Ok(report)
}

/// What is wrong with each damaged object; bytes and objects read.
type Damage = (HashMap<ObjectName, String>, u64, u64);

fn verify_objects(job: &VerifyJob<'_>) -> Result<Damage, RepositoryError> {
    let mut wanted: BTreeMap<ObjectName, Option<u64>> = BTreeMap::new();
    let mut damage = HashMap::new();
    for envelope in &job.backups {
        for (name, size) in envelope.needs() {
            let known = wanted.entry(name.clone()).or_insert(size);
            if *known != size {
                damage.insert(name.clone(), "two backups disagree on its size".to_owned());
            }
        }
    }
    let size_bytes = Some(wanted.values().flatten().sum());
    job.observer.event(Event::Begin {
        name: job.name,
        what: "verify stored bytes",
        size_bytes,
    });
    let objects = wanted.len() as u64;
    let next = Mutex::new(wanted.into_iter());
    let damage = Mutex::new(damage);
    let failure = Mutex::new(None);
    let bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers = job.repository.storage().readers().clamp(1, 8);
        for _ in 0..workers {
            scope.spawn(|| {
                let mut block = vec![0; READ];
                loop {
                    if failure.lock().expect("no panic under the lock").is_some() {
                        return;
                    }
                    let work = next.lock().expect("no panic under the lock").next();
                    let Some((name, size)) = work else { return };
                    match verify_object(job, &name, size, &mut block) {
                        Ok(Ok(length)) => drop(bytes.fetch_add(length, Ordering::Relaxed)),
                        Ok(Err(why)) => {
                            let mut damage = damage.lock().expect("no panic under the lock");
                            damage.insert(name.clone(), why);
                        }
                        Err(error) => {
                            let mut failure = failure.lock().expect("no panic under the lock");
                            failure.get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    job.observer.event(Event::End { name: job.name });
    if let Some(error) = failure.into_inner().expect("no panic under the lock") {
        return Err(error);
    }
    let damage = damage.into_inner().expect("no panic under the lock");
    Ok((damage, bytes.into_inner(), objects))
}

/// The object's length, or what is wrong with it.
fn verify_object(
    job: &VerifyJob<'_>,
    name: &ObjectName,
    size: Option<u64>,
    block: &mut [u8],
) -> Result<Result<u64, String>, RepositoryError> {
    let storage: &dyn Storage = job.repository.storage();
    let mut reader = match storage.open(name) {
        Ok(reader) => reader,
        Err(StorageError::NotFound { .. }) => return Ok(Err("it is missing".to_owned())),
        Err(error) if error.is_of_object() => return Ok(Err(error_chain(&error))),
        // That a storage does not answer says nothing of what it holds.
        Err(error) => return Err(error.into()),
    };
    let mut hasher = Hasher::new();
    let mut length = 0;
    loop {
        job.cancel.check()?;
        let read = match reader.read(block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let error = StorageError::of_reader(name, error);
                if error.is_of_object() {
                    return Ok(Err(error_chain(&error)));
                }
                return Err(error.into());
            }
        };
        hasher.update(&block[..read]);
        length += read as u64;
        job.observer.event(Event::Bytes(read as u64));
    }
    if let Some(size) = size.filter(|size| *size != length) {
        return Ok(Err(format!("it has {length} bytes, {size} were written")));
    }
    if Some(hasher.finish()) == name.digest() {
        Ok(Ok(length))
    } else {
        Ok(Err(
            "its digest is not its name: the bytes were changed".to_owned()
        ))
    }
}

/// L2 and above. A wrong identity is an error, everything else a problem of the backup.
fn verify_inside(
    job: &VerifyJob<'_>,
    envelope: &Envelope,
    backup: &mut VerifiedBackup,
) -> Result<(), RepositoryError> {
    let name = envelope.label.as_str();
    job.observer.event(Event::Begin {
        name,
        what: "verify content",
        size_bytes: None,
    });
    let mut inside = Inside {
        job,
        reader: BackupReader::open(job.repository, envelope, job.identities)?,
        level: Level::L2,
        certificates: BTreeMap::new(),
        held: Vec::new(),
        backup,
    };
    let outcome = inside.run();
    job.observer.event(Event::End { name });
    match outcome {
        Ok(()) => inside.backup.level = Some(inside.level),
        Err(error @ (RepositoryError::Interrupted(_) | RepositoryError::State { .. })) => {
            return Err(error);
        }
        Err(RepositoryError::Storage(error)) if !error.is_of_object() => return Err(error.into()),
        Err(error) => inside.backup.problems.push(error_chain(&error)),
    }
    Ok(())
}

/// A decoded file, gone when it is dropped.
struct Decoded {
    file: File,
    path: PathBuf,
    on_disk: bool,
}

impl Drop for Decoded {
    fn drop(&mut self) {
        if self.on_disk {
            // The scratch directory is emptied by the next run in any case.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

struct Inside<'i, 'a> {
    job: &'i VerifyJob<'a>,
    reader: BackupReader<'a>,
    level: Level,
    /// Certificates stay until the end, for the keys that come after them.
    certificates: BTreeMap<PathBuf, PathBuf>,
    held: Vec<Decoded>,
    backup: &'i mut VerifiedBackup,
}

impl Inside<'_, '_> {
    fn run(&mut self) -> Result<(), RepositoryError> {
        let mut manifest = self.reader.manifest()?;
        if self.job.level == Level::L2 {
            let damaged = |error| self.reader.manifest_error(error);
            while manifest.next_item().map_err(damaged)?.is_some() {}
            for (object, size) in &self.reader.envelope().objects {
                self.job.cancel.check()?;
                self.reader.decrypt(*object)?;
                self.job.observer.event(Event::Bytes(*size));
            }
            return Ok(());
        }
        let mut proved = true;
        let mut current: Option<(Asset, BTreeMap<PathBuf, PathBuf>)> = None;
        let mut files = Vec::new();
        while let Some(item) = self.next(&mut manifest)? {
            match item {
                Item::Asset(asset) => current = Some((asset, BTreeMap::new())),
                Item::Stream(stream, runs) => {
                    let Some((asset, places)) = &mut current else {
                        continue;
                    };
                    if !stream.kind.has_content() {
                        continue;
                    }
                    let decoded = self.decoded(asset.class, files.len() + self.held.len())?;
                    let observer = self.job.observer;
                    let on_bytes = |bytes| observer.event(Event::Bytes(bytes));
                    let (file, cancel) = (&decoded.file, self.job.cancel);
                    self.reader.write_content(
                        &stream,
                        &runs,
                        manifest.packs(),
                        file,
                        cancel,
                        &on_bytes,
                    )?;
                    if self.job.level < Level::L4 {
                        continue;
                    }
                    places.insert(stream.path.clone(), decoded.path.clone());
                    if asset.class == Class::Certificate {
                        self.certificates.insert(stream.path, decoded.path.clone());
                        self.held.push(decoded);
                    } else {
                        files.push(decoded);
                    }
                }
                Item::Result(result) => {
                    let Some((asset, places)) = current.take() else {
                        continue;
                    };
                    if self.job.level >= Level::L4 {
                        proved &= self.prove(&asset, &result, &places);
                    }
                    files.clear();
                }
            }
        }
        self.level = if self.job.level >= Level::L4 && proved {
            Level::L4
        } else {
            Level::L3
        };
        Ok(())
    }

    fn next(
        &self,
        manifest: &mut ManifestItems<impl std::io::BufRead>,
    ) -> Result<Option<Item>, RepositoryError> {
        manifest
            .next_item()
            .map_err(|error| self.reader.manifest_error(error))
    }

    /// A file to decode to: for keys and secrets in memory, for the rest on disk.
    fn decoded(&self, class: Class, number: usize) -> Result<Decoded, RepositoryError> {
        if class.is_secret() {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let failed = RepositoryError::state("decode into", Path::new("memory"));
            let file = rustix::fs::memfd_create("strongroom", flags)
                .map_err(|error| failed(error.into()))?;
            let file = File::from(file);
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            return Ok(Decoded {
                file,
                path,
                on_disk: false,
            });
        }
        let path = self.job.scratch.join(format!("verify-{number}"));
        let file = private_file::create_or_truncate(&path)
            .map_err(RepositoryError::state("create", &path))?;
        Ok(Decoded {
            file,
            path,
            on_disk: true,
        })
    }

    fn prove(
        &mut self,
        asset: &Asset,
        result: &AssetResult,
        files: &BTreeMap<PathBuf, PathBuf>,
    ) -> bool {
        let name = &asset.name;
        let Some(restorer) = (self.job.restorers)(&asset.source) else {
            let note = format!(
                "asset {name}: this program has no proof for {}",
                asset.source
            );
            self.backup.notes.push(note);
            return false;
        };
        let mut all_files = self.certificates.clone();
        all_files.extend(files.clone());
        let (settings, facts) = (&asset.settings, &result.facts);
        let restored = RestoredAsset {
            name,
            settings,
            facts,
            files,
            all_files: &all_files,
        };
        match restorer.prove(&restored) {
            Ok(proof) => {
                let mut lines = BTreeSet::new();
                lines.extend(proof.shown);
                lines.extend(proof.notes);
                self.backup
                    .notes
                    .extend(lines.iter().map(|line| format!("asset {name}: {line}")));
                let failures = proof.failures.iter();
                self.backup
                    .problems
                    .extend(failures.map(|why| format!("asset {name}: {why}")));
                proof.failures.is_empty() && result.status == Status::Complete
            }
            Err(error) => {
                self.backup
                    .problems
                    .push(format!("asset {name}: {}", error_chain(&error)));
                false
            }
        }
    }
}
