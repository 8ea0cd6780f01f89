//! What is wrong with a configuration: where, what, and what to do about it.
//!
//! Values are quoted only where they cannot be secrets.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is not a configuration without faults.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl LoadError {
    /// True when there is no such file.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Everything that is wrong with a configuration, in the order of the lines; never empty.
#[derive(Debug)]
pub(crate) struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The single faults.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    pub(super) fn not_utf8(file: &Path, bytes: &[u8], error: &std::str::Utf8Error) -> Self {
        let before = &bytes[..error.valid_up_to()];
        let lines = String::from_utf8_lossy(before).matches('\n').count();
        Self(vec![ConfigError {
            file: file.to_owned(),
            line: lines + 1,
            column: 1,
            message: "the file is not UTF-8 text".into(),
            hint: Some("Save it as UTF-8; paths with other bytes can be reached by a glob.".into()),
        }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            error.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: PathBuf,
    line: usize,
    column: usize,
    message: String,
    hint: Option<String>,
}

impl ConfigError {
    /// The file: the configuration, or a recipients file that it names.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The line, from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The column, from 1, in characters.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, without the place.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, in whole sentences.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line) = (self.file.display(), self.line);
        write!(formatter, "{file}:{line}: {}", self.message)
    }
}

/// Collects the faults of one configuration.
pub(super) struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    found: RefCell<Vec<ConfigError>>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Self {
            file,
            text,
            found: RefCell::default(),
        }
    }

    pub(super) fn file(&self) -> &'t Path {
        self.file
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The line of a byte of the text, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.position(offset).0
    }

    pub(super) fn report(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (line, column) = self.position(span.start);
        self.report_at(self.file, (line, column), message, hint);
    }

    /// Reports a fault in another file.
    pub(super) fn report_at(
        &self,
        file: &Path,
        (line, column): (usize, usize),
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let hint = hint.into();
        self.found.borrow_mut().push(ConfigError {
            file: file.to_owned(),
            line,
            column,
            message: message.into(),
            hint: (!hint.is_empty()).then_some(hint),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    pub(super) fn into_result<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        let mut found = self.found.into_inner();
        found.sort_by(|left, right| {
            let elsewhere = |error: &ConfigError| error.file != self.file;
            (elsewhere(left), left.line, left.column).cmp(&(
                elsewhere(right),
                right.line,
                right.column,
            ))
        });
        match value {
            Some(value) if found.is_empty() => Ok(value),
            _ => Err(ConfigErrors(found)),
        }
    }

    /// The line and the column of a byte of the text, from 1.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |rest| rest.chars().count());
        (line, column + 1)
    }
}
