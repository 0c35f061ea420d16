#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    time::Instant,
};

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::{
    Engine,
    digest::Names,
    fixtures::{self, ITEMS, News, at},
};

/// One server-sent event as a client reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    event: String,
    id: String,
    data: String,
}

impl Seen {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A client over a real connection. Dropping it disconnects.
struct Client(BufReader<Box<dyn Read + Send>>);

impl Client {
    fn connect(world: &World, query: &str, id: Option<&str>) -> Result<Self, (u16, String)> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_recv_body(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut request = agent.get(format!("http://{}/api/digest/stream?{query}", world.address));
        if let Some(id) = id {
            request = request.header("Last-Event-ID", id);
        }
        let mut response = request.call().unwrap();
        if response.status() != 200 {
            return Err((response.status().as_u16(), response.body_mut().read_to_string().unwrap()));
        }
        Ok(Self(BufReader::new(Box::new(response.into_body().into_reader()))))
    }

    /// The next block, comments and blocks without data included; `None` at the end of the stream.
    fn block(&mut self) -> Option<Seen> {
        let mut seen = Seen::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(':') {
                None => return Some(seen),
                Some(("event", value)) => seen.event = value.trim_start().to_owned(),
                Some(("id", value)) => seen.id = value.trim_start().to_owned(),
                Some(("data", value)) => seen.data = value.trim_start().to_owned(),
                Some(_) => {}
            }
        }
    }

    /// The next event.
    fn next(&mut self) -> Option<Seen> {
        std::iter::from_fn(|| self.block()).find(|seen| !seen.data.is_empty())
    }

    fn take(&mut self, count: usize) -> Vec<Seen> {
        (0..count).map(|_| self.next().unwrap()).collect()
    }
}

/// A data directory, and a server on it that can be stopped and started again.
struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    limits: FeedLimits,
    running: Option<(Runtime, Arc<Feed>)>,
    address: SocketAddr,
}

impl World {
    fn new(limits: FeedLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = fixtures::engine(dir.path());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut world = Self { dir, engine, limits, running: None, address };
        world.start();
        world
    }

    fn start(&mut self) {
        let feed = Feed::open(&self.dir.path().join("feed"), &ITEMS.table, self.limits.clone()).unwrap();
        let feed = Arc::new(feed);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let names: Names = Arc::new(|id| id.to_string().starts_with("3f2a").then(|| "Ada".to_owned()));
        let state = StreamState { engine: self.engine.clone(), feed: Arc::clone(&feed), names };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, stream_routes(state)).await });
        self.running = Some((runtime, feed));
    }

    fn stop(&mut self) {
        let (runtime, feed) = self.running.take().unwrap();
        feed.close();
        runtime.shutdown_timeout(Duration::from_secs(20));
        assert_eq!(Arc::strong_count(&feed), 1, "the journal is closed when the feed is dropped");
    }

    fn restart(&mut self) {
        self.stop();
        self.start();
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.running.as_ref().unwrap().1
    }

    /// As the pipeline does: to the tables in memory and to the feed.
    fn publish(&self, delta: &EpochDelta) -> Published {
        self.engine.overlay().apply(Arc::new(delta.clone()));
        self.feed().publish(delta).unwrap()
    }

    fn client(&self, query: &str, id: Option<&str>) -> Client {
        Client::connect(self, query, id).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
            self.stop();
        }
    }
}

const ALL: &str = "engineer,product_manager";
const PM: &str = "product_manager";

fn item(n: u64, audience: &'static str, title: &str) -> Row {
    let news = News {
        kind: "done",
        at: at("05T10:00"),
        audience,
        project: Some("SHOP"),
        ticket: None,
        subject: n.to_string(),
        title: title.to_owned(),
        person: Some("3f2a0000000000000000000000000001"),
        bps: [10_000; 3],
        evidence: ("tickets", n.to_string()),
    };
    news.row()
}

fn change(lower: u64, upper: u64, rows: Vec<(Row, i64)>) -> EpochDelta {
    fixtures::delta(lower, upper, rows.into_iter().map(|(row, diff)| (&ITEMS, row, diff)).collect())
}

/// Epochs `10, 20, …`, each with two new items.
fn growing(epochs: u64) -> Vec<EpochDelta> {
    let pair = |e: u64| vec![(item(2 * e, ALL, "a"), 1), (item(2 * e + 1, ALL, "b"), 1)];
    (0..epochs).map(|e| change(e * 10, e * 10 + 10, pair(e))).collect()
}

