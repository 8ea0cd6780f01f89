//! Bad input and bad luck, from outside: the built program on directories of its own, as a user runs it.
//!
//! Every run goes through [`fixture::Host`], which also looks for planted secrets in all that is printed.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, write files and wait for the moment of a kill"
)]

mod age_vectors;
mod approvals;
mod commands;
mod copies;
mod copies_expire;
mod core_dumps;
mod custody;
mod expire;
mod faults;
mod fixture;
mod golden;
mod keys;
mod kill;
mod kit;
mod lots;
mod paths;
mod reader;
mod remote;
mod repository_damage;
mod restore_faults;
mod secrets;
mod servers;
mod snapshot;
mod stolen;
mod terminal;
mod tokens;
