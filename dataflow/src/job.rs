//! The job: timely workers, signals in by epoch, changes out by epoch.
//!
//! ```text
//!  push(epoch, signals) ──► worker 0: read ─► dedup ─► inputs ─► views ─► outbox ─┐
//!                      └──► worker 1: read ─► dedup ─► inputs ─► views ─► outbox ─┴─► collector ─► EpochDelta
//! ```
//!
//! Frontiers: data of epoch *e* is at time *e*; an epoch is closed when every worker has reported a frontier beyond it,
//! and a worker reports its rows before the frontier that covers them. The intervals that come out tile time (I4).
//!
//! Invariants: a signal id counts once, whatever is delivered again (I2): signals are spread over workers by id, and each
//! worker keeps the ids that it has seen. At most [`Config::epochs_in_flight_max`] epochs are inside; `push` waits (I9).
//! Rows of the base tables leave beside those of the views, under the same epoch.

mod collector;
mod cores;
mod gauge;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use flowsync_schemas::{
    Epoch, EpochDelta, Fact, LogPosition, Record, Rejection, RowsDigest, Signal, SignalId, Text,
    fact::{FACT_TABLES, REJECTS, RejectFact, SIGNALS, SignalFact},
    model::Model,
    record::Texts,
};
use timely::{communication::WorkerGuards, dataflow::operators::probe::Handle, worker::Worker};

use self::{
    collector::Collector,
    gauge::{Gates, Gauge},
};
use crate::{
    cx::{Changed, Cx, Inputs, Outbox, Summing},
    views,
};

/// Reads a signal with its connector: facts and rejections. Pure.
pub type Read = Arc<dyn Fn(&Signal) -> (Vec<Fact>, Vec<Rejection>) + Send + Sync>;

/// How the job runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads; at least one.
    pub workers: usize,
    /// The confidence model.
    pub model: Model,
    /// Epochs that may be inside before `push` waits; at least one.
    pub epochs_in_flight_max: usize,
}

/// Why the job does not go on.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Timely could not start its workers.
    #[error("cannot start the dataflow: {0}")]
    Start(String),
    /// A worker ended: the process has to restart from the last committed epoch.
    #[error("the dataflow has stopped; restart from the last committed epoch (the log holds every signal)")]
    Stopped,
    /// An epoch must be later than the one before.
    #[error("epoch {next} does not follow epoch {last}")]
    Order {
        /// The epoch before.
        last: Epoch,
        /// The epoch that was pushed.
        next: Epoch,
    },
}

impl JobError {
    /// Whether only a restart helps.
    pub fn is_fatal(&self) -> bool {
        matches!(self, JobError::Start(_) | JobError::Stopped)
    }
}

/// Base rows of a committed epoch, read back from their tables. Equal texts in them are one, as far as whoever reads remembers.
#[derive(Debug, Default)]
pub struct Base {
    /// Facts.
    pub facts: Vec<Fact>,
    /// Signals.
    pub signals: Vec<SignalFact>,
    /// Rejections.
    pub rejects: Vec<RejectFact>,
}

/// Rows that a worker gathers, at most, before it reports them. Until then it reports with the frontier alone: every report wakes
/// the collector, which takes the core from a worker.
const ROWS_GATHERED_MAX: usize = 10_000;

/// Parts of base rows that wait for a worker, at most.
const PARTS_WAITING_MAX: usize = 4;

/// Which views' rows a job tells at the epoch that it is brought to; of the others it tells digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsOf {
    /// All.
    All,
    /// These.
    These(BTreeSet<&'static str>),
}

enum Command {
    /// Base rows of this epoch will come.
    Restore(u64, RowsOf),
    /// Ids of signals that are inside.
    Seen(Vec<SignalId>),
    /// Part of the base rows of the epoch that is being restored.
    Part(u64, Base),
    /// All parts are there.
    Restored(u64),
    Retract(u64, Base),
    Signals(u64, Vec<(LogPosition, Signal)>),
}

enum Report {
    /// An epoch was pushed: bounds and log positions.
    Epoch(u64, Vec<u64>),
    /// A worker's rows, and the first time that it may still change (`None`: none).
    Worker(usize, Option<u64>, Vec<Changed>),
    /// A worker's part of the views of an epoch, before the frontier that closes it.
    Summed(Summing),
}

