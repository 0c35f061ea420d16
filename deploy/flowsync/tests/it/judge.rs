//! The judge: recomputes every view by its oracle SQL over the fact tables, and compares (I5).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
};

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray,
            TimestampMicrosecondArray,
        },
        compute::cast,
        datatypes::{DataType, Date32Type, Field, Int64Type, Schema, TimeUnit, TimestampMicrosecondType},
    },
    datasource::MemTable,
    prelude::SessionContext,
};
use flowsync_dataflow::{Config, Job, Read, views};
use flowsync_schemas::{
    ColumnKind, ColumnSpec, EpochDelta, Fact, FactBody, Micros, Rejection, Row, Signal, TableSpec, Value,
    fact::base_tables,
    model::{Model, ModelRow},
};
use proptest::test_runner::TestCaseError;

/// Tables by name, as a multiset of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(pub BTreeMap<&'static str, BTreeMap<Row, i64>>);

impl Tables {
    /// Applies one epoch.
    pub fn apply(&mut self, delta: &EpochDelta) {
        for change in &delta.changes {
            let rows = self.0.entry(change.table).or_default();
            for (row, diff) in &change.rows {
                let count = rows.entry(row.clone()).or_default();
                *count += diff;
                if *count == 0 {
                    rows.remove(row);
                }
            }
        }
        self.0.retain(|_, rows| !rows.is_empty());
    }

    /// The first rows that differ from `other`, by table; empty where none does.
    pub fn difference(&self, other: &Tables) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let empty = BTreeMap::new();
        let rows = |tables: &Tables, name: &str| tables.0.get(name).unwrap_or(&empty).clone();
        let only = |a: &Tables, b: &Tables, name: &str| {
            let there = rows(b, name);
            rows(a, name).into_iter().find(|(row, n)| there.get(row) != Some(n))
        };
        let differs = |name: &&&&'static str| rows(self, name) != rows(other, name);
        let shown = |name: &str| {
            format!("{name}: left only {:?}, right only {:?}", only(self, other, name), only(other, self, name))
        };
        names.iter().filter(differs).map(|name| shown(name)).collect()
    }

    /// The rows of a table, sorted. Panics where a row is there other than once.
    pub fn rows(&self, table: &str) -> Vec<Row> {
        let rows = self.0.get(table).into_iter().flatten();
        rows.map(|(row, count)| {
            assert_eq!(*count, 1, "{table}: {row:?} is there {count} times");
            row.clone()
        })
        .collect()
    }
}

fn arrow_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Int => DataType::Int64,
        ColumnKind::Text => DataType::Utf8,
        ColumnKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnKind::Date => DataType::Date32,
    }
}

fn column(kind: ColumnKind, values: impl Iterator<Item = Value>) -> ArrayRef {
    let ints = |v: Value| v.as_int();
    match kind {
        ColumnKind::Bool => {
            Arc::new(values.map(|v| if let Value::Bool(b) = v { Some(b) } else { None }).collect::<BooleanArray>())
        }
        ColumnKind::Int => Arc::new(values.map(ints).collect::<Int64Array>()),
        ColumnKind::Text => Arc::new(values.map(|v| v.as_text().map(str::to_owned)).collect::<StringArray>()),
        ColumnKind::Timestamp => Arc::new(values.map(ints).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ColumnKind::Date => Arc::new(values.map(|v| v.as_int().map(|d| d as i32)).collect::<Date32Array>()),
    }
}

fn batch(columns: &[ColumnSpec], rows: &[Row]) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.name, arrow_type(c.kind), true)).collect();
    let arrays = columns.iter().enumerate().map(|(i, c)| column(c.kind, rows.iter().map(|r| r[i].clone()))).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("rows fit their columns")
}

fn value(kind: ColumnKind, array: &ArrayRef, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    match kind {
        ColumnKind::Bool => Value::Bool(array.as_boolean().value(i)),
        ColumnKind::Int => Value::Int(array.as_primitive::<Int64Type>().value(i)),
        ColumnKind::Text => Value::Text(array.as_string::<i32>().value(i).into()),
        ColumnKind::Timestamp => Value::Int(array.as_primitive::<TimestampMicrosecondType>().value(i)),
        ColumnKind::Date => Value::Int(i64::from(array.as_primitive::<Date32Type>().value(i))),
    }
}

/// The rows that a query gives, sorted, read as these columns.
async fn query(cx: &SessionContext, sql: &str, columns: &[ColumnSpec], what: &str) -> Vec<Row> {
    let frame = cx.sql(sql).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut rows = Vec::new();
    for batch in frame.collect().await.unwrap_or_else(|e| panic!("{what}: {e}")) {
        assert_eq!(batch.num_columns(), columns.len(), "{what}: columns");
        let arrays: Vec<ArrayRef> = columns
            .iter()
            .zip(batch.columns())
            .enumerate()
            .map(|(i, (spec, array))| {
                assert_eq!(batch.schema().field(i).name(), spec.name, "{what}: column {i}");
                cast(array, &arrow_type(spec.kind)).unwrap_or_else(|e| panic!("{what}.{}: {e}", spec.name))
            })
            .collect();
        for i in 0..batch.num_rows() {
            rows.push(columns.iter().zip(&arrays).map(|(c, a)| value(c.kind, a, i)).collect::<Row>());
        }
    }
    rows.sort();
    rows
}

