//! The judge: what tables should hold, kept in memory, and an independent reader that goes by the manifest and reads
//! through DataFusion's Delta provider.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use arrow::{array::ArrayRef, compute::cast, record_batch::RecordBatch};
use deltalake_core::{datafusion::prelude::SessionContext, open_table_with_version};
use flowsync_schemas::{Epoch, EpochDelta, Manifest, Row, TableChange, TableSpec};
use futures::{TryStreamExt, stream::BoxStream};
use proptest::prelude::*;

use super::specs::{EVENTS, FACTS, PEOPLE, event, event_without};
use crate::{Catalogue, FileRows, Sink, SinkError, SinkOptions, arrow::Shape};

pub const PROGRAM: &str = "test 1";

pub fn catalogue() -> Catalogue {
    Catalogue { base: vec![FACTS], views: vec![EVENTS, PEOPLE] }
}

pub fn specs() -> [TableSpec; 3] {
    [EVENTS, FACTS, PEOPLE]
}

/// Small buckets, so that a few rows already meet every path; nothing is retired.
pub fn options() -> SinkOptions {
    SinkOptions { bucket_rows_max: 4, checkpoint_interval: 3, ..SinkOptions::default() }
}

pub async fn open(dir: &Path) -> Result<Sink, SinkError> {
    Sink::open(dir, catalogue(), PROGRAM.to_owned(), options()).await
}

/// The rows of each table.
pub type Tables = BTreeMap<&'static str, BTreeSet<Row>>;

/// One epoch of a history: rows by table and key; `None` retracts.
#[derive(Clone, Debug)]
pub struct Step {
    pub table: usize,
    pub id: u8,
    pub row: Option<(i64, i64)>,
}

/// Random histories: few keys, so that rows are added, changed, moved in time and retracted over and over.
pub fn histories(epochs: usize) -> impl Strategy<Value = Vec<Vec<Step>>> {
    let row = prop::option::weighted(0.75, (0..4i64, 0..6i64));
    let step = (0..3usize, 0..24u8, row).prop_map(|(table, id, row)| Step { table, id, row });
    prop::collection::vec(prop::collection::vec(step, 0..12), 1..=epochs)
}

