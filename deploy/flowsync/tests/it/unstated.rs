//! Links that nothing states, on Kafka's real pull requests: deliveries made of its history, imported, calibrated and
//! tested by the binary, on those that name no ticket themselves.
//!
//! What the outside data has not, and what stands for it:
//!
//! - No titles or bodies of pull requests but the merged ones, which name the ticket: the messages of the pull request's own
//!   commits stand for them, as GitHub prefills both. What a merged commit says is only in the push of that commit.
//! - No logins of GitHub: the part of an address before the `@` stands for its account. Pushes carry the same, so that
//!   account and address are known to be one; an address whose local part others have as well (`me`, `github`) is its own.
//! - No branches of pull requests: each is delivered as coming from `refs/pull/N/head`. Of those that name no ticket, some
//!   had a branch that did (the merge script wrote it into the merged commit), so that GitHub's own delivery would have.
//! - No dates of pull requests: created is when the latest of its commits was written.
//! - Of a push, which files are new and which are gone: all count as modified.
//! - Of a ticket, all but its last state, names of people, and every type but bugs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use flowsync_schemas::{Micros, model::Model};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    jira_links::csv,
    process::{flowsync, outside, sql, succeed},
};

/// Commits of one push.
const PUSHED: usize = 5;

/// A commit on Kafka's main branch.
#[derive(Deserialize)]
struct Commit {
    sha: String,
    author_name: String,
    author_email: String,
    author_date: String,
    committer_name: String,
    committer_email: String,
    committer_date: String,
    message: String,
    files: Vec<(String, IgnoredAny, IgnoredAny)>,
}

/// The commits of a pull request that are not on the main branch; none where there were too many.
#[derive(Deserialize)]
struct Pull {
    pr: u64,
    own_commits: Option<Vec<Own>>,
}

/// A commit of a pull request.
#[derive(Deserialize)]
struct Own {
    author_email: String,
    author_date: String,
    message: String,
}

/// How a pull request was merged.
#[derive(Deserialize)]
struct Merged {
    pr: u64,
    head: String,
    merged_sha: String,
    merged_at: String,
}

fn time(text: &str) -> Micros {
    Micros::parse(text).expect("a time")
}

fn unpacked(path: &Path) -> String {
    succeed(Command::new("gzip").arg("-dc").arg(path))
}

fn rows<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    unpacked(path).lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

/// A recorded delivery, as a line of a file.
fn line(event: Option<&str>, body: &Value) -> String {
    let headers: BTreeMap<_, _> = event.map(|event| ("x-github-event", event)).into_iter().collect();
    json!({ "headers": headers, "body": body }).to_string()
}

/// Accounts of GitHub, by address.
struct Logins {
    /// Local parts that more than one address has.
    shared: BTreeSet<String>,
}

impl Logins {
    const NO_REPLY: &str = "users.noreply.github.com";

    fn new<'a>(addresses: impl Iterator<Item = &'a str>) -> Self {
        let mut of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (local, host) in addresses.filter_map(|a| a.split_once('@')).filter(|(_, host)| *host != Self::NO_REPLY) {
            of.entry(local).or_default().insert(host);
        }
        let shared = of.into_iter().filter(|(_, hosts)| hosts.len() > 1).map(|(local, _)| local.to_owned());
        Self { shared: shared.collect() }
    }

    fn of(&self, address: &str) -> String {
        match address.split_once('@') {
            Some(("noreply", "github.com")) => "web-flow".to_owned(),
            // `123+login@`, formerly `login@`.
            Some((local, Self::NO_REPLY)) => local.rsplit('+').next().unwrap_or(local).to_owned(),
            Some((local, _)) if !self.shared.contains(local) => local.to_owned(),
            _ => address.replace('@', "-"),
        }
    }

    fn signature(&self, name: &str, address: &str, date: &str) -> Value {
        json!({ "name": name, "email": address, "username": self.of(address), "date": date })
    }
}

fn repository() -> Value {
    json!({ "full_name": "apache/kafka", "default_branch": "trunk" })
}

