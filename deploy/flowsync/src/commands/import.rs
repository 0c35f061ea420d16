//! `flowsync import`.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, bail};
use flowsync_ingest::{
    DataDir,
    connectors::settings::{self, Settings},
    import::{self, Progress, Summary},
    now,
};

use crate::{
    data,
    out::{aside, say},
    pipeline::Pipeline,
};

pub fn run(connector: &str, paths: &[PathBuf], projects: Vec<String>, dir: &Path) -> Result<()> {
    let dir = DataDir::open_writer(dir, &super::command_line())?;
    let model = data::model(&dir)?;
    let pipeline = Pipeline::start(dir, &model, None)?;
    let started = Instant::now();
    let imported = into(&pipeline, connector, paths, projects);
    // What was read before an error stays, and is committed.
    let epoch = pipeline.catch_up()?;
    pipeline.stop()?;
    let summary = imported?;
    say!("{}", describe(&summary))?;
    say!("{} in {:.1} s; the tables are at epoch {epoch}", connector, started.elapsed().as_secs_f64())?;
    for problem in &summary.problems {
        aside!("  {problem}");
    }
    if summary.problem_count > 0 {
        bail!("{} could not be read; everything else was imported", summary.problem_count);
    }
    Ok(())
}

/// Imports into a running pipeline; shows progress on a terminal.
pub fn into(pipeline: &Pipeline, connector: &str, paths: &[PathBuf], projects: Vec<String>) -> Result<Summary> {
    if !projects.is_empty() {
        let settings = Settings::of_projects(projects);
        settings.check().map_err(anyhow::Error::msg)?;
        let signal = settings::signal(&settings, None, now())?;
        pipeline.appender.append_blocking(vec![signal.into_signal()])?;
    }
    let mut summary = Summary::default();
    for path in paths {
        let mut sink = |batch: Vec<flowsync_ingest::connectors::Verified>| {
            let signals = batch.into_iter().map(|v| v.into_signal()).collect();
            pipeline.appender.append_blocking(signals)?;
            Ok(())
        };
        let mut line = ProgressLine::default();
        let mut show = |progress: Progress| line.show(path, progress);
        let one = import::import(connector, path, pipeline.dir.path(), now(), &mut show, &mut sink)?;
        line.end();
        summary.add(one);
    }
    Ok(summary)
}

/// What an import did, in one line.
pub fn describe(summary: &Summary) -> String {
    let mut parts = vec![format!("{} read", summary.read), format!("{} new signals", summary.signals)];
    for (count, what) in [
        (summary.unchanged, "known before"),
        (summary.gone, "taken back"),
        (summary.refs, "branches and tags moved"),
        (summary.partial, "without changed lines"),
        (summary.problem_count, "unreadable"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.join(", ")
}

/// One line of a terminal that is written over.
#[derive(Default)]
struct ProgressLine {
    shown: Option<Instant>,
}

impl ProgressLine {
    fn show(&mut self, path: &Path, progress: Progress) {
        let due = self.shown.is_none_or(|at| at.elapsed().as_millis() >= 100);
        let mut terminal = std::io::stderr();
        if !due || !terminal.is_terminal() {
            return;
        }
        self.shown = Some(Instant::now());
        let of = progress.total.map(|t| format!(" of {t}")).unwrap_or_default();
        // A terminal that is gone is no reason to stop importing.
        let _ = write!(terminal, "\r{}: {}{of} {}\x1b[K", path.display(), progress.done, progress.unit);
        let _ = terminal.flush();
    }

    fn end(&self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
