//! The reader: where the pipeline begins, and how it goes through the log from there, epoch by epoch.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use flowsync_dataflow::{Job, RowsOf};
use flowsync_ingest::{Log, Mark, Mint, MintError};
use flowsync_schemas::{Epoch, LogPosition, Signal};
use flowsync_sinks::Sink;

use crate::{
    patience::Patience,
    pipeline::{LOOK, lock},
    tables::Loaded,
};

/// Signals of one epoch, at most.
const EPOCH_RECORDS_MAX: usize = 20_000;
/// Bytes of one epoch, at most (a single larger signal is an epoch of its own).
const EPOCH_BYTES_MAX: usize = 32 << 20;
/// From the beginning of one epoch to that of the next, at least: the dataflow's hundreds of operators are scheduled for every
/// epoch, however small, and would take the time from each other, from commits and from questions.
const EPOCH_EVERY: Duration = Duration::from_millis(50);

/// Where the pipeline begins.
pub struct Start {
    pub from: Mark,
    /// Where the tables have to be computed anew: the epoch up to which that is.
    pub rebuild_to: Option<Epoch>,
    /// The views whose rows are written anew, whatever the tables hold.
    pub rows_of: RowsOf,
}

impl Start {
    /// After the newest commit; at the very beginning where there is none, or where everything is to be computed `anew`.
    pub fn of(sink: &Sink, log: &Arc<dyn Log>, anew: bool) -> Result<Self> {
        let ends = log.ends()?;
        let Some(manifest) = sink.committed().filter(|_| !anew) else {
            let from = Mark { epoch: Epoch(0), positions: vec![0; ends.len()] };
            let signals: u64 = ends.iter().sum();
            if signals > 0 {
                tracing::warn!(signals, "computing every table anew from the log");
            }
            return Ok(Self { from, rebuild_to: Some(Epoch(signals)), rows_of: RowsOf::All });
        };
        let mut positions = manifest.positions.clone();
        positions.resize(ends.len(), 0);
        if positions.iter().zip(&ends).any(|(committed, end)| committed > end) {
            return Err(anyhow!(
                "the tables cover more signals ({positions:?}) than the log holds ({ends:?}): the log is not the one they \
                 were computed from; restore it from a backup"
            ));
        }
        let rows_of = RowsOf::These(sink.stale_views().into_iter().collect());
        Ok(Self { from: Mark { epoch: manifest.epoch, positions }, rebuild_to: None, rows_of })
    }
}

/// Brings a job to where the pipeline begins, from the rows that are loaded. False where whoever loads them has failed.
pub fn restore(job: &Job, from: &Mark, base: &Receiver<Loaded>, rows_of: &RowsOf) -> Result<bool> {
    let mut restoring = job.restore(from.epoch, from.positions.clone(), rows_of)?;
    loop {
        match base.recv() {
            Ok(Loaded::Part(part)) => restoring.add(part)?,
            Ok(Loaded::All) => break,
            Err(_) => return Ok(false),
        }
    }
    restoring.done()?;
    Ok(true)
}

/// Signals and where they lie.
pub type Placed = Vec<(LogPosition, Signal)>;

/// The log as epochs, whose bounds are decided through the mint.
pub struct Epochs {
    log: Arc<dyn Log>,
    mint: Arc<Mutex<Mint>>,
    patience: Patience,
    at: Vec<u64>,
    /// Epochs that were minted before keep their bounds.
    marks: VecDeque<Mark>,
}

impl Epochs {
    /// The epochs behind a mark.
    pub fn after(from: Mark, log: Arc<dyn Log>, mint: Arc<Mutex<Mint>>, patience: Patience) -> Self {
        let marks = lock(&mint).marks_after(from.epoch).into();
        Self { log, mint, patience, at: from.positions, marks }
    }

    /// The next one; none at the end of the log.
    pub fn next(&mut self) -> Result<Option<(Mark, Placed)>> {
        let ends = self.log.ends()?;
        self.at.resize(ends.len(), 0);
        if self.at == ends {
            return Ok(None);
        }
        let known = self.marks.pop_front();
        let to = known.as_ref().map_or(&ends, |mark| &mark.positions);
        let (signals, reached) = self.read(to, known.is_some())?;
        let mark = match known {
            Some(mark) => mark,
            None => {
                let mint = || lock(&self.mint).mint(reached.clone());
                self.patience.try_again(MintError::is_retryable, mint)?
            }
        };
        self.at = mark.positions.clone();
        Ok(Some((mark, signals)))
    }

    /// Signals up to `to`, all of them or as many as an epoch holds; and the positions reached.
    fn read(&self, to: &[u64], all: bool) -> Result<(Placed, Vec<u64>)> {
        let mut out = Vec::new();
        let mut reached = self.at.clone();
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

    /// Whether the bounds of the next epoch are known.
    fn is_known(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Waits a moment for signals behind the last epoch.
    fn wait(&self) {
        self.log.wait(&self.at, LOOK);
    }
}

/// Feeds the job.
pub struct Reader {
    pub job: Job,
    pub from: Mark,
    pub rows_of: RowsOf,
    pub epochs: Epochs,
    pub stop: Arc<AtomicBool>,
}

impl Reader {
    pub fn run(mut self, base: &Receiver<Loaded>) -> Result<()> {
        if !restore(&self.job, &self.from, base, &self.rows_of)? {
            // The committer has failed, and said so.
            return Ok(());
        }
        let mut next_from = Instant::now();
        loop {
            // Asked to stop, it first reads what was acknowledged.
            let stopping = self.stop.load(Ordering::Acquire);
            if !stopping && !self.epochs.is_known() {
                std::thread::sleep(next_from.saturating_duration_since(Instant::now()));
            }
            let begun = Instant::now();
            match self.epochs.next()? {
                Some((mark, signals)) => {
                    self.job.push(mark.epoch, mark.positions, signals)?;
                    next_from = begun + EPOCH_EVERY;
                }
                None if stopping => break,
                None => self.epochs.wait(),
            }
        }
        Ok(self.job.finish()?)
    }
}
