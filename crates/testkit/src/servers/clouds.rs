//! Emulators of cloud storages on loopback: a Google Cloud Storage and Azurite.
//!
//! Each is built or installed once, below `target/servers`, under a lock, and started on a free port with a temporary
//! directory; it ends with the value that started it. What cannot be had here is an error with its reason, which a
//! test passes to [`skip`](crate::skip).

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{free_port, go_build, sources, workshop};

/// The account that Azurite knows.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";

/// The key of [`AZURE_ACCOUNT`]; Azurite's documentation has it, it is no secret.
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How long a server may take to answer first.
const START: Duration = Duration::from_mins(1);

/// A server that runs.
pub struct Emulator {
    /// Where it answers, without a slash at the end.
    pub url: String,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a Google Cloud Storage that has these buckets. `URL/as/ROLE` is the same as somebody with the permissions of
/// `docs/policies/gcs/ROLE.yaml`.
pub fn gcs(buckets: &[&str]) -> Result<Emulator, String> {
    let program = go_build("gcs")?;
    let directory = temporary();
    let roles = sources("gcs").join("../../../docs/policies/gcs");
    let mut child = Command::new(program)
        .arg(roles)
        .args(buckets)
        .env("TMPDIR", directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the emulator does not start: {error}"))?;
    let output = child.stdout.take().expect("it is piped");
    let mut url = String::new();
    BufReader::new(output)
        .read_line(&mut url)
        .expect("the emulator says where it answers");
    Ok(Emulator {
        url: url.trim_end().to_owned(),
        child,
        _directory: directory,
    })
}

/// Starts Azurite, whose one account is [`AZURE_ACCOUNT`]; over TLS with a certificate and its key, PEM files.
pub fn azurite(tls: Option<(&Path, &Path)>) -> Result<Emulator, String> {
    let program = azurite_program()?;
    let directory = temporary();
    // Azurite does not tell the port that it was given, so that one is looked for before.
    let port = free_port();
    let log = File::create(directory.path().join("log")).expect("a log");
    let mut command = Command::new("node");
    command
        .arg(program)
        .args(["--blobHost", "127.0.0.1", "--blobPort"])
        .arg(port.to_string())
        .args(["--inMemoryPersistence", "--disableTelemetry", "--silent"])
        .arg("--skipApiVersionCheck")
        .current_dir(directory.path())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log);
    if let Some((certificate, key)) = tls {
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    let child = command
        .spawn()
        .map_err(|error| format!("node does not start: {error}"))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut emulator = Emulator {
        url: format!("{scheme}://127.0.0.1:{port}/{AZURE_ACCOUNT}"),
        child,
        _directory: directory,
    };
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = emulator.child.try_wait().expect("a child of this process");
        assert!(ended.is_none(), "Azurite ended: {ended:?}");
        assert!(begun.elapsed() < START, "Azurite does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(emulator)
}

/// Azurite's program for blobs, installed when it is not.
fn azurite_program() -> Result<PathBuf, String> {
    let sources = sources("azurite");
    let (directory, _lock) = workshop("azurite");
    let program = directory.join("node_modules/azurite/dist/src/blob/main.js");
    let lock = std::fs::read(sources.join("package-lock.json")).expect("a lock file");
    let done = directory.join("installed");
    if program.exists() && std::fs::read(&done).is_ok_and(|installed| installed == lock) {
        return Ok(program);
    }
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(sources.join(file), directory.join(file)).expect("copies");
    }
    let installed = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&directory)
        .output()
        .map_err(|error| format!("npm is not installed: {error}"))?;
    if !installed.status.success() {
        let why = String::from_utf8_lossy(&installed.stderr);
        return Err(format!("npm cannot install Azurite: {}", last_line(&why)));
    }
    std::fs::write(done, lock).expect("writes");
    Ok(program)
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
