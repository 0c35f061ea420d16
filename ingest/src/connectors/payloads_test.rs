//! Deliveries that outsiders recorded, each parsed: nothing panics, and what is not read is rejected with its reason.
//!
//! They lie beside the checkout, in `../shared/data/payloads`, and are no part of it. Where they are absent the tests
//! say so and pass; with `CI=true` their absence is an error. Run with `--nocapture` to see every rejection.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use flowsync_schemas::{Fact, Micros, Pseudonymizer};
use serde_json::{Value, value::RawValue};

use super::{Delivery, Verified, by_name, parse};

/// One recorded body, and the event that its header named, where the recording tells.
struct Recorded {
    file: String,
    event: Option<String>,
    body: Vec<u8>,
}

fn folder(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/payloads");
    if !root.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs the recorded payloads at {}", root.display());
        println!("skipped: there are no recorded payloads at {}", root.display());
        return None;
    }
    Some(root.join(name))
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(json_files(&path));
        } else if path.extension().is_some_and(|e| e == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The recorded bodies of a folder; `event` tells the event of a file by its path within the folder.
fn recorded(folder: &Path, event: impl Fn(&str) -> Option<String>) -> Vec<Recorded> {
    let read = |path: PathBuf| {
        let file = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        Recorded { event: event(&file), body: fs::read(&path).unwrap(), file }
    };
    json_files(folder).into_iter().map(read).collect()
}

/// Bodies wrapped as `{"name": event, "payload": body}`, one or a list of them; other files are returned as they are.
fn unwrapped(recorded: Vec<Recorded>) -> (Vec<Recorded>, Vec<Recorded>) {
    #[derive(serde::Deserialize)]
    struct Wrapped<'a> {
        name: String,
        #[serde(borrow)]
        payload: &'a RawValue,
    }
    let (mut bodies, mut others) = (Vec::new(), Vec::new());
    for recorded in recorded {
        let list = serde_json::from_slice::<Vec<Wrapped<'_>>>(&recorded.body);
        match list.or_else(|_| serde_json::from_slice(&recorded.body).map(|one| vec![one])) {
            Ok(list) if list.iter().any(|wrapped| wrapped.name.starts_with(char::is_alphabetic)) => {
                bodies.extend(list.iter().map(|wrapped| Recorded {
                    file: recorded.file.clone(),
                    event: Some(wrapped.name.clone()),
                    body: wrapped.payload.get().as_bytes().to_vec(),
                }))
            }
            _ => others.push(recorded),
        }
    }
    (bodies, others)
}

struct Said {
    facts: Vec<Fact>,
    reasons: Vec<String>,
}

fn said(connector: &str, event: Option<&str>, body: &[u8]) -> Said {
    let people = Pseudonymizer::new(&[7; 32]);
    let headers: Vec<_> = event.map(|e| ("x-github-event".to_owned(), e.to_owned())).into_iter().collect();
    let delivery = Delivery { headers: &headers, body, received_at: Micros::from_secs(1_790_000_000) };
    let connector = by_name(connector).unwrap();
    let parsed = parse(&Verified::imported(connector.spec(), delivery, None), &people);
    Said { facts: parsed.facts, reasons: parsed.rejections.iter().map(|r| r.reason.to_string()).collect() }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    files: usize,
    with_facts: usize,
    saying_nothing: usize,
    rejected: usize,
}

const fn counts(files: usize, with_facts: usize, saying_nothing: usize, rejected: usize) -> Counts {
    Counts { files, with_facts, saying_nothing, rejected }
}

fn count(group: &str, recorded: &[Recorded]) -> Counts {
    let connector = group.split('/').next().unwrap();
    let mut counts = Counts { files: recorded.len(), ..Counts::default() };
    for one in recorded {
        let said = said(connector, one.event.as_deref(), &one.body);
        match (said.facts.is_empty(), said.reasons.is_empty()) {
            (false, true) => counts.with_facts += 1,
            (true, true) => counts.saying_nothing += 1,
            (_, false) => {
                counts.rejected += 1;
                println!("{group}/{} ({} facts): {}", one.file, said.facts.len(), said.reasons.join(" | "));
            }
        }
    }
    assert_eq!(counts.files, counts.with_facts + counts.saying_nothing + counts.rejected);
    counts
}

/// The event of a file that is named after it, up to a mark.
fn stem(file: &str, mark: &str) -> Option<String> {
    let stem = file.strip_suffix(".json")?;
    let name = stem.split(mark).next()?.replace('-', "_");
    Some(match name.as_str() {
        "cancelled" | "created" | "edited" | "pending_cancellation" | "pending_tier_change" | "tier_changed" => {
            "sponsorship".to_owned()
        }
        "pull_request_issue_comment" => "issue_comment".to_owned(),
        "repository_edited" => "repository".to_owned(),
        _ => name,
    })
}

fn github() -> Option<BTreeMap<&'static str, Vec<Recorded>>> {
    let folder = folder("github")?;
    let octokit = recorded(&folder.join("octokit"), |file| file.split('/').next().map(str::to_owned));
    let playground = recorded(&folder.join("go-playground"), |file| stem(file, "."));
    let zulip = recorded(&folder.join("zulip"), |file| stem(file, "__"));
    let (wrapped, others) = unwrapped(recorded(&folder.join("atlassian-github-for-jira"), |_| None));
    Some(BTreeMap::from([
        ("github/octokit", octokit),
        ("github/go-playground", playground),
        ("github/zulip", zulip),
        ("github/atlassian-github-for-jira", wrapped),
        ("github/atlassian-github-for-jira, no deliveries", others),
    ]))
}

