//! Proves that private keys belong to a certificate: each signs a random nonce, and the signature must
//! verify with the public key of the certificate.
//!
//! The proof is made on bytes in memory: the very ones captured, or the ones restored. Key bytes are
//! wiped when they are dropped and appear in no message.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as algorithm;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use strongroom_core::format::{Digest, id};
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Encode as _, Header, SliceReader};
use zeroize::Zeroizing;

use super::findings::Quoted;

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
    Signed(Signed),
    /// It is encrypted, and nobody here has its passphrase.
    Encrypted,
    /// It is none that can sign here.
    Unusable(String),
}

struct Signed {
    kind: KeyKind,
    nonce: [u8; 32],
    signature: Vec<u8>,
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
            if block.label.ends_with(b"PRIVATE KEY") {
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
        self.certificate = Some(Certificate::parse(bytes));
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
                Found::Signed(signed) if certificate.verifies(signed) => {
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
        verdict.facts = certificate.facts(self.keys.len(), reason);
        verdict
    }
}

/// The kinds of keys that sign here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl KeyKind {
    fn verification(self) -> &'static dyn algorithm::VerificationAlgorithm {
        match self {
            Self::Rsa => &algorithm::RSA_PKCS1_2048_8192_SHA256,
            Self::P256 => &algorithm::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &algorithm::ECDSA_P384_SHA384_ASN1,
            Self::P521 => &algorithm::ECDSA_P521_SHA512_ASN1,
            Self::Ed25519 => &algorithm::ED25519,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rsa => "RSA",
            Self::P256 => "ECDSA P-256",
            Self::P384 => "ECDSA P-384",
            Self::P521 => "ECDSA P-521",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// What may be certificates in DER: the blocks of a PEM file, or the whole file where it has none.
pub(super) fn certificate_blocks(bytes: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut blocks = PemBlocks(bytes).peekable();
    if blocks.peek().is_none() {
        return vec![Zeroizing::new(bytes.to_vec())];
    }
    blocks
        .filter(|block| CERTIFICATE_LABELS.contains(&block.label))
        .filter_map(|block| block.decode())
        .collect()
}

/// What the proof needs of a certificate (RFC 5280), and what the facts say of it.
struct Certificate {
    kind: KeyKind,
    /// The bit string of the `SubjectPublicKeyInfo`.
    public_key: Vec<u8>,
    spki_sha256: Digest,
    subject: String,
    not_before: String,
    not_after: String,
}

/// How certificates are called in PEM (RFC 7468, section 5).
const CERTIFICATE_LABELS: [&[u8]; 2] = [b"CERTIFICATE", b"X509 CERTIFICATE"];
/// RFC 8017, A.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480, 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 8410, 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// The curves of RFC 5480, 2.1.1.1, that are in use.
const CURVES: [(ObjectIdentifier, KeyKind); 3] = [
    (
        ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
        KeyKind::P256,
    ),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), KeyKind::P384),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), KeyKind::P521),
];

impl Certificate {
    /// Parses the first certificate of a PEM file, or a DER file.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let block = PemBlocks(bytes).find(|block| CERTIFICATE_LABELS.contains(&block.label));
        let decoded = match &block {
            Some(block) => block.decode().ok_or("its PEM is damaged")?,
            None => Zeroizing::new(bytes.to_vec()),
        };
        let parsed = x509_cert::Certificate::from_der(&decoded)
            .map_err(|error| format!("it is no certificate: {error}"))?;
        let inner = parsed.tbs_certificate();
        let spki = inner.subject_public_key_info();
        let algorithm = &spki.algorithm;
        let curve = algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let kind = match algorithm.oid {
            RSA => Some(KeyKind::Rsa),
            ED25519 => Some(KeyKind::Ed25519),
            EC => CURVES
                .iter()
                .find(|(oid, _)| Some(*oid) == curve)
                .map(|(_, kind)| *kind),
            _ => None,
        };
        let unsupported = || {
            let curve = curve.map(|curve| format!(", curve {curve}"));
            format!(
                "keys of the algorithm {}{} cannot be proved here",
                algorithm.oid,
                curve.unwrap_or_default()
            )
        };
        let encoded = spki
            .to_der()
            .map_err(|error| format!("its public key is damaged: {error}"))?;
        Ok(Self {
            kind: kind.ok_or_else(unsupported)?,
            public_key: spki.subject_public_key.raw_bytes().to_vec(),
            spki_sha256: Digest::of(&encoded),
            subject: inner.subject().to_string(),
            not_before: inner.validity().not_before.to_date_time().to_string(),
            not_after: inner.validity().not_after.to_date_time().to_string(),
        })
    }

    fn verifies(&self, signed: &Signed) -> bool {
        let key = UnparsedPublicKey::new(self.kind.verification(), &self.public_key);
        self.kind == signed.kind && key.verify(&signed.nonce, &signed.signature).is_ok()
    }

    /// `RSA-4096` for RSA, the kind for others.
    fn algorithm(&self) -> String {
        match rsa_bits(&self.public_key).filter(|_| self.kind == KeyKind::Rsa) {
            Some(bits) => format!("RSA-{bits}"),
            None => self.kind.to_string(),
        }
    }

    fn facts(&self, keys: usize, reason: Option<String>) -> Value {
        let mut facts = json!({
            "algorithm": self.algorithm(),
            "spki_sha256": self.spki_sha256,
            "certificate_subject": self.subject,
            "not_before": self.not_before,
            "not_after": self.not_after,
            "keys": keys,
            "proved": reason.is_none(),
        });
        if let Some(reason) = reason {
            facts["reason"] = reason.into();
        }
        facts
    }
}

