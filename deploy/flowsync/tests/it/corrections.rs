//! What was wrong and put right leaves nothing behind, end to end: deliveries through the gateway of the real process,
//! repositories through the importer.
//!
//! One organisation lives twice. In one life an edited title, a moved key, a deleted issue, a deleted branch, a force push, a
//! merged identity and a confirmed link are put right, and every delivery comes late, in disorder and twice. In the other
//! they never were. Every view is the same in the end (I2, I3).

use std::{path::Path, process::Command};

use flowsync_dataflow::views;
use flowsync_ingest::{
    connectors::{Secret, Secrets},
    now,
    simulate::Simulated,
};
use flowsync_schemas::Micros;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Server, flowsync, sql, succeed};

/// Views that tell of our own clock.
const TIMED: [&str; 2] = ["integration_health", "rejects"];
/// Columns that do: what an import reads is stated when it runs.
const IMPORTED: [(&str, &str); 3] = [("evidence", "at"), ("links", "stated_at"), ("edges", "since")];

fn delivery(connector: &'static str, headers: &[(&str, &str)], body: &Value) -> Simulated {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Simulated { connector, headers, body: body.to_string().into_bytes(), at: Micros(0), forged: false }
}

/// A version of a pull request of `octo-ada`, as GitHub tells of it.
fn pull_request(id: &str, action: &str, number: i64, title: &str, hour: u32) -> Simulated {
    let user = json!({"login": "octo-ada", "type": "User"});
    let repo = json!({"full_name": "shop/storefront", "default_branch": "main"});
    let sha = format!("{number:040x}");
    let body = json!({
        "action": action,
        "number": number,
        "pull_request": {
            "number": number, "state": "open", "title": title, "body": null, "draft": false, "user": user.clone(),
            "created_at": "2026-10-01T08:00:00Z", "updated_at": format!("2026-10-01T{hour:02}:00:00Z"),
            "closed_at": null, "merged_at": null, "merge_commit_sha": null, "merged": false,
            "html_url": format!("https://github.example.org/shop/storefront/pull/{number}"),
            "head": {"ref": "topic", "sha": sha, "user": user.clone(), "repo": repo.clone()},
            "base": {"ref": "main", "sha": sha, "user": user.clone(), "repo": repo.clone()},
        },
        "repository": repo,
        "sender": user,
    });
    delivery("github", &[("x-github-event", "pull_request"), ("x-github-delivery", id)], &body)
}

/// A version of an issue, as Jira tells of it.
fn issue(id: &str, event: &str, number: i64, key: &str, hour: u32) -> Simulated {
    let grace = json!({"accountId": "grace-1", "displayName": "Grace Example", "accountType": "atlassian"});
    let project = key.split('-').next();
    let body = json!({
        "timestamp": 1_790_582_400_000_i64 + i64::from(hour) * 3_600_000,
        "webhookEvent": event,
        "user": grace.clone(),
        "issue": {"id": format!("{}", 10_000 + number), "key": key, "fields": {
            "summary": format!("Issue {number}"), "issuetype": {"name": "Story"}, "project": {"key": project},
            "status": {"name": "To Do", "statusCategory": {"key": "new"}}, "reporter": grace, "assignee": null,
            "created": "2026-09-28T08:00:00.000+0000", "updated": format!("2026-10-01T{hour:02}:00:00.000+0000"),
        }},
    });
    delivery("jira", &[("x-atlassian-webhook-identifier", id)], &body)
}

/// The same issue under another key, as Jira tells of a move.
fn moved(id: &str, number: i64, from: &str, to: &str, hour: u32) -> Simulated {
    let mut moved = issue(id, "jira:issue_updated", number, to, hour);
    let mut body: Value = serde_json::from_slice(&moved.body).expect("JSON");
    body["changelog"] = json!({"items": [{"field": "Key", "fieldtype": "jira", "fromString": from, "toString": to}]});
    moved.body = body.to_string().into_bytes();
    moved
}

