//! Keys in a PKCS#11 token: an HSM, a smartcard, SoftHSM2.
//!
//! - [`module`] loads the vendor's library, finds the token and logs in; [`objects`] reads what it holds, [`proof`] lets each key sign.
//! - [`capture`] takes what may leave: certificates and public keys; keys under a wrapping key ([`wrap`]), or the files of a SoftHSM2
//!   token ([`softhsm`]), or what the vendor's procedure makes ([`vendor`]).
//! - [`store`] puts objects into a token again, through the port of tokens.
//!
//! No key leaves a token in the clear, and no PIN is tried twice.

mod capture;
mod error;
mod facts;
mod module;
mod objects;
mod observe;
mod paths;
mod pin;
mod proof;
mod public_key;
mod restorer;
mod softhsm;
mod store;
mod uri;
mod vendor;
mod wrap;

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use strongroom_core::source::{Capture, CaptureError, Inspection, Sink, Source};

pub use error::TokenError;
pub use module::{Access, TokenFacts};
pub use pin::{PinEntry, PinError, PinFile};
pub use restorer::Pkcs11Restorer;
pub use store::TokenStore;
pub use uri::{TokenUri, UriError};
pub use vendor::VendorBackup;

/// The name of this kind of source.
const KIND: &str = "pkcs11";

/// What of a token leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Certificates and public keys; keys only as the vendor's procedure brings them out.
    Inventory(VendorBackup),
    /// Extractable keys, wrapped.
    Wrapped {
        /// The label of the wrapping key in the token.
        wrapping_key: String,
        /// Who else has it, and where: without it nobody opens the keys.
        custody: String,
        /// Labels or identifiers of keys that are known to stay behind.
        stay_in_token: Vec<String>,
    },
    /// The files of a SoftHSM2 token.
    SoftHsm {
        /// SoftHSM's `directories.tokendir`.
        tokens: PathBuf,
    },
}

impl Export {
    /// The name in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Inventory(_) => "inventory",
            Self::Wrapped { .. } => "wrapped",
            Self::SoftHsm { .. } => "softhsm",
        }
    }
}

/// What a token asset covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Settings {
    /// How the token is reached.
    pub access: Access,
    /// What leaves it.
    pub export: Export,
}

/// Captures a token.
///
/// Facts: `token` (label, serial, model, manufacturer, firmware, hardware, slot), `export`, `objects` (each with class, id, label, key type,
/// size, digest of its public key, flags, URI, whether it was proved, and the path of its stream), and `wrapping` where keys were wrapped.
pub struct Pkcs11Source {
    settings: Pkcs11Settings,
    pin: Arc<dyn PinEntry>,
}

impl Pkcs11Source {
    /// A source for these settings; `pin` is asked when the token is opened.
    pub fn new(settings: Pkcs11Settings, pin: Arc<dyn PinEntry>) -> Self {
        Self { settings, pin }
    }
}

impl Source for Pkcs11Source {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn settings(&self) -> Value {
        let access = &self.settings.access;
        let mut settings = json!({
            "module": access.module.to_string_lossy(),
            "uri": access.token.to_string(),
            "export": self.settings.export.name(),
        });
        match &self.settings.export {
            Export::Inventory(vendor) if !vendor.is_none() => {
                settings["vendor_backup"] = vendor.command.clone().into();
                settings["vendor_backup_file"] = vendor
                    .file
                    .as_ref()
                    .map(|file| file.to_string_lossy().into_owned())
                    .into();
            }
            Export::Inventory(_) => {}
            Export::Wrapped {
                wrapping_key,
                custody,
                stay_in_token,
            } => {
                settings["wrapping_key"] = wrapping_key.clone().into();
                settings["wrapping_key_custody"] = custody.clone().into();
                settings["stay_in_token"] = stay_in_token.clone().into();
            }
            Export::SoftHsm { tokens } => {
                settings["softhsm_tokens"] = tokens.to_string_lossy().into();
            }
        }
        settings
    }

    fn inspect(&self) -> Result<Inspection, CaptureError> {
        capture::inspect(&self.settings, &*self.pin)
    }

    fn capture(&self, sink: &dyn Sink) -> Result<Capture, CaptureError> {
        capture::capture(&self.settings, &*self.pin, sink)
    }
}
