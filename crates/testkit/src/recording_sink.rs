//! A sink that keeps what a source pushes, fails where it is told to, and lets a test act in the middle of a stream.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use strongroom_core::cancel::Cancel;
use strongroom_core::format::Digest;
use strongroom_core::format::manifest::{Content, Stream};
use strongroom_core::source::{CaptureError, Chunking, Entry, Sink, StreamSummary, StreamWriter};
use strongroom_core::storage::StorageError;
use tempfile::TempDir;

/// Something that a source pushed.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its metadata.
    pub entry: Entry,
    /// The content with its holes filled; `None` for what has none.
    pub content: Option<Vec<u8>>,
    /// Where the holes are: offset and length.
    pub holes: Vec<(u64, u64)>,
    /// How the source asked for it to be cut.
    pub chunking: Option<Chunking>,
}

impl Recorded {
    /// What a manifest would say of it.
    pub fn stream(&self) -> Stream {
        let (entry, content) = (self.entry.clone(), self.content.as_deref());
        Stream {
            kind: entry.kind,
            path: entry.path,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user,
            group: entry.group,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
            target: entry.target,
            size: content.map(|content| content.len() as u64),
            sha256: content.map(Digest::of),
            content: content.map(|_| Content::Packed),
        }
    }
}

/// What a source does at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It begins stream number `stream`, counted from 0; discarded ones count.
    Begin {
        /// The stream.
        stream: usize,
    },
    /// It adds bytes or a hole; `offset` bytes were there before.
    Write {
        /// The stream.
        stream: usize,
        /// What it holds so far.
        offset: u64,
    },
    /// It ends the stream.
    Finish {
        /// The stream.
        stream: usize,
    },
    /// It records an entry without content.
    Entry,
}

type Hook = Box<dyn FnMut(Moment) + Send>;

/// Keeps entries and streams in memory.
pub struct RecordingSink {
    seen: Mutex<Seen>,
    hook: Mutex<Option<Hook>>,
    fail_at: Option<u64>,
    scratch: TempDir,
    memory: Option<serde_json::Value>,
    cancel: Cancel,
}

#[derive(Default)]
struct Seen {
    recorded: Vec<Recorded>,
    begun: usize,
    discarded: usize,
    calls: u64,
}

impl Default for RecordingSink {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordingSink {
    /// A sink with an empty scratch directory and no memory.
    pub fn new() -> Self {
        Self {
            seen: Mutex::default(),
            hook: Mutex::new(None),
            fail_at: None,
            scratch: tempfile::tempdir().expect("a temporary directory"),
            memory: None,
            cancel: Cancel::default(),
        }
    }

    /// Gives the source what an earlier capture left behind.
    pub fn set_memory(&mut self, memory: Option<serde_json::Value>) {
        self.memory = memory;
    }

    /// Lets call number `call` fail, counted from 0 over `entry`, `begin`, `write`, `hole` and `finish`.
    #[must_use]
    pub fn failing_at(mut self, call: u64) -> Self {
        self.fail_at = Some(call);
        self
    }

    /// Calls `hook` at each moment, before the sink acts on it.
    #[must_use]
    pub fn with_hook(self, hook: impl FnMut(Moment) + Send + 'static) -> Self {
        self.set_hook(hook);
        self
    }

    /// The same, for a sink that is in use already.
    pub fn set_hook(&self, hook: impl FnMut(Moment) + Send + 'static) {
        *self.hook.lock().expect("no panic under the lock") = Some(Box::new(hook));
    }

    /// The flag that interrupts the capture.
    pub fn cancel_flag(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Everything that was recorded, in order.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.seen().recorded.clone()
    }

    /// What was recorded under `path`, if it was recorded once.
    pub fn find(&self, path: impl AsRef<Path>) -> Option<Recorded> {
        let seen = self.seen();
        let mut found = seen
            .recorded
            .iter()
            .filter(|recorded| recorded.entry.path == path.as_ref());
        let first = found.next();
        assert!(found.next().is_none(), "recorded twice");
        first.cloned()
    }

    /// The content recorded under `path`.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        self.find(path)?.content
    }

    /// How many streams were discarded.
    pub fn discarded(&self) -> usize {
        self.seen().discarded
    }

    /// How many calls there were, for `for n in 0..calls`.
    pub fn calls(&self) -> u64 {
        self.seen().calls
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic under the lock")
    }

    fn call(&self, moment: Moment) -> Result<(), CaptureError> {
        if let Some(hook) = &mut *self.hook.lock().expect("no panic in a hook") {
            hook(moment);
        }
        let mut seen = self.seen();
        let number = seen.calls;
        seen.calls += 1;
        if self.fail_at == Some(number) {
            let why = std::io::Error::other("fault by script");
            return Err(StorageError::io("store", &"a stream", why).into());
        }
        Ok(())
    }
}

impl Sink for RecordingSink {
    fn entry(&self, entry: Entry) -> Result<(), CaptureError> {
        self.call(Moment::Entry)?;
        assert!(
            !entry.kind.has_content(),
            "{} has content",
            entry.path.display()
        );
        self.seen().recorded.push(Recorded {
            entry,
            content: None,
            holes: Vec::new(),
            chunking: None,
        });
        Ok(())
    }

    fn begin(&self, chunking: Chunking) -> Result<Box<dyn StreamWriter + '_>, CaptureError> {
        let stream = self.seen().begun;
        self.call(Moment::Begin { stream })?;
        self.seen().begun += 1;
        Ok(Box::new(RecordingStream {
            sink: self,
            stream,
            chunking,
            content: Vec::new(),
            holes: Vec::new(),
        }))
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    fn memory(&self) -> Option<&serde_json::Value> {
        self.memory.as_ref()
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

struct RecordingStream<'a> {
    sink: &'a RecordingSink,
    stream: usize,
    chunking: Chunking,
    content: Vec<u8>,
    holes: Vec<(u64, u64)>,
}

impl RecordingStream<'_> {
    fn moment(&self) -> Moment {
        Moment::Write {
            stream: self.stream,
            offset: self.content.len() as u64,
        }
    }
}

impl StreamWriter for RecordingStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.sink.call(self.moment())?;
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), CaptureError> {
        self.sink.call(self.moment())?;
        self.holes.push((self.content.len() as u64, length));
        let length = usize::try_from(length).expect("a test's hole fits into memory");
        self.content.resize(self.content.len() + length, 0);
        Ok(())
    }

    fn finish(self: Box<Self>, entry: Entry) -> Result<StreamSummary, CaptureError> {
        self.sink.call(Moment::Finish {
            stream: self.stream,
        })?;
        assert!(
            entry.kind.has_content(),
            "{} has no content",
            entry.path.display()
        );
        let summary = StreamSummary {
            sha256: Digest::of(&self.content),
            size_bytes: self.content.len() as u64,
        };
        self.sink.seen().recorded.push(Recorded {
            entry,
            content: Some(self.content),
            holes: self.holes,
            chunking: Some(self.chunking),
        });
        Ok(summary)
    }

    fn discard(self: Box<Self>) -> Result<(), CaptureError> {
        self.sink.seen().discarded += 1;
        Ok(())
    }
}
