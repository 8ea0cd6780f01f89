//! The configuration of a MariaDB asset.

use std::fmt;

use serde::{Deserialize, Serialize};
use strongroom_core::source::Class;

use super::connection::Connection;

/// Databases of one server, or with class `secret` its users with their password hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MariadbSettings {
    /// What the asset is to the deployment.
    #[serde(default = "database")]
    pub class: Class,
    /// The server, and how its client programs are run.
    #[serde(flatten)]
    pub connection: Connection,
    /// The databases, captured in one cut; none with class `secret`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// What is kept of every table besides its rows.
    #[serde(default)]
    pub facts: FactsKind,
    /// Columns whose newest value dates the last transaction, for the recovery point reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<NewestColumn>,
    /// Whether users and grants go with the databases. Without it, an account that may not read them makes no problem.
    #[serde(default = "yes")]
    pub grants: bool,
    /// How many tables a restore reads at a time when it proves what it loaded; 0 means 1.
    #[serde(default = "one")]
    pub jobs: usize,
}

/// What is kept of the rows of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactsKind {
    /// How many there are, and their digest.
    #[default]
    Digests,
    /// How many there are.
    Counts,
}

/// A column that holds times, `database.table.column`; the first and the last dot separate the three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NewestColumn {
    database: String,
    table: String,
    column: String,
}

/// Not of the form `database.table.column`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form database.table.column")]
pub struct NewestColumnError {
    text: String,
}

impl NewestColumn {
    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The column.
    pub fn column(&self) -> &str {
        &self.column
    }
}

impl TryFrom<String> for NewestColumn {
    type Error = NewestColumnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('.').and_then(|(database, rest)| {
            let (table, column) = rest.rsplit_once('.')?;
            Some([database, table, column])
        });
        match parts {
            Some(parts) if parts.iter().all(|part| !part.is_empty()) => {
                let [database, table, column] = parts.map(str::to_owned);
                Ok(Self {
                    database,
                    table,
                    column,
                })
            }
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
        write!(
            formatter,
            "{}.{}.{}",
            self.database, self.table, self.column
        )
    }
}

const fn database() -> Class {
    Class::Database
}

const fn yes() -> bool {
    true
}

const fn one() -> usize {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newest_column_has_three_parts() {
        let column = NewestColumn::try_from("ca.a.b.at".to_owned()).expect("is one");
        assert_eq!(
            (column.database(), column.table(), column.column()),
            ("ca", "a.b", "at")
        );
        assert_eq!(column.to_string(), "ca.a.b.at");
        for text in ["", "a", "a.b", ".b.c", "a..c", "a.b."] {
            assert!(NewestColumn::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_settings_of_a_manifest_hold_no_secret() {
        let text = r#"{"databases":["ca"],"host":"db","via":["ssh","db"],"facts":"counts"}"#;
        let mut settings: MariadbSettings = serde_json::from_str(text).expect("settings");
        assert_eq!(settings.class, Class::Database);
        assert!(settings.grants && settings.jobs == 1);
        settings.connection.password_file = Some("/etc/secret".into());
        let written = serde_json::to_value(&settings).expect("serialises");
        assert!(!written.to_string().contains("secret"), "{written}");
        let read: MariadbSettings = serde_json::from_value(written).expect("reads");
        assert_eq!(read.connection.password_file, None);
        assert_eq!(read.databases, ["ca"]);
    }
}
