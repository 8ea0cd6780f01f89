//! Runs `mariadb-dump`: rows into a stream, definitions of objects into another one.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use strongroom_core::cancel::Cancel;
use strongroom_core::source::{CaptureError, Entry};

use super::catalogue::{Catalogue, Kind};
use super::connection::{Connection, Version};
use super::rows::{DumpReader, Dumped};
use super::server;

/// How much is read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// From this version on, `mariadb-dump` can dump the history of tables that keep one.
const DUMPS_HISTORY: Version = (10, 11);

/// What every dump is made with: one snapshot, rows as they come in the order of their key, nothing that changes by itself,
/// and nothing that drops what is there when it is loaded.
const OPTIONS: [&str; 11] = [
    "--single-transaction",
    "--quick",
    "--hex-blob",
    "--skip-dump-date",
    "--no-tablespaces",
    "--order-by-primary",
    "--no-autocommit",
    "--skip-add-locks",
    "--skip-disable-keys",
    "--skip-add-drop-table",
    "--skip-lock-tables",
];

/// What to dump of a database.
pub(super) struct Job<'a> {
    pub(super) connection: &'a Connection,
    pub(super) client: Version,
    pub(super) database: &'a str,
    pub(super) catalogue: &'a Catalogue,
    pub(super) cancel: &'a Cancel,
    /// Whether the account may see events; without it the program fails when it is asked for them.
    pub(super) sees_events: bool,
    /// The tables to dump; all if empty.
    pub(super) tables: Vec<&'a str>,
}

impl Job<'_> {
    /// Whether the rows of a table are dumped with their history.
    pub(super) fn has_history(&self, table: &str) -> bool {
        let table = self.catalogue.tables.get(table);
        self.client >= DUMPS_HISTORY && table.is_some_and(|table| table.kind == Kind::Versioned)
    }

    /// Dumps tables, rows and sequences; `begun` is dropped when the snapshot is certainly open: what is
    /// written of a table was asked for inside of the transaction.
    pub(super) fn tables(
        &self,
        is_counting_only: bool,
        begun: Sender<()>,
        write: &mut dyn FnMut(&[u8]) -> Result<(), CaptureError>,
    ) -> Result<Dumped, CaptureError> {
        let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
        arguments.push("--skip-triggers".to_owned());
        let mut tables = self.catalogue.tables.keys();
        if tables.any(|table| self.has_history(table)) {
            arguments.push("--dump-history".to_owned());
        }
        for view in self.catalogue.of_kind("view") {
            arguments.push(format!("--ignore-table={}.{view}", self.database));
        }
        for table in server::STOWAGE {
            arguments.push(format!("--ignore-table={}.{table}", self.database));
        }
        arguments.extend(["--".to_owned(), self.database.to_owned()]);
        arguments.extend(self.tables.iter().map(|table| (*table).to_owned()));
        let failed = || CaptureError::library(format!("dump the database {:?}", self.database));
        let mut running = self.connection.dump(&arguments).map_err(failed())?;
        let mut stdout = running.stdout();
        let mut begun = Some(begun);
        let mut reader = DumpReader::new(self.database, is_counting_only);
        let (mut block, mut out) = (vec![0; BLOCK_BYTES], Vec::with_capacity(BLOCK_BYTES * 2));
        loop {
            self.cancel.check()?;
            let length = match stdout.read(&mut block) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) => return Err(failed()(running.broken("read from", error))),
            };
            reader.feed(&block[..length], &mut out);
            if reader.has_begun() {
                begun = None;
            }
            write(&out)?;
            out.clear();
        }
        let dumped = reader.finish(&mut out);
        running.finish().map_err(failed())?;
        drop(begun);
        if !dumped.is_complete {
            return Err(incomplete(self.database));
        }
        write(&out)?;
        Ok(dumped)
    }

    /// Dumps triggers, events and routines, then views: text that can be loaded again.
    pub(super) fn objects(&self) -> Result<Vec<u8>, CaptureError> {
        let views: Vec<&str> = self.catalogue.of_kind("view").collect();
        objects(self.connection, self.database, &views, self.sees_events)
    }
}

/// The definitions of all objects of a database, and those of these views.
pub(super) fn objects(
    connection: &Connection,
    database: &str,
    views: &[&str],
    with_events: bool,
) -> Result<Vec<u8>, CaptureError> {
    let common = [
        "--single-transaction",
        "--skip-dump-date",
        "--no-tablespaces",
        "--no-data",
    ];
    let with = |more: &[&str], names: &[&str]| -> Vec<String> {
        let place = ["--", database];
        let words = common.iter().chain(more).chain(&place);
        words.chain(names).map(|word| (*word).to_owned()).collect()
    };
    let code = with(
        &[
            "--no-create-info",
            "--triggers",
            "--routines",
            if with_events {
                "--events"
            } else {
                "--skip-events"
            },
        ],
        &[],
    );
    let mut text = output(connection, database, &code)?;
    if !views.is_empty() {
        let views = with(&["--skip-triggers", "--skip-add-drop-table"], views);
        text.extend(output(connection, database, &views)?);
    }
    Ok(text)
}

/// The whole output of a dump that says that it is complete.
pub(super) fn output(
    connection: &Connection,
    database: &str,
    arguments: &[String],
) -> Result<Vec<u8>, CaptureError> {
    let failed = || CaptureError::library(format!("dump the definitions in {database:?}"));
    let mut running = connection.dump(arguments).map_err(failed())?;
    let mut text = Vec::new();
    if let Err(error) = running.stdout().read_to_end(&mut text) {
        return Err(failed()(running.broken("read from", error)));
    }
    running.finish().map_err(failed())?;
    let end = text.trim_ascii_end();
    let last = end.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    if !last.starts_with(b"-- Dump completed") {
        return Err(incomplete(database));
    }
    Ok(text)
}

fn incomplete(database: &str) -> CaptureError {
    CaptureError::Unsuitable {
        path: database.into(),
        why: "mariadb-dump ended without an error, but not at the end of its dump".to_owned(),
        hint: "Run the backup again; if it happens again, look at the server's log.",
    }
}

/// The entry of a stream.
pub(super) fn entry(path: PathBuf) -> Entry {
    Entry {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        ..Entry::dump(path, 0)
    }
}
