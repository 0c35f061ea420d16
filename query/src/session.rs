//! One snapshot, and the statements on it: read-only, one epoch (I4), limited in length, time, memory and rows (I9).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList},
    common::ParamValues,
    datasource::MemTable,
    error::DataFusionError,
    execution::{SessionState, SessionStateBuilder, context::SQLOptions, memory_pool::GreedyMemoryPool},
    logical_expr::LogicalPlan,
    physical_plan::execute_stream,
};
use flowsync_schemas::{Epoch, TableSpec, ViewSpec};
use futures::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    EngineOptions, Param, QueryError, SqlRow, columns,
    engine::{CATALOG, SCHEMA, Shared},
    intact::Damaged,
    statement,
    tables::SnapshotTables,
};

/// One epoch of every table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    tables: Arc<SnapshotTables>,
}

/// An answer: all of it, or an error that names the limit.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The epoch that it is the answer at.
    pub epoch: Epoch,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl QueryResult {
    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// As plain rows.
    ///
    /// # Errors
    /// Where a column is of a type that rows do not hold, such as a float: cast it in the query.
    pub fn rows(&self) -> Result<Vec<SqlRow>, QueryError> {
        let names: Arc<[String]> = self.schema.fields().iter().map(|f| f.name().clone()).collect();
        let mut out = Vec::with_capacity(self.row_count());
        for batch in &self.batches {
            let rows = columns::rows(batch)?;
            out.extend(rows.into_iter().map(|values| SqlRow { columns: names.clone(), values }));
        }
        Ok(out)
    }
}

/// Bounds the queries that run, and those that wait.
#[derive(Debug)]
pub(crate) struct Turns {
    running: Semaphore,
    waiting: AtomicUsize,
}

impl Turns {
    pub(crate) fn new(queries_max: usize) -> Self {
        Self { running: Semaphore::new(queries_max), waiting: AtomicUsize::new(0) }
    }

    async fn take(&self, options: &EngineOptions) -> Result<SemaphorePermit<'_>, QueryError> {
        if let Ok(turn) = self.running.try_acquire() {
            return Ok(turn);
        }
        /// Leaves the queue also when the caller gives up.
        struct Place<'a>(&'a AtomicUsize);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let limit = |name, detail| QueryError::Limit { name, detail };
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.waiting);
        if ahead >= options.queue_max {
            return Err(limit("queue_max", format!("{ahead} queries wait for their turn already: ask again later")));
        }
        match tokio::time::timeout(options.time_max, self.running.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(limit("queries_max", format!("{} queries are running: ask again later", options.queries_max))),
        }
    }
}

impl Snapshot {
    pub(crate) fn new(shared: Arc<Shared>, tables: Arc<SnapshotTables>) -> Self {
        Self { shared, tables }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.tables.epochs().0
    }

    /// The commit under it: the same epoch, or an older one where the overlay adds to it.
    pub fn committed_epoch(&self) -> Epoch {
        self.tables.epochs().1
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.shared.options
    }

    pub(crate) fn view(&self, name: &str) -> Result<&'static ViewSpec, QueryError> {
        self.shared.catalog.views.get(name).copied().ok_or_else(|| {
            let known = self.shared.catalog.views.keys().copied().collect::<Vec<_>>().join(", ");
            QueryError::NotFound(format!("there is no view {name:?}: views are {known}"))
        })
    }

    pub(crate) fn is_empty(&self, table: &TableSpec) -> bool {
        self.tables.is_empty(table)
    }

    /// Runs one read-only statement; `$1`, `$2`, … are the parameters.
    ///
    /// # Errors
    /// A statement that is wrong or would write, a limit, or files that are gone. Dropping the future cancels the query.
    pub async fn sql(&self, sql: &str, params: &[Param]) -> Result<QueryResult, QueryError> {
        let _turn = self.shared.turns.take(self.options()).await?;
        let started = Instant::now();
        let time_max = self.options().time_max;
        let answer = match tokio::time::timeout(time_max, self.run(sql, params)).await {
            Ok(answer) => answer,
            Err(_) => Err(QueryError::Limit {
                name: "time_max",
                detail: format!("the query ran for {} s: filter earlier or aggregate", time_max.as_secs_f64()),
            }),
        };
        let outcome = answer.as_ref().map_or_else(QueryError::code, |_| "ok");
        metrics::histogram!("flowsync_query_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("flowsync_queries_total", "outcome" => outcome).increment(1);
        answer
    }

    /// Runs one read-only statement and returns plain rows.
    ///
    /// # Errors
    /// As [`Snapshot::sql`], and where a column is of a type that rows do not hold, such as a float.
    pub async fn rows(&self, sql: &str, params: &[Param]) -> Result<Vec<SqlRow>, QueryError> {
        self.sql(sql, params).await?.rows()
    }

    /// Keeps the answer to a statement as a table, which further statements of this snapshot can name: what many of them
    /// read is computed once.
    ///
    /// # Errors
    /// As [`Snapshot::sql`].
    pub async fn keep(&self, name: &str, sql: &str) -> Result<(), QueryError> {
        let QueryResult { schema, batches, .. } = self.sql(sql, &[]).await?;
        let table = MemTable::try_new(schema, vec![batches]).map_err(|e| QueryError::Internal(e.to_string()))?;
        self.tables.keep(name, table);
        Ok(())
    }

    async fn run(&self, sql: &str, params: &[Param]) -> Result<QueryResult, QueryError> {
        let options = self.options();
        statement::check(sql, options)?;
        let failed = |e| failure(e, options);
        let state = self.session()?;
        let plan = state.create_logical_plan(sql).await.map_err(failed)?;
        let plan = read_only(plan)?;
        let values = ParamValues::from(params.iter().map(Param::scalar).collect::<Vec<_>>());
        let plan = plan.with_param_values(values).map_err(failed)?;
        let plan = state.create_physical_plan(&plan).await.map_err(failed)?;
        let mut stream = execute_stream(plan, state.task_ctx()).map_err(failed)?;
        let schema = columns::plain_schema(&stream.schema());
        let mut answer = QueryResult { epoch: self.epoch(), schema, batches: Vec::new() };
        let (mut rows, mut bytes) = (0, 0);
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(failed)?;
            rows += batch.num_rows();
            if rows > options.rows_max {
                return Err(QueryError::Limit {
                    name: "rows_max",
                    detail: format!("the answer has more than {} rows: add LIMIT or aggregate", options.rows_max),
                });
            }
            bytes += batch.get_array_memory_size();
            if bytes > options.memory_bytes_max {
                return Err(memory_limit(options));
            }
            if batch.num_rows() > 0 {
                let batch = columns::plain(&batch, &answer.schema).map_err(|e| failed(e.into()))?;
                answer.batches.push(batch);
            }
        }
        Ok(answer)
    }

    /// A session of its own for every statement: its tables are this snapshot's, its memory is counted by itself.
    fn session(&self) -> Result<SessionState, QueryError> {
        let mut runtime = self.shared.runtime.clone();
        runtime.memory_pool = Arc::new(GreedyMemoryPool::new(self.options().memory_bytes_max));
        let catalog = MemoryCatalogProvider::new();
        let list = MemoryCatalogProviderList::new();
        catalog.register_schema(SCHEMA, self.tables.clone()).map_err(|e| QueryError::Internal(e.to_string()))?;
        list.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = SessionStateBuilder::new_from_existing(self.shared.state.clone())
            .with_catalog_list(Arc::new(list))
            .with_runtime_env(Arc::new(runtime))
            .build();
        // Fixes `now()` for the whole statement.
        state.mark_start_execution();
        Ok(state)
    }
}

