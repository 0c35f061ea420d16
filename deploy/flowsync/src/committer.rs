//! The committer: loads what is committed, holds it against its recomputation (I6), then commits closed epochs, grouped.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::{Duration, Instant},
};

use anyhow::Result;
use flowsync_query::{Engine, feed::Feed};
use flowsync_schemas::{Epoch, EpochDelta};
use tokio::runtime::Runtime;

use crate::{
    backlog::{Next, Waiting},
    pipeline::Status,
    tables::{Loaded, Tables},
};

/// How far files stand back behind answers, on a machine that has no core to spare for them (0 to 19, see nice(2)).
const SINK_NICENESS: i32 = 10;

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

/// See the module.
pub struct Committer {
    pub tables: Tables,
    pub engine: Engine,
    pub feed: Arc<Feed>,
    pub status: Arc<Status>,
}

impl Committer {
    /// Runs until no epoch comes any more.
    pub fn run(mut self, deltas: &Waiting, rebuild_to: Option<Epoch>, base: &SyncSender<Loaded>) -> Result<()> {
        stand_back();
        let started = Instant::now();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let carried = self.tables.load(rebuild_to.is_some(), cores, base)?;
        tracing::info!(took = ?started.elapsed(), "the rows to begin with are loaded");
        match rebuild_to {
            None => {
                let Some(full) = deltas.wait() else { return Ok(()) };
                let correction = self.tables.reconcile(&full)?;
                let corrected = correction.tables.values().map(|t| t.missing + t.extra).sum();
                self.status.set(|p| p.corrected = corrected);
            }
            Some(to) => {
                let mut parts = Vec::new();
                while parts.last().is_none_or(|last: &Arc<EpochDelta>| last.upper < to) {
                    let Some(delta) = deltas.wait() else { return Ok(()) };
                    parts.push(delta);
                }
                let parts = parts.into_iter().map(Arc::unwrap_or_clone).collect();
                if let Some(epoch) = self.tables.rebuild(parts, carried)? {
                    self.committed(epoch);
                }
            }
        }
        self.status.set(|p| p.checked = true);
        tracing::info!(epoch = %self.status.get().committed, took = ?started.elapsed(), "the tables are as they should be");
        loop {
            let due = self.tables.grouping.due();
            let wait = due.map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(Instant::now()));
            match deltas.next(wait) {
                Next::Delta(delta) => self.tables.grouping.push(Arc::unwrap_or_clone(delta), Instant::now())?,
                Next::Timeout => {}
                Next::End => return self.commit(),
            }
            if self.tables.grouping.due().is_some_and(|due| due <= Instant::now()) {
                self.commit()?;
            }
        }
    }

    fn commit(&mut self) -> Result<()> {
        if self.tables.grouping.due().is_none() {
            return Ok(());
        }
        if let Err(error) = self.feed.sync() {
            tracing::warn!(%error, "after a power cut, live feeds would have to start anew");
        }
        if let Some(epoch) = self.tables.commit()? {
            self.committed(epoch);
        }
        Ok(())
    }

    fn committed(&self, epoch: Epoch) {
        self.engine.overlay().committed(epoch);
        self.status.set(|p| {
            p.committed = epoch;
            p.closed = p.closed.max(epoch);
        });
    }
}
