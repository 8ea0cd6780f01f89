//! The adapters of Strongroom: sources and storages, each behind a feature.
//!
//! Each implements a port of `strongroom-core` and knows one kind of asset or storage; none knows another.

pub mod source;
