//! `strongroom demo`
use clap::Args;
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;
/// x
#[derive(Args)]
pub(crate) struct DemoArgs {}
pub(crate) fn run(_: &DemoArgs, _: &Surroundings) -> Result<Exit, Failure> { Ok(Exit::Done) }
