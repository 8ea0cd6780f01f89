//! Reads one file into a stream, so that what is captured is what the file held at one moment.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;
use strongroom_core::cancel::{Cancel, Interrupted};
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::{CaptureError, Chunking, Sink, StreamSummary, StreamWriter};
use zeroize::Zeroizing;

use super::attributes::{self, Place};
use super::findings::{Findings, Quoted};
use super::key_proof::{KEY_MAX, KeyProof, Tee};
use super::secrets::{OnSecret, sentence};
use super::select::Selection;
use super::walk::{TellingNames, Visit, name};
use crate::secret_scan::{Scanner, is_telling};
use crate::source::entry::{self, Names};

/// How much is read at once, in bytes.
const BLOCK: usize = 256 << 10;
/// How often a file that changes is read in all.
const ATTEMPTS: u8 = 3;

/// What reads one file after another into the same buffer.
pub(super) struct FileReader {
    buffer: Zeroizing<Vec<u8>>,
    pub(super) names: Names,
    /// Files of this asset only grow.
    pub(super) is_append_only: bool,
    /// Small files are kept while they are read, for the proof of keys.
    pub(super) keeps_small_files: bool,
    /// Looks for secrets in assets whose class is not for them, and what follows when there are some.
    pub(super) scan: Option<(Scanner, OnSecret)>,
    /// By which other names files are judged; known once the first file with several names comes.
    telling: Option<TellingNames>,
}

/// A file that is in the backup now.
pub(super) struct Captured {
    /// From the moment of the capture.
    pub(super) metadata: Metadata,
    pub(super) summary: StreamSummary,
    /// Whether there are secrets in it, which stay.
    pub(super) holds_secrets: bool,
    /// The bytes captured, where they were asked for.
    pub(super) kept: Tee,
}

/// Why a file is not in the backup.
pub(super) enum NotCaptured {
    /// It could not be opened.
    Open(io::Error),
    /// It holds a secret and goes to another asset, which has been said.
    Redirected,
    /// It holds a secret and is left out, which has been said.
    Refused,
    /// Another sentence, which has been said.
    Said,
}

/// What became of a file when it was looked at for secrets.
enum Judged {
    /// There are none.
    Clean,
    /// There are some, and it stays.
    Stays,
    /// It does not stay.
    Out(NotCaptured),
}

enum Read {
    Whole,
    Changed,
}

impl FileReader {
    pub(super) fn new(
        is_append_only: bool,
        keeps_small_files: bool,
        on_secret: Option<OnSecret>,
    ) -> Self {
        Self {
            buffer: Zeroizing::new(vec![0; BLOCK]),
            names: Names::read(),
            is_append_only,
            keeps_small_files,
            scan: on_secret.map(|on_secret| (Scanner::default(), on_secret)),
            telling: None,
        }
    }

    /// Before a file is read: finds out its other names, where it has some and secrets are looked for.
    pub(super) fn know_names(
        &mut self,
        visit: &Visit,
        selection: &Selection,
        cancel: &Cancel,
    ) -> Result<(), Interrupted> {
        let has_several = visit.metadata.is_file() && visit.metadata.nlink() > 1;
        if has_several && self.scan.is_some() && self.telling.is_none() {
            self.telling = Some(TellingNames::of(selection, cancel)?);
        }
        Ok(())
    }

    /// Whether a file that was captured under another name was judged by this one, too; not where the name came since.
    pub(super) fn has_judged(&self, visit: &Visit) -> bool {
        let is_known = |names: &TellingNames| names.get(&visit.metadata).contains(&visit.path);
        self.scan.is_none()
            || !is_telling(name(&visit.path))
            || self.telling.as_ref().is_some_and(is_known)
    }

    /// Looks for secrets in a file and stores nothing; false when it cannot be read, or changes.
    pub(super) fn look(
        &mut self,
        path: &Path,
        cancel: &Cancel,
        findings: &mut Findings,
    ) -> Result<bool, CaptureError> {
        let Ok((file, before)) = open(path) else {
            return Ok(false);
        };
        if !before.is_file() {
            return Ok(false);
        }
        self.begin_scan(path, &before);
        match self.copy(&file, &before, None, &mut Tee::default(), cancel) {
            Err(Failed::Sink(error)) => Err(error),
            Err(Failed::File(_)) | Ok(Read::Changed) => Ok(false),
            Ok(Read::Whole) => {
                self.judge(path, &before, findings);
                Ok(true)
            }
        }
    }

