use super::model::run;
use crate::{Catalogue, Sink, SinkOptions};
use flowsync_schemas::*;
use std::time::Instant;
use tempfile::TempDir;
fn columns() -> Vec<ColumnSpec> {
    let c = |name, kind| ColumnSpec { name, kind, nullable: true, unit: "", doc: "x" };
    use record::ColumnKind::*;
    vec![
        ColumnSpec { nullable: false, ..c("signal", Text) },
        ColumnSpec { nullable: false, ..c("seq", Int) },
        c("at", Timestamp),
        c("repo", Text),
        c("sha", Text),
        c("title", Text),
        c("author", Text),
        c("n", Int),
        c("day", Date),
        c("branch", Text),
        c("state", Text),
        c("ok", Bool),
    ]
}
fn row(i: u64, v: u64) -> Row {
    let h = |x: u64| -> Text {
        format!("{:032x}", u128::from(x.wrapping_mul(0x9e3779b97f4a7c15)) * 0x1_0000_0000_0001).into()
    };
    Box::new([
        Value::Text(h(i)),
        Value::Int(0),
        Value::Int(1_700_000_000_000_000 + i as i64 * 600_000_000),
        Value::Text(format!("org/repo-{}", i % 40).into()),
        Value::Text(h(i * 31)),
        Value::Text(format!("SHOP-{} fix the {} of the {} again {v}", i % 5000, i % 97, i % 313).into()),
        Value::Text(h(i % 60)),
        Value::Int(v as i64),
        Value::Int(i as i64 / 144),
        Value::Text(format!("feature/SHOP-{}", i % 5000).into()),
        Value::Text(["open", "merged", "closed"][i as usize % 3].into()),
        Value::Bool(true),
    ])
}
#[test]
fn measure() {
    run(async {
        let dir = TempDir::new_in("/tmp").unwrap();
        let t: usize = std::env::var("T").unwrap().parse().unwrap();
        let n: u64 = std::env::var("N").unwrap().parse().unwrap();
        let names: Vec<&'static str> = (0..t).map(|i| &*Box::leak(format!("table{i:02}").into_boxed_str())).collect();
        let views: Vec<TableSpec> = names
            .iter()
            .map(|name| TableSpec {
                name,
                version: 1,
                key: &["signal", "seq"],
                columns,
                birth: Birth::Month("at"),
                doc: "x",
            })
            .collect();
        let cat = Catalogue { base: vec![], views };
        let options =
            SinkOptions { bucket_rows_max: std::env::var("B").unwrap().parse().unwrap(), ..Default::default() };
        let s = Instant::now();
        let mut sink = Sink::open(dir.path(), cat.clone(), "p".into(), options).await.unwrap();
        println!("create {t} tables {:?}", s.elapsed());
        let delta = |lo: u64, up: u64, f: &dyn Fn() -> Vec<(Row, i64)>| EpochDelta {
            lower: Epoch(lo),
            upper: Epoch(up),
            positions: vec![up],
            changes: names.iter().map(|table| TableChange { table, rows: f() }).collect(),
        };
        let d = delta(0, 1, &|| (0..n).map(|i| (row(i, 0), 1)).collect());
        let s = Instant::now();
        sink.commit(d).await.unwrap();
        println!("import {} rows {:?}", n * t as u64, s.elapsed());
        let mut took = vec![];
        for e in 1..40u64 {
            // 50 new, 50 updates of the newest 2000, a table
            let d = delta(e, e + 1, &|| {
                let mut v: Vec<(Row, i64)> = (0..50).map(|i| (row(n + e * 50 + i, 0), 1)).collect();
                for i in 0..50 {
                    let k = n - 1 - (i * 37 + e) % 2000;
                    let k = (k / 40) * 40 + e % 40;
                    if k < n {
                        v.push((row(k, 0), -1));
                        v.push((row(k, 1), 1));
                    }
                }
                v.sort();
                v.dedup();
                v
            });
            let s = Instant::now();
            if let Err(err) = sink.commit(d).await {
                println!("{err}");
                break;
            }
            took.push(s.elapsed());
        }
        took.sort();
        println!("commit median {:?} max {:?}", took[took.len() / 2], took.last());
        let files: u64 = names
            .iter()
            .map(|n| {
                std::fs::read_dir(dir.path().join("tables").join(n))
                    .unwrap()
                    .map(|f| f.unwrap().metadata().unwrap())
                    .filter(|m| m.is_file())
                    .map(|m| m.len())
                    .sum::<u64>()
            })
            .sum();
        println!("bytes of all data files {} MB", files / 1_000_000);
        drop(sink);
        let s = Instant::now();
        let sink = Sink::open(dir.path(), cat.clone(), "p".into(), options).await.unwrap();
        println!("open {:?}", s.elapsed());
        let s = Instant::now();
        let rows = sink.load(names[0]).await.unwrap();
        println!("load {} rows {:?}", rows.len(), s.elapsed());
    });
}
