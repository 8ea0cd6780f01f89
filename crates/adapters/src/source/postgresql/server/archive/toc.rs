//! The table of contents of a `pg_dump` archive, read and written: versions 1.12 (PostgreSQL 9.0) to 1.16 (17 and 18).
//!
//! The layout is that of `pg_backup_archiver.c`: a header, then the entries, each a list of integers (a byte for the
//! sign, then the value, least significant byte first) and strings (length, bytes; -1 for none). Knows nothing of what
//! the entries mean. Text stays bytes: it is in the encoding that the archive names.

use super::ArchiveError;

const MAGIC: &[u8] = b"PGDMP";
const OLDEST: (u8, u8) = (1, 12);
const NEWEST: (u8, u8) = (1, 16);
/// The format byte of one file.
const CUSTOM: u8 = 1;
/// The format byte of `toc.dat`, which a directory shares with a tar archive.
const DIRECTORY: u8 = 3;
/// An entry of one file has no data: `K_OFFSET_NO_DATA`.
const NO_DATA: u8 = 3;

/// The objects that rows need.
pub(super) const PRE_DATA: i64 = 2;
/// Rows and the values of sequences.
pub(super) const DATA: i64 = 3;
/// What needs rows.
pub(super) const POST_DATA: i64 = 4;

/// An archive without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toc {
    version: (u8, u8, u8),
    int_bytes: u8,
    offset_bytes: u8,
    /// Seconds, minutes, hours, day, month, year, daylight saving.
    created: [i64; 7],
    database: Option<Vec<u8>>,
    server_version: Option<Vec<u8>>,
    pub(super) dump_version: Option<Vec<u8>>,
    pub(super) entries: Vec<TocEntry>,
}

/// An object of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TocEntry {
    pub(super) dump_id: i64,
    pub(super) has_data: bool,
    pub(super) catalog: Option<Vec<u8>>,
    pub(super) oid: Option<Vec<u8>>,
    pub(super) tag: Option<Vec<u8>>,
    pub(super) kind: Option<Vec<u8>>,
    pub(super) section: i64,
    pub(super) definition: Option<Vec<u8>>,
    pub(super) drop_statement: Option<Vec<u8>>,
    pub(super) copy_statement: Option<Vec<u8>>,
    pub(super) schema: Option<Vec<u8>>,
    pub(super) tablespace: Option<Vec<u8>>,
    pub(super) access_method: Option<Vec<u8>>,
    pub(super) relation_kind: i64,
    pub(super) owner: Option<Vec<u8>>,
    pub(super) with_oids: Option<Vec<u8>>,
    pub(super) needs: Vec<i64>,
    /// The file of its data, in a directory.
    pub(super) file: Option<String>,
}

impl Toc {
    /// Reads an archive of one file, as `pg_dump --format=custom` writes it; its data, if any, are left out.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(ArchiveError::NoArchive)?;
        let mut from = Reader {
            bytes: rest,
            length: bytes.len(),
            int_bytes: 4,
        };
        let version = (from.byte()?, from.byte()?, from.byte()?);
        if !(OLDEST..=NEWEST).contains(&(version.0, version.1)) {
            let (major, minor, revision) = version;
            return Err(ArchiveError::Version(format!("{major}.{minor}.{revision}")));
        }
        let (int_bytes, offset_bytes) = (from.byte()?, from.byte()?);
        for size in [int_bytes, offset_bytes] {
            if !matches!(size, 1..=8) {
                return Err(ArchiveError::IntegerSize(size));
            }
        }
        from.int_bytes = usize::from(int_bytes);
        let format = from.byte()?;
        if format != CUSTOM {
            return Err(ArchiveError::Format(format));
        }
        // How data would be compressed: there are none.
        if version.1 >= 15 {
            from.byte()?;
        } else {
            from.int()?;
        }
        let mut created = [0; 7];
        for part in &mut created {
            *part = from.int()?;
        }
        let mut toc = Self {
            version,
            int_bytes,
            offset_bytes,
            created,
            database: from.string()?,
            server_version: from.string()?,
            dump_version: from.string()?,
            entries: Vec::new(),
        };
        for _ in 0..from.int()? {
            let entry = toc.read_entry(&mut from)?;
            toc.entries.push(entry);
        }
        Ok(toc)
    }

    fn read_entry(&self, from: &mut Reader<'_>) -> Result<TocEntry, ArchiveError> {
        let mut entry = TocEntry {
            dump_id: from.int()?,
            has_data: from.int()? != 0,
            catalog: from.string()?,
            oid: from.string()?,
            tag: from.string()?,
            kind: from.string()?,
            section: from.int()?,
            definition: from.string()?,
            drop_statement: from.string()?,
            copy_statement: from.string()?,
            schema: from.string()?,
            tablespace: from.string()?,
            ..TocEntry::default()
        };
        if self.version.1 >= 14 {
            entry.access_method = from.string()?;
        }
        if self.version.1 >= 16 {
            entry.relation_kind = from.int()?;
        }
        entry.owner = from.string()?;
        entry.with_oids = from.string()?;
        while let Some(need) = from.string()? {
            let number = std::str::from_utf8(&need).ok();
            let number = number.and_then(|text| text.parse().ok());
            entry.needs.push(number.ok_or(ArchiveError::Dependency)?);
        }
        from.byte()?;
        from.take(usize::from(self.offset_bytes))?;
        Ok(entry)
    }

    /// The archive as one file without data.
    pub(super) fn to_custom(&self) -> Vec<u8> {
        self.write(CUSTOM)
    }

    /// The file `toc.dat` of an archive in a directory.
    pub(super) fn to_directory(&self) -> Vec<u8> {
        self.write(DIRECTORY)
    }

    fn write(&self, format: u8) -> Vec<u8> {
        let mut to = Writer {
            bytes: MAGIC.to_vec(),
            int_bytes: usize::from(self.int_bytes),
        };
        let (major, minor, revision) = self.version;
        let sizes = [self.int_bytes, self.offset_bytes];
        to.bytes.extend([major, minor, revision]);
        to.bytes.extend(sizes);
        to.bytes.push(format);
        // Not compressed.
        if minor >= 15 {
            to.bytes.push(0);
        } else {
            to.int(0);
        }
        for part in self.created {
            to.int(part);
        }
        to.string(self.database.as_deref());
        to.string(self.server_version.as_deref());
        to.string(self.dump_version.as_deref());
        to.int(i64::try_from(self.entries.len()).expect("fewer entries than bytes of memory"));
        for entry in &self.entries {
            self.write_entry(&mut to, entry, format);
        }
        to.bytes
    }

    fn write_entry(&self, to: &mut Writer, entry: &TocEntry, format: u8) {
        to.int(entry.dump_id);
        to.int(i64::from(entry.has_data));
        for text in [&entry.catalog, &entry.oid, &entry.tag, &entry.kind] {
            to.string(text.as_deref());
        }
        to.int(entry.section);
        for text in [
            &entry.definition,
            &entry.drop_statement,
            &entry.copy_statement,
            &entry.schema,
            &entry.tablespace,
        ] {
            to.string(text.as_deref());
        }
        if self.version.1 >= 14 {
            to.string(entry.access_method.as_deref());
        }
        if self.version.1 >= 16 {
            to.int(entry.relation_kind);
        }
        to.string(entry.owner.as_deref());
        to.string(entry.with_oids.as_deref());
        for need in &entry.needs {
            to.string(Some(need.to_string().as_bytes()));
        }
        to.string(None);
        if format == CUSTOM {
            to.bytes.push(NO_DATA);
            to.bytes.extend((0..self.offset_bytes).map(|_| 0));
        } else {
            to.string(Some(entry.file.as_deref().unwrap_or_default().as_bytes()));
        }
    }
}

