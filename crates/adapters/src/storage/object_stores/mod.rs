//! What the storages by the crate `object_store` share: its stores as [`Requests`], one request a call.
//!
//! Nothing here knows how a service is opened; [`super::gcs`] and [`super::azure`] do that. The crate repeats nothing
//! itself ([`answers`]): repetition is [`super::remote`]'s, with the parts of a large object as the one exception.

mod answers;
mod endpoint;
mod parts;
mod refusal;

use std::io;
use std::path::Path as FilePath;
use std::time::Duration;

use bytes::Bytes;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig,
};
use strongroom_core::storage::{ObjectStat, Put, Refusal, StorageError};
use zeroize::Zeroizing;

use super::StorageSettings;
use super::remote::runtime::block_on;
use super::remote::{RequestError, Requests};
use answers::{Answer, Connector};

pub use endpoint::Endpoint;

/// The largest offset that is asked for: more is behind the end of every object.
const OFFSET_MAX: u64 = 1 << 62;

/// Which service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// Makes clients of the crate that do not repeat by themselves and whose answers are typed.
pub(super) fn connector() -> impl object_store::client::HttpConnector {
    Connector
}

/// No repetition by the crate.
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::ZERO,
    }
}

/// What neither service can do with this crate is refused when it is opened.
pub(super) fn refuse_as_of(url: &str, settings: &StorageSettings) -> Result<(), StorageError> {
    if settings.as_of.is_none() {
        return Ok(());
    }
    Err(StorageError::Refused(Box::new(Refusal {
        location: url.to_owned(),
        operation: "show",
        name: "an earlier time".into(),
        why: "earlier versions cannot be read from this kind of storage".into(),
        hint: "Bring the versions of that time back with the service's own tools (the guide shows how), then read without --as-of.",
    })))
}

/// The text of a file of credentials.
pub(super) fn read_credentials(file: &FilePath) -> io::Result<Zeroizing<String>> {
    std::fs::read_to_string(file)
        .map(Zeroizing::new)
        .map_err(|error| invalid_credentials(file, &error.to_string()))
}

/// Why a file of credentials is of no use; nothing of what is in it may be said.
pub(super) fn invalid_credentials(file: &FilePath, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{}: {why}", file.display()),
    )
}

/// No key was found that the crate can use: in the file, or where else it looks, of which `elsewhere` is said.
pub(super) fn no_usable_key(settings: &StorageSettings, elsewhere: &str) -> io::Error {
    match &settings.credentials.file {
        Some(file) => invalid_credentials(file, "it holds no key that can be used"),
        None => io::Error::new(io::ErrorKind::InvalidData, elsewhere),
    }
}

/// A store of the crate, as requests.
pub(super) struct StoreRequests<S> {
    store: S,
    service: Service,
    url: String,
    /// Empty, or ends in a slash.
    prefix: String,
    storage_class: Option<String>,
    /// Parts of one object at the same time.
    connections: usize,
}

impl<S: ObjectStore + PaginatedListStore> StoreRequests<S> {
    /// Makes them of a store; `prefix` is without slashes at its ends.
    pub(super) fn new(
        store: S,
        service: Service,
        (url, prefix): (&str, &str),
        storage_class: Option<&str>,
        settings: &StorageSettings,
    ) -> Self {
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self {
            store,
            service,
            url: url.to_owned(),
            prefix,
            storage_class: storage_class.map(str::to_owned),
            connections: settings.limits.connections,
        }
    }

    fn path(&self, key: &str) -> Result<Path, RequestError> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|error| self.error(&error.into()))
    }

    fn error(&self, error: &object_store::Error) -> RequestError {
        refusal::classify(self.service, error)
    }

    /// A refusal to store, unless the object is there: who may not overwrite may be refused before the service
    /// looks at the condition, and at the end of a race that another upload has won.
    fn unless_there(&self, key: &str, error: RequestError) -> Result<Put, RequestError> {
        if matches!(error, RequestError::Refused { .. }) && matches!(self.head(key), Ok(Some(_))) {
            return Ok(Put::AlreadyThere);
        }
        Err(error)
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        if let Some(class) = &self.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    fn stat(meta: &ObjectMeta) -> ObjectStat {
        let stored = meta.last_modified;
        let nanoseconds = i32::try_from(stored.timestamp_subsec_nanos()).unwrap_or(0);
        ObjectStat {
            size_bytes: meta.size,
            stored: jiff::Timestamp::new(stored.timestamp(), nanoseconds).ok(),
        }
    }
}

impl<S: ObjectStore + PaginatedListStore> Requests for StoreRequests<S> {
    fn location(&self) -> &str {
        &self.url
    }

