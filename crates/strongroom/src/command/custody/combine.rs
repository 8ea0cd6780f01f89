//! `strongroom custody combine`: gives a share to a command that waits at a socket.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::own_share;
use crate::cli::PlainIdentityOptions;
use crate::custody::give;
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;

/// Arguments of `custody combine`.
#[derive(Args)]
pub(crate) struct CombineArgs {
    /// The socket of the waiting command
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The share; without it, it is asked for at the terminal
    #[arg(long, value_name = "FILE")]
    share: Option<PathBuf>,
    /// The account that the waiting command may run as, besides root and yours
    #[arg(long, value_name = "UID")]
    listener: Option<u32>,
    #[command(flatten)]
    identity: PlainIdentityOptions,
}

pub(crate) fn run(args: &CombineArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let text = own_share(args.share.as_deref(), &args.identity, around)?;
    let said = give(&args.socket, args.listener, &text)?;
    around.report.answer(&said);
    around.report.document(json!({
        "accepted": true, "set": text.share.set(), "index": text.share.index(), "message": said,
    }));
    Ok(Exit::Done)
}
