//! Lives of a sink on a disk on which things go wrong, by seed: crashes, power loss, errors, a full disk, a clock that jumps,
//! at any step of opening, committing, repairing and tidying up, several lives in a row.
//!
//! After each life and at the end: an epoch that was acknowledged is there (I1), once (I2), whole (I4), and equal to the
//! model; what is recomputed corrects nothing (I6); no file stays that nobody needs (I9). A failure prints its seed:
//! `FLOWSYNC_SEED=n cargo test -p flowsync-sinks simulation` repeats it, `FLOWSYNC_SEEDS=100000` tries more.

use std::{collections::BTreeSet, path::Path, time::Duration};

use fastrand::Rng;
use flowsync_schemas::{Epoch, EpochDelta, Micros};
use tempfile::TempDir;

use super::{
    model::{PROGRAM, Step, Tables, catalogue, epochs, full, loaded, manifest, options, play, read_back, run},
    upkeep::{data_files, needed},
};
use crate::{
    Sink, SinkError, SinkOptions,
    disk::{self, Fault, Lie, SimulatedDisk},
    merge,
};

/// Processes that may die in one simulation.
const LIVES: usize = 6;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// One simulation.
struct Simulation {
    rng: Rng,
    disk: SimulatedDisk,
    /// Holds the lock alone.
    root: TempDir,
    options: SinkOptions,
    deltas: Vec<EpochDelta>,
    states: Vec<Tables>,
    /// The newest epoch that a caller was told of.
    acknowledged: Epoch,
    /// What happened.
    fired: Vec<Fault>,
    clock: i64,
}

