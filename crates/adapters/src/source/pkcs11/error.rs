//! What goes wrong with tokens, and what to do next.

use std::path::PathBuf;

use cryptoki::error::{Error, RvError};
use strongroom_core::source::CaptureError;

use super::pin::PinError;

/// Why a token is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is no such file.
    #[error("there is no module {path}")]
    NoModule {
        /// The module.
        path: PathBuf,
    },
    /// It cannot be loaded, or does not begin to work.
    #[error("the module {path} cannot be used: {why}")]
    Module {
        /// The module.
        path: PathBuf,
        /// What it, or the loader, said.
        why: String,
    },
    /// No slot holds it.
    #[error("there is no token {wanted}; the module shows {seen}")]
    NoToken {
        /// The URI.
        wanted: String,
        /// What is there, in words.
        seen: String,
    },
    /// Several are meant.
    #[error("{wanted} means several tokens, with the serials {serials}")]
    Ambiguous {
        /// The URI.
        wanted: String,
        /// Their serials.
        serials: String,
    },
    /// There is no PIN to try.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// It takes no PIN any more.
    #[error("the PIN of the token is locked")]
    Locked,
    /// It was never given one.
    #[error("the token has no user PIN yet")]
    NoUserPin,
    /// One wrong PIN would lock it.
    #[error("one more wrong PIN locks the token, so none is tried")]
    FinalTry,
    /// The PIN is wrong; it was tried once.
    #[error("the PIN is wrong{left}; it was tried once and is not tried again")]
    WrongPin {
        /// What the token tells about the tries that are left.
        left: &'static str,
    },
    /// The token has gone.
    #[error("the token is not there any more")]
    Removed,
    /// The token refused.
    #[error("the token cannot {operation}: {why}")]
    Call {
        /// What was being done.
        operation: String,
        /// What it said: `C_WrapKey, CKR_KEY_NOT_WRAPPABLE`.
        why: String,
    },
    /// Something about the objects is not as it must be.
    #[error("{0}")]
    Object(String),
}

impl TokenError {
    /// Ties an error of the library to what was being done.
    pub(super) fn call(operation: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let operation = operation.into();
        move |source| match source {
            Error::Pkcs11(
                RvError::DeviceRemoved | RvError::TokenNotPresent | RvError::SlotIdInvalid,
                _,
            ) => Self::Removed,
            source => Self::Call {
                operation,
                why: said(&source),
            },
        }
    }

    /// What to do next.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NoModule { .. } => "Install the vendor's client, or correct `module`.",
            Self::Module { .. } => {
                "`pkcs11-tool --module FILE --list-slots` should say the same; look at the configuration of the vendor's client."
            }
            Self::NoToken { .. } => "Plug it in, or correct what names it: label, serial or uri.",
            Self::Ambiguous { .. } => "Name the one that is meant by its serial.",
            Self::Pin(PinError::NotGiven(_)) => {
                "Write it into a file of mode 0600 and name that as pin_file, or run the command at a terminal."
            }
            Self::Pin(_) => "Correct the file that pin_file names.",
            Self::Locked => {
                "The security officer of the token unlocks it: `pkcs11-tool --login --login-type so --init-pin`."
            }
            Self::NoUserPin => {
                "The security officer of the token sets one: `pkcs11-tool --login --login-type so --init-pin`."
            }
            Self::FinalTry => {
                "Log in once by hand with the right PIN, which sets the tries back; or write use_final_try = true."
            }
            Self::WrongPin { .. } => {
                "Correct the PIN before the next run: each run tries once, and tokens lock themselves after a few wrong ones."
            }
            Self::Removed => "Put it back and run the same command again.",
            Self::Call { .. } | Self::Object(_) => "",
        }
    }

    /// Ties an error of the library to its file.
    pub(super) fn module(path: &std::path::Path) -> impl FnOnce(Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Module {
            path,
            why: said(&source),
        }
    }

    /// As the ports tell it; `what` is the token or object.
    pub(super) fn of(self, what: impl Into<std::ffi::OsString>) -> CaptureError {
        CaptureError::Unsuitable {
            path: what.into(),
            hint: self.hint(),
            why: strongroom_core::error_chain(&self),
        }
    }
}

/// What a token said, as the vendor's manual has it: the library explains each code in a paragraph.
fn said(error: &Error) -> String {
    let Error::Pkcs11(code, function) = error else {
        return strongroom_core::error_chain(error);
    };
    let mut name = "CKR".to_owned();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    format!("C_{function:?}, {name}")
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn codes_are_named_as_the_manuals_name_them() {
        let error =
            TokenError::call("wrap it")(Error::Pkcs11(RvError::KeyNotWrappable, Function::WrapKey));
        assert_eq!(
            error.to_string(),
            "the token cannot wrap it: C_WrapKey, CKR_KEY_NOT_WRAPPABLE"
        );
        let gone = Error::Pkcs11(RvError::DeviceRemoved, Function::Sign);
        assert!(matches!(
            TokenError::call("sign")(gone),
            TokenError::Removed
        ));
    }
}
