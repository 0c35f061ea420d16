//! Data files as they were written: the first time that this process reads one, it holds its bytes against the checksum in
//! its name, so that what a disk has altered is an error that names the file and never an answer.
//!
//! Files are immutable, so once is enough. Files of builds that wrote no checksum are read as they are.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use datafusion::{
    common::Result as DfResult,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{ParquetFileReaderFactory, parquet::CachedParquetFileReaderFactory},
    },
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use flowsync_schemas::checksum_in;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use parquet::{
    arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
    errors::{ParquetError, Result},
    file::metadata::ParquetMetaData,
};

/// Files that are remembered as intact; beyond that all are read again.
const INTACT_MAX: usize = 1 << 16;

/// A file whose bytes are not those that were written.
#[derive(Debug, thiserror::Error)]
#[error("{0} is damaged: its bytes do not match the checksum in its name")]
pub(crate) struct Damaged(Path);

/// The files that this process has found intact.
#[derive(Debug, Default)]
pub(crate) struct Intact(Mutex<HashSet<Path>>);

impl Intact {
    fn has(&self, path: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn insert(&self, path: Path) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= INTACT_MAX {
            known.clear();
        }
        known.insert(path);
    }
}

/// Makes readers that look at a file's checksum first.
#[derive(Debug)]
pub(crate) struct IntactReaders {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) readers: CachedParquetFileReaderFactory,
    pub(crate) intact: Arc<Intact>,
}

impl ParquetFileReaderFactory for IntactReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DfResult<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let reader = self.readers.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        let expected = path.filename().and_then(checksum_in).filter(|_| !self.intact.has(&path));
        let Some(expected) = expected else { return Ok(reader) };
        let check = Check { store: self.store.clone(), path, expected, intact: self.intact.clone() };
        Ok(Box::new(CheckedReader { check: Some(check), reader }))
    }
}

struct Check {
    store: Arc<dyn ObjectStore>,
    path: Path,
    expected: u32,
    intact: Arc<Intact>,
}

impl Check {
    async fn run(&self) -> Result<()> {
        let read = async { self.store.get(&self.path).await?.bytes().await };
        let bytes = read.await.map_err(|e| ParquetError::External(Box::new(e)))?;
        if crc32fast::hash(&bytes) != self.expected {
            return Err(ParquetError::External(Box::new(Damaged(self.path.clone()))));
        }
        self.intact.insert(self.path.clone());
        Ok(())
    }
}

struct CheckedReader {
    /// Still to be done.
    check: Option<Check>,
    reader: Box<dyn AsyncFileReader + Send>,
}

impl CheckedReader {
    async fn checked(&mut self) -> Result<&mut Box<dyn AsyncFileReader + Send>> {
        if let Some(check) = &self.check {
            check.run().await?;
            self.check = None;
        }
        Ok(&mut self.reader)
    }
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.checked().await?.get_bytes(range).await }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.checked().await?.get_byte_ranges(ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move { self.checked().await?.get_metadata(options).await }.boxed()
    }
}
