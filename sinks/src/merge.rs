//! Applying differences to the rows of a bucket, comparing a bucket with what it should hold, and cutting what grew.
//!
//! All over columns: rows that do not change are copied as runs of columns, never taken apart, and only the keys of rows that
//! change are looked for. The old rows and the new ones are in the order of their key, and every key occurs once; differences
//! that do not fit are [`SinkError::Diverged`].
//!
//! Must not know: files, Delta, epochs, async.

use std::{cmp::Ordering, ops::Range};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Capacities, DynComparator, MutableArrayData, UInt64Array, make_array, make_comparator,
    },
    compute::take_record_batch,
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, Rows, SortField},
};
use flowsync_schemas::Row;

use crate::{SinkError, arrow::Shape, bucket::Place};

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

/// Turns columns into rows of bytes that compare as the values do.
fn comparable(batch: &RecordBatch, columns: &[usize]) -> Result<Rows, ArrowError> {
    let arrays: Vec<ArrayRef> = columns.iter().map(|at| batch.column(*at).clone()).collect();
    let fields = arrays.iter().map(|a| SortField::new(a.data_type().clone())).collect();
    RowConverter::new(fields)?.convert_columns(&arrays)
}

/// Compares the key of a row of one batch with that of a row of another.
struct KeyOrder(Vec<DynComparator>);

impl KeyOrder {
    fn new(shape: &Shape, a: &RecordBatch, b: &RecordBatch) -> Result<Self, SinkError> {
        // Rising, nulls first: as the default of `comparable`.
        let column = |at: &usize| make_comparator(a.column(*at), b.column(*at), Default::default());
        Ok(Self(shape.key.iter().map(column).collect::<Result<_, _>>().map_err(internal(shape))?))
    }

