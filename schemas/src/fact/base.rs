//! What the dataflow itself writes of every signal, beside the facts that connectors read; and all base tables together.

use super::FACT_TABLES;
use crate::{
    id::SignalId,
    record::{Record, Text},
    signal::Channel,
    time::Micros,
    view::{Birth, TableSpec},
};

/// One signal: the base table that restart and provenance stand on. Written by the dataflow, not by connectors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct SignalFact {
    /// The signal.
    pub signal: SignalId,
    /// Connector.
    pub source: Text,
    /// Channel: webhook, poll, import, manual_user_report, email.
    pub channel: Channel,
    /// How the sender was verified.
    pub verified_by: Text,
    /// Our clock.
    pub received_at: Micros,
    /// Partition of the log.
    pub log_partition: i64,
    /// Offset in the partition.
    pub log_offset: i64,
    /// Length of the body.
    #[unit = "bytes"]
    pub body_bytes: i64,
    /// Facts that it stated.
    #[unit = "facts"]
    pub fact_count: i64,
    /// Rejections that it caused.
    #[unit = "rejections"]
    pub reject_count: i64,
}

/// One rejection of one signal. Written by the dataflow, not by connectors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct RejectFact {
    /// The signal.
    pub signal: SignalId,
    /// Number within the signal.
    pub seq: i64,
    /// Connector.
    pub source: Text,
    /// Our clock.
    pub received_at: Micros,
    /// What is wrong, where, and what to do.
    pub reason: Text,
}

/// The table of signals.
pub static SIGNALS: TableSpec = TableSpec {
    name: "fact_signals",
    version: 1,
    key: &["signal"],
    columns: || SignalFact::COLUMNS.to_vec(),
    birth: Birth::Dated("received_at"),
    doc: "Every signal once: where it lies in the log, who sent it, what came of it.",
};

/// The table of rejections.
pub static REJECTS: TableSpec = TableSpec {
    name: "fact_rejects",
    version: 1,
    key: &["signal", "seq"],
    columns: || RejectFact::COLUMNS.to_vec(),
    birth: Birth::Dated("received_at"),
    doc: "Input that could not be read, with the reason.",
};

/// All base tables: those of the facts, then [`SIGNALS`], then [`REJECTS`].
pub fn base_tables() -> impl Iterator<Item = &'static TableSpec> {
    FACT_TABLES.iter().chain([&SIGNALS, &REJECTS])
}
