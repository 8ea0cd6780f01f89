//! Where the PINs of tokens come from: a file, a credential of systemd, or the terminal. Each is asked for once a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_adapters::source::pkcs11::{PinEntry, PinError, PinFile};
use strongroom_core::error_chain;
use zeroize::Zeroizing;

use crate::identity;

/// What the PIN of an asset is called in the credentials directory of systemd.
const CREDENTIAL_PREFIX: &str = "strongroom-pin-";

/// The PINs of a command.
pub(crate) struct Pins {
    credentials: Option<PathBuf>,
    entries: Mutex<BTreeMap<String, Arc<dyn PinEntry>>>,
}

impl Pins {
    /// None is asked for yet.
    pub(crate) fn new(credentials: Option<PathBuf>) -> Self {
        Self {
            credentials,
            entries: Mutex::default(),
        }
    }

    /// The PIN of an asset's own token.
    pub(crate) fn of_asset(&self, asset: &str, file: Option<&Path>) -> Arc<dyn PinEntry> {
        self.entry(format!("asset {asset}"), || match file {
            Some(file) => Some(file.to_owned()),
            None => self.credential(asset),
        })
    }

    /// The PIN of the token that a restore names.
    pub(crate) fn of_restore(&self, asset: &str, file: Option<&Path>) -> Arc<dyn PinEntry> {
        self.entry(format!("restore {asset}"), || file.map(Path::to_owned))
    }

    fn credential(&self, asset: &str) -> Option<PathBuf> {
        let file = self
            .credentials
            .as_ref()?
            .join(format!("{CREDENTIAL_PREFIX}{asset}"));
        file.exists().then_some(file)
    }

    fn entry(&self, name: String, file: impl FnOnce() -> Option<PathBuf>) -> Arc<dyn PinEntry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(name).or_insert_with(|| match file() {
            Some(file) => Arc::new(PinFile(file)),
            None => Arc::new(Typed::default()),
        });
        Arc::clone(entry)
    }
}

/// A PIN that is typed.
#[derive(Default)]
struct Typed(Mutex<Option<Zeroizing<String>>>);

impl PinEntry for Typed {
    fn pin(&self, token: &str, has_keypad: bool) -> Result<Option<Zeroizing<String>>, PinError> {
        if has_keypad {
            return Ok(None);
        }
        let mut typed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if typed.is_none() {
            let pin = identity::ask(&format!("the PIN of {token}"))
                .map_err(|error| PinError::NotGiven(error_chain(&error)))?;
            if pin.is_empty() {
                return Err(PinError::NotGiven("nothing was typed".to_owned()));
            }
            *typed = Some(pin);
        }
        Ok(typed.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn put(path: &Path, pin: &str) {
        let mut file = strongroom_core::private_file::create_new(path).expect("creates");
        writeln!(file, "{pin}").expect("writes");
    }

    #[test]
    fn the_file_of_the_configuration_comes_before_the_credential() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, credential) = (
            directory.path().join("pin"),
            directory.path().join("strongroom-pin-hsm"),
        );
        put(&file, "1111");
        put(&credential, "2222");
        let pin = |entry: Arc<dyn PinEntry>| entry.pin("t", false).expect("a PIN").expect("a file");
        let pins = || Pins::new(Some(directory.path().to_owned()));
        assert_eq!(*pin(pins().of_asset("hsm", Some(&file))), "1111");
        assert_eq!(*pin(pins().of_asset("hsm", None)), "2222");
        assert_eq!(*pin(pins().of_restore("hsm", Some(&file))), "1111");
    }

    #[test]
    fn a_token_with_a_keypad_asks_for_itself() {
        let entry = Pins::new(None).of_asset("hsm", None);
        assert!(entry.pin("t", true).expect("nothing to ask").is_none());
    }
}
