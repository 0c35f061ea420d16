//! The log: an ordered, partitioned, durable list of raw signals behind one trait.
//!
//! Invariants, held by the conformance suite over every transport:
//! - **I1** what `append` returned is durable: it survives `kill -9` and power loss, and is readable from then on.
//! - **I2** a signal id is in the log once: a redelivery gets the position of the first delivery.
//! - Offsets of a partition start at 0 and have no gaps; a position never changes its signal.
//! - **I9** reads are bounded by records and bytes, and always make progress.
//! - **I10** damage is an error that names partition and offset, never a panic and never a wrong signal.
//! - A signal that was withdrawn reads as what stands for it, at its position and under its id, whatever crashes; what it
//!   said can be read by nobody.
//! - A log that can be audited keeps a Merkle tree over its records, which is that of the records at every moment.
//!
//! A transport knows nothing of connectors or facts: it keeps bytes.

mod audited;
#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod copied;
mod embedded;
#[cfg(any(test, feature = "simulation"))]
pub mod power_loss;
mod reader;
#[cfg(not(fuzzing))]
pub(crate) mod record;
#[cfg(fuzzing)]
pub mod record;
pub(crate) mod sealed;
#[cfg(test)]
mod simulation;
pub(crate) mod store;
mod tail;
pub mod tree;
mod unfinished;
mod withdraw;

use std::{io, ops::Range, path::PathBuf, time::Duration};

pub use audited::{Audited, Entries};
pub(crate) use audited::{Stored, take};
pub use embedded::EmbeddedLog;
use flowsync_schemas::{LogPosition, Signal, SignalId};
pub use withdraw::Withdrawn;
#[cfg(test)]
pub(crate) use withdraw::tests as withdraw_tests;

use crate::seal::SealError;

/// Where a signal is, and whether it was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its position.
    pub position: LogPosition,
    /// Whether the log had it already: the same delivery came twice.
    pub duplicate: bool,
}

/// A log of signals. All methods may block; callers in async code hand over to a thread.
pub trait Log: Send + Sync {
    /// Appends the signals in order, all or none; durable when it returns (I1). One answer a signal, in order. A signal
    /// whose id the log has, or that is twice in `signals`, is not appended again (I2).
    ///
    /// # Errors
    /// None of the signals is acknowledged; see [`LogError::is_retryable`] for whether to try again.
    fn append(&self, signals: &[Signal]) -> Result<Vec<Appended>, LogError>;