/// What somebody reports; a report's `id` is what makes two of them one.
fn report(report: Value) -> Simulated {
    let mut report = report;
    report["reporter"] = json!("grace@example.org");
    delivery("manual", &[], &report)
}

/// What both lives have in common, and how it is in the end.
fn lasting() -> Vec<Simulated> {
    vec![
        issue("j1", "jira:issue_created", 1, "SHOP-1", 8),
        issue("j2", "jira:issue_created", 2, "SHOP-2", 8),
        issue("j3", "jira:issue_created", 3, "PAY-3", 8),
        // An edited title.
        pull_request("g2", "edited", 7, "SHOP-2 Keep the basket", 12),
        // A moved key.
        moved("j5", 5, "SHOP-5", "PAY-5", 12),
        // What names a deleted issue.
        pull_request("g3", "opened", 8, "SHOP-6 and SHOP-1: Count the baskets", 9),
        // A rejected link, an identity that is none.
        pull_request("g4", "opened", 9, "PAY-3 Round the price", 9),
        report(
            json!({"verb": "reject", "ticket": "PAY-3", "artifact": "shop/storefront#9", "at": "2026-10-02T09:00:00Z"}),
        ),
        report(
            json!({"verb": "different", "accounts": ["github:octo-ada", "jira:grace-1"], "at": "2026-10-02T09:00:00Z"}),
        ),
    ]
}

/// What was wrong, before it was put right.
fn mistakes() -> Vec<Simulated> {
    vec![
        pull_request("g1", "opened", 7, "SHOP-1 Keep the basket", 8),
        issue("j4", "jira:issue_created", 5, "SHOP-5", 8),
        issue("j6", "jira:issue_created", 6, "SHOP-6", 8),
        issue("j7", "jira:issue_deleted", 6, "SHOP-6", 12),
        report(
            json!({"verb": "confirm", "ticket": "PAY-3", "artifact": "shop/storefront#9", "at": "2026-10-02T08:00:00Z"}),
        ),
        report(json!({"verb": "same", "accounts": ["github:octo-ada", "jira:grace-1"], "at": "2026-10-02T08:00:00Z"})),
    ]
}

/// A report on the ticket that moved, under the key that it had at the time.
fn on_moved(key: &str) -> Simulated {
    report(json!({"verb": "start", "ticket": key, "id": "r5", "at": "2026-10-01T10:00:00Z"}))
}

fn send(address: &str, delivery: &Simulated) {
    let secrets: Secrets =
        ["github", "jira", "manual"].iter().map(|c| ((*c).to_owned(), Secret::new(format!("{c}-secret")))).collect();
    let mut request = ureq::post(format!("http://{address}/hooks/{}", delivery.connector));
    for (name, value) in delivery.sign(&secrets, now()).expect("a secret") {
        request = request.header(name, value);
    }
    let answer = request.send(&delivery.body[..]).expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
}

/// A repository with a commit on a branch that will be deleted, and one that a force push will replace.
struct Repository(std::path::PathBuf);

impl Repository {
    fn git(&self, args: &[&str]) {
        let who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
        let mut git = Command::new("git");
        git.current_dir(&self.0).args(who).args(args);
        git.env("GIT_AUTHOR_DATE", "2026-10-01T10:00:00Z").env("GIT_COMMITTER_DATE", "2026-10-01T10:00:00Z");
        succeed(&mut git);
    }

    fn commit(&self, message: &str) {
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
    }

    fn new(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a folder");
        let repository = Self(at.to_owned());
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.commit("SHOP-1 Begin");
        repository.git(&["checkout", "--quiet", "-b", "wip"]);
        repository.commit("SHOP-2 On a branch that will be gone");
        repository.git(&["checkout", "--quiet", "main"]);
        repository.commit("PAY-3 What a force push replaces");
        repository
    }

