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
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use flowsync_dataflow::{Base, Config as JobConfig, Job, Read, cx::TABLES_READ};
use flowsync_ingest::{
    Appender, AppenderLimits, DataDir, EmbeddedLog, Log, Mark, Mint, Vault,
    audit::{Checkpoints, Keeper, SIGN_EVERY},
    connectors::{self, Verified},
};
use flowsync_query::{
    Engine,
    feed::{Feed, FeedLimits},
};
use flowsync_schemas::{
    Epoch, EpochDelta, Fact, LogPosition, Pseudonymizer, Record, Row, Signal,
    fact::{FACT_TABLES, RejectFact, SIGNALS, SignalFact, base_tables},
    model::Model,
};
use flowsync_sinks::{Catalogue, Grouping, GroupingOptions, Sink, SinkOptions, merge};
use tokio::runtime::Runtime;

use crate::{
    backlog::{self, Next, Publish, Waiting},
    data,
};

/// Signals of one epoch, at most.
const EPOCH_RECORDS_MAX: usize = 20_000;
/// Bytes of one epoch, at most (a single larger signal is an epoch of its own).
const EPOCH_BYTES_MAX: usize = 32 << 20;
/// Epochs inside the dataflow, at most.
const EPOCHS_IN_FLIGHT_MAX: usize = 4;
/// Closed epochs that wait for the publisher, at most.
const EPOCHS_WAITING_MAX: usize = 64;
/// Changed rows of closed epochs that wait for the committer, at most.
const ROWS_WAITING_MAX: usize = 500_000;
/// How far files stand back behind answers, on a machine that has no core to spare for them (0 to 19, see nice(2)).
const SINK_NICENESS: i32 = 3;
/// Parts of the committed rows that wait for the dataflow at a restart, at most.
const PARTS_WAITING_MAX: usize = 4;
/// How often waiting threads look whether they are to stop.
const LOOK: Duration = Duration::from_millis(50);

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

    fn set(&self, change: impl FnOnce(&mut Progress)) {
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

/// What rows are computed with: another value calls for computing them anew.
fn program(model: &Model) -> String {
    let versions: Vec<_> = connectors::ALL.iter().map(|c| format!("{}={}", c.spec().name, c.spec().version)).collect();
    format!("connectors {}; model {} {}", versions.join(","), model.name, model.digest)
}

impl Pipeline {
    /// Starts the pipeline of a data directory that this process holds for writing.
    pub fn start(dir: DataDir, model: &Model, workers: Option<usize>) -> Result<Self> {
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(&dir.log())?);
        let checkpoints = Checkpoints::open(&dir.audit(), dir.signing_key()?)?;
        let keeper = Arc::new(Keeper::start(log.clone(), checkpoints, SIGN_EVERY)?);
        let vault = Arc::new(Vault::open(&dir.vault())?);
        let people = dir.pseudonymizer()?;
        let appender = Appender::start(log.clone(), vault.clone(), people.clone(), AppenderLimits::default())?;
        let catalogue = Catalogue {
            base: base_tables().copied().collect(),
            views: data::specs().into_iter().map(|v| v.table).collect(),
        };
        let files = sink_runtime()?;
        let open = Sink::open(dir.path(), catalogue, program(model), SinkOptions::default());
        let sink = files.block_on(open).context("the tables")?;
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
        let job = Job::start(config, read_with(people.clone()), deltas_in)?;
        let Start { from, rebuild_to } = Start::of(&sink, &log)?;
        status.set(|p| (p.closed, p.committed, p.reloading) = (from.epoch, from.epoch, rebuild_to.is_none()));

        let (base_in, base) = sync_channel(PARTS_WAITING_MAX);
        let reader = Reader { log: log.clone(), mint: mint.clone(), stop: stop.clone() };
        let publisher = Publisher { engine: engine.clone(), feed: feed.clone(), status: status.clone() };
        let committer = Committer {
            sink,
            grouping: Grouping::new(GroupingOptions::default()),
            engine: engine.clone(),
            feed: feed.clone(),
            mint,
            status: status.clone(),
            runtime: files,
        };
        let threads = vec![
            spawn("reader", &status, &stop, move || reader.run(job, from, &base))?,
            spawn("publisher", &status, &stop, move || publisher.run(&deltas, &commits_in, rebuild_to))?,
            spawn("committer", &status, &stop, move || committer.run(&commits, rebuild_to, &base_in))?,
        ];
        let appender = Arc::new(appender);
        Ok(Self { log, vault, appender, keeper, people, engine, feed, status, stop, threads, dir })
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

/// What the sink works on: threads of its own, so that they can stand back.
fn sink_runtime() -> Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    Ok(runtime.worker_threads(1).thread_name("sink").on_thread_start(stand_back).enable_all().build()?)
}

/// Lowers the priority of this thread: a commit merges and compresses for a second, and must not keep live feed and SQL
/// waiting meanwhile. Linux alone has priorities of threads; elsewhere the whole process would stand back.
fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(SINK_NICENESS) {
        tracing::debug!(%error, "the sink runs at the common priority");
    }
}

