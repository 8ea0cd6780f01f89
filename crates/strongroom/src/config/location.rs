//! Where things are: relative paths, and URLs of directories.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// The directory that a URL names: `file:///absolute`, or `file:relative` to `directory`.
pub(super) fn directory_from_url(url: &str, directory: &Path) -> Result<PathBuf, UrlError> {
    let rest = url
        .strip_prefix("file:")
        .ok_or_else(|| UrlError::new("not a file URL"))?;
    if let Some(character) = rest.chars().find(|&c| "?#".contains(c) || c.is_control()) {
        let character = character.escape_default();
        return Err(UrlError(format!(
            "a file URL must not contain '{character}' as it is"
        )));
    }
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(UrlError::new("the URL names a host")),
        None if rest.starts_with('/') => {
            return Err(UrlError::new("an absolute path needs three slashes"));
        }
        None => rest,
    };
    let path = resolve(directory, percent_decoded(path)?);
    if rest.is_empty() || path == Path::new("/") {
        return Err(UrlError::new("the URL names no directory"));
    }
    Ok(path)
}

/// The bytes that a percent-encoded path stands for (RFC 3986, section 2.1).
pub(super) fn percent_decoded(text: &str) -> Result<OsString, UrlError> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2);
        let byte = digits
            .filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok())
            .filter(|byte| *byte != 0)
            .ok_or_else(|| UrlError("'%' must begin a byte in hex, %25 for instance".into()))?;
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Ok(OsString::from_vec(bytes))
}

/// Why a URL is not one of a repository.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UrlError(String);

impl UrlError {
    /// What to write instead.
    pub(super) const HINT: &'static str = "Write file:///absolute/path, file:relative/path (from the configuration file), s3://bucket/prefix, gs://bucket/prefix, az://account/container/prefix or sftp://user@host/path.";

    /// An error that says why.
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// An absolute path without `.` and `..`, which are resolved in the text, as a reader of the file does.
pub(super) fn resolve(directory: &Path, path: impl AsRef<Path>) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in directory.join(path).components() {
        match component {
            Component::ParentDir => {
                resolved.pop();
            }
            Component::CurDir => {}
            other => resolved.push(other),
        }
    }
    resolved
}

/// The directory that the relative paths of a configuration file count from.
pub(super) fn directory_of(file: &Path) -> io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    Ok(file.parent().unwrap_or(Path::new("/")).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_count_from_the_directory() {
        for (path, expected) in [
            ("writer.key", "/etc/strongroom/writer.key"),
            ("./a/../b", "/etc/strongroom/b"),
            ("../pki/ca.pem", "/etc/pki/ca.pem"),
            ("/srv/./x/", "/srv/x"),
            ("../../../../x", "/x"),
        ] {
            assert_eq!(
                resolve(Path::new("/etc/strongroom"), path),
                Path::new(expected),
                "{path}"
            );
        }
    }

    #[test]
    fn two_forms_of_file_urls_are_read() {
        let parse = |url: &str| directory_from_url(url, Path::new("/etc/s"));
        for (url, path) in [
            ("file:///srv/backups/x", "/srv/backups/x"),
            ("file:///srv/backups/x/", "/srv/backups/x"),
            ("file:backups", "/etc/s/backups"),
            ("file:../b c", "/etc/b c"),
            ("file:///a%20b%25c", "/a b%c"),
        ] {
            assert_eq!(parse(url).expect(url), Path::new(path), "{url}");
        }
        for (url, why) in [
            ("", "not a file URL"),
            ("/srv/x", "not a file URL"),
            ("file:", "names no directory"),
            ("file:///", "names no directory"),
            ("file://host/x", "names a host"),
            ("file:/srv", "three slashes"),
            ("file:///a%2", "must begin a byte"),
            ("file:///a%+1", "must begin a byte"),
            ("file:///a%00", "must begin a byte"),
            ("file:///a?b", "must not contain '?'"),
            ("file:///a\nb", "must not contain '\\n'"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.to_string().contains(why), "{url}: {error}");
        }
    }
}
