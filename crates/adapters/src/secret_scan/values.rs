//! What stands on the right of a setting: a secret, or something that only stands for one.

use zeroize::Zeroizing;

use super::texts::run;

/// A value, without its quotes.
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) is_quoted: bool,
}

/// The value at the beginning of `rest`; none where there is none, and where prose follows.
///
/// After a `sign` a value may also begin in the next line, as long texts of YAML and TOML do; a `tag` ends at the next one.
pub(super) fn text(rest: &[u8], is_sign: bool, is_tag: bool) -> Option<Text<'_>> {
    if is_tag {
        let bytes = run(rest, |byte| byte != b'<').trim_ascii();
        return Some(Text {
            bytes,
            is_quoted: true,
        });
    }
    let spaces = run(rest, |byte| byte == b' ' || byte == b'\t').len();
    let mut rest = &rest[spaces..];
    // Of a list or a table the first value counts.
    while let [b'[' | b'{', inner @ ..] = rest
        && !rest.starts_with(b"{{")
        && !rest.starts_with(b"{SSHA")
    {
        let begin = run(inner, |byte| byte.is_ascii_whitespace()).len();
        rest = &inner[begin..];
        if rest.starts_with(b"]") || rest.starts_with(b"}") {
            return None;
        }
    }
    match rest {
        [b'\n' | b'\r', ..] | [] => None,
        [b'"', b'"', b'"', rest @ ..] | [b'\'', b'\'', b'\'', rest @ ..] => Some(next_line(rest)),
        [b'|' | b'>', more @ ..] if is_sign && is_block(more) => {
            Some(next_line(&more[line(more).len()..]))
        }
        [b'\\', b'"', rest @ ..] => Some(quoted(rest, b'\\')),
        [quote @ (b'"' | b'\'' | b'`'), rest @ ..] => Some(quoted(rest, *quote)),
        _ => {
            let bytes = run(rest, |byte| {
                !byte.is_ascii_whitespace() && !b"\"'`<,;&}])".contains(&byte)
            });
            let after = line(&rest[bytes.len()..]).trim_ascii();
            let ends =
                after.is_empty() || b"#;,/&}])<\"'`".contains(&after[0]) || after.contains(&b'=');
            (ends || spaces == 0).then_some(Text {
                bytes,
                is_quoted: false,
            })
        }
    }
}

fn line(bytes: &[u8]) -> &[u8] {
    run(bytes, |byte| byte != b'\n')
}

/// Whether this is all that stands after `|` or `>` where a block of YAML begins.
fn is_block(more: &[u8]) -> bool {
    let rest = line(more).trim_ascii();
    rest.iter().all(|byte| b"+-123456789".contains(byte))
}

/// The first line that is not empty.
fn next_line(rest: &[u8]) -> Text<'_> {
    let begin = run(rest, |byte| byte.is_ascii_whitespace()).len();
    let bytes = line(&rest[begin..]).trim_ascii();
    let bytes = run(bytes, |byte| byte != b'"' && byte != b'\'');
    Text {
        bytes,
        is_quoted: true,
    }
}

