//! Names and texts as MariaDB's SQL wants them, and names as parts of a path.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use strongroom_core::source::server::encode_part;

/// An identifier in backticks.
pub(super) fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a literal that means the same in every `sql_mode`.
pub(super) fn text(text: &str) -> String {
    if text.contains('\\') {
        return format!("CONVERT({} USING utf8mb4)", hex(text.as_bytes()));
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Bytes as a literal.
pub(super) fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "''".to_owned();
    }
    let mut literal = String::with_capacity(2 + 2 * bytes.len());
    literal.push_str("0x");
    for byte in bytes {
        let _ = write!(literal, "{byte:02x}");
    }
    literal
}

/// The bytes of hexadecimal digits; none if they are not.
pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let &[high, low] = pair else { return None };
            u8::try_from(value(high)? * 16 + value(low)?).ok()
        })
        .collect()
}

/// The path of a stream of a database.
pub(super) fn path(database: &str, stream: &str) -> PathBuf {
    Path::new("/").join(encode_part(database)).join(stream)
}

/// Splits what precedes the end of the name in backticks that `text` begins with from the rest; none if it begins with none.
pub(super) fn quoted_name(text: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = text.strip_prefix(b"`")?;
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr(b'`', rest)?;
        name.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"`") {
            Some(more) => {
                name.push(b'`');
                rest = more;
            }
            None => return Some((String::from_utf8_lossy(&name).into_owned(), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(name("a`b"), "`a``b`");
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("\\'"), "CONVERT(0x5c27 USING utf8mb4)");
        assert_eq!(hex(b""), "''");
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
        assert_eq!(
            quoted_name(b"`a``b` (x"),
            Some(("a`b".to_owned(), &b" (x"[..]))
        );
        assert_eq!(quoted_name(b"`a``b"), None);
    }
}
