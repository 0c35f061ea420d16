//! Which ticket could a change belong to that names none?
//!
//! ```text
//!  changes that nothing links ─► their rarest words, their author, their files ─┐
//!                                                                               ├─► pairs ─► bins ─► at most 8 ─► softmax with "none"
//!  tickets ─► words of titles, assignee and reporter, files of stated commits ──┘
//! ```
//!
//! A change is a pull request, or a commit that is no merge and part of no pull request. As soon as something states a link,
//! nothing is inferred of it any more. Candidates are found through an inverted index, never by a cross product, and
//! everything is bounded (I9): a change looks up at most [`KNOWN_WORDS`] + [`UNKNOWN_WORDS`] + [`FILE_WORDS`] words in at
//! most four spans of time and [`touched::PATHS`] files in two, what leads to more than [`TICKETS_MAX`] tickets of a span leads to none of
//! them, and [`CANDIDATES`] are kept. Spans stand together under one key, so that some of the tickets that are met are then left out
//! because they are not of the time. What is built on a change costs as much as the change, however long the history.
//!
//! How rare a word is comes from the model and not from the tickets that are there, so that a new ticket does not move every
//! score. The kept candidates compete with each other and with *none* ([`choice`]); the oracle is [`HELPERS`] (I5). See ADR 9.

mod choice;
mod oracle;
mod tickets;
mod touched;

use std::{cmp::Reverse, collections::BTreeMap, hash::Hash, ops::RangeInclusive, rc::Rc, sync::Arc};

use differential_dataflow::Hashable;
use flowsync_schemas::{
    EntityId, EntityKind, Micros, PersonId, SignalId, Text,
    fact::{CommitFact, EvidenceKind, Feature, PullRequestFact},
    model::{Model, Unstated},
};
use serde::{Deserialize, Serialize};

pub(crate) use self::touched::names;
use self::{
    choice::compete,
    tickets::{ALWAYS, Ticket, postings},
    touched::{Files, files_of_pulls},
};
pub use self::{oracle::HELPERS, tickets::Named};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, Shared, antijoin, distinct, left_join, reduce},
    views::evidence::EvidenceRow,
};

/// Words of a change that the model knows and that are looked up, the rarest first.
pub const KNOWN_WORDS: usize = 12;
/// Words of a change that the model does not know and that are looked up, the longest first.
pub const UNKNOWN_WORDS: usize = 8;
/// Names of touched files that are looked up, the rarest first.
pub const FILE_WORDS: usize = 4;
/// Tickets of one span that a word or a person may lead to.
pub const TICKETS_MAX: i64 = 24;
/// What each file that was touched before adds to the rank of a candidate.
const TOUCHED_ROUGH: i64 = 250;
/// Candidates of a change that are kept.
pub const CANDIDATES: usize = 8;

/// Half a year: tickets are looked up by word and the span in which they were created.
const SPAN_HOURS: i64 = 4_383;
/// Whole spans before that of the work.
const SPANS_BACK: i64 = 2;
/// Spans under one key of the index: a change has fewer keys for each of its words, and of the tickets that they lead to some are
/// not of its time.
const SPANS_TOGETHER: i64 = 4;
/// Tickets of the author are looked up in the span of the work and the one before.
const OWN_HOURS: i64 = 45 * 24;
/// Files that stated commits of a ticket touched are looked up in the span in which the work began and those before.
const TOUCHED_HOURS: i64 = 90 * 24;
/// Whole spans before that one.
const TOUCHED_BACK: i64 = 1;
/// How much younger than the work a ticket may be.
pub(crate) const AHEAD_HOURS: i64 = 14 * 24;
/// A word by its hash, and its information; lists of them are sorted.
type Word = (u64, i64);

/// A change, as it is compared with tickets: nothing else is in it, so that a version that changes nothing of that ends here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Its id; first, so that comparing two changes ends there.
    id: EntityId,
    /// Whether it is a pull request.
    pull: bool,
    /// When the work was done, or offered.
    worked_at: Micros,
    /// The author's accounts, and those that may be the author's; sorted.
    people: Vec<PersonId>,
    words: Vec<Word>,
    files: Vec<Word>,
    looked_up: Vec<u64>,
    /// Whole paths of touched files.
    paths: Vec<u64>,
    /// The hour in which the work began at the latest: what was known then cannot come of it.
    began: i64,
    tagged: bool,
}

