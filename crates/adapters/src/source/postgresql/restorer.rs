//! How the streams of a capture are proved where no server is: in a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use strongroom_core::source::tables::{Differences, LineDigest, TableFacts};
use strongroom_core::source::{CaptureError, Proof, RestoredAsset, Restorer};

use super::facts::{DatabaseFacts, Facts};
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