    fn correct(&self) {
        self.git(&["branch", "--quiet", "-D", "wip"]);
        self.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
        self.commit("SHOP-2 What it is replaced by");
    }
}

fn import(dir: &Path, repository: &Repository) {
    succeed(flowsync().args(["import", "git", "--dir"]).arg(dir).arg(&repository.0));
}

/// One life: its tables are committed when the server has stopped.
fn live<'a>(dir: &Path, config: &Path, deliveries: impl Iterator<Item = &'a Simulated>) {
    let server = Server::start(dir, config);
    deliveries.for_each(|delivery| send(&server.address, delivery));
    server.stop();
}

fn rows(dir: &Path, query: &str) -> Vec<String> {
    let mut rows: Vec<String> = sql(dir, "ndjson", query).lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

#[test]
fn what_is_put_right_leaves_nothing_behind() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let config = at("flowsync.toml");
    let secrets = "[secrets]\ngithub = \"github-secret\"\njira = \"jira-secret\"\nmanual = \"manual-secret\"\n";
    std::fs::write(&config, secrets).expect("written");
    let (corrected, never) = (at("corrected"), at("never"));
    let repository = Repository::new(&at("storefront"));

    import(&corrected, &repository);
    live(&corrected, &config, mistakes().iter().chain(&lasting()).chain([&on_moved("SHOP-5")]));
    // Heads of the pull requests are commits, too: linked by way of these, and less surely.
    let committed = "select ticket_key from links where artifact_kind = 'Commit' and confidence_bps > 9000";
    assert_eq!(rows(&corrected, committed).len(), 3, "the repository as it was is linked");
    repository.correct();
    import(&corrected, &repository);
    // Again, in another order.
    let again: Vec<_> = mistakes().into_iter().chain(lasting()).collect();
    live(&corrected, &config, again.iter().rev());

    // The same pseudonyms: the same tenant's key.
    std::fs::create_dir_all(never.join("keys")).expect("a folder");
    std::fs::copy(corrected.join("keys/tenant.key"), never.join("keys/tenant.key")).expect("copied");
    import(&never, &repository);
    live(&never, &config, lasting().iter().chain([&on_moved("PAY-5")]));

    for name in views::ALL.iter().map(|v| v.spec.table.name).filter(|name| !TIMED.contains(name)) {
        let timed = IMPORTED.iter().find(|(view, _)| *view == name);
        let columns = timed.map_or("*".to_owned(), |(_, column)| format!("* exclude ({column})"));
        let all = format!("select {columns} from {name}");
        assert_eq!(rows(&corrected, &all), rows(&never, &all), "{name}");
    }
    // And it is as it should be, not just the same.
    let keys = |keys: &[&str]| keys.iter().map(|key| format!(r#"{{"ticket_key":"{key}"}}"#)).collect::<Vec<_>>();
    assert_eq!(rows(&corrected, committed), keys(&["SHOP-1", "SHOP-2"]));
    let offered = "select ticket_key from links where artifact_kind = 'PullRequest' and standing = 'asserted'";
    assert_eq!(rows(&corrected, offered), keys(&["SHOP-1", "SHOP-2", "SHOP-6"]));
    let tickets = rows(&corrected, "select ticket_key from tickets");
    assert_eq!(tickets, keys(&["PAY-3", "PAY-5", "SHOP-1", "SHOP-2"]));
    let started = "select ticket_key from ticket_status where evidence_kind = 'report'";
    assert_eq!(rows(&corrected, started), keys(&["PAY-5"]));
    assert_eq!(rows(&corrected, "select 1 from identities where identity <> person"), Vec::<String>::new());
    for built in ["edges where dst_id = 'PAY-3'", "effort where ticket_key = 'PAY-3'"] {
        assert_eq!(rows(&corrected, &format!("select 1 from {built}")), Vec::<String>::new(), "{built}");
    }
}
