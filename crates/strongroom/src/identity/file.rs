//! Reading identities: plain files, files sealed by a passphrase, and typed ones.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use age::armor::ArmoredReader;
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor};
use strongroom_core::format::seal::BoxedIdentity;
use zeroize::Zeroizing;

use super::passphrase::{PassphraseSource, ask};
use super::plugin;
use super::{Identities, IdentityError, IdentityWarning};

/// The longest identity file that is read.
const FILE_MAX: u64 = 1 << 20;
/// The most work that opening a sealed file may take: what `age` allows, 4 GiB of memory and some seconds.
const WORK_FACTOR_MAX: u8 = 22;
const BINARY: &[u8] = b"age-encryption.org/";
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// Reads identity files; the passphrase is asked for once for each file that is sealed.
pub(crate) fn load(
    files: &[PathBuf],
    passphrase: &dyn PassphraseSource,
) -> Result<Identities, IdentityError> {
    let mut found = Identities {
        identities: Vec::new(),
        warnings: Vec::new(),
    };
    for path in files {
        let (bytes, mode) = read(path)?;
        if mode & 0o077 != 0 {
            found.warnings.push(IdentityWarning::ReadableByOthers {
                path: path.clone(),
                mode: mode & 0o7777,
            });
        }
        let origin = path.display().to_string();
        let identities = if bytes.starts_with(BINARY) || bytes.starts_with(ARMOR) {
            parse(&open(path, &bytes, passphrase)?, &origin)?
        } else {
            parse(&bytes, &origin)?
        };
        found.identities.extend(identities);
    }
    Ok(found)
}

/// Asks for an identity at the terminal; it is not shown.
pub(crate) fn typed() -> Result<Vec<BoxedIdentity>, IdentityError> {
    let text = ask("an identity (AGE-SECRET-KEY-1...)").map_err(|error| match error {
        IdentityError::NoTerminal { source, .. } => IdentityError::NoneGiven(source),
        error => error,
    })?;
    parse(text.as_bytes(), "what was typed")
}

/// The content of a file and its permission bits; 0 for what is not a regular file, a pipe for instance.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), IdentityError> {
    let io = || IdentityError::io("read the identity file", path);
    let file = File::open(path).map_err(io())?;
    let metadata = file.metadata().map_err(io())?;
    // One allocation that never moves, so that nothing stays behind.
    let expected = metadata.len().clamp(4096, FILE_MAX) + 1;
    let capacity = usize::try_from(expected).expect("about a MiB");
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io())?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(not_an_identity(
            &path.display().to_string(),
            "it is too long",
        ));
    }
    let mode = if metadata.is_file() {
        metadata.permissions().mode()
    } else {
        0
    };
    Ok((bytes, mode))
}

/// Opens a file that is sealed by a passphrase.
fn open(
    path: &Path,
    sealed: &[u8],
    passphrase: &dyn PassphraseSource,
) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let damaged = |source| IdentityError::Damaged {
        path: path.to_owned(),
        source,
    };
    let decryptor = || Decryptor::new(ArmoredReader::new(sealed)).map_err(damaged);
    if !decryptor()?.is_scrypt() {
        return Err(IdentityError::SealedToRecipient {
            path: path.to_owned(),
        });
    }
    let mut left = passphrase.attempts();
    loop {
        left = left.saturating_sub(1);
        let text = passphrase.passphrase(path)?;
        match decrypt(decryptor()?, text, sealed.len()) {
            Ok(content) => return Ok(content),
            Err(DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed) => {
                if left == 0 {
                    return Err(IdentityError::WrongPassphrase {
                        path: path.to_owned(),
                    });
                }
                passphrase.wrong(path);
            }
            Err(DecryptError::ExcessiveWork { required, .. }) => {
                return Err(IdentityError::TooMuchWork {
                    path: path.to_owned(),
                    required,
                });
            }
            Err(other) => return Err(damaged(other)),
        }
    }
}

fn decrypt(
    decryptor: Decryptor<ArmoredReader<io::BufReader<&[u8]>>>,
    passphrase: SecretString,
    size: usize,
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let mut identity = age::scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(WORK_FACTOR_MAX);
    let mut reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity))?;
    // The content is shorter than what it was sealed in: the allocation never moves.
    let mut content = Zeroizing::new(Vec::with_capacity(size + 1));
    reader.read_to_end(&mut content).map_err(DecryptError::Io)?;
    Ok(content)
}

/// Reads the lines of an identity file.
fn parse(bytes: &[u8], origin: &str) -> Result<Vec<BoxedIdentity>, IdentityError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(not_an_identity(origin, "it is not text"));
    };
    let mut identities: Vec<BoxedIdentity> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Ok(identity) = line.parse::<age::x25519::Identity>() {
            identities.push(Box::new(identity));
        } else if let Ok(identity) = line.parse::<age::plugin::Identity>() {
            identities.push(plugin::identity(identity, origin)?);
        } else {
            let what = if line.starts_with("age1") {
                "holds a recipient, the public half"
            } else if line.starts_with("-----BEGIN OPENSSH") {
                "begins an SSH key, which cannot be used here"
            } else if line.starts_with("AGE-SECRET-KEY-1") {
                "holds an identity with a wrong checksum; a character is wrong or missing"
            } else {
                "holds something else"
            };
            return Err(not_an_identity(
                origin,
                &format!("line {} {what}", index + 1),
            ));
        }
    }
    if identities.is_empty() {
        return Err(not_an_identity(origin, "there is no identity in it"));
    }
    Ok(identities)
}

fn not_an_identity(origin: &str, why: &str) -> IdentityError {
    IdentityError::NotAnIdentity {
        origin: origin.to_owned(),
        why: why.to_owned(),
    }
}
