//! Where a repository is and how it is reached: its `url` and the keys that belong to the kind of storage.
//!
//! One file a kind; a key that the kind does not know is unknown in the whole table.

mod azure;
mod gcs;
mod object_stores;
mod s3;
mod sftp;

use std::path::Path;
use std::time::Duration;

use strongroom_adapters::storage::{Credentials, Place, StorageSettings, TransferLimits};
use toml::Spanned;

use super::location::{UrlError, directory_from_url, resolve};
use super::section::Section;
use super::units::bytes;

/// The most requests that may be configured to run at the same time.
const CONNECTIONS_MAX: i64 = 64;

/// What the place of a repository depends on besides its own keys.
#[derive(Clone, Copy)]
pub(super) struct Surrounding<'d> {
    /// From where relative paths count.
    pub(super) directory: &'d Path,
    /// How long an epoch lasts.
    pub(super) epoch_days: u32,
}

/// A place as it was read.
pub(super) struct ParsedPlace {
    pub(super) url: Spanned<String>,
    pub(super) settings: StorageSettings,
    /// What `expire` and `repair` open it with, where that is something else.
    pub(super) expirer: Option<Credentials>,
    /// What restores open it with, where that is something else.
    pub(super) restorer: Option<Credentials>,
}

/// Reads the keys of a repository that say where it is.
pub(super) fn read(section: &Section<'_, '_>, around: Surrounding<'_>) -> Option<ParsedPlace> {
    let url = section.required("url", UrlError::HINT)?;
    let scheme = match scheme(url.get_ref()) {
        Ok(scheme) => scheme,
        Err(error) => {
            section.report(&url.span(), format!("\"url\": {error}"), UrlError::HINT);
            return None;
        }
    };
    let place = match scheme {
        Scheme::File => local(section, &url, around.directory),
        Scheme::S3 => s3::read(section, &url, around),
        Scheme::Gs => gcs::read(section, &url, around),
        Scheme::Az => azure::read(section, &url, around),
        Scheme::Sftp => sftp::read(section, &url, around),
    };
    let (mut own, mut limited) = (Credentials::default(), TransferLimits::default());
    let (mut expirer, mut restorer) = (None, None);
    // Read also where the URL is wrong, so that none of them counts as unknown.
    if scheme != Scheme::File {
        own = credentials(section, scheme, around.directory);
        limited = limits(section);
        expirer = role(section, "expirer", scheme, around.directory);
        restorer = role(section, "restorer", scheme, around.directory);
    }
    Some(ParsedPlace {
        url,
        settings: StorageSettings {
            place: place?,
            credentials: own,
            limits: limited,
            as_of: None,
        },
        expirer,
        restorer,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    File,
    S3,
    Gs,
    Az,
    Sftp,
}

/// Whether a URL can be one of a repository, as far as its text alone tells.
pub(super) fn check_url(url: &str, directory: &Path) -> Result<(), UrlError> {
    match scheme(url)? {
        Scheme::File => directory_from_url(url, directory).map(drop),
        _ => Ok(()),
    }
}

fn scheme(url: &str) -> Result<Scheme, UrlError> {
    match url.split_once(':') {
        Some(("file", _)) => Ok(Scheme::File),
        Some(("s3", _)) => Ok(Scheme::S3),
        Some(("gs", _)) => Ok(Scheme::Gs),
        Some(("az", _)) => Ok(Scheme::Az),
        Some(("sftp", _)) => Ok(Scheme::Sftp),
        Some((scheme, _)) if !scheme.contains('/') => {
            Err(UrlError::new(format!("unknown scheme \"{scheme}:\"")))
        }
        _ => Err(UrlError::new("not a URL")),
    }
}

fn local(section: &Section<'_, '_>, url: &Spanned<String>, directory: &Path) -> Option<Place> {
    match directory_from_url(url.get_ref(), directory) {
        Ok(path) => Some(Place::Local(path)),
        Err(error) => {
            section.report(&url.span(), format!("\"url\": {error}"), UrlError::HINT);
            None
        }
    }
}

/// The credentials of a table; a key that means nothing to the kind of storage is refused.
fn credentials(section: &Section<'_, '_>, scheme: Scheme, directory: &Path) -> Credentials {
    let text = |key| {
        let is_foreign = match key {
            "profile" => scheme != Scheme::S3,
            "user" => scheme != Scheme::Sftp,
            _ => false,
        };
        let value = section.string(key)?;
        if is_foreign {
            section.report(
                &value.span(),
                format!("\"{key}\" means nothing to this kind of storage"),
                "Take it out; the page of the storage in the guide says how it is opened.",
            );
        }
        Some(value.into_inner())
    };
    Credentials {
        file: text("credentials_file").map(|file| resolve(directory, file)),
        profile: text("profile"),
        user: text("user"),
    }
}

/// The credentials that one purpose has to itself.
fn role(
    section: &Section<'_, '_>,
    key: &'static str,
    scheme: Scheme,
    directory: &Path,
) -> Option<Credentials> {
    let (span, table) = section.table(key)?;
    let own = section.inner(key, span.clone(), table);
    let credentials = credentials(&own, scheme, directory);
    if credentials == Credentials::default() {
        own.report(
            &span,
            "no credentials",
            "Name them with credentials_file, profile or user, or take the table out.",
        );
    }
    own.finish();
    Some(credentials)
}

fn limits(section: &Section<'_, '_>) -> TransferLimits {
    let mut limits = TransferLimits::default();
    let in_range = |key, range: std::ops::RangeInclusive<i64>| -> Option<i64> {
        let value = section.integer(key)?;
        if range.contains(value.get_ref()) {
            return Some(value.into_inner());
        }
        section.report(
            &value.span(),
            format!("\"{key}\" is {}", value.get_ref()),
            format!("It is {} to {}.", range.start(), range.end()),
        );
        None
    };
    if let Some(connections) = in_range("connections", 1..=CONNECTIONS_MAX) {
        limits.connections = usize::try_from(connections).unwrap_or(1);
    }
    limits.upload_bytes_per_second = bytes(section, "upload_limit");
    limits.download_bytes_per_second = bytes(section, "download_limit");
    let requests = in_range("request_limit", 1..=i64::from(u32::MAX));
    limits.requests_per_second = requests.and_then(|requests| u32::try_from(requests).ok());
    if let Some(seconds) = in_range("patience_seconds", 1..=24 * 3600) {
        limits.patience = Duration::from_secs(seconds.unsigned_abs());
    }
    limits
}
