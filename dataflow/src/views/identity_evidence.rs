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

use std::{hash::Hash, rc::Rc};

use differential_dataflow::{ExchangeData, operators::ThresholdTotal};
use flowsync_schemas::{
    Birth, EntityId, EntityKind, PersonId, Record, TableSpec, Token, ViewSpec,
    fact::{AccountFact, IdentityFact, IdentityKind},
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Coll, Version, distinct, id, latest},
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

const ORACLE: &str = "
    with humans as (select person from fact_accounts group by person having not bool_or(bot)),
    tokens as (
        select distinct 'same_name' as kind, f.name as token, f.person
        from fact_accounts f join humans h on f.person = h.person where f.name is not null
        union all
        select distinct 'same_handle', f.handle, f.person
        from fact_accounts f join humans h on f.person = h.person where f.handle is not null
    ),
    rare as (select kind, token from tokens group by kind, token having count(*) between 2 and 8),
    shared as (
        select distinct a.kind, a.person, b.person as other
        from rare r
        join tokens a on r.kind = a.kind and r.token = a.token
        join tokens b on r.kind = b.kind and r.token = b.token
        where a.person < b.person
    ),
    records as (
        select distinct least(person, same_as) as person, greatest(person, same_as) as other
        from fact_accounts where same_as is not null and same_as <> person
    ),
    undecided as (
        select s.person, s.other from shared s
        left join records r on s.person = r.person and s.other = r.other
        where r.person is null group by s.person, s.other having count(*) = 1
    ),
    work as (select distinct person, ticket_key from activity where ticket_key <> ''),
    logins as (select distinct person, source from fact_accounts where kind = 'login'),
    named as (
        select person, other, 'same_record' as kind from records
        union all
        select distinct least(person, other), greatest(person, other),
               case when same then 'stated_same' else 'stated_different' end
        from identity_statements_in_force
    ),
    reasons as (
        select person, other, kind from shared
        union all
        select n.person, n.other, n.kind
        from named n join humans a on n.person = a.person join humans b on n.other = b.person
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
    latest(keyed).map(|((_, accounts), v)| (accounts, IdentityFact::clone(&v.value)))
}

/// Pairs of those who share a token that few have.
fn sharing<'s>(tokens: Coll<'s, (Token, PersonId)>) -> Coll<'s, Pair> {
    let pairs = distinct(tokens).reduce_named("SharedToken", |_, people, out| {
        if people.len() <= SHARED_BY_MAX {
            // Values come sorted: the smaller id is first.
            for (n, (one, _)) in people.iter().enumerate() {
                out.extend(people[n + 1..].iter().map(|(other, _)| ((**one, **other), 1)));
            }
        }
    });
    distinct(pairs.map(|(_, pair)| pair))
}

/// The pairs of which both are in `people`.
fn both<'s, D>(pairs: Coll<'s, (Pair, D)>, people: Coll<'s, PersonId>) -> Coll<'s, (Pair, D)>
where
    D: ExchangeData + Hash,
{
    pairs
        .map(|((one, other), d)| (one, (other, d)))
        .semijoin(people.clone())
        .map(|(one, (other, d))| (other, (one, d)))
        .semijoin(people)
        .map(|(other, (one, d))| ((one, other), d))
}

/// The pairs whose both sides have something in common, of what `each` tells of a person.
fn in_common<'s, D>(pairs: Coll<'s, Pair>, each: Coll<'s, (PersonId, D)>) -> Coll<'s, Pair>
where
    D: ExchangeData + Hash,
{
    let common = pairs
        .join_map(each.clone(), |one, other, d| ((*other, d.clone()), *one))
        .semijoin(each)
        .map(|((other, _), one)| (one, other));
    distinct(common)
}

/// Who of these pairs worked on which ticket: on the arrangement that `effort` keeps anyway.
fn work<'s>(cx: &mut Cx<'s>, pairs: Coll<'s, Pair>) -> Coll<'s, (PersonId, EntityId)> {
    let people = distinct(pairs.flat_map(|(one, other)| [one, other]));
    let done =
        cx.activity_by_person().join_core(people.arrange_by_self_named("Undecided"), |person, (_, ticket, ..), ()| {
            (!ticket.is_empty()).then(|| (*person, id(EntityKind::Ticket, ticket)))
        });
    distinct(done)
}

/// The evidence.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, IdentityEvidenceRow> {
    use IdentityKind::{SameHandle, SameName, SameRecord, SameSource, SameWork, StatedDifferent, StatedSame};
    let accounts = cx.accounts();
    let bots = cx.bots();
    let humans =
        distinct(accounts.clone().map(|a| a.person)).map(|person| (person, ())).antijoin(bots).map(|(p, ())| p);
    let of_humans = accounts.map(|a| (a.person, a)).semijoin(humans.clone()).map(|(_, account)| account);
    let token = |of: fn(&AccountFact) -> Option<Token>| {
        sharing(of_humans.clone().flat_map(move |a| of(&a).map(|token| (token, a.person))))
    };
    let (names, handles) = (token(|a| a.name), token(|a| a.handle));
    let records = distinct(of_humans.clone().flat_map(|a| pair(a.person, a.same_as?)));

    let of_tokens = names.clone().concat(handles.clone());
    let logins = of_humans.filter(|a| &*a.kind == "login").map(|a| (a.person, a.source));
    let one_source = in_common(distinct(of_tokens.clone()), distinct(logins));
    let undecided = of_tokens
        .map(|pair| (pair, ()))
        .antijoin(records.clone())
        // One token, not both.
        .threshold_total(|_, count| isize::from(*count == 1))
        .map(|(pair, ())| pair);
    let done = work(cx, undecided.clone());
    let one_work = in_common(undecided, done);

    let said = cx.identity_statements();
    let said = distinct(said.map(|(pair, fact)| (pair, if fact.same { StatedSame } else { StatedDifferent })));
    let named = both(records.map(|pair| (pair, SameRecord)).concat(said), humans);
    let model = Rc::clone(&cx.model);
    named
        .concat(names.map(|pair| (pair, SameName)))
        .concat(handles.map(|pair| (pair, SameHandle)))
        .concat(one_source.map(|pair| (pair, SameSource)))
        .concat(one_work.map(|pair| (pair, SameWork)))
        .map(move |((person, other), kind)| {
            let weight = model.identity_weight(kind);
            IdentityEvidenceRow {
                person,
                other,
                kind,
                weight_millinats: weight.weight,
                spread_millinats: weight.spread,
            }
        })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.identity_evidence();
    cx.emit(&VIEW.table, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_has_the_same_bound() {
        assert!(ORACLE.contains(&format!("between 2 and {SHARED_BY_MAX}")));
        assert_eq!(pair(PersonId(2), PersonId(1)), Some((PersonId(1), PersonId(2))));
        assert_eq!(pair(PersonId(1), PersonId(1)), None);
    }
}
