//! Calibration of links that nothing states: weights fitted on changes whose ticket is known, figures on later ones
//! that say how far the probabilities hold, and a report of both.
//!
//! A change whose ticket is known is one that states it, with the ticket's key taken out of its words (no word is a key), or
//! one that states nothing itself and whose merge does. A change that nothing ever linked belongs to none: leaving those out
//! would overstate every probability. Candidates and what they have in common with the change come from the very operators
//! that the views are made with ([`crate::unstated`]), run once over the facts for each period.
//!
//! **Never sees the future.** Time is cut into periods. For each, words are counted on tickets created before it, and weights
//! fitted on changes decided (merged, closed, committed) before it; the figures are of changes decided within it. What is
//! shipped is fitted on everything, and so on more than was ever tested.

pub mod fit;
pub mod measure;
pub mod report;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use flowsync_schemas::{
    EntityId, EntityKind, Fact, Micros, Text,
    fact::{EvidenceKind, Feature},
    model::{Bins, Features, Model, Unstated, probability_bps},
    record::Texts,
};
use timely::dataflow::operators::probe::Handle;

use self::{
    fit::{Candidate, Choice, Fitted, Shape},
    measure::{Document, Outcome, Query, Rate, Scored},
    report::{Period, Population, Report},
};
use crate::{
    cx::{Cx, Inputs},
    ops::{Coll, distinct},
    unstated::{self, Kept},
};

/// Hours of a month, on average.
const MONTH_HOURS: i64 = 730;
/// Changes, and changes with a ticket, that a fit needs at least.
const CHANGES_MIN: usize = 300;
const WITH_TICKET_MIN: usize = 60;
/// Tickets that a word is in before the model remembers it; what only one has is rarer than that.
const WORD_TICKETS_MIN: u64 = 2;
/// Words that a model remembers: the commonest.
const WORDS_MAX: usize = 20_000;
/// Silent changes that open with a word before it can mean that there is no ticket.
const TAG_CHANGES_MIN: u64 = 20;

/// The bounds of the bins, and the bin that weighs nothing.
fn bounds(feature: Feature) -> (&'static [i64], usize) {
    match feature {
        Feature::Cover => (&[100, 200, 300, 400, 500, 650, 800], 0),
        Feature::Shared => (&[4_000, 8_000, 12_000, 18_000, 26_000], 0),
        Feature::File => (&[1, 4_000, 6_000], 0),
        Feature::Touched => (&[1, 2, 3, 5], 0),
        Feature::Age => (&[-24, 0, 24, 72, 168, 336, 720, 2_160, 8_760], 7),
        Feature::Done => (&[1, 24, 168], 0),
        Feature::Progress => (&[1, 2, 3], 0),
        Feature::Owner => (&[1, 2, 3, 4, 5], 1),
        Feature::Tag => (&[1], 0),
        Feature::Length => (&[5, 10, 20, 40, 80], 3),
        Feature::Pull => (&[1], 0),
    }
}

/// The bins of a feature with the weights that were fitted, in the order of [`Feature::ALL`], or none yet.
fn bins(feature: Feature, fitted: Option<&Fitted>) -> Bins {
    let from = bounds(feature).0.to_vec();
    let of = |all: fn(&Fitted) -> &[Vec<i64>]| match fitted {
        Some(fitted) => all(fitted)[feature as usize].clone(),
        None => vec![0; from.len() + 1],
    };
    let (weight, spread) = (of(|f| &f.weights), of(|f| &f.spreads));
    Bins { from, weight, spread }
}

/// Why there is nothing to fit.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// Too few changes whose outcome is known.
    #[error(
        "too little to learn from: {changes} changes with a known outcome, {with_ticket} of them with a ticket, and \
         {CHANGES_MIN} and {WITH_TICKET_MIN} are needed; import more history, or go on with the shipped model"
    )]
    TooLittle {
        /// Changes.
        changes: usize,
        /// Those with a ticket.
        with_ticket: usize,
    },
}

/// What calibration comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// For the model file.
    pub unstated: Unstated,
    /// How far it holds.
    pub report: Report,
}

