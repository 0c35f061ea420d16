//! The hot paths, one at a time: for a profiler, and for counting instructions.
//!
//! Times on shared machines cannot guard against regressions; instruction counts can. `valgrind --tool=callgrind` counts those
//! of this same executable on a fixed history, with one worker, and they are compared with `bench/instructions.json`, which
//! keeps them by profile: `dev` is the one that the tests are built with, and that they hold.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result, bail, ensure};
use flowsync_dataflow::Read;
use flowsync_schemas::Signal;

use crate::{
    alone,
    history::{self, History},
    incremental::{Pushed, Running},
};

/// The counts that are kept, by profile.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");
/// More than this many percent above what is kept is a regression. Hashing with random keys, and how long a worker spins while
/// it waits on a busy machine, move a count by less than half of it.
const TOLERANCE_PERCENT: f64 = 8.0;
/// Signals of a path where they are counted.
pub const SIGNALS: usize = 600;

/// A hot path. Every path makes the same history first, which `history` counts by itself: it is taken off.
type Path_ = (&'static str, fn(Vec<Signal>) -> Result<()>);

const PATHS: [Path_; 5] = [
    ("history", |signals| {
        ensure!(!signals.is_empty());
        Ok(())
    }),
    ("parse", parse),
    ("links", links),
    ("load", |signals| {
        // All at once, as a restart does.
        let all = signals.len();
        flow(signals, all)
    }),
    ("steady", |signals| flow(signals, 20)),
];

fn parse(signals: Vec<Signal>) -> Result<()> {
    let read = history::reader();
    let facts: usize = signals.iter().map(|s| read(s).0.len()).sum();
    ensure!(facts > signals.len() / 2, "only {facts} facts");
    Ok(())
}

/// Stated links of the pushes alone, with one worker: what Pathway is measured on.
fn links(signals: Vec<Signal>) -> Result<()> {
    let pushes = signals.into_iter().filter(|signal| history::is_push(signal) || history::is_settings(signal));
    let (tickets, took) = alone::stated_links(1, history::reader(), pushes.collect())?;
    eprintln!("links of {} tickets: {took:.2?}", tickets.len());
    ensure!(!tickets.is_empty(), "nothing is linked");
    Ok(())
}

/// Through all views with one worker, in epochs of so many signals, one after the other: how many were inside at once, and
/// shared what an epoch costs, would depend on the machine.
fn flow(signals: Vec<Signal>, epoch: usize) -> Result<()> {
    let read: Read = history::reader();
    let mut running = Running::start(1, read, &[])?;
    let (mut pushed, mut left) = (Pushed::default(), signals.into_iter().peekable());
    while left.peek().is_some() {
        pushed.add(running.push(left.by_ref().take(epoch).collect(), epoch)?);
    }
    ensure!(pushed.changed_rows > pushed.signals, "only {} rows changed", pushed.changed_rows);
    running.finish()
}

/// Runs one path once, over so many signals.
pub fn run(name: &str, signals: usize) -> Result<()> {
    let names: Vec<_> = PATHS.iter().map(|(name, _)| *name).collect();
    let (_, path) = PATHS.iter().find(|(n, _)| *n == name).with_context(|| format!("paths: {}", names.join(", ")))?;
    path(History::new(signals as u64)?.batch(signals))
}

/// Counts all paths, and compares with what is kept, or keeps it.
pub fn instructions(bless: bool) -> Result<()> {
    let mut counted = BTreeMap::new();
    for (name, _) in PATHS {
        counted.insert(name.to_owned(), count(name)?);
    }
    let making = counted.remove("history").unwrap_or_default();
    counted.values_mut().for_each(|n| *n = n.saturating_sub(making) / SIGNALS as u64);
    let mut all: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_slice(&fs::read(KEPT).context(KEPT)?)?;
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    if bless {
        all.insert(profile.to_owned(), counted.clone());
        fs::write(KEPT, serde_json::to_string_pretty(&all)? + "\n").context(KEPT)?;
    }
    let kept = all.get(profile).with_context(|| format!("{KEPT} has no counts of the profile {profile}: --bless"))?;
    ensure!(kept.keys().eq(counted.keys()), "{KEPT} is of other paths: --bless");
    let mut worse = Vec::new();
    for (name, now) in &counted {
        let change = 100.0 * (*now as f64 / kept[name] as f64 - 1.0);
        println!("{name}: {now} instructions a signal, {change:+.1} % of what is kept");
        if change > TOLERANCE_PERCENT {
            worse.push(name.as_str());
        }
    }
    if !worse.is_empty() {
        bail!(
            "{} takes more instructions than bench/instructions.json allows: find out why, or keep the new count with --bless and say why",
            worse.join(", ")
        );
    }
    Ok(())
}

fn count(name: &str) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["hot", name])
        .output()
        .context("valgrind (Debian's package of that name) is needed to count instructions")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "valgrind: {said}");
    let line =
        said.lines().find_map(|l| l.split_once("Collected :")).with_context(|| format!("valgrind said {said}"))?;
    Ok(line.1.trim().parse()?)
}
