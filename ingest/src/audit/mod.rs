//! The audit of the log: that what it holds is what it took in, in that order, and nothing less.
//!
//! ```text
//! log: records ─► tree (log/tree.rs) ─► root ─► signed checkpoint ─► DIR/audit/checkpoints, and elsewhere
//!         │                                            │
//!         └────── verify: every record, every hash, every checkpoint ┘        prove: one record, to another machine
//! ```
//!
//! What each part is worth against somebody who can write to the data directory:
//! - the **stored hashes** tell an altered record exactly, until they are recomputed too;
//! - the **signed checkpoints** tell that, unless who altered it has the signing key; then of a range, between one
//!   checkpoint and the next;
//! - a **checkpoint kept elsewhere** tells everything that was altered before it was signed, key or no key.
//!
//! What is not told: a signal that was altered before a checkpoint covered it (some seconds), and by whom.
//!
//! A proof of a sealed record discloses its key, and no other; of a withdrawn one it proves that the record was there, and not
//! what it said.
//!
//! Nothing here knows connectors or facts: a record is bytes.

mod checkpoint;
mod http;
mod keeper;
mod note;
mod proof;
mod report;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use checkpoint::{Checkpoint, Checkpoints, Notes, newest};
pub use http::{VerifyRequest, audit_routes};
pub use keeper::{Keeper, SIGN_EVERY};
pub use note::{NoteError, PublicKey, SigningKey};
pub use proof::{Checked, Content, Extension, Inclusion, Subject, check, extend, prove};
pub use report::{Finding, Report, Verdict};
pub use verify::{Given, Signed, verify};

use crate::log::LogError;

/// Why something could not be audited, signed or proven.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The newest kept checkpoint is not this log's.
    #[error(
        "the newest checkpoint in {} is not this log's: {source}. Nothing is signed until that is settled; `flowsync \
         audit verify` tells more",
        path.display()
    )]
    Kept {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: NoteError,
    },
    /// The log is not the one that was signed.
    #[error(
        "the log of {size} signals does not begin with the {signed} that were signed: they were altered, removed or \
         reordered. Nothing is signed until that is settled; `flowsync audit verify` names the first"
    )]
    Rewritten {
        /// Leaves of the log.
        size: u64,
        /// Leaves of the newest checkpoint.
        signed: u64,
    },
    /// A checkpoint that was handed in is none, or not of this log.
    #[error("the checkpoint cannot be used: {0}")]
    Note(#[from] NoteError),
    /// There is nothing signed yet.
    #[error("nothing is signed yet: the log has no signals, or was never opened for writing by this version")]
    Unsigned,
    /// What is to be proven is not there.
    #[error("there is no {0} in the log")]
    Unknown(Subject),
    /// What is to be proven is newer than the newest checkpoint.
    #[error("offset {offset} is not signed yet, {size} signals are: ask again in a moment")]
    NotSigned {
        /// Of the record.
        offset: u64,
        /// Of the checkpoint.
        size: u64,
    },
    /// What is there cannot be proven.
    #[error("{subject} is not what was signed: `flowsync audit verify` tells what is wrong")]
    Unprovable {
        /// What was to be proven.
        subject: String,
    },
    /// A proof that proves nothing.
    #[error("the proof does not hold: {0}")]
    Disproved(String),
}

impl AuditError {
    /// Whether the same call can succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            AuditError::Log(error) => error.is_retryable(),
            AuditError::NotSigned { .. } | AuditError::Unsigned => true,
            _ => false,
        }
    }

    /// Whether it is about something that is not there.
    pub fn is_unknown(&self) -> bool {
        matches!(self, AuditError::Unknown(_))
    }

    /// Whether what the caller handed in is wrong.
    pub fn is_bad_input(&self) -> bool {
        matches!(self, AuditError::Note(_))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> AuditError + use<> {
    let path = path.to_owned();
    move |source| AuditError::Io { path: path.clone(), source }
}
