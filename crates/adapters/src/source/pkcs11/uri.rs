//! PKCS#11 URIs (RFC 7512): which token is meant, and how servers name its objects.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// What a token says of itself, and what a URI can ask for; blanks at the end do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUri {
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What is wrong with a URI. A PIN in it is not repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// It does not begin with the scheme.
    #[error("it does not begin with pkcs11:")]
    Scheme,
    /// A part is not `NAME=VALUE`, or not percent-encoded as RFC 3986 wants it.
    #[error("one of its parts is not NAME=VALUE in percent-encoding")]
    Part,
    /// An attribute stands there twice.
    #[error("{0} stands there twice")]
    Twice(String),
    /// It holds a PIN.
    #[error("it holds a PIN, which belongs into a file")]
    Pin,
    /// It names an object, a slot or a library, or something unknown.
    #[error("{0:?} does not tell which token is meant")]
    NotOfToken(String),
    /// It names nothing.
    #[error("it names no token")]
    Empty,
}

impl TokenUri {
    /// The URI of the token with this label.
    pub fn of_label(label: impl Into<String>) -> Self {
        Self {
            token: Some(label.into()),
            ..Self::default()
        }
    }

    /// Reads a URI that names a token: `token`, `manufacturer`, `serial`, `model`.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix("pkcs11:").ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains("pin-value") || path.contains("pin-value") {
            return Err(UriError::Pin);
        }
        if let Some((name, _)) = query
            .split('&')
            .next()
            .and_then(|part| part.split_once('='))
        {
            return Err(UriError::NotOfToken(name.to_owned()));
        }
        let mut uri = Self::default();
        for part in path.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(UriError::Part)?;
            let place = match name {
                "token" => &mut uri.token,
                "manufacturer" => &mut uri.manufacturer,
                "serial" => &mut uri.serial,
                "model" => &mut uri.model,
                other => return Err(UriError::NotOfToken(other.to_owned())),
            };
            if place.is_some() {
                return Err(UriError::Twice(name.to_owned()));
            }
            *place = Some(decode(value).ok_or(UriError::Part)?);
        }
        if uri == Self::default() {
            return Err(UriError::Empty);
        }
        Ok(uri)
    }

    /// Whether a token is one that is meant.
    pub fn matches(&self, token: &Self) -> bool {
        let fits = |wanted: &Option<String>, is: &Option<String>| {
            let is = is.as_deref().unwrap_or_default();
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| wanted.trim_end() == is.trim_end())
        };
        fits(&self.token, &token.token)
            && fits(&self.manufacturer, &token.manufacturer)
            && fits(&self.serial, &token.serial)
            && fits(&self.model, &token.model)
    }

    /// The URI of an object of this token, as servers write it in their configuration.
    pub fn object(&self, kind: &str, id: &[u8], label: &str) -> String {
        let mut text = self.to_string();
        if !id.is_empty() {
            text.push_str(";id=");
            for byte in id {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
        if !label.is_empty() {
            let _ = write!(text, ";object={}", encode(label));
        }
        let _ = write!(text, ";type={kind}");
        text
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("pkcs11:")?;
        let mut between = "";
        for (name, value) in [
            ("model", &self.model),
            ("manufacturer", &self.manufacturer),
            ("serial", &self.serial),
            ("token", &self.token),
        ] {
            if let Some(value) = value {
                write!(formatter, "{between}{name}={}", encode(value))?;
                between = ";";
            }
        }
        Ok(())
    }
}

/// Everything but the unreserved characters of RFC 3986 is percent-encoded.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(text: &str) -> Option<String> {
    strongroom_core::source::server::decode_part(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_survives_its_text() {
        let text = "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=8f2d;token=CA%3B%C3%BC";
        let uri = TokenUri::parse(text).expect("a URI");
        assert_eq!(uri.token.as_deref(), Some("CA;ü"));
        assert_eq!(uri.to_string(), text);
        assert_eq!(
            TokenUri::of_label("ca").object("private", &[1, 0xAB], "ca root"),
            "pkcs11:token=ca;id=%01%AB;object=ca%20root;type=private"
        );
        assert_eq!(
            TokenUri::of_label("ca").object("cert", &[], ""),
            "pkcs11:token=ca;type=cert"
        );
    }

    #[test]
    fn what_names_no_token_is_refused() {
        for (text, why) in [
            ("token=ca", UriError::Scheme),
            ("pkcs11:", UriError::Empty),
            ("pkcs11:;", UriError::Empty),
            ("pkcs11:token", UriError::Part),
            ("pkcs11:token=%zz", UriError::Part),
            ("pkcs11:token=a;token=b", UriError::Twice("token".into())),
            ("pkcs11:token=a;pin-value=1234", UriError::Pin),
            ("pkcs11:token=a?pin-value=1234", UriError::Pin),
            ("pkcs11:token=a?module-path=/x&pin-value=1", UriError::Pin),
            (
                "pkcs11:token=a?pin-source=/x",
                UriError::NotOfToken("pin-source".into()),
            ),
            (
                "pkcs11:token=a;object=b",
                UriError::NotOfToken("object".into()),
            ),
            ("pkcs11:slot-id=1", UriError::NotOfToken("slot-id".into())),
        ] {
            let error = TokenUri::parse(text).expect_err(text);
            assert!(!error.to_string().contains("1234"), "{text}");
            assert_eq!(error, why, "{text}");
        }
    }

    #[test]
    fn a_token_is_found_by_what_is_said_of_it() {
        let token = TokenUri {
            token: Some("ca".into()),
            manufacturer: Some("maker".into()),
            serial: Some("1".into()),
            model: Some("m".into()),
        };
        assert!(TokenUri::of_label("ca").matches(&token));
        assert!(
            TokenUri::of_label("ca  ").matches(&token),
            "padded with blanks"
        );
        assert!(!TokenUri::of_label("c").matches(&token));
        let other = TokenUri {
            serial: Some("2".into()),
            ..TokenUri::of_label("ca")
        };
        assert!(!other.matches(&token));
    }
}
