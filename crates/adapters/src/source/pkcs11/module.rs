//! Modules, tokens and sessions: loaded once a process, found by what is said of them, logged in to with one try.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::TokenError;
use super::pin::PinEntry;
use super::uri::TokenUri;

/// A module is initialised once a process, because another asset may use it.
static LOADED: Mutex<BTreeMap<PathBuf, Loaded>> = Mutex::new(BTreeMap::new());

/// A module, and how many tokens of it are open.
struct Loaded {
    context: Pkcs11,
    open: usize,
}

/// Counts an open token; its sessions end before it does.
struct InUse(PathBuf);

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(loaded) = modules().get_mut(&self.0) {
            loaded.open -= 1;
        }
    }
}

fn modules() -> MutexGuard<'static, BTreeMap<PathBuf, Loaded>> {
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokens whose PIN was wrong in this process, by module and serial, and what they told about the tries that are left.
static REFUSED: Mutex<BTreeMap<(PathBuf, String), &str>> = Mutex::new(BTreeMap::new());

/// What a token says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// Its label.
    pub label: String,
    /// Its serial number.
    pub serial: String,
    /// Its model.
    pub model: String,
    /// Who made it.
    pub manufacturer: String,
    /// The version of its firmware.
    pub firmware: String,
    /// The version of its hardware.
    pub hardware: String,
    /// The slot that it was in.
    pub slot: u64,
}

impl TokenFacts {
    fn new(slot: Slot, info: &TokenInfo) -> Self {
        Self {
            label: info.label().to_owned(),
            serial: info.serial_number().to_owned(),
            model: info.model().to_owned(),
            manufacturer: info.manufacturer_id().to_owned(),
            firmware: info.firmware_version().to_string(),
            hardware: info.hardware_version().to_string(),
            slot: slot.id(),
        }
    }

    /// Its URI, with all that names it.
    pub fn uri(&self) -> TokenUri {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        TokenUri {
            token: some(&self.label),
            manufacturer: some(&self.manufacturer),
            serial: some(&self.serial),
            model: some(&self.model),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        format!(
            "token {:?}, serial {}, {} {}",
            self.label, self.serial, self.manufacturer, self.model
        )
    }
}

/// How a token is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The module: the vendor's library.
    pub module: PathBuf,
    /// Which token.
    pub token: TokenUri,
    /// Whether the PIN is tried when one more wrong one would lock the token.
    pub use_final_try: bool,
}

/// An open token.
pub(super) struct OpenToken {
    pub(super) session: Session,
    pub(super) facts: TokenFacts,
    pub(super) is_write_protected: bool,
    slot: Slot,
    context: Pkcs11,
    /// For keys that want it before each signature.
    pin: Option<Zeroizing<String>>,
    _in_use: InUse,
}

impl OpenToken {
    /// Opens the token, and logs in.
    pub(super) fn open(
        access: &Access,
        pin: &dyn PinEntry,
        read_write: bool,
    ) -> Result<Self, TokenError> {
        let (context, in_use) = load(&access.module)?;
        let (slot, info) = match find(&context, &access.token) {
            Err(TokenError::NoToken { .. }) if begin_again(&access.module)? => {
                find(&context, &access.token)?
            }
            found => found?,
        };
        let facts = TokenFacts::new(slot, &info);
        let is_write_protected = info.write_protected();
        // A session that may write is refused by a token that is write-protected.
        let session = if read_write && !is_write_protected {
            context.open_rw_session(slot)
        } else {
            context.open_ro_session(slot)
        };
        let session = session.map_err(TokenError::call("open a session"))?;
        let mut token = Self {
            session,
            facts,
            is_write_protected,
            slot,
            context,
            pin: None,
            _in_use: in_use,
        };
        if info.login_required() {
            token.log_in(access, &info, pin)?;
        }
        Ok(token)
    }

    fn log_in(
        &mut self,
        access: &Access,
        info: &TokenInfo,
        entry: &dyn PinEntry,
    ) -> Result<(), TokenError> {
        let tries = Tries::of(info);
        tries.allow(access.use_final_try)?;
        let key = (access.module.clone(), self.facts.serial.clone());
        let refused = || REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = refused().get(&key) {
            return Err(TokenError::WrongPin { left });
        }
        let pin = entry.pin(&self.facts.words(), info.protected_authentication_path())?;
        let given = pin.as_ref().map(auth_pin);
        match self.session.login(UserType::User, given.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                self.pin = pin;
                Ok(())
            }
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            )) => {
                let now = self.context.get_token_info(self.slot);
                let left = now.map_or(tries, |info| Tries::of(&info)).left();
                refused().insert(key, left);
                Err(TokenError::WrongPin { left })
            }
            Err(Error::Pkcs11(RvError::PinLocked, _)) => Err(TokenError::Locked),
            Err(source) => Err(TokenError::call("log in")(source)),
        }
    }

    /// Logs in once more, for a key that wants it before each signature.
    pub(super) fn log_in_again(&self) -> Result<(), TokenError> {
        let given = self.pin.as_ref().map(auth_pin);
        self.session
            .login(UserType::ContextSpecific, given.as_ref())
            .map_err(TokenError::call("log in for one signature"))
    }

    /// Whether the same token is still in its slot.
    pub(super) fn is_still_there(&self) -> Result<(), TokenError> {
        match self.context.get_token_info(self.slot) {
            Ok(info) if info.serial_number() == self.facts.serial => Ok(()),
            _ => Err(TokenError::Removed),
        }
    }
}