    fn put_new(&self, key: &str, body: Bytes) -> Result<Put, RequestError> {
        let path = self.path(key)?;
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: self.attributes(),
            ..PutOptions::default()
        };
        let payload = PutPayload::from(body);
        match block_on(self.store.put_opts(&path, payload, options)) {
            Ok(_) => Ok(Put::Stored),
            Err(error) if says_there_is_one(&error) => Ok(Put::AlreadyThere),
            Err(error) => self.unless_there(key, self.error(&error)),
        }
    }

    /// The services take no condition for parts (ADR 0016), so absence is looked up first. Of two that race, the
    /// second writes the same bytes again: such names are digests of their content.
    fn put_new_file(
        &self,
        key: &str,
        file: &FilePath,
        size_bytes: u64,
    ) -> Result<Put, RequestError> {
        if self.head(key)?.is_some() {
            return Ok(Put::AlreadyThere);
        }
        let upload = parts::Upload {
            store: &self.store,
            path: self.path(key)?,
            attributes: self.attributes(),
            connections: self.connections,
        };
        let error = match block_on(upload.send(file, size_bytes)) {
            Ok(()) => return Ok(Put::Stored),
            Err(parts::UploadError::Store(error)) => self.error(&error),
            Err(parts::UploadError::File(error)) => return Err(error.into()),
        };
        self.unless_there(key, error)
    }

    fn get(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, RequestError> {
        if length == 0 || offset >= OFFSET_MAX {
            let there = self.head(key)?;
            return there.map(|_| Vec::new()).ok_or(RequestError::NotFound);
        }
        let path = self.path(key)?;
        let end = offset.saturating_add(length as u64).min(OFFSET_MAX);
        let options = GetOptions {
            range: Some(GetRange::Bounded(offset..end)),
            ..GetOptions::default()
        };
        let read = async { self.store.get_opts(&path, options).await?.bytes().await };
        match block_on(read) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if status(&error) == Some(416) => Ok(Vec::new()),
            // An empty object has no ranges; some answer with all of it, which the crate does not take.
            Err(error) if status(&error).is_none() => match self.head(key) {
                Ok(Some(stat)) if stat.size_bytes <= offset => Ok(Vec::new()),
                _ => Err(self.error(&error)),
            },
            Err(error) => Err(self.error(&error)),
        }
    }

    fn head(&self, key: &str) -> Result<Option<ObjectStat>, RequestError> {
        match block_on(self.store.head(&self.path(key)?)) {
            Ok(meta) => Ok(Some(Self::stat(&meta))),
            Err(error) => match self.error(&error) {
                RequestError::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, ObjectStat)>, RequestError> {
        let begin = format!("{}{prefix}", self.prefix);
        let mut found = Vec::new();
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                page_token: page_token.take(),
                ..PaginatedListOptions::default()
            };
            let page =
                block_on(self.store.list_paginated(Some(&begin), options)).map_err(|error| {
                    match self.error(&error) {
                        // A listing is of the place, not of an object.
                        RequestError::NotFound => refusal::no_place(self.service),
                        error => error,
                    }
                })?;
            for meta in page.result.objects {
                if let Some(key) = meta.location.as_ref().strip_prefix(&self.prefix) {
                    found.push((key.to_owned(), Self::stat(&meta)));
                }
            }
            page_token = page.page_token;
            if page_token.is_none() {
                break;
            }
        }
        // Of Azure's listings the crate takes out the blob whose name is the prefix itself.
        let is_taken_out = self.service == Service::Azure
            && !begin.ends_with('/')
            && Path::parse(&begin).is_ok_and(|path| path.as_ref() == begin)
            && !found.iter().any(|(key, _)| key == prefix);
        if is_taken_out && let Some(stat) = self.head(prefix)? {
            found.push((prefix.to_owned(), stat));
        }
        Ok(found)
    }

    fn delete(&self, key: &str) -> Result<(), RequestError> {
        match block_on(self.store.delete(&self.path(key)?)) {
            Ok(()) => Ok(()),
            Err(error) => match self.error(&error) {
                RequestError::NotFound => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// The status of an answer that said no.
fn status(error: &object_store::Error) -> Option<u16> {
    refusal::find::<Answer>(error).map(|answer| answer.status)
}

/// Whether a conditional request found an object of that name.
fn says_there_is_one(error: &object_store::Error) -> bool {
    let Some(answer) = refusal::find::<Answer>(error) else {
        return false;
    };
    let code = answer.code.as_deref();
    match answer.status {
        412 => !matches!(code, Some("LeaseIdMissing")),
        409 => matches!(code, Some("BlobAlreadyExists")),
        _ => false,
    }
}
