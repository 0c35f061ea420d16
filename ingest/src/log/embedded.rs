//! The embedded log: one partition in a folder of this machine, on fjall (see the decision record 0001).
//!
//! ```text
//! records: offset, big-endian u64   ─► record (log/record.rs)
//! ids:     signal id, big-endian u128 ─► offset
//! hashes:  offset                     ─► nodes of the Merkle tree that the record completes (log/tree.rs)
//! ```
//!
//! Invariants: all keyspaces change in one atomic batch that is fsynced before it becomes visible, so nobody reads, and
//! nobody is told of, a signal that power loss could take back (I1), an id is known exactly when its record is (I2), and
//! the tree is that of the records after any crash. A record is hashed when it is appended and not read again for it.
//! One append at a time: offsets have no gaps. The store never meets a full disk: appends stop while a reserve is left,
//! because a failed write halts the store until it is opened anew.
//!
//! One process: fjall locks the folder and has no read-only mode. A second process asks the first one.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use fjall::PersistMode;
use flowsync_schemas::{LogPosition, Signal, SignalId};

use super::{
    Appended, Audited, Log, LogError, corrupt,
    record::{self, RecordError},
    store::{Store, failure, packed},
    tail::{self, Mark, cut_torn_append},
    tree::{Edge, TreeHash},
};
use crate::lock;

/// Largest record. Bodies are limited far below by whoever receives them.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Space that stays free on the disk of the log: more than the store writes in the background.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Records, and bytes of them, that are hashed in one batch where hashes are missing.
const BUILD_RECORDS_MAX: usize = 4096;
const BUILD_BYTES_MAX: usize = 16 << 20;

/// See the module.
pub struct EmbeddedLog {
    free_bytes_min: u64,
    store: Store,
    mark: Mark,
    /// Held for a whole append: the right edge of the tree over what is durable.
    appending: Mutex<Edge>,
    /// Offset of the next signal; set when the signals before it are durable.
    end: Mutex<u64>,
    longer: Condvar,
}

