//! Repetition: exponential backoff with jitter, as long as patience lasts.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use strongroom_core::cancel::{Cancel, Interrupted};

use super::super::TransferLimits;
use super::RequestError;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// Repeats `attempt` while its errors are transient and patience lasts; the outer error is an interruption.
pub(in crate::storage) fn until_answered<T>(
    limits: &TransferLimits,
    cancel: &Cancel,
    attempt: impl Fn() -> Result<Result<T, RequestError>, Interrupted>,
) -> Result<Result<T, RequestError>, Interrupted> {
    let begun = Instant::now();
    let pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build();
    let mut answer = attempt()?;
    for pause in pauses {
        let Err(RequestError::Transient(error)) = &answer else {
            break;
        };
        if begun.elapsed() + pause > limits.patience {
            break;
        }
        tracing::info!(%error, ?pause, "asking again");
        super::pace::wait(pause, cancel)?;
        answer = attempt()?;
    }
    Ok(answer)
}
