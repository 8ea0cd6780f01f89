//! The digest of a table: equal for equal rows in any order.
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
//!
//! The digest of a row is XXH3-128 with the default seed 0 over that; the digest of the table is the sum of its
//! rows' modulo 2^128, written as 32 hexadecimal digits. A sum, so that a row that is there twice counts twice. It tells which table
//! differs, by accident or by defect; against a forger the SHA-256 of the whole stream stands, not this. Measured on rows of
//! 1.3 KB: BLAKE3 and SHA-256 take 0.4 s and more for 418 MB, over the 0.2 s of the scan itself.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use twox_hash::XxHash3_128;

/// Rows up to this length are hashed in one piece, which is several times faster than in parts.
const WHOLE_BYTES: usize = 256 * 1024;

/// Adds up the rows of one table.
#[derive(Default)]
pub(super) struct TableDigest {
    rows: u64,
    sum: u128,
    row: Vec<u8>,
    long: Option<XxHash3_128>,
}

impl TableDigest {
    /// Adds a row of `columns` values.
    pub(super) fn add(&mut self, row: &Row<'_>, columns: usize) -> rusqlite::Result<()> {
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => self.push(&[0]),
                ValueRef::Integer(value) => self.number(1, value.to_le_bytes()),
                ValueRef::Real(value) => self.number(2, value.to_bits().to_le_bytes()),
                ValueRef::Text(text) => {
                    self.number(3, (text.len() as u64).to_le_bytes());
                    self.push(text);
                }
                ValueRef::Blob(bytes) => {
                    self.number(4, (bytes.len() as u64).to_le_bytes());
                    self.push(bytes);
                }
            }
        }
        let digest = match self.long.take() {
            None => XxHash3_128::oneshot(&self.row),
            Some(mut hasher) => {
                hasher.write(&self.row);
                hasher.finish_128()
            }
        };
        self.row.clear();
        self.sum = self.sum.wrapping_add(digest);
        self.rows += 1;
        Ok(())
    }

    /// How many rows were added, and their digest.
    pub(super) fn finish(self) -> (u64, String) {
        (self.rows, format!("{:032x}", self.sum))
    }

    fn number(&mut self, kind: u8, bytes: [u8; 8]) {
        self.push(&[kind]);
        self.push(&bytes);
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.row.len() + bytes.len() > WHOLE_BYTES {
            let hasher = self.long.get_or_insert_default();
            hasher.write(&self.row);
            hasher.write(bytes);
            self.row.clear();
        } else {
            self.row.extend_from_slice(bytes);
        }
    }
}
