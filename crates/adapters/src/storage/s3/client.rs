//! The connection: region, credentials, trust and timeouts. Asks nothing itself.
//!
//! What the environment says (`AWS_...`, profiles, instance roles) is read by Amazon's library, as its other
//! programs do; the endpoint alone comes from the configuration only.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
#[expect(
    deprecated,
    reason = "the new names are in a crate that is not ours to depend on"
)]
use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls;
use strongroom_core::storage::StorageError;
use x509_cert::Certificate;

use super::super::Credentials;
use super::super::remote::runtime::block_on;
use super::S3Settings;

/// How long a connection may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long nothing at all may be sent or received.
const STALLED: Duration = Duration::from_mins(1);
/// The region of servers that have none.
const REGION_OF_OTHERS: &str = "us-east-1";

/// A client for a bucket.
pub(super) fn connect(
    place: &S3Settings,
    credentials: &Credentials,
) -> Result<Client, StorageError> {
    let region = match (&place.region, &place.endpoint) {
        (Some(region), _) => Some(region.clone()),
        (None, Some(_)) => Some(REGION_OF_OTHERS.to_owned()),
        (None, None) => None,
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .grace_period(STALLED)
                .build(),
        )
        // A wrong clock is told, not compensated: times of locks and backups come from it, too.
        .disable_clock_skew_correction(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    } else if let Some(profile) = &credentials.profile {
        let of_profile = aws_config::default_provider::region::Builder::default()
            .profile_name(profile)
            .build();
        loader = loader.region(RegionProviderChain::first_try(of_profile));
    }
    if let Some(own) = of_profile(place, credentials)? {
        loader = loader.credentials_provider(own);
    }
    let shared = block_on(loader.load());
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(place.path_style)
        .disable_multi_region_access_points(true);
    config.set_endpoint_url(place.endpoint.clone());
    if let Some(path) = &place.ca_file {
        config = config.http_client(trusting(place, path)?);
    }
    Ok(Client::from_conf(config.build()))
}

/// The credentials of a file or a profile that the configuration names; they go before the environment's.
fn of_profile(
    place: &S3Settings,
    credentials: &Credentials,
) -> Result<Option<ProfileFileCredentialsProvider>, StorageError> {
    let mut builder = ProfileFileCredentialsProvider::builder();
    if let Some(path) = &credentials.file {
        let fail = |error| unusable(place, "credentials", path, &error);
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if metadata.mode() & 0o077 != 0 {
            let why = "it can be read by others; chmod 600";
            return Err(fail(std::io::Error::other(why)));
        }
        std::fs::File::open(path).map_err(fail)?;
        #[expect(deprecated, reason = "as above")]
        let files = ProfileFiles::builder().with_file(ProfileFileKind::Credentials, path);
        builder = builder.profile_files(files.build());
    }
    if let Some(profile) = &credentials.profile {
        builder = builder.profile_name(profile);
    }
    let is_named = credentials.file.is_some() || credentials.profile.is_some();
    Ok(is_named.then(|| builder.build()))
}

/// A file that the configuration names cannot be used.
fn unusable(place: &S3Settings, what: &str, path: &Path, error: &std::io::Error) -> StorageError {
    let why = format!("cannot read the {what} in {}: {error}", path.display());
    StorageError::Settings {
        location: place.url.clone(),
        source: std::io::Error::new(error.kind(), why),
    }
}

/// An HTTP client that trusts the certificates of a file besides the system's.
fn trusting(place: &S3Settings, path: &Path) -> Result<SharedHttpClient, StorageError> {
    let fail = |error| unusable(place, "certificates", path, &error);
    let pem = std::fs::read(path).map_err(fail)?;
    // The library would panic at them.
    let is_good = Certificate::load_pem_chain(&pem).is_ok_and(|chain| !chain.is_empty());
    if !is_good {
        return Err(fail(std::io::Error::other(
            "it holds no certificates in PEM",
        )));
    }
    let trusted = tls::TrustStore::default().with_pem_certificate(pem);
    let context = tls::TlsContext::builder().with_trust_store(trusted);
    let context = context
        .build()
        .map_err(|error| fail(std::io::Error::other(error)))?;
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(provider)
        .tls_context(context)
        .build_https())
}
