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

/// Keys of other kinds that are read for all, and would do nothing here.
pub(super) fn refuse_foreign(section: &Section<'_, '_>) {
    for key in ["profile", "user"] {
        if let Some(value) = section.value(key) {
            section.report(
                &value.span(),
                format!("\"{key}\" means nothing to this kind of storage"),
                "Name a credentials_file, or leave it to the environment of the service.",
            );
        }
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