/// A session in which every view's name stands for its oracle, over the given fact tables.
pub async fn oracle_session(tables: &Tables, model: &Model) -> SessionContext {
    let cx = SessionContext::new();
    for spec in base_tables() {
        let columns = (spec.columns)();
        let batch = batch(&columns, &tables.rows(spec.name));
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).expect("a table");
        cx.register_table(spec.name, Arc::new(table)).expect("registered once");
    }
    let weights: Vec<Row> = model.rows().into_iter().map(ModelRow::into_row).collect();
    cx.register_batch("model", batch(ModelRow::COLUMNS, &weights)).expect("registered once");
    let mut todo: Vec<(&str, &str)> = views::oracle_helpers().collect();
    todo.extend(views::ALL.iter().map(|v| (v.spec.table.name, v.spec.oracle)));
    // An oracle may read other views: compute those first whose inputs are there, each once.
    while !todo.is_empty() {
        let mut later = Vec::new();
        let before = todo.len();
        let mut why = String::new();
        for (name, sql) in todo {
            // As tables: many read `activity`, and a view would compute it for each of them.
            match cx.sql(&format!("create table {name} as {sql}")).await {
                Ok(frame) => drop(frame.collect().await.unwrap_or_else(|e| panic!("{name}: {e}"))),
                Err(error) => {
                    why.push_str(&format!("\n{name}: {error}"));
                    later.push((name, sql));
                }
            }
        }
        assert!(later.len() < before, "no oracle can be computed: {why}");
        todo = later;
    }
    cx
}

/// Compares every view with its oracle. `Err` says which view differs, and how.
pub async fn verdict(tables: &Tables, model: &Model) -> Result<(), String> {
    let cx = oracle_session(tables, model).await;
    for view in views::ALL {
        compare(&cx, tables, &view.spec.table).await?;
    }
    Ok(())
}

/// Compares one view with its oracle in a session of [`oracle_session`].
pub async fn compare(cx: &SessionContext, tables: &Tables, table: &TableSpec) -> Result<(), String> {
    let columns = (table.columns)();
    let names: Vec<_> = columns.iter().map(|c| c.name).collect();
    let sql = format!("select {} from {}", names.join(", "), table.name);
    let want = query(cx, &sql, &columns, table.name).await;
    let have = tables.rows(table.name);
    let mut keys: Vec<Row> = have.iter().map(|row| table.key_of(row)).collect();
    keys.sort();
    keys.dedup();
    if keys.len() != have.len() {
        return Err(format!("{}: {} rows for {} keys", table.name, have.len(), keys.len()));
    }
    if want != have {
        let extra: Vec<_> = have.iter().filter(|r| !want.contains(r)).take(3).collect();
        let missing: Vec<_> = want.iter().filter(|r| !have.contains(r)).take(3).collect();
        return Err(format!(
            "{} ({names:?})\n  not in the oracle: {extra:#?}\n  only in the oracle: {missing:#?}",
            table.name
        ));
    }
    Ok(())
}

/// Days of people that `effort` has shares of, each of which sum to exactly one. `Err` says of which day they do not.
pub fn days_of_effort(tables: &Tables) -> Result<usize, TestCaseError> {
    let mut days = BTreeMap::<_, i64>::new();
    for row in tables.rows("effort") {
        *days.entry((row[0].clone(), row[1].clone())).or_default() += row[3].as_int().unwrap_or_default();
    }
    match days.iter().find(|(_, sum)| **sum != 1_000_000) {
        Some((day, sum)) => Err(TestCaseError::fail(format!("the shares of {day:?} sum to {sum}"))),
        None => Ok(days.len()),
    }
}

/// A signal whose body is the facts that it states: what the judge feeds the real job with.
pub fn signal(number: u64, facts: &[(Micros, FactBody)], rejected: bool) -> Signal {
    use flowsync_schemas::{Channel, SignalId};
    Signal {
        id: SignalId::of_delivery("judge", &number.to_string()),
        source: "judge".into(),
        delivery: number.to_string(),
        occurred_at: None,
        received_at: Micros::from_secs(1_700_000_000 + number as i64 * 700),
        channel: Channel::Import,
        verified_by: "test".into(),
        headers: vec![],
        body: serde_json::to_vec(&(facts, rejected)).expect("facts are serializable"),
    }
}

/// Reads [`signal`]s back.
pub fn reader() -> Read {
    Arc::new(|signal: &Signal| {
        let (facts, rejected): (Vec<(Micros, FactBody)>, bool) =
            serde_json::from_slice(&signal.body).expect("the body of a judge's signal");
        let facts = (0..).zip(facts).map(|(seq, (at, body))| Fact { signal: signal.id, seq, at, body }).collect();
        let rejections = rejected.then(|| Rejection { reason: "a test said so".into() });
        (facts, rejections.into_iter().collect())
    })
}

/// A job with this many workers that reads [`signal`]s, and what comes out of it.
pub fn job(workers: usize, model: &Model) -> (Job, Receiver<EpochDelta>) {
    job_reading(workers, model, reader())
}

/// A job that reads signals in another way.
pub fn job_reading(workers: usize, model: &Model, read: Read) -> (Job, Receiver<EpochDelta>) {
    let (send, receive) = sync_channel(1024);
    let config = Config { workers, model: model.clone(), epochs_in_flight_max: 64 };
    (Job::start(config, read, send).expect("timely starts"), receive)
}
