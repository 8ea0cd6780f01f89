//! Uploads at work at the same time: `put` hands over, `flush` waits for all of them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Sender, bounded};
use strongroom_core::storage::StorageError;

/// What one of the threads is to do.
pub(super) enum Job {
    /// Make ready for what will be put.
    ConnectAhead,
    /// Store bytes under a key.
    Put(String, Bytes),
}

/// A few threads that store objects.
pub(super) struct Uploads {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: usize,
    failure: Option<StorageError>,
}

impl Uploads {
    /// Starts `threads` of them; `work` is called from all at once.
    pub(super) fn start(
        threads: usize,
        work: impl Fn(&Job) -> Result<(), StorageError> + Clone + Send + 'static,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        // Nothing waits between the threads and who puts: memory holds one object a thread, and one more.
        let (sender, receiver) = bounded::<Job>(0);
        let threads = (0..threads.max(1))
            .map(|_| {
                let (receiver, progress, work) =
                    (receiver.clone(), Arc::clone(&progress), work.clone());
                std::thread::Builder::new()
                    .name("upload".into())
                    .spawn(move || {
                        for job in receiver {
                            let counted = Counted(&progress);
                            // After a failure the rest would only take time.
                            if !progress.has_failed()
                                && let Err(error) = work(&job)
                            {
                                progress.lock().failure.get_or_insert(error);
                            }
                            drop(counted);
                        }
                    })
                    .expect("the system can start a thread")
            })
            .collect();
        Self {
            jobs: Some(sender),
            threads,
            progress,
        }
    }

    /// Hands over an object; waits while all threads are at work. Reports an earlier failure.
    pub(super) fn send(&self, key: &str, bytes: Bytes) -> Result<(), StorageError> {
        if self.progress.has_failed() {
            return self.flush();
        }
        self.hand_over(Job::Put(key.to_owned(), bytes));
        Ok(())
    }

    /// Lets one thread make ready for what will be put.
    pub(super) fn connect_ahead(&self) {
        self.hand_over(Job::ConnectAhead);
    }

    fn hand_over(&self, job: Job) {
        self.progress.lock().waiting += 1;
        let jobs = self.jobs.as_ref().expect("open until dropped");
        jobs.send(job).expect("the threads live as long as this");
    }

    /// Waits for everything handed over, and reports the first failure since the last report.
    pub(super) fn flush(&self) -> Result<(), StorageError> {
        let mut state = self.progress.lock();
        while state.waiting > 0 {
            state = self
                .progress
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.failure.take().map_or(Ok(()), Err)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic there is told by the panic itself.
            let _ = thread.join();
        }
    }
}

impl Progress {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }
}

/// Counts an object as done when it is dropped; as failed when a panic drops it.
struct Counted<'p>(&'p Progress);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting -= 1;
        if std::thread::panicking() {
            let why = std::io::Error::other("the thread that stores it has panicked");
            let failure = StorageError::io("store", &"an object", why);
            state.failure.get_or_insert(failure);
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_drops_is_not_stored() {
        let uploads = Uploads::start(2, |job| match job {
            Job::Put(key, _) if key == "bad" => panic!("on purpose"),
            _ => Ok(()),
        });
        uploads.send("good", Bytes::new()).expect("is taken");
        uploads.flush().expect("is stored");
        uploads.send("bad", Bytes::new()).expect("is taken");
        let error = uploads.flush().expect_err("its thread is gone");
        assert!(matches!(error, StorageError::Io { .. }), "{error:?}");
    }
}