/// A candidate: its rank (the highest first), which ticket, and the bin of each feature. There are many: it is small, and
/// what becomes of the ticket later and moves no bin does not change it.
type Candidate = (Reverse<i32>, Shared<Named>, Binned);

/// What a change and a ticket have in common: a touched file by its path, or what candidates are compared by. Touched files
/// sort first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Found {
    Touched(EntityId, u64),
    Compared(Candidate),
}

/// The bin of each feature, in the order of [`Feature::ALL`].
pub type Binned = [u8; FEATURES];

const FEATURES: usize = Feature::ALL.len();

/// What a change is read from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Work {
    /// A pull request.
    Pull(Arc<PullRequestFact>),
    /// A commit.
    Commit(Arc<CommitFact>),
}

/// What is told of a change: when the work was done, or offered; which signal tells of it; all of it.
pub type Told = (Micros, SignalId, Work);

/// Hours since 1970.
pub(crate) fn hour(time: Micros) -> i64 {
    time.0.div_euclid(3_600_000_000)
}

/// Changes outside `linked`, by id.
pub fn changes<'s>(cx: &mut Cx<'s>, linked: Coll<'s, EntityId>) -> Arranged<'s, EntityId, Told> {
    let pulls = cx.pull_requests().as_collection(|id, v| {
        let worked_at = v.value.created_at.unwrap_or(v.at);
        (*id, (worked_at, v.signal, Work::Pull(v.value.clone())))
    });
    let commits = cx.commits().flat_map_ref(|id, (v, _)| {
        let merge = v.value.parent_count.is_some_and(|n| n > 1);
        let worked_at = v.value.authored_at.unwrap_or(v.at);
        (!merge).then(|| (*id, (worked_at, v.signal, Work::Commit(v.value.clone()))))
    });
    antijoin(pulls.concat(commits), linked).by_key()
}

/// A change before it is compared: what calibration knows of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub id: EntityId,
    pub kind: EntityKind,
    pub words: Text,
    /// When the work was done, and when its outcome was known: merged, closed, committed. Hours since 1970.
    pub worked: i64,
    pub decided: i64,
}

/// The decided ones of all changes outside `linked`.
pub(crate) fn works<'s>(cx: &mut Cx<'s>, linked: Coll<'s, EntityId>) -> Coll<'s, Decided> {
    changes(cx, linked).flat_map_ref(|id, (worked_at, _, work)| {
        let (id, worked_at) = (*id, *worked_at);
        let (kind, words, decided_at) = match work {
            Work::Pull(p) => (EntityKind::PullRequest, &p.words, p.merged_at.or(p.closed_at)?),
            Work::Commit(c) => (EntityKind::Commit, &c.words, c.committed_at.unwrap_or(worked_at)),
        };
        let (worked, decided) = (hour(worked_at), hour(decided_at.max(worked_at)));
        Some(Decided { id, kind, words: words.clone(), worked, decided })
    })
}

/// The words of a text, each with what the model tells of it; and what the model knows of, apart.
fn words<'a>(model: &Unstated, text: &'a str) -> impl Iterator<Item = (&'a str, i64, bool)> {
    text.split(' ').filter(|w| !w.is_empty() && !w.ends_with(':')).map(move |word| {
        let known = model.words.get(word);
        (word, known.copied().unwrap_or(model.unknown_word), known.is_some())
    })
}

fn hashed<'a>(words: impl Iterator<Item = (&'a str, i64, bool)>) -> Vec<Word> {
    let mut all: Vec<Word> = words.map(|(word, idf, _)| (word.hashed(), idf)).collect();
    all.sort_unstable();
    all
}

/// The hashes of the rarest words; of equally rare ones, the longest.
fn rarest<'a>(words: impl Iterator<Item = (&'a str, i64, bool)>, n: usize) -> impl Iterator<Item = u64> {
    let mut all: Vec<_> = words.map(|(word, idf, _)| (Reverse(idf), Reverse(word.chars().count()), word)).collect();
    all.sort_unstable();
    all.truncate(n);
    all.into_iter().map(|(.., word)| word.hashed())
}