/// A running dataflow.
pub struct Job {
    commands: Vec<Sender<Command>>,
    reports: Sender<Report>,
    gauge: Arc<Gauge>,
    /// Parts of base rows that no worker has taken in yet.
    parts: Arc<Gauge>,
    last: Mutex<Option<Epoch>>,
    in_flight_max: usize,
    workers: Option<WorkerGuards<()>>,
    collector: Option<JoinHandle<()>>,
}

impl Job {
    /// Starts the workers. Closed epochs come out of `deltas` in order; a full channel holds the job back.
    ///
    /// # Errors
    /// Where timely cannot start.
    pub fn start(config: Config, read: Read, deltas: SyncSender<EpochDelta>) -> Result<Self, JobError> {
        Self::start_observed(config, read, deltas, |_| {})
    }

    /// The same, with something that sees each worker before anything is built on it: a profiler, which registers its loggers.
    ///
    /// # Errors
    /// As [`Job::start`].
    pub fn start_observed(
        config: Config,
        read: Read,
        deltas: SyncSender<EpochDelta>,
        observe: impl Fn(&mut Worker) + Send + Sync + 'static,
    ) -> Result<Self, JobError> {
        let count = config.workers.max(1);
        let (reports, reported) = channel();
        let (gauge, parts) = (Arc::new(Gauge::empty()), Arc::new(Gauge::empty()));
        let mut commands = Vec::new();
        let mut inboxes = Vec::new();
        for _ in 0..count {
            let (send, receive) = channel();
            commands.push(send);
            inboxes.push(Some((receive, reports.clone())));
        }
        let inboxes = Mutex::new(inboxes);
        let model = config.model;
        let gates = [Arc::clone(&gauge), Arc::clone(&parts)];
        let timely = if count == 1 { timely::Config::thread() } else { timely::Config::process(count) };
        let workers = timely::execute(timely, move |worker| {
            let inbox = inboxes.lock().unwrap_or_else(PoisonError::into_inner)[worker.index()].take();
            if let Some((commands, reports)) = inbox {
                let gates = Gates(&gates);
                cores::keep_to_one(worker.index(), count);
                observe(worker);
                run_worker(worker, &commands, &reports, &gates.0[1], &read, &model);
            }
        })
        .map_err(JobError::Start)?;
        let collector = {
            let (gauge, parts) = (Arc::clone(&gauge), Arc::clone(&parts));
            std::thread::Builder::new()
                .name("collector".into())
                .spawn(move || {
                    Collector::new(count, deltas).run(&reported, &gauge);
                    gauge.close();
                    parts.close();
                })
                .map_err(|e| JobError::Start(e.to_string()))?
        };
        Ok(Job {
            commands,
            reports,
            gauge,
            parts,
            last: Mutex::new(None),
            in_flight_max: config.epochs_in_flight_max.max(1),
            workers: Some(workers),
            collector: Some(collector),
        })
    }

