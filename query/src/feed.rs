//! The live feed: every change of `digest_items`, as server-sent events that resume without loss or repetition.
//!
//! ```text
//! closed epochs ──► publish ──► journal (on disk, bounded) ──► one cursor a client ──► role filter ──► SSE
//!                  (in order)                                  (Last-Event-ID)
//! ```
//!
//! 1. An event's id is `{epoch}.{index}`. Epoch bounds are stable, and the events of an epoch are sorted, so the same
//!    epoch published again (after a crash, or by a second publisher) has the same ids and is ignored (I2).
//! 2. Deltas tile time. One that does not follow the newest journalled epoch (the journal lost its tail, or bounds moved)
//!    restarts the journal: clients from before are reset to the current items, never given a silent gap.
//! 3. A client holds a cursor, not a queue. What it has not read is in the journal; the events under way to it, the
//!    number of clients and the journal are bounded (I9).
//!
//! It does not know how epochs are made, or where tables are. Names of people are added on the way out, never journalled (I8).

pub mod journal;
mod serve;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use flowsync_schemas::{ColumnKind, ColumnSpec, Day, Epoch, EpochDelta, Micros, Row, TableSpec, Value};
use tokio::sync::{Semaphore, watch};

use self::journal::{Bounds, Entry, Journal, JournalError};
pub use self::{
    journal::{Cursor, JsonRow},
    serve::{StreamState, stream_routes},
};

/// The view whose changes the feed carries.
pub const VIEW: &str = "digest_items";

/// Limits of the feed (I9).
#[derive(Clone, Debug)]
pub struct FeedLimits {
    /// Events kept for clients that were away.
    pub events: usize,
    /// Age up to which events are kept.
    pub age: Duration,
    /// Clients at a time; one more is answered 503.
    pub clients: usize,
    /// How long a client may leave its buffer full before it is disconnected.
    pub stall: Duration,
    /// Pause after which a comment shows that the connection lives.
    pub heartbeat: Duration,
    /// Current items that a reset (or `from=start`) sends.
    pub snapshot_items: usize,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            events: 200_000,
            age: Duration::from_secs(30 * 86_400),
            clients: 256,
            stall: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            snapshot_items: 10_000,
        }
    }
}

/// A feed that cannot be opened or fed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The view lacks a column that the feed sorts or filters by.
    #[error("live feed: view {VIEW} has no column {0}")]
    Column(&'static str),
    /// A row is not as wide as the view.
    #[error("live feed: epoch {epoch} brings a row of {found} values for the {expected} columns of {VIEW}")]
    Width {
        /// The epoch.
        epoch: Epoch,
        /// Values of the row.
        found: usize,
        /// Columns of the view.
        expected: usize,
    },
}

impl FeedError {
    /// Whether the same call may succeed later (no space, an I/O error), as opposed to input that will never fit.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Journal(error) if error.is_retryable())
    }
}

/// What a publication did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The epoch was new; so many events were added.
    Added(usize),
    /// The epoch was journalled before; nothing was done.
    Known,
    /// The epoch did not follow the newest journalled one: the journal was restarted, and clients from before are reset.
    Restarted,
}

/// Where the columns are that the feed itself needs.
struct Shape {
    columns: Vec<ColumnSpec>,
    item: usize,
    at: usize,
}

/// What waiting clients watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tail {
    bounds: Option<Bounds>,
    closed: bool,
}

struct Writer {
    bounds: Option<Bounds>,
    count: usize,
    aged_at: Micros,
}

/// The live feed of one data directory. Shared by the pipeline, which publishes, and the server, which streams.
pub struct Feed {
    journal: Arc<Journal>,
    writer: Mutex<Writer>,
    tail: watch::Sender<Tail>,
    shape: Shape,
    clients: Arc<Semaphore>,
    limits: FeedLimits,
}

impl Feed {
    /// Opens the feed, with its journal in the folder `dir`. `view` is the specification of `digest_items`.
    ///
    /// # Errors
    /// Where the journal cannot be opened, or the view lacks a column that the feed needs.
    pub fn open(dir: &Path, view: &TableSpec, limits: FeedLimits) -> Result<Self, FeedError> {
        let columns = (view.columns)();
        let position = |name: &'static str| columns.iter().position(|c| c.name == name).ok_or(FeedError::Column(name));
        let (item, at) = (position("item")?, position("at")?);
        position("audience")?;
        let journal = Arc::new(Journal::open(dir)?);
        let bounds = journal.bounds()?;
        Ok(Self {
            writer: Mutex::new(Writer { bounds, count: journal.count()?, aged_at: Micros(0) }),
            tail: watch::Sender::new(Tail { bounds, closed: false }),
            clients: Arc::new(Semaphore::new(limits.clients)),
            shape: Shape { columns, item, at },
            journal,
            limits,
        })
    }

