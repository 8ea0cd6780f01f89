//! What `mariadb-dump` writes, read as it goes by: rows are counted and digested, definitions and sequences noted, and
//! the statements that rows stand in are cut anew.
//!
//! A row is one line: `(1,'text')`, followed by a comma, or by a semicolon at the end of its `INSERT`. Within it no line feed
//! stands, because the program writes `\n` for one. The row without what follows it is what is digested.
//!
//! The program ends an `INSERT` after about a megabyte. One row more moves all the ends after it, and so changes lines all
//! over the dump. Therefore statements are put together again and cut where the content of a row says so: the same
//! rows give the same lines whatever stands before them. Besides, every row gets a line of its own, also the first one of a statement
//! that names its columns. The line that sets the `sql_mode` for loading is widened by
//! `ALLOW_INVALID_DATES`: without it a server turns a date
//! like February 31, which it may hold, into zeros when it is loaded; and by
//! `NO_ENGINE_SUBSTITUTION`: without it a table whose engine is missing silently gets another one. And a column whose default is the next value of a sequence loses the
//! name of the database before that of the sequence, so that the dump can be loaded under any name. All else goes by byte for byte, and stock `mariadb` reads the result.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use strongroom_core::format::Digest;
use strongroom_core::source::tables::{RowDigest, TableFacts};

use super::sql;

/// The length of a statement, in bytes: between these it ends after a row whose hash says so.
const STATEMENT_MIN: usize = 64 * 1024;
const STATEMENT_MAX: usize = 1024 * 1024;
/// One row in so many ends a statement.
const CUT_MASK: u64 = 0xff;

/// A line longer than this is not kept as a whole.
const LINE_KEPT: usize = 1024 * 1024;

const INSERT: &[u8] = b"INSERT INTO ";
const MODE: &[u8] = b"/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;";
const WIDENED_MODE: &[u8] = b"/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION' */;";
const COMPLETED: &[u8] = b"-- Dump completed";

/// What a dump turned out to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dumped {
    /// Rows and digest of every table.
    pub(super) tables: BTreeMap<String, TableFacts>,
    /// The definition of every table.
    pub(super) definitions: BTreeMap<String, Definition>,
    /// The sequences.
    pub(super) sequences: BTreeMap<String, Sequence>,
    /// Whether the program said at the end that it was done.
    pub(super) is_complete: bool,
    /// Rows in lines that could not be understood; each is a fault.
    pub(super) faults: Vec<String>,
}

/// A dump after it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadDump {
    /// What a backup stores of it.
    pub text: Vec<u8>,
    /// Rows and digest of every table.
    pub tables: BTreeMap<String, TableFacts>,
    /// Whether the program said at the end that it was done.
    pub is_complete: bool,
    /// What could not be understood.
    pub faults: Vec<String>,
}

/// Reads what `mariadb-dump` wrote of `database`, in blocks of any size, as a capture does. Never fails: what is
/// no dump has faults, or is not complete.
pub fn read_dump<'b>(database: &str, blocks: impl IntoIterator<Item = &'b [u8]>) -> ReadDump {
    let mut reader = DumpReader::new(database, false);
    let mut text = Vec::new();
    for block in blocks {
        reader.feed(block, &mut text);
    }
    let dumped = reader.finish(&mut text);
    ReadDump {
        text,
        tables: dumped.tables,
        is_complete: dumped.is_complete,
        faults: dumped.faults,
    }
}

/// How a table is defined, as `SHOW CREATE TABLE` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    /// SHA-256 of the text without the next `AUTO_INCREMENT`.
    pub(super) sha256: String,
    /// The next `AUTO_INCREMENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) auto_increment: Option<u64>,
}

/// A sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sequence {
    /// Its definition.
    pub(super) definition: String,
    /// The value it goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// Reads a dump in blocks of any size.
