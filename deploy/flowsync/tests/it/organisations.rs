//! Whole simulated organisations before the judge: what the generator knows to be true, against what the views say.
//!
//! Through the connectors' own `parse` and the real job: 1, 2 and 4 workers, another order, other epochs, every seventh
//! delivery twice. `FLOWSYNC_TICKETS=20000 cargo test --release --workspace --test it organisations` judges a far larger one;
//! `FLOWSYNC_SEED` another one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flowsync_dataflow::{Read, calibrate::calibrate};
use flowsync_ingest::{
    connectors::{self, Delivery, Secret, Secrets, Verified, settings},
    simulate::{self, AccountKind, Disorder, Scale, Simulation, Truth},
};
use flowsync_schemas::{
    Epoch, Fact, LogPosition, Micros, PersonId, Pseudonymizer, Signal, Value, id::Account, model::Model,
};

use crate::{
    judge::{self, Tables},
    oracle::base,
};

/// From the environment, or this.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// What was delivered, in order of arrival, and what is true.
struct Organisation {
    signals: Vec<Signal>,
    truth: Vec<Truth>,
    people: Pseudonymizer,
}

impl Organisation {
    fn new() -> Self {
        let (seed, tickets) = (setting("FLOWSYNC_SEED", 11), setting("FLOWSYNC_TICKETS", 150));
        println!("FLOWSYNC_SEED={seed} FLOWSYNC_TICKETS={tickets} repeats this organisation");
        let until = Micros::parse("2026-10-15T15:00:00Z").expect("a time");
        // More of what is rare, so that all of it occurs.
        let disorder = Disorder {
            renamed_projects: 5_000,
            moved_bps: 1_000,
            unreadable_bps: 50,
            forged_bps: 50,
            ..Disorder::LIFE
        };
        let mut simulation = Simulation::new(seed, until, Scale { disorder, ..Scale::of_tickets(tickets) });
        let secrets: Secrets = simulate::CONNECTORS.iter().map(|c| ((*c).to_owned(), Secret::new(*c))).collect();
        let stated = settings::signal(&simulation.settings(), None, until).expect("settings");
        let mut signals = vec![stated.into_signal()];
        let mut forged = 0;
        // Of a redelivery our clock at the first arrival counts: in another order another one would be the first.
        let mut received = BTreeMap::new();
        for sent in simulation.by_ref() {
            let headers = sent.sign(&secrets, sent.at).expect("a secret");
            let connector = connectors::by_name(sent.connector).expect("a connector");
            let delivery = Delivery { headers: &headers, body: &sent.body, received_at: sent.at };
            match connector.verify(delivery, secrets.get(sent.connector)) {
                Ok(verified) => {
                    let mut signal = verified.into_signal();
                    signal.received_at = *received.entry(signal.id).or_insert(signal.received_at);
                    signals.push(signal);
                }
                Err(error) => {
                    assert!(sent.forged, "{error}");
                    forged += 1;
                }
            }
        }
        println!("{} signals, {forged} forged deliveries were refused", signals.len());
        assert!(forged > 0, "nothing was forged");
        Self { signals, truth: simulation.truth(), people: Pseudonymizer::new(&[7; 32]) }
    }

    fn reader(&self) -> Read {
        let people = self.people.clone();
        Arc::new(move |signal: &Signal| {
            let parsed = connectors::parse(&Verified::from_log(signal.clone()), &people);
            (parsed.facts, parsed.rejections)
        })
    }