/// The function that the dataflow reads signals with.
fn read_with(people: Pseudonymizer) -> Read {
    Arc::new(move |signal: &Signal| {
        let parsed = connectors::parse(&Verified::from_log(signal.clone()), &people);
        (parsed.facts, parsed.rejections)
    })
}

/// Where the pipeline begins.
struct Start {
    from: Mark,
    /// Where the tables have to be computed anew: the epoch up to which that is.
    rebuild_to: Option<Epoch>,
}

impl Start {
    fn of(sink: &Sink, log: &Arc<dyn Log>) -> Result<Self> {
        let ends = log.ends()?;
        let Some(manifest) = sink.committed() else {
            let from = Mark { epoch: Epoch(0), positions: vec![0; ends.len()] };
            let signals: u64 = ends.iter().sum();
            if signals > 0 {
                tracing::warn!(signals, "computing every table anew from the log");
            }
            return Ok(Self { from, rebuild_to: Some(Epoch(signals)) });
        };
        let mut positions = manifest.positions.clone();
        positions.resize(ends.len(), 0);
        if positions.iter().zip(&ends).any(|(committed, end)| committed > end) {
            return Err(anyhow!(
                "the tables cover more signals ({positions:?}) than the log holds ({ends:?}): the log is not the one they \
                 were computed from; restore it from a backup"
            ));
        }
        Ok(Self { from: Mark { epoch: manifest.epoch, positions }, rebuild_to: None })
    }
}

/// Rows on their way back into the dataflow.
enum Loaded {
    Part(Base),
    All,
}

/// Rows of a part.
const PART_ROWS: usize = 50_000;

/// Hands over the committed base rows: tables side by side, in parts, so that reading goes on beside the dataflow.
fn load(sink: &Sink, runtime: &Runtime, parts: &SyncSender<Loaded>) -> Result<()> {
    let needed = |name: &&str| {
        let fact = FACT_TABLES.iter().any(|table| table.name == *name);
        !fact || TABLES_READ.contains(name)
    };
    let tables: Vec<_> = base_tables().map(|table| table.name).filter(needed).collect();
    let next = AtomicUsize::new(0);
    let one = |name: &'static str| -> Result<()> {
        let rows = runtime.block_on(sink.load(name)).with_context(|| format!("table {name}"))?;
        for rows in rows.chunks(PART_ROWS) {
            let part = base_of(name, rows).with_context(|| format!("table {name}"))?;
            // Without a reader there is nothing to load for: it has failed, and said so.
            if parts.send(Loaded::Part(part)).is_err() {
                break;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = || -> Result<()> {
            while let Some(name) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
                one(name)?;
            }
            Ok(())
        };
        let loaders: Vec<_> = (0..cores).map(|_| scope.spawn(load)).collect();
        loaders.into_iter().try_for_each(|l| l.join().map_err(|_| anyhow!("loading the tables panicked"))?)
    })
}

/// Rows of a base table, read back.
fn base_of(name: &str, rows: &[Row]) -> Result<Base> {
    let mut base = Base::default();
    if let Some(i) = FACT_TABLES.iter().position(|table| table.name == name) {
        base.facts = rows.iter().map(|row| Fact::from_row(i, row)).collect::<Result<_, _>>()?;
    } else if name == SIGNALS.name {
        base.signals = rows.iter().map(|row| SignalFact::from_values(row)).collect::<Result<_, _>>()?;
    } else {
        base.rejects = rows.iter().map(|row| RejectFact::from_values(row)).collect::<Result<_, _>>()?;
    }
    Ok(base)
}

/// Signals and where they lie.
type Placed = Vec<(LogPosition, Signal)>;

/// Reads the log, and decides the epochs' bounds through the mint.
struct Reader {
    log: Arc<dyn Log>,
    mint: Arc<Mutex<Mint>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(self, job: Job, from: Mark, base: &Receiver<Loaded>) -> Result<()> {
        loop {
            match base.recv() {
                Ok(Loaded::Part(part)) => job.prepare(from.epoch, part)?,
                Ok(Loaded::All) => break,
                // The committer has failed, and said so.
                Err(_) => return Ok(()),
            }
        }
        job.restore(from.epoch, from.positions.clone(), Base::default())?;
        let mut at = from.positions;
        let mut marks: VecDeque<Mark> = lock(&self.mint).marks_after(from.epoch).into();
        loop {
            // Asked to stop, it first reads what was acknowledged.
            let stopping = self.stop.load(Ordering::Acquire);
            let ends = self.log.ends()?;
            at.resize(ends.len(), 0);
            if at == ends {
                if stopping {
                    break;
                }
                self.log.wait(&ends, LOOK);
                continue;
            }
            // An epoch that was minted before keeps its bounds.
            let known = marks.pop_front();
            let to = known.as_ref().map_or(&ends, |mark| &mark.positions);
            let (signals, reached) = self.read(&at, to, known.is_some())?;
            let mark = match known {
                Some(mark) => mark,
                None => lock(&self.mint).mint(reached.clone())?,
            };
            job.push(mark.epoch, mark.positions.clone(), signals)?;
            at = mark.positions;
        }
        Ok(job.finish()?)
    }

