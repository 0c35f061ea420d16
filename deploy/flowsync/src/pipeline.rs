//! The pipeline of one process, wired: log → mint → dataflow → overlay and feed → sink.
//!
//! ```text
//!  reader ── push(epoch, signals) ──► job ── EpochDelta ──► publisher ──► overlay (SQL), feed (live)
//!    ▲ log                                                      └───────► committer ──► sink ──► overlay.committed
//! ```
//!
//! Three threads, joined by bounded channels (I9): a slow sink holds the publisher back, that the job, that the reader; what
//! waits meanwhile waits in the log. A restart serves the committed epoch at once; beside that it loads the base rows,
//! reconciles the views with their recomputation (I6), and reads the log from the committed positions, at the same epoch
//! bounds as before.

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use flowsync_dataflow::{Config as JobConfig, Job, Read};
use flowsync_ingest::{
    Appender, AppenderLimits, DataDir, EmbeddedLog, Log, Mint, Vault,
    audit::{Checkpoints, Keeper, SIGN_EVERY},
    connectors::{self, Verified},
    facts, privacy,
};
use flowsync_query::{
    Engine,
    feed::{Feed, FeedLimits},
};
use flowsync_schemas::{ColumnSpec, Epoch, EpochDelta, Pseudonymizer, Row, Signal, fact::base_tables, model::Model};
use flowsync_sinks::{Catalogue, Grouping, GroupingOptions, Sink, SinkOptions};

use crate::{
    backlog::{self, Publish},
    committer::{Committer, sink_runtime},
    data,
    kept::Kept,
    patience::Patience,
    reader::{Epochs, Reader, Start},
    tables::Tables,
};

/// Epochs inside the dataflow, at most.
const EPOCHS_IN_FLIGHT_MAX: usize = 4;
/// Closed epochs that wait for the publisher, at most: while signals are imported one holds hundreds of thousands of rows.
const EPOCHS_WAITING_MAX: usize = 1;
/// Changed rows of closed epochs that wait for the committer, at most.
const ROWS_WAITING_MAX: usize = 500_000;
/// Parts of the committed rows that wait for the dataflow at a restart, at most.
pub const PARTS_WAITING_MAX: usize = 4;
/// How often waiting threads look whether they are to stop.
pub const LOOK: Duration = Duration::from_millis(50);

/// How far the pipeline is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The newest epoch whose changes are out.
    pub closed: Epoch,
    /// The newest epoch in the tables.
    pub committed: Epoch,
    /// Whether the committed rows are still being loaded: what is served is the committed epoch.
    pub reloading: bool,
    /// Whether the tables were compared with their recomputation since the start (I6); commits begin then.
    pub checked: bool,
    /// Rows that differed from their recomputation at the start (I6).
    pub corrected: u64,
    /// Why the tables cannot be written at the moment.
    pub waiting_for_storage: Option<String>,
    /// Why the live feed misses what happens.
    pub feed_interrupted: Option<String>,
    /// Why it does not go on.
    pub failed: Option<String>,
}

