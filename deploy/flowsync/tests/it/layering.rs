//! Which crate may know what: the table of the README's code map, held over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crate, what it may use of ours, what it must never use.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("flowsync-schemas-derive", &[], &["tokio", "timely", "datafusion", "arrow"]),
    (
        "flowsync-schemas",
        &["flowsync-schemas-derive"],
        &["tokio", "axum", "timely", "differential-dataflow", "datafusion", "arrow", "deltalake-core"],
    ),
    (
        "flowsync-ingest",
        &["flowsync-schemas"],
        &["timely", "differential-dataflow", "datafusion", "deltalake-core", "arrow"],
    ),
    (
        "flowsync-dataflow",
        &["flowsync-schemas"],
        &["tokio", "axum", "arrow", "parquet", "datafusion", "deltalake-core", "object_store", "chrono"],
    ),
    ("flowsync-sinks", &["flowsync-schemas"], &["timely", "differential-dataflow", "axum"]),
    ("flowsync-query", &["flowsync-schemas"], &["timely", "differential-dataflow"]),
];

#[test]
fn every_crate_uses_only_what_it_may() {
    let metadata = MetadataCommand::new().manifest_path("../../Cargo.toml").no_deps().exec().expect("cargo metadata");
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in &metadata.packages {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        uses.insert(package.name.to_string(), normal.map(|d| d.name.clone()).collect());
    }
    let ours: BTreeSet<&str> = uses.keys().map(String::as_str).filter(|n| n.starts_with("flowsync")).collect();
    for (name, may, never) in TABLE {
        let used = uses.get(*name).unwrap_or_else(|| panic!("there is no crate {name}"));
        for dependency in used {
            let known = ours.contains(dependency.as_str());
            assert!(!known || may.contains(&dependency.as_str()), "{name} may not use {dependency}");
            assert!(!never.contains(&dependency.as_str()), "{name} must never use {dependency}");
        }
    }
    // What fails on purpose is of tests alone.
    for package in &metadata.packages {
        let mut default = package.features.get("default").into_iter().flatten();
        assert!(default.all(|f| f != "simulation"), "{} fails on purpose by default", package.name);
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            let fails = dependency.features.iter().any(|f| f == "simulation");
            assert!(!fails, "{} would be built with a {} that fails on purpose", package.name, dependency.name);
        }
    }
    for (name, used) in &uses {
        assert!(!used.contains("flowsync-bench"), "{name} imports the benchmark");
        assert!(name == "flowsync-bench" || !used.contains("flowsync"), "{name} imports the binary");
        let listed = TABLE.iter().any(|(n, ..)| n == name) || name == "flowsync" || name == "flowsync-bench";
        assert!(listed, "{name} is a crate that the table does not know");
    }
}
