//! Proves restored files: all are there, and the keys belong to the certificate.

use std::path::Path;

use serde_json::Value;
use strongroom_core::source::{CaptureError, Proof, RestoredAsset, Restorer};

use super::findings::Quoted;
use super::key_proof::{KeyProof, Tee};
use super::{KIND, read, read_certificate};

/// Restores assets that [`FilesSource`](super::FilesSource) captured.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilesRestorer;

impl Restorer for FilesRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        count(asset, &mut proof)?;
        if let Some(certificate) = asset.settings.get("certificate").and_then(Value::as_str) {
            prove_keys(asset, Path::new(certificate), &mut proof);
        }
        Ok(proof)
    }
}

fn count(asset: &RestoredAsset<'_>, proof: &mut Proof) -> Result<(), CaptureError> {
    let mut bytes = 0;
    for path in asset.files.values() {
        let metadata = path.metadata().map_err(CaptureError::io("look at", path))?;
        bytes += metadata.len();
    }
    for (what, found) in [("files", asset.files.len() as u64), ("bytes", bytes)] {
        match asset.facts.get(what).and_then(Value::as_u64) {
            Some(captured) if captured == found => proof
                .shown
                .push(format!("{found} {what}, as many as were captured")),
            Some(captured) => proof
                .failures
                .push(format!("{found} {what} in place of {captured}")),
            None => proof
                .notes
                .push(format!("the backup does not say how many {what} it holds")),
        }
    }
    Ok(())
}

fn prove_keys(asset: &RestoredAsset<'_>, certificate: &Path, proof: &mut Proof) {
    let mut keys = KeyProof::new(certificate);
    for (original, restored) in asset.files {
        match read::read_small(restored) {
            Ok(bytes) => keys.look_at(original, &Tee::from(bytes)),
            Err(error) => proof
                .failures
                .push(format!("{}: cannot be read: {error}", Quoted(original))),
        }
    }
    if !keys.has_certificate() && !asset.files.contains_key(certificate) {
        if let Some(restored) = asset.all_files.get(certificate) {
            read_certificate(&mut keys, restored);
        } else if certificate.exists() {
            read_certificate(&mut keys, certificate);
        } else {
            proof.notes.push(format!(
                "the certificate {} is neither in the backup nor on this machine; whether the keys belong to it was not proved",
                Quoted(certificate)
            ));
            return;
        }
    }
    let verdict = keys.finish();
    let spki = |facts: &Value| {
        let text = facts.get("spki_sha256").and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let before = asset.facts.get("key").and_then(spki);
    let now = spki(&verdict.facts);
    if before.is_some() && now.is_some() && before != now {
        proof.failures.push(format!(
            "the certificate {} has another public key than when the backup was made",
            Quoted(certificate)
        ));
    }
    proof.shown.extend(verdict.shown);
    proof.failures.extend(verdict.problems);
    proof.notes.extend(verdict.notes);
}
