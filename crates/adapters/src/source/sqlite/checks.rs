//! Runs the integrity check and reads the facts, each on its own thread, beside the stream.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use strongroom_core::cancel::{Cancel, Interrupted};
use strongroom_core::source::CaptureError;

use super::connection::{failed, open_immutable};
use super::facts::{self, Facts, Taken};
use super::header::Header;
use super::integrity::{self, Integrity};
use super::settings::TimestampColumn;

/// How soon an interruption is noticed while the checks run.
const ATTENTION: Duration = Duration::from_millis(100);

/// What check and facts came to.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) facts: serde_json::Value,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Examines the database at `path`, which nobody changes, while the caller's thread does `meanwhile`.
pub(super) fn run_beside<T>(
    path: &Path,
    header: &Header,
    newest: &[TimestampColumn],
    cancel: &Cancel,
    meanwhile: impl FnOnce() -> Result<T, CaptureError>,
) -> Result<(T, Findings), CaptureError> {
    let opened = || open_immutable(path).map_err(failed("open the private copy", path));
    let (for_check, for_facts) = (opened()?, opened()?);
    let handles = [
        for_check.get_interrupt_handle(),
        for_facts.get_interrupt_handle(),
    ];
    let interrupt = || {
        handles
            .iter()
            .for_each(rusqlite::InterruptHandle::interrupt);
    };
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let check = spawn(scope, sender.clone(), move || integrity::check(&for_check));
        let facts = spawn(scope, sender, move || {
            facts::take(&for_facts, header, newest)
        });
        let done = meanwhile().and_then(|done| {
            // Both senders are gone when both threads have ended.
            loop {
                match receiver.recv_timeout(ATTENTION) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => cancel.check()?,
                    Err(RecvTimeoutError::Disconnected) => return Ok(done),
                }
            }
        });
        if done.is_err() {
            interrupt();
        }
        let check = check.join().expect("the check does not panic");
        let facts = facts.join().expect("reading facts does not panic");
        Ok((done?, findings(path, check, facts)?))
    })
}

/// Examines a restored database on the caller's thread.
pub(super) fn run(
    path: &Path,
    header: &Header,
    newest: &[TimestampColumn],
) -> Result<(Taken, Integrity), CaptureError> {
    let operation = || format!("examine {}", path.display());
    let connection = open_immutable(path).map_err(failed(operation(), path))?;
    let integrity = integrity::check(&connection).map_err(failed(operation(), path))?;
    let taken = facts::take(&connection, header, newest).map_err(failed(operation(), path))?;
    Ok((taken, integrity))
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    ended: Sender<()>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    scope.spawn(move || {
        let result = work();
        drop(ended);
        result
    })
}

fn findings(
    path: &Path,
    check: rusqlite::Result<Integrity>,
    facts: rusqlite::Result<Taken>,
) -> Result<Findings, CaptureError> {
    let integrity = check.map_err(|_| Interrupted)?;
    let mut findings = Findings {
        facts: serde_json::Value::Null,
        problems: Vec::new(),
        notes: integrity.notes.clone(),
    };
    if !integrity.defects.is_empty() {
        findings
            .problems
            .push(format!("integrity_check: {}", integrity.summary()));
    }
    match facts {
        Ok(taken) => {
            let facts = Facts {
                integrity: integrity.summary(),
                ..taken.facts
            };
            findings.facts = serde_json::to_value(facts).map_err(CaptureError::library(
                format!("write down the facts of {}", path.display()),
            ))?;
            findings.problems.extend(taken.problems);
            findings.notes.extend(taken.notes);
        }
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) =>
        {
            return Err(Interrupted.into());
        }
        Err(error) => findings
            .problems
            .push(format!("the facts cannot be read: {error}")),
    }
    Ok(findings)
}
