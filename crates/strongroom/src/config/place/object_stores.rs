//! The keys that repositories at Google and at Azure share.

use std::path::Path;

use strongroom_adapters::storage::object_stores::Endpoint;
use toml::Spanned;

use super::super::location::resolve;
use super::super::section::Section;

/// `endpoint`, `allow_http` and `ca_file`.
pub(super) fn endpoint(section: &Section<'_, '_>, directory: &Path) -> Endpoint {
    let url = section.string("endpoint");
    let allow_http = section.boolean("allow_http");
    let ca_file = section.string("ca_file");
    let endpoint = Endpoint {
        url: url.as_ref().map(|url| url.get_ref().clone()),
        allow_http: allow_http.is_some_and(Spanned::into_inner),
        ca_file: ca_file.map(|file| resolve(directory, file.into_inner())),
    };
    if let (Some(url), Some(fault)) = (&url, endpoint.fault()) {
        section.report(
            &url.span(),
            format!("\"endpoint\": {fault}"),
            "Write https://HOST. Plain HTTP is for this host; elsewhere everybody on the way sees tokens, and it takes allow_http = true.",
        );
    }
    endpoint
}

/// `immutable`, which no key here can set: the service has it for whole buckets only, as far as we can ask for it.
pub(super) fn refuse_immutable(section: &Section<'_, '_>, hint: &str) {
    if let Some(value) = section.value("immutable") {
        section.report(
            &value.span(),
            "\"immutable\" cannot be honoured by this kind of storage",
            hint,
        );
    }
}

/// A storage class or access tier: a word.
pub(super) fn class(section: &Section<'_, '_>, key: &'static str, hint: &str) -> Option<String> {
    let class = section.string(key)?;
    let is_word = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !is_word(class.get_ref()) {
        let what = format!("\"{key}\" is {:?}", class.get_ref());
        section.report(&class.span(), what, hint);
        return None;
    }
    Some(class.into_inner())
}

/// The parts of a URL behind the scheme: so many names, and a prefix without slashes at its ends.
pub(super) fn parts<const N: usize>(url: &str, scheme: &str) -> Option<([String; N], String)> {
    let mut rest = url.strip_prefix(scheme)?.strip_prefix("://")?;
    let mut names = Vec::new();
    for _ in 0..N {
        let (name, after) = rest.split_once('/').unwrap_or((rest, ""));
        names.push(name.to_owned());
        rest = after;
    }
    let prefix = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+".contains(&byte);
    let is_good =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_plain);
    if !prefix.is_empty() && !prefix.split('/').all(is_good) {
        return None;
    }
    Some((names.try_into().ok()?, prefix.to_owned()))
}

/// Whether a name has a length in this range and only lower-case letters, digits and `more`.
pub(super) fn is_name(name: &str, length: std::ops::RangeInclusive<usize>, more: &[u8]) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte);
    length.contains(&name.len())
        && name.bytes().all(is_plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use strongroom_adapters::storage::Place;

    use crate::config::Config;
    use crate::config::error::ConfigError;

    /// The place of a repository with these lines, or its faults.
    fn read(lines: &str) -> Result<Place, String> {
        let text = format!(
            r#"[deployment]
name = "example-ca"
[writer]
key_file = "writer.key"
[repository.offsite]
recipients = ["age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"]
accepts = ["database"]
{lines}
[asset.database]
source = "sqlite"
class = "database"
path = "/var/lib/example/ca.sqlite3"
"#
        );
        match Config::parse(&text, Path::new("strongroom.toml"), Path::new("/etc/s")) {
            Ok(config) => Ok(config.repositories["offsite"].storage.place.clone()),
            Err(errors) => {
                let fault = |error: &ConfigError| {
                    format!("{} {}", error.message(), error.hint().unwrap_or_default())
                };
                Err(errors.iter().map(fault).collect())
            }
        }
    }

    #[test]
    fn the_keys_are_read() {
        let lines = "url = \"gs://bucket/x\"\nendpoint = \"http://127.0.0.1:1\"\nca_file = \"ca.pem\"\nstorage_class = \"NEARLINE\"";
        let Ok(Place::Gcs(place)) = read(lines) else {
            panic!("{:?}", read(lines));
        };
        assert_eq!((&*place.bucket, &*place.prefix), ("bucket", "x"));
        assert_eq!(
            place.endpoint.ca_file.as_deref(),
            Some(Path::new("/etc/s/ca.pem"))
        );
        assert_eq!(place.storage_class.as_deref(), Some("NEARLINE"));
        let lines = "url = \"az://account/box\"\naccess_tier = \"Cool\"\nendpoint = \"http://10.0.0.1\"\nallow_http = true";
        let Ok(Place::Azure(place)) = read(lines) else {
            panic!("{:?}", read(lines));
        };
        assert_eq!((&*place.account, &*place.container), ("account", "box"));
        assert!(place.endpoint.allow_http);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (lines, part) in [
            (
                "url = \"gs://bucket\"\nimmutable = \"30d\"",
                "--retention-period",
            ),
            (
                "url = \"az://account/box\"\nimmutable = \"30d\"",
                "immutability-policy",
            ),
            (
                "url = \"gs://bucket\"\nprofile = \"x\"",
                "\"profile\" means nothing",
            ),
            (
                "url = \"az://account/box\"\nuser = \"x\"",
                "\"user\" means nothing",
            ),
            (
                "url = \"gs://bucket\"\nendpoint = \"http://10.0.0.1\"",
                "plain HTTP",
            ),
            (
                "url = \"gs://bucket\"\naccess_tier = \"Cool\"",
                "unknown key",
            ),
            (
                "url = \"gs://bucket\"\nstorage_class = \"not one\"",
                "NEARLINE",
            ),
            (
                "url = \"az://account/box\"\naccess_tier = \"Archive\"",
                "is the archive",
            ),
            ("url = \"gs://Bucket\"", "not the URL of a bucket"),
            ("url = \"az://account\"", "not the URL of a container"),
        ] {
            let faults = read(lines).expect_err(lines);
            assert!(faults.contains(part), "{lines}: {faults}");
        }
    }
}
