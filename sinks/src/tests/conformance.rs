//! What every sink has to do, over every sink there is (one today): random histories against the model, epochs of the
//! past, restarts, repetition, refusal.

use std::path::Path;

use flowsync_schemas::{Epoch, EpochDelta};
use proptest::prelude::*;
use tempfile::TempDir;

use super::model::{self, Tables, difference, histories, play, read_back, run};
use crate::{Grouping, GroupingOptions, Sink, SinkError};

/// A kind of sink: how it is opened, and how an outsider reads it.
trait Kind {
    type Sink: Committer;
    async fn open(dir: &Path) -> Self::Sink;
    async fn epochs(dir: &Path) -> Vec<Epoch>;
    async fn read(dir: &Path, epoch: Epoch) -> Tables;
}

trait Committer {
    async fn commit(&mut self, delta: EpochDelta) -> Result<Epoch, SinkError>;
    fn committed(&self) -> Epoch;
    async fn load(&self) -> Tables;
}

/// Parquet in Delta Lake tables.
struct Delta;

impl Kind for Delta {
    type Sink = Sink;

    async fn open(dir: &Path) -> Sink {
        model::open(dir).await.unwrap()
    }

    async fn epochs(dir: &Path) -> Vec<Epoch> {
        model::epochs(dir)
    }

    async fn read(dir: &Path, epoch: Epoch) -> Tables {
        read_back(dir, epoch).await
    }
}

impl Committer for Sink {
    async fn commit(&mut self, delta: EpochDelta) -> Result<Epoch, SinkError> {
        Sink::commit(self, delta).await.map(|m| m.epoch)
    }

    fn committed(&self) -> Epoch {
        Sink::committed(self).unwrap().epoch
    }

    async fn load(&self) -> Tables {
        model::loaded(self).await
    }
}

/// Every epoch reads as the model had it, also later; a restart in between changes nothing.
async fn history_is_kept<K: Kind>(history: &[Vec<model::Step>], restart_at: usize) {
    let dir = TempDir::new().unwrap();
    let (deltas, states) = play(history);
    let mut sink = K::open(dir.path()).await;
    assert_eq!(K::read(dir.path(), Epoch(0)).await, states[0], "every table can be read from the start");
    for (at, delta) in deltas.iter().enumerate() {
        if at == restart_at {
            drop(sink);
            sink = K::open(dir.path()).await;
        }
        assert_eq!(sink.commit(delta.clone()).await.unwrap(), delta.upper);
        assert_eq!(sink.load().await, states[at + 1]);
    }
    let epochs = K::epochs(dir.path()).await;
    assert_eq!(epochs.len(), states.len());
    for (epoch, state) in epochs.iter().zip(&states) {
        assert_eq!(&K::read(dir.path(), *epoch).await, state, "as of {epoch}");
    }
}

/// The same delta again is answered, and changes nothing; a gap, an overlap and a step back are refused.
async fn epochs_tile_time<K: Kind>(history: &[Vec<model::Step>]) {
    let dir = TempDir::new().unwrap();
    let (deltas, states) = play(history);
    let mut sink = K::open(dir.path()).await;
    for delta in &deltas {
        sink.commit(delta.clone()).await.unwrap();
        assert_eq!(sink.commit(delta.clone()).await.unwrap(), delta.upper);
    }
    let last = deltas.last().unwrap();
    for (lower, upper) in [(last.upper.0 + 1, last.upper.0 + 2), (last.lower.0, last.upper.0 + 1), (0, 0), (90, 80)] {
        let wrong = EpochDelta { lower: Epoch(lower), upper: Epoch(upper), ..last.clone() };
        assert!(matches!(sink.commit(wrong).await, Err(SinkError::OutOfOrder { .. })), "[{lower}, {upper})");
    }
    assert_eq!(sink.committed(), last.upper);
    assert_eq!(&K::read(dir.path(), last.upper).await, states.last().unwrap());
}

/// Epochs committed in groups end where single ones do.
async fn groups_end_alike<K: Kind>(history: &[Vec<model::Step>]) {
    let dir = TempDir::new().unwrap();
    let (deltas, states) = play(history);
    let mut grouping = Grouping::new(GroupingOptions::default());
    let upper = deltas.last().unwrap().upper;
    for delta in deltas {
        grouping.push(delta, std::time::Instant::now()).unwrap();
    }
    let mut sink = K::open(dir.path()).await;
    sink.commit(grouping.take().unwrap()).await.unwrap();
    assert_eq!(&K::read(dir.path(), upper).await, states.last().unwrap());
}

/// Differences that do not fit leave the committed epoch as it is, and the sink usable.
async fn divergence_is_refused<K: Kind>(history: &[Vec<model::Step>]) {
    let dir = TempDir::new().unwrap();
    let (deltas, states) = play(history);
    let mut sink = K::open(dir.path()).await;
    for delta in &deltas {
        sink.commit(delta.clone()).await.unwrap();
    }
    let (upper, state) = (deltas.last().unwrap().upper, states.last().unwrap());
    let mut wrong = state.clone();
    wrong.get_mut("people").unwrap().insert(super::specs::event("nobody", 1, 1));
    let retraction = difference(&wrong, state, upper.0, upper.0 + 1);
    let error = sink.commit(retraction).await.unwrap_err();
    assert!(error.calls_for_rebuild() && !error.is_retryable(), "{error}");
    assert_eq!(&K::read(dir.path(), upper).await, state);
    sink.commit(difference(state, &wrong, upper.0, upper.0 + 1)).await.unwrap();
    assert_eq!(K::read(dir.path(), Epoch(upper.0 + 1)).await, wrong);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn delta_keeps_every_history(history in histories(7), restart_at in 0..7usize) {
        run(history_is_kept::<Delta>(&history, restart_at));
    }

    #[test]
    fn delta_ends_alike_in_groups(history in histories(6)) {
        run(groups_end_alike::<Delta>(&history));
    }
}

fn some_history() -> Vec<Vec<model::Step>> {
    let step = |table, id, row| model::Step { table, id, row };
    let many = |time: i64| (0..20u8).flat_map(move |id| (0..3).map(move |t| step(t, id, Some((time, i64::from(id))))));
    vec![many(1).collect(), vec![step(0, 3, None), step(2, 4, Some((3, 9)))], many(2).collect()]
}

#[test]
fn delta_tiles_time() {
    run(epochs_tile_time::<Delta>(&some_history()));
}

#[test]
fn delta_refuses_divergence() {
    run(divergence_is_refused::<Delta>(&some_history()));
}
