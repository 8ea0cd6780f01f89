//! Real servers for the tests of storages, on loopback, each in a directory of its own; gone when dropped.
//!
//! - [`minio`]: S3, built from its Go module.

#![expect(
    clippy::disallowed_methods,
    reason = "servers are started by the tests, not by the program"
)]

pub mod minio;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

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

/// A port of loopback that nothing listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// The directory of a Go module below `tests/servers/`.
fn module(name: &str) -> PathBuf {
    workspace().join("tests/servers").join(name)
}

fn workspace() -> &'static Path {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).expect("crates/testkit")
}

/// Whether Go is at hand.
fn has_go() -> bool {
    static HAS_GO: OnceLock<bool> = OnceLock::new();
    let version = || Command::new("go").arg("version").output();
    *HAS_GO.get_or_init(|| version().is_ok_and(|output| output.status.success()))
}

/// Builds a Go module of `tests/servers/` into `target/servers/`; several test programs wait for one build.
///
/// Panics with what Go says when it cannot be built.
fn go_build(name: &str) -> PathBuf {
    let target = workspace().join("target/servers");
    std::fs::create_dir_all(&target).expect("target/ can be written to");
    let lock = std::fs::File::create(target.join(format!("{name}.lock"))).expect("likewise");
    lock.lock().expect("locks work in target/");
    let program = target.join(name);
    let output = Command::new("go")
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(module(name))
        .output()
        .expect("go runs");
    assert!(
        output.status.success(),
        "go cannot build tests/servers/{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}
