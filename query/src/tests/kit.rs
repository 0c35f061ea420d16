//! A data directory as a committer leaves it, written by deltalake-core: two files a table, checkpoints every third
//! version, and the manifest last.

use std::{
    collections::{BTreeMap, HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType as ArrowType, Field, Schema},
};
use deltalake_core::{
    DeltaTable,
    kernel::{
        Action, Add, DataType, Remove,
        transaction::{CommitBuilder, CommitProperties},
    },
    operations::create::CreateBuilder,
    protocol::{DeltaOperation, SaveMode},
    table::config::TableProperty,
};
use flowsync_schemas::{
    Birth, ColumnKind, ColumnSpec, Epoch, EpochDelta, Manifest, Micros, Row, TableChange, TableSpec, TableVersion,
    Value, ViewSpec, model::Model,
};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use crate::{Engine, EngineOptions, columns};

pub(super) const fn column(name: &'static str, kind: ColumnKind, nullable: bool) -> ColumnSpec {
    ColumnSpec { name, kind, nullable, unit: "", doc: "A column of a test." }
}

/// Every kind of column, a key of two, one of which may be missing.
pub(super) static THINGS: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "things",
        version: 1,
        key: &["id", "part"],
        columns: || {
            vec![
                column("flag", ColumnKind::Bool, false),
                column("id", ColumnKind::Text, true),
                column("part", ColumnKind::Int, false),
                column("note", ColumnKind::Text, true),
                column("at", ColumnKind::Timestamp, false),
                column("day", ColumnKind::Date, true),
            ]
        },
        birth: Birth::Timeless,
        doc: "Things of a test.",
    },
    oracle: "",
    why: "select signal from fact_settings where name = $1 and seq = $2",
};

/// One row: how many things there are. Equal to `count(*)` of things at one epoch, and at no mixture of two.
pub(super) static TOTAL: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "total",
        version: 1,
        key: &["one"],
        columns: || vec![column("one", ColumnKind::Int, false), column("things", ColumnKind::Int, false)],
        birth: Birth::Timeless,
        doc: "How many things there are.",
    },
    oracle: "",
    why: "select signal from fact_signals where $1 = 1",
};

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// A data directory.
pub(super) struct Store {
    pub(super) dir: TempDir,
    tables: HashMap<&'static str, DeltaTable>,
    files: HashMap<(&'static str, u64), (String, Vec<Row>)>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), tables: HashMap::new(), files: HashMap::new() }
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine_with(EngineOptions::default())
    }

    pub(super) fn engine_with(&self, options: EngineOptions) -> Engine {
        Engine::open(self.dir.path(), vec![&THINGS, &TOTAL], &Model::shipped(), options).unwrap()
    }

