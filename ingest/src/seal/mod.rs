//! Sealing: what the data directory keeps of people is encrypted, and every piece has a key of its own that can be
//! destroyed.
//!
//! ```text
//! master key ──seals──► keys/ring: a tree of seeds for each purpose (seal/tree.rs)
//!                         └► key of record 487 ──seals──► record 487       destroyed alone, or as one of a range
//! ```
//!
//! Invariants: a destroyed key cannot be derived from anything that the ring holds, and every other key is unchanged; the
//! ring on the disk is the one before a change or the one after it, whatever crashes; a sealed text opens with one key to
//! one text only, so that a key that is disclosed proves what was sealed. Nothing here knows signals or names.
//!
//! What destroying a key is worth hangs on the copies of the ring: it must be in no backup, or in one that is short-lived.

mod envelope;
mod file;
mod master;
mod ring;
mod tree;

use std::{io, path::PathBuf};

pub(crate) use envelope::{Broken, HEAD, NONCE_BYTES, TAIL, nonce, open, seal_in_place};
pub use file::{Keys, Walk};
pub use master::MasterKey;
pub(crate) use master::Source;
pub use ring::Purpose;
pub use tree::Secret;

/// Why keys cannot be read, used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no ring yet.
    #[error("there are no keys in {}: the next `flowsync run` or `flowsync import` makes them", path.display())]
    Missing {
        /// The ring's file.
        path: PathBuf,
    },
    /// The ring was sealed by another master key.
    #[error(
        "{} is sealed under another master key than {master}: give the right one; without it nothing that is sealed can \
         be read",
        path.display()
    )]
    OtherMaster {
        /// The ring's file.
        path: PathBuf,
        /// Where the key that was tried comes from.
        master: String,
    },
    /// The ring's file is damaged.
    #[error("{} is damaged: {detail}. Restore this file; without it nothing that is sealed can be read", path.display())]
    Damaged {
        /// The ring's file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer build wrote the ring.
    #[error("{} has format {found}, this build reads up to {known}: use the newer build", path.display())]
    Newer {
        /// The ring's file.
        path: PathBuf,
        /// Its format.
        found: u8,
        /// The newest that this build reads.
        known: u8,
    },
    /// No usable master key.
    #[error("the master key {from} cannot be used: {detail}")]
    Master {
        /// Where it comes from.
        from: String,
        /// What is wrong.
        detail: String,
    },
    /// Too many separate keys were destroyed.
    #[error("the ring would hold {seeds} seeds, and at most {seeds_max}: destroy ranges rather than single keys")]
    Full {
        /// How many it would hold.
        seeds: usize,
        /// The limit.
        seeds_max: usize,
    },
    /// The key is no more.
    #[error("the key {index} of the {purpose} is destroyed")]
    Destroyed {
        /// What it sealed.
        purpose: Purpose,
        /// Its number.
        index: u64,
    },
    /// Who only reads changes nothing.
    #[error("{} is open for reading only", path.display())]
    ReadOnly {
        /// The ring's file.
        path: PathBuf,
    },
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl SealError {
    /// Whether another master key is needed.
    pub fn is_other_master(&self) -> bool {
        matches!(self, SealError::OtherMaster { .. })
    }

    /// Whether the ring's file is damaged.
    pub fn is_damaged(&self) -> bool {
        matches!(self, SealError::Damaged { .. })
    }

    /// Whether a key was asked for that is destroyed.
    pub fn is_destroyed(&self) -> bool {
        matches!(self, SealError::Destroyed { .. })
    }

    /// Whether the same call can succeed later: when there is space again.
    pub fn is_retryable(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, SealError::Io { source, .. } if full(source.kind()))
    }
}

/// The system gives no randomness.
pub(crate) fn no_randomness(error: getrandom::Error) -> SealError {
    SealError::Io { path: "the system's randomness".into(), source: io::Error::other(error.to_string()) }
}

fn failed(path: &std::path::Path) -> impl Fn(io::Error) -> SealError + use<> {
    let path = path.to_owned();
    move |source| SealError::Io { path: path.clone(), source }
}
