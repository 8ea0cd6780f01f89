//! How results reach the operator: text, tables, one JSON document; colours and progress on terminals only.

mod progress;
mod text;

use std::io::{self, IsTerminal as _};

use serde_json::{Value, json};

pub(crate) use progress::Progress;
pub(crate) use text::{bytes, duration, rate, shown_path, table, when};

use crate::cli::Global;
use crate::failure::Failure;

/// The version of all JSON documents.
pub(crate) const SCHEMA: u32 = 1;

/// Where and how a command prints.
pub(crate) struct Report {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    color: bool,
}

impl Report {
    pub(crate) fn new(global: &Global, no_color: bool) -> Self {
        let color = !no_color && !global.no_color && !global.json && io::stdout().is_terminal();
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            color,
        }
    }

    /// A line of the result; not with --json or --quiet.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            print(&mut io::stdout().lock(), text.as_ref());
        }
    }

    /// A line of the result that is asked for, so that --quiet does not hold it back.
    pub(crate) fn answer(&self, text: impl AsRef<str>) {
        if !self.json {
            print(&mut io::stdout().lock(), text.as_ref());
        }
    }

    /// A line that matters even with --quiet.
    pub(crate) fn problem(&self, text: impl AsRef<str>) {
        if !self.json {
            let text = text.as_ref();
            print(
                &mut io::stderr().lock(),
                &format!("{} {text}", self.paint("problem:", "33")),
            );
        }
    }

    /// A part that failed while the command goes on with the rest.
    pub(crate) fn failed_part(&self, failure: &Failure) {
        self.problem(&failure.message);
        if let Some(hint) = failure.hint.as_ref().filter(|_| !self.json) {
            print(
                &mut io::stderr().lock(),
                &format!("{} {hint}", self.paint("hint:", "36")),
            );
        }
    }

    /// Something to know, no problem.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.line(format!("{} {}", self.paint("note:", "36"), text.as_ref()));
        }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: &str) {
        self.line(self.paint(text, "1"));
    }

    /// The one JSON document of a command.
    pub(crate) fn document(&self, mut document: Value) {
        if self.json {
            document["schema"] = json!(SCHEMA);
            let text = serde_json::to_string_pretty(&document).expect("JSON values serialise");
            print(&mut io::stdout().lock(), &text);
        }
    }

    /// Why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            let error = json!({
                "code": failure.code, "message": failure.message, "hint": failure.hint,
                "exit_status": failure.exit.status(), "details": failure.details,
            });
            self.document(json!({ "error": error }));
        } else {
            let mut stderr = io::stderr().lock();
            print(
                &mut stderr,
                &format!("{} {}", self.paint("error:", "31"), failure.message),
            );
            if let Some(hint) = &failure.hint {
                print(
                    &mut stderr,
                    &format!("{} {hint}", self.paint("hint:", "36")),
                );
            }
        }
    }

    /// Text in colour, where colours are wanted.
    pub(crate) fn paint(&self, text: &str, code: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Prints a line; a reader that went away (`| head`) is no failure of the command.
fn print(output: &mut impl io::Write, text: &str) {
    let _ = writeln!(output, "{text}");
}
