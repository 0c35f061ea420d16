//! Why would one believe that two accounts are one person's, or that they are not?
//!
//! Grain: one row two accounts and a kind of evidence. Key: `person, other, kind`, of which `person` is the smaller id.
//! Inputs: account facts, `activity`, and what people state ([`IdentityFact`]), of which the latest of a reporter on two
//! accounts holds. Accounts that no tool has named yet, and bots, have no rows: a bot is never merged with a human.
//!
//! | kind | holds where |
//! |---|---|
//! | `same_record` | a record of a tool names both: author's address and login of a push, address and account of a Jira user |
//! | `same_name`, `same_handle` | both have the same token, and at most [`SHARED_BY_MAX`] humans have it |
//! | `same_source` | both are logins of one tool, and they share a token |
//! | `same_work` | both worked on one ticket, and they share one token and nothing else |
//! | `stated_same`, `stated_different` | a person said so |
//!
//! No pair is ever looked at that nothing ties together (I9): pairs come from tokens that few share, from records and from
//! statements. `same_work` is looked for only where it decides: there one token alone is too little, and two are enough
//! without it. Keeps I3.

use std::{collections::BTreeSet, rc::Rc};

use flowsync_schemas::{
    Birth, EntityKind, PersonId, Record, TableSpec, Text, Token, ViewSpec,
    fact::{
        IdentityFact,
        IdentityKind::{self, SameHandle, SameName, SameRecord, SameSource, SameWork, StatedDifferent, StatedSame},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, Version, antijoin, by_self, distinct, id, latest, reduce, semijoin},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "identity_evidence",
        version: 1,
        key: &["person", "other", "kind"],
        columns: || IdentityEvidenceRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "Reasons to believe that two accounts are one person's, or not; one row two accounts and a kind of reason.",
    },
    oracle: ORACLE,
    why: "select a.signal, a.at, a.person as account from fact_accounts a
          where $3 in ('same_record', 'same_name', 'same_handle', 'same_source') and a.person in ($1, $2)
            and case $3 when 'same_record' then a.same_as in ($1, $2)
                        when 'same_name' then a.name in (select b.name from fact_accounts b where b.person in ($1, $2)
                                                         and b.name is not null group by b.name having count(distinct b.person) = 2)
                        when 'same_handle' then a.handle in (select b.handle from fact_accounts b where b.person in ($1, $2)
                                                         and b.handle is not null group by b.handle having count(distinct b.person) = 2)
                        else a.kind = 'login' end
          union all
          select i.signal, i.at, i.person from fact_identities i
          where $3 in ('stated_same', 'stated_different') and i.person in ($1, $2) and i.other in ($1, $2)
          union all
          select c.signal, c.authored_at, c.author from commits c
          join links l on l.artifact_kind = 'Commit' and l.artifact_id = c.sha
          join activity y on y.ticket_key = l.ticket_key and y.person <> c.author
          where $3 = 'same_work' and c.author in ($1, $2) and y.person in ($1, $2)
          union all
          select p.signal, p.created_at, p.author from pull_requests p
          join links l on l.artifact_kind = 'PullRequest' and l.artifact_id = p.pull_request
          join activity y on y.ticket_key = l.ticket_key and y.person <> p.author
          where $3 = 'same_work' and p.author in ($1, $2) and y.person in ($1, $2)
          union all
          select a.signal, a.acted_at, a.person from fact_activities a
          join activity y on y.ticket_key = a.subject_id and y.person <> a.person
          where $3 = 'same_work' and a.person in ($1, $2) and y.person in ($1, $2)
          union all
          select p.signal, p.at, p.person from fact_reports p
          join activity y on y.ticket_key = p.ticket_key and y.person <> p.person
          where $3 = 'same_work' and p.person in ($1, $2) and y.person in ($1, $2)",
};

