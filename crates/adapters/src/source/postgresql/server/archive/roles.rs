//! Other roles in an archive: owners, and the roles that privileges, policies and user mappings name.
//!
//! Owners stand in a field of their own. Privileges and policies are statements as `pg_dump` writes them; a role in them
//! is the name that follows one of few reserved words, which as a name of anything else would be quoted.

use std::collections::BTreeMap;

use super::super::super::session::identifier;
use super::is_one_of;
use super::toc::{Toc, TocEntry};

/// Puts other roles in the place of those of an archive.
pub(super) fn rename(toc: &mut Toc, roles: &BTreeMap<String, String>) {
    if roles.is_empty() {
        return;
    }
    for entry in &mut toc.entries {
        if let Some(new) = entry
            .owner
            .as_deref()
            .and_then(|name| new_name(name, roles))
        {
            entry.owner = Some(new.as_bytes().to_vec());
        }
        let Some(before) = words_before(entry) else {
            continue;
        };
        if let Some(definition) = &entry.definition {
            entry.definition = Some(renamed(definition, before, roles));
        }
    }
}

/// The words that a role follows, in a statement of an entry.
fn words_before(entry: &TocEntry) -> Option<&'static [&'static str]> {
    if is_one_of(entry, &["ACL", "DEFAULT ACL"]) {
        // GRANT .. TO, REVOKE .. FROM, ALTER DEFAULT PRIVILEGES FOR ROLE, SET SESSION AUTHORIZATION, GRANTED BY.
        Some(&["TO", "FROM", "ROLE", "AUTHORIZATION", "BY"])
    } else if is_one_of(entry, &["POLICY", "ROW SECURITY"]) {
        Some(&["TO"])
    } else if is_one_of(entry, &["USER MAPPING"]) {
        Some(&["FOR"])
    } else {
        None
    }
}

fn renamed(statement: &[u8], before: &[&str], roles: &BTreeMap<String, String>) -> Vec<u8> {
    let mut changed = Vec::with_capacity(statement.len());
    // Whether a role may stand here.
    let mut is_role = false;
    let mut depth = 0_usize;
    for token in Tokens(statement) {
        match token {
            Token::Name(bytes) | Token::Quoted(bytes) if is_role && depth == 0 => {
                match new_name(&plain(bytes), roles) {
                    Some(new) => changed.extend(identifier(new).into_bytes()),
                    None => changed.extend(bytes),
                }
                is_role = false;
                continue;
            }
            Token::Name(bytes) => {
                is_role = depth == 0 && before.iter().any(|word| word.as_bytes() == bytes);
            }
            // A list of roles goes on after a comma; `TO a, b`.
            Token::Other(b",") if depth == 0 => is_role = follows_role(&changed, before),
            Token::Other(b"(") => depth += 1,
            Token::Other(b")") => depth = depth.saturating_sub(1),
            Token::Blank(_) => {}
            Token::Quoted(_) | Token::Other(_) | Token::Text(_) => is_role = false,
        }
        changed.extend(token.bytes());
    }
    changed
}

/// Whether a list that stands at the end of `text` began after one of the words.
fn follows_role(text: &[u8], before: &[&str]) -> bool {
    let mut tokens: Vec<Token<'_>> = Tokens(text).collect();
    loop {
        tokens.retain(|token| !matches!(token, Token::Blank(_)));
        match (tokens.pop(), tokens.pop()) {
            (Some(Token::Name(_) | Token::Quoted(_)), Some(Token::Name(word))) => {
                return before.iter().any(|one| one.as_bytes() == word);
            }
            (Some(Token::Name(_) | Token::Quoted(_)), Some(Token::Other(b","))) => {}
            _ => return false,
        }
    }
}

fn new_name<'r>(name: &[u8], roles: &'r BTreeMap<String, String>) -> Option<&'r str> {
    roles
        .get(std::str::from_utf8(name).ok()?)
        .map(String::as_str)
}

