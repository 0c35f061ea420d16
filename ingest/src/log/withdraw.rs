//! Withdrawing: what a record said is no longer there for anyone, and the log is otherwise as it was.
//!
//! ```text
//! (a) what stands for the records, and what is under way     in one durable batch
//! (b) the keys of the records destroyed                      the ring, durable
//! (c) records that nothing may bring back are removed        in one durable batch, with: nothing is under way
//! ```
//!
//! Invariants: after (a) the record reads as what stands for it, whatever crashes; what is under way is finished when the log is
//! opened, and before anything else is withdrawn. Every step can be repeated. A batch is bounded (I9). Offsets, ids and
//! hashes stay: redeliveries are known (I2), and the tree is that of the records as they were taken in.
//!
//! A record of format 1 is no secret, so it is removed even where something stands for it. The store's journal (fjall 3.1) is
//! not rotated on demand: removed bytes are in it until 64 MB more were written. Of sealed records nobody can read them.

use std::{iter::Peekable, thread, time::Duration, vec};

use fjall::{PersistMode, Readable};
use flowsync_schemas::{LogPosition, Signal, SignalId};
use serde::{Deserialize, Serialize};

use super::{EmbeddedLog, LogError, corrupt, embedded::halted, reader::Reader, sealed, store::failure};
use crate::{lock, seal::Purpose};

/// Records withdrawn in one batch, and bytes of what stands for them.
const BATCH_RECORDS_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Where the state is kept among the replacements: behind every offset.
pub(super) const STATE: [u8; 9] = [0xff; 9];

/// How long the store may take to write what is removed into its tables, in steps of 10 ms.
const FLUSH_STEPS_MAX: usize = 3000;

/// What [`super::Log::withdraw`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withdrawn {
    /// Signals that another stands for.
    pub replaced: u64,
    /// Signals of which only the envelope is left.
    pub removed: u64,
    /// Signals that were withdrawn before, in the same way.
    pub unchanged: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Number of the next replacement.
    next: u64,
    under_way: UnderWay,
}

impl State {
    /// From a log of so many signals.
    pub fn read(bytes: &[u8], end: u64) -> Result<Self, LogError> {
        postcard::from_bytes(bytes).map_err(|_| corrupt(end, "what is being withdrawn cannot be read"))
    }

    pub fn written(&self) -> Vec<u8> {
        #[allow(clippy::expect_used)] // Numbers and lists of known length: postcard refuses none, a Vec grows.
        postcard::to_allocvec(self).expect("a state can be encoded")
    }

    /// A log that was restored knows less than the ring.
    pub fn behind(&mut self, destroyed: u64) {
        self.next = self.next.max(destroyed);
    }

    /// The number of a replacement.
    pub fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }
}

/// What (b) and (c) have to do.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct UnderWay {
    /// Offsets whose keys are destroyed.
    offsets: Vec<u64>,
    /// Earlier replacements of the same records.
    numbers: Vec<u64>,
    /// Offsets whose records are removed.
    removed: Vec<u64>,
}

