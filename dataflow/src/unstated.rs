//! Which ticket could a change belong to that names none?
//!
//! ```text
//!  changes that nothing links ─► their rarest words, their author ─┐
//!                                                                  ├─► pairs ─► bins ─► at most 8 ─► softmax with "none"
//!  tickets ─► words of titles, assignee and reporter ──────────────┘
//! ```
//!
//! A change is a pull request, or a commit that is no merge and part of no pull request. As soon as something states a link,
//! nothing is inferred of it any more. Candidates are found through an inverted index, never by a cross product, and
//! everything is bounded (I9): a change looks up at most [`KNOWN_WORDS`] + [`UNKNOWN_WORDS`] + [`FILE_WORDS`] words in at
//! most four spans of time, a key that leads to more than [`TICKETS_MAX`] tickets leads to none, and [`CANDIDATES`] are kept.
//! What is built on a change costs as much as the change, however long the history.
//!
//! How rare a word is comes from the model and not from the tickets that are there, so that a new ticket does not move every
//! score. The kept candidates compete with each other and with *none*: with uᵢ = round(10⁶·e^(sᵢ/1000)) and U = 10⁶ + Σu, the
//! probability is uᵢ/U. Whole numbers throughout, so that order does not matter (I3); the oracle is [`HELPERS`] (I5). See ADR 9.

use std::{cmp::Reverse, collections::BTreeSet, hash::Hash, rc::Rc, sync::Arc};

use differential_dataflow::{Hashable, operators::CountTotal};
use flowsync_schemas::{
    EntityId, EntityKind, Micros, PersonId, SignalId, Text,
    fact::{CommitFact, EvidenceKind, Feature, PullRequestFact},
    model::{Model, Unstated},
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Coll, Version, distinct, id, left_join},
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
/// Names of files of a pull request that are looked at.
const WORDS_MAX: usize = 96;
/// Candidates of a change that are kept.
pub const CANDIDATES: usize = 8;

/// Half a year: tickets are looked up by word and the span in which they were created.
const SPAN_HOURS: i64 = 4_383;
/// Whole spans before that of the work.
const SPANS_BACK: i64 = 2;
/// Tickets of the author are looked up in the span of the work and the one before.
const OWN_HOURS: i64 = 45 * 24;
/// How much younger than the work a ticket may be.
pub(crate) const AHEAD_HOURS: i64 = 14 * 24;
/// A candidate is shown from this share of the whole on: one in twenty.
const SHOWN_ONE_IN: i64 = 20;