/// A name without its quotes.
fn plain(bytes: &[u8]) -> Vec<u8> {
    let inner = bytes
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else {
        return bytes.to_vec();
    };
    let mut name = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(byte) = rest.next() {
        name.push(*byte);
        if *byte == b'"' {
            rest.next();
        }
    }
    name
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a [u8]),
    Quoted(&'a [u8]),
    Text(&'a [u8]),
    Blank(&'a [u8]),
    Other(&'a [u8]),
}

impl<'a> Token<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Name(bytes)
            | Self::Quoted(bytes)
            | Self::Text(bytes)
            | Self::Blank(bytes)
            | Self::Other(bytes) => bytes,
        }
    }
}

/// The words of a statement; together they are the statement.
struct Tokens<'a>(&'a [u8]);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let text = self.0;
        let first = *text.first()?;
        let while_in = |is_in: fn(u8) -> bool| {
            let end = text.iter().position(|byte| !is_in(*byte));
            end.unwrap_or(text.len())
        };
        let length = match first {
            b'"' | b'\'' => quoted_length(text, first),
            _ if first.is_ascii_whitespace() => while_in(|byte| byte.is_ascii_whitespace()),
            _ if is_name(first) => while_in(is_name),
            _ => 1,
        };
        let (token, rest) = text.split_at(length);
        self.0 = rest;
        Some(match first {
            b'"' => Token::Quoted(token),
            b'\'' => Token::Text(token),
            _ if first.is_ascii_whitespace() => Token::Blank(token),
            _ if is_name(first) => Token::Name(token),
            _ => Token::Other(token),
        })
    }
}

/// Up to the closing quote; a doubled one closes nothing, for it opens the next piece.
fn quoted_length(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() {
        if text[at] == quote {
            if text.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    text.len()
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(statement: &str, before: &[&str]) -> String {
        let roles = [("app", "svc"), ("Odd \"one\"", "plain"), ("select", "x y")];
        let roles = roles.map(|(old, new)| (old.to_owned(), new.to_owned()));
        let changed = renamed(statement.as_bytes(), before, &BTreeMap::from(roles));
        String::from_utf8(changed).expect("text")
    }

    #[test]
    fn roles_change_and_nothing_else_does() {
        const ACL: &[&str] = &["TO", "FROM", "ROLE", "AUTHORIZATION", "BY"];
        for (was, is) in [
            (
                "GRANT SELECT(app),UPDATE(app) ON TABLE app.app TO app;\nREVOKE ALL ON SCHEMA app FROM PUBLIC;\n",
                "GRANT SELECT(app),UPDATE(app) ON TABLE app.app TO \"svc\";\nREVOKE ALL ON SCHEMA app FROM PUBLIC;\n",
            ),
            (
                "SET SESSION AUTHORIZATION app;\nGRANT ALL ON TABLE \"to\".\"from\" TO \"Odd \"\"one\"\"\" WITH GRANT OPTION;\nRESET SESSION AUTHORIZATION;\n",
                "SET SESSION AUTHORIZATION \"svc\";\nGRANT ALL ON TABLE \"to\".\"from\" TO \"plain\" WITH GRANT OPTION;\nRESET SESSION AUTHORIZATION;\n",
            ),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT SELECT ON TABLES  TO \"select\";\n",
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"svc\" IN SCHEMA app GRANT SELECT ON TABLES  TO \"x y\";\n",
            ),
            (
                "GRANT ALL ON FUNCTION public.f(app, \"TO\" app) TO other;\n",
                "GRANT ALL ON FUNCTION public.f(app, \"TO\" app) TO other;\n",
            ),
        ] {
            assert_eq!(after(was, ACL), is);
        }
        assert_eq!(
            after(
                "CREATE POLICY p ON public.t FOR SELECT TO other, app, \"select\" USING ((app = 'TO app'::text), app);\n",
                &["TO"]
            ),
            "CREATE POLICY p ON public.t FOR SELECT TO other, \"svc\", \"x y\" USING ((app = 'TO app'::text), app);\n"
        );
    }

    #[test]
    fn names_lose_their_quotes() {
        assert_eq!(plain(b"\"a\"\"b\""), b"a\"b");
        assert_eq!(plain(b"ab"), b"ab");
    }
}
