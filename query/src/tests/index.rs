//! The index gives the rows that a plain scan gives, whatever is asked, laid on, committed and kept.

use std::collections::BTreeSet;

use flowsync_schemas::{Birth, ColumnKind, Epoch, Row, TableSpec, Value, ViewSpec, model::Model};
use proptest::prelude::*;

use super::kit::{Store, change, column, damage, delta, text};
use crate::{AsOf, Engine, EngineOptions, Snapshot};

/// A graph by the name of the one that is indexed; an end may be missing.
static EDGES: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "edges",
        version: 1,
        key: &["src_kind", "src_id", "edge", "dst_id"],
        columns: || {
            vec![
                column("src_kind", ColumnKind::Text, false),
                column("src_id", ColumnKind::Text, true),
                column("edge", ColumnKind::Text, false),
                column("dst_id", ColumnKind::Text, true),
                column("bps", ColumnKind::Int, false),
                column("since", ColumnKind::Timestamp, true),
            ]
        },
        birth: Birth::Timeless,
        doc: "Edges of a test.",
    },
    oracle: "",
    why: "select signal from fact_signals where $1 = $2 and $3 = $4",
};

/// The limits under which everything, nothing, and about one of two files is kept.
fn limits(rows: usize) -> [usize; 3] {
    [64 << 20, 0, 12_000 + rows * 40]
}

fn open(store: &Store, index_bytes_max: usize) -> Engine {
    let options = EngineOptions { index_bytes_max, ..Default::default() };
    Engine::open(store.dir.path(), vec![&EDGES], &Model::shipped(), options).unwrap()
}

/// An edge: ends out of a few, of which the first is missing.
fn edge((src, edge, dst, bps): (u8, u8, u8, u8)) -> Row {
    let end = |n: u8| {
        if n == 0 {
            Value::Null
        } else {
            text(&format!("{}{n}", ["x", "a longer name than fits: "][usize::from(n % 2)]))
        }
    };
    let since = if bps == 0 { Value::Null } else { Value::Int(1_700_000_000_000_000 + i64::from(bps)) };
    [
        text(["p", "q"][usize::from(src % 2)]),
        end(src),
        text(["K", "L"][usize::from(edge)]),
        end(dst),
        Value::Int(i64::from(bps)),
        since,
    ]
    .into()
}

type Graph = Vec<(u8, u8, u8, u8)>;

/// At most one row a key.
fn rows(graph: &Graph) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    graph.iter().filter(|(src, edge, dst, _)| seen.insert((*src, *edge, *dst))).map(|e| edge(*e)).collect()
}

const QUESTIONS: &[&str] = &[
    "select * from edges where dst_id = 'x2'",
    "select bps from edges where 'x2' = src_id and bps > 1",
    "select count(*) from edges where src_id = 'x4' and dst_id in ('x2', 'x6', 'nobody')",
    "select edge, dst_id from edges where src_id in ('x2', 'a longer name than fits: 1', 'x4', 'x6', 'x8') and edge = 'K'",
    "select * from edges where src_id = 'x2' or dst_id = 'x4'",
    "select * from edges where src_id = 'x2' or src_id = 'x4' and bps < 2",
    "select * from edges where src_id = 'x2' or src_id is null",
    "select * from edges where src_id not in ('x2', 'x4') and dst_id = 'x6'",
    "select * from edges where not (src_id = 'x2')",
    "select * from edges where (src_id = 'x2') is not true and dst_id = 'x2'",
    "select * from edges where case when bps > 1 then src_id = 'x2' else dst_id = 'x4' end",
    "select * from edges where src_id = 'nobody'",
    "select * from edges where src_id = null",
    "select * from edges where src_id is not distinct from 'x2'",
    "select * from edges where upper(src_id) = 'X2' and src_id like 'x%'",
    "select * from edges where src_id = dst_id and src_id = 'x2'",
    "select a.src_id, b.dst_id from edges a join edges b on b.src_id = a.dst_id where a.src_id = 'x2'",
    "select a.bps, b.src_id from edges a join edges b on b.src_kind = a.src_kind and b.src_id = a.src_id where a.dst_id = 'x4'",
    "select a.bps, b.since from edges a join edges b on (b.dst_id is not distinct from a.dst_id) and b.edge = 'L' where a.src_id = 'x2'",
    "select a.src_id, b.bps from edges a left join edges b on b.src_id = a.dst_id and b.edge = 'K' where a.src_id in ('x2', 'x4')",
    "select a.src_id, b.bps from edges a full join edges b on b.src_id = a.dst_id",
    "select * from edges a where a.src_id in (select dst_id from edges where src_id = 'x4')",
    "select * from edges a where a.src_id not in (select dst_id from edges where src_id = 'x4' and dst_id is not null)",
    "select * from edges a where not exists (select 1 from edges b where b.src_id = a.dst_id and b.src_kind = a.src_kind)",
    "select distinct c.dst_id from edges a
     join edges b on b.edge = 'K' and b.src_kind = a.src_kind and b.src_id = a.src_id
     join edges w on w.edge = 'K' and w.dst_id = b.dst_id and w.src_kind = 'p'
     join edges c on c.edge = 'L' and c.src_kind = w.src_kind and c.src_id = w.src_id
     where a.edge = 'L' and a.dst_id = 'x2'",
    "with recursive reached(id) as (select 'x2' union select e.dst_id from edges e join reached r on e.src_id = r.id)
     select id from reached",
    "select src_id, bps from edges where dst_id = 'x4' order by bps desc, src_id, edge limit 2",
    "select edge, sum(bps) from edges where dst_id in ('x2', 'x4') group by edge",
    "select x.id, e.bps from (values ('x2'), ('x4'), (null)) as x(id) join edges e on e.src_id = x.id",
];

