//! One process, step by step in one thread: opened, brought to where the tables are, fed and committed by the product's own
//! code ([`Start`], [`restore`], [`Epochs`], [`Tables`]); threads, overlay and feed are left out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use flowsync_dataflow::{Config, Job};
use flowsync_ingest::{DataDir, EmbeddedLog, Log, Mint};
use flowsync_schemas::{Epoch, EpochDelta, LogPosition, fact::SIGNALS, model::Model};
use flowsync_sinks::{
    Grouping, GroupingOptions, Sink, SinkError,
    disk::{self, Fault},
    merge,
};
use tokio::runtime::Runtime;

use super::world::{Canary, World};
use crate::{
    committer::sink_runtime,
    kept::Kept,
    patience::Patience,
    pipeline::{catalogue, read_with},
    reader::{Epochs, Start, restore},
    tables::{Loaded, Tables},
};

pub struct Process {
    pub log: Arc<EmbeddedLog>,
    pub tables: Tables,
    epochs: Epochs,
    job: Job,
    deltas: Receiver<EpochDelta>,
    closed: Epoch,
    /// The epochs that wait for a commit, once more.
    waiting: Vec<EpochDelta>,
    /// What was committed last.
    pub last: Option<EpochDelta>,
    _dir: DataDir,
}

impl Process {
    /// As [`crate::pipeline::Pipeline::start`] does, in the same order.
    pub fn start(world: &mut World) -> Result<Self> {
        let dir = DataDir::open_writer(world.home.path(), "simulation")?;
        let keys = dir.keyring()?;
        let embedded = Arc::new(EmbeddedLog::open(&dir.log(), keys.clone())?);
        world.is_open();
        holds_what_was_acknowledged(world, &*embedded)?;
        let log: Arc<dyn Log> = embedded.clone();
        let runtime = sink_runtime()?;
        let sink = runtime.block_on(open_sink(world))?;
        let mint = Arc::new(Mutex::new(Mint::open(&dir.feed())?));
        let (deltas_in, deltas) = sync_channel(64);
        // Two take twice as long.
        let workers = if world.rng.u8(0..8) == 0 { 2 } else { 1 };
        let config = Config { workers, model: Model::shipped(), epochs_in_flight_max: 4 };
        let job = Job::start(config.clone(), read_with(dir.pseudonymizer()?), deltas_in)?;
        let Start { from, rebuild_to, rows_of } = Start::of(&sink, &log, false)?;
        if rebuild_to.is_none() && from.epoch < world.committed {
            bail!("{} was committed, and {} is there", world.committed, from.epoch);
        }
        if rebuild_to.is_some() && world.build == world.computed {
            bail!("the tables of this very build are to be computed anew");
        }
        let (epoch, ends, steps) = (from.epoch, log.ends()?, world.disk.steps());
        world.tell(format!(
            "opens at {epoch} of {ends:?} after {steps} steps, rebuild {rebuild_to:?}, {workers} workers"
        ));

        let patience = Patience { pauses: [Duration::ZERO; 2], ..Patience::new(Arc::default(), world.disk.death()) };
        let epochs = Epochs::after(from.clone(), log.clone(), mint.clone(), patience.clone());
        let grouping = Grouping::new(GroupingOptions::default());
        let kept = Kept { log, keys, rewrite: None, restored: None };
        let tables = Tables { sink, grouping, mint, patience, kept, config, runtime };
        // One table after the other, and nobody takes them meanwhile.
        let (base_in, base) = sync_channel(1_024);
        let carried = tables.load(rebuild_to.is_some(), 1, &base_in)?;
        let base = if world.canary == Canary::Restart { forgetful(&base) } else { base };
        restore(&job, &from, &base, &rows_of)?;
        let (waiting, last, closed) = (Vec::new(), None, Epoch(0));
        let mut process = Self { log: embedded, tables, epochs, job, deltas, closed, waiting, last, _dir: dir };
        let full = process.closed()?;
        match rebuild_to {
            None => {
                let correction = process.tables.reconcile(&Arc::new(full))?;
                if correction.tables.keys().any(|view| !world.altered.contains(view)) {
                    bail!("the correction is not empty: {correction:?}, of what the disk altered: {:?}", world.altered);
                }
                if !correction.is_empty() {
                    world.tell(format!("repairs {:?}", correction.tables));
                }
                world.tell(format!("reconciles after {} steps", world.disk.steps()));
            }
            Some(to) => {
                let mut parts = vec![full];
                while process.closed < to {
                    parts.push(process.epoch(world)?.ok_or_else(|| anyhow!("the log ends before {to}"))?);
                }
                let epoch = process.tables.rebuild(parts, carried)?;
                world.committed = epoch.context("nothing was rebuilt")?;
                world.tell(format!("rebuilds to {}", world.committed));
            }
        }
        world.computed = world.build;
        world.altered.clear();
        Ok(process)
    }

    /// Signals are sent, and acknowledged when the log has them.
    pub fn take_in(&mut self, world: &mut World) -> Result<()> {
        let now = world.now();
        let sent = world.senders.send(&mut world.rng, now);
        let appended = self.log.append(&sent.signals())?;
        world.is_durable();
        world.tell(format!("takes in {:?}", appended.iter().map(|a| a.position.offset).collect::<Vec<_>>()));
        world.senders.acknowledge(sent, &appended).map_err(|e| anyhow!(e))
    }

    /// Reads one epoch, if there is one, and puts it with those that wait.
    pub fn read(&mut self, world: &mut World) -> Result<()> {
        let Some(mut delta) = self.epoch(world)? else { return Ok(()) };
        if world.canary == Canary::Commit {
            let signals = delta.changes.iter_mut().find(|change| change.table == SIGNALS.name);
            signals.map(|change| change.rows.pop());
        }
        self.tables.grouping.push(delta.clone(), Instant::now())?;
        self.waiting.push(delta);
        Ok(())
    }

