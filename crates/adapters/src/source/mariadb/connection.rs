//! How a server is reached: the arguments of the client programs, and whether they are new enough for it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_core::source::CaptureError;

use crate::client::{Client, ClientError, Running};

/// Where a server is, and how its client programs are run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The server's host; the socket is used without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its socket, where that is not the one the client programs know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// The account; without it the one of the operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Certificates that the server's must lead to, in PEM; asks for TLS and for the server's name in its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_ca: Option<PathBuf>,
    /// The client's certificate, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_cert: Option<PathBuf>,
    /// The client's key, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_key: Option<PathBuf>,
    /// Whether the server's certificate must name its host; true when there is `ssl_ca`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssl_verify: Option<bool>,
    /// The words before the client programs: `docker compose exec -T mariadb`; none to run them here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// Where the programs lie; not part of a manifest.
    #[serde(skip)]
    pub programs: Option<PathBuf>,
    /// The file whose first line is the password; not part of a manifest.
    #[serde(skip)]
    pub password_file: Option<PathBuf>,
}

/// A version, as far as it decides what can be dumped by whom.
pub(super) type Version = (u32, u32);

impl Connection {
    /// The server in words: `db.example:3306`.
    pub fn place(&self) -> String {
        let via = if self.via.is_empty() {
            String::new()
        } else {
            format!(" via {}", self.via.join(" "))
        };
        match (&self.host, &self.socket) {
            (Some(host), _) => format!("{host}:{}{via}", self.port.unwrap_or(3306)),
            (None, Some(socket)) => format!("{}{via}", socket.display()),
            (None, None) => format!("the local socket{via}"),
        }
    }

    /// Starts a client program.
    pub(super) fn start(
        &self,
        program: &str,
        arguments: &[String],
    ) -> Result<Running, ClientError> {
        let mut all = self.arguments();
        all.extend_from_slice(arguments);
        self.client().start(program, &all)
    }

    /// Starts `mariadb-dump` without further input.
    pub(super) fn dump(&self, arguments: &[String]) -> Result<Running, ClientError> {
        let mut running = self.start("mariadb-dump", arguments)?;
        drop(running.stdin());
        Ok(running)
    }

    /// Starts `mariadb` for a script that comes by its standard input, in a database.
    pub(super) fn script(&self, database: &str) -> Result<Running, ClientError> {
        let mut arguments = plain_session();
        arguments.push(format!("--database={database}"));
        self.start("mariadb", &arguments)
    }

    /// The version of `mariadb-dump`.
    pub(super) fn client_version(&self) -> Result<Version, CaptureError> {
        let failed = || CaptureError::library("find out the version of mariadb-dump");
        let output = self
            .client()
            .output("mariadb-dump", &["--no-defaults", "--version"])
            .map_err(failed())?;
        let said = String::from_utf8_lossy(&output);
        version_in(&said).ok_or_else(|| CaptureError::Unsuitable {
            path: "mariadb-dump".into(),
            why: format!("says no version of MariaDB: {}", said.trim()),
            hint: "Name the directory of MariaDB's own client programs with `programs`.",
        })
    }

    fn client(&self) -> Client {
        Client {
            via: self.via.clone(),
            programs: self.programs.clone(),
            password_file: self.password_file.clone(),
            password_variable: "MYSQL_PWD",
        }
    }

    /// Nothing is left to option files, so that the same configuration does the same everywhere.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            "--default-character-set=utf8mb4".to_owned(),
            "--max-allowed-packet=1G".to_owned(),
        ];
        let mut add = |option: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.push(format!("--{option}={value}"));
            }
        };
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned())
        };
        let is_tcp = self.host.is_some() || self.port.is_some();
        let protocol = if is_tcp { "tcp" } else { "socket" };
        add("protocol", Some(protocol.to_owned()));
        add("host", self.host.clone());
        add("port", self.port.map(|port| port.to_string()));
        add("socket", path(&self.socket));
        add("user", self.user.clone());
        add("ssl-ca", path(&self.ssl_ca));
        add("ssl-cert", path(&self.ssl_cert));
        add("ssl-key", path(&self.ssl_key));
        if self.ssl_verify.unwrap_or(self.ssl_ca.is_some()) {
            arguments.push("--ssl-verify-server-cert".to_owned());
        }
        arguments
    }
}

/// A session that is read by a program: lines as they are, errors at once, and no new connection when one is lost.
pub(super) fn plain_session() -> Vec<String> {
    [
        "--batch",
        "--raw",
        "--skip-column-names",
        "--unbuffered",
        "--binary-mode",
        "--skip-reconnect",
        "--skip-auto-rehash",
        // A statement may hold rows.
        "--loose-skip-print-query-on-error",
        "--connect-timeout=20",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The version before `-MariaDB`, or none.
pub(super) fn version_in(text: &str) -> Option<Version> {
    let before = &text[..text.find("-MariaDB")?];
    let start = before
        .rfind(|char: char| !char.is_ascii_digit() && char != '.')
        .map_or(0, |at| at + 1);
    let mut parts = before[start..].split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

/// The number of the server's error, `1227` of `ERROR 1227 (42000)`; none if the server said none.
pub(super) fn error_number(error: &ClientError) -> Option<u32> {
    let ClientError::Failed { said, .. } = error else {
        return None;
    };
    let after = &said[said.find("ERROR ")? + 6..];
    after.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            (
                "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu",
                (10, 11),
            ),
            (
                "mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux",
                (11, 4),
            ),
            ("10.6.18-MariaDB-log", (10, 6)),
            ("5.5.5-10.4.34-MariaDB", (10, 4)),
        ] {
            assert_eq!(version_in(said), Some(version), "{said}");
        }
        assert_eq!(version_in("mysqldump  Ver 8.0.36 for Linux"), None);
    }

    #[test]
    fn no_argument_holds_a_password() {
        let connection = Connection {
            host: Some("db".to_owned()),
            ssl_ca: Some("/ca.pem".into()),
            password_file: Some("/secret".into()),
            ..Connection::default()
        };
        let arguments = connection.arguments().join(" ");
        assert!(arguments.starts_with("--no-defaults "), "{arguments}");
        assert!(arguments.contains("--ssl-verify-server-cert"));
        assert!(!arguments.contains("secret"), "{arguments}");
    }
}
