//! The engine: a data directory, the overlay of this process, and snapshots of one epoch each.
//!
//! ```text
//!   manifest m ──► Delta version of every table ──┐
//!                                                 ├──► Snapshot (one epoch, I4) ──► SQL, why, digests
//!   overlay: closed epochs (m, n] ────────────────┘
//! ```

use std::{
    collections::BTreeMap,
    path::Path,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use datafusion::{
    error::Result as DfResult,
    execution::{
        SessionState, SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        object_store::ObjectStoreRegistry,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
};
use flowsync_schemas::{Epoch, Manifest, Micros, ViewSpec, model::Model};
use object_store::{ObjectStore, local::LocalFileSystem};
use url::Url;

use crate::{
    QueryError,
    delta::{DeltaTables, STORE},
    manifest::Manifests,
    overlay::{Overlay, Pinned},
    session::{Snapshot, Turns},
    tables::{Catalog, SnapshotTables},
};

/// Limits (I9). The name of each is in the error that it causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Memory of one query, and size of one answer, in bytes.
    pub memory_bytes_max: usize,
    /// Time of one query.
    pub time_max: Duration,
    /// Rows of one answer.
    pub rows_max: usize,
    /// Queries that run at once.
    pub queries_max: usize,
    /// Queries that wait for their turn; they wait for `time_max` at most.
    pub queue_max: usize,
    /// Length of one statement, in bytes.
    pub sql_bytes_max: usize,
    /// Words and signs of one statement, without commas, periods and literals.
    pub sql_words_max: usize,
    /// `CASE` within one another.
    pub sql_cases_max: usize,
    /// Changes that the overlay holds.
    pub overlay_rows_max: usize,
    /// Signals that one `why` shows with their facts.
    pub why_signals_max: usize,
    /// Parquet footers kept, in bytes.
    pub footer_bytes_max: usize,
    /// Edges of the graph kept by their ends, in bytes; the files beyond are read anew by every question.
    pub index_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 << 20,
            time_max: Duration::from_secs(30),
            rows_max: 1_000_000,
            queries_max: 8,
            queue_max: 64,
            sql_bytes_max: 256 << 10,
            sql_words_max: 1_200,
            sql_cases_max: 12,
            overlay_rows_max: 500_000,
            why_signals_max: 200,
            footer_bytes_max: 128 << 20,
            index_bytes_max: 256 << 20,
        }
    }
}

/// Which epoch to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AsOf {
    /// The newest closed one: the newest commit, or what the overlay adds to it.
    #[default]
    Newest,
    /// Exactly this one.
    Epoch(Epoch),
    /// The newest that was committed at or before this time.
    Time(Micros),
}

impl FromStr for AsOf {
    type Err = QueryError;

    /// Reads `newest`, an epoch (`1200`), a time (`2026-10-01T08:00:00Z`) or a day (`2026-10-01`, its first instant, UTC).
    fn from_str(text: &str) -> Result<Self, QueryError> {
        let text = text.trim();
        if text.is_empty() || text == "newest" {
            return Ok(AsOf::Newest);
        }
        if let Ok(epoch) = text.parse() {
            return Ok(AsOf::Epoch(Epoch(epoch)));
        }
        let time = Micros::parse(text).or_else(|| Micros::parse(&format!("{text}T00:00:00Z")));
        time.map(AsOf::Time).ok_or_else(|| {
            QueryError::User(format!("{text:?} is no epoch (1200), time (2026-10-01T08:00:00Z) or day (2026-10-01)"))
        })
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: EngineOptions,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) state: SessionState,
    pub(crate) runtime: RuntimeEnv,
    pub(crate) turns: Turns,
    overlay: Overlay,
    manifests: Manifests,
    delta: Arc<DeltaTables>,
    /// The tables of the snapshot taken last: between two epochs everyone shares them, and what they have computed.
    last: Mutex<Option<Arc<SnapshotTables>>>,
}

