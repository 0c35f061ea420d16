//! Delta tables for reading: which Parquet files make up a version, and a scan over them.
//!
//! Commits come every second and queries must start within milliseconds, so the file list of a version is kept, and the
//! next version is the kept list with the few commits between applied: reading two small JSON files by name, without
//! listing the log. Only the first opening (and a change of schema or protocol) replays the log from a checkpoint, which
//! deltalake-core does. The files are immutable, so DataFusion's cache of Parquet footers stays valid, and so does what
//! [`crate::index`] keeps of them; scans are plain DataFusion Parquet scans with projection, limit and filter pushdown, but for
//! rows that are looked up there.
//!
//! Refused, with the reason: partitioned tables and deletion vectors, which FlowSync does not write.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use datafusion::{
    arrow::datatypes::{DataType, Field, Schema, SchemaRef},
    catalog::{Session, TableProvider},
    common::{Result as DfResult, Statistics, stats::Precision},
    datasource::{
        TableType,
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfigBuilder, FileSource, ParquetSource, parquet::CachedParquetFileReaderFactory,
        },
        source::DataSourceExec,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};
use deltalake_core::{
    DeltaTableBuilder,
    kernel::{Action, Add},
    logstore::get_actions,
};
use flowsync_schemas::{FilesDigest, TableVersion};
use futures::FutureExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, path::Path as StorePath};
use url::Url;

use crate::{
    QueryError,
    index::{self, Budget, IndexedSource, Look, Slot},
    intact::{Intact, IntactReaders},
};

/// Versions of one table whose file lists are kept.
const VERSIONS_MAX: usize = 4;
/// Commits applied one by one; a longer way is replayed from a checkpoint.
const STEPS_MAX: u64 = 256;

/// The data directory as the engine sees it: nothing else on this machine has a URL.
pub(crate) const STORE: &str = "flowsync://data/";

#[derive(Clone, Debug, PartialEq, Eq)]
struct DataFile {
    bytes: u64,
    modified_ms: i64,
    rows: Option<u64>,
    index: Slot,
}

/// One version of one table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableFiles {
    version: u64,
    pub(crate) schema: SchemaRef,
    files: BTreeMap<String, DataFile>,
}

impl TableFiles {
    fn digest(&self) -> FilesDigest {
        let with = |digest: FilesDigest, (path, file): (&String, &DataFile)| {
            digest.with(path, file.bytes, file.rows.unwrap_or_default())
        };
        self.files.iter().fold(FilesDigest::default(), with)
    }

    /// What is kept of a file is kept once, whichever versions list it.
    fn share_index(&mut self, kept: &[Arc<TableFiles>]) {
        for (path, file) in &mut self.files {
            if let Some(known) = kept.iter().find_map(|t| t.files.get(path)) {
                file.index = known.index.clone();
            }
        }
    }
}

/// The versions of one table that are kept. Held while opening, so that many queries at once read the log once.
type Versions = tokio::sync::Mutex<Vec<Arc<TableFiles>>>;

/// The Delta tables of one data directory.
#[derive(Debug)]
pub(crate) struct DeltaTables {
    root: Url,
    store: Arc<dyn ObjectStore>,
    intact: Arc<Intact>,
    pub(crate) index: Arc<Budget>,
    tables: Mutex<HashMap<String, Arc<Versions>>>,
}

impl DeltaTables {
    pub(crate) fn new(root: Url, store: Arc<dyn ObjectStore>, index_bytes_max: usize) -> Self {
        let index = Budget::new(index_bytes_max);
        Self { root, store, intact: Arc::default(), index, tables: Mutex::default() }
    }

