//! Blocks of PEM (RFC 7468), and of its ancestor with headers (RFC 1421).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::KeyMaterialError;

/// The blocks in a text, whatever stands between them.
pub(crate) struct PemBlocks<'a>(pub(crate) &'a [u8]);

/// One block, not decoded yet.
pub(crate) struct PemBlock<'a> {
    /// `CERTIFICATE`, `PRIVATE KEY`.
    pub(crate) label: &'a [u8],
    body: &'a [u8],
    has_end: bool,
}

impl<'a> Iterator for PemBlocks<'a> {
    type Item = PemBlock<'a>;

    fn next(&mut self) -> Option<PemBlock<'a>> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        const END: &[u8] = b"-----END ";
        const DASHES: &[u8] = b"-----";
        let begin = find(self.0, BEGIN)? + BEGIN.len();
        let rest = &self.0[begin..];
        let label_end = find(rest, DASHES)?;
        let label = &rest[..label_end];
        let rest = &rest[label_end + DASHES.len()..];
        let end = find(rest, END);
        let body = &rest[..end.unwrap_or(rest.len())];
        let has_end = end.is_some_and(|end| rest[end + END.len()..].starts_with(label));
        self.0 = &rest[body.len()..];
        Some(PemBlock {
            label,
            body,
            has_end,
        })
    }
}

impl PemBlock<'_> {
    /// Whether it says that it is a private key, of whatever format.
    pub(crate) fn is_private_key(&self) -> bool {
        self.label.ends_with(b"PRIVATE KEY")
    }

    /// PKCS#8 says so in its label, older formats in a header.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.label == b"ENCRYPTED PRIVATE KEY" || find(self.body, b"ENCRYPTED").is_some()
    }

    /// The bytes, in memory that is wiped.
    pub(crate) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, KeyMaterialError> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        text.extend(self.body.iter().filter(|byte| !byte.is_ascii_whitespace()));
        let mut bytes = Zeroizing::new(vec![0; text.len()]);
        let length = BASE64
            .decode_slice(&text, &mut bytes)
            .map_err(|_| KeyMaterialError::Pem)?;
        bytes.truncate(length);
        self.has_end.then_some(bytes).ok_or(KeyMaterialError::Pem)
    }
}

/// Where something stands for the first time.
pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