    /// Whether files are looked at before anything of them is stored: what was given to a packed stream may be in a repository
    /// when the stream is discarded. Artifacts are stored when they are finished.
    fn looks_first(&self) -> bool {
        self.is_append_only && matches!(self.scan, Some((_, OnSecret::Refuse)))
    }

    fn begin_scan(&mut self, path: &Path, metadata: &Metadata) {
        if let Some((scanner, _)) = &mut self.scan {
            scanner.begin(name(path));
            for other in others(self.telling.as_ref(), path, metadata) {
                scanner.also_called(name(other));
            }
        }
    }

    /// Ends the search for secrets in a file, and says what was found.
    fn judge(&mut self, path: &Path, metadata: &Metadata, findings: &mut Findings) -> Judged {
        let Some((scanner, on_secret)) = &mut self.scan else {
            return Judged::Clean;
        };
        let report = scanner.finish();
        if report.is_empty() {
            return Judged::Clean;
        }
        let other = others(self.telling.as_ref(), path, metadata).next();
        let sentence = sentence(path, other, &report, on_secret);
        match on_secret {
            OnSecret::Refuse => {
                findings.problem(sentence);
                Judged::Out(NotCaptured::Refused)
            }
            OnSecret::Redirect { .. } => {
                findings.note(sentence);
                Judged::Out(NotCaptured::Redirected)
            }
            OnSecret::Allow { .. } | OnSecret::Note => {
                findings.note(sentence);
                Judged::Stays
            }
        }
    }

    /// Captures a file, and lets `proof` look at it before it is kept; an error is the sink's or the operator's.
    pub(super) fn capture(
        &mut self,
        path: &Path,
        sink: &dyn Sink,
        findings: &mut Findings,
        proof: Option<&mut KeyProof>,
    ) -> Result<Result<Captured, NotCaptured>, CaptureError> {
        let cancel = sink.cancel().clone();
        for _ in 0..ATTEMPTS {
            let (file, before) = match open(path) {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(NotCaptured::Open(error))),
            };
            if !before.is_file() {
                // Replaced since it was listed.
                continue;
            }
            if self.looks_first() {
                self.begin_scan(path, &before);
                match self.copy(&file, &before, None, &mut Tee::default(), &cancel) {
                    Err(Failed::Sink(error)) => return Err(error),
                    // The capture itself finds out what is wrong.
                    Err(Failed::File(_)) | Ok(Read::Changed) => {}
                    Ok(Read::Whole) => {
                        if let Judged::Out(why) = self.judge(path, &before, findings) {
                            return Ok(Err(why));
                        }
                    }
                }
            }
            let mut stream = sink.begin(Chunking::Content)?;
            self.begin_scan(path, &before);
            let mut kept = Tee::new(self.keeps_small_files, before.len());
            let read = self.copy(&file, &before, Some(stream.as_mut()), &mut kept, &cancel);
            let read = match read {
                Err(Failed::Sink(error)) => return Err(error),
                Err(Failed::File(error)) => {
                    stream.discard()?;
                    findings.problem(format!("{}: cannot be read: {error}", Quoted(path)));
                    return Ok(Err(NotCaptured::Said));
                }
                Ok(read) => read,
            };
            let mut own_findings = Findings::default();
            let xattrs = attributes::xattrs(Place::Open(&file), path, &mut own_findings);
            if matches!(read, Read::Changed) || !self.is_same(&file, path, &before) {
                stream.discard()?;
                continue;
            }
            let judged = self.judge(path, &before, findings);
            if let Judged::Out(why) = judged {
                stream.discard()?;
                return Ok(Err(why));
            }
            if let Some(proof) = proof
                && let Err(why) = proof.look_at(path, &kept)
            {
                stream.discard()?;
                findings.problem(format!("{}: {why}", Quoted(path)));
                return Ok(Err(NotCaptured::Said));
            }
            let kind = StreamKind::File;
            let entry = entry::describe(&self.names, kind, path, &before, xattrs, None);
            let summary = stream.finish(entry)?;
            findings.append(own_findings);
            return Ok(Ok(Captured {
                metadata: before,
                summary,
                holds_secrets: matches!(judged, Judged::Stays),
                kept,
            }));
        }
        findings.problem(format!(
            "{}: changed while it was read, {ATTEMPTS} times; it is not in this backup",
            Quoted(path)
        ));
        Ok(Err(NotCaptured::Said))
    }

    fn copy(
        &mut self,
        file: &File,
        before: &Metadata,
        mut stream: Option<&mut (dyn StreamWriter + '_)>,
        kept: &mut Tee,
        cancel: &Cancel,
    ) -> Result<Read, Failed> {
        let length = before.len();
        let is_sparse = before.blocks().saturating_mul(512) < length;
        let mut offset = 0;
        while offset < length {
            let (data, end) = if is_sparse {
                next_data(file, offset, length).map_err(Failed::File)?
            } else {
                (offset, length)
            };
            if data > offset {
                cancel.check().map_err(CaptureError::from)?;
                if let Some(stream) = &mut stream {
                    stream.hole(data - offset)?;
                }
                kept.hole(data - offset);
                if let Some((scanner, _)) = &mut self.scan {
                    scanner.hole(data - offset);
                }
            }
            offset = data;
            while offset < end {
                let read = self.block(file, offset, end - offset, &mut stream, kept, cancel)?;
                if read == 0 {
                    return Ok(Read::Changed);
                }
                offset += read;
            }
        }
        // Files of /proc and /sys say that they are empty and are not.
        while length == 0 && !self.is_append_only {
            let read = self.block(file, offset, u64::MAX, &mut stream, kept, cancel)?;
            if read == 0 {
                break;
            }
            offset += read;
        }
        Ok(Read::Whole)
    }

    fn block(
        &mut self,
        file: &File,
        offset: u64,
        most: u64,
        stream: &mut Option<&mut (dyn StreamWriter + '_)>,
        kept: &mut Tee,
        cancel: &Cancel,
    ) -> Result<u64, Failed> {
        cancel.check().map_err(CaptureError::from)?;
        let length = usize::try_from(most).unwrap_or(BLOCK).min(BLOCK);
        loop {
            match file.read_at(&mut self.buffer[..length], offset) {
                Ok(0) => return Ok(0),
                Ok(read) => {
                    if let Some(stream) = stream {
                        stream.write(&self.buffer[..read])?;
                    }
                    kept.write(&self.buffer[..read]);
                    if let Some((scanner, _)) = &mut self.scan {
                        scanner.write(&self.buffer[..read]);
                    }
                    return Ok(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failed::File(error)),
            }
        }
    }

    /// Whether nothing happened to the file since `before`, as far as this asset cares.
    fn is_same(&self, file: &File, path: &Path, before: &Metadata) -> bool {
        let (Ok(open), Ok(named)) = (file.metadata(), path.symlink_metadata()) else {
            return false;
        };
        let stamp = |metadata: &Metadata| {
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            (
                metadata.dev(),
                metadata.ino(),
                metadata.len(),
                modified,
                changed,
            )
        };
        let inode = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        if self.is_append_only {
            inode(&named) == inode(before) && open.len() >= before.len()
        } else {
            stamp(&open) == stamp(before) && stamp(&named) == stamp(before)
        }
    }
}

/// The names besides `path` by which a file is judged.
fn others<'n>(
    telling: Option<&'n TellingNames>,
    path: &Path,
    metadata: &Metadata,
) -> impl Iterator<Item = &'n Path> {
    let names = telling.map_or(&[][..], |telling| telling.get(metadata));
    names
        .iter()
        .map(PathBuf::as_path)
        .filter(move |name| *name != path)
}