#[test]
fn deliveries_of_github() {
    let Some(groups) = github() else { return };
    let found: BTreeMap<_, _> = groups.iter().map(|(name, list)| (*name, count(name, list))).collect();
    let expected = BTreeMap::from([
        // Trimmed by hand for unit tests: without a ref, a sha or a repository's full name, or with words for times.
        ("github/atlassian-github-for-jira", counts(29, 4, 0, 25)),
        ("github/atlassian-github-for-jira, no deliveries", counts(62, 0, 0, 62)),
        // A workflow run whose conclusion is "finished", which GitHub does not have.
        ("github/go-playground", counts(48, 11, 36, 1)),
        ("github/octokit", counts(271, 96, 175, 0)),
        // A pull request whose state is "close", which GitHub does not have.
        ("github/zulip", counts(84, 49, 34, 1)),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_delivery_of_github_without_its_event_is_told_by_shape_or_rejected() {
    let Some(groups) = github() else { return };
    let (mut told, mut rejected, mut untold) = (0, 0, Vec::new());
    for one in groups.iter().filter(|(name, _)| !name.ends_with("no deliveries")).flat_map(|(_, list)| list) {
        let named = said("github", one.event.as_deref(), &one.body);
        let unnamed = said("github", None, &one.body);
        if unnamed.reasons.iter().any(|r| r.starts_with("header X-GitHub-Event")) {
            rejected += 1;
            if !named.facts.is_empty() {
                untold.push(&*one.file);
            }
            continue;
        }
        let bodies = |said: &Said| said.facts.iter().map(|f| (f.at, f.body.clone())).collect::<Vec<_>>();
        assert_eq!(bodies(&unnamed), bodies(&named), "{}: {:?} was taken for another event", one.file, one.event);
        assert_eq!(unnamed.reasons, named.reasons, "{}", one.file);
        told += 1;
    }
    // Trimmed by hand: without pusher_type, and the deletion with the master_branch that only creations have.
    let ambiguous = ["branch-basic.json", "branch-delete.json", "branch-no-issues.json"];
    assert_eq!(untold, ambiguous, "read with its event, and not recognised without");
    assert_eq!((told, rejected), (193, 239));
}

#[test]
fn deliveries_of_jira() {
    let Some(folder) = folder("jira") else { return };
    let all = |name: &str| recorded(&folder.join(name), |_| None);
    let (rest, mattermost) = all("mattermost-plugin-jira").into_iter().partition(|r| r.file.contains('/'));
    let groups: [(&str, Vec<Recorded>); 4] = [
        ("jira/zulip", all("zulip")),
        ("jira/mattermost-plugin-jira", mattermost),
        ("jira/mattermost-plugin-jira, no deliveries", rest),
        ("jira/go-jira, no deliveries", all("go-jira")),
    ];
    let found: BTreeMap<_, _> = groups.iter().map(|(name, list)| (*name, count(name, list))).collect();
    let expected = BTreeMap::from([
        ("jira/go-jira, no deliveries", counts(31, 0, 0, 31)),
        ("jira/mattermost-plugin-jira", counts(55, 55, 0, 0)),
        ("jira/mattermost-plugin-jira, no deliveries", counts(7, 0, 0, 7)),
        // Two of an event that Jira does not have, and one that is no event.
        ("jira/zulip", counts(28, 25, 0, 3)),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn recorded_issues_of_jira_are_read_as_they_stand() {
    // An independent, naive reading of the same files: key, status and number of status changes.
    let Some(folder) = folder("jira/mattermost-plugin-jira") else { return };
    let mut compared = 0;
    for one in recorded(&folder, |_| None) {
        let Ok(body) = serde_json::from_slice::<Value>(&one.body) else { continue };
        if !body["webhookEvent"].as_str().is_some_and(|e| e.starts_with("jira:issue_")) {
            continue;
        }
        let said = said("jira", None, &one.body);
        let mut tickets = Vec::new();
        let mut transitions = 0;
        for fact in &said.facts {
            match &fact.body {
                flowsync_schemas::FactBody::Ticket(t) => {
                    tickets.push((t.ticket_key.to_string(), t.status.to_string(), t.title.to_string()))
                }
                flowsync_schemas::FactBody::Activity(a) if a.detail.is_some() => transitions += 1,
                _ => {}
            }
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fields = &body["issue"]["fields"];
        assert_eq!(
            tickets,
            [(text(&body["issue"]["key"]), text(&fields["status"]["name"]), text(&fields["summary"]))],
            "{}",
            one.file
        );
        let items = body["changelog"]["items"].as_array().map_or(&[][..], Vec::as_slice);
        let moved = body["webhookEvent"] == "jira:issue_updated";
        assert_eq!(transitions, items.iter().filter(|i| moved && i["field"] == "status").count(), "{}", one.file);
        compared += 1;
    }
    assert!(compared > 40, "only {compared} issues compared");
}
