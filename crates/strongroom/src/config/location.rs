//! Where things are: relative paths, and the URLs of repositories.

use std::fmt;
use std::io;
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
        if let Some(character) = rest.chars().find(|&c| "%?#".contains(c) || c.is_control()) {
            let character = character.escape_default();
            return Err(UrlError(format!(
                "a file URL must not contain '{character}'"
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
        let path = resolve(directory, path);
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
    fn two_forms_of_file_urls_are_read() {
        let parse = |url| Location::parse(url, Path::new("/etc/s"));
        let local = |path: &str| Location::Local(path.into());
        for (url, path) in [
            ("file:///srv/backups/x", "/srv/backups/x"),
            ("file:///srv/backups/x/", "/srv/backups/x"),
            ("file:backups", "/etc/s/backups"),
            ("file:../b c", "/etc/b c"),
        ] {
            assert_eq!(parse(url).expect(url), local(path), "{url}");
        }
        for (url, why) in [
            ("", "not a URL"),
            ("/srv/x", "not a URL"),
            ("s3://bucket/x", "unknown scheme \"s3:\""),
            ("file:", "names no directory"),
            ("file:///", "names no directory"),
            ("file://host/x", "names a host"),
            ("file:/srv", "three slashes"),
            ("file:///a%20b", "must not contain '%'"),
            ("file:///a\nb", "must not contain '\\n'"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(error.to_string().contains(why), "{url}: {error}");
        }
    }
}
