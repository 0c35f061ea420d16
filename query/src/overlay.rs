//! Closed epochs that no commit covers yet, laid over the tables in memory: newer rows hide older ones, by key.
//!
//! ```text
//!   committed epoch m ──(m, a]──(a, b]──(b, n]      base = tables at m; the deltas tile (m, n]
//!        base                                       a snapshot is the base and a prefix of the deltas
//! ```
//!
//! Keeps I4: a snapshot takes the base and the deltas under one lock, and both are immutable from then on; a commit that
//! lands later changes neither. Keeps I9: beyond `overlay_rows_max` rows (or where a delta does not follow on) nothing
//! more is laid on until a commit has caught up: answers are then as old as the last epoch that fitted, never wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flowsync_schemas::{Epoch, EpochDelta, Row, TableSpec, Value};

/// The overlay of one process. Fed by the pipeline: every closed epoch, and every commit.
#[derive(Debug)]
pub struct Overlay {
    rows_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Whether this process feeds the overlay; if not, commits of another process are found on disk.
    fed: bool,
    base: Epoch,
    deltas: Vec<Arc<EpochDelta>>,
    rows: usize,
    /// The newest closed epoch that could not be laid on: nothing is until a commit reaches it.
    missed: Option<Epoch>,
}

/// A base and what lies over it.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) base: Epoch,
    pub(crate) deltas: Vec<Arc<EpochDelta>>,
}

impl Pinned {
    pub(crate) fn epoch(&self) -> Epoch {
        self.deltas.last().map_or(self.base, |d| d.upper)
    }
}

impl Overlay {
    pub(crate) fn new(base: Epoch, rows_max: usize) -> Self {
        let state = State { fed: false, base, deltas: Vec::new(), rows: 0, missed: None };
        Self { rows_max, state: Mutex::new(state) }
    }

    /// Lays a closed epoch on top. One that a commit covers already is ignored.
    pub fn apply(&self, delta: Arc<EpochDelta>) {
        let mut state = self.state();
        state.fed = true;
        if delta.upper <= state.base || delta.upper <= state.deltas.last().map_or(state.base, |d| d.upper) {
            return;
        }
        let tip = state.deltas.last().map_or(state.base, |d| d.upper);
        let rows = rows_of(&delta);
        if state.missed.is_some() || delta.lower != tip || state.rows + rows > self.rows_max {
            if state.missed.is_none() {
                let (lower, upper) = (delta.lower, delta.upper);
                tracing::warn!(%tip, %lower, %upper, rows, limit = self.rows_max, "overlay: waiting for a commit");
            }
            state.missed = Some(delta.upper);
        } else {
            state.rows += rows;
            state.deltas.push(delta);
        }
        state.report();
    }

    /// Drops what the commit of `epoch` covers. To be called once the manifest can be read.
    pub fn committed(&self, epoch: Epoch) {
        let mut state = self.state();
        state.fed = true;
        if epoch <= state.base {
            return;
        }
        state.base = epoch;
        // What goes is freed after the lock: it can be many rows, and queries wait for the lock.
        let covered = state.deltas.partition_point(|d| d.upper <= epoch);
        let covered: Vec<_> = state.deltas.drain(..covered).collect();
        if state.deltas.first().is_some_and(|d| d.lower != epoch) {
            // The commit cuts a delta in two: what is left of it is unknown.
            state.missed = state.missed.max(state.deltas.last().map(|d| d.upper));
            state.deltas.clear();
        }
        state.rows = state.deltas.iter().map(|d| rows_of(d)).sum();
        if state.missed.is_some_and(|m| m <= epoch) {
            state.missed = None;
        }
        state.report();
        drop(state);
        drop(covered);
    }

    /// The newest epoch that a snapshot can show, where this process feeds the overlay.
    pub fn newest(&self) -> Option<Epoch> {
        self.pin(None).map(|p| p.epoch())
    }

    /// Base and deltas up to `epoch`, or up to the newest; `None` where the overlay is not fed, or cannot show the epoch.
    pub(crate) fn pin(&self, epoch: Option<Epoch>) -> Option<Pinned> {
        let state = self.state();
        if !state.fed {
            return None;
        }
        let deltas = match epoch {
            None => state.deltas.clone(),
            Some(epoch) if epoch == state.base => Vec::new(),
            Some(epoch) => {
                let last = state.deltas.iter().position(|d| d.upper == epoch)?;
                state.deltas[..=last].to_vec()
            }
        };
        Some(Pinned { base: state.base, deltas })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every method leaves the state whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn report(&self) {
        metrics::gauge!("flowsync_overlay_rows").set(self.rows as f64);
        metrics::gauge!("flowsync_overlay_waiting").set(f64::from(u8::from(self.missed.is_some())));
    }
}

fn rows_of(delta: &EpochDelta) -> usize {
    delta.changes.iter().map(|c| c.rows.len()).sum()
}

/// What a run of deltas makes of one table: every key that they touch, and the rows that are there in the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded {
    pub(crate) touched: Vec<Row>,
    pub(crate) live: Vec<Row>,
}

