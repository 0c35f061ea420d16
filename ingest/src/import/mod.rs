//! Importers: signals from files and repositories on this machine, channel `import`.
//!
//! Invariants: an importer hands over bounded batches and goes on when a batch is durable (I1, I9); it makes the same
//! signals from the same input, so that an interrupted import can be started again (I2); input that cannot be read is
//! counted and listed with its place (I10). Importers know nothing of the log: they are given a sink.

mod deliveries;
mod repository;

use std::{
    io,
    path::{Path, PathBuf},
};

use flowsync_schemas::Micros;

pub use self::{deliveries::deliveries, repository::repository};
use crate::connectors::{self, Verified};

/// Takes a batch; it is durable when this returns.
pub type Sink<'a> = dyn FnMut(Vec<Verified>) -> Result<(), SinkError> + 'a;

/// Why a batch could not be made durable.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Handed over so far.
    pub done: u64,
    /// All there is, where that is known beforehand.
    pub total: Option<u64>,
    /// What is counted: `commits` or `deliveries`.
    pub unit: &'static str,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Commits or deliveries that were found.
    pub read: u64,
    /// Signals that were handed over. The log may have known some of them.
    pub signals: u64,
    /// Commits that an earlier import stated.
    pub unchanged: u64,
    /// Commits that are taken back.
    pub gone: u64,
    /// Branches and tags that appeared, moved or vanished.
    pub refs: u64,
    /// Commits without changed lines: a shallow clone does not have their parents.
    pub partial: u64,
    /// What could not be read. Not zero means: not everything is imported.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<Problem>,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File or repository.
    pub path: PathBuf,
    /// Line, from 1, in a file of lines.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))?;
        write!(f, ": {}", self.reason)
    }
}

impl Summary {
    /// Problems that are listed; more are counted.
    pub const PROBLEMS_MAX: usize = 10;

    fn problem(&mut self, path: &Path, line: Option<u64>, reason: String) {
        self.problem_count += 1;
        if self.problems.len() < Self::PROBLEMS_MAX {
            self.problems.push(Problem { path: path.to_owned(), line, reason });
        }
    }

    /// Adds what another import did.
    pub fn add(&mut self, other: Summary) {
        self.read += other.read;
        self.signals += other.signals;
        self.unchanged += other.unchanged;
        self.gone += other.gone;
        self.refs += other.refs;
        self.partial += other.partial;
        self.problem_count += other.problem_count;
        let room = Self::PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }
}

/// An import that cannot go on. What was handed over before stays, and a second import does not repeat it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// No such connector.
    #[error("there is no connector named {0:?}: `flowsync connectors` lists them")]
    NoConnector(String),
    /// There is no git repository.
    #[error("{path}: no git repository can be opened here: {reason}")]
    Open {
        /// Where it was looked for.
        path: PathBuf,
        /// What git says.
        reason: flowsync_schemas::Text,
    },
    /// What was imported before cannot be read or written.
    #[error(
        "{path}: the state of earlier imports: {source}. Without this file everything is imported again, which is safe but slow"
    )]
    State {
        /// The state file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Two repositories have one name.
    #[error(
        "{path} and {other} are both named {name:?} but share no commit: give one of them its own `remote.origin.url`"
    )]
    SameName {
        /// The name.
        name: String,
        /// The repository to import.
        path: PathBuf,
        /// The repository that was imported under this name.
        other: PathBuf,
    },
    /// A file of deliveries cannot be read.
    #[error("{path}: after line {line}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Lines that were read before.
        line: u64,
        /// The cause.
        source: io::Error,
    },
    /// A signal cannot be written as JSON.
    #[error("a signal cannot be written: {0}")]
    Write(serde_json::Error),
    /// The log did not take a batch.
    #[error("the log did not take a batch: {0}")]
    Sink(SinkError),
}

/// Imports into the connector named `connector`: repositories for `git`, files of recorded deliveries for all others.
///
/// `data_dir` is the data directory; what repositories were imported is remembered in it. `now` is our clock.
///
/// # Errors
/// See [`ImportError`]. Single lines, commits and refs that cannot be read are problems in the summary.
pub fn import(
    connector: &str,
    path: &Path,
    data_dir: &Path,
    now: Micros,
    progress: &mut dyn FnMut(Progress),
    sink: &mut Sink<'_>,
) -> Result<Summary, ImportError> {
    let known = connectors::by_name(connector).ok_or_else(|| ImportError::NoConnector(connector.to_owned()))?;
    if connector == connectors::git::SPEC.name {
        repository(path, &data_dir.join("git"), now, progress, sink)
    } else {
        deliveries(known, path, now, progress, sink)
    }
}
