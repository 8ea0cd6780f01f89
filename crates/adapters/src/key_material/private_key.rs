//! Private keys: what they are, and a nonce signed by them.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as library;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, PqdsaKeyPair, RsaKeyPair};
use der::asn1::{ContextSpecific, OctetStringRef};
use der::{Any, AnyRef, Decode as _, Header, SliceReader, Tag, TagNumber};
use strongroom_core::format::id;
use x509_cert::spki::AlgorithmIdentifierRef;

use super::algorithm::{self, Algorithm, Curve, MlDsa};
use super::public_key::Hash;
use super::{KeyMaterialError, PublicKey, Scheme};

/// A private key that can sign.
pub(crate) struct PrivateKey {
    signer: Signer,
    public: PublicKey,
}

/// A random number that a private key has signed: who verifies it has the other half.
pub(crate) struct SignedNonce {
    pub(super) nonce: [u8; 32],
    pub(super) scheme: Scheme,
    pub(super) signature: Vec<u8>,
}

enum Signer {
    Rsa(RsaKeyPair),
    RsaPss(RsaKeyPair),
    Ecdsa(EcdsaKeyPair, Hash),
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair),
}

impl PrivateKey {
    /// Reads `PrivateKeyInfo` (RFC 5208) or `OneAsymmetricKey` (RFC 5958).
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyMaterialError> {
        let (identifier, inner) = pkcs8_parts(der).ok_or(KeyMaterialError::PrivateKey)?;
        // Without the public key nobody knows yet how long a modulus is.
        match Algorithm::of(&identifier, &[]) {
            Algorithm::Other(algorithm::RSA, _) => {
                short_or_long(inner)?;
                Self::rsa(RsaKeyPair::from_pkcs8(der).ok(), Signer::Rsa)
            }
            Algorithm::Other(algorithm::RSA_PSS, _) => {
                short_or_long(inner)?;
                let key = Self::rsa(RsaKeyPair::from_der(inner).ok(), Signer::RsaPss)?;
                key.with_parameters(&identifier)
            }
            Algorithm::Ecdsa(curve) => Self::ecdsa(der, curve),
            Algorithm::Ed25519 => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok();
                Self::from_ed25519(key.ok_or(KeyMaterialError::PrivateKey)?)
            }
            Algorithm::MlDsa(set) => {
                let set = match set {
                    MlDsa::MlDsa44 => &library::ML_DSA_44_SIGNING,
                    MlDsa::MlDsa65 => &library::ML_DSA_65_SIGNING,
                    MlDsa::MlDsa87 => &library::ML_DSA_87_SIGNING,
                };
                let key = PqdsaKeyPair::from_pkcs8(set, der).ok();
                let key = key.ok_or(KeyMaterialError::PrivateKey)?;
                let public = key.public_key().as_der();
                Self::new(public, Signer::MlDsa(key))
            }
            other if other.is_stateful() => Err(KeyMaterialError::Stateful(other.to_string())),
            other => Err(KeyMaterialError::Unprovable(other.to_string())),
        }
    }

    /// Reads `RSAPrivateKey` (RFC 8017, A.1.2).
    pub(crate) fn from_pkcs1(der: &[u8]) -> Result<Self, KeyMaterialError> {
        short_or_long(der)?;
        Self::rsa(RsaKeyPair::from_der(der).ok(), Signer::Rsa)
    }

    /// Reads `ECPrivateKey` (RFC 5915).
    pub(crate) fn from_sec1(der: &[u8]) -> Result<Self, KeyMaterialError> {
        match sec1_curve(der) {
            Some(Algorithm::Ecdsa(curve)) => Self::ecdsa(der, curve),
            // Taken out of PKCS#8, where the curve stands outside: the length tells.
            Some(Algorithm::Other(_, None)) => [Curve::P256, Curve::P384, Curve::P521]
                .into_iter()
                .find_map(|curve| Self::ecdsa(der, curve).ok())
                .ok_or_else(|| {
                    let unnamed = Algorithm::Other(algorithm::EC, None);
                    KeyMaterialError::Unprovable(unnamed.to_string())
                }),
            Some(other) => Err(KeyMaterialError::Unprovable(other.to_string())),
            None => Err(KeyMaterialError::PrivateKey),
        }
    }

    /// A key of the library.
    pub(super) fn from_ed25519(key: Ed25519KeyPair) -> Result<Self, KeyMaterialError> {
        let public = key.public_key().as_der();
        Self::new(public, Signer::Ed25519(key))
    }

    /// A key of the library, which signs with the digest as long as its curve.
    pub(super) fn from_ecdsa(key: EcdsaKeyPair, curve: Curve) -> Result<Self, KeyMaterialError> {
        let hash = match curve {
            Curve::P256 => Hash::Sha256,
            Curve::P384 => Hash::Sha384,
            Curve::P521 => Hash::Sha512,
        };
        let public = key.public_key().as_der();
        Self::new(public, Signer::Ecdsa(key, hash))
    }

    /// Its other half.
    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a fresh nonce.
    pub(crate) fn sign(&self) -> Result<SignedNonce, KeyMaterialError> {
        let nonce = id::random::<32>().map_err(|_| KeyMaterialError::Signing)?;
        let random = SystemRandom::new();
        let rsa = |key: &RsaKeyPair, padding| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, &nonce, &mut signature)?;
            Ok(signature)
        };
        let (scheme, signature) = match &self.signer {
            Signer::Rsa(key) => (
                Scheme::RsaPkcs1(Hash::Sha256),
                rsa(key, &library::RSA_PKCS1_SHA256),
            ),
            Signer::RsaPss(key) => (
                Scheme::RsaPss(Hash::Sha256),
                rsa(key, &library::RSA_PSS_SHA256),
            ),
            Signer::Ecdsa(key, hash) => (
                Scheme::EcdsaDer(*hash),
                key.sign(&random, &nonce)
                    .map(|signature| signature.as_ref().to_vec()),
            ),
            Signer::Ed25519(key) => (Scheme::Ed25519, Ok(key.sign(&nonce).as_ref().to_vec())),
            Signer::MlDsa(key) => {
                let mut signature = vec![0; key.algorithm().signature_len()];
                let length = key.sign(&nonce, &mut signature);
                (
                    Scheme::MlDsa,
                    length.map(|length| {
                        signature.truncate(length);
                        signature
                    }),
                )
            }
        };
        let signature = signature.map_err(|_| KeyMaterialError::Signing)?;
        Ok(SignedNonce {
            nonce,
            scheme,
            signature,
        })
    }

    fn rsa(
        key: Option<RsaKeyPair>,
        signer: fn(RsaKeyPair) -> Signer,
    ) -> Result<Self, KeyMaterialError> {
        let key = key.ok_or(KeyMaterialError::PrivateKey)?;
        let public = key.public_key().as_der();
        Self::new(public, signer(key))
    }

    /// Takes PKCS#8 or SEC 1.
    fn ecdsa(der: &[u8], curve: Curve) -> Result<Self, KeyMaterialError> {
        let scheme = match curve {
            Curve::P256 => &library::ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &library::ECDSA_P384_SHA384_ASN1_SIGNING,
            Curve::P521 => &library::ECDSA_P521_SHA512_ASN1_SIGNING,
        };
        let key = EcdsaKeyPair::from_private_key_der(scheme, der).ok();
        Self::from_ecdsa(key.ok_or(KeyMaterialError::PrivateKey)?, curve)
    }

    fn new(
        public: Result<PublicKeyX509Der<'_>, Unspecified>,
        signer: Signer,
    ) -> Result<Self, KeyMaterialError> {
        let public = public.map_err(|_| KeyMaterialError::PrivateKey)?;
        let public = PublicKey::from_spki_der(public.as_ref())?;
        Ok(Self { signer, public })
    }

    /// The public key under the identifier of the private one: PSS with or without parameters.
    fn with_parameters(
        mut self,
        identifier: &AlgorithmIdentifierRef<'_>,
    ) -> Result<Self, KeyMaterialError> {
        let parameters = identifier.parameters.map(Any::from);
        self.public = PublicKey::from_parts(identifier.oid, parameters, self.public.bits())?;
        Ok(self)
    }
}

