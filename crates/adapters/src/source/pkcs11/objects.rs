//! What a token holds: its objects, read attribute by attribute, without secrets.

use std::collections::BTreeMap;

use cryptoki::object::{Attribute, AttributeType, CertificateType, KeyType, ObjectHandle};
use cryptoki::session::Session;
use strongroom_core::format::{Digest, id};
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use super::error::TokenError;
use super::facts::{FLAGS, ObjectFacts, ObjectKind};
use super::module::TokenFacts;
use super::public_key::PublicKey;

/// An object of an open token.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) handle: ObjectHandle,
    /// What a token was interrupted in making may have none yet.
    pub(super) has_class: bool,
    pub(super) facts: ObjectFacts,
    /// The key of a certificate or public key, of a private key where the token tells it.
    pub(super) public: Option<PublicKey>,
    /// The content of a certificate or of data.
    pub(super) value: Option<Zeroizing<Vec<u8>>>,
    pub(super) key_type: Option<KeyType>,
}

/// Reads all objects that outlive a session, in an order that does not depend on the token.
pub(super) fn read_all(session: &Session, token: &TokenFacts) -> Result<Vec<Object>, TokenError> {
    read(session, token, &[Attribute::Token(true)])
}

/// Reads whatever there is, also what does not say that it belongs to the token; what cannot be read is left out.
pub(super) fn read_whatever(
    session: &Session,
    token: &TokenFacts,
) -> Result<Vec<Object>, TokenError> {
    let handles = session
        .find_objects(&[])
        .map_err(TokenError::call("list its objects"))?;
    let objects = handles.into_iter();
    Ok(objects
        .filter_map(|handle| object(session, token, handle).ok())
        .collect())
}

/// Reads the objects that go by the names of one.
pub(super) fn read_named(
    session: &Session,
    token: &TokenFacts,
    facts: &ObjectFacts,
) -> Result<Vec<Object>, TokenError> {
    let mut template = vec![Attribute::Token(true)];
    template.extend(facts.class.class().map(Attribute::Class));
    if !facts.label.is_empty() {
        template.push(Attribute::Label(facts.label.clone().into_bytes()));
    }
    let mut found = read(session, token, &template)?;
    found.retain(|object| object.facts.is_named_as(facts));
    Ok(found)
}

fn read(
    session: &Session,
    token: &TokenFacts,
    template: &[Attribute],
) -> Result<Vec<Object>, TokenError> {
    let handles = session
        .find_objects(template)
        .map_err(TokenError::call("list its objects"))?;
    let mut objects = Vec::with_capacity(handles.len());
    for handle in handles {
        objects.push(object(session, token, handle)?);
    }
    objects.sort_by_key(|object| order(&object.facts));
    Ok(objects)
}

/// Reads one object.
pub(super) fn read_one(
    session: &Session,
    token: &TokenFacts,
    handle: ObjectHandle,
) -> Result<Object, TokenError> {
    object(session, token, handle)
}

fn order(facts: &ObjectFacts) -> impl Ord + use<> {
    let digest = facts.value_sha256.or(facts.spki_sha256);
    let digest = digest.map(|digest| digest.to_string());
    (facts.class, facts.id.clone(), facts.label.clone(), digest)
}

/// The attributes of one object, as far as the token gives them.
struct Attributes(Vec<Attribute>);

