//! Keys and certificates: what they are, and whether one belongs to the other.
//!
//! - [`pem`] finds blocks of PEM, [`algorithm`] names what signs.
//! - [`public_key`] verifies, [`private_key`] signs a nonce, [`certificate`] says whose key it is and who vouches for it.
//!
//! Bytes in, answers out: no files, no clock, no prompts. Bytes of private keys are wiped when they are dropped and appear in
//! no error.

#![cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "tokens and chains will ask for the rest"
    )
)]

mod algorithm;
mod certificate;
mod pem;
mod private_key;
mod public_key;

pub(crate) use certificate::{Certificate, Issued, certificate_blocks};
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
    /// Not a certificate.
    #[error("it is no certificate: {0}")]
    NoCertificate(der::Error),
    /// Not a `SubjectPublicKeyInfo`.
    #[error("its public key is damaged: {0}")]
    PublicKey(der::Error),
    /// Not the private key that it says it is.
    #[error("it is damaged, or not RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519")]
    PrivateKey,
    /// The block of PEM is of another format.
    #[error("its format is not PKCS#8, PKCS#1 or SEC1")]
    Format,
    /// Nobody here has its password.
    #[error("it is encrypted")]
    Encrypted,
    /// The library would not sign.
    #[error("it did not sign")]
    Signing,
}
