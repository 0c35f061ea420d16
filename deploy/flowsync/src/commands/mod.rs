//! The commands, one file each or together where they are a few lines.

mod audit;
mod backup;
mod calibrate;
pub mod check;
mod compact;
mod demo;
mod import;
mod keys;
mod privacy;
mod read;
mod run;
mod simulate;
mod why;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use flowsync_ingest::DataDir;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::runtime::Runtime;
use ureq::{Body, http::Response};

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
        Command::Audit { audit } => audit::run(&audit),
        Command::Privacy { privacy } => privacy::run(&privacy, runtime),
        Command::Backup { to, data } => backup::backup(&data.dir, &to, runtime),
        Command::Restore { backup, data, keys } => backup::restore(&backup, &data.dir, &keys),
        Command::Compact { data } => compact::run(&data.dir),
        Command::Keys { keys } => keys::run(&keys),
        Command::Simulate(args) => simulate::run(&args),
        Command::Views => read::views(),
        Command::Connectors => read::connectors(),
        Command::Calibrate { data, out, rolling_months } => {
            calibrate::run(&data.dir, out.as_deref(), rolling_months, runtime)
        }
        Command::Check { data, config } => check::run(&data.dir, config.as_deref(), runtime),
    }
}

/// Tries to hold a data directory, a tenth of a second apart.
const ATTEMPTS: u32 = 50;
/// Longest answer of a server: the largest delivery in base64, and more than any other answer.
const ANSWER_BYTES_MAX: u64 = 512 << 20;
/// Longest answer that tells an error, and as much of one in other words as is shown.
const ERROR_BYTES_MAX: u64 = 1 << 20;
const ERROR_CHARS_SHOWN: usize = 200;

/// The data directory as its writer, which alone can open the log; none where another process holds it for longer than a
/// moment.
fn hold(dir: &Path) -> Result<Option<DataDir>> {
    for _ in 0..ATTEMPTS {
        match DataDir::open_writer(dir, &command_line()) {
            Ok(writer) => return Ok(Some(writer)),
            Err(error) if error.is_held() => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Asks the server that holds a data directory; `body` is posted where there is one.
fn ask<T: DeserializeOwned>(address: &str, path: &str, body: Option<&str>) -> Result<T> {
    let mut answer = asked(address, path, body)?;
    answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_json().with_context(|| path.to_owned())
}

/// The same, with an answer that is still to be read.
fn asked(address: &str, path: &str, body: Option<&str>) -> Result<Response<Body>> {
    let url = format!("http://{address}{path}");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let asked = match body {
        Some(body) => agent.post(&url).send(body),
        None => agent.get(&url).call(),
    };
    let mut answer = asked.with_context(|| url.clone())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    // What went wrong, as the server says it; of what is not its own way to say so, the beginning.
    let said = answer.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_string().unwrap_or_default();
    let error: Value = serde_json::from_str(&said).unwrap_or_default();
    match error["error"]["message"].as_str() {
        Some(message) => bail!("{message}"),
        None => bail!("{url}: {status} {}", said.chars().take(ERROR_CHARS_SHOWN).collect::<String>().trim()),
    }
}

/// The command line as others are told it.
fn command_line() -> String {
    let args: Vec<_> = std::env::args().skip(1).collect();
    format!("flowsync {}", args.join(" "))
}
