//! `GET /api/digest/stream`: the feed of one role as server-sent events.
//!
//! | event | data | id |
//! |---|---|---|
//! | `upsert`, `changed`, `retract` | `{op, epoch, item, evidence, person_name?}` | `{epoch}.{index}` |
//! | `reset` | `{reason, since}`: forget what you have, the current items follow | none |
//! | `snapshot` | one current item, as above | none: a client that is cut off here starts over |
//! | `live` | `{epoch}`: everything up to it was sent, changes follow | `{epoch}.end` |
//! | `disconnected` | `{reason}`: reconnecting resumes | none |
//!
//! After every pause a comment shows that the connection lives; where the role saw nothing of what passed it brings an id
//! along, so that a client of a quiet role does not fall out of the journal.
//!
//! Without `Last-Event-ID` the stream starts at the newest epoch (`from=now`), or with the current items (`from=start`).

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{IntoResponse, Response, Sse, sse::Event},
    routing::get,
};
use flowsync_schemas::{ColumnKind, Epoch, Micros, PersonId};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Cursor, Feed, JsonRow, Tail, VIEW,
    journal::{Bounds, Entry, JournalError, Page},
    json_value, now,
};
use crate::{
    AsOf, Engine, QueryError, Snapshot,
    digest::{DEFAULT_DAYS, Evidence, Names, Role, parameters, request_role, request_time},
    http::ApiError,
};

/// Events read from the journal at a time.
const PAGE_EVENTS: usize = 256;
/// Events under way to one client.
const BUFFER_EVENTS: usize = 64;
/// How often, and how long apart, a reset looks whether the tables have reached the journal.
const CATCH_UP: (u32, Duration) = (100, Duration::from_millis(100));
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What the live feed needs.
#[derive(Clone)]
pub struct StreamState {
    /// For the current items.
    pub engine: Engine,
    /// For the changes.
    pub feed: Arc<Feed>,
    /// For names of people.
    pub names: Names,
}

/// The route of the live feed.
pub fn stream_routes(state: StreamState) -> Router {
    Router::new().route("/api/digest/stream", get(get_stream)).with_state(state)
}

#[derive(Deserialize)]
struct StreamQuery {
    role: Option<String>,
    from: Option<String>,
    since: Option<String>,
}

async fn get_stream(
    State(state): State<StreamState>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = parameters(query)?;
    let role = request_role(query.role.as_deref())?;
    let since = request_time("since", query.since.as_deref())?;
    let user = |message: String| ApiError::from(QueryError::User(message));
    let start = match (headers.get("last-event-id"), query.from.as_deref()) {
        (Some(id), _) => Start::After(id.to_str().unwrap_or_default().parse().map_err(user)?),
        (None, None | Some("now")) => Start::Now,
        (None, Some("start")) => Start::Items,
        (None, Some(from)) => return Err(user(format!("from={from:?} is neither now nor start"))),
    };
    let permit = Arc::clone(&state.feed.clients).try_acquire_owned().map_err(|_| {
        let clients = state.feed.limits.clients;
        ApiError::busy(
            "clients",
            format!("{clients} clients follow the live feed, which is its limit; try again later"),
        )
    })?;
    let (to, events) = mpsc::channel(BUFFER_EVENTS);
    let farewell = Arc::new(OnceLock::new());
    let since = since.unwrap_or(Micros(now().0.saturating_sub(DEFAULT_DAYS * MICROS_PER_DAY)));
    let tail = state.feed.tail.subscribe();
    // Taken before the answer: what is published after it reaches the client.
    let bounds = tail.borrow().bounds;
    let mut client = Client { state, role, since, to, tail, _permit: permit };
    let word = Arc::clone(&farewell);
    tokio::spawn(async move {
        let Err(end) = client.run(start, bounds).await;
        // Before the client's end of the channel is dropped, so that the stream finds it.
        let _ = word.set(end);
        drop(client);
    });
    let last = stream::once(async move { farewell.get().and_then(End::event) }).filter_map(|event| async { event });
    Ok(Sse::new(ReceiverStream::new(events).chain(last).map(Ok::<_, Infallible>)).into_response())
}

