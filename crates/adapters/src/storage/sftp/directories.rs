//! The directories that objects lie in: made where they are missing, opened ahead, made durable.
//!
//! What is known to be durable is remembered, and asked for only once. A directory that cannot be made or opened here is no
//! error: whether a name can be given tells that better, and [`make`] then says why not.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::remote::RequestError;
use super::session::{FSYNC, Session};
use super::wire::{open, request, status};
use super::{DIRECTORY_MODE, refused};

/// Directories whose names are durable, by their path.
#[derive(Default)]
pub(super) struct Directories {
    durable: Mutex<HashSet<String>>,
}

/// Directories being made and opened; the answers are on their way.
pub(super) struct Opening {
    made: Vec<u32>,
    handles: Vec<(String, u32)>,
    new: Vec<String>,
}

/// Open directories: that of an object, and those in which something may be new.
pub(super) struct Opened {
    handles: Vec<Vec<u8>>,
    new: Vec<String>,
}

/// Directories being made durable.
pub(super) struct Syncing {
    waiting: Vec<u32>,
    new: Vec<String>,
}

impl Directories {
    /// Asks for what the object of that key needs: directories not known yet are made, and those that must be
    /// made durable afterwards are opened.
    pub(super) fn open(&self, session: &mut Session, root: &str, key: &str) -> Opening {
        let mut made = Vec::new();
        let mut new = Vec::new();
        let mut to_open = Vec::new();
        let durable = self.lock();
        let mut parent = root.to_owned();
        for (end, _) in key.match_indices('/') {
            let path = format!("{root}/{}", &key[..end]);
            if !durable.contains(&path) {
                // It may exist. Who made it may not have made that durable yet.
                made.push(session.send(request::MKDIR, |packet| {
                    packet.string(&path).mode(DIRECTORY_MODE)
                }));
                to_open.push(std::mem::take(&mut parent));
                new.push(path.clone());
            }
            parent = path;
        }
        drop(durable);
        to_open.push(parent);
        let mut handles = Vec::new();
        if session.has(FSYNC) {
            for path in to_open {
                let id = send_open(session, &path);
                handles.push((path, id));
            }
        }
        Opening { made, handles, new }
    }

    /// Remembers that directories are durable.
    pub(super) fn note(&self, directories: Vec<String>) {
        self.lock().extend(directories);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opening {
    /// Waits for the answers.
    pub(super) fn finish(self, session: &mut Session) -> Result<Opened, RequestError> {
        for id in self.made {
            // Not made: it is there already, or giving the name will tell.
            let _ = session.status(id)?;
        }
        let mut handles = Vec::new();
        for (path, id) in self.handles {
            let handle = match session.handle(id)? {
                Ok(handle) => Some(handle),
                // A server that turned the order round: now it has been made.
                Err(failed) if failed.code == status::NO_SUCH_FILE => {
                    let id = send_open(session, &path);
                    session.handle(id)?.ok()
                }
                Err(_) => None,
            };
            handles.extend(handle);
        }
        Ok(Opened {
            handles,
            new: self.new,
        })
    }
}

impl Opened {
    /// Asks to make them durable, and closes them; behind the request that puts a name there.
    pub(super) fn sync(self, session: &mut Session) -> Syncing {
        // The name of the object first, then those of the directories above it.
        let waiting = self.handles.iter().rev().map(|handle| {
            session.send(request::EXTENDED, |packet| {
                packet.string(FSYNC).string(handle)
            })
        });
        let waiting = waiting.collect();
        let new = self.new.clone();
        self.close(session);
        Syncing { waiting, new }
    }

    /// Closes them.
    pub(super) fn close(self, session: &mut Session) {
        for handle in self.handles {
            session.send_and_forget(request::CLOSE, |packet| packet.string(&handle));
        }
    }
}

impl Syncing {
    /// Waits until they are durable; gives the directories that are so for the first time.
    pub(super) fn finish(self, session: &mut Session) -> Result<Vec<String>, RequestError> {
        let mut failure = None;
        for id in self.waiting {
            if let Err(failed) = session.status(id)?
                && failed.code != status::UNSUPPORTED
            {
                failure = Some(refused(&failed, "its directory cannot be made durable"));
            }
        }
        failure.map_or(Ok(self.new), Err)
    }

    /// Waits for answers that do not matter any more.
    pub(super) fn forget(self, session: &mut Session) -> Result<(), RequestError> {
        for id in self.waiting {
            let _ = session.status(id)?;
        }
        Ok(())
    }
}

/// Makes the directories of a key one after the other, durable each; an error says why one cannot be made.
pub(super) fn make(session: &mut Session, root: &str, key: &str) -> Result<(), RequestError> {
    for (end, _) in key.match_indices('/') {
        let path = format!("{root}/{}", &key[..end]);
        make_below(session, root, &path)?;
        let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
        sync(session, parent)?;
    }
    Ok(())
}

/// Makes a directory below the root, which must be there.
pub(super) fn make_below(
    session: &mut Session,
    root: &str,
    path: &str,
) -> Result<(), RequestError> {
    super::make(session, path)
        .map(drop)
        .map_err(|error| match error {
            RequestError::NotFound => RequestError::Refused {
                why: format!("the directory {root} is gone from the server"),
                hint: "Is it mounted over there? The directory is made by init only.",
            },
            other => other,
        })
}

/// Makes the names in a directory durable, where the server opens and syncs directories, as OpenSSH's does.
pub(super) fn sync(session: &mut Session, path: &str) -> Result<(), RequestError> {
    if !session.has(FSYNC) {
        return Ok(());
    }
    let id = send_open(session, path);
    let Ok(handle) = session.handle(id)? else {
        return Ok(());
    };
    let opened = Opened {
        handles: vec![handle],
        new: Vec::new(),
    };
    opened.sync(session).finish(session).map(drop)
}

fn send_open(session: &mut Session, path: &str) -> u32 {
    session.send(request::OPEN, |packet| {
        packet.string(path).number(open::READ).number(0)
    })
}