fn read_only(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let allowed = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    match allowed.verify_plan(&plan) {
        Ok(()) => Ok(plan),
        Err(e) => Err(QueryError::User(format!(
            "only queries are answered (SELECT, WITH, VALUES, EXPLAIN, SHOW, DESCRIBE): {}",
            e.message()
        ))),
    }
}

fn memory_limit(options: &EngineOptions) -> QueryError {
    QueryError::Limit {
        name: "memory_bytes_max",
        detail: format!(
            "the query needs more than {} bytes: filter earlier, select fewer columns or aggregate",
            options.memory_bytes_max
        ),
    }
}

/// Whose fault it is, in words without the engine's internals.
fn failure(error: DataFusionError, options: &EngineOptions) -> QueryError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
            Ok(ours) => *ours,
            Err(other) => lost(other.as_ref()).unwrap_or_else(|| QueryError::Internal(other.to_string())),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => failure(*inner, options),
        DataFusionError::Shared(inner) => match Arc::try_unwrap(inner) {
            Ok(inner) => failure(inner, options),
            Err(shared) => lost(shared.as_ref()).unwrap_or_else(|| classify(&shared, options)),
        },
        other => lost(&other).unwrap_or_else(|| classify(&other, options)),
    }
}

fn classify(error: &DataFusionError, options: &EngineOptions) -> QueryError {
    let root = error.find_root();
    let text = root.strip_backtrace();
    match root {
        DataFusionError::ResourcesExhausted(_) => memory_limit(options),
        // The reader of footers keeps of the cause its words alone.
        DataFusionError::ParquetError(_) if text.contains("No such file") => missing(&text),
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..) => QueryError::User(text),
        _ => QueryError::Internal(text),
    }
}

fn missing(what: &str) -> QueryError {
    QueryError::Data(format!(
        "a file of this epoch is missing: {what}; the epoch was cleaned away while it was read, or the directory is \
         damaged: ask for the newest epoch"
    ))
}

/// A file that a kept epoch lists and that is not there, or not as it was written.
fn lost(error: &(dyn std::error::Error + 'static)) -> Option<QueryError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(object_store::Error::NotFound { path, .. }) = error.downcast_ref() {
            return Some(missing(path));
        }
        if let Some(damaged) = error.downcast_ref::<Damaged>() {
            return Some(QueryError::Data(format!(
                "{damaged}; put the file back from a backup, or start again without the folders `tables` and `manifests`: \
                 everything in them is computed anew from the log, but for signals past their retention"
            )));
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn too_many_queries_wait_and_then_are_refused() {
        let options = EngineOptions { queries_max: 1, queue_max: 1, ..Default::default() };
        let turns = Arc::new(Turns::new(options.queries_max));
        let wait = || {
            let (turns, options) = (turns.clone(), options.clone());
            tokio::spawn(async move { turns.take(&options).await.map(drop) })
        };
        let waiting = async |n| {
            while turns.waiting.load(Ordering::Relaxed) != n {
                tokio::task::yield_now().await;
            }
        };
        let first = turns.take(&options).await.unwrap();
        let gives_up = wait();
        waiting(1).await;
        let refused = turns.take(&options).await.unwrap_err();
        assert!(refused.is_retryable() && refused.to_string().contains("queue_max"), "{refused:?}");
        gives_up.abort();
        // Who gives up leaves the queue.
        waiting(0).await;
        let patient = wait();
        waiting(1).await;
        drop(first);
        patient.await.unwrap().unwrap();
        let hurried = EngineOptions { time_max: std::time::Duration::from_millis(10), ..options.clone() };
        let _busy = turns.take(&options).await.unwrap();
        let late = turns.take(&hurried).await.unwrap_err();
        assert!(late.is_retryable() && late.to_string().contains("queries_max"), "{late:?}");
    }
}
