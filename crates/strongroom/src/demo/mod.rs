//! The demonstration: a small certificate authority that can be lost and brought back.
//!
//! It owns the files of that authority and nothing of Strongroom: it neither takes backups nor
//! restores them, so what [`prove`] shows of a restored folder rests on the folder alone.

mod audit;
mod authority;
mod census;
mod config;
mod database;
mod error;
mod proof;
#[cfg(test)]
mod tests;
mod x509;

pub(crate) use {
    authority::{Authority, destroy},
    census::Census,
    error::DemoError,
    proof::prove,
    rcgen::RevocationReason,
};