/// The oracle: helpers that others read, each as SQL over the fact tables and what precedes it.
pub const HELPERS: &[(&str, &str)] = &[
    (
        // Work that could belong to a ticket.
        "changes",
        "select 'PullRequest' as artifact_kind, pull_request as artifact_id, words, author,
                coalesce(created_at, at) as worked_at, signal
         from (
            select *, row_number() over (partition by pull_request order by at desc, signal desc, seq desc) as age
            from fact_pull_requests
         ) where age = 1 and not deleted
         union all
         select 'Commit', sha, words, author, coalesce(authored_at, at), signal
         from richest_commits where coalesce(parent_count, 1) < 2",
    ),
    (
        "unstated_changes",
        "select c.artifact_kind, c.artifact_id, c.words, c.author,
                cast(floor(date_part('epoch', c.worked_at) / 3600) as bigint) as worked_h, c.worked_at, c.signal
         from changes c
         left join (
            select artifact_kind, artifact_id from stated_evidence where kind <> 'rejected'
            union
            select 'Commit', sha from parts
         ) s on c.artifact_kind = s.artifact_kind and c.artifact_id = s.artifact_id
         where s.artifact_id is null",
    ),
    (
        // The author's accounts, and those that may be the author's.
        "change_people",
        "select artifact_kind, artifact_id, worked_h, author as person from unstated_changes where author is not null
         union
         select c.artifact_kind, c.artifact_id, c.worked_h, k.other from unstated_changes c join kin k on c.author = k.person",
    ),
    (
        "candidate_tickets",
        "select t.ticket_key, t.project, t.words, t.assignee, t.reporter,
                cast(floor(date_part('epoch', t.created_at) / 3600) as bigint) as created_h,
                cast(floor(date_part('epoch', t.resolved_at) / 3600) as bigint) as resolved_h
         from (
            select *, row_number() over (partition by ticket_key order by at desc, signal desc, seq desc) as age
            from fact_tickets
         ) t
         where t.age = 1 and not t.deleted and t.created_at is not null",
    ),
    (
        // Files that a commit touches, or the commits of a pull request.
        "change_files",
        "select *, row_number() over (partition by artifact_kind, artifact_id order by word) as rank
         from (
            select distinct artifact_kind, artifact_id, word
            from (
                select 'Commit' as artifact_kind, sha as artifact_id, unnest(string_to_array(file_words, ' ')) as word
                from richest_commits
                union all
                select 'PullRequest', p.pull_request, unnest(string_to_array(f.file_words, ' '))
                from parts p join fact_commits f on p.sha = f.sha where not f.deleted
            ) where word <> ''
         )",
    ),
    (
        "change_words",
        "select w.artifact_kind, w.artifact_id, w.worked_h, w.sort, w.word, coalesce(m.weight, u.weight) as idf,
                m.kind is not null as known
         from (
            select artifact_kind, artifact_id, worked_h, 'word' as sort, unnest(string_to_array(words, ' ')) as word
            from unstated_changes
            union all
            select c.artifact_kind, c.artifact_id, c.worked_h, 'file', f.word
            from unstated_changes c
            join change_files f on c.artifact_kind = f.artifact_kind and c.artifact_id = f.artifact_id
            where f.rank <= 96
         ) w
         cross join (select weight from model where kind = 'word:') u
         left join model m on m.kind = concat('word:', w.word)
         where w.word <> '' and w.word not like '%:'",
    ),
    (
        "ticket_words",
        "select w.ticket_key, w.created_h, w.word, coalesce(m.weight, u.weight) as idf
         from (
            select ticket_key, created_h, unnest(string_to_array(words, ' ')) as word from candidate_tickets
         ) w
         cross join (select weight from model where kind = 'word:') u
         left join model m on m.kind = concat('word:', w.word)
         where w.word <> ''",
    ),
    (
        // Changes and tickets that a rare word or a person connects.
        "compared",
        "with looked_up as (
            select distinct artifact_kind, artifact_id, worked_h, word from (
                select *, row_number() over (
                    partition by artifact_kind, artifact_id, sort, known
                    order by idf desc, length(word) desc, word) as rank
                from change_words
            ) where (known and sort = 'word' and rank <= 12) or (not known and sort = 'word' and rank <= 8)
                 or (known and sort = 'file' and rank <= 4)
         ),
         posted as (
            select word, ticket_key, created_h, floor(created_h / 4383.0) as span,
                   count(*) over (partition by word, floor(created_h / 4383.0)) as tickets
            from ticket_words
         ),
         owned as (
            select person, ticket_key, created_h, floor(created_h / 1080.0) as span,
                   count(*) over (partition by person, floor(created_h / 1080.0)) as tickets
            from (
                select assignee as person, ticket_key, created_h from candidate_tickets where assignee is not null
                union
                select reporter, ticket_key, created_h from candidate_tickets where reporter is not null
            )
         )
         select l.artifact_kind, l.artifact_id, p.ticket_key
         from looked_up l join posted p on l.word = p.word
         where p.tickets <= 24 and l.worked_h - p.created_h >= -336
           and p.span between floor(l.worked_h / 4383.0) - 2 and floor((l.worked_h + 336) / 4383.0)
         union
         select c.artifact_kind, c.artifact_id, o.ticket_key
         from change_people c join owned o on c.person = o.person
         where o.tickets <= 24 and c.worked_h - o.created_h >= -336
           and o.span between floor((c.worked_h - 1080) / 1080.0) and floor((c.worked_h + 336) / 1080.0)",
    ),
    (
        // What each pair has in common.
        "features",
        "select p.artifact_kind, p.artifact_id, p.ticket_key, t.project, c.worked_at, c.signal,
                case when coalesce(w.total, 0) = 0 then 0
                     else cast(floor(cast(1000 * coalesce(s.shared, 0) as double) / w.total) as bigint) end as cover,
                case when coalesce(w.total, 0) = 0 then 0
                     else 10 * cast(floor(cast(500 * coalesce(s.shared, 0) as double) / w.total) as bigint) end as covered,
                coalesce(s.shared, 0) as shared, coalesce(f.file, 0) as file, c.worked_h - t.created_h as age,
                case when t.resolved_h < c.worked_h then c.worked_h - t.resolved_h else 0 end as done,
                case when a.person is not null then case when r.person is not null then 5 else 4 end
                     when r.person is not null then case when t.assignee is null then 3 else 2 end
                     when t.assignee is null then 1 else 0 end as owner,
                coalesce(g.tagged, 0) as tag, coalesce(l.words, 0) as length,
                case when p.artifact_kind = 'PullRequest' then 1 else 0 end as pull
         from compared p
         join unstated_changes c on p.artifact_kind = c.artifact_kind and p.artifact_id = c.artifact_id
         join candidate_tickets t on p.ticket_key = t.ticket_key
         left join change_people a
           on p.artifact_kind = a.artifact_kind and p.artifact_id = a.artifact_id and t.assignee = a.person
         left join change_people r
           on p.artifact_kind = r.artifact_kind and p.artifact_id = r.artifact_id and t.reporter = r.person
         left join (select ticket_key, cast(sum(idf) as bigint) as total from ticket_words group by ticket_key) w
           on p.ticket_key = w.ticket_key
         left join (
            select q.artifact_kind, q.artifact_id, q.ticket_key, cast(sum(b.idf) as bigint) as shared
            from compared q
            join change_words a on q.artifact_kind = a.artifact_kind and q.artifact_id = a.artifact_id
            join ticket_words b on q.ticket_key = b.ticket_key and a.word = b.word
            where a.sort = 'word' group by q.artifact_kind, q.artifact_id, q.ticket_key
         ) s on p.artifact_kind = s.artifact_kind and p.artifact_id = s.artifact_id and p.ticket_key = s.ticket_key
         left join (
            select q.artifact_kind, q.artifact_id, q.ticket_key, max(b.idf) as file
            from compared q
            join change_words a on q.artifact_kind = a.artifact_kind and q.artifact_id = a.artifact_id
            join ticket_words b on q.ticket_key = b.ticket_key and a.word = b.word
            where a.sort = 'file' group by q.artifact_kind, q.artifact_id, q.ticket_key
         ) f on p.artifact_kind = f.artifact_kind and p.artifact_id = f.artifact_id and p.ticket_key = f.ticket_key
         left join (
            select artifact_kind, artifact_id, count(*) as words from change_words where sort = 'word'
            group by artifact_kind, artifact_id
         ) l on p.artifact_kind = l.artifact_kind and p.artifact_id = l.artifact_id
         left join (
            select w.artifact_kind, w.artifact_id, 1 as tagged
            from (
                select artifact_kind, artifact_id, unnest(string_to_array(words, ' ')) as word from unstated_changes
            ) w join model m on m.kind = concat('tag:', w.word)
            group by w.artifact_kind, w.artifact_id
         ) g on p.artifact_kind = g.artifact_kind and p.artifact_id = g.artifact_id",
    ),
    (
        // The candidates that are kept, with the weights of their bins and their share of the whole.
        "candidates",
        "with kept as (
            select * from (
                select *, row_number() over (
                    partition by artifact_kind, artifact_id order by rough desc, ticket_key) as rank
                from (
                    select *, covered + cast(floor(shared / 8.0) as bigint)
                           + case when file > 0 then 1000 else 0 end
                           + case when age < 168 then 1500 when age < 720 then 1000 when age < 2880 then 500 else 0 end
                           + case when owner >= 4 then 1500 else 0 end as rough
                    from features
                )
            ) where rank <= 8
         ),
         weighed as (
            select k.artifact_kind, k.artifact_id, k.ticket_key, k.project, k.worked_at, k.signal,
                   cover.weight + shared.weight as text_weight,
                   cast(floor(sqrt(cast(cover.spread * cover.spread + shared.spread * shared.spread as double))) as bigint)
                     as text_spread,
                   file.weight as file_weight, file.spread as file_spread,
                   owner.weight as owner_weight, owner.spread as owner_spread,
                   age.weight + done.weight as time_weight,
                   cast(floor(sqrt(cast(age.spread * age.spread + done.spread * done.spread as double))) as bigint)
                     as time_spread,
                   prior.weight + tag.weight + len.weight + pull.weight as other_weight,
                   cast(floor(sqrt(cast(tag.spread * tag.spread + len.spread * len.spread + pull.spread * pull.spread
                     as double))) as bigint) as other_spread
            from kept k
            cross join (select weight from model where kind = 'unstated') prior
            join model cover on cover.kind = 'bin:cover' and k.cover >= cover.at_least and k.cover < cover.below
            join model shared on shared.kind = 'bin:shared' and k.shared >= shared.at_least and k.shared < shared.below
            join model file on file.kind = 'bin:file' and k.file >= file.at_least and k.file < file.below
            join model age on age.kind = 'bin:age' and k.age >= age.at_least and k.age < age.below
            join model done on done.kind = 'bin:done' and k.done >= done.at_least and k.done < done.below
            join model owner on owner.kind = 'bin:owner' and k.owner >= owner.at_least and k.owner < owner.below
            join model tag on tag.kind = 'bin:tag' and k.tag >= tag.at_least and k.tag < tag.below
            join model pull on pull.kind = 'bin:pull' and k.pull >= pull.at_least and k.pull < pull.below
            join model len on len.kind = 'bin:length' and k.length >= len.at_least and k.length < len.below
         ),
         scored as (
            select *, cast(round(1000000.0 * exp(cast(greatest(-12000, least(12000,
                text_weight + file_weight + owner_weight + time_weight + other_weight)) as double) / 1000.0)) as bigint) as u
            from weighed
         )
         select s.*, 1000000 + cast(sum(u) over (partition by artifact_kind, artifact_id) as bigint) as whole from scored s",
    ),
    (
        // The reasons that are shown.
        "inferred_evidence",
        "with shown as (
            select c.*, other_weight - (select min(prior) from model where kind = 'confirmed')
                   + cast(round(-1000.0 * ln(cast(whole - u as double) / 1000000.0)) as bigint) as against
            from candidates c where 20 * u >= whole
         )
         select * from (
            select artifact_kind, artifact_id, ticket_key, 'text_similarity' as kind, project,
                   text_weight as weight_millinats, text_spread as spread_millinats, worked_at as at, signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'file_overlap', project, file_weight, file_spread, worked_at,
                   signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'author_is_assignee', project, owner_weight, owner_spread,
                   worked_at, signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'time_proximity', project, time_weight, time_spread, worked_at,
                   signal from shown
            union all
            select artifact_kind, artifact_id, ticket_key, 'competition', project, against, other_spread, worked_at,
                   signal from shown
         ) where weight_millinats <> 0",
    ),
];

