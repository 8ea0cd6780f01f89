//! The break-glass kit: what a stranger with a quorum needs to restore with stock tools on a new machine.
//!
//! [`facts`] collects what is known without any identity; [`content`] decides what is said and which commands are given; [`text`] writes it
//! as text, [`Sheet`] as HTML and PDF. Nothing in a kit is secret.

pub(crate) mod content;
pub(crate) mod facts;
pub(crate) mod text;

use zeroize::Zeroizing;

use crate::sheet::{Block, Sheet};

/// What lies beside the sheets: a reader for everything, the words of shares, the format, and a key by hand.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("reader.py", include_str!("../../../../tools/reader.py")),
    ("words.txt", include_str!("../../../../tools/words.txt")),
    ("format.md", include_str!("../../../../docs/format.md")),
    (
        "by-hand.md",
        include_str!("../../../../docs/guide/by-hand.md"),
    ),
];

/// What a kit says, in order.
pub(crate) struct Kit {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) parts: Vec<Part>,
}

/// A part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The title of a section.
    Heading(String),
    /// A paragraph.
    Text(String),
    /// A paragraph that must not be overlooked.
    Notice(String),
    /// Rows of cells, below the titles of the columns where there are any.
    Table {
        head: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    /// Commands to run as they stand, one part after the other in one shell.
    Run(String),
    /// Commands that need something which is not known here: credentials, a server.
    Show(String),
    /// A text without spaces that is longer than a line.
    Literal(String),
}

impl Kit {
    /// The same as a sheet of paper.
    pub(crate) fn to_sheet(&self) -> Sheet {
        let blocks = self.parts.iter().map(|part| match part.clone() {
            Part::Heading(text) => Block::Heading(text),
            Part::Text(text) => Block::Paragraph(text),
            Part::Notice(text) => Block::Notice(text),
            Part::Table { head, rows } => Block::Table { head, rows },
            Part::Run(text) | Part::Show(text) => Block::Code(text),
            Part::Literal(text) => Block::Literal(Zeroizing::new(text)),
        });
        Sheet {
            title: self.title.clone(),
            subtitle: self.subtitle.clone(),
            blocks: blocks.collect(),
        }
    }
}
