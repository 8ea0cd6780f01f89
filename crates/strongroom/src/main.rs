//! The `strongroom` program: reads the command line, runs one command, and ends with its status.

mod approval;
mod cli;
mod command;
mod config;
mod core_dumps;
mod custody;
mod demo;
mod environment;
mod failure;
mod identity;
mod key_password;
mod kit;
mod opened;
mod pin;
mod report;
mod runs;
mod session;
mod sheet;

use std::process::ExitCode;

use clap::Parser as _;
use strongroom_core::cancel::Cancel;
use strongroom_core::clock::SystemClock;
use tracing_subscriber::filter::LevelFilter;

use crate::cli::Cli;
use crate::environment::Environment;
use crate::failure::{Exit, Failure};
use crate::report::Report;
use crate::session::Surroundings;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::read();
    let report = Report::new(&cli.global, environment.no_color);
    log_to_stderr(cli.global.verbose);
    // Before anything is read that could be secret.
    if let Err(error) = core_dumps::forbid() {
        let message = format!("cannot keep secrets out of core dumps: {error}");
        report.failure(&Failure::new(Exit::Failed, "core-dumps", message));
        return ExitCode::from(Exit::Failed.status());
    }
    let cancel = Cancel::default();
    if let Err(failure) = stop_on_signals(&cancel) {
        report.failure(&failure);
        return ExitCode::from(failure.exit.status());
    }
    let around = Surroundings {
        global: cli.global,
        environment,
        report,
        cancel,
        clock: SystemClock,
    };
    let exit = match command::run(cli.command, &around) {
        Ok(exit) => exit,
        Err(failure) => {
            around.report.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.status())
}

/// Interrupt, termination and hang-up stop a run at its next safe place.
fn stop_on_signals(cancel: &Cancel) -> Result<(), Failure> {
    let cancel = cancel.clone();
    ctrlc::set_handler(move || cancel.request())
        .map_err(|error| Failure::new(Exit::Failed, "signals", error.to_string()))
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::WARN,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .init();
}