/// A word by its hash, and its information; lists of them are sorted.
type Word = (u64, i64);

/// A change, as it is compared with tickets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Change {
    /// Its id; first, so that comparing two changes ends there.
    pub id: EntityId,
    /// Commit or PullRequest.
    pub kind: EntityKind,
    /// Native id.
    pub native: Text,
    /// The signal that tells of it.
    pub signal: SignalId,
    /// When the work was done, or offered.
    pub worked_at: Micros,
    /// The author's accounts, and those that may be the author's; sorted.
    people: Vec<PersonId>,
    words: Vec<Word>,
    files: Vec<Word>,
    looked_up: Vec<u64>,
    tagged: bool,
}

/// A ticket, as changes are compared with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket {
    /// Its id; first, so that comparing two tickets ends there.
    pub id: EntityId,
    /// Its key.
    pub key: Text,
    project: Text,
    words: Vec<Word>,
    assignee: Option<PersonId>,
    reporter: Option<PersonId>,
    created_hour: i64,
    resolved_hour: Option<i64>,
}

/// A candidate: its rank (the highest first), the ticket, and the bin of each feature in the order of [`Feature::ALL`].
pub type Candidate = (Reverse<i64>, Text, Arc<Ticket>, Binned);

/// The bin of each feature, in the order of [`Feature::ALL`].
pub type Binned = [u8; FEATURES];