/// What the oracle is made of: helpers that others read, too.
pub const HELPERS: &[(&str, &str)] = &[
    ("humans", "select person from fact_accounts group by person having not bool_or(bot)"),
    (
        // What ties two accounts together, whatever they worked on.
        "resemblances",
        "with tokens as (
            select distinct 'same_name' as kind, f.name as token, f.person
            from fact_accounts f join humans h on f.person = h.person where f.name is not null
            union all
            select distinct 'same_handle', f.handle, f.person
            from fact_accounts f join humans h on f.person = h.person where f.handle is not null
        ),
        rare as (select kind, token from tokens group by kind, token having count(*) between 2 and 8),
        named as (
            select distinct least(person, same_as) as person, greatest(person, same_as) as other, 'same_record' as kind
            from fact_accounts where same_as is not null and same_as <> person
            union all
            select distinct least(person, other), greatest(person, other),
                   case when same then 'stated_same' else 'stated_different' end
            from identity_statements_in_force
        )
        select distinct a.person, b.person as other, a.kind
        from rare r
        join tokens a on r.kind = a.kind and r.token = a.token
        join tokens b on r.kind = b.kind and r.token = b.token
        where a.person < b.person
        union all
        select n.person, n.other, n.kind
        from named n join humans a on n.person = a.person join humans b on n.other = b.person",
    ),
    (
        // Accounts that may be the same person's, either way: by a record or a person's word, a token, and a record again.
        "kin",
        "with pairs as (
            select person, other, kind from resemblances
            union all
            select other, person, kind from resemblances
        ),
        selves as (select distinct person from pairs),
        tied as (
            select person, other from pairs where kind in ('same_record', 'stated_same')
            union
            select person, person as other from selves
        ),
        alike as (
            select person, other from pairs where kind in ('same_name', 'same_handle')
            union
            select person, person as other from selves
        ),
        reached as (
            select distinct a.person, c.other
            from tied a join alike b on a.other = b.person join tied c on b.other = c.person
            where a.person <> c.other
        )
        select person, other from (
            select r.person, r.other, row_number() over (partition by r.person order by r.other) as rank
            from reached r
            left join pairs d on r.person = d.person and r.other = d.other and d.kind = 'stated_different'
            where d.person is null
        ) where rank <= 16",
    ),
];

const ORACLE: &str = "
    with shared as (select person, other, kind from resemblances where kind in ('same_name', 'same_handle')),
    undecided as (
        select s.person, s.other from shared s
        left join resemblances r on s.person = r.person and s.other = r.other and r.kind = 'same_record'
        where r.person is null group by s.person, s.other having count(*) = 1
    ),
    work as (select distinct person, ticket_key from activity where ticket_key <> ''),
    logins as (select distinct person, source from fact_accounts where kind = 'login'),
    reasons as (
        select person, other, kind from resemblances
        union all
        select distinct s.person, s.other, 'same_source'
        from shared s join logins a on s.person = a.person join logins b on s.other = b.person and a.source = b.source
        union all
        select distinct u.person, u.other, 'same_work'
        from undecided u join work a on u.person = a.person join work b on u.other = b.person and a.ticket_key = b.ticket_key
    )
    select r.person, r.other, r.kind, m.weight as weight_millinats, m.spread as spread_millinats
    from reasons r join model m on r.kind = m.kind";

/// Accounts that may share a token: one that more humans have is a common name, or a login like `mark`, and ties nobody
/// together. Bounds the pairs of a token, too (I9).
pub const SHARED_BY_MAX: usize = 8;

/// Accounts that an account is held for, at most.
pub const KIN_MAX: usize = 16;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Record)]
pub struct IdentityEvidenceRow {
    /// One account, by pseudonym: the smaller.
    pub person: PersonId,
    /// The other account, by pseudonym.
    pub other: PersonId,
    /// Kind of evidence: same_record, same_name, same_handle, same_work, same_source, stated_same, stated_different.
    pub kind: IdentityKind,
    /// How strongly it speaks for one person, as log-odds; below zero against.
    #[unit = "thousandths of a nat"]
    pub weight_millinats: i64,
    /// Standard deviation of the weight.
    #[unit = "thousandths of a nat"]
    pub spread_millinats: i64,
}

/// Two accounts, the smaller first.
pub type Pair = (PersonId, PersonId);

fn pair(one: PersonId, other: PersonId) -> Option<Pair> {
    (one != other).then_some((one.min(other), one.max(other)))
}

/// A statement in force.
pub type Statement = (Pair, IdentityFact);

/// Statements in force: the latest of each reporter on two accounts.
pub fn statements<'s>(cx: &mut Cx<'s>) -> Coll<'s, Statement> {
    let keyed = cx.facts.identities.clone().flat_map(|v: Version<_>| {
        let fact: &IdentityFact = &v.value;
        let reporter = fact.reporter;
        pair(fact.person, fact.other).map(|accounts| ((reporter, accounts), v))
    });
    latest(keyed, |_| false).as_collection(|(_, accounts), v| (*accounts, IdentityFact::clone(&v.value)))
}