    /// All tables after the signals came in this order, in epochs of this size. Every `judged`-th epoch is judged.
    fn run(&self, signals: &[Signal], epoch: usize, workers: usize, judged: Option<usize>) -> Tables {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let model = Model::shipped();
        let (job, deltas) = judge::job_reading(workers, &model, self.reader());
        let mut tables = Tables::default();
        let mut end = 0;
        for (n, part) in signals.chunks(epoch).enumerate() {
            // A redelivery of every seventh comes along.
            let part = part.iter().chain(part.iter().step_by(7)).cloned();
            let placed: Vec<_> =
                (end..).zip(part).map(|(offset, s)| (LogPosition { partition: 0, offset }, s)).collect();
            let lower = end;
            end += placed.len() as u64;
            job.push(Epoch(end), vec![end], placed).expect("the job runs");
            let delta = deltas.recv().expect("the epoch closes");
            assert_eq!((delta.lower, delta.upper), (Epoch(lower), Epoch(end)), "intervals tile time");
            tables.apply(&delta);
            if judged.is_some_and(|every| n % every == every - 1) {
                runtime.block_on(judge::verdict(&tables, &model)).unwrap_or_else(|e| panic!("epoch {end}: {e}"));
            }
        }
        runtime.block_on(judge::verdict(&tables, &model)).unwrap_or_else(|e| panic!("epoch {end}: {e}"));
        job.retract(Epoch(end + 1), vec![end], base(&tables)).expect("the job runs");
        let mut empty = tables.clone();
        empty.apply(&deltas.recv().expect("the epoch closes"));
        assert_eq!(empty.difference(&Tables::default()), Vec::<String>::new(), "all is retracted, so nothing is left");
        job.finish().expect("no worker died");
        tables
    }
}

/// The columns that tell where a signal lies in the log, which another order changes by intent.
fn without_places(mut tables: Tables) -> Tables {
    tables.0.remove("fact_signals");
    tables
}

#[test]
fn a_simulated_organisation_equals_its_oracles_in_any_order_and_on_any_number_of_workers() {
    let organisation = Organisation::new();
    let plain = organisation.run(&organisation.signals, organisation.signals.len() / 5 + 1, 2, Some(2));
    assert!(judge::days_of_effort(&plain).expect("whole days") > 300, "people did too little");
    disorder(&organisation, &plain);
    accuracy(&organisation, &plain);
    who_is_who(&organisation, &plain);
    let plain = without_places(plain);
    for (workers, epoch) in [(1, 997), (4, 10_007)] {
        let mut shuffled = organisation.signals.clone();
        fastrand::Rng::with_seed(workers as u64).shuffle(&mut shuffled);
        let other = without_places(organisation.run(&shuffled, epoch, workers, None));
        assert_eq!(plain.difference(&other), Vec::<String>::new(), "{workers} workers");
    }
}

/// Everything that goes wrong in life went wrong here.
fn disorder(organisation: &Organisation, tables: &Tables) {
    let of = |wanted: fn(&Truth) -> bool| organisation.truth.iter().filter(|truth| wanted(truth)).count();
    let said = |text: &str| {
        let bodies = organisation.signals.iter().map(|signal| String::from_utf8_lossy(&signal.body));
        bodies.filter(|body| body.contains(text)).count()
    };
    let once: BTreeSet<_> = organisation.signals.iter().map(|signal| signal.id).collect();
    for (what, count) in [
        ("redeliveries", organisation.signals.len() - once.len()),
        ("unreadable deliveries", tables.rows("rejects").len()),
        ("moved tickets", of(|t| matches!(t, Truth::Moved { .. }))),
        ("renamed projects", of(|t| matches!(t, Truth::Renamed { .. }))),
        ("deletions", of(|t| matches!(t, Truth::Deleted { .. }))),
        ("reverts", of(|t| matches!(t, Truth::Reverted { .. }))),
        ("forced pushes", said("\"forced\":true")),
        ("edits", said("\"action\":\"edited\"")),
    ] {
        println!("{count} {what}");
        assert!(count > 0, "no {what}");
    }
}

/// Links against the truth: what is stated is found, all of it; what is found is true.
fn accuracy(organisation: &Organisation, tables: &Tables) {
    type Link = (String, String, String);
    let text = |value: &Value| value.as_text().unwrap_or_default().to_owned();
    let links = |inferred: bool| {
        let rows = tables.rows("links").into_iter();
        rows.filter(move |row| row[4].as_int() >= Some(5_000) && (row[9].as_text() == Some("inferred")) == inferred)
            .map(|row| (text(&row[0]), text(&row[1]), text(&row[2])))
            .collect::<BTreeSet<Link>>()
    };
    // What nothing states is inferred by a model of another organisation: its share of true ones is told, not asked for.
    let (asserted, inferred) = (links(false), links(true));
    let (mut stated, mut all) = (BTreeSet::new(), BTreeSet::new());
    for truth in &organisation.truth {
        if let Truth::Link { artifact_kind, artifact, ticket, stated: by_tool } = truth {
            let link = (artifact_kind.to_string(), artifact.clone(), ticket.clone());
            if *by_tool {
                stated.insert(link.clone());
            }
            all.insert(link);
        }
    }
    let found = stated.intersection(&asserted).count();
    let right = all.intersection(&asserted).count();
    println!(
        "{} links are true, {} of them stated; {} asserted, {found} of the stated found, {right} of the asserted true",
        all.len(),
        stated.len(),
        asserted.len()
    );
    println!("{} more are inferred and asserted, {} of them true", inferred.len(), all.intersection(&inferred).count());
    assert!(stated.len() > 100, "the organisation states only {} links", stated.len());
    let missed: Vec<_> = stated.difference(&asserted).take(5).collect();
    assert!(found * 1_000 >= stated.len() * 999, "{} stated links are missed: {missed:?}", stated.len() - found);
    let wrong: Vec<_> = asserted.difference(&all).take(5).collect();
    assert!(right * 100 >= asserted.len() * 95, "{} asserted links are wrong: {wrong:?}", asserted.len() - right);
}