async fn answer(snapshot: &Snapshot, sql: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = snapshot.rows(sql, &[]).await.unwrap().into_iter().map(|r| r.values).collect();
    rows.sort();
    rows
}

/// Every question of every engine, twice: before and after something is kept.
async fn same_answers(engines: &[Engine]) {
    for _ in 0..2 {
        for sql in QUESTIONS {
            let mut answers = Vec::new();
            for engine in engines {
                answers.push(answer(&engine.snapshot(AsOf::Newest).await.unwrap(), sql).await);
            }
            for (engine, found) in engines.iter().zip(&answers) {
                assert_eq!(found, &answers[1], "{} bytes for the index: {sql}", engine.options().index_bytes_max);
            }
        }
    }
}

fn graph(edges: std::ops::Range<usize>) -> impl Strategy<Value = Graph> {
    proptest::collection::vec((0u8..10, 0u8..2, 0u8..10, 0u8..4), edges)
}

/// Some of the edges go, others change or come: what an epoch does.
fn next() -> impl Strategy<Value = (Vec<usize>, Graph)> {
    (proptest::collection::vec(any::<usize>(), 0..6), graph(0..6))
}

fn after(before: &Graph, (lost, gained): &(Vec<usize>, Graph)) -> Graph {
    let lost: BTreeSet<_> = lost.iter().filter(|_| !before.is_empty()).map(|n| n % before.len()).collect();
    let left = before.iter().enumerate().filter(|(n, _)| !lost.contains(n)).map(|(_, e)| *e);
    gained.iter().copied().chain(left).collect()
}

async fn compare(first: Graph, steps: Vec<(Vec<usize>, Graph)>) {
    let mut store = Store::new();
    store.commit(1, &[(&EDGES.table, rows(&first))]).await;
    let engines = limits(first.len()).map(|bytes| open(&store, bytes));
    engines.iter().for_each(|engine| engine.overlay().committed(Epoch(1)));
    same_answers(&engines).await;
    let mut before = first;
    let mut epoch = 1;
    for (n, step) in steps.iter().enumerate() {
        let now = after(&before, step);
        for engine in &engines {
            engine.overlay().apply(delta(epoch, epoch + 1, vec![change("edges", &rows(&before), &rows(&now))]));
        }
        (before, epoch) = (now, epoch + 1);
        same_answers(&engines).await;
        if n % 2 == 1 {
            store.commit(epoch, &[(&EDGES.table, rows(&before))]).await;
            engines.iter().for_each(|engine| engine.overlay().committed(Epoch(epoch)));
            same_answers(&engines).await;
        }
    }
    assert_eq!(engines[1].index_bytes(), 0);
    assert!(engines.iter().all(|engine| engine.index_bytes() <= engine.options().index_bytes_max));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn an_index_changes_no_answer(first in graph(0..60), steps in proptest::collection::vec(next(), 0..4)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(compare(first, steps));
    }
}

fn wide(ends: u8) -> Graph {
    (1..=ends).flat_map(|n| (1..10).map(move |m| (n, (n / 2 + m) % 2, m, 1 + n % 3))).collect()
}

