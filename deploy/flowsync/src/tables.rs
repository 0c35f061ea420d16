//! The tables as the pipeline keeps them: their rows of before loaded, held against a recomputation (I6) or computed anew, and
//! closed epochs committed to them, in groups. What storage refuses for a while is tried again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};
use flowsync_dataflow::{Base, Config, Job, RowsOf, cx::TABLES_READ};
use flowsync_ingest::{Mark, Mint, MintError};
use flowsync_schemas::{
    Epoch, EpochDelta, Fact, Record, Row, TableChange,
    fact::{FACT_TABLES, RejectFact, SIGNALS, SignalFact, base_tables},
    record::{Cells, RecordError, Texts},
};
use flowsync_sinks::{Correction, Grouping, Sink, SinkError, merge};
use futures::StreamExt;
use tokio::runtime::Runtime;

use crate::{
    kept::Kept,
    patience::Patience,
    pipeline::{PARTS_WAITING_MAX, lock},
    reader::restore,
};

/// Rows on their way back into the dataflow.
pub enum Loaded {
    /// Some of them.
    Part(Base),
    /// There are no more.
    All,
}

/// Hands over the committed base rows: so many tables side by side, file by file, so that reading goes on beside the dataflow.
fn load(sink: &Sink, runtime: &Runtime, side_by_side: usize, parts: &SyncSender<Loaded>) -> Result<()> {
    let needed = |name: &&str| {
        let fact = FACT_TABLES.iter().any(|table| table.name == *name);
        !fact || TABLES_READ.contains(name)
    };
    let tables: Vec<_> = base_tables().map(|table| table.name).filter(needed).collect();
    let next = AtomicUsize::new(0);
    let one = |name: &'static str, texts: &mut Texts| -> Result<()> {
        let mut files = sink.load(name);
        while let Some(rows) = runtime.block_on(files.next()) {
            let part = rows
                .map_err(anyhow::Error::from)
                .and_then(|rows| Ok(base_of(name, rows.len(), |read| rows.each(read), texts)?));
            // Without a reader there is nothing to load for: it has failed, and said so.
            if parts.send(Loaded::Part(part.with_context(|| format!("table {name}"))?)).is_err() {
                break;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let load = || -> Result<()> {
            let mut texts = Texts::default();
            while let Some(name) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
                one(name, &mut texts)?;
            }
            Ok(())
        };
        let loaders: Vec<_> = (0..side_by_side).map(|_| scope.spawn(load)).collect();
        loaders.into_iter().try_for_each(|l| l.join().map_err(|_| anyhow!("loading the tables panicked"))?)
    })
}

/// Takes a row.
type Take<'a> = &'a mut dyn FnMut(&dyn Cells) -> Result<(), RecordError>;

