//! Applying differences to the rows of a bucket, comparing a bucket with what it should hold, and cutting what grew.
//!
//! All over columns: rows that do not change are copied as columns, never taken apart. The old rows and the new ones
//! are in the order of their key, and every key occurs once; differences that do not fit are [`SinkError::Diverged`].
//!
//! Must not know: files, Delta, epochs, async.

use std::cmp::Ordering;

use arrow::{
    array::UInt64Array,
    compute::{interleave_record_batch, take_record_batch},
    error::ArrowError,
    record_batch::RecordBatch,
    row::Rows,
};
use flowsync_schemas::Row;

use crate::{
    SinkError,
    arrow::Shape,
    bucket::Place,
    file::{comparable, rises},
};

/// Limits of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BucketLimits {
    /// Rows.
    pub rows: usize,
    /// Bytes in memory, as columns.
    pub bytes: usize,
}

fn internal(shape: &Shape) -> impl Fn(ArrowError) -> SinkError + '_ {
    |e| SinkError::Row { table: shape.name.to_owned(), column: String::new(), reason: e.to_string() }
}

/// The rows in the order of their key (the same key: differences rising), with their differences.
struct Changes {
    batch: RecordBatch,
    keys: Rows,
    order: Vec<usize>,
    diffs: Vec<i64>,
}

impl Changes {
    fn new(shape: &Shape, changes: &[(&Row, i64)]) -> Result<Self, SinkError> {
        let rows: Vec<&Row> = changes.iter().map(|(row, _)| *row).collect();
        let diffs: Vec<i64> = changes.iter().map(|(_, diff)| *diff).collect();
        let batch = shape.to_batch(&rows)?;
        let keys = comparable(&batch, &shape.key).map_err(internal(shape))?;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_unstable_by(|a, b| keys.row(*a).cmp(&keys.row(*b)).then(diffs[*a].cmp(&diffs[*b])));
        Ok(Self { batch, keys, order, diffs })
    }

    /// The changes of one key after the other: at most one row goes, at most one comes.
    fn groups(&self, shape: &Shape) -> Result<Vec<Group>, SinkError> {
        let mut groups: Vec<Group> = Vec::with_capacity(self.order.len());
        for at in &self.order {
            let diverged = |reason| self.diverged(shape, *at, reason);
            let same = groups.last().is_some_and(|g| self.keys.row(g.any()) == self.keys.row(*at));
            if !same {
                groups.push(Group::default());
            }
            let Some(group) = groups.last_mut() else { continue };
            match self.diffs[*at] {
                -1 if group.goes.is_none() => group.goes = Some(*at),
                1 if group.comes.is_none() => group.comes = Some(*at),
                -1 => return Err(diverged("two rows of the key are retracted at once")),
                1 => return Err(diverged("two rows with the key are added at once")),
                _ => return Err(diverged("a row with a difference other than +1 or -1")),
            }
        }
        Ok(groups)
    }

    fn diverged(&self, shape: &Shape, at: usize, reason: &'static str) -> SinkError {
        let key = shape.key_text(&self.batch, at);
        SinkError::Diverged { table: shape.name.to_owned(), key, reason }
    }
}

/// What happens to one key: positions among the changes.
#[derive(Default)]
struct Group {
    goes: Option<usize>,
    comes: Option<usize>,
}

impl Group {
    fn any(&self) -> usize {
        // A group is made for the change that is put into it next.
        self.goes.or(self.comes).unwrap_or_default()
    }
}

/// The rows after differences were applied to `old`, and how many keys they touched.
pub(crate) fn apply(
    shape: &Shape,
    old: &RecordBatch,
    changes: &[(&Row, i64)],
) -> Result<(RecordBatch, usize), SinkError> {
    let changes = Changes::new(shape, changes)?;
    let groups = changes.groups(shape)?;
    let old_keys = comparable(old, &shape.key).map_err(internal(shape))?;
    let mut picked: Vec<(usize, usize)> = Vec::with_capacity(old.num_rows() + groups.len());
    let (mut gone_old, mut gone_new) = (Vec::new(), Vec::new());
    let mut at = 0;
    for group in &groups {
        let key = changes.keys.row(group.any());
        let here = loop {
            if at == old.num_rows() {
                break false;
            }
            match old_keys.row(at).cmp(&key) {
                Ordering::Less => picked.push((0, at)),
                Ordering::Equal => break true,
                Ordering::Greater => break false,
            }
            at += 1;
        };
        match (here, group.goes) {
            (true, Some(goes)) => {
                gone_old.push(at as u64);
                gone_new.push(goes as u64);
                at += 1;
            }
            (true, None) => return Err(changes.diverged(shape, group.any(), "a second row for the key")),
            (false, Some(goes)) => return Err(changes.diverged(shape, goes, "a row is retracted that is not there")),
            (false, None) => {}
        }
        picked.extend(group.comes.map(|comes| (1, comes)));
    }
    picked.extend((at..old.num_rows()).map(|i| (0, i)));
    same_rows(shape, old, gone_old, &changes, gone_new)?;
    let new = interleave_record_batch(&[old, &changes.batch], &picked).map_err(internal(shape))?;
    Ok((new, groups.len()))
}

