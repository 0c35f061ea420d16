//! Bodies that somebody means badly: nothing panics, nothing is silently dropped, and what comes out grows no faster than
//! what came in (I9, I10). Work is counted in what is stated, never in seconds; a test that does not end has failed.

#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use flowsync_schemas::{FactBody, Micros, Parsed, Pseudonymizer, connector::REJECTIONS_MAX};
use serde_json::{Value, json};

use super::{
    ALL, Delivery, Verified, by_name,
    conformance::{CASES, places, replace},
    json::NAME_BYTES_MAX,
    keys, sound,
};

static PEOPLE: LazyLock<Pseudonymizer> = LazyLock::new(|| Pseudonymizer::new(&[7; 32]));

fn read(connector: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Parsed<'static> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let delivery = Delivery { headers: &headers, body: body.as_ref(), received_at: Micros::from_secs(1_790_856_000) };
    sound::read(&Verified::imported(by_name(connector).unwrap().spec(), delivery, None), &PEOPLE)
}

fn reasons(parsed: &Parsed<'_>) -> Vec<String> {
    parsed.rejections.iter().map(|r| r.reason.to_string()).collect()
}

fn push(repository: &Value, git_ref: &str, commits: &str) -> String {
    format!(
        r#"{{"ref":{},"after":"c0ffee","repository":{repository},"pusher_type":"user","commits":[{commits}]}}"#,
        json!(git_ref)
    )
}

fn repository() -> Value {
    json!({"full_name": "acme/shop", "default_branch": "main", "pushed_at": 1_790_000_000})
}

const PUSH: &[(&str, &str)] = &[("x-github-event", "push")];

#[test]
fn no_depth_is_too_deep() {
    let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "0" + &close.repeat(depth);
    for connector in ALL {
        let name = connector.spec().name;
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"commits\":", "}]"), ("[", ""), ("{\"ref\":", "")] {
            let parsed = read(name, &[], nested(open, close, 1_000_000));
            assert!(parsed.facts.is_empty() && !parsed.rejections.is_empty(), "{name}: {open}");
        }
    }
    for case in CASES.iter() {
        let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(&case.body) else { continue };
        for field in document.keys().cloned().chain(["unheard_of".to_owned()]) {
            let mut document = document.clone();
            document.insert(field, json!("DEEP"));
            let body = Value::Object(document).to_string().replace("\"DEEP\"", &nested("[{\"a\":", "}]", 50_000));
            case.with_body(body.into_bytes());
        }
    }
}

/// JSON that parsers part over, and where a type of this program has no value for it.
const ODD: &[&str] = &[
    "1e400",
    "-1e-400",
    "9223372036854775808",
    "-9223372036854775809",
    "-0",
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\ud83d\u0041""#,
    r#""\u0000SHOP-1\u0000""#,
    "\"\u{202e}\u{feff}\u{1f3f4}\"",
    "tru",
    "NaN",
    "01",
    "\"\t\"",
];

