//! The old encryption of PEM (RFC 1421 headers, as OpenSSL writes them): `Proc-Type: 4,ENCRYPTED` and `DEK-Info: AES-256-CBC,...`.
//!
//! One round of MD5 makes the key of the password. Whoever has the file and a guess needs no time to try it; but it is how many
//! keys of the last thirty years are kept.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use des::TdesEde3;
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use super::password::is_sequence;
use super::{Closed, KeyMaterialError, Password, PemBlock};

/// The parts of `DEK-Info`.
struct Info {
    cipher: Cipher,
    iv: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Cipher {
    /// With the length of its key.
    Aes(&'static Algorithm, usize),
    TripleDes,
}

/// Opens a block: the key in DER. An error of the outer result is damage.
pub(super) fn open(
    block: &PemBlock<'_>,
    password: Option<&Password>,
) -> Result<Result<Zeroizing<Vec<u8>>, Closed>, KeyMaterialError> {
    let (name, iv) = block.dek_info().ok_or(KeyMaterialError::Pem)?;
    let mut bytes = block.decode()?;
    let Some(cipher) = Cipher::named(&name) else {
        return Ok(Err(Closed::OldMethod(name)));
    };
    let iv = hex(iv).filter(|iv| iv.len() == cipher.block_length());
    let iv = iv.ok_or(KeyMaterialError::Pem)?;
    if bytes.is_empty() || !bytes.len().is_multiple_of(cipher.block_length()) {
        return Err(KeyMaterialError::Truncated);
    }
    let Some(password) = password else {
        return Ok(Err(Closed::NoPassword));
    };
    let info = Info { cipher, iv };
    // A wrong password gives the right padding once in some hundred times, and then no key.
    let plain = info.decrypt(password, &mut bytes);
    let plain = plain.filter(|plain| is_sequence(plain));
    Ok(plain
        .map(|plain| Zeroizing::new(plain.to_vec()))
        .ok_or(Closed::WrongPassword))
}

impl Cipher {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "AES-128-CBC" => Self::Aes(&AES_128, 16),
            "AES-192-CBC" => Self::Aes(&AES_192, 24),
            "AES-256-CBC" => Self::Aes(&AES_256, 32),
            "DES-EDE3-CBC" => Self::TripleDes,
            _ => return None,
        })
    }

    fn block_length(self) -> usize {
        match self {
            Self::Aes(..) => 16,
            Self::TripleDes => 8,
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::Aes(_, length) => length,
            Self::TripleDes => 24,
        }
    }
}

impl Info {
    fn decrypt<'b>(&self, password: &Password, bytes: &'b mut [u8]) -> Option<&'b [u8]> {
        let key = self.key(password);
        match self.cipher {
            Cipher::Aes(algorithm, _) => {
                let iv: [u8; 16] = self.iv.as_slice().try_into().ok()?;
                let key = UnboundCipherKey::new(algorithm, &key).ok()?;
                let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                key.decrypt(bytes, context).ok().map(|plain| &*plain)
            }
            Cipher::TripleDes => cbc::Decryptor::<TdesEde3>::new_from_slices(&key, &self.iv)
                .ok()?
                .decrypt_padded::<Pkcs7>(bytes)
                .ok(),
        }
    }

    /// `EVP_BytesToKey` of OpenSSL with MD5 and one round; the salt is the beginning of the initialization vector.
    fn key(&self, password: &Password) -> Zeroizing<Vec<u8>> {
        let length = self.cipher.key_length();
        // Two digests are as long as the longest key: the allocation never moves.
        let mut key = Zeroizing::new(Vec::with_capacity(32));
        let mut last = Zeroizing::new([0; 16]);
        while key.len() < length {
            let mut hash = Md5::new();
            if !key.is_empty() {
                hash.update(last.as_slice());
            }
            hash.update(password.bytes());
            hash.update(&self.iv[..8]);
            last.copy_from_slice(&hash.finalize());
            key.extend_from_slice(last.as_slice());
        }
        key.truncate(length);
        key
    }
}

/// Bytes in hexadecimal.
fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.chunks(2).map(|pair| {
        let [high, low] = *pair else {
            return None;
        };
        u8::try_from(digit(high)? << 4 | digit(low)?).ok()
    });
    pairs.collect()
}
