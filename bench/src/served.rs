//! The real process under real deliveries: what the gateway takes, how soon it can be read, what commits cost, how long a
//! restart takes. The load comes from this process, over loopback, signed.

use std::{
    io::{BufRead, BufReader},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use flowsync_ingest::simulate::Simulated;
use serde_json::Value;

use crate::{
    Size,
    incremental::thousands,
    machine::{peak_bytes, resident_bytes, written_bytes},
    report::{RATIO, Report, Target, percentile},
    sender::{Accepted, send},
    site::{Served, Site},
};

/// Signals a second while latency is measured.
const RATE: usize = 1_000;
/// Connections at once while latency is measured.
const CONNECTIONS: usize = 64;
/// The same while the gateway is saturated: each waits for the fsync that it shares with the others.
const CONNECTIONS_FLOOD: usize = 256;
/// How long before the end of the load a signal may be told of by nobody: the feed sends nothing of epochs without news.
const UNTOLD: Duration = Duration::from_millis(100);
/// How often commits are counted: they come at least a second apart.
const COUNT: Duration = Duration::from_millis(500);
/// How often readers look; their latencies are exact to this. More often, and the questions would be the load.
const LOOK: Duration = Duration::from_millis(20);

/// How much is measured.
struct Plan {
    history: u64,
    /// Seconds at [`RATE`].
    secs: usize,
    /// Deliveries at saturation.
    flood: usize,
    /// Deliveries right before the kill.
    tail: usize,
}

impl Plan {
    fn of(size: Size) -> Self {
        match size {
            Size::Quick => Self { history: 3_000, secs: 2, flood: 1_000, tail: 200 },
            Size::Usual => Self { history: 1_000_000, secs: 30, flood: 100_000, tail: 2_000 },
            // A million entities and a few.
            Size::Large => Self { history: 2_300_000, secs: 30, flood: 100_000, tail: 2_000 },
        }
    }
}

/// Measures everything of this group. Leaves the directory for the groups that read it.
pub fn measure(size: Size, report: &mut Report) -> Result<Site> {
    let plan = Plan::of(size);
    let at = format!("at {} signals", thousands(plan.history));
    eprintln!("the real process {at}");
    let beyond = plan.secs * RATE + plan.flood + plan.tail;
    let (mut site, imported) = Site::fill(plan.history, beyond as u64 * 11 / 10)?;
    let rate = imported.signals as f64 / imported.took.as_secs_f64();
    report.add(format!("through log, dataflow and tables, from empty, {at}"), rate, "signals/s");

    let served = site.serve()?;
    served.catch_up()?;
    let load: Vec<Simulated> = site.deliveries(plan.secs * RATE)?;
    latency(&site, &served, &load, report)?;
    let flood = site.deliveries(plan.flood)?;
    gateway(&served, &flood, report)?;
    report.add(format!("memory of the process {at}"), resident_bytes(Some(served.pid())) as f64, "B");
    let rows = entities(&served)?;
    report.add("entities in its tables", rows, "entities");
    report.add("signals in its log", served.health("log_end")?.as_f64().context("the end of the log")?, "signals");
    let tail = site.deliveries(plan.tail)?;
    restart(&site, served, &tail, report)?;
    Ok(site)
}

fn agent() -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
    config.build().into()
}

/// When which epoch was first seen by a reader.
type Seen = Mutex<Vec<(Instant, u64)>>;

fn saw(seen: &Seen, at: Instant, epoch: u64) {
    let mut seen = seen.lock().unwrap_or_else(|e| e.into_inner());
    if seen.last().is_none_or(|(_, last)| *last < epoch) {
        seen.push((at, epoch));
    }
}

