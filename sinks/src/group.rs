//! Grouping: small epochs are committed together, so that files stay large and commits stay a small share of the time.
//!
//! [`merge`] makes one delta of consecutive ones; [`Grouping`] decides when. It waits for a second, or for four times as
//! long as commits take (so that they are a fifth of the time at most), and never for more than its limits of rows, bytes
//! and age. It has no clock of its own: the caller says what time it is.
//!
//! Must not know: files, tables' columns.

use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    time::{Duration, Instant},
};

use flowsync_schemas::{EpochDelta, Row, TableChange, Value};
use foldhash::fast::FixedState;

use crate::SinkError;

/// Makes one delta of consecutive ones: differences of the same row are added up, what cancels out is gone. `None` for no
/// deltas.
///
/// # Errors
/// [`SinkError::OutOfOrder`] where one does not begin where the one before ends.
pub fn merge(deltas: Vec<EpochDelta>) -> Result<Option<EpochDelta>, SinkError> {
    let mut deltas = deltas.into_iter();
    let Some(mut merged) = deltas.next() else { return Ok(None) };
    let mut tables: BTreeMap<&'static str, Vec<(Row, i64)>> = BTreeMap::new();
    let mut take = |changes: Vec<TableChange>| {
        for change in changes {
            tables.entry(change.table).or_default().extend(change.rows);
        }
    };
    take(std::mem::take(&mut merged.changes));
    for delta in deltas {
        if delta.lower != merged.upper {
            return Err(SinkError::OutOfOrder { committed: merged.upper, lower: delta.lower, upper: delta.upper });
        }
        (merged.upper, merged.positions) = (delta.upper, delta.positions);
        take(delta.changes);
    }
    let changes = tables.into_iter().map(|(table, rows)| TableChange { table, rows: consolidate(rows) });
    merged.changes = changes.filter(|change| !change.rows.is_empty()).collect();
    Ok(Some(merged))
}

/// By their hashes first: rows of one table begin alike, and each is read once instead of once for each comparison.
fn consolidate(rows: Vec<(Row, i64)>) -> Vec<(Row, i64)> {
    let hasher = FixedState::default();
    let mut hashed: Vec<(u64, Row, i64)> =
        rows.into_iter().map(|(row, diff)| (hasher.hash_one(&row), row, diff)).collect();
    hashed.sort_unstable_by(|(a_hash, a, _), (b_hash, b, _)| a_hash.cmp(b_hash).then_with(|| a.cmp(b)));
    hashed.dedup_by(|(hash, row, diff), (kept_hash, kept, sum)| {
        let same = hash == kept_hash && row == kept;
        *sum += if same { *diff } else { 0 };
        same
    });
    hashed.into_iter().filter(|(.., diff)| *diff != 0).map(|(_, row, diff)| (row, diff)).collect()
}

/// When groups of epochs are committed.
#[derive(Clone, Copy, Debug)]
pub struct GroupingOptions {
    /// Least time from the first epoch of a group to its commit.
    pub age_min: Duration,
    /// Most time.
    pub age_max: Duration,
    /// Rows at which a group is committed at once.
    pub rows_max: usize,
    /// Bytes (of values, in memory) at which a group is committed at once.
    pub bytes_max: usize,
}

impl Default for GroupingOptions {
    fn default() -> Self {
        Self {
            age_min: Duration::from_secs(1),
            age_max: Duration::from_secs(30),
            rows_max: 500_000,
            bytes_max: 256 << 20,
        }
    }
}

/// For each unit of time in a commit, this many outside of one.
const QUIET_FOR_BUSY: u32 = 4;

/// Epochs that wait for a common commit.
#[derive(Debug)]
pub struct Grouping {
    options: GroupingOptions,
    waiting: Vec<EpochDelta>,
    since: Option<Instant>,
    rows: usize,
    bytes: usize,
    commit_took: Duration,
}

impl Grouping {
    /// With nothing waiting.
    pub fn new(options: GroupingOptions) -> Self {
        Self { options, waiting: Vec::new(), since: None, rows: 0, bytes: 0, commit_took: Duration::ZERO }
    }

    /// Adds an epoch to the group.
    ///
    /// # Errors
    /// [`SinkError::OutOfOrder`] where it does not begin where the one before ends.
    pub fn push(&mut self, delta: EpochDelta, now: Instant) -> Result<(), SinkError> {
        if let Some(last) = self.waiting.last()
            && last.upper != delta.lower
        {
            return Err(SinkError::OutOfOrder { committed: last.upper, lower: delta.lower, upper: delta.upper });
        }
        let rows = || delta.changes.iter().flat_map(|change| &change.rows);
        self.rows += rows().count();
        self.bytes += rows().map(|(row, _)| row_bytes(row)).sum::<usize>();
        self.since.get_or_insert(now);
        self.waiting.push(delta);
        Ok(())
    }

    /// Whether the group has reached a limit of rows or bytes: commit it before more is pushed (I9).
    pub fn is_full(&self) -> bool {
        self.rows >= self.options.rows_max || self.bytes >= self.options.bytes_max
    }