    /// Brings the job to a committed epoch from its base rows, which [`Restoring`] takes. The first delta that comes out then
    /// holds, from epoch 0, every row of the views that `rows_of` names and the digests of the others, which take no memory;
    /// and no base rows: they are in their tables.
    ///
    /// # Errors
    /// Where the job has stopped.
    pub fn restore(&self, epoch: Epoch, positions: Vec<u64>, rows_of: &RowsOf) -> Result<Restoring<'_>, JobError> {
        for command in &self.commands {
            command.send(Command::Restore(epoch.0, rows_of.clone())).map_err(|_| JobError::Stopped)?;
        }
        Ok(Restoring { job: self, epoch, positions, turn: 0 })
    }

    /// Takes base rows back, and with them everything that was built on them. They must be inside.
    ///
    /// # Errors
    /// Where the job has stopped, or the epoch is not later than the one before.
    pub fn retract(&self, epoch: Epoch, positions: Vec<u64>, base: Base) -> Result<(), JobError> {
        self.send(epoch, positions, self.spread(base).map(|part| Command::Retract(epoch.0, part)))
    }

    /// Base rows by worker.
    fn spread(&self, base: Base) -> impl Iterator<Item = Base> + use<> {
        let shards = self.commands.len();
        let mut parts: Vec<Base> = (0..shards).map(|_| Base::default()).collect();
        for fact in base.facts {
            parts[shard(fact.signal, shards)].facts.push(fact);
        }
        for signal in base.signals {
            parts[shard(signal.signal, shards)].signals.push(signal);
        }
        for reject in base.rejects {
            parts[shard(reject.signal, shards)].rejects.push(reject);
        }
        parts.into_iter()
    }

    /// Feeds the signals that bring the job from the epoch before to `epoch`. Waits while too many epochs are inside.
    ///
    /// # Errors
    /// Where the job has stopped, or the epoch is not later than the one before.
    pub fn push(&self, epoch: Epoch, positions: Vec<u64>, signals: Vec<(LogPosition, Signal)>) -> Result<(), JobError> {
        let shards = self.commands.len();
        let mut parts: Vec<Vec<(LogPosition, Signal)>> = (0..shards).map(|_| Vec::new()).collect();
        for (position, signal) in signals {
            parts[shard(signal.id, shards)].push((position, signal));
        }
        self.send(epoch, positions, parts.into_iter().map(|part| Command::Signals(epoch.0, part)))
    }

    fn send(&self, epoch: Epoch, positions: Vec<u64>, parts: impl Iterator<Item = Command>) -> Result<(), JobError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = *last
            && epoch <= last
        {
            return Err(JobError::Order { last, next: epoch });
        }
        if !self.gauge.enter(self.in_flight_max) {
            return Err(JobError::Stopped);
        }
        self.reports.send(Report::Epoch(epoch.0, positions)).map_err(|_| JobError::Stopped)?;
        for (command, part) in self.commands.iter().zip(parts) {
            command.send(part).map_err(|_| JobError::Stopped)?;
        }
        *last = Some(epoch);
        Ok(())
    }

    /// Closes the inputs, and waits until every pushed epoch has come out.
    ///
    /// # Errors
    /// Where a worker had died.
    pub fn finish(mut self) -> Result<(), JobError> {
        self.commands.clear();
        let workers = self.workers.take().map(WorkerGuards::join).into_iter().flatten();
        let died = workers.filter(Result::is_err).count() > 0;
        drop(std::mem::replace(&mut self.reports, channel().0));
        let collected = self.collector.take().map(JoinHandle::join);
        if died || matches!(collected, Some(Err(_))) { Err(JobError::Stopped) } else { Ok(()) }
    }
}

/// A job on its way to a committed epoch.
pub struct Restoring<'a> {
    job: &'a Job,
    epoch: Epoch,
    positions: Vec<u64>,
    /// Whose turn it is.
    turn: usize,
}

impl Restoring<'_> {
    /// Takes in a part of the base rows, so that loading goes on beside the dataflow. Waits while too many wait (I9).
    ///
    /// # Errors
    /// Where the job has stopped.
    pub fn add(&mut self, part: Base) -> Result<(), JobError> {
        let commands = &self.job.commands;
        let mut seen: Vec<Vec<SignalId>> = vec![Vec::new(); commands.len()];
        for signal in &part.signals {
            seen[shard(signal.signal, commands.len())].push(signal.signal);
        }
        for (command, ids) in commands.iter().zip(seen) {
            command.send(Command::Seen(ids)).map_err(|_| JobError::Stopped)?;
        }
        if !self.job.parts.enter(PARTS_WAITING_MAX * commands.len()) {
            return Err(JobError::Stopped);
        }
        // Rows find their way by key: any worker can take them in, so all do in turn.
        let whose = &commands[self.turn % commands.len()];
        self.turn += 1;
        whose.send(Command::Part(self.epoch.0, part)).map_err(|_| JobError::Stopped)
    }

    /// There are no more.
    ///
    /// # Errors
    /// Where the job has stopped, or epochs were pushed before.
    pub fn done(self) -> Result<(), JobError> {
        let all = self.job.commands.iter().map(|_| Command::Restored(self.epoch.0));
        self.job.send(self.epoch, self.positions, all)
    }
}

fn shard(signal: SignalId, shards: usize) -> usize {
    // Signal ids are hashes: their remainder spreads evenly.
    (signal.0 % shards as u128) as usize
}

