//! Google Cloud Storage: `gs://bucket/prefix`, by its XML interface.
//!
//! How a bucket is opened, and with what. Requests are in [`super::object_stores`].

use std::io;
use std::path::Path;

use object_store::gcp::GoogleCloudStorageBuilder;
use strongroom_core::cancel::Cancel;
use strongroom_core::storage::{Storage, StorageError};

use super::StorageSettings;
use super::object_stores::{self, Endpoint, Service, StoreRequests};
use super::remote::RemoteStorage;

/// Where the public service answers.
const PUBLIC: &str = "https://storage.googleapis.com";

/// A bucket, and how it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsSettings {
    /// The URL as it was written.
    pub url: String,
    /// The bucket's name.
    pub bucket: String,
    /// What the names of objects begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How the service is reached.
    pub endpoint: Endpoint,
    /// The storage class of new objects; the bucket's default when there is none.
    pub storage_class: Option<String>,
}

/// Opens it. Credentials are a service account in a file, else the application default credentials.
///
/// No request is made: a missing bucket or a wrong key is an error of the first one.
pub fn open(
    place: &GcsSettings,
    settings: &StorageSettings,
    cancel: &Cancel,
) -> Result<Box<dyn Storage>, StorageError> {
    object_stores::refuse_as_of(&place.url, settings)?;
    let unusable = |source| StorageError::Settings {
        location: place.url.clone(),
        source,
    };
    let options = place.endpoint.client_options().map_err(unusable)?;
    let builder = match &settings.credentials.file {
        Some(file) => with_file(file).map_err(unusable)?,
        // The environment and the files of gcloud; what else it can set is overwritten below.
        None => GoogleCloudStorageBuilder::from_env().with_skip_signature(false),
    };
    let store = builder
        .with_bucket_name(&place.bucket)
        .with_base_url(place.endpoint.base().unwrap_or(PUBLIC))
        .with_client_options(options)
        .with_retry(object_stores::no_retries())
        .with_http_connector(object_stores::connector())
        .build()
        .map_err(|_| {
            let elsewhere = "the application default credentials cannot be used; name a service account in credentials_file";
            unusable(object_stores::no_usable_key(settings, elsewhere))
        })?;
    let requests = StoreRequests::new(
        store,
        Service::Gcs,
        (&place.url, &place.prefix),
        place.storage_class.as_deref(),
        settings,
    );
    Ok(Box::new(RemoteStorage::new(
        requests,
        settings.limits.clone(),
        cancel.clone(),
    )))
}

/// Reads a file of credentials, as `gcloud` writes them.
fn with_file(file: &Path) -> io::Result<GoogleCloudStorageBuilder> {
    #[derive(serde::Deserialize)]
    struct Kind {
        r#type: Option<String>,
    }

    let invalid = |why: &str| object_stores::invalid_credentials(file, why);
    let text = object_stores::read_credentials(file)?;
    // What is wrong with the JSON is not shown: it is a secret.
    let kind: Kind =
        serde_json::from_str(&text).map_err(|_| invalid("it is no JSON of credentials"))?;
    match kind.r#type.as_deref() {
        Some("service_account") | None => {
            Ok(GoogleCloudStorageBuilder::new().with_service_account_key(text.as_str()))
        }
        Some("authorized_user") => {
            let path = file
                .to_str()
                .ok_or_else(|| invalid("its path is not UTF-8"))?;
            Ok(GoogleCloudStorageBuilder::new().with_application_credentials(path))
        }
        Some(_) => Err(invalid(
            "credentials of this type are not supported; make a key of a service account",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::{Credentials, Place, TransferLimits};
    use super::*;

    fn opened(credentials: &str) -> Result<Box<dyn Storage>, StorageError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.as_file()
            .write_all(credentials.as_bytes())
            .expect("writes");
        let place = GcsSettings {
            url: "gs://bucket".into(),
            bucket: "bucket".into(),
            ..GcsSettings::default()
        };
        let settings = StorageSettings {
            place: Place::Gcs(place.clone()),
            credentials: Credentials {
                file: Some(file.path().to_owned()),
                ..Credentials::default()
            },
            limits: TransferLimits::default(),
            as_of: None,
        };
        open(&place, &settings, &Cancel::default())
    }

    #[test]
    fn files_that_are_no_credentials_are_refused_and_not_quoted() {
        for (text, part) in [
            ("", "no JSON"),
            ("planted-secret", "no JSON"),
            ("{\"private_key\": planted-secret}", "no JSON"),
            (
                "{\"type\":\"external_account\",\"x\":\"planted-secret\"}",
                "not supported",
            ),
            ("{\"private_key\": \"planted-secret\"}", "no key"),
            (
                "{\"type\":\"service_account\",\"private_key\":\"planted-secret\",\"private_key_id\":\"1\",\"client_email\":\"a@b\"}",
                "no key",
            ),
        ] {
            let error = opened(text).err().expect("refused");
            let error = strongroom_core::error_chain(&error);
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("planted"), "{error}");
        }
    }
}
