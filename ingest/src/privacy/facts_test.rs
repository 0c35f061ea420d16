//! What a redacted signal says: the same as before, of the token instead of the person. Over simulated organisations, the
//! connectors' fixtures, and deliveries that outsiders recorded.
//!
//! The latter lie beside the checkout, in `../shared/data/payloads`. Where they are absent the test says so and passes; with
//! `CI=true` their absence is an error.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use flowsync_schemas::{
    Fact, FactBody, Micros, NameClaim, Parsed, PersonId, Pseudonymizer, Signal, Value as Cell, fact::FACT_TABLES,
    id::TokenKind,
};

use super::{
    Claimed, Salt, Subject, Token,
    naive_test::{has_word, is_odd, readings},
};
use crate::{
    connectors::{self, Delivery, Verified, by_name, parse},
    simulate::{Disorder, Scale, Simulation},
};

static PEOPLE: LazyLock<Pseudonymizer> = LazyLock::new(|| Pseudonymizer::new(&[7; 32]));

fn read(signal: &Signal) -> Parsed<'static> {
    parse(&Verified::from_log(signal.clone()), &PEOPLE)
}

fn token() -> Token {
    "erased-1a2b3c4d5e".parse().unwrap()
}

/// A signal as an import makes it.
fn signal(connector: &str, headers: &[(String, String)], body: &[u8]) -> Signal {
    let connector = by_name(connector).unwrap();
    let delivery = Delivery { headers, body, received_at: Micros::from_secs(1_790_000_000) };
    Verified::imported(connector.spec(), delivery, connector.delivery_id(delivery).as_deref()).into_signal()
}

/// Who is who in a corpus, as the accounts say that are stated to be one person's.
fn people(corpus: &[Signal]) -> Vec<Vec<NameClaim>> {
    let mut group: HashMap<PersonId, PersonId> = HashMap::new();
    fn root(group: &HashMap<PersonId, PersonId>, mut of: PersonId) -> PersonId {
        while let Some(next) = group.get(&of).filter(|next| **next != of) {
            of = *next;
        }
        of
    }
    let mut claims = BTreeSet::new();
    for signal in corpus {
        let parsed = read(signal);
        claims.extend(parsed.names);
        for fact in parsed.facts {
            if let FactBody::Account(account) = fact.body
                && let Some(same) = account.same_as
            {
                let (one, other) = (root(&group, account.person), root(&group, same));
                group.insert(one, other);
            }
        }
    }
    let mut people: BTreeMap<PersonId, Vec<NameClaim>> = BTreeMap::new();
    for claim in claims {
        people.entry(root(&group, claim.person)).or_default().push(claim);
    }
    people.into_values().collect()
}

/// The subject of these claims and of all that are theirs by account.
fn subject(claims: &[NameClaim], all: &[Vec<NameClaim>]) -> Subject {
    let mut subject = Subject::new(claims, &[], token(), Salt::random().unwrap());
    let mut known = claims.len();
    loop {
        let is_theirs = |of: &&Vec<NameClaim>| of.iter().any(|c| subject.claims(c) == Some(Claimed::ByAccount));
        let claims: Vec<NameClaim> = all.iter().filter(is_theirs).flatten().cloned().collect();
        if claims.len() <= known {
            return subject;
        }
        known = claims.len();
        subject = Subject::new(&claims, &[], token(), subject.salt().clone());
    }
}