/// Files that the scans of a statement looked up, and the rest of its plan.
async fn looked_up(engine: &Engine, sql: &str) -> (usize, String) {
    let snapshot = engine.snapshot(AsOf::Newest).await.unwrap();
    let plan = snapshot.rows(&format!("explain analyze {sql}"), &[]).await.unwrap();
    let plan = plan[0].text("plan").unwrap().to_owned();
    let counts = plan.split("files_looked_up=").skip(1);
    (counts.map(|c| c.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<usize>().unwrap()).sum(), plan)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scan_of_a_walk_over_the_graph_is_looked_up() {
    let mut store = Store::new();
    store.commit(1, &[(&EDGES.table, rows(&wide(99)))]).await;
    let engine = open(&store, 64 << 20);
    engine.overlay().committed(Epoch(1));
    let hops = QUESTIONS.iter().find(|sql| sql.contains("join edges w")).unwrap();
    // Two files each.
    for (sql, scans) in [(*hops, 4), (QUESTIONS[0], 1), (QUESTIONS[3], 1), (QUESTIONS[17], 2)] {
        let (files, plan) = looked_up(&engine, sql).await;
        assert_eq!(files, 2 * scans, "{sql}: {plan}");
    }
    let lost = rows(&wide(99))[10..11].to_vec();
    engine.overlay().apply(delta(1, 2, vec![change("edges", &lost, &[])]));
    let (files, plan) = looked_up(&engine, hops).await;
    assert_eq!(files, 8, "{plan}");
    let (files, plan) = looked_up(&engine, "select * from edges where bps = 1").await;
    assert_eq!(files, 0, "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_taken_over_by_the_next_version_and_goes_with_the_last() {
    let mut store = Store::new();
    let mut graph = wide(9);
    store.commit(1, &[(&EDGES.table, rows(&graph))]).await;
    let engine = open(&store, 64 << 20);
    looked_up(&engine, QUESTIONS[0]).await;
    let kept = engine.index_bytes();
    assert!(kept > 0);
    // One edge less: one of the two files is another.
    graph.pop();
    store.commit(2, &[(&EDGES.table, rows(&graph))]).await;
    engine.snapshot(AsOf::Newest).await.unwrap().rows("select count(*) from edges", &[]).await.unwrap();
    assert_eq!(engine.index_bytes(), kept, "nothing is read before it is asked for");
    looked_up(&engine, QUESTIONS[0]).await;
    let both = engine.index_bytes();
    assert!(both > kept && both < 2 * kept, "{kept} bytes, then {both}");
    // An old version lists files that are kept.
    let old = engine.snapshot(AsOf::Epoch(Epoch(1))).await.unwrap();
    old.rows(QUESTIONS[0], &[]).await.unwrap();
    assert_eq!(engine.index_bytes(), both);
    for epoch in 3..12 {
        graph.pop();
        store.commit(epoch, &[(&EDGES.table, rows(&graph))]).await;
        looked_up(&engine, QUESTIONS[0]).await;
    }
    assert!(engine.index_bytes() < 5 * kept, "{} bytes", engine.index_bytes());
    store.commit(12, &[(&EDGES.table, vec![])]).await;
    for epoch in 13..20 {
        store.commit(epoch, &[(&EDGES.table, rows(&vec![(1, 1, epoch as u8, 1)]))]).await;
        looked_up(&engine, "select * from edges where bps = 1").await;
    }
    drop(old);
    let last = engine.snapshot(AsOf::Newest).await.unwrap();
    last.rows("select count(*) from edges", &[]).await.unwrap();
    assert_eq!(engine.index_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_limit_files_are_read_as_before() {
    let mut store = Store::new();
    store.commit(1, &[(&EDGES.table, rows(&wide(200)))]).await;
    let whole = open(&store, 64 << 20);
    looked_up(&whole, QUESTIONS[0]).await;
    let tight = open(&store, whole.index_bytes() * 3 / 4);
    let (files, plan) = looked_up(&tight, QUESTIONS[0]).await;
    assert_eq!(files, 1, "{plan}");
    assert!(tight.index_bytes() > 0 && tight.index_bytes() <= tight.options().index_bytes_max);
    same_answers(&[whole, open(&store, 0), tight]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_told_as_without_an_index() {
    let mut store = Store::new();
    store.commit(1, &[(&EDGES.table, rows(&vec![(1, 1, 2, 1)]))]).await;
    damage(store.dir.path(), "edges");
    let mut told = Vec::new();
    for bytes in [64 << 20, 0] {
        let snapshot = open(&store, bytes).snapshot(AsOf::Newest).await.unwrap();
        told.push(snapshot.rows(QUESTIONS[0], &[]).await.unwrap_err().to_string());
    }
    assert_eq!(told[0], told[1]);
}
