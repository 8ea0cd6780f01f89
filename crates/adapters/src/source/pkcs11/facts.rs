//! What is recorded of an object: class, names, flags, digests; no secrets.

use std::collections::BTreeMap;

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use serde::{Deserialize, Serialize};
use strongroom_core::format::{Digest, id};

/// The classes of objects that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ObjectKind {
    /// An X.509 certificate.
    Certificate,
    /// A public key.
    PublicKey,
    /// Data of an application.
    Data,
    /// A secret key.
    SecretKey,
    /// A private key.
    PrivateKey,
    /// Anything else.
    Other,
}

impl ObjectKind {
    pub(super) const fn class(self) -> Option<ObjectClass> {
        Some(match self {
            Self::Certificate => ObjectClass::CERTIFICATE,
            Self::PublicKey => ObjectClass::PUBLIC_KEY,
            Self::Data => ObjectClass::DATA,
            Self::SecretKey => ObjectClass::SECRET_KEY,
            Self::PrivateKey => ObjectClass::PRIVATE_KEY,
            Self::Other => return None,
        })
    }

    pub(super) const fn of(class: ObjectClass) -> Self {
        match class {
            ObjectClass::CERTIFICATE => Self::Certificate,
            ObjectClass::PUBLIC_KEY => Self::PublicKey,
            ObjectClass::DATA => Self::Data,
            ObjectClass::SECRET_KEY => Self::SecretKey,
            ObjectClass::PRIVATE_KEY => Self::PrivateKey,
            _ => Self::Other,
        }
    }

    /// In words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PublicKey => "public key",
            Self::Data => "data object",
            Self::SecretKey => "secret key",
            Self::PrivateKey => "private key",
            Self::Other => "object",
        }
    }

    /// As a part of a path.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::PublicKey => "public-key",
            Self::Data => "data",
            Self::SecretKey => "secret-key",
            Self::PrivateKey => "private-key",
            Self::Other => "other",
        }
    }

    /// The `type` of RFC 7512.
    pub(super) const fn uri_type(self) -> &'static str {
        match self {
            Self::Certificate => "cert",
            Self::PublicKey => "public",
            Self::Data | Self::Other => "data",
            Self::SecretKey => "secret-key",
            Self::PrivateKey => "private",
        }
    }

    /// Whether it is a key that must not leave the token in the clear.
    pub(super) const fn is_secret(self) -> bool {
        matches!(self, Self::SecretKey | Self::PrivateKey)
    }
}

/// One flag: its name in the facts, its attribute, and whether a new object can be given it.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: AttributeType,
    /// None for what only the token's history decides.
    pub(super) set: Option<fn(bool) -> Attribute>,
}

const fn settable(name: &'static str, kind: AttributeType, set: fn(bool) -> Attribute) -> Flag {
    Flag {
        name,
        kind,
        set: Some(set),
    }
}

const fn history(name: &'static str, kind: AttributeType) -> Flag {
    Flag {
        name,
        kind,
        set: None,
    }
}

/// The flags of objects.
pub(super) const FLAGS: &[Flag] = &[
    settable("private", AttributeType::Private, Attribute::Private),
    settable("sensitive", AttributeType::Sensitive, Attribute::Sensitive),
    settable(
        "extractable",
        AttributeType::Extractable,
        Attribute::Extractable,
    ),
    settable("sign", AttributeType::Sign, Attribute::Sign),
    settable(
        "sign_recover",
        AttributeType::SignRecover,
        Attribute::SignRecover,
    ),
    settable("verify", AttributeType::Verify, Attribute::Verify),
    settable(
        "verify_recover",
        AttributeType::VerifyRecover,
        Attribute::VerifyRecover,
    ),
    settable("encrypt", AttributeType::Encrypt, Attribute::Encrypt),
    settable("decrypt", AttributeType::Decrypt, Attribute::Decrypt),
    settable("wrap", AttributeType::Wrap, Attribute::Wrap),
    settable("unwrap", AttributeType::Unwrap, Attribute::Unwrap),
    settable("derive", AttributeType::Derive, Attribute::Derive),
    settable(
        "wrap_with_trusted",
        AttributeType::WrapWithTrusted,
        Attribute::WrapWithTrusted,
    ),
    settable(
        "always_authenticate",
        AttributeType::AlwaysAuthenticate,
        Attribute::AlwaysAuthenticate,
    ),
    settable(
        "modifiable",
        AttributeType::Modifiable,
        Attribute::Modifiable,
    ),
    settable("copyable", AttributeType::Copyable, Attribute::Copyable),
    settable(
        "destroyable",
        AttributeType::Destroyable,
        Attribute::Destroyable,
    ),
    history("always_sensitive", AttributeType::AlwaysSensitive),
    history("never_extractable", AttributeType::NeverExtractable),
    history("local", AttributeType::Local),
    history("trusted", AttributeType::Trusted),
];

/// What is recorded of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectFacts {
    /// Its class.
    pub(super) class: ObjectKind,
    /// `CKA_ID`, in hexadecimal digits.
    pub(super) id: String,
    /// `CKA_LABEL`.
    pub(super) label: String,
    /// `RSA`, `EC`, `AES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_type: Option<String>,
    /// The algorithm, where it is known here: `RSA-3072`, `ECDSA P-256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) algorithm: Option<String>,
    /// The size of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size_bits: Option<u64>,
    /// The digest of the `SubjectPublicKeyInfo`: of a private key, that under which its signature was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spki_sha256: Option<Digest>,
    /// The digest of a certificate or of data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value_sha256: Option<Digest>,
    /// `CKA_CHECK_VALUE` of a secret key, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) check_value: Option<String>,
    /// `CKA_EC_PARAMS`, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ec_params: Option<String>,
    /// `CKA_APPLICATION` of data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) application: Option<String>,
    /// The subject of a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// When a certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<String>,
    /// Its flags, as far as the token tells them.
    pub(super) flags: BTreeMap<String, bool>,
    /// How servers name it (RFC 7512).
    pub(super) uri: String,
    /// Whether a private key has signed what this certificate or public key verifies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proved: Option<bool>,
    /// The path of its stream, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<String>,
}

impl ObjectFacts {
    /// In words.
    pub(super) fn words(&self) -> String {
        let id = if self.id.is_empty() { "none" } else { &self.id };
        format!("{} {:?} (id {id})", self.class.words(), self.label)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.flags.get(name).copied()
    }

    /// Whether two objects hold the same key or content; false where that cannot be told.
    pub(super) fn holds_the_same(&self, other: &Self) -> bool {
        let same = |left: Option<&Digest>, right: Option<&Digest>| left.is_some() && left == right;
        self.class == other.class
            && match self.class {
                ObjectKind::Certificate | ObjectKind::Data => {
                    same(self.value_sha256.as_ref(), other.value_sha256.as_ref())
                }
                ObjectKind::PublicKey | ObjectKind::PrivateKey => {
                    same(self.spki_sha256.as_ref(), other.spki_sha256.as_ref())
                }
                ObjectKind::SecretKey => {
                    self.check_value.is_some()
                        && self.check_value == other.check_value
                        && self.size_bits == other.size_bits
                        && self.key_type == other.key_type
                }
                ObjectKind::Other => false,
            }
    }

    /// Whether two objects go by the same names.
    pub(super) fn is_named_as(&self, other: &Self) -> bool {
        self.id == other.id && self.label == other.label
    }
}

/// The hexadecimal digits of an identifier.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| id::from_hex::<1>(std::str::from_utf8(pair).ok()?);
    let bytes = digits.chunks(2).map(byte);
    bytes.map(|byte| byte.map(|[byte]| byte)).collect()
}
