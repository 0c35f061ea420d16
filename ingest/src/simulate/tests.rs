//! The organisation against the connectors that read it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use flowsync_schemas::{
    FactBody, Pseudonymizer,
    fact::{FACT_TABLES, Progress, PullRequestState},
};

use super::*;
use crate::connectors::{Delivery, Secret, Verified, by_name, parse};

fn until() -> Micros {
    Micros::parse("2026-10-01T15:00:00Z").unwrap()
}

fn secrets() -> Secrets {
    CONNECTORS.iter().map(|name| ((*name).to_owned(), Secret::new(format!("secret of {name}")))).collect()
}

fn received(delivery: &Simulated) -> Verified {
    let headers = delivery.sign(&secrets(), delivery.at).unwrap();
    let connector = by_name(delivery.connector).unwrap();
    let sent = Delivery { headers: &headers, body: &delivery.body, received_at: delivery.at };
    connector.verify(sent, secrets().get(delivery.connector)).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(organisation(7, until()), organisation(7, until()));
    assert_ne!(organisation(7, until()), organisation(8, until()));
    let days = |list: &[Simulated]| list.iter().map(|d| d.at.day().0).collect::<BTreeSet<_>>();
    let list = organisation(7, until());
    assert!(list.is_sorted_by_key(|d| d.at) && list.last().unwrap().at <= until());
    assert!(days(&list).len() >= 30, "{:?}", days(&list));
}

#[test]
fn every_delivery_is_verified_and_exactly_one_is_not_understood() {
    let people = Pseudonymizer::new(&[7; 32]);
    for seed in [0, 1, 42, u64::MAX] {
        let mut rejected = Vec::new();
        let mut ids = BTreeMap::new();
        for delivery in organisation(seed, until()) {
            let verified = received(&delivery);
            let parsed = parse(&verified, &people);
            rejected.extend(parsed.rejections.iter().map(|_| String::from_utf8(delivery.body.clone()).unwrap()));
            assert!(!parsed.facts.is_empty() || !parsed.rejections.is_empty(), "{delivery:?} says nothing");
            assert!(parsed.facts.iter().all(|fact| fact.at <= until()), "{delivery:?} is of the future");
            *ids.entry(verified.signal().id).or_insert(0) += 1;
        }
        assert_eq!(rejected.len(), 1, "seed {seed}: {rejected:?}");
        assert!(rejected[0].contains("finished+SHOP-9"));
        assert_eq!(ids.values().filter(|n| **n == 2).count(), 2, "seed {seed}: redeliveries");
    }
}

#[test]
fn the_organisation_is_as_large_as_it_says() {
    let people = Pseudonymizer::new(&[7; 32]);
    let facts: Vec<FactBody> =
        organisation(1, until()).iter().flat_map(|d| parse(&received(d), &people).facts).map(|f| f.body).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    facts.iter().for_each(|f| *counts.entry(FACT_TABLES[f.table()].name).or_default() += 1);
    let distinct = |id: fn(&FactBody) -> Option<String>| facts.iter().filter_map(id).collect::<BTreeSet<_>>().len();
    let tickets = distinct(|f| if let FactBody::Ticket(t) = f { Some(t.ticket_key.to_string()) } else { None });
    let pulls = distinct(|f| if let FactBody::PullRequest(p) = f { Some(p.pull_request.to_string()) } else { None });
    let merged = distinct(|f| match f {
        FactBody::PullRequest(p) if p.state == PullRequestState::Merged => Some(p.pull_request.to_string()),
        _ => None,
    });
    let incidents = distinct(|f| if let FactBody::Incident(i) = f { Some(i.incident.to_string()) } else { None });
    let verbs = distinct(|f| if let FactBody::Report(r) = f { Some(r.verb.to_string()) } else { None });
    assert_eq!((tickets, incidents, verbs), (60, 2, 6));
    assert!((75..=100).contains(&pulls) && merged > 70 && merged <= pulls, "{pulls} pull requests, {merged} merged");
    for table in [
        "fact_commits",
        "fact_reviews",
        "fact_builds",
        "fact_deployments",
        "fact_sprints",
        "fact_activities",
        "fact_releases",
        "fact_refs",
        "fact_mentions",
        "fact_relations",
        "fact_settings",
    ] {
        assert!(counts.contains_key(table), "{table}: {counts:?}");
    }
    let deleted: Vec<_> = facts.iter().filter(|f| matches!(f, FactBody::Ticket(t) if t.deleted)).collect();
    assert_eq!(deleted.len(), 1);
}

#[test]
fn trackers_and_evidence_disagree_where_they_should() {
    let people = Pseudonymizer::new(&[7; 32]);
    let (mut progress, mut merged) = (BTreeMap::new(), BTreeSet::new());
    let mut all = organisation(3, until());
    all.sort_by_key(|d| d.at);
    for delivery in &all {
        let parsed = parse(&received(delivery), &people);
        let done = parsed.facts.iter().any(|f| matches!(&f.body, FactBody::PullRequest(p) if p.merged_at.is_some()));
        for fact in parsed.facts {
            match fact.body {
                FactBody::Ticket(t) => {
                    let newest = progress.entry(t.ticket_key.to_string()).or_insert((fact.at, t.progress));
                    *newest = (*newest).max((fact.at, t.progress));
                }
                FactBody::Mention(m) if done => drop(merged.insert(m.ticket_key.to_string())),
                _ => {}
            }
        }
    }
    for (project, number) in catalogue::course::FORGOTTEN {
        let key = format!("{}-{number}", PROJECTS[project].key);
        assert_ne!(progress[&key].1, Progress::Done, "{key}: the tracker says");
    }
    for (project, number) in catalogue::course::ONLY_SAID {
        let key = format!("{}-{number}", PROJECTS[project].key);
        assert!(progress[&key].1 == Progress::Done && !merged.contains(&key), "{key}");
    }
    assert!(merged.contains("SHOP-11") && merged.contains("PAY-4"), "{merged:?}");
}

#[test]
fn the_settings_can_be_meant() {
    assert_eq!(settings().check(), Ok(()));
}