#[test]
fn resuming_at_every_id_gives_exactly_the_rest() {
    let world = World::new(FeedLimits::default());
    let mut whole = world.client("role=engineer", None);
    let live = whole.next().unwrap();
    assert_eq!((live.event.as_str(), live.id.as_str()), ("live", "0.end"));
    for delta in growing(6) {
        assert_eq!(world.publish(&delta), Published::Added(2));
    }
    let all = whole.take(12);
    let ids: Vec<_> = all.iter().map(|seen| seen.id.as_str()).collect();
    assert_eq!(ids[..3], ["10.0", "10.1", "20.0"]);
    let first = all[0].json();
    assert_eq!(first["item"]["at"], "2026-10-05T10:00:00.000000Z");
    assert_eq!((&first["person_name"], &first["evidence"]["path"]), (&"Ada".into(), &"/api/why/tickets/0".into()));
    for (i, id) in std::iter::once("0.end").chain(ids).enumerate() {
        let rest = world.client("role=engineer", Some(id)).take(12 - i);
        assert_eq!(rest, all[i..], "after {id}");
    }
}

#[test]
fn one_change_an_item_and_what_each_role_sees_of_it() {
    let world = World::new(FeedLimits::default());
    let mut engineer = world.client("role=engineer", None);
    let mut manager = world.client("role=product_manager", None);
    world.publish(&change(
        0,
        1,
        vec![(item(1, ALL, "old"), 1), (item(2, ALL, "stays"), 1), (item(3, PM, "theirs"), 1)],
    ));
    let both = vec![(item(1, ALL, "old"), -1), (item(1, ALL, "new"), 1)];
    world.publish(&change(1, 2, both));
    world.publish(&change(2, 3, vec![(item(2, ALL, "stays"), -1), (item(2, PM, "stays"), 1)]));
    world.publish(&change(
        3,
        4,
        vec![(item(2, PM, "stays"), -1), (item(3, PM, "theirs"), -1), (item(3, ALL, "theirs"), 1)],
    ));
    let told = |seen: Vec<Seen>| -> Vec<String> {
        seen.iter().map(|s| format!("{} {} {}", s.id, s.event, s.json()["item"]["item"].as_str().unwrap())).collect()
    };
    engineer.next();
    manager.next();
    let expected =
        ["1.0 upsert done:1", "1.1 upsert done:2", "2.0 changed done:1", "3.0 retract done:2", "4.1 upsert done:3"];
    assert_eq!(told(engineer.take(5)), expected);
    let expected = [
        "1.0 upsert done:1",
        "1.1 upsert done:2",
        "1.2 upsert done:3",
        "2.0 changed done:1",
        "3.0 changed done:2",
        "4.0 retract done:2",
        "4.1 changed done:3",
    ];
    assert_eq!(told(manager.take(7)), expected);
}

#[test]
fn publishers_that_repeat_each_other_add_each_epoch_once() {
    let world = World::new(FeedLimits::default());
    let deltas = growing(40);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                deltas.iter().for_each(|delta| {
                    let done = world.publish(delta);
                    assert_ne!(done, Published::Restarted);
                })
            });
        }
    });
    let all = world.client("role=engineer", Some("0.end")).take(80);
    let ids: Vec<_> = all.iter().map(|seen| seen.id.clone()).collect();
    let expected: Vec<_> = (1..=40).flat_map(|e| [format!("{}.0", e * 10), format!("{}.1", e * 10)]).collect();
    assert_eq!(ids, expected);
}

/// What a client holds after a stream with a reset in it.
fn held(seen: &[Seen]) -> std::collections::BTreeSet<String> {
    let mut held = std::collections::BTreeSet::new();
    for seen in seen {
        let item = || seen.json()["item"]["item"].as_str().unwrap().to_owned();
        match seen.event.as_str() {
            "reset" => held.clear(),
            "snapshot" | "upsert" | "changed" => _ = held.insert(item()),
            "retract" => _ = held.remove(&item()),
            other => assert_eq!(other, "live"),
        }
    }
    held
}

#[test]
fn a_client_from_before_the_journal_is_reset_to_the_current_items() {
    let world = World::new(FeedLimits { events: 8, ..FeedLimits::default() });
    for delta in growing(20) {
        world.publish(&delta);
    }
    let query = "role=engineer&since=2026-10-01";
    for (query, id) in
        [(query, Some("10.0")), (query, Some("999.7")), ("role=engineer&since=2026-10-01&from=start", None)]
    {
        let mut client = world.client(query, id);
        let seen = client.take(42);
        assert_eq!(
            (seen[0].event.as_str(), seen[41].event.as_str(), seen[41].id.as_str()),
            ("reset", "live", "200.end")
        );
        assert!(seen[..41].iter().all(|seen| seen.id.is_empty()), "a client that is cut off in between starts over");
        assert_eq!(held(&seen).len(), 40);
    }
    // What is kept is kept to the event: the newest eight can be resumed after.
    assert_eq!(world.client(query, Some("160.1")).take(8).len(), 8);
    let mut client = world.client(query, Some("160.0"));
    assert_eq!(client.next().unwrap().event, "reset");
    world.publish(&change(200, 210, vec![(item(0, ALL, "a"), -1)]));
    let seen = client.take(42);
    assert_eq!((seen[40].event.as_str(), seen[41].event.as_str(), seen[41].id.as_str()), ("live", "retract", "210.0"));
}

