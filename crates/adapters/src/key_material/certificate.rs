//! Certificates (RFC 5280): whose key it is, for how long, and who says so.

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _, Header, Reader as _, SliceReader};
use jiff::Timestamp;
use strongroom_core::format::Digest;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectKeyIdentifier,
};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::name::ComparedName;
use super::public_key::Hash;
use super::{KeyMaterialError, PemBlocks, PublicKey, Scheme};

/// How certificates are called in PEM (RFC 7468, section 5).
pub(super) const LABELS: [&[u8]; 2] = [b"CERTIFICATE", b"X509 CERTIFICATE"];

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The name, as RFC 4514 writes it.
    pub(crate) subject: String,
    /// The name of who signed it.
    pub(crate) issuer: String,
    /// From when on it is valid.
    pub(crate) not_before: Timestamp,
    /// Until when it is valid.
    pub(crate) not_after: Timestamp,
    /// Whether it may sign certificates (basic constraints).
    pub(crate) is_ca: bool,
    /// The key.
    pub(crate) public_key: PublicKey,
    /// The SHA-256 of the whole.
    pub(crate) sha256: Digest,
    /// Why it may not sign certificates; `None` also where what it says of that cannot be read.
    no_issuer: Option<&'static str>,
    path_length: Option<u8>,
    names: [ComparedName; 2],
    /// How its issuer calls the key.
    subject_key_id: Option<Vec<u8>>,
    /// How its issuer calls its own.
    issuer_key_id: Option<Vec<u8>>,
    /// What is signed.
    signed: Vec<u8>,
    scheme: Option<Scheme>,
    signature: Vec<u8>,
}

/// What a signature shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issued {
    /// This very key signed it.
    Yes,
    /// It did not.
    No,
    /// Nobody here can tell: the algorithm of the signature is not one of ours.
    Unknown,
}

impl Certificate {
    /// Reads the first certificate of a PEM file, or a DER file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, KeyMaterialError> {
        match PemBlocks(bytes).find(|block| LABELS.contains(&block.label)) {
            Some(block) => Self::from_der(&block.decode()?),
            None => Self::from_der(bytes),
        }
    }

    /// Reads a certificate in DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, KeyMaterialError> {
        // Serial numbers that are longer than RFC 5280 allows are no reason not to prove a key.
        let parsed: CertificateInner<Raw> =
            CertificateInner::from_der(der).map_err(KeyMaterialError::NoCertificate)?;
        let inner = parsed.tbs_certificate();
        let spki = inner.subject_public_key_info().to_der();
        let own = inner.get_extension::<SubjectKeyIdentifier>().ok().flatten();
        let other = inner.get_extension::<AuthorityKeyIdentifier>();
        let other = other
            .ok()
            .flatten()
            .and_then(|(_, other)| other.key_identifier);
        let constraints = inner.get_extension::<BasicConstraints>();
        let usage = inner.get_extension::<KeyUsage>();
        let no_issuer = match (&constraints, &usage) {
            (Ok(None), _) => Some("it has no basic constraints"),
            (Ok(Some((_, constraints))), _) if !constraints.ca => {
                Some("its basic constraints say that it is no CA")
            }
            (_, Ok(Some((_, usage)))) if !usage.key_cert_sign() => {
                Some("its key usage has no keyCertSign")
            }
            _ => None,
        };
        let constraints = constraints.ok().flatten().map(|(_, found)| found);
        Ok(Self {
            subject: inner.subject().to_string(),
            issuer: inner.issuer().to_string(),
            not_before: timestamp(inner.validity().not_before),
            not_after: timestamp(inner.validity().not_after),
            is_ca: constraints.as_ref().is_some_and(|one| one.ca),
            public_key: PublicKey::from_spki_der(&spki.map_err(KeyMaterialError::PublicKey)?)?,
            sha256: Digest::of(der),
            no_issuer,
            path_length: constraints.and_then(|one| one.path_len_constraint),
            names: [inner.subject(), inner.issuer()].map(ComparedName::of),
            issuer_key_id: other.map(|id| id.as_bytes().to_vec()),
            subject_key_id: own.map(|(_, id)| id.0.as_bytes().to_vec()),
            signed: first_part(der).map_err(KeyMaterialError::NoCertificate)?,
            scheme: scheme(parsed.signature_algorithm()),
            signature: parsed.signature().raw_bytes().to_vec(),
        })
    }

    /// How its issuer calls the key (`CKA_ID` of many tokens).
    #[cfg_attr(not(test), expect(dead_code, reason = "for keys in tokens"))]
    pub(crate) fn subject_key_id(&self) -> Option<&[u8]> {
        self.subject_key_id.as_deref()
    }

    /// Whether it names itself as its issuer.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.is_named_as_issuer_of(self)
    }

    /// Whether it has the name that another one gives its issuer.
    pub(crate) fn is_named_as_issuer_of(&self, other: &Self) -> bool {
        self.names[0] == other.names[1]
    }

    /// Whether it says that another key than its own signed it.
    pub(crate) fn is_by_another_key(&self) -> bool {
        self.issuer_key_id.is_some() && self.issuer_key_id != self.subject_key_id
    }

    /// Why it may not sign certificates (basic constraints, key usage), if it may not.
    pub(crate) fn why_no_issuer(&self) -> Option<&'static str> {
        self.no_issuer
    }

    /// How many CAs may stand between it and the last certificate, those not counted that are their own issuers.
    pub(crate) fn path_length(&self) -> Option<u8> {
        self.path_length
    }

    /// Whether it is valid at a time.
    pub(crate) fn is_valid_at(&self, time: Timestamp) -> bool {
        self.not_before <= time && time <= self.not_after
    }

    /// Whether the key of another certificate signed this one.
    pub(crate) fn is_signed_by(&self, other: &Self) -> Issued {
        match self.scheme {
            Some(_) if !other.public_key.algorithm().is_provable() => Issued::Unknown,
            Some(scheme)
                if other
                    .public_key
                    .verify(scheme, &self.signed, &self.signature) =>
            {
                Issued::Yes
            }
            Some(_) => Issued::No,
            None => Issued::Unknown,
        }
    }
}