fn push(commits: &[Commit], logins: &Logins) -> Option<String> {
    let of = |c: &Commit| {
        json!({
            "id": c.sha,
            "message": c.message,
            "timestamp": c.committer_date,
            "author": logins.signature(&c.author_name, &c.author_email, &c.author_date),
            "committer": logins.signature(&c.committer_name, &c.committer_email, &c.committer_date),
            "added": [],
            "removed": [],
            "modified": c.files.iter().map(|(path, ..)| path).collect::<Vec<_>>(),
        })
    };
    let head = commits.last()?;
    let body = json!({
        "ref": "refs/heads/trunk",
        "after": head.sha,
        "repository": repository(),
        "commits": commits.iter().map(of).collect::<Vec<_>>(),
        "head_commit": of(head),
    });
    Some(line(Some("push"), &body))
}

/// The delivery of a merge. `own` goes by the author's dates.
fn merge(pull: &Merged, own: &[&Own], logins: &Logins) -> Option<String> {
    let (first, last) = (own.first()?, own.last()?);
    let text = own.iter().map(|c| c.message.as_str()).collect::<Vec<_>>().join("\n\n");
    let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let body = json!({
        "action": "closed",
        "number": pull.pr,
        "repository": repository(),
        "pull_request": {
            "number": pull.pr,
            "title": title,
            "body": rest.trim(),
            "state": "closed",
            "merged": true,
            "user": { "login": logins.of(&first.author_email) },
            "head": { "ref": format!("refs/pull/{}/head", pull.pr), "sha": pull.head },
            "base": { "ref": "trunk" },
            "merge_commit_sha": pull.merged_sha,
            "created_at": last.author_date,
            "updated_at": pull.merged_at,
            "closed_at": pull.merged_at,
            "merged_at": pull.merged_at,
        },
    });
    Some(line(Some("pull_request"), &body))
}

/// What GitHub would have delivered until the end of 2019: pushes to the main branch, then the pull requests merged since
/// 2015.
fn of_github(commits: &Path, pulls: &Path, merged: &Path) -> Vec<String> {
    let (since, until) = (time("2015-01-01T00:00:00Z"), time("2020-01-01T00:00:00Z"));
    let mut commits: Vec<Commit> = rows(commits);
    commits.retain(|c| time(&c.committer_date) < until);
    // The newest comes first.
    commits.reverse();
    let mut merged: Vec<Merged> = rows(merged);
    merged.retain(|m| (since..until).contains(&time(&m.merged_at)));
    let pulls: Vec<Pull> = rows(pulls);
    let own: BTreeMap<u64, Vec<&Own>> = pulls
        .iter()
        .filter_map(|pull| {
            let mut own: Vec<_> = pull.own_commits.as_ref()?.iter().collect();
            own.sort_by_key(|c| time(&c.author_date));
            Some((pull.pr, own))
        })
        .collect();
    let worked = merged.iter().filter_map(|m| own.get(&m.pr)).flatten().map(|c| c.author_email.as_str());
    let committed = commits.iter().flat_map(|c| [c.author_email.as_str(), &c.committer_email]);
    let logins = Logins::new(committed.chain(worked));
    let pushes = commits.chunks(PUSHED).filter_map(|part| push(part, &logins));
    let merges = merged.iter().filter_map(|m| merge(m, own.get(&m.pr)?, &logins));
    pushes.chain(merges).collect()
}

/// `29/Jun/16 12:35` as Jira's webhooks write it.
fn date(text: &str) -> String {
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let [day, month, year, hour, minute] = text.split(['/', ' ', ':']).collect::<Vec<_>>()[..] else {
        panic!("{text} is no date");
    };
    let month = 1 + months.iter().position(|m| *m == month).expect("a month");
    format!("20{year}-{month:02}-{day:0>2}T{hour:0>2}:{minute}:00.000+0000")
}

