//! Where a key stands in a sorted list: reckoned from its rank, not halved towards.
//!
//! Keys of the hot path are hashes, spread evenly. A search that halves a list of a million keys meets twenty of them, each in
//! memory that the processor has not seen lately; three reckoned steps come within a few keys of the right one. Where ranks are not
//! spread evenly, or say nothing, the steps help little and the search goes on in growing strides.

use flowsync_schemas::{
    EntityId, PersonId, SignalId, Text,
    fact::{AccountFact, EvidenceKind, IdentityKind},
};

/// A key that says about where it stands among all keys of its type: the rank of a lesser key is never greater.
pub trait Ranked: Ord {
    /// The rank. Types of which nothing is known give the same for all.
    fn rank(&self) -> u64;
}

/// The upper half of a hash of 128 bits.
macro_rules! by_hash {
    ($($id:ty),+) => {
        $(impl Ranked for $id {
            fn rank(&self) -> u64 {
                (self.0 >> 64) as u64
            }
        })+
    };
}

by_hash!(EntityId, PersonId, SignalId);

impl Ranked for u64 {
    fn rank(&self) -> u64 {
        *self
    }
}

/// Few, or spread in no way that is known.
macro_rules! by_nothing {
    ($($key:ty),+) => {
        $(impl Ranked for $key {
            fn rank(&self) -> u64 {
                0
            }
        })+
    };
}

by_nothing!((), Text, EvidenceKind, IdentityKind);

/// The account comes first.
impl Ranked for AccountFact {
    fn rank(&self) -> u64 {
        self.person.rank()
    }
}

/// None comes first.
impl<K: Ranked> Ranked for Option<K> {
    fn rank(&self) -> u64 {
        self.as_ref().map_or(0, K::rank)
    }
}

/// What comes first decides.
macro_rules! by_first {
    ($($name:ident),+) => {
        impl<First: Ranked, $($name: Ord),+> Ranked for (First, $($name),+) {
            fn rank(&self) -> u64 {
                self.0.rank()
            }
        }
    };
}

by_first!(A);
by_first!(A, B);
by_first!(A, B, C);
by_first!(A, B, C, D);

/// Keys that are looked at one by one before anything is reckoned.
const NEAR: usize = 4;
/// Steps that are reckoned. Each leaves about the root of the distance that the one before left.
const STEPS: usize = 3;

/// The first place from `from` on whose key is not less than `key`; the end where there is none.
pub fn seek<K: Ranked>(keys: &[K], from: usize, key: &K) -> usize {
    let near = keys.len().min(from + NEAR);
    if let Some(place) = (from..near).find(|place| keys[*place] >= *key) {
        return place;
    }
    if near == keys.len() || keys[keys.len() - 1] < *key {
        return keys.len();
    }
    // From here on: the key at `low` is less, that at `high` is not.
    let (mut low, mut high) = (near - 1, keys.len() - 1);
    let (rank, mut at, mut at_rank) = (key.rank() as f64, low, keys[low].rank() as f64);
    let span = keys[high].rank() as f64 - at_rank;
    if span > 0.0 {
        let density = (high - low) as f64 / span;
        for _ in 0..STEPS {
            // Beyond the ends the conversion takes the nearest number.
            let next = ((at as f64 + (rank - at_rank) * density) as usize).clamp(low, high);
            if next == at {
                break;
            }
            at = next;
            if keys[at] < *key {
                low = at
            } else {
                high = at
            }
            at_rank = keys[at].rank() as f64;
        }
    }
    // In growing strides away from the last place that was looked at.
    let mut stride = 1;
    if at == low {
        while low + stride < high && keys[low + stride] < *key {
            low += stride;
            stride *= 2;
        }
        high = high.min(low + stride);
    } else {
        while low + stride < high && keys[high - stride] >= *key {
            high -= stride;
            stride *= 2;
        }
        low = low.max(high.saturating_sub(stride));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if keys[middle] < *key { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys that are spread evenly, that are not, and that have a rank that says nothing.
    fn keys() -> impl Strategy<Value = Vec<(u64, u32)>> {
        let even = prop::collection::vec((any::<u64>(), 0u32..3), 0..600);
        let uneven = prop::collection::vec(((0u32..64).prop_map(|bits| 1u64 << bits), any::<u32>()), 0..600);
        let blind = prop::collection::vec((Just(7u64), any::<u32>()), 0..600);
        prop_oneof![even, uneven, blind].prop_map(|mut keys| {
            keys.sort_unstable();
            keys
        })
    }

    proptest! {
        #[test]
        fn a_key_is_found_where_it_stands(keys in keys(), from in 0usize..700, key in (any::<u64>(), any::<u32>()), known in any::<prop::sample::Index>()) {
            let from = from.min(keys.len());
            let known = if keys.is_empty() { key } else { *known.get(&keys) };
            for key in [key, known, (0, 0), (u64::MAX, u32::MAX), (7, key.1)] {
                let right = from + keys[from..].partition_point(|k| *k < key);
                prop_assert_eq!(seek(&keys, from, &key), right, "{:?} from {} in {:?}", key, from, keys);
            }
        }
    }
}
