//! The end of the job: what the workers report, put together to one delta an epoch.
//!
//! An epoch is closed when every worker has reported a frontier beyond it; a worker reports its rows, and its digests, before the
//! frontier that covers them (I4).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::mpsc::{Receiver, SyncSender},
};

use flowsync_schemas::{Epoch, EpochDelta, Row, RowsDigest, TableChange};

use super::{Report, gauge::Gauge};

/// Changed rows by table.
type Tables = BTreeMap<&'static str, Vec<(Row, i64)>>;

/// Rows of an epoch from which on its tables are put in order side by side.
const SIDE_BY_SIDE_ROWS: usize = 200_000;

/// Puts the workers' reports together.
pub(super) struct Collector {
    deltas: SyncSender<EpochDelta>,
    frontiers: Vec<Option<u64>>,
    pending: VecDeque<(u64, Vec<u64>)>,
    rows: BTreeMap<u64, Tables>,
    digests: BTreeMap<&'static str, RowsDigest>,
    lower: u64,
}

impl Collector {
    pub fn new(workers: usize, deltas: SyncSender<EpochDelta>) -> Self {
        Self {
            deltas,
            frontiers: vec![Some(0); workers],
            pending: VecDeque::new(),
            rows: BTreeMap::new(),
            digests: BTreeMap::new(),
            lower: 0,
        }
    }

    pub fn run(mut self, reports: &Receiver<Report>, gauge: &Gauge) {
        while let Ok(report) = reports.recv() {
            match report {
                Report::Epoch(epoch, positions) => self.pending.push_back((epoch, positions)),
                Report::Worker(worker, frontier, rows) => {
                    self.frontiers[worker] = frontier;
                    for (table, row, time, diff) in rows {
                        self.rows.entry(time).or_default().entry(table).or_default().push((row, diff));
                    }
                }
                // Nothing is pushed before what is restored: it is the epoch that closes next.
                Report::Summed(summed) => {
                    for (table, digest) in summed.digests {
                        self.digests.entry(table).or_default().merge(digest);
                    }
                }
            }
            while let Some((epoch, _)) = self.pending.front()
                && self.frontiers.iter().flatten().all(|f| f > epoch)
            {
                let Some((epoch, positions)) = self.pending.pop_front() else { break };
                let delta = self.close(epoch, positions);
                if self.deltas.send(delta).is_err() {
                    return;
                }
                gauge.leave();
            }
        }
    }

    fn close(&mut self, epoch: u64, positions: Vec<u64>) -> EpochDelta {
        let later = self.rows.split_off(&(epoch + 1));
        let mut tables = Tables::new();
        for (table, rows) in std::mem::replace(&mut self.rows, later).into_values().flatten() {
            let all = tables.entry(table).or_default();
            if all.is_empty() { *all = rows } else { all.extend(rows) }
        }
        let change = |(table, rows)| TableChange { table, rows: consolidate(rows) };
        let many = tables.values().map(Vec::len).sum::<usize>() > SIDE_BY_SIDE_ROWS;
        let changes: Vec<TableChange> = if many {
            // The workers are done with this epoch: their cores are free.
            std::thread::scope(|scope| {
                let sorting: Vec<_> = tables.into_iter().map(|table| scope.spawn(move || change(table))).collect();
                sorting.into_iter().flat_map(|table| table.join()).collect()
            })
        } else {
            tables.into_iter().map(change).collect()
        };
        let changes = changes.into_iter().filter(|change| !change.rows.is_empty()).collect();
        let lower = Epoch(std::mem::replace(&mut self.lower, epoch));
        EpochDelta { lower, upper: Epoch(epoch), positions, changes, digests: std::mem::take(&mut self.digests) }
    }
}

/// Equal rows become one, those that cancel out none; sorted.
fn consolidate(mut rows: Vec<(Row, i64)>) -> Vec<(Row, i64)> {
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    rows.retain(|(_, diff)| *diff != 0);
    rows
}
