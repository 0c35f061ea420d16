//! Every view against its oracle on random histories: retractions, duplicates, any order, any batching, any worker count.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use flowsync_dataflow::{Base, Job, RowsOf, job, views};
use flowsync_schemas::{ColumnKind, Epoch, EpochDelta, Fact, LogPosition, Row, RowsDigest, Signal, Value};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::{
    facts::{history, model, years},
    judge::{self, Tables},
};

fn placed(signals: &[Signal]) -> Vec<(LogPosition, Signal)> {
    (0..).zip(signals).map(|(offset, s)| (LogPosition { partition: 0, offset }, s.clone())).collect()
}

/// All tables after the signals came in these batches.
fn run(batches: &[Vec<(LogPosition, Signal)>], workers: usize, each: &mut dyn FnMut(&EpochDelta, &Tables)) -> Tables {
    let (job, deltas) = judge::job(workers, &model());
    let mut epoch = 0;
    let mut tables = Tables::default();
    let mut lower = Epoch(0);
    for batch in batches {
        epoch += batch.len().max(1) as u64;
        job.push(Epoch(epoch), vec![epoch], batch.clone()).expect("the job runs");
        let delta = deltas.recv().expect("the epoch closes");
        assert_eq!((delta.lower, delta.upper), (lower, Epoch(epoch)), "intervals tile time");
        lower = delta.upper;
        tables.apply(&delta);
        each(&delta, &tables);
    }
    job.finish().expect("no worker died");
    tables
}

