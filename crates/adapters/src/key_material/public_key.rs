//! Public keys: from a `SubjectPublicKeyInfo`, or from the parts that a token gives.

use aws_lc_rs::signature as library;
use aws_lc_rs::signature::{UnparsedPublicKey, VerificationAlgorithm};
use der::asn1::{BitString, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Any, Decode as _, Encode as _, Sequence};
use strongroom_core::format::Digest;
use x509_cert::spki::{
    AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
};

use super::algorithm::{self, Algorithm, Curve, MlDsa};
use super::{KeyMaterialError, SignedNonce};

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    algorithm: Algorithm,
    /// The bit string of the `SubjectPublicKeyInfo`.
    bits: Vec<u8>,
    spki_sha256: Digest,
}

/// The digest that a signature is made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How a signature was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017, 8.2); `CKM_SHA256_RSA_PKCS`.
    RsaPkcs1(Hash),
    /// RSASSA-PSS (RFC 8017, 8.1) with the same digest in MGF1, and salt as long as it; `CKM_SHA256_RSA_PKCS_PSS`.
    RsaPss(Hash),
    /// `ECDSA-Sig-Value` in DER (RFC 3279, 2.2.3), as in certificates.
    EcdsaDer(Hash),
    /// r and s one after the other, each as long as the order of the curve, as PKCS#11 gives them (3.0, 2.3.1); `CKM_ECDSA_SHA256`.
    EcdsaRaw(Hash),
    /// RFC 8032; `CKM_EDDSA`.
    Ed25519,
    /// FIPS 204, pure, with an empty context.
    MlDsa,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7) in DER.
    pub(crate) fn from_spki_der(der: &[u8]) -> Result<Self, KeyMaterialError> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(KeyMaterialError::PublicKey)?;
        let bits = spki.subject_public_key.raw_bytes().to_vec();
        Ok(Self {
            algorithm: Algorithm::of(&spki.algorithm, &bits),
            bits,
            spki_sha256: Digest::of(der),
        })
    }

    /// An RSA key from its parts, most significant byte first: `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`.
    pub(crate) fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyMaterialError> {
        let parts = RsaParts {
            modulus: UintRef::new(modulus).map_err(KeyMaterialError::PublicKey)?,
            exponent: UintRef::new(exponent).map_err(KeyMaterialError::PublicKey)?,
        };
        let bits = parts.to_der().map_err(KeyMaterialError::PublicKey)?;
        Self::from_parts(algorithm::RSA, Some(Any::null()), &bits)
    }

    /// A key on a curve: its parameters in DER and its point, as `CKA_EC_PARAMS` and `CKA_EC_POINT` hold them; the point may
    /// be wrapped into an octet string or not, as tokens differ there.
    #[cfg_attr(not(test), expect(dead_code, reason = "for keys in tokens"))]
    pub(crate) fn from_ec(parameters: &[u8], point: &[u8]) -> Result<Self, KeyMaterialError> {
        let point = <&OctetStringRef>::from_der(point).map_or(point, OctetStringRef::as_bytes);
        let parameters = Any::from_der(parameters).map_err(KeyMaterialError::PublicKey)?;
        // Edwards curves are named by their own algorithm, not as a curve of ECDSA (PKCS#11 3.0, 2.3.5).
        let is_edwards = parameters
            .decode_as::<ObjectIdentifier>()
            .is_ok_and(|id| id == algorithm::ED25519)
            || parameters.value() == b"edwards25519";
        if is_edwards {
            return Self::from_ed25519(point);
        }
        Self::from_parts(algorithm::EC, Some(parameters), point)
    }

    /// An Ed25519 key from its 32 bytes.
    pub(crate) fn from_ed25519(bytes: &[u8]) -> Result<Self, KeyMaterialError> {
        Self::from_parts(algorithm::ED25519, None, bytes)
    }

    /// A key on a curve from its point, uncompressed.
    pub(crate) fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyMaterialError> {
        let oid = Any::encode_from(&curve.oid()).map_err(KeyMaterialError::PublicKey)?;
        Self::from_parts(algorithm::EC, Some(oid), point)
    }

    /// A key from its algorithm and the bit string.
    pub(super) fn from_parts(
        oid: ObjectIdentifier,
        parameters: Option<Any>,
        bits: &[u8],
    ) -> Result<Self, KeyMaterialError> {
        let spki = SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid, parameters },
            subject_public_key: BitString::from_bytes(bits).map_err(KeyMaterialError::PublicKey)?,
        };
        Self::from_spki_der(&spki.to_der().map_err(KeyMaterialError::PublicKey)?)
    }

    /// The algorithm, with the size.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The SHA-256 of the `SubjectPublicKeyInfo`, by which keys and certificates are known to each other.
    pub(crate) fn spki_sha256(&self) -> Digest {
        self.spki_sha256
    }

    /// The bit string of the `SubjectPublicKeyInfo`.
    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Whether a private key that signed a nonce is the other half of this one.
    pub(crate) fn verifies(&self, signed: &SignedNonce) -> bool {
        self.verify(signed.scheme, &signed.nonce, &signed.signature)
    }

    /// Whether this key verifies a signature; never when the scheme is not one of its algorithm.
    pub(crate) fn verify(&self, scheme: Scheme, message: &[u8], signature: &[u8]) -> bool {
        let raw;
        let (scheme, signature) = match (scheme, self.algorithm) {
            (Scheme::EcdsaRaw(hash), Algorithm::Ecdsa(curve)) => match curve.der(signature) {
                Some(der) => {
                    raw = der;
                    (Scheme::EcdsaDer(hash), raw.as_slice())
                }
                None => return false,
            },
            _ => (scheme, signature),
        };
        let Some(algorithm) = verification(self.algorithm, scheme) else {
            return false;
        };
        UnparsedPublicKey::new(algorithm, &self.bits)
            .verify(message, signature)
            .is_ok()
    }
}