/// Where a client begins.
enum Start {
    After(Cursor),
    Now,
    Items,
}

/// Why a stream ends.
enum End {
    /// The client went away.
    Gone,
    /// We end it; the client is told.
    Told(String),
}

impl End {
    fn event(&self) -> Option<Event> {
        match self {
            End::Gone => None,
            End::Told(reason) => Some(event("disconnected", &serde_json::json!({ "reason": reason }))),
        }
    }
}

impl From<JournalError> for End {
    fn from(error: JournalError) -> Self {
        End::Told(error.to_string())
    }
}

/// The sending half of one client's stream. It runs until the client goes, is too slow, or the feed closes.
struct Client {
    state: StreamState,
    role: Role,
    since: Micros,
    to: mpsc::Sender<Event>,
    tail: watch::Receiver<Tail>,
    _permit: OwnedSemaphorePermit,
}

impl Client {
    async fn run(&mut self, start: Start, bounds: Option<Bounds>) -> Result<Infallible, End> {
        let mut cursor = match (start, bounds) {
            (Start::Items, _) => self.items("the current items were asked for").await?,
            (Start::Now, Some(bounds)) => self.live(bounds.last).await?,
            (Start::Now, None) => self.live(Epoch(0)).await?,
            (Start::After(at), Some(bounds)) if at <= Cursor::end_of(bounds.last) => at,
            (Start::After(_), _) => self.items("the feed does not know this event id").await?,
        };
        let mut told = cursor;
        loop {
            self.tail.borrow_and_update();
            match self.read(cursor).await? {
                Page::Gone(_) => {
                    metrics::counter!("flowsync_feed_resets_total").increment(1);
                    cursor = self.items("the feed no longer keeps what followed this event id").await?;
                    told = cursor;
                }
                Page::Events(page) if page.is_empty() => self.wait(cursor, &mut told).await?,
                Page::Events(page) => {
                    for (at, entry) in page {
                        cursor = at;
                        if let Some(event) = self.change(at, &entry) {
                            self.send(event).await?;
                            told = at;
                        }
                    }
                }
            }
        }
    }

    async fn read(&self, from: Cursor) -> Result<Page, End> {
        let journal = Arc::clone(&self.state.feed.journal);
        let read = tokio::task::spawn_blocking(move || journal.read(from, PAGE_EVENTS)).await;
        Ok(read.map_err(|e| End::Told(format!("reading the feed failed: {e}")))??)
    }

    /// Until something is published; meanwhile shows that the connection lives.
    async fn wait(&mut self, cursor: Cursor, told: &mut Cursor) -> Result<(), End> {
        loop {
            if self.tail.borrow().closed {
                return Err(End::Told("the server is stopping; reconnect to resume".to_owned()));
            }
            tokio::select! {
                changed = self.tail.changed() => {
                    return changed.map_err(|_| End::Told("the feed was closed; reconnect to resume".to_owned()));
                }
                () = self.to.closed() => return Err(End::Gone),
                () = sleep(self.state.feed.limits.heartbeat) => {
                    let mut beat = Event::default().comment("alive");
                    if *told != cursor {
                        beat = beat.id(cursor.to_string());
                        *told = cursor;
                    }
                    self.send(beat).await?;
                }
            }
        }
    }

    async fn send(&self, event: Event) -> Result<(), End> {
        let stall = self.state.feed.limits.stall;
        match timeout(stall, self.to.send(event)).await {
            Ok(sent) => sent.map_err(|_| End::Gone),
            Err(_) => {
                metrics::counter!("flowsync_feed_slow_clients_total").increment(1);
                let secs = stall.as_secs();
                Err(End::Told(format!(
                    "too slow: {BUFFER_EVENTS} events were not read within {secs} s; reconnect to resume"
                )))
            }
        }
    }

    async fn live(&self, epoch: Epoch) -> Result<Cursor, End> {
        let at = Cursor::end_of(epoch);
        self.send(event("live", &serde_json::json!({ "epoch": epoch })).id(at.to_string())).await?;
        Ok(at)
    }