impl EmbeddedLog {
    /// Opens the log in a folder, or creates it. Recovers from any crash; what was not acknowledged may be gone or not.
    /// Where an older build wrote the log, its records are hashed first, once.
    ///
    /// # Errors
    /// Where another process has it open, or its files are damaged.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_with_reserve(path, FREE_BYTES_MIN)
    }

    /// The log in a folder as it lies, for an audit: without the checks and repairs of [`EmbeddedLog::open`].
    ///
    /// # Errors
    /// Where another process has it open, or its files do not fit together.
    pub fn as_it_lies(path: &Path) -> Result<Box<dyn Audited>, LogError> {
        Ok(Box::new(Store::open(path)?.view()))
    }

    fn open_with_reserve(path: &Path, free_bytes_min: u64) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        let opened = Store::open(path);
        let (mark, acknowledged) = Mark::open(path).map_err(io)?;
        let acknowledged = acknowledged.unwrap_or_default();
        let store = match opened {
            Err(error @ LogError::Unrecoverable { .. }) => {
                let length = cut_torn_append(path, acknowledged).map_err(io)?.ok_or(error)?;
                tracing::warn!(length, "an append that was never acknowledged is torn: the journal is cut before it");
                Store::open(path)?
            }
            opened => opened?,
        };
        let log = Self {
            free_bytes_min,
            store,
            mark,
            appending: Mutex::default(),
            end: Mutex::new(0),
            longer: Condvar::new(),
        };
        let end = log.check_newest()?;
        let edge = log.complete_tree(end)?;
        if end < acknowledged {
            let detail = format!(
                "the log ends here, and {acknowledged} signals were acknowledged (who would go on without them, removes \
                 {})",
                path.join(tail::NAME).display()
            );
            return Err(corrupt(end, detail));
        }
        log.mark.set(end).map_err(io)?;
        *lock(&log.end) = end;
        *lock(&log.appending) = edge;
        Ok(log)
    }

    /// The end of the log. Paired assertions on the batches' atomicity: the newest record's id leads back to it, and its
    /// hash is that of its bytes.
    fn check_newest(&self) -> Result<u64, LogError> {
        let Some(last) = self.store.records.last_key_value() else { return Ok(0) };
        let (key, value) = last.into_inner().map_err(|e| self.failed_at(0, e))?;
        let offset = self.store.offset(&key)?;
        let signal = decoded(offset, &value)?;
        if self.offset_of(signal.id)? != Some(offset) {
            return Err(corrupt(offset, "the newest record and the index of ids do not agree"));
        }
        let hashes = self.store.view().hashes_at(offset)?;
        if hashes.is_some_and(|kept| kept.first() != Some(&TreeHash::leaf(&value))) {
            return Err(corrupt(offset, "the newest record and its hash do not agree"));
        }
        Ok(offset + 1)
    }

    /// The tree over the `end` records of the log. Records without hashes are those of an older build, which kept none:
    /// they are hashed here, in bounded batches, each of which may be the last before a crash.
    fn complete_tree(&self, end: u64) -> Result<Edge, LogError> {
        let view: Box<dyn Audited> = Box::new(self.store.view());
        let hashed = view.leaves()?;
        if hashed > end {
            return Err(corrupt(end, format!("the record is missing, hashes are kept of {hashed} records")));
        }
        let mut edge = view.edge(hashed)?;
        if hashed < end {
            tracing::info!(from = hashed, to = end, "hashing the records that an older build wrote");
        }
        let mut records = view.records(hashed);
        while edge.size() < end {
            let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncAll));
            let (mut count, mut bytes) = (0, 0);
            while edge.size() < end && count < BUILD_RECORDS_MAX && bytes < BUILD_BYTES_MAX {
                let expected = edge.size();
                let (offset, record) =
                    records.next().unwrap_or_else(|| Err(corrupt(expected, "the record is missing")))?;
                if offset != expected {
                    return Err(corrupt(expected, format!("the record is missing, the next one is {offset}")));
                }
                batch.insert(&self.store.hashes, offset.to_be_bytes(), packed(&edge.push(TreeHash::leaf(&record))));
                (count, bytes) = (count + 1, bytes + record.len());
            }
            self.check_space(bytes)?;
            batch.commit().map_err(|e| halted(&self.store.path, e))?;
        }
        Ok(edge)
    }

    fn offset_of(&self, id: SignalId) -> Result<Option<u64>, LogError> {
        let found = self.store.ids.get(id.0.to_be_bytes()).map_err(|e| failure(&self.store.path, None, e))?;
        found.map(|bytes| self.store.offset(&bytes)).transpose()
    }

    fn failed_at(&self, offset: u64, error: fjall::Error) -> LogError {
        failure(&self.store.path, Some(offset), error)
    }

    /// Refuses `bytes` more where they would use up the reserve.
    fn check_space(&self, bytes: usize) -> Result<(), LogError> {
        let disk = rustix::fs::statvfs(&self.store.path)
            .map_err(|e| LogError::Io { path: self.store.path.clone(), source: e.into() })?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < self.free_bytes_min.saturating_add(bytes as u64) {
            let (path, free_bytes_min) = (self.store.path.clone(), self.free_bytes_min);
            return Err(LogError::Full { path, free_bytes, free_bytes_min });
        }
        Ok(())
    }

    fn check_partition(partition: u32) -> Result<(), LogError> {
        if partition == 0 { Ok(()) } else { Err(LogError::Partition { partition, partitions: 1 }) }
    }
}

