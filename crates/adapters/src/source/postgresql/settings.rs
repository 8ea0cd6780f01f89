//! The configuration of a PostgreSQL asset: where the server is, which databases, and how they are read.
//!
//! What stands in the manifest holds no secret; a URL with a password is refused here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_core::source::Class;

use super::conninfo::{decode, encode};

/// Seconds to wait for a table that somebody else has locked.
pub const LOCK_TIMEOUT_SECONDS: u64 = 60;

/// Tables that are read at the same time.
pub const JOBS: usize = 2;

/// Databases of one server, or its roles with their passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresqlSettings {
    /// `database` for databases, `secret` for the roles with their password hashes.
    #[serde(default = "database")]
    pub class: Class,
    /// Where the server is; without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<PostgresqlUrl>,
    /// A section of the connection service file, in the place of a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The databases; if empty, the one that the URL or the service names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// The words before each client program: `docker compose exec -T postgres`; none to run it here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// What is written down of each table.
    #[serde(default)]
    pub facts: FactsMode,
    /// Tables that are read at the same time, each by a connection of its own.
    #[serde(default = "jobs")]
    pub jobs: usize,
    /// Columns whose newest value dates the last transaction, for the recovery point reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<NewestColumn>,
    /// Seconds to wait for a table that somebody else has locked.
    #[serde(default = "lock_timeout")]
    pub lock_timeout: u64,
}

impl Default for PostgresqlSettings {
    fn default() -> Self {
        Self {
            class: Class::Database,
            url: None,
            service: None,
            databases: Vec::new(),
            via: Vec::new(),
            facts: FactsMode::Digests,
            jobs: JOBS,
            newest: Vec::new(),
            lock_timeout: LOCK_TIMEOUT_SECONDS,
        }
    }
}

/// The settings of an asset, and what this host needs besides to reach the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// What stands in the manifest.
    pub settings: PostgresqlSettings,
    /// The file whose first line is the password; none for peer, certificates or a password file of libpq.
    pub password_file: Option<PathBuf>,
    /// The directory of the client programs, if they are to be found nowhere else.
    pub programs: Option<PathBuf>,
}

/// What is written down of each table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactsMode {
    /// Its rows and their digest.
    #[default]
    Digests,
    /// Its rows.
    Counts,
}

/// A column that holds times, `schema.table.column`, or `database.schema.table.column` where several databases are captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NewestColumn {
    database: Option<String>,
    schema: String,
    table: String,
    column: String,
}

/// Not of the form `schema.table.column`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form schema.table.column")]
pub struct NewestColumnError {
    text: String,
}

impl NewestColumn {
    /// The database, if it was named.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The column.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// Whether it belongs to `database`.
    pub fn is_of(&self, database: &str) -> bool {
        self.database.as_deref().is_none_or(|own| own == database)
    }
}

impl TryFrom<String> for NewestColumn {
    type Error = NewestColumnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Vec<&str> = text.split('.').collect();
        let (database, rest) = match parts.as_slice() {
            [database, rest @ ..] if rest.len() == 3 => (Some((*database).to_owned()), rest),
            rest => (None, rest),
        };
        match rest {
            [schema, table, column] if parts.iter().all(|part| !part.is_empty()) => Ok(Self {
                database,
                schema: (*schema).to_owned(),
                table: (*table).to_owned(),
                column: (*column).to_owned(),
            }),
            _ => Err(NewestColumnError { text }),
        }
    }
}

impl From<NewestColumn> for String {
    fn from(column: NewestColumn) -> Self {
        column.to_string()
    }
}

impl fmt::Display for NewestColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            write!(formatter, "{database}.")?;
        }
        write!(formatter, "{}.{}.{}", self.schema, self.table, self.column)
    }
}

/// A connection URI of libpq without a password: `postgresql://user@host:5432,host2/database?sslmode=verify-full`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PostgresqlUrl {
    /// As written, without the `@`.
    user: Option<String>,
    /// Hosts and ports, as written; may be empty.
    hosts: String,
    /// Decoded.
    database: Option<String>,
    /// As written, without `dbname`.
    query: Vec<(String, String)>,
}

/// Why a text is no URL that a configuration may hold; the text is never shown, since it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresqlUrlError {
    /// Another scheme.
    #[error("the URL begins neither with postgresql:// nor with postgres://")]
    Scheme,
    /// A password stands in it.
    #[error(
        "the URL holds a password; put it into a file of its own and name that as password_file"
    )]
    Password,
    /// It cannot be taken apart.
    #[error("the URL is malformed: {0}")]
    Malformed(&'static str),
}

