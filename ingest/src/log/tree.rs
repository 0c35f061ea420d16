//! The Merkle tree over the records of a partition, as RFC 6962 defines it (section 2.1), and its proofs.
//!
//! ```text
//!            root of 5                    leaf = SHA-256(0x00 ‖ record as stored), in offset order
//!           /         \                   node = SHA-256(0x01 ‖ left ‖ right)
//!        2,0           \                  level,index: a node over 2^level leaves; written once, with the last of
//!      /     \          \                 them, and never changed by what comes later
//!    1,0     1,1         \
//!   /   \   /   \         \
//!  0,0 0,1 0,2  0,3       0,4
//! ```
//!
//! Appending a leaf completes the nodes whose last leaf it is: one for the leaf itself and one more for each trailing 1
//! of its offset in binary, two on average. They are what is stored beside the record; every root and every proof, of
//! any size, follows from them in a number of reads that grows with the logarithm.
//!
//! Pure arithmetic: nothing here reads, writes or signs.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// A hash of the tree. Shown in base64, as checkpoints write it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHash(pub [u8; HASH_BYTES]);

impl TreeHash {
    /// The hash of a record as stored.
    pub fn leaf(record: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(record).finalize().into())
    }

    /// The hash over two neighbours.
    pub fn node(left: &Self, right: &Self) -> Self {
        Self(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// Reads base64.
    pub fn parse(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for TreeHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TreeHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a hash is 32 bytes in base64"))
    }
}

/// The right edge of a tree: the largest complete subtrees, from left to right. Enough to append, and for the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// One for each 1 of `size` in binary, the widest first.
    peaks: Vec<TreeHash>,
}

impl Edge {
    /// The edge of a stored tree of `size` leaves. `node` reads one by level and index.
    ///
    /// # Errors
    /// Those of `node`.
    pub fn read<E>(size: u64, mut node: impl FnMut(u32, u64) -> Result<TreeHash, E>) -> Result<Self, E> {
        let levels = (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1);
        // Before the peak of a level lie the leaves that the higher bits of the size count.
        let peaks = levels.map(|level| node(level, (size >> level) - 1)).collect::<Result<_, E>>()?;
        Ok(Self { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf. What it completes: the leaf, and then the nodes above it that end with it, level by level.
    pub fn push(&mut self, leaf: TreeHash) -> Vec<TreeHash> {
        let mut done = vec![leaf];
        let mut top = leaf;
        for _ in 0..self.size.trailing_ones() {
            // As many peaks stand at the end as the size has trailing ones.
            let Some(left) = self.peaks.pop() else { break };
            top = TreeHash::node(&left, &top);
            done.push(top);
        }
        self.peaks.push(top);
        self.size += 1;
        done
    }

    /// The root; of no leaves, the hash of nothing.
    pub fn root(&self) -> TreeHash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return TreeHash(Sha256::digest([]).into()) };
        peaks.fold(*last, |right, left| TreeHash::node(left, &right))
    }
}

/// Whose append completed a node: the offset of its last leaf.
pub fn completed_by(level: u32, index: u64) -> u64 {
    ((index + 1) << level) - 1
}

/// Where a tree of more than one leaf divides: the largest power of two below `leaves`.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Makes proofs from stored nodes.
pub struct Prover<F> {
    node: F,
}

impl<E, F: FnMut(u32, u64) -> Result<TreeHash, E>> Prover<F> {
    /// `node` reads a stored node by level and index.
    pub fn new(node: F) -> Self {
        Self { node }
    }

    /// The hash over the leaves `from..to`, a subtree of some tree.
    fn subtree(&mut self, from: u64, to: u64) -> Result<TreeHash, E> {
        let leaves = to - from;
        if leaves.is_power_of_two() {
            let level = leaves.ilog2();
            return (self.node)(level, from >> level);
        }
        let middle = from + split(leaves);
        Ok(TreeHash::node(&self.subtree(from, middle)?, &self.subtree(middle, to)?))
    }

