//! Azure Blob Storage: `az://account/container/prefix`.
//!
//! How a container is opened, and with what. Requests are in [`super::object_stores`].

use std::io;
use std::path::Path;

use object_store::azure::MicrosoftAzureBuilder;
use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Storage, StorageError};
use zeroize::Zeroizing;

use super::StorageSettings;
use super::object_stores::{self, Endpoint, Service, StoreRequests};
use super::remote::RemoteStorage;

/// A container, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureSettings {
    /// The URL as it was written.
    pub url: String,
    /// The storage account's name.
    pub account: String,
    /// The container's name.
    pub container: String,
    /// What the names of blobs begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How the service is reached.
    pub endpoint: Endpoint,
    /// The access tier of new blobs; the account's default when there is none.
    pub access_tier: Option<String>,
}

/// Opens it. Credentials are an account key, a shared access signature or a connection string in a file, else what
/// the environment (`AZURE_*`) names, else the managed identity of this host.
///
/// No request is made: a missing container or a wrong key is an error of the first one.
pub fn open(
    place: &AzureSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    object_stores::refuse_as_of(&place.url, settings)?;
    let unusable = |source| StorageError::Settings {
        location: place.url.clone(),
        source,
    };
    let mut endpoint = place.endpoint.clone();
    let builder = match &settings.credentials.file {
        Some(file) => {
            let secret = read(file, &place.account).map_err(unusable)?;
            if endpoint.url.is_none() {
                endpoint.url.clone_from(&secret.endpoint);
            }
            secret.given_to(MicrosoftAzureBuilder::new())
        }
        // What else the environment can set is overwritten below.
        None => MicrosoftAzureBuilder::from_env()
            .with_use_emulator(false)
            .with_use_fabric_endpoint(false)
            .with_skip_signature(false),
    };
    let options = endpoint.client_options().map_err(unusable)?;
    let public = || format!("https://{}.blob.core.windows.net", place.account);
    let store = builder
        .with_account(&place.account)
        .with_container_name(&place.container)
        .with_endpoint(endpoint.base().map_or_else(public, str::to_owned))
        .with_client_options(options)
        .with_retry(object_stores::no_retries())
        .with_http_connector(object_stores::connector())
        .build()
        .map_err(|_| {
            let elsewhere =
                "the credentials of the environment cannot be used; name a credentials_file";
            unusable(object_stores::no_usable_key(settings, elsewhere))
        })?;
    let requests = StoreRequests::new(
        store,
        Service::Azure,
        (&place.url, &place.prefix),
        place.access_tier.as_deref(),
        settings,
    );
    Ok(Box::new(RemoteStorage::new(
        requests,
        settings.limits.clone(),
        cancel.clone(),
    )))
}

/// What a file of credentials holds.
struct Secret {
    kind: SecretKind,
    endpoint: Option<String>,
}

enum SecretKind {
    AccountKey(Zeroizing<String>),
    /// Pairs of a query, still encoded.
    Signature(Zeroizing<String>),
}

impl Secret {
    fn given_to(&self, builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
        use object_store::azure::AzureConfigKey;
        match &self.kind {
            SecretKind::AccountKey(key) => builder.with_access_key(key.as_str()),
            SecretKind::Signature(query) => {
                builder.with_config(AzureConfigKey::SasKey, query.as_str())
            }
        }
    }
}

/// Reads a file of credentials and tells which of the three kinds it is.
fn read(file: &Path, account: &str) -> io::Result<Secret> {
    let text = object_stores::read_credentials(file)?;
    parse(text.trim(), account).map_err(|why| object_stores::invalid_credentials(file, why))
}

fn parse(text: &str, account: &str) -> Result<Secret, &'static str> {
    let keep = |text: &str| Zeroizing::new(text.to_owned());
    if text.contains("AccountKey=") || text.contains("SharedAccessSignature=") {
        return connection_string(text, account);
    }
    let (kind, endpoint) = if is_signature(text) {
        (
            SecretKind::Signature(keep(text.trim_start_matches('?'))),
            None,
        )
    } else if is_key(text) {
        (SecretKind::AccountKey(keep(text)), None)
    } else {
        return Err(
            "it holds none of the three: an account key, a shared access signature (sv=...&sig=...), a connection string (AccountName=...;AccountKey=...)",
        );
    };
    Ok(Secret { kind, endpoint })
}

