//! From bytes to an object: a file in `tmp/`, made durable, then named if the name is free.
//!
//! A name is given by `RENAME`, which OpenSSH's server refuses where the name is taken; whether this server does
//! is tried out before the first object, and where it does not, a hard link is made in its place. An answer that
//! was lost is made up for: what was under way is looked at before the object is stored again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

use strongroom_core::format::id;
use strongroom_core::storage::Put;

use super::super::remote::RequestError;
use super::session::{Failed, Session};
use super::transfer::{self, Content};
use super::wire::{open, request, status};
use super::{full_or_refused, look, make, refused};

const FSYNC: &str = "fsync@openssh.com";
const HARDLINK: &str = "hardlink@openssh.com";
/// Two files by which it is tried whether `RENAME` replaces; they stay.
const PROBE: &str = "rename-probe";
const PROBE_TARGET: &str = "rename-target";
/// After so many seconds a file in `tmp/` is a leftover.
const LEFTOVER_AFTER: u32 = 24 * 3600;

/// What is known of a server between requests.
#[derive(Default)]
pub(super) struct Publisher {
    naming: OnceLock<Naming>,
    trying: Mutex<()>,
    is_tidy: OnceLock<()>,
    /// What may have got its name when the answer was lost, by who stores it, with the file in `tmp/`.
    uncertain: Mutex<HashMap<(ThreadId, String), String>>,
}

/// How a name is given only if it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    Rename,
    Hardlink,
}

impl Publisher {
    /// Stores an object if its name is free; durable when it returns.
    pub(super) fn put(
        &self,
        session: &mut Session,
        root: &str,
        key: &str,
        content: &Content<'_>,
    ) -> Result<Put, RequestError> {
        let naming = self.naming(session, root)?;
        // Repetitions come from the same thread.
        let attempt = (std::thread::current().id(), key.to_owned());
        let pending = lock(&self.uncertain).get(&attempt).cloned();
        if let Some(temporary) = pending {
            let put = make_up(session, root, key, content, &temporary)?;
            lock(&self.uncertain).remove(&attempt);
            if let Some(put) = put {
                return Ok(put);
            }
        }
        let file = key.rsplit('/').next().unwrap_or(key);
        let temporary = temporary_path(root, file)?;
        let handle = create(session, root, &temporary)?;
        if let Err(failed) = fill(session, &handle, content, &temporary)? {
            let error = full_or_refused(session, &temporary, &failed)?;
            remove(session, &temporary)?;
            return Err(error);
        }
        self.tidy(session, root, &temporary)?;
        let put = name(session, root, key, &temporary, naming);
        // Nobody knows then what was done; the next attempt looks.
        if session.is_broken() {
            lock(&self.uncertain).insert(attempt, temporary);
        }
        put
    }

