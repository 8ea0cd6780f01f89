//! Where things are: relative paths, and the URLs of repositories.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Location {
    /// A directory of this host, absolute.
    Local(PathBuf),
}

impl Location {
    /// The directory of a local repository.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Local(path) => path,
        }
    }

    /// The absolute URL, for the storage that opens it.
    pub(crate) fn to_url(&self) -> String {
        let mut url = String::from("file://");
        for &byte in self.path().as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
                url.push(char::from(byte));
            } else {
                let _ = write!(url, "%{byte:02X}");
            }
        }
        url
    }

    /// Reads a URL: `file:///absolute`, or `file:relative` to `directory`.
    pub(super) fn parse(url: &str, directory: &Path) -> Result<Self, UrlError> {
        let Some(rest) = url.strip_prefix("file:") else {
            return Err(match url.split_once(':') {
                Some((scheme, _)) if !scheme.contains('/') => {
                    UrlError(format!("unknown scheme \"{scheme}:\""))
                }
                _ => UrlError("not a URL".into()),
            });
        };
        if let Some(character) = rest.chars().find(|&c| "?#".contains(c) || c.is_control()) {
            let character = character.escape_default();
            return Err(UrlError(format!(
                "a file URL must not contain '{character}' as it is"
            )));
        }
        let path = match rest.strip_prefix("//") {
            Some(path) if path.starts_with('/') => path,
            Some(_) => return Err(UrlError("the URL names a host".into())),
            None if rest.starts_with('/') => {
                return Err(UrlError("an absolute path needs three slashes".into()));
            }
            None => rest,
        };
        let path = resolve(directory, percent_decoded(path)?);
        if rest.is_empty() || path == Path::new("/") {
            return Err(UrlError("the URL names no directory".into()));
        }
        Ok(Self::Local(path))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(formatter),
        }
    }
}

/// The bytes that a percent-encoded path stands for (RFC 3986, section 2.1).
fn percent_decoded(text: &str) -> Result<OsString, UrlError> {
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
    pub(super) const HINT: &'static str = "Write file:///absolute/path, or file:relative/path, which counts from the configuration file.";
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
    fn any_path_has_a_url() {
        let location = Location::Local(OsString::from_vec(b"/a\xff\n#?%/\xc3\xa4".into()).into());
        assert_eq!(location.to_url(), "file:///a%FF%0A%23%3F%25/%C3%A4");
        let again = Location::parse(&location.to_url(), Path::new("/")).expect("its own URL");
        assert_eq!(again, location);
    }

    #[test]
    fn two_forms_of_file_urls_are_read() {
        let parse = |url: &str| Location::parse(url, Path::new("/etc/s"));
        let local = |path: &str| Location::Local(path.into());
        for (url, path) in [
            ("file:///srv/backups/x", "/srv/backups/x"),
            ("file:///srv/backups/x/", "/srv/backups/x"),
            ("file:backups", "/etc/s/backups"),
            ("file:../b c", "/etc/b c"),
            ("file:///a%20b%25c", "/a b%c"),
        ] {
            let location = parse(url).expect(url);
            assert_eq!(location, local(path), "{url}");
            let again = parse(&location.to_url()).expect("its own URL");
            assert_eq!(again, location, "{url}");
        }
        for (url, why) in [
            ("", "not a URL"),
            ("/srv/x", "not a URL"),
            ("s3://bucket/x", "unknown scheme \"s3:\""),
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
