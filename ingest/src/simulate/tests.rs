//! Simulated organisations against the connectors that read them.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use flowsync_schemas::{
    EntityKind, FactBody, Parsed, Pseudonymizer, Text,
    fact::{EvidenceKind, FACT_TABLES, Progress, PullRequestState},
};

use super::{catalogue::Course, *};
use crate::connectors::{Delivery, Verified, by_name, parse};

fn until() -> Micros {
    Micros::parse("2026-10-01T15:00:00Z").unwrap()
}

fn secrets() -> Secrets {
    CONNECTORS.iter().map(|name| ((*name).to_owned(), Secret::new(format!("secret of {name}")))).collect()
}

fn received(delivery: &Simulated) -> Result<Verified, VerifyError> {
    let headers = delivery.sign(&secrets(), delivery.at)?;
    let connector = by_name(delivery.connector).unwrap();
    let sent = Delivery { headers: &headers, body: &delivery.body, received_at: delivery.at };
    connector.verify(sent, secrets().get(delivery.connector))
}

fn read(delivery: &Simulated) -> Parsed<'static> {
    static PEOPLE: LazyLock<Pseudonymizer> = LazyLock::new(|| Pseudonymizer::new(&[7; 32]));
    parse(&received(delivery).unwrap(), &PEOPLE)
}

fn demo(seed: u64) -> Vec<Simulated> {
    Simulation::new(seed, until(), Scale::DEMO).collect()
}

fn life(tickets: u64) -> Simulation {
    Simulation::new(5, until(), Scale::of_tickets(tickets))
}

/// A larger organisation, with a project or two that are renamed: deliveries and truth.
fn large() -> &'static (Vec<Simulated>, Vec<Truth>) {
    static LARGE: LazyLock<(Vec<Simulated>, Vec<Truth>)> = LazyLock::new(|| {
        let disorder = Disorder { renamed_projects: 1_500, ..Disorder::LIFE };
        told(Simulation::new(5, until(), Scale { disorder, ..Scale::of_tickets(2_000) }))
    });
    &LARGE
}

/// Deliveries and truth, told as a reader in between asks for it.
fn told(mut simulation: Simulation) -> (Vec<Simulated>, Vec<Truth>) {
    let (mut deliveries, mut truth) = (Vec::new(), Vec::new());
    while let Some(delivery) = simulation.next() {
        deliveries.push(delivery);
        truth.append(&mut simulation.truth());
    }
    assert!(simulation.truth().is_empty());
    (deliveries, truth)
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(demo(7), demo(7));
    assert_ne!(demo(7), demo(8));
    let (deliveries, truth) = told(life(300));
    assert_eq!((&deliveries, &truth), (&told(life(300)).0, &told(life(300)).1));
    assert_eq!(deliveries, life(300).without_truth().collect::<Vec<_>>());
}

#[test]
fn deliveries_come_in_order_and_never_of_the_future() {
    for scale in [
        Scale::DEMO,
        Scale::of_tickets(400),
        Scale { people: 1, tickets: 5, days: 3, disorder: Disorder::LIFE },
        Scale { people: 3, tickets: 900, days: 10, disorder: Disorder::NONE },
        Scale { people: 5, tickets: 0, days: 0, disorder: Disorder::LIFE },
        Scale { people: 19, tickets: 100, days: 20, disorder: Disorder::LIFE },
    ] {
        let list: Vec<_> = Simulation::new(2, until(), scale.clone()).collect();
        assert!(list.is_sorted_by_key(|d| d.at) && list.last().unwrap().at <= until(), "{scale:?}");
        for delivery in list.iter().filter(|d| !d.forged) {
            let late = read(delivery).facts.iter().find(|fact| fact.at > until()).cloned();
            assert_eq!(late, None, "{delivery:?}");
        }
    }
}

#[test]
fn what_is_signed_is_let_in_and_what_is_forged_is_not() {
    let (deliveries, truth) = told(life(1_000));
    for delivery in &deliveries {
        assert_eq!(received(delivery).is_ok(), !delivery.forged, "{delivery:?}");
    }
    let forged = deliveries.iter().filter(|d| d.forged).count();
    assert!(forged > 3, "{forged}");
    assert_eq!(forged, truth.iter().filter(|t| matches!(t, Truth::Forged { .. })).count());
    assert!(demo(1).iter().all(|d| !d.forged));
}

