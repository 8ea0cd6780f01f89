//! The schema: its digest, and which tables there are.

use rusqlite::Connection;
use strongroom_core::format::id::Hasher;

/// SHA-256 over the `sql` of all objects, sorted as bytes, each followed by a line feed:
/// `sqlite3 FILE 'SELECT sql FROM sqlite_schema WHERE sql NOT NULL ORDER BY sql' | sha256sum`.
pub(super) fn digest(connection: &Connection) -> rusqlite::Result<String> {
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")?;
    let mut lines = statement
        .query_map([], |row| Ok(row.get_ref(0)?.as_bytes()?.to_vec()))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    lines.sort_unstable();
    let mut hasher = Hasher::new();
    for line in lines {
        hasher.update(&line);
        hasher.update(b"\n");
    }
    Ok(hasher.finish().to_string())
}

/// A table whose rows are made by a module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VirtualTable {
    pub(super) name: String,
    pub(super) module: String,
    /// Whether this program has the module.
    pub(super) known: bool,
}

/// The names of the ordinary tables, and the virtual ones.
pub(super) fn tables(
    connection: &Connection,
) -> rusqlite::Result<(Vec<String>, Vec<VirtualTable>)> {
    let mut modules = connection.prepare("SELECT 1 FROM pragma_module_list WHERE name = ?1")?;
    let mut statement = connection.prepare(
        "SELECT name, rootpage, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let (mut ordinary, mut virtual_tables) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if row.get::<_, Option<i64>>(1)?.unwrap_or(0) != 0 {
            ordinary.push(name);
            continue;
        }
        let module = module_of(&row.get::<_, Option<String>>(2)?.unwrap_or_default());
        virtual_tables.push(VirtualTable {
            known: modules.exists([&module])?,
            name,
            module,
        });
    }
    Ok((ordinary, virtual_tables))
}

/// The module in `CREATE VIRTUAL TABLE name USING module(...)`; the first three words are SQLite's own.
fn module_of(sql: &str) -> String {
    let (_, rest) = identifier(
        sql.strip_prefix("CREATE VIRTUAL TABLE ")
            .unwrap_or_default(),
    );
    let (using, rest) = identifier(rest);
    if using.eq_ignore_ascii_case("using") {
        identifier(rest).0.to_ascii_lowercase()
    } else {
        String::new()
    }
}

/// Splits the first identifier, quoted or not, from the rest of a statement.
fn identifier(sql: &str) -> (String, &str) {
    let sql = sql.trim_start();
    let close = match sql.chars().next() {
        Some(quote @ ('"' | '`' | '\'')) => quote,
        Some('[') => ']',
        _ => {
            let end = sql
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '$');
            let (word, rest) = sql.split_at(end.unwrap_or(sql.len()));
            return (word.to_owned(), rest);
        }
    };
    let (mut name, mut rest) = (String::new(), &sql[1..]);
    while let Some((part, after)) = rest.split_once(close) {
        name.push_str(part);
        rest = after;
        // A quote that is doubled stands for itself.
        match rest.strip_prefix(close) {
            Some(after) if close != ']' => {
                name.push(close);
                rest = after;
            }
            _ => break,
        }
    }
    (name, rest)
}

#[cfg(test)]
mod tests {
    use super::module_of;

    #[test]
    fn the_module_is_found_behind_any_name() {
        for name in [
            "t",
            "\"a \"\" USING b(\"",
            "[x using y]",
            "'quo''ted'",
            "`b`",
        ] {
            let sql = format!("CREATE VIRTUAL TABLE {name} USING FTS5(body, content='USING z(')");
            assert_eq!(module_of(&sql), "fts5", "{sql}");
        }
        assert_eq!(module_of("CREATE VIRTUAL TABLE t USING \"Odd\""), "odd");
        assert_eq!(module_of("CREATE TABLE t(a)"), "");
    }
}
