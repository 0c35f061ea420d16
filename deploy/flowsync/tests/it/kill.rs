//! `kill -9` of `flowsync run` under load, a hundred times at random moments: then every view equals that of an undisturbed
//! run. `FLOWSYNC_KILLS` says otherwise how often.
//!
//! Holds I1 (what was acknowledged is not sent again, and has to be there), I2 (what was not is sent again), I4 and I6.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flowsync_dataflow::views;
use flowsync_ingest::{
    connectors::{Secret, Secrets},
    now,
    simulate::{CONNECTORS, Scale, Simulated, Simulation},
};
use flowsync_schemas::Micros;
use tempfile::TempDir;

use crate::process::{Server, flowsync, sql, succeed};

const KILLS: usize = 100;
const SENDERS: usize = 4;
/// Shortest and longest time from a start to its kill: short ones fall between two commits, long ones into one.
const ALIVE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(1_620)];

fn secrets() -> Secrets {
    CONNECTORS.iter().map(|c| ((*c).to_owned(), Secret::new(format!("{c}-secret")))).collect()
}

/// A configuration with the secrets of everything that is simulated.
pub fn configuration(folder: &Path) -> PathBuf {
    let path = folder.join("flowsync.toml");
    let secrets: Vec<_> = CONNECTORS.iter().map(|c| format!("{c} = \"{c}-secret\"\n")).collect();
    std::fs::write(&path, format!("[secrets]\n{}", secrets.concat())).expect("written");
    path
}

/// Sends one delivery; true when it was acknowledged.
pub fn send(agent: &ureq::Agent, address: &str, delivery: &Simulated) -> bool {
    let mut request = agent.post(format!("http://{address}/hooks/{}", delivery.connector));
    for (name, value) in delivery.sign(&secrets(), now()).expect("a secret") {
        request = request.header(name, value);
    }
    request.send(&delivery.body[..]).is_ok_and(|answer| answer.status().is_success())
}

/// A client that takes refusals as answers.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into()
}

/// Sends what is not acknowledged yet until the server is killed, or everything is acknowledged.
fn load(
    server: Server,
    deliveries: &[Simulated],
    acknowledged: &Mutex<BTreeSet<usize>>,
    pause: Duration,
    kill_after: Option<Duration>,
) -> Option<Server> {
    let todo: Vec<usize> =
        (0..deliveries.len()).filter(|i| !acknowledged.lock().expect("no sender panicked").contains(i)).collect();
    let next = AtomicUsize::new(0);
    let killed = AtomicBool::new(false);
    let address = server.address.clone();
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let agent = agent();
                while let Some(i) = todo.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    if killed.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(pause);
                    if send(&agent, &address, &deliveries[i]) {
                        acknowledged.lock().expect("no sender panicked").insert(i);
                    }
                }
            });
        }
        match kill_after {
            Some(delay) => {
                std::thread::sleep(delay);
                server.kill();
                killed.store(true, Ordering::Relaxed);
                None
            }
            None => Some(server),
        }
    })
}

/// Rows of every view that does not tell of our own clock.
pub fn rows(dir: &Path) -> Vec<(&'static str, Vec<String>)> {
    let timed = ["integration_health", "rejects"];
    let names = views::ALL.iter().map(|v| v.spec.table.name).filter(|name| !timed.contains(name));
    names
        .map(|name| {
            let mut lines: Vec<String> =
                sql(dir, "ndjson", &format!("select * from {name}")).lines().map(str::to_owned).collect();
            lines.sort();
            (name, lines)
        })
        .collect()
}

#[test]
fn kills_under_load_change_nothing() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos() as u64;
    let seed = std::env::var("FLOWSYNC_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(seed);
    println!("FLOWSYNC_SEED={seed} repeats the moments of the kills");
    // Slack signs, and so dates, the moment of sending: its commands differ between two runs by nature.
    let until = Micros::parse("2026-11-20T12:00:00Z").expect("a time");
    let deliveries: Vec<_> = Simulation::new(3, until, Scale::DEMO).filter(|d| d.connector != "slack").collect();
    let folder = TempDir::new().expect("a folder");
    let config = configuration(folder.path());
    let (disturbed, quiet) = (folder.path().join("disturbed"), folder.path().join("quiet"));

    let acknowledged = Mutex::new(BTreeSet::new());
    let mut state = seed | 1;
    let kills = std::env::var("FLOWSYNC_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    // Between two deliveries of a sender, so that the load lasts over all kills.
    let pause = (ALIVE[0] + ALIVE[1]) / 2 * u32::try_from(kills * SENDERS).expect("few")
        / u32::try_from(deliveries.len()).expect("few");
    for kill in 0..kills {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let span = (ALIVE[1] - ALIVE[0]).as_millis() as u64;
        let delay = ALIVE[0] + Duration::from_millis((state >> 33) % span);
        let server = Server::start(&disturbed, &config);
        assert!(load(server, &deliveries, &acknowledged, pause, Some(delay)).is_none());
        println!(
            "kill {kill} after {delay:?}: {} of {} acknowledged",
            acknowledged.lock().expect("no sender panicked").len(),
            deliveries.len()
        );
    }
    let server =
        load(Server::start(&disturbed, &config), &deliveries, &acknowledged, Duration::ZERO, None).expect("not killed");
    assert_eq!(
        acknowledged.lock().expect("no sender panicked").len(),
        deliveries.len(),
        "everything is acknowledged in the end"
    );
    server.stop();
    // At whatever moment it was killed: records, hashes and checkpoints fit together.
    let audited = succeed(flowsync().args(["audit", "verify", "--dir"]).arg(&disturbed));
    assert!(audited.contains("good"), "{audited}");

    // The same pseudonyms: the same tenant's key.
    std::fs::create_dir_all(quiet.join("keys")).expect("a folder");
    std::fs::copy(disturbed.join("keys/tenant.key"), quiet.join("keys/tenant.key")).expect("copied");
    let calm = Mutex::new(BTreeSet::new());
    load(Server::start(&quiet, &config), &deliveries, &calm, Duration::ZERO, None).expect("not killed").stop();

    let mut tables = 0;
    for ((name, have), (_, want)) in rows(&disturbed).into_iter().zip(rows(&quiet)) {
        let extra: Vec<_> = have.iter().filter(|r| !want.contains(r)).take(3).collect();
        let missing: Vec<_> = want.iter().filter(|r| !have.contains(r)).take(3).collect();
        assert!(
            have == want,
            "{name}: {} rows, {} undisturbed; extra {extra:#?}, missing {missing:#?}",
            have.len(),
            want.len()
        );
        tables += usize::from(!have.is_empty());
    }
    assert!(tables >= 12, "only {tables} views have rows: the load does not reach the views");
    let signals = |dir: &Path| -> BTreeSet<String> {
        let all = sql(dir, "csv", "select signal, source, body_bytes, fact_count from fact_signals");
        let unique: BTreeSet<_> = all.lines().map(str::to_owned).collect();
        assert_eq!(unique.len(), all.lines().count(), "a signal is there twice");
        unique
    };
    let (have, want) = (signals(&disturbed), signals(&quiet));
    let differing: Vec<_> = have.symmetric_difference(&want).collect();
    assert!(differing.is_empty(), "signals of one run only: {differing:?}");
}
