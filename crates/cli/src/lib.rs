//! The command line: arguments to a plan, the plan to a backend, the report to the terminal.
//!
//! A library too, so that `python -m propagation` is the same program.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line program

mod args;
mod background;
mod clean;
mod compare;
mod doctor;
mod execute;
mod exit;
mod files;
mod image;
mod interrupt;
mod log;
mod manifests;
mod matrix;
mod output;
mod plans;
mod probe;
mod processor;
mod progress;
mod report;
mod results;
mod run;
mod runtime;
mod targets;

use std::ffi::OsString;

use clap::{CommandFactory, Parser};

use args::{Arguments, Command};
use exit::Exit;
use runtime::runtime;

/// Does what the arguments say, the program's name first, and returns the exit status.
pub fn main(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> u8 {
    warn_on_stderr();
    match Arguments::try_parse_from(arguments) {
        Ok(arguments) => exit::report(dispatch(arguments)),
        Err(refused) => {
            // With its stream closed there is nobody to tell.
            let _ = refused.print();
            u8::try_from(refused.exit_code()).unwrap_or(2)
        }
    }
}

/// Warnings of the backends go to standard error; more with `RUST_LOG`, as in `RUST_LOG=debug`.
fn warn_on_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("propagation=warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Whoever uses this crate as a library may have one already.
    let _ = subscriber.try_init();
}

fn dispatch(arguments: Arguments) -> Result<Exit, propagation_core::Error> {
    match arguments.command {
        Command::Run(options) => run::main(&options),
        Command::Matrix(options) => matrix::main(&options),
        Command::Compare(options) => compare::main(&options),
        Command::Doctor(options) => doctor::main(&options),
        Command::Probe(options) => probe::main(&options),
        Command::Report(options) => report::main(&options),
        Command::Clean(options) => clean::main(&options),
        Command::Manifests(options) => manifests::main(&options),
        Command::Image(options) => image::main(&options),
        Command::Schema { scenario } => {
            let schema = match scenario {
                true => propagation_core::scenario::json_schema(),
                false => propagation_core::Report::json_schema(),
            };
            output::json(&schema)?;
            Ok(Exit::Success)
        }
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "propagation", &mut script);
            output::bytes(&script)?;
            Ok(Exit::Success)
        }
    }
}
