//! What the tests of Strongroom share; never part of the program.
//!
//! - [`canary`]: planted secrets, and what programs printed.
//! - [`storage_conformance`]: the suite that every [`Storage`](strongroom_core::storage::Storage) passes.
//! - [`memory_storage`]: a storage in memory that can lose its power.
//! - [`fault_storage`]: a decorator that fails, tears, loses and delays by script.
//! - [`server_conformance`]: the suite that every [`DatabaseServer`](strongroom_core::source::server::DatabaseServer) passes.
//! - [`entry`](mod@entry): entries of what lies in no file system.
//! - [`memory_server`]: a database server in memory, with its source.
//! - [`fixtures`]: test databases for PostgreSQL and MariaDB.
//! - [`proxy`]: a TCP proxy that delays, tears, drops and stalls, and answers for HTTP servers.
//! - [`recording_sink`]: a [`Sink`](strongroom_core::source::Sink) that keeps what a source pushes.
//! - [`memory_token`]: a token in memory, with its source.
//! - [`servers`]: real servers for storages, and real tokens.

pub mod canary;
pub mod entry;
pub mod fault_storage;
pub mod fixtures;
pub mod memory_server;
pub mod memory_storage;
pub mod memory_token;
pub mod proxy;
pub mod recording_sink;
pub mod server_conformance;
pub mod servers;
mod skipped;
pub mod storage_conformance;
pub mod stub;

pub use skipped::skip;

use std::io::Read as _;

use strongroom_core::storage::Body;

/// All the bytes of a body.
fn bytes_of(body: &Body<'_>) -> std::io::Result<Vec<u8>> {
    match body {
        Body::Bytes(bytes) => Ok(bytes.to_vec()),
        Body::Owned(bytes) => Ok(bytes.clone()),
        Body::File(path) => {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        }
    }
}