#[test]
fn what_is_unreadable_is_rejected_and_everything_else_is_read() {
    for seed in [0, 1, 42, u64::MAX] {
        let rejected: Vec<_> = demo(seed).into_iter().filter(|d| !read(d).rejections.is_empty()).collect();
        assert_eq!(rejected.len(), 1, "seed {seed}: {rejected:?}");
        assert!(String::from_utf8_lossy(&rejected[0].body).contains("finished+SHOP-9"));
    }
    let (deliveries, truth) = large();
    let mut rejected = Vec::new();
    for delivery in deliveries.iter().filter(|d| !d.forged) {
        let parsed = read(delivery);
        assert_ne!(parsed.facts.is_empty(), parsed.rejections.is_empty(), "{delivery:?}: {:?}", parsed.rejections);
        rejected.extend((!parsed.rejections.is_empty()).then(|| (delivery.connector.to_owned(), delivery.at)));
    }
    let mut unreadable: Vec<_> = truth
        .iter()
        .filter_map(|t| if let Truth::Unreadable { connector, at } = t { Some((connector.clone(), *at)) } else { None })
        .collect();
    rejected.sort();
    unreadable.sort();
    assert_eq!(rejected, unreadable);
    let kinds: BTreeSet<_> = unreadable.iter().map(|(connector, _)| connector.as_str()).collect();
    assert_eq!(kinds.len(), CONNECTORS.len(), "{kinds:?}");
}

#[test]
fn disorder_is_as_frequent_as_asked_for() {
    let count = |disorder: Disorder| {
        let scale = Scale { disorder, ..Scale::of_tickets(1_500) };
        let mut signals: BTreeMap<_, usize> = BTreeMap::new();
        let deliveries: Vec<_> = Simulation::new(1, until(), scale).filter(|d| !d.forged).collect();
        let mut latest = BTreeMap::new();
        let mut overtaken = 0;
        for delivery in &deliveries {
            *signals.entry(received(delivery).unwrap().signal().id).or_default() += 1;
            for fact in read(delivery).facts {
                if let FactBody::PullRequest(pull) = fact.body {
                    let newest = latest.entry(pull.pull_request).or_insert(fact.at);
                    overtaken += usize::from(fact.at < *newest);
                    *newest = (*newest).max(fact.at);
                }
            }
        }
        let again = deliveries.len() - signals.len();
        (deliveries.len(), again, overtaken)
    };
    let (all, again, overtaken) = count(Disorder::NONE);
    assert_eq!((again, overtaken), (0, 0));
    assert!((24..=32).contains(&(all / 1_500)), "{} deliveries a ticket", all as f64 / 1_500.0);
    let (all, again, overtaken) = count(Disorder::LIFE);
    assert!((70..=130).contains(&(again * 10_000 / all)), "{again} of {all} again");
    assert!(overtaken > 15, "{overtaken}");
}

/// The latest versions of tickets that arrived: progress, and whether they are deleted.
type Tickets = BTreeMap<String, (Micros, Progress, bool)>;

/// What is stated: facts by table, tickets, keys that versions of artifacts name.
#[derive(Default)]
struct Stated {
    tables: BTreeMap<&'static str, usize>,
    tickets: Tickets,
    /// Artifact, and its newest version with the keys in it.
    pulls: BTreeMap<Text, (Micros, PullRequestState, BTreeSet<Text>)>,
    commits: BTreeMap<Text, BTreeSet<Text>>,
    incidents: BTreeSet<Text>,
    verbs: BTreeSet<String>,
    accounts: BTreeSet<String>,
}

fn stated(deliveries: &[Simulated]) -> Stated {
    let mut all = Stated::default();
    for delivery in deliveries.iter().filter(|d| !d.forged) {
        let parsed = read(delivery);
        all.accounts.extend(parsed.names.iter().map(|claim| claim.account.clone()));
        let mut keys: BTreeMap<Text, BTreeSet<Text>> = BTreeMap::new();
        for fact in &parsed.facts {
            if let FactBody::Mention(m) = &fact.body
                && m.kind != EvidenceKind::TolerantKey
            {
                keys.entry(m.artifact_id.clone()).or_default().insert(m.ticket_key.clone());
            }
        }
        for fact in parsed.facts {
            *all.tables.entry(FACT_TABLES[fact.body.table()].name).or_default() += 1;
            let keys = |id: &Text| keys.get(id).cloned().unwrap_or_default();
            match fact.body {
                FactBody::Ticket(t) => {
                    let version = (fact.at, t.progress, t.deleted);
                    let newest = all.tickets.entry(t.ticket_key.to_string()).or_insert(version);
                    *newest = (*newest).max(version);
                }
                FactBody::PullRequest(p) => {
                    let version = (fact.at, p.state, keys(&p.pull_request));
                    let newest = all.pulls.entry(p.pull_request).or_insert_with(|| version.clone());
                    *newest = std::cmp::max(newest.clone(), version);
                }
                FactBody::Commit(c) => all.commits.entry(c.sha.clone()).or_default().append(&mut keys(&c.sha)),
                FactBody::Incident(i) => drop(all.incidents.insert(i.incident)),
                FactBody::Report(r) => drop(all.verbs.insert(r.verb.to_string())),
                _ => {}
            }
        }
    }
    all
}

