//! Sinks: every view, at one epoch, as plain Parquet in Delta Lake tables, exactly once (I2, I4, I6).
//!
//! One folder a table under `DIR/tables/`, one small document an epoch under `DIR/manifests/`. The manifest says which
//! version of which Delta table makes up the epoch; it is written last, so that what it lists is complete and durable.
//! Whoever reads by the manifest sees whole epochs only; any Delta reader sees plain, current rows.
//!
//! Architecture invariant: this crate knows nothing of timely, of how views are computed, or of SQL. What comes in is
//! [`EpochDelta`](flowsync_schemas::EpochDelta); what goes out is files. The protocol is drawn in `commit.rs`.

mod arrow;
mod bucket;
mod commit;
mod correct;
#[cfg(any(test, feature = "simulation"))]
pub mod disk;
mod error;
mod file;
mod group;
mod job;
mod maintain;
mod manifest;
mod merge;
mod open;
mod store;
mod table;
mod warm;

pub use arrow::FileRows;
pub use correct::{Correction, TableCorrection};
pub use error::SinkError;
pub use group::{Grouping, GroupingOptions, merge};
pub use maintain::Maintenance;
pub use open::{Catalogue, Sink, SinkOptions};

#[cfg(test)]
mod tests;