    /// Sends the current items, and says where the changes go on.
    async fn items(&self, reason: &str) -> Result<Cursor, End> {
        self.send(event("reset", &serde_json::json!({ "reason": reason, "since": self.since.to_string() }))).await?;
        let failed = |error: QueryError| End::Told(format!("the current items cannot be read: {error}"));
        let snapshot = self.snapshot().await?;
        for item in
            current(&snapshot, self.role, self.since, self.state.feed.limits.snapshot_items).await.map_err(failed)?
        {
            let change = self.data("snapshot", snapshot.epoch(), &item);
            self.send(event("snapshot", &change)).await?;
        }
        self.live(snapshot.epoch()).await
    }

    /// A snapshot from which the journal goes on: while a restarted journal is ahead of the tables, later ones are tried.
    async fn snapshot(&self) -> Result<Snapshot, End> {
        let failed = |error: QueryError| End::Told(format!("the current items cannot be read: {error}"));
        let (tries, pause) = CATCH_UP;
        for _ in 0..tries {
            let snapshot = self.state.engine.snapshot(AsOf::Newest).await.map_err(failed)?;
            let goes_on = |bounds: Bounds| Cursor::end_of(snapshot.epoch()) >= bounds.base;
            if self.tail.borrow().bounds.is_none_or(goes_on) {
                return Ok(snapshot);
            }
            sleep(pause).await;
        }
        Err(End::Told("the tables are behind the feed; reconnect later".to_owned()))
    }

    /// An event as this role sees it: an item that comes into its view is new, one that leaves is gone.
    fn change(&self, at: Cursor, entry: &Entry) -> Option<Event> {
        let visible = |row: &&JsonRow| {
            let audience = row.get("audience").and_then(|a| a.as_str()).unwrap_or_default();
            audience.split(',').any(|role| role == self.role.word())
        };
        let (old, new) = (entry.old.as_ref().filter(visible), entry.new.as_ref().filter(visible));
        let (op, item) = match (old, new) {
            (None, Some(new)) => ("upsert", new),
            (Some(_), Some(new)) => ("changed", new),
            (Some(old), None) => ("retract", old),
            (None, None) => return None,
        };
        Some(event(op, &self.data(op, at.epoch(), item)).id(at.to_string()))
    }

    fn data<'a>(&self, op: &'a str, epoch: Epoch, item: &'a JsonRow) -> Data<'a> {
        let text = |name: &str| item.get(name).and_then(|v| v.as_str());
        let person = text("person").and_then(|id| id.parse::<PersonId>().ok());
        let evidence = text("evidence_view").zip(text("evidence_key")).map(|(view, key)| Evidence::row(view, key));
        Data { op, epoch, item, evidence, person_name: person.and_then(|id| (self.state.names)(id)) }
    }
}

#[derive(Serialize)]
struct Data<'a> {
    op: &'a str,
    epoch: Epoch,
    item: &'a JsonRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    person_name: Option<String>,
}

fn event(name: &str, data: &impl Serialize) -> Event {
    #[allow(clippy::expect_used)] // Strings and integers: nothing in it can fail to be written.
    let json = serde_json::to_string(data).expect("an event is plain data");
    // One line: JSON has no bare line breaks.
    Event::default().event(name).data(json)
}

/// The newest current items of a role, oldest first.
async fn current(snapshot: &Snapshot, role: Role, since: Micros, limit: usize) -> Result<Vec<JsonRow>, QueryError> {
    let sql = format!(
        "select * from {VIEW} where at >= $1 and strpos(',' || audience || ',', $2) > 0 order by at desc, item desc limit {limit}"
    );
    let rows = snapshot.rows(&sql, &[since.into(), format!(",{role},").into()]).await?;
    let kind = |name: &str| match name {
        "at" => ColumnKind::Timestamp,
        "day" => ColumnKind::Date,
        _ => ColumnKind::Text,
    };
    let json = |row: &crate::SqlRow| -> JsonRow {
        let cells = row.columns().iter().zip(row.values());
        cells.map(|(name, value)| (name.clone(), json_value(kind(name), value))).collect()
    };
    Ok(rows.iter().rev().map(json).collect())
}
