//! Rows by a column's value: what asks for few values of an indexed column (a neighbour, a join over the graph) touches their
//! rows alone, instead of every file.
//!
//! ```text
//!   file ──once──► columns in memory, and (hash of value, row) in order ──┐
//!                                                                         ├──► candidates ──► the scan's filter ──► rows
//!   filter of a scan: "src_id" = …, in (…), a join's build side ──────────┘
//! ```
//!
//! What is kept of a file belongs to the lists of files that name it ([`crate::delta`]): the next version of a table takes it
//! over, and it goes with the last version. Files are immutable, so it is never stale (I4). A hash says which rows may match;
//! the filter that Parquet would have applied is applied to them, so the answer is that of a plain scan.
//!
//! Keeps I9: beyond `index_bytes_max` nothing more is kept, and those files are read as before. A file that cannot be read is
//! left to the plain scan, which tells why.

use std::{
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array},
    compute::{cast, concat_batches, filter_record_batch, take},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use datafusion::{
    common::{Result as DfResult, ScalarValue, config::ConfigOptions, tree_node::TreeNodeRecursion},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileScanConfig, FileSource, ParquetFileReaderFactory},
        table_schema::TableSchema,
    },
    logical_expr::Operator,
    physical_expr::{
        EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, CaseExpr, Column, DynamicFilterPhysicalExpr, InListExpr, Literal},
        projection::ProjectionExprs,
        utils::collect_columns,
    },
    physical_plan::{
        DisplayFormatType, SortOrderPushdownResult,
        filter_pushdown::FilterPushdownPropagation,
        metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder},
    },
};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::{FutureExt, StreamExt, TryStreamExt, stream::BoxStream};
use object_store::ObjectStore;
use parquet::{
    arrow::{
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder},
    },
    errors::ParquetError,
};
use tokio::sync::OnceCell;

use crate::intact::IntactReaders;

/// The text columns whose values have their rows looked up, by table.
const INDEXED: &[(&str, &[&str])] = &[("edges", &["src_id", "dst_id"])];

/// Bytes in memory for a byte of a file, about: a file that would not fit is not read in vain.
const EXPANSION: u64 = 4;

/// Positions of a table's indexed columns.
pub(crate) fn indexed(table: &str, schema: &Schema) -> Vec<usize> {
    let columns = INDEXED.iter().filter(|(name, _)| *name == table).flat_map(|(_, columns)| *columns);
    let texts =
        columns.filter_map(|c| schema.column_with_name(c).filter(|(_, f)| f.data_type() == &DataType::Utf8View));
    texts.map(|(at, _)| at).collect()
}

/// The memory of everything that is kept.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0) })
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn left(&self) -> usize {
        self.max.saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        let before = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        metrics::gauge!("flowsync_index_bytes").set((before + bytes) as f64);
        Some(Share { budget: self.clone(), bytes })
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let before = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        metrics::gauge!("flowsync_index_bytes").set(before.saturating_sub(self.bytes) as f64);
    }
}

/// Place of what is kept of one file; filled when a question first looks something up in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot(Arc<OnceCell<Rows>>);

/// What is kept says nothing about the file.
impl PartialEq for Slot {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Slot {}

/// The rows of one file.
#[derive(Debug)]
struct Rows {
    /// In the order of the table's columns, as small as they get.
    columns: Vec<ArrayRef>,
    /// For each indexed column: hash of a value (upper half) and number of a row (lower half), in order; rows without a value
    /// are left out.
    by: Vec<Vec<u64>>,
    _share: Share,
}

fn hash(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish() as u32
}

impl Rows {
    async fn load(look: &Look, file: &PartitionedFile) -> DfResult<Self> {
        let reader = look.readers.create_reader(0, file.clone(), None, &ExecutionPlanMetricsSet::new())?;
        let batch = read(reader).await?;
        let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
            Some(column) => small(column),
            None => Err(ArrowError::SchemaError(format!("no column {}", field.name()))),
        };
        let columns = look.schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let by = look.indexed.iter().map(|at| by_hash(&columns[*at])).collect::<Result<Vec<_>, _>>()?;
        let pairs: usize = by.iter().map(|by| size_of_val(by.as_slice())).sum();
        let bytes = columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>() + pairs;
        let share = look.budget.take(bytes).ok_or_else(|| ParquetError::General("no room".to_owned()))?;
        Ok(Self { columns, by, _share: share })
    }

