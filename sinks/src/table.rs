//! One Delta table: created, read back, appended to at exactly the expected version, and brought back to what the
//! manifest names.
//!
//! Two rules keep I2 and I4 here. A commit is written under the version after the one that this sink holds, by
//! put-if-absent, and is never rebased: where somebody else was faster, it fails. And a table that is ahead of the
//! manifest (a crash between the two) is brought back by one more commit whose files are those of the manifest's version;
//! Delta history is never rewritten. Delta readers that do not go by the manifest see the step ahead for that moment.
//!
//! Must not know: rows, buckets' contents, manifests (it is told a version).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use deltalake_core::{
    DeltaResult,
    kernel::{
        Action, Add, EagerSnapshot, LogicalFileView, Metadata, MetadataExt, Protocol, Remove, Transaction,
        new_metadata,
        transaction::{CommitData, TransactionError},
    },
    logstore::{CommitOrBytes, LogStoreRef, StorageConfig, logstore_with},
    protocol::{DeltaOperation, OutputMode},
};
use flowsync_schemas::{Epoch, FilesDigest, TableSpec, TableVersion};
use futures::FutureExt;
use object_store::ObjectStore;
use url::Url;
use uuid::Uuid;

use crate::{
    SinkError,
    arrow::Shape,
    bucket::{Bucket, Buckets, place_in},
    error::storage_cause,
};

/// A file that no longer belongs to the table, since this version.
#[derive(Debug)]
pub(crate) struct Dead {
    pub version: u64,
    pub file: String,
    pub bytes: u64,
}

/// One table, as this sink holds it.
pub(crate) struct Table {
    pub spec: TableSpec,
    pub shape: Arc<Shape>,
    /// Whether it holds facts (input of a restart) rather than a view.
    pub base: bool,
    pub log: LogStoreRef,
    /// Newest version of the Delta table.
    pub version: u64,
    /// The files of that version.
    pub buckets: Buckets,
    /// Whether the table is of another specification and has to be replaced.
    pub stale: bool,
    /// Where it is, and holds facts: the files that the manifest names.
    pub earlier: Buckets,
    /// Files that left the table, by rising version; complete once `swept`.
    pub dead: VecDeque<Dead>,
    /// Whether what earlier processes left behind was looked through.
    pub swept: bool,
    /// Version of the newest checkpoint, or the one at which this sink began.
    pub checkpointed: u64,
}

impl Table {
    pub fn new(spec: TableSpec, base: bool, store: Arc<dyn ObjectStore>, folder: &Url) -> Result<Self, SinkError> {
        let shape = Arc::new(Shape::new(&spec)?);
        let log = logstore_with(store, folder, StorageConfig::default()).map_err(SinkError::delta(spec.name))?;
        let (buckets, earlier, dead) = (Buckets::new(), Buckets::new(), VecDeque::new());
        Ok(Self {
            spec,
            shape,
            base,
            log,
            version: 0,
            buckets,
            stale: false,
            earlier,
            dead,
            swept: false,
            checkpointed: 0,
        })
    }

    /// Rows in the table.
    pub fn rows(&self) -> u64 {
        self.buckets.values().map(|b| b.rows).sum()
    }

    /// What it lists.
    pub fn digest(&self) -> FilesDigest {
        digest(&self.buckets)
    }

    /// Reads the table, creating it where it does not exist, and makes its files those that the manifest of `epoch` names
    /// (`pinned`); without any manifest (`first`) a table holds nothing.
    pub async fn settle(&mut self, pinned: Option<TableVersion>, epoch: Epoch, first: bool) -> Result<(), SinkError> {
        self.dead.clear();
        self.swept = false;
        self.buckets.clear();
        self.earlier.clear();
        let Some(newest) = self.newest().await? else {
            if pinned.is_some() {
                return Err(self.lost("its Delta log is missing"));
            }
            self.append(0, self.creation()?, epoch).await?;
            (self.version, self.checkpointed, self.stale) = (0, 0, !first);
            return Ok(());
        };
        (self.version, self.checkpointed) = (newest.version(), newest.version());
        let wanted = match pinned {
            Some(pinned) => self.pinned(&newest, pinned).await?,
            None => first.then(Files::new),
        };
        self.stale = wanted.is_none();
        if let (true, true, Some(pinned)) = (self.stale, self.base, pinned) {
            self.earlier = self.to_buckets(&files(&self.snapshot(Some(pinned.delta)).await?))?;
        }
        if let Some(wanted) = wanted {
            let buckets = self.to_buckets(&wanted)?;
            if pinned.and_then(|pinned| pinned.files).is_some_and(|files| files != digest(&buckets)) {
                return Err(self.lost("what it lists are not the files that the manifest names: an entry was altered"));
            }
            self.restore(&newest, &wanted, epoch).await?;
            self.buckets = buckets;
        }
        Ok(())
    }

