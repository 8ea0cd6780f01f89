//! `strongroom completions SHELL`: the completions of a shell on standard output.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Exit;
use crate::session::Surroundings;

/// Arguments of `completions`.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, around: &Surroundings) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "strongroom", &mut script);
    around
        .report
        .answer(String::from_utf8_lossy(&script).trim_end());
    Exit::Done
}
