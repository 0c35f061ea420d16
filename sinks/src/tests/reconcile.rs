//! Self-correction (I6), views of another version, other programs: what is found, what is repaired, what is refused.

use std::collections::{BTreeMap, BTreeSet};

use flowsync_schemas::{Epoch, Row, RowsDigest, TableSpec, Value};
use tempfile::TempDir;

use super::{
    model::{
        PROGRAM, Step, Tables, catalogue, difference, full, loaded, manifest, open, options, play, read_back, rows_of,
        run, specs,
    },
    specs::{EVENTS, FACTS, PEOPLE, event},
};
use crate::{Catalogue, Sink, SinkError, TableCorrection};

fn history() -> Vec<Vec<Step>> {
    let steps = |n: i64| (0..9u8).flat_map(move |id| (0..3).map(move |table| Step { table, id, row: Some((1, n)) }));
    vec![steps(1).collect(), steps(2).collect()]
}

async fn committed(dir: &TempDir) -> (Sink, u64, Tables) {
    let (deltas, mut states) = play(&history());
    let mut sink = open(dir.path()).await.unwrap();
    for delta in &deltas {
        sink.commit(delta.clone()).await.unwrap();
    }
    (sink, deltas.last().unwrap().upper.0, states.pop().unwrap())
}

fn first_file(dir: &TempDir, table: &str) -> std::path::PathBuf {
    let listed = manifest_files(dir, table);
    listed.into_iter().next().unwrap()
}

/// The files of the newest version of a table, by its log.
fn manifest_files(dir: &TempDir, table: &str) -> Vec<std::path::PathBuf> {
    let folder = dir.path().join("tables").join(table);
    let mut live = std::collections::BTreeSet::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder.join("_delta_log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    entries.sort();
    for entry in entries {
        for line in std::fs::read_to_string(entry).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                live.insert(path.to_owned());
            }
            if let Some(path) = action["remove"]["path"].as_str() {
                live.remove(path);
            }
        }
    }
    live.into_iter().map(|file| folder.join(file)).collect()
}

#[test]
fn nothing_to_correct_writes_nothing() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (mut sink, upper, state) = committed(&dir).await;
        let before = manifest(dir.path(), Epoch(upper));
        assert!(sink.reconcile(full(&state, upper)).await.unwrap().is_empty());
        assert_eq!(manifest(dir.path(), Epoch(upper)), before);
        let late = sink.reconcile(full(&state, upper + 1)).await;
        assert!(matches!(late, Err(SinkError::OutOfOrder { .. })));
    });
}

/// What a digest says of rows.
fn digests(state: &Tables) -> BTreeMap<&'static str, RowsDigest> {
    let digest = |rows: &BTreeSet<Row>| rows.iter().map(|row| (&**row, 1)).collect();
    state.iter().filter(|(table, _)| **table != FACTS.name).map(|(table, rows)| (*table, digest(rows))).collect()
}

#[test]
fn a_digest_finds_the_views_that_differ() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (mut sink, _, state) = committed(&dir).await;
        let right = digests(&state);
        assert_eq!(sink.differing(&right).await.unwrap(), BTreeSet::new());
        for view in right.keys() {
            let mut other = state.clone();
            let mut row = other.get_mut(view).unwrap().pop_first().unwrap();
            assert_eq!(sink.differing(&digests(&other)).await.unwrap(), BTreeSet::from([*view]), "a row less");
            row[2] = Value::Int(99);
            other.get_mut(view).unwrap().insert(row);
            assert_eq!(sink.differing(&digests(&other)).await.unwrap(), BTreeSet::from([*view]), "another row");
        }
        std::fs::remove_file(first_file(&dir, "events")).unwrap();
        assert_eq!(sink.differing(&right).await.unwrap(), BTreeSet::from(["events"]), "a file is missing");
        let gone = digests(&state.into_iter().filter(|(view, _)| *view == "people").collect());
        assert_eq!(sink.differing(&gone).await.unwrap(), BTreeSet::new(), "of the others nothing was told");
    });
}