pub(super) struct DumpReader<'w> {
    /// What stands before a sequence of this database in the default of a column.
    own: Vec<u8>,
    is_counting_only: bool,
    /// The tables whose rows are passed on; all without it.
    wanted: Option<&'w BTreeSet<String>>,
    /// The current line, as far as it came.
    line: Vec<u8>,
    /// Parts of the current line, a row, were passed on already.
    is_in_long_row: bool,
    place: Place,
    /// The table whose definition goes by.
    defining: Option<(String, Vec<u8>, Option<u64>)>,
    counts: BTreeMap<String, Count>,
    /// The last line that is not empty says that the dump is complete.
    dumped: Dumped,
}

#[derive(Default)]
struct Count {
    rows: u64,
    digest: Option<RowDigest>,
}

enum Place {
    /// Between statements that insert rows.
    Text,
    /// Among the rows of a statement.
    Rows(Statement),
    /// After the last row of a statement as the program wrote it: the next line tells whether it goes on.
    After(Statement),
}

struct Statement {
    table: String,
    /// `INSERT INTO ... VALUES`.
    head: Vec<u8>,
    /// Whether the rows are passed on.
    is_wanted: bool,
    /// Bytes written of the statement at hand; none before its first row.
    written: usize,
    /// Whether the row before ends the statement.
    is_cut: bool,
}

impl<'w> DumpReader<'w> {
    /// Reads a dump of `database`.
    pub(super) fn new(database: &str, is_counting_only: bool) -> Self {
        Self {
            own: format!("nextval({}.", sql::name(database)).into_bytes(),
            is_counting_only,
            wanted: None,
            line: Vec::new(),
            is_in_long_row: false,
            place: Place::Text,
            defining: None,
            counts: BTreeMap::new(),
            dumped: Dumped::default(),
        }
    }

    /// Passes on the rows of these tables only.
    pub(super) fn only(database: &str, wanted: &'w BTreeSet<String>) -> Self {
        Self {
            wanted: Some(wanted),
            ..Self::new(database, true)
        }
    }

    /// Whether something of a table was seen: all before is written without asking the server.
    pub(super) fn has_begun(&self) -> bool {
        !self.dumped.definitions.is_empty()
            || !self.dumped.sequences.is_empty()
            || self.defining.is_some()
    }

