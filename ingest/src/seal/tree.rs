//! Keys by number of which any can be destroyed: the puncturable tree of Goldreich, Goldwasser and Micali.
//!
//! ```text
//! seed ─┬─ left  ─┬─ left  ─ …   64 levels, a leaf for every u64
//!       │         └─ right ─ …   destroying a leaf replaces the seeds above it by the siblings on its way
//!       └─ right ─ …
//! ```
//!
//! Invariants: a seed is a one-way function of the one above it, so what is not below a seed that is kept cannot be derived;
//! what is kept depends on which keys are destroyed and not on the order (the widest subtrees without a destroyed key); a
//! contiguous range costs at most 126 seeds, the beginning of all numbers at most 64 (I9).

use std::{fmt, ops::Range};

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// Levels below the root.
const DEPTH: u8 = 64;

/// Bytes of a node as written: depth, index, seed.
const NODE_BYTES: usize = 1 + 8 + 32;

/// 32 bytes that nobody may see. Overwritten when dropped, and never moved in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    /// From bytes that were handed in, for instance in a proof.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Box::new(bytes))
    }

    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut secret = Self::new([0; 32]);
        getrandom::fill(&mut *secret.0)?;
        Ok(secret)
    }

    /// The bytes, to be written where they belong.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Another secret, from which this one does not follow. Different labels give independent ones.
    pub(super) fn derive(&self, label: &str) -> Self {
        let mut out = Self::new([0; 32]);
        // One block of SHA-256: a label has at most 23 bytes.
        let hash = Sha256::new().chain_update(label).chain_update(self.0.as_slice());
        hash.finalize_into((&mut *out.0).into());
        out
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A subtree: all keys whose number begins with the `depth` bits of `index`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Node {
    depth: u8,
    index: u64,
    seed: Secret,
}

impl Node {
    fn first(&self) -> u64 {
        self.index.checked_shl(u32::from(DEPTH - self.depth)).unwrap_or_default()
    }

    fn last(&self) -> u64 {
        self.first() | u64::MAX.checked_shr(u32::from(self.depth)).unwrap_or_default()
    }

    fn covers(&self, number: u64) -> bool {
        (self.first()..=self.last()).contains(&number)
    }

    fn child(&self, right: bool) -> Self {
        let label = if right { "flowsync tree right" } else { "flowsync tree left" };
        Self { depth: self.depth + 1, index: self.index << 1 | u64::from(right), seed: self.seed.derive(label) }
    }

    /// Adds to `out` what is left of this subtree without `ranges`, which are sorted and do not overlap.
    fn without(self, ranges: &[Range<u64>], out: &mut Vec<Node>) {
        let (first, last) = (self.first(), self.last());
        let from = ranges.partition_point(|range| range.end <= first);
        let to = ranges.partition_point(|range| range.start <= last);
        match &ranges[from..to.max(from)] {
            [] => out.push(self),
            [range] if range.start <= first && last < range.end => {}
            touching => {
                for right in [false, true] {
                    self.child(right).without(touching, out);
                }
            }
        }
    }
}

/// The keys that are left of one purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tree {
    /// By number, disjoint, as wide as can be.
    nodes: Vec<Node>,
}

impl Tree {
    /// All keys below a seed.
    pub fn new(seed: Secret) -> Self {
        Self { nodes: vec![Node { depth: 0, index: 0, seed }] }
    }

    /// Seeds that are kept.
    pub fn seeds(&self) -> usize {
        self.nodes.len()
    }

    fn covering(&self, number: u64) -> Option<&Node> {
        let after = self.nodes.partition_point(|node| node.first() <= number);
        self.nodes[..after].last().filter(|node| node.covers(number))
    }

    /// Whether a key is destroyed.
    pub fn is_punctured(&self, number: u64) -> bool {
        self.covering(number).is_none()
    }

    /// Destroys the keys of these ranges, for ever.
    pub fn puncture(&mut self, ranges: &[Range<u64>]) {
        let ranges = merged(ranges);
        for node in std::mem::take(&mut self.nodes) {
            node.without(&ranges, &mut self.nodes);
        }
    }

    /// The destroyed keys, in order. The last number of all counts as destroyed with the one before it.
    pub fn punctured(&self) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut next = Some(0);
        for node in &self.nodes {
            if let Some(start) = next.filter(|start| *start < node.first()) {
                out.push(start..node.first());
            }
            next = node.last().checked_add(1);
        }
        out.extend(next.map(|start| start..u64::MAX));
        out
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.nodes.len() as u32).to_be_bytes());
        for node in &self.nodes {
            out.push(node.depth);
            out.extend(node.index.to_be_bytes());
            out.extend(node.seed.bytes());
        }
    }

    /// Bytes that [`Tree::write`] adds.
    pub fn written_bytes(&self) -> usize {
        4 + NODE_BYTES * self.nodes.len()
    }

    /// Reads what [`Tree::write`] wrote, and moves on behind it.
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        let count = u32::from_be_bytes(*bytes.split_off(..4)?.as_array()?) as usize;
        let written = bytes.split_off(..count.checked_mul(NODE_BYTES)?)?;
        let mut nodes: Vec<Node> = Vec::with_capacity(count);
        for node in written.as_chunks::<NODE_BYTES>().0 {
            let (depth, index) = (node[0], u64::from_be_bytes(*node[1..9].as_array()?));
            let fits = depth <= DEPTH && index.checked_shr(u32::from(depth)).unwrap_or_default() == 0;
            let node = fits.then(|| Node { depth, index, seed: Secret::new([0; 32]) }).map(|mut new| {
                new.seed.0.copy_from_slice(&node[9..]);
                new
            })?;
            if nodes.last().is_some_and(|before| before.last() >= node.first()) {
                return None;
            }
            nodes.push(node);
        }
        Some(Self { nodes })
    }
}