/// Answers queries on a data directory. Cheap to clone; never writes.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Opens a data directory for reading. It may be empty: then every table is.
    ///
    /// # Errors
    /// Where there is no such directory, or its newest manifest cannot be read.
    pub fn open(
        dir: &Path,
        views: Vec<&'static ViewSpec>,
        model: &Model,
        options: EngineOptions,
    ) -> Result<Engine, QueryError> {
        let dir = dir.canonicalize().map_err(QueryError::io(dir))?;
        let internal = |e: &dyn std::fmt::Display| QueryError::Internal(e.to_string());
        let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(&dir).map_err(|e| internal(&e))?);
        let url = Url::from_directory_path(&dir).map_err(|()| internal(&format!("{} is no path", dir.display())))?;
        let runtime = RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(options.footer_bytes_max)
            // A query that does not fit its memory ends with an error; it does not fill the disk.
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .with_object_store_registry(Arc::new(OneStore(store.clone())))
            .build()
            .map_err(|e| internal(&e))?;
        let state = SessionStateBuilder::new()
            .with_config(config())
            .with_runtime_env(Arc::new(runtime.clone()))
            .with_default_features()
            .build();
        let manifests = Manifests::new(&dir);
        let base = manifests.newest()?.map_or(Epoch(0), |m| m.epoch);
        let shared = Shared {
            catalog: Arc::new(Catalog::new(&views, model)?),
            overlay: Overlay::new(base, options.overlay_rows_max),
            delta: Arc::new(DeltaTables::new(url, store, options.index_bytes_max)),
            last: Mutex::default(),
            turns: Turns::new(options.queries_max),
            options,
            state,
            runtime,
            manifests,
        };
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// The overlay of this process, for the pipeline to feed.
    pub fn overlay(&self) -> &Overlay {
        &self.shared.overlay
    }

    /// The limits.
    pub fn options(&self) -> &EngineOptions {
        &self.shared.options
    }

    /// Bytes that the index holds.
    #[cfg(test)]
    pub(crate) fn index_bytes(&self) -> usize {
        self.shared.delta.index.used()
    }

    /// The views, by name.
    pub fn views(&self) -> impl Iterator<Item = &'static ViewSpec> + '_ {
        self.shared.catalog.views.values().copied()
    }

    /// Pins one epoch: every statement of the snapshot sees that epoch alone, whatever is committed meanwhile (I4).
    ///
    /// # Errors
    /// Where the epoch is not kept, or its manifest cannot be read.
    pub async fn snapshot(&self, as_of: AsOf) -> Result<Snapshot, QueryError> {
        let shared = &self.shared;
        let kept = |epoch| match shared.manifests.get(epoch)? {
            Some(manifest) => Ok(manifest),
            None if epoch == Epoch(0) => Ok(nothing()),
            None => Err(QueryError::no_epoch(epoch, &shared.manifests.epochs()?)),
        };
        let (manifest, deltas) = match as_of {
            AsOf::Time(time) => match shared.manifests.at(time)? {
                Some(manifest) => (manifest, Vec::new()),
                None => return Err(QueryError::NotFound(format!("no epoch that was committed by {time} is kept"))),
            },
            AsOf::Newest => match shared.overlay.pin(None) {
                Some(Pinned { base, deltas }) => (kept(base)?, deltas),
                None => (shared.manifests.newest()?.unwrap_or_else(nothing), Vec::new()),
            },
            AsOf::Epoch(epoch) => match shared.overlay.pin(Some(epoch)) {
                Some(Pinned { base, deltas }) => (kept(base)?, deltas),
                None => (kept(epoch)?, Vec::new()),
            },
        };
        let mut last = shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        let tables = SnapshotTables::new(shared.catalog.clone(), shared.delta.clone(), manifest, deltas);
        let tables = match last.take() {
            Some(same) if same.epochs() == tables.epochs() => same,
            _ => Arc::new(tables),
        };
        *last = Some(tables.clone());
        Ok(Snapshot::new(shared.clone(), tables))
    }
}

/// What is there before the first commit.
fn nothing() -> Arc<Manifest> {
    Arc::new(Manifest {
        format: Manifest::FORMAT,
        epoch: Epoch(0),
        positions: Vec::new(),
        committed_at: Micros(0),
        program: String::new(),
        tables: BTreeMap::new(),
    })
}

pub(crate) const CATALOG: &str = "flowsync";
pub(crate) const SCHEMA: &str = "public";

/// Values by which one join looks rows up, and their size in bytes.
const JOIN_VALUES_MAX: usize = 10_000;
const JOIN_VALUES_BYTES_MAX: usize = 1 << 20;

fn config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    let options = config.options_mut();
    // A lookup by key reads the key column, and of the wide ones only the rows that match.
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    // A join says by which values it looks, so that an index finds their rows; beyond, it says less.
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = JOIN_VALUES_MAX;
    options.optimizer.hash_join_inlist_pushdown_max_size = JOIN_VALUES_BYTES_MAX;
    config
}

/// The data directory, and nothing else: no statement reaches another file or host.
#[derive(Debug)]
struct OneStore(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for OneStore {
    fn register_store(&self, url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        tracing::warn!(%url, "ignored: the engine reads its data directory only");
        None
    }

    fn get_store(&self, url: &Url) -> DfResult<Arc<dyn ObjectStore>> {
        if STORE.starts_with(url.as_str().trim_end_matches('/')) {
            return Ok(self.0.clone());
        }
        Err(datafusion::error::DataFusionError::Plan(format!("{url} cannot be read: only the data directory can")))
    }
}
