//! What stands at an offset: the signal of its record, or what replaces it since it was withdrawn.

use flowsync_schemas::{LogPosition, Signal};

use super::{
    LogError, corrupt,
    record::{FORMAT, RecordError},
    sealed,
    store::{Store, failure},
};
use crate::seal::{Purpose, Walk};

/// Reads signals, best in the order of their offsets.
pub(super) struct Reader<'a> {
    store: &'a Store,
    records: Walk<'a>,
    replacements: Walk<'a>,
}

impl<'a> Reader<'a> {
    pub fn of(store: &'a Store) -> Self {
        let walk = |purpose| store.keys.walk(purpose);
        Self { store, records: walk(Purpose::Records), replacements: walk(Purpose::Replacements) }
    }

    /// The signal at an offset, by what was stored there at one moment.
    pub fn signal(&mut self, offset: u64, record: Option<&[u8]>, replaced: Option<&[u8]>) -> Result<Signal, LogError> {
        let found = match (replaced, record) {
            (Some(value), _) => self.replacement(offset, value)?.map(|(_, signal)| signal),
            (None, Some(record)) => self.recorded(offset, record)?,
            (None, None) => return Err(corrupt(offset, "the record is missing")),
        };
        if let Some(signal) = found {
            return Ok(signal);
        }
        // Withdrawn since that moment: what stands for it was durable before its key was destroyed.
        let now = self.store.replaced.get(offset.to_be_bytes());
        let now = match now.map_err(|e| failure(&self.store.path, Some(offset), e))? {
            Some(value) => self.replacement(offset, &value)?,
            None => None,
        };
        let lost = || corrupt(offset, "its key is destroyed, and what stands for it is missing");
        now.map(|(_, signal)| signal).ok_or_else(lost)
    }

    /// None where its key is destroyed.
    fn recorded(&mut self, offset: u64, record: &[u8]) -> Result<Option<Signal>, LogError> {
        if !sealed::is_sealed(record) {
            // Nobody needs a key for it: that it was withdrawn, the ring alone tells.
            let withdrawn = self.store.keys.is_destroyed(Purpose::Records, offset);
            return if withdrawn { Ok(None) } else { decoded(offset, super::record::decode(record)).map(Some) };
        }
        match self.records.key(offset) {
            Ok(key) => decoded(offset, sealed::open(record, offset, &key)).map(Some),
            Err(error) if error.is_destroyed() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A replacement's number and signal; none where its key is destroyed, because another came.
    pub fn replacement(&mut self, offset: u64, value: &[u8]) -> Result<Option<(u64, Signal)>, LogError> {
        let number = decoded(offset, sealed::number(value))?;
        match self.replacements.key(number) {
            Ok(key) => {
                decoded(offset, sealed::open_replacement(value, offset, &key)).map(|signal| Some((number, signal)))
            }
            Err(error) if error.is_destroyed() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn decoded<T>(offset: u64, read: Result<T, RecordError>) -> Result<T, LogError> {
    read.map_err(|e| match e {
        RecordError::Newer(found) => LogError::Newer { at: LogPosition { partition: 0, offset }, found, known: FORMAT },
        RecordError::Sealed => corrupt(offset, "a sealed record lies in a sealed record"),
        RecordError::Damaged(detail) => corrupt(offset, detail),
    })
}
