//! A database server in memory, and a source that dumps its databases: for tests of the engine without a server.
//!
//! A database is a set of tables, a table is lines of text. Its dump has the shape of a real one: a schema that comes first and
//! alone, then the tables.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strongroom_core::format::manifest::Stream;
use strongroom_core::format::manifest::StreamKind;
use strongroom_core::source::server::{
    DatabaseLoad, DatabaseSeen, DatabaseServer, LoadJob, LoadedDatabase, ServerSeen, StreamContent,
    SwapNames, WantedDatabase, decode_part, encode_part,
};
use strongroom_core::source::tables::{Differences, LineDigest, TableFacts};
use strongroom_core::source::{
    Capture, CaptureError, Chunking, Inspection, Proof, RestoredAsset, Restorer, Sink, Source,
};

use crate::entry::entry;

/// The kind of source.
pub const KIND: &str = "memory";

/// Tables by name.
pub type Tables = BTreeMap<String, String>;

/// A server; clones are the same server.
#[derive(Clone, Default)]
pub struct MemoryServer(Arc<Mutex<BTreeMap<String, Tables>>>);

impl MemoryServer {
    /// A server without databases.
    pub fn new() -> Self {
        Self::default()
    }

    /// All databases.
    pub fn databases(&self) -> BTreeMap<String, Tables> {
        self.lock().clone()
    }

    /// Creates or replaces a database.
    pub fn put(&self, name: &str, tables: &[(&str, &str)]) {
        let tables = tables
            .iter()
            .map(|(name, rows)| ((*name).to_owned(), (*rows).to_owned()));
        self.lock().insert(name.to_owned(), tables.collect());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tables>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for MemoryServer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        Ok(Inspection::default())
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        let mut facts = BTreeMap::new();
        for (name, tables) in self.databases() {
            let database = encode_part(&name);
            let list: Vec<&str> = tables.keys().map(String::as_str).collect();
            let path = format!("/{database}/schema.dump");
            dump(sink, path, list.join("\n").as_bytes())?;
            std::thread::scope(|scope| {
                let streams: Vec<_> = tables
                    .iter()
                    .map(|(table, rows)| {
                        let path = format!("/{database}/data/{}.copy", encode_part(table));
                        scope.spawn(move || dump(sink, path, rows.as_bytes()))
                    })
                    .collect();
                streams
                    .into_iter()
                    .try_for_each(|stream| stream.join().expect("no panic in a stream"))
            })?;
            facts.insert(name, tables_of(&tables));
        }
        dump(sink, "/globals.sql".to_owned(), b"roles")?;
        Ok(Capture {
            facts: serde_json::json!({ "databases": facts }),
            ..Capture::default()
        })
    }
}

fn dump(sink: &dyn Sink, path: String, bytes: &[u8]) -> Result<(), CaptureError> {
    let mut writer = sink.begin(Chunking::Lines)?;
    for block in bytes.chunks(1000) {
        writer.write(block)?;
    }
    writer.finish(entry(StreamKind::Dump, path)).map(drop)
}

fn tables_of(tables: &Tables) -> BTreeMap<String, TableFacts> {
    let facts = |rows: &String| {
        let mut lines = LineDigest::default();
        lines.update(rows.as_bytes());
        lines.finish().expect("rows are whole lines")
    };
    let tables = tables.iter();
    tables
        .map(|(name, rows)| (name.clone(), facts(rows)))
        .collect()
}

/// The restorer of the kind [`KIND`].
pub struct MemoryRestorer;

impl Restorer for MemoryRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn is_proved_by_digest(&self) -> bool {
        true
    }

    fn loads_into_server(&self) -> bool {
        true
    }

    fn prove(&self, _: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        Ok(Proof::default())
    }
}

