//! One share: its numbers, its value, and the key that it is known by.

use std::fmt;

use zeroize::Zeroizing;

use super::{CUSTODIANS_MAX, ShareError};
use crate::format::dsse::{SigningKey, VerifyingKey};
use crate::format::id::Hasher;
use crate::format::{FormatError, SetId};

/// The version of the form of shares.
const VERSION: u8 = 1;
/// The bytes of a share: version, numbers, set, value.
pub(super) const SHARE_BYTES: usize = 1 + 1 + 8 + 32;
const SET_DOMAIN: &str = "strongroom custody set v1\n";
const KEY_DOMAIN: &str = "strongroom custody share v1\n";

/// A share of an identity. Fewer than the threshold of them tell nothing about it.
#[derive(Clone)]
pub struct Share {
    set: SetId,
    threshold: u8,
    index: u8,
    value: Zeroizing<[u8; 32]>,
}

impl Share {
    pub(super) fn new(set: SetId, threshold: u8, index: u8, value: &[u8; 32]) -> Self {
        let value = Zeroizing::new(*value);
        Self {
            set,
            threshold,
            index,
            value,
        }
    }

    /// The set it belongs to.
    pub fn set(&self) -> SetId {
        self.set
    }

    /// How many shares of the set are needed.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Its number in the set, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    pub(super) fn value(&self) -> &[u8; 32] {
        &self.value
    }

    /// The bytes that both written forms carry.
    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        bytes[0] = VERSION;
        bytes[1] = (self.threshold - 1) << 4 | (self.index - 1);
        bytes[2..10].copy_from_slice(self.set.as_bytes());
        bytes[10..].copy_from_slice(self.value());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; SHARE_BYTES]) -> Result<Self, ShareError> {
        let [version, numbers, rest @ ..] = bytes;
        if *version != VERSION {
            return Err(ShareError::NewerVersion(*version));
        }
        let (set, value) = rest.split_first_chunk().expect("8 bytes");
        let value = value.first_chunk().expect("32 bytes");
        let (threshold, index) = ((numbers >> 4) + 1, (numbers & 15) + 1);
        Ok(Self::new(SetId::from_bytes(*set), threshold, index, value))
    }

    /// The key of whoever holds the share: he signs with it that he does, without showing the share.
    pub fn signing_key(&self) -> Result<SigningKey, FormatError> {
        let mut hasher = Hasher::new();
        hasher.update(KEY_DOMAIN.as_bytes());
        hasher.update(self.to_bytes().as_slice());
        let seed = Zeroizing::new(*hasher.finish().as_bytes());
        SigningKey::from_seed(&seed)
    }

    /// The public half, which the custody record names: it tells this share from any other.
    pub fn verifying_key(&self) -> Result<VerifyingKey, FormatError> {
        Ok(self.signing_key()?.verifying_key())
    }

    pub(super) fn has_value_of(&self, other: &Self) -> bool {
        *self.value == *other.value
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Share({} of set {})", self.index, self.set)
    }
}

/// The name of the set that an identity with this recipient makes when it is split.
pub fn set_id(recipient: &str, threshold: u8) -> SetId {
    let mut hasher = Hasher::new();
    hasher.update(SET_DOMAIN.as_bytes());
    hasher.update(format!("{threshold}\n{recipient}\n").as_bytes());
    let digest = hasher.finish();
    SetId::from_bytes(*digest.as_bytes().first_chunk().expect("8 of 32 bytes"))
}

/// Whether so many of so many is possible.
pub(super) fn are_numbers(threshold: u8, custodians: usize) -> bool {
    threshold >= 1
        && usize::from(threshold) <= custodians
        && custodians <= usize::from(CUSTODIANS_MAX)
}
