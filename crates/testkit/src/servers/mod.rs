//! Real servers for the tests of storages, on loopback, each in a directory of its own; gone when dropped.
//!
//! - [`minio`]: S3, built from its Go module.
//! - [`clouds`]: emulators of Google Cloud Storage and Azure.
//! - [`plugin`]: a plugin of age, which is no server but built like one.
//! - [`softhsm`]: PKCS#11 tokens of SoftHSM2.
//! - [`sshd`], a private OpenSSH server.

#![expect(
    clippy::disallowed_methods,
    reason = "servers are started by the tests, not by the program"
)]

pub mod clouds;
pub mod minio;
pub mod plugin;
pub mod sas;
pub mod softhsm;
pub mod sshd;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A port of loopback that nothing listened on a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// The directory of a server's sources, below `tests/servers/`.
fn sources(name: &str) -> PathBuf {
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers");
    let servers = servers.canonicalize().expect("part of the workspace");
    servers.join(name)
}

/// A directory below `target` for what is built once, and the lock on it: several test programs wait for one build.
fn workshop(name: &str) -> (PathBuf, File) {
    let program = std::env::current_exe().expect("the test itself");
    let target = program
        .ancestors()
        .find(|path| path.join("CACHEDIR.TAG").exists())
        .expect("tests run in the directory that cargo builds in");
    let directory = target.join("servers").join(name);
    std::fs::create_dir_all(&directory).expect("target/ can be written to");
    let lock = File::create(directory.join("lock")).expect("likewise");
    lock.lock().expect("locks work in target/");
    (directory, lock)
}

/// Builds a Go module of `tests/servers/`; Go knows itself whether anything is to be done. An error where Go is missing.
///
/// Panics with what Go says when it cannot be built: that is a fault and no reason to skip a test.
fn go_build(name: &str) -> Result<PathBuf, String> {
    Ok(go_build_packages(name, &["."])?.join(name))
}

/// The same for several programs of the module; the directory that they are in.
fn go_build_packages(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let (directory, _lock) = workshop(name);
    let output = Command::new("go")
        .args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
        ])
        .arg(directory.join(""))
        .args(packages)
        .current_dir(sources(name))
        .output()
        .map_err(|error| format!("go is not installed: {error}"))?;
    assert!(
        output.status.success(),
        "go cannot build tests/servers/{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(directory)
}
