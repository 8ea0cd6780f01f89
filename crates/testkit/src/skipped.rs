//! Tests that cannot run here, and say so.

#![expect(
    clippy::disallowed_methods,
    reason = "the test kit reads how tests are run"
)]

use std::io::Write as _;

/// Says that a test could not run, where `./test` lists it at its end.
pub fn skip(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(file) = std::env::var_os("STRONGROOM_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file);
        let _ = file.and_then(|mut file| writeln!(file, "{test}: {why}"));
    }
}
