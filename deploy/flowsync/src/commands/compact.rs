//! `flowsync compact`: gives back the space of what is no longer there.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use flowsync_ingest::{DataDir, EmbeddedLog, now};
use flowsync_sinks::{Maintenance, SinkOptions};

use super::command_line;
use crate::{committer::sink_runtime, data, out::say, pipeline::open_sink_with};

pub fn run(dir: &Path) -> Result<()> {
    let dir = DataDir::open_writer(dir, &command_line())?;
    let (log, tables) = (dir.log(), dir.tables());
    let before = [bytes(&log)?, bytes(&tables)?];
    EmbeddedLog::open(&log, dir.keyring()?)?.compact()?;
    let model = data::model(&dir)?;
    // Everything at once, and nobody is waited for.
    let options = SinkOptions { grace: Duration::ZERO, maintained_tables_max: usize::MAX, ..SinkOptions::default() };
    sink_runtime()?.block_on(async {
        let mut sink = open_sink_with(&dir, &model, options).await?;
        while sink.maintain(now()).await? != Maintenance::default() {}
        anyhow::Ok(())
    })?;
    for (name, before, after) in [("log", before[0], bytes(&log)?), ("tables", before[1], bytes(&tables)?)] {
        say!("{name:6} {:>9.1} MB, {:.1} MB before", after as f64 / 1e6, before as f64 / 1e6)?;
    }
    Ok(())
}

/// What the files in a folder take.
fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() { bytes(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}
