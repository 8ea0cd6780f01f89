//! Finds the client programs of one installation that is new enough for the server.
//!
//! Tried in this order: the directory of the configuration and no other; the PATH; the directories of Debian's and of the
//! PostgreSQL project's packages, newest first. Debian's `/usr/bin/psql` is a wrapper that chooses a version by the cluster on this machine, so it comes
//! last. Where the programs run elsewhere (`via`), only the directory of the configuration or the PATH over there is asked.

use std::path::{Path, PathBuf};

use strongroom_core::source::CaptureError;

use super::settings::Connection;
use crate::client::{Client, ClientError};

/// Where packages put the programs of one major version: what stands before and after its number.
const INSTALLATIONS: [(&str, &str, &str); 2] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
];

/// The wrapper in the PATH of Debian's packages.
const WRAPPER: &str = "/usr/bin/psql";

/// The client programs of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Where they lie; none for the PATH.
    pub directory: Option<PathBuf>,
    /// The major version of `psql`.
    pub major: u32,
}

impl Programs {
    /// The programs to try first: any `psql` speaks to any server well enough to ask for its version.
    pub fn first(connection: &Connection) -> Result<Self, CaptureError> {
        let mut failure = None;
        for directory in candidates(connection) {
            match major(connection, directory.as_deref(), "psql") {
                Ok(major) => return Ok(Self { directory, major }),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(missing(connection, failure))
    }

    /// The first installation in which all of `wanted` have at least the server's major version.
    pub fn find(
        connection: &Connection,
        server_major: u32,
        wanted: &[&str],
    ) -> Result<Self, CaptureError> {
        let (mut failure, mut seen) = (None, Vec::new());
        for directory in candidates(connection) {
            match oldest(connection, directory.as_deref(), wanted) {
                Ok((_, major)) if major >= server_major => {
                    return Ok(Self { directory, major });
                }
                Ok((program, major)) => seen.push(format!(
                    "{program} {major} {}",
                    directory.as_deref().map_or_else(
                        || "in the PATH".to_owned(),
                        |directory| format!("in {}", directory.display())
                    )
                )),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if seen.is_empty() {
            return Err(missing(connection, failure));
        }
        Err(CaptureError::Unsuitable {
            path: connection.place().into(),
            why: format!(
                "the server is PostgreSQL {server_major}, and the client programs are older: {}",
                seen.join(", ")
            ),
            hint: "Install the client programs of the server's major version or a newer one (Debian: postgresql-client-VERSION), or name their directory as `programs` in the asset.",
        })
    }

    /// Starts these programs.
    pub fn client(&self, connection: &Connection) -> Client {
        connection.client(self.directory.as_deref())
    }
}

/// The major version in what `--version` says: `psql (PostgreSQL) 15.8 (Debian 15.8-0)`, `17beta1`.
pub fn major_of(said: &str) -> Option<u32> {
    let word = said
        .split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    let digits = word
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(word.len());
    word[..digits].parse().ok()
}

fn candidates(connection: &Connection) -> Vec<Option<PathBuf>> {
    if let Some(directory) = &connection.programs {
        return vec![Some(directory.clone())];
    }
    if !connection.settings.via.is_empty() {
        return vec![None];
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix, below) in INSTALLATIONS {
        // Where it does not exist, nothing is installed in it.
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        found.extend(entries.filter_map(Result::ok).filter_map(|entry| {
            let name = entry.file_name();
            let major = name.to_str()?.strip_prefix(prefix)?.parse::<f32>().ok()?;
            let directory = entry.path().join(below);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "9.6 counts as 9, and it is only an order"
            )]
            directory
                .join("psql")
                .exists()
                .then_some((major as u32, directory))
        }));
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    let mut all: Vec<Option<PathBuf>> = found.into_iter().map(|(_, path)| Some(path)).collect();
    let is_wrapper = std::fs::canonicalize(WRAPPER)
        .is_ok_and(|path| path.file_name() == Some("pg_wrapper".as_ref()));
    all.insert(if is_wrapper { all.len() } else { 0 }, None);
    all
}

/// The program with the smallest version among `wanted`.
fn oldest<'w>(
    connection: &Connection,
    directory: Option<&Path>,
    wanted: &[&'w str],
) -> Result<(&'w str, u32), ClientError> {
    let mut oldest = ("psql", u32::MAX);
    for program in wanted {
        let major = major(connection, directory, program)?;
        if major < oldest.1 {
            oldest = (program, major);
        }
    }
    Ok(oldest)
}

fn major(
    connection: &Connection,
    directory: Option<&Path>,
    program: &str,
) -> Result<u32, ClientError> {
    let client = Client {
        password_file: None,
        ..connection.client(directory)
    };
    let said = client.output(program, &["--version"])?;
    // What cannot be read is older than every server.
    Ok(major_of(&String::from_utf8_lossy(&said)).unwrap_or(0))
}

fn missing(connection: &Connection, failure: Option<ClientError>) -> CaptureError {
    let said = failure.map_or_else(
        || "nothing was found".to_owned(),
        |failure| match std::error::Error::source(&failure) {
            Some(source) => format!("{failure}: {source}"),
            None => failure.to_string(),
        },
    );
    CaptureError::Unsuitable {
        path: connection.place().into(),
        why: format!("the client programs of PostgreSQL cannot be started: {said}"),
        hint: "Install psql, pg_dump, pg_dumpall and pg_restore (Debian: postgresql-client), or name their directory as `programs` in the asset.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        for (said, major) in [
            ("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(15)),
            ("pg_dump (PostgreSQL) 9.6.24", Some(9)),
            ("pg_dump (PostgreSQL) 18beta1", Some(18)),
            ("usage: what", None),
        ] {
            assert_eq!(major_of(said), major, "{said}");
        }
    }
}
