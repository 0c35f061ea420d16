//! Links that Jira itself states, against what others read from the same answers of its API: remote links and development
//! panels (DevLake's raw tables, and its tables of commits of issues).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{documented, flowsync, outside, sql, succeed};

/// The rows of a CSV text by column name: quoted fields may hold commas, quotes and line ends.
pub fn csv(text: &str) -> Vec<BTreeMap<String, String>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    if !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    let mut rows = rows.into_iter();
    let names = rows.next().expect("a header");
    rows.map(|row| names.iter().cloned().zip(row).collect()).collect()
}

/// Imports answers, and gives what they state: number of the issue, sha.
fn stated(answers: &[(String, Value)]) -> BTreeSet<(String, String)> {
    let folder = TempDir::new().expect("a folder");
    let (file, dir) = (folder.path().join("answers.ndjson"), folder.path().join("data"));
    let lines: Vec<String> = answers
        .iter()
        .map(|(address, body)| json!({ "headers": { "x-flowsync-request": address }, "body": body }).to_string())
        .collect();
    std::fs::write(&file, lines.join("\n")).expect("a file");
    succeed(flowsync().args(["import", "jira", "--dir"]).arg(&dir).arg(&file));
    let query = "select dst_id, src_id from fact_relations where edge = 'LINKED_TO' and src_kind = 'Commit'";
    let rows = sql(&dir, "csv", query);
    let rejected = sql(&dir, "csv", "select count(*) from rejects");
    assert_eq!(rejected.lines().nth(1), Some("0"));
    rows.lines().skip(1).filter_map(|l| l.split_once(',')).map(|(i, s)| (i.to_owned(), s.to_owned())).collect()
}

fn found(raw: &str, known: &str, expected: usize, row: &str) {
    let folder = "payloads/devlake/jira";
    let (Some(raw), Some(known)) =
        (outside(&format!("{folder}/raw_tables/{raw}.csv")), outside(&format!("{folder}/snapshot_tables/{known}.csv")))
    else {
        return;
    };
    let read = |path| csv(&std::fs::read_to_string(path).expect("the file can be read"));
    let (raw, known) = (read(raw), read(known));
    let body = |row: &BTreeMap<String, String>| serde_json::from_str(&row["data"]).expect("an answer of Jira");
    let answers: Vec<(String, Value)> = raw.iter().map(|row| (row["url"].clone(), body(row))).collect();
    let have = stated(&answers);
    let want: BTreeSet<_> = known.iter().map(|row| (row["issue_id"].clone(), row["commit_sha"].clone())).collect();
    let missed: Vec<_> = want.difference(&have).take(5).collect();
    let more = have.difference(&want).count();
    println!("{} answers: {} of {} links found, {more} more", answers.len(), want.len() - missed.len(), want.len());
    assert_eq!((want.len(), missed.len(), more), (expected, 0, 0), "{missed:?}");
    documented(row, (want.len(), want.len()), Some(more));
}

#[test]
fn remote_links_are_found() {
    found("_raw_jira_api_remotelinks", "_tool_jira_issue_commits", 97, "Jira's remote links");
}

#[test]
fn development_panels_are_found() {
    found("_raw_jira_api_development_panels", "_tool_jira_issue_commits_dev_panel", 646, "Jira's development panel");
}