    fn epoch(&mut self, world: &mut World) -> Result<Option<EpochDelta>> {
        let Some((mark, signals)) = self.epochs.next()? else { return Ok(None) };
        let repeats = world.bounds.last().is_none_or(|last| mark.epoch > *last) || world.bounds.contains(&mark.epoch);
        if !repeats {
            bail!("epoch {} ends elsewhere than before: {:?}", mark.epoch, world.bounds);
        }
        world.bounds.insert(mark.epoch);
        self.job.push(mark.epoch, mark.positions, signals)?;
        let delta = self.closed()?;
        world.tell(format!("closes {} with {} tables", delta.upper, delta.changes.len()));
        Ok(Some(delta))
    }

    /// The next closed epoch.
    fn closed(&mut self) -> Result<EpochDelta> {
        let delta = self.deltas.recv_timeout(Duration::from_secs(120)).context("an epoch does not close")?;
        if delta.lower != self.closed {
            bail!("[{}, {}) follows {}", delta.lower, delta.upper, self.closed);
        }
        self.closed = delta.upper;
        Ok(delta)
    }

    /// Commits what waits.
    pub fn commit(&mut self, world: &mut World) -> Result<()> {
        let waiting = merge(std::mem::take(&mut self.waiting))?;
        let Some(epoch) = self.tables.commit()? else { return Ok(()) };
        world.committed = epoch;
        world.tell(format!("commits {epoch} after {} steps", world.disk.steps()));
        self.last = waiting;
        Ok(())
    }

    /// Somebody did not hear of the last commit, and asks again.
    pub fn commit_again(&mut self, world: &mut World) -> Result<()> {
        let Some(delta) = self.last.clone() else { return Ok(()) };
        let manifest = self.tables.runtime.block_on(self.tables.sink.commit(delta))?;
        if self
            .tables
            .sink
            .committed()
            .is_none_or(|committed| *committed != *manifest || manifest.epoch != world.committed)
        {
            bail!("another manifest for epoch {}", world.committed);
        }
        world.tell("recommits");
        Ok(())
    }

    pub fn maintain(&mut self, world: &mut World) -> Result<()> {
        let now = world.now();
        self.tables.runtime.block_on(self.tables.sink.maintain(now))?;
        Ok(())
    }

    /// Nothing is left to be read or committed.
    pub fn is_done(&self, world: &World) -> Result<bool> {
        Ok(!world.senders.have_more() && self.log.ends()?.iter().sum::<u64>() == world.committed.0)
    }

    /// Ends; the tables as they are found by who opens them next.
    pub fn reopened(self, world: &World) -> Result<(Runtime, Sink)> {
        let Tables { sink, runtime, .. } = self.tables;
        drop(sink);
        let sink = runtime.block_on(open_sink(world))?;
        Ok((runtime, sink))
    }

    /// Dies, perhaps in the middle of an append or of writing a mark.
    pub fn die(self, world: &mut World, fault: Fault) -> Result<()> {
        // Else the disk brought it about.
        if !world.disk.is_dead() {
            world.disk.kill(fault);
        }
        let mut now = world.files();
        let mut after = None;
        if world.rng.u8(0..3) == 0 {
            let clock = world.now();
            let sent = world.senders.send(&mut world.rng, clock);
            self.log.append(&sent.signals())?;
            after = Some(world.files());
            world.tell("appends meanwhile");
        } else if world.rng.u8(0..3) == 0 {
            let (mut epochs, known) = (self.epochs, world.bounds.last().copied());
            // Cut short: nobody has seen this epoch.
            if epochs.next()?.is_some_and(|(mark, _)| known.is_none_or(|known| mark.epoch > known)) {
                now = world.half_a_mark();
                world.tell("marks meanwhile");
            }
        }
        world.end(now, after, fault);
        world.tell(format!("dies of {fault:?}"));
        Ok(())
    }
}

async fn open_sink(world: &World) -> Result<Sink, SinkError> {
    let program = format!("build {}", world.build);
    disk::open(&world.disk, world.tables.path(), catalogue(), program, world.options).await
}

/// Whether an error is one that was brought about, and tells that trying again helps.
pub fn is_brought_about(world: &World, error: &anyhow::Error) -> bool {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<SinkError>());
    world.disk.fired().is_some() && cause.is_some_and(SinkError::is_retryable)
}

/// I1 and I2 of the log: what was acknowledged is there, at its place, once.
fn holds_what_was_acknowledged(world: &World, log: &dyn Log) -> Result<()> {
    let all = log.read(LogPosition::default(), usize::MAX, usize::MAX)?;
    let once: BTreeSet<_> = all.iter().map(|(_, signal)| signal.id).collect();
    if once.len() != all.len() {
        bail!("the log has {} signals, and {} of them once", all.len(), once.len());
    }
    for (id, at) in &world.senders.acknowledged {
        if !all.iter().any(|(position, signal)| position == at && signal.id == *id) {
            bail!("signal {id} at {at:?} was acknowledged, and is not in the log, which has {}", all.len());
        }
    }
    Ok(())
}

/// Of the rows that are handed over, all but the first part.
fn forgetful(base: &Receiver<Loaded>) -> Receiver<Loaded> {
    let (left_in, left) = sync_channel(1_024);
    for (at, part) in base.try_iter().enumerate() {
        if at > 0 || matches!(part, Loaded::All) {
            left_in.send(part).ok();
        }
    }
    left
}
