//! Is each integration delivering, and can its deliveries be read?
//!
//! Grain: one row a connector and hour, by our clock. Key: `source, hour`. Inputs: signals. Rows are keyed by the hour they
//! belong to; "the last day" and "late" are decided by the query. Sums are carried in the diff.

use flowsync_schemas::{Birth, Micros, Record, TableSpec, Text, ViewSpec};

use crate::{cx::Cx, ops::sums};

const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "integration_health",
        version: 1,
        key: &["source", "hour"],
        columns: || HealthRow::COLUMNS.to_vec(),
        birth: Birth::Dated("hour"),
        doc: "Signals, facts and rejections; one row a connector and hour.",
    },
    oracle: "
        select source, date_trunc('hour', received_at) as hour, count(*) as signal_count,
               cast(sum(fact_count) as bigint) as fact_count, cast(sum(reject_count) as bigint) as reject_count
        from fact_signals group by source, date_trunc('hour', received_at)",
    why: "select signal, received_at, fact_count, reject_count from fact_signals
          where source = $1 and date_trunc('hour', received_at) = $2 order by received_at",
};

/// One connector in one hour.
#[derive(Clone, Debug, PartialEq, Eq, Record)]
pub struct HealthRow {
    /// Connector.
    pub source: Text,
    /// Start of the hour, by our clock.
    pub hour: Micros,
    /// Signals received.
    #[unit = "signals"]
    pub signal_count: i64,
    /// Facts that they stated.
    #[unit = "facts"]
    pub fact_count: i64,
    /// Rejections that they caused.
    #[unit = "rejections"]
    pub reject_count: i64,
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let signals = cx.facts.signals.clone().map(|s| {
        let hour = Micros(s.received_at.0.div_euclid(MICROS_PER_HOUR) * MICROS_PER_HOUR);
        ((s.source, hour), [1, s.fact_count, s.reject_count, 0, 0])
    });
    let rows = sums(signals, |(source, hour), [signal_count, fact_count, reject_count, ..]| {
        [HealthRow { source, hour, signal_count, fact_count, reject_count }]
    });
    cx.emit(&VIEW.table, rows);
}
