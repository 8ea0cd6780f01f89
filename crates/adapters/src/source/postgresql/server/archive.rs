//! What `pg_restore` reads, put together from a schema and rows, without a server.
//!
//! A backup holds the schema as an archive of its own (`pg_dump --format=custom --schema-only`) and the rows as COPY text,
//! a stream a table. [`directory_archive`] makes one archive of them that `pg_restore` lists, prints and loads in
//! parallel: a directory with `toc.dat` and a file a table. [`before_rows`] and [`after_rows`] are the two halves of a
//! load. Pure functions over bytes.

mod roles;
mod toc;

use std::collections::{BTreeMap, BTreeSet};

use super::super::facts::Sequence;
use super::super::session::{column_list, literal, qualified};
use toc::{DATA, POST_DATA, PRE_DATA, Toc, TocEntry};

/// Objects that every new database has, and that an ordinary role may not create or comment on: `kind` and `tag`.
///
/// They are left out of a load, because it stops at its first error.
const ALREADY_THERE: &[(&str, &str)] = &[
    ("EXTENSION", "plpgsql"),
    ("COMMENT", "EXTENSION plpgsql"),
    ("PROCEDURAL LANGUAGE", "plpgsql"),
    ("COMMENT", "LANGUAGE plpgsql"),
];

/// Entries that lock two tables.
const FOREIGN_KEYS: &[&str] = &["FK CONSTRAINT"];

/// Who may do what: set last, so that it hinders nothing before.
const PRIVILEGES: &[&str] = &["ACL", "DEFAULT ACL"];

/// Why an archive cannot be put together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is something else.
    #[error("the schema is no archive of pg_dump")]
    NoArchive,
    /// Nobody knows this version here.
    #[error("the schema is an archive of version {0}, and versions 1.12 to 1.16 are known")]
    Version(String),
    /// It is a tar archive or the like.
    #[error("the schema is an archive of format {0}, and only the custom format (1) is read")]
    Format(u8),
    /// It was written on an odd machine.
    #[error("the schema has integers of {0} bytes")]
    IntegerSize(u8),
    /// An integer does not fit.
    #[error("the schema has an integer that is too large")]
    IntegerTooLarge,
    /// It ends too early.
    #[error("the schema is cut off at byte {offset}")]
    Cut {
        /// What is missing should begin here.
        offset: usize,
    },
    /// An entry needs something that is no number.
    #[error("the schema has a dependency that is no number")]
    Dependency,
    /// There are rows or values for something that the schema does not have.
    #[error("the schema has no {what} {name:?}")]
    Missing {
        /// `table`, `sequence`, `materialized view`.
        what: &'static str,
        /// Its name, with that of its schema.
        name: String,
    },
}

/// A table whose rows are there as COPY text.
#[derive(Clone, Copy, Debug)]
pub struct TableData<'a> {
    /// The name of its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The columns of the COPY text, in order.
    pub columns: &'a [String],
    /// The file that holds the COPY text and its end (`\.` and two empty lines), below the directory of the archive.
    pub file: &'a str,
}

/// Where a sequence is.
#[derive(Clone, Copy, Debug)]
pub struct SequenceData<'a> {
    /// The name of its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its `last_value`.
    pub value: i64,
    /// Whether that value was given out.
    pub is_called: bool,
}

impl<'a> From<&'a Sequence> for SequenceData<'a> {
    fn from(sequence: &'a Sequence) -> Self {
        Self {
            schema: &sequence.schema,
            name: &sequence.name,
            value: sequence.last_value,
            is_called: sequence.is_called,
        }
    }
}

/// What goes into an archive besides the schema.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArchiveData<'a> {
    /// The tables with rows.
    pub tables: &'a [TableData<'a>],
    /// The encoding of their COPY text, as PostgreSQL names it.
    pub encoding: &'a str,
    /// The values of the sequences.
    pub sequences: &'a [SequenceData<'a>],
    /// The materialised views that were populated, as schema and name, in any order.
    pub views: &'a [(&'a str, &'a str)],
}