/// Brings a job to an epoch, in two parts: views that pass rows on as they come have done so when the second one comes.
fn restore(job: &Job, end: Epoch, tables: &Tables, rows_of: &RowsOf) {
    let mut restoring = job.restore(end, vec![end.0], rows_of).expect("the job runs");
    let Base { facts, signals, rejects } = base(tables);
    restoring.add(Base { rejects, ..Base::default() }).expect("the job runs");
    std::thread::sleep(Duration::from_millis(5));
    restoring.add(Base { facts, signals, ..Base::default() }).expect("the job runs");
    restoring.done().expect("the job runs");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Base rows of the tables, to restore or to retract.
pub fn base(tables: &Tables) -> Base {
    use flowsync_schemas::{
        Record,
        fact::{FACT_TABLES, REJECTS, RejectFact, SIGNALS, SignalFact},
    };
    let facts = (0..)
        .zip(FACT_TABLES)
        .flat_map(|(i, spec)| tables.rows(spec.name).into_iter().map(move |row| Fact::from_row(i, &row)))
        .collect::<Result<_, _>>()
        .expect("rows of facts are facts");
    let signals = tables.rows(SIGNALS.name).iter().map(|r| SignalFact::from_values(r)).collect::<Result<_, _>>();
    let rejects = tables.rows(REJECTS.name).iter().map(|r| RejectFact::from_values(r)).collect::<Result<_, _>>();
    Base { facts, signals: signals.expect("signals"), rejects: rejects.expect("rejects") }
}

/// How many workers there may be.
const WORKERS: [usize; 3] = [1, 2, 4];

fn workers() -> impl Strategy<Value = usize> {
    prop::sample::select(WORKERS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// I5: at every epoch every view equals its oracle; I2: redelivered signals change nothing.
    #[test]
    fn every_view_equals_its_oracle_at_every_epoch(
        signals in history(1..60), cuts in prop::collection::vec(1usize..20, 6), workers in workers(),
    ) {
        let runtime = runtime();
        let mut rest = placed(&signals);
        let mut batches: Vec<Vec<_>> = Vec::new();
        for cut in cuts.into_iter().chain([usize::MAX]) {
            // Every second delivery of the batch before comes again.
            let again: Vec<_> = batches.last().into_iter().flat_map(|before| before.iter().step_by(2)).cloned().collect();
            batches.push(rest.drain(..cut.min(rest.len())).chain(again).collect());
        }
        let model = model();
        let mut failed = None;
        run(&batches, workers, &mut |delta, tables| {
            if failed.is_none() {
                failed = runtime.block_on(judge::verdict(tables, &model)).err().map(|e| format!("epoch {}: {e}", delta.upper));
            }
        });
        prop_assert!(failed.is_none(), "{}", failed.unwrap_or_default());
    }

    /// The same of links that nothing states, over years: some tickets are met that are of another time.
    #[test]
    fn tickets_of_every_time_equal_their_oracle(signals in years()) {
        let tables = run(&[placed(&signals)], 1, &mut |_, _| {});
        prop_assert_eq!(runtime().block_on(judge::verdict(&tables, &model())), Ok(()));
    }

    /// I3: any order, batching, duplication and worker count gives the same rows.
    #[test]
    fn order_batches_duplicates_and_workers_do_not_matter(
        signals in history(1..60), order in any::<u64>(), size in 1usize..25,
    ) {
        let plain = run(&[placed(&signals)], 1, &mut |_, _| {});
        let mut shuffled = placed(&signals);
        fastrand::Rng::with_seed(order).shuffle(&mut shuffled);
        let batches: Vec<Vec<_>> = shuffled.chunks(size).map(|c| c.iter().chain(c.first()).cloned().collect()).collect();
        for workers in WORKERS {
            let other = run(&batches, workers, &mut |_, _| {});
            prop_assert_eq!(plain.difference(&other), Vec::<String>::new(), "{} workers", workers);
        }
    }

    /// I5: when everything is retracted every table is empty. I6: base rows alone give the same views again.
    #[test]
    fn retraction_empties_and_restoring_repeats(signals in history(1..50), workers in workers()) {
        let tables = run(&[placed(&signals)], workers, &mut |_, _| {});
        let base_names: Vec<_> = flowsync_schemas::fact::base_tables().map(|t| t.name).collect();
        let mut views = tables.clone();
        views.0.retain(|name, _| !base_names.contains(name));
        let end = Epoch(signals.len() as u64);

        let (job, deltas) = judge::job(workers, &model());
        restore(&job, end, &tables, &RowsOf::All);
        let mut restored = Tables::default();
        restored.apply(&deltas.recv().expect("the epoch closes"));
        prop_assert_eq!(restored.difference(&views), Vec::<String>::new());

        // Views whose rows nobody asks for are told by their digests.
        let (summing, sums) = judge::job(workers, &model());
        let asked = BTreeSet::from(["links"]);
        restore(&summing, end, &tables, &RowsOf::These(asked.clone()));
        let told = sums.recv().expect("the epoch closes");
        prop_assert!(told.changes.iter().all(|change| asked.contains(change.table)));
        let digest = |view: &str| restored.0.get(view).into_iter().flatten().map(|(row, diff)| (&**row, *diff)).collect();
        let names = views::ALL.iter().map(|view| view.spec.table.name).filter(|view| !asked.contains(view));
        let expected: BTreeMap<_, RowsDigest> = names.map(|view| (view, digest(view))).collect();
        prop_assert_eq!(told.digests, expected);

        // A signal that was restored is known: its redelivery changes nothing.
        job.push(Epoch(end.0 + 1), vec![end.0], placed(&signals)).expect("the job runs");
        let again = deltas.recv().expect("the epoch closes");
        prop_assert!(again.changes.is_empty(), "{:?}", again.changes);

        job.retract(Epoch(end.0 + 2), vec![end.0], base(&tables)).expect("the job runs");
        let mut empty = tables;
        empty.apply(&deltas.recv().expect("the epoch closes"));
        prop_assert_eq!(empty.difference(&Tables::default()), Vec::<String>::new());
        job.finish().expect("no worker died");
    }

    /// The shares of a person-day sum to exactly one, whatever happened on it.
    #[test]
    fn effort_conserves_every_persons_day(signals in history(40..80)) {
        let tables = run(&[placed(&signals)], 1, &mut |_, _| {});
        prop_assert!(judge::days_of_effort(&tables)? > 0, "nobody did anything");
    }
}

/// Another value of the same kind.
fn another(value: &Value, kind: ColumnKind) -> Value {
    match (value, kind) {
        (Value::Null, ColumnKind::Text) => Value::Text("".into()),
        (Value::Null, ColumnKind::Bool) => Value::Bool(false),
        (Value::Null, _) => Value::Int(0),
        (Value::Bool(v), _) => Value::Bool(!v),
        (Value::Int(v), _) => Value::Int(v + 1),
        (Value::Text(v), _) => Value::Text(format!("{v}?").into()),
    }
}

/// The judge is no rubber stamp: a view that is wrong in one value of one row, lacks a row, has one too many, or two of a key, is
/// found, whichever it is.
#[test]
fn the_judge_finds_a_wrong_view() {
    let (runtime, model) = (runtime(), model());
    let mut runner = TestRunner::deterministic();
    let mut unseen: BTreeMap<_, _> = views::ALL.iter().map(|view| (view.spec.table.name, &view.spec.table)).collect();
    // No one history has rows in every view.
    for _ in 0..100 {
        let signals = history(80..81).new_tree(&mut runner).expect("a history").current();
        let right = run(&[placed(&signals)], 1, &mut |_, _| {});
        if !unseen.keys().any(|view| right.0.contains_key(view)) {
            continue;
        }
        let oracles = runtime.block_on(judge::oracle_session(&right, &model));
        unseen.retain(|name, table| {
            let Some((row, _)) = right.0.get(name).and_then(|rows| rows.first_key_value()) else { return true };
            let compare = |tables: &Tables| runtime.block_on(judge::compare(&oracles, tables, table));
            assert_eq!(compare(&right), Ok(()));
            let altered = |alter: &dyn Fn(&mut BTreeMap<Row, i64>)| {
                let mut tables = right.clone();
                alter(tables.0.get_mut(name).expect("the view has rows"));
                tables
            };
            let told = |found: Result<(), String>, what: &str| {
                assert!(found.is_err_and(|found| found.starts_with(name)), "{name}: {what}");
            };
            let lacking = altered(&|rows| {
                rows.remove(row);
            });
            told(compare(&lacking), "a missing row");
            told(runtime.block_on(judge::verdict(&lacking, &model)), "a missing row, before the whole judge");
            for (at, column) in (table.columns)().iter().enumerate() {
                let mut wrong = row.clone();
                wrong[at] = another(&row[at], column.kind);
                let beside = altered(&|rows| {
                    rows.insert(wrong.clone(), 1);
                });
                told(compare(&beside), &format!("a row more, with another {}", column.name));
                let instead = altered(&|rows| {
                    rows.remove(row);
                    rows.insert(wrong.clone(), 1);
                });
                told(compare(&instead), column.name);
            }
            false
        });
    }
    assert!(unseen.is_empty(), "no history has rows of {:?}", unseen.keys());
}

/// Nor are the properties: views that are computed wrongly are found, by the property that they break.
#[test]
fn every_property_finds_the_view_that_breaks_it() {
    let mut runner = TestRunner::deterministic();
    let signals = history(80..81).new_tree(&mut runner).expect("a history").current();
    let plain = run(&[placed(&signals)], 1, &mut |_, _| {});

    // Links are weighed otherwise than their definition says.
    let mut other = model();
    other.prior_millinats += 500;
    assert!(runtime().block_on(judge::verdict(&plain, &other)).is_err());

    // What comes first counts for more: another order gives other rows.
    let by_arrival = |signals: &[Signal]| {
        let arrived = std::sync::atomic::AtomicI64::new(0);
        let read = judge::reader();
        let (job, deltas) = judge::job_reading(
            1,
            &model(),
            std::sync::Arc::new(move |signal| {
                let (mut facts, rejections) = read(signal);
                let place = arrived.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                facts.iter_mut().for_each(|fact| fact.at.0 += place);
                (facts, rejections)
            }),
        );
        job.push(Epoch(signals.len() as u64), vec![], placed(signals)).expect("the job runs");
        let mut tables = Tables::default();
        tables.apply(&deltas.recv().expect("the epoch closes"));
        job.finish().expect("no worker died");
        tables
    };
    let backwards: Vec<Signal> = signals.iter().rev().cloned().collect();
    assert_ne!(by_arrival(&signals).difference(&by_arrival(&backwards)), Vec::<String>::new());

    // Something is left when what it was made of is gone.
    let (job, deltas) = judge::job(1, &model());
    job.push(Epoch(1), vec![], placed(&signals)).expect("the job runs");
    let mut left = Tables::default();
    left.apply(&deltas.recv().expect("the epoch closes"));
    let mut base = base(&left);
    assert!(base.facts.pop().is_some());
    job.retract(Epoch(2), vec![], base).expect("the job runs");
    left.apply(&deltas.recv().expect("the epoch closes"));
    assert_ne!(left.difference(&Tables::default()), Vec::<String>::new());
    job.finish().expect("no worker died");

    // A day has more than its hours.
    assert!(judge::days_of_effort(&plain).is_ok_and(|days| days > 0));
    let mut longer = plain;
    let effort = longer.0.get_mut("effort").expect("somebody did something");
    let (mut row, _) = effort.pop_first().expect("a row");
    row[3] = another(&row[3], ColumnKind::Int);
    effort.insert(row, 1);
    assert!(judge::days_of_effort(&longer).is_err());
}

#[test]
fn epochs_must_grow() {
    let (job, _deltas) = judge::job(1, &model());
    job.push(Epoch(2), vec![2], vec![]).expect("the first");
    assert!(matches!(job.push(Epoch(2), vec![2], vec![]), Err(job::JobError::Order { .. })));
}
