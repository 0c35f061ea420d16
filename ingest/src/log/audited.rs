//! What an audit reads of a log: one partition as it lies at one moment, its records and the hashes kept beside them.
//!
//! Nothing is checked or repaired here: gaps, records without hashes and hashes without records are shown as they are.

use flowsync_schemas::SignalId;

use super::{
    LogError, corrupt,
    tree::{Edge, Prover, TreeHash, completed_by},
};

/// Entries by offset, in order.
pub type Entries<T> = Box<dyn Iterator<Item = Result<(u64, T), LogError>>>;

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
