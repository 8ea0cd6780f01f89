//! A directory of an SSH server: `sftp://user@host:port/path`.
//!
//! The stock `ssh` carries the session ([`ssh`]), SFTP version 3 is spoken over its pipes ([`session`], [`wire`]).
//! Here is what is asked of a server for each request of a storage; [`pool`] keeps the sessions, [`transfer`]
//! moves bytes, [`publish`] gives objects their names in [`directories`], [`listing`] reads those. Nothing here repeats a request.

mod directories;
mod listing;
mod pool;
mod publish;
mod session;
mod ssh;
mod transfer;
mod wire;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use strongroom_core::cancel::Cancel;
use strongroom_core::format::name::ObjectName;
use strongroom_core::storage::{FreeSpace, ObjectStat, Put, Storage, StorageError};

use super::remote::{RemoteStorage, RequestError, Requests};
use super::{Credentials, StorageSettings};
use pool::Pool;
use publish::Publisher;
use session::{Failed, Session};
use transfer::Content;
use wire::{Answer, Attributes, request, status};

/// What the mode of a new directory is.
const DIRECTORY_MODE: u32 = 0o700;

/// What the file of a pinned host key is called at its beginning.
const HOST_KEY_PREFIX: &str = "strongroom-host-key-";

/// A directory, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SftpSettings {
    /// The URL as it is shown; it has no password.
    pub url: String,
    /// The host, or its name in `~/.ssh/config`.
    pub host: String,
    /// The port, if not the one that ssh takes.
    pub port: Option<u16>,
    /// The user, if not the one that ssh takes; that of the credentials goes first.
    pub user: Option<String>,
    /// The directory: absolute, or relative to where a login begins. Without a slash at its end.
    pub directory: String,
    /// The file of host keys that counts alone, if not those of ssh.
    pub known_hosts: Option<PathBuf>,
    /// The host key that counts alone: kind and key, as in a public key file.
    pub host_key: Option<String>,
}

/// Opens it; the first request connects.
pub fn open(
    place: &SftpSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    Ok(Box::new(connect(place, settings, cancel)?))
}

/// Makes the directory where it does not exist, and opens it.
pub fn create(
    place: &SftpSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    let storage = storage(place, settings, cancel, true)?;
    // Any request connects, and what connects makes the directory.
    storage.stat(&ObjectName::repository(1))?;
    Ok(Box::new(storage))
}

/// Opens it, with its requests in reach.
pub fn connect(
    place: &SftpSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<RemoteStorage<SftpRequests>, StorageError> {
    storage(place, settings, cancel, false)
}

fn storage(
    place: &SftpSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
    makes_root: bool,
) -> Result<RemoteStorage<SftpRequests>, StorageError> {
    let unusable = |source| StorageError::Settings {
        location: place.url.clone(),
        source,
    };
    let host_key_file = place
        .host_key
        .as_deref()
        .map(known_hosts_of)
        .transpose()
        .map_err(unusable)?;
    let known_hosts = match &host_key_file {
        Some(file) => Some(file.path()),
        None => place.known_hosts.as_deref(),
    };
    let arguments = arguments(place, &settings.credentials, known_hosts, settings)?;
    let limits = settings.limits.clone();
    let requests = SftpRequests {
        location: place.url.clone(),
        root: place.directory.clone(),
        makes_root,
        key_file: settings.credentials.file.clone(),
        pool: Pool::new(arguments, &limits, cancel.clone()),
        publisher: Publisher::default(),
        _host_key_file: host_key_file,
    };
    Ok(RemoteStorage::new(requests, limits, cancel.clone()))
}

/// A file of known hosts that knows one key, for whatever host is asked.
fn known_hosts_of(host_key: &str) -> std::io::Result<tempfile::NamedTempFile> {
    // 0600 and of a random name, as the crate makes them.
    let mut file = tempfile::Builder::new()
        .prefix(HOST_KEY_PREFIX)
        .tempfile()?;
    writeln!(file, "* {host_key}")?;
    file.flush()?;
    Ok(file)
}

/// The arguments of ssh.
fn arguments(
    place: &SftpSettings,
    credentials: &Credentials,
    known_hosts: Option<&Path>,
    settings: &StorageSettings,
) -> Result<Vec<String>, StorageError> {
    let seconds = settings.limits.patience.as_secs().clamp(1, 10);
    let mut all = vec!["-T".into(), "-x".into(), "-a".into()];
    let mut option = |text: String| all.extend(["-o".to_owned(), text]);
    for fixed in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=3",
        // What may stand in ~/.ssh/config for people at a terminal.
        "ControlMaster=no",
        "ControlPath=none",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "RequestTTY=no",
        // What is sent is sealed, and does not get smaller.
        "Compression=no",
    ] {
        option(fixed.to_owned());
    }
    option(format!("ConnectTimeout={seconds}"));
    if let Some(file) = known_hosts {
        let file = word_of(file).map_err(|source| unusable_file(place, source))?;
        option(format!("UserKnownHostsFile=\"{file}\""));
        option("GlobalKnownHostsFile=none".to_owned());
    }
    if let Some(file) = &credentials.file {
        let file = word_of(file).map_err(|source| unusable_file(place, source))?;
        option("IdentitiesOnly=yes".to_owned());
        option(format!("IdentityFile=\"{file}\""));
    }
    if let Some(port) = place.port {
        option(format!("Port={port}"));
    }
    if let Some(user) = credentials.user.as_ref().or(place.user.as_ref()) {
        all.extend(["-l".to_owned(), user.clone()]);
    }
    all.extend(["-s", "--", &place.host, "sftp"].map(str::to_owned));
    Ok(all)
}

