//! From bytes to an object: a file in `tmp/`, made durable, then named if the name is free.
//!
//! A name is given by `RENAME`, which OpenSSH's server refuses where the name is taken; whether this server does
//! is tried out before the first object, and where it does not, a hard link is made in its place. An answer that
//! was lost is made up for: what was under way is looked at before the object is stored again.
//!
//! An object costs three round trips and the way of its bytes: its file and its [`directories`] are opened together, the
//! writes and the sync go out together, and so do the name and what makes it durable.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

use strongroom_core::format::id;
use strongroom_core::storage::Put;

use super::super::remote::RequestError;
use super::directories::{self, Directories, Opened};
use super::session::{FSYNC, Failed, Outcome, Session};
use super::transfer::{self, Content};
use super::wire::{open, request, status};
use super::{full_or_refused, look, send_look};

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
    directories: Directories,
    /// What may have got its name when the answer was lost, by who stores it, with the file in `tmp/`.
    uncertain: Mutex<HashMap<(ThreadId, String), String>>,
}

/// How a name is given only if it is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
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
        let creating = send_create(session, &temporary);
        let opening = self.directories.open(session, root, key);
        let created = session.handle(creating)?;
        let directories = opening.finish(session)?;
        let handle = match created {
            Ok(handle) => handle,
            Err(failed) => match created_at_last(session, root, &temporary, failed) {
                Ok(handle) => handle,
                Err(error) => {
                    directories.close(session);
                    return Err(error);
                }
            },
        };
        if let Err(error) = fill(session, &handle, content, &temporary) {
            directories.close(session);
            return Err(error);
        }
        self.tidy(session, root, &temporary)?;
        let put = self.name(session, root, key, &temporary, naming, directories);
        // Nobody knows then what was done; the next attempt looks.
        if session.is_broken() {
            lock(&self.uncertain).insert(attempt, temporary);
        }
        put
    }

    /// Gives a durable file its name if that is free, and makes the name durable.
    fn name(
        &self,
        session: &mut Session,
        root: &str,
        key: &str,
        temporary: &str,
        naming: Naming,
        directories: Opened,
    ) -> Result<Put, RequestError> {
        let path = format!("{root}/{key}");
        let mut sent = send_name(session, naming, temporary, &path);
        let mut syncing = directories.sync(session);
        let mut answered = session.status(sent)?;
        if answered.as_ref().is_err_and(is_missing) {
            // A directory is gone since, or could not be made: this time with the reason.
            syncing.forget(session)?;
            directories::make(session, root, key)?;
            sent = send_name(session, naming, temporary, &path);
            let again = self.directories.open(session, root, key).finish(session)?;
            syncing = again.sync(session);
            answered = session.status(sent)?;
        }
        let put = match answered {
            Ok(()) => Put::Stored,
            Err(failed) => {
                if look(session, &path)?.is_none() {
                    syncing.forget(session)?;
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
        self.directories.note(syncing.finish(session)?);
        if put == Put::AlreadyThere || naming == Naming::Hardlink {
            remove(session, temporary)?;
        }
        Ok(put)
    }

    /// How names are given on this server; tried out once.
    pub(super) fn naming(&self, session: &mut Session, root: &str) -> Result<Naming, RequestError> {
        let trying = lock(&self.trying);
        if let Some(naming) = self.naming.get() {
            return Ok(*naming);
        }
        let [probe, target] = [PROBE, PROBE_TARGET].map(|name| format!("{root}/tmp/{name}"));
        // As a rule both files are there from an earlier time, and one round trip tells it.
        let mut tried = try_rename(session, &probe, &target)?;
        if tried.is_none() {
            for path in [&probe, &target] {
                make_probe(session, root, path)?;
            }
            tried = try_rename(session, &probe, &target)?;
        }
        // With both files there, a rename that was carried out has replaced one.
        let naming = tried.unwrap_or(Naming::Hardlink);
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
        let directory = format!("{root}/tmp");
        let looking = send_look(session, newest);
        let opening = session.send(request::OPENDIR, |packet| packet.string(&directory));
        let now = session.attributes(looking)?;
        let now = now.ok().and_then(|there| there.modified);
        let Ok(handle) = session.handle(opening)? else {
            return Ok(());
        };
        let Some(now) = now else {
            session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
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

/// Makes one of the two files by which renaming is tried.
fn make_probe(session: &mut Session, root: &str, path: &str) -> Result<(), RequestError> {
    if look(session, path)?.is_some() {
        return Ok(());
    }
    match create(session, root, path) {
        Ok(handle) => {
            session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
            Ok(())
        }
        // Another writer tries at the same time.
        Err(_) if look(session, path)?.is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Tries to rename onto a file that is there; `None` where one of the two was missing, or the rename was carried out.
fn try_rename(
    session: &mut Session,
    probe: &str,
    target: &str,
) -> Result<Option<Naming>, RequestError> {
    let looking = [probe, target].map(|path| send_look(session, path));
    let renaming = send_name(session, Naming::Rename, probe, target);
    let looking_again = send_look(session, probe);
    let mut are_there = true;
    for id in looking {
        are_there &= session.attributes(id)?.is_ok();
    }
    let renamed = session.status(renaming)?;
    are_there &= session.attributes(looking_again)?.is_ok();
    Ok(match renamed {
        Err(failed) if are_there && !is_missing(&failed) => {
            let is_denied = matches!(failed.code, status::PERMISSION_DENIED | status::UNSUPPORTED);
            Some(if is_denied {
                Naming::Hardlink
            } else {
                Naming::Rename
            })
        }
        _ => None,
    })
}

/// Writes all of it behind a handle, makes it durable, and closes; a file that failed is removed.
fn fill(
    session: &mut Session,
    handle: &[u8],
    content: &Content<'_>,
    temporary: &str,
) -> Result<(), RequestError> {
    let (written, mut outcome) = match transfer::write(session, handle, content) {
        Ok(sent) => sent,
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
    for id in written.into_iter().chain(synced).chain([closed]) {
        let answered = session.status(id)?;
        outcome = outcome.and(answered);
    }
    match outcome {
        Ok(()) => Ok(()),
        Err(failed) => {
            let error = full_or_refused(session, temporary, &failed)?;
            remove(session, temporary)?;
            Err(error)
        }
    }
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
    directories::sync(session, parent_of(&path))?;
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

/// Creates a file in `tmp/`, which is made where it is missing.
fn create(session: &mut Session, root: &str, temporary: &str) -> Result<Vec<u8>, RequestError> {
    match create_new(session, temporary)? {
        Ok(handle) => Ok(handle),
        Err(failed) => created_at_last(session, root, temporary, failed),
    }
}

/// Creates a file in `tmp/` after that has failed: once more where `tmp/` was missing.
fn created_at_last(
    session: &mut Session,
    root: &str,
    temporary: &str,
    failed: Failed,
) -> Result<Vec<u8>, RequestError> {
    let mut failed = failed;
    if is_missing(&failed) {
        directories::make_below(session, root, &format!("{root}/tmp"))?;
        failed = match create_new(session, temporary)? {
            Ok(handle) => return Ok(handle),
            Err(failed) => failed,
        };
    }
    Err(full_or_refused(session, temporary, &failed)?)
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

fn create_new(session: &mut Session, path: &str) -> Outcome<Vec<u8>> {
    let id = send_create(session, path);
    session.handle(id)
}

fn send_create(session: &mut Session, path: &str) -> u32 {
    session.send(request::OPEN, |packet| {
        let flags = open::WRITE | open::CREATE | open::EXCLUSIVE;
        packet.string(path).number(flags).mode(0o600)
    })
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

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn is_missing(failed: &Failed) -> bool {
    failed.code == status::NO_SUCH_FILE
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