enum Failed {
    File(io::Error),
    Sink(CaptureError),
}

impl From<CaptureError> for Failed {
    fn from(error: CaptureError) -> Self {
        Self::Sink(error)
    }
}

/// Opens a file without following a link, waiting for a pipe or, where that is allowed, touching its access time.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let open = |flags: OFlags| {
        OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
    };
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(flags | OFlags::NOATIME) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => open(flags)?,
        other => other?,
    };
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Reads a small file whole, into memory that is wiped; `None` when it is longer than a key can be.
pub(super) fn read_small(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Followed, unlike what is captured: a certificate is often a link to the current one.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    // One byte more shows a file that is too long.
    let mut bytes = Zeroizing::new(vec![0; KEY_MAX + 1]);
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok((filled <= KEY_MAX).then_some(bytes))
}

/// The next stretch of data at or after `offset`: where it begins and where it ends, both at most `length`.
fn next_data(file: &File, offset: u64, length: u64) -> io::Result<(u64, u64)> {
    let data = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data.min(length),
        Err(Errno::NXIO) => return Ok((length, length)),
        // The file system cannot tell: all is data.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok((offset, length)),
        Err(error) => return Err(error.into()),
    };
    if data == length {
        return Ok((length, length));
    }
    match rustix::fs::seek(file, SeekFrom::Hole(data)) {
        // Filled or punched since: the rest is read as it is.
        Ok(end) if end <= data => Ok((data, length)),
        Ok(end) => Ok((data, end.min(length))),
        Err(Errno::NXIO) => Ok((data, length)),
        Err(error) => Err(error.into()),
    }
}
