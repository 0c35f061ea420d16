//! Lives of the whole: log, epoch marks, dataflow and sink together, by seed. Deliveries of a simulated organisation are taken
//! in, read, computed and committed, step by step; the process is killed, power is lost, storage fails or is full, at any step
//! of opening, recovering, committing and tidying up, in the middle of an append or of a mark; another build computes everything
//! anew; clocks jump; deliveries come twice and in any order; the disk alters a view. Then the next process takes over what is left.
//!
//! At each start: what was acknowledged is in the log, at its place, once (I1, I2); a commit that was reported is there (I4); the
//! correction is empty, but for views that were altered (I6); epochs end where they did. At the end every table is what an undisturbed job computes of the same log
//! (I3), in one of 41 also what SQL says (I5), and nothing is left over (I9). A failure prints its seed:
//! `FLOWSYNC_SEED=n cargo test -p flowsync --lib from_the_log_to_the_tables` repeats it, `FLOWSYNC_SEEDS=100000` tries more.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod judge;
mod process;
mod senders;
mod world;

use std::collections::BTreeMap;

use flowsync_sinks::disk::{Fault, Lie};

use self::{
    process::{Process, is_brought_about},
    world::{Canary, Judged, World, ensure},
};

/// Processes that may die in one simulation.
const LIVES: usize = 4;
/// Seeds, where nobody says how many, and in CI.
const SEEDS: (u64, u64) = (200, 1_000);
/// Of so many seeds one is also held against SQL.
const IN_SQL: u64 = 41;

/// When something goes wrong in a process.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Never,
    /// At a step of the tables' disk from the start on.
    Early(usize, Fault),
    /// At a step of the tables' disk from a commit on.
    Commit {
        commits: usize,
        steps: usize,
        fault: Fault,
    },
    /// In a commit, when a file gets a name with this in it.
    Naming(&'static str, Fault),
    /// Between two actions.
    Between(usize, Fault),
}

impl Plan {
    fn any(world: &mut World) -> Self {
        let rng = &mut world.rng;
        let fault = Fault::ALL[rng.usize(0..Fault::ALL.len())];
        match rng.u8(0..16) {
            0 => Plan::Never,
            1..=4 => Plan::Early(rng.usize(0..STEPS_OF_A_START), fault),
            5..=10 => Plan::Commit { commits: rng.usize(0..3), steps: rng.usize(0..STEPS_OF_A_COMMIT), fault },
            _ => {
                let fault = if rng.bool() { Fault::KillBefore } else { Fault::PowerLossBefore };
                Plan::Between(rng.usize(0..16), fault)
            }
        }
    }
}

/// About so many steps of the disk are in a start, and in a commit.
const STEPS_OF_A_START: usize = 400;
const STEPS_OF_A_COMMIT: usize = 120;

/// One process, until it dies or has nothing left to do; then it is given back.
fn live(world: &mut World, plan: Plan) -> Judged<Option<Process>> {
    world.disk.start(if let Plan::Early(steps, fault) = plan { Some((steps, fault)) } else { None });
    let mut process = match Process::start(world) {
        Ok(process) => process,
        Err(error) => {
            let fault = survivable(world, &error)?;
            let now = world.files();
            world.end(now, None, fault);
            world.tell(format!("fails to start: {fault:?}"));
            return Ok(None);
        }
    };
    let mut commits = 0;
    for action in 0.. {
        if let Plan::Between(at, fault) = plan
            && at == action
        {
            process.die(world, fault).map_err(|e| format!("{e:#}"))?;
            return Ok(None);
        }
        let done = match world.rng.u8(0..12) {
            0..=3 if world.senders.have_more() => process.take_in(world),
            0..=6 => process.read(world),
            7..=9 => {
                match plan {
                    Plan::Commit { commits: at, steps, fault } if commits == at => {
                        world.disk.plan(Some((steps, fault)));
                    }
                    Plan::Naming(part, fault) if world.disk.fired().is_none() => world.disk.plan_naming(part, fault),
                    _ => {}
                }
                commits += 1;
                process.commit(world)
            }
            10 => process.commit_again(world),
            // What upkeep does not do today it does tomorrow.
            _ => match process.maintain(world) {
                Err(error) if !world.disk.is_dead() => survivable(world, &error).map(drop).map_err(anyhow::Error::msg),
                other => other,
            },
        };
        let dead = world.disk.is_dead();
        match done {
            Ok(()) if !dead => {}
            Ok(()) => break,
            Err(error) => {
                survivable(world, &error)?;
                break;
            }
        }
        if process.is_done(world).map_err(|e| e.to_string())? {
            return Ok(Some(process));
        }
    }
    let fault = world.disk.fired().ok_or("nothing happened")?;
    process.die(world, fault).map_err(|e| format!("{e:#}"))?;
    Ok(None)
}

