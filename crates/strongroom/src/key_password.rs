//! The passwords of encrypted keys whose asset says `key_password = "ask"`: a credential of systemd, or typed, once a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use age::secrecy::ExposeSecret as _;
use strongroom_adapters::source::files::KeyPasswords;
use strongroom_core::error_chain;
use zeroize::Zeroizing;

use crate::identity::{IdentityError, PassphraseFile, PassphraseSource as _, ask};

/// What the password of an asset is called in the credentials directory of systemd.
const CREDENTIAL_PREFIX: &str = "strongroom-key-password-";

/// The passwords of a command.
pub(crate) struct AskedPasswords {
    credentials: Option<PathBuf>,
    /// What was typed, by asset; none where nobody could be asked.
    typed: Mutex<BTreeMap<String, Result<Zeroizing<String>, String>>>,
}

impl AskedPasswords {
    /// None is asked for yet.
    pub(crate) fn new(credentials: Option<PathBuf>) -> Self {
        Self {
            credentials,
            typed: Mutex::default(),
        }
    }
}

impl KeyPasswords for AskedPasswords {
    fn password(
        &self,
        asset: &str,
        file: &Path,
        was_wrong: bool,
    ) -> Result<Zeroizing<String>, String> {
        let credentials = self.credentials.as_ref();
        let credential = credentials.map(|all| all.join(format!("{CREDENTIAL_PREFIX}{asset}")));
        if let Some(credential) = credential.filter(|file| file.exists()) {
            if was_wrong {
                return Err(format!(
                    "the credential {CREDENTIAL_PREFIX}{asset} does not open it"
                ));
            }
            let read = PassphraseFile(credential.clone()).passphrase(&credential);
            return read
                .map(|secret| Zeroizing::new(secret.expose_secret().to_owned()))
                .map_err(|error| error_chain(&error));
        }
        let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = typed
            .get(asset)
            .filter(|known| known.is_err() || !was_wrong)
        {
            return known.clone();
        }
        let again = if was_wrong {
            "another password"
        } else {
            "the password"
        };
        let given = ask(&format!("{again} of the private key in {}", file.display()));
        let given = given.map_err(|error| match error {
            IdentityError::NoTerminal { .. } => "there is no terminal to ask for it".to_owned(),
            error => error_chain(&error),
        });
        typed.insert(asset.to_owned(), given.clone());
        given
    }
}
