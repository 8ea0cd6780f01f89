//! The engine of Strongroom: the format, the repository, the two ports, plans and their execution.
//!
//! It prints nothing, reads no environment and knows no vendor: what it has to say it returns, and
//! what happens while it works it tells an [`execute::Observer`].

pub mod cancel;
pub mod check;
pub mod clock;
pub mod custody;
mod error_chain;
pub mod execute;
pub mod format;
pub mod plan;
pub mod private_file;
pub mod repository;
pub mod source;
pub mod storage;

pub use error_chain::error_chain;
