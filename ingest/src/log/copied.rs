//! The log as a backup takes it, at one moment, and a log that is built from one.
//!
//! Invariants: what is built has the hashes of what was copied, whatever became of a record since; it is readable by nobody
//! before it is built to its end, because whoever builds it marks the folder (backup/restore.rs). Nothing here grows with the log (I9).

use std::{path::Path, sync::Arc};

use fjall::{PersistMode, Readable, Snapshot};
use flowsync_schemas::{Channel, Micros, Signal, SignalId};

use super::{
    EmbeddedLog, LogError,
    audited::take,
    corrupt,
    embedded::halted,
    reader::Reader,
    sealed,
    store::{Store, failure, packed},
    tree::{Edge, TreeHash},
    withdraw,
};
use crate::seal::{self, Broken, HEAD, Keys, Purpose, SealError};

/// Bytes that are written to the store in one batch.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A record of an older build is plain: in a backup it is sealed all the same, with the key of its offset.
fn context(offset: u64) -> Vec<u8> {
    [b"flowsync backup record ", &offset.to_be_bytes()[..]].concat()
}

/// What is copied of one offset.
pub(crate) struct Copied {
    pub leaf: TreeHash,
    pub record: Record,
    /// What stands for the record since it was withdrawn.
    pub replaced: Option<Vec<u8>>,
}

/// What is copied of a record.
pub(crate) enum Record {
    /// It was withdrawn and is gone.
    Gone,
    /// As it is stored.
    Sealed(Vec<u8>),
    /// A plain one, sealed for the backup.
    Plain(Vec<u8>),
}

/// The log at one moment.
pub(crate) struct Copy {
    snapshot: Snapshot,
    store: Store,
}

impl EmbeddedLog {
    /// The keys that its records are sealed with.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.store.keys.clone()
    }

    /// The log as it is now, for a backup.
    pub(crate) fn copy(&self) -> Copy {
        Copy { snapshot: self.store.database.snapshot(), store: self.store.clone() }
    }
}

impl Copy {
    /// Number of records.
    pub fn end(&self) -> Result<u64, LogError> {
        let Some(last) = self.snapshot.last_key_value(&self.store.hashes) else { return Ok(0) };
        Ok(self.store.offset(&last.key().map_err(|e| failure(&self.store.path, None, e))?)? + 1)
    }

    /// Gives every record, in order, with what stands for it; a damaged log is none to make a backup of.
    pub fn each<E: From<LogError>>(&self, mut give: impl FnMut(Copied) -> Result<(), E>) -> Result<u64, E> {
        let store = &self.store;
        let entries = |keyspace| store.entries(self.snapshot.range(keyspace, [0; 8]..[0xff; 8]), 0).peekable();
        let mut records = entries(&store.records);
        let (mut hashes, mut replaced) = (entries(&store.hashes), entries(&store.replaced));
        let mut walk = store.keys.walk(Purpose::Records);
        let end = self.end()?;
        for offset in 0..end {
            let kept = take(&mut hashes, offset)?.ok_or_else(|| corrupt(offset, "no hash of it is kept"))?;
            let kept = kept.first_chunk().ok_or_else(|| corrupt(offset, "no hash of it is kept"))?;
            let leaf = TreeHash(*kept);
            let found = take(&mut records, offset)?;
            if found.as_deref().is_some_and(|record| TreeHash::leaf(record) != leaf) {
                return Err(corrupt(offset, "the record and its hash do not agree").into());
            }
            let record = match found {
                Some(record) if sealed::is_sealed(&record) => Record::Sealed(record.to_vec()),
                Some(record) => match walk.key(offset) {
                    Ok(key) => {
                        let mut out = vec![0; HEAD];
                        out.extend_from_slice(&record);
                        let nonce = seal::nonce().map_err(seal::no_randomness).map_err(LogError::from)?;
                        seal::seal_in_place(&key, &context(offset), nonce, &mut out, 0);
                        Record::Plain(out)
                    }
                    // Withdrawn since that moment.
                    Err(error) if error.is_destroyed() => Record::Gone,
                    Err(error) => return Err(LogError::from(error).into()),
                },
                None if store.keys.is_destroyed(Purpose::Records, offset) => Record::Gone,
                None => return Err(corrupt(offset, "the record is missing").into()),
            };
            let replaced = take(&mut replaced, offset)?.map(|value| value.to_vec());
            give(Copied { leaf, record, replaced })?;
        }
        Ok(end)
    }

