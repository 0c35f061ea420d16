//! Any Delta reader sees the same rows: the real `deltalake`, `polars` and `pandas` of PyPI against `flowsync sql`.
//!
//! Needs a Python with these packages: `FLOWSYNC_PYTHON`, or `python3`. Without them it says so and skips; CI installs them
//! and does not skip.

use std::process::Command;

use flowsync_dataflow::views;
use flowsync_schemas::fact::base_tables;
use tempfile::TempDir;

use crate::process::{demo_dir, flowsync, succeed};

const SCRIPT: &str = r#"
import json, os, sys
import pandas as pd, polars as pl
from deltalake import DeltaTable
from pandas.testing import assert_frame_equal as same_pandas
from polars.testing import assert_frame_equal as same_polars

tables, manifests, answers = sys.argv[1:4]
manifest = json.load(open(os.path.join(manifests, sorted(os.listdir(manifests))[-1])))
read = 0
for answer in sorted(os.listdir(answers)):
    name, path = answer.removesuffix(".parquet"), os.path.join(answers, answer)
    version = manifest["tables"][name]["delta"]
    where = os.path.join(tables, name)
    want = pl.read_parquet(path)
    have = pl.read_delta(where, version=version).select(want.columns)
    same_polars(have, want, check_row_order=False)
    frame = DeltaTable(where, version=version).to_pandas()[want.columns]
    order = lambda f: f.sort_values(list(f.columns), key=lambda c: c.astype(str)).reset_index(drop=True)
    same_pandas(order(frame), order(pd.read_parquet(path)), check_dtype=False)
    read += len(have)
print(read)
"#;

#[test]
fn polars_and_pandas_see_the_same_rows() {
    let python = std::env::var("FLOWSYNC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import deltalake, pandas, polars, pyarrow"]).output();
    if !probe.is_ok_and(|p| p.status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "{python} lacks deltalake, pandas, polars or pyarrow, and CI does not skip"
        );
        println!("skipped: {python} lacks deltalake, pandas, polars or pyarrow");
        return;
    }
    let dir = demo_dir();
    let answers = TempDir::new().expect("a folder");
    let names = views::ALL.iter().map(|v| v.spec.table.name).chain(base_tables().map(|t| t.name));
    let mut rows = 0;
    for name in names {
        let query = format!("select * from {name}");
        let out = flowsync().args(["sql", "--format", "parquet", &query, "--dir"]).arg(dir).output().expect("it runs");
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        std::fs::write(answers.path().join(format!("{name}.parquet")), out.stdout).expect("written");
        let counted = crate::process::sql(dir, "csv", &format!("select count(*) from {name}"));
        rows += counted.lines().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a count");
    }
    let read = succeed(
        Command::new(&python)
            .args(["-c", SCRIPT])
            .arg(dir.join("tables"))
            .arg(dir.join("manifests"))
            .arg(answers.path()),
    );
    assert_eq!(read.trim().parse(), Ok(rows));
    assert!(rows > 1_000, "{rows} rows");
}