#[test]
fn what_no_type_holds_is_data_at_any_place() {
    let digits = "7".repeat(1_000);
    let long = [digits.clone(), format!("-0.{digits}e-7"), format!("\"{digits}\"")];
    let odd = ODD.iter().copied().chain(long.iter().map(String::as_str));
    let odd: Vec<&str> = odd.collect();
    for case in CASES.iter() {
        let Ok(document) = serde_json::from_slice::<Value>(&case.body) else { continue };
        for place in 0..places(&document) {
            let mut marked = document.clone();
            replace(&mut marked, &mut place.clone(), &json!("ODD"));
            for with in &odd {
                let body = marked.to_string().replacen("\"ODD\"", with, 1);
                let parsed = case.with_body(body.into_bytes());
                let is_json = !matches!(*with, "tru" | "NaN" | "01" | "\"\t\"");
                assert!(is_json || parsed.facts.is_empty(), "{}: {with} at {place}", case.name);
            }
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_rejected_where_text_is_read() {
    for case in CASES.iter().filter(|case| serde_json::from_slice::<Value>(&case.body).is_ok()) {
        let states = !case.with_body(case.body.clone()).facts.is_empty();
        for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"] {
            let mut body = case.body.clone();
            let place = body.iter().position(|b| *b == b'"').unwrap() + 1;
            body.splice(place..place, bytes.iter().copied());
            let parsed = case.with_body(body);
            assert!(parsed.facts.is_empty(), "{}: {bytes:?}", case.name);
            assert_eq!(parsed.rejections.len(), usize::from(states || !parsed.rejections.is_empty()), "{}", case.name);
        }
    }
}

#[test]
fn what_a_section_cannot_hold_is_told_by_its_path() {
    for (odd, reason) in [("1e400", "not JSON"), (r#""\ud800""#, "not JSON")] {
        let repository = format!(r#"{{"full_name":{odd},"default_branch":"main"}}"#);
        let body = format!(r#"{{"ref":"refs/heads/main","after":"c0ffee","repository":{repository},"commits":[]}}"#);
        let told = reasons(&read("github", PUSH, body));
        assert!(told.len() == 1 && told[0].starts_with("repository.full_name: "), "{told:?}");
        assert!(told[0].contains(reason), "{told:?}");
    }
}

#[test]
fn a_thing_without_a_name_or_with_an_endless_one_is_rejected() {
    let endless = "a".repeat(NAME_BYTES_MAX + 1);
    for name in ["", &endless] {
        let commit = |id: &str| json!({"id": id, "message": "SHOP-1"}).to_string();
        let named = |full_name: &str| json!({"full_name": full_name});
        let issue = |key: &str, project: &str| {
            let fields = json!({"summary": "x", "status": {"name": "Open"}, "project": {"key": project}});
            json!({"webhookEvent": "jira:issue_created", "issue": {"key": key, "fields": fields}}).to_string()
        };
        let project = json!({"webhookEvent": "project_created", "project": {"key": name}}).to_string();
        let sprint = json!({"webhookEvent": "sprint_created", "sprint": {"name": "x", "state": "x", "id": name}});
        let release = json!({"action": "published", "repository": repository(), "release": {"tag_name": name}});
        let deployment = json!({"repository": repository(), "deployment": {"sha": name, "id": 1}});
        let run = json!({"repository": repository(), "workflow_run": {"head_sha": name, "id": 1, "status": "queued"}});
        let git = |repo: &str, sha: &str| {
            let who = json!({"name": "x", "email": "x@example.org", "time": "0 +0000"});
            let commit = json!({"sha": sha, "parents": [], "author": who, "committer": who, "message": "SHOP-1"});
            json!({"repo": repo, "commit": commit}).to_string()
        };
        let event = |event: &'static str| vec![("x-github-event", event)];
        let bodies = [
            ("github", event("push"), push(&named(name), "refs/heads/main", &commit("c0ffee")), "repository.full_name"),
            ("github", event("push"), push(&repository(), "refs/heads/main", &commit(name)), "commits[0].id"),
            ("github", event("release"), release.to_string(), "release.tag_name"),
            ("github", event("deployment"), deployment.to_string(), "deployment.sha"),
            ("github", event("workflow_run"), run.to_string(), "workflow_run.head_sha"),
            ("jira", vec![], issue(name, "SHOP"), "issue.key"),
            ("jira", vec![], issue("SHOP-1", name), "issue.fields.project.key"),
            ("jira", vec![], project, "project.key"),
            ("jira", vec![], sprint.to_string(), "sprint.id"),
            ("git", vec![], git(name, "c0ffee"), "repo"),
            ("git", vec![], git("acme/shop", name), "commit.sha"),
            ("git", vec![], json!({"repo": "acme/shop", "gone": [name]}).to_string(), "gone[0]"),
            (
                "git",
                vec![],
                json!({"repo": "acme/shop", "refs": [{"name": name, "sha": null}]}).to_string(),
                "refs[0].name",
            ),
        ];
        for (connector, headers, body, path) in bodies {
            let told = reasons(&read(connector, &headers, body));
            let expected = format!("{path}: expected a name of 1 to {NAME_BYTES_MAX} bytes");
            assert!(told.len() == 1 && told[0].starts_with(&expected), "{connector}: {told:?}, not {expected}");
        }
    }
}

#[test]
fn many_people_are_each_named_once() {
    let people = 100_000;
    let commit = |n: usize| {
        let author = json!({"name": "Ada", "email": format!("{n}@example.org")});
        json!({"id": format!("{n:040x}"), "message": "x", "author": author}).to_string()
    };
    let commits: Vec<String> = (0..people).chain(0..people).map(commit).collect();
    let parsed = read("github", PUSH, push(&repository(), "refs/heads/main", &commits.join(",")));
    assert_eq!(parsed.names.len(), people);
    // The ref, and an account and a commit for each.
    assert_eq!(parsed.facts.len(), 1 + 2 * people);
}

#[test]
fn what_is_long_does_not_multiply_with_what_is_many() {
    // A branch that names many tickets, and many commits on it.
    let commits: Vec<String> =
        (0..2_000).map(|n| json!({"id": format!("{n:040x}"), "message": "x"}).to_string()).collect();
    let pushed = |keys| {
        let branch: String = (0..keys).map(|n| format!("AB-{n}-")).collect();
        read("github", PUSH, push(&repository(), &format!("refs/heads/{branch}"), &commits.join(",")))
    };
    assert_eq!(pushed(140).facts.len(), 1 + 2_000 * (1 + keys::LIMIT));
    let endless = pushed(200_000);
    assert!(endless.facts.is_empty() && reasons(&endless)[0].starts_with("ref: expected a name"));
    // A person whose account is long, and many transitions.
    let user = json!({"accountId": "a".repeat(1 << 20)});
    let items = vec![r#"{"field":"status"}"#; 20_000].join(",");
    let issue = json!({"key": "SHOP-1"});
    let body = format!(
        r#"{{"webhookEvent":"jira:issue_updated","issue":{issue},"user":{user},"changelog":{{"id":1,"items":[{items}]}}}}"#
    );
    let parsed = read("jira", &[], body);
    let transitions = parsed.facts.iter().filter(|f| matches!(f.body, FactBody::Activity(_))).count();
    assert_eq!((transitions, parsed.names.len()), (20_000, 1));
}

#[test]
fn a_text_of_nothing_but_keys_gives_so_many() {
    let text: String = (100..50_000).map(|n| format!("AB-{n} ab-{n} #{n} AB-1 #done\\n")).collect();
    let commit = format!(r#"{{"id":"c0ffee","message":"{text}"}}"#);
    let parsed = read("github", PUSH, push(&repository(), "refs/heads/main", &commit));
    let mentions = parsed.facts.iter().filter(|f| matches!(f.body, FactBody::Mention(_))).count();
    assert!((2 * keys::LIMIT..=3 * keys::LIMIT).contains(&mentions), "{mentions} mentions");
}

#[test]
fn rejections_are_listed_up_to_a_limit_and_then_counted() {
    let many = 50_000;
    let parsed = read("github", PUSH, push(&repository(), "refs/heads/main", &vec!["0"; many].join(",")));
    assert_eq!(parsed.rejections.len(), REJECTIONS_MAX + 1);
    let last = &*parsed.rejections[REJECTIONS_MAX].reason;
    assert!(last.starts_with(&format!("{} more", many - REJECTIONS_MAX)), "{last}");
    let fields: String = "a".repeat(1 << 20);
    let told = reasons(&read("manual", &[], format!(r#"{{"{fields}":1}}"#)));
    assert!(told.len() == 1 && told[0].starts_with("…: expected"), "{}", told.len());
}