#[test]
fn the_demo_is_as_large_as_it_says() {
    let demo = demo(1);
    assert!((1_400..=1_900).contains(&demo.len()), "{} deliveries", demo.len());
    let days: BTreeSet<_> = demo.iter().map(|d| d.at.day().0).collect();
    assert!(days.len() >= 30, "{days:?}");
    let all = stated(&demo);
    let merged = all.pulls.values().filter(|(_, state, _)| *state == PullRequestState::Merged).count();
    assert_eq!((all.tickets.len(), all.incidents.len(), all.verbs.len()), (60, 2, 6));
    assert!(
        (75..=110).contains(&all.pulls.len()) && merged >= 70,
        "{} pull requests, {merged} merged",
        all.pulls.len()
    );
    assert_eq!(all.tickets.values().filter(|(_, _, deleted)| *deleted).count(), 1);
    assert_eq!(Simulation::new(1, until(), Scale::DEMO).settings().check(), Ok(()));
}

#[test]
fn trackers_and_evidence_disagree_where_they_should() {
    let all = stated(&demo(3));
    let of = |course| {
        let places = (0..3).flat_map(|p| (1..=20).map(move |n| (p, n)));
        let found = places.filter(move |(p, n)| Course::written(*p, *n) == course);
        found.map(|(p, n)| format!("{}-{n}", catalogue::PROJECTS[p].key)).collect::<Vec<_>>()
    };
    let merged: BTreeSet<String> = all
        .pulls
        .values()
        .filter(|(_, state, _)| *state == PullRequestState::Merged)
        .flat_map(|(_, _, keys)| keys.iter().map(|k| k.to_string()))
        .collect();
    for key in of(Course::Forgotten) {
        assert_ne!(all.tickets[&key].1, Progress::Done, "{key}: the tracker says");
    }
    for key in of(Course::OnlySaid) {
        assert!(all.tickets[&key].1 == Progress::Done && !merged.contains(&key), "{key}");
    }
    for key in of(Course::Blocked) {
        assert_eq!(all.tickets[&key].1, Progress::Blocked, "{key}");
    }
    assert!(merged.contains("SHOP-11") && merged.contains("PAY-4"), "{merged:?}");
}

#[test]
fn a_larger_organisation_holds_everything_that_connectors_read() {
    let (deliveries, truth) = large();
    let all = stated(deliveries);
    // Nobody here says who is who: that is measured on what tools say alone.
    for table in FACT_TABLES.iter().filter(|t| !matches!(t.name, "fact_settings" | "fact_identities")) {
        assert!(all.tables.get(table.name).is_some_and(|n| *n > 10), "{}: {:?}", table.name, all.tables);
    }
    assert!(all.tables.contains_key("fact_settings"), "projects are told");
    assert_eq!(all.verbs.len(), 6);
    let text: String = deliveries.iter().map(|d| String::from_utf8_lossy(&d.body).into_owned()).collect();
    for sign in [
        "\"forced\":true",
        "\"field\":\"Key\"",
        "project_updated",
        "This reverts commit",
        "#flowsync",
        "figma",
        "RemoteIssueLink",
        "issuelink_created",
        "issuelink_deleted",
        "worklog_deleted",
        "comment_updated",
        "comment_deleted",
        "jira:issue_deleted",
        "oldest first",
        "[bot]",
        "\"merged\":false,\"merged_at\":null,\"closed_at\":\"",
        "laptop.example",
    ] {
        assert!(text.contains(sign), "{sign}");
    }
    let of = |wanted: fn(&Truth) -> bool| truth.iter().filter(|t| wanted(t)).count();
    for (what, count) in [
        ("causes", of(|t| matches!(t, Truth::Cause { .. }))),
        ("reverts", of(|t| matches!(t, Truth::Reverted { .. }))),
        ("moves", of(|t| matches!(t, Truth::Moved { .. }))),
        ("deletions", of(|t| matches!(t, Truth::Deleted { .. }))),
        (
            "unstated links",
            of(|t| matches!(t, Truth::Link { stated: false, artifact_kind: EntityKind::PullRequest, .. })),
        ),
        ("designs", of(|t| matches!(t, Truth::Link { artifact_kind: EntityKind::DesignFile, .. }))),
    ] {
        assert!(count >= 5, "{count} {what}");
    }
    let done = of(|t| matches!(t, Truth::Done { .. }));
    assert!((1_400..1_900).contains(&done), "{done} done");
}

