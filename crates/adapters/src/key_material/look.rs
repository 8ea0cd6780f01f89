//! What a file holds: keys in every format that is in use, certificates, CRLs, keystores.
//!
//! A file is looked at whole, in memory, and never longer than its caller allows. Nothing that is read here is believed:
//! keys are opened within bounds of time and memory, and a key that looks like one and is none is said to be damaged.

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Header, Reader as _, SliceReader, Tag};
use x509_cert::certificate::Raw;
use x509_cert::crl::CertificateList;
use zeroize::Zeroizing;

use super::certificate::LABELS;
use super::keystore::{self, Keystore};
use super::openssh::OpensshKey;
use super::password::{self, Password};
use super::{
    Certificate, Closed, KeyMaterialError, PemBlock, PemBlocks, PrivateKey, PublicKey, SignedNonce,
    old_pem, pkcs12,
};

/// How many keys of one file are looked at.
const KEYS_MAX: usize = 64;

/// What a file holds.
#[derive(Default)]
pub(crate) struct Material {
    /// Private keys, in their order.
    pub(crate) keys: Vec<Key>,
    /// Certificates, in their order; those that cannot be read are left out.
    pub(crate) certificates: Vec<Certificate>,
    /// How many CRLs.
    pub(crate) crls: usize,
    /// The keystore of Java that the file is.
    pub(crate) keystore: Option<Keystore>,
    /// There are more keys than were looked at.
    pub(crate) is_cut: bool,
}

/// A private key.
pub(crate) struct Key {
    /// Its format: `PKCS#8`, `OpenSSH`.
    pub(crate) format: &'static str,
    /// Whether it takes a password.
    pub(crate) is_encrypted: bool,
    /// What it is, where that could be read.
    pub(crate) algorithm: Option<String>,
    /// Its other half, where that could be read.
    pub(crate) public: Option<PublicKey>,
    /// What became of it.
    pub(crate) state: State,
}

/// What became of a private key.
pub(crate) enum State {
    /// It signed a nonce.
    Signed(SignedNonce),
    /// It was not opened.
    Closed(Closed),
    /// Its algorithm is known by name only.
    Unprovable,
    /// Each signature changes it: a copy must not be kept (NIST SP 800-208).
    Stateful,
    /// It looks like a key and is none.
    Damaged(KeyMaterialError),
}

/// Looks at a file; `password` opens what is encrypted.
pub(crate) fn look(bytes: &[u8], password: Option<&Password>) -> Material {
    let mut material = Material::default();
    let mut blocks = PemBlocks(bytes).peekable();
    if blocks.peek().is_none() {
        material.der(bytes, password);
        return material;
    }
    for block in blocks {
        if block.is_private_key() {
            if material.keys.len() == KEYS_MAX {
                material.is_cut = true;
                break;
            }
            material.keys.push(pem_key(&block, password));
        } else if LABELS.contains(&block.label) {
            let certificate = block.decode().and_then(|der| Certificate::from_der(&der));
            material.certificates.extend(certificate);
        } else if block.label == b"X509 CRL" {
            let is_crl = block.decode().is_ok_and(|der| is_crl(&der));
            material.crls += usize::from(is_crl);
        }
    }
    material
}

impl Material {
    fn der(&mut self, bytes: &[u8], password: Option<&Password>) {
        if keystore::is_keystore(bytes) {
            self.keystore = keystore::list(bytes);
            let listed = self.keystore.iter().flat_map(|store| &store.certificates);
            self.certificates
                .extend(listed.filter_map(|der| Certificate::from_der(der).ok()));
            return;
        }
        let Some(shape) = shape(bytes) else {
            self.certificates.extend(Certificate::from_der(bytes));
            self.crls += usize::from(is_crl(bytes));
            return;
        };
        let whole = whole(bytes);
        if shape == Shape::Pkcs12 {
            if let Err(error) = whole {
                self.keys.push(Key::damaged("PKCS#12", error));
            } else {
                self.pkcs12(bytes, password);
            }
            return;
        }
        let format = match shape {
            Shape::Pkcs8 | Shape::Encrypted => "PKCS#8",
            Shape::Pkcs1 => "PKCS#1",
            Shape::Sec1 => "SEC 1",
            Shape::Dsa | Shape::Pkcs12 => "DSA",
        };
        self.keys.push(match (whole, shape) {
            (Err(error), _) => Key::damaged(format, error),
            (_, Shape::Pkcs8) => Key::plain(format, PrivateKey::from_pkcs8(bytes)),
            (_, Shape::Pkcs1) => Key::plain(format, PrivateKey::from_pkcs1(bytes)),
            (_, Shape::Sec1) => Key::plain(format, PrivateKey::from_sec1(bytes)),
            (_, Shape::Encrypted) => encrypted(bytes, password),
            (_, Shape::Dsa | Shape::Pkcs12) => Key::unprovable(format, "DSA".to_owned()),
        });
    }

