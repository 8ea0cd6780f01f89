//! Proves that private keys belong to a certificate: each signs a random nonce, and the signature must
//! verify with the public key of the certificate.
//!
//! The proof is made on bytes in memory: the very ones captured, or the ones restored. Key bytes are
//! wiped when they are dropped and appear in no message.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::findings::Quoted;
use crate::key_material::{
    Certificate, KeyMaterialError, PemBlock, PemBlocks, PrivateKey, SignedNonce, find,
};

/// The longest file that is looked at as a key or a certificate, in bytes.
pub(super) const KEY_MAX: usize = 1 << 20;

/// Keeps the bytes of a small file while it is captured.
#[derive(Default)]
pub(super) struct Tee {
    kept: Option<Zeroizing<Vec<u8>>>,
    /// The file is too long to be kept and yet holds a private key.
    is_long_key: bool,
}

impl Tee {
    /// Keeps nothing unless it is `wanted` and the file small.
    pub(super) fn new(wanted: bool, size_bytes: u64) -> Self {
        let capacity = usize::try_from(size_bytes).unwrap_or(usize::MAX);
        // Allocated in one piece: a vector that grows would leave copies behind.
        Self {
            kept: wanted.then(|| Zeroizing::new(Vec::with_capacity(capacity.min(KEY_MAX)))),
            is_long_key: false,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        let Some(kept) = &mut self.kept else {
            return;
        };
        let length = kept.len() + bytes.len();
        if length > KEY_MAX {
            self.is_long_key = [kept.as_slice(), bytes].into_iter().any(mentions_key);
            self.kept = None;
            return;
        }
        if length > kept.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(KEY_MAX));
            larger.extend_from_slice(kept);
            *kept = larger;
        }
        kept.extend_from_slice(bytes);
    }

    /// Whether a private key in PEM is among the bytes.
    pub(super) fn mentions_key(&self) -> bool {
        self.is_long_key || self.kept.as_ref().is_some_and(|kept| mentions_key(kept))
    }

    /// The whole file, if it was kept.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.kept.as_ref().map(|kept| kept.as_slice())
    }

    pub(super) fn hole(&mut self, length: u64) {
        let zeros = [0; 4096];
        let mut rest = length;
        while rest > 0 && self.kept.is_some() {
            let step = rest.min(zeros.len() as u64);
            self.write(&zeros[..usize::try_from(step).unwrap_or(zeros.len())]);
            rest -= step;
        }
    }
}

impl From<Option<Zeroizing<Vec<u8>>>> for Tee {
    fn from(kept: Option<Zeroizing<Vec<u8>>>) -> Self {
        Self {
            kept,
            is_long_key: false,
        }
    }
}

fn mentions_key(bytes: &[u8]) -> bool {
    find(bytes, b"PRIVATE KEY-----").is_some()
}

/// Collects the keys of an asset and holds them against its certificate.
pub(super) struct KeyProof {
    path: PathBuf,
    certificate: Option<Result<Certificate, String>>,
    keys: Vec<(PathBuf, Found)>,
}

/// What was found where a private key is.
enum Found {
    /// It signed the nonce.
    Signed(SignedNonce),
    /// It is encrypted, and nobody here has its passphrase.
    Encrypted,
    /// It is none that can sign here.
    Unusable(String),
}

/// What a proof came to.
pub(super) struct Verdict {
    /// For the facts of the asset.
    pub(super) facts: Value,
    /// What holds.
    pub(super) shown: Vec<String>,
    /// What does not.
    pub(super) problems: Vec<String>,
    /// What could not be looked at.
    pub(super) notes: Vec<String>,
}

impl KeyProof {
    /// Begins a proof against the certificate at a path.
    pub(super) fn new(certificate: &Path) -> Self {
        Self {
            path: certificate.to_owned(),
            certificate: None,
            keys: Vec::new(),
        }
    }

