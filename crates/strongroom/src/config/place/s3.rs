//! The keys of a repository at `s3`.

use strongroom_adapters::storage::Place;
use strongroom_adapters::storage::s3::{Encryption, Lock, LockMode, S3Settings};
use toml::Spanned;

use super::super::location::resolve;
use super::super::section::Section;
use super::super::units::days;
use super::Surrounding;

/// Classes whose objects must be restored before they can be read.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// The longest lock: nearly a century.
const LOCK_DAYS_MAX: u32 = 36_500;

pub(super) fn read(
    section: &Section<'_, '_>,
    url: &Spanned<String>,
    around: Surrounding<'_>,
) -> Option<Place> {
    let settings = S3Settings::from_url(url.get_ref());
    if let Err(why) = settings {
        section.report(
            &url.span(),
            format!("\"url\": {why}"),
            "Write s3://bucket/prefix; a server that is not Amazon's goes into endpoint = \"https://host:port\".",
        );
    }
    // The other keys are read in any case, so that none of them counts as unknown.
    let region = section.string("region").map(Spanned::into_inner);
    let endpoint = endpoint(section);
    let path_style = section.boolean("path_style").map(Spanned::into_inner);
    let storage_class = storage_class(section);
    let encryption = encryption(section);
    let ca_file = section.string("ca_file");
    let lock = lock(section, around.epoch_days);
    let mut settings = settings.ok()?;
    settings.region = region;
    settings.endpoint = endpoint;
    settings.path_style = path_style.unwrap_or(false);
    settings.storage_class = storage_class;
    settings.encryption = encryption;
    settings.ca_file = ca_file.map(|file| resolve(around.directory, file.get_ref()));
    settings.lock = lock;
    Some(Place::S3(settings))
}

fn endpoint(section: &Section<'_, '_>) -> Option<String> {
    let allow_http = section.boolean("allow_http").map(Spanned::into_inner);
    let endpoint = section.string("endpoint")?;
    let text = endpoint.get_ref().trim_end_matches('/');
    let Some(host) = host_of(text) else {
        section.report(
            &endpoint.span(),
            // Not shown: whoever writes credentials into it must not find them in a log.
            "\"endpoint\" is not the address of a host",
            "Write https://host or https://host:port; the bucket goes into url, credentials into credentials_file.",
        );
        return None;
    };
    let is_open = text.starts_with("http://") && !is_loopback(host);
    if is_open && allow_http != Some(true) {
        section.report(
            &endpoint.span(),
            "\"endpoint\" is reached without TLS",
            "Write https://. Where the network is trusted: allow_http = true. Backups are sealed, but whoever listens sees their names and sizes, and whoever is between can hide them.",
        );
        return None;
    }
    Some(text.to_owned())
}

/// The host of an address that has nothing but scheme, host and port.
fn host_of(endpoint: &str) -> Option<&str> {
    let rest = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"))?;
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (
                host,
                port.strip_prefix(':')
                    .or(port.is_empty().then_some("443"))?,
            )
        }
        None => rest.split_once(':').unwrap_or((rest, "443")),
    };
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':'));
    (is_host && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn storage_class(section: &Section<'_, '_>) -> Option<String> {
    let class = section.string("storage_class")?;
    let text = class.get_ref();
    let is_word = text
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_word || ARCHIVES.contains(&text.as_str()) {
        section.report(
            &class.span(),
            format!("\"storage_class\" is {text:?}"),
            "Write STANDARD_IA, INTELLIGENT_TIERING or another class whose objects are read at once; verify, drills and restores read them.",
        );
        return None;
    }
    Some(class.into_inner())
}

fn encryption(section: &Section<'_, '_>) -> Option<Encryption> {
    let key = section.string("sse_kms_key");
    let sse = section.string("sse");
    let with_kms = sse.as_ref().is_some_and(|sse| sse.get_ref() == "aws:kms");
    if let (Some(key), false) = (&key, with_kms) {
        section.report(
            &key.span(),
            "\"sse_kms_key\" has no effect without sse = \"aws:kms\"",
            "Write sse = \"aws:kms\" as well, or take the key out.",
        );
    }
    let sse = sse?;
    match sse.get_ref().as_str() {
        "AES256" => Some(Encryption::Aes256),
        "aws:kms" => Some(Encryption::Kms(key.map(Spanned::into_inner))),
        other => {
            section.report(
                &sse.span(),
                format!("\"sse\" is {other:?}"),
                "It is \"AES256\" or \"aws:kms\"; left out, the bucket's own setting counts.",
            );
            None
        }
    }
}

fn lock(section: &Section<'_, '_>, epoch_days: u32) -> Option<Lock> {
    let immutable = section.value("immutable").map(Spanned::span);
    let days = days(section, "immutable", LOCK_DAYS_MAX);
    let mode = section.string("immutable_mode");
    if let (Some(mode), None) = (&mode, immutable) {
        section.report(
            &mode.span(),
            "\"immutable_mode\" has no effect without \"immutable\"",
            "Write immutable = \"30d\" as well, or take the mode out.",
        );
    }
    let mode = match mode.as_ref().map(|mode| mode.get_ref().as_str()) {
        None | Some("compliance") => LockMode::Compliance,
        Some("governance") => LockMode::Governance,
        Some(other) => {
            let span = mode.as_ref().map_or(section.span(), Spanned::span);
            section.report(
                &span,
                format!("\"immutable_mode\" is {other:?}"),
                "It is \"compliance\" (nobody can delete before the time) or \"governance\" (an administrator can).",
            );
            return None;
        }
    };
    // What an epoch's first backup stores is needed by its last one, too.
    Some(Lock {
        days: days?.saturating_add(epoch_days),
        mode,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_scheme_host_and_port() {
        for (endpoint, host) in [
            ("https://minio.example", "minio.example"),
            ("https://minio.example:9000", "minio.example"),
            ("http://127.0.0.1:9000", "127.0.0.1"),
            ("http://[::1]:9000", "::1"),
        ] {
            assert_eq!(host_of(endpoint), Some(host), "{endpoint}");
        }
        for wrong in [
            "minio.example",
            "ftp://minio.example",
            "https://",
            "https://user:secret@minio.example",
            "https://minio.example/bucket",
            "https://minio.example:0",
            "https://minio.example:x",
            "https://[::1",
        ] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
        assert!(is_loopback("localhost") && is_loopback("127.1.2.3") && is_loopback("::1"));
        assert!(!is_loopback("10.0.0.1") && !is_loopback("localhost.example"));
    }
}