fn unusable_file(place: &SftpSettings, source: std::io::Error) -> StorageError {
    StorageError::Settings {
        location: place.url.clone(),
        source,
    }
}

/// A path that ssh takes as it is: it would expand `%`, `$` and `~`.
fn word_of(path: &Path) -> std::io::Result<String> {
    let text = path.to_str().filter(|text| {
        let is_odd = |letter: char| "\"%$\\".contains(letter) || letter.is_control();
        text.starts_with('/') && !text.contains(is_odd)
    });
    text.map(str::to_owned).ok_or_else(|| {
        let why = format!(
            "ssh cannot be given the file {path:?}: its path must be absolute and without \", %, $ and \\"
        );
        std::io::Error::new(std::io::ErrorKind::InvalidInput, why)
    })
}

/// The requests of a storage, each over a session of the pool.
pub struct SftpRequests {
    location: String,
    root: String,
    makes_root: bool,
    /// The private key that ssh logs in with, where one was named.
    key_file: Option<PathBuf>,
    pool: Pool,
    publisher: Publisher,
    /// Removed with the storage.
    _host_key_file: Option<tempfile::NamedTempFile>,
}

impl SftpRequests {
    /// The most requests that a session had in flight at once so far.
    pub fn most_in_flight(&self) -> usize {
        self.pool.most_in_flight()
    }

    /// Runs `work` with a session that has seen the directory.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let done = self.pool.with(|session| self.greet(session), work);
        done.map_err(|error| match &self.key_file {
            Some(file) => ssh::about_key(error, file),
            None => error,
        })
    }

    /// Looks whether the directory is there, once a session; makes it where that was asked for.
    fn greet(&self, session: &mut Session) -> Result<(), RequestError> {
        match look(session, &self.root)? {
            Some(attributes) if attributes.is_directory() => Ok(()),
            // A link to a directory, as administrators make them.
            Some(_) => {
                let id = session.send(request::OPENDIR, |packet| packet.string(&self.root));
                let handle = session.handle(id)?.map_err(|_| RequestError::Absent {
                    why: format!(
                        "{} is no directory on the server, or the account may not enter it",
                        self.root
                    ),
                })?;
                session.send_and_forget(request::CLOSE, |packet| packet.string(handle));
                Ok(())
            }
            None if self.makes_root => make_all(session, &self.root),
            None => Err(RequestError::Absent {
                why: format!(
                    "there is no directory {} on the server (sftp://host/~/x counts from where a login begins)",
                    self.root
                ),
            }),
        }
    }

    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.root)
    }
}