/// One worker: commands in, reports out.
fn run_worker(
    worker: &mut Worker,
    commands: &Receiver<Command>,
    reports: &Sender<Report>,
    parts: &Gauge,
    read: &Read,
    model: &Model,
) {
    let outbox = Rc::new(RefCell::new(Outbox::default()));
    let probe = Handle::new();
    let inputs = worker.dataflow::<u64, _, _>(|scope| {
        let (inputs, facts) = Inputs::new(scope);
        let mut cx = Cx::new(facts, model.clone(), outbox.clone(), probe.clone());
        for view in views::ALL {
            (view.install)(&mut cx);
        }
        inputs
    });
    let mut feed = Feed { inputs: Some(inputs), seen: HashSet::new(), time: 0, outbox, texts: Texts::default() };
    let mut reported = Some(0);
    let index = worker.index();
    loop {
        let busy = probe.less_than(&feed.time) || feed.inputs.is_none();
        let command = if busy { commands.try_recv() } else { commands.recv().map_err(|_| TryRecvError::Disconnected) };
        match command {
            Ok(command) => {
                let part = matches!(command, Command::Part(..));
                feed.take(command, read);
                if part {
                    parts.leave();
                }
            }
            // No more commands: closing the inputs lets the frontier run out.
            Err(TryRecvError::Disconnected) => feed.inputs = None,
            Err(TryRecvError::Empty) => {}
        }
        worker.step_or_park(Some(Duration::from_millis(1)));
        let frontier = probe.with_frontier(|f| f.first().copied());
        if let Some(summed) = feed.summed(frontier)
            && reports.send(Report::Summed(summed)).is_err()
        {
            return;
        }
        let gathered = feed.outbox.borrow().rows.len();
        if frontier != reported || gathered >= ROWS_GATHERED_MAX {
            let rows = std::mem::take(&mut feed.outbox.borrow_mut().rows);
            if reports.send(Report::Worker(index, frontier, rows)).is_err() {
                return;
            }
            reported = frontier;
        }
        if feed.inputs.is_none() && probe.done() {
            return;
        }
    }
}

/// A worker's way in.
struct Feed {
    inputs: Option<Inputs>,
    /// Signals that this worker has read: it sees all deliveries of the ids that fall to it (I2).
    seen: HashSet<SignalId>,
    /// First time that is still open.
    time: u64,
    outbox: Rc<RefCell<Outbox>>,
    texts: Texts,
}

impl Feed {
    fn take(&mut self, command: Command, read: &Read) {
        let Some(mut inputs) = self.inputs.take() else { return };
        let epoch = match command {
            Command::Seen(ids) => {
                self.seen.extend(ids);
                self.inputs = Some(inputs);
                return;
            }
            Command::Restore(epoch, rows_of) => {
                // Before the first part: some views pass rows on as they come.
                self.outbox.borrow_mut().summing = summing(epoch, &rows_of);
                self.inputs = Some(inputs);
                return;
            }
            Command::Part(epoch, base) => {
                inputs.advance_to(epoch);
                inputs.update(base.facts, base.signals, base.rejects, 1);
                self.inputs = Some(inputs);
                return;
            }
            Command::Restored(epoch) => epoch,
            Command::Retract(epoch, base) => {
                inputs.advance_to(epoch);
                inputs.update(base.facts.clone(), base.signals.clone(), base.rejects.clone(), -1);
                let rows = &mut self.outbox.borrow_mut().rows;
                rows.extend(base.signals.into_iter().map(|s| (SIGNALS.name, s.into_row(), epoch, -1)));
                rows.extend(base.rejects.into_iter().map(|r| (REJECTS.name, r.into_row(), epoch, -1)));
                rows.extend(base.facts.into_iter().map(|f| (FACT_TABLES[f.table()].name, f.into_row(), epoch, -1)));
                epoch
            }
            Command::Signals(epoch, signals) => {
                inputs.advance_to(epoch);
                for (position, signal) in signals {
                    if self.seen.insert(signal.id) {
                        self.read(&mut inputs, epoch, position, &signal, read);
                    }
                }
                epoch
            }
        };
        self.time = epoch + 1;
        inputs.advance_to(self.time);
        self.inputs = Some(inputs);
    }