    /// Numbers of the rows that may have one of these values, rising.
    fn candidates(&self, wanted: &Wanted) -> UInt32Array {
        let mut rest = self.by[wanted.by].as_slice();
        let mut rows: Vec<u32> = Vec::new();
        for hash in &wanted.hashes {
            let first = u64::from(*hash) << 32;
            rest = &rest[rest.partition_point(|pair| *pair < first)..];
            rows.extend(rest.iter().take_while(|pair| (*pair ^ first) >> 32 == 0).map(|pair| *pair as u32));
        }
        rows.sort_unstable();
        rows.into()
    }

    /// These rows with the table's schema; columns that nobody needs are empty.
    fn batch(
        &self,
        rows: &UInt32Array,
        schema: &SchemaRef,
        needed: &BTreeSet<usize>,
    ) -> Result<RecordBatch, ArrowError> {
        let column = |(at, field): (usize, &Arc<Field>)| {
            if !needed.contains(&at) {
                return Ok(new_null_array(field.data_type(), rows.len()));
            }
            let column = &self.columns[at];
            // Few rows must not hold on to the texts of all.
            let taken = match column.as_any_dictionary_opt() {
                Some(column) => take(column.values(), &take(column.keys(), rows, None)?, None)?,
                None => take(column, rows, None)?,
            };
            cast(&taken, field.data_type())
        };
        let columns = schema.fields().iter().enumerate().map(column).collect::<Result<_, _>>()?;
        RecordBatch::try_new(schema.clone(), columns)
    }
}

/// A whole file; texts as dictionaries, which is how they lie there.
async fn read(mut reader: Box<dyn AsyncFileReader>) -> Result<RecordBatch, ParquetError> {
    let found = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await?;
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8 => Arc::new(field.as_ref().clone().with_data_type(dictionary(DataType::Int32, DataType::Utf8))),
        _ => field.clone(),
    };
    let schema = Arc::new(Schema::new(found.schema().fields().iter().map(field).collect::<Vec<_>>()));
    let options = ArrowReaderOptions::new().with_schema(schema.clone());
    let metadata = ArrowReaderMetadata::try_new(found.metadata().clone(), options)?;
    let rows = usize::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or_default();
    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata).with_batch_size(rows.max(1));
    let batches: Vec<_> = stream.build()?.try_collect().await?;
    Ok(concat_batches(&schema, &batches)?)
}

fn dictionary(keys: DataType, values: DataType) -> DataType {
    DataType::Dictionary(Box::new(keys), Box::new(values))
}

/// The same values, as a dictionary with short keys where that is smaller.
fn small(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let values = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        plain => plain,
    };
    let mut column = column.clone();
    // More than 65,536 values do not fit.
    if let Ok(mut short) = cast(&column, &dictionary(DataType::UInt16, values.clone())) {
        short.shrink_to_fit();
        if short.get_array_memory_size() < column.get_array_memory_size() {
            column = short;
        }
    }
    Ok(column)
}

fn by_hash(column: &ArrayRef) -> Result<Vec<u64>, ArrowError> {
    let column = cast(column, &dictionary(DataType::UInt32, DataType::Utf8))?;
    let column = column.as_dictionary::<arrow::datatypes::UInt32Type>();
    let texts = column.values().as_string::<i32>();
    let hashes: Vec<_> = texts.iter().map(|text| u64::from(hash(text.unwrap_or_default())) << 32).collect();
    let keys = column.keys().iter().zip(0u64..);
    let mut by: Vec<_> = keys.filter_map(|(key, row)| Some(hashes[key? as usize] | row)).collect();
    by.sort_unstable();
    by.shrink_to_fit();
    Ok(by)
}

/// The values that rows must have to get through a filter.
#[derive(Debug)]
struct Wanted {
    /// Which of the indexed columns has them.
    by: usize,
    /// Their hashes, rising.
    hashes: Vec<u32>,
}