impl Log for EmbeddedLog {
    fn append(&self, signals: &[Signal]) -> Result<Vec<Appended>, LogError> {
        let mut edge = lock(&self.appending);
        let mut grown = edge.clone();
        let mut bytes = 0;
        let mut fresh: HashMap<SignalId, u64> = HashMap::new();
        let mut out = Vec::with_capacity(signals.len());
        // Visible only once it is durable: the fsync is part of the commit.
        let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncAll));
        for signal in signals {
            let known = match fresh.get(&signal.id) {
                Some(offset) => Some(*offset),
                None => self.offset_of(signal.id)?,
            };
            let offset = known.unwrap_or(grown.size());
            if known.is_none() {
                let record = record::encode(signal);
                if record.len() > RECORD_BYTES_MAX {
                    let (signal, bytes) = (signal.id, record.len());
                    return Err(LogError::TooLarge { signal, bytes, bytes_max: RECORD_BYTES_MAX });
                }
                bytes += record.len();
                let hashes = packed(&grown.push(TreeHash::leaf(&record)));
                bytes += hashes.len();
                batch.insert(&self.store.records, offset.to_be_bytes(), record);
                batch.insert(&self.store.ids, signal.id.0.to_be_bytes(), offset.to_be_bytes());
                batch.insert(&self.store.hashes, offset.to_be_bytes(), hashes);
                fresh.insert(signal.id, offset);
            }
            out.push(Appended { position: LogPosition { partition: 0, offset }, duplicate: known.is_some() });
        }
        if grown.size() > edge.size() {
            self.check_space(bytes)?;
            batch.commit().map_err(|e| halted(&self.store.path, e))?;
            *lock(&self.end) = grown.size();
            *edge = grown;
            self.longer.notify_all();
            let failed = |source| LogError::Io { path: self.store.path.clone(), source };
            self.mark.set(edge.size()).map_err(failed)?;
        }
        Ok(out)
    }

    fn read(
        &self,
        from: LogPosition,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(LogPosition, Signal)>, LogError> {
        Self::check_partition(from.partition)?;
        let end = *lock(&self.end);
        let mut out = Vec::new();
        let (mut offset, mut bytes) = (from.offset, 0usize);
        let mut records = self.store.records.range(from.offset.to_be_bytes()..end.max(from.offset).to_be_bytes());
        while out.len() < records_max && offset < end {
            let (key, value) = match records.next() {
                Some(found) => found.into_inner().map_err(|e| self.failed_at(offset, e))?,
                None => return Err(corrupt(offset, format!("the record is missing, the log ends at {end}"))),
            };
            let found = self.store.offset(&key)?;
            if found != offset {
                return Err(corrupt(offset, format!("the record is missing, the next one is {found}")));
            }
            bytes = bytes.saturating_add(value.len());
            if !out.is_empty() && bytes > bytes_max {
                break;
            }
            out.push((LogPosition { partition: 0, offset }, decoded(offset, &value)?));
            offset += 1;
        }
        Ok(out)
    }

    fn get(&self, at: LogPosition) -> Result<Option<Signal>, LogError> {
        Self::check_partition(at.partition)?;
        let found = self.store.records.get(at.offset.to_be_bytes()).map_err(|e| self.failed_at(at.offset, e))?;
        match found {
            Some(value) => decoded(at.offset, &value).map(Some),
            None if at.offset < *lock(&self.end) => Err(corrupt(at.offset, "the record is missing")),
            None => Ok(None),
        }
    }

    fn ends(&self) -> Result<Vec<u64>, LogError> {
        Ok(vec![*lock(&self.end)])
    }

    fn wait(&self, ends: &[u64], timeout: Duration) -> bool {
        let seen = ends.first().copied().unwrap_or_default();
        let (end, _) = self
            .longer
            .wait_timeout_while(lock(&self.end), timeout, |end| *end <= seen)
            .unwrap_or_else(PoisonError::into_inner);
        *end > seen
    }

    fn audited(&self, partition: u32) -> Option<Box<dyn Audited>> {
        Self::check_partition(partition).ok()?;
        Some(Box::new(self.store.view()))
    }
}

fn decoded(offset: u64, bytes: &[u8]) -> Result<Signal, LogError> {
    record::decode(bytes).map_err(|e| match e {
        RecordError::Newer(found) => {
            LogError::Newer { at: LogPosition { partition: 0, offset }, found, known: record::FORMAT }
        }
        RecordError::Damaged(detail) => corrupt(offset, detail),
    })
}