    fn pkcs12(&mut self, der: &[u8], password: Option<&Password>) {
        let contents = match pkcs12::open(der, password) {
            Ok(contents) => contents,
            Err(why) => {
                self.keys.push(Key::closed("PKCS#12", why));
                return;
            }
        };
        self.is_cut = contents.keys.len() > KEYS_MAX;
        self.keys
            .extend(contents.keys.iter().take(KEYS_MAX).map(|key| Key {
                is_encrypted: !contents.is_open,
                ..Key::plain("PKCS#12", PrivateKey::from_pkcs8(key))
            }));
        let certificates = contents.certificates.iter();
        self.certificates
            .extend(certificates.filter_map(|der| Certificate::from_der(der).ok()));
    }
}

impl Key {
    fn plain(format: &'static str, key: Result<PrivateKey, KeyMaterialError>) -> Self {
        let signed = key.and_then(|key| Ok((key.sign()?, key.public_key().clone())));
        match signed {
            Ok((signed, public)) => Self {
                format,
                is_encrypted: false,
                algorithm: Some(public.algorithm().to_string()),
                public: Some(public),
                state: State::Signed(signed),
            },
            Err(KeyMaterialError::Unprovable(name)) => Self::unprovable(format, name),
            Err(KeyMaterialError::Stateful(name)) => Self {
                state: State::Stateful,
                ..Self::unprovable(format, name)
            },
            Err(error) => Self::damaged(format, error),
        }
    }

    fn unprovable(format: &'static str, algorithm: String) -> Self {
        Self {
            format,
            is_encrypted: false,
            algorithm: Some(algorithm),
            public: None,
            state: State::Unprovable,
        }
    }

    fn damaged(format: &'static str, error: KeyMaterialError) -> Self {
        Self {
            format,
            is_encrypted: false,
            algorithm: None,
            public: None,
            state: State::Damaged(error),
        }
    }

    fn closed(format: &'static str, why: Closed) -> Self {
        Self {
            format,
            is_encrypted: true,
            algorithm: None,
            public: None,
            state: State::Closed(why),
        }
    }
}

fn pem_key(block: &PemBlock<'_>, password: Option<&Password>) -> Key {
    let format = match block.label {
        b"PRIVATE KEY" | b"ENCRYPTED PRIVATE KEY" => "PKCS#8",
        b"RSA PRIVATE KEY" => "PKCS#1",
        b"EC PRIVATE KEY" => "SEC 1",
        b"OPENSSH PRIVATE KEY" => "OpenSSH",
        b"DSA PRIVATE KEY" => "DSA",
        _ => "another format",
    };
    if block.has_old_encryption() {
        return match old_pem::open(block, password) {
            Ok(Ok(der)) => Key {
                is_encrypted: true,
                ..labelled(block, format, &der, password)
            },
            Ok(Err(why)) => Key::closed(format, why),
            Err(error) => Key::damaged(format, error),
        };
    }
    match block.decode() {
        Ok(der) => labelled(block, format, &der, password),
        Err(error) => Key::damaged(format, error),
    }
}

/// The key of a PEM block, as its label says.
fn labelled(
    block: &PemBlock<'_>,
    format: &'static str,
    der: &Zeroizing<Vec<u8>>,
    password: Option<&Password>,
) -> Key {
    match block.label {
        b"OPENSSH PRIVATE KEY" => return openssh(der, password),
        b"DSA PRIVATE KEY" => return Key::unprovable(format, "DSA".to_owned()),
        _ if format == "another format" => {
            let label = String::from_utf8_lossy(&block.label[..block.label.len().min(64)]);
            let name = format!("\"{}\"", label.escape_debug());
            return Key::unprovable(format, name);
        }
        _ => {}
    }
    if let Err(error) = whole(der) {
        return Key::damaged(format, error);
    }
    match block.label {
        b"ENCRYPTED PRIVATE KEY" => encrypted(der, password),
        b"RSA PRIVATE KEY" => Key::plain(format, PrivateKey::from_pkcs1(der)),
        b"EC PRIVATE KEY" => Key::plain(format, PrivateKey::from_sec1(der)),
        _ => Key::plain(format, PrivateKey::from_pkcs8(der)),
    }
}

