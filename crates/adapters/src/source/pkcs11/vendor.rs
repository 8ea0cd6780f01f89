//! What the vendor's own procedure makes: run as a command, or taken from the file that it leaves, whose age is watched.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use strongroom_core::clock::{Clock, SystemClock};
use strongroom_core::source::{CaptureError, Chunking, Entry, Sink};

use super::paths;
use crate::client::Client;

/// How much is handed on at once, in bytes.
const BLOCK: usize = 64 << 10;

/// How the vendor's backup is had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VendorBackup {
    /// A program and its arguments, run without a shell; its standard output is the backup.
    pub command: Vec<String>,
    /// The file that the vendor's procedure leaves.
    pub file: Option<PathBuf>,
    /// After how many days that file is too old.
    pub max_age_days: Option<u32>,
}

impl VendorBackup {
    pub(super) fn is_none(&self) -> bool {
        self.command.is_empty() && self.file.is_none()
    }

    /// What is wrong with the file, if there is one: missing, empty, too old. And its age, in words.
    pub(super) fn look(&self) -> (Vec<String>, Option<String>) {
        let Some(file) = &self.file else {
            return (Vec::new(), None);
        };
        let path = file.display();
        let metadata = match std::fs::metadata(file) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return (vec![format!("the vendor's backup {path} is no file")], None),
            Err(error) => {
                return (
                    vec![format!(
                        "the vendor's backup {path} cannot be read: {error}"
                    )],
                    None,
                );
            }
        };
        if metadata.len() == 0 {
            return (vec![format!("the vendor's backup {path} is empty")], None);
        }
        let now = SystemClock.now().as_second();
        let days = now.saturating_sub(metadata.mtime()) / 86_400;
        let age = format!("the vendor's backup {path} is {days} days old");
        match self.max_age_days {
            Some(max) if days > i64::from(max) => (
                vec![format!(
                    "{age}, and may be {max}: run the vendor's procedure again"
                )],
                None,
            ),
            _ => (Vec::new(), Some(age)),
        }
    }

    /// Captures the file, or what the command says; what goes wrong with it is a problem.
    pub(super) fn capture(
        &self,
        token: &str,
        sink: &dyn Sink,
        problems: &mut Vec<String>,
    ) -> Result<Option<String>, CaptureError> {
        if let Some(file) = &self.file {
            let (found, _) = self.look();
            problems.extend(found);
            let Ok(mut from) = std::fs::File::open(file) else {
                return Ok(None);
            };
            let before = from.metadata().map_err(CaptureError::io("look at", file))?;
            let path = paths::vendor_backup(token);
            let stream = sink.begin(Chunking::Content)?;
            let copied = copy(&mut from, stream, &path, before.mtime(), sink);
            let copied = copied?.map_err(CaptureError::io("read", file))?;
            let after = std::fs::metadata(file).map_err(CaptureError::io("look at", file))?;
            let same = |metadata: &std::fs::Metadata| {
                let time = (metadata.mtime(), metadata.mtime_nsec());
                (metadata.len(), metadata.ino(), time)
            };
            if same(&before) != same(&after) || copied != before.len() {
                problems.push(format!(
                    "the vendor's backup {} was changed while it was read",
                    file.display()
                ));
            }
            return Ok(Some(path));
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return Ok(None);
        };
        let mut running = match Client::default().start(program, arguments) {
            Ok(running) => running,
            Err(error) => {
                problems.push(failed(&error));
                return Ok(None);
            }
        };
        drop(running.stdin());
        let mut output = running.stdout();
        let stream = sink.begin(Chunking::Content)?;
        let path = paths::vendor_backup(token);
        let now = SystemClock.now().as_second();
        match copy(&mut output, stream, &path, now, sink)? {
            Err(source) => {
                problems.push(failed(&running.broken("read from", source)));
                Ok(None)
            }
            Ok(length) => {
                if let Err(error) = running.finish() {
                    problems.push(failed(&error));
                } else if length == 0 {
                    problems.push(format!("vendor_backup: {program} has written nothing"));
                }
                Ok(Some(path))
            }
        }
    }
}

fn failed(error: &crate::client::ClientError) -> String {
    let chain = strongroom_core::error_chain(error);
    format!("the vendor's backup was not made: {chain}")
}

/// Copies to the end into a stream; the inner error is that of reading, after which the stream is forgotten.
fn copy(
    from: &mut dyn std::io::Read,
    mut stream: Box<dyn strongroom_core::source::StreamWriter + '_>,
    path: &str,
    seconds: i64,
    sink: &dyn Sink,
) -> Result<std::io::Result<u64>, CaptureError> {
    let mut block = vec![0; BLOCK];
    let mut from = std::io::BufReader::with_capacity(BLOCK, from);
    loop {
        sink.cancel().check()?;
        match from.read(&mut block) {
            Ok(0) => break,
            Ok(length) => stream.write(&block[..length])?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                stream.discard()?;
                return Ok(Err(error));
            }
        }
    }
    let summary = stream.finish(Entry::dump(path, seconds))?;
    Ok(Ok(summary.size_bytes))
}