const FEATURES: usize = Feature::ALL.len();

/// What a change is read from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Work {
    Pull(Arc<PullRequestFact>),
    Commit(Arc<CommitFact>),
}

/// A change before anything is read from it, by its id.
type Raw = (EntityId, (Micros, SignalId, Work));

/// Hours since 1970.
pub(crate) fn hour(time: Micros) -> i64 {
    time.0.div_euclid(3_600_000_000)
}

/// Changes outside `linked`.
fn raw_changes<'s>(cx: &mut Cx<'s>, linked: Coll<'s, EntityId>) -> Coll<'s, Raw> {
    let pulls = cx.pull_requests().map(|(id, v)| {
        let worked_at = v.value.created_at.unwrap_or(v.at);
        (id, (worked_at, v.signal, Work::Pull(v.value)))
    });
    let commits = cx.commits().flat_map(|(id, (v, _))| {
        let Version { at, signal, value, .. } = v;
        let merge = value.parent_count.is_some_and(|n| n > 1);
        (!merge).then(|| (id, (value.authored_at.unwrap_or(at), signal, Work::Commit(value))))
    });
    pulls.concat(commits).antijoin(linked)
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
    raw_changes(cx, linked).flat_map(|(id, (worked_at, _, work))| {
        let (kind, words, decided_at) = match &work {
            Work::Pull(p) => (EntityKind::PullRequest, &p.words, p.merged_at.or(p.closed_at)?),
            Work::Commit(c) => (EntityKind::Commit, &c.words, c.committed_at.unwrap_or(worked_at)),
        };
        let (worked, decided) = (hour(worked_at), hour(decided_at.max(worked_at)));
        Some(Decided { id, kind, words: words.clone(), worked, decided })
    })
}

