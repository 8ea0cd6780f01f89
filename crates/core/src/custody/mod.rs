//! Custody: an identity in the hands of several people (docs/format.md, section 13).
//!
//! Pure: a dealer makes an identity and splits it, a share is text and back, a quorum of shares gives the identity
//! again, signed records say who holds what and who proved it. No files, no terminal, no clock. Whatever is secret
//! here is wiped from memory when it is dropped and shows neither in errors nor in `Debug`.

mod dealer;
mod locked;
mod quorum;
mod record;
mod revocation;
mod secret;
mod share;
mod statement;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use dealer::{Dealt, deal};
pub use quorum::{Accepted, Quorum, Refusal};
pub use record::{Custodian, CustodyRecord};
pub use revocation::Revocation;
pub use secret::SecretIdentity;
pub use share::{Share, set_id};
pub use statement::{Opening, Rehearsal, Statement};
pub use text::{ShareText, is_share_text, parse_share};
pub use words::{WORDS, read_word};

use crate::format::FormatError;

/// The most custodians that one identity can be split among.
pub const CUSTODIANS_MAX: u8 = 16;

/// Why a text is no share. Says where, never what stands there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// There is nothing but comments.
    #[error("there is no share in it")]
    Empty,
    /// It is something else.
    #[error("it is not a share but {0}")]
    SomethingElse(&'static str),
    /// The checksum of the line form does not hold.
    #[error("its checksum is wrong: a character is wrong, missing, or two changed places")]
    Checksum,
    /// A word is not one of the list.
    #[error("word {0} is not in the list")]
    UnknownWord(usize),
    /// Words are missing, or too many.
    #[error("it has {0} words, a share has {WORDS}")]
    WordCount(usize),
    /// The checksum of the words does not hold.
    #[error("the checksum of its words is wrong{}", place(*.0))]
    WordChecksum(Option<usize>),
    /// A later program made it.
    #[error("it has version {0}, this program reads version 1")]
    NewerVersion(u8),
    /// Checksum right, numbers impossible.
    #[error("its numbers contradict each other")]
    Contradiction,
}

impl ShareError {
    /// What to do about it, in a whole sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::SomethingElse(_) => {
                "A share is a line SRSHARE1... or 33 words; a file that begins with \"age-encryption.org\" is opened with \
                 its custodian's identity first: --identity FILE."
            }
            Self::Checksum => "Scan or type it again; on paper, take the words instead.",
            Self::UnknownWord(_) => "Look at that word again; its first four letters are enough.",
            Self::WordCount(_) => "Type all 33 words in the order of their numbers.",
            Self::WordChecksum(_) => "Compare the words with the sheet, and their order.",
            Self::NewerVersion(_) => "Use the version of Strongroom that made it, or a later one.",
            Self::Contradiction => "It was not made by Strongroom. Take another copy of it.",
        }
    }
}

fn place(word: Option<usize>) -> String {
    word.map(|word| format!("; word {word} is probably the wrong one"))
        .unwrap_or_default()
}

/// Why an identity could not be split, or not be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// The numbers make no sense.
    #[error("{threshold} of {custodians} custodians is not possible")]
    Numbers {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        custodians: usize,
    },
    /// The dealer's own test failed: nothing of it may be handed out.
    #[error("the shares that were made do not open what they should: {0}")]
    NotProved(&'static str),
    /// The cryptographic library, or a document.
    #[error(transparent)]
    Format(#[from] FormatError),
}
