//! Sources and storages, each behind a feature.
//!
//! They implement the ports of `strongroom-core` and know no repository, no format and no command line.

pub mod client;
#[cfg(feature = "source-files")]
mod key_material;
#[cfg(feature = "source-files")]
pub mod secret_scan;
pub mod source;
pub mod storage;
#[cfg(any(feature = "source-mariadb", feature = "source-postgresql"))]
pub mod throwaway;

pub use source::{RESTORERS, SOURCES, restorer};
pub use storage::{STORAGES, create_storage, open_storage};
