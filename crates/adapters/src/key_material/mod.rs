//! Keys and certificates: what they are, and whether one belongs to the other.
//!
//! - [`look`] finds out what a file holds: [`pem`] blocks, keys in the clear or under a [`password`], also as [`old_pem`] has it, of
//!   [`openssh`], in [`pkcs12`], in a Java [`keystore`].
//! - [`algorithm`] names what signs, [`private_key`] signs a nonce, [`public_key`] verifies, [`certificate`] says whose key it is and
//!   who vouches for it, [`name`] whether two names are one.
//!
//! Bytes in, answers out: no files, no clock, no prompts. Bytes of private keys are wiped when they are dropped and appear in
//! no error; only what the libraries for PKCS#12 and for 3DES make of them while they read is out of reach.

mod algorithm;
mod certificate;
mod keystore;
mod look;
mod name;
mod old_pem;
mod openssh;
mod password;
mod pem;
mod pkcs12;
mod private_key;
mod public_key;

pub(crate) use algorithm::{Algorithm, Curve};
pub(crate) use certificate::{Certificate, Issued};
pub(crate) use keystore::Keystore;
pub(crate) use look::{Key, Material, State, look};
pub(crate) use password::Password;
pub(crate) use pem::{PemBlock, PemBlocks, find};
pub(crate) use private_key::{PrivateKey, SignedNonce};
pub(crate) use public_key::{Hash, PublicKey, Scheme};

#[cfg(test)]
mod tests;

/// Why bytes are not the key or the certificate that they should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum KeyMaterialError {
    /// The text between the lines of a PEM block is no base64, or its end is missing.
    #[error("its PEM is damaged")]
    Pem,
    /// There are fewer bytes than it says.
    #[error("it is cut off")]
    Truncated,
    /// There are more bytes than it says.
    #[error("bytes follow it that are not part of it")]
    Trailing,
    /// Not a certificate.
    #[error("it is no certificate: {0}")]
    NoCertificate(der::Error),
    /// Not a `SubjectPublicKeyInfo`.
    #[error("its public key is damaged: {0}")]
    PublicKey(der::Error),
    /// Not the private key that it says it is.
    #[error("it is damaged")]
    PrivateKey,
    /// A key of an algorithm that cannot sign here.
    #[error("it is {0}, which cannot sign here")]
    Unprovable(String),
    /// A key whose state changes with each signature.
    #[error("it is {0}, whose state must not be copied (NIST SP 800-208)")]
    Stateful(String),
    /// The library would not sign.
    #[error("it did not sign")]
    Signing,
}

/// Why an encrypted key stays closed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Nobody here has its password.
    #[error("it is encrypted")]
    NoPassword,
    /// The password is another one, or the key is damaged, which looks the same.
    #[error("the password does not open it")]
    WrongPassword,
    /// PKCS#12 takes text.
    #[error("the password is not UTF-8 text, which PKCS#12 needs")]
    NoText,
    /// It would take minutes, or gigabytes.
    #[error("it is encrypted, and its password is hashed more often than is tried here")]
    Costly,
    /// The encryption is none that is read here.
    #[error("it is encrypted with {0}, which is not opened here")]
    Method(String),
    /// The same, in the old encryption of PEM.
    #[error("it is encrypted with {0} as old PEM has it, which is not opened here")]
    OldMethod(String),
    /// The file is in a form that is not read here.
    #[error("it is in a form that is not read here ({0})")]
    Unread(String),
}
