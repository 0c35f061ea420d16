//! The embedded log: one partition in a folder of this machine, on fjall (see the decision record 0001).
//!
//! ```text
//! records: offset, big-endian u64   ─► record (log/record.rs)
//! ids:     signal id, big-endian u128 ─► offset
//! ```
//!
//! Invariants: both keyspaces change in one atomic batch that is fsynced before it becomes visible, so nobody reads, and
//! nobody is told of, a signal that power loss could take back (I1), and an id is known exactly when its record is (I2).
//! One append at a time: offsets have no gaps. The store never meets a full disk: appends stop while a reserve is left,
//! because a failed write halts the store until it is opened anew.
//!
//! One process: fjall locks the folder and has no read-only mode. A second process asks the first one.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use flowsync_schemas::{LogPosition, Signal, SignalId};

use super::{
    Appended, Log, LogError,
    record::{self, RecordError},
};
use crate::lock;

/// Largest record. Bodies are limited far below by whoever receives them.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Space that stays free on the disk of the log: more than the store writes in the background.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// See the module.
pub struct EmbeddedLog {
    path: PathBuf,
    free_bytes_min: u64,
    database: Database,
    records: Keyspace,
    ids: Keyspace,
    /// Held for a whole append.
    appending: Mutex<()>,
    /// Offset of the next signal; set when the signals before it are durable.
    end: Mutex<u64>,
    longer: Condvar,
}

impl EmbeddedLog {
    /// Opens the log in a folder, or creates it. Recovers from any crash; what was not acknowledged may be gone or not.
    ///
    /// # Errors
    /// Where another process has it open, or its files are damaged.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::open_with_reserve(path, FREE_BYTES_MIN)
    }

    fn open_with_reserve(path: &Path, free_bytes_min: u64) -> Result<Self, LogError> {
        let failed = |e| failure(path, None, e);
        let database = Database::builder(path).open().map_err(failed)?;
        let records = database.keyspace("records", KeyspaceCreateOptions::default).map_err(failed)?;
        let ids = database.keyspace("ids", KeyspaceCreateOptions::default).map_err(failed)?;
        let log = Self {
            path: path.to_owned(),
            free_bytes_min,
            database,
            records,
            ids,
            appending: Mutex::new(()),
            end: Mutex::new(0),
            longer: Condvar::new(),
        };
        if let Some(last) = log.records.last_key_value() {
            let (key, value) = last.into_inner().map_err(|e| log.failed_at(0, e))?;
            let offset = log.offset(&key)?;
            // Paired assertion on the batches' atomicity: the newest record's id leads back to it.
            let signal = decoded(offset, &value)?;
            if log.offset_of(signal.id)? != Some(offset) {
                return Err(corrupt(offset, "the newest record and the index of ids do not agree"));
            }
            *lock(&log.end) = offset + 1;
        }
        Ok(log)
    }

    fn offset_of(&self, id: SignalId) -> Result<Option<u64>, LogError> {
        let found = self.ids.get(id.0.to_be_bytes()).map_err(|e| failure(&self.path, None, e))?;
        found.map(|bytes| self.offset(&bytes)).transpose()
    }

    fn offset(&self, bytes: &[u8]) -> Result<u64, LogError> {
        let bytes = bytes.try_into().map_err(|_| corrupt(0, format!("{} bytes are no offset", bytes.len())))?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn failed_at(&self, offset: u64, error: fjall::Error) -> LogError {
        failure(&self.path, Some(offset), error)
    }

    /// Refuses `bytes` more where they would use up the reserve.
    fn check_space(&self, bytes: usize) -> Result<(), LogError> {
        let disk =
            rustix::fs::statvfs(&self.path).map_err(|e| LogError::Io { path: self.path.clone(), source: e.into() })?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < self.free_bytes_min.saturating_add(bytes as u64) {
            let (path, free_bytes_min) = (self.path.clone(), self.free_bytes_min);
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
        let _turn = lock(&self.appending);
        let end = *lock(&self.end);
        let mut next = end;
        let mut bytes = 0;
        let mut fresh: HashMap<SignalId, u64> = HashMap::new();
        let mut out = Vec::with_capacity(signals.len());
        // Visible only once it is durable: the fsync is part of the commit.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for signal in signals {
            let known = match fresh.get(&signal.id) {
                Some(offset) => Some(*offset),
                None => self.offset_of(signal.id)?,
            };
            let offset = known.unwrap_or(next);
            if known.is_none() {
                let record = record::encode(signal);
                if record.len() > RECORD_BYTES_MAX {
                    let (signal, bytes) = (signal.id, record.len());
                    return Err(LogError::TooLarge { signal, bytes, bytes_max: RECORD_BYTES_MAX });
                }
                bytes += record.len();
                batch.insert(&self.records, offset.to_be_bytes(), record);
                batch.insert(&self.ids, signal.id.0.to_be_bytes(), offset.to_be_bytes());
                fresh.insert(signal.id, offset);
                next += 1;
            }
            out.push(Appended { position: LogPosition { partition: 0, offset }, duplicate: known.is_some() });
        }
        if next > end {
            self.check_space(bytes)?;
            batch.commit().map_err(|e| halted(&self.path, e))?;
            *lock(&self.end) = next;
            self.longer.notify_all();
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
        let mut records = self.records.range(from.offset.to_be_bytes()..end.max(from.offset).to_be_bytes());
        while out.len() < records_max && offset < end {
            let (key, value) = match records.next() {
                Some(found) => found.into_inner().map_err(|e| self.failed_at(offset, e))?,
                None => return Err(corrupt(offset, format!("the record is missing, the log ends at {end}"))),
            };
            let found = self.offset(&key)?;
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
        let found = self.records.get(at.offset.to_be_bytes()).map_err(|e| self.failed_at(at.offset, e))?;
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
}

fn corrupt(offset: u64, detail: impl Into<String>) -> LogError {
    LogError::Corrupt { at: LogPosition { partition: 0, offset }, detail: detail.into() }
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

/// A failed open or read. `offset`: the record that was being read.
fn failure(path: &Path, offset: Option<u64>, error: fjall::Error) -> LogError {
    let path = path.to_owned();
    let io = |source: io::Error| match source.kind() {
        // Cut files: what should be there is not.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => None,
        _ => Some(LogError::Io { path: path.clone(), source }),
    };
    let detail = error.to_string();
    let plain = match error {
        fjall::Error::Locked => Some(LogError::Locked { path: path.clone() }),
        fjall::Error::Poisoned => Some(LogError::Halted { path: path.clone(), detail: detail.clone() }),
        fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => io(source),
        _ => None,
    };
    plain.unwrap_or_else(|| match offset {
        Some(offset) => corrupt(offset, detail),
        None => LogError::Unrecoverable { path, detail },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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

    /// Writes some records into table files, so that they are read from there.
    fn on_disk(dir: &Path) -> Vec<Signal> {
        let log = EmbeddedLog::open(dir).unwrap();
        let signals: Vec<_> = (0..200).map(|i| signal(i, 300)).collect();
        log.append(&signals).unwrap();
        log.records.rotate_memtable_and_wait().unwrap();
        log.ids.rotate_memtable_and_wait().unwrap();
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