    /// How names are given on this server; tried out once.
    fn naming(&self, session: &mut Session, root: &str) -> Result<Naming, RequestError> {
        let trying = lock(&self.trying);
        if let Some(naming) = self.naming.get() {
            return Ok(*naming);
        }
        let [probe, target] = [PROBE, PROBE_TARGET].map(|name| format!("{root}/tmp/{name}"));
        for path in [&probe, &target] {
            if look(session, path)?.is_some() {
                continue;
            }
            match create(session, root, path) {
                Ok(handle) => {
                    session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
                }
                // Another writer tries at the same time.
                Err(_) if look(session, path)?.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let id = send_name(session, Naming::Rename, &probe, &target);
        let renamed = session.status(id)?;
        let naming = match renamed {
            Err(failed) if !is_missing(&failed) && look(session, &probe)?.is_some() => {
                if failed.code == status::PERMISSION_DENIED || failed.code == status::UNSUPPORTED {
                    Naming::Hardlink
                } else {
                    Naming::Rename
                }
            }
            _ => Naming::Hardlink,
        };
        if naming == Naming::Hardlink && !session.has(HARDLINK) {
            return Err(RequestError::Refused {
                why: "the server can neither rename without replacing nor make hard links".into(),
                hint: "Nothing may ever be overwritten in a repository, and this server cannot promise it. Use OpenSSH's internal-sftp, and allow the request \"rename\" where sshd_config restricts requests.",
            });
        }
        tracing::debug!(?naming, "names are given");
        drop(trying);
        Ok(*self.naming.get_or_init(|| naming))
    }

    /// Removes leftovers once, with a file of its own to learn the time over there.
    pub(super) fn tidy_once(&self, session: &mut Session, root: &str) -> Result<(), RequestError> {
        if self.is_tidy.get().is_some() {
            return Ok(());
        }
        let clock = temporary_path(root, "clock")?;
        if let Ok(handle) = create_new(session, &clock)? {
            session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
            self.tidy(session, root, &clock)?;
            remove(session, &clock)?;
        }
        // Without tmp/, or without the right to write, there is nothing to do.
        self.is_tidy.get_or_init(|| ());
        Ok(())
    }

    /// Removes what is older than `newest`, a file just made, by more than a day.
    fn tidy(&self, session: &mut Session, root: &str, newest: &str) -> Result<(), RequestError> {
        if self.is_tidy.set(()).is_err() {
            return Ok(());
        }
        let now = look(session, newest)?.and_then(|there| there.modified);
        let directory = format!("{root}/tmp");
        let id = session.send(request::OPENDIR, |packet| packet.string(&directory));
        let (Some(now), Ok(handle)) = (now, session.handle(id)?) else {
            return Ok(());
        };
        let mut old = Vec::new();
        loop {
            let id = session.send(request::READDIR, |packet| packet.string(&handle));
            let names = match session.names(id)? {
                Ok(names) if !names.is_empty() => names,
                _ => break,
            };
            let names = names.into_iter().filter(|(_, there)| {
                let age = there.modified.map(|modified| now.saturating_sub(modified));
                there.is_file() && age.is_some_and(|age| age > LEFTOVER_AFTER)
            });
            old.extend(names.filter_map(|(name, _)| String::from_utf8(name).ok()));
        }
        session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
        for name in old.iter().filter(|name| is_ours(name)) {
            remove(session, &format!("{directory}/{name}"))?;
        }
        Ok(())
    }
}

/// Writes all of it behind a handle, makes it durable, and closes.
fn fill(
    session: &mut Session,
    handle: &[u8],
    content: &Content<'_>,
    temporary: &str,
) -> Result<Result<(), Failed>, RequestError> {
    let mut outcome = match transfer::write(session, handle, content) {
        Ok(outcome) => outcome,
        Err(error) => {
            if !session.is_broken() {
                session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
                remove(session, temporary)?;
            }
            return Err(error);
        }
    };
    let synced = session.has(FSYNC).then(|| {
        session.send(request::EXTENDED, |packet| {
            packet.string(FSYNC).string(handle)
        })
    });
    let closed = session.send(request::CLOSE, |packet| packet.string(handle));
    for id in synced.into_iter().chain([closed]) {
        let answered = session.status(id)?;
        outcome = outcome.and(answered);
    }
    Ok(outcome)
}

/// Finds out what became of a file whose naming was not answered; `None` where it must be stored again.
fn make_up(
    session: &mut Session,
    root: &str,
    key: &str,
    content: &Content<'_>,
    temporary: &str,
) -> Result<Option<Put>, RequestError> {
    let path = format!("{root}/{key}");
    let there = look(session, &path)?;
    remove(session, temporary)?;
    let Some(there) = there else {
        return Ok(None);
    };
    sync_directory(session, parent_of(&path))?;
    let is_ours = match content {
        Content::Bytes(bytes) => {
            transfer::get(session, &path, 0, bytes.len().saturating_add(1))? == *bytes
        }
        Content::File(_, size_bytes) => there.size_bytes == Some(*size_bytes),
    };
    Ok(Some(if is_ours {
        Put::Stored
    } else {
        Put::AlreadyThere
    }))
}

/// Gives a durable file its name if that is free, and makes the name durable.
fn name(
    session: &mut Session,
    root: &str,
    key: &str,
    temporary: &str,
    naming: Naming,
) -> Result<Put, RequestError> {
    let path = format!("{root}/{key}");
    // The directory is opened at the same time, to be made durable afterwards.
    let mut naming_sent = send_name(session, naming, temporary, &path);
    let mut directory = open_directory(session, parent_of(&path));
    let mut answered = session.status(naming_sent)?;
    if answered.as_ref().is_err_and(is_missing) {
        close_directory(session, directory)?;
        make_parents(session, root, key)?;
        naming_sent = send_name(session, naming, temporary, &path);
        directory = open_directory(session, parent_of(&path));
        answered = session.status(naming_sent)?;
    }
    let put = match answered {
        Ok(()) => Put::Stored,
        Err(failed) => {
            if look(session, &path)?.is_none() {
                close_directory(session, directory)?;
                let error = if is_missing(&failed) {
                    // Taken for a leftover over there: the next attempt writes it again.
                    RequestError::transient("the file in tmp/ is gone")
                } else {
                    full_or_refused(session, &path, &failed)?
                };
                remove(session, temporary)?;
                return Err(error);
            }
            // Whoever named it may not have made that durable yet.
            Put::AlreadyThere
        }
    };
    finish_directory(session, directory)?;
    if put == Put::AlreadyThere || naming == Naming::Hardlink {
        remove(session, temporary)?;
    }
    Ok(put)
}

/// Creates a file in `tmp/`, which is made where it is missing.
fn create(session: &mut Session, root: &str, temporary: &str) -> Result<Vec<u8>, RequestError> {
    let mut created = create_new(session, temporary)?;
    if created.as_ref().is_err_and(is_missing) {
        make_below(session, root, &format!("{root}/tmp"))?;
        created = create_new(session, temporary)?;
    }
    match created {
        Ok(handle) => Ok(handle),
        Err(failed) => Err(full_or_refused(session, temporary, &failed)?),
    }
}

fn make_parents(session: &mut Session, root: &str, key: &str) -> Result<(), RequestError> {
    for (end, _) in key.match_indices('/') {
        let path = format!("{root}/{}", &key[..end]);
        make_below(session, root, &path)?;
        // Even one that exists: whoever made it may not have made that durable yet.
        sync_directory(session, parent_of(&path))?;
    }
    Ok(())
}

fn make_below(session: &mut Session, root: &str, path: &str) -> Result<(), RequestError> {
    make(session, path).map(drop).map_err(|error| match error {
        RequestError::NotFound => RequestError::Refused {
            why: format!("the directory {root} is gone from the server"),
            hint: "Is it mounted over there? The directory is made by init only.",
        },
        other => other,
    })
}

/// Whether a name in `tmp/` is one that [`temporary_path`] makes.
fn is_ours(name: &str) -> bool {
    let random = name.rsplit_once('.').map(|(_, random)| random);
    random.is_some_and(|random| id::from_hex::<16>(random).is_some())
}

fn temporary_path(root: &str, file: &str) -> Result<String, RequestError> {
    let random = id::random::<16>().map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(format!("{root}/tmp/{file}.{}", id::to_hex(&random)))
}

fn create_new(session: &mut Session, path: &str) -> Result<Result<Vec<u8>, Failed>, RequestError> {
    let id = session.send(request::OPEN, |packet| {
        let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
        packet.string(path).number(flags).mode(0o600)
    });
    session.handle(id)
}

fn send_name(session: &mut Session, naming: Naming, from: &str, to: &str) -> u32 {
    match naming {
        Naming::Rename => session.send(request::RENAME, |packet| packet.string(from).string(to)),
        Naming::Hardlink => session.send(request::EXTENDED, |packet| {
            packet.string(HARDLINK).string(from).string(to)
        }),
    }
}

/// Removes a file of ours; one that cannot be removed stays and does no harm.
fn remove(session: &mut Session, path: &str) -> Result<(), RequestError> {
    let id = session.send(request::REMOVE, |packet| packet.string(path));
    if let Err(failed) = session.status(id)?
        && !is_missing(&failed)
    {
        tracing::debug!(path, code = failed.code, "a file in tmp/ stays");
    }
    Ok(())
}

/// Makes the names in a directory durable, where the server opens and syncs directories, as OpenSSH's does.
fn sync_directory(session: &mut Session, path: &str) -> Result<(), RequestError> {
    let opening = open_directory(session, path);
    finish_directory(session, opening)
}

/// Asks for a directory's handle; `None` where it would be of no use.
fn open_directory(session: &mut Session, path: &str) -> Option<u32> {
    session.has(FSYNC).then(|| {
        session.send(request::OPEN, |packet| {
            packet.string(path).number(open::READ).number(0)
        })
    })
}

fn close_directory(session: &mut Session, opening: Option<u32>) -> Result<(), RequestError> {
    if let Some(id) = opening
        && let Ok(handle) = session.handle(id)?
    {
        session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
    }
    Ok(())
}

fn finish_directory(session: &mut Session, opening: Option<u32>) -> Result<(), RequestError> {
    let Some(id) = opening else {
        return Ok(());
    };
    let Ok(handle) = session.handle(id)? else {
        return Ok(());
    };
    let id = session.send(request::EXTENDED, |packet| {
        packet.string(FSYNC).string(&handle)
    });
    session.send_and_forget(request::CLOSE, |packet| packet.string(&handle));
    match session.status(id)? {
        Err(failed) if failed.code != status::UNSUPPORTED => {
            Err(refused(&failed, "its directory cannot be made durable"))
        }
        _ => Ok(()),
    }
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn is_missing(failed: &Failed) -> bool {
    failed.code == status::NO_SUCH_FILE
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
