//! Keeps the streams of one database together, though all databases are dumped at a time.

use std::sync::{Condvar, Mutex, PoisonError};

/// Keeps the streams of a database together: its streams end after those of the databases before it.
pub(super) struct Turns {
    done: Mutex<Vec<bool>>,
    changed: Condvar,
}

/// The turn of one database; over when it is dropped.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    number: usize,
}

impl Turns {
    pub(super) fn new(count: usize) -> Self {
        Self {
            done: Mutex::new(vec![false; count]),
            changed: Condvar::new(),
        }
    }

    /// The turn of database number `number`.
    pub(super) fn of(&self, number: usize) -> Turn<'_> {
        Turn {
            turns: self,
            number,
        }
    }
}

impl Turn<'_> {
    /// Waits until all databases before it are through.
    pub(super) fn wait(&self) {
        let done = self
            .turns
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .turns
            .changed
            .wait_while(done, |done| done[..self.number].contains(&false));
        drop(waited);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut done = self
            .turns
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        done[self.number] = true;
        self.turns.changed.notify_all();
    }
}
