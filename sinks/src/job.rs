//! One file's share of a commit: read the bucket, change its rows, write what takes its place.
//!
//! A job has no effect that anybody sees: it only adds files under new names. Rows are worked on in blocking threads.
//! Which rows belong to which bucket is decided here too, before any job runs.
//!
//! Must not know: Delta transactions, manifests.

use std::{collections::HashMap, sync::Arc};

use arrow::record_batch::RecordBatch;
use deltalake_core::kernel::Add;
use flowsync_schemas::{Epoch, EpochDelta, Row, checksum_in};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    SinkError,
    arrow::Shape,
    bucket::{Bucket, Place, file_name, place_in},
    file::{decode, encode, statistics},
    merge::{BucketLimits, apply, compare, cut, in_order},
    table::now_millis,
    warm::Warm,
};

/// What a job does with the rows that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are differences.
    Apply,
    /// They are all rows that the bucket should hold.
    Compare,
}

/// The rows of one table's change: shared with the delta, not copied.
#[derive(Clone)]
pub(crate) struct Source {
    pub delta: Arc<EpochDelta>,
    /// Index of the table's change; `None` where the table has no rows.
    pub change: Option<usize>,
}

impl Source {
    pub fn of(delta: &Arc<EpochDelta>, table: &str) -> Self {
        Self { change: delta.changes.iter().position(|c| c.table == table), delta: delta.clone() }
    }

    pub fn rows(&self) -> &[(Row, i64)] {
        self.change.map_or(&[], |at| &self.delta.changes[at].rows)
    }
}

/// The rows of a change that one bucket gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// First place of the bucket; `None` where a new one is made.
    pub bucket: Option<Place>,
    /// At or before every row, old and new.
    pub first: Place,
    /// Whether no bucket follows.
    pub last: bool,
    /// Which rows.
    pub picks: Vec<u32>,
}

/// Divides rows over the buckets that start at `starts` (rising). Buckets that get nothing are left out, unless `all`.
/// In an empty table, rows are divided into pieces of the size of a bucket.
pub(crate) fn shares(shape: &Shape, starts: &[Place], rows: &[(Row, i64)], rows_max: usize, all: bool) -> Vec<Share> {
    let mut order: Vec<(Place, u32)> = (0u32..).zip(rows).map(|(i, (row, _))| (Place::of(shape, row), i)).collect();
    order.sort_unstable();
    let mut out = Vec::new();
    let mut push = |these: &[(Place, u32)], bucket: Option<Place>, last: bool| {
        let first = these.first().map(|(place, _)| *place).into_iter().chain(bucket).min();
        if let Some(first) = first.filter(|_| all || !these.is_empty()) {
            out.push(Share { bucket, first, last, picks: these.iter().map(|(_, i)| *i).collect() });
        }
    };
    let mut left = order.as_slice();
    while starts.is_empty() && !left.is_empty() {
        let mut end = rows_max.min(left.len());
        // One place is never cut apart.
        while end < left.len() && left[end].0 == left[end - 1].0 {
            end += 1;
        }
        let (these, others) = left.split_at(end);
        push(these, None, others.is_empty());
        left = others;
    }
    for (at, start) in starts.iter().enumerate() {
        let next = starts.get(at + 1);
        let end = next.map_or(left.len(), |next| left.partition_point(|(place, _)| place < next));
        let (these, others) = left.split_at(end);
        push(these, Some(*start), next.is_none());
        left = others;
    }
    out
}

/// One bucket's share of a commit.
pub(crate) struct Job {
    pub table: &'static str,
    pub shape: Arc<Shape>,
    pub store: Arc<dyn ObjectStore>,
    pub epoch: Epoch,
    pub limits: BucketLimits,
    pub warm: Arc<Warm>,
    /// Who merges or compresses holds a part of this.
    pub threads: Arc<Semaphore>,
    pub mode: Mode,
    pub source: Source,
    pub share: Share,
    /// The file of `share.bucket`.
    pub old: Option<Bucket>,
}

