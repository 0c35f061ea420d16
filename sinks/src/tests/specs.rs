//! Three small tables: a table of facts, a view that follows time, a view without a date.

use flowsync_schemas::{Birth, ColumnKind, ColumnSpec, Row, TableSpec, Value};

const fn column(name: &'static str, kind: ColumnKind, nullable: bool) -> ColumnSpec {
    ColumnSpec { name, kind, nullable, unit: "", doc: "A column of a test." }
}

fn columns() -> Vec<ColumnSpec> {
    vec![
        column("id", ColumnKind::Text, false),
        column("at", ColumnKind::Timestamp, true),
        ColumnSpec { unit: "pieces", ..column("n", ColumnKind::Int, true) },
        column("day", ColumnKind::Date, true),
        column("ok", ColumnKind::Bool, true),
        column("note", ColumnKind::Text, true),
    ]
}

/// Facts, by time.
pub static FACTS: TableSpec = TableSpec {
    name: "fact_things",
    version: 1,
    key: &["id", "at"],
    columns,
    birth: Birth::Dated("day"),
    doc: "Facts.",
};

/// A view that follows time.
pub static EVENTS: TableSpec = TableSpec {
    name: "events",
    version: 1,
    key: &["id"],
    columns,
    birth: Birth::Dated("at"),
    doc: "Events of a test.",
};

/// A view without a date.
pub static PEOPLE: TableSpec =
    TableSpec { name: "people", version: 1, key: &["id"], columns, birth: Birth::Timeless, doc: "People of a test." };

/// A row of every table; `at` in microseconds.
pub fn event(id: &str, at: i64, n: i64) -> Row {
    Box::new([
        Value::Text(id.into()),
        Value::Int(at),
        Value::Int(n),
        Value::Int(n),
        Value::Bool(n % 2 == 0),
        Value::Text(format!("note {n}").into()),
    ])
}

/// A row with nothing but its key.
pub fn event_without(id: &str) -> Row {
    Box::new([Value::Text(id.into()), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null])
}