/// The first element of a sequence as it stands there: what a signature is made over.
fn first_part(der: &[u8]) -> der::Result<Vec<u8>> {
    let mut reader = SliceReader::new(der)?;
    Header::decode(&mut reader)?;
    Ok(reader.tlv_bytes()?.to_vec())
}

fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// The scheme of a signature (RFC 4055, RFC 5758, RFC 8410, RFC 9881); none for those that nobody verifies here: SHA-1, MD5, DSA.
fn scheme(algorithm: &AlgorithmIdentifierOwned) -> Option<Scheme> {
    const fn oid(text: &str) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(text)
    }
    const SCHEMES: [(ObjectIdentifier, Scheme); 10] = [
        (oid("1.2.840.113549.1.1.11"), Scheme::RsaPkcs1(Hash::Sha256)),
        (oid("1.2.840.113549.1.1.12"), Scheme::RsaPkcs1(Hash::Sha384)),
        (oid("1.2.840.113549.1.1.13"), Scheme::RsaPkcs1(Hash::Sha512)),
        (oid("1.2.840.10045.4.3.2"), Scheme::EcdsaDer(Hash::Sha256)),
        (oid("1.2.840.10045.4.3.3"), Scheme::EcdsaDer(Hash::Sha384)),
        (oid("1.2.840.10045.4.3.4"), Scheme::EcdsaDer(Hash::Sha512)),
        (oid("1.3.101.112"), Scheme::Ed25519),
        (oid("2.16.840.1.101.3.4.3.17"), Scheme::MlDsa),
        (oid("2.16.840.1.101.3.4.3.18"), Scheme::MlDsa),
        (oid("2.16.840.1.101.3.4.3.19"), Scheme::MlDsa),
    ];
    SCHEMES
        .iter()
        .find(|(oid, _)| *oid == algorithm.oid)
        .map(|(_, scheme)| *scheme)
}
