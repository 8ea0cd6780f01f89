//! The writer key: what the host that takes backups holds, one signing key and one chunk secret.
//!
//! The file is PEM: a PKCS#8 Ed25519 private key that any tool reads, and 32 secret bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::dsse::SigningKey;
use super::id::random;
use super::{EpochId, FormatError};

const KEY: &str = "PRIVATE KEY";
const SECRET: &str = "STRONGROOM CHUNK SECRET";

/// A host's signing key and the secret that its chunk ids are keyed with.
pub struct WriterKey {
    /// Signs envelopes and repository documents.
    pub signing: SigningKey,
    chunk_secret: Zeroizing<[u8; 32]>,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl WriterKey {
    /// Makes a new key from the system's random generator.
    pub fn generate() -> Result<Self, FormatError> {
        let failed = |_| FormatError::Crypto {
            operation: "make an Ed25519 key",
        };
        let pair = aws_lc_rs::signature::Ed25519KeyPair::generate().map_err(failed)?;
        let document = pair.to_pkcs8v1().map_err(failed)?;
        let pkcs8 = Zeroizing::new(document.as_ref().to_vec());
        Ok(Self {
            signing: SigningKey::from_pkcs8(&pkcs8)?,
            chunk_secret: Zeroizing::new(random()?),
            pkcs8,
        })
    }

    /// Reads the PEM form.
    pub fn from_pem(text: &str) -> Result<Self, FormatError> {
        let pkcs8 = pem_block(text, KEY)?;
        let secret = pem_block(text, SECRET)?;
        let mut chunk_secret = Zeroizing::new([0; 32]);
        if secret.len() != chunk_secret.len() {
            return Err(FormatError::damaged(
                "writer key",
                "the chunk secret has not 32 bytes",
            ));
        }
        chunk_secret.copy_from_slice(&secret);
        Ok(Self {
            signing: SigningKey::from_pkcs8(&pkcs8)?,
            chunk_secret,
            pkcs8,
        })
    }

    /// Writes the PEM form.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut text = String::from(
            "# The writer key of this host: it signs backups and keys chunk ids; it opens none.\n",
        );
        push_pem_block(&mut text, KEY, &self.pkcs8);
        push_pem_block(&mut text, SECRET, self.chunk_secret.as_slice());
        Zeroizing::new(text)
    }

    /// The key for the chunk ids of one epoch (docs/format.md, section 10).
    pub fn chunk_key(&self, epoch: EpochId) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("strongroom 2026 chunk id v1");
        hasher.update(self.chunk_secret.as_slice());
        hasher.update(epoch.as_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

fn pem_block(text: &str, label: &str) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let missing = || FormatError::damaged("writer key", format!("no whole {label} block"));
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let body = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end));
    let (body, _) = body.ok_or_else(missing)?;
    let body = Zeroizing::new(body.split_whitespace().collect::<String>());
    BASE64
        .decode(body.as_str())
        .map(Zeroizing::new)
        .map_err(|_| missing())
}

fn push_pem_block(text: &mut String, label: &str, bytes: &[u8]) {
    let body = Zeroizing::new(BASE64.encode(bytes));
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back() {
        let key = WriterKey::generate().expect("random bytes");
        let again = WriterKey::from_pem(&key.to_pem()).expect("own text");
        assert_eq!(key.signing.id(), again.signing.id());
        let epoch = EpochId::from_bytes([1; 8]);
        assert_eq!(key.chunk_key(epoch), again.chunk_key(epoch));
        assert_ne!(
            key.chunk_key(epoch),
            key.chunk_key(EpochId::from_bytes([2; 8]))
        );
    }

    #[test]
    fn a_cut_file_is_refused() {
        let text = WriterKey::generate().expect("random bytes").to_pem();
        for length in [0, 10, text.len() / 2, text.len() - 3] {
            assert!(
                WriterKey::from_pem(&text[..length]).is_err(),
                "cut to {length}"
            );
        }
    }
}
