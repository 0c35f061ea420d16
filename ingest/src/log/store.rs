//! The files beneath the embedded log: four keyspaces of one fjall database, and a view of them at one moment.
//!
//! What the keys and values are, and what keeps them together, is told in `log/embedded.rs`.

use std::{
    io, panic,
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{
    Database, Iter, Keyspace, KeyspaceCreateOptions, Readable, Snapshot, UserValue, config::CompressionPolicy,
};
use flowsync_schemas::SignalId;

use super::{
    LogError,
    audited::{Audited, Entries},
    corrupt,
    tree::{HASH_BYTES, TreeHash},
};
use crate::seal::{Keys, Purpose, Secret};

/// Bytes of journals from which on the store lets go of the oldest: all of them are read when it is opened, before anything is served. The
/// least that fjall takes; a journal itself has as much.
const JOURNALS_BYTES_MAX: u64 = 64 << 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) keys: Arc<Keys>,
    pub(crate) database: Database,
    pub(crate) records: Keyspace,
    pub(crate) ids: Keyspace,
    pub(crate) hashes: Keyspace,
    pub(crate) replaced: Keyspace,
}

impl Store {
    /// Opens the keyspaces, or creates what is missing of them.
    pub(crate) fn open(path: &Path, keys: Arc<Keys>) -> Result<Self, LogError> {
        let failed = |e| failure(path, None, e);
        // fjall 3.1 panics on some damage of its journal. Nothing of it is used after that.
        let opened = panic::catch_unwind(|| Database::builder(path).max_journaling_size(JOURNALS_BYTES_MAX).open());
        let unreadable =
            |_| LogError::Unrecoverable { path: path.to_owned(), detail: "a journal cannot be read".into() };
        let database = opened.map_err(unreadable)?.map_err(failed)?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default).map_err(failed);
        // Hashes and what is sealed do not become smaller.
        let plain = || KeyspaceCreateOptions::default().data_block_compression_policy(CompressionPolicy::disabled());
        let plain = |name| database.keyspace(name, plain).map_err(failed);
        let (records, ids, hashes) = (plain("records")?, keyspace("ids")?, plain("hashes")?);
        let replaced = plain("replaced")?;
        Ok(Self { path: path.to_owned(), keys, records, ids, hashes, replaced, database })
    }

    /// Everything as of now.
    pub(crate) fn view(&self) -> View {
        View { snapshot: self.database.snapshot(), store: self.clone() }
    }

    /// Entries by offset, in order, from `from` on.
    pub(super) fn entries(
        &self,
        iter: Iter,
        from: u64,
    ) -> impl Iterator<Item = Result<(u64, UserValue), LogError>> + use<> {
        let store = self.clone();
        // Where an entry cannot be read, neither can its offset: it is the next one, unless entries are missing too.
        let mut next = from;
        iter.map(move |entry| {
            let (key, value) = entry.into_inner().map_err(|e| failure(&store.path, Some(next), e))?;
            let offset = store.offset(&key)?;
            next = offset + 1;
            Ok((offset, value))
        })
    }

    /// Reads an offset.
    pub(crate) fn offset(&self, bytes: &[u8]) -> Result<u64, LogError> {
        let bytes = bytes.try_into().map_err(|_| corrupt(0, format!("{} bytes are no offset", bytes.len())))?;
        Ok(u64::from_be_bytes(bytes))
    }
}

/// Hashes as stored.
pub(crate) fn packed(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn unpacked(offset: u64, bytes: &[u8]) -> Result<Vec<TreeHash>, LogError> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    match rest {
        [] => Ok(hashes.iter().map(|bytes| TreeHash(*bytes)).collect()),
        _ => Err(corrupt(offset, format!("{} bytes are no hashes", bytes.len()))),
    }
}

/// See [`Audited`].
pub(crate) struct View {
    snapshot: Snapshot,
    store: Store,
}

impl View {
    fn entries<T: 'static>(&self, iter: Iter, from: u64, read: fn(u64, &[u8]) -> Result<T, LogError>) -> Entries<T> {
        let entries = self.store.entries(iter, from);
        Box::new(entries.map(move |entry| entry.and_then(|(offset, value)| Ok((offset, read(offset, &value)?)))))
    }

    fn failed(&self, offset: Option<u64>) -> impl Fn(fjall::Error) -> LogError + '_ {
        move |error| failure(&self.store.path, offset, error)
    }
}

impl Audited for View {
    fn records(&self, from: u64) -> Entries<Vec<u8>> {
        let iter = self.snapshot.range(&self.store.records, from.to_be_bytes()..);
        self.entries(iter, from, |_, bytes| Ok(bytes.to_vec()))
    }

    fn hashes(&self, from: u64) -> Entries<Vec<TreeHash>> {
        self.entries(self.snapshot.range(&self.store.hashes, from.to_be_bytes()..), from, unpacked)
    }

    fn record(&self, offset: u64) -> Result<Option<Vec<u8>>, LogError> {
        let found = self.snapshot.get(&self.store.records, offset.to_be_bytes()).map_err(self.failed(Some(offset)))?;
        Ok(found.map(|bytes| bytes.to_vec()))
    }

    fn hashes_at(&self, offset: u64) -> Result<Option<Vec<TreeHash>>, LogError> {
        let found = self.snapshot.get(&self.store.hashes, offset.to_be_bytes()).map_err(self.failed(Some(offset)))?;
        found.map(|bytes| unpacked(offset, &bytes)).transpose()
    }

    fn key(&self, offset: u64) -> Result<Option<Secret>, LogError> {
        match self.store.keys.walk(Purpose::Records).key(offset) {
            Err(error) if error.is_destroyed() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    fn is_withdrawn(&self, offset: u64) -> bool {
        self.store.keys.is_destroyed(Purpose::Records, offset)
    }

    fn leaves(&self) -> Result<u64, LogError> {
        let Some(last) = self.snapshot.last_key_value(&self.store.hashes) else { return Ok(0) };
        Ok(self.store.offset(&last.key().map_err(self.failed(None))?)? + 1)
    }

    fn offset_of(&self, id: SignalId) -> Result<Option<u64>, LogError> {
        let found = self.snapshot.get(&self.store.ids, id.0.to_be_bytes()).map_err(self.failed(None))?;
        found.map(|bytes| self.store.offset(&bytes)).transpose()
    }

    fn indexed_at(&self, offset: u64) -> Result<Option<SignalId>, LogError> {
        for entry in self.snapshot.iter(&self.store.ids) {
            let (key, value) = entry.into_inner().map_err(self.failed(None))?;
            if *value == offset.to_be_bytes() {
                let id = (*key).try_into().map_err(|_| corrupt(offset, format!("{} bytes are no id", key.len())))?;
                return Ok(Some(SignalId(u128::from_be_bytes(id))));
            }
        }
        Ok(None)
    }
}

/// A failed open or read. `offset`: the record that was being read.
pub(crate) fn failure(path: &Path, offset: Option<u64>, error: fjall::Error) -> LogError {
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
