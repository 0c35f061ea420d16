//! The sink of a data directory: opening it, what it stands on, and reading rows back.
//!
//! Opening brings everything to one state: that of the newest manifest (I4). Tables that are missing are created empty,
//! so that every view can be read from the start; tables that a crash left ahead are brought back (`table.rs`). Whether
//! the state can be continued is then one of three standings:
//!
//! | standing | when | what is allowed |
//! |---|---|---|
//! | ready | program and tables are those of the manifest | `load`, `commit`; `differing` and `reconcile`, to be sure |
//! | views stale | a view is new, or has another version or other columns | `load`; `reconcile`, which replaces it; `rebuild` |
//! | base stale | the program, or a base table, is another | `rebuild` alone: the facts themselves may be others |
//!
//! In every standing readers of manifests go on seeing the last committed epoch, whole. A table that the catalogue no
//! longer lists leaves the next manifest; its folder stays.
//!
//! Must not know: how views are computed, SQL.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io::{Read, Write},
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use flowsync_schemas::{Epoch, Manifest, Micros, TableSpec};
use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use object_store::{ObjectStore, path::Path, prefix::PrefixStore};
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    SinkError,
    arrow::{FileRows, Shape},
    bucket::{Bucket, Buckets},
    job,
    manifest::{FOLDER, Manifests, Retention},
    merge::BucketLimits,
    store::{DurableFiles, DurableStore},
    table::Table,
    warm::Warm,
};

/// The files of a table: the columns to read them with, where they are, and which.
type Files<'a> = (Arc<Shape>, Arc<dyn ObjectStore>, &'a Buckets);

/// Files that are read ahead of who takes their rows.
const FILES_AHEAD: usize = 2;

/// The tables of a data directory.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Tables of facts: what a restart loads. Another version of one calls for a rebuild from the log.
    pub base: Vec<TableSpec>,
    /// Views: computed from the facts, compared and repaired by `reconcile`.
    pub views: Vec<TableSpec>,
}

/// Limits and intervals of a sink. The defaults suit one machine.
#[derive(Clone, Copy, Debug)]
pub struct SinkOptions {
    /// Tables and files worked on at the same time: most of them wait for the disk.
    pub parallelism: usize,
    /// Files that are merged and compressed at the same time: as many as there are cores. With more, each has its share of the
    /// processor, however low its priority, and the dataflow waits.
    pub threads: usize,
    /// Rows of a file at which it is cut in two.
    pub bucket_rows_max: usize,
    /// Bytes of a file's rows in memory at which it is cut in two.
    pub bucket_bytes_max: usize,
    /// Bytes of rows in memory, of files that were written last and are likely to be written again.
    pub warm_bytes_max: usize,
    /// Epochs that stay readable, at most.
    pub manifests_max: usize,
    /// Epochs that stay readable however old they are.
    pub manifests_min: usize,
    /// Bytes of files that only earlier epochs need: where those take more, and more than the newest epoch's files, the oldest
    /// epoch stays no longer. So the disk holds in proportion to what the tables hold, however often they are rewritten.
    pub earlier_bytes_min: u64,
    /// How long an epoch stays readable, at most.
    pub manifest_age_max: Duration,
    /// How long a reader may go on with an epoch that is no longer kept, and how old a file must be before it can count
    /// as left behind by a crash.
    pub grace: Duration,
    /// Commits of a table from one checkpoint of its Delta log to the next.
    pub checkpoint_interval: u64,
    /// Tables that get a checkpoint, and that are swept, after one commit: spreads the work.
    pub maintained_tables_max: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            parallelism: 8,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            bucket_rows_max: 16_384,
            bucket_bytes_max: 16 << 20,
            warm_bytes_max: 256 << 20,
            manifests_max: 250,
            manifests_min: 2,
            earlier_bytes_min: 1 << 30,
            manifest_age_max: Duration::from_secs(7 * 86_400),
            grace: Duration::from_secs(600),
            checkpoint_interval: 50,
            maintained_tables_max: 4,
        }
    }
}

impl SinkOptions {
    pub(crate) fn limits(&self) -> BucketLimits {
        BucketLimits { rows: self.bucket_rows_max.max(1), bytes: self.bucket_bytes_max.max(1) }
    }

    pub(crate) fn retention(&self) -> Retention {
        Retention {
            count_max: self.manifests_max,
            count_min: self.manifests_min,
            age_max: self.manifest_age_max,
            grace: self.grace,
        }
    }
}

