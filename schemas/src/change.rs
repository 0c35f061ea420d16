//! What flows from the dataflow to the sinks, and what sinks and queries share.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{id::Epoch, record::Row, time::Micros};

/// The changed rows of one table over one epoch: consolidated, sorted, each with +1 or −1 (or more, for a faulty view).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// Name of the table.
    pub table: &'static str,
    /// Rows and their differences.
    pub rows: Vec<(Row, i64)>,
}

/// All that changed from one closed epoch to the next: the half-open intervals `[lower, upper)` tile time (I4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochDelta {
    /// The epoch before.
    pub lower: Epoch,
    /// The epoch that this brings the tables to.
    pub upper: Epoch,
    /// Position in every partition of the log that `upper` covers: offsets of the next signal.
    pub positions: Vec<u64>,
    /// The tables that changed, base tables and views; sorted by name.
    pub changes: Vec<TableChange>,
}

/// Which version of which table makes up an epoch. Written last: what it lists is committed, nothing else (I4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this document; readers refuse a larger one.
    pub format: u32,
    /// The epoch.
    pub epoch: Epoch,
    /// Position in every partition of the log: offsets of the next signal.
    pub positions: Vec<u64>,
    /// When it was committed.
    pub committed_at: Micros,
    /// What the rows were computed with: the model's and the connectors' versions. Another value means: compute anew.
    pub program: String,
    /// The tables by name.
    pub tables: BTreeMap<String, TableVersion>,
}

impl Manifest {
    /// The format that this build writes.
    pub const FORMAT: u32 = 1;
}

/// One table of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableVersion {
    /// Version of the view ([`crate::view::TableSpec::version`]).
    pub view: u32,
    /// Version of the Delta table.
    pub delta: u64,
    /// Rows in the table.
    pub rows: u64,
}
