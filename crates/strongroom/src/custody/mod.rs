//! Custody at the command line: where shares come from, how a quorum gathers around a waiting command, and what is kept
//! of it. What a share is and when there are enough is decided in `strongroom_core::custody`.
//!
//! The identity that a quorum gives lives in the memory of the command that asked for it and is written nowhere.

mod gathering;
mod given;
mod paper;
mod quorum;
mod records;
mod resealed;
mod socket;

pub(crate) use given::{read_file, typed};
pub(crate) use paper::paper_sheet;
pub(crate) use quorum::Purpose;
pub(crate) use records::{Records, read, read_record};
pub(crate) use resealed::Resealed;
pub(crate) use socket::give;

use strongroom_core::custody::ShareError;

use crate::failure::{Exit, Failure};

/// A share that could not be read, from where it was to come.
fn unreadable(origin: &str, error: &ShareError) -> Failure {
    Failure::new(Exit::Failed, "share", format!("{origin}: {error}")).hint(error.hint())
}
