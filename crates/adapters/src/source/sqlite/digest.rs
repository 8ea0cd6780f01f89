//! A row of a table as bytes, for its digest (`strongroom_core::source::tables`).
//!
//! A row is encoded value by value, in the order of the table's stored columns (virtual generated columns hold nothing
//! of their own and are left out; the rowid counts only where a column shows it):
//!
//! | value | encoding |
//! |---|---|
//! | NULL | `00` |
//! | INTEGER | `01`, eight bytes, little-endian two's complement |
//! | REAL | `02`, eight bytes, little-endian IEEE 754 |
//! | TEXT | `03`, length in bytes (eight bytes, little-endian), the text in UTF-8 |
//! | BLOB | `04`, length in bytes (eight bytes, little-endian), the bytes |

use rusqlite::Row;
use rusqlite::types::ValueRef;
use strongroom_core::source::tables::RowDigest;

/// Adds a row of `columns` values.
pub(super) fn add(digest: &mut RowDigest, row: &Row<'_>, columns: usize) -> rusqlite::Result<()> {
    for column in 0..columns {
        match row.get_ref(column)? {
            ValueRef::Null => digest.push(&[0]),
            ValueRef::Integer(value) => number(digest, 1, value.to_le_bytes()),
            ValueRef::Real(value) => number(digest, 2, value.to_bits().to_le_bytes()),
            ValueRef::Text(text) => {
                number(digest, 3, (text.len() as u64).to_le_bytes());
                digest.push(text);
            }
            ValueRef::Blob(bytes) => {
                number(digest, 4, (bytes.len() as u64).to_le_bytes());
                digest.push(bytes);
            }
        }
    }
    digest.end_row();
    Ok(())
}

fn number(digest: &mut RowDigest, kind: u8, bytes: [u8; 8]) {
    digest.push(&[kind]);
    digest.push(&bytes);
}
