//! A batch: updates in the order of key, value and time, that never changes.
//!
//! ```text
//!  keys   k0     k1  k2          one for each key
//!  ends   2      3   6           where its updates end
//!  vals   a  b   a   b  c  c     one for each update
//!  codes  0  0   1   0  0  2     which of the pairs
//!  pairs  (time, difference) …   each of those that occur, about once
//! ```
//!
//! Most updates of a history have one time, that up to which it is compacted, and the difference one: a code takes a quarter of
//! their room. A key that is sought is met in `keys` alone; what belongs to it is looked at when it is asked for.

use std::marker::PhantomData;

use differential_dataflow::{
    Data,
    difference::Semigroup,
    trace::{Batch, BatchReader, Builder, Cursor, Description, Navigable, implementations::containers::BatchContainer},
};
use timely::progress::{Antichain, Timestamp};

use super::{
    merge::Merging,
    seek::{Ranked, seek},
};

/// What a difference can be.
pub trait Diff: Data + Ord + Semigroup {}
impl<R: Data + Ord + Semigroup> Diff for R {}

/// Updates as they arrive.
pub type Update<K, V, R> = ((K, V), u64, R);

/// The updates of a batch.
#[derive(Clone, Debug)]
pub struct Columns<K, V, R> {
    /// Each key once, sorted.
    pub keys: Vec<K>,
    /// For each key, where its updates end.
    pub ends: Vec<u32>,
    /// The value of each update; those of a key are sorted.
    pub vals: Vec<V>,
    /// For each update, which of the pairs.
    pub codes: Vec<u32>,
    /// Times and differences.
    pub pairs: Vec<(u64, R)>,
    /// Whether some value has more than one update.
    pub repeats: bool,
}

/// How many of the pairs that came last are looked through for one that is the same.
const PAIRS_COMPARED: usize = 8;

impl<K, V: Ord, R: PartialEq> Columns<K, V, R> {
    /// Room for so many keys and updates.
    pub fn with_capacity(keys: usize, updates: usize) -> Self {
        Self {
            keys: Vec::with_capacity(keys),
            ends: Vec::with_capacity(keys),
            vals: Vec::with_capacity(updates),
            codes: Vec::with_capacity(updates),
            pairs: Vec::new(),
            repeats: false,
        }
    }

    /// Where the updates of a key begin.
    #[inline]
    pub fn start(&self, key: usize) -> usize {
        if key == 0 { 0 } else { self.ends[key - 1] as usize }
    }

    /// Where they end.
    #[inline]
    pub fn end(&self, key: usize) -> usize {
        self.ends[key] as usize
    }

    /// Where the updates of the value at `at` end, of a key whose updates end at `end`.
    #[inline]
    pub fn value_end(&self, at: usize, end: usize) -> usize {
        if !self.repeats {
            return at + 1;
        }
        (at + 1..end).find(|next| self.vals[*next] != self.vals[at]).unwrap_or(end)
    }

    /// The time and difference of an update.
    #[inline]
    pub fn pair(&self, at: usize) -> &(u64, R) {
        &self.pairs[self.codes[at] as usize]
    }

    /// The code of a pair.
    pub fn code(&mut self, time: u64, diff: R) -> u32 {
        let recent = self.pairs.iter().enumerate().rev().take(PAIRS_COMPARED);
        let same = recent.into_iter().find(|(_, (t, d))| *t == time && *d == diff).map(|(code, _)| code);
        let code = same.unwrap_or_else(|| {
            self.pairs.push((time, diff));
            self.pairs.len() - 1
        });
        counted(code)
    }

    /// The key that all updates since the one before belong to.
    #[inline]
    pub fn close(&mut self, key: K) {
        self.keys.push(key);
        self.ends.push(counted(self.vals.len()));
    }
}

/// A number of updates as it is kept.
#[inline]
pub fn counted(updates: usize) -> u32 {
    // A batch of four billion updates would take hundreds of gigabytes: memory ends before.
    u32::try_from(updates).unwrap_or_else(|_| panic!("{updates} updates in one batch: at most {} fit", u32::MAX))
}

/// Updates and the times that they are of.
#[derive(Clone, Debug)]
pub struct RankedBatch<K, V, R> {
    /// The updates.
    pub columns: Columns<K, V, R>,
    description: Description<u64>,
}