fn connection_string(text: &str, account: &str) -> Result<Secret, &'static str> {
    let mut kind = None;
    let mut endpoint = None;
    for pair in text.split(';').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair
            .trim()
            .split_once('=')
            .ok_or("it is no connection string: a part has no \"=\"")?;
        match key {
            "AccountName" if value != account => {
                return Err("the connection string is of another account than the URL");
            }
            "AccountKey" if is_key(value) => {
                kind = Some(SecretKind::AccountKey(Zeroizing::new(value.to_owned())));
            }
            "AccountKey" => return Err("the AccountKey of the connection string is no key"),
            "SharedAccessSignature" if is_signature(value) => {
                let query = value.trim_start_matches('?').to_owned();
                kind = Some(SecretKind::Signature(Zeroizing::new(query)));
            }
            "SharedAccessSignature" => {
                return Err("the SharedAccessSignature of the connection string is none");
            }
            "BlobEndpoint" => endpoint = Some(value.to_owned()),
            // Queues, tables and files are of no use here; the suffix and the protocol are in the endpoint.
            _ => {}
        }
    }
    let kind = kind.ok_or("the connection string holds no key")?;
    Ok(Secret { kind, endpoint })
}

fn is_signature(text: &str) -> bool {
    let pairs = text.trim_start_matches('?');
    let has = |key: &str| pairs.split('&').any(|pair| pair.starts_with(key));
    has("sv=") && has("sig=") && !text.contains(char::is_whitespace)
}

/// Whether it is base64 of at least 32 bytes; the service's keys have 64.
fn is_key(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len() >= 44
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "cGxhbnRlZC1wbGFudGVkLXBsYW50ZWQtcGxhbnRlZC1wbGFudGVkLXBsYW50ZWQtcGxhbnRlZC1wbGFudGU=";

    #[test]
    fn the_three_kinds_of_credentials_are_told_apart() {
        let key = parse(KEY, "a").expect("a key");
        assert!(matches!(key.kind, SecretKind::AccountKey(found) if *found == KEY));
        for text in [
            "?sv=2024-11-04&sp=rc&sig=x%3D",
            "sp=rc&sv=2024-11-04&sig=x%3D",
        ] {
            let signature = parse(text, "a").expect("a signature");
            let SecretKind::Signature(found) = signature.kind else {
                panic!("{text}");
            };
            assert_eq!(*found, text.trim_start_matches('?'));
        }
        let text = format!(
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:1/a;"
        );
        let string = parse(&text, "a").expect("a connection string");
        assert!(matches!(string.kind, SecretKind::AccountKey(found) if *found == KEY));
        assert_eq!(string.endpoint.as_deref(), Some("http://127.0.0.1:1/a"));
        let text = "BlobEndpoint=https://a.example.org/;SharedAccessSignature=sv=1&sig=2";
        let string = parse(text, "a").expect("a connection string");
        assert!(matches!(string.kind, SecretKind::Signature(found) if *found == "sv=1&sig=2"));
    }

    #[test]
    fn what_is_none_of_them_is_refused_and_not_quoted() {
        for (text, part) in [
            ("", "none of the three"),
            ("planted", "none of the three"),
            ("sv=2024 planted&sig=x", "none of the three"),
            ("sv=2024&sp=planted", "none of the three"),
            ("AccountName=other;AccountKey=planted", "another account"),
            ("AccountName=a;AccountKey=planted", "is no key"),
            ("AccountName=a;AccountKey=", "is no key"),
            ("AccountKey=;planted", "is no key"),
            ("planted;AccountKey=x", "no \"=\""),
            ("SharedAccessSignature=planted", "is none"),
        ] {
            let error = parse(text, "a").err().expect("refused");
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
