//! The tables of one snapshot, as DataFusion asks for them: opened when a statement names them, at the version that the
//! snapshot's manifest lists, with the overlay on top.
//!
//! Keeps I4: everything here is fixed when the snapshot is taken. Beside views and facts there are `model` (the weights
//! that oracles compute with), `flowsync_tables` and `flowsync_columns` (what each means).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{SchemaProvider, TableProvider, view::ViewTable},
    common::{Column, NullEquality},
    datasource::{MemTable, empty::EmptyTable, provider_as_source},
    error::DataFusionError,
    logical_expr::{JoinType, LogicalPlan, LogicalPlanBuilder},
};
use flowsync_schemas::{
    ColumnKind, ColumnSpec, Epoch, EpochDelta, Manifest, Row, TableSpec, Value, ViewSpec,
    model::{Model, ModelRow},
};

use crate::{
    QueryError, columns,
    delta::DeltaTables,
    overlay::{Folded, fold},
};

/// What is known of every table, whatever the epoch.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) views: BTreeMap<&'static str, &'static ViewSpec>,
    pub(crate) specs: BTreeMap<&'static str, &'static TableSpec>,
    fixed: BTreeMap<&'static str, Arc<MemTable>>,
}

const fn column(name: &'static str, kind: ColumnKind, doc: &'static str) -> ColumnSpec {
    ColumnSpec { name, kind, nullable: false, unit: "", doc }
}

const TABLES: &[ColumnSpec] = &[
    column("table_name", ColumnKind::Text, "Name."),
    column("class", ColumnKind::Text, "`view` (maintained) or `fact` (what connectors read)."),
    column("version", ColumnKind::Int, "Raised when the same facts give other rows, or the columns change."),
    column("key", ColumnKind::Text, "The key columns, separated by commas."),
    column("doc", ColumnKind::Text, "The question it answers, and its grain."),
    column("oracle", ColumnKind::Text, "The same view as SQL over the fact tables; empty for facts."),
    column("why", ColumnKind::Text, "SQL that lists the signals behind the row with key $1, …; empty for facts."),
];

const COLUMNS: &[ColumnSpec] = &[
    column("table_name", ColumnKind::Text, "Name of the table."),
    column("position", ColumnKind::Int, "Position of the column, from 1."),
    column("column_name", ColumnKind::Text, "Name of the column."),
    column("kind", ColumnKind::Text, "bool, int, text, timestamp or date."),
    column("nullable", ColumnKind::Bool, "Whether the value may be missing."),
    column("unit", ColumnKind::Text, "Unit in words; empty where the kind says it all."),
    column("doc", ColumnKind::Text, "What it holds."),
];

/// The word for a kind of column in documents.
pub(crate) fn kind_word(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Bool => "bool",
        ColumnKind::Int => "int",
        ColumnKind::Text => "text",
        ColumnKind::Timestamp => "timestamp",
        ColumnKind::Date => "date",
    }
}

impl Catalog {
    pub(crate) fn new(views: &[&'static ViewSpec], model: &Model) -> Result<Self, QueryError> {
        let views: BTreeMap<_, _> = views.iter().map(|v| (v.table.name, *v)).collect();
        let base = flowsync_schemas::fact::base_tables();
        let specs: BTreeMap<_, _> = views.values().map(|v| &v.table).chain(base).map(|t| (t.name, t)).collect();
        let fixed: [(_, _, Vec<Row>); 3] = [
            ("model", ModelRow::COLUMNS, model.rows().into_iter().map(ModelRow::into_row).collect()),
            ("flowsync_tables", TABLES, specs.values().map(|t| table_row(t, views.get(t.name).copied())).collect()),
            ("flowsync_columns", COLUMNS, specs.values().flat_map(|t| column_rows(t)).collect()),
        ];
        let fixed = fixed.into_iter().map(|(name, columns, rows)| Ok((name, memory(columns, &rows)?)));
        Ok(Self { fixed: fixed.collect::<Result<_, QueryError>>()?, views, specs })
    }
}

fn text(text: impl Into<Arc<str>>) -> Value {
    Value::Text(text.into())
}

fn table_row(table: &TableSpec, view: Option<&ViewSpec>) -> Row {
    let class = if view.is_some() { "view" } else { "fact" };
    let (oracle, why) = view.map_or(("", ""), |v| (v.oracle, v.why));
    let version = Value::Int(i64::from(table.version));
    [text(table.name), text(class), version, text(table.key.join(",")), text(table.doc), text(oracle), text(why)].into()
}

fn column_rows(table: &TableSpec) -> Vec<Row> {
    let row = |(at, c): (usize, ColumnSpec)| -> Row {
        let position = Value::Int(at as i64 + 1);
        let kind = text(kind_word(c.kind));
        [text(table.name), position, text(c.name), kind, Value::Bool(c.nullable), text(c.unit), text(c.doc)].into()
    };
    (table.columns)().into_iter().enumerate().map(row).collect()
}

fn memory(columns: &[ColumnSpec], rows: &[Row]) -> Result<Arc<MemTable>, QueryError> {
    let batch = columns::batch(columns, rows.iter())?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]);
    table.map(Arc::new).map_err(|e| QueryError::Internal(e.to_string()))
}

/// The rows of one table that lie over its commit.
#[derive(Debug)]
struct Laid {
    touched: Arc<MemTable>,
    live: Arc<MemTable>,
}

