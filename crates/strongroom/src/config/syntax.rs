//! What is not TOML, or given twice.

use super::error::Problems;

/// Reports what is not TOML, once a line.
pub(super) fn report_syntax(problems: &Problems<'_>, errors: &[toml::de::Error]) {
    let mut lines = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = problems.line(span.start);
        if lines.contains(&line) {
            continue;
        }
        lines.push(line);
        if error.message() == "duplicate key" {
            let name = problems.text().get(span.clone()).unwrap_or_default();
            let first = earlier(problems.text(), span.start);
            if first.is_none() && lines.len() > 1 {
                // It is twice in the table only because that table's header is there twice.
                continue;
            }
            let earlier = first.map_or_else(String::new, |line| format!(" (first on line {line})"));
            let name = name.trim_matches(['"', '\'']);
            problems.report(
                &span,
                format!("\"{name}\" is given twice{earlier}"),
                "Names and keys are unique; rename one, or join the two.",
            );
        } else {
            let what = format!("not valid TOML: {}", error.message());
            problems.report(&span, what, "");
        }
    }
}

/// The line before that says the same header, or the same key of the same table.
fn earlier(text: &str, offset: usize) -> Option<usize> {
    let head = |line: &str| {
        let line = line.trim();
        let end = if line.starts_with('[') { ']' } else { '=' };
        let head = line.split(end).next().unwrap_or_default();
        head.split_whitespace().collect::<String>()
    };
    let number = text.get(..offset)?.matches('\n').count();
    let lines: Vec<&str> = text.lines().collect();
    let wanted = head(lines.get(number)?);
    let is_header = wanted.starts_with('[');
    lines[..number]
        .iter()
        .enumerate()
        .rev()
        .take_while(|(_, line)| is_header || !line.trim_start().starts_with('['))
        .find(|(_, line)| head(line) == wanted)
        .map(|(index, _)| index + 1)
}