fn quoted(rest: &[u8], quote: u8) -> Text<'_> {
    let mut end = 0;
    while let Some(byte) = rest.get(end) {
        match byte {
            b'\n' => break,
            byte if *byte == quote => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    Text {
        bytes: &rest[..end.min(rest.len())],
        is_quoted: true,
    }
}

/// Values that stand for one: nobody's secret, or everybody's. In small letters, without what is no letter.
const PLACEHOLDERS: [&[u8]; 33] = [
    b"changeme",
    b"changethis",
    b"changeit",
    b"change",
    b"replaceme",
    b"replacethis",
    b"replace",
    b"fillmein",
    b"fillin",
    b"insert",
    b"todo",
    b"tbd",
    b"fixme",
    b"example",
    b"dummy",
    b"sample",
    b"placeholder",
    b"redacted",
    b"masked",
    b"hidden",
    b"removed",
    b"omitted",
    b"none",
    b"null",
    b"nil",
    b"undefined",
    b"unset",
    b"empty",
    b"password",
    b"passwd",
    b"pass",
    b"secret",
    b"token",
];
/// Words that say on or off.
const SWITCHES: [&[u8]; 19] = [
    b"true",
    b"false",
    b"yes",
    b"no",
    b"on",
    b"off",
    b"enabled",
    b"disabled",
    b"required",
    b"optional",
    b"string",
    b"str",
    b"bytes",
    b"int",
    b"prompt",
    b"ask",
    // The sources of nsswitch.conf.
    b"files",
    b"compat",
    b"db",
];
/// How a value begins that names where the secret is.
const REFERENCES: [&[u8]; 26] = [
    b"${",
    b"$(",
    b"{{",
    b"<",
    b"%(",
    b"%{",
    b"#{",
    b"@",
    b"!",
    b"*",
    b"env:",
    b"env.",
    b"env(",
    b"file:",
    b"vault:",
    b"secret:",
    b"secretref:",
    b"ref+",
    b"ref:",
    b"op://",
    b"arn:",
    b"ssm:",
    b"sops:",
    b"enc[",
    b"pkcs11:",
    b"os.",
];
/// How file names end that hold a secret.
const FILES: [&[u8]; 18] = [
    b".pem", b".key", b".crt", b".cer", b".der", b".p12", b".pfx", b".jks", b".txt", b".json",
    b".toml", b".env", b".vault", b".bin", b".age", b".conf", b".yaml", b".yml",
];

impl Text<'_> {
    /// Whether this may be a secret.
    pub(super) fn is_secret(&self) -> bool {
        let has_spaces = self.bytes.iter().any(u8::is_ascii_whitespace);
        // Words about secrets are no passphrase.
        let is_prose = has_spaces
            && ["password", "passphrase", "secret", "token", "key", "enter"]
                .iter()
                .any(|word| contains(self.bytes, word.as_bytes()));
        let is_code = !self.is_quoted
            && (self.bytes.contains(&b'(') || self.bytes.contains(&b'[') || is_member(self.bytes));
        is_secret(self.bytes) && !is_prose && !is_code
    }
}

/// `settings.password`: the name of a value.
fn is_member(bytes: &[u8]) -> bool {
    let last = memchr::memrchr(b'.', bytes).map(|dot| &bytes[dot + 1..]);
    let ends = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "key",
        "pin",
    ];
    last.is_some_and(|last| {
        let last = Zeroizing::new(last.to_ascii_lowercase());
        ends.iter().any(|end| last.ends_with(end.as_bytes()))
    })
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes
        .windows(word.len())
        .any(|window| window.eq_ignore_ascii_case(word))
}

/// Whether a value is more than a reference, a file, a hash, or a word that stands for a value.
pub(super) fn is_secret(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii();
    let is_mask = bytes.iter().all(|byte| b"*.x-_X#?".contains(byte));
    !is_mask
        && !is_number(bytes)
        && !is_reference(bytes)
        && !is_file(bytes)
        && !is_hash(bytes)
        && !is_placeholder(bytes)
}

/// Up to three digits are a length or a count.
fn is_number(bytes: &[u8]) -> bool {
    bytes.len() <= 3
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'-')
}

