//! What an audit says of a log, for people and as JSON.

use std::fmt;

use flowsync_schemas::SignalId;
use serde::{Deserialize, Serialize};

/// What was found of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Records that were looked at and found to be as they were.
    pub size: u64,
    /// Root of the tree over them, in base64.
    pub root: String,
    /// Checkpoints that agree.
    pub checkpoints: u64,
    /// Of these, the ones that were kept elsewhere.
    pub checkpoints_given: u64,
    /// Records that the newest of them covers.
    pub signed: u64,
    /// Of the records that were looked at, those that were withdrawn: their keys are destroyed.
    #[serde(default)]
    pub withdrawn: u64,
    /// Of these, those whose bytes are gone: their stored hashes stand for them.
    #[serde(default)]
    pub withdrawn_gone: u64,
    /// The first signal that is not as it was.
    pub finding: Option<Finding>,
    /// What else keeps the log from being good.
    pub doubts: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.finding.is_none() && self.doubts.is_empty()
    }
}

/// The first signal that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its partition.
    pub partition: u32,
    /// Its offset; where only a range is known, the first one.
    pub offset: u64,
    /// The end of that range; `offset + 1` where the signal is known exactly.
    pub until: u64,
    /// The signal that belongs there, by the index of ids; none where only a range is known.
    pub signal: Option<SignalId>,
    /// What is wrong.
    pub verdict: Verdict,
    /// What says so.
    pub evidence: String,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is no record.
    Removed,
    /// Its bytes are not those that were taken in.
    Altered,
    /// The record of another offset lies there: it was reordered, or what was before it removed.
    Reordered {
        /// The offset where that record belongs.
        belongs_at: u64,
    },
    /// Its bytes cannot be read.
    Unreadable,
    /// It was added without being appended.
    Added,
    /// Altered, removed or reordered: one of the range, together with the stored hashes.
    Rewritten,
    /// The stored hashes are not as they were; of the signals, the evidence tells.
    Hashes,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, offset, until, signal, verdict, evidence } = self;
        write!(f, "partition {partition} offset {offset}")?;
        if until - offset > 1 {
            write!(f, " to {}", until - 1)?;
        }
        if let Some(signal) = signal {
            write!(f, ", signal {signal}")?;
        }
        match verdict {
            Verdict::Removed => write!(f, ": removed")?,
            Verdict::Altered => write!(f, ": altered")?,
            Verdict::Reordered { belongs_at } => {
                write!(f, ": reordered or removed; the signal of offset {belongs_at} lies there")?;
            }
            Verdict::Unreadable => write!(f, ": cannot be read")?,
            Verdict::Added => write!(f, ": added, and not by appending")?,
            Verdict::Rewritten => {
                write!(
                    f,
                    ": the first altered, removed or reordered signal is among these, with its hashes recomputed"
                )?;
            }
            Verdict::Hashes => write!(f, ": the stored hashes are not those that were computed")?,
        }
        write!(f, " ({evidence})")
    }
}