/// Sorted, without what is empty, touches or overlaps.
fn merged(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match out.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => out.push(range),
        }
    }
    out
}

/// The way down to the key that was asked for last: keys in order cost about two hashes each.
#[derive(Default, Debug)]
pub(super) struct Path(Vec<Node>);

impl Path {
    /// The key of a number; none where it is destroyed. `self` is of this tree, as it is now.
    pub fn key(&mut self, tree: &Tree, number: u64) -> Option<Secret> {
        while self.0.last().is_some_and(|node| !node.covers(number)) {
            self.0.pop();
        }
        if self.0.is_empty() {
            self.0.push(tree.covering(number)?.clone());
        }
        loop {
            let node = self.0.last()?;
            if node.depth == DEPTH {
                return Some(node.seed.derive("flowsync tree key"));
            }
            let right = number >> (DEPTH - 1 - node.depth) & 1 == 1;
            self.0.push(node.child(right));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

    use proptest::prelude::*;

    use super::*;

    fn tree() -> Tree {
        Tree::new(Secret::new([7; 32]))
    }

    fn key(tree: &Tree, number: u64) -> Option<Secret> {
        Path::default().key(tree, number)
    }

    /// Numbers near each other, near the ends, and anywhere.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..300u64,
            any::<u64>(),
            (0..300u64).prop_map(|n| u64::MAX - 1 - n),
            (0..300u64).prop_map(|n| (1 << 33) - 150 + n)
        ]
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (number(), prop_oneof![Just(1), 0..200u64, any::<u64>()]).prop_map(|(from, len)| from..from.saturating_add(len))
    }

    #[test]
    fn the_derivation_is_the_one_that_old_rings_were_made_with() {
        let hex = |number| hex::encode(key(&tree(), number).unwrap().bytes());
        assert_eq!(hex(0), KEY_0);
        assert_eq!(hex(u64::MAX), KEY_LAST);
    }
    const KEY_0: &str = "ae67b288bdc4f6af57bd775bf5adac0d8f6aec843cc88fd314672acccba96c2a";
    const KEY_LAST: &str = "2e1db7893919c91b19bba6c3d36d5500a2b5cae816ed653f687f266e714b91bd";

    #[test]
    fn all_and_nothing() {
        let mut tree = tree();
        assert_eq!((tree.punctured(), tree.seeds()), (vec![], 1));
        tree.puncture(&[0..0, 9..9]);
        assert_eq!(tree, self::tree());
        tree.puncture(&[0..u64::MAX]);
        assert_eq!((tree.punctured(), tree.seeds()), (vec![0..u64::MAX], 1));
        let mut bytes = vec![];
        tree.write(&mut bytes);
        assert_eq!(Tree::read(&mut &bytes[..]).unwrap(), tree);
    }

    #[test]
    fn trimming_the_beginning_keeps_at_most_a_seed_a_level() {
        let mut tree = tree();
        for end in (0..5000).chain([u64::MAX / 3, u64::MAX - 1]) {
            tree.puncture(&[0..end]);
            assert!(tree.seeds() <= 64, "{} seeds at {end}", tree.seeds());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_destroyed_is_gone_and_all_else_is_as_it_was(
            ranges in prop::collection::vec(range(), 1..8), asked in prop::collection::vec(number(), 1..40),
        ) {
            let (whole, mut left) = (tree(), tree());
            left.puncture(&ranges);
            prop_assert!(left.seeds() <= 1 + 126 * ranges.len());
            let mut path = Path::default();
            let edges = ranges.iter().flat_map(|r| [r.start, r.start.saturating_sub(1), r.end, r.end.saturating_sub(1)]);
            for number in asked.into_iter().chain(edges) {
                let gone = ranges.iter().any(|range| range.contains(&number));
                let expected = (!gone).then(|| key(&whole, number).unwrap());
                prop_assert_eq!(left.is_punctured(number), gone);
                prop_assert_eq!(path.key(&left, number), expected.clone(), "by a path that was elsewhere");
                prop_assert_eq!(key(&left, number), expected);
                prop_assert_eq!(left.punctured().iter().any(|range| range.contains(&number)), gone);
            }
        }

        #[test]
        fn the_order_does_not_matter(ranges in prop::collection::vec(range(), 0..8), again: prop::sample::Index) {
            let mut at_once = tree();
            at_once.puncture(&ranges);
            let mut backwards = tree();
            ranges.iter().rev().for_each(|range| backwards.puncture(std::slice::from_ref(range)));
            prop_assert_eq!(&backwards, &at_once);
            if !ranges.is_empty() {
                backwards.puncture(&ranges[again.index(ranges.len())..][..1]);
                prop_assert_eq!(&backwards, &at_once, "destroying twice");
            }
            let mut bytes = vec![];
            at_once.write(&mut bytes);
            prop_assert_eq!(bytes.len(), at_once.written_bytes());
            prop_assert_eq!(Tree::read(&mut &bytes[..]), Some(at_once));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0..5u8) {
            let _ = Tree::read(&mut &bytes[..]);
            let _ = Tree::read(&mut &[&[0, 0, 0, count], &bytes[..]].concat()[..]);
        }
    }
}
