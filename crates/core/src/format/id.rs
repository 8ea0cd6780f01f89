//! The names of things: digests, epochs, writers, repositories, labels.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::FormatError;

/// Writes bytes as lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps raw bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                from_hex(text).map(Self).ok_or_else(|| {
                    FormatError::damaged($what, format!("not {} hexadecimal digits", $bytes * 2))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = FormatError;

            fn try_from(text: String) -> Result<Self, FormatError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

hex_id! {
    /// A SHA-256 digest: of stored bytes it is the name of an object, of plain bytes the proof of a stream.
    Digest, 32, "digest"
}
hex_id! {
    /// The random name of an epoch.
    EpochId, 8, "epoch id"
}
hex_id! {
    /// The name of a writer: the first eight bytes of the SHA-256 of its public key (SPKI).
    WriterId, 8, "writer id"
}
hex_id! {
    /// The name of a set of shares: it follows from the recipient and the threshold.
    SetId, 8, "set id"
}
hex_id! {
    /// The random name of a repository.
    RepositoryId, 16, "repository id"
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Computes a [`Digest`] piece by piece.
#[derive(Clone)]
pub struct Hasher(aws_lc_rs::digest::Context);

impl Hasher {
    /// Begins a digest.
    pub fn new() -> Self {
        Self(aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let digest = self.0.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Digest(bytes)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// Fills an array with random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], FormatError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| FormatError::Crypto {
        operation: "make random bytes",
    })?;
    Ok(bytes)
}

/// The name of a backup: `YYYYMMDD-HHMMSSZ-xxxx`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// Makes a label for a backup begun at `time`, with four random characters.
    pub fn new(time: jiff::Timestamp) -> Result<Self, FormatError> {
        const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let stamp = time
            .to_zoned(jiff::tz::TimeZone::UTC)
            .strftime("%Y%m%d-%H%M%SZ")
            .to_string();
        let suffix: String = random::<4>()?
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte & 31)]))
            .collect();
        Ok(Self(format!("{stamp}-{suffix}")))
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let shape = b"dddddddd-ddddddZ-aaaa";
        let fits = text.len() == shape.len()
            && text.bytes().zip(shape).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                b'a' => byte.is_ascii_digit() || byte.is_ascii_lowercase(),
                other => byte == *other,
            });
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(FormatError::damaged(
                "label",
                "not of the form YYYYMMDD-HHMMSSZ-xxxx",
            ))
        }
    }
}

impl TryFrom<String> for Label {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_there_and_back() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            digest.to_string().parse::<Digest>().expect("own text"),
            digest
        );
        for wrong in [
            "",
            "ba",
            &digest.to_string().to_uppercase(),
            &format!("{digest}0"),
        ] {
            wrong.parse::<Digest>().expect_err(wrong);
        }
    }

    #[test]
    fn labels_are_strict() {
        let time: jiff::Timestamp = "2026-11-20T15:30:00Z".parse().expect("a time");
        let label = Label::new(time).expect("random bytes");
        assert!(label.as_str().starts_with("20261120-153000Z-"), "{label}");
        assert_eq!(label.as_str().parse::<Label>().expect("own text"), label);
        for wrong in [
            "",
            "latest",
            "20261120-153000Z-K3F9",
            "20261120-153000Z-k3f",
            "../../etc/passwd",
        ] {
            wrong.parse::<Label>().expect_err(wrong);
        }
    }
}
