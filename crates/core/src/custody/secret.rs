//! The identity itself: 32 bytes, and the age identity that they are.

use bech32::{Bech32, Hrp};
use zeroize::Zeroizing;

use super::CustodyError;
use super::locked::Locked;
use crate::format::FormatError;
use crate::format::seal::BoxedIdentity;

const HRP: Hrp = Hrp::parse_unchecked("age-secret-key-");
/// The length of `AGE-SECRET-KEY-1...`.
const TEXT_LENGTH: usize = 74;

/// An X25519 age identity in memory that is wiped, and locked where possible.
///
/// What age makes of it for sealing and opening lives in memory that age wipes but does not lock.
pub struct SecretIdentity(Locked);

impl SecretIdentity {
    /// Makes a new one from the system's random generator, in the memory where it stays.
    pub fn generate() -> Result<Self, CustodyError> {
        let mut bytes = Locked::new();
        aws_lc_rs::rand::fill(bytes.bytes_mut()).map_err(|_| FormatError::Crypto {
            operation: "make random bytes",
        })?;
        Ok(Self(bytes))
    }

    /// Takes 32 bytes over; the caller wipes his.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut locked = Locked::new();
        if bytes.len() != locked.bytes().len() {
            return None;
        }
        locked.bytes_mut().copy_from_slice(bytes);
        Some(Self(locked))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        self.0.bytes()
    }

    /// Whether the system keeps its bytes out of swap.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    /// Its public half, `age1...`.
    pub fn recipient(&self) -> String {
        self.to_age().to_public().to_string()
    }

    /// What opens backups; secret as this.
    pub fn to_identity(&self) -> BoxedIdentity {
        Box::new(self.to_age())
    }

    fn to_age(&self) -> age::x25519::Identity {
        // One allocation that never moves, so that nothing stays behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LENGTH));
        bech32::encode_upper_to_fmt::<Bech32, _>(&mut *text, HRP, self.bytes())
            .expect("32 bytes fit in");
        text.parse().expect("it was just spelt")
    }

    /// Whether this is the identity of an age identity; for tests of the dealer.
    #[cfg(test)]
    pub(super) fn is_spelt(&self, text: &str) -> bool {
        use age::secrecy::ExposeSecret as _;
        self.to_age().to_string().expose_secret() == text
    }
}

impl std::fmt::Debug for SecretIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretIdentity(..)")
    }
}
