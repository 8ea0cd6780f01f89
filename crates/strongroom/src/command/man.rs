//! `strongroom man`: the manual page on standard output.

use clap::{Args, CommandFactory as _};

use crate::cli::Cli;
use crate::failure::{Exit, Failure};
use crate::session::Surroundings;

/// Arguments of `man`.
#[derive(Args)]
pub(crate) struct ManArgs {
    /// The command whose page is wanted; the program itself otherwise
    command: Option<String>,
}

pub(crate) fn run(args: &ManArgs, around: &Surroundings) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    if let Some(name) = &args.command {
        let found = command.get_subcommands().find(|sub| sub.get_name() == name);
        command = found
            .cloned()
            .ok_or_else(|| Failure::usage(format!("there is no command {name:?}")))?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::new(Exit::Failed, "man", error.to_string()))?;
    around
        .report
        .answer(String::from_utf8_lossy(&page).trim_end());
    Ok(Exit::Done)
}
