//! Texts that are secrets by themselves: keys in armour, tokens with a form of their own, passwords in URLs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use zeroize::Zeroizing;

use super::values;

/// A text that may be a secret, with what stands around it.
pub(super) struct Spot<'a> {
    /// What stands before it, as much as decides.
    pub(super) before: &'a [u8],
    /// The text that a rule begins at.
    pub(super) text: &'a [u8],
    /// The same with what follows, as much as decides.
    pub(super) here: &'a [u8],
    /// What follows.
    pub(super) after: &'a [u8],
    /// The beginning of the stream.
    pub(super) head: &'a [u8],
}

impl Spot<'_> {
    /// The line up to the text.
    pub(super) fn line_before(&self) -> &[u8] {
        let begin = memchr::memrchr(b'\n', self.before).map_or(0, |feed| feed + 1);
        &self.before[begin..]
    }

    /// Whether this is the text.
    fn is(&self, exact: &[u8]) -> bool {
        self.text == exact
    }

    /// Whether no letter or digit stands right before the text, so that it is a word of its own.
    fn begins_a_word(&self) -> bool {
        let last = self.before.last();
        // "\n" in a string is the end of a line.
        let escaped = self.before.ends_with(b"\\n") || self.before.ends_with(b"\\t");
        escaped || last.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
    }

    /// The longest run of these bytes that follows.
    fn run(&self, of: impl Fn(u8) -> bool) -> &[u8] {
        run(self.after, of)
    }
}

