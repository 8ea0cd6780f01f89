//! Where the passphrases of identity files come from.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use zeroize::Zeroizing;

use super::IdentityError;

/// The longest passphrase file that is read.
const FILE_MAX: u64 = 64 << 10;

/// Gives the passphrase of an identity file.
pub(crate) trait PassphraseSource {
    /// The passphrase of a file that is sealed; never empty.
    fn passphrase(&self, identity_file: &Path) -> Result<SecretString, IdentityError>;

    /// A passphrase for a new file; asked for twice where it is typed.
    fn new_passphrase(&self, identity_file: &Path) -> Result<SecretString, IdentityError> {
        self.passphrase(identity_file)
    }

    /// How often it makes sense to ask.
    fn attempts(&self) -> u32 {
        1
    }

    /// Hears that the last passphrase was wrong and that there is another attempt.
    fn wrong(&self, identity_file: &Path) {
        let _ = identity_file;
    }
}

/// The terminal of the process, whatever its standard input is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terminal;

impl PassphraseSource for Terminal {
    fn passphrase(&self, identity_file: &Path) -> Result<SecretString, IdentityError> {
        let text = ask(&format!("the passphrase of {}", identity_file.display()))?;
        not_empty(&text)
    }

    fn new_passphrase(&self, identity_file: &Path) -> Result<SecretString, IdentityError> {
        let text = ask(&format!("a passphrase for {}", identity_file.display()))?;
        let passphrase = not_empty(&text)?;
        let again = ask("it again")?;
        if *text == *again {
            Ok(passphrase)
        } else {
            Err(IdentityError::PassphrasesDiffer)
        }
    }

    fn attempts(&self) -> u32 {
        3
    }

    fn wrong(&self, identity_file: &Path) {
        let file = identity_file.display();
        // Nobody reads it where standard error is closed.
        let _ = writeln!(io::stderr(), "Wrong passphrase for {file}; try again.");
    }
}

/// A file that holds the passphrase; one line end at its end does not belong to it.
#[derive(Clone, Debug)]
pub(crate) struct PassphraseFile(pub(crate) PathBuf);

impl PassphraseSource for PassphraseFile {
    fn passphrase(&self, _: &Path) -> Result<SecretString, IdentityError> {
        let io = || IdentityError::io("read the passphrase file", &self.0);
        let file = File::open(&self.0).map_err(io())?;
        let capacity = usize::try_from(FILE_MAX + 2).expect("64 KiB");
        let mut text = Zeroizing::new(String::with_capacity(capacity));
        file.take(FILE_MAX + 1)
            .read_to_string(&mut text)
            .map_err(io())?;
        if text.len() as u64 > FILE_MAX {
            let error = io::Error::new(io::ErrorKind::FileTooLarge, "it is too long");
            return Err(io()(error));
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        not_empty(line.strip_suffix('\r').unwrap_or(line))
    }
}

/// Asks at the terminal for something that is not shown while it is typed.
pub(crate) fn ask(what: &str) -> Result<Zeroizing<String>, IdentityError> {
    rpassword::prompt_password(format!("Enter {what}: "))
        .map(Zeroizing::new)
        .map_err(|source| IdentityError::NoTerminal {
            what: what.to_owned(),
            source,
        })
}

fn not_empty(text: &str) -> Result<SecretString, IdentityError> {
    if text.is_empty() {
        return Err(IdentityError::EmptyPassphrase);
    }
    Ok(SecretString::from(text))
}