/// The tables of one snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotTables {
    catalog: Arc<Catalog>,
    delta: Arc<DeltaTables>,
    manifest: Arc<Manifest>,
    deltas: Vec<Arc<EpochDelta>>,
    laid: Mutex<HashMap<&'static str, Option<Arc<Laid>>>>,
    kept: Mutex<HashMap<String, Arc<MemTable>>>,
}

impl SnapshotTables {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        delta: Arc<DeltaTables>,
        manifest: Arc<Manifest>,
        deltas: Vec<Arc<EpochDelta>>,
    ) -> Self {
        Self { catalog, delta, manifest, deltas, laid: Mutex::default(), kept: Mutex::default() }
    }

    /// The epoch that is shown, and the commit under it.
    pub(crate) fn epochs(&self) -> (Epoch, Epoch) {
        let committed = self.manifest.epoch;
        (self.deltas.last().map_or(committed, |d| d.upper), committed)
    }

    /// Whether the table has rows for certain not (an empty commit and nothing over it).
    pub(crate) fn is_empty(&self, table: &TableSpec) -> bool {
        let committed = self.manifest.tables.get(table.name).map_or(0, |t| t.rows);
        committed == 0 && !self.deltas.iter().any(|d| d.changes.iter().any(|c| c.table == table.name))
    }

    /// Adds a table of this snapshot alone.
    pub(crate) fn keep(&self, name: &str, table: MemTable) {
        self.kept().insert(name.to_owned(), Arc::new(table));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Arc<MemTable>>> {
        // Tables are put in whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn laid(&self, spec: &'static TableSpec) -> Result<Option<Arc<Laid>>, QueryError> {
        let mut laid = self.laid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = laid.get(spec.name) {
            return Ok(known.clone());
        }
        let made = match fold(spec, &self.deltas) {
            None => None,
            Some(Folded { touched, live }) => {
                let columns = (spec.columns)();
                let key: Vec<_> = spec.key_indices().into_iter().map(|i| columns[i]).collect();
                Some(Arc::new(Laid { touched: memory(&key, &touched)?, live: memory(&columns, &live)? }))
            }
        };
        laid.insert(spec.name, made.clone());
        Ok(made)
    }

    async fn open(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, QueryError> {
        if let Some(kept) = self.kept().get(name) {
            return Ok(Some(kept.clone()));
        }
        if let Some(fixed) = self.catalog.fixed.get(name) {
            return Ok(Some(fixed.clone()));
        }
        let spec = self.catalog.specs.get(name).copied();
        let laid = spec.map(|s| self.laid(s)).transpose()?.flatten();
        let committed = match self.manifest.tables.get(name) {
            Some(listed) => {
                let scan = self.delta.open(name, *listed).await?;
                // An epoch that an older view wrote has that view's columns.
                if let Some(spec) = spec.filter(|spec| spec.version == listed.view) {
                    same_columns(spec, &scan.files.schema)?;
                }
                Some(scan)
            }
            None => None,
        };
        Ok(match (spec, committed, laid) {
            (None, None, _) => None,
            (_, Some(scan), None) => Some(Arc::new(scan)),
            (Some(spec), None, None) => Some(Arc::new(EmptyTable::new(columns::schema(&(spec.columns)())))),
            (_, None, Some(laid)) => Some(laid.live.clone()),
            (None, Some(scan), Some(_)) => Some(Arc::new(scan)),
            (Some(spec), Some(scan), Some(laid)) => {
                same_columns(spec, &scan.files.schema)?;
                let plan = over(spec, Arc::new(scan), &laid).map_err(|e| QueryError::Internal(e.to_string()))?;
                Some(Arc::new(ViewTable::new(plan, None)))
            }
        })
    }
}

fn same_columns(spec: &TableSpec, found: &SchemaRef) -> Result<(), QueryError> {
    let expected = columns::schema(&(spec.columns)());
    let shape =
        |s: &SchemaRef| s.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>();
    if shape(&expected) == shape(found) {
        return Ok(());
    }
    Err(QueryError::Data(format!(
        "table {} was written by another version of FlowSync and is being rebuilt: ask again after the next commit",
        spec.name
    )))
}

/// `base` without the touched keys, and the live rows: a plan, so that filters and projections reach the files.
fn over(spec: &TableSpec, base: Arc<dyn TableProvider>, laid: &Laid) -> Result<LogicalPlan, DataFusionError> {
    let scan = |name: &str, table: Arc<dyn TableProvider>| {
        LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()
    };
    let keys = |table: &'static str| spec.key.iter().map(|k| Column::new(Some(table), *k)).collect::<Vec<_>>();
    LogicalPlanBuilder::from(scan("base", base)?)
        .join_detailed(
            scan("touched", laid.touched.clone())?,
            JoinType::LeftAnti,
            (keys("base"), keys("touched")),
            None,
            NullEquality::NullEqualsNull,
        )?
        .union(scan("live", laid.live.clone())?)?
        .build()
}

#[async_trait]
impl SchemaProvider for SnapshotTables {
    fn table_names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.catalog.specs.keys().chain(self.catalog.fixed.keys()).map(|n| (*n).to_owned()).collect();
        names.extend(self.manifest.tables.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        self.open(&name.to_lowercase()).await.map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn table_exist(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        let name = name.as_str();
        self.catalog.specs.contains_key(name)
            || self.catalog.fixed.contains_key(name)
            || self.manifest.tables.contains_key(name)
            || self.kept().contains_key(name)
    }
}
