//! The environment of the process: the one place that reads it.

use std::io;
use std::path::{Path, PathBuf};

/// What identity files are called in the credentials directory of systemd.
const CREDENTIAL_PREFIX: &str = "strongroom-identity";

/// What Strongroom takes from the environment; a variable that is empty counts as not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// `STRONGROOM_CONFIG`: the configuration file.
    pub(crate) config: Option<PathBuf>,
    /// `STRONGROOM_IDENTITY_FILE`: an identity file.
    pub(crate) identity_file: Option<PathBuf>,
    /// `STRONGROOM_PASSPHRASE_FILE`: the file with the passphrase of identity files.
    pub(crate) passphrase_file: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`: where systemd puts the credentials of a service.
    pub(crate) credentials_directory: Option<PathBuf>,
    /// `NO_COLOR`: no colours, whatever the terminal can do (no-color.org).
    pub(crate) no_color: bool,
}

impl Environment {
    /// Reads the environment of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub(crate) fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name).map(PathBuf::from))
    }

    /// The identity files among the credentials of systemd, sorted by name.
    pub(crate) fn credential_identities(&self) -> io::Result<Vec<PathBuf>> {
        self.credentials_directory
            .as_deref()
            .map_or_else(|| Ok(Vec::new()), identities_in)
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let path = |name| lookup(name).filter(|value| !value.as_os_str().is_empty());
        Self {
            config: path("STRONGROOM_CONFIG"),
            identity_file: path("STRONGROOM_IDENTITY_FILE"),
            passphrase_file: path("STRONGROOM_PASSPHRASE_FILE"),
            credentials_directory: path("CREDENTIALS_DIRECTORY"),
            no_color: path("NO_COLOR").is_some(),
        }
    }
}

fn identities_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name
            .as_encoded_bytes()
            .starts_with(CREDENTIAL_PREFIX.as_bytes())
        {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variables_are_not_set() {
        let environment = Environment::from_lookup(|name| match name {
            "STRONGROOM_CONFIG" => Some("/etc/x.toml".into()),
            "NO_COLOR" => Some("".into()),
            _ => None,
        });
        let expected = Environment {
            config: Some("/etc/x.toml".into()),
            ..Environment::default()
        };
        assert_eq!(environment, expected);
        assert!(Environment::from_lookup(|_| Some("1".into())).no_color);
    }

    #[test]
    fn identities_are_found_among_the_credentials() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["strongroom-identity-b", "other", "strongroom-identity"] {
            strongroom_core::private_file::create_new(&directory.path().join(name)).expect(name);
        }
        let environment = Environment {
            credentials_directory: Some(directory.path().to_owned()),
            ..Environment::default()
        };
        let found = environment.credential_identities().expect("readable");
        let expected = ["strongroom-identity", "strongroom-identity-b"];
        assert_eq!(found, expected.map(|name| directory.path().join(name)));
        let none = Environment::default().credential_identities();
        assert!(none.expect("nothing to read").is_empty());
    }
}