/// The one committer of a data directory.
pub struct Sink {
    pub(crate) tables: BTreeMap<&'static str, Table>,
    pub(crate) manifests: Manifests,
    pub(crate) program: String,
    pub(crate) options: SinkOptions,
    pub(crate) warm: Arc<Warm>,
    pub(crate) threads: Arc<Semaphore>,
    /// Why the tables cannot be continued at all.
    pub(crate) rebuild: Option<String>,
    /// Whether an attempt ended part-way: memory and files are then brought together before anything else.
    pub(crate) unsettled: bool,
    store: Arc<dyn DurableStore>,
    root: PathBuf,
    _lock: File,
}

impl Sink {
    /// Opens the data directory `root`, which holds `tables/` and `manifests/` (both are created), for one writer.
    ///
    /// `program` names what rows are computed with (versions of connectors and model): with another program the tables
    /// have to be rebuilt. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`SinkError::Locked`] where another writer holds the directory; where a specification is wrong; where files are
    /// missing or cannot be read.
    pub async fn open(
        root: &FsPath,
        catalogue: Catalogue,
        program: String,
        options: SinkOptions,
    ) -> Result<Sink, SinkError> {
        Self::open_on(Arc::new(DurableFiles::default()), root, catalogue, program, options).await
    }

    /// The same on any store whose writes are durable when they return; its paths are those of the file system.
    pub(crate) async fn open_on(
        store: Arc<dyn DurableStore>,
        root: &FsPath,
        catalogue: Catalogue,
        program: String,
        options: SinkOptions,
    ) -> Result<Sink, SinkError> {
        let lock = lock(root)?;
        let io =
            |e: object_store::path::Error| SinkError::Storage { what: root.display().to_string(), source: e.into() };
        let prefix = Path::from_filesystem_path(root).map_err(io)?;
        let mut tables = BTreeMap::new();
        let both = catalogue.base.iter().map(|s| (s, true)).chain(catalogue.views.iter().map(|s| (s, false)));
        for (spec, base) in both {
            let wrong = |reason: &str| SinkError::Spec { table: spec.name.to_owned(), reason: reason.to_owned() };
            let folder = root.canonicalize().ok().map(|r| r.join("tables").join(spec.name));
            let folder =
                folder.and_then(|f| Url::from_directory_path(f).ok()).ok_or_else(|| wrong("no folder name"))?;
            let table = Table::new(*spec, base, store.clone(), &folder)?;
            if tables.insert(spec.name, table).is_some() {
                return Err(wrong("two tables have this name"));
            }
        }
        let files: Arc<dyn ObjectStore> = store.clone();
        let manifests = Manifests::new(Arc::new(PrefixStore::new(files, prefix)));
        let root = root.canonicalize().unwrap_or(root.to_owned());
        let mut sink = Self {
            tables,
            manifests,
            program,
            options,
            warm: Arc::new(Warm::new(options.warm_bytes_max)),
            threads: Arc::new(Semaphore::new(options.threads.max(1))),
            rebuild: None,
            unsettled: true,
            store,
            root,
            _lock: lock,
        };
        sink.settle().await?;
        Ok(sink)
    }

    /// Brings memory and files to the state of the newest manifest, and what is there to the disk (I1); the first time writes
    /// a manifest of nothing.
    pub(crate) async fn settle(&mut self) -> Result<(), SinkError> {
        self.unsettled = true;
        for folder in ["tables", FOLDER] {
            let (store, folder) = (self.store.clone(), self.root.join(folder));
            let what = format!("flushing {}", folder.display());
            job::on_thread(move || store.flush_folders(&folder).map_err(SinkError::storage(what))).await?;
        }
        self.manifests.load().await?;
        let newest = self.manifests.newest().cloned();
        let epoch = newest.as_ref().map(|m| m.epoch).unwrap_or_default();
        let mut settling = Vec::new();
        for table in self.tables.values_mut() {
            let pinned = newest.as_ref().and_then(|m| m.tables.get(table.spec.name)).copied();
            settling.push(table.settle(pinned, epoch, newest.is_none()).boxed());
        }
        let settled = job::side_by_side(self.options.parallelism, settling).await;
        settled.into_iter().collect::<Result<Vec<()>, _>>()?;
        match newest {
            Some(newest) => self.rebuild = self.why_not(&newest),
            None => {
                let nothing = Manifest {
                    format: Manifest::FORMAT,
                    epoch,
                    positions: Vec::new(),
                    committed_at: now(),
                    program: self.program.clone(),
                    tables: self.table_versions(),
                };
                self.manifests.publish(nothing).await?;
                self.rebuild = None;
            }
        }
        self.unsettled = false;
        Ok(())
    }