    /// Reads a block and adds what is to be passed on to `out`.
    pub(super) fn feed(&mut self, block: &[u8], out: &mut Vec<u8>) {
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', block) {
            let piece = &block[begin..end];
            begin = end + 1;
            if self.line.is_empty() && !self.is_in_long_row {
                self.whole_line(piece, out);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                self.whole_line(&line, out);
                line.clear();
                self.line = line;
            }
        }
        self.line.extend_from_slice(&block[begin..]);
        if self.line.len() > LINE_KEPT {
            self.long_line(out);
        }
    }

    /// Ends the dump.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Dumped {
        if !self.line.is_empty() || self.is_in_long_row {
            self.dumped.is_complete = false;
            self.fault("stops within a line");
            out.append(&mut self.line);
        }
        match std::mem::replace(&mut self.place, Place::Text) {
            Place::Text => {}
            Place::After(statement) => statement.end(out),
            Place::Rows(_) => self.fault("stops within a statement"),
        }
        for (table, count) in std::mem::take(&mut self.counts) {
            let digest = match count.digest {
                _ if self.is_counting_only => None,
                digest => Some(digest.unwrap_or_default().finish().1),
            };
            let rows = count.rows;
            let facts = TableFacts::Read { rows, digest };
            self.dumped.tables.insert(table, facts);
        }
        self.dumped
    }

    /// A line without its end.
    fn whole_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.place, Place::Text) {
            Place::Rows(statement) => self.place = self.row_line(statement, line, out),
            Place::After(statement) => match insert_head(line) {
                Some((head, rest)) if head == statement.head => {
                    self.place = self.first_row(statement, rest, out);
                }
                _ => {
                    statement.end(out);
                    self.text_line(line, out);
                }
            },
            Place::Text => self.text_line(line, out),
        }
    }

    fn text_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if line.starts_with(INSERT)
            && let Some((head, rest)) = insert_head(line)
        {
            let (head, rest) = (head.to_vec(), rest.to_vec());
            let statement = self.statement(head);
            self.place = self.first_row(statement, &rest, out);
            return;
        }
        if self.defining.is_some()
            && let Some(at) = memchr::memmem::find(line, &self.own)
        {
            let rest = &line[at + self.own.len()..];
            let line = [&line[..at], b"nextval(", rest].concat();
            self.text_line(&line, out);
            return;
        }
        self.note(line);
        out.extend_from_slice(if line == MODE { WIDENED_MODE } else { line });
        out.push(b'\n');
    }

    fn statement(&mut self, head: Vec<u8>) -> Statement {
        let table = sql::quoted_name(&head[INSERT.len()..])
            .map(|(table, _)| table)
            .unwrap_or_default();
        Statement {
            is_wanted: self.wanted.is_none_or(|wanted| wanted.contains(&table)),
            table,
            head,
            written: 0,
            is_cut: false,
        }
    }

    /// What stands behind the head of a statement, on its line.
    fn first_row(&mut self, statement: Statement, rest: &[u8], out: &mut Vec<u8>) -> Place {
        if rest.is_empty() {
            Place::Rows(statement)
        } else {
            self.row_line(statement, rest, out)
        }
    }

    fn row_line(&mut self, mut statement: Statement, line: &[u8], out: &mut Vec<u8>) -> Place {
        let Some((&last, row)) = line.split_last() else {
            self.fault("has an empty line among rows");
            return Place::Rows(statement);
        };
        let begins = self.is_in_long_row || row.first() == Some(&b'(');
        if !begins || !matches!(last, b',' | b';') {
            self.fault(&format!(
                "has a line that is no row in table {:?}",
                statement.table
            ));
        }
        let is_long = std::mem::take(&mut self.is_in_long_row);
        let count = self.counts.entry(statement.table.clone()).or_default();
        count.rows += 1;
        if !self.is_counting_only {
            let digest = count.digest.get_or_insert_default();
            if is_long {
                digest.push(row);
                digest.end_row();
            } else {
                digest.row(row);
            }
        }
        if !is_long {
            statement.begin_row(out);
        }
        statement.add(row, out);
        statement.end_row(row);
        if last == b';' {
            Place::After(statement)
        } else {
            Place::Rows(statement)
        }
    }

    /// Passes on what there is of a long row; other lines are kept until they end.
    fn long_line(&mut self, out: &mut Vec<u8>) {
        let mut line = std::mem::take(&mut self.line);
        let place = std::mem::replace(&mut self.place, Place::Text);
        let (mut statement, from) = match place {
            Place::Rows(statement) => (statement, 0),
            place => {
                let head = insert_head(&line).filter(|(_, rest)| !rest.is_empty());
                let Some((head, rest)) = head else {
                    self.place = place;
                    self.line = line;
                    return;
                };
                let from = line.len() - rest.len();
                match place {
                    Place::After(statement) if statement.head == head => (statement, from),
                    place => {
                        if let Place::After(statement) = place {
                            statement.end(out);
                        }
                        let head = head.to_vec();
                        (self.statement(head), from)
                    }
                }
            }
        };
        // The last byte may be what follows the row.
        let row = &line[from..line.len() - 1];
        if !self.is_counting_only {
            let count = self.counts.entry(statement.table.clone()).or_default();
            count.digest.get_or_insert_default().push(row);
        }
        if !std::mem::replace(&mut self.is_in_long_row, true) {
            statement.begin_row(out);
        }
        statement.add(row, out);
        line.drain(..line.len() - 1);
        self.line = line;
        self.place = Place::Rows(statement);
    }

    /// Takes from a line outside of rows what facts are made of.
    fn note(&mut self, line: &[u8]) {
        if let Some((table, mut text, mut auto_increment)) = self.defining.take() {
            if line.starts_with(b") ") {
                let (plain, next) = without_auto_increment(line);
                text.extend_from_slice(&plain);
                auto_increment = next;
            } else {
                text.extend_from_slice(line);
            }
            text.push(b'\n');
            if line.ends_with(b";") {
                let sha256 = Digest::of(&text).to_string();
                let definition = Definition {
                    sha256,
                    auto_increment,
                };
                self.counts.entry(table.clone()).or_default();
                self.dumped.definitions.insert(table, definition);
            } else {
                self.defining = Some((table, text, auto_increment));
            }
        } else if let Some(rest) = line.strip_prefix(b"CREATE TABLE ") {
            if let Some((table, _)) = sql::quoted_name(rest) {
                let mut text = line.to_vec();
                text.push(b'\n');
                self.defining = Some((table, text, None));
            }
        } else if let Some(rest) = line.strip_prefix(b"CREATE SEQUENCE ") {
            if let Some((name, rest)) = sql::quoted_name(rest) {
                let definition = String::from_utf8_lossy(rest).trim().to_owned();
                self.dumped.sequences.entry(name).or_default().definition = definition;
            }
        } else if let Some(rest) = line.strip_prefix(b"DO SETVAL(")
            && let Some((name, rest)) = sql::quoted_name(rest)
        {
            let rest = String::from_utf8_lossy(rest);
            let next = rest.trim_start_matches([',', ' ']).split(',').next();
            self.dumped.sequences.entry(name).or_default().next = next.map(str::to_owned);
        }
        if line.starts_with(COMPLETED) {
            self.dumped.is_complete = true;
        } else if !line.is_empty() {
            self.dumped.is_complete = false;
        }
    }

    fn fault(&mut self, what: &str) {
        if self.dumped.faults.len() < 10 {
            self.dumped.faults.push(format!("the dump {what}"));
        }
    }
}