/// Fits the model of links that nothing states on these facts, and measures it in periods of `months`.
///
/// # Errors
/// Where there is too little to learn from.
pub fn calibrate(data: &str, facts: &[Fact], model: &Model, months: u32) -> Result<Calibrated, CalibrateError> {
    let all = History::read(facts, model);
    let length = MONTH_HOURS * i64::from(months.max(1));
    let end = all.changes.iter().map(|c| c.decided + 1).max().unwrap_or(0);
    let first = all.changes.iter().map(|c| c.decided).min().unwrap_or(0);
    // Where there are pull requests that name no ticket, the figures begin with them.
    let begins = all.changes.iter().filter(|c| is_silent(c)).map(|c| c.decided).min().unwrap_or(first);
    let mut starts: Vec<i64> = (1..)
        .map(|n| end - n * length)
        .take_while(|start| *start > first && start + length > begins)
        .filter(|cut| all.suffices(*cut))
        .collect();
    starts.reverse();
    let (mut silent, mut stated) = (Tested::default(), Tested::default());
    for start in &starts {
        let fold = Fold::fit(&all, facts, model, *start);
        silent.add(&all, &fold, *start..start + length, is_silent);
        stated.add(&all, &fold, *start..start + length, |c| !c.silent);
    }
    let last = Fold::fit(&all, facts, model, end);
    if !all.suffices(end) {
        return Err(CalibrateError::TooLittle { changes: last.trained.of, with_ticket: last.trained.hits });
    }
    let day = |hour: i64| Micros(hour * 3_600_000_000).day().to_string();
    let tested = Period { from: day(starts.first().copied().unwrap_or(end)), until: day(end) };
    let fitted_period = Period { from: day(first), until: day(end) };
    let report = Report {
        data: vec![data.to_owned()],
        fitted_period: fitted_period.clone(),
        fitted_with_ticket: last.trained,
        months,
        tested_period: tested,
        populations: vec![
            silent.population("Pull requests that name no ticket"),
            stated.population("Changes that state their ticket, with that taken away"),
        ],
        features: Feature::ALL
            .iter()
            .map(|f| report::Feature { name: f.word().to_owned(), bins: report::ranges(bounds(*f).0) })
            .collect(),
        fitted: last.fitted,
    };
    let unstated =
        Unstated { fitted_on: format!("{data}, {} to {}", fitted_period.from, fitted_period.until), ..last.unstated };
    Ok(Calibrated { unstated, report })
}

/// A pull request that names no ticket.
fn is_silent(change: &Known) -> bool {
    change.silent && change.kind == EntityKind::PullRequest
}

/// A change whose outcome is known.
struct Known {
    id: EntityId,
    kind: EntityKind,
    /// Words, as facts carry them.
    words: Text,
    /// When the outcome was known, and when the work was done. Hours since 1970.
    decided: i64,
    worked: i64,
    /// Whether it names no ticket itself.
    silent: bool,
    tickets: BTreeSet<EntityId>,
}

/// What happened, whatever the model.
struct History {
    changes: Vec<Known>,
    tickets: Vec<(EntityId, i64, Text)>,
}

impl History {
    fn read(facts: &[Fact], model: &Model) -> Self {
        let (works, stated, tickets) = run(facts, model, |cx, probe| {
            let parts = distinct(cx.parts().map(|(commit, ..)| commit));
            let works = gather(unstated::works(cx, parts), probe);
            let stated = gather(
                cx.stated_evidence().as_collection(|(artifact, ticket, kind), _| (*artifact, *ticket, *kind)),
                probe,
            );
            let tickets = cx
                .tickets()
                .flat_map_ref(|id, v| Some((*id, unstated::hour(v.value.created_at?), v.value.words.clone())));
            let tickets = gather(tickets, probe);
            move || (works.take(), stated.take(), tickets.take())
        });
        let there: HashSet<EntityId> = tickets.iter().map(|(id, ..)| *id).collect();
        let mut said: HashMap<EntityId, Vec<(EntityId, EvidenceKind)>> = HashMap::new();
        for (artifact, ticket, kind) in stated {
            said.entry(artifact).or_default().push((ticket, kind));
        }
        let known = works.into_iter().map(|work| {
            let said = said.get(&work.id).map_or(&[][..], Vec::as_slice);
            let rejected = |ticket| said.contains(&(ticket, EvidenceKind::Rejected));
            let named = said
                .iter()
                .filter(|(ticket, kind)| unstated::names(*kind) && there.contains(ticket) && !rejected(*ticket));
            Known {
                silent: said.iter().all(|(_, kind)| *kind == EvidenceKind::ViaCommit),
                tickets: named.map(|(ticket, _)| *ticket).collect(),
                id: work.id,
                kind: work.kind,
                words: work.words,
                decided: work.decided,
                worked: work.worked,
            }
        });
        let mut changes: Vec<_> = known.collect();
        changes.sort_by_key(|c| (c.decided, c.id));
        let mut tickets = tickets;
        tickets.sort_by_key(|t| (t.1, t.0));
        Self { changes, tickets }
    }