impl DatabaseServer for MemoryServer {
    fn observe(&self, wanted: &[WantedDatabase<'_>]) -> Result<ServerSeen, CaptureError> {
        let databases = self.databases();
        let seen = wanted
            .iter()
            .filter(|wanted| databases.contains_key(wanted.name));
        Ok(ServerSeen {
            server: "a server in memory".to_owned(),
            databases: seen
                .map(|wanted| (wanted.name.to_owned(), DatabaseSeen::default()))
                .collect(),
            ..ServerSeen::default()
        })
    }

    fn has(&self, name: &str) -> Result<bool, CaptureError> {
        Ok(self.lock().contains_key(name))
    }

    fn begin_load<'l>(
        &'l self,
        job: LoadJob<'l>,
    ) -> Result<Box<dyn DatabaseLoad + 'l>, CaptureError> {
        assert!(job.scratch.is_dir() && job.keep.is_dir());
        self.lock().insert(job.name.to_owned(), Tables::new());
        Ok(Box::new(Load { server: self, job }))
    }

    fn prove(&self, name: &str, database: &LoadedDatabase<'_>) -> Result<Proof, CaptureError> {
        let captured = &database.facts["databases"][database.original];
        let mut captured: BTreeMap<String, TableFacts> =
            serde_json::from_value(captured.clone())
                .map_err(CaptureError::library("read the facts"))?;
        let only = &database.options.tables;
        for (name, table) in &mut captured {
            if !only.is_empty() && !only.contains(name) {
                *table = LineDigest::default().finish().expect("no row");
            }
        }
        let mut differences = Differences::default();
        let tables = self.lock().get(name).cloned().unwrap_or_default();
        differences.tables(&captured, &tables_of(&tables));
        Ok(Proof {
            shown: vec![format!("{} tables", captured.len())],
            failures: differences.into_vec(),
            notes: Vec::new(),
        })
    }

    fn swap_in(&self, names: &SwapNames<'_>) -> Result<(), CaptureError> {
        let mut databases = self.lock();
        let has = |name: &str| databases.contains_key(name);
        if has(names.new) && has(names.live) && !names.replaces {
            let appeared = std::io::ErrorKind::AlreadyExists.into();
            return Err(CaptureError::io("swap", Path::new(names.live))(appeared));
        }
        if let Some(new) = databases.remove(names.new)
            && let Some(live) = databases.insert(names.live.to_owned(), new)
        {
            databases.insert(names.old.to_owned(), live);
        }
        Ok(())
    }

    fn swap_back(&self, names: &SwapNames<'_>) -> Result<(), CaptureError> {
        let mut databases = self.lock();
        if let Some(old) = databases.remove(names.old)
            && let Some(live) = databases.insert(names.live.to_owned(), old)
        {
            databases.insert(names.new.to_owned(), live);
        }
        Ok(())
    }

    fn drop_database(&self, name: &str) -> Result<(), CaptureError> {
        self.lock().remove(name);
        Ok(())
    }
}

struct Load<'l> {
    server: &'l MemoryServer,
    job: LoadJob<'l>,
}

impl Load<'_> {
    fn table(stream: &Stream) -> Option<String> {
        let name = stream.path.file_name()?.to_str()?;
        decode_part(name.strip_suffix(".copy")?)
    }
}

impl DatabaseLoad for Load<'_> {
    fn jobs(&self) -> usize {
        2
    }

    fn wants(&self, stream: &Stream) -> bool {
        let tables = &self.job.database.options.tables;
        match Self::table(stream) {
            Some(table) => tables.is_empty() || tables.contains(&table),
            None => true,
        }
    }

    fn is_alone(&self, stream: &Stream) -> bool {
        Self::table(stream).is_none()
    }

    fn load(&self, stream: &Stream, content: StreamContent<'_>) -> Result<(), CaptureError> {
        let mut bytes = Vec::new();
        content(&mut bytes)?;
        let text = String::from_utf8(bytes).map_err(CaptureError::library("read a stream"))?;
        let mut databases = self.server.lock();
        let database = databases
            .get_mut(self.job.name)
            .ok_or_else(|| missing(self.job.name))?;
        match Self::table(stream) {
            None => {
                let tables = text.lines().map(|name| (name.to_owned(), String::new()));
                database.extend(tables);
            }
            Some(table) => {
                let place = database.get_mut(&table);
                *place.ok_or_else(|| missing(&table))? = text;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Vec<String>, CaptureError> {
        Ok(vec!["indexes are built".to_owned()])
    }
}

fn missing(name: &str) -> CaptureError {
    CaptureError::io("find", Path::new(name))(std::io::ErrorKind::NotFound.into())
}
