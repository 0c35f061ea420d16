//! Pull requests and the issues that they number, as DevLake's linker has them: what it finds is found, and links that the
//! text does not give survive when the text is read again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    jira_links::csv,
    process::{documented, flowsync, outside, sql, succeed},
};

type Rows = Vec<BTreeMap<String, String>>;

fn table(name: &str) -> Option<Rows> {
    let path = outside(&format!("payloads/devlake/linker/snapshot_tables/{name}.csv"))?;
    Some(csv(&std::fs::read_to_string(path).expect("the file can be read")))
}

/// `owner/repo` of an address of GitHub, and the number at its end.
fn place(url: &str) -> (String, u64) {
    let parts: Vec<_> = url.trim_start_matches("https://github.com/").split('/').collect();
    (format!("{}/{}", parts[0], parts[1]), parts[3].parse().expect("a number"))
}

fn time(text: &str) -> String {
    format!("{}Z", text.replace(' ', "T"))
}

fn line(event: &str, delivery: &str, body: &Value) -> String {
    let headers = json!({"x-github-event": event, "x-github-delivery": delivery});
    json!({"headers": headers, "body": body}).to_string()
}

/// An issue as GitHub tells of it.
fn issue(row: &BTreeMap<String, String>) -> String {
    let (repo, number) = place(&row["url"]);
    let body = json!({
        "action": "opened",
        "issue": {
            "number": number, "title": row["title"], "body": row["description"], "state": "open", "labels": [],
            "user": {"login": "octo-ada"}, "html_url": row["url"],
            "created_at": time(&row["created_date"]), "updated_at": time(&row["created_date"]), "closed_at": null,
        },
        "repository": {"full_name": repo, "default_branch": "main"},
    });
    line("issues", &row["url"], &body)
}

/// A pull request as GitHub tells of it, with this title, at some minute after it was created.
fn pull_request(row: &BTreeMap<String, String>, action: &str, title: &str, minute: u32) -> String {
    let (repo, number) = place(&row["url"]);
    let created = time(&row["created_date"]);
    let user = json!({"login": row["author_name"]});
    let place = json!({"full_name": repo, "default_branch": "main"});
    let body = json!({
        "action": action,
        "number": number,
        "pull_request": {
            "number": number, "title": title, "body": row["description"], "state": "open", "draft": false, "user": user,
            "created_at": created, "updated_at": created.replace(":31:", &format!(":{minute}:")), "closed_at": null,
            "merged_at": null, "merge_commit_sha": null, "merged": false, "html_url": row["url"],
            "head": {"ref": row["head_ref"], "sha": row["head_commit_sha"], "user": user, "repo": place},
            "base": {"ref": "main", "sha": row["base_commit_sha"], "user": user, "repo": place},
        },
        "repository": place,
    });
    line("pull_request", &format!("{} {action}", row["url"]), &body)
}

/// What is linked after these deliveries: numbers of pull requests, and issues.
fn linked(github: &[String], reports: &[Value]) -> Vec<String> {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    let import = |connector: &str, lines: &[String]| {
        let file = folder.path().join(format!("{connector}.ndjson"));
        std::fs::write(&file, lines.join("\n")).expect("a file");
        succeed(flowsync().args(["import", connector, "--dir"]).arg(&dir).arg(&file));
    };
    import("github", github);
    let reports: Vec<_> = reports.iter().map(|body| json!({"headers": {}, "body": body}).to_string()).collect();
    if !reports.is_empty() {
        import("manual", &reports);
    }
    assert_eq!(sql(&dir, "csv", "select count(*) from rejects").lines().nth(1), Some("0"));
    let links = "select artifact_id, ticket_key from links where artifact_kind = 'PullRequest' order by 1, 2";
    sql(&dir, "csv", links).lines().skip(1).map(str::to_owned).collect()
}

/// The links of one of DevLake's tables, written as above.
fn known(links: &Rows, pulls: &Rows, issues: &Rows) -> Vec<String> {
    let address = |rows: &Rows, id: &str| {
        let row = rows.iter().find(|row| row["id"] == id).expect("it is in its table");
        let (repo, number) = place(&row["url"]);
        format!("{repo}#{number}")
    };
    let link = |row: &BTreeMap<String, String>| {
        format!("{},{}", address(pulls, &row["pull_request_id"]), address(issues, &row["issue_id"]))
    };
    let mut known: Vec<_> = links.iter().map(link).collect();
    known.sort();
    known
}

#[test]
fn what_devlakes_linker_finds_is_linked() {
    let (Some(pulls), Some(issues), Some(links)) =
        (table("pull_requests"), table("issues"), table("pull_request_issues"))
    else {
        return;
    };
    let opened = pulls.iter().map(|row| pull_request(row, "opened", &row["title"], 31));
    let deliveries: Vec<_> = issues.iter().map(issue).chain(opened).collect();
    let found = linked(&deliveries, &[]);
    assert_eq!(found, known(&links, &pulls, &issues));
    documented("DevLake's linker", (found.len(), links.len()), Some(0));
}

#[test]
fn links_of_others_survive_when_a_title_no_longer_names_an_issue() {
    let (Some(pulls), Some(issues), Some(before), Some(after)) = (
        table("cross_project_pull_requests"),
        table("cross_project_issues"),
        table("cross_project_pull_request_issues_before"),
        table("cross_project_pull_request_issues_after"),
    ) else {
        return;
    };
    let [first, second] = &pulls[..] else { panic!("{} pull requests", pulls.len()) };
    // The text of the second gives one link; two stand on another's word.
    let says = |issue: &str| {
        let pull_request = {
            let (repo, number) = place(&second["url"]);
            format!("{repo}#{number}")
        };
        let at = "2024-05-01T00:00:00Z";
        json!({"verb": "confirm", "ticket": issue, "artifact": pull_request, "reporter": "ada@example.org", "at": at})
    };
    let others = ["other/repo#2001", "apache/incubator-devlake#1884"].map(says);
    let mut deliveries: Vec<_> = issues.iter().map(issue).collect();
    deliveries.push(pull_request(second, "opened", "fix: what #1885 tells of", 31));
    assert_eq!(linked(&deliveries, &others), known(&before, &pulls, &issues));
    deliveries.push(pull_request(first, "opened", &first["title"], 31));
    deliveries.push(pull_request(second, "edited", &second["title"], 40));
    assert_eq!(linked(&deliveries, &others), known(&after, &pulls, &issues));
}