/// `RSAPublicKey` (RFC 8017, A.1.1).
#[derive(Sequence)]
struct RsaParts<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

/// `ECDSA-Sig-Value` (RFC 3279, 2.2.3).
#[derive(Sequence)]
struct EcdsaParts<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl Curve {
    /// r and s in DER.
    fn der(self, raw: &[u8]) -> Option<Vec<u8>> {
        let length = match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        };
        let (r, s) = raw.split_at_checked(length)?;
        if s.len() != length {
            return None;
        }
        let parts = EcdsaParts {
            r: UintRef::new(r).ok()?,
            s: UintRef::new(s).ok()?,
        };
        parts.to_der().ok()
    }
}

/// How the library verifies a scheme with keys of an algorithm.
fn verification(
    algorithm: Algorithm,
    scheme: Scheme,
) -> Option<&'static dyn VerificationAlgorithm> {
    use Hash::{Sha256, Sha384, Sha512};
    Some(match (algorithm, scheme) {
        (Algorithm::Rsa { .. }, Scheme::RsaPkcs1(Sha256)) => &library::RSA_PKCS1_2048_8192_SHA256,
        (Algorithm::Rsa { .. }, Scheme::RsaPkcs1(Sha384)) => &library::RSA_PKCS1_2048_8192_SHA384,
        (Algorithm::Rsa { .. }, Scheme::RsaPkcs1(Sha512)) => &library::RSA_PKCS1_2048_8192_SHA512,
        (Algorithm::Rsa { .. } | Algorithm::RsaPss { .. }, Scheme::RsaPss(hash)) => match hash {
            Sha256 => &library::RSA_PSS_2048_8192_SHA256,
            Sha384 => &library::RSA_PSS_2048_8192_SHA384,
            Sha512 => &library::RSA_PSS_2048_8192_SHA512,
        },
        (Algorithm::Ecdsa(curve), Scheme::EcdsaDer(hash)) => match (curve, hash) {
            (Curve::P256, Sha256) => &library::ECDSA_P256_SHA256_ASN1,
            (Curve::P256, Sha384) => &library::ECDSA_P256_SHA384_ASN1,
            (Curve::P256, Sha512) => &library::ECDSA_P256_SHA512_ASN1,
            (Curve::P384, Sha256) => &library::ECDSA_P384_SHA256_ASN1,
            (Curve::P384, Sha384) => &library::ECDSA_P384_SHA384_ASN1,
            (Curve::P384, Sha512) => &library::ECDSA_P384_SHA512_ASN1,
            (Curve::P521, Sha256) => &library::ECDSA_P521_SHA256_ASN1,
            (Curve::P521, Sha384) => &library::ECDSA_P521_SHA384_ASN1,
            (Curve::P521, Sha512) => &library::ECDSA_P521_SHA512_ASN1,
        },
        (Algorithm::Ed25519, Scheme::Ed25519) => &library::ED25519,
        (Algorithm::MlDsa(MlDsa::MlDsa44), Scheme::MlDsa) => &library::ML_DSA_44,
        (Algorithm::MlDsa(MlDsa::MlDsa65), Scheme::MlDsa) => &library::ML_DSA_65,
        (Algorithm::MlDsa(MlDsa::MlDsa87), Scheme::MlDsa) => &library::ML_DSA_87,
        _ => return None,
    })
}
