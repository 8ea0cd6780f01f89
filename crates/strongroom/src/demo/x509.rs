//! Certificates and CRLs as RFC 5280 has them: what is put in, and how a signature is looked at again.
//!
//! Signing is rcgen's. Parsing and verifying are not, so that a proof never asks the code that wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use aws_lc_rs::{digest, rand};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::{Decode as _, Document, ErrorKind, Reader as _, SliceReader};
use x509_cert::time::Time;
use zeroize::Zeroizing;

use super::error::DemoError;

/// Length of a serial number; RFC 5280, 4.1.2.2 allows 20 octets and asks for a positive integer.
const SERIAL_BYTES: usize = 16;

/// ecdsa-with-SHA256, RFC 5758, 3.2, as a DER `AlgorithmIdentifier`.
const ECDSA_WITH_SHA256: [u8; 12] = [
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];

/// id-ce-cRLNumber, RFC 5280, 5.2.3.
const CRL_NUMBER: &str = "2.5.29.20";

/// id-ce-cRLReasons, RFC 5280, 5.3.1.
const CRL_REASON: &str = "2.5.29.21";

/// A new key for ECDSA on P-256.
pub(super) fn new_key() -> Result<KeyPair, DemoError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(DemoError::sign("generate a key"))
}

/// The key that stands in a PEM file.
pub(super) fn load_key(path: &Path) -> Result<KeyPair, DemoError> {
    let text =
        Zeroizing::new(std::fs::read_to_string(path).map_err(DemoError::file("read", path))?);
    KeyPair::from_pem(&text).map_err(DemoError::sign(format!("load the key {}", path.display())))
}

/// Parameters of a CA certificate. What an issuer needs of them is the same for the same `name`.
pub(super) fn ca_params(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Parameters of a TLS server certificate for `name`, which names where its CRL is found.
pub(super) fn end_entity_params(name: &str, crl_url: &str) -> Result<CertificateParams, DemoError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.subject_alt_names = vec![SanType::DnsName(
        name.try_into()
            .map_err(DemoError::sign(format!("put {name} into a certificate")))?,
    )];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.crl_distribution_points = vec![CrlDistributionPoint {
        uris: vec![crl_url.to_owned()],
    }];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Sets notBefore and notAfter.
pub(super) fn set_validity(
    params: &mut CertificateParams,
    from: jiff::Timestamp,
    until: jiff::Timestamp,
) {
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(until);
}

/// Seconds since 1970, none for a time before it.
pub(super) fn since_epoch(time: jiff::Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
}

/// A random serial number: the top bit clear, so that it is positive, and the next one set, so that
/// it is always 16 octets long; 126 bits are random.
pub(super) fn new_serial() -> Result<[u8; SERIAL_BYTES], DemoError> {
    let mut serial: [u8; SERIAL_BYTES] = random()?;
    serial[0] = (serial[0] & 0x7f) | 0x40;
    Ok(serial)
}

/// The serial number that is written in hexadecimal.
pub(super) fn parse_serial(text: &str) -> Option<SerialNumber> {
    let digits = text.as_bytes();
    let mut bytes = Vec::with_capacity(SERIAL_BYTES);
    for pair in digits.chunks(2) {
        let pair = str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        bytes.push(u8::from_str_radix(pair, 16).ok()?);
    }
    Some(SerialNumber::from_slice(&bytes))
}

/// Random bytes from the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], DemoError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| DemoError::Random)?;
    Ok(bytes)
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

/// A certificate with the bytes it was read from.
pub(super) struct Parsed {
    /// The bytes.
    pub(super) der: Vec<u8>,
    /// What they say.
    pub(super) certificate: Certificate,
}

impl Parsed {
    /// Reads a PEM file.
    pub(super) fn load(path: &Path) -> Result<Self, DemoError> {
        let what = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(DemoError::file("read", path))?;
        let (_, document) = Document::from_pem(&text).map_err(DemoError::parse(&what))?;
        Self::from_der(document.as_bytes(), &what)
    }

    /// Parses DER; `what` is how an error calls it.
    pub(super) fn from_der(der: &[u8], what: &str) -> Result<Self, DemoError> {
        Ok(Self {
            der: der.to_vec(),
            certificate: Certificate::from_der(der).map_err(DemoError::parse(what))?,
        })
    }

    /// The public key, as an uncompressed point.
    pub(super) fn public_key(&self) -> &[u8] {
        let spki = self.certificate.tbs_certificate().subject_public_key_info();
        spki.subject_public_key.raw_bytes()
    }

    /// The serial number in hexadecimal.
    pub(super) fn serial(&self) -> String {
        hex(self
            .certificate
            .tbs_certificate()
            .serial_number()
            .as_bytes())
    }

    /// Whether `issuer` is the one this certificate names, and signed it.
    pub(super) fn check_issued_by(&self, issuer: &Self, what: &str) -> Result<(), DemoError> {
        let name = issuer.certificate.tbs_certificate().subject();
        if self.certificate.tbs_certificate().issuer() != name {
            return Err(DemoError::Signature {
                what: format!("{what}, which names another issuer,"),
            });
        }
        verify(&self.der, issuer.public_key(), what)
    }
}

/// Verifies the signature on a DER certificate or CRL, over the bytes as they stand in it.
pub(super) fn verify(der: &[u8], public_key: &[u8], what: &str) -> Result<(), DemoError> {
    let parse = DemoError::parse(what);
    let outer = AnyRef::from_der(der).map_err(&parse)?;
    let mut reader = SliceReader::new(outer.value()).map_err(&parse)?;
    let signed = reader.tlv_bytes().map_err(&parse)?;
    let algorithm = reader.tlv_bytes().map_err(&parse)?;
    let signature = BitStringRef::decode(&mut reader).map_err(&parse)?;
    reader.finish().map_err(&parse)?;
    if algorithm == ECDSA_WITH_SHA256 && verify_raw(signed, signature.raw_bytes(), public_key) {
        Ok(())
    } else {
        Err(DemoError::Signature {
            what: what.to_owned(),
        })
    }
}

/// Whether `signature` over `message` is by the key with this uncompressed point.
pub(super) fn verify_raw(message: &[u8], signature: &[u8], public_key: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key)
        .verify(message, signature)
        .is_ok()
}

