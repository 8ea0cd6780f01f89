//! What is known of the tables of a database, whatever server or file it lies in: how many rows each has, and their
//! digest; and what differs between a capture and what was restored from it.
//!
//! The digest of a table is the sum, modulo 2^128, of the XXH3-128 digests of its rows (seed 0), written as 32
//! hexadecimal digits: equal for equal rows in any order, and a row that is there twice counts twice. It tells which
//! table differs, by accident or by defect; against a forger stands the SHA-256 of the stream, not this. What the bytes of a row are
//! is the source's to say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

/// Rows up to this length are hashed in one piece, which is several times faster than in parts.
const WHOLE_BYTES: usize = 256 * 1024;

/// What is known of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TableFacts {
    /// It was read to its end.
    Read {
        /// How many rows it has.
        rows: u64,
        /// The digest of its rows, where one was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// It could not be read.
    Unreadable {
        /// Why.
        error: String,
    },
}

impl TableFacts {
    /// How many rows it has, if it could be read.
    pub const fn rows(&self) -> Option<u64> {
        match self {
            Self::Read { rows, .. } => Some(*rows),
            Self::Unreadable { .. } => None,
        }
    }
}

/// Adds up the rows of one table.
#[derive(Default)]
pub struct RowDigest {
    rows: u64,
    sum: u128,
    row: Vec<u8>,
    long: Option<XxHash3_128>,
}

impl RowDigest {
    /// Adds bytes to the current row.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.row.len() + bytes.len() > WHOLE_BYTES {
            let hasher = self.long.get_or_insert_default();
            hasher.write(&self.row);
            hasher.write(bytes);
            self.row.clear();
        } else {
            self.row.extend_from_slice(bytes);
        }
    }

    /// Ends the current row.
    pub fn end_row(&mut self) {
        let digest = match self.long.take() {
            None => XxHash3_128::oneshot(&self.row),
            Some(mut hasher) => {
                hasher.write(&self.row);
                hasher.finish_128()
            }
        };
        self.row.clear();
        self.add(digest);
    }

    /// Adds a whole row, where none was begun.
    pub fn row(&mut self, bytes: &[u8]) {
        if self.row.is_empty() && self.long.is_none() && bytes.len() <= WHOLE_BYTES {
            self.add(XxHash3_128::oneshot(bytes));
        } else {
            self.push(bytes);
            self.end_row();
        }
    }

    /// How many rows were ended, and their digest.
    pub fn finish(self) -> (u64, String) {
        (self.rows, format!("{:032x}", self.sum))
    }

    fn add(&mut self, digest: u128) {
        self.sum = self.sum.wrapping_add(digest);
        self.rows += 1;
    }
}

/// Counts and digests rows that are lines, as they go by in blocks of any size.
///
/// The line feed is not part of the row.
#[derive(Default)]
pub struct LineDigest {
    rows: RowDigest,
    is_counting_only: bool,
    count: u64,
    /// The last byte seen was no line feed.
    is_in_line: bool,
}

impl LineDigest {
    /// Counts the rows and leaves the digest out.
    pub fn counting_only() -> Self {
        Self {
            is_counting_only: true,
            ..Self::default()
        }
    }

    /// Adds a block.
    pub fn update(&mut self, block: &[u8]) {
        let Some(last) = block.last() else { return };
        self.is_in_line = *last != b'\n';
        if self.is_counting_only {
            self.count += memchr::memchr_iter(b'\n', block).count() as u64;
            return;
        }
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', block) {
            self.rows.row(&block[begin..end]);
            begin = end + 1;
        }
        if begin < block.len() {
            self.rows.push(&block[begin..]);
        }
    }

    /// Rows and digest; an error when the last line has no end.
    pub fn finish(self) -> Result<TableFacts, UnendedRow> {
        if self.is_in_line {
            return Err(UnendedRow);
        }
        if self.is_counting_only {
            return Ok(TableFacts::Read {
                rows: self.count,
                digest: None,
            });
        }
        let (rows, digest) = self.rows.finish();
        Ok(TableFacts::Read {
            rows,
            digest: Some(digest),
        })
    }
}

/// The stream of a table stops within a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream stops within a row")]
pub struct UnendedRow;

