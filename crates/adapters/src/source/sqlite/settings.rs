//! The configuration of a SQLite asset.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strongroom_core::source::Class;

/// One database file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqliteSettings {
    /// What the database is to the deployment.
    #[serde(default = "database")]
    pub class: Class,
    /// The absolute path of the database file.
    pub path: PathBuf,
    /// Columns whose newest value dates the last transaction, for the recovery point reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub newest: Vec<TimestampColumn>,
}

/// A column that holds times, `table.column`; the last dot separates the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimestampColumn {
    table: String,
    column: String,
}

/// Not of the form `table.column`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form table.column")]
pub struct TimestampColumnError {
    text: String,
}

impl TimestampColumn {
    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The column.
    pub fn column(&self) -> &str {
        &self.column
    }
}

impl TryFrom<String> for TimestampColumn {
    type Error = TimestampColumnError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.rsplit_once('.') {
            Some((table, column)) if !table.is_empty() && !column.is_empty() => Ok(Self {
                table: table.to_owned(),
                column: column.to_owned(),
            }),
            _ => Err(TimestampColumnError { text }),
        }
    }
}

impl From<TimestampColumn> for String {
    fn from(column: TimestampColumn) -> Self {
        column.to_string()
    }
}

impl fmt::Display for TimestampColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.table, self.column)
    }
}

const fn database() -> Class {
    Class::Database
}
