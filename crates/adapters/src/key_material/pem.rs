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
        let after = end.map(|end| &rest[end + END.len()..]);
        let has_end = after
            .and_then(|after| after.strip_prefix(label))
            .is_some_and(|after| after.starts_with(DASHES));
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

    /// Whether a header says that it is encrypted as RFC 1421 has it.
    pub(crate) fn has_old_encryption(&self) -> bool {
        // A comma is no letter of base64.
        find(self.body, b"4,ENCRYPTED").is_some()
    }

    /// The cipher and what follows it in the header that tells how the old encryption was done.
    pub(crate) fn dek_info(&self) -> Option<(String, &[u8])> {
        const NAME: &[u8] = b"DEK-Info:";
        let line = &self.body[find(self.body, NAME)? + NAME.len()..];
        let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
        let comma = line.iter().position(|byte| *byte == b',')?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        let name = &line[..comma];
        let is_valid = (1..=32).contains(&comma) && name.iter().all(is_name);
        let name = std::str::from_utf8(name).ok()?.to_owned();
        is_valid.then_some((name, line[comma + 1..].trim_ascii()))
    }

    /// What follows the headers.
    fn text(&self) -> &[u8] {
        let headers = self.body.contains(&b':');
        let end = [b"\n\n".as_slice(), b"\r\n\r\n"].map(|end| (find(self.body, end), end.len()));
        match end.into_iter().find(|(at, _)| headers && at.is_some()) {
            Some((Some(at), length)) => &self.body[at + length..],
            _ => self.body,
        }
    }

    /// The bytes, in memory that is wiped.
    pub(crate) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, KeyMaterialError> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.body.len()));
        text.extend(
            self.text()
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace()),
        );
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