/// Hashes of all values that `column` can have where `filter` is true; `None` where it can have any.
fn values(filter: &Arc<dyn PhysicalExpr>, column: &str) -> Option<Vec<u32>> {
    let of = |filter| values(filter, column);
    if let Some(join) = filter.downcast_ref::<DynamicFilterPhysicalExpr>() {
        return of(&join.current().ok()?);
    }
    if let Some(fixed) = filter.downcast_ref::<Literal>() {
        return matches!(fixed.value(), ScalarValue::Boolean(Some(false) | None)).then(Vec::new);
    }
    if let Some(two) = filter.downcast_ref::<BinaryExpr>() {
        return match two.op() {
            Operator::And => [of(two.left()), of(two.right())].into_iter().flatten().min_by_key(Vec::len),
            Operator::Or => Some([of(two.left())?, of(two.right())?].concat()),
            Operator::Eq => {
                let (left, right) = (two.left(), two.right());
                let one = |a, b| Some(vec![hash_in(b, &place(a, column)?)?]);
                one(left, right).or_else(|| one(right, left))
            }
            _ => None,
        };
    }
    if let Some(list) = filter.downcast_ref::<InListExpr>().filter(|list| !list.negated()) {
        let place = place(list.expr(), column)?;
        return list.list().iter().map(|value| hash_in(value, &place)).collect();
    }
    // How a join over several partitions says which build side a row belongs to.
    if let Some(case) = filter.downcast_ref::<CaseExpr>() {
        let arms = case.when_then_expr().iter().map(|(_, then)| then).chain(case.else_expr());
        return arms.map(of).collect::<Option<Vec<_>>>().map(|arms| arms.concat());
    }
    None
}

/// Where the column's value stands in what is compared.
enum Place {
    Itself,
    /// A field of `struct(…)`, which is how joins compare several columns.
    Field(usize),
}

fn place(compared: &Arc<dyn PhysicalExpr>, column: &str) -> Option<Place> {
    let is_column = |e: &Arc<dyn PhysicalExpr>| e.downcast_ref::<Column>().is_some_and(|c| c.name() == column);
    if is_column(compared) {
        return Some(Place::Itself);
    }
    let fields = compared.downcast_ref::<ScalarFunctionExpr>().filter(|f| f.fun().name() == "struct")?;
    fields.args().iter().position(is_column).map(Place::Field)
}

/// Hash of a literal's text; `None` where it is no text, or missing: whether that equals anything is for the filter to say.
fn hash_in(literal: &Arc<dyn PhysicalExpr>, place: &Place) -> Option<u32> {
    let text = |value: &ScalarValue| value.try_as_str().flatten().map(hash);
    let literal = literal.downcast_ref::<Literal>()?.value();
    match (place, literal) {
        (Place::Itself, value) => text(value),
        (Place::Field(at), ScalarValue::Struct(fields)) => {
            text(&ScalarValue::try_from_array(fields.columns().get(*at)?, 0).ok()?)
        }
        (Place::Field(_), _) => None,
    }
}

/// What every scan of one table looks rows up with.
pub(crate) struct Look {
    pub(crate) schema: SchemaRef,
    pub(crate) indexed: Vec<usize>,
    pub(crate) readers: Arc<IntactReaders>,
    pub(crate) budget: Arc<Budget>,
}

/// A scan of Parquet files that looks rows up where its filter names few values of an indexed column.
#[derive(Clone)]
pub(crate) struct IndexedSource {
    /// The plain scan: it holds filter and projection.
    parquet: Arc<dyn FileSource>,
    look: Arc<Look>,
}

impl IndexedSource {
    pub(crate) fn new(parquet: Arc<dyn FileSource>, look: Look) -> Self {
        Self { parquet, look: Arc::new(look) }
    }

    fn with(&self, parquet: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { parquet, look: self.look.clone() })
    }
}

impl FileSource for IndexedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Arc<dyn datafusion::datasource::physical_plan::FileOpener>> {
        self.parquet.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Box<dyn Morselizer>> {
        let parquet = self.parquet.create_morselizer(store, config, partition)?;
        let (Some(filter), Some(projection)) = (self.parquet.filter(), self.parquet.projection()) else {
            return Ok(parquet);
        };
        let projected = projection.iter().map(|p| &p.expr).chain([&filter]);
        let needed = projected.flat_map(collect_columns).map(|column| column.index()).collect();
        let looked_up = MetricBuilder::new(self.metrics()).counter("files_looked_up", partition);
        let (look, projection) = (self.look.clone(), projection.clone());
        let parquet = Arc::from(parquet);
        let lookup = Lookup { look, parquet, filter, projection, needed, wanted: OnceLock::new(), looked_up };
        Ok(Box::new(Morsels(Arc::new(lookup))))
    }

