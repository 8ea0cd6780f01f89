//! Names of certificates, compared as RFC 5280, section 7.1 says: not by case, width of spaces, or kind of string.

use der::asn1::{Any, ObjectIdentifier};
use der::{Tag, Tagged as _};
use x509_cert::name::Name;

/// A name in the form in which two of them are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ComparedName(Vec<Vec<(ObjectIdentifier, Value)>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// No kind of text that is known here.
    Other(Vec<u8>),
}

impl ComparedName {
    pub(super) fn of(name: &Name) -> Self {
        let parts = name.iter_rdn().map(|part| {
            let mut part: Vec<_> = part
                .iter()
                .map(|one| (one.oid, value(&one.value)))
                .collect();
            part.sort();
            part
        });
        Self(parts.collect())
    }
}

/// Text in small letters, with single spaces between words. Letters that Unicode composes in two ways stay different.
fn value(value: &Any) -> Value {
    let bytes = value.value();
    let latin = || bytes.iter().map(|byte| char::from(*byte)).collect();
    let text: Option<String> = match value.tag() {
        Tag::Utf8String => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::PrintableString | Tag::Ia5String | Tag::TeletexString | Tag::NumericString => {
            Some(latin())
        }
        Tag::BmpString if bytes.len().is_multiple_of(2) => {
            let units = bytes.chunks_exact(2);
            let units: Vec<u16> = units
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    };
    match text {
        Some(text) => {
            let text = text.to_lowercase();
            Value::Text(text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        None => Value::Other(bytes.to_vec()),
    }
}
