//! Tables in which migration tools write down what they did. Shared by the sources of databases.

use serde::{Deserialize, Serialize};

/// Their names, whatever the server.
pub(super) const MIGRATION_TABLES: [&str; 3] =
    ["_sqlx_migrations", "schema_migrations", "goose_db_version"];

/// The newest rows of such a table, as they stand in the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migrations {
    /// Its columns.
    pub columns: Vec<String>,
    /// The rows, the newest last.
    pub rows: Vec<Vec<serde_json::Value>>,
}
