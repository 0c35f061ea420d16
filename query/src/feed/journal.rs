//! The feed's journal: the events of the newest epochs, on disk, so that a client can resume after a restart.
//!
//! One batch an epoch, written atomically together with the position that the journal has reached; a reader takes a
//! snapshot of events and bounds together, and so never sees half an epoch or a gap. Bounded by count and by age (I9):
//! what falls out moves `base`, and a reader that stands before `base` is told so.
//!
//! Not every epoch is fsynced: a killed process loses nothing, a power cut may lose the newest epochs. The pipeline
//! publishes them again, or leaves a gap, which [`super::Feed::publish`] notices.
//!
//! It knows nothing of HTTP, roles or DataFusion.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};
use flowsync_schemas::{Epoch, Micros};
use serde::{Deserialize, Serialize};

/// A row as JSON, by column name.
pub type JsonRow = serde_json::Map<String, serde_json::Value>;

/// What became of one item in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Our clock when the epoch was published, for the bound by age.
    pub published_at: Micros,
    /// The row that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<JsonRow>,
    /// The row that is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<JsonRow>,
}

/// A place between two events: everything before it was seen. The id of an event is the place right after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    epoch: u64,
    next: u32,
}

impl Cursor {
    /// After everything up to and including an epoch.
    pub const fn end_of(epoch: Epoch) -> Self {
        Self { epoch: epoch.0.saturating_add(1), next: 0 }
    }

    /// After one event.
    pub const fn after(epoch: Epoch, index: u32) -> Self {
        Self { epoch: epoch.0, next: index.saturating_add(1) }
    }

    /// The epoch of the event that this is the place after.
    pub const fn epoch(self) -> Epoch {
        Epoch(self.epoch)
    }

    fn key(self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&self.epoch.to_be_bytes());
        key[8..].copy_from_slice(&self.next.to_be_bytes());
        key
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        let (epoch, next) = key.split_first_chunk::<8>()?;
        Some(Self { epoch: u64::from_be_bytes(*epoch), next: u32::from_be_bytes(next.try_into().ok()?) })
    }
}

/// `{epoch}.{index}` of the last event seen, or `{epoch}.end` when the whole epoch was seen.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.next.checked_sub(1) {
            Some(index) => write!(f, "{}.{index}", self.epoch),
            None => write!(f, "{}.end", self.epoch.saturating_sub(1)),
        }
    }
}

impl FromStr for Cursor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no event id: expected EPOCH.INDEX, such as 1234.0, or EPOCH.end");
        let (epoch, index) = text.trim().split_once('.').ok_or_else(wrong)?;
        let epoch = Epoch(epoch.parse().map_err(|_| wrong())?);
        match index {
            "end" => Ok(Self::end_of(epoch)),
            index => Ok(Self::after(epoch, index.parse().map_err(|_| wrong())?)),
        }
    }
}

/// What the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Every event from here on is there.
    pub base: Cursor,
    /// The newest epoch that was published.
    pub last: Epoch,
}

/// Events with the cursor after each, or the news that they are gone.
#[derive(Debug)]
pub enum Page {
    /// The next events, oldest first; empty where the reader has seen all.
    Events(Vec<(Cursor, Entry)>),
    /// Events that the reader has not seen were dropped.
    Gone(Bounds),
}

const KEY_BYTES: usize = 12;
const FORMAT: u8 = 1;
const META: &[u8] = b"bounds";

/// A journal that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error("feed journal: {0}")]
    Store(#[from] fjall::Error),
    /// Too little space: nothing is written, so that the store stays whole.
    #[error("feed journal: {free_bytes} bytes are free on its disk, and {FREE_BYTES_MIN} stay in reserve: free space")]
    Full {
        /// Space left.
        free_bytes: u64,
    },
    /// What is stored is not what this build writes.
    #[error(
        "feed journal: {0}; remove the folder `feed` of the data directory to start a new journal (clients will be reset)"
    )]
    Unreadable(String),
}

impl JournalError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, JournalError::Store(_) | JournalError::Full { .. })
    }
}

