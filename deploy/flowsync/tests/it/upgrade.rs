//! A data directory that an earlier build wrote is taken over: its log, which was not sealed, its vault, which was plain, its
//! tables and manifests, which had no checksums. `sample/format-1.tar.gz` is one of a simulated organisation, as it was left.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::process::{Server, flowsync, sql, succeed};

/// What the earlier build answered, of all that the same deliveries must mean to every build.
const ANSWERS: [(&str, &str); 4] = [
    ("select count(*) from fact_signals", "276"),
    ("select count(*), count(distinct project) from tickets", "12,2"),
    ("select count(*) from tickets where status = 'Done'", "5"),
    ("select sum(share_ppm) from effort", "49000000"),
];

#[test]
fn a_data_directory_of_an_earlier_build_is_taken_over() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    fs::create_dir(&dir).expect("a folder");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sample/format-1.tar.gz");
    succeed(Command::new("tar").arg("xzf").arg(sample).arg("-C").arg(&dir));
    let names = fs::read_to_string(dir.join("vault/names.ndjson")).expect("the vault");
    assert!(names.contains("Barbara (simulated)"), "the sample is of a build that did not seal");

    // Read as it lies, then taken over.
    assert_eq!(sql(&dir, "csv", ANSWERS[0].0).lines().nth(1), Some(ANSWERS[0].1));
    let config = folder.path().join("flowsync.toml");
    fs::write(&config, "").expect("written");
    Server::start(&dir, &config).stop();
    for (query, answer) in ANSWERS {
        assert_eq!(sql(&dir, "csv", query).lines().nth(1), Some(answer), "{query}");
    }
    succeed(flowsync().args(["check", "--dir"]).arg(&dir));
    let audited = succeed(flowsync().args(["audit", "verify", "--dir"]).arg(&dir));
    assert!(audited.contains("good") && audited.contains("276 signals"), "{audited}");

    let names = fs::read_to_string(dir.join("vault/names.ndjson")).expect("the vault");
    assert!(!names.contains("Barbara"), "names are sealed from now on");
    let digest = succeed(flowsync().args(["digest", "--role", "engineer", "--since", "2026-10-01", "--dir"]).arg(&dir));
    assert!(digest.contains("(simulated)"), "they are shown as before: {digest}");
    succeed(flowsync().args(["privacy", "erase", "barbara@example.org", "--yes", "--dir"]).arg(&dir));
    for (query, answer) in ANSWERS {
        assert_eq!(sql(&dir, "csv", query).lines().nth(1), Some(answer), "{query}");
    }
}