    /// The proof that the leaf `index` is in the tree of `size` leaves: the siblings on its way to the root (RFC 6962,
    /// 2.1.1). `index` is below `size`.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn inclusion(&mut self, index: u64, size: u64) -> Result<Vec<TreeHash>, E> {
        let (mut from, mut to) = (0, size);
        let mut path = Vec::new();
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                path.push(self.subtree(middle, to)?);
                to = middle;
            } else {
                path.push(self.subtree(from, middle)?);
                from = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the tree of `older` leaves is the beginning of that of `newer` leaves (RFC 6962, 2.1.2).
    /// `older` is at most `newer`; where they are equal, or `older` is 0, there is nothing to prove.
    ///
    /// # Errors
    /// Those of reading nodes.
    pub fn consistency(&mut self, older: u64, newer: u64) -> Result<Vec<TreeHash>, E> {
        if older == 0 || older == newer {
            return Ok(Vec::new());
        }
        let (mut from, mut to) = (0, newer);
        let mut path = Vec::new();
        // `from..to` is the subtree that the older tree ends in.
        while to != older {
            let middle = from + split(to - from);
            if older <= middle {
                path.push(self.subtree(middle, to)?);
                to = middle;
            } else {
                path.push(self.subtree(from, middle)?);
                from = middle;
            }
        }
        // Where the older tree is itself a node of the newer one, who checks has its hash already.
        if from > 0 {
            path.push(self.subtree(from, to)?);
        }
        path.reverse();
        Ok(path)
    }
}

/// Whether `path` proves that `leaf` is the leaf `index` of the tree of `size` leaves under `root` (RFC 9162, 2.1.3.2).
pub fn includes(leaf: TreeHash, index: u64, size: u64, path: &[TreeHash], root: &TreeHash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = TreeHash::node(sibling, &hash);
            // The levels at which the right edge has no sibling.
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = TreeHash::node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether `path` proves that the tree of `older` leaves is the beginning of that of `newer` leaves; each a number of
/// leaves and a root (RFC 9162, 2.1.4.2).
pub fn extends(older: (u64, &TreeHash), newer: (u64, &TreeHash), path: &[TreeHash]) -> bool {
    let ((older, older_root), (newer, newer_root)) = (older, newer);
    if older == newer {
        return path.is_empty() && older_root == newer_root;
    }
    if older == 0 {
        return path.is_empty() && *older_root == Edge::default().root();
    }
    if older > newer {
        return false;
    }
    let mut path = path.iter();
    let first = if older.is_power_of_two() { Some(older_root) } else { path.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (older - 1, newer - 1);
    let shift = at.trailing_ones();
    (at, last) = (at >> shift, last >> shift);
    let (mut in_older, mut in_newer) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            in_older = TreeHash::node(sibling, &in_older);
            in_newer = TreeHash::node(sibling, &in_newer);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            in_newer = TreeHash::node(&in_newer, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && in_older == *older_root && in_newer == *newer_root
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// The leaves that implementations of certificate transparency share as test vectors, and the roots of 1 to 8 of
    /// them.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hash(hex: &str) -> TreeHash {
        TreeHash(hex::decode(hex).unwrap().try_into().unwrap())
    }

    fn leaves(count: u64) -> Vec<TreeHash> {
        (0..count).map(|i| TreeHash::leaf(&i.to_be_bytes())).collect()
    }

    /// The definition of RFC 6962, word for word.
    fn defined(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => TreeHash(Sha256::digest([]).into()),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(split(more.len() as u64) as usize);
                TreeHash::node(&defined(left), &defined(right))
            }
        }
    }

    fn prover(leaves: &[TreeHash]) -> Prover<impl FnMut(u32, u64) -> Result<TreeHash, Infallible> + '_> {
        let mut edge = Edge::default();
        let stored: Vec<_> = leaves.iter().map(|leaf| edge.push(*leaf)).collect();
        Prover::new(move |level, index| Ok(stored[completed_by(level, index) as usize][level as usize]))
    }