    /// The files that the manifest names; `None` where they are of another specification.
    async fn pinned(&self, newest: &EagerSnapshot, pinned: TableVersion) -> Result<Option<Files>, SinkError> {
        if pinned.delta > newest.version() {
            return Err(self.lost("its Delta log ends before the version that the manifest names"));
        }
        if pinned.view != self.spec.version {
            return Ok(None);
        }
        if pinned.delta == newest.version() {
            return Ok(self.fits(newest)?.then(|| files(newest)));
        }
        let then = self.snapshot(Some(pinned.delta)).await?;
        Ok(self.fits(&then)?.then(|| files(&then)))
    }

    /// Brings the table back to the files wanted, and to its columns, by one more version.
    async fn restore(&mut self, newest: &EagerSnapshot, wanted: &Files, epoch: Epoch) -> Result<(), SinkError> {
        let held = files(newest);
        let mut actions: Vec<Action> = Vec::new();
        if !self.fits(newest)? {
            actions.push(self.metadata(Some(newest.metadata()))?.into());
        }
        let ahead = held.iter().filter(|(file, _)| !wanted.contains_key(*file));
        actions.extend(ahead.map(|(file, view)| Action::from(remove(file, view.size()))));
        let gone = wanted.iter().filter(|(file, _)| !held.contains_key(*file));
        actions.extend(gone.map(|(_, view)| Action::from(add(view))));
        if actions.is_empty() {
            return Ok(());
        }
        let (table, version, files) = (self.spec.name, self.version, actions.len());
        tracing::warn!(table, version, files, "table is ahead of the manifest: brought back by one more version");
        self.append(self.version + 1, actions, epoch).await?;
        self.version += 1;
        Ok(())
    }

    /// What replaces a stale table's columns and files; the new files are the caller's.
    pub async fn replacement(&self) -> Result<Vec<Action>, SinkError> {
        let newest = self.snapshot(Some(self.version)).await?;
        let mut actions = vec![self.metadata(Some(newest.metadata()))?.into()];
        actions.extend(files(&newest).iter().map(|(file, view)| Action::from(remove(file, view.size()))));
        Ok(actions)
    }

    /// Writes `actions` as exactly this version, durably; fails where the version exists (I2: nothing is rebased).
    pub async fn append(&self, version: u64, actions: Vec<Action>, epoch: Epoch) -> Result<(), SinkError> {
        let app = format!("flowsync/{}/v{}", self.spec.name, self.spec.version);
        // Epochs count signals: they stay far below 2^63.
        let epoch = i64::try_from(epoch.0).unwrap_or(i64::MAX);
        let operation =
            DeltaOperation::StreamingUpdate { output_mode: OutputMode::Update, query_id: app.clone(), epoch_id: epoch };
        let txn = Transaction::new_with_last_update(app, epoch, Some(now_millis()));
        let data = CommitData::new(actions, operation, HashMap::new(), vec![txn]);
        let fail = |e: TransactionError| match e {
            TransactionError::VersionAlreadyExists(_) => {
                SinkError::OtherWriter { what: format!("version {version} of table {}", self.spec.name) }
            }
            e => SinkError::delta(self.spec.name)(e.into()),
        };
        let entry = CommitOrBytes::LogBytes(data.get_bytes().map_err(fail)?);
        self.log.write_commit_entry(version, entry, Uuid::new_v4()).await.map_err(fail)
    }

    /// The table at a version, or the newest.
    async fn snapshot(&self, version: Option<u64>) -> Result<EagerSnapshot, SinkError> {
        self.read(EagerSnapshot::try_new(self.log.as_ref(), version)).await
    }