/// The `toc.dat` that makes one archive of a schema and the rows of its tables. Large objects are not part of it.
pub fn directory_archive(schema: &[u8], data: &ArchiveData<'_>) -> Result<Vec<u8>, ArchiveError> {
    let mut toc = Toc::read(schema)?;
    let known = Known::new(&toc.entries);
    let mut next = toc.entries.iter().map(|entry| entry.dump_id).max();
    let mut next_id = || {
        let id = next.unwrap_or_default() + 1;
        next = Some(id);
        id
    };
    let mut rows = Vec::new();
    for table in data.tables {
        let of = known.find("table", TABLES, table.schema, table.name)?;
        let dump_id = next_id();
        rows.push(TocEntry {
            has_data: true,
            // It depends on where the text comes from, not on the encoding of the schema.
            copy_statement: Some(copy_statement(table, data.encoding).into_bytes()),
            file: Some(table.file.to_owned()),
            ..entry_of(of, dump_id, "TABLE DATA", DATA)
        });
    }
    let loaded: Vec<i64> = rows.iter().map(|entry| entry.dump_id).collect();
    for sequence in data.sequences {
        let of = known.find("sequence", &["SEQUENCE"], sequence.schema, sequence.name)?;
        rows.push(TocEntry {
            definition: Some(format!("{};\n", set_sequence(sequence)).into_bytes()),
            ..entry_of(of, next_id(), "SEQUENCE SET", DATA)
        });
    }
    let mut refreshes: Vec<TocEntry> = Vec::new();
    for of in known.views(data.views)? {
        let name = qualified(&text(of.schema.as_ref()), &text(of.tag.as_ref()));
        let mut refresh = TocEntry {
            definition: Some(format!("REFRESH MATERIALIZED VIEW {name};\n").into_bytes()),
            ..entry_of(of, next_id(), "MATERIALIZED VIEW DATA", POST_DATA)
        };
        // It may read any table, and any view before it.
        refresh.needs.extend(&loaded);
        refresh
            .needs
            .extend(refreshes.iter().map(|entry| entry.dump_id));
        refreshes.push(refresh);
    }
    let place = post_data_begins(&toc.entries);
    toc.entries.splice(place..place, rows);
    toc.entries.extend(refreshes);
    Ok(toc.to_directory())
}

/// The schemas of a database with their privileges: to own anything in a schema, a role must be allowed to create there.
pub fn schemas(schema: &[u8], roles: &BTreeMap<String, String>) -> Result<Vec<u8>, ArchiveError> {
    let mut toc = Toc::read(schema)?;
    let made: BTreeSet<i64> = toc
        .entries
        .iter()
        .filter(|entry| is_one_of(entry, SCHEMAS))
        .map(|entry| entry.dump_id)
        .collect();
    toc.entries.retain(|entry| {
        let tag = entry.tag.as_deref().unwrap_or_default();
        // Every new database has that one; the schemas of extensions come with those.
        let is_there = tag == b"SCHEMA public" || entry.needs.iter().any(|id| made.contains(id));
        let is_of_schema = tag.starts_with(b"SCHEMA ") && is_one_of(entry, &["ACL"]);
        (is_one_of(entry, SCHEMAS) && !is_already_there(entry)) || (is_of_schema && is_there)
    });
    roles::rename(&mut toc, roles);
    Ok(toc.to_custom())
}

