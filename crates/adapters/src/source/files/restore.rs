//! Proves restored files: all are there, and the keys belong to the certificate.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use strongroom_core::clock::{Clock as _, SystemClock};
use strongroom_core::source::{CaptureError, Proof, RestoredAsset, Restorer};

use super::findings::Quoted;
use super::key_proof::{KeyProof, Tee};
use super::password::{Asked, KeyPasswords};
use super::{ASK, KIND, read, read_certificate, read_password};

/// Restores assets that [`FilesSource`](super::FilesSource) captured.
#[derive(Clone, Default)]
pub struct FilesRestorer {
    /// Who knows the passwords of keys that were captured with one that was asked for.
    pub passwords: Option<Arc<dyn KeyPasswords>>,
}

impl Restorer for FilesRestorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        count(asset, &mut proof)?;
        prove_keys(asset, self.passwords.as_ref(), &mut proof);
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

fn prove_keys(
    asset: &RestoredAsset<'_>,
    passwords: Option<&Arc<dyn KeyPasswords>>,
    proof: &mut Proof,
) {
    let path_of = |name| {
        let text = asset.settings.get(name).and_then(Value::as_str);
        text.map(Path::new)
    };
    let certificate = path_of("certificate");
    let captured = asset.facts.get("private_keys").and_then(Value::as_array);
    if certificate.is_none() && captured.is_none() {
        return;
    }
    let mut keys = KeyProof::new(certificate);
    if let Some(path) = path_of("key_password_file") {
        match asset.all_files.get(path) {
            Some(restored) => read_password(&mut keys, path, restored),
            None if path.exists() => read_password(&mut keys, path, path),
            None => proof.notes.push(format!(
                "the password file {} is neither restored nor on this machine",
                Quoted(path)
            )),
        }
    }
    let is_asked_for = asset
        .settings
        .get("key_password")
        .is_some_and(|how| how == ASK);
    if let Some(passwords) = passwords.filter(|_| is_asked_for) {
        keys.ask(Asked {
            asset: asset.name.to_owned(),
            passwords: Arc::clone(passwords),
        });
    }
    for (original, restored) in asset.files {
        match read::read_small(restored) {
            Ok(bytes) => {
                if let Err(why) = keys.look_at(original, &Tee::from(bytes)) {
                    proof.notes.push(format!("{}: {why}", Quoted(original)));
                }
            }
            Err(error) => proof
                .failures
                .push(format!("{}: cannot be read: {error}", Quoted(original))),
        }
    }
    if let Some(path) = keys.missing_certificate().map(Path::to_owned)
        && !asset.files.contains_key(&path)
    {
        if let Some(restored) = asset.all_files.get(&path) {
            read_certificate(&mut keys, restored);
        } else if path.exists() {
            read_certificate(&mut keys, &path);
        } else {
            proof.notes.push(format!(
                "the certificate {} is neither in the backup nor on this machine; whether the keys belong to it was not proved",
                Quoted(&path)
            ));
            keys.forget_certificate();
        }
    }
    let verdict = keys.finish(SystemClock.now());
    if let (Some(certificate), Some(before), Some(now)) = (
        certificate,
        asset.facts.get("key").and_then(spki),
        verdict.key.as_ref().and_then(spki),
    ) && before != now
    {
        proof.failures.push(format!(
            "the certificate {} has another public key than when the backup was made",
            Quoted(certificate)
        ));
    }
    if let Some(captured) = captured {
        compare(captured, &verdict.private_keys, proof);
    }
    proof.shown.extend(verdict.shown);
    proof.failures.extend(verdict.problems);
    proof.notes.extend(verdict.notes);
}

fn spki(facts: &Value) -> Option<&str> {
    facts.get("spki_sha256").and_then(Value::as_str)
}

/// Holds the keys against those of the backup: the same files have the same public keys.
fn compare(captured: &[Value], restored: &[Value], proof: &mut Proof) {
    let keys = |all: &[Value]| -> Vec<(String, String)> {
        let known = all.iter().filter_map(|key| {
            let file = key.get("file").and_then(Value::as_str)?;
            Some((file.to_owned(), spki(key)?.to_owned()))
        });
        known.collect()
    };
    let now = keys(restored);
    for (file, before) in keys(captured) {
        let mut here = now.iter().filter(|(name, _)| *name == file).peekable();
        // A key that stayed closed here is told apart from one that is another.
        if here.peek().is_some() && !here.any(|(_, spki)| *spki == before) {
            proof.failures.push(format!(
                "the private key in {} is another than when the backup was made",
                Quoted(Path::new(&file))
            ));
        }
    }
}
