//! The judge of the end: what the tables hold is what a job computes that nobody disturbed, and what plain SQL says; every
//! acknowledged signal is in it once; nothing is left over.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::mpsc::sync_channel,
};

use flowsync_dataflow::{Config, Job};
use flowsync_ingest::Log;
use flowsync_query::{AsOf, Engine, EngineOptions};
use flowsync_schemas::{
    Epoch, LogPosition, Pseudonymizer, Record, Row, Signal,
    fact::{SIGNALS, SignalFact},
    model::Model,
};
use flowsync_sinks::Sink;
use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    process::Process,
    world::{Judged, World, ensure},
};
use crate::{
    commands::check::against_definitions,
    data,
    pipeline::{catalogue, read_with},
};

/// Rows by table.
type Rows = BTreeMap<&'static str, BTreeMap<Row, i64>>;

fn told<E: std::fmt::Display>(error: E) -> String {
    format!("{error:#}")
}

pub fn judge(world: &mut World, process: Process, in_sql: bool) -> Judged<()> {
    let signals = process.log.read(LogPosition::default(), usize::MAX, usize::MAX).map_err(told)?;
    let (runtime, mut sink) = process.reopened(world).map_err(told)?;
    let manifest = sink.committed().ok_or("nothing is committed")?.clone();
    ensure(manifest.epoch.0 == signals.len() as u64 && manifest.positions == [manifest.epoch.0], || {
        format!("epoch {} at {:?}, of {} signals", manifest.epoch, manifest.positions, signals.len())
    })?;
    let have = tables(&runtime, &sink)?;
    let listed = manifest.tables.iter().map(|(name, table)| (name.as_str(), table.rows));
    let counted = have.iter().map(|(name, rows)| (*name, rows.values().sum::<i64>() as u64));
    ensure(listed.eq(counted), || format!("the manifest lists {:?}", manifest.tables))?;
    every_signal_is_there_once(world, &have)?;
    same(&have, &undisturbed(world, &signals)?)?;
    nothing_is_left_over(world, &runtime, &mut sink)?;
    if in_sql { outsiders_agree(world, manifest.epoch) } else { Ok(()) }
}

/// What the tables hold.
fn tables(runtime: &Runtime, sink: &Sink) -> Judged<Rows> {
    let catalogue = catalogue();
    let mut tables = Rows::new();
    for spec in catalogue.base.iter().chain(&catalogue.views) {
        let held = tables.entry(spec.name).or_default();
        for row in runtime.block_on(sink.load(spec.name).map_ok(|file| file.to_rows()).try_concat()).map_err(told)? {
            *held.entry(row).or_default() += 1;
        }
    }
    Ok(tables)
}

fn every_signal_is_there_once(world: &World, have: &Rows) -> Judged<()> {
    let mut there = BTreeSet::new();
    for (row, count) in &have[SIGNALS.name] {
        let fact = SignalFact::from_values(row).map_err(|e| format!("{e:?}"))?;
        ensure(*count == 1 && there.insert(fact.signal), || format!("{} is there more than once", fact.signal))?;
    }
    let acknowledged: BTreeSet<_> = world.senders.acknowledged.keys().copied().collect();
    // All were acknowledged in the end, and nobody sent anything else.
    ensure(there == acknowledged, || format!("{} were acknowledged, {} are there", acknowledged.len(), there.len()))
}

