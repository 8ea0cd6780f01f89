//! Keys on their way out of a token and into another, under a wrapping key (`C_WrapKey`, `C_UnwrapKey`).
//!
//! Under an AES key: `CKM_AES_KEY_WRAP_PAD`, AES key wrap with padding (RFC 5649). Under an RSA public key: a fresh AES-256 key is
//! wrapped with RSA-OAEP, and the key with AES key wrap with padding under that one, one after the other, which is the form of
//! `CKM_RSA_AES_KEY_WRAP` (PKCS#11 2.40, 2.1.21). What is wrapped is a PKCS#8 `PrivateKeyInfo`, or the value of a secret key.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectHandle};
use cryptoki::session::Session;
use serde::{Deserialize, Serialize};

use super::error::TokenError;
use super::facts::{FLAGS, ObjectFacts, ObjectKind, from_hex};
use super::objects::Object;

/// How keys were wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WrapFacts {
    /// The form.
    pub(super) form: WrapForm,
    /// The label of the wrapping key.
    pub(super) key_label: String,
    /// Its `CKA_ID`, in hexadecimal digits.
    pub(super) key_id: String,
    /// Who has the wrapping key, as the operator has stated it.
    pub(super) custody: String,
}

/// The form of a wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mechanism", rename_all = "kebab-case")]
pub(super) enum WrapForm {
    /// RFC 5649 under an AES key.
    AesKeyWrapPad,
    /// RSA-OAEP of an AES key, then RFC 5649 under that.
    RsaAesKeyWrap {
        /// The hash of OAEP and MGF1.
        hash: OaepHash,
        /// How many bytes the first part has.
        oaep_bytes: usize,
    },
}

/// The hash of RSA-OAEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OaepHash {
    /// SHA-256.
    Sha256,
    /// SHA-1, for tokens that know no other.
    Sha1,
}

fn oaep(hash: OaepHash) -> Mechanism<'static> {
    let (hash, mgf) = match hash {
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()))
}

/// A key that wraps others.
pub(super) struct WrappingKey {
    handle: ObjectHandle,
    pub(super) facts: WrapFacts,
    /// The same key, or its private half, where it can unwrap again.
    unwrapping: Option<ObjectHandle>,
}

impl WrappingKey {
    /// Finds the key with this label that may wrap.
    pub(super) fn find(objects: &[Object], label: &str, custody: &str) -> Result<Self, TokenError> {
        let named: Vec<&Object> = objects
            .iter()
            .filter(|object| object.facts.label == label)
            .collect();
        let wraps = |object: &&&Object| {
            let kind = object.key_type;
            object.facts.flag("wrap") == Some(true)
                && match object.facts.class {
                    ObjectKind::SecretKey => kind == Some(KeyType::AES),
                    ObjectKind::PublicKey => kind == Some(KeyType::RSA),
                    _ => false,
                }
        };
        let found: Vec<&&Object> = named.iter().filter(wraps).collect();
        let key = match found.as_slice() {
            [] if named.is_empty() => {
                return Err(TokenError::Object(format!(
                    "there is no wrapping key {label:?} in the token"
                )));
            }
            [] => {
                return Err(TokenError::Object(format!(
                    "{label:?} is no AES key and no RSA public key that may wrap (CKA_WRAP)"
                )));
            }
            [key] => key,
            _ => {
                return Err(TokenError::Object(format!(
                    "several keys with the label {label:?} may wrap; give one of them another label"
                )));
            }
        };
        if let (ObjectKind::SecretKey, Some(bits)) = (key.facts.class, key.facts.size_bits)
            && !matches!(bits, 128 | 192 | 256)
        {
            return Err(TokenError::Object(format!(
                "the wrapping key {label:?} has {bits} bits and wraps nothing, AES keys have 128, 192 or 256; was it cut when it was imported? softhsm2-util ends a key at the first zero byte or line feed"
            )));
        }
        let form = match key.facts.class {
            ObjectKind::SecretKey => WrapForm::AesKeyWrapPad,
            _ => WrapForm::RsaAesKeyWrap {
                hash: OaepHash::Sha256,
                oaep_bytes: 0,
            },
        };
        let facts = WrapFacts {
            form,
            key_label: label.to_owned(),
            key_id: key.facts.id.clone(),
            custody: custody.to_owned(),
        };
        Ok(Self {
            handle: key.handle,
            unwrapping: unwrapping(objects, &facts),
            facts,
        })
    }

    /// Whether the object is the wrapping key, or its other half.
    pub(super) fn is(&self, object: &Object) -> bool {
        object.facts.label == self.facts.key_label
            && object.facts.id == self.facts.key_id
            && object.facts.class.is_secret()
    }

    /// Wraps a key.
    pub(super) fn wrap(
        &mut self,
        session: &Session,
        key: ObjectHandle,
    ) -> Result<Vec<u8>, TokenError> {
        let WrapForm::RsaAesKeyWrap { hash, .. } = self.facts.form else {
            return session
                .wrap_key(&Mechanism::AesKeyWrapPad, self.handle, key)
                .map_err(TokenError::call("wrap it"));
        };
        let temporary = session
            .generate_key(
                &Mechanism::AesKeyGen,
                &[
                    Attribute::Token(false),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(true),
                    Attribute::Wrap(true),
                    Attribute::ValueLen(32.into()),
                ],
            )
            .map_err(TokenError::call("make a key for one wrapping"))?;
        let wrapped = self.wrap_both(session, (temporary, key), hash);
        let destroyed = session.destroy_object(temporary);
        let wrapped = wrapped?;
        destroyed.map_err(TokenError::call("destroy the key of one wrapping"))?;
        Ok(wrapped)
    }

