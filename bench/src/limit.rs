//! The limit: what raw differential does on this machine with keys of 64 bits and nothing else.
//!
//! Two shapes: *join and count* (links joined with their tickets' projects, counted by project) and *join and reduce* (the
//! same join, the latest of each key by `reduce`). As in the product, half a dozen epochs may be inside at a time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use differential_dataflow::{VecCollection, input::Input, operators::CountTotal};
use timely::dataflow::operators::probe::Handle;

/// What follows the join.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Count by project, carried in the diff.
    Count,
    /// The greatest of each key, by `reduce`.
    Reduce,
}

/// Epochs that may be inside.
const EPOCHS_IN_FLIGHT: u64 = 4;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Entities that are there before the clock starts.
    pub entities: u64,
    /// Updates under the clock.
    pub updates: u64,
    /// Updates of an epoch.
    pub batch: u64,
}

/// Updates a second of `shape`.
pub fn rate(shape: Shape, workers: usize, work: Work) -> Result<f64> {
    let Work { entities, updates, batch } = work;
    let slowest = Arc::new(Mutex::new(Duration::ZERO));
    let shared = Arc::clone(&slowest);
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index() as u64, worker.peers() as u64);
        let probe = Handle::new();
        let (mut tickets, mut links) = worker.dataflow::<u64, _, _>(|scope| {
            let (tickets_in, tickets) = scope.new_collection::<(u64, u64), isize>();
            let (links_in, links) = scope.new_collection::<(u64, u64), isize>();
            install(shape, tickets, links, &probe);
            (tickets_in, links_in)
        });
        let mut rng = fastrand::Rng::with_seed(index);
        for ticket in (index..entities).step_by(peers as usize) {
            tickets.insert((ticket, ticket % 1_000));
            links.insert((rng.u64(0..entities), rng.u64(..)));
        }
        let mut time = 1;
        tickets.advance_to(time);
        tickets.flush();
        links.advance_to(time);
        links.flush();
        worker.step_while(|| probe.less_than(&time));

        let started = Instant::now();
        for _ in 0..updates.div_ceil(batch) {
            for _ in (index..batch).step_by(peers as usize) {
                links.insert((rng.u64(0..entities), rng.u64(..)));
            }
            time += 1;
            tickets.advance_to(time);
            tickets.flush();
            links.advance_to(time);
            links.flush();
            let oldest = time.saturating_sub(EPOCHS_IN_FLIGHT);
            worker.step_while(|| probe.less_than(&oldest));
        }
        worker.step_while(|| probe.less_than(&time));
        let took = started.elapsed();
        let mut slowest = shared.lock().unwrap_or_else(|e| e.into_inner());
        *slowest = (*slowest).max(took);
    })
    .map_err(|e| anyhow!("timely: {e}"))?;
    for end in guards.join() {
        end.map_err(|e| anyhow!("a worker: {e}"))?;
    }
    let took = *slowest.lock().unwrap_or_else(|e| e.into_inner());
    Ok((updates.div_ceil(batch) * batch) as f64 / took.as_secs_f64())
}

fn install<'s>(
    shape: Shape,
    tickets: VecCollection<'s, u64, (u64, u64)>,
    links: VecCollection<'s, u64, (u64, u64)>,
    probe: &Handle<u64>,
) {
    let tickets = tickets.arrange_by_key();
    let joined =
        links.arrange_by_key().join_core(tickets, |ticket, artifact, project| [(*ticket, *artifact, *project)]);
    match shape {
        Shape::Count => {
            let _ = joined.map(|(_, _, project)| project).count_total().probe_with(probe);
        }
        Shape::Reduce => {
            let latest = joined.map(|(ticket, artifact, project)| (ticket, (artifact, project)));
            let latest = latest.reduce(|_, values, out| {
                if let Some((last, _)) = values.last() {
                    out.push((**last, 1));
                }
            });
            let _ = latest.probe_with(probe);
        }
    }
}