impl Attributes {
    fn read(
        session: &Session,
        handle: ObjectHandle,
        wanted: &[AttributeType],
    ) -> Result<Self, TokenError> {
        if let Ok(attributes) = session.get_attributes(handle, wanted) {
            return Ok(Self(attributes));
        }
        // A token that fails over one attribute gives the others one by one.
        let (mut found, mut last) = (Vec::new(), None);
        for one in wanted {
            match session.get_attributes(handle, &[*one]) {
                Ok(attributes) => found.extend(attributes),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if found.is_empty() => {
                Err(TokenError::call("read the attributes of an object")(error))
            }
            _ => Ok(Self(found)),
        }
    }

    fn bytes(&self, wanted: AttributeType) -> Option<&[u8]> {
        let bytes = self.0.iter().find_map(|attribute| match attribute {
            Attribute::Id(bytes)
            | Attribute::Label(bytes)
            | Attribute::Value(bytes)
            | Attribute::Modulus(bytes)
            | Attribute::PublicExponent(bytes)
            | Attribute::EcParams(bytes)
            | Attribute::EcPoint(bytes)
            | Attribute::PublicKeyInfo(bytes)
            | Attribute::CheckValue(bytes)
            | Attribute::Application(bytes)
                if attribute.attribute_type() == wanted =>
            {
                Some(bytes)
            }
            _ => None,
        });
        bytes.map(Vec::as_slice).filter(|bytes| !bytes.is_empty())
    }

    fn text(&self, wanted: AttributeType) -> String {
        let bytes = self.bytes(wanted).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn flag(&self, wanted: AttributeType) -> Option<bool> {
        // Every flag says its value in its own variant.
        self.0
            .iter()
            .find(|attribute| attribute.attribute_type() == wanted)
            .and_then(|attribute| match attribute {
                Attribute::Private(value)
                | Attribute::Sensitive(value)
                | Attribute::Extractable(value)
                | Attribute::Sign(value)
                | Attribute::SignRecover(value)
                | Attribute::Verify(value)
                | Attribute::VerifyRecover(value)
                | Attribute::Encrypt(value)
                | Attribute::Decrypt(value)
                | Attribute::Wrap(value)
                | Attribute::Unwrap(value)
                | Attribute::Derive(value)
                | Attribute::WrapWithTrusted(value)
                | Attribute::AlwaysAuthenticate(value)
                | Attribute::Modifiable(value)
                | Attribute::Copyable(value)
                | Attribute::Destroyable(value)
                | Attribute::AlwaysSensitive(value)
                | Attribute::NeverExtractable(value)
                | Attribute::Local(value)
                | Attribute::Trusted(value) => Some(*value),
                _ => None,
            })
    }
}

fn object(
    session: &Session,
    token: &TokenFacts,
    handle: ObjectHandle,
) -> Result<Object, TokenError> {
    use AttributeType as A;
    let common = Attributes::read(session, handle, &[A::Class, A::Id, A::Label])?;
    let class = common.0.iter().find_map(|attribute| match attribute {
        Attribute::Class(class) => Some(ObjectKind::of(*class)),
        _ => None,
    });
    let has_class = class.is_some();
    let class = class.unwrap_or(ObjectKind::Other);
    // Never the value of a key: an extractable one that is not sensitive would give it.
    let own: &[A] = match class {
        ObjectKind::Certificate => &[A::CertificateType, A::Value],
        ObjectKind::PublicKey => &[
            A::KeyType,
            A::Modulus,
            A::PublicExponent,
            A::EcParams,
            A::EcPoint,
            A::PublicKeyInfo,
        ],
        ObjectKind::Data => &[A::Application, A::Value],
        ObjectKind::SecretKey => &[A::KeyType, A::ValueLen, A::CheckValue],
        ObjectKind::PrivateKey => &[
            A::KeyType,
            A::Modulus,
            A::PublicExponent,
            A::EcParams,
            A::PublicKeyInfo,
        ],
        ObjectKind::Other => &[],
    };
    let own = if own.is_empty() {
        Attributes(Vec::new())
    } else {
        Attributes::read(session, handle, own)?
    };
    let kinds: Vec<A> = FLAGS.iter().map(|flag| flag.kind).collect();
    let flags = Attributes::read(session, handle, &kinds).unwrap_or(Attributes(Vec::new()));
    let flags = FLAGS.iter().filter_map(|flag| {
        let value = flags.flag(flag.kind)?;
        Some((flag.name.to_owned(), value))
    });
    let flags: BTreeMap<String, bool> = flags.collect();
    let key_type = own.0.iter().find_map(|attribute| match attribute {
        Attribute::KeyType(kind) => Some(*kind),
        _ => None,
    });
    let length = own.0.iter().find_map(|attribute| match attribute {
        Attribute::ValueLen(length) => Some(**length * 8),
        _ => None,
    });
    let value = own.bytes(A::Value);
    let value = value.map(|bytes| Zeroizing::new(bytes.to_vec()));
    let is_x509 = own
        .0
        .contains(&Attribute::CertificateType(CertificateType::X_509));
    let certificate = value
        .as_ref()
        .filter(|_| is_x509)
        .and_then(|der| x509_cert::Certificate::from_der(der).ok());
    let public = match (&certificate, class) {
        (Some(certificate), _) => PublicKey::from_certificate(certificate),
        (None, ObjectKind::PublicKey | ObjectKind::PrivateKey) => public_key(&own),
        _ => None,
    };
    let id = common.bytes(A::Id).unwrap_or_default();
    let label = common.text(A::Label);
    let uri = token.uri().object(class.uri_type(), id, &label);
    let facts = ObjectFacts {
        class,
        id: id::to_hex(id),
        label,
        key_type: key_type.map(|kind| kind.to_string().trim_start_matches("CKK_").to_owned()),
        algorithm: public.as_ref().map(|key| key.algorithm().to_string()),
        size_bits: public.as_ref().and_then(PublicKey::bits).or(length),
        spki_sha256: public.as_ref().map(PublicKey::spki_sha256),
        value_sha256: value.as_ref().map(|value| Digest::of(value)),
        check_value: own.bytes(A::CheckValue).map(id::to_hex),
        ec_params: own.bytes(A::EcParams).map(id::to_hex),
        application: own.bytes(A::Application).map(|_| own.text(A::Application)),
        subject: certificate
            .as_ref()
            .map(|certificate| certificate.tbs_certificate().subject().to_string()),
        not_after: certificate.as_ref().map(|certificate| {
            let validity = certificate.tbs_certificate().validity();
            validity.not_after.to_date_time().to_string()
        }),
        flags,
        uri,
        proved: None,
        stream: None,
    };
    Ok(Object {
        handle,
        has_class,
        facts,
        public,
        value,
        key_type,
    })
}

/// The key of a public key, or of a private key that tells it.
fn public_key(attributes: &Attributes) -> Option<PublicKey> {
    use AttributeType as A;
    if let (Some(modulus), Some(exponent)) = (
        attributes.bytes(A::Modulus),
        attributes.bytes(A::PublicExponent),
    ) {
        return PublicKey::from_rsa(modulus, exponent);
    }
    if let (Some(parameters), Some(point)) =
        (attributes.bytes(A::EcParams), attributes.bytes(A::EcPoint))
    {
        return PublicKey::from_ec(parameters, point);
    }
    attributes
        .bytes(A::PublicKeyInfo)
        .and_then(PublicKey::from_spki)
}
