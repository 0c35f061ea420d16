//! The embedded log: one partition in a folder of this machine, on fjall (see the decision record 0001).
//!
//! ```text
//! records: offset, big-endian u64   ─► record, sealed with the key of its offset (log/sealed.rs)
//! ids:     signal id, big-endian u128 ─► offset
//! hashes:  offset                     ─► nodes of the Merkle tree that the record completes (log/tree.rs)
//! replaced: offset                    ─► what stands for a withdrawn record (log/withdraw.rs)
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
    ops::Range,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use fjall::{PersistMode, Readable};
use flowsync_schemas::{LogPosition, Signal, SignalId};

use super::{
    Appended, Audited, Log, LogError, Withdrawn, corrupt,
    reader::Reader,
    record::RECORD_BYTES_MAX,
    sealed,
    store::{Store, failure, packed},
    tail::{self, Mark, cut_torn_append},
    take,
    tree::{Edge, TreeHash},
    unfinished::remove_unfinished,
};
use crate::{
    lock,
    seal::{self, Keys, NONCE_BYTES, Purpose},
};

/// Space that stays free on the disk of the log: more than the store writes in the background.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Records, and bytes of them, that are hashed in one batch where hashes are missing.
const BUILD_RECORDS_MAX: usize = 4096;
const BUILD_BYTES_MAX: usize = 16 << 20;

/// See the module.
pub struct EmbeddedLog {
    free_bytes_min: u64,
    pub(super) store: Store,
    mark: Mark,
    /// Held for a whole append: the right edge of the tree over what is durable.
    pub(super) appending: Mutex<Edge>,
    /// Held for a whole withdrawal.
    pub(super) withdrawing: Mutex<()>,
    /// Offset of the next signal; set when the signals before it are durable.
    pub(super) end: Mutex<u64>,
    longer: Condvar,
}

impl EmbeddedLog {
    /// Opens the log in a folder, or creates it; its records are sealed with `keys`. Recovers from any crash; what was not acknowledged may be gone or not.
    /// Where an older build wrote the log, its records are hashed first, once.
    ///
    /// # Errors
    /// Where another process has it open, or its files are damaged.
    pub fn open(path: &Path, keys: Arc<Keys>) -> Result<Self, LogError> {
        Self::open_with_reserve(path, keys, FREE_BYTES_MIN)
    }

    /// The log in a folder as it lies, for an audit: without the checks and repairs of [`EmbeddedLog::open`].
    ///
    /// # Errors
    /// Where another process has it open, or its files do not fit together.
    pub fn as_it_lies(path: &Path, keys: Arc<Keys>) -> Result<Box<dyn Audited>, LogError> {
        Ok(Box::new(Store::open(path, keys)?.view()))
    }