    #[test]
    fn the_known_vectors() {
        let mut edge = Edge::default();
        assert_eq!(edge.root(), hash("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        for (leaf, root) in LEAVES.iter().zip(ROOTS) {
            edge.push(TreeHash::leaf(&hex::decode(leaf).unwrap()));
            assert_eq!(edge.root(), hash(root), "{} leaves", edge.size());
        }
        let leaves: Vec<_> = LEAVES.iter().map(|leaf| TreeHash::leaf(&hex::decode(leaf).unwrap())).collect();
        let Ok(path) = prover(&leaves).inclusion(5, 8);
        let known = [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(path, known.map(hash));
        let Ok(path) = prover(&leaves).consistency(6, 8);
        let known = [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(path, known.map(hash));
    }

    #[test]
    fn every_root_and_every_proof_of_small_trees() {
        let all = leaves(34);
        let mut edge = Edge::default();
        for size in 0..=34u64 {
            let tree = &all[..size as usize];
            let root = defined(tree);
            assert_eq!(edge.root(), root);
            let mut prover = prover(tree);
            let Ok(read) = Edge::read(size, &mut prover.node);
            assert_eq!(read, edge, "read back at {size}");
            for index in 0..size {
                let Ok(path) = prover.inclusion(index, size);
                assert!(includes(all[index as usize], index, size, &path, &root), "{index} of {size}");
                for other in (0..size + 2).filter(|other| *other != index) {
                    assert!(!includes(all[index as usize], other, size, &path, &root), "{index} as {other} of {size}");
                }
            }
            for older in 0..=size {
                let Ok(path) = prover.consistency(older, size);
                let old = defined(&tree[..older as usize]);
                assert!(extends((older, &old), (size, &root), &path), "{older} to {size}");
            }
            if let Some(leaf) = all.get(size as usize) {
                let done = edge.push(*leaf).len() as u64;
                assert!(done <= 1 + u64::from(u64::BITS - size.leading_zeros()));
            }
        }
    }

    fn flip(hash: &mut TreeHash, bit: usize) {
        hash.0[bit / 8 % HASH_BYTES] ^= 1 << (bit % 8);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_flipped_bit_or_another_place_proves_nothing(
            size in 1..400u64, at: prop::sample::Index, newer in 0..300u64, bit in 0..256usize, which: prop::sample::Index,
        ) {
            let newer = size + newer;
            let all = leaves(newer);
            let index = at.index(size as usize) as u64;
            let (leaf, root, new_root) = (all[index as usize], defined(&all[..size as usize]), defined(&all));
            let mut prover = prover(&all);
            let Ok(path) = prover.inclusion(index, size);
            prop_assert!(includes(leaf, index, size, &path, &root));
            let bad = |mut hash| { flip(&mut hash, bit); hash };
            prop_assert!(!includes(bad(leaf), index, size, &path, &root));
            prop_assert!(!includes(leaf, index, size, &path, &bad(root)));
            prop_assert!(!includes(leaf, index ^ (1 << (bit % 9)), size, &path, &root));
            prop_assert!(!includes(leaf, index, index, &path, &root));
            let mut longer = path.clone();
            longer.push(root);
            prop_assert!(!includes(leaf, index, size, &longer, &root));
            if !path.is_empty() {
                let mut other = path.clone();
                flip(&mut other[which.index(path.len())], bit);
                prop_assert!(!includes(leaf, index, size, &other, &root));
                prop_assert!(!includes(leaf, index, size, &path[1..], &root));
            }
            let Ok(path) = prover.consistency(size, newer);
            prop_assert!(extends((size, &root), (newer, &new_root), &path));
            prop_assert!(!extends((size, &bad(root)), (newer, &new_root), &path));
            prop_assert!(!extends((size, &root), (newer, &bad(new_root)), &path));
            if !path.is_empty() {
                let mut other = path.clone();
                flip(&mut other[which.index(path.len())], bit);
                prop_assert!(!extends((size, &root), (newer, &new_root), &other));
                prop_assert!(!extends((newer, &new_root), (size, &root), &path));
                prop_assert!(!extends((size, &root), (newer, &new_root), &path[..path.len() - 1]));
            }
        }
    }
}
