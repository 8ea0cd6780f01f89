//! Files and directories as they lie on the disk: keys, secrets, configuration, certificates, logs.
//!
//! - [`select`] turns patterns into roots, [`walk`] goes through them in order, [`read`] takes a file at one
//!   moment, [`attributes`] takes what else the file system knows of it.
//! - [`key_proof`] lets the private keys of an asset sign, and holds them against their certificates.
//! - [`secrets`] keeps files with secrets out of assets that are not for them.
//! - [`inspect`] looks without reading.
//!
//! Nothing is followed, nothing is written, and whatever could not be taken is said.
//!
//! A change is noticed by size, times and inode. Kernels before Linux 6.13 count time in steps of some milliseconds: a
//! file that is changed twice within one step, and read in between, looks the same.

mod attributes;
mod certificates;
mod findings;
mod inspect;
mod key_proof;
mod password;
mod read;
mod restore;
mod secrets;
mod select;
mod walk;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::{Clock as _, SystemClock};
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{
    Capture, CaptureError, Class, Inspection, SecretsSeen, Sink, Source,
};

use super::entry;
use attributes::Place;
use certificates::Certificates;
use findings::{Findings, Quoted};
use key_proof::KeyProof;
use password::Asked;
use read::{Captured, FileReader, NotCaptured};
use secrets::Redirected;
use select::Selection;
use walk::{FirstNames, Visit, Walk};

pub use password::KeyPasswords;
pub use restore::FilesRestorer;
pub use secrets::OnSecret;

/// The name of this kind of source.
const KIND: &str = "files";
/// The setting `key_password` that has the password asked for.
pub const ASK: &str = "ask";
/// How long a file may be to be looked at for secrets before a backup, in bytes; a backup looks at all.
const LOOKED_AT_MAX: u64 = 16 << 20;

/// What a files asset covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesSettings {
    /// Absolute paths; directories count with all that is below them. `*`, `?`, `[...]`, `{a,b}` match within
    /// one component, hidden names too, and `**` matches any number of directories.
    pub paths: Vec<String>,
    /// What is left out, with all below it: absolute patterns, or names and ends of paths at any depth.
    pub exclude: Vec<String>,
    /// The certificate that every private key of the asset must belong to, PEM or DER.
    pub certificate: Option<PathBuf>,
    /// The file whose first line is the password of the encrypted keys.
    pub key_password_file: Option<PathBuf>,
    /// The class of the asset.
    pub class: Class,
    /// What follows when a file holds a secret; none to look for none.
    pub on_secret: Option<OnSecret>,
}

impl FilesSettings {
    /// Settings without excludes, certificate and password.
    pub fn new(paths: Vec<String>, class: Class) -> Self {
        Self {
            paths,
            exclude: Vec::new(),
            certificate: None,
            key_password_file: None,
            on_secret: OnSecret::default_of(class),
            class,
        }
    }

    /// Whether the asset covers a path, going by names alone: it need not exist.
    pub fn covers(&self, path: &Path) -> bool {
        select::covers_by_name(&self.paths, &self.exclude, path)
    }
}

/// Captures files and directories.
///
/// Facts: `files`, `directories`, `symlinks`, `hardlinks`, `excluded` (counts), `bytes` (of the content of files), and
/// `key` when there is a certificate: `proved` and, where that is false, the `reason`; `keys` (their number), and of the
/// certificate `algorithm`, `spki_sha256`, `certificate_subject`, `not_before`, `not_after`. For class `certificate`, when
/// all files could be looked at: `certificates` with `count`, `crls`, `last_not_after` and `set_sha256`. For class `key`: `private_keys`,
/// each with `file`, `format`, `algorithm`, `spki_sha256`, `encrypted` and `proved`.
/// Where files hold secrets: `secrets`, the numbers of those `in_this_asset`, `left_out` and `redirected`, and where the latter went,
/// `redirected_to`.
#[derive(Clone)]
pub struct FilesSource {
    settings: FilesSettings,
    redirected: Redirected,
    /// The asset whose redirected files this source reads, in place of what the settings select.
    part_of: Option<String>,
    /// Who knows the password of the encrypted keys, when no file has it.
    asked: Option<Asked>,
}

