//! The storages behind a network, each against a real server.

mod s3;
