//! Settings with a secret in them: `name = value` as TOML, INI, shell, YAML, JSON, XML and URIs write it.

use super::rules::{How, RULES, Rule};
use super::texts::{Spot, is_comment, run};
use super::values::{self, Text};

/// Every name of a setting holds one of these, written so.
pub(super) const WORDS: &[&str] = &[
    "secret",
    "Secret",
    "SECRET",
    "pass",
    "Pass",
    "PASS",
    "token",
    "Token",
    "TOKEN",
    "key",
    "Key",
    "KEY",
    "hmac",
    "HMAC",
    "_pin",
    "_PIN",
    "pin-value",
    "Pin",
    "pin=",
    "pin =",
    "pin:",
    "pin\"",
    "PIN=",
    "bindpw",
    "rootpw",
    "masterauth",
];
/// Names whose value follows without a sign between.
const DIRECTIVES: [&[u8]; 4] = [b"requirepass", b"masterauth", b"rootpw", b"bindpw"];
/// The longest name that is looked at, in bytes.
const NAME_MAX: usize = 128;

/// The name of a setting: small letters, words parted by `_`.
#[derive(Clone, Copy)]
pub(super) enum Name {
    /// The whole name, or its last part where it has dots.
    Is(&'static str),
    /// The last words of the name.
    Ends(&'static str),
    /// The end of the name, also in the middle of a word.
    Tail(&'static str),
}

/// What the value of a setting must look like to be a secret.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// Anything that is not empty, a reference, a file, or a word that stands for a value.
    Any,
    /// The same, and it looks chosen to be hard to guess.
    Strong,
    /// The same, and it looks drawn by lot.
    Random,
}

/// The name as it is compared.
struct Normal {
    bytes: [u8; 2 * NAME_MAX],
    length: usize,
}

impl Normal {
    fn new(name: &[u8]) -> Self {
        let mut normal = Self {
            bytes: [0; 2 * NAME_MAX],
            length: 0,
        };
        let mut before = b'_';
        for &byte in name {
            if byte.is_ascii_uppercase() && before.is_ascii_lowercase() {
                normal.push(b'_');
            }
            normal.push(match byte {
                b'-' => b'_',
                byte => byte.to_ascii_lowercase(),
            });
            before = byte;
        }
        normal
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn is(&self, name: Name) -> bool {
        let whole = &self.bytes[..self.length];
        let last = memchr::memrchr(b'.', whole).map_or(whole, |dot| &whole[dot + 1..]);
        let begin = last.iter().take_while(|byte| **byte == b'_').count();
        let last = &last[begin..];
        match name {
            Name::Is(name) => last == name.as_bytes(),
            Name::Ends(name) => last
                .strip_suffix(name.as_bytes())
                .is_some_and(|front| front.last().is_none_or(|byte| *byte == b'_')),
            Name::Tail(name) => last.ends_with(name.as_bytes()),
        }
    }
}

/// How a name and its value are parted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parted {
    /// By a sign.
    Sign,
    /// By spaces alone.
    Spaces,
    /// By the end of a tag.
    Tag,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

/// The rule for the setting whose name has a word of [`WORDS`] at this spot, if its value is a secret.
pub(super) fn judge(spot: &Spot<'_>) -> Option<&'static Rule> {
    let end = run(spot.here, is_name).len();
    let rest = &spot.here[end..];
    // Most words are no names: what follows tells it without a look at the name.
    if !matches!(
        rest.first(),
        Some(b'=' | b':' | b' ' | b'\t' | b'"' | b'\'' | b'\\' | b'>' | b']' | b'\n' | b'\r')
    ) {
        return None;
    }
    let line = spot.line_before();
    let begin = line
        .iter()
        .rposition(|byte| !is_name(*byte))
        .map_or(0, |at| at + 1);
    let (front, name) = line.split_at(begin);
    if name.len() + end > NAME_MAX {
        return None;
    }
    let name = Normal::new(&[name, &spot.here[..end]].concat());
    let mut settings = rules_for(&name);
    let first = settings.next()?;
    let is_table = rest.starts_with(b"]") && front.trim_ascii_start().starts_with(b"[");
    if is_table {
        let holds = name.is(Name::Ends("eab_keys")) && !is_comment(front);
        return holds.then_some(first.0);
    }
    let (parted, value) = parted(front, rest)?;
    let text = values::text(value, parted == Parted::Sign, parted == Parted::Tag)?;
    if parted == Parted::Spaces
        && !text.is_quoted
        && !DIRECTIVES
            .iter()
            .any(|one| name.bytes[..name.length] == **one)
    {
        return None;
    }
    let found = std::iter::once(first)
        .chain(settings)
        .find(|(_, value)| is_secret(*value, &text));
    found.map(|(rule, _)| rule).filter(|_| !is_comment(front))
}

/// The rule for a setting of this name, if `value` is a secret.
pub(super) fn named(name: &[u8], value: &[u8]) -> Option<&'static Rule> {
    let text = Text {
        bytes: value,
        is_quoted: true,
    };
    if name.len() > NAME_MAX {
        return None;
    }
    let name = Normal::new(name);
    rules_for(&name).find_map(|(rule, value)| is_secret(value, &text).then_some(rule))
}

/// Whether a setting of this name may hold a secret.
pub(super) fn is_for_secrets(name: &[u8]) -> bool {
    name.len() <= NAME_MAX && rules_for(&Normal::new(name)).next().is_some()
}

/// The rules for a name, each with what its value must be.
fn rules_for(name: &Normal) -> impl Iterator<Item = (&'static Rule, Value)> {
    RULES.iter().filter_map(|rule| match rule.how {
        How::Setting { names, value } => names
            .iter()
            .any(|one| name.is(*one))
            .then_some((rule, value)),
        _ => None,
    })
}

fn is_secret(value: Value, text: &Text<'_>) -> bool {
    text.is_secret()
        && match value {
            Value::Any => true,
            Value::Strong => values::is_strong(text.bytes),
            Value::Random => values::is_random(text.bytes),
        }
}

/// Where the value begins, and what parts it from the name.
fn parted<'r>(front: &[u8], rest: &'r [u8]) -> Option<(Parted, &'r [u8])> {
    let unescaped = rest.strip_prefix(b"\\").unwrap_or(rest);
    let (is_quoted, after) = match unescaped {
        [b'"' | b'\'', after @ ..] => (true, after),
        _ => (false, rest),
    };
    let spaces = run(after, is_space).len();
    let value = &after[spaces..];
    match value {
        [b'=', b'=' | b'~', ..] | [b':', b':', ..] => None,
        [b':', b'=', value @ ..] | [b'=', b'>', value @ ..] | [b'=' | b':', value @ ..] => {
            Some((Parted::Sign, value))
        }
        [b'>', value @ ..] if front.ends_with(b"<") => Some((Parted::Tag, value)),
        _ if spaces > 0 && !is_quoted && front.trim_ascii().is_empty() => {
            Some((Parted::Spaces, value))
        }
        _ => Some((Parted::Sign, named_value(front, value)?)),
    }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The value in `name: NAME, value: VALUE`, on one line or two, as containers get their environment.
fn named_value<'r>(front: &[u8], rest: &'r [u8]) -> Option<&'r [u8]> {
    let is_sign = |byte: u8| is_space(byte) || b"\"':".contains(&byte);
    let end = front.iter().rposition(|byte| !is_sign(*byte))? + 1;
    if !front[..end].ends_with(b"name") || !front[end..].contains(&b':') {
        return None;
    }
    let between = run(rest, |byte| {
        byte.is_ascii_whitespace() || b",\"'".contains(&byte)
    });
    let rest = rest[between.len()..].strip_prefix(b"value")?;
    let sign = run(rest, is_sign);
    // A quote after the sign begins the value.
    let colon = memchr::memchr(b':', sign)?;
    Some(&rest[colon + 1..])
}
