//! What can go wrong in a sink, and what the caller is to do about it: retry, rebuild, or halt.

use deltalake_core::DeltaTableError;
use flowsync_schemas::Epoch;

/// An error of the sink. [`SinkError::is_retryable`] and [`SinkError::calls_for_rebuild`] say what to do; an error that
/// is neither is irrecoverable without a person: halt with the message.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Another process (or another sink of this one) writes this data directory.
    #[error(
        "{path} is held by another writer ({holder}): one process writes a data directory; stop the other one first"
    )]
    Locked {
        /// The lock file.
        path: String,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// Somebody else committed to a table or wrote a manifest.
    #[error(
        "{what} was written by somebody else while this sink held the table: the tables belong to FlowSync alone; stop \
         the other writer and start again, its commits are then undone"
    )]
    OtherWriter {
        /// The table and version, or the manifest.
        what: String,
    },
    /// The interval does not continue the committed epoch.
    #[error("epochs [{lower}, {upper}) do not continue the committed epoch {committed}: nothing was written")]
    OutOfOrder {
        /// The committed epoch, or the end of the interval before.
        committed: Epoch,
        /// Lower bound handed in.
        lower: Epoch,
        /// Upper bound handed in.
        upper: Epoch,
    },
    /// The differences do not fit the rows of the table.
    #[error("table {table} has diverged from the dataflow at key ({key}): {reason}; rebuild the tables")]
    Diverged {
        /// The table.
        table: String,
        /// The key, as text.
        key: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// A row does not fit the columns of its table.
    #[error("table {table}, column {column}: {reason}")]
    Row {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What does not fit.
        reason: String,
    },
    /// A table's specification contradicts itself.
    #[error("specification of table {table}: {reason}")]
    Spec {
        /// The table.
        table: String,
        /// What is wrong.
        reason: String,
    },
    /// A table that the catalogue does not list.
    #[error("no table {0} in the catalogue of this sink")]
    UnknownTable(String),
    /// The tables were computed by another program, or with other base tables.
    #[error("the tables cannot be continued ({0}): compute everything anew from the log and hand it to `rebuild`")]
    NeedsRebuild(String),
    /// Views whose version changed hold nothing yet.
    #[error("the views {0} are new or have another version: hand every row of them to `reconcile` first")]
    NeedsReconcile(String),
    /// A data file, or the Delta log of a table, is missing, torn or altered.
    #[error(
        "{path}: {reason}; put the file back from a backup, or rebuild the tables (the log holds everything that they hold)"
    )]
    File {
        /// The file, or the folder of the log, below the data directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest cannot be read.
    #[error("{path}: {reason}; remove this file to fall back to the epoch before it")]
    Manifest {
        /// The file, below the data directory.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log of a Delta table cannot be read or written.
    #[error("Delta log of table {table}: {source}")]
    Delta {
        /// The table.
        table: String,
        /// The error of the Delta library.
        source: Box<DeltaTableError>,
    },
    /// Storage failed.
    #[error("{what}: {source}")]
    Storage {
        /// What was being done.
        what: String,
        /// The error of the object store.
        source: object_store::Error,
    },
    /// A worker thread ended early: it panicked, or the runtime shuts down.
    #[error("a worker thread of the sink ended early: {0}")]
    Worker(String),
}

/// Whether the storage may do tomorrow what it does not do today.
fn may_pass(error: &object_store::Error) -> bool {
    use object_store::Error::{InvalidPath, NotImplemented, PermissionDenied};
    !matches!(error, PermissionDenied { .. } | NotImplemented { .. } | InvalidPath { .. })
}

/// What storage said, at the bottom of an error.
pub(crate) fn storage_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a object_store::Error> {
    // These two do not give what they hold as their source.
    if let Some(delta_kernel::Error::ObjectStore(cause)) = error.downcast_ref() {
        return Some(cause);
    }
    if let Some(held) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return storage_cause(held);
    }
    error.downcast_ref().or_else(|| storage_cause(error.source()?))
}

impl SinkError {
    /// Whether the same call may succeed later: storage was full, slow or away, or the runtime shut down.
    pub fn is_retryable(&self) -> bool {
        match self {
            SinkError::Storage { source, .. } => may_pass(source),
            // The Delta library wraps what storage says in errors of its own, and of the libraries beneath it.
            SinkError::Delta { source, .. } => storage_cause(&**source).is_some_and(may_pass),
            SinkError::Worker(_) => true,
            _ => false,
        }
    }

    /// Whether the tables are to be computed anew and handed to [`Sink::rebuild`](crate::Sink::rebuild).
    pub fn calls_for_rebuild(&self) -> bool {
        matches!(self, SinkError::Diverged { .. } | SinkError::NeedsRebuild(_) | SinkError::File { .. })
    }

    pub(crate) fn storage(what: impl Into<String>) -> impl FnOnce(object_store::Error) -> SinkError {
        move |source| SinkError::Storage { what: what.into(), source }
    }

    pub(crate) fn delta(table: &str) -> impl FnOnce(DeltaTableError) -> SinkError + '_ {
        move |source| SinkError::Delta { table: table.to_owned(), source: Box::new(source) }
    }
}
