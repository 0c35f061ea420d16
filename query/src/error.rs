//! What can go wrong between a question and its answer.
//!
//! Keeps I9: every limit is named by the error that it causes, with its value and the way around it.

use flowsync_schemas::Epoch;

/// A query, a data directory or an answer that failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The SQL text, a parameter or a name in the request is wrong.
    #[error("{0}")]
    User(String),
    /// A limit was reached.
    #[error("limit {name} reached: {detail}")]
    Limit {
        /// Name of the limit, as in [`crate::EngineOptions`].
        name: &'static str,
        /// Its value and what to do.
        detail: String,
    },
    /// The epoch, view or row does not exist (any more).
    #[error("{0}")]
    NotFound(String),
    /// The data directory does not hold what its manifest says, or what this build can read.
    #[error("{0}")]
    Data(String),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The query engine failed on a valid query.
    #[error("query failed: {0}")]
    Internal(String),
}

impl QueryError {
    /// Whether the request must change for it to succeed (HTTP 400).
    pub fn is_user_error(&self) -> bool {
        matches!(self, QueryError::User(_))
    }

    /// Whether a limit was reached (HTTP 422; 503 where [`QueryError::is_retryable`]).
    pub fn is_limit(&self) -> bool {
        matches!(self, QueryError::Limit { .. })
    }

    /// Whether the same request may succeed a little later (HTTP 503): too many others are being answered.
    pub fn is_retryable(&self) -> bool {
        matches!(self, QueryError::Limit { name: "queue_max" | "queries_max", .. })
    }

    /// Whether what was asked for does not exist (HTTP 404).
    pub fn is_not_found(&self) -> bool {
        matches!(self, QueryError::NotFound(_))
    }

    /// Short, stable word for programs: the `code` of an HTTP error.
    pub fn code(&self) -> &'static str {
        match self {
            QueryError::User(_) => "bad_request",
            QueryError::Limit { .. } => "limit",
            QueryError::NotFound(_) => "not_found",
            QueryError::Data(_) => "data",
            QueryError::Io { .. } => "io",
            QueryError::Internal(_) => "internal",
        }
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> QueryError {
        let path = path.display().to_string();
        move |source| QueryError::Io { path, source }
    }

    pub(crate) fn no_epoch(epoch: Epoch, kept: &[Epoch]) -> QueryError {
        let below = kept.iter().rev().find(|e| **e < epoch);
        let above = kept.iter().find(|e| **e > epoch);
        let nearest = match (below, above) {
            (Some(b), Some(a)) => format!("the nearest kept ones are {b} and {a}"),
            (Some(e), None) | (None, Some(e)) => format!("the nearest kept one is {e}"),
            (None, None) => "nothing is committed yet".to_owned(),
        };
        QueryError::NotFound(format!("epoch {epoch} is not kept: {nearest}"))
    }
}
