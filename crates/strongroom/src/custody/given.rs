//! Reading shares: from files, sealed or not, and from the keyboard.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use strongroom_core::custody::{
    ShareError, ShareText, WORDS, is_share_text, parse_share, read_word,
};
use strongroom_core::format::seal::{BoxedIdentity, refusal};
use zeroize::Zeroizing;

use super::unreadable;
use crate::failure::{Exit, Failure, PLUGIN_HINT, io};
use crate::identity::ask;

/// The longest file that is read as a share, sealed or not.
const FILE_MAX: u64 = 64 << 10;
const BINARY: &[u8] = b"age-encryption.org/";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// Reads the share of a file; one that is sealed to its custodian is opened with one of the identities.
pub(crate) fn read_file(path: &Path, identities: &[BoxedIdentity]) -> Result<ShareText, Failure> {
    let origin = path.display().to_string();
    let read = || io("read the share", path);
    let file = File::open(path).map_err(read())?;
    // One allocation that never moves, so that nothing stays behind.
    let capacity = usize::try_from(FILE_MAX + 2).expect("64 KiB");
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(read())?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(unreadable(
            &origin,
            &ShareError::SomethingElse("a long file"),
        ));
    }
    if bytes.starts_with(BINARY) || bytes.starts_with(ARMOR) {
        bytes = open(&origin, &bytes, identities)?;
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| unreadable(&origin, &ShareError::SomethingElse("a binary file")))?;
    parse_share(text).map_err(|error| unreadable(&origin, &error))
}

/// Opens a sealed share with one of the identities; a plugin that refuses keeps no other from being tried.
fn open(
    origin: &str,
    sealed: &[u8],
    identities: &[BoxedIdentity],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let damaged = |error: DecryptError| {
        let message = format!("{origin}: cannot open the sealed share: {error}");
        Failure::new(Exit::Failed, "share", message)
            .hint("The file is cut or changed. Take another copy of it.")
    };
    let mut refused = None;
    for identity in identities {
        let decryptor = Decryptor::new(ArmoredReader::new(sealed)).map_err(damaged)?;
        let identity = std::iter::once(&**identity as &dyn age::Identity);
        let mut reader = match decryptor.decrypt(identity) {
            Ok(reader) => reader,
            Err(DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed) => continue,
            Err(error) => {
                let Some(why) = refusal(&error) else {
                    return Err(damaged(error));
                };
                refused.get_or_insert(why);
                continue;
            }
        };
        // The content is shorter than what it was sealed in: the allocation never moves.
        let mut content = Zeroizing::new(Vec::with_capacity(sealed.len() + 1));
        reader
            .read_to_end(&mut content)
            .map_err(|error| damaged(DecryptError::Io(error)))?;
        return Ok(content);
    }
    Err(match refused {
        Some(why) => {
            let message = format!("{origin}: this sealed share was not opened: {why}");
            Failure::new(Exit::WrongIdentity, "plugin", message).hint(PLUGIN_HINT)
        }
        None => Failure::new(
            Exit::WrongIdentity,
            "wrong-identity",
            format!("{origin}: none of the identities given opens this sealed share"),
        )
        .hint("Give the identity of the custodian it was sealed to: --identity FILE."),
    })
}

/// Asks for a share at the terminal, where it is not shown: the line, or the words over as many lines as it takes.
pub(crate) fn typed(what: &str) -> Result<ShareText, Failure> {
    let origin = "what was typed";
    let mut words = Zeroizing::new(String::with_capacity(WORDS * 16));
    let mut count = 0;
    loop {
        let prompt = match count {
            0 => format!("{what}, the line SRSHARE1... or its {WORDS} words"),
            _ => format!("more words, from word {} on", count + 1),
        };
        let line = ask(&prompt)?;
        if line.trim().is_empty() {
            return Err(unreadable(origin, &ShareError::Empty));
        }
        if count == 0 && (is_share_text(&line) || !line.contains(' ')) {
            return parse_share(&line).map_err(|error| unreadable(origin, &error));
        }
        let tokens = line.split_whitespace();
        let tokens: Vec<&str> = tokens.filter(|token| !is_number(token)).collect();
        let wrong = tokens.iter().position(|token| read_word(token).is_none());
        if let Some(wrong) = wrong {
            let error = ShareError::UnknownWord(count + wrong + 1);
            eprintln!("{error}; type this line again. {}", error.hint());
            continue;
        }
        count += tokens.len();
        words.push_str(&line);
        words.push(' ');
        if count >= WORDS {
            return parse_share(&words).map_err(|error| unreadable(origin, &error));
        }
    }
}

fn is_number(token: &str) -> bool {
    token
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".):".contains(&byte))
}
