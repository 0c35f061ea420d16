//! The benchmark works, every engine gives the same rows, and no hot path takes more instructions than it did.
//!
//! No time is asserted. What is: that each group runs to its end, which for the peers means that DuckDB, from the oracles
//! alone, and Pathway come to the same rows as FlowSync.

use std::process::{Command, Output};

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowsync-bench")).args(args).output().expect("the binary starts")
}

/// Whether a program is there; where it is not, the test is skipped, which in CI is an error.
fn there(program: &str, args: &[&str]) -> bool {
    let found = Command::new(program).args(args).output().is_ok_and(|o| o.status.success());
    assert!(found || std::env::var_os("CI").is_none(), "{program} {args:?} fails, and CI does not skip");
    if !found {
        println!("skipped: {program} {args:?} fails");
    }
    found
}

#[test]
fn every_group_runs_and_the_peers_come_to_the_same_rows() {
    let python = std::env::var("FLOWSYNC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    if !there(&python, &["-c", "import deltalake, duckdb, pathway"]) {
        return;
    }
    let folder = tempfile::TempDir::new().expect("a folder");
    let json = folder.path().join("bench.json");
    let out = bench(&["--size", "quick", "--json", json.to_str().expect("a path")]);
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).expect("written")).expect("JSON");
    let figures = report["figures"].as_array().expect("figures");
    let value = |what: &str| {
        let found = figures.iter().find(|f| f["what"].as_str().is_some_and(|w| w.starts_with(what)));
        found.unwrap_or_else(|| panic!("no figure {what:?} in\n{said}"))["value"].as_f64().expect("a number")
    };
    for what in [
        "raw differential",
        "steady state at saturation",
        "accepted → the live feed",
        "accepted → SQL in the process",
        "accepted → the committed tables",
        "restart after kill -9: caught up",
        "files of links",
        "commits at 1,000/s: time of one",
        "cost of one update",
        "rows of all views",
        "FlowSync through all views against Pathway",
    ] {
        assert!(value(what) > 0.0, "{what}");
    }
    println!("{said}");
}

#[test]
fn the_profile_tells_every_operator_by_who_asks_for_it() {
    let out = bench(&["operators", "--signals", "1000"]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    for part in ["load: 1000 signals", "steady state: 100 signals"] {
        let table = said.split_once(part).unwrap_or_else(|| panic!("no {part:?} in\n{said}")).1;
        assert!(table.lines().any(|line| line.contains("Links dataflow/src/views/links.rs:")), "{table}");
        // Something is arranged, and some of it is still there.
        let all = table.lines().find_map(|line| line.trim().strip_prefix("all  |")).expect("sums");
        let sums: Vec<f64> = all.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(matches!(sums[..], [arranged, _, there] if arranged > 1.0 && there > 1.0), "{all}");
    }
}

#[test]
fn a_restart_of_any_size_is_measured() {
    let out = bench(&["restart", "--signals", "2000"]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    for figure in
        ["caught up after", "the tables are as they should be after", "memory of the process, at most until then"]
    {
        let figure = format!("| restart after kill -9, at 2 thousand signals: {figure} |");
        assert!(said.contains(&figure), "no {figure:?} in\n{said}");
    }
}

#[test]
fn no_hot_path_takes_more_instructions_than_it_did() {
    if !there("valgrind", &["--version"]) {
        return;
    }
    let out = bench(&["instructions"]);
    println!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
