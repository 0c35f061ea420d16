//! Small invented data for the tests of reports and the feed, read through the real engine: no table is committed, all of
//! it lies in the overlay.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, ColumnKind, ColumnSpec, Epoch, EpochDelta, Micros, Row, TableChange, TableSpec, Value, ViewSpec,
    model::Model,
};

use crate::{Engine, EngineOptions};

/// `name:kind`, with `?` where the value may be missing.
fn columns(text: &'static str) -> Vec<ColumnSpec> {
    let column = |word: &'static str| {
        let (name, kind) = word.split_once(':').unwrap_or((word, "int"));
        let kind = match kind.trim_end_matches('?') {
            "text" => ColumnKind::Text,
            "at" => ColumnKind::Timestamp,
            "day" => ColumnKind::Date,
            "bool" => ColumnKind::Bool,
            _ => ColumnKind::Int,
        };
        ColumnSpec { name, kind, nullable: word.ends_with('?'), unit: "", doc: "Test data." }
    };
    text.split_whitespace().map(column).collect()
}

macro_rules! views {
    ($($name:ident = $table:literal, [$($key:literal),+], $columns:literal;)+) => {
        $(pub(crate) static $name: ViewSpec = ViewSpec {
            table: TableSpec {
                name: $table,
                version: 1,
                key: &[$($key),+],
                columns: || columns($columns),
                birth: Birth::Timeless,
                doc: "Test data.",
            },
            oracle: concat!("select * from ", $table),
            why: "select signal from fact_signals",
        };)+
        static VIEWS: &[&ViewSpec] = &[$(&$name),+];
    };
}

views! {
    ITEMS = "digest_items", ["item"], "item:text day:day at:at kind:text audience:text project:text? ticket_key:text? \
        subject:text title:text person:text? confidence_bps low_bps high_bps evidence_view:text evidence_key:text";
    CAPITALIZATION = "capitalization", ["period", "project", "cost_centre", "classification", "currency"],
        "period:text project:text cost_centre:text classification:text currency:text person_days_ppm low_person_days_ppm \
        high_person_days_ppm amount_minor amount_low_minor amount_high_minor ticket_count person_count";
    EFFORT = "effort", ["person", "day", "ticket_key"], "person:text day:day ticket_key:text share_ppm low_ppm high_ppm";
    TICKET_STATUS = "ticket_status", ["ticket_key"], "ticket_key:text project:text title:text? tracker_status:text? \
        evidence_progress:text? agrees:bool? evidence_at:at? confidence_bps:int? low_bps:int? high_bps:int?";
    HEALTH = "integration_health", ["source", "hour"], "source:text hour:at signal_count fact_count reject_count";
    REJECTS = "rejects", ["signal", "seq"], "signal:text seq source:text received_at:at reason:text";
    PULL_REQUESTS = "pull_requests", ["pull_request"], "pull_request:text repo:text title:text state:text draft:bool \
        author:text? created_at:at?";
    REVIEWS = "reviews", ["review"], "review:text pull_request:text";
}

/// An engine on an empty directory.
pub(crate) fn engine(dir: &std::path::Path) -> Engine {
    Engine::open(dir, VIEWS.to_vec(), &Model::shipped(), EngineOptions::default()).expect("an empty directory opens")
}

/// One epoch.
pub(crate) fn delta(lower: u64, upper: u64, changes: Vec<(&'static ViewSpec, Row, i64)>) -> EpochDelta {
    let mut tables: std::collections::BTreeMap<&str, Vec<_>> = std::collections::BTreeMap::new();
    for (view, row, diff) in changes {
        tables.entry(view.table.name).or_default().push((row, diff));
    }
    let changes = tables.into_iter().map(|(table, rows)| TableChange { table, rows }).collect();
    EpochDelta { lower: Epoch(lower), upper: Epoch(upper), positions: vec![upper], changes, ..Default::default() }
}

/// Lays rows into an engine as its first epoch.
pub(crate) fn fill(engine: &Engine, rows: Vec<(&'static ViewSpec, Row)>) {
    let changes = rows.into_iter().map(|(view, row)| (view, row, 1)).collect();
    engine.overlay().apply(Arc::new(delta(0, 100, changes)));
}

/// A row of cells.
macro_rules! row {
    ($($cell:expr),+ $(,)?) => { [$($crate::fixtures::Cell::from($cell).0),+].into() };
}
pub(crate) use row;

/// Anything that a test writes into a row.
pub(crate) struct Cell(pub(crate) Value);

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell(Value::Text(text.into()))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell(Value::Text(text.into()))
    }
}

impl From<i64> for Cell {
    fn from(int: i64) -> Self {
        Cell(Value::Int(int))
    }
}

impl From<bool> for Cell {
    fn from(bool: bool) -> Self {
        Cell(Value::Bool(bool))
    }
}

impl From<Micros> for Cell {
    fn from(at: Micros) -> Self {
        Cell(Value::Int(at.0))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(cell: Option<T>) -> Self {
        cell.map_or(Cell(Value::Null), Into::into)
    }
}

/// A time of the week of the fixtures, `2026-10-` and then `DDTHH:MM`.
pub(crate) fn at(text: &str) -> Micros {
    Micros::parse(&format!("2026-10-{text}:00Z")).expect("a day and a time")
}

/// A piece of news.
#[derive(Clone, Debug)]
pub(crate) struct News {
    pub(crate) kind: &'static str,
    pub(crate) at: Micros,
    pub(crate) audience: &'static str,
    pub(crate) project: Option<&'static str>,
    pub(crate) ticket: Option<&'static str>,
    pub(crate) subject: String,
    pub(crate) title: String,
    pub(crate) person: Option<&'static str>,
    pub(crate) bps: [i64; 3],
    pub(crate) evidence: (&'static str, String),
}

impl News {
    pub(crate) fn row(&self) -> Row {
        let [confidence, low, high] = self.bps;
        row![
            format!("{}:{}", self.kind, self.subject),
            i64::from(self.at.day().0),
            self.at,
            self.kind,
            self.audience,
            self.project,
            self.ticket,
            self.subject.as_str(),
            self.title.as_str(),
            self.person,
            confidence,
            low,
            high,
            self.evidence.0,
            self.evidence.1.as_str(),
        ]
    }
}
