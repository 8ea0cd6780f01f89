//! Restores databases into a PostgreSQL server: the port [`strongroom_core::source::server`].

pub mod archive;
