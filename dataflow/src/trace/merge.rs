//! Two batches become one: what lies in one of them alone is copied by runs of keys, what is under the same key is compared.
//!
//! Times before the frontier of compaction become that of it, and updates of one value and time are added up; what comes to nothing
//! is gone. Merging stops when its fuel is used up, and goes on there the next time.

use differential_dataflow::{
    Data,
    consolidation::consolidate,
    trace::{BatchReader, Description, Merger},
};
use std::cmp::Ordering;
use timely::progress::{Antichain, frontier::AntichainRef};

use super::{
    batch::{Columns, Diff, RankedBatch, counted},
    seek::{Ranked, seek},
};

/// Codes of a source in the result, as far as they occurred.
const UNKNOWN: u32 = u32::MAX;

/// A merge on its way.
pub struct Merging<K, V, R> {
    /// The next key of either source.
    next: [usize; 2],
    /// What the codes of either source are in the result.
    codes: [Vec<u32>; 2],
    result: Columns<K, V, R>,
    description: Description<u64>,
    /// Times before this become this.
    since: u64,
    staged: Vec<(u64, R)>,
}

impl<K: Data + Ranked, V: Data, R: Diff> Merging<K, V, R> {
    /// The code in the result of an update of a source.
    #[inline]
    fn code(&mut self, source: &Columns<K, V, R>, side: usize, at: usize) -> u32 {
        let code = source.codes[at] as usize;
        let known = self.codes[side][code];
        if known != UNKNOWN {
            return known;
        }
        let (time, diff) = source.pairs[code].clone();
        let new = self.result.code(time.max(self.since), diff);
        self.codes[side][code] = new;
        new
    }

    /// Copies keys `from..to` of a source, which the other one does not have.
    fn copy(&mut self, source: &Columns<K, V, R>, side: usize, from: usize, to: usize) {
        if source.repeats {
            return (from..to).for_each(|key| {
                self.copy_values(source, side, source.start(key), source.end(key));
                self.close(&source.keys[key]);
            });
        }
        // No value has two updates: none is added to another.
        let (start, end, base) = (source.start(from), source.end(to - 1), self.result.vals.len());
        self.result.keys.extend_from_slice(&source.keys[from..to]);
        self.result.ends.extend(source.ends[from..to].iter().map(|e| counted(*e as usize - start + base)));
        self.result.vals.extend_from_slice(&source.vals[start..end]);
        for at in start..end {
            let code = self.code(source, side, at);
            self.result.codes.push(code);
        }
    }

    /// Copies the updates `from..to` of one key.
    fn copy_values(&mut self, source: &Columns<K, V, R>, side: usize, mut from: usize, to: usize) {
        while from < to {
            let end = source.value_end(from, to);
            self.copy_value(source, side, from, end);
            from = end;
        }
    }

    /// Copies the updates of one value.
    fn copy_value(&mut self, source: &Columns<K, V, R>, side: usize, from: usize, to: usize) {
        if to - from == 1 {
            let code = self.code(source, side, from);
            self.result.codes.push(code);
            self.result.vals.push(source.vals[from].clone());
        } else {
            self.stage(source, from, to);
            self.settle(&source.vals[from]);
        }
    }

    fn stage(&mut self, source: &Columns<K, V, R>, from: usize, to: usize) {
        let since = self.since;
        self.staged.extend((from..to).map(|at| source.pair(at)).map(|(time, diff)| ((*time).max(since), diff.clone())));
    }

    /// Adds up what is staged of a value, and keeps what is left.
    fn settle(&mut self, val: &V) {
        consolidate(&mut self.staged);
        self.result.repeats |= self.staged.len() > 1;
        for (time, diff) in self.staged.drain(..) {
            let code = self.result.code(time, diff);
            self.result.codes.push(code);
            self.result.vals.push(val.clone());
        }
    }

    /// Ends a key, where anything is left of it.
    fn close(&mut self, key: &K) {
        if self.result.ends.last().map_or(0, |end| *end as usize) < self.result.vals.len() {
            self.result.close(key.clone());
        }
    }