    /// Why the tables of a manifest cannot be continued.
    fn why_not(&self, manifest: &Manifest) -> Option<String> {
        if manifest.program != self.program {
            return Some(format!("they were computed by {:?}, this is {:?}", manifest.program, self.program));
        }
        let stale = self.tables.values().find(|t| t.base && t.stale)?;
        Some(format!("base table {} is new or has another version", stale.spec.name))
    }

    /// What is committed: the newest manifest, where it can be continued. `None` means that a rebuild is needed.
    pub fn committed(&self) -> Option<&Manifest> {
        if self.needs_rebuild() { None } else { self.manifests.newest().map(Arc::as_ref) }
    }

    /// The newest epoch that was committed, whether or not it can be continued.
    pub fn newest(&self) -> Epoch {
        self.manifests.newest().map(|manifest| manifest.epoch).unwrap_or_default()
    }

    /// Whether everything has to be computed anew from the log and handed to [`Sink::rebuild`]: the program differs, or
    /// a base table's version.
    pub fn needs_rebuild(&self) -> bool {
        self.rebuild.is_some()
    }

    /// The views that hold nothing yet, because they are new or of another version: [`Sink::reconcile`] fills them.
    pub fn stale_views(&self) -> Vec<&'static str> {
        self.tables.values().filter(|t| t.stale && !t.base).map(|t| t.spec.name).collect()
    }

    /// All rows of a table at the committed epoch, file by file and in no particular order: a restart reloads the facts by this.
    ///
    /// # Errors
    /// Where the table is unknown, stale or has to be rebuilt, and [`SinkError::File`] where a file is missing or damaged.
    pub fn load(&self, table: &str) -> BoxStream<'_, Result<FileRows, SinkError>> {
        match &self.rebuild {
            Some(reason) => stream::iter([Err(SinkError::NeedsRebuild(reason.clone()))]).boxed(),
            None => self.load_replaced(table),
        }
    }

    /// The same of a table that is about to be rebuilt: what cannot be computed anew is carried over. Of a table of facts of an
    /// earlier version by the names of its columns; of a new one there are none.
    ///
    /// # Errors
    /// As [`Sink::load`]; where an earlier version lacks a column that may not be missing.
    pub fn load_replaced(&self, table: &str) -> BoxStream<'_, Result<FileRows, SinkError>> {
        match self.files_of(table) {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok((shape, store, buckets)) => {
                let read = move |bucket: &Bucket| {
                    let (read, shape) = (job::read(shape.clone(), store.clone(), bucket.clone()), shape.clone());
                    async move { Ok(FileRows { shape, batch: read.await? }) }
                };
                stream::iter(buckets.values()).map(read).buffered(FILES_AHEAD).boxed()
            }
        }
    }

    fn files_of(&self, table: &str) -> Result<Files<'_>, SinkError> {
        let found = self.tables.get(table).ok_or_else(|| SinkError::UnknownTable(table.to_owned()))?;
        let (shape, buckets) = match (found.stale, found.base) {
            (false, _) => (found.shape.clone(), &found.buckets),
            (true, true) => (Arc::new(Shape::of_earlier(&found.spec)?), &found.earlier),
            (true, false) => return Err(SinkError::NeedsReconcile(table.to_owned())),
        };
        Ok((shape, found.store(), buckets))
    }
}

/// The clock, for documents and file ages; never an input of a view.
pub(crate) fn now() -> Micros {
    Micros(chrono::Utc::now().timestamp_micros())
}

/// Takes the directory for this writer; the lock ends with the file, however the process ends.
fn lock(root: &FsPath) -> Result<File, SinkError> {
    let path = root.join("sink.lock");
    let failed = |e: std::io::Error| SinkError::Storage {
        what: path.display().to_string(),
        source: object_store::Error::Generic { store: "lock", source: e.into() },
    };
    std::fs::create_dir_all(root).map_err(failed)?;
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // What it says is a courtesy: an empty answer refuses as well.
            let _ = file.read_to_string(&mut holder);
            return Err(SinkError::Locked { path: path.display().to_string(), holder: holder.trim().to_owned() });
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id())).map_err(failed)?;
    Ok(file)
}
