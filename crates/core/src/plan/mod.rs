//! Plans: ordered steps, computed before anything is touched.
//!
//! Pure: what a plan needs to know of the world is handed in. It never opens, lists or asks; that is what
//! lets a dry run, a drill, a resumption and a test use the plan that an execution uses.

pub mod approval;
pub mod backup;
pub mod copy;
pub mod expire;
pub(crate) mod path_text;
pub mod repair;
pub mod restore;