    /// Commits these rows as the whole contents of these tables.
    pub(super) async fn commit(&mut self, epoch: u64, contents: &[(&'static TableSpec, Vec<Row>)]) {
        let mut tables = BTreeMap::new();
        for (spec, rows) in contents {
            let delta = self.table(epoch, spec, rows).await;
            let version = TableVersion { view: spec.version, delta, rows: rows.len() as u64, files: None };
            tables.insert(spec.name.to_owned(), version);
        }
        let manifest = Manifest {
            format: Manifest::FORMAT,
            epoch: Epoch(epoch),
            positions: vec![epoch],
            committed_at: Micros(epoch as i64 * 1_000_000),
            program: "test".to_owned(),
            tables,
        };
        let dir = self.dir.path().join("manifests");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{epoch:020}.json")), manifest.to_json().unwrap()).unwrap();
    }

    async fn table(&mut self, epoch: u64, spec: &'static TableSpec, rows: &[Row]) -> u64 {
        let dir = self.dir.path().join("tables").join(spec.name);
        if !self.tables.contains_key(spec.name) {
            std::fs::create_dir_all(&dir).unwrap();
            self.tables.insert(spec.name, create(&dir, spec).await);
        }
        let mut actions = Vec::new();
        for bucket in 0..2 {
            let rows: Vec<Row> = rows.iter().filter(|r| bucket_of(spec, r) == bucket).cloned().collect();
            let held = self.files.get(&(spec.name, bucket));
            if held.map_or(&[][..], |(_, held)| held) == rows {
                continue;
            }
            if let Some((path, _)) = self.files.remove(&(spec.name, bucket)) {
                actions.push(Action::Remove(Remove { path, data_change: true, ..Default::default() }));
            }
            if !rows.is_empty() {
                let path = format!("{epoch}-{bucket}.parquet");
                let bytes = parquet(spec, &rows);
                actions.push(Action::Add(Add {
                    path: path.clone(),
                    size: bytes.len() as i64,
                    modification_time: epoch as i64,
                    data_change: true,
                    stats: Some(format!("{{\"numRecords\":{}}}", rows.len())),
                    ..Default::default()
                }));
                std::fs::write(dir.join(&path), bytes).unwrap();
                self.files.insert((spec.name, bucket), (path, rows));
            }
        }
        let table = self.tables.get_mut(spec.name).unwrap();
        if !actions.is_empty() {
            let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
            let commit = CommitBuilder::from(CommitProperties::default()).with_actions(actions);
            let state = table.snapshot().unwrap().clone();
            commit.build(Some(&state), table.log_store(), operation).await.unwrap();
            table.update_state().await.unwrap();
        }
        table.version().unwrap()
    }
}

async fn create(dir: &std::path::Path, spec: &TableSpec) -> DeltaTable {
    let mut builder = CreateBuilder::new()
        .with_location(dir.to_str().unwrap())
        .with_configuration_property(TableProperty::CheckpointInterval, Some("3"));
    for column in (spec.columns)() {
        let kind = match column.kind {
            ColumnKind::Bool => DataType::BOOLEAN,
            ColumnKind::Int => DataType::LONG,
            ColumnKind::Text => DataType::STRING,
            ColumnKind::Timestamp => DataType::TIMESTAMP,
            ColumnKind::Date => DataType::DATE,
        };
        builder = builder.with_column(column.name, kind, column.nullable, None);
    }
    builder.await.unwrap()
}

fn bucket_of(spec: &TableSpec, row: &Row) -> u64 {
    let mut hash = DefaultHasher::new();
    spec.key_of(row).hash(&mut hash);
    hash.finish() % 2
}

/// As a sink writes it: text as plain `Utf8`.
fn parquet(spec: &TableSpec, rows: &[Row]) -> Vec<u8> {
    let batch = columns::batch(&(spec.columns)(), rows.iter()).unwrap();
    let plain = |f: &Arc<Field>| match f.data_type() {
        ArrowType::Utf8View => Field::new(f.name(), ArrowType::Utf8, f.is_nullable()),
        _ => f.as_ref().clone(),
    };
    let schema = Arc::new(Schema::new(batch.schema().fields().iter().map(plain).collect::<Vec<_>>()));
    let arrays = batch.columns().iter().zip(schema.fields()).map(|(a, f)| cast(a, f.data_type()).unwrap()).collect();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
    writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
    writer.into_inner().unwrap()
}

/// Damages the data files of a table.
pub(super) fn damage(dir: &std::path::Path, table: &str) {
    for file in std::fs::read_dir(dir.join("tables").join(table)).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|e| e == "parquet") {
            std::fs::write(path, b"no Parquet").unwrap();
        }
    }
}

/// The change that leads from one contents to another.
pub(super) fn change(table: &'static str, before: &[Row], after: &[Row]) -> TableChange {
    let lost = before.iter().filter(|r| !after.contains(r)).map(|r| (r.clone(), -1));
    let gained = after.iter().filter(|r| !before.contains(r)).map(|r| (r.clone(), 1));
    let mut rows: Vec<_> = lost.chain(gained).collect();
    rows.sort();
    TableChange { table, rows }
}

/// A closed epoch.
pub(super) fn delta(lower: u64, upper: u64, changes: Vec<TableChange>) -> Arc<EpochDelta> {
    Arc::new(EpochDelta {
        lower: Epoch(lower),
        upper: Epoch(upper),
        positions: vec![upper],
        changes,
        ..Default::default()
    })
}

/// A row of [`THINGS`].
pub(super) fn thing(id: Option<&str>, part: i64, note: &str) -> Row {
    let note = if note.is_empty() { Value::Null } else { text(note) };
    let at = Value::Int(1_700_000_000_000_000 + part);
    [Value::Bool(part % 2 == 0), id.map_or(Value::Null, text), Value::Int(part), note, at, Value::Int(part)].into()
}

/// The row of [`TOTAL`].
pub(super) fn total(things: usize) -> Row {
    [Value::Int(1), Value::Int(things as i64)].into()
}