/// Names of the files that the commits of these pull requests touch.
fn files_of_pulls<'s>(cx: &mut Cx<'s>, raw: Coll<'s, Raw>) -> Coll<'s, (EntityId, Text)> {
    let pulls = raw.flat_map(|(id, (_, _, work))| matches!(work, Work::Pull(_)).then_some(id));
    let parts = cx.parts().map(|(commit, _, pull)| (id(EntityKind::PullRequest, &pull), commit)).semijoin(pulls);
    parts
        .map(|(pull, commit)| (commit, pull))
        .arrange_by_key_named("PartsOfUnstated")
        .join_core(cx.commit_versions(), |_, pull, version| {
            let told = !version.value.deleted && !version.value.file_words.is_empty();
            told.then(|| (*pull, version.value.file_words.clone()))
        })
        .reduce_named("FilesOfPulls", |_, files, out| {
            let words: BTreeSet<&str> = files.iter().flat_map(|(words, _)| words.split(' ')).collect();
            let words: Vec<&str> = words.into_iter().take(WORDS_MAX).collect();
            out.push((Text::from(words.join(" ")), 1));
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
    (worked_at, signal, work): (Micros, SignalId, Work),
    files: Option<Text>,
    people: Vec<PersonId>,
) -> Change {
    let (kind, native, text, files) = match &work {
        Work::Pull(p) => (EntityKind::PullRequest, &p.pull_request, &p.words, files.as_deref().unwrap_or_default()),
        Work::Commit(c) => (EntityKind::Commit, &c.sha, &c.words, &*c.file_words),
    };
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
        kind,
        native: native.clone(),
        signal,
        worked_at,
        people,
        words: hashed(words(model, text)),
        files: hashed(words(model, files)),
        looked_up,
        tagged: text.split(' ').any(tag),
    }
}

/// A key of the index: a word or a person, in a span of time.
fn key(sort: &str, what: impl Hash, span: i64) -> u64 {
    (sort, what, span).hashed()
}

fn spans(from_hour: i64, to_hour: i64, length: i64) -> impl Iterator<Item = i64> {
    from_hour.div_euclid(length)..=to_hour.div_euclid(length)
}

impl Change {
    fn hour(&self) -> i64 {
        hour(self.worked_at)
    }

    /// The keys under which its candidates are.
    fn keys(&self) -> Vec<u64> {
        let (hour, ahead) = (self.hour(), self.hour() + AHEAD_HOURS);
        let by_word = spans(hour - SPANS_BACK * SPAN_HOURS, ahead, SPAN_HOURS)
            .flat_map(|span| self.looked_up.iter().map(move |word| key("word", word, span)));
        let own = self
            .people
            .iter()
            .flat_map(|person| spans(hour - OWN_HOURS, ahead, OWN_HOURS).map(move |span| key("person", person, span)));
        by_word.chain(own).collect()
    }

    /// What it has in common with a ticket, where the ticket is not too young.
    fn compare(&self, ticket: &Arc<Ticket>, model: &Unstated) -> Option<Candidate> {
        let age = self.hour() - ticket.created_hour;
        if age < -AHEAD_HOURS {
            return None;
        }
        let shared: i64 = common(&self.words, &ticket.words).sum();
        let total: i64 = ticket.words.iter().map(|w| w.1).sum();
        let file = common(&self.files, &ticket.words).max().unwrap_or(0);
        let mine = |person: Option<PersonId>| person.is_some_and(|p| self.people.binary_search(&p).is_ok());
        let owner = match (mine(ticket.assignee), mine(ticket.reporter), ticket.assignee) {
            (true, true, _) => 5,
            (true, false, _) => 4,
            (false, true, None) => 3,
            (false, true, Some(_)) => 2,
            (false, false, None) => 1,
            (false, false, Some(_)) => 0,
        };
        let share = |of: i64| if total == 0 { 0 } else { of * shared / total };
        let values = |feature| match feature {
            Feature::Cover => share(1_000),
            Feature::Shared => shared,
            Feature::File => file,
            Feature::Age => age,
            Feature::Done => ticket.resolved_hour.map_or(0, |resolved| (self.hour() - resolved).max(0)),
            Feature::Owner => owner,
            Feature::Tag => i64::from(self.tagged),
            Feature::Length => self.words.len() as i64,
            Feature::Pull => i64::from(self.kind == EntityKind::PullRequest),
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
            *bin = model.bins(*feature).of(values(*feature)) as u8;
        }
        Some((Reverse(rough), ticket.key.clone(), ticket.clone(), bins))
    }
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

/// Tickets under the keys that lead to them, where these do not lead to too many.
fn postings<'s>(cx: &mut Cx<'s>, model: &Rc<Unstated>) -> Coll<'s, (u64, Arc<Ticket>)> {
    let model = Rc::clone(model);
    let posted = cx.tickets().flat_map(move |(id, v)| {
        let t = &v.value;
        let created_hour = hour(t.created_at?);
        let ticket = Arc::new(Ticket {
            id,
            key: t.ticket_key.clone(),
            project: t.project.clone(),
            words: hashed(words(&model, &t.words)),
            assignee: t.assignee,
            reporter: t.reporter,
            created_hour,
            resolved_hour: t.resolved_at.map(hour),
        });
        let (span, own) = (created_hour.div_euclid(SPAN_HOURS), created_hour.div_euclid(OWN_HOURS));
        let persons: BTreeSet<_> = [t.assignee, t.reporter].into_iter().flatten().collect();
        let persons = persons.into_iter().map(|person| key("person", person, own));
        let keys: Vec<u64> = ticket.words.iter().map(|(word, _)| key("word", word, span)).chain(persons).collect();
        Some(keys.into_iter().map(move |key| (key, ticket.clone())))
    });
    let posted = posted.flat_map(|keys| keys);
    let crowded =
        posted.clone().map(|(key, _)| key).count_total().flat_map(|(key, n)| (n as i64 > TICKETS_MAX).then_some(key));
    posted.antijoin(crowded)
}