/// Facts as they can be compared: without what names the person, and without the words of texts.
fn comparable(facts: &[Fact], subject: &Subject, pairs: &HashMap<String, String>) -> BTreeSet<String> {
    let new: BTreeSet<&String> = pairs.values().collect();
    let hidden = hidden(subject);
    let handle = |text: &String| PEOPLE.token(TokenKind::Handle, text).map(|token| token.to_string());
    let handles: BTreeSet<String> = hidden.iter().filter_map(handle).collect();
    let comparable = |fact: &Fact| {
        let table = &FACT_TABLES[fact.table()];
        let mut cells: BTreeMap<&str, String> = BTreeMap::new();
        for (column, cell) in (table.columns)().iter().zip(fact.clone().into_row()) {
            if matches!(column.name, "seq" | "words" | "file_words") {
                continue;
            }
            let text = match &cell {
                Cell::Text(text) if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    pairs.get(&**text).cloned().unwrap_or_else(|| text.to_string())
                }
                Cell::Text(text) => masked(text, &hidden),
                other => format!("{other:?}"),
            };
            // Of hashes, whether there are as many: a folder that is called like the person gets another one.
            let text = if column.name == "paths" { text.split(' ').count().to_string() } else { text };
            cells.insert(column.name, text);
        }
        if table.name == "fact_accounts" {
            // A namesake loses the name that they share; that there is one is told as before.
            let name = cells["name"] != "Null";
            cells.insert("name", name.to_string());
            // What Slack shows can be the person's login elsewhere.
            if new.contains(&cells["person"]) || handles.contains(&cells["handle"]) {
                cells.remove("handle");
            }
        }
        format!("{} {cells:?}", table.name)
    };
    facts.iter().map(comparable).collect()
}

/// All words by which changes are compared with tickets.
fn words(facts: &[Fact]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for fact in facts {
        let columns = (FACT_TABLES[fact.table()].columns)();
        for (column, cell) in columns.iter().zip(fact.clone().into_row()) {
            if let (true, Cell::Text(text)) = (column.name.ends_with("words"), cell) {
                words.extend(text.split(' ').map(str::to_owned));
            }
        }
    }
    words
}

/// Identifiers and what replaces them, the longest first, in lower case.
fn hidden(subject: &Subject) -> Vec<String> {
    let bare = |text: String| match text.split_once(':') {
        Some((source, login)) if by_name(source).is_some() => login.to_lowercase(),
        _ => text.to_lowercase(),
    };
    let mut hidden: Vec<String> = subject.identifiers().into_iter().map(bare).collect();
    let numbers = (2..10).rev().map(|n| format!("+{n}")).chain([String::new()]);
    hidden.extend(numbers.flat_map(|n| [format!("{}{n}@erased.invalid", token()), format!("{}{n}", token())]));
    hidden.push(token().as_str().replace('-', " "));
    hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
    hidden
}

fn masked(text: &str, hidden: &[String]) -> String {
    hidden.iter().fold(text.to_lowercase(), |text, one| text.replace(one, "X"))
}

#[derive(Debug, Default)]
struct Counts {
    people: usize,
    redacted: usize,
    facts: usize,
    /// Identifiers that stood as words in what was redacted.
    named: usize,
}

