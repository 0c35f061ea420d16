//! What is held of a person is handed out whole, and erased from everything: no file holds them any more, no answer, no copy of
//! the log from before; totals stay, the log still proves itself, and everybody else is as before. And deliveries past their
//! retention go, without what was read from them.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use flowsync_ingest::{
    DataDir, EmbeddedLog, Names,
    privacy::{Pending, Salt, Subject, Token},
};
use flowsync_schemas::NameClaim;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Server, flowsync, said, sql, succeed};

/// What tells Ada from everybody else.
const MARKS: [&str; 4] = ["ada.lovelace@example.org", "ada-l-1815", "Ada Lovelace", "jira-ada-77"];

/// Answers that must not change.
const TOTALS: [&str; 5] = [
    "select ticket_key, sum(share_ppm) as share, count(*) as days from effort group by 1 order by 1",
    "select ticket_key, artifact_kind, confidence_bps, standing from links order by 1, 2, artifact_id",
    "select ticket_key, status, assignee is null as nobody from tickets order by 1",
    "select count(*) as commits, count(distinct author) as authors from commits",
    "select day, count(*) as items from activity group by 1 order by 1",
];

fn commit(sha: u32, message: &str, ada: bool) -> Value {
    let (name, email, login) = if ada {
        ("Ada Lovelace", "ada.lovelace@example.org", "ada-l-1815")
    } else {
        ("Grace H", "grace@example.org", "grace")
    };
    let person = json!({ "name": name, "email": email, "username": login });
    json!({
        "id": format!("{sha:040x}"), "message": message, "timestamp": format!("2026-10-01T{:02}:00:00Z", 8 + sha % 10),
        "author": person, "committer": person, "added": [], "removed": [], "modified": ["cart/src/lib.rs"],
    })
}

fn push(sender: &str, commits: Vec<Value>) -> String {
    let body = json!({
        "ref": "refs/heads/main", "after": commits[commits.len() - 1]["id"], "head_commit": commits[commits.len() - 1],
        "repository": { "full_name": "acme/shop", "default_branch": "main" },
        "sender": { "login": sender, "id": 77, "avatar_url": format!("https://avatars.example/{sender}") },
        "commits": commits,
    });
    json!({ "headers": { "x-github-event": "push" }, "body": body }).to_string()
}

fn issue(number: u32, summary: &str, ada: bool) -> String {
    let grace = json!({ "accountId": "jira-grace", "displayName": "Grace H", "emailAddress": "grace@example.org" });
    let person = json!({ "accountId": "jira-ada-77", "displayName": "Ada Lovelace", "emailAddress": "ada.lovelace@example.org" });
    let body = json!({
        "timestamp": 1_790_000_000_000_u64 + u64::from(number), "webhookEvent": "jira:issue_created", "user": grace,
        "issue": { "id": format!("{}", 10_000 + number), "key": format!("SHOP-{number}"), "fields": {
            "summary": summary, "issuetype": { "name": "Story" }, "project": { "key": "SHOP" },
            "status": { "name": "In Progress", "statusCategory": { "key": "indeterminate" } }, "reporter": grace,
            "assignee": if ada { person } else { grace.clone() },
            "created": "2026-09-28T08:00:00.000+0000", "updated": "2026-10-01T09:00:00.000+0000",
        }},
    });
    json!({ "headers": {}, "body": body }).to_string()
}

fn import(dir: &Path, connector: &str, deliveries: &[String]) -> String {
    let file = dir.with_extension(format!("{connector}.ndjson"));
    fs::write(&file, deliveries.join("\n")).expect("written");
    succeed(flowsync().args(["import", connector, "--dir"]).arg(dir).arg(file))
}

