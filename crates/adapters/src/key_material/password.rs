//! Passwords of encrypted keys: from a file, wiped, and tried within bounds.

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Header, Reader as _, SliceReader};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::pkcs5::{EncryptionScheme, Error};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::{Closed, pkcs12};

/// How often a password is hashed at most before it is given up: some seconds.
const ITERATIONS_MAX: u32 = 5_000_000;
/// How much memory hashing a password may take.
const MEMORY_MAX_BYTES: u64 = 512 << 20;
/// How often scrypt may use that much.
const PARALLEL_MAX: u16 = 16;

/// Encryption of PKCS#12 (RFC 7292, appendix C) that `openssl pkcs8 -v1` and old tools use: SHA-1 with 3DES, and with RC2 of 40 bits.
const PKCS12_METHODS: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.3"),
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.12.1.6"),
];

/// The password of a key.
pub(crate) struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// The first line of a password file.
    pub(crate) fn from_file(content: &[u8]) -> Self {
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self(Zeroizing::new(line.to_vec()))
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text; PKCS#12 takes nothing else.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// Opens an `EncryptedPrivateKeyInfo` (RFC 5958): its `PrivateKeyInfo`.
pub(super) fn open_pkcs8(
    der: &[u8],
    password: Option<&Password>,
) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let Ok(info) = EncryptedPrivateKeyInfoRef::from_der(der) else {
        return match method(der) {
            Some(id) if PKCS12_METHODS.contains(&id) => pkcs12::open_key(der, password),
            id => Err(unknown(id)),
        };
    };
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        return Err(unknown(method(der)));
    };
    let is_bounded = match &parameters.kdf {
        Kdf::Pbkdf2(kdf) => kdf.iteration_count <= ITERATIONS_MAX,
        Kdf::Scrypt(kdf) => {
            let memory = kdf
                .cost_parameter
                .checked_mul(u64::from(kdf.block_size) * 128);
            memory.is_some_and(|bytes| bytes <= MEMORY_MAX_BYTES)
                && kdf.parallelization <= PARALLEL_MAX
        }
        _ => return Err(unknown(method(der))),
    };
    if !is_bounded {
        return Err(Closed::Costly);
    }
    let password = password.ok_or(Closed::NoPassword)?;
    let mut buffer = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
    match parameters.decrypt_in_place(password.bytes(), &mut buffer) {
        // A wrong password gives the right padding once in some hundred times, and then no key.
        Ok(plain) if is_sequence(plain) => Ok(Zeroizing::new(plain.to_vec())),
        Ok(_) | Err(Error::DecryptFailed) => Err(Closed::WrongPassword),
        Err(_) => Err(unknown(method(der))),
    }
}

/// Whether bytes are one value of DER, a sequence, and nothing else.
pub(super) fn is_sequence(der: &[u8]) -> bool {
    let whole = |der| {
        let mut reader = SliceReader::new(der)?;
        reader.tlv_bytes()?;
        Ok::<_, der::Error>(reader.is_finished())
    };
    der.first() == Some(&0x30) && whole(der).unwrap_or(false)
}

/// The identifier of the encryption.
fn method(der: &[u8]) -> Option<ObjectIdentifier> {
    let mut reader = SliceReader::new(der).ok()?;
    Header::decode(&mut reader).ok()?;
    let identifier = AlgorithmIdentifierRef::decode(&mut reader).ok()?;
    Some(identifier.oid)
}

fn unknown(method: Option<ObjectIdentifier>) -> Closed {
    Closed::Method(match method {
        Some(id) => format!("the method {id}"),
        None => "an unknown method".to_owned(),
    })
}
