//! `strongroom identity new`: makes an identity and prints its recipient.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_core::clock::Clock as _;

use crate::failure::{Exit, Failure};
use crate::identity::{self, PassphraseFile, PassphraseSource, Terminal};
use crate::session::Surroundings;

/// Arguments of `identity`.
#[derive(Args)]
pub(crate) struct IdentityArgs {
    #[command(subcommand)]
    command: IdentityCommand,
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Make an identity in a file of its own, sealed by a passphrase
    New(NewArgs),
}

#[derive(Args)]
struct NewArgs {
    /// The file to write; it must not exist
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// The file that holds the passphrase, in place of typing it
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Do not seal it: whoever reads the file opens every backup
    #[arg(long)]
    no_passphrase: bool,
}

pub(crate) fn run(args: &IdentityArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let IdentityCommand::New(args) = &args.command;
    let passphrase = if args.no_passphrase {
        None
    } else {
        let file = args
            .passphrase_file
            .clone()
            .or(around.environment.passphrase_file.clone());
        Some(match file {
            Some(file) => PassphraseFile(file).new_passphrase(&args.out)?,
            None => Terminal.new_passphrase(&args.out)?,
        })
    };
    let sealed = passphrase.is_some();
    let recipient = identity::new_identity(&args.out, passphrase, around.clock.now(), None)?;
    around.report.document(json!({
        "recipient": recipient, "file": args.out, "passphrase": sealed,
    }));
    around.report.answer(&recipient);
    if !around.report.json && !around.report.quiet {
        let sealing = if sealed {
            "sealed by the passphrase"
        } else {
            "NOT sealed"
        };
        eprintln!(
            "The identity is in {}, {sealing}. Keep it away from the host that takes the backups; the line above is \
             its recipient, for the configuration.",
            args.out.display()
        );
    }
    Ok(Exit::Done)
}
