//! Pace: so many bytes and requests a second, and no more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use strongroom_core::cancel::{Cancel, Interrupted};

use super::super::TransferLimits;

/// How soon an interruption is noticed.
const ATTENTION: Duration = Duration::from_millis(50);

/// When the next request may begin.
pub(super) struct Pace {
    sent: Meter,
    received: Meter,
    requests: Meter,
}

impl Pace {
    pub(super) fn new(limits: &TransferLimits) -> Self {
        let requests = limits.requests_per_second.map(u64::from);
        Self {
            sent: Meter::new(limits.upload_bytes_per_second),
            received: Meter::new(limits.download_bytes_per_second),
            requests: Meter::new(requests),
        }
    }

    /// Waits until one more request that sends so many bytes is within the limits.
    pub(super) fn before_request(
        &self,
        sent_bytes: u64,
        cancel: &Cancel,
    ) -> Result<(), Interrupted> {
        cancel.check()?;
        let pause = self.requests.take(1).max(self.sent.take(sent_bytes));
        wait(pause, cancel)
    }

    /// Waits as long as what has come took by the limit.
    pub(super) fn after_bytes(
        &self,
        received_bytes: u64,
        cancel: &Cancel,
    ) -> Result<(), Interrupted> {
        wait(self.received.take(received_bytes), cancel)
    }
}

/// Hands out what may be used in the order of asking.
struct Meter {
    per_second: Option<u64>,
    free_from: Mutex<Instant>,
}

impl Meter {
    fn new(per_second: Option<u64>) -> Self {
        Self {
            per_second,
            free_from: Mutex::new(Instant::now()),
        }
    }

    /// How long to wait before using `amount`.
    fn take(&self, amount: u64) -> Duration {
        let Some(per_second) = self.per_second else {
            return Duration::ZERO;
        };
        let nanoseconds = u128::from(amount) * 1_000_000_000 / u128::from(per_second.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut free_from = self
            .free_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let begin = (*free_from).max(now);
        *free_from = begin + takes;
        begin - now
    }
}

/// Waits, but not longer than the operator wants.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where storages wait between requests"
)]
pub(super) fn wait(pause: Duration, cancel: &Cancel) -> Result<(), Interrupted> {
    let until = Instant::now() + pause;
    loop {
        cancel.check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(ATTENTION));
    }
}
