//! The audit log: JSON lines, each of which carries the SHA-256 of the line before it.
//!
//! It is only ever appended to. The chain shows a change in the middle; a cut at the end shows only
//! against the database, or against a head that was noted elsewhere.

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_core::private_file;

use super::error::DemoError;
use super::x509::{hex, sha256};

/// What the first line carries in place of a predecessor.
const NO_LINE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What happened.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    /// The authority came to be; always the first line, and only there.
    AuthorityCreated,
    /// A certificate was signed; `serial` is its serial number.
    CertificateIssued,
    /// A certificate was revoked; `serial` is its serial number.
    CertificateRevoked,
    /// A CRL was signed; `crl_number` is its number.
    CrlPublished,
}

/// What a line is about.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Subject {
    /// The authority as a whole.
    Authority,
    /// A certificate, by its serial number in hexadecimal.
    Serial(String),
    /// A CRL, by its number.
    Crl(i64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthorityCreated => "creation of",
            Self::CertificateIssued => "issuance of",
            Self::CertificateRevoked => "revocation of",
            Self::CrlPublished => "publication of",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("the authority"),
            Self::Serial(serial) => write!(f, "certificate {serial}"),
            Self::Crl(number) => write!(f, "CRL {number}"),
        }
    }
}

/// One line.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    time: String,
    event: Event,
    serial: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crl_number: Option<i64>,
    previous: String,
}

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Head {
    /// How many lines there are.
    pub(super) lines: u64,
    /// SHA-256 of the last one without its line feed, or zeros.
    pub(super) digest: String,
}

/// Appends one line for each of `subjects`, durable when it returns.
///
/// The caller holds the database's write lock, so that two processes never fork the chain.
pub(super) fn append(
    path: &Path,
    time: jiff::Timestamp,
    event: Event,
    subjects: impl IntoIterator<Item = Subject>,
) -> Result<(), DemoError> {
    // Only the first line makes the file: a log that was lost is not silently begun anew.
    let mut previous = match event {
        Event::AuthorityCreated => NO_LINE.to_owned(),
        _ => head(path)?.digest,
    };
    let mut text = Vec::new();
    for subject in subjects {
        let (serial, crl_number) = match subject {
            Subject::Authority => (None, None),
            Subject::Serial(serial) => (Some(serial), None),
            Subject::Crl(number) => (None, Some(number)),
        };
        let line = Line {
            time: time.to_string(),
            event,
            serial,
            crl_number,
            previous,
        };
        let line = serde_json::to_vec(&line).expect("strings and numbers are always JSON");
        previous = hex(&sha256(&line));
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    let mut file = private_file::append(path).map_err(DemoError::file("open", path))?;
    file.write_all(&text)
        .and_then(|()| file.sync_all())
        .map_err(DemoError::file("append to", path))
}

/// Counts the lines and digests the last one; the links are not looked at.
pub(super) fn head(path: &Path) -> Result<Head, DemoError> {
    let bytes = std::fs::read(path).map_err(DemoError::file("read", path))?;
    let mut head = Head {
        lines: 0,
        digest: NO_LINE.to_owned(),
    };
    let mut last = None;
    for line in lines(&bytes)? {
        head.lines += 1;
        last = Some(line);
    }
    if let Some(line) = last {
        head.digest = hex(&sha256(line));
    }
    Ok(head)
}

/// Reads every line, follows every link, and gives back what each line is about.
pub(super) fn follow(path: &Path) -> Result<Vec<(Event, Subject)>, DemoError> {
    let bytes = std::fs::read(path).map_err(DemoError::file("read", path))?;
    let mut previous = NO_LINE.to_owned();
    let mut events = Vec::new();
    for (index, bytes) in lines(&bytes)?.into_iter().enumerate() {
        let broken = |problem| DemoError::Audit {
            line: index + 1,
            problem,
        };
        let line: Line =
            serde_json::from_slice(bytes).map_err(|_| broken("is not a line of an audit log"))?;
        if line.previous != previous {
            return Err(broken("does not carry the digest of the line before it"));
        }
        if (index == 0) != (line.event == Event::AuthorityCreated) {
            return Err(broken("is not where the authority's log may begin"));
        }
        let subject = match (line.event, line.serial, line.crl_number) {
            (Event::AuthorityCreated, None, None) => Subject::Authority,
            (Event::CertificateIssued | Event::CertificateRevoked, Some(serial), None) => {
                Subject::Serial(serial)
            }
            (Event::CrlPublished, None, Some(number)) => Subject::Crl(number),
            _ => return Err(broken("names the wrong kind of thing for its event")),
        };
        previous = hex(&sha256(bytes));
        events.push((line.event, subject));
    }
    if events.is_empty() {
        return Err(DemoError::Audit {
            line: 1,
            problem: "is missing",
        });
    }
    Ok(events)
}

/// The lines without their line feeds; a last line without one was torn.
fn lines(bytes: &[u8]) -> Result<Vec<&[u8]>, DemoError> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    match lines.pop() {
        None | Some([]) => Ok(lines),
        Some(_) => Err(DemoError::Audit {
            line: lines.len() + 1,
            problem: "has no end: it was torn off while it was written",
        }),
    }
}
