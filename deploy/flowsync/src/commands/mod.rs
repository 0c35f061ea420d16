//! The commands, one file each or together where they are a few lines.

mod calibrate;
mod check;
mod demo;
mod import;
mod read;
mod run;
mod simulate;
mod why;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::cli::{Cli, Command, Finance};

/// Runs a command.
pub fn dispatch(cli: Cli, runtime: &Runtime) -> Result<()> {
    match cli.command {
        Command::Demo { data, exit, seed } => demo::run(&data.dir, exit, seed, runtime),
        Command::Run { config, data, listen } => run::run(config.as_deref(), &data.dir, listen, runtime),
        Command::Import { connector, paths, projects, data } => import::run(&connector, &paths, projects, &data.dir),
        Command::Sql { query, data, format, as_of } => {
            runtime.block_on(read::sql(&data.dir, &query, &format, as_of.as_deref()))
        }
        Command::Digest { role, data, since, limit, format } => {
            runtime.block_on(read::digest(&data.dir, &role, since.as_deref(), usize::from(limit), format))
        }
        Command::Finance { report: Finance::Export { period, data, format, out } } => {
            runtime.block_on(read::finance(&data.dir, &period, format, out.as_deref()))
        }
        Command::Why { view, key, data, json } => why::run(&data.dir, &view, &key, json, runtime),
        Command::Simulate(args) => simulate::run(&args),
        Command::Views => read::views(),
        Command::Connectors => read::connectors(),
        Command::Calibrate { data, out, rolling_months } => {
            calibrate::run(&data.dir, out.as_deref(), rolling_months, runtime)
        }
        Command::Check { data, config } => check::run(&data.dir, config.as_deref(), runtime),
    }
}

/// The command line as others are told it.
fn command_line() -> String {
    let args: Vec<_> = std::env::args().skip(1).collect();
    format!("flowsync {}", args.join(" "))
}
