//! The paths of the streams of a database, and their entries.

use strongroom_core::source::Entry;
use strongroom_core::source::server::encode_part;
use strongroom_core::source::tables::RowDigest;

/// What follows the rows in the stream of a table, as in a data file of `pg_dump`'s directory format: with a table of contents
/// beside them, the streams of a database are an archive that `pg_restore` reads.
pub(super) const ROWS_END: &[u8] = b"\\.\n\n\n";

/// The longest name of a file, as most file systems have it, less the suffix.
const NAME_MAX: usize = 240;

/// The schema of a database.
pub(super) fn schema(database: &str) -> String {
    format!("/{}/schema.dump", encode_part(database))
}

/// The script that loads the rows by hand.
pub(super) fn script(database: &str) -> String {
    format!("/{}/data.sql", encode_part(database))
}

/// The rows of a table, below the folder of the database.
pub(super) fn table_below(schema: &str, table: &str) -> String {
    let mut name = format!("{}.{}", encode_part(schema), encode_part(table));
    if name.len() > NAME_MAX {
        let mut digest = RowDigest::default();
        digest.row(name.as_bytes());
        let end = (0..=NAME_MAX - 40)
            .rev()
            .find(|at| name.is_char_boundary(*at))
            .unwrap_or(0);
        name = format!("{}~{}", &name[..end], digest.finish().1);
    }
    format!("data/{name}.copy")
}

/// The rows of a table.
pub(super) fn table(database: &str, below: &str) -> String {
    format!("/{}/{below}", encode_part(database))
}

/// The large objects of a database.
pub(super) fn large_objects(database: &str) -> String {
    format!("/{}/large-objects.sql", encode_part(database))
}

/// Roles, memberships and tablespaces, without passwords.
pub(super) const GLOBALS: &str = "/globals.sql";

/// Roles with their password hashes.
pub(super) const ROLES: &str = "/roles.sql";

/// A part of a dump; `seconds` are those of the cut.
pub(super) fn entry(path: &str, seconds: i64) -> Entry {
    Entry {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..Entry::dump(path, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart_and_within_their_folder() {
        assert_eq!(table_below("public", "orders"), "data/public.orders.copy");
        assert_eq!(table_below("a.b", "c"), "data/a%2Eb.c.copy");
        assert_eq!(table_below("a", "b.c"), "data/a.b%2Ec.copy");
        assert_eq!(
            table_below("x", "../../etc/passwd"),
            "data/x.%2E%2E%2F%2E%2E%2Fetc%2Fpasswd.copy"
        );
        let long = "%".repeat(63);
        let (one, other) = (table_below(&long, &long), table_below(&long, &long[1..]));
        assert!(one.len() < 255 && one != other);
        assert_eq!(schema("it's"), "/it%27s/schema.dump");
    }
}
