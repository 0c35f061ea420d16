//! The benchmark: every figure against the physical limit of this machine, and against what users would pick instead, in one
//! run. See `bench/README.md`.
//!
//! Nothing here is imported by anyone. It measures the product through its own doors: the dataflow by its job, everything
//! else by the real process, which is this same executable (`flowsync-bench flowsync run …`).

mod accuracy;
mod alone;
mod history;
mod hot;
mod incremental;
mod limit;
mod machine;
mod operators;
mod peers;
mod queries;
mod report;
mod restart;
mod sender;
mod served;
mod site;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::report::Report;

/// Measures FlowSync on this machine, beside its limit and its peers.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

/// What to measure.
#[derive(Debug, clap::Args)]
struct Run {
    /// Size: `quick` shows that everything works, and that every engine gives the same rows, but measures too little to mean
    /// anything; `usual` is what the README quotes; `large` adds a history of ten million signals.
    #[arg(long, value_enum, default_value_t = Size::Usual)]
    size: Size,
    /// Only these groups.
    #[arg(long, value_name = "GROUP", value_delimiter = ',')]
    only: Vec<Group>,
    /// Where to write the figures as JSON.
    #[arg(long, value_name = "FILE", default_value = "bench.json")]
    json: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts the instructions of the hot paths under valgrind, and compares them with those kept.
    Instructions {
        /// Keep what was counted.
        #[arg(long)]
        bless: bool,
    },
    /// Runs one hot path once, for a profiler: see `bench/README.md`.
    Hot {
        /// Which.
        path: String,
        /// Over how many signals.
        #[arg(long, value_name = "N", default_value_t = hot::SIGNALS)]
        signals: usize,
    },
    /// A restart after `kill -9` over a history of this length: time and memory.
    Restart {
        /// Signals; see README.md of the benchmark for the memory that they take.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        signals: u64,
    },
    /// Fills a data directory with the signals on standard input, and waits to be killed; for `restart`.
    #[command(hide = true)]
    Fill {
        /// The directory.
        dir: PathBuf,
        /// Signals.
        signals: u64,
    },
    /// Where the dataflow's time and memory go, by operator: see `bench/README.md`.
    Operators {
        /// Signals that are loaded first.
        #[arg(long, value_name = "N", default_value_t = 100_000)]
        signals: u64,
    },
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Size {
    Quick,
    Usual,
    Large,
}

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Raw differential, and the dataflow of all views: load, steady state, memory, cost of an update.
    Dataflow,
    /// Links, identities and effort against what is true of a simulated organisation.
    Accuracy,
    /// The real process: gateway, latency, commits, restart.
    Served,
    /// Named questions, beside DuckDB (measures the process as well: it fills the tables).
    Queries,
    /// Pathway on the same job; DuckDB recomputing the same views (as above).
    Peers,
}

fn main() -> ExitCode {
    // The product itself, for the groups that measure a process: the same code (its allocator is this process's as well).
    if std::env::args().nth(1).as_deref() == Some("flowsync") {
        return flowsync::main_from(std::env::args_os().skip(1));
    }
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowsync-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Some(Command::Instructions { bless }) => return hot::instructions(bless),
        Some(Command::Hot { path, signals }) => return hot::run(&path, signals),
        Some(Command::Operators { signals }) => return operators::print(signals),
        Some(Command::Restart { signals }) => return restart::print(signals),
        Some(Command::Fill { dir, signals }) => return restart::fill(&dir, signals),
        None => {}
    }
    let Run { size, only, json } = cli.run;
    if cfg!(debug_assertions) && size != Size::Quick {
        bail!(
            "this build is not optimised, so its figures would mean nothing: cargo run --profile dist -p flowsync-bench"
        );
    }
    let wanted = |group| only.is_empty() || only.contains(&group);
    let mut report = Report::new(machine::Machine::read());
    let steady = if wanted(Group::Dataflow) { Some(incremental::measure(size, &mut report)?) } else { None };
    if wanted(Group::Accuracy) {
        accuracy::measure(size, &mut report)?;
    }
    // The questions and DuckDB's recomputation are asked of the directory that the process leaves.
    if wanted(Group::Served) || wanted(Group::Queries) || wanted(Group::Peers) {
        let site = served::measure(size, &mut report)?;
        if wanted(Group::Queries) {
            queries::measure(size, &site, &mut report)?;
        }
        if wanted(Group::Peers) {
            peers::measure(size, &site, steady, &mut report)?;
        }
    }
    print!("{}", report.table());
    report.write(&json)?;
    println!("\nAll of it, as JSON: {}", json.display());
    Ok(())
}