pub fn filled(dir: &Path) -> Vec<String> {
    import(dir, "jira", &[issue(1, "Cart breaks, says Ada Lovelace", true), issue(2, "Basket", false)]);
    let pushes = vec![
        push(
            "ada-l-1815",
            vec![
                commit(1, "SHOP-1 Mend the cart", true),
                commit(2, "SHOP-2 Basket\n\nCo-authored-by: Ada Lovelace <ada.lovelace@example.org>", false),
            ],
        ),
        push(
            "grace",
            vec![commit(3, "SHOP-2 Weave the basket", false), commit(4, "SHOP-1 As @ada-l-1815 says", false)],
        ),
    ];
    import(dir, "github", &pushes);
    let report = json!({ "verb": "start", "ticket": "SHOP-1", "reporter": "ada.lovelace@example.org", "at": "2026-10-01T09:00:00Z" });
    import(dir, "manual", &[json!({ "headers": {}, "body": report }).to_string()]);
    pushes
}

pub fn totals(dir: &Path) -> Vec<String> {
    TOTALS.iter().map(|query| sql(dir, "csv", query)).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// Ways to write a mark that a search would be fooled by.
fn spellings(mark: &str) -> Vec<Vec<u8>> {
    let base64 = |skip: usize| BASE64_STANDARD.encode(&mark.as_bytes()[skip..mark.len() - (mark.len() - skip) % 3]);
    vec![mark.to_lowercase().into_bytes(), hex::encode(mark).into_bytes(), base64(0).to_lowercase().into_bytes()]
}

fn holds(bytes: &[u8], mark: &str) -> bool {
    let bytes = bytes.to_ascii_lowercase();
    spellings(mark).iter().any(|spelt| bytes.windows(spelt.len()).any(|part| part == &**spelt))
}

/// Every cell of every table, and every file, with what it is found in.
pub fn found(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let tables = sql(dir, "csv", "select table_name from flowsync_tables order by 1");
    for table in tables.lines().skip(1) {
        let rows = sql(dir, "ndjson", &format!("select * from {table}"));
        found.extend(MARKS.iter().filter(|m| holds(rows.as_bytes(), m)).map(|mark| format!("{mark} in table {table}")));
    }
    for file in files(dir) {
        let bytes = fs::read(&file).expect("a file");
        let marks = MARKS.iter().filter(|m| holds(&bytes, m));
        found.extend(marks.map(|mark| format!("{mark} in {}", file.display())));
    }
    found
}

fn copy(from: &Path, to: &Path) {
    succeed(std::process::Command::new("cp").arg("-r").arg(from).arg(to));
}

#[test]
fn an_erased_person_is_in_nothing_that_is_left() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    let pushes = filled(&dir);
    let before = totals(&dir);
    assert!(found(&dir).iter().any(|place| place.contains("in table")), "the search finds nothing at all");
    let in_files: Vec<_> =
        found(&dir).into_iter().filter(|place| place.contains("/log/") || place.contains("/vault/")).collect();
    assert!(in_files.is_empty(), "log and vault are sealed: {in_files:?}");
    copy(&dir, &folder.path().join("backup"));

    let exported = succeed(flowsync().args(["privacy", "export", "ada.lovelace@example.org", "--dir"]).arg(&dir));
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of("person"), of("signal")), (1, 4), "{exported}");
    assert!(of("row") >= 10 && exported.contains("jira-ada-77"), "{exported}");

    let erase = |more: &[&str]| {
        let mut command = flowsync();
        command.args(["privacy", "erase", "Ada Lovelace", "--dir"]).arg(&dir).args(more);
        command.output().expect("the binary starts")
    };
    let asked = erase(&[]);
    assert!(
        !asked.status.success() && said(&asked).contains("ada-l-1815") && said(&asked).contains("--yes"),
        "{asked:?}"
    );
    assert_eq!(totals(&dir), before);
    let done = erase(&["--yes", "--reason", "Ada Lovelace asked for it"]);
    assert!(done.status.success(), "{}", said(&done));

    assert_eq!(found(&dir), [""; 0]);
    assert_eq!(totals(&dir), before);
    let receipt = files(&dir.join("privacy")).pop().expect("a receipt");
    let key = succeed(flowsync().args(["audit", "key", "--dir"]).arg(&dir));
    let checked = succeed(flowsync().args(["privacy", "check", "--key", key.trim()]).arg(&receipt));
    assert!(checked.contains("\"signals_redacted\": 4"), "{checked}");
    let audited = succeed(flowsync().args(["audit", "verify", "--dir"]).arg(&dir));
    assert!(audited.contains("good") && audited.contains("4 of the signals were withdrawn"), "{audited}");
    succeed(flowsync().args(["check", "--dir"]).arg(&dir));
    let unknown =
        flowsync().args(["privacy", "export", "Ada Lovelace", "--dir"]).arg(&dir).output().expect("it starts");
    assert!(!unknown.status.success() && said(&unknown).contains("nobody"), "{}", said(&unknown));

    // The same deliveries once more are known, and bring nobody back.
    import(&dir, "github", &pushes);
    assert_eq!(sql(&dir, "csv", "select count(*) from fact_signals").lines().nth(1), Some("5"));
    let config = folder.path().join("flowsync.toml");
    fs::write(&config, "").expect("written");
    Server::start(&dir, &config).stop();
    assert_eq!((found(&dir), totals(&dir)), (Vec::new(), before));

    succeed(flowsync().args(["compact", "--dir"]).arg(&dir));
    let master = fs::read(dir.join("keys/master.key")).expect("the master key");
    succeed(flowsync().args(["keys", "rotate", "--dir"]).arg(&dir));
    assert_ne!(fs::read(dir.join("keys/master.key")).expect("the master key"), master);
    let digest = ["digest", "--role", "engineer", "--since", "2026-09-01", "--dir"];
    assert!(succeed(flowsync().args(digest).arg(&dir)).contains("Grace H"), "names are read under the new master key");

    // Whoever has the log of before, and the keys of now, reads nothing of her.
    fs::remove_dir_all(dir.join("log")).expect("removed");
    copy(&folder.path().join("backup/log"), &dir.join("log"));
    let data = DataDir::open_writer(&dir, "a test").expect("nobody else holds it");
    let keys = data.keyring().expect("keys");
    let opened = EmbeddedLog::open(&data.log(), keys.clone()).err().map(|e| e.to_string());
    assert!(opened.is_some_and(|e| e.contains("its key is destroyed")), "a log of before the erasure");
    let lying = EmbeddedLog::as_it_lies(&data.log(), keys).expect("its files fit together");
    let readable = (0..5).filter(|offset| lying.key(*offset).expect("it is read").is_some()).count();
    assert_eq!(readable, 1, "the one that does not name her");
}

