//! What an audit reads of a log: one partition as it lies at one moment, its records and the hashes kept beside them.
//!
//! Nothing is checked or repaired here: gaps, records without hashes and hashes without records are shown as they are.

use std::iter::{self, Peekable};

use flowsync_schemas::{Signal, SignalId};

use super::{
    LogError, corrupt, sealed,
    tree::{Edge, Prover, TreeHash, completed_by},
};
use crate::seal::Secret;

/// Entries by offset, in order.
pub type Entries<T> = Box<dyn Iterator<Item = Result<(u64, T), LogError>>>;

/// The entry at an offset, where the next one is it.
pub(crate) fn take<T>(
    entries: &mut Peekable<impl Iterator<Item = Result<(u64, T), LogError>>>,
    offset: u64,
) -> Result<Option<T>, LogError> {
    match entries.next_if(|entry| entry.as_ref().map_or(true, |(at, _)| *at == offset)) {
        Some(Ok((_, entry))) => Ok(Some(entry)),
        Some(Err(error)) => Err(error),
        None => Ok(None),
    }
}

/// What lies at an offset.
pub(crate) struct Stored {
    /// The hash of the record.
    pub leaf: TreeHash,
    /// The record; none where it was withdrawn and is gone.
    pub record: Option<Vec<u8>>,
}

/// One partition of a log that keeps a Merkle tree over its records (see [`crate::log::tree`]); appends that come later
/// are not seen.
pub trait Audited: Send {
    /// The records as stored, from an offset on. One that cannot be read is an error, and ends them.
    fn records(&self, from: u64) -> Entries<Vec<u8>>;

    /// The stored hashes from an offset on: the leaf's, and those of the nodes that it completed.
    fn hashes(&self, from: u64) -> Entries<Vec<TreeHash>>;

    /// The record at an offset, as stored.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn record(&self, offset: u64) -> Result<Option<Vec<u8>>, LogError>;

    /// The key of the record at an offset; none where it is destroyed.
    ///
    /// # Errors
    /// Where there are no keys.
    fn key(&self, offset: u64) -> Result<Option<Secret>, LogError>;

    /// Whether the record at an offset was withdrawn: the ring says that its key is destroyed.
    fn is_withdrawn(&self, offset: u64) -> bool;

    /// The stored hashes at an offset.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn hashes_at(&self, offset: u64) -> Result<Option<Vec<TreeHash>>, LogError>;

    /// Number of leaves of the stored tree.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn leaves(&self) -> Result<u64, LogError>;

    /// Where the index of ids says that a signal is.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn offset_of(&self, id: SignalId) -> Result<Option<u64>, LogError>;

    /// The signal that is at an offset by the index of ids; reads the whole index.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn indexed_at(&self, offset: u64) -> Result<Option<SignalId>, LogError>;
}

impl dyn Audited + '_ {
    fn node(&self, level: u32, index: u64) -> Result<TreeHash, LogError> {
        let offset = completed_by(level, index);
        let kept = self.hashes_at(offset)?.unwrap_or_default();
        let missing = || corrupt(offset, format!("no hash is kept of the {} records that end there", 1u64 << level));
        kept.get(level as usize).copied().ok_or_else(missing)
    }

    /// The records from an offset on. Where one was withdrawn and is gone, its stored hash stands for it; what is missing
    /// otherwise is left out.
    pub(crate) fn stored(&self, from: u64) -> impl Iterator<Item = Result<(u64, Stored), LogError>> + '_ {
        let mut records = self.records(from).peekable();
        let mut next = from;
        let mut stored = move || {
            let found = match take(&mut records, next)? {
                Some(record) => Stored { leaf: TreeHash::leaf(&record), record: Some(record) },
                None => {
                    let gone = if self.is_withdrawn(next) { self.hashes_at(next)? } else { None };
                    match gone.and_then(|hashes| hashes.first().copied()) {
                        Some(leaf) => Stored { leaf, record: None },
                        None => {
                            let Some((offset, record)) = records.next().transpose()? else { return Ok(None) };
                            next = offset;
                            Stored { leaf: TreeHash::leaf(&record), record: Some(record) }
                        }
                    }
                }
            };
            next += 1;
            Ok(Some((next - 1, found)))
        };
        iter::from_fn(move || stored().transpose())
    }

    /// The signal of a record that lies at an offset; none where it cannot be read there, or its key is destroyed.
    pub(crate) fn opened(&self, offset: u64, record: &[u8]) -> Option<Signal> {
        sealed::open(record, offset, &self.key(offset).ok()??).ok()
    }

    /// The right edge of the stored tree when it had `size` leaves, by the stored hashes alone.
    ///
    /// # Errors
    /// Where a hash is missing or cannot be read.
    pub fn edge(&self, size: u64) -> Result<Edge, LogError> {
        Edge::read(size, |level, index| self.node(level, index))
    }

    /// Makes proofs from the stored hashes.
    pub fn prover(&self) -> Prover<impl FnMut(u32, u64) -> Result<TreeHash, LogError> + '_> {
        Prover::new(|level, index| self.node(level, index))
    }
}