/// The candidates of a change, by its id, the likeliest first.
pub type Kept = (EntityId, Vec<(Arc<Ticket>, Binned)>);

/// Every change outside `linked`, and the candidates that are kept for it, the likeliest first.
pub fn candidates<'s>(
    cx: &mut Cx<'s>,
    model: &Rc<Unstated>,
    linked: Coll<'s, EntityId>,
) -> (Coll<'s, (EntityId, Arc<Change>)>, Coll<'s, Kept>) {
    let raw = raw_changes(cx, linked);
    let files = files_of_pulls(cx, raw.clone());
    let authored = left_join(raw, files).map(|(id, work, files)| {
        let author = match &work.2 {
            Work::Pull(p) => p.author,
            Work::Commit(c) => c.author,
        };
        (author, (id, work, files))
    });
    let kin = cx.kin().map(|(person, others)| (Some(person), others));
    let read = Rc::clone(model);
    let changes = left_join(authored, kin).map(move |(author, (id, work, files), kin)| {
        let mut people: Vec<_> = kin.into_iter().flatten().chain(author).collect();
        people.sort_unstable();
        (id, Arc::new(change(&read, id, work, files, people)))
    });
    let looked_up =
        changes.clone().flat_map(|(_, change)| change.keys().into_iter().map(move |key| (key, change.clone())));
    let compared = Rc::clone(model);
    let kept = looked_up
        .join_map(postings(cx, model), move |_, change, ticket| {
            change.compare(ticket, &compared).map(|candidate| (change.id, candidate))
        })
        .flat_map(|pair| pair)
        // Several keys lead to the same pair: here it counts once, and values come sorted by rank.
        .reduce_named("Candidates", |_, candidates, out| {
            let kept = candidates.iter().take(CANDIDATES);
            out.push((kept.map(|((_, _, ticket, bins), _)| (ticket.clone(), *bins)).collect(), 1));
        });
    (changes, kept)
}

/// Log-odds of a candidate by kind of evidence, thousandths of a nat, and their standard deviations.
struct Weighed {
    kinds: [(EvidenceKind, i64, i64); 4],
    /// Of the change itself: what speaks for its having a ticket.
    other: (i64, i64),
}