/// What Jira delivers of an issue in its last state.
fn of_jira(row: &BTreeMap<String, String>) -> String {
    let named = |column: &str| Some(&row[column]).filter(|text| !text.is_empty()).map(|text| json!({ "name": text }));
    let category = match row["Status"].as_str() {
        "Resolved" | "Closed" => "done",
        "Patch Available" => "indeterminate",
        _ => "new",
    };
    let fields = json!({
        "summary": row["Summary"],
        "project": { "key": "KAFKA" },
        "issuetype": named("Issue Type"),
        "priority": named("Priority"),
        "status": { "name": row["Status"], "statusCategory": { "key": category } },
        "resolution": named("Resolution"),
        "reporter": named("Reporter"),
        "assignee": named("Assignee"),
        "created": date(&row["Created"]),
        "updated": date(&row["Updated"]),
    });
    let issue = json!({ "id": row["Issue id"], "key": row["Issue key"], "fields": fields });
    line(None, &json!({ "webhookEvent": "jira:issue_created", "issue": issue }))
}

/// The exports of Jira by year, of 16 projects.
fn exports() -> Option<Vec<PathBuf>> {
    (2010..2020).map(|year| outside(&format!("links/apachejit/jira-issues-{year}.csv.gz"))).collect()
}

/// Whole numbers of a row.
fn counted(dir: &Path, query: &str) -> Vec<u64> {
    let shown = sql(dir, "csv", query);
    let row = shown.lines().nth(1).expect("a row");
    row.split(',').map(|n| n.parse().expect("a count")).collect()
}

const IMPORTED: &str = "
    select (select count(*) from tickets) as tickets, (select count(*) from commits) as commits,
           (select count(*) from pull_requests) as pull_requests, (select count(*) from rejects) as rejects";

/// Of the pull requests that name no ticket: all of them, and those whose merged commit names a ticket that there is.
const UNSTATED: &str = "
    with naming as (select distinct artifact_id from evidence where artifact_kind = 'PullRequest' and kind <> 'via_commit'),
    labelled as (
        select distinct e.artifact_id from evidence e join tickets t on e.ticket_key = t.ticket_key
        where e.artifact_kind = 'PullRequest' and e.kind = 'via_commit'
    )
    select count(*), count(l.artifact_id) from pull_requests p
    left join naming n on p.pull_request = n.artifact_id left join labelled l on p.pull_request = l.artifact_id
    where n.artifact_id is null";

/// Authors of pull requests, and those of whom an account of Jira is known.
const AUTHORS: &str = "
    with in_jira as (
        select distinct i.identity from identities i join fact_accounts a on i.person = a.person where a.source = 'jira'
    )
    select count(distinct p.author), count(distinct case when j.identity is not null then p.author end)
    from pull_requests p join identities i on p.author = i.person left join in_jira j on i.identity = j.identity";

