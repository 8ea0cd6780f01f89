//! Fixed keys that the fuzz targets and the seeds share.
//!
//! They protect nothing. They are fixed so that a seed or a finding of one process opens in the next.

use std::io::Write as _;
use std::sync::LazyLock;

use strongroom_core::format::dsse::SigningKey;
use strongroom_core::format::repository_document::RepositoryDocument;
use strongroom_core::format::seal::{BoxedIdentity, EpochIdentity, EpochRecipient};
use strongroom_core::format::{Digest, RepositoryId};
use strongroom_core::source::Class;

/// The payload type of repository documents (docs/format.md, section 2).
pub const REPOSITORY_KIND: &str = "application/vnd.strongroom.repository+json";
/// The payload type of envelopes.
pub const ENVELOPE_KIND: &str = "application/vnd.strongroom.envelope+json";
/// The payload type of custody records.
pub const CUSTODY_KIND: &str = "application/vnd.strongroom.custody+json";
/// The payload type of holds.
pub const HOLD_KIND: &str = "application/vnd.strongroom.hold+json";
/// The payload type of records of expired backups.
pub const EXPIRED_KIND: &str = "application/vnd.strongroom.expired+json";

/// What stands before the 32 secret bytes of an Ed25519 key in PKCS#8 version 1 (RFC 8410).
pub const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The identity of the one custodian.
const CUSTODIAN: &str =
    "AGE-SECRET-KEY-1QJLEQ8L5MT5CTRHM534YNR7N90WQ38EXF6N6C0PU86H0AS8K5LZSFT9RLQ";
/// The identity of the one epoch.
const EPOCH: &str = "AGE-SECRET-KEY-1KHUCS77STWTN73TM85XRF9E2KC5J98UU7XXRN5ET48JXDP9TESDSEWZ8A0";

/// The key that signs everything.
pub static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| {
    let der = [PKCS8_PREFIX.as_slice(), &[7; 32]].concat();
    SigningKey::from_pkcs8(&der).expect("a fixed key")
});

/// The custodian, as the identities that open an epoch.
pub static CUSTODIANS: LazyLock<Vec<BoxedIdentity>> = LazyLock::new(|| vec![Box::new(custodian())]);

/// The epoch that everything is sealed to.
pub static EPOCH_IDENTITY: LazyLock<EpochIdentity> = LazyLock::new(|| {
    let sealed = seal_to_custodian(EPOCH.as_bytes());
    EpochIdentity::open(&sealed, &CUSTODIANS).expect("a fixed epoch")
});

/// The public half of [`EPOCH_IDENTITY`].
pub static EPOCH_RECIPIENT: LazyLock<EpochRecipient> = LazyLock::new(|| EPOCH_IDENTITY.recipient());

/// Revision 1 of the repository that envelopes belong to.
pub static DOCUMENT: LazyLock<RepositoryDocument> = LazyLock::new(|| RepositoryDocument {
    format: 1,
    repository: RepositoryId::from_bytes([3; 16]),
    revision: 1,
    previous: None,
    deployment: "example-ca".into(),
    name: "offsite".into(),
    created: jiff::Timestamp::UNIX_EPOCH,
    accepts: Class::ALL.to_vec(),
    recipients: vec![custodian().to_public().to_string()],
    writers: [(SIGNER.id(), SIGNER.verifying_key().to_base64())].into(),
});

/// The digest of [`DOCUMENT`] as it is stored.
pub static DOCUMENT_DIGEST: LazyLock<Digest> =
    LazyLock::new(|| Digest::of(&DOCUMENT.sign(&SIGNER)));

fn custodian() -> age::x25519::Identity {
    CUSTODIAN.parse().expect("a fixed identity")
}

/// Seals `plain` to the epoch.
pub fn seal_to_epoch(plain: &[u8]) -> Vec<u8> {
    let mut writer = EPOCH_RECIPIENT.seal(Vec::new()).expect("age seals");
    writer.write_all(plain).expect("memory takes bytes");
    writer.finish().expect("memory takes bytes")
}

/// Seals `plain` to the custodian.
pub fn seal_to_custodian(plain: &[u8]) -> Vec<u8> {
    let recipient = custodian().to_public();
    let recipients = std::iter::once(&recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).expect("one recipient");
    let mut writer = encryptor.wrap_output(Vec::new()).expect("age seals");
    writer.write_all(plain).expect("memory takes bytes");
    writer.finish().expect("memory takes bytes")
}

/// Writes `bytes` as base64 with padding, for the PEM form of keys.
pub fn base64(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for triple in bytes.chunks(3) {
        let mut word = 0;
        for place in 0..3 {
            word = word << 8 | u32::from(triple.get(place).copied().unwrap_or(0));
        }
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            let letter = if place <= triple.len() { letter } else { b'=' };
            write!(text, "{}", char::from(letter)).expect("a string takes text");
        }
    }
    text
}