/// The longest beginning of these bytes.
pub(super) fn run(bytes: &[u8], of: impl Fn(u8) -> bool) -> &[u8] {
    let end = bytes.iter().position(|byte| !of(*byte));
    &bytes[..end.unwrap_or(bytes.len())]
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// Letters and digits with `-` and `_`: base64 for URLs, and what most tokens are made of.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// RFC 7468, RFC 1421, OpenSSH, `OpenPGP` (RFC 9580, 6.2) and SSH2 (RFC 4716): the first line of the armour, and content below it.
pub(super) fn is_armoured_key(spot: &Spot<'_>) -> bool {
    let line = spot.line_before();
    let near = &line[line.len().saturating_sub(64)..];
    let begins = memchr::memmem::find(near, b"-- BEGIN ").is_some()
        || memchr::memmem::find(near, b"--BEGIN ").is_some();
    let after = spot.after.strip_prefix(b" BLOCK").unwrap_or(spot.after);
    let body = after
        .strip_prefix(b"-----")
        .or_else(|| after.strip_prefix(b" ----"));
    begins && body.is_some_and(has_body)
}

/// Whether lines of base64 follow, also inside of a string or a comment; an example has dots there.
fn has_body(mut bytes: &[u8]) -> bool {
    loop {
        bytes = match bytes {
            [b'\\', b'n' | b'r' | b't', rest @ ..] => rest,
            [byte, rest @ ..] if byte.is_ascii_whitespace() || b"\\\"',+#;>|*".contains(byte) => {
                rest
            }
            _ => break,
        };
    }
    let headers: [&[u8]; 4] = [b"Proc-Type:", b"Version:", b"Comment:", b"Subject:"];
    let data = run(bytes, is_base64);
    let rest = bytes[data.len()..].trim_ascii_start();
    headers.iter().any(|header| bytes.starts_with(header))
        || data.len() >= 16
        || (!data.is_empty() && rest.starts_with(b"-----END "))
}

/// The key file of `PuTTY`.
pub(super) fn is_putty_key(spot: &Spot<'_>) -> bool {
    spot.after.first().is_some_and(u8::is_ascii_digit)
}

/// A key in PEM that is wrapped in base64 once more, as in the Secrets of Kubernetes.
pub(super) fn is_wrapped_key(spot: &Spot<'_>) -> bool {
    let data = run(&spot.here[..spot.here.len().min(60)], is_base64);
    // Whole groups of four letters.
    let line = BASE64.decode(&data[..data.len() & !3]);
    let line = Zeroizing::new(line.unwrap_or_default());
    memchr::memmem::find(&line, b"PRIVATE KEY").is_some()
}

/// An age identity: bech32, in capitals.
pub(super) fn is_age_identity(spot: &Spot<'_>) -> bool {
    let data = spot.run(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    let least = if spot.is(b"AGE-PLUGIN-") { 12 } else { 50 };
    data.len() >= least && data.contains(&b'1')
}

/// The object identifiers of private keys in PKCS#12 (RFC 7292, appendix D), and of what protects them in Java's own keystores.
pub(super) fn is_in_keystore(spot: &Spot<'_>) -> bool {
    let is_pkcs12 = spot.head.first() == Some(&0x30);
    let is_java = [[0xfe, 0xed, 0xfe, 0xed], [0xce, 0xce, 0xce, 0xce]]
        .iter()
        .any(|magic| spot.head.starts_with(magic));
    let is_bag = matches!(spot.after.first(), Some(0x01 | 0x02 | 0x05));
    if spot.is(super::rules::BAG) {
        is_pkcs12 && is_bag
    } else {
        is_java
    }
}

/// A token of Vault or `OpenBao`: service, batch, recovery.
pub(super) fn is_vault_token(spot: &Spot<'_>) -> bool {
    spot.begins_a_word() && spot.run(is_token).len() >= 24
}

/// A token of Vault before 1.10: `s.` and 24 letters and digits.
pub(super) fn is_old_vault_token(spot: &Spot<'_>) -> bool {
    let data = spot.run(|byte| byte.is_ascii_alphanumeric());
    let end = spot.after.get(data.len());
    data.len() == 24
        && end.is_none_or(|byte| !is_token(*byte) && *byte != b'.')
        && data.iter().any(u8::is_ascii_digit)
        && data.iter().any(u8::is_ascii_lowercase)
        && data.iter().any(u8::is_ascii_uppercase)
}

/// What `vault operator init` prints: `Unseal Key 1: ...`, `Recovery Key 1: ...`, and its JSON with arrays of them.
pub(super) fn is_unseal_key(spot: &Spot<'_>) -> bool {
    let key = if spot.text.ends_with(b" ") {
        let number = spot.run(|byte| byte.is_ascii_digit());
        let rest = &spot.after[number.len()..];
        if number.is_empty() {
            return false;
        }
        rest.strip_prefix(b":")
    } else {
        let rest =
            spot.run(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let rest = &spot.after[rest.len()..];
        // A list of JSON, or one of YAML.
        let begin = memchr::memchr2(b'[', b'-', &rest[..rest.len().min(8)]);
        begin.map(|begin| &rest[begin + 1..])
    };
    let Some(key) = key else {
        return false;
    };
    let key = &key[run(key, |byte| {
        byte.is_ascii_whitespace() || byte == b'"' || byte == b'-'
    })
    .len()..];
    run(key, is_base64).len() >= 32
}

/// A token whose beginning names who gave it out, with at least this many characters after it.
fn is_long_token(spot: &Spot<'_>, length: usize) -> bool {
    let data = spot.run(is_token);
    spot.begins_a_word() && data.len() >= length && data.iter().any(u8::is_ascii_digit)
}

/// GitHub's and GitLab's tokens.
pub(super) fn is_forge_token(spot: &Spot<'_>) -> bool {
    let least = match spot.text {
        b"github_pat_" => 22,
        b"glpat-" => 20,
        _ => 36,
    };
    is_long_token(spot, least)
}

/// Slack's tokens, and the addresses of its incoming webhooks.
pub(super) fn is_slack_token(spot: &Spot<'_>) -> bool {
    if spot.is(b"xox") {
        let is_kind = matches!(
            spot.after,
            [b'a' | b'b' | b'e' | b'p' | b'r' | b's', b'-', ..]
        );
        return is_kind && is_long_token(spot, 22);
    }
    let path = spot.run(|byte| byte.is_ascii_alphanumeric() || byte == b'/');
    path.len() >= 30 && path.iter().any(u8::is_ascii_digit)
}

/// A signed JSON Web Token (RFC 7519): its header and its claims both begin with a brace.
pub(super) fn is_web_token(spot: &Spot<'_>) -> bool {
    let header = spot.run(is_token);
    let rest = &spot.after[header.len()..];
    spot.begins_a_word()
        && header.len() >= 12
        && rest
            .strip_prefix(b".eyJ")
            .is_some_and(|claims| run(claims, is_token).len() >= 12)
}

/// `Authorization: Bearer ...` and `Basic ...`.
pub(super) fn is_authorization(spot: &Spot<'_>) -> bool {
    let between = spot.run(|byte| b"\\\"': =[".contains(&byte));
    let rest = &spot.after[between.len()..];
    let schemes: [&[u8]; 3] = [b"bearer ", b"basic ", b"token "];
    let credentials = schemes.iter().find_map(|scheme| {
        let (begin, rest) = rest.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let is_credential = |byte: u8| is_base64(byte) || b"-_.~=".contains(&byte);
    credentials.is_some_and(|credentials| {
        let value = run(credentials, is_credential);
        !between.is_empty() && values::is_random(value)
    })
}

/// `scheme://user:password@host`.
pub(super) fn is_url_with_password(spot: &Spot<'_>) -> bool {
    let has_scheme = spot.before.last().is_some_and(u8::is_ascii_alphanumeric);
    let authority = run(&spot.after[..spot.after.len().min(512)], |byte| {
        !byte.is_ascii_whitespace() && !b"/?#\"'`<>\\,".contains(&byte)
    });
    let user = memchr::memrchr(b'@', authority).map(|at| &authority[..at]);
    let password = user.and_then(|user| memchr::memchr(b':', user).map(|at| &user[at + 1..]));
    has_scheme && password.is_some_and(values::is_secret) && !is_comment(spot.line_before())
}

/// A manifest of Kubernetes that holds a Secret with data.
pub(super) fn is_kubernetes_secret(spot: &Spot<'_>) -> bool {
    let ends = spot.after.first().is_none_or(u8::is_ascii_whitespace);
    spot.line_before().is_empty() && ends
}

/// Whether what follows the beginning of a line stands in a comment.
pub(super) fn is_comment(line: &[u8]) -> bool {
    let begin = line.trim_ascii_start();
    let signs: [&[u8]; 8] = [b"#", b";", b"//", b"-- ", b"/*", b"* ", b"<!--", b"rem "];
    if signs.iter().any(|sign| begin.starts_with(sign)) {
        return true;
    }
    memchr::memchr_iter(b'#', line).any(|at| {
        let quotes = memchr::memchr_iter(b'"', &line[..at]).count();
        quotes.is_multiple_of(2) && at > 0 && line[at - 1].is_ascii_whitespace()
    })
}
