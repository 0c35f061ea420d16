//! A restart after `kill -9` over a history of any length: time and memory. This process makes the history, a second one fills the
//! data directory with it and is killed, a third one takes over; nothing else runs, for at a large size there is no memory for it.

use std::{
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use flowsync_schemas::Signal;

use crate::{
    history::History,
    incremental::thousands,
    machine::{Machine, peak_bytes},
    report::Report,
    served::restarted,
    site::{Site, fill_dir},
};

/// Signals that are handed over at a time.
const CHUNK: usize = 1_000;

/// Measures it and prints what came out.
pub fn print(signals: u64) -> Result<()> {
    let mut report = Report::new(Machine::read());
    let at = format!(", at {} signals", thousands(signals));
    let site = Site::empty(0)?;
    let mut filler = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg(site.dir())
        .arg(signals.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // It ends with this block, so that its memory is free.
    {
        let mut history = History::new(signals)?;
        let mut to = BufWriter::new(filler.stdin.as_ref().context("its standard input")?);
        let mut left = signals;
        while left > 0 {
            let part = history.batch(CHUNK.min(left as usize));
            anyhow::ensure!(!part.is_empty(), "the simulated history ends {left} signals early");
            left -= part.len() as u64;
            let bytes = postcard::to_allocvec(&part)?;
            to.write_all(&u32::try_from(bytes.len())?.to_le_bytes())?;
            to.write_all(&bytes)?;
        }
        to.flush()?;
    }
    let mut said = String::new();
    BufReader::new(filler.stdout.take().context("its standard output")?).read_line(&mut said)?;
    anyhow::ensure!(said.trim() == "filled", "the process that fills said {said:?}");
    report.add(format!("memory of the process that fills{at}: at most"), peak_bytes(filler.id()) as f64, "B");
    filler.kill()?;
    filler.wait()?;
    restarted(&site, &at, &mut report)?.stop()?;
    print!("{}", report.table());
    Ok(())
}

/// Fills a directory with what comes on standard input, says so, and waits to be killed.
pub fn fill(dir: &Path, signals: u64) -> Result<()> {
    let mut from = BufReader::new(std::io::stdin());
    let mut waiting: Vec<Signal> = Vec::new();
    let next = |count: usize| -> Result<Vec<Signal>> {
        while waiting.len() < count {
            let mut len = [0; 4];
            from.read_exact(&mut len)?;
            let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
            from.read_exact(&mut bytes)?;
            waiting.append(&mut postcard::from_bytes(&bytes)?);
        }
        Ok(waiting.drain(..count).collect())
    };
    let (_running, _) = fill_dir(dir, signals, next)?;
    println!("filled");
    // The other end stays open as long as the other process lives.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