/// The same signals in other epochs, on another number of workers, in one life.
fn undisturbed(world: &mut World, signals: &[(LogPosition, Signal)]) -> Judged<Rows> {
    let workers = if world.rng.u8(0..4) == 0 { 2 } else { 1 };
    let config = Config { workers, model: Model::shipped(), epochs_in_flight_max: 64 };
    let (deltas_in, deltas) = sync_channel(1_024);
    let people = Pseudonymizer::new(&[7; 32]);
    let job = Job::start(config, read_with(people), deltas_in).map_err(told)?;
    let (mut rest, mut epoch) = (signals, 0);
    while !rest.is_empty() {
        let next = if epoch == 0 { world.rng.usize(1..=rest.len()) } else { rest.len() };
        let (next, behind) = rest.split_at(next);
        (rest, epoch) = (behind, epoch + next.len() as u64);
        job.push(Epoch(epoch), vec![epoch], next.to_vec()).map_err(told)?;
    }
    job.finish().map_err(told)?;
    let mut tables = Rows::new();
    for change in deltas.iter().flat_map(|delta| delta.changes) {
        let held = tables.entry(change.table).or_default();
        for (row, diff) in change.rows {
            *held.entry(row).or_default() += diff;
        }
    }
    tables.values_mut().for_each(|rows| rows.retain(|_, count| *count != 0));
    Ok(tables)
}

fn same(have: &Rows, want: &Rows) -> Judged<()> {
    let empty = BTreeMap::new();
    for (table, have) in have {
        let want = want.get(table).unwrap_or(&empty);
        let only = |a: &BTreeMap<Row, i64>, b: &BTreeMap<Row, i64>| {
            a.iter().find(|(row, count)| b.get(*row) != Some(count)).map(|(row, count)| (row.clone(), *count))
        };
        ensure(have == want, || format!("{table}: in it {:?}, undisturbed {:?}", only(have, want), only(want, have)))?;
    }
    ensure(want.keys().all(|table| have.contains_key(table)), || "a table is missing".into())
}

/// Upkeep comes to rest, and then nothing is there that a crash has left.
fn nothing_is_left_over(world: &mut World, runtime: &Runtime, sink: &mut Sink) -> Judged<()> {
    for _ in 0..4 {
        let now = world.later();
        runtime.block_on(sink.maintain(now)).map_err(told)?;
    }
    let files = world.disk.files();
    let named = |part: &str| files.iter().filter(|(name, _)| name.to_string_lossy().contains(part)).count();
    ensure(named(".staged") == 0, || "a file that never got its name is left over".into())?;
    let manifests = named("/manifests/");
    ensure(manifests <= world.options.manifests_max, || format!("{manifests} manifests"))?;
    let entries: Vec<_> = files.iter().filter(|(name, _)| name.to_string_lossy().contains("/_delta_log/")).collect();
    let known =
        String::from_utf8_lossy(&entries.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()).into_owned();
    let data = files.iter().filter(|(name, _)| !name.to_string_lossy().contains("/_delta_log/"));
    let mut data = data.filter_map(|(name, _)| name.file_name()?.to_str().filter(|name| name.ends_with(".parquet")));
    match data.find(|name| !known.contains(name)) {
        Some(orphan) => Err(format!("{orphan} is in no Delta log")),
        None => Ok(()),
    }
}

/// Copied to a real disk, every view is as its definition says, in SQL over the facts (I5).
fn outsiders_agree(world: &World, epoch: Epoch) -> Judged<()> {
    let copy = TempDir::new().map_err(told)?;
    let root = world.tables.path().canonicalize().map_err(told)?;
    for (name, bytes) in world.disk.files() {
        let to = copy.path().join(name.strip_prefix(&root).map_err(told)?);
        std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).map_err(told)?;
        std::fs::write(&to, bytes).map_err(told)?;
    }
    let engine = Engine::open(copy.path(), data::specs(), &Model::shipped(), EngineOptions::default()).map_err(told)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(told)?;
    let mut wrong = Vec::new();
    let seen = runtime.block_on(async {
        let snapshot = engine.snapshot(AsOf::Newest).await.map_err(told)?;
        let told_of = |view, rows, differs| {
            wrong.extend((differs > 0).then_some((view, rows, differs)));
            Ok(())
        };
        against_definitions(&snapshot, told_of).await.map_err(told)?;
        Judged::Ok(snapshot.epoch())
    })?;
    ensure(seen == epoch, || format!("outsiders see epoch {seen}"))?;
    ensure(wrong.is_empty(), || format!("not as defined: {wrong:?}"))
}