type Judged<T> = Result<T, String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Judged<()> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Simulation {
    fn new(seed: u64, lie: Lie) -> Self {
        let mut rng = Rng::with_seed(seed);
        let history: Vec<Vec<Step>> = (0..rng.usize(3..8))
            .map(|_| {
                let step = |rng: &mut Rng| Step {
                    table: rng.usize(0..3),
                    id: rng.u8(0..24),
                    row: (rng.u8(0..4) > 0).then(|| (rng.i64(0..4), rng.i64(0..6))),
                };
                (0..rng.usize(0..12)).map(|_| step(&mut rng)).collect()
            })
            .collect();
        let (deltas, states) = play(&history);
        let options = SinkOptions {
            // One after the other, so that a seed repeats what happened.
            parallelism: 1,
            bucket_rows_max: rng.usize(2..8),
            manifests_max: rng.usize(2..6),
            earlier_bytes_min: if rng.bool() { 0 } else { 1 << 30 },
            checkpoint_interval: rng.u64(1..4),
            grace: Duration::ZERO,
            ..options()
        };
        let disk = SimulatedDisk::new(seed, lie);
        let root = TempDir::new().expect("a folder");
        let (acknowledged, fired, clock) = (Epoch(0), Vec::new(), 1_700_000_000_000_000);
        Self { rng, disk, root, options, deltas, states, acknowledged, fired, clock }
    }

    async fn open(&self) -> Result<Sink, SinkError> {
        disk::open(&self.disk, self.root.path(), catalogue(), PROGRAM.to_owned(), self.options).await
    }

    /// How many deltas an epoch covers.
    fn covered(&self, epoch: Epoch) -> Judged<usize> {
        let of = |delta: &EpochDelta| delta.upper == epoch;
        let at = self.deltas.iter().position(of).map(|at| at + 1);
        at.or((epoch == Epoch(0)).then_some(0)).ok_or_else(|| format!("epoch {epoch} was never asked for"))
    }

    /// The committed epoch holds what it should.
    async fn check(&mut self, sink: &Sink) -> Judged<usize> {
        let committed = sink.committed().ok_or("the tables would have to be rebuilt")?.epoch;
        let acknowledged = self.acknowledged;
        ensure(committed >= acknowledged, || format!("{acknowledged} was acknowledged, and {committed} is there"))?;
        self.covered(committed)
    }

    /// One process, until it dies, gives up or has committed everything. Whether it has.
    async fn live(&mut self) -> Judged<bool> {
        let mut sink = match self.open().await {
            Ok(sink) => sink,
            Err(error) => return self.survivable(&error).map(|()| false),
        };
        let mut at = self.check(&sink).await?;
        let mut again = None;
        while at < self.deltas.len() {
            let until = again.take().unwrap_or_else(|| self.rng.usize(at + 1..=self.deltas.len()));
            let delta = merge(self.deltas[at..until].to_vec()).map_err(|e| e.to_string())?.ok_or("nothing merged")?;
            match sink.commit(delta.clone()).await {
                Ok(manifest) => {
                    ensure(manifest.epoch == delta.upper, || format!("{} for {}", manifest.epoch, delta.upper))?;
                    self.acknowledged = manifest.epoch;
                    at = until;
                    if self.rng.u8(0..4) == 0 {
                        // Somebody did not hear of it, and asks again.
                        match sink.commit(delta).await {
                            Ok(again) => ensure(again == manifest, || "another manifest for the same epoch".into())?,
                            Err(error) => self.survivable(&error)?,
                        }
                    }
                }
                // The same again, or the end of this process.
                Err(error) => {
                    self.survivable(&error)?;
                    again = Some(until);
                }
            }
            if self.disk.is_dead() || self.disk.fired().is_some() && self.rng.bool() {
                return Ok(false);
            }
            // Clocks jump, backwards too.
            self.clock += self.rng.i64(-86_400_000_000..900_000_000_000);
            if let Err(error) = sink.maintain(Micros(self.clock)).await {
                self.survivable(&error)?;
            }
        }
        Ok(!self.disk.is_dead())
    }

    /// An error is one that was brought about, and tells that trying again helps.
    fn survivable(&self, error: &SinkError) -> Judged<()> {
        let brought_about = self.disk.fired().is_some();
        ensure(brought_about && error.is_retryable(), || format!("after {:?}: {error}", self.disk.fired()))
    }

    async fn run(&mut self) -> Judged<()> {
        for _ in 0..LIVES {
            let at = self.rng.usize(0..160);
            let fault = Fault::ALL[self.rng.usize(0..Fault::ALL.len())];
            self.disk.start(Some((at, fault)));
            let done = self.live().await?;
            self.fired.extend(self.disk.fired());
            if done && self.rng.bool() {
                break;
            }
        }
        // Nothing goes wrong any more.
        self.disk.start(None);
        ensure(self.live().await?, || "the last life did not end".into())?;
        let mut sink = self.open().await.map_err(|e| e.to_string())?;
        let newest = self.check(&sink).await?;
        ensure(newest == self.deltas.len(), || format!("{newest} of {} deltas", self.deltas.len()))?;
        let expected = self.states[newest].clone();
        ensure(loaded(&sink).await == expected, || "other rows than those of the model".into())?;
        let upper = self.deltas[newest - 1].upper.0;
        let correction = sink.reconcile(full(&expected, upper)).await.map_err(|e| e.to_string())?;
        ensure(correction.is_empty(), || format!("the correction is not empty: {correction:?}"))?;
        self.nothing_is_left_over(&mut sink).await?;
        self.outsiders_see(&expected, Epoch(upper)).await
    }

    /// Upkeep comes to rest, and then no file is there that no kept epoch needs.
    async fn nothing_is_left_over(&mut self, sink: &mut Sink) -> Judged<()> {
        // Later than any clock that a commit went by.
        self.clock = self.clock.max(crate::open::now().0) + 400 * 86_400_000_000;
        for _ in 0..8 {
            // The first round only sees which epoch is the oldest; readers may hold on to it as long as the grace lasts.
            self.clock += 1_000_000;
            sink.maintain(Micros(self.clock)).await.map_err(|e| e.to_string())?;
        }
        let files = self.disk.files();
        let names = || files.iter().map(|(name, _)| name.to_string_lossy());
        let staged: Vec<_> = names().filter(|name| name.ends_with(crate::store::STAGED)).collect();
        ensure(staged.is_empty(), || format!("left over: {staged:?}"))?;
        let manifests =
            files.iter().filter(|(name, _)| name.parent().is_some_and(|p| p.ends_with("manifests"))).count();
        ensure(manifests <= self.options.manifests_max, || format!("{manifests} manifests"))
    }

    /// Copied to a real disk, any Delta reader sees the same, and needs every file that is there.
    async fn outsiders_see(&mut self, expected: &Tables, epoch: Epoch) -> Judged<()> {
        if self.rng.u8(0..10) > 0 {
            return Ok(());
        }
        let copy = TempDir::new().map_err(|e| e.to_string())?;
        let root = self.root.path().canonicalize().map_err(|e| e.to_string())?;
        for (name, bytes) in self.disk.files() {
            let to = copy.path().join(name.strip_prefix(&root).map_err(|e| e.to_string())?);
            std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/"))).map_err(|e| e.to_string())?;
            std::fs::write(&to, bytes).map_err(|e| e.to_string())?;
        }
        ensure(read_back(copy.path(), epoch).await == *expected, || "an outsider reads other rows".into())?;
        let real = copy.path().canonicalize().map_err(|e| e.to_string())?;
        let (there, mut needed) = (data_files(&real), needed(&real).await);
        ensure(there.is_superset(&needed), || format!("there are {there:?}, and {needed:?} are needed"))?;
        // What was committed and taken back before a manifest named it goes when the oldest kept epoch is younger.
        needed.extend(removed_since_the_oldest(&real));
        let left_over: Vec<_> = there.difference(&needed).collect();
        ensure(left_over.is_empty(), || format!("left over: {left_over:?}"))
    }
}

