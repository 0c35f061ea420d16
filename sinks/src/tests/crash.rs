//! A crash, or a hiccup of the storage, at every single write of a life: opening, commits, checkpoints, retirement. Never
//! a mix, never twice, never less than what was acknowledged.

use std::{path::Path, sync::Arc};

use flowsync_schemas::{Epoch, EpochDelta};
use tempfile::TempDir;

use super::{
    fault::{Fault, FaultyStore},
    model::{PROGRAM, Step, Tables, catalogue, epochs, full, loaded, open, options, play, read_back, run},
};
use crate::{Sink, SinkError, SinkOptions, merge};

fn history() -> Vec<Vec<Step>> {
    let step = |table, id, row| Step { table, id, row };
    vec![
        (0..6).flat_map(|id| (0..3).map(move |t| step(t, id, Some((1, 1))))).collect(),
        vec![step(0, 1, Some((1, 2))), step(1, 9, Some((2, 2))), step(2, 2, None)],
        vec![step(0, 2, Some((3, 3))), step(2, 2, Some((1, 5)))],
        (0..6).map(|id| step(0, id, None)).collect(),
    ]
}

/// Upkeep at its most eager, so that its writes are among those that fail.
fn eager() -> SinkOptions {
    SinkOptions { manifests_max: 2, checkpoint_interval: 2, grace: std::time::Duration::ZERO, ..options() }
}

async fn open_on(store: &FaultyStore, dir: &Path) -> Result<Sink, SinkError> {
    Sink::open_on(Arc::new(store.clone()), dir, catalogue(), PROGRAM.to_owned(), eager()).await
}

/// Commits all deltas on a faulty store; returns the last epoch that was acknowledged.
async fn live(store: &FaultyStore, dir: &Path, deltas: &[EpochDelta]) -> Epoch {
    let Ok(mut sink) = open_on(store, dir).await else { return Epoch(0) };
    let mut acknowledged = Epoch(0);
    for delta in deltas {
        match sink.commit(delta.clone()).await {
            Ok(manifest) => acknowledged = manifest.epoch,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                return acknowledged;
            }
        }
    }
    acknowledged
}

/// All kept epochs read as the model had them.
async fn check(dir: &Path, deltas: &[EpochDelta], states: &[Tables]) -> usize {
    let mut newest = 0;
    for epoch in epochs(dir) {
        newest = deltas.iter().position(|d| d.upper == epoch).map_or(0, |at| at + 1);
        assert_eq!(read_back(dir, epoch).await, states[newest], "epoch {epoch}");
    }
    newest
}

async fn crash_at(fault: Fault, at: usize) -> bool {
    let dir = TempDir::new().unwrap();
    let (deltas, states) = play(&history());
    let store = FaultyStore::new(fault, at);
    let acknowledged = live(&store, dir.path(), &deltas).await;
    let mut sink = Sink::open(dir.path(), catalogue(), PROGRAM.to_owned(), eager()).await.unwrap();
    let committed = sink.committed().unwrap().epoch;
    assert!(committed >= acknowledged, "step {at}: {committed} after {acknowledged} was acknowledged");
    let newest = check(dir.path(), &deltas, &states).await;
    assert_eq!(loaded(&sink).await, states[newest]);
    // What is left, as one delta: the next attempt need not have the bounds of the one that failed.
    if let Some(rest) = merge(deltas[newest..].to_vec()).unwrap() {
        sink.commit(rest).await.unwrap();
    }
    let newest = check(dir.path(), &deltas, &states).await;
    assert_eq!(newest, deltas.len());
    assert!(sink.reconcile(full(&states[newest], deltas[newest - 1].upper.0)).await.unwrap().is_empty());
    store.fired()
}

#[test]
fn a_crash_at_every_write_leaves_one_epoch() {
    run(async {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let mut at = 0;
            while crash_at(fault, at).await {
                at += 1;
            }
            assert!(at > 30, "only {at} steps");
        }
    });
}

