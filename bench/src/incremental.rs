//! The dataflow of all views, in process: from signals to changed rows, parsing included, files and sockets not.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use flowsync_dataflow::{Config, Job, Read, views::evidence::EvidenceRow};
use flowsync_schemas::{
    Epoch, EpochDelta, LogPosition, Record, Row, Signal, TableChange, Text, fact::EvidenceKind, model::Model,
};
use timely::worker::Worker;

use crate::{
    Size,
    history::{self, History, cores},
    limit::{self, Shape, Work},
    machine::resident_bytes,
    report::{RATIO, Report, Target, percentile},
};

/// Signals generated, and loaded, at a time while a history is loaded.
const CHUNK: usize = 100_000;
/// Signals of an epoch while a history is loaded, as the product reads a log.
const LOAD_EPOCH: usize = 20_000;
/// Signals of an epoch at saturation: what arrives while the epoch before is computed.
pub const STEADY_EPOCH: usize = 1_000;
const EPOCHS_IN_FLIGHT: usize = 4;

/// How much is measured.
struct Plan {
    limit: Work,
    parsed: usize,
    histories: &'static [u64],
    /// Signals after which a steady rate is known.
    steady: usize,
    /// Single updates that are timed.
    single: usize,
}

impl Plan {
    fn of(size: Size) -> Self {
        let batch = STEADY_EPOCH as u64;
        let usual = Self {
            limit: Work { entities: 1_000_000, updates: 2_000_000, batch },
            parsed: 20_000,
            histories: &[100_000, 1_000_000],
            steady: 50_000,
            single: 2_000,
        };
        match size {
            Size::Quick => Self {
                limit: Work { entities: 20_000, updates: 20_000, batch },
                parsed: 1_000,
                histories: &[1_000, 10_000],
                steady: 2_000,
                single: 100,
            },
            Size::Usual => usual,
            Size::Large => Self { histories: &[100_000, 1_000_000, 10_000_000], ..usual },
        }
    }
}

/// A running dataflow, fed by hand.
pub struct Running {
    job: Job,
    closed: Receiver<Closed>,
    consumer: std::thread::JoinHandle<()>,
    last: u64,
    held: Arc<Mutex<Held>>,
}

/// What is there now.
#[derive(Default)]
struct Held {
    /// Rows by table.
    rows: BTreeMap<&'static str, i64>,
    /// Commits whose message names a ticket, by ticket.
    commits_named: BTreeMap<Text, i64>,
    /// The rows of the tables that are asked for.
    kept: HashMap<&'static str, HashMap<Row, i64>>,
}

impl Held {
    fn apply(&mut self, change: &TableChange) {
        *self.rows.entry(change.table).or_default() += change.rows.iter().map(|(_, diff)| diff).sum::<i64>();
        if let Some(kept) = self.kept.get_mut(change.table) {
            for (row, diff) in &change.rows {
                *kept.entry(row.clone()).or_default() += diff;
            }
        }
        if change.table == "evidence" {
            for (row, diff) in &change.rows {
                if let Ok(evidence) = EvidenceRow::from_values(row)
                    && evidence.kind == EvidenceKind::CommitKey
                {
                    *self.commits_named.entry(evidence.ticket_key).or_default() += diff;
                }
            }
        }
    }
}

/// A closed epoch: which, and how many rows changed.
struct Closed {
    upper: Epoch,
    changed: u64,
}

/// What a push of signals took.
#[derive(Clone, Copy, Default)]
pub struct Pushed {
    pub signals: u64,
    pub changed_rows: u64,
    pub took: Duration,
}

impl Pushed {
    pub fn add(&mut self, other: Pushed) {
        self.signals += other.signals;
        self.changed_rows += other.changed_rows;
        self.took += other.took;
    }

    fn signals_per_sec(&self) -> f64 {
        self.signals as f64 / self.took.as_secs_f64()
    }

    fn rows_per_sec(&self) -> f64 {
        self.changed_rows as f64 / self.took.as_secs_f64()
    }
}