    /// Signals of one partition from `from` on, in order: at most `records_max`, and at most `bytes_max` bytes as stored
    /// or as read, whichever is more, but at least one where there is one and `records_max` is not 0. Empty at the end.
    ///
    /// # Errors
    /// Where the partition does not exist or a record cannot be read.
    fn read(
        &self,
        from: LogPosition,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(LogPosition, Signal)>, LogError>;

    /// The signal at a position; none past the end.
    ///
    /// # Errors
    /// Where the partition does not exist or the record cannot be read.
    fn get(&self, at: LogPosition) -> Result<Option<Signal>, LogError>;

    /// Whether the log has a signal, also one that was withdrawn.
    ///
    /// # Errors
    /// Where the index of ids cannot be read.
    fn has(&self, id: SignalId) -> Result<bool, LogError>;

    /// The end of every partition: the offset of its next signal.
    ///
    /// # Errors
    /// Where the transport cannot be reached.
    fn ends(&self) -> Result<Vec<u64>, LogError>;

    /// Waits until some partition is longer than `ends` says: true as soon as one is, false after `timeout`.
    fn wait(&self, ends: &[u64], timeout: Duration) -> bool;

    /// Withdraws signals: each reads from now on as the signal beside it, which has the same id, or where there is none as its
    /// bare envelope (id, source, times and channel; verified by `withdrawn`). Nobody can read it any more, with whatever copy of
    /// the log. Durable when it returns. Again, it does nothing.
    ///
    /// # Errors
    /// Where one is not there or another signal is to stand for it: then nothing, or whole batches before it, are withdrawn.
    /// After any other failure a batch that had begun is finished by the next withdrawal, or when the log is opened.
    fn withdraw(&self, at: Vec<(LogPosition, Option<Signal>)>) -> Result<Withdrawn, LogError> {
        match at.first() {
            Some((at, _)) => Err(LogError::Withdrawal { at: *at, detail: "this log withdraws nothing".into() }),
            None => Ok(Withdrawn::default()),
        }
    }

    /// The offsets of a partition that are withdrawn, in order.
    ///
    /// # Errors
    /// Where the partition does not exist.
    fn withdrawn(&self, partition: u32) -> Result<Vec<Range<u64>>, LogError> {
        let _ = partition;
        Ok(Vec::new())
    }

    /// A partition as it lies now, for an audit; none where the transport keeps no hashes.
    fn audited(&self, partition: u32) -> Option<Box<dyn Audited>> {
        let _ = partition;
        None
    }
}

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Too little space: nothing is written, so that the store stays whole.
    #[error(
        "{path} has {free_bytes} bytes free and the log keeps {free_bytes_min} in reserve: free space or move the data \
         directory; nothing is accepted until then"
    )]
    Full {
        /// Folder of the log.
        path: PathBuf,
        /// Space left.
        free_bytes: u64,
        /// Space that must stay free.
        free_bytes_min: u64,
    },
    /// Another process has the log open.
    #[error("the log in {path} is open in another process: ask that process, or stop it")]
    Locked {
        /// Folder of the log.
        path: PathBuf,
    },
    /// A record, or what is around it, is damaged.
    #[error(
        "the log is damaged at partition {} offset {}: {detail}. Stop the process, restore the log's folder from a \
         backup, and have the senders redeliver what came later; views need no repair",
        at.partition, at.offset
    )]
    Corrupt {
        /// The record, or the first one that could not be reached.
        at: LogPosition,
        /// What was found.
        detail: String,
    },
    /// The log as a whole cannot be opened because its files do not fit together.
    #[error(
        "the log in {path} cannot be recovered: {detail}. Restore the folder from a backup, and have the senders \
         redeliver what came later; views need no repair"
    )]
    Unrecoverable {
        /// Folder of the log.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A record that a newer build wrote.
    #[error(
        "partition {} offset {} has record format {found}, this build reads up to {known}: use the newer build",
        at.partition, at.offset
    )]
    Newer {
        /// The record.
        at: LogPosition,
        /// Its format.
        found: u8,
        /// The newest format that this build reads.
        known: u8,
    },
    /// A signal larger than a record may be.
    #[error("signal {signal} is {bytes} bytes as stored; a record holds at most {bytes_max}")]
    TooLarge {
        /// Its id.
        signal: SignalId,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A signal that cannot be withdrawn as it was asked for.
    #[error("partition {} offset {} cannot be withdrawn: {detail}", at.partition, at.offset)]
    Withdrawal {
        /// Its place.
        at: LogPosition,
        /// Why.
        detail: String,
    },
    /// A partition that the log does not have.
    #[error("the log has {partitions} partitions and no partition {partition}")]
    Partition {
        /// The one asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// A write or fsync failed: nobody can say what of it is on the disk until the log is opened anew.
    #[error("the log in {path} stopped after a failed write ({detail}): restart the process, and check the disk")]
    Halted {
        /// Folder of the log.
        path: PathBuf,
        /// What failed.
        detail: String,
    },
    /// A key cannot be had: a record that nobody can seal is not taken in.
    #[error("the log's keys: {0}")]
    Keys(#[from] SealError),
    /// Any other failure of the file system.
    #[error("the log in {path}: {source}")]
    Io {
        /// Folder of the log.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl LogError {
    /// Whether the same call can succeed later in the same process.
    pub fn is_retryable(&self) -> bool {
        match self {
            LogError::Keys(error) => error.is_retryable(),
            _ => matches!(self, LogError::Full { .. } | LogError::Locked { .. }),
        }
    }

    /// Whether space ran out.
    pub fn is_full(&self) -> bool {
        matches!(self, LogError::Full { .. })
    }

    /// Whether stored bytes are damaged.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, LogError::Corrupt { .. } | LogError::Unrecoverable { .. })
    }

    /// The record that an error is about, where it is about one.
    pub fn at(&self) -> Option<LogPosition> {
        match self {
            LogError::Corrupt { at, .. } | LogError::Newer { at, .. } | LogError::Withdrawal { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// Whether the process must be restarted before the log takes anything again.
    pub fn is_halted(&self) -> bool {
        matches!(self, LogError::Halted { .. })
    }
}

fn corrupt(offset: u64, detail: impl Into<String>) -> LogError {
    LogError::Corrupt { at: LogPosition { partition: 0, offset }, detail: detail.into() }
}
