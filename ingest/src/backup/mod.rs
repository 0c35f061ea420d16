//! Backups: all of a data directory that cannot be computed anew, in one stream, and a directory that is built from one.
//!
//! ```text
//! "flowsync backup 1\n", then frames:   kind (1) ‖ length (4) ‖ content ‖ SHA-256 (32) over the frame and the hash before it
//!   S  name         a section begins
//!   D  content      of the section
//!   E  totals       the end
//! sections, in this order:  settings.json, model.toml, git/…, audit/checkpoints
//!                           log/withdrawals, log/records, log/ids              the log at one moment
//!                           facts                                              once deliveries were let go: see `facts.rs`
//!                           vault/names.ndjson, privacy/receipt-…
//! ```
//!
//! The order is what makes it one moment while signals come in: what the importer remembers and what was signed are older than the
//! log, so that nothing is remembered or signed that the log does not have; names are newer, so that none is missing; so are facts,
//! because the tables cover every delivery that was let go.
//!
//! Facts are those of all signals of the log: which deliveries are let go from then on until the backup is restored, nobody knows yet.
//! Of them a restore keeps what cannot be computed from the records.
//!
//! Invariants: the keys are not in it, so that destroying one still destroys what it sealed; what is sealed on the disk is sealed in
//! it, and records that an older build left plain are, too; every frame is checked before anything is made of it; a directory is
//! either restored as a whole or marked, and a marked one is opened by nobody; memory does not grow with the log (I9).
//!
//! The hashes tell damage, not forgery: that the records are what was taken in, the signed checkpoints tell.

mod http;
mod restore;
mod stream;
#[cfg(test)]
mod tests;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
};

use flowsync_schemas::Row;
pub use http::backup_routes;
pub use restore::{check, restore};
use serde::{Deserialize, Serialize};
pub use write::write;

use crate::{audit::AuditError, datadir::DataDirError, facts::FactsError, log::LogError, seal::SealError};

const WITHDRAWALS: &str = "log/withdrawals";
const RECORDS: &str = "log/records";
const IDS: &str = "log/ids";
const FACTS: &str = "facts";
const NAMES: &str = "vault/names.ndjson";
const CHECKPOINTS: &str = "audit/checkpoints";

/// What a backup holds, or what was restored of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Signals of the log.
    pub signals: u64,
    /// Lines of the vault.
    pub names: u64,
    /// Pieces of facts.
    pub facts: u64,
    /// Files beside them.
    pub files: u64,
    /// Length of the backup.
    pub bytes: u64,
    /// How many signals the newest checkpoint in it covers; none where nothing was signed.
    pub signed: Option<u64>,
    /// Restored: signals of which only the id is left, because their keys were destroyed since.
    pub erased_since: u64,
    /// Restored: places behind the backup's end that say nothing, because keys of later signals are destroyed.
    pub filled: u64,
    /// Restored: lines of the vault that were left out, because their keys are destroyed.
    pub names_erased: u64,
    /// Restored: pieces of facts that were left out, because their keys are destroyed.
    pub facts_erased: u64,
    /// Restored: root of the tree over all signals, in base64.
    pub root: Option<String>,
}

/// The tables of facts, as a backup takes them.
pub trait Tables: Send + Sync {
    /// Hands over every row of every table as of one commit, some at a time: name of the table, names of its columns, rows, those of
    /// a signal one behind the other.
    ///
    /// # Errors
    /// Where they cannot be read, or `give` fails.
    fn each(&self, give: &mut Give<'_>) -> Result<(), BackupError>;
}

/// Takes rows of a table.
pub type Give<'a> = dyn FnMut(&str, &[String], &[Row]) -> Result<(), BackupError> + 'a;

/// Why a backup cannot be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The tables of facts cannot be read.
    #[error("the tables of facts: {0}")]
    Tables(Box<dyn std::error::Error + Send + Sync>),
    /// Facts cannot be kept.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] SealError),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// What was signed cannot be read, or another key signed it.
    #[error("what was signed of the log: {0}")]
    Audit(#[from] AuditError),
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The backup cannot be written on.
    #[error("the backup cannot be written: {0}")]
    Written(io::Error),
    /// The backup cannot be read on.
    #[error("the backup cannot be read: {0}")]
    Read(io::Error),
    /// It is something else.
    #[error("this is no backup of FlowSync: it begins with something else")]
    NoBackup,
    /// A newer build made it.
    #[error("the backup has format {found:?}, this build reads 1: use the newer build")]
    Newer {
        /// Its format.
        found: String,
    },
    /// It ends too early.
    #[error("the backup ends within {section}: it was not copied or written to its end. Use another one")]
    Truncated {
        /// Where it ends.
        section: String,
    },
    /// It is not what was written.
    #[error("the backup is damaged in {section}: {detail}. Use another one")]
    Damaged {
        /// Where.
        section: String,
        /// What was found.
        detail: String,
    },
    /// There is something already.
    #[error("{} holds {holds}: a backup is restored to a directory without data", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is there.
        holds: String,
    },
    /// Somebody else restores to the same directory.
    #[error("another process is restoring to {}", path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// A key is not there.
    #[error("there is no {name} in {}: give the folder `keys` that belongs to the backup; without it nothing in it can be read", path.display())]
    NoKey {
        /// The folder.
        path: PathBuf,
        /// The missing file.
        name: &'static str,
    },
    /// Names that anybody could read.
    #[error("{} has names that are not sealed yet: open it once with `flowsync run`, then make the backup", path.display())]
    PlainNames {
        /// The vault's file.
        path: PathBuf,
    },
    /// The log is another than the signed one.
    #[error("the first {size} signals of the backup are not those that were signed: it was altered. Use another one")]
    Altered {
        /// How many were signed.
        size: u64,
    },
}

impl BackupError {
    /// Whether the backup itself is to blame.
    pub fn is_bad_backup(&self) -> bool {
        matches!(
            self,
            BackupError::NoBackup
                | BackupError::Truncated { .. }
                | BackupError::Damaged { .. }
                | BackupError::Altered { .. }
        )
    }

    /// Whether the directory has data already.
    pub fn is_not_empty(&self) -> bool {
        matches!(self, BackupError::NotEmpty { .. })
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Io { path: path.clone(), source }
}

/// Whether a section is a file that is copied as it is.
fn is_file(name: &str) -> bool {
    let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    match name.split_once('/') {
        None => ["settings.json", "model.toml"].contains(&name),
        Some(("git", file)) => plain(file) && file.ends_with(".json"),
        Some(("privacy", file)) => plain(file) && file.starts_with("receipt-"),
        Some(_) => name == CHECKPOINTS,
    }
}
