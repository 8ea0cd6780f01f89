//! How the streams of a capture are proved where no server is: in a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use strongroom_core::private_file;
use strongroom_core::source::tables::{Differences, LineDigest, TableFacts};
use strongroom_core::source::{CaptureError, Proof, RestoredAsset, Restorer};

use super::facts::{DatabaseFacts, Facts};
use super::server::archive::{ArchiveData, SequenceData, TableData, directory_archive};
use super::{KIND, paths};

/// How much is read at once.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Proves what [`super::PostgresqlSource`] captured; a load into a server is the business of the port `server`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresqlRestorer;

impl Restorer for PostgresqlRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn loads_into_server(&self) -> bool {
        true
    }

    /// Rows were counted and digested as they went into the stream, whose digest every restored byte is proved against.
    fn is_proved_by_digest(&self) -> bool {
        true
    }

    /// Writes `toc.dat` into the folder of each database, which makes an archive of it.
    fn complete_directory(&self, asset: &RestoredAsset<'_>) -> Result<Vec<String>, CaptureError> {
        let mut notes = Vec::new();
        let Ok(facts) = Facts::deserialize(asset.facts) else {
            return Ok(notes);
        };
        for (name, database) in &facts.databases {
            notes.extend(archive_database(name, database, asset.files)?);
        }
        Ok(notes)
    }

    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        let Ok(facts) = Facts::deserialize(asset.facts) else {
            proof.notes.push(
                "no facts were captured, so the content was compared with nothing".to_owned(),
            );
            return Ok(proof);
        };
        for (name, database) in &facts.databases {
            prove_database(name, database, asset.files, &mut proof)?;
        }
        Ok(proof)
    }
}

/// Puts a table of contents beside the streams of a database.
fn archive_database(
    name: &str,
    facts: &DatabaseFacts,
    files: &BTreeMap<PathBuf, PathBuf>,
) -> Result<Option<String>, CaptureError> {
    let Some(schema_file) = files.get(Path::new(&paths::schema(name))) else {
        return Ok(None);
    };
    let schema = std::fs::read(schema_file).map_err(CaptureError::io("read", schema_file))?;
    let tables: Vec<TableData<'_>> = facts
        .relations
        .values()
        .filter_map(|relation| {
            let file = relation.path.as_deref()?;
            let is_there = files.contains_key(Path::new(&paths::table(name, file)));
            is_there.then_some(TableData {
                schema: &relation.schema,
                name: &relation.name,
                columns: &relation.columns,
                file,
            })
        })
        .collect();
    let sequences: Vec<_> = facts.sequences.values().map(SequenceData::from).collect();
    let views: Vec<(&str, &str)> = facts
        .materialized_views
        .iter()
        .filter(|view| view.is_populated)
        .map(|view| (view.schema.as_str(), view.name.as_str()))
        .collect();
    let data = ArchiveData {
        tables: &tables,
        encoding: &facts.encoding,
        sequences: &sequences,
        views: &views,
    };
    let toc = directory_archive(&schema, &data).map_err(CaptureError::library(format!(
        "make an archive of database {name:?}; its files are whole, see data.sql"
    )))?;
    let path = schema_file.with_file_name("toc.dat");
    private_file::replace(&path, &toc).map_err(CaptureError::io("write", &path))?;
    let more = if facts.large_objects > 0 {
        "; its large objects are in large-objects.sql"
    } else {
        ""
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Some(format!(
        "database {name}: {} is an archive that pg_restore reads{more}",
        folder.display()
    )))
}

fn prove_database(
    name: &str,
    facts: &DatabaseFacts,
    files: &BTreeMap<PathBuf, PathBuf>,
    proof: &mut Proof,
) -> Result<(), CaptureError> {
    let mut restored = BTreeMap::new();
    for (key, relation) in &facts.relations {
        let Some(below) = &relation.path else {
            continue;
        };
        let path = PathBuf::from(paths::table(name, below));
        let Some(file) = files.get(&path) else {
            continue;
        };
        let digest = matches!(
            facts.tables.get(key),
            Some(TableFacts::Read {
                digest: Some(_),
                ..
            })
        );
        restored.insert(key.clone(), recount(file, digest)?);
    }
    let unreadable = |(_, table): &(&String, &TableFacts)| table.rows().is_none();
    for (key, _) in facts.tables.iter().filter(unreadable) {
        restored.entry(key.clone()).or_insert(TableFacts::Read {
            rows: 0,
            digest: None,
        });
    }
    let mut differences = Differences::default();
    differences.tables(&facts.tables, &restored);
    let differences = differences.into_vec();
    if differences.is_empty() {
        let rows: u64 = facts.tables.values().filter_map(TableFacts::rows).sum();
        proof.shown.push(format!(
            "database {name}: {rows} rows in {} tables equal those captured",
            facts.tables.len()
        ));
    }
    let failures = differences
        .into_iter()
        .map(|difference| format!("database {name}: {difference}"));
    proof.failures.extend(failures);
    if !files.contains_key(Path::new(&paths::schema(name))) {
        proof
            .failures
            .push(format!("database {name}: the backup holds no schema"));
    }
    Ok(())
}

fn recount(file: &Path, digest: bool) -> Result<TableFacts, CaptureError> {
    let mut lines = if digest {
        LineDigest::default()
    } else {
        LineDigest::counting_only()
    };
    let mut input = File::open(file).map_err(CaptureError::io("open", file))?;
    let failed = CaptureError::io("read", file);
    let rows_bytes = match rows_bytes(&input) {
        Ok(Some(length)) => length,
        Ok(None) => {
            return Ok(TableFacts::Unreadable {
                error: "the rows have no end".to_owned(),
            });
        }
        Err(error) => return Err(failed(error)),
    };
    let mut input = input.by_ref().take(rows_bytes);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match input.read(&mut block) {
            Ok(0) => break,
            Ok(count) => lines.update(&block[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CaptureError::io("read", file)(error)),
        }
    }
    Ok(lines
        .finish()
        .unwrap_or_else(|error| TableFacts::Unreadable {
            error: error.to_string(),
        }))
}

/// How long the rows in a file are, without what ends them; none where nothing does.
fn rows_bytes(file: &File) -> std::io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let Some(rows) = length.checked_sub(paths::ROWS_END.len() as u64) else {
        return Ok(None);
    };
    let mut end = [0; paths::ROWS_END.len()];
    file.read_exact_at(&mut end, rows)?;
    Ok((end == paths::ROWS_END).then_some(rows))
}