    fn cmp(&self, a: usize, b: usize) -> Ordering {
        self.0.iter().map(|column| column(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

/// The first of `range` for which `before` does not hold, which holds for all up to there: found in steps that double, so that
/// what is near is found at once.
fn seek(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (range.start, 1);
    while low < range.end && before((low + step - 1).min(range.end - 1)) {
        low = (low + step).min(range.end);
        step *= 2;
    }
    let mut high = (low + step - 1).min(range.end);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Rows that all go, or all come, in the order of their key.
struct Side(RecordBatch);

impl Side {
    fn new(shape: &Shape, rows: &[&Row], twice: &'static str) -> Result<Self, SinkError> {
        let batch = shape.to_batch(rows)?;
        let keys = comparable(&batch, &shape.key).map_err(internal(shape))?;
        let mut order: Vec<u64> = (0..rows.len() as u64).collect();
        order.sort_unstable_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
        let same = |pair: &[u64]| keys.row(pair[0] as usize) == keys.row(pair[1] as usize);
        if let Some(at) = order.windows(2).find(|pair| same(pair)) {
            return Err(diverged(shape, &batch, at[1] as usize, twice));
        }
        Ok(Self(take_record_batch(&batch, &UInt64Array::from(order)).map_err(internal(shape))?))
    }

    fn len(&self) -> usize {
        self.0.num_rows()
    }

    /// Where each row's key is among rows that are in order, or where it would be; and whether it is there.
    fn places(&self, shape: &Shape, rows: &RecordBatch) -> Result<Vec<(usize, bool)>, SinkError> {
        let order = KeyOrder::new(shape, rows, &self.0)?;
        let mut from = 0;
        let place = |at| {
            from = seek(from..rows.num_rows(), |row| order.cmp(row, at).is_lt());
            (from, from < rows.num_rows() && order.cmp(from, at).is_eq())
        };
        Ok((0..self.len()).map(place).collect())
    }
}

fn diverged(shape: &Shape, batch: &RecordBatch, at: usize, reason: &'static str) -> SinkError {
    SinkError::Diverged { table: shape.name.to_owned(), key: shape.key_text(batch, at), reason }
}

/// The rows after differences were applied to `old`, and how many keys they touched.
pub(crate) fn apply(
    shape: &Shape,
    old: &RecordBatch,
    changes: &[(&Row, i64)],
) -> Result<(RecordBatch, usize), SinkError> {
    if let Some((row, _)) = changes.iter().find(|(_, diff)| !matches!(diff, -1 | 1)) {
        return Err(diverged(shape, &shape.to_batch(&[row])?, 0, "a row with a difference other than +1 or -1"));
    }
    let rows = |wanted| changes.iter().filter(move |(_, diff)| *diff == wanted).map(|(row, _)| *row);
    let goes = Side::new(shape, &rows(-1).collect::<Vec<_>>(), "two rows of the key are retracted at once")?;
    let comes = Side::new(shape, &rows(1).collect::<Vec<_>>(), "two rows with the key are added at once")?;
    let gone = goes.places(shape, old)?;
    if let Some(at) = gone.iter().position(|(_, there)| !there) {
        return Err(diverged(shape, &goes.0, at, "a row is retracted that is not there"));
    }
    let gone: Vec<usize> = gone.into_iter().map(|(place, _)| place).collect();
    same_rows(shape, old, &gone, &goes)?;
    let mut runs = Runs { gone: &gone, ..Runs::default() };
    let mut replaced = 0;
    for (at, (place, there)) in comes.places(shape, old)?.into_iter().enumerate() {
        if there && gone.binary_search(&place).is_err() {
            return Err(diverged(shape, &comes.0, at, "a second row for the key"));
        }
        replaced += usize::from(there);
        runs.keep_until(place);
        runs.push(1, at..at + 1);
    }
    runs.keep_until(old.num_rows());
    Ok((runs.copy(shape, old, &comes.0)?, goes.len() + comes.len() - replaced))
}

/// Rows of two batches, the old and the new, in the order in which they are wanted.
#[derive(Default)]
struct Runs<'a> {
    /// Old rows that are not wanted; rising.
    gone: &'a [usize],
    /// Old rows before this one are dealt with.
    at: usize,
    runs: Vec<(usize, Range<usize>)>,
}

impl Runs<'_> {
    /// Puts what is left of the old rows before `end`.
    fn keep_until(&mut self, end: usize) {
        while let Some((first, others)) = self.gone.split_first()
            && *first < end
        {
            self.push(0, self.at..*first);
            (self.at, self.gone) = (first + 1, others);
        }
        self.push(0, self.at..end);
        self.at = end;
    }

    fn push(&mut self, batch: usize, rows: Range<usize>) {
        match self.runs.last_mut() {
            _ if rows.is_empty() => {}
            Some((last, before)) if *last == batch && before.end == rows.start => before.end = rows.end,
            _ => self.runs.push((batch, rows)),
        }
    }

    fn copy(&self, shape: &Shape, old: &RecordBatch, new: &RecordBatch) -> Result<RecordBatch, SinkError> {
        let rows = self.runs.iter().map(|(_, rows)| rows.len()).sum();
        let column = |(old, new): (&ArrayRef, &ArrayRef)| {
            // To the byte: how much memory a bucket takes says where it is cut.
            let capacities = match (old.as_string_opt::<i32>(), new.as_string_opt::<i32>()) {
                (Some(old), Some(new)) => {
                    let bytes = |(batch, rows): &(usize, Range<usize>)| {
                        let offsets = [old, new][*batch].value_offsets();
                        (offsets[rows.end] - offsets[rows.start]) as usize
                    };
                    Capacities::Binary(rows, Some(self.runs.iter().map(bytes).sum()))
                }
                _ => Capacities::Array(rows),
            };
            let (old, new) = (old.to_data(), new.to_data());
            let mut copy = MutableArrayData::with_capacities(vec![&old, &new], false, capacities);
            self.runs.iter().try_for_each(|(batch, rows)| copy.try_extend(*batch, rows.start, rows.end))?;
            Ok(make_array(copy.freeze()))
        };
        let columns = old.columns().iter().zip(new.columns()).map(column).collect::<Result<_, ArrowError>>();
        RecordBatch::try_new(shape.schema.clone(), columns.map_err(internal(shape))?).map_err(internal(shape))
    }
}

/// Holds that the rows that go are, in every column, the rows that are there.
fn same_rows(shape: &Shape, old: &RecordBatch, gone: &[usize], goes: &Side) -> Result<(), SinkError> {
    let gone = UInt64Array::from_iter_values(gone.iter().map(|at| *at as u64));
    let there = take_record_batch(old, &gone).map_err(internal(shape))?;
    if there.columns() == goes.0.columns() {
        return Ok(());
    }
    let differs = (0..there.num_rows()).find(|i| there.slice(*i, 1).columns() != goes.0.slice(*i, 1).columns());
    let reason = "the row that is retracted has other values than the one that is there";
    Err(diverged(shape, &goes.0, differs.unwrap_or_default(), reason))
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
    let order = KeyOrder::new(shape, batch, batch)?;
    Ok((1..batch.num_rows()).all(|at| order.cmp(at - 1, at).is_lt()))
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
    fn what_is_sought_is_found_at_any_distance() {
        for length in 0..70 {
            for place in 0..=length {
                for from in 0..=place {
                    assert_eq!(seek(from..length, |at| at < place), place, "{from}..{length}");
                }
            }
        }
    }

    #[test]
    fn runs_leave_out_what_goes_and_put_together_what_is_in_a_row() {
        let mut runs = Runs { gone: &[0, 3, 4, 9], ..Runs::default() };
        for (at, place) in [0, 0, 3, 6, 9].into_iter().enumerate() {
            runs.keep_until(place);
            runs.push(1, at..at + 1);
        }
        runs.keep_until(10);
        assert_eq!(runs.runs, [(1, 0..2), (0, 1..3), (1, 2..3), (0, 5..6), (1, 3..4), (0, 6..9), (1, 4..5)]);
    }

    #[test]
    fn rows_that_were_replaced_take_no_memory() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows =
            |n: i64| (0..500).map(|i| specs::event(&format!("a long key, number {i:04}"), i, n)).collect::<Vec<_>>();
        let (before, after) = (rows(1), rows(2));
        let changes: Vec<(&Row, i64)> = before.iter().map(|r| (r, -1)).chain(after.iter().map(|r| (r, 1))).collect();
        let (replaced, _) = apply(&shape, &batch(&shape, &before), &changes).unwrap();
        let fresh = batch(&shape, &after);
        assert_eq!(replaced, fresh);
        assert_eq!(replaced.get_array_memory_size(), fresh.get_array_memory_size());
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