    /// A table as a manifest lists it.
    pub(crate) async fn open(&self, name: &str, listed: TableVersion) -> Result<DeltaScan, QueryError> {
        let version = listed.delta;
        let kept = {
            let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.entry(name.to_owned()).or_default().clone()
        };
        let mut kept = kept.lock().await;
        let files = match kept.iter().find(|t| t.version == version) {
            Some(files) => files.clone(),
            None => {
                let nearest = kept.iter().filter(|t| t.version < version).max_by_key(|t| t.version).cloned();
                let mut files = self.load(name, version, nearest.as_deref()).await?;
                files.share_index(&kept);
                let files = Arc::new(files);
                kept.push(files.clone());
                // The newest versions are those asked for again.
                kept.sort_by_key(|t| std::cmp::Reverse(t.version));
                kept.truncate(VERSIONS_MAX);
                files
            }
        };
        if listed.files.is_some_and(|digest| digest != files.digest()) {
            return Err(broken(name, version, &"what its Delta log lists are not the files that the manifest names"));
        }
        let (store, intact, index) = (self.store.clone(), self.intact.clone(), self.index.clone());
        Ok(DeltaScan { table: name.to_owned(), files, store, intact, index })
    }

    async fn load(&self, name: &str, version: u64, nearest: Option<&TableFiles>) -> Result<TableFiles, QueryError> {
        if let Some(nearest) = nearest
            && version - nearest.version <= STEPS_MAX
            && let Some(files) = self.advance(name, nearest, version).await?
        {
            metrics::counter!("flowsync_table_opens_total", "how" => "advance").increment(1);
            return Ok(files);
        }
        metrics::counter!("flowsync_table_opens_total", "how" => "replay").increment(1);
        self.replay(name, version).await
    }

    /// The file list of a version out of that of an earlier one, or `None` where the log has to be replayed.
    async fn advance(&self, name: &str, from: &TableFiles, to: u64) -> Result<Option<TableFiles>, QueryError> {
        let mut files = from.files.clone();
        for version in from.version + 1..=to {
            let path = StorePath::from(format!("tables/{name}/_delta_log/{version:020}.json"));
            let bytes = match self.store.get(&path).await {
                Ok(found) => found.bytes().await,
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Err(e) => Err(e),
            }
            .map_err(|e| broken(name, version, &e))?;
            for action in get_actions(version, &bytes).map_err(|e| broken(name, version, &e))? {
                match action {
                    Action::Add(add) => {
                        let file = data_file(name, &add)?;
                        files.insert(add.path, file);
                    }
                    Action::Remove(remove) => {
                        files.remove(&remove.path);
                    }
                    Action::Metadata(_) | Action::Protocol(_) => return Ok(None),
                    Action::Cdc(_) | Action::Txn(_) | Action::CommitInfo(_) | Action::DomainMetadata(_) => {}
                }
            }
        }
        Ok(Some(TableFiles { version: to, schema: from.schema.clone(), files }))
    }

    async fn replay(&self, name: &str, version: u64) -> Result<TableFiles, QueryError> {
        let failed = |e: &dyn std::fmt::Display| broken(name, version, e);
        let url = self.root.join(&format!("tables/{name}/")).map_err(|e| failed(&e))?;
        let table = DeltaTableBuilder::from_url(url).map_err(|e| failed(&e))?.with_version(version);
        // The reader of checkpoints (parquet 59) panics on some damage.
        let read = AssertUnwindSafe(table.load()).catch_unwind().await;
        let panicked = "the reader of its Delta log panicked; standard error says where";
        let table = read.map_err(|_| failed(&panicked))?.map_err(|e| failed(&e))?;
        let state = table.snapshot().map_err(|e| failed(&e))?.snapshot();
        let mut files = BTreeMap::new();
        for view in state.log_data().iter() {
            if view.deletion_vector_descriptor().is_some() {
                return Err(not_plain(name, &view.path()));
            }
            let file = DataFile {
                bytes: u64::try_from(view.size()).unwrap_or_default(),
                modified_ms: view.modification_time(),
                rows: view.num_records().map(|rows| rows as u64),
                index: Slot::default(),
            };
            files.insert(view.path().into_owned(), file);
        }
        if !state.metadata().partition_columns().is_empty() {
            return Err(failed(&"it is partitioned, and FlowSync reads plain tables only"));
        }
        Ok(TableFiles { version, schema: as_views(&state.arrow_schema()), files })
    }
}