impl FilesSource {
    /// A source for these settings; what is wrong with them is a problem of each capture and inspection.
    pub fn new(settings: FilesSettings) -> Self {
        Self {
            settings,
            redirected: Redirected::default(),
            part_of: None,
            asked: None,
        }
    }

    /// The same, as the asset of this name; the password of its keys is asked for once one turns out to be encrypted.
    #[must_use]
    pub fn asking(mut self, name: &str, passwords: Arc<dyn KeyPasswords>) -> Self {
        self.asked = Some(Asked {
            asset: name.to_owned(),
            passwords,
        });
        self
    }

    fn proof(&self) -> Option<KeyProof> {
        let settings = &self.settings;
        if settings.class != Class::Key && settings.certificate.is_none() {
            return None;
        }
        let mut proof = KeyProof::new(settings.certificate.as_deref());
        if let Some(path) = &settings.key_password_file {
            read_password(&mut proof, path, path);
        }
        if let Some(asked) = &self.asked {
            proof.ask(asked.clone());
        }
        Some(proof)
    }

    /// The source of an asset of class `secret` that takes what this one redirects. It is captured after this one, in the
    /// same run.
    #[must_use]
    pub fn of_redirected(&self, name: &str) -> Self {
        Self {
            settings: FilesSettings {
                certificate: None,
                key_password_file: None,
                class: Class::Secret,
                on_secret: None,
                ..self.settings.clone()
            },
            redirected: self.redirected.clone(),
            part_of: Some(name.to_owned()),
            asked: None,
        }
    }

    fn select(&self, findings: &mut Findings) -> Selection {
        Selection::new(&self.settings.paths, &self.settings.exclude, findings)
    }
}

impl Source for FilesSource {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> Value {
        let mut settings = json!({
            "paths": self.settings.paths,
            "exclude": self.settings.exclude,
        });
        if let Some(certificate) = &self.settings.certificate {
            settings["certificate"] = certificate.to_string_lossy().into();
        }
        if let Some(file) = &self.settings.key_password_file {
            settings["key_password_file"] = file.to_string_lossy().into();
        }
        if self.asked.is_some() {
            settings["key_password"] = ASK.into();
        }
        if let Some(on_secret) = &self.settings.on_secret {
            on_secret.describe(&mut settings);
        }
        if let Some(whole) = &self.part_of {
            settings["redirected_from"] = whole.as_str().into();
        }
        settings
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        if let Some(whole) = &self.part_of {
            return Ok(Inspection {
                about: Some(format!("files of the asset {whole} that hold secrets")),
                ..Inspection::default()
            });
        }
        let mut findings = Findings::default();
        let selection = self.select(&mut findings);
        Ok(inspect::inspect(&self.settings, &selection, findings))
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let mut findings = Findings::default();
        let selection = if let Some(whole) = &self.part_of {
            let Some(paths) = self.redirected.get() else {
                let problem = format!(
                    "the asset {whole} was not captured in this run, and which of its files hold secrets is not known"
                );
                return Ok(Capture {
                    problems: vec![problem],
                    ..Capture::default()
                });
            };
            Selection::exactly(paths)
        } else {
            self.redirected.set(None);
            self.select(&mut findings)
        };
        let proof = self.proof();
        let keeps_small_files = proof.is_some() || self.settings.class == Class::Certificate;
        let mut capturer = Capturer {
            reader: FileReader::new(
                self.settings.class.is_append_only(),
                keeps_small_files,
                self.settings.on_secret.clone(),
            ),
            counts: Counts::default(),
            first_names: FirstNames::default(),
            findings,
            proof,
            redirected: Vec::new(),
            secrets: secrets::Counts::default(),
            certificates: (self.settings.class == Class::Certificate).then(Certificates::default),
        };
        let mut walk = Walk::new(&selection);
        while let Some(visit) = walk.next(&mut capturer.findings) {
            sink.cancel().check()?;
            walk::note_links(&visit, &selection, &mut capturer.findings);
            let reader = &mut capturer.reader;
            reader.know_names(&visit, &selection, sink.cancel())?;
            capturer.take(&visit, sink)?;
        }
        capturer.counts.excluded = walk.excluded;
        if self.part_of.is_none() {
            let redirected = std::mem::take(&mut capturer.redirected);
            self.redirected.set(Some(redirected));
        }
        Ok(capturer.finish(SystemClock.now()))
    }