/// What came of a job. Nothing refers to the new files yet.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub table: &'static str,
    /// The bucket that goes.
    pub gone: Option<(Place, Bucket)>,
    /// The buckets that come.
    pub come: Vec<(Place, Add, Bucket)>,
    /// Keys that changed.
    pub keys: u64,
    /// Comparing: rows that should be there and were not.
    pub missing: u64,
    /// Comparing: rows that were there and should not be.
    pub extra: u64,
}

/// Runs a function on a thread that may block.
pub(crate) async fn on_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(run).await.map_err(|e| SinkError::Worker(e.to_string()))?
}

/// Runs futures side by side, `limit` at a time, all of them to their end.
pub(crate) async fn side_by_side<T>(limit: usize, futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    stream::iter(futures).buffer_unordered(limit.max(1)).collect().await
}

/// Reads the rows of a bucket, and holds that they are all there.
pub(crate) async fn read(
    shape: Arc<Shape>,
    store: Arc<dyn ObjectStore>,
    bucket: Bucket,
) -> Result<RecordBatch, SinkError> {
    let path = format!("tables/{}/{}", shape.name, bucket.file);
    let bytes = match store.get(&Path::from(bucket.file.as_str())).await {
        Ok(found) => found.bytes().await.map_err(SinkError::storage(path.clone()))?,
        Err(object_store::Error::NotFound { .. }) => {
            return Err(SinkError::File { path, reason: "the file is missing".to_owned() });
        }
        Err(source) => return Err(SinkError::Storage { what: path, source }),
    };
    on_thread(move || {
        let wrong = |reason: String| SinkError::File { path: path.clone(), reason };
        if bytes.len() as u64 != bucket.bytes {
            return Err(wrong(format!("{} bytes, the table lists {}", bytes.len(), bucket.bytes)));
        }
        if checksum_in(&bucket.file).is_some_and(|checksum| checksum != crc32fast::hash(&bytes)) {
            return Err(wrong("its bytes do not match the checksum in its name".to_owned()));
        }
        let batch = decode(&shape, bytes).map_err(wrong)?;
        if batch.num_rows() as u64 != bucket.rows {
            return Err(wrong(format!("{} rows, the table lists {}", batch.num_rows(), bucket.rows)));
        }
        if !in_order(&shape, &batch)? {
            return Err(wrong("rows are out of order or repeated".to_owned()));
        }
        Ok(batch)
    })
    .await
}

impl Job {
    /// Runs the job; at most `parallelism` files are written at the same time.
    pub async fn run(self, parallelism: usize) -> Result<Outcome, SinkError> {
        let turn = self.turn().await?;
        let (old, unreadable) = match &self.old {
            None => (RecordBatch::new_empty(self.shape.schema.clone()), false),
            Some(bucket) => match self.rows(bucket).await {
                Ok(batch) => (batch, false),
                // What the bucket should hold is known: it is written anew.
                Err(error @ SinkError::File { .. }) if self.mode == Mode::Compare => {
                    tracing::error!(%error, "a damaged file is replaced");
                    (RecordBatch::new_empty(self.shape.schema.clone()), true)
                }
                Err(error) => return Err(error),
            },
        };
        let job = Arc::new(self);
        let merging = job.clone();
        let merged = on_thread(move || merging.merge(&old)).await?;
        drop(turn);
        let mut outcome = Outcome {
            table: job.table,
            gone: None,
            come: Vec::new(),
            keys: merged.keys,
            missing: merged.missing,
            extra: merged.extra,
        };
        if merged.same && !unreadable {
            return Ok(outcome);
        }
        outcome.gone = job.share.bucket.zip(job.old.clone());
        let pieces = merged.pieces.into_iter();
        let written = pieces.map(|(first, piece)| job.clone().write(first, piece).boxed()).collect();
        let written = side_by_side(parallelism, written).await;
        outcome.come = written.into_iter().collect::<Result<_, _>>()?;
        Ok(outcome)
    }

