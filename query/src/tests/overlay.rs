//! I4 as a property: whatever is laid on and committed, in whatever rhythm, every snapshot shows one epoch, whole.

use std::{collections::BTreeMap, sync::Arc};

use flowsync_schemas::{Epoch, EpochDelta, Row, TableVersion, Value};
use proptest::prelude::*;

use super::kit::{Store, THINGS, TOTAL, change, delta, thing, total};
use crate::{AsOf, Engine, Snapshot, delta::DeltaTables};

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// An epoch closes in which these keys get this note, or disappear.
    Close(Vec<(u8, Option<u8>)>),
    /// A commit covers all but the newest `n` closed epochs.
    Commit(usize),
    /// Someone takes a snapshot and keeps it.
    Hold,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec((0u8..6, proptest::option::of(0u8..3)), 0..4).prop_map(Step::Close),
        2 => (0usize..4).prop_map(Step::Commit),
        1 => Just(Step::Hold),
    ]
}

type Contents = BTreeMap<u8, Row>;

struct World {
    store: Store,
    engine: Engine,
    /// Contents of things at every closed epoch, from epoch 0.
    history: Vec<Contents>,
    committed: usize,
    held: Vec<Snapshot>,
}

fn row(key: u8, note: u8) -> Row {
    let ids = [None, Some("a"), Some("b,")];
    thing(ids[usize::from(key % 3)], i64::from(key / 3), ["", "x", "y"][usize::from(note)])
}

fn rows(contents: &Contents) -> Vec<Row> {
    contents.values().cloned().collect()
}

impl World {
    fn newest(&self) -> usize {
        self.history.len() - 1
    }

    fn closed(&self, lower: usize, upper: usize) -> Arc<EpochDelta> {
        let (before, after) = (&self.history[lower], &self.history[upper]);
        let totals = |c: &Contents| vec![total(c.len())];
        let before_total = if lower == 0 { vec![] } else { totals(before) };
        let changes =
            vec![change("things", &rows(before), &rows(after)), change("total", &before_total, &totals(after))];
        delta(lower as u64, upper as u64, changes)
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Close(keys) => {
                let mut contents = self.history[self.newest()].clone();
                for (key, note) in keys {
                    match note {
                        Some(note) => contents.insert(*key, row(*key, *note)),
                        None => contents.remove(key),
                    };
                }
                self.history.push(contents);
                self.engine.overlay().apply(self.closed(self.newest() - 1, self.newest()));
            }
            Step::Commit(behind) => {
                let epoch = self.newest().saturating_sub(*behind);
                if epoch > self.committed {
                    let contents = &self.history[epoch];
                    let tables = [(&THINGS.table, rows(contents)), (&TOTAL.table, vec![total(contents.len())])];
                    self.store.commit(epoch as u64, &tables).await;
                    self.committed = epoch;
                    // Between the manifest and the word of it, readers must not mix the two.
                    self.check(&self.engine.snapshot(AsOf::Newest).await.unwrap(), self.newest()).await;
                    self.engine.overlay().committed(Epoch(epoch as u64));
                }
            }
            Step::Hold => self.held.push(self.engine.snapshot(AsOf::Newest).await.unwrap()),
        }
    }

    async fn check(&self, snapshot: &Snapshot, epoch: usize) {
        assert_eq!(snapshot.epoch(), Epoch(epoch as u64));
        let mut expected = rows(&self.history[epoch]);
        expected.sort();
        let found = snapshot.rows("select * from Things", &[]).await.unwrap();
        let mut found: Vec<Row> = found.into_iter().map(|r| r.values).collect();
        found.sort();
        assert_eq!(found, expected, "things at epoch {epoch}");
        let both = "select (select count(*) from things) as a, (select things from total) as b";
        let both = &snapshot.rows(both, &[]).await.unwrap()[0];
        if epoch > 0 {
            assert_eq!(both.int("a").unwrap(), both.int("b").unwrap(), "two tables at epoch {epoch}");
        }
        let even = snapshot.rows("select count(*) as n from things where flag and id = 'a'", &[]).await.unwrap();
        let counted = expected.iter().filter(|r| r[0] == Value::Bool(true) && r[1].as_text() == Some("a")).count();
        assert_eq!(even[0].int("n").unwrap(), counted as i64);
    }

    async fn check_all(&self) {
        self.check(&self.engine.snapshot(AsOf::Newest).await.unwrap(), self.newest()).await;
        for held in &self.held {
            self.check(held, held.epoch().0 as usize).await;
        }
        for epoch in self.committed..=self.newest() {
            let named = self.engine.snapshot(AsOf::Epoch(Epoch(epoch as u64))).await.unwrap();
            self.check(&named, epoch).await;
        }
    }
}

