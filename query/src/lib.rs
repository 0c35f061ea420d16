//! The query side: SQL over the newest, or a named, epoch, and everything that is built on that SQL.
//!
//! An [`Engine`] reads a data directory: manifests say which Delta version of which table makes up an epoch, and inside
//! the running process an [`Overlay`] lays the closed epochs that no commit covers yet over those tables. A [`Snapshot`]
//! pins one epoch, and every statement of it sees that epoch alone (I4).
//!
//! Architecture invariant: this crate knows no log, connector, dataflow or sink. It never writes to the data directory.

pub mod catalogue;
mod columns;
mod delta;
pub mod digest;
mod engine;
mod error;
pub mod feed;
#[cfg(test)]
mod fixtures;
pub mod format;
mod http;
mod index;
mod intact;
mod manifest;
mod metrics;
pub mod openapi;
mod overlay;
pub mod reports;
mod row;
mod server;
mod session;
mod statement;
mod tables;
#[cfg(test)]
mod tests;
pub mod why;

pub use engine::{AsOf, Engine, EngineOptions};
pub use error::QueryError;
pub use metrics::Metrics;
pub use overlay::Overlay;
pub use row::{Param, SqlRow};
pub use server::{Health, ServerState, router};
pub use session::{QueryResult, Snapshot};
pub use why::{SignalReader, Why};