/// Takes everybody out of a corpus, one after the other, and compares.
fn erased_one_by_one(corpus: &[Signal], of_people: impl Fn(&[NameClaim]) -> bool) -> Counts {
    let all = people(corpus);
    let before: Vec<Parsed<'_>> = corpus.iter().map(read).collect();
    let mut counts = Counts::default();
    for claims in all.iter().filter(|claims| of_people(claims)) {
        let subject = subject(claims, &all);
        let pairs: HashMap<String, String> =
            subject.pseudonyms(&PEOPLE).into_iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        let distinct: BTreeSet<_> = pairs.values().collect();
        let names = subject.identifiers();
        counts.people += 1;
        // Another case of a login is the same one from now on.
        assert!(distinct.len() <= pairs.len() && !pairs.is_empty());
        for (signal, before) in corpus.iter().zip(&before) {
            let Some(redacted) = subject.redact(signal) else {
                for fact in &before.facts {
                    for cell in fact.clone().into_row() {
                        let left = matches!(&cell, Cell::Text(text) if pairs.contains_key(&**text));
                        assert!(!left, "{names:?} are in {fact:?} of {}", String::from_utf8_lossy(&signal.body));
                    }
                }
                continue;
            };
            counts.redacted += 1;
            counts.facts += before.facts.len();
            let told = || format!("{names:?}\n{}", String::from_utf8_lossy(&redacted.body));
            let kept =
                |s: &Signal| (s.id, s.source.clone(), s.occurred_at, s.received_at, s.channel, s.verified_by.clone());
            assert_eq!(kept(signal), kept(&redacted));
            assert_eq!(subject.redact(&redacted), None, "{}", told());
            let after = read(&redacted);
            assert_eq!(before.rejections.len(), after.rejections.len(), "{:?} {}", after.rejections, told());
            let (was, is) = (comparable(&before.facts, &subject, &pairs), comparable(&after.facts, &subject, &pairs));
            let lost: Vec<_> = was.difference(&is).collect();
            let made: Vec<_> = is.difference(&was).collect();
            assert!(lost.is_empty() && made.is_empty(), "lost {lost:#?}\nmade {made:#?}\n{}", told());
            let (was, is) = (words(&before.facts), words(&after.facts));
            let of_names = |word: &&String| names.iter().any(|name| name.to_lowercase().contains(word.as_str()));
            assert!(was.difference(&is).all(|word| of_names(&word)), "{was:?} {is:?} {}", told());
            let of_token = |word: &String| format!("{} invalid", token()).contains(word.as_str());
            assert!(is.difference(&was).all(of_token), "{was:?} {is:?} {}", told());
            let original = String::from_utf8_lossy(&signal.body).to_lowercase();
            counts.named += hidden(&subject).iter().filter(|h| is_odd(h) && has_word(&original, h)).count();
            for reading in readings(&redacted.body) {
                for hidden in hidden(&subject).iter().filter(|h| is_odd(h) && !token().opens(h)) {
                    // What Slack shows can be another's login elsewhere.
                    let shown = names.contains(hidden) && !hidden.contains(['@', ' ']);
                    assert!(shown || !has_word(&reading, hidden), "{hidden} is left in {}", told());
                }
            }
        }
    }
    assert!(counts.named > 0, "{counts:?}");
    counts
}

/// Accounts that are no human's: nobody asks for them to be forgotten.
fn is_human(claims: &[NameClaim]) -> bool {
    let machine = |c: &NameClaim| {
        c.name.ends_with("[bot]") || c.account == "noreply@github.com" || c.account == "github:web-flow"
    };
    !claims.iter().any(machine)
}

fn simulated(scale: Scale) -> Vec<Signal> {
    let until = Micros::parse("2026-10-01T15:00:00Z").unwrap();
    let made = Simulation::new(5, until, scale).without_truth();
    made.map(|one| {
        let mut headers = one.headers.clone();
        if one.connector == "slack" {
            headers.push(("x-slack-request-timestamp".to_owned(), (one.at.0 / 1_000_000).to_string()));
        }
        signal(one.connector, &headers, &one.body)
    })
    .collect()
}

#[test]
fn everybody_of_a_simulated_organisation() {
    let counts = erased_one_by_one(&simulated(Scale { tickets: 20, days: 20, ..Scale::DEMO }), |_| true);
    assert!(counts.people >= 8 && counts.redacted > 300 && counts.facts > 1_000, "{counts:?}");
}

#[test]
fn some_of_a_larger_organisation() {
    let scale = Scale { people: 40, tickets: 40, days: 30, disorder: Disorder::LIFE };
    let counts = erased_one_by_one(&simulated(scale), |claims| claims[0].person.0 % 4 == 0);
    assert!(counts.people > 5 && counts.redacted > 50, "{counts:?}");
}