    fn before(&self, cut: i64) -> impl Iterator<Item = &Known> {
        self.changes.iter().take_while(move |c| c.decided < cut)
    }

    /// Whether there is enough before a time to fit weights on.
    fn suffices(&self, cut: i64) -> bool {
        let with = |silent: bool| self.before(cut).filter(|c| c.silent == silent && !c.tickets.is_empty()).count();
        self.before(cut).count() >= CHANGES_MIN && with(true) + with(false) >= WITH_TICKET_MIN
    }

    /// A model whose weights are all zero, with what was known of words before a time.
    fn words_before(&self, cut: i64) -> Unstated {
        let mut tickets_with: BTreeMap<&str, u64> = BTreeMap::new();
        let before: Vec<_> = self.tickets.iter().take_while(|t| t.1 < cut).collect();
        for (.., words) in &before {
            words.split(' ').filter(|w| !w.is_empty()).for_each(|w| *tickets_with.entry(w).or_default() += 1);
        }
        let all = before.len() as f64 + 1.0;
        let information = |tickets: f64| (1_000.0 * (all / (tickets + 0.5)).ln()).round() as i64;
        let mut kept: Vec<_> = tickets_with.into_iter().filter(|(_, n)| *n >= WORD_TICKETS_MIN).collect();
        kept.sort_by_key(|(word, n)| (std::cmp::Reverse(*n), *word));
        kept.truncate(WORDS_MAX);
        Unstated {
            fitted_on: String::new(),
            prior_millinats: 0,
            unknown_word: information(0.0),
            no_ticket: self.tags_before(cut),
            features: Features::new(|feature| bins(feature, None)),
            words: kept.into_iter().map(|(word, n)| (word.to_owned(), information(n as f64).max(0))).collect(),
        }
    }

    /// Words that silent changes open with and that have a ticket less than a third as often as others.
    fn tags_before(&self, cut: i64) -> Vec<String> {
        let (mut all, mut by_tag) = (Rate::default(), BTreeMap::<&str, Rate>::new());
        for change in self.before(cut).filter(|c| c.silent) {
            let count = |rate: &mut Rate| {
                rate.of += 1;
                rate.hits += usize::from(!change.tickets.is_empty());
            };
            count(&mut all);
            for tag in change.words.split(' ').filter_map(|word| word.strip_suffix(':')) {
                count(by_tag.entry(tag).or_default());
            }
        }
        let rare = |rate: &Rate| rate.of as u64 >= TAG_CHANGES_MIN && 3 * rate.hits * all.of < all.hits * rate.of;
        by_tag.into_iter().filter(|(_, rate)| rare(rate)).map(|(tag, _)| tag.to_owned()).collect()
    }
}

/// What was fitted on all that was decided before a time.
struct Fold {
    unstated: Unstated,
    fitted: Fitted,
    trained: Rate,
    /// Candidates of every change, also of later ones.
    candidates: HashMap<EntityId, Vec<(EntityId, unstated::Binned)>>,
}

impl Fold {
    fn fit(all: &History, facts: &[Fact], model: &Model, cut: i64) -> Self {
        let mut unstated = all.words_before(cut);
        let candidates = compare(facts, model, unstated.clone());
        let choices: Vec<Choice> = all
            .before(cut)
            .map(|change| Choice {
                candidates: candidates
                    .get(&change.id)
                    .into_iter()
                    .flatten()
                    .map(|(ticket, bins)| Candidate { bins: bins.to_vec(), truth: change.tickets.contains(ticket) })
                    .collect(),
                has_truth: !change.tickets.is_empty(),
            })
            .collect();
        let shape: Vec<Shape> = Feature::ALL
            .iter()
            .map(|feature| {
                let (from, reference) = bounds(*feature);
                Shape { bins: from.len() + 1, reference }
            })
            .collect();
        let fitted = fit::fit(&choices, &shape);
        unstated.prior_millinats = fitted.prior_millinats;
        unstated.features = Features::new(|feature| bins(feature, Some(&fitted)));
        let trained = Rate { hits: choices.iter().filter(|c| c.has_truth).count(), of: choices.len() };
        Self { unstated, fitted, trained, candidates }
    }