fn change(
    model: &Unstated,
    id: EntityId,
    worked_at: Micros,
    work: &Work,
    files: Option<&Files>,
    people: Vec<PersonId>,
) -> Change {
    let (text, files) = match work {
        Work::Pull(p) => (&p.words, files.cloned()),
        Work::Commit(c) => {
            let committed = c.committed_at.map_or(i64::MAX, hour);
            (&c.words, Some((c.file_words.clone(), c.paths.clone(), committed)))
        }
    };
    let (files, paths, first) = files.unwrap_or_else(|| ("".into(), "".into(), i64::MAX));
    let files = &*files;
    let known = words(model, text).filter(|w| w.2);
    let unknown = words(model, text).filter(|w| !w.2);
    let named = words(model, files).filter(|w| w.2);
    let mut looked_up: Vec<u64> =
        rarest(known, KNOWN_WORDS).chain(rarest(unknown, UNKNOWN_WORDS)).chain(rarest(named, FILE_WORDS)).collect();
    looked_up.sort_unstable();
    looked_up.dedup();
    let tag = |word: &str| word.strip_suffix(':').is_some_and(|tag| model.no_ticket.iter().any(|t| t == tag));
    Change {
        id,
        pull: matches!(work, Work::Pull(_)),
        worked_at,
        people,
        words: hashed(words(model, text)),
        files: hashed(words(model, files)),
        looked_up,
        paths: touched::paths(&paths).collect(),
        began: hour(worked_at).min(first),
        tagged: text.split(' ').any(tag),
    }
}

/// A key of the index: a word or a person, in a span of time.
fn key(sort: &str, what: impl Hash, span: i64) -> u64 {
    (sort, what, span).hashed()
}

/// Tells apart what stands under one key, and many do, without a look at what it points to: sorting stays within the row.
fn apart(id: EntityId) -> u64 {
    id.0 as u64
}

fn spans(from: i64, to: i64, length: i64) -> RangeInclusive<i64> {
    from.div_euclid(length)..=to.div_euclid(length)
}

impl Change {
    fn hour(&self) -> i64 {
        hour(self.worked_at)
    }

    /// The spans in which tickets were created that its words lead to.
    fn spans_of_words(&self) -> RangeInclusive<i64> {
        spans(self.hour() - SPANS_BACK * SPAN_HOURS, self.hour() + AHEAD_HOURS, SPAN_HOURS)
    }

    /// The keys under which its candidates are, each with the path that it stands for; 0 for words and people.
    fn keys(&self) -> Vec<(u64, u64)> {
        let (hour, ahead) = (self.hour(), self.hour() + AHEAD_HOURS);
        let spans_of_words = self.spans_of_words();
        let blocks = spans(*spans_of_words.start(), *spans_of_words.end(), SPANS_TOGETHER);
        let by_word = blocks.flat_map(|block| self.looked_up.iter().map(move |word| key("word", word, block)));
        let own = self
            .people
            .iter()
            .flat_map(|person| spans(hour - OWN_HOURS, ahead, OWN_HOURS).map(move |span| key("person", person, span)));
        let touched = || spans(self.began - TOUCHED_BACK * TOUCHED_HOURS, self.began, TOUCHED_HOURS);
        let by_path = self.paths.iter().flat_map(|path| touched().map(move |span| (key("path", path, span), *path)));
        by_word.chain(own).map(|key| (key, 0)).chain(by_path).collect()
    }