    /// Reads the Delta log. What storage does not explain is taken for damage, and so is a panic: the reader of checkpoints
    /// (parquet 59) has some on bytes that are not as they were written.
    pub async fn read<T>(&self, reading: impl Future<Output = DeltaResult<T>>) -> Result<T, SinkError> {
        match AssertUnwindSafe(reading).catch_unwind().await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(e)) if storage_cause(&e).is_some() => Err(SinkError::delta(self.spec.name)(e)),
            Ok(Err(e)) => Err(self.lost(&format!("cannot be read ({e})"))),
            Err(_) => Err(self.lost("cannot be read (its reader panicked; standard error says where)")),
        }
    }

    async fn newest(&self) -> Result<Option<EagerSnapshot>, SinkError> {
        let exists = self.log.is_delta_table_location().await.map_err(SinkError::delta(self.spec.name))?;
        if exists { self.snapshot(None).await.map(Some) } else { Ok(None) }
    }

    /// Whether a snapshot has the columns of the specification; comments may differ.
    fn fits(&self, snapshot: &EagerSnapshot) -> Result<bool, SinkError> {
        let wanted = self.shape.delta_schema()?;
        let held = snapshot.schema();
        let plain = |f: &deltalake_core::kernel::StructField| (f.name().clone(), f.data_type().clone(), f.nullable);
        Ok(wanted.fields().map(plain).eq(held.fields().map(plain)))
    }

    fn creation(&self) -> Result<Vec<Action>, SinkError> {
        // The oldest protocol of all readers: plain files, no features.
        let protocol = serde_json::json!({ "minReaderVersion": 1, "minWriterVersion": 2 });
        let protocol: Protocol = serde_json::from_value(protocol).map_err(|e| self.spec_error(e.to_string()))?;
        Ok(vec![protocol.into(), self.metadata(None)?.into()])
    }

    fn metadata(&self, replaced: Option<&Metadata>) -> Result<Metadata, SinkError> {
        let configuration = [
            ("flowsync.view_version", self.spec.version.to_string()),
            ("flowsync.key", self.spec.key.join(",")),
            // Otherwise checkpoints would carry a week of removed files; readers of ours go by manifests.
            ("delta.deletedFileRetentionDuration", "interval 1 hours".to_owned()),
            ("delta.enableExpiredLogCleanup", "false".to_owned()),
        ];
        let metadata = new_metadata(&self.shape.delta_schema()?, Vec::<String>::new(), configuration)
            .and_then(|m| m.with_name(self.spec.name.to_owned()))
            .and_then(|m| m.with_description(self.spec.doc.to_owned()));
        let metadata = match replaced {
            Some(old) => metadata.and_then(|m| m.with_table_id(old.id().to_owned())),
            None => metadata,
        };
        metadata.map_err(|e| self.spec_error(e.to_string()))
    }

    fn to_buckets(&self, files: &Files) -> Result<Buckets, SinkError> {
        files
            .iter()
            .map(|(file, view)| {
                let foreign = || SinkError::OtherWriter { what: format!("tables/{}/{file}", self.spec.name) };
                let place = place_in(file).ok_or_else(foreign)?;
                let rows = view.num_records().ok_or_else(foreign)? as u64;
                let bytes = u64::try_from(view.size()).map_err(|_| foreign())?;
                Ok((place, Bucket { file: file.clone(), rows, bytes }))
            })
            .collect()
    }

    fn lost(&self, reason: &str) -> SinkError {
        SinkError::File { path: format!("tables/{}/_delta_log", self.spec.name), reason: reason.to_owned() }
    }

    fn spec_error(&self, reason: String) -> SinkError {
        SinkError::Spec { table: self.spec.name.to_owned(), reason }
    }
}

fn digest(buckets: &Buckets) -> FilesDigest {
    buckets.values().fold(FilesDigest::default(), |digest, bucket| bucket.added_to(digest))
}

/// Files by name.
type Files = BTreeMap<String, LogicalFileView>;

fn files(snapshot: &EagerSnapshot) -> Files {
    snapshot.log_data().iter().map(|view| (view.path().into_owned(), view)).collect()
}

/// The action that puts a file back into its table.
fn add(view: &LogicalFileView) -> Add {
    Add {
        path: view.path().into_owned(),
        size: view.size(),
        modification_time: view.modification_time(),
        data_change: true,
        stats: view.stats(),
        ..Default::default()
    }
}

/// The action that takes a file out of a table.
pub(crate) fn remove(path: &str, size: i64) -> Remove {
    Remove {
        path: path.to_owned(),
        data_change: true,
        deletion_timestamp: Some(now_millis()),
        extended_file_metadata: Some(true),
        partition_values: Some(HashMap::new()),
        size: Some(size),
        ..Default::default()
    }
}

/// Milliseconds since 1970, as Delta counts.
pub(crate) fn now_millis() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
