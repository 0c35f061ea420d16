//! Where the time of the dataflow goes, and its memory: every operator by itself, from timely's and differential's own logs.
//!
//! Logging takes some of the time that it tells of, so shares mean more than seconds. Rows are updates that lie in the
//! batches of an arrangement, before those in the same place are put together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use differential_dataflow::logging::{DifferentialEvent, DifferentialEventBuilder};
use timely::{
    logging::{StartStop, TimelyEvent, TimelyEventBuilder},
    worker::Worker,
};

use crate::{
    history::{self, History, cores},
    incremental::{Running, STEADY_EPOCH},
};

/// Operators are printed from this share of the time on, or from so many updates a signal that they hold.
const SHOWN: (f64, f64) = (0.2, 0.1);

/// What is known of an operator, of all workers together.
#[derive(Clone, Debug, Default)]
struct Operator {
    name: String,
    /// Time in it, without that in operators inside it.
    took: Duration,
    /// Updates in its batches.
    updates: i64,
    /// Updates that it put into batches, and those that merging went through.
    arranged: i64,
    merged: i64,
}

/// The operators of one job, by number.
#[derive(Clone, Default)]
pub struct Operators(Arc<Mutex<HashMap<usize, Operator>>>);

impl Operators {
    fn with(&self, id: usize, change: impl FnOnce(&mut Operator)) {
        // Whoever panicked held whole numbers.
        change(self.0.lock().unwrap_or_else(|e| e.into_inner()).entry(id).or_default());
    }

    /// Listens to a worker.
    fn listen(&self, worker: &mut Worker) {
        let Some(mut logs) = worker.log_register() else { return };
        let (all, mut running) = (self.clone(), Vec::<(usize, Duration, Duration)>::new());
        logs.insert::<TimelyEventBuilder, _>("timely", move |_, events| {
            for (at, event) in events.iter().flatten() {
                match event {
                    TimelyEvent::Operates(o) => all.with(o.id, |operator| operator.name.clone_from(&o.name)),
                    TimelyEvent::Schedule(s) if s.start_stop == StartStop::Start => {
                        running.push((s.id, *at, Duration::ZERO));
                    }
                    TimelyEvent::Schedule(_) => {
                        let Some((id, since, inside)) = running.pop() else { continue };
                        let whole = at.saturating_sub(since);
                        all.with(id, |operator| operator.took += whole.saturating_sub(inside));
                        if let Some((.., inside)) = running.last_mut() {
                            *inside += whole;
                        }
                    }
                    _ => {}
                }
            }
            *events = None;
        });
        let all = self.clone();
        logs.insert::<DifferentialEventBuilder, _>("differential/arrange", move |_, events| {
            for (_, event) in events.iter().flatten() {
                match event {
                    DifferentialEvent::Batch(b) => all.with(b.operator, |operator| {
                        operator.updates += b.length as i64;
                        operator.arranged += b.length as i64;
                    }),
                    DifferentialEvent::Drop(d) => all.with(d.operator, |operator| operator.updates -= d.length as i64),
                    DifferentialEvent::Merge(m) => all.with(m.operator, |operator| {
                        if let Some(length) = m.complete {
                            operator.updates += length as i64 - (m.length1 + m.length2) as i64;
                            operator.merged += (m.length1 + m.length2) as i64;
                        }
                    }),
                    _ => {}
                }
            }
            *events = None;
        });
    }

    /// What was heard so far.
    fn heard(&self) -> HashMap<usize, Operator> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// Loads a history of so many signals, then goes on for a tenth of it in steady state, and prints both.
pub fn print(signals: u64) -> Result<()> {
    let operators = Operators::default();
    let listener = operators.clone();
    let mut history = History::new(signals + signals / 5)?;
    let mut running = Running::start_observed(cores(), history::reader(), &[], move |worker| listener.listen(worker))?;
    let loaded = running.load(&mut history, signals)?;
    let before = operators.heard();
    table("load", loaded.signals, &before, &HashMap::new());
    let steady = running.push(history.batch((signals / 10) as usize), STEADY_EPOCH)?;
    table("steady state", steady.signals, &operators.heard(), &before);
    running.finish().context("the dataflow")
}

fn table(what: &str, signals: u64, now: &HashMap<usize, Operator>, before: &HashMap<usize, Operator>) {
    let nothing = Operator::default();
    let mut all: Vec<_> = now
        .iter()
        .map(|(id, o)| {
            let was = before.get(id).unwrap_or(&nothing);
            let (took, arranged, merged) = (o.took - was.took, o.arranged - was.arranged, o.merged - was.merged);
            (*id, Operator { took, arranged, merged, ..o.clone() })
        })
        .collect();
    let whole: Duration = all.iter().map(|(_, o)| o.took).sum();
    let per = |n: i64| n as f64 / signals.max(1) as f64;
    println!("\n{what}: {signals} signals, {} operators, {:.1} s in them", all.len(), whole.as_secs_f64());
    println!("  share | arranged, merged, there: updates a signal | operator");
    all.sort_by_key(|(id, o)| (std::cmp::Reverse(o.took), *id));
    for (id, o) in &all {
        let share = 100.0 * o.took.as_secs_f64() / whole.as_secs_f64();
        let (arranged, merged, there) = (per(o.arranged), per(o.merged), per(o.updates));
        if share >= SHOWN.0 || there >= SHOWN.1 {
            println!("{share:6.2}% | {arranged:8.2} {merged:8.2} {there:8.2} | {id:4} {}", o.name);
        }
    }
    let sum = |of: fn(&Operator) -> i64| per(all.iter().map(|(_, o)| of(o)).sum());
    println!("   all  | {:8.2} {:8.2} {:8.2} |", sum(|o| o.arranged), sum(|o| o.merged), sum(|o| o.updates));
}