#[test]
fn a_gap_and_moved_bounds_reset_rather_than_skip() {
    let mut world = World::new(FeedLimits::default());
    let deltas = growing(6);
    world.publish(&deltas[0]);
    world.publish(&deltas[1]);
    let mut live = world.client("role=engineer&since=2026-10-01", None);
    assert_eq!(live.next().unwrap().id, "20.end");
    // Epoch 30 never reached the journal.
    for delta in &deltas[2..] {
        world.engine.overlay().apply(Arc::new(delta.clone()));
    }
    assert_eq!(world.feed().publish(&deltas[3]).unwrap(), Published::Restarted);
    let seen = live.take(14);
    assert_eq!((seen[0].event.as_str(), held(&seen).len()), ("reset", 12));
    world.restart();
    // An epoch that begins inside a journalled one.
    assert_eq!(world.feed().publish(&change(35, 60, vec![])).unwrap(), Published::Restarted);
    let mut late = world.client("role=engineer&since=2026-10-01", Some("40.0"));
    assert_eq!(late.next().unwrap().event, "reset");
}

#[test]
fn quiet_roles_keep_their_place_and_stopping_is_told() {
    let world = World::new(FeedLimits { heartbeat: Duration::from_millis(30), ..FeedLimits::default() });
    let mut admin = world.client("role=admin", None);
    admin.next();
    for delta in growing(3) {
        world.publish(&delta);
    }
    let beat = std::iter::from_fn(|| admin.block()).find(|seen| !seen.id.is_empty()).unwrap();
    assert_eq!(beat, Seen { id: "30.1".to_owned(), ..Seen::default() });
    let mut resumed = world.client("role=engineer", Some(&beat.id));
    world.publish(&change(30, 40, vec![(item(9, ALL, "x"), 1)]));
    assert_eq!(resumed.next().unwrap().id, "40.0");
    world.feed().close();
    let end = resumed.next().unwrap();
    assert_eq!(end.event, "disconnected");
    assert!(end.data.contains("stopping"), "{end:?}");
    assert_eq!(resumed.next(), None);
}