    fn look_for_secrets(&self, cancel: &Cancel) -> Result<Option<SecretsSeen>, CaptureError> {
        let Some(on_secret) = &self.settings.on_secret else {
            return Ok(None);
        };
        // Of a log only what would be left out matters before the backup.
        if self.settings.class.is_append_only() && *on_secret != OnSecret::Refuse {
            return Ok(None);
        }
        let mut seen = SecretsSeen::default();
        let mut said = Findings::default();
        let mut found = Findings::default();
        let selection = self.select(&mut said);
        let is_append_only = self.settings.class.is_append_only();
        let mut reader = FileReader::new(is_append_only, false, Some(on_secret.clone()));
        let mut first_names = FirstNames::default();
        let mut walk = Walk::new(&selection);
        while let Some(visit) = walk.next(&mut said) {
            cancel.check()?;
            if !visit.metadata.is_file() || first_names.get(&visit.metadata).is_some() {
                continue;
            }
            first_names.insert(&visit.metadata, &visit.path);
            reader.know_names(&visit, &selection, cancel)?;
            if visit.metadata.len() > LOOKED_AT_MAX {
                seen.too_long += 1;
            } else if reader.look(&visit.path, cancel, &mut found)? {
                seen.files += 1;
            }
        }
        (seen.problems, seen.notes) = found.into_parts();
        Ok(Some(seen))
    }
}

#[derive(Default)]
struct Counts {
    files: u64,
    directories: u64,
    symlinks: u64,
    hardlinks: u64,
    excluded: u64,
    bytes: u64,
}

/// One capture.
struct Capturer {
    reader: FileReader,
    counts: Counts,
    first_names: FirstNames,
    findings: Findings,
    proof: Option<KeyProof>,
    certificates: Option<Certificates>,
    secrets: secrets::Counts,
    redirected: Vec<PathBuf>,
}

impl Capturer {
    fn take(&mut self, visit: &Visit, sink: &dyn Sink) -> Result<(), CaptureError> {
        let kind = visit.metadata.file_type();
        if kind.is_dir() {
            self.entry(visit, StreamKind::Directory, None, sink)?;
            self.counts.directories += 1;
        } else if kind.is_symlink() {
            match std::fs::read_link(&visit.path) {
                Ok(target) => {
                    self.entry(visit, StreamKind::Symlink, Some(target), sink)?;
                    self.counts.symlinks += 1;
                }
                Err(error) => self.not_opened(visit, &error),
            }
        } else if !kind.is_file() {
            walk::skip_special(visit, &mut self.findings);
        } else if let Some(first) = self.first_name(visit) {
            self.entry(visit, StreamKind::Hardlink, Some(first), sink)?;
            self.counts.hardlinks += 1;
        } else {
            let path = &visit.path;
            let proof = self.proof.as_mut();
            match self.reader.capture(path, sink, &mut self.findings, proof)? {
                Ok(captured) => self.captured(visit, &captured),
                Err(NotCaptured::Open(error)) => self.not_opened(visit, &error),
                Err(NotCaptured::Said) => {}
                Err(NotCaptured::Refused) => self.secrets.refused += 1,
                Err(NotCaptured::Redirected) => {
                    self.secrets.redirected += 1;
                    self.redirected.push(path.clone());
                }
            }
        }
        Ok(())
    }

