//! The job that FlowSync shares with Pathway, and nothing else: a git history becomes the stated links of each ticket. The product's
//! own reader and operators, without what no stated link needs: the other views, rows for tables, the log, one copy of equal texts.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use flowsync_dataflow::{
    Read,
    cx::{Cx, Inputs, Outbox},
};
use flowsync_schemas::{Signal, Text, fact::EvidenceKind, model::Model};
use timely::dataflow::ProbeHandle;

/// Signals of an epoch.
const EPOCH: usize = 20_000;

/// Commits that name a ticket, by ticket; and how long it took.
pub fn stated_links(workers: usize, read: Read, signals: Vec<Signal>) -> Result<(BTreeMap<String, i64>, Duration)> {
    let tickets: Arc<Mutex<BTreeMap<Text, i64>>> = Arc::default();
    let (told, signals) = (tickets.clone(), Arc::new(signals));
    let started = Instant::now();
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let running = timely::execute(config, move |worker| {
        let (index, told) = (worker.index(), told.clone());
        let probe = ProbeHandle::new();
        let mut inputs = worker.dataflow::<u64, _, _>(|scope| {
            let (inputs, facts) = Inputs::new(scope);
            let outbox = Rc::new(RefCell::new(Outbox::default()));
            let mut cx = Cx::new(facts, Model::shipped(), outbox, probe.clone());
            let named = cx
                .stated_evidence()
                .flat_map_ref(|(_, _, kind), (.., ticket)| (*kind == EvidenceKind::CommitKey).then(|| ticket.clone()));
            named
                .count()
                .inspect(move |((ticket, commits), _, diff)| {
                    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                    *told.entry(ticket.clone()).or_default() += (*commits * *diff) as i64;
                })
                .probe_with(&probe);
            inputs
        });
        let mut seen = HashSet::new();
        for (epoch, signals) in (0u64..).zip(signals.chunks(EPOCH)) {
            let mine = signals.iter().filter(|signal| signal.id.0 % workers as u128 == index as u128);
            for signal in mine.filter(|signal| seen.insert(signal.id)) {
                let (facts, _) = read(signal);
                inputs.update(facts, [], [], 1);
            }
            inputs.advance_to(epoch + 1);
            worker.step_while(|| probe.less_than(&(epoch + 1)));
        }
    });
    let guards = running.map_err(|e| anyhow!("cannot start the dataflow: {e}"))?;
    guards.join().into_iter().collect::<Result<(), _>>().map_err(|e| anyhow!("a worker failed: {e}"))?;
    let took = started.elapsed();
    let tickets = tickets.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((tickets.iter().filter(|(_, n)| **n != 0).map(|(ticket, n)| (ticket.to_string(), *n)).collect(), took))
}