    fn open_with_reserve(path: &Path, keys: Arc<Keys>, free_bytes_min: u64) -> Result<Self, LogError> {
        let io = |source| LogError::Io { path: path.to_owned(), source };
        remove_unfinished(path).map_err(io)?;
        let opened = Store::open(path, keys.clone());
        let (mark, acknowledged) = Mark::open(path).map_err(io)?;
        let acknowledged = acknowledged.unwrap_or_default();
        let store = match opened {
            Err(error @ LogError::Unrecoverable { .. }) => {
                let length = cut_torn_append(path, acknowledged, &keys).map_err(io)?.ok_or(error)?;
                tracing::warn!(length, "an append that was never acknowledged is torn: the journal is cut before it");
                Store::open(path, keys)?
            }
            opened => opened?,
        };
        let log = Self {
            free_bytes_min,
            store,
            mark,
            appending: Mutex::default(),
            withdrawing: Mutex::default(),
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
        if end < log.store.keys.destroyed_end(Purpose::Records) {
            let detail = "the log ends here, and keys of later records are destroyed: it is older than its keys";
            return Err(corrupt(end, detail));
        }
        log.finish_withdrawal()?;
        log.mark.set(end).map_err(io)?;
        *lock(&log.end) = end;
        *lock(&log.appending) = edge;
        Ok(log)
    }

    /// The end of the log. Paired assertions on the batches' atomicity: the newest record's id leads back to it, and its
    /// hash is that of its bytes.
    fn check_newest(&self) -> Result<u64, LogError> {
        let view = self.store.view();
        let mut end = match self.store.records.last_key_value() {
            Some(last) => self.store.offset(&last.key().map_err(|e| self.failed_at(0, e))?)? + 1,
            None => 0,
        };
        // Withdrawn records leave their hashes.
        let (hashed, destroyed) = (view.leaves()?, self.store.keys.destroyed(Purpose::Records));
        if destroyed.iter().any(|range| range.start <= end && hashed <= range.end) {
            end = end.max(hashed);
        }
        let Some(offset) = end.checked_sub(1) else { return Ok(0) };
        let record = view.record(offset)?;
        let replaced = self.store.replaced.get(offset.to_be_bytes()).map_err(|e| self.failed_at(offset, e))?;
        let signal = Reader::of(&self.store).signal(offset, record.as_deref(), replaced.as_deref())?;
        if self.offset_of(signal.id)? != Some(offset) {
            return Err(corrupt(offset, "the newest record and the index of ids do not agree"));
        }
        let hashes = view.hashes_at(offset)?;
        if record.zip(hashes).is_some_and(|(record, kept)| kept.first() != Some(&TreeHash::leaf(&record))) {
            return Err(corrupt(offset, "the newest record and its hash do not agree"));
        }
        Ok(end)
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

    pub(super) fn offset_of(&self, id: SignalId) -> Result<Option<u64>, LogError> {
        let found = self.store.ids.get(id.0.to_be_bytes()).map_err(|e| failure(&self.store.path, None, e))?;
        found.map(|bytes| self.store.offset(&bytes)).transpose()
    }

    /// A nonce for what is sealed next.
    pub(super) fn nonce(&self) -> Result<[u8; NONCE_BYTES], LogError> {
        Ok(seal::nonce().map_err(seal::no_randomness)?)
    }

    fn failed_at(&self, offset: u64, error: fjall::Error) -> LogError {
        failure(&self.store.path, Some(offset), error)
    }

    /// Refuses `bytes` more where they would use up the reserve.
    pub(super) fn check_space(&self, bytes: usize) -> Result<(), LogError> {
        let disk = rustix::fs::statvfs(&self.store.path)
            .map_err(|e| LogError::Io { path: self.store.path.clone(), source: e.into() })?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < self.free_bytes_min.saturating_add(bytes as u64) {
            let (path, free_bytes_min) = (self.store.path.clone(), self.free_bytes_min);
            return Err(LogError::Full { path, free_bytes, free_bytes_min });
        }
        Ok(())
    }

    pub(super) fn check_partition(partition: u32) -> Result<(), LogError> {
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
        let mut walk = self.store.keys.walk(Purpose::Records);
        // Visible only once it is durable: the fsync is part of the commit.
        let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncAll));
        for signal in signals {
            let known = match fresh.get(&signal.id) {
                Some(offset) => Some(*offset),
                None => self.offset_of(signal.id)?,
            };
            let offset = known.unwrap_or(grown.size());
            if known.is_none() {
                let record = sealed::seal(signal, offset, &walk.key(offset)?, self.nonce()?);
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
        let range = from.offset.to_be_bytes()..end.max(from.offset).to_be_bytes();
        // Both as of one moment: a record is there, or what stands for it is.
        let snapshot = self.store.database.snapshot();
        let entries = |keyspace| self.store.entries(snapshot.range(keyspace, range.clone()), from.offset).peekable();
        let (mut records, mut replaced) = (entries(&self.store.records), entries(&self.store.replaced));
        let mut reader = Reader::of(&self.store);
        let mut bytes = 0usize;
        for offset in (from.offset..end).take(records_max) {
            let (record, stands) = (take(&mut records, offset)?, take(&mut replaced, offset)?);
            let Some(stored) = stands.as_ref().or(record.as_ref()) else {
                let there = match records.peek() {
                    Some(Ok((next, _))) => format!("the next one is {next}"),
                    _ => format!("the log ends at {end}"),
                };
                return Err(corrupt(offset, format!("the record is missing, {there}")));
            };
            bytes = bytes.saturating_add(stored.len());
            if !out.is_empty() && bytes > bytes_max {
                break;
            }
            let signal = reader.signal(offset, record.as_deref(), stands.as_deref())?;
            // A packed record may be far larger as read: what nobody could hold is not read in one go.
            bytes = bytes.saturating_add(size(&signal).saturating_sub(stored.len()));
            if !out.is_empty() && bytes > bytes_max {
                break;
            }
            out.push((LogPosition { partition: 0, offset }, signal));
        }
        Ok(out)
    }

    fn get(&self, at: LogPosition) -> Result<Option<Signal>, LogError> {
        Self::check_partition(at.partition)?;
        if at.offset >= *lock(&self.end) {
            return Ok(None);
        }
        let snapshot = self.store.database.snapshot();
        let read = |keyspace| snapshot.get(keyspace, at.offset.to_be_bytes()).map_err(|e| self.failed_at(at.offset, e));
        let (record, replaced) = (read(&self.store.records)?, read(&self.store.replaced)?);
        Reader::of(&self.store).signal(at.offset, record.as_deref(), replaced.as_deref()).map(Some)
    }

    fn has(&self, id: SignalId) -> Result<bool, LogError> {
        Ok(self.offset_of(id)?.is_some())
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

    fn withdraw(&self, at: Vec<(LogPosition, Option<Signal>)>) -> Result<Withdrawn, LogError> {
        self.withdraw_all(at)
    }

    fn withdrawn(&self, partition: u32) -> Result<Vec<Range<u64>>, LogError> {
        Self::check_partition(partition)?;
        Ok(self.store.keys.destroyed(Purpose::Records))
    }

    fn audited(&self, partition: u32) -> Option<Box<dyn Audited>> {
        Self::check_partition(partition).ok()?;
        Some(Box::new(self.store.view()))
    }
}

/// Bytes of a signal in memory.
fn size(signal: &Signal) -> usize {
    signal.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + signal.body.len()
}

/// A failed commit: what of it is on the disk is unknown, and the store takes nothing more.
pub(super) fn halted(path: &Path, error: fjall::Error) -> LogError {
    LogError::Halted { path: path.to_owned(), detail: error.to_string() }
}

#[cfg(test)]
mod tests;