/// At 1,000 signals a second: from accepted to the live feed, to SQL in the process, to the committed tables.
fn latency(site: &Site, served: &Served, load: &[Simulated], report: &mut Report) -> Result<()> {
    let (feed, sql, tables) = (Seen::default(), Seen::default(), Seen::default());
    let ended = AtomicBool::new(false);
    let (before, mut commit_millis) = (Commits::read(served)?, Vec::new());
    let clock = Instant::now();
    let mut sql_millis = Vec::new();
    let accepted = std::thread::scope(|scope| -> Result<Vec<Accepted>> {
        let follower = scope.spawn(|| follow(&served.address, &ended, &feed));
        let asker = scope.spawn(|| ask(&served.address, &ended, &sql));
        let looker = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let epoch = site.committed();
                saw(&tables, Instant::now(), epoch);
                std::thread::sleep(LOOK);
            }
        });
        let counter = scope.spawn(|| each_commit(served, before, &ended));
        std::thread::sleep(Duration::from_millis(500));
        let accepted = send(&served.address, load, CONNECTIONS, Some(RATE));
        let caught_up = served.catch_up();
        // The feed closes a quiet connection's silence with a comment only: what it has seen by now is all.
        std::thread::sleep(Duration::from_millis(200));
        ended.store(true, Ordering::Relaxed);
        caught_up?;
        sql_millis = asker.join().map_err(|_| anyhow::anyhow!("the reader of SQL panicked"))??;
        looker.join().map_err(|_| anyhow::anyhow!("the reader of manifests panicked"))?;
        commit_millis = counter.join().map_err(|_| anyhow::anyhow!("the reader of metrics panicked"))??;
        follower.join().map_err(|_| anyhow::anyhow!("the reader of the feed panicked"))??;
        accepted
    })?;
    let elapsed = clock.elapsed();
    let last = accepted.iter().map(|a| a.at).max().context("nothing was accepted")?;
    let sending = last.saturating_duration_since(clock + Duration::from_millis(500)).as_secs_f64();
    report.add("accepted at 1,000/s: indeed", accepted.len() as f64 / sending, "signals/s");
    let mut took: Vec<f64> = accepted.iter().map(|a| a.took.as_secs_f64() * 1_000.0).collect();
    for (p, name) in [(50.0, "p50"), (99.0, "p99"), (100.0, "max")] {
        report.add(format!("webhook, accepted and fsynced, at 1,000/s: {name}"), percentile(&mut took, p), "ms");
    }
    for (name, seen, target_ms) in [
        ("the live feed", &feed, 100.0),
        ("SQL in the process", &sql, 250.0),
        ("the committed tables", &tables, 5_000.0),
    ] {
        let seen = seen.lock().unwrap_or_else(|e| e.into_inner());
        let mut millis: Vec<f64> = accepted.iter().filter_map(|a| until_seen(&seen, a)).collect();
        let unseen = accepted.len() - millis.len();
        if unseen as f64 > UNTOLD.as_secs_f64() * RATE as f64 {
            bail!("{name}: {unseen} of {} signals were not seen", accepted.len());
        }
        report.add(format!("accepted → {name}, at 1,000/s: p50"), percentile(&mut millis, 50.0), "ms");
        let (p99, target) = (percentile(&mut millis, 99.0), Target::AtMost(target_ms));
        report.add_target(format!("accepted → {name}, at 1,000/s: p99"), p99, "ms", target);
        report.add(format!("accepted → {name}, at 1,000/s: max"), percentile(&mut millis, 100.0), "ms");
    }
    report.add("a small question over HTTP under this load: p99", percentile(&mut sql_millis, 99.0), "ms");
    Commits::read(served)?.since(&before).report(elapsed, report);
    for (p, name) in [(50.0, "p50"), (99.0, "p99"), (100.0, "max")] {
        let what = format!("commits at 1,000/s: time of one, of {}: {name}", commit_millis.len());
        report.add(what, percentile(&mut commit_millis, p), "ms");
    }
    Ok(())
}

/// Milliseconds that each commit took.
fn each_commit(served: &Served, mut last: Commits, ended: &AtomicBool) -> Result<Vec<f64>> {
    let mut millis = Vec::new();
    loop {
        let is_last = ended.load(Ordering::Relaxed);
        let now = Commits::read(served)?;
        let since = now.since(&last);
        if since.count > 0.0 {
            millis.push(1_000.0 * since.secs / since.count);
            last = now;
        }
        if is_last {
            return Ok(millis);
        }
        std::thread::sleep(COUNT);
    }
}

/// Milliseconds from acceptance until a reader saw the epoch; 0 where it did before the sender had its answer.
fn until_seen(seen: &[(Instant, u64)], accepted: &Accepted) -> Option<f64> {
    let first = seen.partition_point(|(_, epoch)| *epoch < accepted.epoch);
    let (at, _) = seen.get(first)?;
    Some(at.saturating_duration_since(accepted.at).as_secs_f64() * 1_000.0)
}

/// Follows the live feed.
fn follow(address: &str, ended: &AtomicBool, seen: &Seen) -> Result<()> {
    let answer = ureq::get(format!("http://{address}/api/digest/stream?role=engineer")).call()?;
    let mut lines = BufReader::new(answer.into_body().into_reader());
    let mut line = String::new();
    while !ended.load(Ordering::Relaxed) {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            break;
        }
        // `id: {epoch}.{index}`
        if let Some(id) = line.strip_prefix("id:") {
            let epoch = id.trim().split('.').next().and_then(|e| e.parse().ok());
            saw(seen, Instant::now(), epoch.with_context(|| format!("the feed sent {line:?}"))?);
        }
    }
    Ok(())
}

/// Asks a small question over and over; the answer tells its epoch.
fn ask(address: &str, ended: &AtomicBool, seen: &Seen) -> Result<Vec<f64>> {
    let agent = agent();
    let mut millis = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = agent
            .post(format!("http://{address}/api/sql"))
            .header("content-type", "text/plain")
            .send("select count(*) as n from rejects")?;
        let epoch = answer.headers().get("x-flowsync-epoch").and_then(|v| v.to_str().ok()?.parse().ok());
        let status = answer.status();
        saw(seen, Instant::now(), epoch.with_context(|| format!("SQL was answered {status}"))?);
        millis.push(started.elapsed().as_secs_f64() * 1_000.0);
        std::thread::sleep(LOOK);
    }
    Ok(millis)
}