impl Weighed {
    fn new(model: &Unstated, bins: &Binned) -> Self {
        let of = |feature: Feature| {
            let (table, bin) = (model.bins(feature), usize::from(bins[feature as usize]));
            (table.weight[bin], table.spread[bin])
        };
        let sum = |features: &[Feature]| {
            let all = || features.iter().map(|f| of(*f));
            (all().map(|w| w.0).sum::<i64>(), root(all().map(|w| w.1.pow(2)).sum()))
        };
        let named = |kind, (weight, spread)| (kind, weight, spread);
        let (weight, spread) = sum(&[Feature::Tag, Feature::Length, Feature::Pull]);
        Self {
            kinds: [
                named(EvidenceKind::TextSimilarity, sum(&[Feature::Cover, Feature::Shared])),
                named(EvidenceKind::FileOverlap, of(Feature::File)),
                named(EvidenceKind::AuthorIsAssignee, of(Feature::Owner)),
                named(EvidenceKind::TimeProximity, sum(&[Feature::Age, Feature::Done])),
            ],
            other: (model.prior_millinats + weight, spread),
        }
    }

    fn log_odds(&self) -> i64 {
        self.kinds.iter().map(|k| k.1).sum::<i64>() + self.other.0
    }

    /// Spread of the whole sum.
    fn spread(&self) -> i64 {
        root(self.kinds.iter().map(|k| k.2.pow(2)).sum::<i64>() + self.other.1.pow(2))
    }
}

fn root(variance: i64) -> i64 {
    (variance as f64).sqrt().floor() as i64
}

/// *None* weighs as much as log-odds of zero.
const NONE: i64 = 1_000_000;

fn share(log_odds: i64) -> i64 {
    (NONE as f64 * (log_odds.clamp(-12_000, 12_000) as f64 / 1_000.0).exp()).round() as i64
}

/// What speaks against one that has `share` of `whole`: *none*, and the others.
fn competition(share: i64, whole: i64) -> i64 {
    (-1_000.0 * ((whole - share) as f64 / NONE as f64).ln()).round() as i64
}

/// Log-odds and spread of each candidate, thousandths of a nat, competition included.
pub fn scores(model: &Unstated, candidates: &[Binned]) -> Vec<(i64, i64)> {
    let weighed: Vec<_> = candidates.iter().map(|bins| Weighed::new(model, bins)).collect();
    let whole: i64 = NONE + weighed.iter().map(|w| share(w.log_odds())).sum::<i64>();
    weighed.iter().map(|w| (w.log_odds() + competition(share(w.log_odds()), whole), w.spread())).collect()
}

