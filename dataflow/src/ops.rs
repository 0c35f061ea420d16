//! The shapes that views are made of: the latest version of a thing, a join that keeps the unmatched, sums in the diff.
//!
//! Invariant: every operator here is a function of the set of its input (I3): no arrival order, no clock.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
    ops::Deref,
    panic::Location,
    sync::Arc,
};

use differential_dataflow::{
    AsCollection, Data, ExchangeData, Hashable, VecCollection,
    operators::{CountTotal, ThresholdTotal, join::join_traces},
};
use flowsync_schemas::{EntityId, EntityKind, Micros, SignalId};
use serde::{Deserialize, Serialize};
use timely::container::{CapacityContainerBuilder, PushInto};

use crate::trace::{ArrangedBy, Diff, Ranked, RankedBuilder, RankedSpine, arrange, arrange_keys};

/// A collection over epochs.
pub type Coll<'s, D, R = isize> = VecCollection<'s, u64, D, R>;

/// One version of something. The order is the order in which versions replace one another: the tool's clock, then the
/// signal id, then the place within the signal (I3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version<V> {
    /// The tool's version or clock.
    pub at: Micros,
    /// The signal that states it.
    pub signal: SignalId,
    /// Place within the signal.
    pub seq: i64,
    /// What is stated.
    pub value: V,
}

impl<V> Version<V> {
    /// The same version of a part or a transformation of the value.
    pub fn map<W>(self, f: impl FnOnce(V) -> W) -> Version<W> {
        Version { at: self.at, signal: self.signal, seq: self.seq, value: f(self.value) }
    }
}

/// A collection by key, arranged once for all who join or reduce it.
pub type Arranged<'s, K, V> = ArrangedBy<'s, K, V, isize>;

/// What is arranged by key, or can be.
pub trait ByKey<'s, K: ExchangeData + Ranked, V: ExchangeData> {
    /// The arrangement.
    #[track_caller]
    fn by_key(self) -> Arranged<'s, K, V>;
}

impl<'s, K: ExchangeData + Ranked, V: ExchangeData> ByKey<'s, K, V> for Arranged<'s, K, V> {
    fn by_key(self) -> Arranged<'s, K, V> {
        self
    }
}

impl<'s, K: ExchangeData + Hashable + Ranked, V: ExchangeData> ByKey<'s, K, V> for Coll<'s, (K, V)> {
    fn by_key(self) -> Arranged<'s, K, V> {
        arrange(self, &called::<K, V>("Arrange", Location::caller()))
    }
}

/// A collection arranged by all of it.
#[track_caller]
pub fn by_self<'s, K, R>(all: Coll<'s, K, R>) -> ArrangedBy<'s, K, (), R>
where
    K: ExchangeData + Hashable + Ranked,
    R: ExchangeData + Diff,
{
    arrange_keys(all, &called::<K, ()>("Arrange", Location::caller()))
}

/// The rows whose key is among `keys`, each of which is there once.
#[track_caller]
pub fn semijoin<'s, K, V>(all: impl ByKey<'s, K, V>, keys: Coll<'s, K>) -> Coll<'s, (K, V)>
where
    K: ExchangeData + Hashable + Ranked,
    V: ExchangeData,
{
    all.by_key().join_core(by_self(keys), |k, v, ()| [(k.clone(), v.clone())])
}

/// The rows whose key is not among `keys`, each of which is there once.
#[track_caller]
pub fn antijoin<'s, K, V>(all: Coll<'s, (K, V)>, keys: Coll<'s, K>) -> Coll<'s, (K, V)>
where
    K: ExchangeData + Hashable + Ranked,
    V: ExchangeData,
{
    all.clone().concat(semijoin(all, keys).negate())
}

/// What an operator is called in a profile: what it does, who asks for it, and how many bytes a row of it takes, without what
/// it points to.
fn called<K, V>(what: &str, at: &Location<'_>) -> String {
    format!("{what} {}:{}, {} B", at.file(), at.line(), size_of::<(K, V)>())
}