    /// Journals the changes of one closed epoch and wakes the clients. To be called for every epoch, in order, also for
    /// those without a change of `digest_items`; calling it again for the same epoch does nothing. Blocks for a write to the
    /// operating system, not for an fsync.
    ///
    /// # Errors
    /// Where the journal fails (nothing is then published) or a row does not fit the view.
    pub fn publish(&self, delta: &EpochDelta) -> Result<Published, FeedError> {
        let now = now();
        // A publisher that panicked left the journal whole: its batches are atomic.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (bounds, restarted) = match writer.bounds {
            Some(bounds) if delta.upper <= bounds.last => return Ok(Published::Known),
            Some(bounds) if delta.lower == bounds.last => (bounds, false),
            // Part of the epoch was journalled under other bounds: what exactly is new cannot be told.
            Some(bounds) if delta.lower < bounds.last => {
                tracing::warn!(lower = %delta.lower, upper = %delta.upper, last = %bounds.last, "epoch bounds moved; the live feed starts anew");
                let bounds = self.journal.restart(delta.upper)?;
                self.advance(&mut writer, bounds, 0);
                return Ok(Published::Restarted);
            }
            found => {
                if let Some(bounds) = found {
                    tracing::warn!(lower = %delta.lower, last = %bounds.last, "epochs are missing from the live feed; it starts anew");
                }
                let bounds = self.journal.restart(delta.lower)?;
                self.advance(&mut writer, bounds, 0);
                (bounds, found.is_some())
            }
        };
        let entries = self.shape.entries(delta, now)?;
        let bounds = Bounds { last: delta.upper, ..bounds };
        self.journal.append(bounds, &entries)?;
        let count = writer.count + entries.len();
        self.advance(&mut writer, bounds, count);
        metrics::counter!("flowsync_feed_events_total").increment(entries.len() as u64);
        self.prune(&mut writer, now)?;
        Ok(if restarted { Published::Restarted } else { Published::Added(entries.len()) })
    }

    /// Makes everything published survive a power cut. Call it before a commit of the tables, and clients need no reset
    /// after one.
    ///
    /// # Errors
    /// Where the journal fails.
    pub fn sync(&self) -> Result<(), FeedError> {
        Ok(self.journal.sync()?)
    }

    /// The newest epoch that was published.
    pub fn last(&self) -> Option<Epoch> {
        self.tail.borrow().bounds.map(|b| b.last)
    }

    /// Ends every stream with a word to the client, so that a server can stop.
    pub fn close(&self) {
        self.tail.send_modify(|tail| tail.closed = true);
    }

    fn advance(&self, writer: &mut Writer, bounds: Bounds, count: usize) {
        writer.bounds = Some(bounds);
        writer.count = count;
        self.tail.send_modify(|tail| tail.bounds = Some(bounds));
    }

    /// Drops in larger steps, so that not every epoch pays for it.
    fn prune(&self, writer: &mut Writer, now: Micros) -> Result<(), FeedError> {
        const AGED_EVERY: i64 = 60_000_000;
        let Some(bounds) = writer.bounds else { return Ok(()) };
        let slack = self.limits.events / 16;
        let surplus = if writer.count > self.limits.events + slack { writer.count - self.limits.events } else { 0 };
        if surplus == 0 && now.0 < writer.aged_at.0.saturating_add(AGED_EVERY) {
            return Ok(());
        }
        let age = i64::try_from(self.limits.age.as_micros()).unwrap_or(i64::MAX);
        let (bounds, dropped) = self.journal.prune(bounds, surplus, Micros(now.0.saturating_sub(age)))?;
        writer.aged_at = now;
        let count = writer.count.saturating_sub(dropped);
        self.advance(writer, bounds, count);
        Ok(())
    }
}

impl Shape {
    /// The events of an epoch: one an item, sorted by time and item. A retraction and an insertion are one change.
    fn entries(&self, delta: &EpochDelta, published_at: Micros) -> Result<Vec<Entry>, FeedError> {
        let mut items: BTreeMap<&Value, (Option<&Row>, Option<&Row>)> = BTreeMap::new();
        for (row, diff) in delta.changes.iter().filter(|c| c.table == VIEW).flat_map(|c| &c.rows) {
            if row.len() != self.columns.len() {
                let (found, expected) = (row.len(), self.columns.len());
                return Err(FeedError::Width { epoch: delta.upper, found, expected });
            }
            let (old, new) = items.entry(&row[self.item]).or_default();
            // A sound view has one row an item; of several the largest is taken, so that a replay takes the same.
            match diff.signum() {
                1 => *new = (*new).max(Some(row)),
                -1 => *old = (*old).max(Some(row)),
                _ => {}
            }
        }
        let mut changes: Vec<_> = items.into_values().filter(|(old, new)| old != new).collect();
        changes.sort_by_key(|(old, new)| new.or(*old).map(|row| (&row[self.at], &row[self.item])));
        let json = |row: Option<&Row>| row.map(|row| self.json(row));
        Ok(changes.into_iter().map(|(old, new)| Entry { published_at, old: json(old), new: json(new) }).collect())
    }

    fn json(&self, row: &Row) -> JsonRow {
        self.columns.iter().zip(row).map(|(c, v)| (c.name.to_owned(), json_value(c.kind, v))).collect()
    }
}

/// A value as JSON: timestamps as RFC 3339, dates as ISO 8601.
pub(crate) fn json_value(kind: ColumnKind, value: &Value) -> serde_json::Value {
    match (value, kind) {
        (Value::Null, _) => serde_json::Value::Null,
        (Value::Bool(b), _) => (*b).into(),
        (Value::Int(i), ColumnKind::Timestamp) => Micros(*i).to_string().into(),
        (Value::Int(i), ColumnKind::Date) => i32::try_from(*i).map_or((*i).into(), |d| Day(d).to_string().into()),
        (Value::Int(i), _) => (*i).into(),
        (Value::Text(t), _) => t.as_ref().into(),
    }
}

pub(crate) fn now() -> Micros {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
