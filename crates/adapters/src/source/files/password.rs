//! Where the password of encrypted keys comes from when it is in no file.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Gives the passwords of encrypted keys, for instance by asking.
pub trait KeyPasswords: Send + Sync {
    /// The password of the keys of an asset, of which `file` holds one; another one than the time before where that
    /// `was_wrong`. An error says why there is none.
    fn password(
        &self,
        asset: &str,
        file: &Path,
        was_wrong: bool,
    ) -> Result<Zeroizing<String>, String>;
}

/// Whom to ask for the password of one asset's keys.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) asset: String,
    pub(super) passwords: Arc<dyn KeyPasswords>,
}