/// What the sink has done so far.
#[derive(Clone, Copy)]
struct Commits {
    count: f64,
    secs: f64,
    bytes_written: f64,
    bytes_changed: f64,
    files_written: f64,
    disk_bytes: f64,
}

/// Sum of the values of a metric over its labels.
fn metric(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

impl Commits {
    fn read(served: &Served) -> Result<Self> {
        let page = served.get("/metrics")?;
        let metric = |name| metric(&page, name);
        Ok(Self {
            count: metric("flowsync_sink_commits_total"),
            secs: metric("flowsync_sink_commit_seconds_sum"),
            bytes_written: metric("flowsync_sink_bytes_written_total"),
            bytes_changed: metric("flowsync_sink_bytes_changed_total"),
            files_written: metric("flowsync_sink_files_written_total"),
            disk_bytes: written_bytes(served.pid()) as f64,
        })
    }

    fn since(self, before: &Self) -> Self {
        Self {
            count: self.count - before.count,
            secs: self.secs - before.secs,
            bytes_written: self.bytes_written - before.bytes_written,
            bytes_changed: self.bytes_changed - before.bytes_changed,
            files_written: self.files_written - before.files_written,
            disk_bytes: self.disk_bytes - before.disk_bytes,
        }
    }

    fn report(self, elapsed: Duration, report: &mut Report) {
        let share = 100.0 * self.secs / elapsed.as_secs_f64();
        report.add_target("commits at 1,000/s: share of all time", share, "%", Target::AtMost(20.0));
        report.add("commits at 1,000/s: files written by one, mean", self.files_written / self.count.max(1.0), "files");
        let amplification = self.bytes_written / self.bytes_changed.max(1.0);
        report.add("commits at 1,000/s: bytes of files written for a byte changed", amplification, RATIO);
        report.add("written to the disk at 1,000/s, log and tables", self.disk_bytes / elapsed.as_secs_f64(), "B/s");
    }
}

/// As fast as deliveries are taken.
fn gateway(served: &Served, flood: &[Simulated], report: &mut Report) -> Result<()> {
    let started = Instant::now();
    let accepted = send(&served.address, flood, CONNECTIONS_FLOOD, None)?;
    let rate = flood.len() as f64 / started.elapsed().as_secs_f64();
    let what = "webhooks accepted and fsynced, while the views follow as they can";
    report.add_target(what, rate, "signals/s", Target::AtLeast(10_000.0));
    let mut took: Vec<f64> = accepted.iter().map(|a| a.took.as_secs_f64() * 1_000.0).collect();
    report.add("webhook at saturation: p99", percentile(&mut took, 99.0), "ms");
    let behind = served.health("lag_signals")?.as_f64().context("the lag")?;
    report.add("signals that waited in the log at the end of that", behind, "signals");
    served.catch_up()
}

fn entities(served: &Served) -> Result<f64> {
    let views = ["tickets", "commits", "pull_requests", "reviews", "deployments", "incidents", "people"];
    let sum: Vec<_> = views.iter().map(|v| format!("(select count(*) from {v})")).collect();
    let answer = ureq::post(format!("http://{}/api/sql", served.address))
        .header("content-type", "text/plain")
        .send(format!("select {} as n", sum.join(" + ")))?
        .body_mut()
        .read_json::<Value>()?;
    answer["rows"][0][0].as_f64().with_context(|| format!("{answer}"))
}

/// `kill -9` while the last deliveries are on their way into the tables, then the next process.
fn restart(site: &Site, served: Served, tail: &[Simulated], report: &mut Report) -> Result<()> {
    send(&served.address, tail, CONNECTIONS_FLOOD, None)?;
    served.kill()?;
    restarted(site, "", report)?.stop()
}

/// How long a process that takes over from one that was killed takes until it answers, and until it is caught up; and what memory.
/// `at` says of how much, where it is more than usual; then there is no target.
pub fn restarted(site: &Site, at: &str, report: &mut Report) -> Result<Served> {
    let figure = |what: &str| format!("restart after kill -9{at}: {what}");
    let served = site.serve()?;
    let asked = ureq::post(format!("http://{}/api/sql", served.address))
        .header("content-type", "text/plain")
        .send("select count(*) as n from tickets")?;
    anyhow::ensure!(asked.status().is_success(), "SQL was answered {}", asked.status());
    report.add(figure("the last committed epoch is served after"), served.age().as_secs_f64(), "s");
    let log_end = served.health("log_end")?.as_u64();
    while served.health("closed_epoch")?.as_u64() < log_end || served.health("reloading")? == true {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (what, caught_up) = (figure("caught up after"), served.age().as_secs_f64());
    match at {
        "" => report.add_target(what, caught_up, "s", Target::AtMost(10.0)),
        _ => report.add(what, caught_up, "s"),
    }
    served.catch_up()?;
    report.add(figure("the tables are as they should be after"), served.age().as_secs_f64(), "s");
    let (now, most) = (resident_bytes(Some(served.pid())), peak_bytes(served.pid()));
    report.add(figure("memory of the process then"), now as f64, "B");
    report.add(figure("memory of the process, at most until then"), most as f64, "B");
    Ok(served)
}