/// A failed commit: what of it is on the disk is unknown, and the store takes nothing more.
fn halted(path: &Path, error: fjall::Error) -> LogError {
    LogError::Halted { path: path.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;
    use crate::log::conformance::{self, signal};

    #[test]
    fn conforms() {
        conformance::run(&|dir| Box::new(EmbeddedLog::open(dir).unwrap()));
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_log_goes_on_when_there_is_space_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EmbeddedLog::open(dir.path()).unwrap();
        log.append(&[signal(0, 10)]).unwrap();
        log.free_bytes_min = u64::MAX;
        let error = log.append(&[signal(1, 10)]).unwrap_err();
        assert!(error.is_full() && error.is_retryable() && !error.is_corrupt(), "{error}");
        assert!(error.to_string().contains("free space"), "{error}");
        assert!(log.append(&[signal(0, 10)]).unwrap()[0].duplicate, "what is there can still be acknowledged");
        log.free_bytes_min = 0;
        assert_eq!(log.append(&[signal(1, 10)]).unwrap()[0].position.offset, 1);
    }

    #[test]
    fn a_second_process_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let _log = EmbeddedLog::open(dir.path()).unwrap();
        let error = EmbeddedLog::open(dir.path()).err().unwrap();
        assert!(matches!(error, LogError::Locked { .. }), "{error}");
    }

    fn root(log: &EmbeddedLog) -> TreeHash {
        let view = log.audited(0).unwrap();
        view.edge(view.leaves().unwrap()).unwrap().root()
    }

    #[test]
    fn a_log_of_an_older_build_is_hashed_when_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        let count = BUILD_RECORDS_MAX as u64 * 2 + 3;
        log.append(&(0..count).map(|i| signal(i, 20)).collect::<Vec<_>>()).unwrap();
        let whole = root(&log);
        // As it was before there were hashes.
        log.store.database.delete_keyspace(log.store.hashes.clone()).unwrap();
        drop(log);
        assert_eq!(EmbeddedLog::as_it_lies(dir.path()).unwrap().leaves().unwrap(), 0);
        let log = EmbeddedLog::open(dir.path()).unwrap();
        assert_eq!(root(&log), whole);
        // As after a crash in the middle of it, and as after an older build that appended to a newer one's log.
        for offset in BUILD_RECORDS_MAX as u64..count {
            log.store.hashes.remove(offset.to_be_bytes()).unwrap();
        }
        drop(log);
        let log = EmbeddedLog::open(dir.path()).unwrap();
        assert_eq!(root(&log), whole);
        log.append(&[signal(count, 20)]).unwrap();
        assert_eq!(log.audited(0).unwrap().leaves().unwrap(), count + 1);
    }

    #[test]
    fn records_that_do_not_fit_their_hashes_are_no_log_to_append_to() {
        let dir = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(dir.path()).unwrap();
        log.append(&(0..5).map(|i| signal(i, 20)).collect::<Vec<_>>()).unwrap();
        log.store.records.insert(4u64.to_be_bytes(), record::encode(&signal(4, 21))).unwrap();
        drop(log);
        let error = EmbeddedLog::open(dir.path()).err().unwrap();
        assert!(error.is_corrupt() && error.at().is_some_and(|at| at.offset == 4), "{error}");
        Store::open(dir.path()).unwrap().records.remove(4u64.to_be_bytes()).unwrap();
        let error = EmbeddedLog::open(dir.path()).err().unwrap();
        assert!(error.to_string().contains("offset 4") && error.to_string().contains("5 records"), "{error}");
    }

    /// Writes some records into table files, so that they are read from there.
    fn on_disk(dir: &Path) -> Vec<Signal> {
        let log = EmbeddedLog::open(dir).unwrap();
        let signals: Vec<_> = (0..200).map(|i| signal(i, 300)).collect();
        log.append(&signals).unwrap();
        log.store.records.rotate_memtable_and_wait().unwrap();
        log.store.ids.rotate_memtable_and_wait().unwrap();
        signals
    }

    fn tables(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                tables(&path, out);
            } else if path.parent().unwrap().ends_with("tables") {
                out.push(path);
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_at_its_offset_or_harmless_never_another_signal() {
        let dir = tempfile::tempdir().unwrap();
        let signals = on_disk(dir.path());
        let mut files = vec![];
        tables(dir.path(), &mut files);
        let file = files.iter().max_by_key(|f| f.metadata().unwrap().len()).unwrap();
        let good = std::fs::read(file).unwrap();
        let mut damaged = 0;
        for at in (0..good.len()).step_by(good.len() / 40) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(file, &bad).unwrap();
            let read =
                EmbeddedLog::open(dir.path()).and_then(|log| log.read(LogPosition::default(), usize::MAX, usize::MAX));
            match read {
                Ok(read) => assert!(read.into_iter().map(|(_, s)| s).eq(signals.iter().cloned()), "byte {at}"),
                Err(error) => {
                    assert!(error.is_corrupt() && !error.is_retryable(), "byte {at}: {error}");
                    assert!(error.to_string().contains("backup"), "{error}");
                    damaged += 1;
                }
            }
        }
        assert!(damaged > 20, "only {damaged} of 40 flips were noticed");
    }
}