async fn live_through(steps: &[Step]) {
    let store = Store::new();
    let engine = store.engine();
    engine.overlay().committed(Epoch(0));
    let outside = store.engine();
    let mut world = World { store, engine, history: vec![Contents::new()], committed: 0, held: Vec::new() };
    for step in steps {
        world.take(step).await;
        world.check_all().await;
        // A reader elsewhere sees commits, and opens each anew or from the one before.
        world.check(&outside.snapshot(AsOf::Newest).await.unwrap(), world.committed).await;
    }
    // One that comes late replays the log from a checkpoint.
    let late = world.store.engine();
    world.check(&late.snapshot(AsOf::Newest).await.unwrap(), world.committed).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_snapshot_shows_one_epoch(steps in proptest::collection::vec(step(), 1..16)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live_through(&steps));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_projections_reach_the_files_with_and_without_an_overlay() {
    let mut store = Store::new();
    let rows: Vec<Row> = (0..50).map(|part| thing(Some("a"), part, "x")).collect();
    store.commit(1, &[(&THINGS.table, rows)]).await;
    let engine = store.engine();
    let explain = "explain select note from things where id = 'a' and part = 7";
    let plan = |engine: Engine| async move {
        let rows = engine.snapshot(AsOf::Newest).await.unwrap().rows(explain, &[]).await.unwrap();
        rows.last().unwrap().text("plan").unwrap().to_owned()
    };
    let alone = plan(engine.clone()).await;
    assert!(alone.contains("predicate=id") && !alone.contains("Join") && !alone.contains("day"), "{alone}");
    engine.overlay().apply(delta(1, 2, vec![change("things", &[], &[thing(Some("b"), 1, "x")])]));
    let laid = plan(engine.clone()).await;
    assert!(laid.contains("predicate=id") && laid.contains("Anti") && !laid.contains("day"), "{laid}");
    // The few touched keys are the side that is kept in memory, not the table.
    assert!(laid.contains("RightAnti"), "{laid}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_list_that_was_advanced_equals_one_that_was_replayed() {
    let mut store = Store::new();
    let dir = store.dir.path().canonicalize().unwrap();
    let tables = || {
        let files = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(&dir).unwrap());
        DeltaTables::new(url::Url::from_directory_path(&dir).unwrap(), files, 0)
    };
    let advanced = tables();
    let listed = |delta| TableVersion { view: 1, delta, rows: 0, files: None };
    for epoch in 1..=8u64 {
        let rows: Vec<Row> = (0..epoch).map(|part| thing(Some("a"), part as i64, &epoch.to_string())).collect();
        store.commit(epoch, &[(&THINGS.table, rows)]).await;
        let step = advanced.open("things", listed(epoch)).await.unwrap();
        let replayed = tables().open("things", listed(epoch)).await.unwrap();
        assert_eq!(step.files, replayed.files, "version {epoch}");
    }
    // An older version again, and one that is not there.
    assert_eq!(
        advanced.open("things", listed(2)).await.unwrap().files,
        tables().open("things", listed(2)).await.unwrap().files
    );
    let error = advanced.open("things", listed(9)).await.unwrap_err();
    assert!(error.to_string().contains("things") && error.to_string().contains("version 9"), "{error}");
}
