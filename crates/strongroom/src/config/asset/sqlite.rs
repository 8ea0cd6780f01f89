//! The keys of the source `sqlite`.

use strongroom_adapters::source::sqlite::TimestampColumn;
use toml::Spanned;

use super::super::Settings;
use super::super::location::resolve;
use super::super::section::Section;
use super::Own;

/// Reads the keys of the source `sqlite`.
pub(super) fn read(section: &Section<'_, '_>, (_, directory): Own<'_>) -> Option<Settings> {
    let hint = "Name the database file, for instance path = \"/var/lib/example/ca.sqlite3\".";
    let path = section.required("path", hint);
    let columns = section.strings("newest").map(Spanned::into_inner);
    let mut newest = Vec::new();
    for column in columns.unwrap_or_default() {
        if let Ok(column) = TimestampColumn::try_from(column.get_ref().clone()) {
            newest.push(column);
        } else {
            section.report(
                &column.span(),
                format!("\"newest\": \"{}\" is not TABLE.COLUMN", column.get_ref()),
                "Name timestamp columns with their tables, for instance newest = [\"certificates.issued_at\"].",
            );
        }
    }
    Some(Settings::Sqlite {
        path: resolve(directory, path?.get_ref()),
        newest,
    })
}