#[test]
fn pull_requests_of_kafka_that_name_no_ticket_are_linked_with_honest_probabilities() {
    let (Some(commits), Some(pulls), Some(merged), Some(exports)) = (
        outside("git/kafka.jsonl.gz"),
        outside("git/kafka.pulls.jsonl.gz"),
        outside("links/pr-truth/kafka.jsonl.gz"),
        exports(),
    ) else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (dir, out) = (at("data"), at("calibration"));
    let import = |connector: &str, deliveries: Vec<String>| {
        let file = at(&format!("{connector}.ndjson"));
        std::fs::write(&file, deliveries.join("\n")).expect("a file");
        succeed(flowsync().args(["import", connector, "--dir"]).arg(&dir).arg(&file));
    };
    let issues = exports.iter().flat_map(|path| csv(&unpacked(path)));
    import("jira", issues.filter(|row| row["Issue key"].starts_with("KAFKA-")).map(|row| of_jira(&row)).collect());
    import("github", of_github(&commits, &pulls, &merged));
    assert_eq!(counted(&dir, IMPORTED), [3_038, 6_939, 5_437, 0], "tickets, commits, pull requests, rejected");
    let (unstated, authors) = (counted(&dir, UNSTATED), counted(&dir, AUTHORS));
    println!("{} of 5437 pull requests name no ticket, {} of them belong to a known one", unstated[0], unstated[1]);
    println!("{} authors of pull requests, {} of them with an account of Jira", authors[0], authors[1]);

    succeed(flowsync().args(["calibrate", "--rolling-months", "6", "--dir"]).arg(&dir).arg("--out").arg(&out));
    let written = |name: &str| std::fs::read_to_string(out.join(name)).expect("calibrate writes it");
    let report: Value = serde_json::from_str(&written("report.json")).expect("JSON");
    let figure = |name: &str| {
        let value = report.pointer(&format!("/tested/{}", name.replace('.', "/"))).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("the report has no tested.{name}"))
    };
    let (changes, with_a_ticket) = (figure("changes"), figure("with_a_ticket"));
    let (ours, words) = (figure("p_at_1"), figure("bm25.p_at_1"));
    let (first, pairs) = (figure("ece_top1"), figure("ece_pairs"));
    let by_chance = figure("ece_pairs_chance.p95");
    println!("tested: {changes} changes, {with_a_ticket} of them with a ticket, periods of six months");
    println!("  P@1                {ours:.3}    BM25 {words:.3}");
    println!("  among candidates   {:.3}", figure("recall_of_candidates"));
    println!(
        "  ECE, first choice  {first:.4}   by chance {:.4}, at most {:.4}    Brier {:.4}",
        figure("ece_top1_chance.mean"),
        figure("ece_top1_chance.p95"),
        figure("brier_top1")
    );
    println!(
        "  ECE, {} pairs     {pairs:.4}   by chance {:.4}, at most {by_chance:.4}",
        figure("pairs"),
        figure("ece_pairs_chance.mean")
    );
    assert!((2_000.0..=3_500.0).contains(&changes) && with_a_ticket >= 250.0, "{with_a_ticket} of {changes}");
    assert!(ours > words, "P@1 {ours}, BM25 {words}");
    assert!(first <= 0.03, "expected calibration error over first choices: {first}");
    assert!(pairs <= by_chance.max(0.03), "expected calibration error over pairs: {pairs}, by chance {by_chance}");

    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/model/default.toml");
    let kept =
        [("report.md", documents.join("calibration.md")), ("reliability.svg", documents.join("reliability.svg"))];
    if std::env::var_os("FLOWSYNC_BLESS").is_some() {
        let kept = kept.iter().map(|(name, path)| (*name, path)).chain([("model.toml", &shipped)]);
        kept.for_each(|(name, path)| std::fs::write(path, written(name)).expect("a file"));
    }
    for (name, path) in kept {
        let current = std::fs::read_to_string(&path).is_ok_and(|text| text == written(name));
        assert!(current, "{} is stale: run this test with FLOWSYNC_BLESS=1", path.display());
    }
    let page = std::fs::read_to_string(documents.join("confidence.md")).expect("the page");
    let highest = written("report.md").lines().find_map(|line| line.strip_prefix("| 80–100 % |").map(str::to_owned));
    let (_, came_true) = highest.as_deref().and_then(|row| row.split_once('(')?.1.split_once('(')).expect("a band");
    let came_true = format!("({})", came_true.split(')').next().unwrap_or_default());
    for said in [format!("{:.1} %", 100.0 * ours), format!("{:.1} %", 100.0 * words), format!("{first:.3}"), came_true]
    {
        assert!(page.contains(&said), "confidence.md does not say {said:?}");
    }
    let fitted = |text: &str| Model::parse(text).expect("a model").unstated.expect("it was fitted");
    let (ours, fresh) = (fitted(flowsync_schemas::model::DEFAULT), fitted(&written("model.toml")));
    assert_eq!(ours, fresh, "the shipped model is another: run this test with FLOWSYNC_BLESS=1");

    let config = at("flowsync.toml");
    std::fs::write(&config, format!("model = {:?}\n", out.join("model.toml"))).expect("a file");
    succeed(flowsync().args(["check", "--config"]).arg(&config).arg("--dir").arg(&dir));
}

#[test]
fn an_address_stands_for_one_account() {
    let logins =
        Logins::new(["me@a.example", "me@b.example", "one@a.example", "one@users.noreply.github.com"].into_iter());
    let of = |address| logins.of(address);
    assert_eq!(of("one@a.example"), "one");
    assert_eq!(of("me@a.example"), "me-a.example");
    assert_eq!([of("1+one@users.noreply.github.com"), of("one@users.noreply.github.com")], ["one", "one"]);
    assert_eq!(of("noreply@github.com"), "web-flow");
    assert_eq!(date("9/Jun/16 2:35"), "2016-06-09T02:35:00.000+0000");
}
