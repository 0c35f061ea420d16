//! Real histories: what is linked by strict keys equals what a plain reading of the messages gives, and what people link by
//! other spellings is linked as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::process::{documented, flowsync, outside, sql, succeed};

/// Every `KEY-number` in a text, as `\bKEY-[0-9]+\b` finds it.
fn plain_reading(text: &str, project: &str) -> BTreeSet<String> {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let needle = format!("{project}-");
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(&needle) {
        let digits: String = text[at + needle.len()..].chars().take_while(char::is_ascii_digit).collect();
        let after = text[at + needle.len() + digits.len()..].chars().next();
        if !digits.is_empty() && !word(text[..at].chars().next_back()) && !word(after) {
            found.insert(format!("{project}-{digits}"));
        }
    }
    found
}

/// Gives the data directory.
fn links_equal_a_plain_reading(export: &str, project: &str, commits_min: usize) -> Option<TempDir> {
    let (Some(export), Some(script)) = (outside(&format!("git/{export}.jsonl.gz")), outside("to_repo.py")) else {
        return None;
    };
    let folder = TempDir::new().expect("a folder");
    let repository = folder.path().join("repository");
    succeed(Command::new("python3").arg(script).arg(export).arg(&repository));
    let log = succeed(Command::new("git").arg("-C").arg(&repository).args(["log", "--all", "--format=%H%x1f%B%x1e"]));
    let mut want = BTreeSet::new();
    let mut commits = 0;
    for record in log.split('\u{1e}') {
        let Some((sha, message)) = record.trim_start().split_once('\u{1f}') else { continue };
        commits += 1;
        want.extend(plain_reading(message, project).into_iter().map(|key| (sha.to_owned(), key)));
    }
    assert!(commits >= commits_min, "{commits} commits");

    let dir = folder.path().join("data");
    let import = |n: &str| {
        let text =
            succeed(flowsync().args(["import", "git", "--project", project, "--dir"]).arg(&dir).arg(&repository));
        println!("{project}, import {n}: {}", text.trim().replace('\n', "; "));
        text
    };
    import("1");
    let links = || -> BTreeSet<(String, String)> {
        let strict = "select e.artifact_id, e.ticket_key from evidence e
            join links l on e.artifact_kind = l.artifact_kind and e.artifact_id = l.artifact_id and e.ticket_key = l.ticket_key
            where e.artifact_kind = 'Commit' and e.kind = 'commit_key'";
        let csv = sql(&dir, "csv", strict);
        let rows = csv.lines().skip(1).filter_map(|line| line.split_once(','));
        rows.map(|(sha, key)| (sha.to_owned(), key.to_owned())).collect()
    };
    let have = links();
    println!("{project}: {commits} commits, {} links stated, {} found", want.len(), have.len());
    let missing: Vec<_> = want.difference(&have).take(5).collect();
    let extra: Vec<_> = have.difference(&want).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    let name = if project == "KAFKA" { "Kafka" } else { "Calcite" };
    documented(&format!("{name}: every strict key"), (have.len(), want.len()), Some(0));
    // A second import of the same repository changes nothing.
    import("2");
    assert!(links() == have);
    let counted = sql(&dir, "csv", "select count(*) from commits");
    assert_eq!(counted.lines().nth(1), Some(commits.to_string().as_str()));
    Some(folder)
}

#[test]
fn calcite_links_equal_a_plain_reading() {
    let folder = links_equal_a_plain_reading("calcite", "CALCITE", 6_825);
    let (tags, notes) = (outside("git/calcite.tags.jsonl"), outside("git/release-notes/calcite.jsonl"));
    if let (Some(folder), Some(tags), Some(notes)) = (folder, tags, notes) {
        released_tickets_are_found(&folder.path().join("data"), &folder.path().join("repository"), &tags, &notes);
    }
}

#[test]
fn kafka_links_equal_a_plain_reading() {
    let folder = links_equal_a_plain_reading("kafka", "KAFKA", 14_054);
    if let (Some(folder), Some(known)) = (folder, outside("links/apachejit/issue-commit-KAFKA.csv")) {
        known_links_are_found(&folder.path().join("data"), &folder.path().join("repository"), &known);
    }
}

/// Jenkins merges pull requests as GitHub does, so that git itself tells which commits belong to each.
#[test]
fn commits_of_merged_pull_requests_of_jenkins_are_exact() {
    let (Some(export), Some(script)) = (outside("git/jenkins.jsonl.gz"), outside("to_repo.py")) else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let (repository, dir) = (folder.path().join("repository"), folder.path().join("data"));
    succeed(Command::new("python3").arg(script).arg(export).arg(&repository));
    let git = |args: &[&str]| succeed(Command::new("git").arg("-C").arg(&repository).args(args));
    let mut want = BTreeMap::new();
    let merges = git(&["log", "--first-parent", "--min-parents=2", "--max-parents=2", "--format=%H%x1f%s", "main"]);
    for (merge, subject) in merges.lines().filter_map(|line| line.split_once('\u{1f}')) {
        let Some(rest) = subject.strip_prefix("Merge pull request #") else { continue };
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let commits = git(&["rev-list", &format!("{merge}^1..{merge}^2")]);
        // More than a pull request has: a release line.
        if commits.lines().count() <= 256 {
            want.extend(commits.lines().map(|sha| ((number.clone(), sha.to_owned()), merge.to_owned())));
        }
    }
    succeed(flowsync().args(["import", "git", "--dir"]).arg(&dir).arg(&repository));
    let brought = "select p.target, b.target as sha, b.sha as merge from fact_traces b
        join fact_traces p on b.sha = p.sha and p.kind = 'pull_request' where b.kind = 'brought'";
    let csv = sql(&dir, "csv", brought);
    let have: BTreeMap<(String, String), String> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<_> = line.split(',').collect();
            let (_, number) = fields[0].rsplit_once('#').expect("a number");
            ((number.to_owned(), fields[1].to_owned()), fields[2].to_owned())
        })
        .collect();
    let missing: Vec<_> = want.iter().filter(|(pair, merge)| have.get(*pair) != Some(merge)).take(5).collect();
    let extra: Vec<_> = have.iter().filter(|(pair, _)| !want.contains_key(*pair)).take(5).collect();
    println!("Jenkins: {} commits of merged pull requests, {} found", want.len(), have.len());
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    assert!(want.len() >= 3_400, "only {} commits", want.len());
    documented("Jenkins: commits that merged", (want.len(), want.len()), Some(0));
    let parts =
        "select count(*) from edges where edge = 'PART_OF' and src_kind = 'Commit' and dst_kind = 'PullRequest'";
    let parts: usize = sql(&dir, "csv", parts).lines().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!(parts >= want.len(), "{parts} edges");
}