/// What git's history has, and the newest tools have not.
#[test]
fn everybody_of_an_old_history() {
    let who = |name: &str, email: &str| format!(r#"{{"name":"{name}","email":"{email}","time":"1711398853 +0800"}}"#);
    let authors = [
        who("Ada Lovelace", "ada@example.org"),
        who("Ada Lovelace", ""),
        who("ada", "ada"),
        who("ada", "ada@13f79535-47bb-0310-9956-ffa450edef68"),
        who("ada-l", "12+ada-l@users.noreply.github.com"),
        who("ada-l", "ada-l@users.noreply.github.com"),
        who("Zo\\u00eb King", "(no author)"),
        who("fix", "fix@example.org"),
        who("Bob-2", "bob-2@example.org"),
    ];
    let messages = [
        "fix SHOP-1\\n\\nCo-authored-by: ada lovelace <ADA@example.org>",
        "Merge pull request #12 from ada-l/SHOP-2-fix\\n\\nSHOP-3 by Zoë King",
        "SHOP-4 @fix @ada-l, ada-l/shop#12 and fix/shop#13; closes #3",
        "Merge branch 'ada-l-SHOP-5' of https://github.com/ada-l/shop",
    ];
    let mut corpus = Vec::new();
    for (n, author) in authors.iter().enumerate() {
        for (m, message) in messages.iter().enumerate() {
            let committer = &authors[(n + m) % authors.len()];
            let body = format!(
                r#"{{"repo":"ada-l/shop","commit":{{"sha":"{n:039}{m}","parents":[],"author":{author},"committer":{committer},"message":"{message}","files":[["src/ada-l.rs",1,2]]}}}}"#
            );
            corpus.push(signal("git", &[], body.replace("\\\\", "\\").as_bytes()));
        }
    }
    assert!(corpus.iter().all(|signal| read(signal).rejections.is_empty()));
    let counts = erased_one_by_one(&corpus, |_| true);
    assert!(counts.people >= 8 && counts.redacted > 100, "{counts:?}");
}

/// The cases of every connector.
fn fixtures() -> Vec<Signal> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/connectors");
    let mut corpus = Vec::new();
    for connector in connectors::ALL {
        let folder = sources.join(connector.spec().name).join("fixtures");
        let mut names: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        names.sort();
        for path in names.iter().filter(|path| path.to_str().unwrap().ends_with(".headers.json")) {
            let headers: BTreeMap<String, String> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let body = |kind| fs::read(path.to_str().unwrap().replace("headers.json", kind));
            let body = body("json").or_else(|_| body("form")).unwrap();
            corpus.push(signal(connector.spec().name, &headers.into_iter().collect::<Vec<_>>(), &body));
        }
    }
    corpus
}

#[test]
fn everybody_of_the_fixtures() {
    let counts = erased_one_by_one(&fixtures(), is_human);
    assert!(counts.people >= 8 && counts.redacted > 100 && counts.facts > 300, "{counts:?}");
}

fn recorded(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() { recorded(&path, files) } else { files.push(path) }
    }
    files.sort();
}

#[test]
fn everybody_of_recorded_deliveries() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/payloads");
    if !root.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI needs the recorded payloads at {}", root.display());
        println!("skipped: there are no recorded payloads at {}", root.display());
        return;
    }
    let groups = [
        ("github/octokit", "github"),
        ("github/go-playground", "github"),
        ("github/zulip", "github"),
        ("jira/mattermost-plugin-jira", "jira"),
        ("jira/zulip", "jira"),
        ("slack/slash-commands", "slack"),
    ];
    for (group, connector) in groups {
        let folder = root.join(group);
        let mut files = Vec::new();
        recorded(&folder, &mut files);
        let corpus: Vec<Signal> = files
            .iter()
            .map(|file| {
                let relative = file.strip_prefix(&folder).unwrap().to_str().unwrap();
                let event = relative.split(['/', '.']).next().unwrap().split("__").next().unwrap().replace('-', "_");
                let headers = [("x-github-event".to_owned(), event)];
                let body = fs::read(file).unwrap();
                match connector {
                    "github" => signal(connector, &headers, &body),
                    // Commands to others: with words that are understood here.
                    "slack" => {
                        let form = String::from_utf8(body).unwrap();
                        let field = |field: &str| match field.split_once('=') {
                            Some(("text", _)) => "text=done+SHOP-1".to_owned(),
                            _ => field.trim().to_owned(),
                        };
                        let form: Vec<String> = form.split('&').map(field).collect();
                        signal(connector, &[], form.join("&").as_bytes())
                    }
                    _ => signal(connector, &[], &body),
                }
            })
            .collect();
        let counts = erased_one_by_one(&corpus, is_human);
        println!("{group}: {counts:?}");
        assert!(counts.people > 1 && counts.redacted > 2, "{group}: {counts:?}");
    }
}
