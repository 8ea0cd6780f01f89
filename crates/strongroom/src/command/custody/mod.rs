//! `strongroom custody`: an identity in the hands of several people.

mod combine;
mod create;
mod import;
mod rehearse;
mod revoke;
mod rotate;
mod show;

use std::path::Path;

use clap::{Args, Subcommand};
use strongroom_core::custody::ShareText;

pub(crate) use show::last_rehearsal;

use crate::cli::PlainIdentityOptions;
use crate::custody::{read_file, typed};
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;

/// Arguments of `custody`.
#[derive(Args)]
pub(crate) struct CustodyArgs {
    #[command(subcommand)]
    command: CustodyCommand,
}

#[derive(Subcommand)]
enum CustodyCommand {
    /// Make an identity and split it among custodians, each with a sealed share or a sheet of paper
    Create(create::CreateArgs),
    /// Show who holds shares of what, when each was rehearsed, and what was opened with them
    Show(show::ShowArgs),
    /// Prove that a share is there and is the right one, without putting the identity together
    Rehearse(rehearse::RehearseArgs),
    /// Take custody records and rehearsals that were made on other machines
    Import(import::ImportArgs),
    /// Give a share to a command that waits at a socket; the identity comes to be in its memory alone
    Combine(combine::CombineArgs),
    /// Seal the epochs that exist to the recipients of the configuration as well; with --apply, do it
    Rotate(rotate::RotateArgs),
    /// Note that a set is not to be used any more, and show what its custodians still open
    Revoke(revoke::RevokeArgs),
}

pub(crate) fn run(args: &CustodyArgs, around: &Surroundings) -> Result<Exit, Failure> {
    match &args.command {
        CustodyCommand::Create(args) => create::run(args, around),
        CustodyCommand::Show(args) => show::run(args, around),
        CustodyCommand::Rehearse(args) => rehearse::run(args, around),
        CustodyCommand::Import(args) => import::run(args, around),
        CustodyCommand::Combine(args) => combine::run(args, around),
        CustodyCommand::Rotate(args) => rotate::run(args, around),
        CustodyCommand::Revoke(args) => revoke::run(args, around),
    }
}

/// The session, where there is a configuration; a ceremony or a rehearsal on a machine of its own has none.
fn session_if_any(around: &Surroundings) -> Result<Option<crate::session::Session<'_>>, Failure> {
    let is_named = around.global.config.is_some() || around.environment.config.is_some();
    if !is_named && !around.configuration_file().exists() {
        return Ok(None);
    }
    around.session().map(Some)
}

/// The share of whoever runs the command: from a file, which may be sealed, or else from the terminal.
fn own_share(
    file: Option<&Path>,
    identity: &PlainIdentityOptions,
    around: &Surroundings,
) -> Result<ShareText, Failure> {
    let Some(path) = file else {
        return typed("your share");
    };
    let identities = around.custodian_identities(identity).map_err(|failure| {
        failure.context(format_args!(
            "{}: this share was not opened",
            path.display()
        ))
    })?;
    read_file(path, &identities)
}

/// Nobody knows a set of this name here.
fn no_set(wanted: &str) -> Failure {
    let message = format!("there is no set {wanted:?}");
    Failure::new(Exit::Refused, "no-custody-record", message).hint(
        "`strongroom custody show` has the sets; `custody import` takes the record of another one.",
    )
}