impl Statement {
    fn begin_row(&mut self, out: &mut Vec<u8>) {
        if !self.is_wanted {
            return;
        }
        let is_first = self.written == 0;
        if is_first || self.is_cut {
            out.extend_from_slice(if is_first { b"" } else { b";\n" });
            out.extend_from_slice(&self.head);
            out.push(b'\n');
            self.written = self.head.len();
            self.is_cut = false;
        } else {
            out.extend_from_slice(b",\n");
        }
    }

    fn add(&mut self, row: &[u8], out: &mut Vec<u8>) {
        if self.is_wanted {
            out.extend_from_slice(row);
            self.written += row.len() + 2;
        }
    }

    fn end_row(&mut self, end: &[u8]) {
        if self.written >= STATEMENT_MIN {
            let hash = twox_hash::XxHash3_64::oneshot(&end[..end.len().min(64)]);
            self.is_cut = hash & CUT_MASK == 0 || self.written >= STATEMENT_MAX;
        }
    }

    fn end(self, out: &mut Vec<u8>) {
        if self.written > 0 {
            out.extend_from_slice(b";\n");
        }
    }
}

/// The head of an `INSERT`, to `VALUES`, and what follows it on the line.
fn insert_head(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, mut rest) = sql::quoted_name(line.strip_prefix(INSERT)?)?;
    rest = rest.strip_prefix(b" ")?;
    if let Some(mut columns) = rest.strip_prefix(b"(") {
        loop {
            let at = columns
                .iter()
                .position(|byte| matches!(byte, b'`' | b')'))?;
            if columns[at] == b')' {
                rest = columns[at + 1..].strip_prefix(b" ")?;
                break;
            }
            columns = sql::quoted_name(&columns[at..])?.1;
        }
    }
    rest = rest.strip_prefix(b"VALUES")?;
    let head = &line[..line.len() - rest.len()];
    Some((head, rest.strip_prefix(b" ").unwrap_or(rest)))
}

/// The last line of a definition without its ` AUTO_INCREMENT=N`, and N.
fn without_auto_increment(line: &[u8]) -> (Vec<u8>, Option<u64>) {
    const WORD: &[u8] = b" AUTO_INCREMENT=";
    // It follows the engine at once; a comment comes later.
    let Some(at) = line.windows(WORD.len()).position(|window| window == WORD) else {
        return (line.to_vec(), None);
    };
    let digits = &line[at + WORD.len()..];
    let length = digits
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(digits.len());
    let number = String::from_utf8_lossy(&digits[..length]).parse().ok();
    let plain = [&line[..at], &digits[length..]].concat();
    (plain, number)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
