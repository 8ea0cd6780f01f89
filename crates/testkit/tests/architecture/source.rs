//! A source file without what the rules do not look at, and the paths that it names.

/// A source file.
pub(crate) struct SourceFile {
    /// Its path in the workspace.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
    /// The text with comments, literals and test modules blanked; the lines stay where they are.
    pub(crate) code: String,
    /// Every path of two or more parts that the code names, `use` trees expanded, with its line; macros end in `!`.
    pub(crate) names: Vec<(usize, String)>,
    /// How many lines belong to test modules.
    pub(crate) test_lines: usize,
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let whole = blank_comments_and_literals(text);
        let (code, test_lines) = blank_tests(&whole);
        let names = names(&code, &module_of(path));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            names,
            test_lines,
        }
    }

    /// Whether the file lies below a folder.
    pub(crate) fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Whether the file is compiled for tests only.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "benches"))
    }
}

/// The module path of a file inside its crate: `format::manifest` for `crates/core/src/format/manifest.rs`.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.split_once("/src/").map_or("", |(_, inside)| inside);
    let inside = inside.trim_end_matches(".rs");
    let parts = inside.split('/').filter(|part| !part.is_empty());
    parts
        .filter(|part| !matches!(*part, "mod" | "lib" | "main"))
        .map(str::to_owned)
        .collect()
}

/// Replaces everything but line ends by spaces.
fn blank(text: &str) -> String {
    let keep = |c| if c == '\n' { '\n' } else { ' ' };
    text.chars().map(keep).collect()
}

fn blank_comments_and_literals(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, before).unwrap_or(0);
        if length > 0 {
            output.push_str(&blank(&rest[..length]));
            rest = &rest[length..];
            before = ' ';
        } else {
            output.push(first);
            rest = &rest[first.len_utf8()..];
            before = first;
        }
    }
    output
}

/// How long the comment or the literal is that begins here.
fn skipped(rest: &str, before: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    let in_word = before.is_alphanumeric() || before == '_';
    if !in_word && let Some(length) = raw_string(rest) {
        return Some(length);
    }
    if let Some(content) = rest.strip_prefix('"') {
        return Some(1 + quoted(content, '"'));
    }
    // 'a' and '\n' are characters, 'a is a lifetime.
    let inner = rest.strip_prefix('\'')?;
    let mut characters = inner.chars();
    match (characters.next()?, characters.next()) {
        ('\\', _) => Some(1 + quoted(inner, '\'')),
        (one, Some('\'')) => Some(2 + one.len_utf8()),
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let start = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = start.len() - start.trim_start_matches('#').len();
    let content = start[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end)? + end.len();
    Some(rest.len() - content.len() + length)
}

fn quoted(content: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in content.char_indices() {
        if c == end && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    content.len()
}

/// Blanks each item under `#[cfg(test)]`, and counts its lines.
fn blank_tests(code: &str) -> (String, usize) {
    const MARK: &str = "#[cfg(test)]";
    let mut output = String::with_capacity(code.len());
    let mut rest = code;
    let mut lines = 0;
    while let Some(start) = rest.find(MARK) {
        let length = MARK.len() + item_length(&rest[start + MARK.len()..]);
        let item = &rest[start..start + length];
        lines += item.lines().count();
        output.push_str(&rest[..start]);
        output.push_str(&blank(item));
        rest = &rest[start + length..];
    }
    output.push_str(rest);
    (output, lines)
}

/// Up to the semicolon or the closing brace that ends an item.
fn item_length(code: &str) -> usize {
    let is_use = code.trim_start().starts_with("use ");
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && !is_use {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every path in the code.
fn names(code: &str, module: &[String]) -> Vec<(usize, String)> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].1 == "use" {
            at += 1;
            use_tree(&tokens, &mut at, &[], &mut found);
        } else if is_word(tokens[at].1) {
            path(&tokens, &mut at, &mut found);
        } else {
            at += 1;
        }
    }
    for (_, name) in &mut found {
        *name = resolve(name, module);
    }
    found
}

fn path(tokens: &[(usize, &str)], at: &mut usize, found: &mut Vec<(usize, String)>) {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.1);
    let (line, first) = tokens[*at];
    let mut parts = vec![first];
    *at += 1;
    while text(*at) == "::" && is_word(text(*at + 1)) {
        parts.push(text(*at + 1));
        *at += 2;
    }
    if text(*at) == "!" && text(*at + 1) != "=" {
        found.push((line, format!("{}!", parts.join("::"))));
    } else if parts.len() > 1 {
        found.push((line, parts.join("::")));
    }
}

/// `a::{b, c::*}` as `a::b` and `a::c::*`.
fn use_tree<'c>(
    tokens: &[(usize, &'c str)],
    at: &mut usize,
    prefix: &[&'c str],
    found: &mut Vec<(usize, String)>,
) {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.1);
    let mut parts = prefix.to_vec();
    let line = tokens.get(*at).map_or(0, |token| token.0);
    loop {
        match text(*at) {
            "::" => *at += 1,
            "{" => {
                *at += 1;
                while !matches!(text(*at), "}" | "") {
                    use_tree(tokens, at, &parts, found);
                    if text(*at) == "," {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "as" => *at += 2,
            word if word == "*" || is_word(word) => {
                parts.push(word);
                *at += 1;
            }
            other => {
                found.push((line, parts.join("::")));
                // Anything but the end of this tree is not Rust; go on behind it.
                *at += usize::from(!matches!(other, "," | "}" | ""));
                return;
            }
        }
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if first == '\n' {
            line += 1;
        }
        if !first.is_whitespace() {
            found.push((line, &rest[..length]));
        }
        rest = &rest[length..];
    }
    found
}

/// Replaces `super::` and `self::` by the whole path from `crate::`.
fn resolve(name: &str, module: &[String]) -> String {
    let mut above = module.to_vec();
    let mut rest = name;
    let mut relative = false;
    loop {
        if let Some(next) = rest.strip_prefix("super::") {
            above.pop();
            rest = next;
        } else if let Some(next) = rest.strip_prefix("self::") {
            rest = next;
        } else {
            break;
        }
        relative = true;
    }
    if !relative {
        return name.to_owned();
    }
    above.insert(0, "crate".into());
    above.push(rest.to_owned());
    above.join("::")
}