#[test]
fn views_that_are_told_by_a_digest_are_left_alone() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (mut sink, upper, mut state) = committed(&dir).await;
        let told = digests(&state);
        state.values_mut().for_each(|rows| drop(rows.pop_first()));
        let mut full = full(&state, upper);
        full.changes.retain(|change| change.table == "people");
        full.digests = told.into_iter().filter(|(view, _)| *view != "people").collect();
        let correction = sink.reconcile(full).await.unwrap();
        assert_eq!(correction.tables.keys().collect::<Vec<_>>(), ["people"]);
        assert_eq!(correction.tables["people"].extra, 1);
    });
}

#[test]
fn a_difference_is_counted_and_repaired() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (mut sink, upper, mut state) = committed(&dir).await;
        let events = state.get_mut("events").unwrap();
        let gone: Row = events.pop_first().unwrap();
        let mut changed = events.pop_first().unwrap();
        changed[2] = Value::Int(99);
        events.insert(changed);
        events.insert(event("new", 77_000_000, 1));
        events.insert(event("newer", -77_000_000, 1));
        let correction = sink.reconcile(full(&state, upper)).await.unwrap();
        let found = correction.tables["events"];
        assert_eq!((found.missing, found.extra), (3, 2), "{gone:?}");
        assert_eq!(correction.tables.len(), 1);
        assert_eq!(read_back(dir.path(), Epoch(upper)).await, state);
        assert!(sink.reconcile(full(&state, upper)).await.unwrap().is_empty());
        let mut next = state.clone();
        next.get_mut("events").unwrap().clear();
        sink.commit(difference(&state, &next, upper, upper + 1)).await.unwrap();
        assert_eq!(read_back(dir.path(), Epoch(upper + 1)).await, next);
    });
}

#[test]
fn a_damaged_view_is_written_anew() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (mut sink, upper, state) = committed(&dir).await;
        std::fs::remove_file(first_file(&dir, "events")).unwrap();
        std::fs::write(first_file(&dir, "people"), "no Parquet").unwrap();
        let correction = sink.reconcile(full(&state, upper)).await.unwrap();
        assert_eq!(correction.tables.keys().collect::<Vec<_>>(), ["events", "people"]);
        assert!(correction.tables.values().all(|t| matches!(t, TableCorrection { missing: 1.., extra: 0, .. })));
        assert_eq!(read_back(dir.path(), Epoch(upper)).await, state);
    });
}

#[test]
fn damaged_facts_are_rebuilt_from_the_log() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (mut sink, upper, state) = committed(&dir).await;
        std::fs::remove_file(first_file(&dir, FACTS.name)).unwrap();
        assert!(rows_of(sink.load(FACTS.name)).await.unwrap_err().calls_for_rebuild());
        sink.rebuild(full(&state, upper)).await.unwrap();
        assert_eq!(read_back(dir.path(), Epoch(upper)).await, state);
        assert_eq!(loaded(&sink).await, state);
        let back = sink.rebuild(full(&state, upper - 1)).await;
        assert!(matches!(back, Err(SinkError::OutOfOrder { .. })), "the log lost signals");
    });
}

fn wider() -> Vec<flowsync_schemas::ColumnSpec> {
    let mut columns = (EVENTS.columns)();
    columns[2].name = "pieces";
    columns
}

#[test]
fn a_view_of_another_version_is_replaced_and_the_past_stays() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (sink, upper, state) = committed(&dir).await;
        drop(sink);
        let events = TableSpec { version: 2, columns: wider, ..EVENTS };
        let added = TableSpec { name: "added", ..PEOPLE };
        let next = Catalogue { base: vec![FACTS], views: vec![events, PEOPLE, added] };
        for _ in 0..2 {
            let mut sink = Sink::open(dir.path(), next.clone(), PROGRAM.into(), options()).await.unwrap();
            assert!(!sink.needs_rebuild());
            assert_eq!(sink.committed().unwrap().epoch, Epoch(upper));
            assert_eq!(rows_of(sink.load(FACTS.name)).await.unwrap().len(), state[FACTS.name].len());
            assert_eq!(sink.stale_views(), ["added", "events"]);
            let empty = difference(&state, &state, upper, upper + 1);
            assert!(matches!(sink.commit(empty).await, Err(SinkError::NeedsReconcile(_))));
            assert_eq!(read_back(dir.path(), Epoch(upper)).await, state, "the old version can be read until then");
        }
        let mut sink = Sink::open(dir.path(), next.clone(), PROGRAM.into(), options()).await.unwrap();
        let correction = sink.reconcile(full(&state, upper)).await.unwrap();
        assert!(correction.is_empty());
        assert_eq!(correction.replaced.iter().collect::<Vec<_>>(), ["added", "events"]);
        let now = manifest(dir.path(), Epoch(upper));
        assert_eq!(now.tables["events"].view, 2);
        let rows = super::model::read_table(dir.path(), &events, Some(now.tables["events"].delta)).await;
        assert_eq!(rows.into_iter().collect::<std::collections::BTreeSet<_>>(), state["events"]);
        sink.commit(difference(&state, &state, upper, upper + 1)).await.unwrap();
        drop(sink);
        // The epoch before has the view as it was then.
        assert_eq!(read_back(dir.path(), Epoch(upper - 10)).await["events"].len(), 9);
        // Back to the older program: its view is another version again.
        let sink = open(dir.path()).await.unwrap();
        assert_eq!(sink.stale_views(), ["events"]);
    });
}