    fn read(&mut self, inputs: &mut Inputs, epoch: u64, position: LogPosition, signal: &Signal, read: &Read) {
        let (mut facts, rejections) = read(signal);
        facts.iter_mut().for_each(|fact| fact.share(&mut self.texts));
        let source: Text = signal.source.as_str().into();
        let rejects: Vec<_> = (0i64..)
            .zip(rejections)
            .map(|(seq, rejection)| RejectFact {
                signal: signal.id,
                seq,
                source: source.clone(),
                received_at: signal.received_at,
                reason: rejection.reason,
            })
            .collect();
        let base = SignalFact {
            signal: signal.id,
            source,
            channel: signal.channel,
            verified_by: signal.verified_by.as_str().into(),
            received_at: signal.received_at,
            log_partition: i64::from(position.partition),
            log_offset: position.offset as i64,
            body_bytes: signal.body.len() as i64,
            fact_count: facts.len() as i64,
            reject_count: rejects.len() as i64,
        };
        inputs.update(facts.clone(), [base.clone()], rejects.clone(), 1);
        let rows = &mut self.outbox.borrow_mut().rows;
        rows.push((SIGNALS.name, base.into_row(), epoch, 1));
        rows.extend(rejects.into_iter().map(|r| (REJECTS.name, r.into_row(), epoch, 1)));
        rows.extend(facts.into_iter().map(|f| (FACT_TABLES[f.table()].name, f.into_row(), epoch, 1)));
    }

    /// The digests of an epoch that was restored, when the frontier has passed it.
    fn summed(&self, frontier: Option<u64>) -> Option<Summing> {
        let mut outbox = self.outbox.borrow_mut();
        let epoch = outbox.summing.as_ref()?.epoch;
        if frontier.is_none_or(|first| first > epoch) { outbox.summing.take() } else { None }
    }
}

fn summing(epoch: u64, rows_of: &RowsOf) -> Option<Summing> {
    let RowsOf::These(these) = rows_of else { return None };
    let digested = views::ALL.iter().map(|view| view.spec.table.name).filter(|name| !these.contains(name));
    Some(Summing { epoch, digests: digested.map(|name| (name, RowsDigest::default())).collect() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::sync_channel,
    };

    use flowsync_schemas::{Channel, Micros};

    use super::*;

    fn signal() -> Signal {
        Signal {
            id: SignalId(1),
            source: "test".into(),
            delivery: "1".into(),
            occurred_at: None,
            received_at: Micros(0),
            channel: Channel::Import,
            verified_by: "test".into(),
            headers: vec![],
            body: vec![],
        }
    }

    #[test]
    fn nobody_waits_for_a_worker_that_died() {
        let (done, ended) = channel();
        std::thread::spawn(move || {
            let (deltas_in, _deltas) = sync_channel(64);
            let config = Config { workers: 1, model: Model::shipped(), epochs_in_flight_max: 2 };
            let job = Job::start(config, Arc::new(|_| panic!("a test said so")), deltas_in).unwrap();
            let mut pushed = (1..9).map(|at| job.push(Epoch(at), vec![at], vec![(LogPosition::default(), signal())]));
            let push = pushed.find_map(Result::err);
            let add = job
                .restore(Epoch(99), vec![99], &RowsOf::All)
                .and_then(|mut restoring| (0..99).try_for_each(|_| restoring.add(Base::default())));
            done.send([push.is_some_and(|e| e.is_fatal()), add.is_err_and(|e| e.is_fatal()), job.finish().is_err()])
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(120)), Ok([true; 3]));
    }

    #[test]
    fn base_rows_wait_for_a_busy_worker_with_a_limit() {
        let (go, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let read: Read = Arc::new(move |_| {
            gate.lock().unwrap().recv().unwrap();
            Default::default()
        });
        let (deltas_in, _deltas) = sync_channel(64);
        let config = Config { workers: 1, model: Model::shipped(), epochs_in_flight_max: 2 };
        let job = Job::start(config, read, deltas_in).unwrap();
        job.push(Epoch(1), vec![1], vec![(LogPosition::default(), signal())]).unwrap();
        let mut restoring = job.restore(Epoch(2), vec![2], &RowsOf::All).unwrap();
        let added = AtomicUsize::new(0);
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                // As many come in as may wait. Whether more would takes a moment to see.
                while added.load(Ordering::SeqCst) < PARTS_WAITING_MAX {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(200));
                let waiting = added.load(Ordering::SeqCst);
                go.send(()).unwrap();
                waiting
            });
            for _ in 0..3 * PARTS_WAITING_MAX {
                restoring.add(Base::default()).unwrap();
                added.fetch_add(1, Ordering::SeqCst);
            }
            waiting.join().unwrap()
        });
        restoring.done().unwrap();
        assert_eq!((waiting, added.into_inner()), (PARTS_WAITING_MAX, 3 * PARTS_WAITING_MAX));
        job.finish().unwrap();
    }
}
