//! Public keys as tokens hold them, and as the `SubjectPublicKeyInfo` that certificates hold (RFC 5280, 4.1.2.7), in both directions.

use strongroom_core::format::Digest;
use x509_cert::der::asn1::{
    Any, AnyRef, BitString, ObjectIdentifier, OctetString, OctetStringRef, UintRef,
};
use x509_cert::der::{Decode as _, Encode as _, Header, Reader as _, SliceReader, Tag};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::key_material::{self, Algorithm, Curve, Scheme};

/// RFC 8017, A.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480, 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 8410, 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// RFC 8410, 3.
const ED448: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.113");

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    material: key_material::PublicKey,
    /// The `SubjectPublicKeyInfo`.
    pub(super) spki: Vec<u8>,
    /// The content of its bit string.
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`.
    pub(super) fn from_spki(der: &[u8]) -> Option<Self> {
        SubjectPublicKeyInfoOwned::from_der(der)
            .ok()
            .and_then(|info| Self::new(&info))
    }

    /// The key in a certificate.
    pub(super) fn from_certificate(certificate: &x509_cert::Certificate) -> Option<Self> {
        Self::new(certificate.tbs_certificate().subject_public_key_info())
    }

    /// From the attributes of an RSA key.
    pub(super) fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let mut body = UintRef::new(modulus).ok()?.to_der().ok()?;
        body.extend(UintRef::new(exponent).ok()?.to_der().ok()?);
        let key = Any::new(Tag::Sequence, body).ok()?.to_der().ok()?;
        Self::build(RSA, Some(AnyRef::NULL.into()), &key)
    }

    /// From the attributes of an EC key: the curve in DER, and the point in an octet string, as PKCS#11 wants it, or bare.
    pub(super) fn from_ec(parameters: &[u8], point: &[u8]) -> Option<Self> {
        let oid = ObjectIdentifier::from_der(parameters).ok();
        let bare = bare_point(point);
        match oid {
            Some(ED25519) => Self::build(ED25519, None, bare),
            Some(ED448) => Self::build(ED448, None, bare),
            Some(_) => Self::build(EC, Some(Any::from_der(parameters).ok()?), bare),
            // Edwards curves may be named by a string.
            None if bare.len() == 32 => Self::build(ED25519, None, bare),
            None if bare.len() == 57 => Self::build(ED448, None, bare),
            None => None,
        }
    }

    fn build(oid: ObjectIdentifier, parameters: Option<Any>, key: &[u8]) -> Option<Self> {
        Self::new(&SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid, parameters },
            subject_public_key: BitString::from_bytes(key).ok()?,
        })
    }

    fn new(info: &SubjectPublicKeyInfoOwned) -> Option<Self> {
        let spki = info.to_der().ok()?;
        Some(Self {
            material: key_material::PublicKey::from_spki_der(&spki).ok()?,
            spki,
            key: info.subject_public_key.as_bytes()?.to_vec(),
        })
    }

    /// The digest that names the key everywhere.
    pub(super) fn spki_sha256(&self) -> Digest {
        self.material.spki_sha256()
    }

    /// The algorithm.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.material.algorithm()
    }

    /// Its size, where the algorithm has several.
    pub(super) fn bits(&self) -> Option<u64> {
        match self.algorithm() {
            Algorithm::Rsa { bits } | Algorithm::RsaPss { bits } => u64::try_from(bits).ok(),
            Algorithm::Ecdsa(Curve::P256) | Algorithm::Ed25519 => Some(256),
            Algorithm::Ecdsa(Curve::P384) => Some(384),
            Algorithm::Ecdsa(Curve::P521) => Some(521),
            _ => None,
        }
    }

    /// Whether `signature` is this key's, of `message`.
    pub(super) fn verifies(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        self.material.verify(scheme, message, signature)
    }

    /// Modulus and public exponent of an RSA key.
    pub(super) fn rsa_parts(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut reader = SliceReader::new(&self.key).ok()?;
        Header::decode(&mut reader).ok()?;
        let modulus = UintRef::decode(&mut reader).ok()?;
        let exponent = UintRef::decode(&mut reader).ok()?;
        let is_rsa = matches!(self.algorithm(), Algorithm::Rsa { .. });
        (reader.is_finished() && is_rsa)
            .then(|| (modulus.as_bytes().to_vec(), exponent.as_bytes().to_vec()))
    }

    /// The point of an EC key, in the octet string that PKCS#11 wants.
    pub(super) fn ec_point(&self) -> Option<Vec<u8>> {
        let point = OctetString::new(self.key.as_slice()).ok()?;
        point.to_der().ok()
    }
}

fn bare_point(point: &[u8]) -> &[u8] {
    match <&OctetStringRef>::from_der(point) {
        // An uncompressed point begins as an octet string does; its length tells them apart.
        Ok(inner)
            if inner.as_bytes().first() == Some(&4)
                || matches!(inner.as_bytes().len(), 32 | 57) =>
        {
            inner.as_bytes()
        }
        _ => point,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::KeyPair as _;
    use rcgen::PublicKeyData as _;

    use super::*;
    use crate::key_material::Hash;

    /// The curves of P-256 and Ed25519, as attributes give them.
    const P256_DER: [u8; 10] = [6, 8, 42, 134, 72, 206, 61, 3, 1, 7];
    const EDWARDS25519: &[u8] = b"\x13\x0cedwards25519";

    #[test]
    fn attributes_give_the_key_that_certificates_hold() {
        let pair = rcgen::KeyPair::generate().expect("a P-256 key");
        let wanted = PublicKey::from_spki(&pair.subject_public_key_info()).expect("a key");
        assert_eq!(wanted.algorithm().to_string(), "ECDSA P-256");
        let wrapped = wanted.ec_point().expect("a point");
        assert_eq!(wrapped[..2], [4, 65]);
        for point in [wrapped.as_slice(), &wanted.key] {
            let key = PublicKey::from_ec(&P256_DER, point).expect("a key");
            assert_eq!(key, wanted);
        }
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("an Ed25519 key");
        let wanted = PublicKey::from_spki(&pair.subject_public_key_info()).expect("a key");
        let point = wanted.ec_point().expect("a point");
        assert_eq!(PublicKey::from_ec(EDWARDS25519, &point), Some(wanted));
        assert_eq!(PublicKey::from_ec(b"", b""), None);
        assert_eq!(PublicKey::from_spki(b"0"), None);
    }

    #[test]
    fn an_rsa_key_is_taken_apart_and_put_together() {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)
            .expect("an RSA key");
        let der = pair.public_key().as_ref();
        let wanted = PublicKey::build(RSA, Some(AnyRef::NULL.into()), der).expect("a key");
        assert_eq!(wanted.bits(), Some(2048));
        let (modulus, exponent) = wanted.rsa_parts().expect("parts");
        assert_eq!(exponent, [1, 0, 1]);
        assert_eq!(PublicKey::from_rsa(&modulus, &exponent), Some(wanted));
    }

    #[test]
    fn a_signature_is_one_of_its_key_and_scheme() {
        let random = SystemRandom::new();
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(algorithm).expect("a key");
        let signature = pair.sign(&random, b"nonce").expect("signs");
        let key = PublicKey::from_ec(&P256_DER, pair.public_key().as_ref()).expect("a key");
        assert!(key.verifies(Scheme::EcdsaRaw(Hash::Sha256), b"nonce", signature.as_ref()));
        assert!(!key.verifies(Scheme::EcdsaRaw(Hash::Sha256), b"other", signature.as_ref()));
        assert!(!key.verifies(Scheme::RsaPkcs1(Hash::Sha256), b"nonce", signature.as_ref()));
    }
}