    /// Waits for a turn on the processor, which ends when what is returned is dropped.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, SinkError> {
        self.threads.clone().acquire_owned().await.map_err(|e| SinkError::Worker(e.to_string()))
    }

    /// The rows of the bucket. What is compared with what it should hold is read.
    async fn rows(&self, bucket: &Bucket) -> Result<RecordBatch, SinkError> {
        match self.warm.take(&bucket.file).filter(|_| self.mode == Mode::Apply) {
            Some(rows) => Ok(rows),
            None => read(self.shape.clone(), self.store.clone(), bucket.clone()).await,
        }
    }

    fn merge(&self, old: &RecordBatch) -> Result<Merged, SinkError> {
        let rows = self.source.rows();
        let rows: Vec<(&Row, i64)> =
            self.share.picks.iter().map(|i| (&rows[*i as usize].0, rows[*i as usize].1)).collect();
        let mut merged = Merged { pieces: Vec::new(), keys: 0, missing: 0, extra: 0, same: false };
        let new = match self.mode {
            Mode::Apply => {
                let (new, keys) = apply(&self.shape, old, &rows)?;
                merged.keys = keys as u64;
                new
            }
            Mode::Compare => {
                let compared = compare(&self.shape, old, &rows)?;
                (merged.missing, merged.extra) = (compared.missing, compared.extra);
                merged.keys = compared.missing.max(compared.extra);
                merged.same = merged.keys == 0;
                compared.right
            }
        };
        if !merged.same || old.num_rows() == 0 {
            merged.pieces = cut(&self.shape, new, self.limits, self.share.last, self.share.first)?;
        }
        Ok(merged)
    }

    async fn write(self: Arc<Self>, first: Place, rows: RecordBatch) -> Result<(Place, Add, Bucket), SinkError> {
        let count = rows.num_rows() as u64;
        let turn = self.turn().await?;
        let (shape, written) = (self.shape.clone(), rows.clone());
        let (bytes, stats) = on_thread(move || Ok((encode(&shape, &written)?, statistics(&shape, &written)))).await?;
        drop(turn);
        let file = file_name(first, self.epoch, &bytes);
        debug_assert_eq!(place_in(&file), Some(first));
        let size = bytes.len();
        let create = PutOptions { mode: PutMode::Create, ..Default::default() };
        let what = format!("tables/{}/{file}", self.table);
        self.store
            .put_opts(&Path::from(file.as_str()), bytes.into(), create)
            .await
            .map_err(SinkError::storage(what))?;
        self.warm.keep(&file, rows);
        let add = Add {
            path: file.clone(),
            partition_values: HashMap::new(),
            // Buckets are limited far below 2^63 bytes.
            size: size as i64,
            modification_time: now_millis(),
            data_change: true,
            stats: Some(stats),
            ..Default::default()
        };
        Ok((first, add, Bucket { file, rows: count, bytes: size as u64 }))
    }
}

/// Rows after a change, cut into files.
struct Merged {
    pieces: Vec<(Place, RecordBatch)>,
    keys: u64,
    missing: u64,
    extra: u64,
    same: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tests::specs;

    #[test]
    fn shares_cover_every_row_once() {
        let shape = Shape::new(&specs::EVENTS).unwrap();
        let rows: Vec<(Row, i64)> = (0..20).map(|i| (specs::event(&format!("k{i}"), i, i), 1)).collect();
        let place = |i: usize| Place::of(&shape, &rows[i].0);
        let whole = shares(&shape, &[], &rows, 8, false);
        assert_eq!(whole.iter().map(|s| s.picks.len()).collect::<Vec<_>>(), [8, 8, 4]);
        assert_eq!(whole.iter().map(|s| s.last).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(whole[1].first, place(8));

        let starts = [place(5), place(9), place(15)];
        let some = shares(&shape, &starts, &rows[..7], 8, false);
        assert_eq!(some, [Share { bucket: Some(place(5)), first: place(0), last: false, picks: (0..7).collect() }]);
        let all = shares(&shape, &starts, &rows[16..], 8, true);
        assert_eq!(all.iter().map(|s| s.picks.len()).collect::<Vec<_>>(), [0, 0, 4]);
        assert_eq!(all.iter().map(|s| s.first).collect::<Vec<_>>(), starts);
        assert!(shares(&shape, &starts, &[], 8, false).is_empty());
    }
}
