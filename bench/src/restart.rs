//! A restart after `kill -9` over a history of any length: time and memory. One process fills the data directory and is killed,
//! the next one takes over; nothing else runs, for at a large size there is no memory for it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    history::History,
    incremental::thousands,
    machine::{Machine, peak_bytes},
    report::Report,
    served::restarted,
    site::{Site, fill_dir},
};

/// Measures it and prints what came out.
pub fn print(signals: u64) -> Result<()> {
    let mut report = Report::new(Machine::read());
    let at = format!(", at {} signals", thousands(signals));
    // The process that fills makes the history.
    let site = Site::empty(0)?;
    let mut filler = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg(site.dir())
        .arg(signals.to_string())
        // What it has freed is given back at once: it is in the way of nothing but its own speed.
        .env("MIMALLOC_PURGE_DELAY", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(filler.stdout.take().context("its standard output")?).read_line(&mut said)?;
    anyhow::ensure!(said.trim() == "filled", "the process that fills said {said:?}");
    let most = peak_bytes(filler.id());
    report.add(format!("memory of the process that fills, with the generator{at}: at most"), most as f64, "B");
    filler.kill()?;
    filler.wait()?;
    restarted(&site, &at, &mut report)?.stop()?;
    print!("{}", report.table());
    Ok(())
}

/// Fills a directory, says so, and waits to be killed.
pub fn fill(dir: &Path, signals: u64) -> Result<()> {
    let (_running, _) = fill_dir(dir, &mut History::new(signals)?, signals)?;
    println!("filled");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