/// Takes an archive apart; what is too short is an error.
struct Reader<'a> {
    bytes: &'a [u8],
    length: usize,
    int_bytes: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ArchiveError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| {
            let offset = self.length - self.bytes.len();
            ArchiveError::Cut { offset }
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ArchiveError> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn int(&mut self) -> Result<i64, ArchiveError> {
        let is_negative = self.byte()? != 0;
        let mut value = [0; 8];
        let bytes = self.take(self.int_bytes)?;
        value[..bytes.len()].copy_from_slice(bytes);
        let value =
            i64::try_from(u64::from_le_bytes(value)).map_err(|_| ArchiveError::IntegerTooLarge)?;
        Ok(if is_negative { -value } else { value })
    }

    fn string(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        let length = self.int()?;
        // Negative: no string.
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        Ok(Some(self.take(length)?.to_vec()))
    }
}

struct Writer {
    bytes: Vec<u8>,
    int_bytes: usize,
}

impl Writer {
    fn int(&mut self, value: i64) {
        self.bytes.push(u8::from(value < 0));
        let value = value.unsigned_abs().to_le_bytes();
        self.bytes.extend(&value[..self.int_bytes]);
    }

    fn string(&mut self, text: Option<&[u8]>) {
        let Some(text) = text else {
            return self.int(-1);
        };
        self.int(i64::try_from(text.len()).expect("shorter than memory"));
        self.bytes.extend(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_version_comes_back_and_no_part_of_it_does() {
        for minor in OLDEST.1..=NEWEST.1 {
            let text = |text: &str| Some(text.as_bytes().to_vec());
            let entry = TocEntry {
                dump_id: 7,
                tag: text("orders"),
                kind: text("TABLE"),
                section: PRE_DATA,
                definition: text("CREATE TABLE orders ();\n"),
                access_method: text("heap").filter(|_| minor >= 14),
                relation_kind: if minor >= 16 { 114 } else { 0 },
                owner: text("ca"),
                needs: vec![3, 5],
                ..TocEntry::default()
            };
            let toc = Toc {
                version: (1, minor, 0),
                int_bytes: 4,
                offset_bytes: 8,
                created: [1, 2, 3, 4, 5, 126, -1],
                database: text("ca"),
                server_version: text("15.8"),
                dump_version: None,
                entries: vec![entry.clone(), entry],
            };
            let bytes = toc.to_custom();
            assert_eq!(Toc::read(&bytes).as_ref(), Ok(&toc), "1.{minor}");
            for length in 0..bytes.len() {
                assert!(Toc::read(&bytes[..length]).is_err(), "1.{minor}, {length}");
            }
            let directory = toc.to_directory();
            assert_eq!(Toc::read(&directory), Err(ArchiveError::Format(DIRECTORY)));
        }
    }
}