    /// Looks at a file of the asset: for keys, and for the certificate itself.
    pub(super) fn look_at(&mut self, path: &Path, file: &Tee) {
        let Some(bytes) = &file.kept else {
            if file.is_long_key {
                let why = "the file is longer than 1 MiB and is not taken for a key".to_owned();
                self.keys.push((path.to_owned(), Found::Unusable(why)));
            }
            return;
        };
        if path == self.path {
            self.take_certificate(bytes);
        }
        for block in PemBlocks(bytes) {
            if block.is_private_key() {
                self.keys.push((path.to_owned(), sign(&block)));
            }
        }
    }

    /// Whether the certificate was among the files.
    pub(super) fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// Takes the certificate from outside the asset.
    pub(super) fn take_certificate(&mut self, bytes: &[u8]) {
        self.certificate = Some(match Certificate::parse(bytes) {
            Ok(certificate) if certificate.public_key.algorithm().is_provable() => Ok(certificate),
            Ok(certificate) => Err(format!(
                "keys of the algorithm {} cannot be proved here",
                certificate.public_key.algorithm()
            )),
            Err(error) => Err(error.to_string()),
        });
    }

    /// Says that the certificate cannot be had.
    pub(super) fn no_certificate(&mut self, why: &str) {
        self.certificate = Some(Err(why.to_owned()));
    }

    /// Holds every key against the certificate.
    pub(super) fn finish(self) -> Verdict {
        let mut verdict = Verdict {
            facts: Value::Null,
            shown: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        let path = Quoted(&self.path);
        let missing = || Err("it is not there".to_owned());
        let certificate = match self.certificate.unwrap_or_else(missing) {
            Ok(certificate) => certificate,
            Err(why) => {
                let problem = format!("the certificate {path} cannot be used: {why}");
                verdict.facts = json!({"proved": false, "reason": problem});
                verdict.problems.push(problem);
                return verdict;
            }
        };
        let mut encrypted = 0;
        for (file, found) in &self.keys {
            let file = Quoted(file);
            match found {
                Found::Signed(signed) if certificate.public_key.verifies(signed) => {
                    verdict.shown.push(format!(
                        "the private key in {file} belongs to the certificate {path}"
                    ));
                }
                Found::Signed(_) => verdict.problems.push(format!(
                    "the private key in {file} does not belong to the certificate {path}"
                )),
                Found::Encrypted => {
                    encrypted += 1;
                    verdict.notes.push(format!(
                        "the private key in {file} is encrypted; whether it belongs to the certificate {path} was not proved"
                    ));
                }
                Found::Unusable(why) => verdict
                    .problems
                    .push(format!("the private key in {file} cannot be used: {why}")),
            }
        }
        if self.keys.is_empty() {
            verdict.problems.push(format!(
                "no private key in PEM form was found that belongs to the certificate {path}"
            ));
        }
        let reason = match verdict.problems.first() {
            Some(problem) => Some(problem.clone()),
            None if encrypted > 0 => Some("the private key is encrypted".to_owned()),
            None => None,
        };
        verdict.facts = facts(&certificate, self.keys.len(), reason);
        verdict
    }
}

/// What the facts of an asset say of its certificate and its keys.
fn facts(certificate: &Certificate, keys: usize, reason: Option<String>) -> Value {
    let mut facts = json!({
        "algorithm": certificate.public_key.algorithm().to_string(),
        "spki_sha256": certificate.public_key.spki_sha256(),
        "certificate_subject": certificate.subject,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "keys": keys,
        "proved": reason.is_none(),
    });
    if let Some(reason) = reason {
        facts["reason"] = reason.into();
    }
    facts
}

/// Lets the key in a PEM block sign a nonce of its own.
fn sign(block: &PemBlock<'_>) -> Found {
    match PrivateKey::from_pem(block).and_then(|key| key.sign()) {
        Ok(signed) => Found::Signed(signed),
        Err(KeyMaterialError::Encrypted) => Found::Encrypted,
        Err(error) => Found::Unusable(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