/// What is left of a signal of which nothing may be left.
pub(super) fn envelope_of(signal: &Signal) -> Signal {
    Signal {
        id: signal.id,
        source: signal.source.clone(),
        delivery: String::new(),
        occurred_at: signal.occurred_at,
        received_at: signal.received_at,
        channel: signal.channel,
        verified_by: Signal::WITHDRAWN.into(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

type Wanted = Peekable<vec::IntoIter<(u64, Option<Signal>)>>;

impl EmbeddedLog {
    /// Everything, and the space given back.
    pub(super) fn withdraw_all(&self, at: Vec<(LogPosition, Option<Signal>)>) -> Result<Withdrawn, LogError> {
        let (done, removed) = self.withdraw_batches(at)?;
        if removed && let Err(error) = self.reclaim() {
            tracing::warn!(%error, "what was withdrawn is removed, but not yet from the tables of the log");
        }
        Ok(done)
    }

    /// Also gives whether records were removed.
    pub(super) fn withdraw_batches(
        &self,
        at: Vec<(LogPosition, Option<Signal>)>,
    ) -> Result<(Withdrawn, bool), LogError> {
        let _one = lock(&self.withdrawing);
        self.finish_withdrawal()?;
        let mut wanted = self.wanted(at)?;
        let mut all = Withdrawn::default();
        let mut removed = false;
        while wanted.peek().is_some() {
            let (under_way, done) = self.withdrawal_begins(&mut wanted)?;
            self.destroy_keys(&under_way)?;
            removed |= self.remove_records(&under_way)?;
            all.replaced += done.replaced;
            all.removed += done.removed;
            all.unchanged += done.unchanged;
        }
        Ok((all, removed))
    }

    /// In order, the last one of several for one offset. All are there, or nothing is done.
    pub(super) fn wanted(&self, at: Vec<(LogPosition, Option<Signal>)>) -> Result<Wanted, LogError> {
        let end = *lock(&self.end);
        for (at, _) in &at {
            Self::check_partition(at.partition)?;
            if at.offset >= end {
                return Err(LogError::Withdrawal { at: *at, detail: format!("the log ends at {end}") });
            }
        }
        let mut wanted: Vec<_> = at.into_iter().rev().map(|(at, signal)| (at.offset, signal)).collect();
        wanted.sort_by_key(|(offset, _)| *offset);
        wanted.dedup_by_key(|(offset, _)| *offset);
        Ok(wanted.into_iter().peekable())
    }

    fn withdrawal(&self) -> Result<State, LogError> {
        let found = self.store.replaced.get(STATE).map_err(|e| failure(&self.store.path, None, e))?;
        found.map_or_else(|| Ok(State::default()), |bytes| State::read(&bytes, *lock(&self.end)))
    }

    fn put_state(&self, batch: &mut fjall::OwnedWriteBatch, state: &State) {
        batch.insert(&self.store.replaced, STATE, state.written());
    }

    /// (a) for as many as a batch holds.
    pub(super) fn withdrawal_begins(&self, wanted: &mut Wanted) -> Result<(UnderWay, Withdrawn), LogError> {
        let (mut done, mut bytes) = (Withdrawn::default(), 0);
        let mut state = self.withdrawal()?;
        state.behind(self.store.keys.destroyed_end(Purpose::Replacements));
        let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncAll));
        let snapshot = self.store.database.snapshot();
        let mut reader = Reader::of(&self.store);
        let mut seals = self.store.keys.walk(Purpose::Replacements);
        while bytes < BATCH_BYTES_MAX
            && state.under_way.offsets.len() < BATCH_RECORDS_MAX
            && let Some((offset, with)) = wanted.next()
        {
            let at = LogPosition { partition: 0, offset };
            let read = |keyspace| {
                snapshot.get(keyspace, offset.to_be_bytes()).map_err(|e| failure(&self.store.path, Some(offset), e))
            };
            let (record, replaced) = (read(&self.store.records)?, read(&self.store.replaced)?);
            let now = match (reader.signal(offset, record.as_deref(), replaced.as_deref()), &with) {
                // A log from before a withdrawal, with the keys from after it: what stood for the record can be given again.
                (Err(error), Some(signal)) if error.is_corrupt() && self.is_lost(offset, signal.id)? => signal.clone(),
                (now, _) => now?,
            };
            let stands = match &with {
                Some(signal) if signal.id != now.id => {
                    let detail = format!("signal {} lies there, and {} cannot stand for it", now.id, signal.id);
                    return Err(LogError::Withdrawal { at, detail });
                }
                Some(signal) => signal.clone(),
                None => envelope_of(&now),
            };
            let plain = record.as_deref().is_some_and(|record| !sealed::is_sealed(record));
            let remove = record.is_some() && (plain || with.is_none());
            if replaced.is_some() && now == stands && !remove {
                done.unchanged += 1;
                continue;
            }
            let earlier = replaced.map(|value| reader.replacement(offset, &value)).transpose()?.flatten();
            state.under_way.numbers.extend(earlier.map(|(number, _)| number));
            let key = seals.key(state.next)?;
            let value = sealed::seal_replacement(&stands, state.next, offset, &key, self.nonce()?);
            bytes += value.len();
            batch.insert(&self.store.replaced, offset.to_be_bytes(), value);
            state.next += 1;
            state.under_way.offsets.push(offset);
            state.under_way.removed.extend(remove.then_some(offset));
            *if with.is_some() { &mut done.replaced } else { &mut done.removed } += 1;
        }
        if !state.under_way.offsets.is_empty() {
            self.check_space(bytes)?;
            self.put_state(&mut batch, &state);
            batch.commit().map_err(|e| halted(&self.store.path, e))?;
        }
        Ok((state.under_way, done))
    }

    /// Whether nobody can say any more what the signal at an offset said, or what stood for it.
    fn is_lost(&self, offset: u64, id: SignalId) -> Result<bool, LogError> {
        let destroyed = self.store.keys.is_destroyed(Purpose::Records, offset);
        Ok(destroyed && self.offset_of(id)? == Some(offset))
    }

    /// (b)
    pub(super) fn destroy_keys(&self, under_way: &UnderWay) -> Result<(), LogError> {
        if under_way.offsets.is_empty() {
            return Ok(());
        }
        let single = |all: &[u64]| all.iter().map(|number| *number..number + 1).collect();
        let records = (Purpose::Records, single(&under_way.offsets));
        Ok(self.store.keys.destroy(&[records, (Purpose::Replacements, single(&under_way.numbers))])?)
    }

    /// (c); whether there was anything to remove.
    pub(super) fn remove_records(&self, under_way: &UnderWay) -> Result<bool, LogError> {
        if under_way.offsets.is_empty() {
            return Ok(false);
        }
        let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncAll));
        for offset in &under_way.removed {
            batch.remove(&self.store.records, offset.to_be_bytes());
        }
        self.put_state(&mut batch, &State { under_way: UnderWay::default(), ..self.withdrawal()? });
        batch.commit().map_err(|e| halted(&self.store.path, e))?;
        Ok(!under_way.removed.is_empty())
    }

    /// Does what a crash left to be done.
    pub(super) fn finish_withdrawal(&self) -> Result<(), LogError> {
        let under_way = self.withdrawal()?.under_way;
        if !under_way.offsets.is_empty() {
            tracing::info!(records = under_way.offsets.len(), "finishing a withdrawal that was under way");
        }
        self.destroy_keys(&under_way)?;
        self.remove_records(&under_way).map(drop)
    }

    /// Gives back the space of what was removed: the tables of the records are written anew without it.
    ///
    /// # Errors
    /// Where there is too little space for both, or a write fails.
    pub fn compact(&self) -> Result<(), LogError> {
        let _one = lock(&self.withdrawing);
        self.reclaim()
    }

    /// Writes the tables anew without what was removed. Takes as much space as the records for a moment; where there is less,
    /// the store gives the space back as it goes on.
    fn reclaim(&self) -> Result<(), LogError> {
        let records = &self.store.records;
        let failed = |e| failure(&self.store.path, None, e);
        self.check_space(usize::try_from(records.disk_space()).unwrap_or(usize::MAX))?;
        // What was removed has to be in a table before it can be left out of the next; this also lets the store forget the
        // versions that nobody reads any more.
        records.rotate_memtable().map_err(failed)?;
        (0..FLUSH_STEPS_MAX)
            .take_while(|_| records.sealed_memtable_count() > 0)
            .for_each(|_| thread::sleep(Duration::from_millis(10)));
        records.major_compact().map_err(failed)?;
        // The old tables are deleted when a keyspace is rotated after them; that takes something to rotate.
        let mut batch = self.store.database.batch();
        self.put_state(&mut batch, &self.withdrawal()?);
        batch.commit().map_err(|e| halted(&self.store.path, e))?;
        self.store.replaced.rotate_memtable().map_err(failed).map(drop)
    }
}

#[cfg(test)]
pub(crate) mod tests;
