//! One file a command. A command reads its arguments, calls the engine, and reports.

pub(crate) mod backup;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod custody;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod expire;
pub(crate) mod export;
pub(crate) mod hold;
pub(crate) mod identity;
pub(crate) mod init;
pub(crate) mod kit;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod repair;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod verify;

use crate::cli::Command;
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;

/// Runs one command.
pub(crate) fn run(command: Command, around: &Surroundings) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(&args, around),
        Command::Identity(args) => identity::run(&args, around),
        Command::Custody(args) => custody::run(&args, around),
        Command::Check(args) => check::run(&args, around),
        Command::Backup(args) => backup::run(&args, around),
        Command::List(args) => list::run(&args, around),
        Command::Show(args) => show::run(&args, around),
        Command::Verify(args) => verify::run(&args, around),
        Command::Restore(args) => restore::run(&args, around),
        Command::Export(args) => export::run(&args, around),
        Command::Expire(args) => expire::run(&args, around),
        Command::Hold(args) => hold::run(&args, around),
        Command::Kit(args) => kit::run(&args, around),
        Command::Diff(args) => diff::run(&args, around),
        Command::Status(args) => status::run(&args, around),
        Command::Repository(args) => repository::run(&args, around),
        Command::Copy(args) => copy::run(&args, around),
        Command::Repair(args) => repair::run(&args, around),
        Command::Demo(args) => demo::run(&args, around),
        Command::Completions(args) => Ok(completions::run(&args, around)),
        Command::Man(args) => man::run(&args, around),
    }
}
