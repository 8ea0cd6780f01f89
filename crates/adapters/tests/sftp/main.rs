//! The SFTP storage against a private OpenSSH server: the contract, a bad network, wrong keys, a strict server.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, write files and read the environment"
)]

mod access;
mod faults;
mod network;
mod place;
mod restricted;
