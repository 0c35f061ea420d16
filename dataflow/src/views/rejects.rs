//! What came in that could not be read, and why?
//!
//! Grain: one row a rejection. Key: `signal, seq`. Inputs: rejections. Keeps I10: bad input is data.

use flowsync_schemas::{Birth, Record, TableSpec, ViewSpec, fact::RejectFact};

use crate::cx::Cx;

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "rejects",
        version: 1,
        key: &["signal", "seq"],
        columns: || RejectFact::COLUMNS.to_vec(),
        birth: Birth::Dated("received_at"),
        doc: "Deliveries, or parts of them, that could not be read, with the reason; one row a rejection.",
    },
    oracle: "select signal, seq, source, received_at, reason from fact_rejects",
    why: "select signal, received_at, reason from fact_rejects where signal = $1 and seq = $2",
};

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    cx.emit(&VIEW.table, cx.facts.rejects.clone());
}