/// What was brought about, where that is what an error tells of.
fn survivable(world: &World, error: &anyhow::Error) -> Judged<Fault> {
    let fault = world.disk.fired().filter(|_| is_brought_about(world, error));
    fault.ok_or_else(|| format!("after {:?}: {error:#}", world.disk.fired()))
}

/// Whatever goes wrong, several lives in a row; then one in which nothing does, and the judge.
fn simulate(world: &mut World, in_sql: bool) -> Judged<()> {
    for _ in 0..world.rng.usize(1..=LIVES) {
        if world.rng.u8(0..8) == 0 {
            world.build += 1;
        }
        let plan = Plan::any(world);
        world.tell(format!("plan: {plan:?}"));
        if live(world, plan)?.is_some() {
            break;
        }
        if world.rng.u8(0..4) == 0 {
            world.alter();
        }
    }
    finish(world, in_sql)
}

/// A last life without faults, and the judge.
fn finish(world: &mut World, in_sql: bool) -> Judged<()> {
    let process = live(world, Plan::Never)?.ok_or("the last life did not end")?;
    judge::judge(world, process, in_sql)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// One seed; what came to pass.
fn run(seed: u64, canary: Canary, in_sql: bool) -> Judged<Vec<String>> {
    let mut world = World::new(seed, canary);
    let judged = simulate(&mut world, in_sql);
    judged.map_err(|e| format!("FLOWSYNC_SEED={seed}: {e}\n{:#?}", world.story))?;
    Ok(world.story)
}

/// These seeds; how often what came to pass. Panics with the first that failed.
fn all_good(seeds: impl Iterator<Item = u64>) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for seed in seeds {
        let story = run(seed, Canary::None, seed % IN_SQL == 0).unwrap_or_else(|e| panic!("{e}"));
        for word in story.iter().filter_map(|told| told.split_whitespace().next()) {
            *seen.entry(word.to_owned()).or_default() += 1;
        }
    }
    seen
}

