//! Secrets that tests plant, and what programs printed: `./test` looks at its end for the one in the other.
//!
//! A test looks into the output of its own runs, for its own secrets. Only a search over everything finds what one test planted
//! and another one printed, and what a panic printed.

#![expect(
    clippy::disallowed_methods,
    reason = "the test kit reads how tests are run"
)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The shortest secret that is looked for: shorter ones would be found by chance.
pub const LENGTH_MIN: usize = 16;

/// A text that programs may print, and that `./test` must find again in what they printed: so it knows that it looks at everything.
pub const MARKER: &str = "marker-9e0d3c5b7a1f4826-is-found";

/// Remembers a secret that nothing may ever print. Longer secrets are planted line by line.
pub fn plant(secret: &str) {
    assert!(
        secret.len() >= LENGTH_MIN && !secret.contains(['\n', '\r']),
        "a canary is one line, of {LENGTH_MIN} bytes at least"
    );
    if let Some(file) = std::env::var_os("STRONGROOM_CANARIES") {
        append(Path::new(&file), format!("{secret}\n").as_bytes());
    }
}

/// Keeps what a program printed, for the search at the end. `what` says in one line what was run.
pub fn printed(what: &str, output: &[&[u8]]) {
    let Some(directory) = std::env::var_os("STRONGROOM_OUTPUTS") else {
        return;
    };
    // One file a process, and one write a run: tests run side by side.
    let file = PathBuf::from(directory).join(std::process::id().to_string());
    let mut text = format!("== {}\n", what.replace('\n', " ")).into_bytes();
    for part in output {
        text.extend_from_slice(part);
        text.push(b'\n');
    }
    append(&file, &text);
}

fn append(file: &Path, bytes: &[u8]) {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    let written = opened.and_then(|mut file| file.write_all(bytes));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
