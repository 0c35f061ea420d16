//! A restart after `kill -9` over a long history: time and memory. One process fills the data directory and is killed; the next
//! one takes over. Nothing else runs: at ten million signals there is no memory for it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    Size,
    history::History,
    incremental::thousands,
    machine::peak_bytes,
    report::Report,
    served::restarted,
    site::{Site, fill_dir},
};

/// Measures it; in a run of the usual size the process itself is killed after all that it is measured with.
pub fn measure(size: Size, report: &mut Report) -> Result<()> {
    let signals = match size {
        Size::Quick => 3_000,
        Size::Usual => return Ok(()),
        Size::Large => 10_000_000,
    };
    let at = format!(", at {} signals", thousands(signals));
    eprintln!("a restart{at}");
    // The process that fills makes the history.
    let site = Site::empty(0)?;
    let mut filler = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg(site.dir())
        .arg(signals.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(filler.stdout.take().context("its standard output")?).read_line(&mut said)?;
    let secs: f64 = said.trim().parse().with_context(|| format!("the process that fills said {said:?}"))?;
    report.add(format!("through log, dataflow and tables, from empty{at}"), signals as f64 / secs, "signals/s");
    let most = peak_bytes(filler.id());
    report.add(format!("memory of the process that fills, with the generator{at}: at most"), most as f64, "B");
    filler.kill()?;
    filler.wait()?;
    restarted(&site, &at, report)?.stop()
}

/// Fills a directory, says how many seconds that took, and waits to be killed.
pub fn fill(dir: &Path, signals: u64) -> Result<()> {
    let (pipeline, imported) = fill_dir(dir, &mut History::new(signals)?, signals)?;
    println!("{}", imported.took.as_secs_f64());
    std::io::stdin().read_line(&mut String::new())?;
    drop(pipeline);
    Ok(())
}