/// Parses a CRL.
pub(super) fn parse_crl(der: &[u8]) -> Result<CertificateList, DemoError> {
    CertificateList::from_der(der).map_err(DemoError::parse("the CRL"))
}

/// The entries of a CRL: by serial number in hexadecimal, the time and the code of the reason.
pub(super) fn crl_entries(crl: &CertificateList) -> BTreeMap<String, (String, i64)> {
    let entries = crl.tbs_cert_list.revoked_certificates.iter().flatten();
    entries
        .map(|entry| {
            let mut extensions = entry.crl_entry_extensions.iter().flatten();
            let reason = extensions
                .find(|extension| extension.extn_id.to_string() == CRL_REASON)
                // An ENUMERATED of one octet: its value is the last.
                .and_then(|extension| extension.extn_value.as_bytes().last().copied());
            let at = rfc3339(entry.revocation_date);
            let serial = hex(entry.serial_number.as_bytes());
            (serial, (at, reason.map_or(0, i64::from)))
        })
        .collect()
}

/// A time as the database and the log write it.
pub(super) fn rfc3339(time: Time) -> String {
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// The number of a CRL.
pub(super) fn crl_number(crl: &CertificateList) -> Result<i64, DemoError> {
    let extensions = crl.tbs_cert_list.crl_extensions.iter().flatten();
    let number = extensions
        .filter(|extension| extension.extn_id.to_string() == CRL_NUMBER)
        .map(|extension| i64::from_der(extension.extn_value.as_bytes()))
        .next()
        .unwrap_or_else(|| Err(ErrorKind::Failed.into()));
    number.map_err(DemoError::parse("the number of the CRL"))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