impl Requests for SftpRequests {
    fn location(&self) -> &str {
        &self.location
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<Put, RequestError> {
        self.with(|session| {
            let content = Content::Bytes(&body);
            self.publisher.put(session, &self.root, key, &content)
        })
    }

    fn put_new_file(&self, key: &str, file: &Path, size_bytes: u64) -> Result<Put, RequestError> {
        self.with(|session| {
            let file = std::fs::File::open(file)?;
            let content = Content::File(file, size_bytes);
            self.publisher.put(session, &self.root, key, &content)
        })
    }

    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, RequestError> {
        self.with(|session| transfer::get(session, &self.path(key), offset, length))
    }

    fn goes_together(&self) -> bool {
        true
    }

    fn get_together(
        &self,
        keys: &[&str],
        length: usize,
        take: &mut dyn FnMut(Result<Vec<u8>, RequestError>),
    ) {
        let paths: Vec<String> = keys.iter().map(|key| self.path(key)).collect();
        let all = self.with(|session| transfer::get_together(session, &paths, length, take));
        if let Err(error) = all {
            tracing::debug!(%error, "not all were read together");
        }
    }

    fn head(&self, key: &str) -> Result<Option<ObjectStat>, RequestError> {
        self.with(|session| {
            let there = look(session, &self.path(key))?;
            Ok(there.filter(Attributes::is_file).map(|it| stat_of(&it)))
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectStat)>, RequestError> {
        self.with(|session| listing::list(session, &self.root, prefix))
    }

    fn delete(&self, key: &str) -> Result<(), RequestError> {
        self.with(|session| {
            self.publisher.tidy_once(session, &self.root)?;
            let path = self.path(key);
            let id = send_remove(session, &path);
            removed(session, id, &path)?
        })
    }

    fn delete_together(&self, keys: &[&str], take: &mut dyn FnMut(Result<(), RequestError>)) {
        let all = self.with(|session| {
            self.publisher.tidy_once(session, &self.root)?;
            let paths: Vec<String> = keys.iter().map(|key| self.path(key)).collect();
            let sent: Vec<u32> = paths
                .iter()
                .map(|path| send_remove(session, path))
                .collect();
            for (id, path) in sent.into_iter().zip(&paths) {
                take(removed(session, id, path)?);
            }
            Ok(())
        });
        if let Err(error) = all {
            tracing::debug!(%error, "not all were deleted together");
        }
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, RequestError> {
        self.with(|session| space(session, &self.root))
    }

    fn connect_ahead(&self) {
        let ready = self.pool.open_another(
            |session| self.greet(session),
            |session| self.publisher.naming(session, &self.root).map(drop),
        );
        if let Err(error) = ready {
            tracing::debug!(%error, "not connected ahead");
        }
    }
}

/// What is at a path, without following a link; `None` where there is nothing.
fn look(session: &mut Session, path: &str) -> Result<Option<Attributes>, RequestError> {
    let id = send_look(session, path);
    match session.attributes(id)? {
        Ok(attributes) => Ok(Some(attributes)),
        Err(failed) if failed.code == status::NO_SUCH_FILE => Ok(None),
        Err(failed) => Err(refused(&failed, "cannot look at it")),
    }
}

fn send_look(session: &mut Session, path: &str) -> u32 {
    session.send(request::LSTAT, |packet| packet.string(path))
}

fn send_remove(session: &mut Session, path: &str) -> u32 {
    session.send(request::REMOVE, |packet| packet.string(path))
}

/// What came of a removal; the outer error means that the session broke.
fn removed(
    session: &mut Session,
    id: u32,
    path: &str,
) -> Result<Result<(), RequestError>, RequestError> {
    Ok(match session.status(id)? {
        Ok(()) => Ok(()),
        Err(failed) if failed.code == status::NO_SUCH_FILE => Ok(()),
        // A directory has no object's name, whatever it is called.
        Err(failed) => match look(session, path)? {
            Some(there) if there.is_file() => Err(refused(&failed, "it stays")),
            _ => Ok(()),
        },
    })
}

/// Makes a directory; whether it is new.
fn make(session: &mut Session, path: &str) -> Result<bool, RequestError> {
    let id = session.send(request::MKDIR, |packet| {
        packet.string(path).mode(DIRECTORY_MODE)
    });
    match session.status(id)? {
        Ok(()) => Ok(true),
        Err(failed) => match look(session, path)? {
            Some(there) if there.is_directory() => Ok(false),
            Some(_) => Err(refused(
                &failed,
                "something else is where a directory must be",
            )),
            None => Err(full_or_refused(session, path, &failed)?),
        },
    }
}

/// Makes a directory with its parents.
fn make_all(session: &mut Session, path: &str) -> Result<(), RequestError> {
    let ends = path
        .char_indices()
        .filter(|(at, letter)| *letter == '/' && *at > 0)
        .map(|(at, _)| at)
        .chain([path.len()]);
    for end in ends {
        if look(session, &path[..end])?.is_none() {
            make(session, &path[..end])?;
        }
    }
    Ok(())
}

fn space(session: &mut Session, path: &str) -> Result<Option<FreeSpace>, RequestError> {
    const STATVFS: &str = "statvfs@openssh.com";
    if !session.has(STATVFS) {
        return Ok(None);
    }
    let id = session.send(request::EXTENDED, |packet| {
        packet.string(STATVFS).string(path)
    });
    match session.answer(id)? {
        Answer::Extended(bytes) => {
            let numbers = wire::numbers(&bytes).map_err(RequestError::transient)?;
            let [_, fragment, blocks, _, available, ..] = numbers[..] else {
                return Ok(None);
            };
            let free_bytes = available.saturating_mul(fragment);
            Ok(Some(FreeSpace {
                free_bytes,
                total_bytes: blocks.saturating_mul(fragment).max(free_bytes),
            }))
        }
        // Not there, or not for this account.
        Answer::Status(..) => Ok(None),
        other => Err(session.unexpected(&other)),
    }
}

/// Below this many free bytes a write that failed for no stated reason failed for want of room.
const FULL_BELOW: u64 = 64 << 10;

/// A failure that has no reason in version 3: the disk is full, or it is refused.
fn full_or_refused(
    session: &mut Session,
    path: &str,
    failed: &Failed,
) -> Result<RequestError, RequestError> {
    let is_stated = matches!(
        failed.code,
        status::PERMISSION_DENIED | status::NO_SUCH_FILE | status::UNSUPPORTED
    );
    let directory = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
    if !is_stated
        && let Some(space) = space(session, directory)?
        && space.free_bytes < FULL_BELOW
    {
        return Ok(RequestError::NoSpace);
    }
    Ok(refused(failed, "it cannot be written"))
}

/// What a failure means for whoever asked.
fn refused(failed: &Failed, what: &str) -> RequestError {
    let words: String = failed
        .message
        .chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect();
    let code = failed.code;
    let hint = match code {
        status::NO_SUCH_FILE => return RequestError::NotFound,
        status::NO_CONNECTION | status::CONNECTION_LOST => {
            return RequestError::transient(format!("{what}: {words}"));
        }
        status::PERMISSION_DENIED => {
            "The account may not do this over there: check the owner and the mode of the directory, and what sshd_config allows the account."
        }
        status::UNSUPPORTED => {
            "The server lacks a request that Strongroom needs; the guide has the list. OpenSSH's internal-sftp has them all."
        }
        _ => {
            "The server does not say why: a full disk, a quota, a file system that is read-only or broken? Its log may tell."
        }
    };
    RequestError::Refused {
        why: format!("{what} (the server says: {words}, code {code})"),
        hint,
    }
}

fn stat_of(attributes: &Attributes) -> ObjectStat {
    let stored = attributes
        .modified
        .and_then(|seconds| jiff::Timestamp::from_second(seconds.into()).ok());
    ObjectStat {
        size_bytes: attributes.size_bytes.unwrap_or_default(),
        stored,
    }
}