/// The part of a schema that rows need, without [`schemas`] and privileges; roles by their new names.
pub fn before_rows(
    schema: &[u8],
    roles: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ArchiveError> {
    let mut toc = Toc::read(schema)?;
    let place = post_data_begins(&toc.entries);
    toc.entries.truncate(place);
    toc.entries
        .retain(|entry| !is_already_there(entry) && !is_one_of(entry, LEFT_BEFORE_ROWS));
    roles::rename(&mut toc, roles);
    Ok(toc.to_custom())
}

/// The rest of a schema: indexes, constraints, triggers, privileges; roles by their new names. Foreign keys, and what
/// needs them, are in [`foreign_keys`].
pub fn after_rows(
    schema: &[u8],
    roles: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ArchiveError> {
    let mut toc = Toc::read(schema)?;
    let place = post_data_begins(&toc.entries);
    let mut left_out = BTreeSet::new();
    let mut position = 0;
    toc.entries.retain(|entry| {
        let is_after = position >= place || is_one_of(entry, PRIVILEGES);
        position += 1;
        let is_left_out = is_already_there(entry)
            || is_one_of(entry, FOREIGN_KEYS)
            || entry.needs.iter().any(|need| left_out.contains(need));
        if is_left_out {
            // Its comments go with it.
            left_out.insert(entry.dump_id);
        }
        is_after && !is_left_out
    });
    roles::rename(&mut toc, roles);
    Ok(toc.to_custom())
}

/// The foreign keys of a schema, with their comments; none if there are none.
///
/// Each locks two tables. `pg_restore` keeps two of them that share tables apart by the tables in its archive, and
/// here those are not: several at a time could wait for each other.
pub fn foreign_keys(
    schema: &[u8],
    roles: &BTreeMap<String, String>,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    let mut toc = Toc::read(schema)?;
    let mut kept = BTreeSet::new();
    toc.entries.retain(|entry| {
        let is_kept =
            is_one_of(entry, FOREIGN_KEYS) || entry.needs.iter().any(|need| kept.contains(need));
        if is_kept {
            kept.insert(entry.dump_id);
        }
        is_kept
    });
    if kept.is_empty() {
        return Ok(None);
    }
    roles::rename(&mut toc, roles);
    Ok(Some(toc.to_custom()))
}

/// The version of the `pg_dump` that wrote an archive.
pub fn dump_version(schema: &[u8]) -> Result<Option<String>, ArchiveError> {
    let toc = Toc::read(schema)?;
    Ok(toc.dump_version.map(|version| text(Some(&version))))
}

/// A statement that sets a sequence.
pub fn set_sequence(sequence: &SequenceData<'_>) -> String {
    format!(
        "SELECT pg_catalog.setval({}, {}, {})",
        literal(&qualified(sequence.schema, sequence.name)),
        sequence.value,
        sequence.is_called
    )
}

/// What does not belong to the part that rows need.
const LEFT_BEFORE_ROWS: &[&str] = &["ACL", "DEFAULT ACL", "SCHEMA"];

const SCHEMAS: &[&str] = &["SCHEMA"];

/// What COPY text can be loaded into.
const TABLES: &[&str] = &["TABLE", "FOREIGN TABLE"];
const VIEWS: &[&str] = &["MATERIALIZED VIEW"];

fn copy_statement(table: &TableData<'_>, encoding: &str) -> String {
    let name = qualified(table.schema, table.name);
    let columns = column_list(table.columns);
    let encoding = literal(encoding);
    format!("COPY {name}{columns} FROM stdin WITH (ENCODING {encoding});\n")
}

/// The objects of an archive, by kind and name.
struct Known<'t> {
    entries: &'t [TocEntry],
    by_name: BTreeMap<[&'t [u8]; 3], usize>,
}

impl<'t> Known<'t> {
    fn new(entries: &'t [TocEntry]) -> Self {
        let named = entries.iter().enumerate().filter_map(|(place, entry)| {
            let (kind, schema, tag) = (&entry.kind, &entry.schema, &entry.tag);
            let key = [kind.as_deref()?, schema.as_deref()?, tag.as_deref()?];
            Some((key, place))
        });
        Self {
            entries,
            by_name: named.collect(),
        }
    }

    fn place(
        &self,
        what: &'static str,
        kinds: &[&str],
        schema: &str,
        name: &str,
    ) -> Result<usize, ArchiveError> {
        let mut found = kinds.iter().filter_map(|kind| {
            let key = [kind.as_bytes(), schema.as_bytes(), name.as_bytes()];
            self.by_name.get(&key).copied()
        });
        found.next().ok_or_else(|| ArchiveError::Missing {
            what,
            name: format!("{schema}.{name}"),
        })
    }

    fn find(
        &self,
        what: &'static str,
        kinds: &[&str],
        schema: &str,
        name: &str,
    ) -> Result<&'t TocEntry, ArchiveError> {
        let place = self.place(what, kinds, schema, name)?;
        Ok(&self.entries[place])
    }

    /// In the order of the archive, which is one of dependencies.
    fn views(&self, names: &[(&str, &str)]) -> Result<Vec<&'t TocEntry>, ArchiveError> {
        let places = names
            .iter()
            .map(|(schema, name)| self.place("materialized view", VIEWS, schema, name));
        let places = places.collect::<Result<BTreeSet<_>, _>>()?;
        Ok(places.iter().map(|place| &self.entries[*place]).collect())
    }
}

fn entry_of(of: &TocEntry, dump_id: i64, kind: &str, section: i64) -> TocEntry {
    TocEntry {
        dump_id,
        catalog: Some(b"0".to_vec()),
        oid: of.oid.clone(),
        tag: of.tag.clone(),
        kind: Some(kind.as_bytes().to_vec()),
        section,
        schema: of.schema.clone(),
        owner: of.owner.clone(),
        with_oids: Some(b"false".to_vec()),
        needs: vec![of.dump_id],
        ..TocEntry::default()
    }
}

fn post_data_begins(entries: &[TocEntry]) -> usize {
    let found = entries.iter().position(|entry| entry.section == POST_DATA);
    found.unwrap_or(entries.len())
}

fn is_one_of(entry: &TocEntry, kinds: &[&str]) -> bool {
    let kind = entry.kind.as_deref().unwrap_or_default();
    kinds.iter().any(|one| one.as_bytes() == kind)
}

fn is_already_there(entry: &TocEntry) -> bool {
    let tag = entry.tag.as_deref().unwrap_or_default();
    // Archives of old versions create it; it is there, and its owner is set by an entry's owner.
    let is_public = entry.section == PRE_DATA
        && is_one_of(entry, &["SCHEMA"])
        && entry.definition.as_deref() == Some(b"CREATE SCHEMA public;\n");
    let mut known = ALREADY_THERE.iter();
    is_public || known.any(|(kind, name)| is_one_of(entry, &[kind]) && name.as_bytes() == tag)
}

fn text(bytes: Option<&Vec<u8>>) -> String {
    bytes.map_or_else(String::new, |bytes| {
        String::from_utf8_lossy(bytes).into_owned()
    })
}