    /// When the group is to be committed; `None` while nothing waits.
    pub fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let quiet = (self.commit_took * QUIET_FOR_BUSY).clamp(self.options.age_min, self.options.age_max);
        Some(if self.is_full() { since } else { since + quiet })
    }

    /// The group as one delta; `None` when nothing waits. Keep it until its commit has succeeded.
    pub fn take(&mut self) -> Option<EpochDelta> {
        (self.since, self.rows, self.bytes) = (None, 0, 0);
        // They were held to be consecutive when they were pushed.
        merge(std::mem::take(&mut self.waiting)).ok().flatten()
    }

    /// Learns how long a commit took; recent ones count more.
    pub fn committed(&mut self, took: Duration) {
        self.commit_took = if self.commit_took.is_zero() { took } else { (self.commit_took * 3 + took) / 4 };
    }
}

fn row_bytes(row: &Row) -> usize {
    let value = |value: &Value| size_of::<Value>() + value.as_text().map_or(0, str::len);
    row.iter().map(value).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flowsync_schemas::Epoch;
    use proptest::prelude::*;

    use super::*;
    use crate::tests::specs::event;

    fn delta(lower: u64, upper: u64, rows: &[(Row, i64)]) -> EpochDelta {
        let changes = vec![TableChange { table: "events", rows: rows.to_vec() }];
        EpochDelta { lower: Epoch(lower), upper: Epoch(upper), positions: vec![upper], changes, ..Default::default() }
    }

    #[test]
    fn consecutive_deltas_become_one() {
        let (a, a2, b) = (event("a", 1, 1), event("a", 1, 2), event("b", 1, 1));
        let merged = merge(vec![
            delta(0, 2, &[(a.clone(), 1), (b.clone(), 1)]),
            delta(2, 3, &[(a.clone(), -1), (a2.clone(), 1)]),
            delta(3, 7, &[(b, -1)]),
        ]);
        let mut expected = delta(0, 7, &[(a2, 1)]);
        assert_eq!(merged.unwrap(), Some(expected.clone()));
        expected.changes.clear();
        let cancelled = merge(vec![delta(0, 3, &[(a.clone(), 1)]), delta(3, 7, &[(a, -1)])]);
        assert_eq!(cancelled.unwrap(), Some(expected));
        assert_eq!(merge(Vec::new()).unwrap(), None);
        assert!(matches!(merge(vec![delta(0, 2, &[]), delta(3, 4, &[])]), Err(SinkError::OutOfOrder { .. })));
    }

    proptest! {
        #[test]
        fn a_merged_row_has_the_sum_of_its_differences(rows in prop::collection::vec((0..12i64, -2..=2i64), 0..60)) {
            let rows: Vec<(Row, i64)> = rows.into_iter().map(|(n, diff)| (event("a", 1, n), diff)).collect();
            let mut sums: BTreeMap<Row, i64> = BTreeMap::new();
            rows.iter().for_each(|(row, diff)| *sums.entry(row.clone()).or_default() += diff);
            sums.retain(|_, sum| *sum != 0);
            let deltas = (0..).zip(rows.chunks(7)).map(|(at, rows)| delta(at, at + 1, rows)).collect();
            let changes = merge(deltas).unwrap().map(|merged| merged.changes).unwrap_or_default();
            let mut merged: Vec<_> = changes.into_iter().flat_map(|change| change.rows).collect();
            merged.sort_unstable();
            prop_assert_eq!(merged, Vec::from_iter(sums));
        }
    }

    #[test]
    fn groups_wait_by_age_commit_time_and_size() {
        let start = Instant::now();
        let mut grouping = Grouping::new(GroupingOptions { rows_max: 3, ..Default::default() });
        assert_eq!(grouping.due(), None);
        grouping.push(delta(0, 1, &[(event("a", 1, 1), 1)]), start).unwrap();
        grouping.push(delta(1, 2, &[(event("b", 1, 1), 1)]), start + Duration::from_millis(10)).unwrap();
        assert_eq!(grouping.due(), Some(start + Duration::from_secs(1)));
        assert!(matches!(grouping.push(delta(5, 6, &[]), start), Err(SinkError::OutOfOrder { .. })));
        grouping.committed(Duration::from_millis(900));
        assert_eq!(grouping.due(), Some(start + Duration::from_millis(3600)));
        grouping.committed(Duration::from_secs(600));
        assert_eq!(grouping.due(), Some(start + Duration::from_secs(30)));
        grouping.push(delta(2, 3, &[(event("c", 1, 1), 1)]), start).unwrap();
        assert!(grouping.is_full());
        assert_eq!(grouping.due(), Some(start));
        let taken = grouping.take().unwrap();
        assert_eq!((taken.lower, taken.upper, taken.changes[0].rows.len()), (Epoch(0), Epoch(3), 3));
        assert_eq!((grouping.take(), grouping.due(), grouping.is_full()), (None, None, false));
    }
}