impl PostgresqlUrl {
    /// Reads a URL; a password in it is an error.
    pub fn parse(text: &str) -> Result<Self, PostgresqlUrlError> {
        let rest = text
            .strip_prefix("postgresql://")
            .or_else(|| text.strip_prefix("postgres://"))
            .ok_or(PostgresqlUrlError::Scheme)?;
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(PostgresqlUrlError::Malformed(
                "blanks and control characters are written as %20 and the like",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        // As libpq does: up to the first `@`.
        let (user, hosts) = match authority.split_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if hosts.contains('@') || user.is_some_and(|user| user.contains(':')) {
            return Err(PostgresqlUrlError::Password);
        }
        let percent = PostgresqlUrlError::Malformed("a percent sign has no two digits after it");
        let mut database = match path {
            Some(path) if !path.is_empty() => Some(decode(path).ok_or(percent)?),
            _ => None,
        };
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(PostgresqlUrlError::Malformed(
                "a parameter has no equals sign",
            ))?;
            let key = decode(key).ok_or(percent)?;
            let decoded = decode(value).ok_or(percent)?;
            match key.as_str() {
                "password" | "sslpassword" => return Err(PostgresqlUrlError::Password),
                "dbname" => database = Some(decoded),
                _ => kept.push((key, value.to_owned())),
            }
        }
        for part in [user.unwrap_or_default(), hosts] {
            decode(part).ok_or(percent)?;
        }
        Ok(Self {
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            hosts: hosts.to_owned(),
            database,
            query: kept,
        })
    }

    /// The database, if the URL names one.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self {
            database: Some(name.to_owned()),
            ..self.clone()
        }
    }

    /// The same with a parameter, unless the URL has it already.
    #[must_use]
    pub fn with_default(&self, parameter: &str, value: &str) -> Self {
        let mut url = self.clone();
        if !url.query.iter().any(|(key, _)| key == parameter) {
            url.query.push((parameter.to_owned(), encode(value)));
        }
        url
    }

    /// Hosts and ports for people: `db.example:5432`, or `local socket`.
    pub fn place(&self) -> String {
        let parameters: BTreeMap<&str, &str> = self
            .query
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let hosts = match (self.hosts.as_str(), parameters.get("host")) {
            ("", Some(host)) => *host,
            (hosts, _) => hosts,
        };
        let mut place = decode(hosts).unwrap_or_default();
        if place.is_empty() {
            "local socket".clone_into(&mut place);
        }
        if let Some(port) = parameters.get("port") {
            place.push(':');
            place.push_str(port);
        }
        place
    }
}

impl TryFrom<String> for PostgresqlUrl {
    type Error = PostgresqlUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<PostgresqlUrl> for String {
    fn from(url: PostgresqlUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for PostgresqlUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("postgresql://")?;
        if let Some(user) = &self.user {
            write!(formatter, "{user}@")?;
        }
        formatter.write_str(&self.hosts)?;
        if let Some(database) = &self.database {
            write!(formatter, "/{}", encode(database))?;
        }
        for (index, (key, value)) in self.query.iter().enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(formatter, "{mark}{}={value}", encode(key))?;
        }
        Ok(())
    }
}

const fn database() -> Class {
    Class::Database
}

const fn jobs() -> usize {
    JOBS
}

const fn lock_timeout() -> u64 {
    LOCK_TIMEOUT_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_stay_what_they_are() {
        for text in [
            "postgresql://backup@127.0.0.1:5432/certctl",
            "postgresql://a:1,b:2/ca?sslmode=verify-full&target_session_attrs=any",
            "postgresql:///ca?host=%2Frun%2Fpostgresql",
            "postgresql://",
            "postgresql://%2Frun%2Fpostgresql/a%20b",
        ] {
            let url = PostgresqlUrl::parse(text).expect(text);
            assert_eq!(url.to_string(), text);
        }
        let url = PostgresqlUrl::parse("postgres://u@h/x?dbname=y%2Fz").expect("a URL");
        assert_eq!(url.to_string(), "postgresql://u@h/y%2Fz");
        assert_eq!(
            url.with_database("q'?%").to_string(),
            "postgresql://u@h/q%27%3F%25"
        );
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for text in [
            "postgresql://u:hunter2@h/d",
            "postgresql://u@h/d?password=hunter2",
            "postgresql://u@h/d?p%61ssword=hunter2",
            "postgresql://u@h/d?sslpassword=hunter2",
            "postgresql://u:hunter2@x@h/d",
        ] {
            let error = PostgresqlUrl::parse(text).expect_err(text);
            assert_eq!(error, PostgresqlUrlError::Password);
            assert!(!error.to_string().contains("hunter2"));
        }
        assert_eq!(
            PostgresqlUrl::parse("mysql://h/d"),
            Err(PostgresqlUrlError::Scheme)
        );
        assert!(PostgresqlUrl::parse("postgresql://h/%zz").is_err());
    }

    #[test]
    fn newest_columns_name_a_database_or_none() {
        let of = |text: &str| NewestColumn::try_from(text.to_owned());
        let column = of("ca.public.certificates.created_at").expect("four parts");
        assert!(column.is_of("ca") && !column.is_of("va"));
        let column = of("public.certificates.created_at").expect("three parts");
        assert!(column.is_of("ca") && column.table() == "certificates");
        assert!(of("certificates.created_at").is_err() && of("a..b.c").is_err());
    }
}
