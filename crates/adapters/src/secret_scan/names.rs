//! Secrets in files whose name says what they hold. The name alone is no secret: what it promises must be there.

use super::rules::Rule;
use super::texts::run;
use super::{settings, values};

/// How many bytes of such a file are looked at.
pub(super) const LOOK: usize = 16 << 10;
/// The longest file that is one value, in bytes.
const VALUE_MAX: usize = 512;

/// The setting that a file of one line is: its name is that of the file, as Docker, Kubernetes, systemd and `pin_file` have it.
pub(super) fn setting(name: &[u8], content: &[u8]) -> Option<&'static Rule> {
    let value = content.trim_ascii();
    if value.len() > VALUE_MAX || value.contains(&b'\n') {
        return None;
    }
    // What a test has passed is called so as well; a passphrase of words is called one.
    let is_pass = name
        .strip_suffix(b".txt")
        .unwrap_or(name)
        .ends_with(b"pass");
    if is_pass && value.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    settings::named(&setting_name(name)?, value)
}

/// `hsm.pin`, `.vault-token`, `ca.pass`, `db_password.txt` as names of settings; none where a name cannot be one.
pub(super) fn setting_name(name: &[u8]) -> Option<Vec<u8>> {
    let stem = name.strip_suffix(b".txt").unwrap_or(name);
    // Lists of users with hashes.
    if stem.ends_with(b"passwd") {
        return None;
    }
    let dot = |byte: &u8| if *byte == b'.' { b'_' } else { *byte };
    let mut words: Vec<u8> = stem.iter().map(dot).collect();
    let front = words.strip_suffix(b"pass");
    if front.is_some_and(|front| front.last().is_none_or(|byte| b"_-".contains(byte))) {
        words.extend(b"word");
    }
    Some(words)
}

pub(super) fn is_pgpass(name: &[u8]) -> bool {
    name.ends_with(b"pgpass")
}

/// A line of `.pgpass`: `host:port:database:user:password`, where `\` protects a colon.
pub(super) fn pgpass(content: &[u8]) -> Option<usize> {
    let mut lines = lines(content);
    let found = lines.find(|(_, line)| {
        let mut is_protected = false;
        let mut fields = line.splitn(5, |byte| {
            let ends = *byte == b':' && !is_protected;
            is_protected = *byte == b'\\' && !is_protected;
            ends
        });
        let password = fields.nth(4);
        !line.starts_with(b"#") && password.is_some_and(values::is_secret)
    });
    found.map(|(at, _)| at)
}

pub(super) fn is_netrc(name: &[u8]) -> bool {
    name.ends_with(b"netrc") || name == b".authinfo"
}

/// The word `password` and its value, in one line or two; not that of an anonymous login.
pub(super) fn netrc(content: &[u8]) -> Option<usize> {
    let words = lines(content)
        .filter(|(_, line)| !line.trim_ascii_start().starts_with(b"#"))
        .flat_map(|(at, line)| {
            let words = line.split(u8::is_ascii_whitespace);
            words
                .filter(|word| !word.is_empty())
                .map(move |word| (at, word))
        });
    let (mut before, mut is_anonymous) = ((0, &b""[..]), false);
    for (at, word) in words {
        match before.1 {
            b"login" => is_anonymous = matches!(word, b"anonymous" | b"ftp"),
            b"password" if !is_anonymous && values::is_secret(unquoted(word)) => {
                return Some(before.0);
            }
            _ => {}
        }
        // What follows a keyword is a value, also where it is called like one.
        let is_value = matches!(before.1, b"machine" | b"login" | b"account" | b"password");
        before = (at, if is_value { b"" } else { word });
    }
    None
}

fn unquoted(word: &[u8]) -> &[u8] {
    let inner = word.strip_prefix(b"\"").unwrap_or(word);
    inner.strip_suffix(b"\"").unwrap_or(inner)
}

pub(super) fn is_mysql_login(name: &[u8]) -> bool {
    name == b".mylogin.cnf"
}

/// What `mysql_config_editor` writes: four zeros, the key of twenty bytes that hides the rest, and entries with their lengths.
pub(super) fn mysql_login(content: &[u8]) -> Option<usize> {
    (content.len() > 28 && content.starts_with(&[0; 4])).then_some(0)
}

pub(super) fn is_unseal_file(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&name, word).is_some();
    has(b"unseal") || has(b"recovery-key") || has(b"recovery_key") || name == b"vault.key"
}

/// A word that can be an unseal key or a share of one: 32 bytes and more in base64 or hex.
pub(super) fn unseal_key(content: &[u8]) -> Option<usize> {
    let mut lines = lines(content);
    let is_key = |word: &[u8]| {
        let end = word.iter().rposition(|byte| *byte != b'=');
        let value = &word[..end.map_or(0, |end| end + 1)];
        let begin = value.iter().rposition(|byte| *byte == b'=');
        let value = &value[begin.map_or(0, |begin| begin + 1)..];
        let key = run(value, |byte| {
            byte.is_ascii_alphanumeric() || b"+/".contains(&byte)
        });
        key.len() == value.len() && key.len() >= 43 && values::is_random(key)
    };
    let found = lines.find(|(_, line)| {
        line.split(|byte| byte.is_ascii_whitespace() || b"\"',[]".contains(byte))
            .any(is_key)
    });
    found.map(|(at, _)| at)
}

/// The lines, each with the place where it begins.
fn lines(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut begin = 0;
    content.split(|byte| *byte == b'\n').map(move |line| {
        let at = begin;
        begin += line.len() + 1;
        (at, line.trim_ascii_end())
    })
}
