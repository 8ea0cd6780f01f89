//! What is different between a backup and what was restored from it.

use super::facts::{Facts, Table};

/// Names each difference between the facts of a backup and those of what was restored from it.
pub(super) fn between(captured: &Facts, restored: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, captured: &dyn ToString, restored: &dyn ToString| {
        let (captured, restored) = (captured.to_string(), restored.to_string());
        if captured != restored {
            found.push(format!(
                "{what} was {captured} when captured and is {restored}"
            ));
        }
    };
    compare("the page size", &captured.page_size, &restored.page_size);
    compare(
        "the number of pages",
        &captured.page_count,
        &restored.page_count,
    );
    compare("the encoding", &captured.encoding, &restored.encoding);
    compare(
        "the journal mode",
        &captured.journal_mode,
        &restored.journal_mode,
    );
    compare(
        "the schema version",
        &captured.schema_version,
        &restored.schema_version,
    );
    compare(
        "the user version",
        &captured.user_version,
        &restored.user_version,
    );
    compare(
        "the application id",
        &captured.application_id,
        &restored.application_id,
    );
    compare(
        "the number of free pages",
        &captured.freelist_count,
        &restored.freelist_count,
    );
    compare(
        "the digest of the schema",
        &captured.schema_sha256,
        &restored.schema_sha256,
    );
    let none = serde_json::Value::Null;
    for (column, value) in &captured.newest {
        let now = restored.newest.get(column).unwrap_or(&none);
        compare(&format!("the newest {column}"), value, now);
    }
    for (name, table) in &captured.tables {
        match (table, restored.tables.get(name)) {
            (_, None) => found.push(format!("table {name:?} is missing")),
            (Table::Unreadable { .. }, Some(_)) => {}
            (_, Some(Table::Unreadable { error })) => {
                found.push(format!("table {name:?} cannot be read: {error}"));
            }
            (Table::Read { rows: was, .. }, Some(Table::Read { rows: is, .. })) if was != is => {
                found.push(format!(
                    "table {name:?} had {was} rows when captured and has {is}"
                ));
            }
            (Table::Read { digest: was, .. }, Some(Table::Read { digest: is, .. })) => {
                if was != is {
                    found.push(format!(
                        "table {name:?} has other content than when it was captured"
                    ));
                }
            }
        }
    }
    for name in restored.tables.keys() {
        if !captured.tables.contains_key(name) {
            found.push(format!(
                "table {name:?} was not there when the database was captured"
            ));
        }
    }
    if captured.virtual_tables != restored.virtual_tables {
        found.push("the virtual tables are others than when they were captured".to_owned());
    }
    for (name, rows) in &captured.migrations {
        if restored.migrations.get(name) != Some(rows) {
            found.push(format!(
                "the migrations in {name:?} are others than when they were captured"
            ));
        }
    }
    found
}