fn broken(name: &str, version: u64, why: &dyn std::fmt::Display) -> QueryError {
    QueryError::Data(format!("table {name} cannot be opened at version {version}: {why}"))
}

fn not_plain(table: &str, path: &str) -> QueryError {
    QueryError::Data(format!(
        "table {table}: {path} has a deletion vector or partition values, and FlowSync reads plain tables only"
    ))
}

fn data_file(table: &str, add: &Add) -> Result<DataFile, QueryError> {
    if add.deletion_vector.is_some() || !add.partition_values.is_empty() {
        return Err(not_plain(table, &add.path));
    }
    #[derive(serde::Deserialize)]
    struct Stats {
        #[serde(rename = "numRecords")]
        rows: Option<u64>,
    }
    let stats = add.stats.as_deref().and_then(|s| serde_json::from_str::<Stats>(s).ok());
    Ok(DataFile {
        bytes: u64::try_from(add.size).unwrap_or_default(),
        modified_ms: add.modification_time,
        rows: stats.and_then(|s| s.rows),
        index: Slot::default(),
    })
}

/// The schema as it is inside the engine: see [`crate::columns`].
fn as_views(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => Field::new(field.name(), DataType::Utf8View, true),
        other => Field::new(field.name(), other.clone(), true),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A table at a version, for DataFusion.
#[derive(Debug)]
pub(crate) struct DeltaScan {
    table: String,
    pub(crate) files: Arc<TableFiles>,
    store: Arc<dyn ObjectStore>,
    intact: Arc<Intact>,
    index: Arc<Budget>,
}

impl DeltaScan {
    fn partitioned_files(&self) -> DfResult<Vec<PartitionedFile>> {
        let file = |(path, file): (&String, &DataFile)| {
            let location = StorePath::parse(format!("tables/{}/{path}", self.table))
                .map_err(|e| datafusion::error::DataFusionError::Plan(format!("table {}: {e}", self.table)))?;
            let last_modified = chrono::DateTime::from_timestamp_millis(file.modified_ms).unwrap_or_default();
            let meta = ObjectMeta { location, last_modified, size: file.bytes, e_tag: None, version: None };
            Ok(PartitionedFile::new_from_meta(meta).with_extension(file.index.clone()))
        };
        self.files.files.iter().map(file).collect()
    }

    fn table_statistics(&self) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.files.schema);
        let rows: Option<u64> = self.files.files.values().map(|f| f.rows).sum();
        if let Some(rows) = rows.and_then(|r| usize::try_from(r).ok()) {
            statistics.num_rows = Precision::Exact(rows);
        }
        let bytes: u64 = self.files.files.values().map(|f| f.bytes).sum();
        statistics.total_byte_size = Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
        statistics
    }
}

#[async_trait]
impl TableProvider for DeltaScan {
    fn schema(&self) -> SchemaRef {
        self.files.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.table_statistics())
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        // The filters themselves arrive with the physical plan; the scan prunes row groups and pages by them.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        if self.files.files.is_empty() {
            let projected = projection.map(|p| schema.project(p)).transpose()?.map(Arc::new);
            return Ok(Arc::new(EmptyExec::new(projected.unwrap_or(schema))));
        }
        let footers = state.runtime_env().cache_manager.get_file_metadata_cache();
        let readers = CachedParquetFileReaderFactory::new(self.store.clone(), footers);
        let readers = Arc::new(IntactReaders { store: self.store.clone(), readers, intact: self.intact.clone() });
        let options = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(schema.clone())
            .with_table_parquet_options(datafusion::config::TableParquetOptions {
                global: options,
                ..Default::default()
            })
            .with_parquet_file_reader_factory(readers.clone());
        let indexed = index::indexed(&self.table, &schema);
        let source: Arc<dyn FileSource> = if indexed.is_empty() {
            Arc::new(source)
        } else {
            let look = Look { schema, indexed, readers, budget: self.index.clone() };
            Arc::new(IndexedSource::new(Arc::new(source), look))
        };
        let groups = FileGroup::new(self.partitioned_files()?).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, source)
            .with_file_groups(groups)
            .with_statistics(self.table_statistics())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