impl<K, V, R> RankedBatch<K, V, R> {
    /// These updates, of these times.
    pub fn new(columns: Columns<K, V, R>, description: Description<u64>) -> Self {
        Self { columns, description }
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> BatchReader for RankedBatch<K, V, R> {
    type Time = u64;

    fn len(&self) -> usize {
        self.columns.vals.len()
    }

    fn description(&self) -> &Description<u64> {
        &self.description
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> Batch for RankedBatch<K, V, R> {
    type Merger = Merging<K, V, R>;

    fn empty(lower: Antichain<u64>, upper: Antichain<u64>) -> Self {
        let since = Antichain::from_elem(u64::minimum());
        Self::new(Columns::with_capacity(0, 0), Description::new(lower, upper, since))
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> Navigable for RankedBatch<K, V, R> {
    type Cursor = RankedCursor<K, V, R>;

    fn cursor(&self) -> Self::Cursor {
        RankedCursor { key: 0, val: FIRST, of: PhantomData }
    }
}

/// The first value of the key, wherever that is.
const FIRST: usize = usize::MAX;

/// Where a reader of a batch stands.
#[derive(Debug)]
pub struct RankedCursor<K, V, R> {
    key: usize,
    /// [`FIRST`] until the values of the key are gone through.
    val: usize,
    of: PhantomData<(K, V, R)>,
}

impl<K: Data + Ranked, V: Data, R: Diff> RankedCursor<K, V, R> {
    #[inline]
    fn at(&self, columns: &Columns<K, V, R>) -> usize {
        if self.val == FIRST { columns.start(self.key) } else { self.val }
    }
}

impl<K: Data + Ranked, V: Data, R: Diff> Cursor for RankedCursor<K, V, R> {
    type Storage = RankedBatch<K, V, R>;
    type Key<'a> = &'a K;
    type ValOwn = V;
    type Val<'a> = &'a V;
    type Time = u64;
    type TimeGat<'a> = &'a u64;
    type Diff = R;
    type DiffGat<'a> = &'a R;
    type KeyContainer = Vec<K>;
    type ValContainer = Vec<V>;
    type TimeContainer = Vec<u64>;
    type DiffContainer = Vec<R>;

    #[inline]
    fn key_valid(&self, storage: &Self::Storage) -> bool {
        self.key < storage.columns.keys.len()
    }

    #[inline]
    fn val_valid(&self, storage: &Self::Storage) -> bool {
        self.val == FIRST || self.val < storage.columns.end(self.key)
    }

    #[inline]
    fn key<'a>(&self, storage: &'a Self::Storage) -> &'a K {
        &storage.columns.keys[self.key]
    }

    #[inline]
    fn val<'a>(&self, storage: &'a Self::Storage) -> &'a V {
        &storage.columns.vals[self.at(&storage.columns)]
    }

    #[inline]
    fn get_key<'a>(&self, storage: &'a Self::Storage) -> Option<&'a K> {
        storage.columns.keys.get(self.key)
    }

    #[inline]
    fn get_val<'a>(&self, storage: &'a Self::Storage) -> Option<&'a V> {
        (self.key_valid(storage) && self.val_valid(storage)).then(|| self.val(storage))
    }

    #[inline]
    fn map_times<L: FnMut(&u64, &R)>(&mut self, storage: &Self::Storage, mut logic: L) {
        let columns = &storage.columns;
        let at = self.at(columns);
        let end = if columns.repeats { columns.value_end(at, columns.end(self.key)) } else { at + 1 };
        for at in at..end {
            let (time, diff) = columns.pair(at);
            logic(time, diff);
        }
    }

    #[inline]
    fn step_key(&mut self, storage: &Self::Storage) {
        self.key = (self.key + 1).min(storage.columns.keys.len());
        self.val = FIRST;
    }

    #[inline]
    fn seek_key(&mut self, storage: &Self::Storage, key: &K) {
        self.key = seek(&storage.columns.keys, self.key, key);
        self.val = FIRST;
    }

    #[inline]
    fn step_val(&mut self, storage: &Self::Storage) {
        let columns = &storage.columns;
        self.val = columns.value_end(self.at(columns), columns.end(self.key));
    }

    #[inline]
    fn seek_val(&mut self, storage: &Self::Storage, val: &V) {
        let columns = &storage.columns;
        let (at, end) = (self.at(columns), columns.end(self.key));
        self.val = at + columns.vals.advance(at, end, |v| v < val);
    }

    #[inline]
    fn rewind_keys(&mut self, _: &Self::Storage) {
        (self.key, self.val) = (0, FIRST);
    }

    #[inline]
    fn rewind_vals(&mut self, _: &Self::Storage) {
        self.val = FIRST;
    }
}

/// Builds a batch of sorted updates that are each there once.
pub struct Building<K, V, R> {
    columns: Columns<K, V, R>,
    /// The key of the updates that came last.
    open: Option<K>,
}

impl<K: Data + Ranked, V: Data, R: Diff> Builder for Building<K, V, R> {
    type Input = Vec<Update<K, V, R>>;
    type Time = u64;
    type Output = RankedBatch<K, V, R>;

    fn with_capacity(keys: usize, _: usize, updates: usize) -> Self {
        Self { columns: Columns::with_capacity(keys, updates), open: None }
    }

    fn push(&mut self, chunk: &mut Self::Input) {
        let columns = &mut self.columns;
        for ((key, val), time, diff) in chunk.drain(..) {
            if self.open.as_ref() == Some(&key) {
                // Updates of one value have times that rise: mostly no values need to be compared.
                let rises = columns.codes.last().is_some_and(|code| columns.pairs[*code as usize].0 < time);
                columns.repeats |= rises && columns.vals.last() == Some(&val);
            } else if let Some(before) = self.open.replace(key) {
                columns.close(before);
            }
            let code = columns.code(time, diff);
            columns.codes.push(code);
            columns.vals.push(val);
        }
    }

    fn done(mut self, description: Description<u64>) -> Self::Output {
        if let Some(last) = self.open {
            self.columns.close(last);
        }
        RankedBatch::new(self.columns, description)
    }

    fn seal(chain: &mut Vec<Self::Input>, description: Description<u64>) -> Self::Output {
        let updates = || chain.iter().flatten();
        let others = updates().zip(updates().skip(1)).filter(|(((a, _), ..), ((b, _), ..))| a != b).count();
        let mut builder = Self::with_capacity(others + 1, 0, updates().count());
        // Each chunk is freed before the next one is read.
        chain.drain(..).for_each(|mut chunk| builder.push(&mut chunk));
        builder.done(description)
    }
}