#[test]
fn another_program_or_other_facts_call_for_a_rebuild() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (sink, upper, state) = committed(&dir).await;
        drop(sink);
        let facts = TableSpec { version: 2, ..FACTS };
        let mut other = state.clone();
        other.get_mut("fact_things").unwrap().pop_first();
        other.get_mut("events").unwrap().insert(event("new", 5, 5));
        let cases = [
            ("test 2", catalogue(), state.clone(), upper),
            ("test 2", Catalogue { base: vec![facts], ..catalogue() }, other.clone(), upper + 3),
        ];
        for (program, tables, rows, at) in cases {
            let mut sink = Sink::open(dir.path(), tables, program.into(), options()).await.unwrap();
            assert!(sink.needs_rebuild() && sink.committed().is_none());
            assert!(matches!(rows_of(sink.load(FACTS.name)).await, Err(SinkError::NeedsRebuild(_))));
            let commit = sink.commit(difference(&state, &state, upper, upper + 1)).await;
            assert!(matches!(commit, Err(SinkError::NeedsRebuild(_))));
            assert!(sink.reconcile(full(&rows, at)).await.unwrap_err().calls_for_rebuild());
            sink.rebuild(full(&rows, at)).await.unwrap();
            assert!(!sink.needs_rebuild() && sink.stale_views().is_empty());
            assert_eq!(manifest(dir.path(), Epoch(at)).program, program);
            assert_eq!(read_back(dir.path(), Epoch(at)).await, rows);
            assert_eq!(specs().len(), loaded(&sink).await.len());
        }
    });
}

fn renamed(nullable: bool) -> Vec<flowsync_schemas::ColumnSpec> {
    let mut columns = (FACTS.columns)();
    columns[2] = flowsync_schemas::ColumnSpec { name: "pieces", nullable, ..columns[2] };
    columns
}

#[test]
fn facts_of_an_earlier_version_are_read_by_the_names_of_their_columns() {
    run(async {
        let dir = TempDir::new().unwrap();
        let (sink, _, state) = committed(&dir).await;
        drop(sink);
        let facts = TableSpec { version: 2, columns: || renamed(true), ..FACTS };
        let added = TableSpec { name: "fact_more", ..FACTS };
        let next = Catalogue { base: vec![facts, added], ..catalogue() };
        let sink = Sink::open(dir.path(), next, PROGRAM.into(), options()).await.unwrap();
        assert!(sink.needs_rebuild() && rows_of(sink.load(FACTS.name)).await.is_err());
        let mut expected: Vec<_> = state[FACTS.name].iter().cloned().collect();
        expected.iter_mut().for_each(|row| row[2] = flowsync_schemas::Value::Null);
        let mut rows = rows_of(sink.load_replaced(FACTS.name)).await.unwrap();
        expected.sort();
        rows.sort();
        assert!(!rows.is_empty() && rows == expected);
        assert!(rows_of(sink.load_replaced("fact_more")).await.unwrap().is_empty());
        drop(sink);

        let facts = TableSpec { version: 2, columns: || renamed(false), ..FACTS };
        let next = Catalogue { base: vec![facts], ..catalogue() };
        let sink = Sink::open(dir.path(), next, PROGRAM.into(), options()).await.unwrap();
        let error = rows_of(sink.load_replaced(FACTS.name)).await.unwrap_err().to_string();
        assert!(error.contains("fact_things") && error.contains("pieces"), "{error}");
    });
}
