//! The thread that makes objects durable, so that nobody waits for an fsync but `flush`.
//!
//! All its state is its own: jobs come through a bounded channel in order, and a flush is a job that is answered.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{Put, StorageError};

use super::temporary::Temporary;

/// How many files wait to become durable before `put` waits, too.
const QUEUE: usize = 8;

/// Something to do, in order.
pub(super) enum Job {
    /// Gives a written file its name.
    Publish {
        /// The file.
        temporary: Temporary,
        /// Its name.
        name: ObjectName,
    },
    /// Remembers that the directory of this path must be synced.
    Touch(PathBuf),
    /// Makes everything before it durable, and answers.
    Flush {
        /// How many failures had been reported when the flush began.
        reported: u64,
        /// Where the answer goes.
        answer: Sender<Result<(), Failure>>,
    },
}

/// The caller's side of the thread, which starts with the first job.
pub(super) struct Writer {
    root: PathBuf,
    thread: Mutex<Option<Thread>>,
    /// How many failures were reported by a flush. A flush that began before a report sees the same failure.
    reported: Arc<AtomicU64>,
}

struct Thread {
    jobs: SyncSender<Job>,
    handle: JoinHandle<()>,
}

impl Writer {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            thread: Mutex::default(),
            reported: Arc::default(),
        }
    }

    /// Hands a job over; waits while the queue is full.
    pub(super) fn send(&self, job: Job) -> Result<(), StorageError> {
        let sender = self.sender()?;
        sender.send(job).map_err(|_| self.ended())
    }

    /// Waits until everything sent before is durable.
    pub(super) fn flush(&self) -> Result<(), StorageError> {
        if self.lock().is_none() {
            return Ok(());
        }
        let (answer, answered) = channel();
        let reported = self.reported.load(Ordering::SeqCst);
        self.send(Job::Flush { reported, answer })?;
        match answered.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure.into_error()),
            Err(_) => Err(self.ended()),
        }
    }

    fn sender(&self) -> Result<SyncSender<Job>, StorageError> {
        let mut thread = self.lock();
        if let Some(thread) = thread.as_ref() {
            return Ok(thread.jobs.clone());
        }
        let (jobs, received) = sync_channel(QUEUE);
        let state = State {
            root: self.root.clone(),
            reported: Arc::clone(&self.reported),
            failures: self.reported.load(Ordering::SeqCst),
            failure: None,
            touched: Touched::default(),
        };
        let handle = std::thread::Builder::new()
            .name("local storage".to_owned())
            .spawn(move || state.run(&received))
            .map_err(|source| StorageError::io("start", &"the writing thread", source))?;
        *thread = Some(Thread {
            jobs: jobs.clone(),
            handle,
        });
        Ok(jobs)
    }

    /// The thread panicked: what it had is lost, which the caller is told; the next job starts another.
    fn ended(&self) -> StorageError {
        let mut thread = self.lock();
        if thread
            .as_ref()
            .is_some_and(|thread| thread.handle.is_finished())
        {
            *thread = None;
        }
        let why = io::Error::other("the thread that writes ended");
        StorageError::io("store", &"what was put since the last flush", why)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Thread>> {
        self.thread.lock().expect("no panic under the lock")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let thread = self.thread.get_mut().ok().and_then(Option::take);
        if let Some(Thread { jobs, handle }) = thread {
            drop(jobs);
            let _ = handle.join();
        }
    }
}

/// What the thread knows.
struct State {
    root: PathBuf,
    reported: Arc<AtomicU64>,
    /// How many failures there were.
    failures: u64,
    /// The first since the last report.
    failure: Option<Failure>,
    touched: Touched,
}

impl State {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Publish { temporary, name } => {
                    if let Err(source) = self.publish(temporary, &name) {
                        self.fail(Failure::new("store", name.to_string(), source));
                    }
                }
                Job::Touch(path) => self.touched.add(&path),
                Job::Flush { reported, answer } => {
                    let result = self.flush(reported);
                    // Nobody waits any more when the caller panicked.
                    let _ = answer.send(result);
                }
            }
        }
    }

    fn publish(&mut self, temporary: Temporary, name: &ObjectName) -> io::Result<()> {
        let path = self.root.join(name.as_str());
        let size_bytes = temporary.size_bytes()?;
        if temporary.publish(&self.root, &path, &mut self.touched)? == Put::AlreadyThere {
            let metadata = std::fs::symlink_metadata(&path)?;
            if !metadata.is_file() || metadata.len() != size_bytes {
                return Err(super::of_another_size());
            }
        }
        Ok(())
    }

    fn flush(&mut self, reported: u64) -> Result<(), Failure> {
        if let Err(failure) = self.touched.sync_all() {
            self.fail(failure);
        }
        if self.failures == reported {
            return Ok(());
        }
        self.reported.store(self.failures, Ordering::SeqCst);
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn fail(&mut self, failure: Failure) {
        if self.failures == self.reported.load(Ordering::SeqCst) {
            self.failure = Some(failure);
        }
        self.failures += 1;
    }
}

/// Directories that must be synced before a flush may return.
#[derive(Default)]
pub(super) struct Touched(BTreeSet<PathBuf>);

impl Touched {
    /// Remembers the directory that holds `path`.
    pub(super) fn add(&mut self, path: &Path) {
        if let Some(parent) = path.parent()
            && !self.0.contains(parent)
        {
            self.0.insert(parent.to_owned());
        }
    }

    /// Syncs them, and forgets each that was.
    pub(super) fn sync(mut self) -> Result<(), StorageError> {
        self.sync_all().map_err(Failure::into_error)
    }

    fn sync_all(&mut self) -> Result<(), Failure> {
        // The deepest first: a directory is whole before its name lasts.
        while let Some(directory) = self.0.last() {
            match std::fs::File::open(directory).and_then(|file| file.sync_all()) {
                // Removed since, with everything in it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    let name = directory.display().to_string();
                    return Err(Failure::new("sync", name, source));
                }
                Ok(()) => {}
            }
            self.0.pop_last();
        }
        Ok(())
    }
}

/// An error that several callers may be told.
#[derive(Clone)]
pub(super) struct Failure {
    operation: &'static str,
    name: String,
    source: Arc<io::Error>,
}

impl Failure {
    fn new(operation: &'static str, name: String, source: io::Error) -> Self {
        Self {
            operation,
            name,
            source: Arc::new(source),
        }
    }

    fn into_error(self) -> StorageError {
        let source = match self.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        StorageError::io(self.operation, &self.name, source)
    }
}
