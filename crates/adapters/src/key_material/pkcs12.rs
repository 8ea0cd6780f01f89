//! PKCS#12 (RFC 7292): keys and certificates in one file under one password.

use der::{Encode as _, Header, Length, Tag, TagNumber};
use p12_keystore::Pkcs12Archive;
use p12_keystore::error::Error;
use zeroize::Zeroizing;

use super::{Closed, Password};

/// What a PKCS#12 file holds.
pub(super) struct Contents {
    /// Private keys in PKCS#8.
    pub(super) keys: Vec<Zeroizing<Vec<u8>>>,
    /// Certificates in DER.
    pub(super) certificates: Vec<Vec<u8>>,
    /// Whether it opens for everybody.
    pub(super) is_open: bool,
}

/// Opens a file, without a password if it needs none.
pub(super) fn open(der: &[u8], password: Option<&Password>) -> Result<Contents, Closed> {
    let mut is_open = true;
    let archive = match Pkcs12Archive::from_pkcs12(der, "") {
        Ok(archive) => archive,
        Err(error) if !is_refusal(&error) => return Err(unreadable(&error)),
        Err(_) => {
            is_open = false;
            let password = password.ok_or(Closed::NoPassword)?;
            let text = password.text().ok_or(Closed::NoText)?;
            Pkcs12Archive::from_pkcs12(der, text).map_err(|error| {
                if is_refusal(&error) {
                    Closed::WrongPassword
                } else {
                    unreadable(&error)
                }
            })?
        }
    };
    Ok(Contents {
        keys: archive
            .keys
            .iter()
            .map(|bag| Zeroizing::new(bag.key.as_der().to_vec()))
            .collect(),
        certificates: archive
            .certs
            .iter()
            .map(|bag| bag.cert.as_der().to_vec())
            .collect(),
        is_open,
    })
}

/// Opens an `EncryptedPrivateKeyInfo` whose encryption is one of PKCS#12, as the only thing in such a file.
pub(super) fn open_key(
    der: &[u8],
    password: Option<&Password>,
) -> Result<Zeroizing<Vec<u8>>, Closed> {
    const SHROUDED_KEY: &[u8] = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02";
    const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
    let text = password.ok_or(Closed::NoPassword)?;
    let text = text.text().ok_or(Closed::NoText)?;
    let wrap = || {
        let content = |value: &[u8]| {
            let octets = element(Tag::OctetString, &[value])?;
            element(Tag::Sequence, &[DATA, &element(CONTEXT_0, &[&octets])?])
        };
        let bag = element(Tag::Sequence, &[SHROUDED_KEY, &element(CONTEXT_0, &[der])?])?;
        let safe = content(&element(Tag::Sequence, &[&bag])?)?;
        let safe = content(&element(Tag::Sequence, &[&safe])?)?;
        element(Tag::Sequence, &[b"\x02\x01\x03", &safe])
    };
    let file = wrap().map_err(|error| Closed::Unread(error.to_string()))?;
    let archive = Pkcs12Archive::from_pkcs12(&file, text).map_err(|error| match error {
        // What a wrong password leaves is no key.
        Error::InvalidPrivateKey | Error::DerError(_) => Closed::WrongPassword,
        error if is_refusal(&error) => Closed::WrongPassword,
        error => unreadable(&error),
    })?;
    let key = archive.keys.first().ok_or(Closed::WrongPassword)?;
    Ok(Zeroizing::new(key.key.as_der().to_vec()))
}

const CONTEXT_0: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(0),
};

/// One element of DER around others.
fn element(tag: Tag, parts: &[&[u8]]) -> der::Result<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Header::new(tag, Length::try_from(length)?).to_der()?;
    for part in parts {
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// Whether another password might help.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::MacError(_) | Error::Pkcs5Error(_) | Error::UnpadError
    )
}

fn unreadable(error: &Error) -> Closed {
    match error {
        Error::InvalidParameters => Closed::Costly,
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            Closed::Method("a method that is not read here".to_owned())
        }
        // Values in BER rather than DER are legal in these files and are not read here; that is no damage.
        other => Closed::Unread(other.to_string()),
    }
}