    fn wrap_both(
        &mut self,
        session: &Session,
        (temporary, key): (ObjectHandle, ObjectHandle),
        hash: OaepHash,
    ) -> Result<Vec<u8>, TokenError> {
        let (mut hash, mut first) = (hash, session.wrap_key(&oaep(hash), self.handle, temporary));
        if hash == OaepHash::Sha256
            && let Err(Error::Pkcs11(
                RvError::MechanismParamInvalid | RvError::ArgumentsBad | RvError::MechanismInvalid,
                _,
            )) = &first
        {
            hash = OaepHash::Sha1;
            first = session.wrap_key(&oaep(hash), self.handle, temporary);
        }
        let mut wrapped = first.map_err(TokenError::call("wrap with RSA-OAEP"))?;
        self.facts.form = WrapForm::RsaAesKeyWrap {
            hash,
            oaep_bytes: wrapped.len(),
        };
        let second = session.wrap_key(&Mechanism::AesKeyWrapPad, temporary, key);
        wrapped.extend(second.map_err(TokenError::call("wrap it"))?);
        Ok(wrapped)
    }

    /// The key that unwraps again, if the token has it.
    pub(super) fn unwrapping(&self) -> Option<ObjectHandle> {
        self.unwrapping
    }
}

/// The key in this token that unwraps what was wrapped so.
pub(super) fn unwrapping(objects: &[Object], facts: &WrapFacts) -> Option<ObjectHandle> {
    let (class, kind) = match facts.form {
        WrapForm::AesKeyWrapPad => (ObjectKind::SecretKey, KeyType::AES),
        WrapForm::RsaAesKeyWrap { .. } => (ObjectKind::PrivateKey, KeyType::RSA),
    };
    let mut found = objects.iter().filter(|object| {
        object.facts.class == class
            && object.key_type == Some(kind)
            && object.facts.label == facts.key_label
            && object.facts.flag("unwrap") == Some(true)
    });
    let first = found.next();
    // In another token it may have another identifier; among several with its label, that decides.
    let same_id = |object: &&Object| object.facts.id == facts.key_id;
    let exact = first.into_iter().chain(found).find(same_id);
    exact.or(first).map(|object| object.handle)
}

/// Unwraps a key, for this session or to stay.
pub(super) fn unwrap(
    session: &Session,
    unwrapping: ObjectHandle,
    form: WrapForm,
    wrapped: &[u8],
    template: &[Attribute],
) -> Result<ObjectHandle, TokenError> {
    let last = |key, wrapped: &[u8]| {
        session
            .unwrap_key(&Mechanism::AesKeyWrapPad, key, wrapped, template)
            .map_err(TokenError::call("unwrap it"))
    };
    let WrapForm::RsaAesKeyWrap { hash, oaep_bytes } = form else {
        return last(unwrapping, wrapped);
    };
    let (first, second) = wrapped
        .split_at_checked(oaep_bytes)
        .ok_or_else(|| TokenError::Object("what was wrapped is too short".to_owned()))?;
    let temporary = session
        .unwrap_key(
            &oaep(hash),
            unwrapping,
            first,
            &[
                Attribute::Class(cryptoki::object::ObjectClass::SECRET_KEY),
                Attribute::KeyType(KeyType::AES),
                Attribute::Token(false),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Unwrap(true),
            ],
        )
        .map_err(TokenError::call("unwrap the key of one wrapping"))?;
    let key = last(temporary, second);
    let destroyed = session.destroy_object(temporary);
    let key = key?;
    destroyed.map_err(TokenError::call("destroy the key of one wrapping"))?;
    Ok(key)
}

/// The attributes that make an object what it was: class, names and flags.
pub(super) fn template(facts: &ObjectFacts, stays: bool) -> Result<Vec<Attribute>, TokenError> {
    let class = facts.class.class().ok_or_else(|| {
        TokenError::Object("objects of its class are not put into tokens".to_owned())
    })?;
    let mut template = vec![
        Attribute::Class(class),
        Attribute::Token(stays),
        Attribute::Label(facts.label.clone().into_bytes()),
    ];
    if let Some(name) = &facts.key_type {
        let kind = KEY_TYPES.iter().find(|(known, _)| known == name);
        let kind = kind.ok_or_else(|| {
            TokenError::Object(format!("keys of the kind {name} are not put into tokens"))
        })?;
        template.push(Attribute::KeyType(kind.1));
    }
    if facts.class != ObjectKind::Data {
        let id = from_hex(&facts.id)
            .ok_or_else(|| TokenError::Object("its identifier is damaged".to_owned()))?;
        template.push(Attribute::Id(id));
    }
    for flag in FLAGS {
        if let (Some(set), Some(value)) = (flag.set, facts.flag(flag.name)) {
            template.push(set(value));
        }
    }
    Ok(template)
}

/// The kinds of keys that can be put into a token again.
const KEY_TYPES: &[(&str, KeyType)] = &[
    ("RSA", KeyType::RSA),
    ("EC", KeyType::EC),
    ("EC_EDWARDS", KeyType::EC_EDWARDS),
    ("EC_MONTGOMERY", KeyType::EC_MONTGOMERY),
    ("AES", KeyType::AES),
    ("GENERIC_SECRET", KeyType::GENERIC_SECRET),
    ("DES3", KeyType::DES3),
    ("DES2", KeyType::DES2),
    ("CAMELLIA", KeyType::CAMELLIA),
    ("ARIA", KeyType::ARIA),
    ("SHA256_HMAC", KeyType::SHA256_HMAC),
    ("SHA384_HMAC", KeyType::SHA384_HMAC),
    ("SHA512_HMAC", KeyType::SHA512_HMAC),
    ("SHA_1_HMAC", KeyType::SHA_1_HMAC),
];