#[test]
fn the_truth_agrees_with_what_is_said() {
    let (deliveries, truth) = large();
    let all = stated(deliveries);
    let mut linked = BTreeSet::new();
    let mut days: BTreeMap<_, u32> = BTreeMap::new();
    for one in truth {
        match one {
            Truth::Link { artifact_kind, artifact, ticket, stated } => {
                let keys = match artifact_kind {
                    EntityKind::PullRequest => &all.pulls[artifact.as_str()].2,
                    EntityKind::Commit => &all.commits[artifact.as_str()],
                    _ => continue,
                };
                assert_eq!(keys.contains(ticket.as_str()), *stated, "{one:?}: {keys:?}");
                assert!(linked.insert((artifact_kind, artifact)), "{one:?} is told twice");
            }
            Truth::Identity { kind, account, .. } => {
                let seen = match kind {
                    AccountKind::Email => account.clone(),
                    AccountKind::Github => format!("github:{account}"),
                    AccountKind::Slack => format!("slack:{account}"),
                    // Known by the address where Jira shows it, and by the account where not.
                    AccountKind::Jira => account.replace("simulated:", "") + "@example.org",
                };
                assert!(all.accounts.contains(&seen) || all.accounts.contains(&format!("jira:{account}")), "{one:?}");
            }
            Truth::Effort { person, day, share_bps, .. } => {
                assert!(calendar::workday(day.0), "{one:?}");
                *days.entry((person, day)).or_default() += share_bps;
            }
            Truth::Cause { incident, artifact, .. } => {
                assert!(all.incidents.contains(incident.as_str()), "{one:?}");
                assert_eq!(all.pulls[artifact.as_str()].1, PullRequestState::Merged, "{one:?}");
            }
            Truth::Reverted { sha, .. } => assert!(all.commits.contains_key(sha.as_str()), "{one:?}"),
            Truth::Deleted { ticket, .. } => assert!(all.tickets[ticket].2, "{one:?}"),
            Truth::Moved { from, to, .. } => {
                assert!(all.tickets[from].2 && !all.tickets[to].2, "{one:?}");
            }
            Truth::Done { .. } | Truth::Renamed { .. } | Truth::Unreadable { .. } | Truth::Forged { .. } => {}
        }
    }
    assert!(days.len() > 5_000 && days.values().all(|sum| *sum == 10_000));
    assert!(linked.len() > 8_000, "{}", linked.len());
    let written: Vec<String> = truth.iter().map(|t| serde_json::to_string(t).unwrap()).collect();
    let back: Vec<Truth> = written.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(&back, truth);
}

#[test]
fn nobody_works_on_weekends() {
    for delivery in life(500).filter(|d| !d.forged) {
        for fact in read(&delivery).facts {
            let at = match fact.body {
                FactBody::Commit(c) => c.authored_at,
                FactBody::Review(r) => r.submitted_at,
                FactBody::Activity(a) => Some(a.acted_at),
                _ => None,
            };
            assert!(at.is_none_or(|at| calendar::workday(at.day().0)), "{delivery:?}");
        }
    }
}

#[test]
fn memory_holds_the_work_in_progress() {
    let most = |days: u32| {
        // The same organisation, at the same pace, for longer.
        let tickets = u64::from(days) * 20;
        let scale = Scale { people: 150, tickets, days, disorder: Disorder::LIFE };
        let mut simulation = Simulation::new(1, until(), scale);
        let mut most = 0;
        while simulation.next().is_some() {
            simulation.truth();
            most = most.max(simulation.world.held());
        }
        most
    };
    let (short, long) = (most(60), most(600));
    assert!(long < short * 3 / 2, "{short} held for 60 days, {long} for 600");
}
