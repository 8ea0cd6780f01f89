//! What this host remembers of approved plans, below `approvals/` in the state directory.
//!
//! `NAME` holds a random name of the state directory, which every plan carries. `ID/` exists from the moment when the plan of that
//! id is used: its plan, the operators' signatures as they were given, and a record, signed where this host has the writer
//! key. Nothing here is ever deleted: what is there is used.

use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use strongroom_core::format::id::{from_hex, random, to_hex};
use strongroom_core::private_file;

use super::Approved;
use crate::command::backup::TOOL;
use crate::failure::{Exit, Failure, io as file_error};
use crate::session::Session;

const DIRECTORY: &str = "approvals";
const NAME: &str = "name";
const PLAN: &str = "plan.json";
const RECORD: &str = "record.json";
const SIGNATURE: &str = "sig";
/// The type of the signed record.
const KIND: &str = "application/vnd.strongroom.approval+json";

/// The random name of the state directory; made when there is none yet.
pub(super) fn state_name(state: &Path) -> Result<String, Failure> {
    let directory = state.join(DIRECTORY);
    private_file::create_dir_all(&directory).map_err(file_error("create", &directory))?;
    let path = directory.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(name) if from_hex::<16>(name.trim()).is_some() => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(file_error("read", &path)(error)),
    }
    let name = to_hex(&random::<16>()?);
    let line = format!("{name}\n");
    private_file::replace(&path, line.as_bytes()).map_err(file_error("write", &path))?;
    Ok(name)
}

fn place(session: &Session<'_>, id: &str) -> PathBuf {
    let state = &session.config.writer.state_dir;
    state.join(DIRECTORY).join(id)
}

/// Whether the plan of that id was used here.
pub(super) fn is_used(session: &Session<'_>, id: &str) -> bool {
    place(session, id).exists()
}

/// Notes that a plan is used from now on, by whose approval; refused when it was used before.
pub(super) fn use_up(session: &Session<'_>, approved: &Approved) -> Result<(), Failure> {
    let directory = place(session, &approved.document.id);
    let parent = directory.parent().unwrap_or(Path::new("/"));
    private_file::create_dir_all(parent).map_err(file_error("create", parent))?;
    let key = match session.writer_key() {
        Ok(key) => Some(key),
        Err(failure) if failure.code == "no-writer-key" => None,
        Err(failure) => return Err(failure),
    };
    match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(used()),
        made => made.map_err(file_error("create", &directory))?,
    }
    write(&directory.join(PLAN), &approved.bytes)?;
    let operators = &session.config.approvals;
    let mut approvals = Vec::new();
    for approval in &approved.approvals {
        let file = directory.join(&approval.operator).with_extension(SIGNATURE);
        write(&file, &approval.signature)?;
        let operators = operators.as_ref().map(|rule| &rule.operators);
        let key = operators.and_then(|operators| operators.get(&approval.operator));
        approvals.push(json!({
            "operator": approval.operator,
            "key": key.map(super::OperatorKey::fingerprint),
            "signature": String::from_utf8_lossy(&approval.signature),
        }));
    }
    let scope = &approved.document.scope;
    let record = json!({
        "strongroom_approval": 1,
        "deployment": scope.deployment,
        "host": scope.host,
        "tool": TOOL,
        "command": scope.work.command(),
        "id": approved.document.id,
        "plan": approved.digest,
        "used": super::now(session),
        "approvals": approvals,
    });
    let record = serde_json::to_vec_pretty(&record).expect("JSON values serialise");
    let record = match &key {
        Some(key) => key.signing.sign(KIND, &record),
        None => record,
    };
    write(&directory.join(RECORD), &record)?;
    private_file::sync_parent(&directory).map_err(file_error("write", &directory))
}

pub(super) fn used() -> Failure {
    Failure::new(Exit::Refused, "plan-used", "this plan was used before")
        .hint("A plan is carried out once. Make a new one with --plan, and have it signed.")
}

/// A plan that was used, and the signatures that were given for it.
pub(super) struct Used {
    pub(super) plan: Vec<u8>,
    pub(super) signatures: Vec<Vec<u8>>,
}

/// The plans that were used here; what cannot be read is left out.
pub(super) fn all(session: &Session<'_>) -> Result<Vec<Used>, Failure> {
    let directory = session.config.writer.state_dir.join(DIRECTORY);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(file_error("read", &directory)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let place = entry.map_err(file_error("read", &directory))?.path();
        let Ok(plan) = std::fs::read(place.join(PLAN)) else {
            continue;
        };
        let files = std::fs::read_dir(&place).map_err(file_error("read", &place))?;
        let files = files.filter_map(|file| Some(file.ok()?.path()));
        let files = files.filter(|file| file.extension().is_some_and(|end| end == SIGNATURE));
        let signatures = files.filter_map(|file| std::fs::read(file).ok()).collect();
        all.push(Used { plan, signatures });
    }
    Ok(all)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = private_file::create_new(path).map_err(file_error("create", path))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(file_error("write", path))
}