    /// What it has in common with a ticket, where the ticket is not too young.
    fn compare(&self, ticket: &Ticket, model: &Unstated) -> Option<Candidate> {
        let change = self;
        let age = change.hour() - ticket.created_hour;
        if age < -AHEAD_HOURS {
            return None;
        }
        let shared: i64 = common(&change.words, &ticket.words).sum();
        let file = common(&change.files, &ticket.words).max().unwrap_or(0);
        let mine = |person: Option<PersonId>| person.is_some_and(|p| change.people.binary_search(&p).is_ok());
        let owner = match (mine(ticket.assignee), mine(ticket.reporter), ticket.assignee) {
            (true, true, _) => 5,
            (true, false, _) => 4,
            (false, true, None) => 3,
            (false, true, Some(_)) => 2,
            (false, false, None) => 1,
            (false, false, Some(_)) => 0,
        };
        let share = |of: i64| (of * shared).checked_div(ticket.information).unwrap_or(0);
        let values = |feature| match feature {
            Feature::Cover => share(1_000),
            Feature::Shared => shared,
            Feature::File => file,
            // Known only where all that was found meets: see `with_touched`.
            Feature::Touched => 0,
            Feature::Age => age,
            Feature::Done => ticket.resolved_hour.map_or(0, |resolved| (change.hour() - resolved).max(0)),
            Feature::Progress => ticket.stood(change.worked_at),
            Feature::Owner => owner,
            Feature::Tag => i64::from(change.tagged),
            Feature::Length => change.words.len() as i64,
            Feature::Pull => i64::from(change.pull),
        };
        let recent = match age {
            ..168 => 1_500,
            168..720 => 1_000,
            720..2_880 => 500,
            _ => 0,
        };
        let rough = 10 * share(500)
            + shared / 8
            + if file > 0 { 1_000 } else { 0 }
            + recent
            + if owner >= 4 { 1_500 } else { 0 };
        let mut bins = [0; FEATURES];
        for (bin, feature) in bins.iter_mut().zip(Feature::ALL) {
            *bin = model.features[*feature].of(values(*feature)) as u8;
        }
        Some((Reverse(rank(rough)), ticket.named.clone(), bins))
    }
}

/// A rank is some ten thousands at most, and there are many of them.
fn rank(rough: i64) -> i32 {
    rough.clamp(0, i64::from(i32::MAX)) as i32
}

/// The candidate of a change of which so many paths were touched for the ticket before.
fn with_touched(model: &Unstated, candidate: &Candidate, paths: i64) -> Candidate {
    let (Reverse(rough), ticket, mut bins) = candidate.clone();
    bins[Feature::Touched as usize] = model.features[Feature::Touched].of(paths) as u8;
    (Reverse(rank(i64::from(rough) + TOUCHED_ROUGH * paths)), ticket, bins)
}

/// The likeliest candidates of what was found for a change.
fn likeliest(model: &Unstated, found: &[(&Found, isize)]) -> Vec<Candidate> {
    let (mut touched, mut likeliest, mut others) = (BTreeMap::<EntityId, i64>::new(), Vec::new(), 0);
    for (found, _) in found {
        match found {
            Found::Touched(ticket, _) => *touched.entry(*ticket).or_default() += 1,
            Found::Compared(candidate) => match touched.remove(&candidate.1.id) {
                Some(paths) => likeliest.push(with_touched(model, candidate, paths)),
                None if others < CANDIDATES => {
                    others += 1;
                    likeliest.push(candidate.clone());
                }
                None if touched.is_empty() => break,
                None => {}
            },
        }
    }
    likeliest.sort_unstable();
    likeliest.truncate(CANDIDATES);
    likeliest
}

/// Information of the words that both lists have.
fn common<'a>(a: &'a [Word], b: &'a [Word]) -> impl Iterator<Item = i64> + 'a {
    let mut rest = a;
    b.iter().filter_map(move |(word, idf)| {
        let at = rest.partition_point(|(other, _)| other < word);
        rest = &rest[at..];
        rest.first().is_some_and(|(other, _)| other == word).then_some(*idf)
    })
}

/// The candidates that are kept for a change, the likeliest first.
pub type Kept = Vec<(Shared<Named>, Binned)>;

