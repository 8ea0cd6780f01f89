//! Moments drawn by lot, and programs that are killed at them.

use std::ffi::OsStr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Host, Random};

/// Lots by a seed that is the same unless `STRONGROOM_SEED` says otherwise.
pub(crate) fn random(seed: u64) -> Random {
    let seed = std::env::var("STRONGROOM_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(seed);
    eprintln!("STRONGROOM_SEED={seed}");
    Random(seed)
}

/// How long something takes.
pub(crate) fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Waits for a part of the usual time, rarely for a little more.
pub(crate) fn wait_within(usual: Duration, random: &mut Random) {
    let micros = u64::try_from(usual.as_micros()).expect("short");
    std::thread::sleep(Duration::from_micros(random.below(micros * 11 / 10)));
}

/// Starts the program; what it says is not heard.
pub(crate) fn start<A: AsRef<OsStr>>(host: &Host, arguments: &[A]) -> Child {
    host.command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// Runs a command, killed after a part of `usual`; true when it ended well before.
pub(crate) fn killed<A: AsRef<OsStr>>(
    host: &Host,
    arguments: &[A],
    usual: Duration,
    random: &mut Random,
) -> bool {
    let mut child = start(host, arguments);
    wait_within(usual, random);
    child.kill().expect("kills");
    child.wait().expect("ends").success()
}
