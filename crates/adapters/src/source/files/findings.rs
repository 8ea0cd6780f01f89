//! Problems and notes, bounded: they share one line of the manifest.

use std::fmt;
use std::path::Path;

/// How many sentences of each kind are kept.
const COUNT_MAX: usize = 500;
/// How many bytes of sentences of each kind are kept; escaped twice they still fit into a line of 1 MiB.
const BYTES_MAX: usize = 100 << 10;

/// What makes an asset incomplete, and what the operator should know besides.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Sentences,
    notes: Sentences,
}

impl Findings {
    pub(super) fn problem(&mut self, sentence: impl Into<String>) {
        self.problems.push(sentence.into());
    }

    pub(super) fn note(&mut self, sentence: impl Into<String>) {
        self.notes.push(sentence.into());
    }

    /// Adds everything that another look found.
    pub(super) fn append(&mut self, other: Self) {
        for (to, from) in [
            (&mut self.problems, other.problems),
            (&mut self.notes, other.notes),
        ] {
            to.left_out += from.left_out;
            from.kept.into_iter().for_each(|sentence| to.push(sentence));
        }
    }

    /// Problems, then notes.
    pub(super) fn into_parts(self) -> (Vec<String>, Vec<String>) {
        (
            self.problems.into_vec("problems"),
            self.notes.into_vec("notes"),
        )
    }
}

#[derive(Debug, Default)]
struct Sentences {
    kept: Vec<String>,
    bytes: usize,
    left_out: u64,
}

impl Sentences {
    fn push(&mut self, sentence: String) {
        if self.kept.len() < COUNT_MAX && self.bytes + sentence.len() <= BYTES_MAX {
            self.bytes += sentence.len();
            self.kept.push(sentence);
        } else {
            self.left_out += 1;
        }
    }

    fn into_vec(mut self, what: &str) -> Vec<String> {
        if self.left_out > 0 {
            let rest = format!("{} more {what} that are not listed here", self.left_out);
            self.kept.push(rest);
        }
        self.kept
    }
}

/// A path in a sentence: in quotes, with control characters and bytes that are no text escaped.
pub(super) struct Quoted<'a>(pub(super) &'a Path);

impl fmt::Display for Quoted<'_> {
    #[expect(
        clippy::unnecessary_debug_formatting,
        reason = "a name must not be able to forge a line of output"
    )]
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_say_what_is_left_out() {
        let mut findings = Findings::default();
        for n in 0..=COUNT_MAX {
            findings.problem(n.to_string());
        }
        findings.note("x".repeat(BYTES_MAX));
        findings.note("y");
        let (problems, notes) = findings.into_parts();
        assert_eq!(problems.len(), COUNT_MAX + 1);
        assert_eq!(
            problems[COUNT_MAX],
            "1 more problems that are not listed here"
        );
        assert_eq!(notes[1], "1 more notes that are not listed here");
    }

    #[test]
    fn names_forge_no_lines() {
        let text = Quoted(Path::new("/a\nb")).to_string();
        assert_eq!(text, r#""/a\nb""#);
    }
}