impl Running {
    /// Starts the job of all views. The rows of the tables `kept` can be asked for.
    pub fn start(workers: usize, read: Read, kept: &[&'static str]) -> Result<Self> {
        Self::start_observed(workers, read, kept, |_| {})
    }

    /// The same, observed by a profiler.
    pub fn start_observed(
        workers: usize,
        read: Read,
        kept: &[&'static str],
        observe: impl Fn(&mut Worker) + Send + Sync + 'static,
    ) -> Result<Self> {
        let (send, deltas) = sync_channel::<EpochDelta>(64);
        let config = Config { workers, model: Model::shipped(), epochs_in_flight_max: EPOCHS_IN_FLIGHT };
        let job = Job::start_observed(config, read, send, observe)?;
        let (told, closed) = std::sync::mpsc::channel();
        let kept = kept.iter().map(|table| (*table, HashMap::new())).collect();
        let held = Arc::new(Mutex::new(Held { kept, ..Held::default() }));
        let kept = Arc::clone(&held);
        let consumer = std::thread::spawn(move || {
            for delta in deltas {
                let changed = delta.changes.iter().map(|change| change.rows.len() as u64).sum();
                let mut kept = kept.lock().unwrap_or_else(|e| e.into_inner());
                delta.changes.iter().for_each(|change| kept.apply(change));
                drop(kept);
                // Freed here, beside the work, as the product's publisher and committer do.
                let upper = delta.upper;
                drop(delta);
                if told.send(Closed { upper, changed }).is_err() {
                    return;
                }
            }
        });
        Ok(Self { job, closed, consumer, last: 0, held })
    }

    /// Pushes signals in epochs of so many, and waits until all of them are closed.
    pub fn push(&mut self, signals: Vec<Signal>, epoch: usize) -> Result<Pushed> {
        let mut pushed = Pushed { signals: signals.len() as u64, ..Pushed::default() };
        let mut placed: Vec<Vec<(LogPosition, Signal)>> = Vec::new();
        for (offset, signal) in (self.last..).zip(signals) {
            if placed.last().is_none_or(|part| part.len() == epoch) {
                placed.push(Vec::with_capacity(epoch));
            }
            if let Some(part) = placed.last_mut() {
                part.push((LogPosition { partition: 0, offset }, signal));
            }
        }
        let started = Instant::now();
        for part in placed {
            self.last += part.len() as u64;
            self.job.push(Epoch(self.last), vec![self.last], part)?;
        }
        while let Ok(closed) = self.closed.recv() {
            pushed.changed_rows += closed.changed;
            if closed.upper.0 >= self.last {
                break;
            }
        }
        pushed.took = started.elapsed();
        Ok(pushed)
    }

    /// Pushes the next so many signals of a history, which are made in parts, in epochs as the product reads a log.
    pub fn load(&mut self, history: &mut History, signals: u64) -> Result<Pushed> {
        let mut load = Pushed::default();
        while load.signals < signals {
            let chunk = history.batch(CHUNK.min((signals - load.signals) as usize));
            anyhow::ensure!(!chunk.is_empty(), "the simulated history ends after {} signals", load.signals);
            load.add(self.push(chunk, LOAD_EPOCH)?);
        }
        Ok(load)
    }

    /// Rows that are there, by table.
    pub fn rows(&self) -> BTreeMap<&'static str, i64> {
        self.held.lock().unwrap_or_else(|e| e.into_inner()).rows.clone()
    }

    /// The rows of a table that is kept.
    pub fn kept<R: Record>(&self, table: &str) -> Result<Vec<R>> {
        let held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        let rows = held.kept.get(table).with_context(|| format!("{table} is not kept"))?;
        rows.iter().filter(|(_, n)| **n != 0).map(|(row, _)| Ok(R::from_values(row)?)).collect()
    }

    /// Commits whose message names a ticket, by ticket.
    pub fn commits_named(&self) -> BTreeMap<String, i64> {
        let held = self.held.lock().unwrap_or_else(|e| e.into_inner());
        held.commits_named.iter().filter(|(_, n)| **n != 0).map(|(ticket, n)| (ticket.to_string(), *n)).collect()
    }

    /// Ends.
    pub fn finish(self) -> Result<()> {
        self.job.finish()?;
        self.consumer.join().ok().context("the consumer of the dataflow panicked")
    }
}

/// Measures everything of this group.
///
/// Gives the steady rate at the largest history, in signals a second.
pub fn measure(size: Size, report: &mut Report) -> Result<f64> {
    let cores = cores();
    let plan = Plan::of(size);
    eprintln!("the limit: raw differential, {cores} workers");
    let count = limit::rate(Shape::Count, cores, plan.limit)?;
    let reduce = limit::rate(Shape::Reduce, cores, plan.limit)?;
    let raw = format!("raw differential, u64 keys, {} entities", thousands(plan.limit.entities));
    report.add(format!("{raw}: join and count"), count, "updates/s");
    report.add(format!("{raw}: join and reduce"), reduce, "updates/s");
    parsing(plan.parsed, report)?;
    let mut single = Vec::new();
    let mut rate = 0.0;
    for signals in plan.histories {
        eprintln!("the dataflow of all views at {} signals", thousands(*signals));
        let (steady, update_ms) = at_size(*signals, &plan, count, report)?;
        rate = steady;
        single.push(update_ms);
    }
    for (sizes, updates) in plan.histories.windows(2).zip(single.windows(2)) {
        let at = thousands(sizes[1]);
        let what = format!("cost of one update at {at} signals, against that at a tenth of them (medians)");
        report.add_target(what, updates[1] / updates[0], RATIO, Target::AtMost(1.3));
    }
    Ok(rate)
}

/// What reading a delivery costs by itself: no dataflow of any kind could be faster than its parser.
fn parsing(count: usize, report: &mut Report) -> Result<()> {
    let signals = History::new(count as u64)?.batch(count);
    let read = history::reader();
    let bytes: usize = signals.iter().map(|s| s.body.len()).sum();
    let started = Instant::now();
    let mut facts = 0;
    for signal in &signals {
        facts += read(signal).0.len();
    }
    let secs = started.elapsed().as_secs_f64();
    report.add("bytes of a signal's body, mean", bytes as f64 / signals.len() as f64, "B");
    report.add("facts of a signal, mean", facts as f64 / signals.len() as f64, "facts");
    report.add("parse alone, one core", signals.len() as f64 / secs, "signals/s");
    Ok(())
}

/// Loads a history, then measures steady state and single updates on top of it. Gives the steady rate in signals a second,
/// and the median cost of a single update in milliseconds.
fn at_size(signals: u64, plan: &Plan, limit: f64, report: &mut Report) -> Result<(f64, f64)> {
    let before = resident_bytes(None);
    // Enough beyond the load for what is measured on top of it.
    let beyond = plan.steady + plan.single;
    let mut history = History::new(signals + beyond as u64 + signals / 10)?;
    let mut running = Running::start(cores(), history::reader(), &[])?;
    let load = running.load(&mut history, signals)?;
    let held = resident_bytes(None).saturating_sub(before) as f64;
    let rows = running.rows();
    let entities: i64 = ["tickets", "commits", "pull_requests", "reviews", "deployments", "incidents", "people"]
        .iter()
        .map(|view| rows.get(view).copied().unwrap_or_default())
        .sum();
    let at = format!("at {} signals", thousands(signals));
    report.add(format!("load from empty, {at}"), load.signals_per_sec(), "signals/s");
    report.add(format!("load from empty, {at}: changed rows"), load.rows_per_sec(), "rows/s");
    report.add(format!("entities {at}"), entities as f64, "entities");
    report.add(format!("memory {at}, per signal"), held / load.signals as f64, "B");
    report.add(format!("memory {at}, per entity"), held / entities.max(1) as f64, "B");

    let steady = running.push(history.batch(plan.steady), STEADY_EPOCH)?;
    report.add(format!("steady state at saturation, {at}"), steady.signals_per_sec(), "signals/s");
    let share = steady.rows_per_sec() / limit;
    report.add(format!("steady state, {at}: changed rows"), steady.rows_per_sec(), "rows/s");
    let what = format!("changed rows a second at saturation against raw join and count, {at}");
    report.add_target(what, share, RATIO, Target::AtLeast(0.5));

    let mut millis = Vec::new();
    for signal in history.batch(plan.single) {
        millis.push(running.push(vec![signal], 1)?.took.as_secs_f64() * 1_000.0);
    }
    let (p50, p99) = (percentile(&mut millis, 50.0), percentile(&mut millis, 99.0));
    report.add(format!("one update by itself, {at}: p50"), p50, "ms");
    report.add(format!("one update by itself, {at}: p99"), p99, "ms");
    running.finish()?;
    Ok((steady.signals_per_sec(), p50))
}

/// `100 thousand`, `10 million`.
pub fn thousands(n: u64) -> String {
    match n {
        n if n % 1_000_000 == 0 => format!("{} million", n / 1_000_000),
        n if n % 1_000 == 0 => format!("{} thousand", n / 1_000),
        n => n.to_string(),
    }
}