/// `reduce` whose result is arranged, too.
#[track_caller]
pub fn reduce<'s, K, V, W>(
    all: impl ByKey<'s, K, V>,
    name: &str,
    logic: impl FnMut(&K, &[(&V, isize)], &mut Vec<(W, isize)>) + 'static,
) -> Arranged<'s, K, W>
where
    K: ExchangeData + Hashable + Ranked,
    V: ExchangeData,
    W: Data,
{
    let push = |batch: &mut Vec<_>, key: &K, values: &mut Vec<_>| {
        batch.clear();
        batch.extend(values.drain(..).map(|(value, time, diff)| ((key.clone(), value), time, diff)));
    };
    let name = &called::<K, W>(name, Location::caller());
    all.by_key().reduce_abelian::<_, RankedBuilder<_, _, _>, RankedSpine<K, W, _>, _, _>(name, logic, push)
}

/// An [`Arc`] that is compared by its address first: most of those that meet in an arrangement are one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    /// One that is shared from now on.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Ord> Ord for Shared<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl<T: Ord> PartialOrd for Shared<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// The latest version of each key, where it is no tombstone. Tombstones hide what is older, whenever it arrives.
#[track_caller]
pub fn latest<'s, K, V>(
    versions: impl ByKey<'s, K, Version<V>>,
    deleted: impl Fn(&V) -> bool + 'static,
) -> Arranged<'s, K, Version<V>>
where
    K: ExchangeData + Hashable + Ranked,
    V: ExchangeData,
{
    // Values come sorted, and versions sort by age: the last one holds.
    reduce(versions, "Latest", move |_, versions, out| {
        let last = versions.last().filter(|(last, _)| !deleted(&last.value));
        out.extend(last.map(|(last, _)| ((*last).clone(), 1)));
    })
}

/// What `logic` makes of each left row and its right row, or of the left row and `None` where there is none. `right` has at
/// most one row a key.
#[track_caller]
pub fn left_join<'s, K, A, B, I>(
    left: impl ByKey<'s, K, A>,
    right: impl ByKey<'s, K, B>,
    logic: impl Fn(&K, &A, Option<&B>) -> I + Clone + 'static,
) -> Coll<'s, I::Item>
where
    K: ExchangeData + Hashable + Ranked,
    A: ExchangeData,
    B: ExchangeData,
    I: IntoIterator<Item: Data>,
{
    type Out<D> = CapacityContainerBuilder<Vec<(D, u64, isize)>>;
    let left = left.by_key();
    let alone = logic.clone();
    let all = left.clone().flat_map_ref(move |k, a| alone(k, a, None));
    // What is matched takes the place of the unmatched row: one join for both.
    let matched = move |k: &K, a: &A, b: &B, time: u64, n: &isize, m: &isize, out: &mut Out<I::Item>| {
        logic(k, a, Some(b)).into_iter().for_each(|row| out.push_into((row, time, n * m)));
        logic(k, a, None).into_iter().for_each(|row| out.push_into((row, time, -n * m)));
    };
    all.concat(join_traces(left, right.by_key(), matched).as_collection())
}

/// Each distinct element once.
///
/// Not `distinct_total`: in differential 0.25.1 it maps the count zero to one as well, and so never retracts.
#[track_caller]
pub fn distinct<'s, D: ExchangeData + Hashable + Ranked>(all: Coll<'s, D>) -> Coll<'s, D> {
    by_self(all).threshold_total(|_, count| isize::from(*count > 0))
}

/// What `logic` makes of each key and the sums of five columns by it, carried in the diff: an update costs its own size, not
/// that of its group.
#[track_caller]
pub fn sums<'s, K: ExchangeData + Hashable + Ranked, I>(
    summands: Coll<'s, (K, [i64; 5])>,
    mut logic: impl FnMut(K, [i64; 5]) -> I + 'static,
) -> Coll<'s, I::Item>
where
    I: IntoIterator<Item: Clone + 'static>,
{
    let counted = summands.explode(|(key, [a, b, c, d, e])| {
        // The first count tells a key whose sums are all zero from a key without rows.
        [(key, ((1isize, a as isize, b as isize), (c as isize, d as isize, e as isize)))]
    });
    by_self(counted)
        .count_total()
        .flat_map(move |(key, ((_, a, b), (c, d, e)))| logic(key, [a, b, c, d, e].map(|sum| sum as i64)))
}

/// Shorthand for [`EntityId::of`].
pub fn id(kind: EntityKind, native: &str) -> EntityId {
    EntityId::of(kind, native)
}