/// What is known of an account that no tool calls a bot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Human {
    names: Vec<Token>,
    handles: Vec<Token>,
    same_as: Vec<PersonId>,
    /// Tools whose login it is.
    logins: Vec<Text>,
    /// Whether somebody took it out: see `identities`.
    detached: bool,
}

/// Humans, by account.
fn humans<'s>(cx: &mut Cx<'s>) -> Arranged<'s, PersonId, Human> {
    let detached = cx.identity_statements().filter(|(_, fact)| !fact.same).map(|(_, fact)| (fact.person, None));
    let accounts = cx.accounts().map(|a| (a.person, Some(a)));
    reduce(accounts.concat(detached), "Humans", |_, said, out| {
        let accounts = || said.iter().filter_map(|(fact, _)| fact.as_ref());
        if accounts().next().is_none() || accounts().any(|a| a.bot) {
            return;
        }
        let logins = accounts().filter(|a| &*a.kind == "login").map(|a| a.source.clone());
        let human = Human {
            names: set(accounts().filter_map(|a| a.name)),
            handles: set(accounts().filter_map(|a| a.handle)),
            same_as: set(accounts().filter_map(|a| a.same_as)),
            logins: set(logins),
            detached: said.iter().any(|(fact, _)| fact.is_none()),
        };
        out.push((human, 1));
    })
}

/// Each once, sorted.
fn set<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// A reason, and whether one of the two accounts was taken out.
pub type Reason = (Pair, (IdentityKind, bool));

/// Pairs of those who share a token that few have.
fn sharing<'s>(humans: &Arranged<'s, PersonId, Human>) -> Coll<'s, Reason> {
    let tokens = humans.clone().flat_map_ref(|person, h| {
        let names = h.names.iter().map(|token| (SameName, *token));
        let handles = h.handles.iter().map(|token| (SameHandle, *token));
        let who = (*person, h.logins.clone(), h.detached);
        names.chain(handles).map(|token| (token, who.clone())).collect::<Vec<_>>()
    });
    let shared = reduce(tokens, "SharedToken", |(kind, _), people, out| {
        if people.len() > SHARED_BY_MAX {
            return;
        }
        // Values come sorted: the smaller id is first.
        for (n, ((one, logins, detached), _)) in people.iter().enumerate() {
            for ((other, others, too), _) in &people[n + 1..] {
                let (pair, aside) = ((*one, *other), *detached || *too);
                out.push(((pair, (*kind, aside)), 1));
                if logins.iter().any(|tool| others.contains(tool)) {
                    out.push(((pair, (SameSource, aside)), 1));
                }
            }
        }
    });
    shared.as_collection(|_, reason| *reason)
}

/// Pairs that a record or a person names, of which both are humans.
fn named<'s>(cx: &mut Cx<'s>, humans: &Arranged<'s, PersonId, Human>) -> Coll<'s, Reason> {
    let records = humans.clone().flat_map_ref(|person, h| {
        h.same_as.iter().filter_map(|other| Some((pair(*person, *other)?, SameRecord))).collect::<Vec<_>>()
    });
    let said = cx.identity_statements();
    let said = said.map(|(pair, fact)| (pair, if fact.same { StatedSame } else { StatedDifferent }));
    let detached = humans.clone().as_collection(|person, h| (*person, h.detached)).by_key();
    records
        .concat(said)
        .map(|((one, other), kind)| (one, (other, kind)))
        .join_core(detached.clone(), |one, (other, kind), aside| [(*other, (*one, *kind, *aside))])
        .join_core(detached, |other, (one, kind, aside), too| [((*one, *other), (*kind, *aside || *too))])
}

/// Which of these pairs worked on one ticket: on the arrangement of the activity that `effort` keeps anyway.
fn working<'s>(cx: &mut Cx<'s>, pairs: Coll<'s, (Pair, bool)>) -> Coll<'s, Reason> {
    let people = distinct(pairs.clone().flat_map(|((one, other), _)| [one, other]));
    let work = cx.activity_by_person().join_core(by_self(people), |person, (_, ticket, ..), ()| {
        (!ticket.is_empty()).then(|| (*person, id(EntityKind::Ticket, ticket)))
    });
    let work = distinct(work);
    let common = pairs
        .map(|((one, other), aside)| (one, (other, aside)))
        .by_key()
        .join_core(work.clone().by_key(), |one, (other, aside), ticket| [((*other, *ticket), (*one, *aside))]);
    distinct(semijoin(common, work).map(|((other, _), (one, aside))| ((one, other), (SameWork, aside))))
}

