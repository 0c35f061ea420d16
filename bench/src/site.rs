//! A data directory with a history in its log and tables, and the real process over it.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use flowsync::pipeline::Pipeline;
use flowsync_ingest::{DataDir, simulate::Simulated};
use flowsync_schemas::{Signal, model::Model};
use serde_json::Value;
use tempfile::TempDir;

use crate::history::{History, secrets};

/// Signals appended at a time.
const CHUNK: usize = 5_000;

/// A data directory in a folder of its own, removed in the end.
pub struct Site {
    folder: TempDir,
    /// What comes after what the directory holds.
    history: History,
}

/// How an import into an empty directory went.
pub struct Imported {
    /// Signals that the log and the tables hold.
    pub signals: u64,
    /// Time in the pipeline: log, dataflow, tables; making the history is not counted.
    pub took: Duration,
}

impl Site {
    /// Nothing yet, for a history of so many signals.
    pub fn empty(signals: u64) -> Result<Self> {
        let folder = TempDir::new()?;
        let config: Vec<_> = secrets()
            .iter()
            .map(|(name, secret)| format!("{name} = \"{}\"\n", String::from_utf8_lossy(secret.expose())))
            .collect();
        std::fs::write(folder.path().join("flowsync.toml"), format!("[secrets]\n{}", config.concat()))?;
        Ok(Self { folder, history: History::new(signals)? })
    }

    /// Fills a new data directory with a history, through log, dataflow and tables. `beyond` signals of it are left over.
    pub fn fill(signals: u64, beyond: u64) -> Result<(Self, Imported)> {
        let mut site = Self::empty(signals + beyond)?;
        let (dir, history) = (site.dir(), &mut site.history);
        let (pipeline, imported) = fill_dir(&dir, signals, |count| Ok(history.batch(count)))?;
        pipeline.stop()?;
        Ok((site, imported))
    }

    /// The next deliveries of the organisation, for the gateway.
    pub fn deliveries(&mut self, count: usize) -> Result<Vec<Simulated>> {
        let next = self.history.deliveries(count);
        if next.len() < count {
            bail!("the simulated history ends early: {} of {count} deliveries are left", next.len());
        }
        Ok(next)
    }

    /// The data directory.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("flowsync.toml")
    }

    /// Starts the process, and waits until it serves.
    pub fn serve(&self) -> Result<Served> {
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["flowsync", "run", "--listen", "127.0.0.1:0", "--config"])
            .arg(self.config())
            .arg("--dir")
            .arg(self.dir())
            .env("FLOWSYNC_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("the standard output of the process")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        let address = line.trim().strip_prefix("serving http://").map(str::to_owned);
        let mut served = Served { child, address: String::new(), _said: said, started };
        served.address = address.with_context(|| format!("the process said {line:?}"))?;
        Ok(served)
    }

    /// Epoch of the newest manifest, as a reader elsewhere finds it.
    pub fn committed(&self) -> u64 {
        newest_manifest(&self.dir()).unwrap_or_default()
    }
}

/// Fills a data directory with so many signals, until they are in its tables. `next` gives so many of them at most.
pub fn fill_dir(
    dir: &Path,
    signals: u64,
    mut next: impl FnMut(usize) -> Result<Vec<Signal>>,
) -> Result<(Pipeline, Imported)> {
    let dir = DataDir::open_writer(dir, "flowsync-bench")?;
    let pipeline = Pipeline::start(dir, &Model::shipped(), None)?;
    let mut done = 0;
    let mut making = Duration::ZERO;
    let started = Instant::now();
    while done < signals {
        let clock = Instant::now();
        let chunk = next(CHUNK.min((signals - done) as usize))?;
        making += clock.elapsed();
        if chunk.is_empty() {
            bail!("the simulated history ends after {done} signals");
        }
        done += chunk.len() as u64;
        pipeline.appender.append_blocking(chunk)?;
    }
    pipeline.catch_up()?;
    let took = started.elapsed().saturating_sub(making);
    Ok((pipeline, Imported { signals: done, took }))
}

/// Epoch of the newest manifest, by its name.
fn newest_manifest(dir: &Path) -> Option<u64> {
    let files = std::fs::read_dir(dir.join("manifests")).ok()?;
    let epoch = |name: &str| {
        let digits = name.strip_suffix(".json")?;
        if digits.len() == 20 { digits.parse::<u64>().ok() } else { None }
    };
    files.filter_map(|f| epoch(f.ok()?.file_name().to_str()?)).max()
}

/// The process under test.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: String,
    // Held open: the process may go on talking.
    _said: BufReader<ChildStdout>,
    started: Instant,
}

impl Served {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `GET` answers.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        let answer = ureq::get(format!("http://{}{path}", self.address)).call()?;
        answer.into_body().into_reader().read_to_string(&mut text)?;
        Ok(text)
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// An entry of `/healthz`'s detail.
    pub fn health(&self, name: &str) -> Result<Value> {
        let health: Value = serde_json::from_str(&self.get("/healthz")?)?;
        health["detail"].get(name).cloned().with_context(|| format!("{name} in {health}"))
    }

    /// Waits until it has reloaded and checked its tables, and what its log holds is in them.
    pub fn catch_up(&self) -> Result<()> {
        while self.health("checked")? == false
            || self.health("committed_epoch")?.as_u64() < self.health("log_end")?.as_u64()
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for it.
    pub fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let ended = self.child.wait()?;
        if !asked.success() || !ended.success() {
            bail!("the process ended with {ended}");
        }
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