/// A history as deltas, with the tables as they are at every epoch; `[0]` is of nothing.
pub fn play(history: &[Vec<Step>]) -> (Vec<EpochDelta>, Vec<Tables>) {
    let mut held: BTreeMap<(&'static str, u8), Row> = BTreeMap::new();
    let (mut deltas, mut states) = (Vec::new(), vec![tables_of(&held)]);
    for (at, steps) in history.iter().enumerate() {
        let before = states[at].clone();
        for step in steps {
            let table = specs()[step.table].name;
            let id = format!("k{}", step.id);
            match step.row {
                // The time is part of what changes: rows move from bucket to bucket.
                Some((0, n)) => {
                    held.insert((table, step.id), if n == 0 { event_without(&id) } else { event(&id, 0, n) })
                }
                Some((time, n)) => held.insert((table, step.id), event(&id, time * 1_000_000 + i64::from(step.id), n)),
                None => held.remove(&(table, step.id)),
            };
        }
        let after = tables_of(&held);
        deltas.push(difference(&before, &after, at as u64 * 10, at as u64 * 10 + 10));
        states.push(after);
    }
    (deltas, states)
}

fn tables_of(held: &BTreeMap<(&'static str, u8), Row>) -> Tables {
    let mut tables: Tables = specs().iter().map(|s| (s.name, BTreeSet::new())).collect();
    for ((table, _), row) in held {
        // A key of the facts has its time in it, and a key column is never missing.
        if *table != FACTS.name || row[1] != flowsync_schemas::Value::Null {
            tables.get_mut(table).unwrap().insert(row.clone());
        }
    }
    tables
}

/// What turns one state into the other.
pub fn difference(before: &Tables, after: &Tables, lower: u64, upper: u64) -> EpochDelta {
    let mut changes = Vec::new();
    for (table, rows) in after {
        let mut diffs: Vec<(Row, i64)> = rows.difference(&before[table]).map(|r| (r.clone(), 1)).collect();
        diffs.extend(before[table].difference(rows).map(|r| (r.clone(), -1)));
        diffs.sort();
        if !diffs.is_empty() {
            changes.push(TableChange { table, rows: diffs });
        }
    }
    EpochDelta { lower: Epoch(lower), upper: Epoch(upper), positions: vec![upper], changes, ..Default::default() }
}

/// Every row of the tables, as a recomputation hands them over.
pub fn full(state: &Tables, upper: u64) -> EpochDelta {
    let empty = state.keys().map(|table| (*table, BTreeSet::new())).collect();
    difference(&empty, state, 0, upper)
}

/// The epochs that are kept, by what is on disk.
pub fn epochs(dir: &Path) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = std::fs::read_dir(dir.join("manifests"))
        .unwrap()
        .map(|e| Epoch(e.unwrap().path().file_stem().unwrap().to_str().unwrap().parse().unwrap()))
        .collect();
    epochs.sort();
    epochs
}

pub fn manifest(dir: &Path, epoch: Epoch) -> Manifest {
    let path = dir.join("manifests").join(format!("{:020}.json", epoch.0));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// All rows of a table's files.
pub async fn rows_of(files: BoxStream<'_, Result<FileRows, SinkError>>) -> Result<Vec<Row>, SinkError> {
    files.map_ok(|file| file.to_rows()).try_concat().await
}

/// Reads an epoch as an outsider does: the manifest from disk, each table at the version that it names, by SQL.
pub async fn read_back(dir: &Path, epoch: Epoch) -> Tables {
    let manifest = manifest(dir, epoch);
    assert_eq!(manifest.epoch, epoch);
    let mut tables = Tables::new();
    for spec in specs() {
        let listed = manifest.tables[spec.name];
        let rows = read_table(dir, &spec, Some(listed.delta)).await;
        assert_eq!(listed.rows, rows.len() as u64, "rows of {} at {epoch}", spec.name);
        let set: BTreeSet<Row> = rows.iter().cloned().collect();
        assert_eq!(set.len(), rows.len(), "{} holds a row twice at {epoch}", spec.name);
        tables.insert(spec.name, set);
    }
    tables
}

/// Reads one table at a Delta version, or the newest.
pub async fn read_table(dir: &Path, spec: &TableSpec, version: Option<u64>) -> Vec<Row> {
    let folder = dir.canonicalize().unwrap().join("tables").join(spec.name);
    let url = url::Url::from_directory_path(folder).unwrap();
    let table = match version {
        Some(version) => open_table_with_version(url, version).await.unwrap(),
        None => deltalake_core::open_table(url).await.unwrap(),
    };
    let context = SessionContext::new();
    context.register_table("t", table.table_provider().await.unwrap()).unwrap();
    let batches = context.sql("SELECT * FROM t").await.unwrap().collect().await.unwrap();
    let shape = Shape::new(spec).unwrap();
    batches.iter().flat_map(|batch| shape.to_rows(&plain(&shape, batch))).collect()
}

fn plain(shape: &Shape, batch: &RecordBatch) -> RecordBatch {
    let cast = |f: &arrow::datatypes::FieldRef| -> ArrayRef {
        cast(batch.column_by_name(f.name()).unwrap(), f.data_type()).unwrap()
    };
    RecordBatch::try_new(shape.schema.clone(), shape.schema.fields().iter().map(cast).collect()).unwrap()
}

/// The rows that the sink itself loads.
pub async fn loaded(sink: &Sink) -> Tables {
    let mut tables = Tables::new();
    for spec in specs() {
        tables.insert(spec.name, rows_of(sink.load(spec.name)).await.unwrap().into_iter().collect());
    }
    tables
}

/// Runs a future to its end, on threads of its own.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}
