//! The sources: how one kind of asset is read and proved.

#[cfg(feature = "source-sqlite")]
pub mod sqlite;