    /// Whether of any signal nothing but the envelope is left.
    pub fn lets_go(&self) -> Result<bool, LogError> {
        let mut reader = Reader::of(&self.store);
        for entry in self.store.entries(self.snapshot.range(&self.store.replaced, [0; 8]..[0xff; 8]), 0) {
            let (offset, value) = entry?;
            if reader.replacement(offset, &value)?.is_some_and(|(_, signal)| signal.is_withdrawn()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The offset of a signal that was there.
    pub fn offset(&self, id: SignalId) -> Result<Option<u64>, LogError> {
        let found = self.snapshot.get(&self.store.ids, id.0.to_be_bytes());
        found.map_err(|e| failure(&self.store.path, None, e))?.map(|bytes| self.store.offset(&bytes)).transpose()
    }

    /// Every id with its offset.
    pub fn ids(&self) -> impl Iterator<Item = Result<(SignalId, u64), LogError>> + '_ {
        self.snapshot.iter(&self.store.ids).map(|entry| {
            let (key, value) = entry.into_inner().map_err(|e| failure(&self.store.path, None, e))?;
            let offset = self.store.offset(&value)?;
            let id = (*key).try_into().map_err(|_| corrupt(offset, format!("{} bytes are no id", key.len())))?;
            Ok((SignalId(u128::from_be_bytes(id)), offset))
        })
    }

    /// What is kept of withdrawals: what is under way, and how many there were.
    pub fn withdrawals(&self) -> Result<Vec<u8>, LogError> {
        let state = self.snapshot.get(&self.store.replaced, withdraw::STATE);
        Ok(state.map_err(|e| failure(&self.store.path, None, e))?.map_or_else(Vec::new, |bytes| bytes.to_vec()))
    }
}

/// A log that is being built.
pub(crate) struct Building {
    store: Store,
    batch: fjall::OwnedWriteBatch,
    bytes: usize,
    edge: Edge,
    ids: u64,
    state: withdraw::State,
    /// Records that nobody can read any more since they were copied.
    pub lost: u64,
    /// Offsets behind the end whose records nobody has.
    pub filled: u64,
}

impl Building {
    /// Begins a log in a folder that has none.
    pub fn begin(folder: &Path, keys: Arc<Keys>) -> Result<Self, LogError> {
        let store = Store::open(folder, keys)?;
        let (batch, edge, state) = (store.database.batch(), Edge::default(), withdraw::State::default());
        Ok(Self { store, batch, bytes: 0, edge, ids: 0, state, lost: 0, filled: 0 })
    }

    /// The tree over what is built.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Number of ids.
    pub fn ids(&self) -> u64 {
        self.ids
    }

    /// What was kept of withdrawals; before anything else.
    pub fn withdrawals(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        if !bytes.is_empty() {
            self.state = withdraw::State::read(bytes, 0)?;
        }
        self.state.behind(self.store.keys.destroyed_end(Purpose::Replacements));
        Ok(())
    }

    /// The next record.
    pub fn push(&mut self, copied: Copied) -> Result<(), LogError> {
        let Copied { leaf, record, replaced } = copied;
        let offset = self.edge.size();
        let destroyed = self.store.keys.is_destroyed(Purpose::Records, offset);
        let record = match record {
            Record::Gone => None,
            Record::Sealed(bytes) => Some(bytes),
            Record::Plain(_) if destroyed => None,
            Record::Plain(bytes) => {
                let key = self.store.keys.walk(Purpose::Records).key(offset)?;
                Some(seal::open(&key, &context(offset), &bytes).map_err(|broken| {
                    let other = "it was sealed for the backup with another key than the ring has for it";
                    corrupt(offset, if broken == Broken::OtherKey { other } else { "it is not what was sealed" })
                })?)
            }
        };
        if record.as_deref().is_some_and(|record| TreeHash::leaf(record) != leaf) {
            return Err(corrupt(offset, "the record of the backup and its hash do not agree"));
        }
        let replaced = replaced.filter(|value| self.is_readable(value));
        // Nobody can open it, and nothing stands for it: as after a withdrawal, its hash is what is left of it.
        let lost = destroyed && replaced.is_none();
        if record.is_none() && !destroyed {
            return Err(corrupt(offset, "the backup has no record of it, and its key is not destroyed: other keys"));
        }
        self.lost += u64::from(lost);
        if let Some(record) = record.filter(|_| !lost) {
            self.bytes += record.len();
            self.batch.insert(&self.store.records, offset.to_be_bytes(), record);
        }
        if let Some(value) = replaced {
            self.bytes += value.len();
            self.batch.insert(&self.store.replaced, offset.to_be_bytes(), value);
        }
        self.hash(leaf);
        self.write(BATCH_BYTES_MAX)
    }

    fn is_readable(&self, value: &[u8]) -> bool {
        sealed::number(value).is_ok_and(|number| !self.store.keys.is_destroyed(Purpose::Replacements, number))
    }

    fn hash(&mut self, leaf: TreeHash) {
        let offset = self.edge.size();
        let hashes = packed(&self.edge.push(leaf));
        self.bytes += hashes.len() + 64;
        self.batch.insert(&self.store.hashes, offset.to_be_bytes(), hashes);
    }

    /// The id of a record that is there; behind all records.
    pub fn id(&mut self, id: SignalId, offset: u64) -> Result<(), LogError> {
        if self.ids == 0 {
            self.write(0)?;
        }
        if offset >= self.edge.size() {
            return Err(corrupt(offset, "the backup has an id of it and no record"));
        }
        let place = offset.to_be_bytes();
        if self.store.keys.is_destroyed(Purpose::Records, offset) {
            let stands = self.store.replaced.get(place).map_err(|e| failure(&self.store.path, Some(offset), e))?;
            if stands.is_none() {
                self.stand_for(id, offset)?;
            }
        }
        self.batch.insert(&self.store.ids, id.0.to_be_bytes(), place);
        (self.ids, self.bytes) = (self.ids + 1, self.bytes + 64);
        self.write(BATCH_BYTES_MAX)
    }

    /// Of a record that nobody can read, only its id is known.
    fn stand_for(&mut self, id: SignalId, offset: u64) -> Result<(), LogError> {
        let number = self.state.take_number();
        let key = self.store.keys.walk(Purpose::Replacements).key(number)?;
        let nonce = seal::nonce().map_err(seal::no_randomness)?;
        let value = sealed::seal_replacement(&bare(id), number, offset, &key, nonce);
        self.bytes += value.len();
        self.batch.insert(&self.store.replaced, offset.to_be_bytes(), value);
        Ok(())
    }

    /// Ends the log: behind the newest destroyed key, because none could seal what comes there.
    pub fn finish(mut self) -> Result<(u64, u64, TreeHash), LogError> {
        self.write(0)?;
        let end = self.store.keys.destroyed_end(Purpose::Records);
        while self.edge.size() < end {
            let offset = self.edge.size();
            let id = SignalId::of_bytes("withdrawn", &offset.to_be_bytes());
            let nonce = seal::nonce().map_err(seal::no_randomness)?;
            let key = match self.store.keys.walk(Purpose::Records).key(offset) {
                Ok(key) => Some(key),
                Err(SealError::Destroyed { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            match key {
                Some(key) => {
                    let record = sealed::seal(&bare(id), offset, &key, nonce);
                    self.hash(TreeHash::leaf(&record));
                    self.bytes += record.len();
                    self.batch.insert(&self.store.records, offset.to_be_bytes(), record);
                }
                None => {
                    self.hash(TreeHash::leaf(&nonce));
                    self.stand_for(id, offset)?;
                }
            }
            self.batch.insert(&self.store.ids, id.0.to_be_bytes(), offset.to_be_bytes());
            self.filled += 1;
            self.write(BATCH_BYTES_MAX)?;
        }
        let state = self.state.written();
        self.batch.insert(&self.store.replaced, withdraw::STATE, state);
        self.write(0)?;
        self.store.database.persist(PersistMode::SyncAll).map_err(|e| halted(&self.store.path, e))?;
        Ok((self.lost, self.filled, self.edge.root()))
    }

    fn write(&mut self, bytes_min: usize) -> Result<(), LogError> {
        if self.bytes > bytes_min {
            let batch = std::mem::replace(&mut self.batch, self.store.database.batch());
            batch.commit().map_err(|e| halted(&self.store.path, e))?;
            self.bytes = 0;
        }
        Ok(())
    }
}

/// A signal of which only the id is known. It says nothing.
fn bare(id: SignalId) -> Signal {
    Signal {
        id,
        source: "withdrawn".into(),
        delivery: String::new(),
        occurred_at: None,
        received_at: Micros(0),
        channel: Channel::Import,
        verified_by: Signal::WITHDRAWN.into(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}
