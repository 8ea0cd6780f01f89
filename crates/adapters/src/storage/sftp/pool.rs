//! A few sessions, one request at a time each; a broken one is replaced by the next request.
//!
//! Few are opened at once, since sshd turns away many that have not logged in yet (`MaxStartups`, 10 where nobody changed it).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_core::cancel::Cancel;

use super::super::TransferLimits;
use super::super::remote::RequestError;
use super::session::Session;

/// How often one that waits for a session looks whether the operator interrupts.
const TICK: Duration = Duration::from_millis(200);
/// Sessions that are opened at once.
const OPENING_MAX: usize = 4;
/// The longest silence of a server, whatever patience is.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// The sessions of a storage.
pub(super) struct Pool {
    arguments: Vec<String>,
    most: usize,
    silence: Duration,
    cancel: Cancel,
    state: Mutex<State>,
    freed: Condvar,
    most_in_flight: AtomicUsize,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    /// Sessions that are open or being opened.
    open: usize,
    /// Those being opened.
    opening: usize,
}

impl Pool {
    pub(super) fn new(arguments: Vec<String>, limits: &TransferLimits, cancel: Cancel) -> Self {
        Self {
            arguments,
            most: limits.connections.max(1),
            silence: limits.patience.min(SILENCE_MAX),
            cancel,
            state: Mutex::default(),
            freed: Condvar::new(),
            most_in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::Relaxed)
    }

    /// Runs `work` with a session that nobody else uses; `greet` sees each new one first.
    pub(super) fn with<T>(
        &self,
        greet: impl FnOnce(&mut Session) -> Result<(), RequestError>,
        work: impl FnOnce(&mut Session) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let mut lent = self.lend(greet)?;
        let session = lent.session.as_mut().expect("lent with a session");
        let result = work(session);
        self.most_in_flight
            .fetch_max(session.most_in_flight(), Ordering::Relaxed);
        result
    }

    /// Opens one more session if there may be one, although others may be idle, and runs `work` with it.
    pub(super) fn open_another(
        &self,
        greet: impl FnOnce(&mut Session) -> Result<(), RequestError>,
        work: impl FnOnce(&mut Session) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        let state = lock(&self.state);
        if state.open >= self.most || state.opening >= OPENING_MAX {
            return Ok(());
        }
        let mut lent = self.open(state, greet)?;
        work(lent.session.as_mut().expect("lent with a session"))
    }

    fn lend(
        &self,
        greet: impl FnOnce(&mut Session) -> Result<(), RequestError>,
    ) -> Result<Lent<'_>, RequestError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(session) = state.idle.pop() {
                let session = Some(session);
                return Ok(Lent {
                    pool: self,
                    session,
                });
            }
            if state.open < self.most && state.opening < OPENING_MAX {
                break;
            }
            if self.cancel.check().is_err() {
                return Err(RequestError::transient("interrupted"));
            }
            let waited = self.freed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        self.open(state, greet)
    }

    fn open(
        &self,
        mut state: MutexGuard<'_, State>,
        greet: impl FnOnce(&mut Session) -> Result<(), RequestError>,
    ) -> Result<Lent<'_>, RequestError> {
        state.open += 1;
        state.opening += 1;
        drop(state);
        // Given back without a session when opening fails.
        let mut lent = Lent {
            pool: self,
            session: None,
        };
        let session = Session::start(&self.arguments, self.silence, &self.cancel);
        lock(&self.state).opening -= 1;
        self.freed.notify_one();
        let mut session = session?;
        greet(&mut session)?;
        lent.session = Some(session);
        Ok(lent)
    }
}

/// A session on loan.
struct Lent<'p> {
    pool: &'p Pool,
    session: Option<Session>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let session = self.session.take().filter(|one| !one.is_broken());
        // One that panicked in between has answers nobody fetched; they are known by their numbers.
        let mut state = lock(&self.pool.state);
        match session {
            Some(session) => state.idle.push(session),
            None => state.open -= 1,
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