/// Data files that left their table after the oldest kept epoch, as the Delta logs say.
fn removed_since_the_oldest(dir: &Path) -> BTreeSet<String> {
    let oldest = manifest(dir, *epochs(dir).first().expect("an epoch is kept"));
    let mut removed = BTreeSet::new();
    for (name, version) in oldest.tables {
        let folder = dir.join("tables").join(name);
        for entry in std::fs::read_dir(folder.join("_delta_log")).expect("a Delta log") {
            let path = entry.expect("a file").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            if path.extension().is_none_or(|e| e != "json") || stem.is_none_or(|at| at <= version.delta) {
                continue;
            }
            for line in std::fs::read_to_string(&path).expect("an entry").lines() {
                let action: serde_json::Value = serde_json::from_str(line).expect("an action");
                let file = action["remove"]["path"].as_str().map(|file| folder.join(file).display().to_string());
                removed.extend(file);
            }
        }
    }
    removed
}

/// Simulations of these seeds; what went wrong in the first that failed.
fn simulate(seeds: impl Iterator<Item = u64>, lie: Lie) -> Judged<(u64, BTreeSet<String>)> {
    run(async {
        let (mut lives, mut seen) = (0, BTreeSet::new());
        for seed in seeds {
            let mut simulation = Simulation::new(seed, lie);
            let judged = simulation.run().await;
            let (fired, steps) = (&simulation.fired, simulation.disk.steps());
            judged.map_err(|e| format!("FLOWSYNC_SEED={seed}: after {fired:?} in {steps} steps: {e}"))?;
            lives += fired.len() as u64;
            seen.extend(fired.iter().map(|fault| format!("{fault:?}")));
        }
        Ok((lives, seen))
    })
}

#[test]
fn nothing_is_lost_or_doubled_whatever_goes_wrong() {
    let (first, count) = match setting("FLOWSYNC_SEED") {
        Some(seed) => (seed, 1),
        None => (0, setting("FLOWSYNC_SEEDS").unwrap_or(1_000)),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let parts: Vec<_> = std::thread::scope(|scope| {
        let part = |n| move || simulate((first..first + count).filter(|seed| seed % threads == n), Lie::None);
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(part(n))).collect();
        running.into_iter().map(|part| part.join().expect("no panic").unwrap_or_else(|e| panic!("{e}"))).collect()
    });
    let faults: u64 = parts.iter().map(|part| part.0).sum();
    let seen: BTreeSet<&String> = parts.iter().flat_map(|part| &part.1).collect();
    println!("{count} seeds, {faults} faults");
    assert!(count < 100 || seen.len() == Fault::ALL.len() && faults > count, "only {seen:?}, {faults} times");
}

#[test]
fn a_sink_that_does_not_flush_is_found_out() {
    for lie in [Lie::Files, Lie::Folders] {
        let found = simulate(0..200, lie).expect_err("the judge sees nothing");
        println!("{lie:?}: {found}");
    }
}
