//! Arrangements for keys that are hashes.
//!
//! ```text
//!  updates ─► sorted when their epoch closes ─► batches of epochs ─► fewer, larger batches ─► cursors of joins and reductions
//!             sort                              batch                merge                    seek
//! ```
//!
//! These are pieces for differential's own operators, in the place of those that it brings: its spine and its cursors over many
//! batches stay. They differ in what a signal costs: a key is found in a batch by its rank and not by halving, a batch takes fewer
//! places in memory for what belongs to a key, and what arrives is dealt out by rank, not merged again and again (ADR 17).

mod batch;
mod merge;
mod seek;
mod sort;

use std::rc::Rc;

use differential_dataflow::{
    ExchangeData, Hashable, VecCollection,
    operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core},
    trace::{implementations::spine_fueled::Spine, rc_blanket_impls::RcBuilder},
};
use timely::dataflow::channels::pact::Exchange;

use self::sort::{Gathering, Sorting};
pub use self::{
    batch::{Diff, RankedBatch, Update},
    seek::Ranked,
};

/// All batches of an arrangement.
pub type RankedSpine<K, V, R> = Spine<Rc<RankedBatch<K, V, R>>>;

/// Builds batches of sorted updates.
pub type RankedBuilder<K, V, R> = RcBuilder<batch::Building<K, V, R>>;

/// A collection by key, arranged once for all who join or reduce it.
pub type ArrangedBy<'s, K, V, R> = Arranged<'s, TraceAgent<RankedSpine<K, V, R>>>;

/// Arranges a collection by key.
pub fn arrange<'s, K, V, R>(all: VecCollection<'s, u64, (K, V), R>, name: &str) -> ArrangedBy<'s, K, V, R>
where
    K: ExchangeData + Hashable + Ranked,
    V: ExchangeData,
    R: ExchangeData + Diff,
{
    let exchange = Exchange::new(|((key, _), _, _): &Update<K, V, R>| key.hashed().into());
    arrange_core::<_, _, Gathering<K, V, R>, Sorting<K, V, R>, RankedBuilder<K, V, R>, _>(all.inner, exchange, name)
}

/// Arranges a collection by all of it.
pub fn arrange_keys<'s, K, R>(all: VecCollection<'s, u64, K, R>, name: &str) -> ArrangedBy<'s, K, (), R>
where
    K: ExchangeData + Hashable + Ranked,
    R: ExchangeData + Diff,
{
    let exchange = Exchange::new(|(key, _, _): &(K, u64, R)| key.hashed().into());
    arrange_core::<_, _, Gathering<K, (), R>, Sorting<K, (), R>, RankedBuilder<K, (), R>, _>(all.inner, exchange, name)
}

#[cfg(test)]
mod tests;
