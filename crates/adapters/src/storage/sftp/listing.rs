//! Reads the directories of a repository, several at a time.

use std::collections::VecDeque;

use strongroom_core::format::name::{ObjectName, PREFIXES};
use strongroom_core::storage::ObjectStat;

use super::super::remote::RequestError;
use super::session::Session;
use super::wire::{Attributes, request, status};
use super::{refused, stat_of};

/// Directories that are read at a time.
const IN_FLIGHT: usize = 64;

/// Requests for the names of one directory that are under way at a time: the second most often learns that there are no more.
const READS_AHEAD: usize = 2;

/// What was asked for.
enum Step {
    /// To open this directory.
    Open(String),
    /// For names of the directory with this number.
    Read(usize),
}

/// An open directory.
struct Reading {
    directory: String,
    handle: Vec<u8>,
    /// Requests under way.
    asked: usize,
    is_over: bool,
}

/// Every key below `root` that begins with `prefix`.
pub(super) fn list(
    session: &mut Session,
    root: &str,
    prefix: &str,
) -> Result<Vec<(String, ObjectStat)>, RequestError> {
    let mut found = Vec::new();
    let mut directories = beginnings(prefix);
    let mut open: Vec<Reading> = Vec::new();
    let mut waiting = VecDeque::new();
    let mut failure = None;
    loop {
        while failure.is_none()
            && waiting.len() < IN_FLIGHT
            && let Some(directory) = directories.pop()
        {
            let path = format!("{root}/{directory}");
            let id = session.send(request::OPENDIR, |packet| packet.string(path));
            waiting.push_back((id, Step::Open(directory)));
        }
        let Some((id, step)) = waiting.pop_front() else {
            break;
        };
        let number = match step {
            Step::Open(directory) => match session.handle(id)? {
                Ok(handle) => {
                    open.push(Reading {
                        directory,
                        handle,
                        asked: 0,
                        is_over: false,
                    });
                    open.len() - 1
                }
                // Not made yet, or deleted since.
                Err(failed) if failed.code == status::NO_SUCH_FILE => continue,
                Err(failed) => {
                    failure = failure.or(Some(refused(&failed, "it cannot be listed")));
                    continue;
                }
            },
            Step::Read(number) => {
                let names = session.names(id)?;
                let reading = &mut open[number];
                reading.asked -= 1;
                match names {
                    Ok(names) if names.is_empty() => reading.is_over = true,
                    Ok(names) => {
                        let listed = names.into_iter();
                        for (name, attributes) in listed.filter_map(|one| reading.key(one)) {
                            if attributes.is_directory() {
                                if leads_to(&name, prefix) {
                                    directories.push(name);
                                }
                            } else if attributes.is_file() && name.starts_with(prefix) {
                                found.push((name, stat_of(&attributes)));
                            }
                        }
                    }
                    Err(failed) => {
                        reading.is_over = true;
                        failure = failure.or(Some(refused(&failed, "it cannot be listed")));
                    }
                }
                number
            }
        };
        let reading = &mut open[number];
        while !reading.is_over && reading.asked < READS_AHEAD {
            let handle = &reading.handle;
            let id = session.send(request::READDIR, |packet| packet.string(handle));
            waiting.push_back((id, Step::Read(number)));
            reading.asked += 1;
        }
        if reading.is_over && reading.asked == 0 {
            let handle = &reading.handle;
            session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
        }
    }
    failure.map_or(Ok(found), Err)
}

impl Reading {
    /// The key of what lies in it under a name, if it can be an object or lead to some.
    fn key(&self, (name, attributes): (Vec<u8>, Attributes)) -> Option<(String, Attributes)> {
        let name = String::from_utf8(name).ok()?;
        let name = format!("{}/{name}", self.directory);
        ObjectName::parse(&name).map(|_| (name, attributes))
    }
}

/// The directories from which every key that begins with `prefix` can be reached.
fn beginnings(prefix: &str) -> Vec<String> {
    let tops = PREFIXES.into_iter().map(|top| top.trim_end_matches('/'));
    match prefix.rsplit_once('/') {
        Some((directory, _)) => {
            let top = directory.split('/').next();
            let is_known = tops.into_iter().any(|known| Some(known) == top);
            Vec::from_iter(is_known.then(|| directory.to_owned()))
        }
        None => tops
            .filter(|top| leads_to(top, prefix))
            .map(str::to_owned)
            .collect(),
    }
}

/// Whether names below `directory` can begin with `prefix`.
fn leads_to(directory: &str, prefix: &str) -> bool {
    let below = format!("{directory}/");
    below.starts_with(prefix) || prefix.starts_with(&below)
}
