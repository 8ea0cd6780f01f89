//! What is different between a backup and what was restored from it.

use strongroom_core::source::tables::Differences;

use super::facts::Facts;

/// Names each difference between the facts of a backup and those of what was restored from it.
pub(super) fn between(captured: &Facts, restored: &Facts) -> Vec<String> {
    let mut found = Differences::default();
    let mut compare = |what: &str, captured: &dyn ToString, restored: &dyn ToString| {
        found.compare(what, captured, restored);
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
    found.tables(&captured.tables, &restored.tables);
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
    found.into_vec()
}