    /// The name under which this file is in the backup already, and stays there also by the name that it is visited under.
    fn first_name(&self, visit: &Visit) -> Option<PathBuf> {
        let first = self.first_names.get(&visit.metadata);
        let first = first.filter(|_| self.reader.has_judged(visit));
        first.map(Path::to_owned)
    }

    fn captured(&mut self, visit: &Visit, captured: &Captured) {
        self.counts.files += 1;
        self.secrets.allowed += u64::from(captured.holds_secrets);
        self.counts.bytes += captured.summary.size_bytes;
        // A name that came between the visit and the capture was not judged.
        if visit.metadata.nlink() > 1 {
            self.first_names.insert(&captured.metadata, &visit.path);
        }
        if let Some(certificates) = &mut self.certificates {
            certificates.look_at(&captured.kept);
        }
    }

    fn entry(
        &mut self,
        visit: &Visit,
        kind: StreamKind,
        target: Option<PathBuf>,
        sink: &dyn Sink,
    ) -> Result<(), CaptureError> {
        let path = &visit.path;
        // A hard link's attributes are those of the file that it links to.
        let xattrs = if kind == StreamKind::Hardlink {
            std::collections::BTreeMap::new()
        } else {
            attributes::xattrs(Place::Path(path), path, &mut self.findings)
        };
        let names = &self.reader.names;
        let entry = entry::describe(names, kind, path, &visit.metadata, xattrs, target);
        sink.entry(entry)
    }

    fn not_opened(&mut self, visit: &Visit, error: &io::Error) {
        if error.kind() == io::ErrorKind::NotFound {
            walk::missing(&visit.path, visit.root.as_ref(), error, &mut self.findings);
        } else {
            self.findings.problem(format!(
                "{}: cannot be opened: {error}",
                Quoted(&visit.path)
            ));
        }
    }

    fn finish(mut self, now: Timestamp) -> Capture {
        let counts = &self.counts;
        let mut facts = json!({
            "files": counts.files,
            "directories": counts.directories,
            "symlinks": counts.symlinks,
            "hardlinks": counts.hardlinks,
            "excluded": counts.excluded,
            "bytes": counts.bytes,
        });
        if let Some(certificates) = self.certificates.take().and_then(Certificates::facts) {
            facts["certificates"] = certificates;
        }
        let on_secret = self.reader.scan.as_ref().map(|(_, on_secret)| on_secret);
        if let Some(secrets) = on_secret.and_then(|on_secret| self.secrets.facts(on_secret)) {
            facts["secrets"] = secrets;
        }
        if let Some(mut proof) = self.proof.take() {
            if let Some(path) = proof.missing_certificate().map(Path::to_owned) {
                read_certificate(&mut proof, &path);
            }
            let verdict = proof.finish(now);
            if let Some(key) = verdict.key {
                facts["key"] = key;
            }
            if !verdict.private_keys.is_empty() {
                facts["private_keys"] = verdict.private_keys.into();
            }
            for problem in verdict.problems {
                self.findings.problem(problem);
            }
            for note in verdict.notes {
                self.findings.note(note);
            }
        }
        let (problems, notes) = self.findings.into_parts();
        Capture {
            facts,
            problems,
            notes,
            memory: None,
        }
    }
}

/// Reads the certificate from the file system.
fn read_certificate(proof: &mut KeyProof, path: &Path) {
    match read::read_small(path) {
        Ok(Some(bytes)) => proof.take_certificate(&bytes),
        Ok(None) => proof.no_certificate("it is longer than 1 MiB"),
        Err(error) => proof.no_certificate(&error.to_string()),
    }
}

/// Reads the password `path` from where it lies now.
fn read_password(proof: &mut KeyProof, path: &Path, place: &Path) {
    match read::read_small(place) {
        Ok(Some(content)) => proof.take_password(path, Ok(&content)),
        Ok(None) => proof.take_password(path, Err("it is longer than 1 MiB")),
        Err(error) => proof.take_password(path, Err(&error.to_string())),
    }
}
