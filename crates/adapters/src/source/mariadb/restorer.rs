//! How restored dumps are proved: counted and digested again, and compared with the facts of their capture.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use strongroom_core::source::tables::{Differences, TableFacts};
use strongroom_core::source::{CaptureError, Class, Proof, RestoredAsset, Restorer};

use super::facts::{DatabaseFacts, Facts};
use super::rows::{DumpReader, Dumped};
use super::settings::MariadbSettings;
use super::{KIND, sql};

const BLOCK_BYTES: usize = 1024 * 1024;

/// Proves what [`super::MariadbSource`] captured.
#[derive(Clone, Copy, Debug, Default)]
pub struct MariadbRestorer;

impl Restorer for MariadbRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// The facts of the rows were taken from the very bytes of the streams.
    fn is_proved_by_digest(&self) -> bool {
        true
    }

    fn loads_into_server(&self) -> bool {
        true
    }

    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        let settings = MariadbSettings::deserialize(asset.settings)
            .map_err(CaptureError::library("read the settings in the manifest"))?;
        if settings.class == Class::Secret {
            let path = Path::new("/users.sql");
            match asset.files.get(path) {
                Some(file) if read(file, true)?.is_complete => {
                    proof
                        .shown
                        .push("the dump of the users is whole".to_owned());
                }
                Some(_) => proof
                    .failures
                    .push("users.sql: the dump stops before its end".to_owned()),
                None => proof
                    .failures
                    .push("users.sql: the backup holds no such stream".to_owned()),
            }
            return Ok(proof);
        }
        let Ok(facts) = Facts::deserialize(asset.facts) else {
            proof.notes.push(
                "no facts were captured with the databases, so their content was compared with nothing".to_owned(),
            );
            return Ok(proof);
        };
        for (name, facts) in &facts.databases {
            let path = sql::path(name, "tables.sql");
            let Some(file) = asset.files.get(&path) else {
                let failure = format!("{}: the backup holds no such stream", path.display());
                proof.failures.push(failure);
                continue;
            };
            let dumped = read(file, counts_only(facts))?;
            if !dumped.is_complete {
                let failure = format!("{}: the dump stops before its end", path.display());
                proof.failures.push(failure);
            }
            compare(name, facts, &dumped, &BTreeSet::new(), &mut proof);
        }
        Ok(proof)
    }
}

fn read(path: &Path, is_counting_only: bool) -> Result<Dumped, CaptureError> {
    let mut file = File::open(path).map_err(CaptureError::io("open", path))?;
    let mut reader = DumpReader::new("", is_counting_only);
    let (mut block, mut out) = (vec![0; BLOCK_BYTES], Vec::new());
    loop {
        let length = file
            .read(&mut block)
            .map_err(CaptureError::io("read", path))?;
        if length == 0 {
            return Ok(reader.finish(&mut out));
        }
        reader.feed(&block[..length], &mut out);
        out.clear();
    }
}

/// Whether the facts of a database hold no digest.
pub(super) fn counts_only(facts: &DatabaseFacts) -> bool {
    !facts.tables.values().any(|table| {
        matches!(
            table,
            TableFacts::Read {
                digest: Some(_),
                ..
            }
        )
    })
}

/// Compares a dump with the facts of the capture; `only` names the tables that have rows, if not all have.
pub(super) fn compare(
    name: &str,
    facts: &DatabaseFacts,
    dumped: &Dumped,
    only: &BTreeSet<String>,
    proof: &mut Proof,
) {
    let mut differences = Differences::default();
    for fault in &dumped.faults {
        differences.push(fault.clone());
    }
    let mut captured = facts.tables.clone();
    let mut restored = dumped.tables.clone();
    if !only.is_empty() {
        captured.retain(|table, _| only.contains(table));
        restored.retain(|table, _| only.contains(table));
    }
    differences.tables(&captured, &restored);
    let none = super::rows::Sequence::default();
    for (sequence, was) in &facts.sequences {
        let is = dumped.sequences.get(sequence).unwrap_or(&none);
        let next = |sequence: &super::rows::Sequence| sequence.next.clone().unwrap_or_default();
        differences.compare(
            &format!("the next value of sequence {sequence:?}"),
            &next(was),
            &next(is),
        );
    }
    for (table, was) in &facts.definitions {
        let Some(is) = dumped.definitions.get(table) else {
            continue;
        };
        let shown =
            |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |n| n.to_string());
        differences.compare(
            &format!("AUTO_INCREMENT of table {table:?}"),
            &shown(was.definition.auto_increment),
            &shown(is.auto_increment),
        );
        if was.definition.sha256 != is.sha256 {
            proof.notes.push(format!(
                "{name}: table {table:?} is defined in other words than when it was captured; another version of the server writes them differently"
            ));
        }
    }
    let differences = differences.into_vec();
    if differences.is_empty() {
        let rows: u64 = captured.values().filter_map(TableFacts::rows).sum();
        let what = if counts_only(facts) {
            "as many as were captured"
        } else {
            "equal those captured"
        };
        proof.shown.push(format!(
            "{name}: {rows} rows in {} tables, {what}",
            captured.len()
        ));
    }
    let differences = differences.into_iter();
    proof
        .failures
        .extend(differences.map(|difference| format!("{name}: {difference}")));
}
