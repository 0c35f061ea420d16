//! The wiring of FlowSync: configuration, command line, and the pipeline of one process. What it wires is in the other
//! crates; no logic is here. The binary is [`main`]; the benchmark drives the same code.

// They panic where nobody reads: see `out`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::Parser;

mod backlog;
mod cli;
mod commands;
mod committer;
mod config;
pub mod data;
mod facts;
mod kept;
mod memory;
mod out;
mod patience;
pub mod pipeline;
mod reader;
mod retention;
pub mod send;
mod serve;
#[cfg(test)]
mod simulation;
mod tables;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    main_from(std::env::args_os())
}

/// Runs a command line, whose first argument is the program's name.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(cli::Cli::parse_from(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<out::ReaderGone>() => ExitCode::from(out::READER_GONE),
        // For people: what is wrong, where, what to do. A backtrace helps nobody there.
        Err(error) => {
            out::aside!("flowsync: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: cli::Cli) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("FLOWSYNC_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(cli.command.log_filter()));
    // What nobody reads is no internal error: it would be told on standard error, and end the thread.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    if cli.log_json {
        log.json().init()
    } else {
        log.init()
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    commands::dispatch(cli, &runtime)
}