/// Candidates of the changes that are not linked.
pub fn candidates<'s>(
    cx: &mut Cx<'s>,
    model: &Rc<Unstated>,
    raw: Arranged<'s, EntityId, Told>,
) -> Arranged<'s, EntityId, Kept> {
    let files = files_of_pulls(cx, &raw);
    let authored = left_join(raw, files, |id, (worked_at, _, work), files| {
        let author = match work {
            Work::Pull(p) => p.author,
            Work::Commit(c) => c.author,
        };
        [(author, (*id, *worked_at, work.clone(), files.cloned()))]
    });
    let kin = cx.kin().as_collection(|person, others| (Some(*person), others.clone()));
    let read = Rc::clone(model);
    let changes = left_join(authored, kin, move |author, (id, worked_at, work, files), kin| {
        let mut people: Vec<_> = kin.into_iter().flatten().copied().chain(*author).collect();
        people.sort_unstable();
        [Shared::new(change(&read, *id, *worked_at, work, files.as_ref(), people))]
    });
    // Most new versions change nothing that is looked at here.
    let changes = changes.consolidate_stream();
    let looked_up = changes.flat_map(|change| {
        let keys = change.keys().into_iter();
        keys.map(move |(key, path)| (key, (apart(change.id), change.clone(), path)))
    });
    let compared = Rc::clone(model);
    let found =
        looked_up.by_key().join_core(postings(cx, model).by_key(), move |_, (_, change, path), (_, ticket, since)| {
            let in_time = match *since {
                ALWAYS => change.spans_of_words().contains(&ticket.span()),
                since => since < change.began,
            };
            let candidate = in_time.then(|| change.compare(ticket, &compared)).flatten();
            let touched = (*since > ALWAYS && candidate.is_some()).then(|| Found::Touched(ticket.named.id, *path));
            let id = change.id;
            touched.into_iter().chain(candidate.map(Found::Compared)).map(move |found| (id, found))
        });
    let ranked = Rc::clone(model);
    // Several keys lead to the same pair: here it counts once, and values come sorted by rank.
    reduce(found, "Candidates", move |_, found, out| {
        let kept = likeliest(&ranked, found);
        if !kept.is_empty() {
            out.push((kept.into_iter().map(|(_, ticket, bins)| (ticket, bins)).collect(), 1));
        }
    })
}

/// Log-odds and standard deviation of each of a change's candidates, thousandths of a nat, competition included.
pub fn scores(model: &Unstated, candidates: &[Binned]) -> Vec<(i64, i64)> {
    compete(model, candidates).iter().map(|rival| rival.score()).collect()
}

/// What speaks for one of a change's candidates, by the id of the change.
pub type Inferred = (EntityId, Arc<[EvidenceRow]>);