/// Reasons for the candidates of changes that nothing states a link of.
pub fn evidence<'s>(cx: &mut Cx<'s>, unstated: Unstated) -> Coll<'s, EvidenceRow> {
    let model: Rc<Model> = Rc::clone(&cx.model);
    let unstated = Rc::new(unstated);
    let stated = cx
        .stated_evidence()
        .filter(|((_, _, kind), _)| *kind != EvidenceKind::Rejected)
        .map(|((artifact, ..), _)| artifact);
    let parts = cx.parts().map(|(commit, ..)| commit);
    let (changes, kept) = candidates(cx, &unstated, distinct(stated.concat(parts)));
    let shown = kept.flat_map(move |(change, candidates)| {
        let weighed: Vec<_> = candidates.iter().map(|(_, bins)| Weighed::new(&unstated, bins)).collect();
        let whole: i64 = NONE + weighed.iter().map(|w| share(w.log_odds())).sum::<i64>();
        let prior = model.prior_millinats;
        let shown: Vec<_> = candidates
            .into_iter()
            .zip(weighed)
            .filter_map(|((ticket, _), w)| {
                let share = share(w.log_odds());
                let against = (EvidenceKind::Competition, w.other.0 - prior + competition(share, whole), w.other.1);
                let reasons: Vec<_> = w.kinds.into_iter().chain([against]).filter(|r| r.1 != 0).collect();
                (SHOWN_ONE_IN * share >= whole).then_some((change, (ticket, reasons)))
            })
            .collect();
        shown
    });
    shown
        .join_map(changes, |_, (ticket, reasons), change| {
            let row = |(kind, weight_millinats, spread_millinats): &(EvidenceKind, i64, i64)| EvidenceRow {
                artifact_kind: change.kind,
                artifact_id: change.native.clone(),
                ticket_key: ticket.key.clone(),
                kind: *kind,
                project: ticket.project.clone(),
                weight_millinats: *weight_millinats,
                spread_millinats: *spread_millinats,
                at: change.worked_at,
                signal: change.signal,
            };
            reasons.iter().map(row).collect::<Vec<_>>()
        })
        .flat_map(|rows| rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flowsync_schemas::model::{Bins, probability_bps};

    use super::*;

    /// Every feature has two bins, of which the upper one weighs 1,000.
    fn model(prior_millinats: i64) -> Unstated {
        let bins = Bins { from: vec![1], weight: vec![0, 1_000], spread: vec![0, 300] };
        Unstated {
            fitted_on: "nothing".into(),
            prior_millinats,
            unknown_word: 9_000,
            no_ticket: vec!["minor".into()],
            features: Feature::ALL.iter().map(|f| (f.word().to_owned(), bins.clone())).collect(),
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
            parent_count: None,
            added_lines: None,
            deleted_lines: None,
            changed_files: None,
            deleted: false,
        };
        let work = (Micros::from_secs(400 * 3_600), SignalId(1), Work::Commit(Arc::new(fact)));
        change(model, EntityId::of(EntityKind::Commit, "a"), work, None, people)
    }

    fn ticket(model: &Unstated, title: &str, created_hour: i64) -> Arc<Ticket> {
        Arc::new(Ticket {
            id: EntityId::of(EntityKind::Ticket, "SHOP-1"),
            key: "SHOP-1".into(),
            project: "SHOP".into(),
            words: hashed(words(model, title)),
            assignee: Some(PersonId(1)),
            reporter: Some(PersonId(2)),
            created_hour,
            resolved_hour: None,
        })
    }

    #[test]
    fn the_oracle_has_the_same_bounds() {
        let all: String = HELPERS.iter().map(|(_, sql)| *sql).collect();
        for part in [
            format!("rank <= {KNOWN_WORDS}) or (not known and sort = 'word' and rank <= {UNKNOWN_WORDS})"),
            format!("(known and sort = 'file' and rank <= {FILE_WORDS})"),
            format!("p.tickets <= {TICKETS_MAX} and l.worked_h - p.created_h >= -{AHEAD_HOURS}"),
            format!("floor(l.worked_h / {SPAN_HOURS}.0) - {SPANS_BACK}"),
            format!("floor((c.worked_h - {OWN_HOURS}) / {OWN_HOURS}.0) and floor((c.worked_h + {AHEAD_HOURS})"),
            format!("f.rank <= {WORDS_MAX}"),
            format!("where rank <= {CANDIDATES}"),
            format!("{SHOWN_ONE_IN} * u >= whole"),
        ] {
            assert!(all.contains(&part), "{part}");
        }
    }

    #[test]
    fn what_a_change_and_a_ticket_have_in_common() {
        let model = model(0);
        let both = commit(&model, "basket minor: price rounding", "basket", vec![PersonId(1), PersonId(3)]);
        let candidate = both.compare(&ticket(&model, "basket price", 200), &model).expect("a candidate");
        // All of the title, a file, older than the work, not done, the author's, tagged, some words; a commit.
        let bins = |feature: Feature| candidate.3[feature as usize];
        use Feature::*;
        assert_eq!([Cover, Shared, File, Age, Done, Owner, Tag, Length, Pull].map(bins), [1, 1, 1, 1, 0, 1, 1, 1, 0]);
        assert_eq!(candidate.0, Reverse(10 * 500 + 5_000 / 8 + 1_000 + 1_000 + 1_500));
        let stranger = commit(&model, "zebra", "", vec![]);
        let candidate = stranger.compare(&ticket(&model, "basket price", 200), &model).expect("a candidate");
        assert_eq!(candidate.0, Reverse(1_000));
        assert!(stranger.compare(&ticket(&model, "zebra", 400 + AHEAD_HOURS + 1), &model).is_none());
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

    #[test]
    fn candidates_compete_with_each_other_and_with_none() {
        let (none, all) = ([0; FEATURES], [1; FEATURES]);
        let p = |prior, candidates: &[Binned]| -> Vec<i64> {
            scores(&model(prior), candidates).into_iter().map(|(log_odds, _)| probability_bps(log_odds)).collect()
        };
        assert_eq!(p(0, &[none]), [5_000]);
        // To whole thousandths of a nat.
        assert!(p(0, &[none, none, none]).iter().all(|p| (p - 2_500).abs() <= 1));
        let sum: i64 = p(-3_000, &[all, none, all]).iter().sum();
        assert!((9_000..10_000).contains(&sum), "{sum}");
        // The same as the choice in floating point.
        let e = [9.0_f64 - 3.0, -3.0].map(f64::exp);
        let want = e.map(|u| (10_000.0 * u / (1.0 + e[0] + e[1])).round() as i64);
        let have = p(-3_000, &[all, none]);
        assert!(have.iter().zip(want).all(|(have, want)| (have - want).abs() <= 1), "{have:?} {want:?}");
    }
}