#[test]
fn nothing_is_lost_or_doubled_from_the_log_to_the_tables() {
    let (first, count) = match setting("FLOWSYNC_SEED") {
        Some(seed) => (seed, 1),
        None if std::env::var_os("CI").is_some() => (0, setting("FLOWSYNC_SEEDS").unwrap_or(SEEDS.1)),
        None => (0, setting("FLOWSYNC_SEEDS").unwrap_or(SEEDS.0)),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut seen = BTreeMap::<String, u64>::new();
    std::thread::scope(|scope| {
        let part = |n| move || all_good((first..first + count).filter(|seed| seed % threads == n));
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(part(n))).collect();
        let parts = running.into_iter().map(|part| part.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        parts.flatten().for_each(|(word, times)| *seen.entry(word).or_default() += times);
    });
    println!("{count} seeds: {seen:?}");
    let often = |word: &str, times: u64| seen.get(word).is_some_and(|seen| *seen >= times);
    let met = often("dies", count / 2)
        && ["rebuilds", "recommits", "appends", "marks", "fails", "repairs"].iter().all(|word| often(word, count / 20))
        && often("reconciles", count);
    assert!(count < 100 || met, "{seen:?}");
}

#[test]
fn a_seed_repeats_what_happened() {
    for seed in 1..7 {
        let stories = [0, 1].map(|_| run(seed, Canary::None, false).unwrap_or_else(|e| panic!("{e}")));
        assert_eq!(stories[0], stories[1]);
    }
}

#[test]
fn what_does_not_flush_or_forgets_is_found_out() {
    let sinks = [Lie::Files, Lie::Folders].map(Canary::Sink);
    for canary in sinks.into_iter().chain([Canary::Log, Canary::Restart, Canary::Commit]) {
        let found = (0..60).find_map(|seed| run(seed, canary, false).err()).expect("the judge sees nothing");
        println!("{canary:?}: {}", found.lines().next().unwrap_or_default());
    }
}

/// A world in which some epochs are committed, and in which something is left to be done.
fn begun(seed: u64) -> World {
    let mut world = World::new(seed, Canary::None);
    world.disk.start(None);
    let begin = |world: &mut World| -> anyhow::Result<()> {
        let mut process = Process::start(world)?;
        for _ in 0..3 {
            process.take_in(world)?;
            process.read(world)?;
            process.commit(world)?;
        }
        process.take_in(world)?;
        process.die(world, Fault::KillBefore)
    };
    begin(&mut world).unwrap();
    world
}

fn good(mut world: World, judged: Judged<()>) {
    judged.and_then(|()| finish(&mut world, false)).unwrap_or_else(|e| panic!("{e}\n{:#?}", world.story));
}

#[test]
fn two_quick_restarts_in_a_row() {
    for (seed, faults) in [
        [Fault::KillBefore, Fault::KillBefore],
        [Fault::PowerLossBefore, Fault::KillBefore],
        [Fault::KillBefore, Fault::PowerLossBefore],
        [Fault::PowerLossBefore, Fault::PowerLossBefore],
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = begun(seed as u64);
        let restarted = faults.into_iter().try_for_each(|fault| live(&mut world, Plan::Between(0, fault)).map(drop));
        good(world, restarted);
    }
}

#[test]
fn a_crash_during_recovery() {
    let faults = [Fault::KillBefore, Fault::PowerLossAfter];
    for (seed, fault) in faults.into_iter().enumerate() {
        let mut world = begun(seed as u64);
        let before = world.disk.steps();
        let mut crashed = live(&mut world, Plan::Between(0, Fault::KillBefore)).map(drop);
        let steps = world.disk.steps() - before;
        // Every crash leaves the next one another recovery.
        for part in 0..10 {
            crashed = crashed.and_then(|()| {
                let left = live(&mut world, Plan::Early(part * steps / 10, fault))?;
                ensure(left.is_none() && world.disk.fired().is_some(), || "nothing crashed".into())
            });
        }
        good(world, crashed);
    }
}

/// The process dies, or hears of a failure, at the moment that a file gets a name with this in it, in a commit.
fn at_naming(seed: u64, part: &'static str, fault: Fault) {
    let mut world = begun(seed);
    let ended = live(&mut world, Plan::Naming(part, fault)).and_then(|left| {
        ensure(world.disk.fired() == Some(fault), || format!("nothing was named {part}"))?;
        // What is reported as failed is tried again, and the process goes on.
        ensure(left.is_some() == (fault == Fault::ErrorAfter), || "it goes on, or not".into())
    });
    good(world, ended);
}

#[test]
fn a_kill_between_data_files_and_commit() {
    for (seed, fault) in [Fault::KillBefore, Fault::PowerLossBefore].into_iter().enumerate() {
        // The first table's, and when all tables have theirs, the manifest's.
        at_naming(seed as u64, "/_delta_log/", fault);
        at_naming(seed as u64, "/manifests/", fault);
    }
}

#[test]
fn a_commit_retried_after_success() {
    // It was done, and reported as failed.
    at_naming(1, "/_delta_log/", Fault::ErrorAfter);
    at_naming(2, "/manifests/", Fault::ErrorAfter);
    // It was done, and nobody heard of it.
    at_naming(3, "/manifests/", Fault::KillAfter);
    // Somebody asks again, in the same process and in the next.
    let mut world = begun(4);
    world.disk.start(None);
    let again = |world: &mut World| -> anyhow::Result<()> {
        let mut process = Process::start(world)?;
        while process.last.is_none() {
            process.take_in(world)?;
            process.read(world)?;
            process.commit(world)?;
        }
        process.commit_again(world)?;
        let last = process.last.take();
        process.die(world, Fault::KillBefore)?;
        world.disk.start(None);
        let mut process = Process::start(world)?;
        process.last = last;
        process.commit_again(world)?;
        process.die(world, Fault::KillBefore)
    };
    let asked = again(&mut world).map_err(|e| format!("{e:#}"));
    good(world, asked);
}