    /// Merges what both sources have under one key.
    fn merge(&mut self, one: &Columns<K, V, R>, other: &Columns<K, V, R>) {
        let [key, that] = self.next;
        let (mut a, a_end) = (one.start(key), one.end(key));
        let (mut b, b_end) = (other.start(that), other.end(that));
        while a < a_end && b < b_end {
            match one.vals[a].cmp(&other.vals[b]) {
                Ordering::Less => {
                    let end = one.value_end(a, a_end);
                    self.copy_value(one, 0, a, end);
                    a = end;
                }
                Ordering::Greater => {
                    let end = other.value_end(b, b_end);
                    self.copy_value(other, 1, b, end);
                    b = end;
                }
                Ordering::Equal => {
                    let (one_end, other_end) = (one.value_end(a, a_end), other.value_end(b, b_end));
                    self.stage(one, a, one_end);
                    self.stage(other, b, other_end);
                    self.settle(&one.vals[a]);
                    (a, b) = (one_end, other_end);
                }
            }
        }
        self.copy_values(one, 0, a, a_end);
        self.copy_values(other, 1, b, b_end);
        self.close(&one.keys[key]);
        self.next = [key + 1, that + 1];
    }

    /// Copies from one source up to key `to`, as far as the fuel goes.
    fn copy_up_to(&mut self, source: &Columns<K, V, R>, side: usize, to: usize, fuel: isize) {
        let from = self.next[side];
        // Every key has an update.
        let to = to.min(from + fuel.max(1) as usize);
        self.copy(source, side, from, to);
        self.next[side] = to;
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> Merger<RankedBatch<K, V, R>> for Merging<K, V, R> {
    fn new(one: &RankedBatch<K, V, R>, other: &RankedBatch<K, V, R>, compaction: AntichainRef<'_, u64>) -> Self {
        assert!(one.upper() == other.lower(), "batches that follow each other are merged");
        // Of total times a frontier has one element, or none: then nothing will be read any more.
        let all = [one.description().since().borrow(), other.description().since().borrow(), compaction];
        let since = all.iter().filter_map(|frontier| frontier.first().copied()).max().unwrap_or_default();
        let frontier =
            if all.iter().any(|frontier| frontier.is_empty()) { Antichain::new() } else { Antichain::from_elem(since) };
        let (one_columns, other_columns) = (&one.columns, &other.columns);
        Merging {
            next: [0, 0],
            codes: [one_columns, other_columns].map(|columns| vec![UNKNOWN; columns.pairs.len()]),
            result: Columns::with_capacity(
                one_columns.keys.len() + other_columns.keys.len(),
                one_columns.vals.len() + other_columns.vals.len(),
            ),
            description: Description::new(one.lower().clone(), other.upper().clone(), frontier),
            since,
            staged: Vec::new(),
        }
    }

    fn work(&mut self, one: &RankedBatch<K, V, R>, other: &RankedBatch<K, V, R>, fuel: &mut isize) {
        let (one, other, before) = (&one.columns, &other.columns, self.result.vals.len());
        let mut left = *fuel;
        while left > 0 {
            let [key, that] = self.next;
            match (one.keys.get(key), other.keys.get(that)) {
                (Some(a), Some(b)) => match a.cmp(b) {
                    Ordering::Less => self.copy_up_to(one, 0, seek(&one.keys, key + 1, b), left),
                    Ordering::Greater => self.copy_up_to(other, 1, seek(&other.keys, that + 1, a), left),
                    Ordering::Equal => self.merge(one, other),
                },
                (Some(_), None) => self.copy_up_to(one, 0, one.keys.len(), left),
                (None, Some(_)) => self.copy_up_to(other, 1, other.keys.len(), left),
                (None, None) => break,
            }
            left = *fuel - (self.result.vals.len() - before) as isize;
        }
        *fuel = left;
    }

    fn done(mut self) -> RankedBatch<K, V, R> {
        // What came to nothing leaves room that nobody would ever use.
        let result = &mut self.result;
        if result.vals.len() < result.vals.capacity() / 8 * 7 {
            result.vals.shrink_to_fit();
            result.codes.shrink_to_fit();
        }
        if result.keys.len() < result.keys.capacity() / 8 * 7 {
            result.keys.shrink_to_fit();
            result.ends.shrink_to_fit();
        }
        RankedBatch::new(self.result, self.description)
    }
}