/// How far the pipeline is, for everyone who waits.
#[derive(Default)]
pub struct Status {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        // A panic elsewhere leaves whole values behind: they are set one at a time.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, and tells who waits.
    pub fn set(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Says why it does not go on; the first reason stays.
    fn fail(&self, reason: String) {
        self.set(|progress| {
            progress.failed.get_or_insert(reason);
        });
    }

    /// A copy.
    pub fn get(&self) -> Progress {
        self.lock().clone()
    }

    /// Waits until the tables hold an epoch.
    pub fn wait_committed(&self, epoch: Epoch) -> Result<()> {
        let mut progress = self.lock();
        loop {
            if let Some(reason) = &progress.failed {
                return Err(anyhow!("{reason}"));
            }
            if progress.committed >= epoch {
                return Ok(());
            }
            progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A running pipeline.
pub struct Pipeline {
    /// The log.
    pub log: Arc<dyn Log>,
    /// The same, as the files that it is.
    pub embedded: Arc<EmbeddedLog>,
    /// Names of people.
    pub vault: Arc<Vault>,
    /// The way into the log.
    pub appender: Arc<Appender>,
    /// Signs the log. Dropped after the appender, so that it signs all that was taken in.
    pub keeper: Arc<Keeper>,
    /// Makes pseudonyms.
    pub people: Pseudonymizer,
    /// Answers queries, closed epochs included.
    pub engine: Engine,
    /// The live feed.
    pub feed: Arc<Feed>,
    /// How far it is.
    pub status: Arc<Status>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// The data directory, held for writing; let go when everything in it is closed.
    pub dir: DataDir,
}

/// What rows are computed with: another value calls for computing them anew. An erasure does too.
fn program(model: &Model, erasures: u64) -> String {
    let versions: Vec<_> = connectors::ALL.iter().map(|c| format!("{}={}", c.spec().name, c.spec().version)).collect();
    let erasures = if erasures > 0 { format!("; erasures {erasures}") } else { String::new() };
    format!("connectors {}; model {} {}{erasures}", versions.join(","), model.name, model.digest)
}

/// The tables of a data directory that this process holds for writing.
pub async fn open_sink(dir: &DataDir, model: &Model) -> Result<Sink> {
    open_sink_with(dir, model, SinkOptions::default()).await
}

/// The same, with other limits.
pub async fn open_sink_with(dir: &DataDir, model: &Model, options: SinkOptions) -> Result<Sink> {
    let program = program(model, privacy::erasures(&dir.privacy())?);
    Sink::open(dir.path(), catalogue(), program, options).await.context("the tables")
}

/// All tables.
pub fn catalogue() -> Catalogue {
    Catalogue { base: base_tables().copied().collect(), views: data::specs().into_iter().map(|v| v.table).collect() }
}

/// What becomes of a row that cannot be computed anew, because its signal is past its retention; nothing where it stays.
pub type Rewrite = Arc<dyn Fn(&[ColumnSpec], &Row) -> Option<Row> + Send + Sync>;

impl Pipeline {
    /// Starts the pipeline of a data directory that this process holds for writing.
    pub fn start(dir: DataDir, model: &Model, workers: Option<usize>) -> Result<Self> {
        if privacy::Pending::is_there(&dir.privacy()) {
            bail!("an erasure was interrupted: `flowsync privacy erase --dir {}` finishes it", dir.path().display());
        }
        Self::start_erasing(dir, model, workers, None)
    }

    /// The same in the course of an erasure.
    pub fn start_erasing(
        dir: DataDir,
        model: &Model,
        workers: Option<usize>,
        rewrite: Option<Rewrite>,
    ) -> Result<Self> {
        let keys = dir.keyring()?;
        let embedded = Arc::new(EmbeddedLog::open(&dir.log(), keys.clone())?);
        let log: Arc<dyn Log> = embedded.clone();
        let checkpoints = Checkpoints::open(&dir.audit(), dir.signing_key()?)?;
        let keeper = Arc::new(Keeper::start(log.clone(), checkpoints, SIGN_EVERY)?);
        let vault = Arc::new(Vault::open(&dir.vault(), keys.clone())?);
        let people = dir.pseudonymizer()?;
        let appender = Appender::start(log.clone(), vault.clone(), people.clone(), AppenderLimits::default())?;
        let files = sink_runtime()?;
        let sink = files.block_on(open_sink(&dir, model))?;
        let mint = Arc::new(Mutex::new(Mint::open(&dir.feed())?));
        let digest_items = &flowsync_dataflow::views::digest_items::VIEW.table;
        let feed = Arc::new(Feed::open(&dir.feed().join("journal"), digest_items, FeedLimits::default())?);
        let engine = data::engine(&dir, model)?;
        let status = Arc::new(Status::default());
        let stop = Arc::new(AtomicBool::new(false));

        let (deltas_in, deltas) = sync_channel(EPOCHS_WAITING_MAX);
        let (commits_in, commits) = backlog::bounded(ROWS_WAITING_MAX);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let config = JobConfig {
            workers: workers.unwrap_or(cores),
            model: model.clone(),
            epochs_in_flight_max: EPOCHS_IN_FLIGHT_MAX,
        };
        let job = Job::start(config.clone(), read_with(people.clone()), deltas_in)?;
        let restored = restored(&dir, &sink)?;
        let Start { from, rebuild_to, rows_of } = Start::of(&sink, &log, restored.is_some())?;
        status.set(|p| (p.closed, p.committed, p.reloading) = (from.epoch, from.epoch, rebuild_to.is_none()));

        let kept = Kept { log: log.clone(), keys, rewrite, restored };
        let (base_in, base) = sync_channel(PARTS_WAITING_MAX);
        let patience = Patience::new(status.clone(), stop.clone());
        let epochs = Epochs::after(from.clone(), log.clone(), mint.clone(), patience.clone());
        let reader = Reader { job, from, rows_of, epochs, stop: stop.clone() };
        let publisher = Publisher { engine: engine.clone(), feed: feed.clone(), status: status.clone() };
        let grouping = Grouping::new(GroupingOptions::default());
        let tables = Tables { sink, grouping, mint, patience, kept, config, runtime: files };
        let committer = Committer { tables, engine: engine.clone(), feed: feed.clone(), status: status.clone() };
        let threads = vec![
            spawn("reader", &status, &stop, move || reader.run(&base))?,
            spawn("publisher", &status, &stop, move || publisher.run(&deltas, &commits_in, rebuild_to))?,
            spawn("committer", &status, &stop, move || committer.run(&commits, rebuild_to, &base_in))?,
        ];
        let appender = Arc::new(appender);
        Ok(Self { log, embedded, vault, appender, keeper, people, engine, feed, status, stop, threads, dir })
    }

    /// Waits until the tables hold everything that the log holds now.
    pub fn catch_up(&self) -> Result<Epoch> {
        let epoch = Epoch(self.log.ends()?.iter().sum());
        self.status.wait_committed(epoch)?;
        Ok(epoch)
    }

    /// Ends: what the log holds is read and committed first.
    pub fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        self.feed.close();
        for thread in self.threads {
            if thread.join().is_err() {
                return Err(anyhow!("a thread of the pipeline panicked; the log holds every signal, start again"));
            }
        }
        match self.status.get().failed {
            Some(reason) => Err(anyhow!("{reason}")),
            None => Ok(()),
        }
    }
}

fn spawn(
    name: &'static str,
    status: &Arc<Status>,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<JoinHandle<()>> {
    /// Tells the others when a thread ends other than well, also when it panics.
    struct Guard(&'static str, Arc<Status>, Arc<AtomicBool>, bool);
    impl Drop for Guard {
        fn drop(&mut self) {
            if !self.3 {
                let reason = format!("the {} ended unexpectedly; the log holds every signal, start again", self.0);
                self.1.fail(reason);
                self.2.store(true, Ordering::Release);
            }
        }
    }
    let mut guard = Guard(name, status.clone(), stop.clone(), false);
    let body = move || {
        match work() {
            Ok(()) => guard.3 = true,
            Err(error) => {
                tracing::error!(thread = name, error = format!("{error:#}"), "the pipeline stops");
                guard.1.fail(format!("{name}: {error:#}"));
            }
        }
        drop(guard);
    };
    Ok(std::thread::Builder::new().name(name.into()).spawn(body)?)
}

/// The function that the dataflow reads signals with.
pub fn read_with(people: Pseudonymizer) -> Read {
    Arc::new(move |signal: &Signal| {
        let parsed = connectors::parse(&Verified::from_log(signal.clone()), &people);
        (parsed.facts, parsed.rejections)
    })
}

/// The facts that a backup brought, until something is committed; then they are in the tables.
fn restored(dir: &DataDir, sink: &Sink) -> Result<Option<PathBuf>> {
    let path = dir.facts();
    if sink.newest() == Epoch(0) {
        return Ok(path.exists().then_some(path));
    }
    facts::remove(&path)?;
    Ok(None)
}

/// The mint.
pub fn lock(mint: &Mutex<Mint>) -> MutexGuard<'_, Mint> {
    // The mint changes its memory after its file, in one step.
    mint.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows closed epochs at once, and hands them to the committer.
struct Publisher {
    engine: Engine,
    feed: Arc<Feed>,
    status: Arc<Status>,
}

impl Publisher {
    fn run(self, deltas: &Receiver<EpochDelta>, commits: &Publish, rebuild_to: Option<Epoch>) -> Result<()> {
        let mut first = true;
        for delta in deltas.iter().map(Arc::new) {
            // What comes first repeats the committed epoch; what is rebuilt is shown when it is whole.
            let repeats = std::mem::take(&mut first) || rebuild_to.is_some_and(|to| delta.upper <= to);
            self.status.set(|p| p.reloading = false);
            if !repeats {
                self.engine.overlay().apply(delta.clone());
                self.publish(&delta)?;
                self.status.set(|p| p.closed = delta.upper);
            }
            if !commits.send(delta) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tables and SQL do not wait for the live feed: what it misses, it tells its clients when it goes on.
    fn publish(&self, delta: &EpochDelta) -> Result<()> {
        let lost = match self.feed.publish(delta) {
            Ok(_) => None,
            Err(error) if error.is_retryable() => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if lost.is_some() != self.status.get().feed_interrupted.is_some() {
            if let Some(reason) = &lost {
                tracing::error!(reason, "the live feed is interrupted");
            }
            self.status.set(|p| p.feed_interrupted = lost);
        }
        Ok(())
    }
}