fn auth_pin(pin: &Zeroizing<String>) -> AuthPin {
    AuthPin::from(pin.as_str())
}

/// What a token tells about the tries that are left (`CKF_USER_PIN_*`).
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of a token")]
struct Tries {
    is_initialised: bool,
    is_low: bool,
    is_final: bool,
    is_locked: bool,
}

impl Tries {
    fn of(info: &TokenInfo) -> Self {
        Self {
            is_initialised: info.user_pin_initialized(),
            is_low: info.user_pin_count_low(),
            is_final: info.user_pin_final_try(),
            is_locked: info.user_pin_locked(),
        }
    }

    fn allow(self, use_final_try: bool) -> Result<(), TokenError> {
        if self.is_locked {
            return Err(TokenError::Locked);
        }
        if !self.is_initialised {
            return Err(TokenError::NoUserPin);
        }
        if self.is_final && !use_final_try {
            return Err(TokenError::FinalTry);
        }
        Ok(())
    }

    /// Goes on after "the PIN is wrong".
    fn left(self) -> &'static str {
        if self.is_locked {
            ", and the token has locked itself"
        } else if self.is_final {
            ", and the token says that one try is left"
        } else if self.is_low {
            ", and the token says that few tries may be left"
        } else {
            ""
        }
    }
}

fn load(path: &Path) -> Result<(Pkcs11, InUse), TokenError> {
    let mut modules = modules();
    if let Some(loaded) = modules.get_mut(path) {
        loaded.open += 1;
        return Ok((loaded.context.clone(), InUse(path.to_owned())));
    }
    if !path.is_file() {
        return Err(TokenError::NoModule {
            path: path.to_owned(),
        });
    }
    let context = Pkcs11::new(path).map_err(TokenError::module(path))?;
    initialise(&context, path)?;
    let loaded = Loaded {
        context: context.clone(),
        open: 1,
    };
    modules.insert(path.to_owned(), loaded);
    Ok((context, InUse(path.to_owned())))
}

fn initialise(context: &Pkcs11, path: &Path) -> Result<(), TokenError> {
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(source) => Err(TokenError::module(path)(source)),
    }
}

/// Some modules see a new token only when they begin anew; false while a token of this one is open besides.
fn begin_again(path: &Path) -> Result<bool, TokenError> {
    let modules = modules();
    let Some(loaded) = modules.get(path).filter(|loaded| loaded.open == 1) else {
        return Ok(false);
    };
    let ended = loaded.context.clone().finalize();
    ended.map_err(TokenError::module(path))?;
    initialise(&loaded.context, path)?;
    Ok(true)
}

fn find(context: &Pkcs11, wanted: &TokenUri) -> Result<(Slot, TokenInfo), TokenError> {
    let slots = context
        .get_slots_with_token()
        .map_err(TokenError::call("list its slots"))?;
    let mut all = Vec::new();
    for slot in slots {
        // A slot whose token has just been pulled is none.
        if let Ok(info) = context.get_token_info(slot)
            && info.token_initialized()
        {
            all.push((slot, info));
        }
    }
    let facts = |(slot, info): &(Slot, TokenInfo)| TokenFacts::new(*slot, info);
    let seen: Vec<String> = all.iter().map(|one| facts(one).words()).collect();
    all.retain(|one| wanted.matches(&facts(one).uri()));
    if all.len() > 1 {
        let serials: Vec<String> = all.iter().map(|one| facts(one).serial).collect();
        return Err(TokenError::Ambiguous {
            wanted: wanted.to_string(),
            serials: serials.join(", "),
        });
    }
    all.pop().ok_or_else(|| TokenError::NoToken {
        wanted: wanted.to_string(),
        seen: match seen.as_slice() {
            [] => "none".to_owned(),
            seen => seen.join("; "),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pin_is_tried_where_it_would_lock_the_token() {
        let good = Tries {
            is_initialised: true,
            ..Tries::default()
        };
        assert!(good.allow(false).is_ok() && good.left().is_empty());
        let low = Tries {
            is_low: true,
            ..good
        };
        assert!(low.allow(false).is_ok() && low.left().contains("few tries"));
        let last = Tries {
            is_final: true,
            ..low
        };
        assert!(matches!(last.allow(false), Err(TokenError::FinalTry)));
        assert!(last.allow(true).is_ok() && last.left().contains("one try"));
        let locked = Tries {
            is_locked: true,
            ..last
        };
        assert!(matches!(locked.allow(true), Err(TokenError::Locked)));
        assert!(matches!(
            Tries::default().allow(true),
            Err(TokenError::NoUserPin)
        ));
    }

    #[test]
    fn what_is_no_module_is_told_apart() {
        let missing = load(Path::new("/no/such/module.so"));
        assert!(matches!(missing, Err(TokenError::NoModule { .. })));
        let directory = tempfile::tempdir().expect("a directory");
        let text = directory.path().join("text.so");
        strongroom_core::private_file::create_new(&text).expect("creates");
        assert!(matches!(load(&text), Err(TokenError::Module { .. })));
    }
}