#[test]
fn a_slow_client_is_let_go_and_resumes() {
    let world = World::new(FeedLimits { stall: Duration::from_millis(300), ..FeedLimits::default() });
    let mut slow = world.client("role=engineer", None);
    assert_eq!(slow.next().unwrap().event, "live");
    // More than the buffers of both sockets hold.
    let long = "x".repeat(16_000);
    for e in 0..150 {
        let rows = (0..20).map(|n| (item(e * 20 + n, ALL, &long), 1)).collect();
        world.publish(&change(e, e + 1, rows));
    }
    let waited = Instant::now();
    while world.feed().clients.available_permits() < world.limits.clients {
        assert!(waited.elapsed() < Duration::from_secs(30), "the slow client still holds its place");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut seen: Vec<_> = std::iter::from_fn(|| slow.next()).collect();
    let end = seen.pop().unwrap();
    assert_eq!(end.event, "disconnected");
    assert!(end.data.contains("too slow") && seen.len() < 3_000, "{} events, then {end:?}", seen.len());
    let rest = world.client("role=engineer", Some(&seen.last().unwrap().id)).take(3_000 - seen.len());
    seen.extend(rest);
    let ids: Vec<_> = seen.iter().map(|s| s.id.clone()).collect();
    assert_eq!(ids, (0..3_000).map(|i| format!("{}.{}", i / 20 + 1, i % 20)).collect::<Vec<_>>());
}

#[test]
fn one_client_too_many_and_odd_requests() {
    let world = World::new(FeedLimits { clients: 1, ..FeedLimits::default() });
    for (query, id, word) in [
        ("", None, "role is missing"),
        ("role=cook", None, "there is no role"),
        ("role=admin&from=noon", None, "neither now nor start"),
        ("role=admin", Some("seven"), "EPOCH.INDEX"),
    ] {
        let (status, body) = Client::connect(&world, query, id).err().unwrap();
        assert_eq!(status, 400, "{body}");
        assert!(body.contains(word), "{body}");
    }
    let first = world.client("role=admin", None);
    let (status, body) = Client::connect(&world, "role=admin", None).err().unwrap();
    assert_eq!(status, 503);
    assert!(body.contains("\"code\":\"clients\"") && body.contains("1 clients"), "{body}");
    drop(first);
    let waited = Instant::now();
    while Client::connect(&world, "role=admin", None).is_err() {
        assert!(waited.elapsed() < Duration::from_secs(20), "a client that went away keeps its place");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rows_and_views_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let odd = Feed::open(dir.path(), &fixtures::EFFORT.table, FeedLimits::default()).err().unwrap();
    assert!(odd.to_string().contains("item") && !odd.is_retryable(), "{odd}");
    let feed = Feed::open(dir.path(), &ITEMS.table, FeedLimits::default()).unwrap();
    let short: Row = [Value::Null].into();
    let error = feed.publish(&change(0, 1, vec![(short, 1)])).unwrap_err();
    assert!(error.to_string().contains("1 values for the 15 columns"), "{error}");
}

/// What happens between two epochs.
#[derive(Clone, Debug)]
enum Step {
    /// This many epochs close.
    Publish(usize),
    /// The client reads so many of the events that are there, then loses its connection.
    ReadAndLeave(usize),
    /// The process dies and starts again; so many epochs are published again.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1usize..4).prop_map(Step::Publish),
        3 => (0usize..6).prop_map(Step::ReadAndLeave),
        1 => (0usize..4).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 4..14)
}

/// For each epoch what becomes of some of six items: gone, or one of a few rows.
fn histories() -> impl Strategy<Value = Vec<Vec<(u64, u8)>>> {
    prop::collection::vec(prop::collection::vec((0u64..6, 0u8..6), 0..5), 12)
}

/// The history as the dataflow would state it: consolidated changes.
fn deltas(history: &[Vec<(u64, u8)>]) -> Vec<EpochDelta> {
    let row = |n: u64, state: u8| match state {
        0 => None,
        1 | 2 => Some(item(n, PM, &format!("for some {state}"))),
        _ => Some(item(n, ALL, &format!("for all {state}"))),
    };
    let mut now: BTreeMap<u64, Row> = BTreeMap::new();
    let mut out = Vec::new();
    for (epoch, changes) in (0u64..).zip(history) {
        let mut after = now.clone();
        for (n, state) in changes {
            match row(*n, *state) {
                Some(row) => _ = after.insert(*n, row),
                None => _ = after.remove(n),
            }
        }
        let gone = now.iter().filter(|(n, row)| after.get(n) != Some(row)).map(|(_, row)| (row.clone(), -1));
        let come = after.iter().filter(|(n, row)| now.get(n) != Some(row)).map(|(_, row)| (row.clone(), 1));
        out.push(change(epoch * 7, epoch * 7 + 7, gone.chain(come).collect()));
        now = after;
    }
    out
}

fn epoch_of(seen: &Seen) -> u64 {
    seen.id.split_once('.').unwrap().0.parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However often the client and the process are cut off, the client reads what an undisturbed one reads.
    #[test]
    fn a_disturbed_client_reads_what_an_undisturbed_one_reads(history in histories(), steps in steps()) {
        const ROLE: &str = "role=engineer";
        let deltas = deltas(&history);
        let calm = World::new(FeedLimits::default());
        let mut client = calm.client(ROLE, None);
        client.next();
        deltas.iter().for_each(|delta| _ = calm.publish(delta));
        // The end of the undisturbed stream: one more event for everyone.
        let end = change(84, 91, vec![(item(99, ALL, "end"), 1)]);
        calm.publish(&end);
        let mut expected = Vec::new();
        while expected.last().is_none_or(|seen| epoch_of(seen) < 91) {
            expected.push(client.next().unwrap());
        }

        let mut world = World::new(FeedLimits::default());
        let mut published = 0;
        let mut seen: Vec<Seen> = Vec::new();
        let resume = |seen: &[Seen]| seen.last().map_or("0.end".to_owned(), |s| s.id.clone());
        for step in steps {
            match step {
                Step::Publish(count) => {
                    for delta in deltas.iter().skip(published).take(count) {
                        world.publish(delta);
                        published += 1;
                    }
                }
                Step::ReadAndLeave(count) if published > 0 => {
                    let there = expected.iter().filter(|s| epoch_of(s) <= deltas[published - 1].upper.0).count();
                    let count = count.min(there - seen.len());
                    let more = world.client(ROLE, Some(&resume(&seen))).take(count);
                    seen.extend(more);
                }
                Step::ReadAndLeave(_) => {}
                Step::Restart(again) => {
                    world.restart();
                    for delta in &deltas[published.saturating_sub(again)..published] {
                        prop_assert_eq!(world.publish(delta), Published::Known);
                    }
                }
            }
        }
        deltas[published..].iter().for_each(|delta| _ = world.publish(delta));
        world.publish(&end);
        let rest = expected.len() - seen.len();
        let more = world.client(ROLE, Some(&resume(&seen))).take(rest);
        seen.extend(more);
        prop_assert_eq!(seen, expected);
    }
}