/// The length of the modulus of an `RSAPublicKey` (RFC 8017, A.1.1).
fn rsa_bits(public_key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(public_key).ok()?;
    Header::decode(&mut reader).ok()?;
    let modulus = UintRef::decode(&mut reader).ok()?;
    let first = modulus.as_bytes().first()?;
    Some(modulus.as_bytes().len() * 8 - first.leading_zeros() as usize)
}

/// Lets the key in a PEM block sign a nonce of its own.
fn sign(block: &PemBlock<'_>) -> Found {
    let unusable = |why: &str| Found::Unusable(why.to_owned());
    if block.is_encrypted() {
        return Found::Encrypted;
    }
    let Some(der) = block.decode() else {
        return unusable("its PEM is damaged");
    };
    let Ok(nonce) = id::random::<32>() else {
        return unusable("there are no random bytes");
    };
    let signed = match block.label {
        b"PRIVATE KEY" => sign_rsa(RsaKeyPair::from_pkcs8(&der).ok(), &nonce)
            .or_else(|| sign_ecdsa(&der, &nonce))
            .or_else(|| sign_ed25519(&der, &nonce)),
        b"RSA PRIVATE KEY" => sign_rsa(RsaKeyPair::from_der(&der).ok(), &nonce),
        b"EC PRIVATE KEY" => sign_ecdsa(&der, &nonce),
        _ => return unusable("its format is not PKCS#8, PKCS#1 or SEC1"),
    };
    match signed {
        Some((kind, signature)) => Found::Signed(Signed {
            kind,
            nonce,
            signature,
        }),
        None => unusable(
            "it is damaged, or not RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519",
        ),
    }
}

fn sign_rsa(key: Option<RsaKeyPair>, nonce: &[u8]) -> Option<(KeyKind, Vec<u8>)> {
    let key = key?;
    let mut signature = vec![0; key.public_modulus_len()];
    let padding = &algorithm::RSA_PKCS1_SHA256;
    key.sign(padding, &SystemRandom::new(), nonce, &mut signature)
        .ok()?;
    Some((KeyKind::Rsa, signature))
}

fn sign_ecdsa(der: &[u8], nonce: &[u8]) -> Option<(KeyKind, Vec<u8>)> {
    let curves = [
        (KeyKind::P256, &algorithm::ECDSA_P256_SHA256_ASN1_SIGNING),
        (KeyKind::P384, &algorithm::ECDSA_P384_SHA384_ASN1_SIGNING),
        (KeyKind::P521, &algorithm::ECDSA_P521_SHA512_ASN1_SIGNING),
    ];
    curves.into_iter().find_map(|(kind, curve)| {
        let key = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
        let signature = key.sign(&SystemRandom::new(), nonce).ok()?;
        Some((kind, signature.as_ref().to_vec()))
    })
}

fn sign_ed25519(der: &[u8], nonce: &[u8]) -> Option<(KeyKind, Vec<u8>)> {
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
    Some((KeyKind::Ed25519, key.sign(nonce).as_ref().to_vec()))
}

/// The PEM blocks (RFC 7468) in a file, whatever stands between them.
struct PemBlocks<'a>(&'a [u8]);

struct PemBlock<'a> {
    label: &'a [u8],
    body: &'a [u8],
    has_end: bool,
}

impl<'a> Iterator for PemBlocks<'a> {
    type Item = PemBlock<'a>;

    fn next(&mut self) -> Option<PemBlock<'a>> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        const END: &[u8] = b"-----END ";
        const DASHES: &[u8] = b"-----";
        let begin = find(self.0, BEGIN)? + BEGIN.len();
        let rest = &self.0[begin..];
        let label_end = find(rest, DASHES)?;
        let label = &rest[..label_end];
        let rest = &rest[label_end + DASHES.len()..];
        let end = find(rest, END);
        let body = &rest[..end.unwrap_or(rest.len())];
        let has_end = end.is_some_and(|end| rest[end + END.len()..].starts_with(label));
        self.0 = &rest[body.len()..];
        Some(PemBlock {
            label,
            body,
            has_end,
        })
    }
}

impl PemBlock<'_> {
    /// PKCS#8 says so in its label, older formats in a header (RFC 1421).
    fn is_encrypted(&self) -> bool {
        self.label == b"ENCRYPTED PRIVATE KEY" || find(self.body, b"ENCRYPTED").is_some()
    }

    fn decode(&self) -> Option<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        text.extend(self.body.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let mut bytes = Zeroizing::new(vec![0; text.len()]);
        let length = BASE64.decode_slice(&text, &mut bytes).ok()?;
        bytes.truncate(length);
        self.has_end.then_some(bytes)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests;