fn encrypted(der: &[u8], password: Option<&Password>) -> Key {
    match password::open_pkcs8(der, password) {
        Ok(plain) => Key {
            is_encrypted: true,
            ..Key::plain("PKCS#8", PrivateKey::from_pkcs8(&plain))
        },
        Err(why) => Key::closed("PKCS#8", why),
    }
}

fn openssh(bytes: &Zeroizing<Vec<u8>>, password: Option<&Password>) -> Key {
    let key = match OpensshKey::from_bytes(bytes) {
        Ok(key) => key,
        Err(error) => return Key::damaged("OpenSSH", error),
    };
    let found = match key.open(password) {
        Ok(opened) => Key::plain("OpenSSH", opened),
        Err(why) => Key::closed("OpenSSH", why),
    };
    let public = found.public.clone().or_else(|| key.public_key());
    let named = || match &public {
        Some(public) => public.algorithm().to_string(),
        None => key.algorithm(),
    };
    Key {
        is_encrypted: key.is_encrypted(),
        algorithm: found.algorithm.clone().or_else(|| Some(named())),
        public,
        ..found
    }
}

/// What a value of DER begins like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Pkcs8,
    Encrypted,
    Pkcs1,
    Sec1,
    Dsa,
    Pkcs12,
}

/// Tells private keys from everything else by their first elements, so that one that was cut off is known too.
fn shape(bytes: &[u8]) -> Option<Shape> {
    // PKCS#12 may have no length at its beginning (BER).
    if bytes.starts_with(&[0x30, 0x80, 0x02, 0x01, 0x03]) {
        return Some(Shape::Pkcs12);
    }
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut header = || Header::decode(&mut reader).ok().map(Element::from);
    let outer = header()?;
    let first = header()?;
    if outer.tag != Tag::Sequence {
        return None;
    }
    if first.tag == Tag::Sequence {
        let id: ObjectIdentifier = ObjectIdentifier::decode(&mut reader).ok()?;
        let id = id.to_string();
        // PKCS#5 and the password-based encryption of PKCS#12.
        let is_encryption =
            id.starts_with("1.2.840.113549.1.5.") || id.starts_with("1.2.840.113549.1.12.1.");
        return is_encryption.then_some(Shape::Encrypted);
    }
    if first.tag != Tag::Integer || first.length != 1 {
        return None;
    }
    let version = reader.read_byte().ok()?;
    let mut header = || Header::decode(&mut reader).ok().map(Element::from);
    let second = header()?;
    match (version, second.tag) {
        (0 | 1, Tag::Sequence) => (header()?.tag == Tag::ObjectIdentifier).then_some(Shape::Pkcs8),
        (3, Tag::Sequence) => (header()?.tag == Tag::ObjectIdentifier).then_some(Shape::Pkcs12),
        (0, Tag::Integer) if second.length >= 64 => {
            // RSA goes on with a short exponent, DSA with a prime of 160 bits or more.
            let exponent = reader
                .read_slice(der::Length::try_from(second.length).ok()?)
                .ok()
                .and_then(|_| Header::decode(&mut reader).ok());
            let is_dsa = exponent.is_some_and(|header| Element::from(header).length >= 20);
            Some(if is_dsa { Shape::Dsa } else { Shape::Pkcs1 })
        }
        (1, Tag::OctetString) if (20..=72).contains(&second.length) => Some(Shape::Sec1),
        _ => None,
    }
}

struct Element {
    tag: Tag,
    length: usize,
}

impl From<Header> for Element {
    fn from(header: Header) -> Self {
        Self {
            tag: header.tag(),
            length: usize::try_from(header.length()).unwrap_or(usize::MAX),
        }
    }
}

/// Whether bytes are one value of DER, neither cut off nor with something behind it.
pub(super) fn whole(bytes: &[u8]) -> Result<(), KeyMaterialError> {
    let mut reader = SliceReader::new(bytes).map_err(|_| KeyMaterialError::PrivateKey)?;
    let header = Header::decode(&mut reader).map_err(|_| KeyMaterialError::PrivateKey)?;
    let length = Element::from(header).length;
    let rest = usize::try_from(reader.remaining_len()).unwrap_or(0);
    match rest.cmp(&length) {
        std::cmp::Ordering::Less => Err(KeyMaterialError::Truncated),
        std::cmp::Ordering::Greater => Err(KeyMaterialError::Trailing),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

fn is_crl(der: &[u8]) -> bool {
    CertificateList::<Raw>::from_der(der).is_ok()
}
