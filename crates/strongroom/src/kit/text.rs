//! A kit as plain text: what is to be run stands between lines of three backticks.

use std::fmt::Write as _;

use super::{Kit, Part};

/// The length of a line.
const WIDTH: usize = 100;

/// Renders a kit.
pub(crate) fn render(kit: &Kit) -> String {
    let mut out = String::new();
    let rule = "=".repeat(kit.title.chars().count());
    // Writing to a string cannot fail, here and below.
    let _ = write!(out, "{}\n{rule}\n\n", kit.title);
    wrap(&mut out, "", &kit.subtitle);
    for part in &kit.parts {
        out.push('\n');
        match part {
            Part::Heading(text) => {
                let rule = "-".repeat(text.chars().count());
                let _ = write!(out, "{text}\n{rule}\n");
            }
            Part::Text(text) => wrap(&mut out, "", text),
            Part::Notice(text) => wrap(&mut out, "!! ", text),
            Part::Table { head, rows } => table(&mut out, head, rows),
            Part::Run(text) => block(&mut out, "sh", text),
            Part::Show(text) => block(&mut out, "text", text),
            Part::Literal(text) => {
                let _ = writeln!(out, "    {text}");
            }
        }
    }
    out
}

fn block(out: &mut String, language: &str, text: &str) {
    let _ = write!(out, "```{language}\n{}\n```\n", text.trim_end());
}

/// Breaks a paragraph into lines.
fn wrap(out: &mut String, before: &str, text: &str) {
    let mut line = before.to_owned();
    for word in text.split(' ') {
        let is_begun = line.len() > before.len();
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            before.clone_into(&mut line);
        } else if is_begun {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

/// One row after the other, a cell a line: cells are longer than a page of text is wide.
fn table(out: &mut String, head: &[String], rows: &[Vec<String>]) {
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            match (head.get(index), index) {
                (Some(name), 0) => drop(writeln!(out, "- {name}: {cell}")),
                (Some(name), _) => drop(writeln!(out, "  {name}: {cell}")),
                (None, 0) => drop(write!(out, "- {cell}: ")),
                (None, _) => drop(writeln!(out, "{cell}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_as_they_are_and_text_is_wrapped() {
        let long = "word ".repeat(40);
        let kit = Kit {
            title: "Kit".into(),
            subtitle: "of a CA".into(),
            parts: vec![
                Part::Heading("1. Begin".into()),
                Part::Notice(long.trim_end().to_owned()),
                Part::Run("a --long \"$B\"\nc\n".into()),
                Part::Table {
                    head: vec!["name".into(), "where".into()],
                    rows: vec![vec!["a".into(), "b".into()]],
                },
            ],
        };
        let text = render(&kit);
        assert!(text.starts_with("Kit\n===\n\nof a CA\n\n1. Begin\n--------\n\n!! word word"));
        assert!(
            text.contains("\n```sh\na --long \"$B\"\nc\n```\n"),
            "{text}"
        );
        assert!(text.ends_with("- name: a\n  where: b\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