fn is_reference(bytes: &[u8]) -> bool {
    let begins = |with: &[u8]| {
        let begin = bytes.get(..with.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(with))
    };
    let is_variable = |rest: &[u8]| {
        !rest.is_empty()
            && rest
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    REFERENCES.iter().any(|with| begins(with))
        || bytes.strip_prefix(b"$").is_some_and(is_variable)
        || bytes
            .strip_prefix(b"%")
            .and_then(|rest| rest.strip_suffix(b"%"))
            .is_some_and(is_variable)
        || memchr::memmem::find(bytes, b"://").is_some_and(|_| !bytes.contains(&b'@'))
        || memchr::memmem::find(bytes, b"${").is_some()
        || memchr::memmem::find(bytes, b"{{").is_some()
}

/// A path, or a name with the ending of a file; base64 that begins with a slash ends with other signs.
fn is_file(bytes: &[u8]) -> bool {
    let is_path = [&b"/"[..], b"./", b"../", b"~/", b"\\\\"]
        .iter()
        .any(|begin| bytes.starts_with(begin))
        && !bytes.contains(&b'+')
        && !bytes.contains(&b'=');
    let is_drive =
        matches!(bytes, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    let lower = Zeroizing::new(bytes.to_ascii_lowercase());
    is_path || is_drive || FILES.iter().any(|end| lower.ends_with(end))
}

/// A password hash: made to be kept where the password is not.
fn is_hash(bytes: &[u8]) -> bool {
    let crypt = bytes
        .strip_prefix(b"$")
        .map(|rest| run(rest, |byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    let is_crypt = crypt.is_some_and(|id| !id.is_empty() && bytes.get(id.len() + 1) == Some(&b'$'));
    let is_ldap = bytes.starts_with(b"{")
        && [
            &b"SHA"[..],
            b"SSHA",
            b"PBKDF2",
            b"ARGON2",
            b"CRYPT",
            b"cipher",
        ]
        .iter()
        .any(|id| bytes[1..].starts_with(id));
    is_crypt || is_ldap || bytes.starts_with(b"SCRAM-SHA-")
}

fn is_placeholder(bytes: &[u8]) -> bool {
    let mut letters = Zeroizing::new(Vec::with_capacity(bytes.len()));
    letters.extend(
        bytes
            .iter()
            .filter(|byte| byte.is_ascii_alphabetic())
            .map(u8::to_ascii_lowercase),
    );
    let others = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let begins = |with: &[u8]| letters.starts_with(with);
    let lower = Zeroizing::new(bytes.to_ascii_lowercase());
    (others == 0 && PLACEHOLDERS.contains(&letters.as_slice()))
        || SWITCHES.contains(&lower.as_slice())
        || (others == 0
            && bytes.iter().any(|byte| b"-_ ".contains(byte))
            && [
                &b"your"[..],
                b"changeme",
                b"changethis",
                b"replace",
                b"insert",
                b"put",
                b"my",
            ]
            .iter()
            .any(|with| begins(with))
            && [
                &b"password"[..],
                b"secret",
                b"key",
                b"token",
                b"here",
                b"passphrase",
                b"value",
                b"me",
                b"this",
            ]
            .iter()
            .any(|end| letters.ends_with(end)))
}

/// Whether a value was chosen to be hard to guess: long, and of more than one kind of letter.
pub(super) fn is_strong(bytes: &[u8]) -> bool {
    let kinds = [
        bytes.iter().any(u8::is_ascii_lowercase),
        bytes.iter().any(u8::is_ascii_uppercase),
        bytes.iter().any(u8::is_ascii_digit),
        bytes
            .iter()
            .any(|byte| byte.is_ascii_punctuation() && !b"-_./:".contains(byte)),
    ];
    let count = kinds.iter().filter(|kind| **kind).count();
    bytes.len() >= 8 && count >= 2 && !is_spoken(bytes)
}

/// Whether a value looks drawn by lot: long, letters and digits, in base64 or hex.
pub(super) fn is_random(bytes: &[u8]) -> bool {
    let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.:~".contains(byte);
    bytes.len() >= 16
        && bytes.iter().all(is_sign)
        && bytes.iter().any(u8::is_ascii_alphabetic)
        && bytes.iter().any(u8::is_ascii_digit)
        && !is_spoken(bytes)
}

/// Names such as `webhook-certs-v2`: words and short numbers.
fn is_spoken(bytes: &[u8]) -> bool {
    let mut words = bytes
        .split(|byte| b"-_./: ".contains(byte))
        .filter(|word| !word.is_empty());
    let is_word = |word: &[u8]| {
        let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
        let is_one_case = !word.iter().any(u8::is_ascii_uppercase)
            || !word[1..].iter().any(u8::is_ascii_lowercase)
            || !word[1..].iter().any(u8::is_ascii_uppercase);
        (digits == 0 && is_one_case) || word.len() <= 4
    };
    words.all(is_word)
}