#[test]
fn a_hiccup_at_every_write_is_answered_by_a_retry() {
    run(async {
        for fault in [Fault::HiccupBefore, Fault::HiccupAfter] {
            let (deltas, states) = play(&history());
            for at in 0.. {
                let dir = TempDir::new().unwrap();
                let store = FaultyStore::new(fault, at);
                let mut sink = match open_on(&store, dir.path()).await {
                    Ok(sink) => sink,
                    Err(_) => open_on(&store, dir.path()).await.unwrap(),
                };
                for delta in &deltas {
                    if let Err(error) = sink.commit(delta.clone()).await {
                        assert!(error.is_retryable(), "step {at}: {error}");
                        sink.commit(delta.clone()).await.unwrap();
                    }
                }
                assert_eq!(check(dir.path(), &deltas, &states).await, deltas.len());
                assert_eq!(&loaded(&sink).await, states.last().unwrap());
                if !store.fired() {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_crash_during_a_repair_or_a_rebuild_leaves_the_one_or_the_other() {
    run(async {
        let (deltas, states) = play(&history());
        let (upper, right) = (deltas[2].upper.0, &states[3]);
        let mut other = states[2].clone();
        other.get_mut("people").unwrap().clear();
        for (program, fault) in [PROGRAM, "test 2"]
            .into_iter()
            .flat_map(|p| [Fault::CrashBefore, Fault::CrashAfter].map(|fault| (p, fault)))
        {
            for at in 0.. {
                let dir = TempDir::new().unwrap();
                let mut sink = open(dir.path()).await.unwrap();
                for delta in &deltas[..3] {
                    sink.commit(delta.clone()).await.unwrap();
                }
                drop(sink);
                let store = FaultyStore::new(fault, at);
                let opened =
                    Sink::open_on(Arc::new(store.clone()), dir.path(), catalogue(), program.to_owned(), options())
                        .await;
                if let Ok(mut sink) = opened {
                    // Facts differ as well: only a rebuild looks at them.
                    let _ = match program {
                        PROGRAM => sink.reconcile(full(&other, upper)).await.map(|_| ()),
                        _ => sink.rebuild(full(&other, upper)).await.map(|_| ()),
                    };
                }
                let mut expected = other.clone();
                if program == PROGRAM {
                    expected.insert("fact_things", right["fact_things"].clone());
                }
                let mut sink = Sink::open(dir.path(), catalogue(), program.into(), options()).await.unwrap();
                let found = read_back(dir.path(), Epoch(upper)).await;
                assert!(found == *right || found == expected, "step {at} of {program}: a mix");
                match program {
                    PROGRAM => drop(sink.reconcile(full(&other, upper)).await.unwrap()),
                    _ => drop(sink.rebuild(full(&other, upper)).await.unwrap()),
                }
                assert_eq!(read_back(dir.path(), Epoch(upper)).await, expected);
                if !store.fired() {
                    break;
                }
            }
        }
    });
}

#[test]
fn a_table_ahead_of_the_manifest_is_brought_back_for_every_reader() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (deltas, states) = play(&history());
        let mut sink = open(dir.path()).await.unwrap();
        sink.commit(deltas[0].clone()).await.unwrap();
        sink.commit(deltas[1].clone()).await.unwrap();
        drop(sink);
        // As if the process had ended between the tables' commits and the manifest.
        std::fs::remove_file(dir.path().join(format!("manifests/{:020}.json", deltas[1].upper.0))).unwrap();
        let sink = open(dir.path()).await.unwrap();
        assert_eq!(sink.committed().unwrap().epoch, deltas[0].upper);
        for spec in super::model::specs() {
            let newest: std::collections::BTreeSet<_> =
                super::model::read_table(dir.path(), &spec, None).await.into_iter().collect();
            assert_eq!(newest, states[1][spec.name], "the newest version of {}", spec.name);
        }
    });
}