/// Waits until of so many deliveries nothing but the envelope is left.
pub fn until_let_go(server: &Server, deliveries: u64) {
    let started = std::time::Instant::now();
    let withdrawn = || {
        let agent = crate::kill::agent();
        let asked = agent.post(format!("http://{}/api/audit/verify", server.address)).send("{\"given\":[]}");
        let report: Value = asked.expect("an answer").body_mut().read_json().expect("JSON");
        report["withdrawn_gone"].as_u64().unwrap_or_default()
    };
    while withdrawn() < deliveries {
        assert!(started.elapsed().as_secs() < 60, "nothing is let go");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn deliveries_past_their_retention_go_and_what_was_read_from_them_stays() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    filled(&dir);
    let before = totals(&dir);
    let config = folder.path().join("flowsync.toml");
    fs::write(&config, "[retention_days]\ngithub = 0\n").expect("written");
    let server = Server::start(&dir, &config);
    until_let_go(&server, 2);
    server.stop();
    assert_eq!(totals(&dir), before);

    // Another program computes everything anew; what nobody can compute is carried over.
    let model = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/model/default.toml"))
        .expect("the model");
    let other = folder.path().join("model.toml");
    fs::write(&other, format!("{model}\n# Another file, hence another program.\n")).expect("written");
    fs::write(&config, format!("model = {other:?}\n[retention_days]\ngithub = 0\n")).expect("written");
    Server::start(&dir, &config).stop();
    assert_eq!(totals(&dir), before);
    let signals = sql(&dir, "csv", "select count(*) from fact_signals");
    assert_eq!(signals.lines().nth(1), Some("5"));

    // A person is erased from what was carried over, too.
    succeed(flowsync().args(["privacy", "erase", "ada.lovelace@example.org", "--yes", "--dir"]).arg(&dir));
    assert_eq!(found(&dir), [""; 0]);
    assert_eq!(totals(&dir), before);
}

#[test]
fn an_erasure_that_was_interrupted_is_finished_before_anything_else() {
    let folder = TempDir::new().expect("a folder");
    let dir = folder.path().join("data");
    filled(&dir);
    let before = totals(&dir);
    let data = DataDir::open_writer(&dir, "a test").expect("nobody else holds it");
    let keys = data.keyring().expect("keys");
    let names = Names::read(&data.vault(), &keys).expect("names");
    let ada = names.all().map(|(person, _)| person).filter(|person| {
        let mut claims = names.claims(*person);
        claims.any(|(_, account)| MARKS.iter().any(|mark| account.contains(mark)))
    });
    let claims: Vec<NameClaim> = ada
        .flat_map(|person| {
            let claims = names.claims(person);
            claims.map(move |(name, account)| NameClaim { person, name: name.into(), account: account.into() })
        })
        .collect();
    let subject = Subject::new(&claims, &[], Token::random().expect("a token"), Salt::random().expect("a salt"));
    Pending::begin(&data.privacy(), &keys, subject, "asked").expect("begun, and then killed");
    drop(data);

    let run = flowsync().args(["run", "--listen", "127.0.0.1:0", "--dir"]).arg(&dir).output().expect("it starts");
    assert!(!run.status.success() && said(&run).contains("privacy erase"), "{}", said(&run));
    let mut other = flowsync();
    other.args(["privacy", "erase", "grace@example.org", "--yes", "--dir"]).arg(&dir);
    let other = other.output().expect("it starts");
    assert!(!other.status.success() && said(&other).contains("say again"), "{}", said(&other));
    assert_eq!((found(&dir), totals(&dir)), (Vec::new(), before));
    let exported = succeed(flowsync().args(["privacy", "export", "grace@example.org", "--dir"]).arg(&dir));
    assert!(exported.contains("Grace H"), "who was asked for meanwhile is still there");
}

/// When an erasure is killed: once it has said this, and so much later.
const KILLS: [(&str, u64); 6] = [
    ("known as", 0),
    ("known as", 20),
    ("are redacted", 0),
    ("are redacted", 300),
    ("computed anew", 0),
    ("for the person", 0),
];

/// Deliveries that are there, and such as only their facts are left of.
#[test]
fn an_erasure_that_is_killed_is_finished_by_the_next_call() {
    let folder = TempDir::new().expect("a folder");
    let whole = folder.path().join("whole");
    filled(&whole);
    let config = folder.path().join("flowsync.toml");
    fs::write(&config, "[retention_days]\ngithub = 0\n").expect("written");
    let server = Server::start(&whole, &config);
    until_let_go(&server, 2);
    server.stop();
    let before = totals(&whole);

    for (case, (said_so, later)) in KILLS.into_iter().enumerate() {
        let dir = folder.path().join(format!("case-{case}"));
        copy(&whole, &dir);
        let erase = || {
            let mut command = flowsync();
            command.args(["privacy", "erase", "Ada Lovelace", "--yes", "--dir"]).arg(&dir);
            command
        };
        let mut killed = erase().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(killed.stdout.take().expect("its standard output")).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(said_so)));
        assert!(line.is_some(), "it never said {said_so:?}");
        std::thread::sleep(Duration::from_millis(later));
        killed.kill().expect("killed");
        killed.wait().expect("ended");

        let next = erase().output().expect("the binary starts");
        let told = said(&next);
        let done = next.status.success() || told.contains("say again") || told.contains("nobody here is known");
        assert!(done, "killed {later} ms after {said_so:?}: {told}");
        let begun = told.contains("finishing the erasure that was interrupted");
        assert!(begun || later > 0 || !["are redacted", "computed anew"].contains(&said_so), "not interrupted: {told}");
        assert_eq!((found(&dir), totals(&dir)), (Vec::new(), before.clone()), "killed {later} ms after {said_so:?}");
        let receipts = files(&dir.join("privacy"));
        assert!(receipts.iter().all(|path| path.file_name().is_some_and(|name| name != "erasing")), "{receipts:?}");
        assert!(!receipts.is_empty(), "an erasure ends with a receipt");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
