//! The committer: loads what is committed, holds it against its recomputation (I6), then commits closed epochs, grouped.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use flowsync_dataflow::{Base, cx::TABLES_READ};
use flowsync_ingest::{Mint, MintError};
use flowsync_query::{Engine, feed::Feed};
use flowsync_schemas::{
    Epoch, EpochDelta, Fact, Record, Row, TableChange,
    fact::{FACT_TABLES, RejectFact, SIGNALS, SignalFact, base_tables},
};
use flowsync_sinks::{Grouping, Sink, SinkError, merge};
use tokio::runtime::Runtime;

use crate::{
    backlog::{Next, Waiting},
    kept::Kept,
    patience::Patience,
    pipeline::{Status, lock},
};

/// How far files stand back behind answers, on a machine that has no core to spare for them (0 to 19, see nice(2)).
const SINK_NICENESS: i32 = 3;

/// What the sink works on: threads of its own, so that they can stand back.
pub fn sink_runtime() -> Result<Runtime> {
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

/// Rows on their way back into the dataflow.
pub enum Loaded {
    /// Some of them.
    Part(Base),
    /// There are no more.
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

/// See the module.
pub struct Committer {
    pub sink: Sink,
    pub grouping: Grouping,
    pub engine: Engine,
    pub feed: Arc<Feed>,
    pub mint: Arc<Mutex<Mint>>,
    pub status: Arc<Status>,
    pub patience: Patience,
    pub kept: Kept,
    pub runtime: Runtime,
}

impl Committer {
    /// Runs until no epoch comes any more.
    pub fn run(mut self, deltas: &Waiting, rebuild_to: Option<Epoch>, base: &SyncSender<Loaded>) -> Result<()> {
        stand_back();
        let started = Instant::now();
        let mut carried = Vec::new();
        match rebuild_to {
            None => {
                load(&self.sink, &self.runtime, base)?;
                tracing::info!(took = ?started.elapsed(), "the committed rows are loaded");
            }
            Some(_) => {
                carried = self.kept.rows(&self.sink, &self.runtime)?;
                for (name, rows) in &carried {
                    base.send(Loaded::Part(base_of(name, rows)?)).ok();
                }
            }
        }
        // Without a reader there is nothing to read for: it has failed, and said so.
        base.send(Loaded::All).ok();
        match rebuild_to {
            Some(to) => self.rebuild(deltas, to, carried)?,
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
        let attempt = || self.runtime.block_on(self.sink.reconcile(full.clone()));
        let correction = self.patience.try_again(SinkError::is_retryable, attempt)?;
        let corrected = correction.tables.values().map(|t| t.missing + t.extra).sum();
        self.status.set(|p| p.corrected = corrected);
        Ok(())
    }

    /// Computes every table anew up to an epoch, and replaces what is there. Rows that were carried over were never computed.
    fn rebuild(&mut self, deltas: &Waiting, to: Epoch, carried: Vec<(&'static str, Vec<Row>)>) -> Result<()> {
        let mut parts = Vec::new();
        let whole = |parts: &Vec<EpochDelta>| parts.last().is_some_and(|d| d.upper >= to);
        while !whole(&parts) {
            let Some(delta) = deltas.wait() else { return Ok(()) };
            parts.push(Arc::unwrap_or_clone(delta));
        }
        let Some(mut full) = merge(parts)? else { return Ok(()) };
        for (table, rows) in carried {
            let rows = rows.into_iter().map(|row| (row, 1));
            match full.changes.iter_mut().find(|change| change.table == table) {
                Some(change) => change.rows.extend(rows),
                None => full.changes.push(TableChange { table, rows: rows.collect() }),
            }
        }
        let full = Arc::new(full);
        let attempt = || self.runtime.block_on(self.sink.rebuild(full.clone()));
        let manifest = self.patience.try_again(SinkError::is_retryable, attempt)?;
        self.kept.done()?;
        self.committed(manifest.epoch)
    }

    fn commit(&mut self) -> Result<()> {
        let Some(delta) = self.grouping.take() else { return Ok(()) };
        let started = Instant::now();
        if let Err(error) = self.feed.sync() {
            tracing::warn!(%error, "after a power cut, live feeds would have to start anew");
        }
        let delta = Arc::new(delta);
        let attempt = || self.runtime.block_on(self.sink.commit(delta.clone()));
        let manifest = self.patience.try_again(SinkError::is_retryable, attempt)?;
        self.grouping.committed(started.elapsed());
        self.committed(manifest.epoch)
    }

    fn committed(&mut self, epoch: Epoch) -> Result<()> {
        self.engine.overlay().committed(epoch);
        self.patience.try_again(MintError::is_retryable, || lock(&self.mint).trim(epoch))?;
        self.status.set(|p| {
            p.committed = epoch;
            p.closed = p.closed.max(epoch);
        });
        Ok(())
    }
}
