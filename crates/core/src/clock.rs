//! The clock, injected wherever the time matters.

use std::sync::Mutex;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time now, in UTC.
    fn now(&self) -> jiff::Timestamp;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the system"
    )]
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

/// A clock that stands still until it is set; for tests and the demonstration.
#[derive(Debug)]
pub struct FixedClock(Mutex<jiff::Timestamp>);

impl FixedClock {
    /// A clock that shows `time`.
    pub fn new(time: jiff::Timestamp) -> Self {
        Self(Mutex::new(time))
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, time: jiff::Timestamp) {
        *self.0.lock().expect("no panic under the lock") = time;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> jiff::Timestamp {
        *self.0.lock().expect("no panic under the lock")
    }
}

/// `time` in whole seconds, as the format writes it.
pub fn whole_seconds(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}
