//! Sheets of paper: a small document, rendered to self-contained HTML and to PDF.
//!
//! What a sheet says is decided elsewhere; here are its parts and how they look. Nothing is fetched, neither fonts nor
//! pictures. What is rendered is wiped from memory when it is dropped; the buffers in which the PDF is put together are not.

mod html;
mod layout;
mod pdf;
mod qr;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use strongroom_core::private_file;
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, io};

/// A document of a page or a few.
pub(crate) struct Sheet {
    /// Stands at the top and in the foot of each page.
    pub(crate) title: String,
    /// One line below the title.
    pub(crate) subtitle: String,
    /// The rest.
    pub(crate) blocks: Vec<Block>,
}

/// A part of a document.
pub(crate) enum Block {
    /// The title of a section.
    Heading(String),
    /// Text that is broken into lines.
    Paragraph(String),
    /// Text that must not be overlooked: in a frame.
    Notice(String),
    /// Numbered steps.
    Steps(Vec<Step>),
    /// Rows of cells; the first column is as wide as its longest cell, the last takes what is left.
    Table {
        /// The titles of the columns; empty for none.
        head: Vec<String>,
        /// The cells.
        rows: Vec<Vec<String>>,
    },
    /// Commands: a long line is broken where a shell takes it as one, with `\` at the end.
    Code(String),
    /// Text that is broken anywhere, without a mark: a recipient, a key.
    Literal(Zeroizing<String>),
    /// Numbered words in columns, to be typed.
    Words(Vec<Zeroizing<String>>),
    /// A QR code and what stands beside it.
    Qr {
        /// What it holds; short when it has only upper case, digits and `$%*+-./:`.
        text: Zeroizing<String>,
        /// What it is.
        caption: String,
    },
    /// What follows begins on a new page.
    PageBreak,
}

/// One numbered step.
pub(crate) struct Step {
    /// What to do.
    pub(crate) text: String,
    /// The command for it.
    pub(crate) code: Option<String>,
}

impl Step {
    /// A step without a command.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { text, code: None }
    }

    /// With the command for it.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }
}

impl Sheet {
    /// One HTML file with everything in it.
    pub(crate) fn to_html(&self) -> Zeroizing<String> {
        html::render(self)
    }

    /// A PDF of A4 pages.
    pub(crate) fn to_pdf(&self) -> Zeroizing<Vec<u8>> {
        pdf::render(self)
    }

    /// Writes `STEM.html` and `STEM.pdf`, 0600 from their first byte. Neither may exist.
    pub(crate) fn write(&self, stem: &Path) -> Result<[PathBuf; 2], Failure> {
        let path = |ending: &str| {
            let mut name = stem.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let [html, pdf] = [path(".html"), path(".pdf")];
        write_new(&html, self.to_html().as_bytes())?;
        write_new(&pdf, &self.to_pdf())?;
        Ok([html, pdf])
    }
}

/// Writes a file that must not exist, durably.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = private_file::create_new(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} exists already and was left alone", path.display());
            Failure::new(Exit::Refused, "exists", message)
                .hint("Move it away, or name another directory.")
        }
        _ => io("create", path)(error),
    })?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| private_file::sync_parent(path));
    written.map_err(|error| {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(path);
        io("write", path)(error)
    })
}