/// Space that stays free on the journal's disk: a write that fails would halt the store until it is opened anew.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// The journal.
pub struct Journal {
    path: PathBuf,
    db: Database,
    events: Keyspace,
    meta: Keyspace,
}

impl Journal {
    /// Opens or creates the journal in a folder of its own.
    ///
    /// # Errors
    /// Where the store cannot be opened (another process holds it, no space) or was written by a newer build.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let db = Database::builder(dir).worker_threads(1).cache_size(8 << 20).open()?;
        let events = db.keyspace("events", KeyspaceCreateOptions::default)?;
        let meta = db.keyspace("meta", KeyspaceCreateOptions::default)?;
        let journal = Self { path: dir.to_owned(), db, events, meta };
        journal.bounds()?;
        Ok(journal)
    }

    /// What the journal holds; `None` before the first publication.
    ///
    /// # Errors
    /// Where the store fails or was written by a newer build.
    pub fn bounds(&self) -> Result<Option<Bounds>, JournalError> {
        self.meta.get(META)?.map(|bytes| decode_bounds(&bytes)).transpose()
    }

    /// Number of events.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn count(&self) -> Result<usize, JournalError> {
        Ok(self.events.len()?)
    }

    /// Adds the events of one epoch and moves `last`, in one step.
    ///
    /// # Errors
    /// Where the store fails; nothing is then added.
    pub fn append(&self, bounds: Bounds, entries: &[Entry]) -> Result<(), JournalError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        for (index, entry) in (0u32..).zip(entries) {
            let json = serde_json::to_vec(entry).map_err(|e| JournalError::Unreadable(e.to_string()))?;
            batch.insert(&self.events, Cursor { epoch: bounds.last.0, next: index }.key(), json);
        }
        self.commit(batch, bounds)
    }

    /// Forgets every event and starts at `epoch`, in one step.
    ///
    /// # Errors
    /// Where the store fails; nothing is then forgotten.
    pub fn restart(&self, epoch: Epoch) -> Result<Bounds, JournalError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        for guard in self.events.iter() {
            batch.remove(&self.events, guard.key()?);
        }
        let bounds = Bounds { base: Cursor::end_of(epoch), last: epoch };
        self.commit(batch, bounds)?;
        Ok(bounds)
    }

    /// Drops the `surplus` oldest events, and all published before `not_before`. Returns the bounds and the number dropped.
    ///
    /// # Errors
    /// Where the store fails; nothing is then dropped.
    pub fn prune(&self, bounds: Bounds, surplus: usize, not_before: Micros) -> Result<(Bounds, usize), JournalError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        let mut dropped = 0;
        let mut base = bounds.base;
        for guard in self.events.iter() {
            let (key, value) = guard.into_inner()?;
            if dropped >= surplus && decode_entry(&value)?.published_at >= not_before {
                break;
            }
            let at = decode_key(&key)?;
            base = Cursor { next: at.next.saturating_add(1), ..at };
            batch.remove(&self.events, key);
            dropped += 1;
        }
        let bounds = Bounds { base, ..bounds };
        if dropped > 0 {
            self.commit(batch, bounds)?;
        }
        Ok((bounds, dropped))
    }

    /// The next events after a cursor, at most `limit`.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn read(&self, from: Cursor, limit: usize) -> Result<Page, JournalError> {
        // One snapshot over both keyspaces: what is pruned between two reads is noticed, not skipped.
        let snapshot = self.db.snapshot();
        let Some(bytes) = snapshot.get(&self.meta, META)? else { return Ok(Page::Events(Vec::new())) };
        let bounds = decode_bounds(&bytes)?;
        if from < bounds.base {
            return Ok(Page::Gone(bounds));
        }
        let mut page = Vec::new();
        for guard in snapshot.range(&self.events, from.key()..).take(limit) {
            let (key, value) = guard.into_inner()?;
            let at = decode_key(&key)?;
            page.push((Cursor { next: at.next.saturating_add(1), ..at }, decode_entry(&value)?));
        }
        Ok(Page::Events(page))
    }

    /// Makes everything that was appended survive a power cut.
    ///
    /// # Errors
    /// Where the store fails.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.check_space()?;
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn check_space(&self) -> Result<(), JournalError> {
        let disk = rustix::fs::statvfs(&self.path).map_err(|e| fjall::Error::Io(e.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < FREE_BYTES_MIN { Err(JournalError::Full { free_bytes }) } else { Ok(()) }
    }

    fn commit(&self, mut batch: OwnedWriteBatch, bounds: Bounds) -> Result<(), JournalError> {
        let mut bytes = vec![FORMAT];
        bytes.extend(bounds.base.key());
        bytes.extend(bounds.last.0.to_be_bytes());
        self.check_space()?;
        batch.insert(&self.meta, META, bytes);
        Ok(batch.commit()?)
    }
}

fn decode_bounds(bytes: &[u8]) -> Result<Bounds, JournalError> {
    let decode = |bytes: &[u8]| {
        let (base, last) = bytes.split_at_checked(KEY_BYTES)?;
        Some(Bounds { base: Cursor::from_key(base)?, last: Epoch(u64::from_be_bytes(last.try_into().ok()?)) })
    };
    match bytes.split_first() {
        Some((&FORMAT, rest)) => {
            decode(rest).ok_or_else(|| JournalError::Unreadable("its bounds are malformed".to_owned()))
        }
        _ => Err(JournalError::Unreadable("it was written by another version".to_owned())),
    }
}

fn decode_key(key: &[u8]) -> Result<Cursor, JournalError> {
    Cursor::from_key(key).ok_or_else(|| JournalError::Unreadable("an event's key is malformed".to_owned()))
}

fn decode_entry(value: &[u8]) -> Result<Entry, JournalError> {
    serde_json::from_slice(value).map_err(|e| JournalError::Unreadable(format!("an event is malformed: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(at: i64) -> Entry {
        Entry { published_at: Micros(at), old: None, new: Some(JsonRow::new()) }
    }

    fn ids(page: Page) -> Vec<String> {
        let Page::Events(events) = page else { panic!("{page:?}") };
        events.into_iter().map(|(cursor, _)| cursor.to_string()).collect()
    }

    #[test]
    fn ids_are_read_back() {
        for text in ["0.0", "7.3", "7.end", "0.end"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        assert!("7.end".parse::<Cursor>().unwrap() > "7.9".parse().unwrap());
        assert!("7.end".parse::<Cursor>().unwrap() < "8.0".parse().unwrap());
        for odd in ["", "7", "7.", ".3", "a.b", "7.-1", "7.3.1", "99999999999999999999.0"] {
            assert!(odd.parse::<Cursor>().is_err(), "{odd}");
        }
    }

    #[test]
    fn survives_reopening_and_forgets_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let mut bounds = Bounds { base: Cursor::end_of(Epoch(0)), last: Epoch(0) };
        {
            let journal = Journal::open(dir.path()).unwrap();
            for epoch in 1..=3 {
                bounds.last = Epoch(epoch);
                journal.append(bounds, &[entry(epoch as i64), entry(epoch as i64)]).unwrap();
            }
        }
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.bounds().unwrap(), Some(bounds));
        assert_eq!(ids(journal.read("1.0".parse().unwrap(), 3).unwrap()), ["1.1", "2.0", "2.1"]);
        assert_eq!(ids(journal.read("3.end".parse().unwrap(), 3).unwrap()), [""; 0]);

        let (pruned, dropped) = journal.prune(bounds, 3, Micros(0)).unwrap();
        assert_eq!((dropped, journal.count().unwrap()), (3, 3));
        assert!(matches!(journal.read("1.end".parse().unwrap(), 3).unwrap(), Page::Gone(b) if b == pruned));
        assert_eq!(ids(journal.read("2.0".parse().unwrap(), 9).unwrap()), ["2.1", "3.0", "3.1"]);

        let (pruned, dropped) = journal.prune(pruned, 0, Micros(3)).unwrap();
        assert_eq!((dropped, pruned.base.to_string()), (1, "2.1".to_owned()));
        journal.restart(Epoch(9)).unwrap();
        assert!(matches!(journal.read("3.1".parse().unwrap(), 3).unwrap(), Page::Gone(_)));
        assert_eq!(journal.count().unwrap(), 0);
    }
}