/// Collects what differs between a capture and what was restored from it, in words.
#[derive(Debug, Default)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Compares one value.
    pub fn compare(&mut self, what: &str, captured: &dyn ToString, restored: &dyn ToString) {
        let (captured, restored) = (captured.to_string(), restored.to_string());
        if captured != restored {
            self.0.push(format!(
                "{what} was {captured} when captured and is {restored}"
            ));
        }
    }

    /// Adds a difference that was found in another way.
    pub fn push(&mut self, difference: String) {
        self.0.push(difference);
    }

    /// Compares tables: none missing, none too many, the same rows in each.
    pub fn tables(
        &mut self,
        captured: &BTreeMap<String, TableFacts>,
        restored: &BTreeMap<String, TableFacts>,
    ) {
        for (name, table) in captured {
            match (table, restored.get(name)) {
                (_, None) => self.push(format!("table {name:?} is missing")),
                (TableFacts::Unreadable { .. }, Some(_)) => {}
                (_, Some(TableFacts::Unreadable { error })) => {
                    self.push(format!("table {name:?} cannot be read: {error}"));
                }
                (
                    TableFacts::Read { rows, digest },
                    Some(TableFacts::Read {
                        rows: rows_now,
                        digest: digest_now,
                    }),
                ) => {
                    if rows != rows_now {
                        self.push(format!(
                            "table {name:?} had {rows} rows when captured and has {rows_now}"
                        ));
                    } else if let (Some(was), Some(is)) = (digest, digest_now)
                        && was != is
                    {
                        self.push(format!(
                            "table {name:?} has other content than when it was captured"
                        ));
                    }
                }
            }
        }
        for name in restored.keys() {
            if !captured.contains_key(name) {
                self.push(format!(
                    "table {name:?} was not there when the database was captured"
                ));
            }
        }
    }

    /// Everything that differs; empty when nothing does.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(blocks: &[&[u8]]) -> Result<TableFacts, UnendedRow> {
        let mut lines = LineDigest::default();
        for block in blocks {
            lines.update(block);
        }
        lines.finish()
    }

    #[test]
    fn blocks_and_order_do_not_matter_and_rows_do() {
        let whole = digest(&[b"one\ntwo\n\n"]).expect("whole");
        assert_eq!(whole.rows(), Some(3));
        assert_eq!(
            digest(&[b"o", b"ne\nt", b"", b"wo\n", b"\n"]),
            Ok(whole.clone())
        );
        assert_eq!(digest(&[b"\ntwo\none\n"]), Ok(whole.clone()));
        assert_ne!(digest(&[b"\ntwo\ntwo\n"]), Ok(whole));
        assert_eq!(digest(&[b"one\ntwo"]), Err(UnendedRow));
        let long = vec![b'x'; 3 * WHOLE_BYTES];
        let parts: Vec<&[u8]> = long.chunks(1000).chain([&b"\n"[..]]).collect();
        assert_eq!(digest(&parts), digest(&[&long, b"\n"]));
    }

    #[test]
    fn counting_only_counts() {
        let mut lines = LineDigest::counting_only();
        lines.update(b"a\nb");
        lines.update(b"\n");
        assert_eq!(
            lines.finish(),
            Ok(TableFacts::Read {
                rows: 2,
                digest: None
            })
        );
    }

    #[test]
    fn each_difference_of_a_table_is_named() {
        let table = |rows, digest: &str| TableFacts::Read {
            rows,
            digest: Some(digest.to_owned()),
        };
        let captured = [
            ("a", 1, "x"),
            ("b", 1, "x"),
            ("c", 1, "x"),
            ("same", 1, "x"),
        ];
        let restored = [
            ("a", 2, "x"),
            ("b", 1, "y"),
            ("d", 1, "x"),
            ("same", 1, "x"),
        ];
        let map = |of: [(&str, u64, &str); 4]| {
            of.into_iter()
                .map(|(name, rows, digest)| (name.to_owned(), table(rows, digest)))
                .collect()
        };
        let mut differences = Differences::default();
        differences.tables(&map(captured), &map(restored));
        assert_eq!(differences.into_vec().len(), 4);
    }
}
