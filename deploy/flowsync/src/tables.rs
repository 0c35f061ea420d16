//! The tables as the pipeline keeps them: their rows of before loaded, held against a recomputation (I6) or computed anew, and
//! closed epochs committed to them, in groups. What storage refuses for a while is tried again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::SyncSender,
    },
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use flowsync_dataflow::{Base, cx::TABLES_READ};
use flowsync_ingest::{Mint, MintError};
use flowsync_schemas::{
    Epoch, EpochDelta, Fact, Record, Row, TableChange,
    fact::{FACT_TABLES, RejectFact, SIGNALS, SignalFact, base_tables},
};
use flowsync_sinks::{Correction, Grouping, Sink, SinkError, merge};
use tokio::runtime::Runtime;

use crate::{kept::Kept, patience::Patience, pipeline::lock};

/// Rows on their way back into the dataflow.
pub enum Loaded {
    /// Some of them.
    Part(Base),
    /// There are no more.
    All,
}

/// Rows of a part.
const PART_ROWS: usize = 50_000;

/// Hands over the committed base rows: so many tables side by side, in parts, so that reading goes on beside the dataflow.
fn load(sink: &Sink, runtime: &Runtime, side_by_side: usize, parts: &SyncSender<Loaded>) -> Result<()> {
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
        let load = || -> Result<()> {
            while let Some(name) = tables.get(next.fetch_add(1, Ordering::Relaxed)) {
                one(name)?;
            }
            Ok(())
        };
        let loaders: Vec<_> = (0..side_by_side).map(|_| scope.spawn(load)).collect();
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

/// Rows by base table.
type Carried = Vec<(&'static str, Vec<Row>)>;

/// See the module.
pub struct Tables {
    pub sink: Sink,
    pub grouping: Grouping,
    pub mint: Arc<Mutex<Mint>>,
    pub patience: Patience,
    pub kept: Kept,
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
                base.send(Loaded::Part(base_of(name, rows)?)).ok();
            }
        } else {
            load(&self.sink, &self.runtime, side_by_side, base)?;
        }
        // Without a reader there is nothing to read for: it has failed, and said so.
        base.send(Loaded::All).ok();
        Ok(carried)
    }

    /// Compares the tables with what the base rows give (I6).
    pub fn reconcile(&mut self, full: &Arc<EpochDelta>) -> Result<Correction> {
        let attempt = || self.runtime.block_on(self.sink.reconcile(full.clone()));
        self.patience.try_again(SinkError::is_retryable, attempt)
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
