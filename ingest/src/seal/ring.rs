//! The ring: one tree of keys for each purpose, and its form in the file.
//!
//! ```text
//! format (1) ‖ sealed under the master key: generation (8), purposes (1), for each its tree ‖ SHA-256 of all before it
//! ```
//!
//! The hash tells damage from a wrong master key; that nobody changed it, the seal tells.

use std::{fmt, ops::Range};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    MasterKey, Secret,
    envelope::{Broken, HEAD, TAIL, nonce, open, seal_in_place},
    tree::Tree,
};

/// The format that this build writes, and the newest that it reads.
pub(super) const FORMAT: u8 = 1;

const CONTEXT: &[u8] = b"flowsync ring 1";
const HASH_BYTES: usize = 32;

/// Seeds of all trees together: 41 MiB. Trimming costs 64, a single key far from others about 20 in a log of a million.
pub(super) const SEEDS_MAX: usize = 1 << 20;

/// What a key seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Records of the log, by offset.
    Records,
    /// What stands for withdrawn records, by number of the replacement.
    Replacements,
    /// Lines of the identity vault, by number.
    Names,
    /// Rows of facts in backups, by the number of the signal's key (facts.rs).
    Backups,
    /// Whom an erasure is of, by its number.
    Erasures,
}

impl Purpose {
    /// Every purpose, in the order of the file.
    pub const ALL: [Purpose; 5] =
        [Purpose::Records, Purpose::Replacements, Purpose::Names, Purpose::Backups, Purpose::Erasures];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Purpose::Records => "records",
            Purpose::Replacements => "replacements",
            Purpose::Names => "names",
            Purpose::Backups => "backups",
            Purpose::Erasures => "erasures",
        }
    }

    /// What a text is sealed together with, so that it opens nowhere else.
    pub(crate) fn context(self, index: u64) -> Vec<u8> {
        [b"flowsync ", self.word().as_bytes(), b" ", &index.to_be_bytes()].concat()
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is wrong with a file.
#[derive(Debug)]
pub(super) enum Unread {
    OtherMaster,
    Newer(u8),
    Damaged(&'static str),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ring {
    /// Grows with each change.
    pub generation: u64,
    /// One a purpose.
    trees: Vec<Tree>,
}

impl Ring {
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut seeds = Vec::with_capacity(Purpose::ALL.len());
        for _ in Purpose::ALL {
            seeds.push(Tree::new(Secret::random()?));
        }
        Ok(Self { generation: 1, trees: seeds })
    }

    /// The same one always, for tests.
    #[cfg(test)]
    pub fn fixed() -> Self {
        Self { generation: 1, trees: (1..=5).map(|n| Tree::new(Secret::new([n; 32]))).collect() }
    }

    pub fn tree(&self, purpose: Purpose) -> &Tree {
        &self.trees[purpose as usize]
    }

    pub fn puncture(&mut self, purpose: Purpose, ranges: &[Range<u64>]) {
        self.trees[purpose as usize].puncture(ranges);
    }

    pub fn seeds(&self) -> usize {
        self.trees.iter().map(Tree::seeds).sum()
    }

    pub fn seal(&self, master: &MasterKey) -> Result<Vec<u8>, getrandom::Error> {
        let length: usize = self.trees.iter().map(Tree::written_bytes).sum();
        // Of the size it needs, so that no copy of the seeds is left behind; sealed where it stands.
        let mut out = Vec::with_capacity(1 + HEAD + 9 + length + TAIL + HASH_BYTES);
        out.push(FORMAT);
        out.resize(1 + HEAD, 0);
        out.extend(self.generation.to_be_bytes());
        out.push(self.trees.len() as u8);
        self.trees.iter().for_each(|tree| tree.write(&mut out));
        seal_in_place(master.secret(), CONTEXT, nonce()?, &mut out, 1);
        let hash = Sha256::digest(&out);
        out.extend(hash);
        Ok(out)
    }

    pub fn open(bytes: &[u8], master: &MasterKey) -> Result<Self, Unread> {
        let damaged = |what| move || Unread::Damaged(what);
        let (all, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or_else(damaged("it is too short"))?;
        if Sha256::digest(all)[..] != hash[..] {
            return Err(Unread::Damaged("its hash is another"));
        }
        let (&format, sealed) = all.split_first().ok_or_else(damaged("it is too short"))?;
        if format > FORMAT {
            return Err(Unread::Newer(format));
        }
        let opened = open(master.secret(), CONTEXT, sealed).map_err(|broken| match broken {
            Broken::OtherKey => Unread::OtherMaster,
            Broken::Damaged => Unread::Damaged("it is not what was sealed"),
        })?;
        let text = Zeroizing::new(opened);
        Self::read(&text).ok_or_else(damaged("what was sealed is no ring"))
    }

    fn read(mut text: &[u8]) -> Option<Self> {
        let generation = u64::from_be_bytes(*text.split_off(..8)?.as_array()?);
        let count = *text.split_off_first()?;
        let trees: Vec<Tree> = Purpose::ALL.iter().map(|_| Tree::read(&mut text)).collect::<Option<_>>()?;
        (usize::from(count) == trees.len() && text.is_empty()).then_some(Self { generation, trees })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_ring_survives_its_file_and_damage_is_told_from_another_master_key() {
        let (master, other) = (MasterKey::new([8; 32]), MasterKey::new([9; 32]));
        let mut ring = Ring::fixed();
        ring.puncture(Purpose::Names, &[3..9, 20..21]);
        let bytes = ring.seal(&master).unwrap();
        assert_eq!(Ring::open(&bytes, &master).unwrap(), ring);
        assert!(matches!(Ring::open(&bytes, &other), Err(Unread::OtherMaster)));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(matches!(Ring::open(&bad, &master), Err(Unread::Damaged(_))), "byte {at}");
            assert!(matches!(Ring::open(&bytes[..at], &master), Err(Unread::Damaged(_))), "cut at {at}");
        }
        let mut newer = bytes[..bytes.len() - HASH_BYTES].to_vec();
        newer[0] = FORMAT + 1;
        let hash = Sha256::digest(&newer);
        newer.extend(hash);
        assert!(matches!(Ring::open(&newer, &master), Err(Unread::Newer(2))));
    }

    #[test]
    fn purposes_have_keys_and_contexts_of_their_own() {
        for (at, purpose) in Purpose::ALL.into_iter().enumerate() {
            assert_eq!(purpose as usize, at);
            for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
                assert_ne!(purpose.context(1), other.context(1));
            }
        }
    }
}