    /// The probabilities of a change's candidates.
    fn outcome(&self, change: &Known) -> Outcome {
        let none = Vec::new();
        let candidates = self.candidates.get(&change.id).unwrap_or(&none);
        let bins: Vec<_> = candidates.iter().map(|(_, bins)| *bins).collect();
        let scored = unstated::scores(&self.unstated, &bins).into_iter().zip(candidates);
        let scored = scored.map(|((log_odds, spread), (ticket, _))| Scored {
            probability_bps: probability_bps(log_odds),
            low_bps: probability_bps(log_odds - spread),
            high_bps: probability_bps(log_odds + spread),
            truth: change.tickets.contains(ticket),
        });
        Outcome { candidates: scored.collect(), has_truth: !change.tickets.is_empty() }
    }
}

/// What came of changes of one sort, over the periods.
#[derive(Default)]
struct Tested {
    outcomes: Vec<Outcome>,
    bm25: measure::Baseline,
}

impl Tested {
    fn add(&mut self, all: &History, fold: &Fold, period: std::ops::Range<i64>, of: impl Fn(&Known) -> bool) {
        let tested: Vec<_> = all.changes.iter().filter(|c| period.contains(&c.decided) && of(c)).collect();
        self.outcomes.extend(tested.iter().map(|change| fold.outcome(change)));
        let place: HashMap<EntityId, usize> = all.tickets.iter().enumerate().map(|(n, t)| (t.0, n)).collect();
        let documents: Vec<_> = all
            .tickets
            .iter()
            .map(|(_, created, words)| Document { created_hours: *created, words: in_words(words) })
            .collect();
        let queries: Vec<_> = tested
            .iter()
            .map(|change| Query {
                words: in_words(&change.words),
                latest_hours: change.worked + unstated::AHEAD_HOURS,
                truths: change.tickets.iter().filter_map(|ticket| place.get(ticket).copied()).collect(),
            })
            .collect();
        self.bm25.add(measure::bm25(&documents, &queries, period.start));
    }

    fn population(self, name: &str) -> Population {
        Population { name: name.to_owned(), measures: measure::measure(&self.outcomes), bm25: Some(self.bm25) }
    }
}

fn in_words(words: &str) -> Vec<&str> {
    words.split(' ').filter(|w| !w.is_empty() && !w.ends_with(':')).collect()
}

/// The candidates of every change that is part of no other, whether something states its ticket or not.
fn compare(facts: &[Fact], model: &Model, unstated: Unstated) -> HashMap<EntityId, Vec<(EntityId, unstated::Binned)>> {
    let kept: Vec<(EntityId, Kept)> = run(facts, model, |cx, probe| {
        let parts = distinct(cx.parts().map(|(commit, ..)| commit));
        let changes = unstated::changes(cx, parts);
        let kept = unstated::candidates(cx, &Rc::new(unstated), changes);
        let kept = gather(kept.as_collection(|id, kept| (*id, kept.clone())), probe);
        move || kept.take()
    });
    kept.into_iter().map(|(id, all)| (id, all.into_iter().map(|(t, bins)| (t.id, bins)).collect())).collect()
}

/// Where rows of a collection are gathered.
type Gathered<D> = Rc<RefCell<Vec<D>>>;

fn gather<'s, D>(rows: Coll<'s, D>, probe: &Handle<u64>) -> Gathered<D>
where
    D: differential_dataflow::ExchangeData + std::hash::Hash,
{
    let gathered = Gathered::default();
    let out = Rc::clone(&gathered);
    let rows = rows.consolidate().inspect(move |(row, _, _)| out.borrow_mut().push(row.clone()));
    let _ = rows.probe_with(probe);
    gathered
}

/// Builds a dataflow over the facts, all at one epoch, and gives what was gathered once it has come to rest.
fn run<T: Send + 'static, F: FnOnce() -> T>(
    facts: &[Fact],
    model: &Model,
    build: impl FnOnce(&mut Cx<'_>, &Handle<u64>) -> F + Send + Sync + 'static,
) -> T {
    let (mut facts, model, mut texts) = (facts.to_vec(), model.clone(), Texts::default());
    facts.iter_mut().for_each(|fact| fact.share(&mut texts));
    timely::execute::execute_directly(move |worker| {
        let probe = Handle::new();
        let (mut inputs, take) = worker.dataflow::<u64, _, _>(|scope| {
            let (inputs, facts) = Inputs::new(scope);
            let mut cx = Cx::new(facts, model, Rc::default(), Handle::new());
            let take = build(&mut cx, &probe);
            (inputs, take)
        });
        inputs.update(facts, [], [], 1);
        inputs.advance_to(1);
        worker.step_while(|| probe.less_than(&1));
        take()
    })
}
