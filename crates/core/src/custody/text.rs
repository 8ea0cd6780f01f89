//! A share as text: one line for files and QR codes, words for people, and the file around them.

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use zeroize::Zeroizing;

use super::share::{SHARE_BYTES, Share};
use super::{CustodyRecord, ShareError, words};

const HRP: Hrp = Hrp::parse_unchecked("srshare");
const PREFIX: &str = "SRSHARE1";
/// `SRSHARE1`, 68 characters for 42 bytes, 6 of checksum.
const LINE_LENGTH: usize = 82;
const CUSTODIAN: &str = "# custodian: ";

/// A share that was read, and what its file says of it.
#[derive(Clone, Debug)]
pub struct ShareText {
    /// The share.
    pub share: Share,
    /// Whose it is, by the comment of the file; nothing vouches for it.
    pub custodian: Option<String>,
}

impl Share {
    /// The line form, upper case: what a QR code holds.
    pub fn to_line(&self) -> Zeroizing<String> {
        // One allocation that never moves, so that nothing stays behind.
        let mut text = Zeroizing::new(String::with_capacity(LINE_LENGTH));
        bech32::encode_upper_to_fmt::<Bech32m, _>(&mut *text, HRP, self.to_bytes().as_slice())
            .expect("42 bytes fit in");
        text
    }

    /// The 33 words, separated by spaces.
    pub fn to_words(&self) -> Zeroizing<String> {
        words::to_words(self)
    }

    /// The file of a share: comments that say what it is, and the line.
    pub fn to_file(&self, record: &CustodyRecord) -> Zeroizing<String> {
        let custodian = record.custodian(self.index());
        let custodian = custodian.map_or("?", |custodian| &custodian.name);
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let head = format!(
            "# Strongroom custody: a share of the identity {}. Keep it to yourself.\n# set: {}\n{CUSTODIAN}{custodian}\n\
             # share {} of {}, any {} open\n# recipient: {}\n",
            record.name,
            self.set(),
            self.index(),
            record.custodians.len(),
            self.threshold(),
            record.recipient
        );
        text.push_str(&head);
        text.push_str(&self.to_line());
        text.push('\n');
        text
    }
}

/// Whether a text looks like a share in its line form.
pub fn is_share_text(text: &str) -> bool {
    content(text).any(|line| begins(line, PREFIX))
}

/// Reads a share in either form; blank lines and comments may stand before and after it.
pub fn parse_share(text: &str) -> Result<ShareText, ShareError> {
    let custodian = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(CUSTODIAN));
    let custodian = custodian.map(|name| name.trim().to_owned());
    let first = content(text).next().ok_or(ShareError::Empty)?;
    for (start, what) in [
        ("AGE-SECRET-KEY-", "an identity"),
        ("AGE-PLUGIN-", "an identity"),
        ("age1", "a recipient, the public half of an identity"),
        ("-----BEGIN AGE", "a sealed file"),
        ("age-encryption.org/", "a sealed file"),
        ("-----BEGIN", "a key or a certificate"),
        ("{", "a JSON document"),
    ] {
        if begins(first, start) {
            return Err(ShareError::SomethingElse(what));
        }
    }
    let mut joined = Zeroizing::new(String::with_capacity(text.len() + 1));
    let is_line = begins(first, PREFIX);
    for line in content(text) {
        if is_line {
            joined.extend(line.split_whitespace());
        } else {
            joined.push_str(line);
            joined.push(' ');
        }
    }
    let share = if is_line {
        from_line(&joined)?
    } else {
        words::from_words(&joined)?
    };
    Ok(ShareText { share, custodian })
}

fn from_line(line: &str) -> Result<Share, ShareError> {
    let checked = CheckedHrpstring::new::<Bech32m>(line).map_err(|_| ShareError::Checksum)?;
    let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
    if checked.hrp() != HRP || checked.byte_iter().len() != SHARE_BYTES {
        return Err(ShareError::Checksum);
    }
    for (to, from) in bytes.iter_mut().zip(checked.byte_iter()) {
        *to = from;
    }
    let share = Share::from_bytes(&bytes)?;
    // Padding bits are part of the line.
    if share.to_line().eq_ignore_ascii_case(line) {
        Ok(share)
    } else {
        Err(ShareError::Contradiction)
    }
}

fn content(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn begins(line: &str, start: &str) -> bool {
    line.get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}
