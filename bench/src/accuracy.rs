//! Accuracy, beside speed: what the views say of a simulated organisation, against what its generator knows to be so.
//!
//! In process, with the shipped model, which was fitted on another organisation's data.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use anyhow::Result;
use flowsync_dataflow::views::{effort::EffortRow, identities::IdentityRow, links::LinkRow, links::Provenance};
use flowsync_ingest::simulate::{AccountKind, Truth};
use flowsync_schemas::{Day, EntityKind, PersonId, Text, id::Account};

use crate::{
    Size,
    history::{History, cores, people, reader},
    incremental::Running,
    report::Report,
};

/// Signals of an epoch.
const EPOCH: usize = 20_000;
/// What is held against the truth.
const TABLES: &[&str] = &["effort", "identities", "links"];

/// A link by what it connects.
type Link = (EntityKind, Text, Text);

/// Measures everything of this group.
pub fn measure(size: Size, report: &mut Report) -> Result<()> {
    let signals = if size == Size::Quick { 4_000 } else { 100_000 };
    eprintln!("accuracy: an organisation of {signals} signals, and what is true of it");
    let mut history = History::telling(signals)?;
    let mut running = Running::start(cores(), reader(), TABLES)?;
    running.push(history.by_ref().collect(), EPOCH)?;
    let truth = history.truth();
    links(&truth, &running.kept("links")?, report);
    let identities =
        running.kept("identities")?.into_iter().map(|row: IdentityRow| (row.person, row.identity)).collect();
    let accounts = accounts(&truth, &identities);
    who_is_who(&accounts, report);
    effort(&truth, &identities, &running.kept("effort")?, report);
    running.finish()
}

fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

fn links(truth: &[Truth], rows: &[LinkRow], report: &mut Report) {
    let (mut all, mut stated) = (BTreeSet::new(), BTreeSet::new());
    for fact in truth {
        if let Truth::Link { artifact_kind, artifact, ticket, stated: by_tool } = fact {
            let link: Link = (*artifact_kind, artifact.as_str().into(), ticket.as_str().into());
            if *by_tool {
                stated.insert(link.clone());
            }
            all.insert(link);
        }
    }
    let link = |row: &LinkRow| -> Link { (row.artifact_kind, row.artifact_id.clone(), row.ticket_key.clone()) };
    let asserted = |inferred: bool| -> BTreeSet<Link> {
        let is_inferred = |row: &LinkRow| row.provenance == Provenance::Inferred;
        rows.iter().filter(|row| row.is_asserted() && is_inferred(row) == inferred).map(link).collect()
    };
    let (said, inferred) = (asserted(false), asserted(true));
    let right = |links: &BTreeSet<Link>| percent(links.intersection(&all).count(), links.len());
    report.add("accuracy: stated links that are found", percent(stated.intersection(&said).count(), stated.len()), "%");
    report.add("accuracy: links asserted on somebody's word that are true", right(&said), "%");
    report.add("accuracy: links asserted on nobody's word that are true", right(&inferred), "%");
    let silent: Vec<&Link> = all.difference(&stated).filter(|link| !said.contains(link)).collect();
    let found = silent.iter().filter(|link| inferred.contains(link)).count();
    report.add("accuracy: links that nothing states, and that are asserted", percent(found, silent.len()), "%");
    report.add("accuracy: calibration error of all links", 100.0 * calibration_error(rows, &all, link), "%");
}

/// Ten equal bins of probability; distance between the mean probability and the share of true ones, weighted by links.
fn calibration_error(rows: &[LinkRow], all: &BTreeSet<Link>, link: impl Fn(&LinkRow) -> Link) -> f64 {
    let mut bins = [(0.0, 0.0); 10];
    for row in rows {
        let probability = row.confidence_bps as f64 / 10_000.0;
        let (stated, came_true) = &mut bins[((probability * 10.0) as usize).min(9)];
        *stated += probability;
        *came_true += f64::from(u8::from(all.contains(&link(row))));
    }
    bins.iter().map(|(stated, came_true)| (stated - came_true).abs()).sum::<f64>() / rows.len().max(1) as f64
}

/// Who is behind an account, in truth and by the views; accounts that no delivery named are left out.
fn accounts<'a>(
    truth: &'a [Truth],
    identities: &BTreeMap<PersonId, PersonId>,
) -> BTreeMap<PersonId, (&'a str, PersonId)> {
    let people = people();
    let known = truth.iter().filter_map(|fact| {
        let Truth::Identity { person, kind, account } = fact else { return None };
        let account = people.person(&match kind {
            AccountKind::Email => Account::Email(account),
            AccountKind::Github => Account::Login { source: "github", login: account },
            AccountKind::Jira => Account::Login { source: "jira", login: account },
            AccountKind::Slack => Account::Login { source: "slack", login: account },
        });
        Some((account, (person.as_str(), *identities.get(&account)?)))
    });
    known.collect()
}

fn who_is_who(accounts: &BTreeMap<PersonId, (&str, PersonId)>, report: &mut Report) {
    let merged = pairs(accounts.values().map(|(_, identity)| *identity));
    let same = pairs(accounts.values().map(|(person, _)| *person));
    let right = pairs(accounts.values());
    report.add("accuracy: pairs of accounts merged that are one person's", percent(right, merged), "%");
    report.add("accuracy: pairs of one person's accounts that are merged", percent(right, same), "%");
}

/// Pairs of equal elements.
fn pairs<T: Eq + Hash>(all: impl Iterator<Item = T>) -> usize {
    let mut counts: HashMap<T, usize> = HashMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts.values().map(|n| n * (n - 1) / 2).sum()
}

/// Working time on tickets, as it was and as it is said to have been, in millionths of a day.
fn effort(truth: &[Truth], identities: &BTreeMap<PersonId, PersonId>, rows: &[EffortRow], report: &mut Report) {
    let people = people();
    type Share<'a> = (PersonId, Day, &'a str);
    let mut spent: HashMap<Share<'_>, i64> = HashMap::new();
    for fact in truth {
        if let Truth::Effort { person, day, ticket: Some(ticket), share_bps } = fact
            && let Some(identity) = identities.get(&people.person(&Account::Email(person)))
        {
            *spent.entry((*identity, *day, ticket)).or_default() += 100 * i64::from(*share_bps);
        }
    }
    let on_tickets = rows.iter().filter(|row| !row.ticket_key.is_empty());
    let said: HashMap<Share<'_>, i64> =
        on_tickets.map(|row| ((row.person, row.day, &*row.ticket_key), row.share_ppm)).collect();
    let right: i64 = said.iter().map(|(share, ppm)| *ppm.min(spent.get(share).unwrap_or(&0))).sum();
    let of = |shares: &HashMap<Share<'_>, i64>| percent(right as usize, shares.values().sum::<i64>() as usize);
    report.add("accuracy: time said to be spent on a ticket that was", of(&said), "%");
    report.add("accuracy: time spent on a ticket that is said to be", of(&spent), "%");
}