/// What release managers say is in a release, and what is linked to the commits since the release before it.
fn released_tickets_are_found(dir: &Path, repository: &Path, tags: &Path, notes: &Path) {
    let renamed = renamed(repository);
    let shas: BTreeMap<Vec<u32>, String> = lines_of(tags)
        .filter_map(|tag| {
            let version = tag["tag"].as_str()?.strip_prefix("calcite-")?;
            // Candidates, as in `1.13.0-rc0`, are no versions.
            let version = version.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
            Some((version, renamed.get(tag["commit"].as_str()?)?.clone()))
        })
        .collect();
    let mut noted: BTreeMap<Vec<u32>, BTreeSet<String>> = BTreeMap::new();
    for note in lines_of(notes) {
        let version = note["version"].as_str().expect("a version").split('.').map(str::parse).collect();
        let Ok(version) = version else { continue };
        noted.entry(version).or_default().insert(note["key"].as_str().expect("a key").to_owned());
    }
    let asserted = asserted_links(dir);
    let mut linked: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (sha, key) in &asserted {
        linked.entry(sha).or_default().push(key);
    }
    let (mut releases, mut found, mut missed, mut more) = (0, 0, vec![], 0);
    for ((_, before), (version, release)) in shas.iter().zip(shas.iter().skip(1)) {
        let Some(noted) = noted.get(version) else { continue };
        let range = format!("{before}..{release}");
        let commits = succeed(Command::new("git").arg("-C").arg(repository).args(["rev-list", &range]));
        let have: BTreeSet<&str> = commits.lines().filter_map(|sha| linked.get(sha)).flatten().copied().collect();
        let want: BTreeSet<&str> = noted.iter().map(String::as_str).collect();
        releases += 1;
        found += want.intersection(&have).count();
        missed.extend(want.difference(&have).map(ToString::to_string));
        more += have.difference(&want).count();
    }
    let all = found + missed.len();
    println!(
        "Calcite: {found} of {all} tickets that the notes of {releases} releases name are linked since the release before; {more} more are linked; missed: {missed:?}"
    );
    documented(&format!("Calcite: tickets that the notes of {releases} releases"), (found, all), Some(more));
    assert!(releases >= 35 && 1_000 * found >= 990 * all, "{found} of {all} in {releases} releases");
}

/// Every line of a file of JSON lines.
fn lines_of(file: &Path) -> impl Iterator<Item = serde_json::Value> {
    let text = std::fs::read_to_string(file).expect("the file");
    let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    lines.into_iter()
}

/// New shas by those of the export that a repository was made of.
fn renamed(repository: &Path) -> BTreeMap<String, String> {
    let map = std::fs::read_to_string(repository.join("shamap.tsv")).expect("the map of shas");
    map.lines().filter_map(|line| line.split_once('\t')).map(|(old, new)| (old.to_owned(), new.to_owned())).collect()
}

/// Commits and the tickets that they are asserted to belong to.
fn asserted_links(dir: &Path) -> BTreeSet<(String, String)> {
    let asserted =
        "select artifact_id, ticket_key from links where artifact_kind = 'Commit' and confidence_bps >= 5000";
    let csv = sql(dir, "csv", asserted);
    let rows = csv.lines().skip(1).filter_map(|line| line.split_once(','));
    rows.map(|(sha, key)| (sha.to_owned(), key.to_owned())).collect()
}

/// Links between issues and commits that others found, one commit an issue: at least 2,311 of 2,314 are asserted.
fn known_links_are_found(dir: &Path, repository: &Path, known: &Path) {
    let (renamed, have) = (renamed(repository), asserted_links(dir));
    let known = std::fs::read_to_string(known).expect("the known links");
    let known: Vec<(&str, &str)> = known.lines().skip(1).filter_map(|line| line.trim().split_once(',')).collect();
    let missed: Vec<_> = known
        .iter()
        .filter(|(key, sha)| !renamed.get(*sha).is_some_and(|sha| have.contains(&(sha.clone(), (*key).to_owned()))))
        .collect();
    println!("KAFKA: {} of {} known links found; missed: {missed:?}", known.len() - missed.len(), known.len());
    assert!(known.len() == 2_314 && missed.len() <= 3, "{} missed", missed.len());
    documented("Kafka: links that others read", (known.len() - missed.len(), known.len()), None);
}
