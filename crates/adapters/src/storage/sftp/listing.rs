//! Reads the directories of a repository, several at a time.

use std::collections::VecDeque;

use strongroom_core::format::name::{ObjectName, PREFIXES};
use strongroom_core::storage::ObjectStat;

use super::super::remote::RequestError;
use super::session::Session;
use super::wire::{request, status};
use super::{refused, stat_of};

/// Directories that are read at a time.
const IN_FLIGHT: usize = 64;

/// What was asked about a directory.
enum Step {
    Open,
    Read(Vec<u8>),
}

/// Every key below `root` that begins with `prefix`.
pub(super) fn list(
    session: &mut Session,
    root: &str,
    prefix: &str,
) -> Result<Vec<(String, ObjectStat)>, RequestError> {
    let mut found = Vec::new();
    let mut directories: Vec<String> = PREFIXES
        .into_iter()
        .map(|top| top.trim_end_matches('/').to_owned())
        .filter(|top| leads_to(top, prefix))
        .collect();
    let mut waiting = VecDeque::new();
    let mut failure = None;
    loop {
        while failure.is_none()
            && waiting.len() < IN_FLIGHT
            && let Some(directory) = directories.pop()
        {
            let path = format!("{root}/{directory}");
            let id = session.send(request::OPENDIR, |packet| packet.string(path));
            waiting.push_back((id, directory, Step::Open));
        }
        let Some((id, directory, step)) = waiting.pop_front() else {
            break;
        };
        let handle = match step {
            Step::Open => match session.handle(id)? {
                Ok(handle) => handle,
                // Not made yet, or deleted since.
                Err(failed) if failed.code == status::NO_SUCH_FILE => continue,
                Err(failed) => {
                    failure = failure.or(Some(refused(&failed, "it cannot be listed")));
                    continue;
                }
            },
            Step::Read(handle) => {
                let names = match session.names(id)? {
                    Ok(names) => names,
                    Err(failed) => {
                        failure = failure.or(Some(refused(&failed, "it cannot be listed")));
                        Vec::new()
                    }
                };
                if names.is_empty() {
                    session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
                    continue;
                }
                for (name, attributes) in names {
                    let Ok(name) = String::from_utf8(name) else {
                        continue;
                    };
                    let name = format!("{directory}/{name}");
                    if ObjectName::parse(&name).is_none() {
                        continue;
                    }
                    if attributes.is_directory() {
                        if leads_to(&name, prefix) {
                            directories.push(name);
                        }
                    } else if attributes.is_file() && name.starts_with(prefix) {
                        found.push((name, stat_of(&attributes)));
                    }
                }
                handle
            }
        };
        let id = session.send(request::READDIR, |packet| packet.string(&handle));
        waiting.push_back((id, directory, Step::Read(handle)));
    }
    failure.map_or(Ok(found), Err)
}

/// Whether names below `directory` can begin with `prefix`.
fn leads_to(directory: &str, prefix: &str) -> bool {
    let below = format!("{directory}/");
    below.starts_with(prefix) || prefix.starts_with(&below)
}