/// The algorithm and the octets of a `PrivateKeyInfo`; what follows them is not looked at.
fn pkcs8_parts(der: &[u8]) -> Option<(AlgorithmIdentifierRef<'_>, &[u8])> {
    let mut reader = sequence(der)?;
    let version = u8::decode(&mut reader).ok()?;
    let identifier = AlgorithmIdentifierRef::decode(&mut reader).ok()?;
    let inner = <&OctetStringRef>::decode(&mut reader).ok()?;
    (version <= 1).then_some((identifier, inner.as_bytes()))
}

/// The curve of an `ECPrivateKey` (RFC 5915).
fn sec1_curve(der: &[u8]) -> Option<Algorithm> {
    let mut reader = sequence(der)?;
    u8::decode(&mut reader).ok()?;
    <&OctetStringRef>::decode(&mut reader).ok()?;
    let parameters = ContextSpecific::<AnyRef<'_>>::decode_explicit(&mut reader, TagNumber(0));
    let parameters = parameters.ok()?.map(|parameters| parameters.value);
    let oid = algorithm::EC;
    Some(Algorithm::of(
        &AlgorithmIdentifierRef { oid, parameters },
        &[],
    ))
}

/// What is in a sequence.
fn sequence(der: &[u8]) -> Option<SliceReader<'_>> {
    let mut reader = SliceReader::new(der).ok()?;
    let header = Header::decode(&mut reader).ok()?;
    (header.tag() == Tag::Sequence).then_some(reader)
}

/// Refuses RSA keys that the library refuses for their length alone.
fn short_or_long(pkcs1: &[u8]) -> Result<(), KeyMaterialError> {
    match algorithm::rsa_private_bits(pkcs1) {
        Some(bits) if !(2048..=8192).contains(&bits) => Err(KeyMaterialError::Unprovable(
            Algorithm::Rsa { bits }.to_string(),
        )),
        _ => Ok(()),
    }
}
