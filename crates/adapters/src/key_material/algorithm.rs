//! Names of what signs: by its object identifier, never by a guess.

use std::fmt;

use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode as _, Header, SliceReader};
use x509_cert::spki::AlgorithmIdentifierRef;

/// The curves that are in use for certificates (RFC 5480, 2.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

/// The parameter sets of ML-DSA (FIPS 204).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MlDsa {
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// The algorithm of a key, with its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RSA, whatever the padding.
    Rsa {
        /// The length of the modulus.
        bits: usize,
    },
    /// RSA for PSS only (RFC 4055).
    RsaPss {
        /// The length of the modulus.
        bits: usize,
    },
    /// ECDSA.
    Ecdsa(Curve),
    /// Ed25519.
    Ed25519,
    /// ML-DSA.
    MlDsa(MlDsa),
    /// Something that cannot sign or verify here: its identifier, and that of its curve.
    Other(ObjectIdentifier, Option<ObjectIdentifier>),
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// RFC 8017, A.1.
pub(super) const RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
/// RFC 4055, 1.2.
pub(super) const RSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
/// RFC 5480, 2.1.1.
pub(super) const EC: ObjectIdentifier = oid("1.2.840.10045.2.1");
/// RFC 8410, 3.
pub(super) const ED25519: ObjectIdentifier = oid("1.3.101.112");
const CURVES: [(ObjectIdentifier, Curve); 3] = [
    (oid("1.2.840.10045.3.1.7"), Curve::P256),
    (oid("1.3.132.0.34"), Curve::P384),
    (oid("1.3.132.0.35"), Curve::P521),
];
/// RFC 9881, 2.
pub(super) const ML_DSA: [(ObjectIdentifier, MlDsa); 3] = [
    (oid("2.16.840.1.101.3.4.3.17"), MlDsa::MlDsa44),
    (oid("2.16.840.1.101.3.4.3.18"), MlDsa::MlDsa65),
    (oid("2.16.840.1.101.3.4.3.19"), MlDsa::MlDsa87),
];

/// Signatures whose private key changes with each one (NIST SP 800-208): RFC 9708 (HSS/LMS), RFC 9802 (XMSS), and what
/// implementations used before those.
const STATEFUL: [(ObjectIdentifier, &str); 5] = [
    (oid("1.2.840.113549.1.9.16.3.17"), "HSS/LMS"),
    (oid("1.3.6.1.5.5.7.6.34"), "XMSS"),
    (oid("1.3.6.1.5.5.7.6.35"), "XMSS^MT"),
    (oid("0.4.0.127.0.15.1.1.13.0"), "XMSS"),
    (oid("0.4.0.127.0.15.1.1.14.0"), "XMSS^MT"),
];

/// What is known by name and cannot sign here.
const NAMES: [(ObjectIdentifier, &str); 31] = [
    (oid("1.3.101.110"), "X25519"),
    (oid("1.3.101.111"), "X448"),
    (oid("1.3.101.113"), "Ed448"),
    (oid("1.2.840.10040.4.1"), "DSA"),
    (oid("1.2.840.10046.2.1"), "Diffie-Hellman"),
    (oid("1.2.840.113549.1.3.1"), "Diffie-Hellman"),
    (oid("1.2.840.113549.1.1.7"), "RSA for OAEP only"),
    (oid("1.2.643.7.1.1.1.1"), "GOST R 34.10-2012 (256 bits)"),
    (oid("1.2.643.7.1.1.1.2"), "GOST R 34.10-2012 (512 bits)"),
    (oid("2.16.840.1.101.3.4.3.20"), "SLH-DSA-SHA2-128s"),
    (oid("2.16.840.1.101.3.4.3.21"), "SLH-DSA-SHA2-128f"),
    (oid("2.16.840.1.101.3.4.3.22"), "SLH-DSA-SHA2-192s"),
    (oid("2.16.840.1.101.3.4.3.23"), "SLH-DSA-SHA2-192f"),
    (oid("2.16.840.1.101.3.4.3.24"), "SLH-DSA-SHA2-256s"),
    (oid("2.16.840.1.101.3.4.3.25"), "SLH-DSA-SHA2-256f"),
    (oid("2.16.840.1.101.3.4.3.26"), "SLH-DSA-SHAKE-128s"),
    (oid("2.16.840.1.101.3.4.3.27"), "SLH-DSA-SHAKE-128f"),
    (oid("2.16.840.1.101.3.4.3.28"), "SLH-DSA-SHAKE-192s"),
    (oid("2.16.840.1.101.3.4.3.29"), "SLH-DSA-SHAKE-192f"),
    (oid("2.16.840.1.101.3.4.3.30"), "SLH-DSA-SHAKE-256s"),
    (oid("2.16.840.1.101.3.4.3.31"), "SLH-DSA-SHAKE-256f"),
    (oid("2.16.840.1.101.3.4.3.32"), "HashML-DSA-44"),
    (oid("2.16.840.1.101.3.4.3.33"), "HashML-DSA-65"),
    (oid("2.16.840.1.101.3.4.3.34"), "HashML-DSA-87"),
    (oid("2.16.840.1.101.3.4.4.1"), "ML-KEM-512"),
    (oid("2.16.840.1.101.3.4.4.2"), "ML-KEM-768"),
    (oid("2.16.840.1.101.3.4.4.3"), "ML-KEM-1024"),
    (oid("1.3.132.0.10"), "secp256k1"),
    (oid("1.3.36.3.3.2.8.1.1.7"), "brainpoolP256r1"),
    (oid("1.3.36.3.3.2.8.1.1.11"), "brainpoolP384r1"),
    (oid("1.3.36.3.3.2.8.1.1.13"), "brainpoolP512r1"),
];

