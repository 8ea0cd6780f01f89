//! How a restored SQLite database is placed and proved.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use strongroom_core::source::tables::TableFacts;
use strongroom_core::source::{CaptureError, Proof, RestoredAsset, Restorer};

use super::connection::{COMPANIONS, companion};
use super::facts::Facts;
use super::header::{self, Content};
use super::settings::SqliteSettings;
use super::{KIND, checks, differences, open_files};

/// Places and proves what [`super::SqliteSource`] captured.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteRestorer;

impl Restorer for SqliteRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// A `-wal` or `-journal` that stays behind is replayed over the restored database.
    fn companions(&self, target: &Path) -> Vec<PathBuf> {
        COMPANIONS
            .iter()
            .map(|suffix| companion(target, suffix))
            .collect()
    }

    fn in_use(&self, target: &Path) -> io::Result<Option<String>> {
        let holders = open_files::holders(target)?;
        Ok((!holders.is_empty()).then(|| format!("{} has it open", holders.join(", "))))
    }

    /// Integrity and facts were read from a copy with the very digest that every restored byte is proved against.
    fn is_proved_by_digest(&self) -> bool {
        true
    }

    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        let settings = SqliteSettings::deserialize(asset.settings)
            .map_err(CaptureError::library("read the settings in the manifest"))?;
        let Some(file) = asset.files.get(&settings.path) else {
            proof.failures.push(format!(
                "{}: the backup holds no such stream",
                settings.path.display()
            ));
            return Ok(proof);
        };
        let was_empty = asset.facts.get("empty") == Some(&true.into());
        match header::examine(file) {
            Ok((_, Content::Database(header))) if !was_empty => {
                prove_database(file, &header, &settings, asset.facts, &mut proof)?;
            }
            Ok((_, Content::Empty)) if was_empty => {
                proof
                    .shown
                    .push("the database is empty, as it was captured".to_owned());
            }
            Ok((_, Content::Empty)) => proof.failures.push("the restored file is empty".to_owned()),
            Ok(_) => proof
                .failures
                .push("the database was empty when captured, and is not".to_owned()),
            Err(error @ CaptureError::Unsuitable { .. }) => proof.failures.push(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(proof)
    }
}

fn prove_database(
    file: &Path,
    header: &header::Header,
    settings: &SqliteSettings,
    captured: &serde_json::Value,
    proof: &mut Proof,
) -> Result<(), CaptureError> {
    let (taken, integrity) = match checks::run(file, header, &settings.newest) {
        Err(error @ CaptureError::Unsuitable { .. }) => {
            proof.failures.push(error.to_string());
            return Ok(());
        }
        other => other?,
    };
    if integrity.defects.is_empty() {
        proof
            .shown
            .push("integrity_check finds no defect".to_owned());
    } else {
        proof
            .failures
            .push(format!("integrity_check: {}", integrity.summary()));
    }
    proof.notes.extend(integrity.notes);
    proof.notes.extend(taken.notes);
    proof.failures.extend(taken.problems);
    let Ok(captured) = Facts::deserialize(captured) else {
        proof.notes.push(
            "no facts were captured with the database, so its content was compared with nothing"
                .to_owned(),
        );
        return Ok(());
    };
    let differences = differences::between(&captured, &taken.facts);
    if differences.is_empty() {
        let rows: u64 = captured.tables.values().filter_map(TableFacts::rows).sum();
        proof.shown.push(format!(
            "schema and {rows} rows in {} tables equal those captured",
            captured.tables.len()
        ));
    }
    proof.failures.extend(differences);
    Ok(())
}