/// A reason of which work is none; no kind where only work can decide.
pub type Resemblance = (Option<IdentityKind>, bool);

/// What ties two accounts together, whatever they worked on.
pub fn resemblances<'s>(cx: &mut Cx<'s>) -> Arranged<'s, Pair, Resemblance> {
    let humans = humans(cx);
    // Each kind once, and nothing where one token is all that there is: then work decides.
    reduce(sharing(&humans).concat(named(cx, &humans)), "Reasons", |_, reasons, out| {
        let has = |kind| reasons.iter().any(|((k, _), _)| *k == kind);
        out.extend(reasons.iter().map(|((kind, aside), _)| ((Some(*kind), *aside), 1)));
        if has(SameName) != has(SameHandle) && !has(SameRecord) {
            out.push(((None, reasons.iter().any(|((_, aside), _)| *aside)), 1));
        }
    })
}

/// Other accounts that may be the same person's, at most [`KIN_MAX`], by account: what a record or a person ties to it, what
/// shares a token with one of those, and what a record ties to that. Far weaker than an identity, and free of what anybody
/// worked on, so that links can be judged by it: identities look at work, and so at links.
pub fn kin<'s>(cx: &mut Cx<'s>) -> Arranged<'s, PersonId, Vec<PersonId>> {
    let of = |kinds: [IdentityKind; 2]| {
        move |(one, other): &Pair, (kind, _): &Resemblance| {
            let holds = kind.is_some_and(|k| kinds.contains(&k));
            holds.then_some([(*one, *other), (*other, *one)]).into_iter().flatten()
        }
    };
    let pairs = cx.resemblances();
    let selves = pairs.clone().flat_map_ref(|(one, other), _| [(*one, *one), (*other, *other)]);
    let tied = distinct(pairs.clone().flat_map_ref(of([SameRecord, StatedSame])).concat(selves.clone()));
    let alike = distinct(pairs.clone().flat_map_ref(of([SameName, SameHandle])).concat(selves));
    let apart = pairs.flat_map_ref(of([StatedDifferent, StatedDifferent]));
    let tied = tied.by_key();
    let reached = tied
        .clone()
        .as_collection(|one, other| (*other, *one))
        .by_key()
        .join_core(alike.by_key(), |_, one, alike| [(*alike, *one)])
        .by_key()
        .join_core(tied, |_, one, other| (one != other).then_some((*one, *other)));
    let all = antijoin(distinct(reached).map(|pair| (pair, ())), distinct(apart)).map(|(pair, ())| pair);
    reduce(all, "Kin", |_, others, out| out.push((others.iter().take(KIN_MAX).map(|(p, _)| **p).collect(), 1)))
}

/// The reasons.
pub fn reasons<'s>(cx: &mut Cx<'s>) -> Coll<'s, Reason> {
    let reasons = cx.resemblances();
    let undecided = reasons.clone().flat_map_ref(|pair, (kind, aside)| kind.is_none().then_some((*pair, *aside)));
    let working = working(cx, undecided);
    reasons.flat_map_ref(|pair, (kind, aside)| Some((*pair, ((*kind)?, *aside)))).concat(working)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let model = Rc::clone(&cx.model);
    let rows = cx.identity_reasons().map(move |((person, other), (kind, _))| {
        let weight = model.identity_weight(kind);
        IdentityEvidenceRow { person, other, kind, weight_millinats: weight.weight, spread_millinats: weight.spread }
    });
    cx.emit(&VIEW.table, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_has_the_same_bounds() {
        let has = |part: &str| HELPERS.iter().any(|(_, sql)| sql.contains(part));
        assert!(has(&format!("between 2 and {SHARED_BY_MAX}")) && has(&format!("rank <= {KIN_MAX}")));
        assert_eq!(pair(PersonId(2), PersonId(1)), Some((PersonId(1), PersonId(2))));
        assert_eq!(pair(PersonId(1), PersonId(1)), None);
    }
}