impl Curve {
    /// Its identifier.
    pub(super) fn oid(self) -> ObjectIdentifier {
        let found = CURVES.iter().find(|(_, curve)| *curve == self);
        found.expect("every curve is listed").0
    }
}

impl Algorithm {
    /// Names the algorithm of an identifier; `public_key` is the bit string of a `SubjectPublicKeyInfo`, which says how long
    /// an RSA key is.
    pub(super) fn of(identifier: &AlgorithmIdentifierRef<'_>, public_key: &[u8]) -> Self {
        let curve = identifier
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let id = identifier.oid;
        let other = Self::Other(id, curve.filter(|_| id == EC));
        match id {
            RSA => rsa_bits(public_key).map_or(other, |bits| Self::Rsa { bits }),
            RSA_PSS => rsa_bits(public_key).map_or(other, |bits| Self::RsaPss { bits }),
            ED25519 => Self::Ed25519,
            EC => CURVES
                .iter()
                .find(|(oid, _)| Some(*oid) == curve)
                .map_or(other, |(_, curve)| Self::Ecdsa(*curve)),
            _ => ML_DSA
                .iter()
                .find(|(oid, _)| *oid == id)
                .map_or(other, |(_, set)| Self::MlDsa(*set)),
        }
    }

    /// Whether keys of it sign and verify here.
    pub(crate) fn is_provable(self) -> bool {
        !matches!(self, Self::Other(..))
    }

    /// Whether each signature uses up a part of the private key, so that a restored copy would sign with a part that was used
    /// before, which gives the key away.
    pub(crate) fn is_stateful(self) -> bool {
        matches!(self, Self::Other(id, _) if STATEFUL.iter().any(|(oid, _)| *oid == id))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |id: &ObjectIdentifier| {
            let all = NAMES.iter().chain(&STATEFUL);
            all.clone()
                .find(|(oid, _)| oid == id)
                .map(|(_, name)| *name)
        };
        match self {
            Self::Rsa { bits } => write!(formatter, "RSA-{bits}"),
            Self::RsaPss { bits } => write!(formatter, "RSA-PSS-{bits}"),
            Self::Ecdsa(Curve::P256) => formatter.write_str("ECDSA P-256"),
            Self::Ecdsa(Curve::P384) => formatter.write_str("ECDSA P-384"),
            Self::Ecdsa(Curve::P521) => formatter.write_str("ECDSA P-521"),
            Self::Ed25519 => formatter.write_str("Ed25519"),
            Self::MlDsa(MlDsa::MlDsa44) => formatter.write_str("ML-DSA-44"),
            Self::MlDsa(MlDsa::MlDsa65) => formatter.write_str("ML-DSA-65"),
            Self::MlDsa(MlDsa::MlDsa87) => formatter.write_str("ML-DSA-87"),
            Self::Other(EC, Some(curve)) => match name(curve) {
                Some(name) => write!(formatter, "ECDSA {name}"),
                None => write!(formatter, "ECDSA on the curve {curve}"),
            },
            Self::Other(EC, None) => formatter.write_str("ECDSA on a curve without a name"),
            Self::Other(RSA, _) => formatter.write_str("RSA"),
            Self::Other(RSA_PSS, _) => formatter.write_str("RSA-PSS"),
            Self::Other(id, _) => match name(id) {
                Some(name) => formatter.write_str(name),
                None => write!(formatter, "algorithm {id}"),
            },
        }
    }
}

/// The length of the modulus of an `RSAPrivateKey` (RFC 8017, A.1.2).
pub(super) fn rsa_private_bits(private_key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(private_key).ok()?;
    Header::decode(&mut reader).ok()?;
    u8::decode(&mut reader).ok()?;
    modulus_bits(&mut reader)
}

/// The length of the modulus of an `RSAPublicKey` (RFC 8017, A.1.1).
fn rsa_bits(public_key: &[u8]) -> Option<usize> {
    let mut reader = SliceReader::new(public_key).ok()?;
    Header::decode(&mut reader).ok()?;
    modulus_bits(&mut reader)
}

fn modulus_bits(reader: &mut SliceReader<'_>) -> Option<usize> {
    let modulus = UintRef::decode(reader).ok()?;
    let first = modulus.as_bytes().first()?;
    Some(modulus.as_bytes().len() * 8 - first.leading_zeros() as usize)
}