    /// Signals from `at` to `to`, all of them or as many as an epoch holds; and the positions reached.
    fn read(&self, at: &[u64], to: &[u64], all: bool) -> Result<(Placed, Vec<u64>)> {
        let mut out = Vec::new();
        let mut reached = at.to_vec();
        for (partition, to) in to.iter().enumerate() {
            while reached[partition] < *to {
                let room = usize::try_from(*to - reached[partition])?.min(EPOCH_RECORDS_MAX);
                let from = LogPosition { partition: u32::try_from(partition)?, offset: reached[partition] };
                let signals = self.log.read(from, room, EPOCH_BYTES_MAX)?;
                let Some((last, _)) = signals.last() else { break };
                reached[partition] = last.offset + 1;
                out.extend(signals);
                if !all {
                    break;
                }
            }
        }
        Ok((out, reached))
    }
}

fn lock(mint: &Mutex<Mint>) -> MutexGuard<'_, Mint> {
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
                self.feed.publish(&delta)?;
                self.status.set(|p| p.closed = delta.upper);
            }
            if !commits.send(delta) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Commits closed epochs, grouped.
struct Committer {
    sink: Sink,
    grouping: Grouping,
    engine: Engine,
    feed: Arc<Feed>,
    mint: Arc<Mutex<Mint>>,
    status: Arc<Status>,
    runtime: Runtime,
}

impl Committer {
    fn run(mut self, deltas: &Waiting, rebuild_to: Option<Epoch>, base: &SyncSender<Loaded>) -> Result<()> {
        stand_back();
        let started = Instant::now();
        if rebuild_to.is_none() {
            load(&self.sink, &self.runtime, base)?;
            tracing::info!(took = ?started.elapsed(), "the committed rows are loaded");
        }
        // Without a reader there is nothing to read for: it has failed, and said so.
        base.send(Loaded::All).ok();
        match rebuild_to {
            Some(to) => self.rebuild(deltas, to)?,
            None => self.reconcile(deltas)?,
        }
        self.status.set(|p| p.checked = true);
        tracing::info!(epoch = %self.status.get().committed, took = ?started.elapsed(), "the tables are as they should be");
        loop {
            let wait = self
                .grouping
                .due()
                .map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(Instant::now()));
            match deltas.next(wait) {
                Next::Delta(delta) => self.grouping.push(Arc::unwrap_or_clone(delta), Instant::now())?,
                Next::Timeout => {}
                Next::End => return self.commit(),
            }
            if self.grouping.due().is_some_and(|due| due <= Instant::now()) {
                self.commit()?;
            }
        }
    }

    /// Compares the tables with what the base rows give (I6).
    fn reconcile(&mut self, deltas: &Waiting) -> Result<()> {
        let Some(full) = deltas.wait() else { return Ok(()) };
        let correction = self.runtime.block_on(self.sink.reconcile(full))?;
        let corrected = correction.tables.values().map(|t| t.missing + t.extra).sum();
        self.status.set(|p| p.corrected = corrected);
        Ok(())
    }

    /// Computes every table anew up to an epoch, and replaces what is there.
    fn rebuild(&mut self, deltas: &Waiting, to: Epoch) -> Result<()> {
        let mut parts = Vec::new();
        let whole = |parts: &Vec<EpochDelta>| parts.last().is_some_and(|d| d.upper >= to);
        while !whole(&parts) {
            let Some(delta) = deltas.wait() else { return Ok(()) };
            parts.push(Arc::unwrap_or_clone(delta));
        }
        let Some(full) = merge(parts)? else { return Ok(()) };
        let manifest = self.runtime.block_on(self.sink.rebuild(full))?;
        self.committed(manifest.epoch)
    }

    fn commit(&mut self) -> Result<()> {
        let Some(delta) = self.grouping.take() else { return Ok(()) };
        let started = Instant::now();
        self.feed.sync()?;
        let manifest = self.runtime.block_on(self.sink.commit(delta))?;
        self.grouping.committed(started.elapsed());
        self.committed(manifest.epoch)
    }

    fn committed(&mut self, epoch: Epoch) -> Result<()> {
        self.engine.overlay().committed(epoch);
        lock(&self.mint).trim(epoch)?;
        self.status.set(|p| {
            p.committed = epoch;
            p.closed = p.closed.max(epoch);
        });
        Ok(())
    }
}
