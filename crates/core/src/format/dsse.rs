//! Signed documents: DSSE v1 envelopes with one Ed25519 signature (docs/format.md, section 2).

use aws_lc_rs::signature::{self, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::id::{Digest, WriterId};
use super::{FormatError, limits};

/// What stands before the 32 key bytes in the SPKI of an Ed25519 key (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Wraps the 32 bytes of RFC 8032.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads the base64 form that repository documents carry.
    pub fn from_base64(text: &str) -> Result<Self, FormatError> {
        let bytes = BASE64
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| FormatError::damaged("public key", "not 32 bytes of base64"))
    }

    /// The base64 form.
    pub fn to_base64(self) -> String {
        BASE64.encode(self.0)
    }

    /// The SubjectPublicKeyInfo in DER, 44 bytes.
    pub fn to_spki(self) -> Vec<u8> {
        [SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// The name that signatures of this key carry.
    pub fn id(self) -> WriterId {
        let digest = Digest::of(&self.to_spki());
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        WriterId::from_bytes(id)
    }

    fn verify(self, message: &[u8], signature: &[u8]) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

/// An Ed25519 private key; wiped from memory by the library that holds it.
pub struct SigningKey(signature::Ed25519KeyPair);

impl SigningKey {
    /// Reads a PKCS#8 document (RFC 8410), version 1 or 2.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, FormatError> {
        signature::Ed25519KeyPair::from_pkcs8(der)
            .map(Self)
            .map_err(|_| FormatError::damaged("signing key", "not an Ed25519 key in PKCS#8"))
    }

    /// The key of a 32-byte seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, FormatError> {
        signature::Ed25519KeyPair::from_seed_unchecked(seed)
            .map(Self)
            .map_err(|_| FormatError::damaged("signing key", "not a seed"))
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        VerifyingKey(bytes)
    }

    /// The name that signatures of this key carry.
    pub fn id(&self) -> WriterId {
        self.verifying_key().id()
    }

    /// Wraps `payload` as a signed document of `kind`.
    pub fn sign(&self, kind: &str, payload: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&pre_authentication_encoding(kind, payload));
        let document = Document {
            payload_type: kind.to_owned(),
            payload: BASE64.encode(payload),
            signatures: vec![Signature {
                keyid: self.id().to_string(),
                sig: BASE64.encode(signature.as_ref()),
            }],
        };
        serde_json::to_vec(&document).expect("a document of strings serialises")
    }

    /// Serialises `document`, a struct of plain values, and signs it.
    pub(crate) fn sign_document(&self, kind: &str, document: &impl Serialize) -> Vec<u8> {
        let payload = serde_json::to_vec(document).expect("plain values serialise");
        self.sign(kind, &payload)
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// A document that was taken apart but whose signature was not checked yet.
pub struct Unverified {
    what: &'static str,
    kind: String,
    payload: Vec<u8>,
    signer: WriterId,
    signature: Vec<u8>,
}

impl Unverified {
    /// Takes a stored document apart; `what` names it in errors.
    pub fn parse(what: &'static str, kind: &str, bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > limits::DOCUMENT_MAX {
            return Err(FormatError::damaged(what, "longer than 64 MiB"));
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| FormatError::damaged(what, format!("not a DSSE envelope: {error}")))?;
        if document.payload_type != kind {
            return Err(FormatError::damaged(what, "another payload type"));
        }
        let [signature] = document.signatures.as_slice() else {
            return Err(FormatError::damaged(what, "not exactly one signature"));
        };
        let base64 = |text: &str| {
            BASE64
                .decode(text)
                .map_err(|_| FormatError::damaged(what, "not valid base64"))
        };
        Ok(Self {
            what,
            payload: base64(&document.payload)?,
            signer: signature.keyid.parse()?,
            signature: base64(&signature.sig)?,
            kind: document.payload_type,
        })
    }

    /// The key that is said to have signed.
    pub fn signer(&self) -> WriterId {
        self.signer
    }

    /// The payload, once the signature is shown to be that of `key`.
    pub fn verify(self, key: VerifyingKey) -> Result<Vec<u8>, FormatError> {
        let message = pre_authentication_encoding(&self.kind, &self.payload);
        if key.id() == self.signer && key.verify(&message, &self.signature) {
            Ok(self.payload)
        } else {
            Err(FormatError::Signature {
                what: self.what,
                expected: key.id().to_string(),
            })
        }
    }

    /// The payload as stated, for finding the key that a first document brings with it.
    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }
}

/// Reads a document that itself says whose signature it must have; `key` is told that, and who is said to have signed.
pub(crate) fn open_stated<T: DeserializeOwned>(
    what: &'static str,
    kind: &str,
    bytes: &[u8],
    key: impl FnOnce(&T, WriterId) -> Result<VerifyingKey, FormatError>,
) -> Result<T, FormatError> {
    let document = Unverified::parse(what, kind, bytes)?;
    let stated: T = parse_payload(what, document.unverified_payload())?;
    let key = key(&stated, document.signer())?;
    document.verify(key)?;
    Ok(stated)
}

/// Parses the payload of a verified document after looking at its `format`.
pub(crate) fn parse_payload<T: DeserializeOwned>(
    what: &'static str,
    payload: &[u8],
) -> Result<T, FormatError> {
    #[derive(Deserialize)]
    struct Version {
        format: u64,
    }
    let wrong = |error: serde_json::Error| FormatError::damaged(what, error.to_string());
    let version: Version = serde_json::from_slice(payload).map_err(wrong)?;
    if version.format != u64::from(super::VERSION) {
        return Err(FormatError::NewerVersion {
            what,
            found: version.format,
        });
    }
    serde_json::from_slice(payload).map_err(wrong)
}

fn pre_authentication_encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::writer_key::WriterKey;

    #[test]
    fn a_signature_holds_for_its_document_only() {
        let key = WriterKey::generate().expect("random bytes");
        let other = WriterKey::generate().expect("random bytes");
        let bytes = key.signing.sign("application/x", b"hello");
        let parse = |bytes: &[u8]| Unverified::parse("test", "application/x", bytes);
        let payload = parse(&bytes)
            .expect("parses")
            .verify(key.signing.verifying_key());
        assert_eq!(payload.expect("verifies"), b"hello");
        parse(&bytes)
            .expect("parses")
            .verify(other.signing.verifying_key())
            .expect_err("another key");
        let text = String::from_utf8(bytes).expect("JSON is text");
        let changed = text.replace(&BASE64.encode(b"hello"), &BASE64.encode(b"hallo"));
        assert_ne!(text, changed);
        parse(changed.as_bytes())
            .expect("parses")
            .verify(key.signing.verifying_key())
            .expect_err("a changed payload");
    }

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