/// Holds that the rows that go are, in every column, the rows that are there.
fn same_rows(
    shape: &Shape,
    old: &RecordBatch,
    gone_old: Vec<u64>,
    changes: &Changes,
    gone_new: Vec<u64>,
) -> Result<(), SinkError> {
    let there = take_record_batch(old, &UInt64Array::from(gone_old)).map_err(internal(shape))?;
    let named = take_record_batch(&changes.batch, &UInt64Array::from(gone_new.clone())).map_err(internal(shape))?;
    if there.columns() == named.columns() {
        return Ok(());
    }
    let differs = (0..there.num_rows()).find(|i| there.slice(*i, 1).columns() != named.slice(*i, 1).columns());
    let at = differs.map_or(0, |i| gone_new[i] as usize);
    Err(changes.diverged(shape, at, "the row that is retracted has other values than the one that is there"))
}

/// What a bucket should hold, and how far the rows that it holds are from it.
pub(crate) struct Compared {
    /// The rows that should be there.
    pub right: RecordBatch,
    /// Rows that should be there and are not.
    pub missing: u64,
    /// Rows that are there and should not be.
    pub extra: u64,
}

/// Compares the rows of a bucket, as a multiset, with the rows that it should hold.
pub(crate) fn compare(shape: &Shape, old: &RecordBatch, expected: &[(&Row, i64)]) -> Result<Compared, SinkError> {
    let empty = RecordBatch::new_empty(shape.schema.clone());
    let (right, _) = apply(shape, &empty, expected)?;
    if old.columns() == right.columns() {
        return Ok(Compared { right, missing: 0, extra: 0 });
    }
    let all: Vec<usize> = (0..shape.columns.len()).collect();
    let old_rows = comparable(old, &all).map_err(internal(shape))?;
    let right_rows = comparable(&right, &all).map_err(internal(shape))?;
    let mut old_rows: Vec<_> = old_rows.iter().collect();
    let mut right_rows: Vec<_> = right_rows.iter().collect();
    old_rows.sort_unstable();
    right_rows.sort_unstable();
    let (mut missing, mut extra, mut i, mut j) = (0, 0, 0, 0);
    while i < old_rows.len() || j < right_rows.len() {
        let order = match (old_rows.get(i), right_rows.get(j)) {
            (Some(old), Some(right)) => old.cmp(right),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        extra += u64::from(order == Ordering::Less);
        missing += u64::from(order == Ordering::Greater);
        i += usize::from(order != Ordering::Greater);
        j += usize::from(order != Ordering::Less);
    }
    Ok(Compared { right, missing, extra })
}

/// Whether the rows are as a file has to have them: keys rising, none twice.
pub(crate) fn in_order(shape: &Shape, batch: &RecordBatch) -> Result<bool, SinkError> {
    Ok(rises(&comparable(batch, &shape.key).map_err(internal(shape))?))
}

/// Cuts rows that are too many for one bucket. `last` says that no bucket follows: rows then keep coming at the end, and
/// all but the last piece are filled; elsewhere the pieces are equal, with room in each. Each piece comes with its first
/// place (`first`, at or before all rows, where nothing has to be cut), in the order of its key.
pub(crate) fn cut(
    shape: &Shape,
    rows: RecordBatch,
    limits: BucketLimits,
    last: bool,
    first: Place,
) -> Result<Vec<(Place, RecordBatch)>, SinkError> {
    let total = rows.num_rows();
    if total == 0 {
        return Ok(Vec::new());
    }
    let row_bytes = (rows.get_array_memory_size() / total).max(1);
    let piece_max = limits.rows.min(limits.bytes / row_bytes).max(1);
    let pieces = total.div_ceil(piece_max);
    if pieces == 1 {
        return Ok(vec![(first, rows)]);
    }
    let places = Place::of_batch(shape, &rows);
    let piece = if last { piece_max } else { total.div_ceil(pieces) };
    let mut order: Vec<usize> = (0..total).collect();
    order.sort_unstable_by_key(|i| (places[*i], *i));
    let mut out = Vec::with_capacity(pieces);
    let mut start = 0;
    while start < total {
        let mut end = (start + piece).min(total);
        // One place is never cut apart: rows could not be found again.
        while end < total && places[order[end]] == places[order[end - 1]] {
            end += 1;
        }
        // Back into the order of the key, which is the order of the incoming rows.
        let first = places[order[start]];
        let mut indices: Vec<u64> = order[start..end].iter().map(|i| *i as u64).collect();
        indices.sort_unstable();
        out.push((first, take_record_batch(&rows, &UInt64Array::from(indices)).map_err(internal(shape))?));
        start = end;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tests::specs;

    fn batch(shape: &Shape, rows: &[Row]) -> RecordBatch {
        let changes: Vec<(&Row, i64)> = rows.iter().map(|r| (r, 1)).collect();
        apply(shape, &RecordBatch::new_empty(shape.schema.clone()), &changes).unwrap().0
    }

    #[test]
    fn differences_are_applied_in_key_order() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let (a, b, c, d) =
            (specs::event("a", 1, 1), specs::event("b", 2, 2), specs::event("c", 3, 3), specs::event("d", 4, 4));
        let b2 = specs::event("b", 2, 7);
        let old = batch(&shape, &[c.clone(), b.clone()]);
        let (new, keys) = apply(&shape, &old, &[(&d, 1), (&b2, 1), (&b, -1), (&a, 1), (&c, -1)]).unwrap();
        assert_eq!(shape.to_rows(&new), [a, b2, d]);
        assert_eq!(keys, 4);
        assert!(in_order(&shape, &new).unwrap());
    }

    #[test]
    fn what_does_not_fit_has_diverged() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let (a, a2, b) = (specs::event("a", 1, 1), specs::event("a", 1, 2), specs::event("b", 2, 2));
        let old = batch(&shape, std::slice::from_ref(&a));
        let wrong: &[&[(&Row, i64)]] =
            &[&[(&b, -1)], &[(&a2, 1)], &[(&a2, -1)], &[(&a, -2)], &[(&b, 2)], &[(&a, -1), (&a2, -1)]];
        for changes in wrong {
            let error = apply(&shape, &old, changes).unwrap_err();
            assert!(matches!(&error, SinkError::Diverged { table, .. } if table == "events"), "{error}");
            assert!(error.calls_for_rebuild());
        }
        let error = apply(&shape, &old, &[(&a2, -1)]).unwrap_err().to_string();
        assert!(error.contains("key (a)") && error.contains("other values"), "{error}");
    }

    #[test]
    fn a_comparison_counts_both_sides() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let (a, a2, b, c) =
            (specs::event("a", 1, 1), specs::event("a", 1, 2), specs::event("b", 2, 2), specs::event("c", 3, 3));
        let old = batch(&shape, &[a.clone(), b.clone()]);
        let same = compare(&shape, &old, &[(&b, 1), (&a, 1)]).unwrap();
        assert_eq!((same.missing, same.extra), (0, 0));
        let other = compare(&shape, &old, &[(&a2, 1), (&b, 1), (&c, 1)]).unwrap();
        assert_eq!((other.missing, other.extra), (2, 1));
        assert_eq!(shape.to_rows(&other.right), [a2, b, c]);
    }

    #[test]
    fn pieces_tile_the_order_and_one_place_stays_whole() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows: Vec<Row> = (0..100).map(|i| specs::event(&format!("k{i:03}"), i / 10, i)).collect();
        let limits = BucketLimits { rows: 30, bytes: usize::MAX };
        for (last, sizes) in [(true, vec![30, 30, 30, 10]), (false, vec![25; 4])] {
            let pieces = cut(&shape, batch(&shape, &rows), limits, last, Place::of(&shape, &rows[0])).unwrap();
            assert_eq!(pieces.iter().map(|(_, p)| p.num_rows()).collect::<Vec<_>>(), sizes);
            assert!(pieces.is_sorted_by_key(|(first, _)| *first));
            for (at, (first, piece)) in pieces.iter().enumerate() {
                assert!(in_order(&shape, piece).unwrap());
                let places = Place::of_batch(&shape, piece);
                assert_eq!(places.iter().min(), Some(first));
                assert!(pieces.get(at + 1).is_none_or(|(next, _)| places.iter().all(|p| p < next)));
            }
        }
        let rows: Vec<Row> = (0..50).map(|i| specs::event("k", 1, i)).collect();
        let refs: Vec<&Row> = rows.iter().collect();
        let whole = cut(&shape, shape.to_batch(&refs).unwrap(), limits, false, Place::of(&shape, &rows[0])).unwrap();
        assert_eq!(whole.len(), 1);
    }
}