/// Identities against the truth, pair by pair: two accounts that are merged are one person's, and the accounts of a person
/// are merged.
fn who_is_who(organisation: &Organisation, tables: &Tables) {
    let person = |value: &Value| value.as_text().and_then(|t| t.parse::<PersonId>().ok()).expect("a pseudonym");
    let identities: BTreeMap<_, _> =
        tables.rows("identities").iter().map(|row| (person(&row[0]), person(&row[1]))).collect();
    let mut accounts = BTreeMap::new();
    for truth in &organisation.truth {
        if let Truth::Identity { person, kind, account } = truth {
            let account = match kind {
                AccountKind::Email => Account::Email(account),
                AccountKind::Github => Account::Login { source: "github", login: account },
                AccountKind::Jira => Account::Login { source: "jira", login: account },
                AccountKind::Slack => Account::Login { source: "slack", login: account },
            };
            accounts.insert(organisation.people.person(&account), (person, *kind));
        }
    }
    let known: Vec<_> = accounts.iter().filter_map(|(id, truth)| Some((identities.get(id)?, truth))).collect();
    let (mut merged, mut same, mut right) = (0u64, 0u64, 0u64);
    let mut missed: BTreeMap<_, u64> = BTreeMap::new();
    for (n, (identity, (person, kind))) in known.iter().enumerate() {
        for (other_identity, (other, other_kind)) in &known[n + 1..] {
            let (is_merged, is_same) = (identity == other_identity, person == other);
            merged += u64::from(is_merged);
            same += u64::from(is_same);
            right += u64::from(is_merged && is_same);
            if is_same && !is_merged {
                *missed.entry((*kind.min(other_kind), *kind.max(other_kind))).or_default() += 1;
            }
        }
    }
    println!(
        "{} accounts of {} people: {merged} pairs merged, {right} of them right, of {same}: precision {:.1} %, recall {:.1} %; \
         missed {missed:?}",
        known.len(),
        known.iter().map(|(_, (person, _))| person).collect::<BTreeSet<_>>().len(),
        right as f64 * 100.0 / merged as f64,
        right as f64 * 100.0 / same as f64
    );
    assert!(same > 50, "the organisation has only {same} pairs of accounts");
    assert!(right * 1_000 >= merged * 990, "{} pairs of strangers are merged", merged - right);
    assert!(right * 1_000 >= same * 700, "{} pairs of one person are not merged: {missed:?}", same - right);
}

#[test]
fn what_is_fitted_does_not_depend_on_the_order_of_facts() {
    let organisation = Organisation::new();
    let (read, mut seen) = (organisation.reader(), BTreeSet::new());
    let once = organisation.signals.iter().filter(|signal| seen.insert(signal.id));
    let mut facts: Vec<Fact> = once.flat_map(|signal| read(signal).0).collect();
    let model = Model::shipped();
    let fit = |facts: &[Fact]| calibrate("an organisation", facts, &model, 2).expect("enough to learn from");
    let fitted = fit(&facts);
    assert!(fitted.unstated.features.iter().any(|(_, bins)| bins.weight.iter().any(|w| *w != 0)), "nothing was learnt");
    fastrand::Rng::with_seed(facts.len() as u64).shuffle(&mut facts);
    assert_eq!(fit(&facts), fitted);
}
