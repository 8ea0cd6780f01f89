//! What is known of a restored token without a token: the content of every stream is what the facts say.

use std::path::Path;

use strongroom_core::format::Digest;
use strongroom_core::source::{CaptureError, Proof, RestoredAsset, Restorer};

use super::KIND;
use super::facts::{ObjectFacts, ObjectKind};
use super::public_key::PublicKey;

/// Proves restored streams of a token.
#[derive(Clone, Copy, Debug)]
pub struct Pkcs11Restorer;

impl Restorer for Pkcs11Restorer {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn loads_into_token(&self) -> bool {
        true
    }

    fn complete_directory(&self, asset: &RestoredAsset<'_>) -> Result<Vec<String>, CaptureError> {
        let list = asset
            .files
            .keys()
            .find(|path| path.ends_with("objects.json"));
        Ok(list
            .and_then(|list| asset.files.get(list))
            .map(|place| {
                format!(
                    "{} lists the objects of the token; how they are put into one by hand is in the guide, source pkcs11",
                    place.display()
                )
            })
            .into_iter()
            .collect())
    }

    fn prove(&self, asset: &RestoredAsset<'_>) -> Result<Proof, CaptureError> {
        let mut proof = Proof::default();
        let objects = asset.facts.get("objects").cloned().unwrap_or_default();
        let objects: Vec<ObjectFacts> =
            serde_json::from_value(objects).map_err(CaptureError::library("read the facts"))?;
        let (mut open, mut wrapped) = (0, 0);
        for facts in &objects {
            let Some(stream) = &facts.stream else {
                continue;
            };
            let Some(place) = asset.files.get(Path::new(stream)) else {
                proof
                    .failures
                    .push(format!("{} has no stream in the backup", facts.words()));
                continue;
            };
            let content = std::fs::read(place).map_err(CaptureError::io("read", place))?;
            let is_it = match facts.class {
                ObjectKind::PublicKey => {
                    let public = PublicKey::from_spki(&content);
                    public.map(|public| public.spki_sha256()) == facts.spki_sha256
                }
                ObjectKind::Certificate | ObjectKind::Data => {
                    facts.value_sha256 == Some(Digest::of(&content))
                }
                _ => {
                    wrapped += 1;
                    continue;
                }
            };
            open += 1;
            if !is_it {
                proof
                    .failures
                    .push(format!("{} is not what was captured", facts.words()));
            }
        }
        if open > 0 {
            proof.shown.push(format!(
                "{open} certificates, public keys and data objects are those of the token"
            ));
        }
        if wrapped > 0 {
            proof.notes.push(format!(
                "{wrapped} wrapped keys are as they left the token; that they open again is proved where the wrapping key is: when they are captured, and when they are put into a token"
            ));
        }
        if asset
            .facts
            .get("export")
            .and_then(serde_json::Value::as_str)
            == Some("softhsm")
        {
            proof.notes.push(
                "the keys in these files were proved in the token when they were captured; `strongroom check` proves them again where they are used"
                    .to_owned(),
            );
        }
        Ok(proof)
    }
}
