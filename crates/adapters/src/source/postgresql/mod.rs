//! The source `postgresql`: databases of one server, each in one consistent cut.

pub mod conninfo;
pub mod programs;
pub mod server;
pub mod session;
pub mod settings;

pub use settings::{
    Connection, FactsMode, NewestColumn, PostgresqlSettings, PostgresqlUrl, PostgresqlUrlError,
};

/// The name of the source in the configuration.
pub const KIND: &str = "postgresql";
