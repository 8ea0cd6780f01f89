//! Carries out plans: the only part of the engine that changes anything, and that decides nothing.

pub mod backup;
pub mod beneath;
pub mod copy;
pub mod expire;
pub mod lock;
mod observed;
mod prove;
pub mod repair;
pub mod reseal;
pub mod restore;
mod transfer;
pub mod verify;

use std::time::Duration;

pub use prove::prove_source;

/// What happens while a long run works.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A part of the run begins: an asset, a phase.
    Begin {
        /// Its name.
        name: &'a str,
        /// What will be done, in a word or two.
        what: &'a str,
        /// How many bytes it will take, where that is known.
        size_bytes: Option<u64>,
    },
    /// Bytes of the current part were worked on.
    Bytes(u64),
    /// The part that began last has ended.
    End {
        /// Its name.
        name: &'a str,
    },
}

/// Hears what happens; called from several threads.
pub trait Observer: Sync {
    /// Takes one event.
    fn event(&self, event: Event<'_>);
}

/// Hears nothing.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Measures a part of a run.
#[derive(Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The same in seconds.
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }
}