/// Rows of a base table, read back; what is one of `texts` is that one.
fn base_of(
    name: &str,
    count: usize,
    each: impl FnOnce(Take<'_>) -> Result<(), RecordError>,
    texts: &mut Texts,
) -> Result<Base, RecordError> {
    let mut base = Base::default();
    let Base { facts, signals, rejects } = &mut base;
    match FACT_TABLES.iter().position(|table| table.name == name) {
        Some(table) => {
            facts.reserve(count);
            each(&mut |cells| Fact::from_cells(table, cells, texts).map(|fact| facts.push(fact)))
        }
        None if name == SIGNALS.name => {
            each(&mut |cells| SignalFact::from_cells(cells, texts).map(|fact| signals.push(fact)))
        }
        None => each(&mut |cells| RejectFact::from_cells(cells, texts).map(|fact| rejects.push(fact))),
    }?;
    Ok(base)
}

/// Rows by base table.
type Carried = Vec<(&'static str, Vec<Row>)>;

/// See the module.
pub struct Tables {
    pub sink: Sink,
    pub grouping: Grouping,
    pub mint: Arc<Mutex<Mint>>,
    pub patience: Patience,
    pub kept: Kept,
    /// How the dataflow runs.
    pub config: Config,
    pub runtime: Runtime,
}

impl Tables {
    /// Hands over the rows that the dataflow begins with, so many tables side by side: those that are committed, or where the
    /// tables are to be computed anew, those that nobody can compute any more. Gives the latter.
    pub fn load(&self, rebuilds: bool, side_by_side: usize, base: &SyncSender<Loaded>) -> Result<Carried> {
        let mut carried = Vec::new();
        if rebuilds {
            carried = self.kept.rows(&self.sink, &self.runtime)?;
            for (name, rows) in &carried {
                let each = |read: Take<'_>| rows.iter().try_for_each(|row| read(&&**row));
                base.send(Loaded::Part(base_of(name, rows.len(), each, &mut Texts::default())?)).ok();
            }
        } else {
            load(&self.sink, &self.runtime, side_by_side, base)?;
        }
        // Without a reader there is nothing to read for: it has failed, and said so.
        base.send(Loaded::All).ok();
        Ok(carried)
    }

    /// Compares the tables with what the dataflow tells of them, which it was brought to by their base rows (I6).
    pub fn reconcile(&mut self, told: &Arc<EpochDelta>) -> Result<Correction> {
        let attempt = || self.runtime.block_on(self.sink.differing(&told.digests));
        let differing = self.patience.try_again(SinkError::is_retryable, attempt)?;
        let full = if differing.is_empty() { told.clone() } else { Arc::new(self.recompute(told, differing)?) };
        let attempt = || self.runtime.block_on(self.sink.reconcile(full.clone()));
        self.patience.try_again(SinkError::is_retryable, attempt)
    }

    /// The rows of views that were told by a digest and are to be repaired: they are computed once more, by a second dataflow
    /// beside the running one. Both have to come to the same.
    fn recompute(&self, told: &EpochDelta, views: BTreeSet<&'static str>) -> Result<EpochDelta> {
        tracing::error!(?views, "views differ from their recomputation: their rows are computed once more");
        let (deltas_in, deltas) = sync_channel(1);
        // All signals are in the base rows: none is read.
        let job = Job::start(self.config.clone(), Arc::new(|_| Default::default()), deltas_in)?;
        let from = Mark { epoch: told.upper, positions: told.positions.clone() };
        let rows_of = RowsOf::These(views.into_iter().chain(self.sink.stale_views()).collect());
        std::thread::scope(|scope| {
            let (base_in, base) = sync_channel(PARTS_WAITING_MAX);
            let loading = scope.spawn(move || self.load(false, 1, &base_in));
            let restored = restore(&job, &from, &base, &rows_of);
            // Whoever loads must not wait for a dataflow that has failed.
            drop(base);
            loading.join().map_err(|_| anyhow!("loading the tables panicked"))??;
            restored
        })?;
        let full = deltas.recv().context("the second dataflow ended")?;
        job.finish()?;
        for (view, digest) in &told.digests {
            let again = full.digests.get(view).copied().unwrap_or_else(|| {
                let rows = full.changes.iter().filter(|change| change.table == *view).flat_map(|change| &change.rows);
                rows.map(|(row, diff)| (&**row, *diff)).collect()
            });
            if again != *digest {
                bail!("view {view} was computed twice from the same facts, and its rows differ: start again");
            }
        }
        Ok(full)
    }

    /// Replaces what every table holds by what was computed anew. Rows that were carried over were never computed.
    pub fn rebuild(&mut self, parts: Vec<EpochDelta>, carried: Carried) -> Result<Option<Epoch>> {
        let Some(mut full) = merge(parts)? else { return Ok(None) };
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
        self.committed(manifest.epoch).map(Some)
    }

    /// Commits the epochs that wait; none where none do.
    pub fn commit(&mut self) -> Result<Option<Epoch>> {
        let Some(delta) = self.grouping.take() else { return Ok(None) };
        let started = Instant::now();
        let delta = Arc::new(delta);
        let attempt = || self.runtime.block_on(self.sink.commit(delta.clone()));
        let manifest = self.patience.try_again(SinkError::is_retryable, attempt)?;
        self.grouping.committed(started.elapsed());
        self.committed(manifest.epoch).map(Some)
    }

    /// No restart begins before this epoch any more.
    fn committed(&mut self, epoch: Epoch) -> Result<Epoch> {
        self.patience.try_again(MintError::is_retryable, || lock(&self.mint).trim(epoch))?;
        Ok(epoch)
    }
}