    fn table_schema(&self) -> &TableSchema {
        self.parquet.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.with(self.parquet.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.parquet.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.parquet.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.parquet.metrics()
    }

    fn file_type(&self) -> &str {
        self.parquet.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parquet.fmt_extra(t, f)
    }

    /// A file is looked up whole.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let FilterPushdownPropagation { filters, updated_node } = self.parquet.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation { filters, updated_node: updated_node.map(|parquet| self.with(parquet)) })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.parquet.try_pushdown_sort(order, properties)?.map(|parquet| self.with(parquet)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.parquet.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DfResult<Option<Arc<dyn FileSource>>> {
        Ok(self.parquet.try_pushdown_projection(projection)?.map(|parquet| self.with(parquet)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        self.parquet.apply_expressions(f)
    }
}

/// One partition of a scan.
struct Lookup {
    look: Arc<Look>,
    parquet: Arc<dyn Morselizer>,
    filter: Arc<dyn PhysicalExpr>,
    projection: ProjectionExprs,
    /// Columns that filter and projection read.
    needed: BTreeSet<usize>,
    /// What the filter asked for when it was first known: a join fills it in once, and whatever comes later only narrows it.
    wanted: OnceLock<Wanted>,
    looked_up: Count,
}

impl Lookup {
    fn wanted(&self) -> Option<&Wanted> {
        if let Some(known) = self.wanted.get() {
            return Some(known);
        }
        let column = |(by, at): (usize, &usize)| {
            let hashes = values(&self.filter, self.look.schema.field(*at).name())?;
            Some(Wanted { by, hashes })
        };
        let columns = self.look.indexed.iter().enumerate().filter_map(column);
        let mut wanted = columns.min_by_key(|wanted| wanted.hashes.len())?;
        wanted.hashes.sort_unstable();
        wanted.hashes.dedup();
        Some(self.wanted.get_or_init(|| wanted))
    }

    fn rows(&self, rows: &Rows, wanted: &Wanted) -> DfResult<RecordBatch> {
        let schema = &self.look.schema;
        let batch = rows.batch(&rows.candidates(wanted), schema, &self.needed)?;
        let passed = self.filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let passed: &BooleanArray = passed.as_boolean();
        self.projection.make_projector(schema)?.project_batch(&filter_record_batch(&batch, passed)?)
    }
}

struct Morsels(Arc<Lookup>);

impl fmt::Debug for Morsels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Morsels").finish_non_exhaustive()
    }
}

impl Morselizer for Morsels {
    fn plan_file(&self, file: PartitionedFile) -> DfResult<Box<dyn MorselPlanner>> {
        let lookup = &self.0;
        let slot = file.extension::<Slot>().cloned().filter(|slot| {
            let room = || file.object_meta.size.saturating_mul(EXPANSION) <= lookup.look.budget.left() as u64;
            lookup.wanted().is_some() && (slot.0.initialized() || room())
        });
        match slot {
            Some(slot) => Ok(Box::new(InFile { lookup: lookup.clone(), slot, file })),
            None => lookup.parquet.plan_file(file),
        }
    }
}

/// One file, looked up.
struct InFile {
    lookup: Arc<Lookup>,
    slot: Slot,
    file: PartitionedFile,
}

impl fmt::Debug for InFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFile").field("file", &self.file.object_meta.location).finish_non_exhaustive()
    }
}

impl MorselPlanner for InFile {
    fn plan(self: Box<Self>) -> DfResult<Option<MorselPlan>> {
        let (Some(rows), Some(wanted)) = (self.slot.0.get(), self.lookup.wanted()) else {
            let filled = async move {
                let loaded = self.slot.0.get_or_try_init(|| Rows::load(&self.lookup.look, &self.file)).await.map(drop);
                match loaded {
                    Ok(()) => Ok(self as Box<dyn MorselPlanner>),
                    Err(e) => {
                        tracing::debug!(file = %self.file.object_meta.location, %e, "index: left to the plain scan");
                        self.lookup.parquet.plan_file(self.file)
                    }
                }
            };
            return Ok(Some(MorselPlan::new().with_pending_planner(filled)));
        };
        let batch = self.lookup.rows(rows, wanted)?;
        self.lookup.looked_up.add(1);
        let morsel = (batch.num_rows() > 0).then(|| Box::new(Found(batch)) as Box<dyn Morsel>);
        Ok(morsel.map(|morsel| MorselPlan::new().with_morsels(vec![morsel])))
    }
}

#[derive(Debug)]
struct Found(RecordBatch);

impl Morsel for Found {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, DfResult<RecordBatch>> {
        futures::future::ready(Ok(self.0)).into_stream().boxed()
    }
}