/// Folds the changes of one table, or `None` where nothing touches it.
pub(crate) fn fold(table: &TableSpec, deltas: &[Arc<EpochDelta>]) -> Option<Folded> {
    let key = table.key_indices();
    let mut net: HashMap<Row, Option<&Row>> = HashMap::new();
    for delta in deltas {
        let changes = delta.changes.iter().filter(|c| c.table == table.name).flat_map(|c| &c.rows);
        // Within one delta a key may lose one row and gain another, in any order: the gain is what remains.
        let (gained, lost): (Vec<_>, Vec<_>) = changes.partition(|(_, diff)| *diff > 0);
        let key_of = |row: &Row| -> Row { key.iter().map(|i| row.get(*i).cloned().unwrap_or(Value::Null)).collect() };
        net.extend(lost.into_iter().map(|(row, _)| (key_of(row), None)));
        net.extend(gained.into_iter().map(|(row, _)| (key_of(row), Some(row))));
    }
    if net.is_empty() {
        return None;
    }
    let live = net.values().filter_map(|row| row.cloned()).collect();
    Some(Folded { touched: net.into_keys().collect(), live })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use flowsync_schemas::{TableChange, fact::SIGNALS};

    use super::*;

    fn delta(lower: u64, upper: u64, rows: usize) -> Arc<EpochDelta> {
        let row: Row = [Value::Int(upper as i64)].into();
        Arc::new(EpochDelta {
            lower: Epoch(lower),
            upper: Epoch(upper),
            positions: vec![upper],
            changes: vec![TableChange { table: SIGNALS.name, rows: vec![(row, 1); rows] }],
            ..EpochDelta::default()
        })
    }

    #[test]
    fn an_overlay_that_nobody_feeds_pins_nothing() {
        assert_eq!(Overlay::new(Epoch(5), 10).newest(), None);
    }

    #[test]
    fn commits_take_away_what_they_cover_and_prefixes_can_be_pinned() {
        let overlay = Overlay::new(Epoch(5), 10);
        for (lower, upper) in [(0, 5), (5, 6), (6, 8), (8, 9)] {
            overlay.apply(delta(lower, upper, 1));
        }
        assert_eq!(overlay.newest(), Some(Epoch(9)));
        let before = overlay.pin(None).unwrap();
        overlay.committed(Epoch(8));
        // What was pinned stays what it was (I4).
        assert_eq!((before.base, before.epoch(), before.deltas.len()), (Epoch(5), Epoch(9), 3));
        let after = overlay.pin(None).unwrap();
        assert_eq!((after.base, after.epoch(), after.deltas.len()), (Epoch(8), Epoch(9), 1));
        assert!(overlay.pin(Some(Epoch(6))).is_none());
        assert_eq!(overlay.pin(Some(Epoch(8))).unwrap().deltas.len(), 0);
    }

    #[test]
    fn beyond_its_limit_it_waits_for_a_commit_that_catches_up() {
        let overlay = Overlay::new(Epoch(0), 3);
        overlay.apply(delta(0, 1, 2));
        overlay.apply(delta(1, 2, 2));
        overlay.apply(delta(2, 3, 1));
        assert_eq!(overlay.newest(), Some(Epoch(1)), "2 would not fit, so 3 must not be shown either");
        overlay.committed(Epoch(2));
        assert_eq!(overlay.newest(), Some(Epoch(2)), "3 was missed");
        overlay.apply(delta(3, 4, 1));
        assert_eq!(overlay.newest(), Some(Epoch(2)));
        overlay.committed(Epoch(4));
        overlay.apply(delta(4, 5, 1));
        assert_eq!(overlay.newest(), Some(Epoch(5)));
    }

    #[test]
    fn a_gap_or_a_commit_inside_a_delta_never_shows_a_mixture() {
        let overlay = Overlay::new(Epoch(0), 10);
        overlay.apply(delta(1, 2, 1));
        assert_eq!(overlay.newest(), Some(Epoch(0)));
        let overlay = Overlay::new(Epoch(0), 10);
        overlay.apply(delta(0, 4, 1));
        overlay.committed(Epoch(2));
        assert_eq!(overlay.newest(), Some(Epoch(2)));
        overlay.apply(delta(4, 5, 1));
        assert_eq!(overlay.newest(), Some(Epoch(2)));
    }
}