/// Reasons for the candidates of changes that nothing states a link of.
pub fn evidence<'s>(cx: &mut Cx<'s>) -> Coll<'s, Inferred> {
    let model: Rc<Model> = Rc::clone(&cx.model);
    let Some(unstated) = model.unstated.clone().map(Rc::new) else {
        return cx.parts().flat_map(|_| None);
    };
    let stated = cx
        .stated_evidence()
        .flat_map_ref(|(artifact, _, kind), _| (*kind != EvidenceKind::Rejected).then_some(*artifact));
    let parts = cx.parts().map(|(commit, ..)| commit);
    let changes = changes(cx, distinct(stated.concat(parts)));
    let kept = candidates(cx, &unstated, changes.clone());
    kept.join_core(changes, move |id, candidates, (worked_at, signal, work)| {
        let (artifact_kind, artifact_id) = match work {
            Work::Pull(p) => (EntityKind::PullRequest, &p.pull_request),
            Work::Commit(c) => (EntityKind::Commit, &c.sha),
        };
        let bins: Vec<_> = candidates.iter().map(|(_, bins)| *bins).collect();
        let rivals = candidates.iter().zip(compete(&unstated, &bins)).filter(|(_, rival)| rival.shown);
        let rows = rivals.map(|((ticket, _), rival)| {
            let (other, spread) = rival.other;
            let against = (EvidenceKind::Competition, other - model.prior_millinats + rival.against, spread);
            let reasons = rival.kinds.into_iter().chain([against]).filter(|reason| reason.1 != 0);
            let rows = reasons.map(|(kind, weight_millinats, spread_millinats)| EvidenceRow {
                artifact_kind,
                artifact_id: artifact_id.clone(),
                ticket_key: ticket.key.clone(),
                kind,
                project: ticket.project.clone(),
                weight_millinats,
                spread_millinats,
                at: *worked_at,
                signal: *signal,
            });
            (*id, rows.collect())
        });
        rows.collect::<Vec<Inferred>>()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flowsync_schemas::model::{Bins, Features};

    use super::*;

    /// Every feature has two bins, of which the upper one weighs 1,000.
    pub fn model(prior_millinats: i64) -> Unstated {
        let bins = Bins { from: vec![1], weight: vec![0, 1_000], spread: vec![0, 300] };
        Unstated {
            fitted_on: "nothing".into(),
            prior_millinats,
            unknown_word: 9_000,
            no_ticket: vec!["minor".into()],
            features: Features::new(|_| bins.clone()),
            words: BTreeMap::from([("basket".into(), 2_000), ("price".into(), 3_000)]),
        }
    }

    fn commit(model: &Unstated, text: &str, files: &str, people: Vec<PersonId>) -> Change {
        let fact = CommitFact {
            repo: "o/r".into(),
            sha: "a".into(),
            author: None,
            committer: None,
            authored_at: None,
            committed_at: None,
            subject: "".into(),
            words: text.into(),
            file_words: files.into(),
            paths: "".into(),
            parent_count: None,
            added_lines: None,
            deleted_lines: None,
            changed_files: None,
            deleted: false,
        };
        let (id, work) = (EntityId::of(EntityKind::Commit, "a"), Work::Commit(Arc::new(fact)));
        change(model, id, Micros::from_secs(400 * 3_600), &work, None, people)
    }

    fn ticket(model: &Unstated, title: &str, created_hour: i64) -> Ticket {
        let words = hashed(words(model, title));
        let id = EntityId::of(EntityKind::Ticket, "SHOP-1");
        Ticket {
            named: Shared::new(Named { key: "SHOP-1".into(), id, project: "SHOP".into() }),
            information: words.iter().map(|w| w.1).sum(),
            words,
            assignee: Some(PersonId(1)),
            reporter: Some(PersonId(2)),
            created_hour,
            resolved_hour: None,
            course: vec![],
        }
    }

    #[test]
    fn what_a_change_and_a_ticket_have_in_common() {
        let model = model(0);
        let both = commit(&model, "basket minor: price rounding", "basket", vec![PersonId(1), PersonId(3)]);
        let candidate = both.compare(&ticket(&model, "basket price", 200), &model).expect("a candidate");
        // All of the title, a file, older than the work, not done, the author's, tagged, some words; a commit.
        let bins = |feature: Feature| candidate.2[feature as usize];
        use Feature::*;
        assert_eq!([Cover, Shared, File, Age, Done, Owner, Tag, Length, Pull].map(bins), [1, 1, 1, 1, 0, 1, 1, 1, 0]);
        assert_eq!(candidate.0, Reverse(10 * 500 + 5_000 / 8 + 1_000 + 1_000 + 1_500));
        let stranger = commit(&model, "zebra", "", vec![]);
        let candidate = stranger.compare(&ticket(&model, "basket price", 200), &model).expect("a candidate");
        assert_eq!(candidate.0, Reverse(1_000));
        assert!(stranger.compare(&ticket(&model, "zebra", 400 + AHEAD_HOURS + 1), &model).is_none());
    }

    #[test]
    fn a_word_leads_to_every_span_of_its_time_by_two_keys_at_most() {
        let model = model(0);
        for thirds in -9..40 {
            let mut change = commit(&model, "basket", "", vec![]);
            change.worked_at = Micros::from_secs(thirds * SPAN_HOURS / 3 * 3_600);
            let keys = change.keys();
            assert!(keys.len() <= 2 && change.spans_of_words().count() as i64 > SPANS_BACK, "{keys:?}");
            for span in change.spans_of_words() {
                let leads = key("word", "basket".hashed(), span.div_euclid(SPANS_TOGETHER));
                assert!(keys.contains(&(leads, 0)), "{span} of {:?}", change.spans_of_words());
            }
        }
    }

    #[test]
    fn the_rarest_words_are_looked_up_and_unknown_ones_by_their_length() {
        let model = model(0);
        let text = "price basket it-is unknownest another";
        let known: Vec<_> = rarest(words(&model, text).filter(|w| w.2), 1).collect();
        assert_eq!(known, ["price".hashed()]);
        let unknown: Vec<_> = rarest(words(&model, text).filter(|w| !w.2), 2).collect();
        assert_eq!(unknown, ["unknownest".hashed(), "another".hashed()]);
    }
}
