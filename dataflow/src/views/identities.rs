//! Which accounts are one person's?
//!
//! Grain: one row an account that a tool has named. Key: `person`. Inputs: `identity_evidence`, account facts, statements.
//! Two accounts are merged where the evidence on the two makes at least 80 %; a person's accounts are what such pairs
//! connect, and go by the smallest id of them. The confidence of a row is that of the strongest pair that ties the account
//! to the others; an account by itself is certain.
//!
//! **Taking a merge back.** `different A B` does two things. The pair itself is never merged, whatever the evidence. And
//! A, the account named first, is detached: all its automatic pairs are set aside, and only those stay of which a person
//! said `same`. Without that, a third account that resembles both would bring the two together again. It holds until the
//! same reporter says `same A B`. What people state may still connect A with B through a third account: then `different`
//! has to be said of that one, too.
//!
//! Only accounts that are in some pair enter the loop. A merge changes the rows of the accounts that get another smallest
//! id, and what is built on them (`effort`); artifacts, `activity` and `edges` keep the account that acted, so that they
//! are not rewritten. Keeps I3.

use std::collections::BTreeMap;

use differential_dataflow::operators::Iterate;
use flowsync_schemas::{Birth, PersonId, Record, TableSpec, ViewSpec, fact::IdentityKind, model::Band};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, distinct, reduce, sums},
    views::identity_evidence::Pair,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "identities",
        version: 1,
        key: &["person"],
        columns: || IdentityRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "Accounts and the person they belong to, with confidence; one row an account.",
    },
    oracle: "
        with recursive sums as (
            select person, other, cast(sum(weight_millinats) as bigint) as weight,
                   cast(floor(sqrt(cast(sum(spread_millinats * spread_millinats) as double))) as bigint) as spread,
                   count(*) filter (where kind = 'stated_same') as same,
                   count(*) filter (where kind = 'stated_different') as different
            from identity_evidence group by person, other
        ),
        odds as (select s.*, weight + (select min(prior) from model where kind = 'stated_same') as x from sums s),
        bands as (
            select person, other, same, different,
                   cast(round(10000.0 / (1.0 + exp(cast(-x as double) / 1000.0))) as bigint) as confidence_bps,
                   cast(round(10000.0 / (1.0 + exp(cast(-(x - spread) as double) / 1000.0))) as bigint) as low_bps,
                   cast(round(10000.0 / (1.0 + exp(cast(-(x + spread) as double) / 1000.0))) as bigint) as high_bps
            from odds
        ),
        detached as (select distinct person from identity_statements_in_force where not same),
        merged as (
            select b.person, b.other, b.confidence_bps, b.low_bps, b.high_bps
            from bands b left join detached x on b.person = x.person left join detached y on b.other = y.person
            where b.confidence_bps >= 8000 and b.different = 0
              and (b.same > 0 or (x.person is null and y.person is null))
        ),
        ties as (
            select person, other, confidence_bps, low_bps, high_bps from merged
            union all
            select other, person, confidence_bps, low_bps, high_bps from merged
        ),
        reach as (
            select person, person as label from ties
            union
            select t.other, r.label from reach r join ties t on r.person = t.person
        ),
        labels as (select person, min(label) as identity, count(*) as accounts from reach group by person),
        strongest as (
            select *, row_number() over (
                partition by person order by confidence_bps desc, low_bps desc, high_bps desc) as rank
            from ties
        )
        select a.person, coalesce(l.identity, a.person) as identity, coalesce(s.confidence_bps, 10000) as confidence_bps,
               coalesce(s.low_bps, 10000) as low_bps, coalesce(s.high_bps, 10000) as high_bps,
               coalesce(l.accounts, 1) as accounts
        from (select distinct person from fact_accounts) a
        left join labels l on a.person = l.person
        left join strongest s on a.person = s.person and s.rank = 1",
    why: "select f.signal, f.at, f.person as account, f.source, f.kind
          from fact_accounts f join identities i on i.person = f.person
          where i.identity in (select m.identity from identities m where m.person = $1)
          union all
          select s.signal, s.at, s.person, 'statement', case when s.same then 'same' else 'different' end
          from fact_identities s where s.person = $1 or s.other = $1",
};

/// Probability from which on two accounts are merged, in basis points. Above that of a name or of a login alone, whatever
/// the model says of two logins of one tool.
pub const MERGED_BPS: i64 = 8_000;

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Record)]
pub struct IdentityRow {
    /// The account, by pseudonym.
    pub person: PersonId,
    /// The person: the smallest pseudonym of all their accounts.
    pub identity: PersonId,
    /// Probability of the strongest pair that ties the account to the person's others; 10,000 where there are none.
    #[unit = "basis points"]
    pub confidence_bps: i64,
    /// Low end of the band.
    #[unit = "basis points"]
    pub low_bps: i64,
    /// High end of the band.
    #[unit = "basis points"]
    pub high_bps: i64,
    /// Accounts of the person.
    #[unit = "accounts"]
    pub accounts: i64,
}

/// The pairs that are merged, with their band.
fn merged<'s>(cx: &mut Cx<'s>) -> Coll<'s, (Pair, Band)> {
    let model = std::rc::Rc::clone(&cx.model);
    let weights = cx.identity_reasons().map({
        let model = std::rc::Rc::clone(&model);
        move |(pair, (kind, aside))| {
            let weight = model.identity_weight(kind);
            let said = |one| i64::from(kind == one);
            let (same, different) = (said(IdentityKind::StatedSame), said(IdentityKind::StatedDifferent));
            (pair, [weight.weight, weight.spread.pow(2), same, different, i64::from(aside)])
        }
    });
    sums(weights, move |pair, [weight, variance, same, different, aside]| {
        let band = model.identity_band(weight, variance);
        let holds = different == 0 && (same > 0 || aside == 0);
        (holds && band.confidence_bps >= MERGED_BPS).then_some((pair, band))
    })
}

/// Accounts that others are merged with, and the smallest id that they are connected with.
fn labels<'s>(ties: Coll<'s, (PersonId, PersonId)>) -> Coll<'s, (PersonId, PersonId)> {
    let own = distinct(ties.clone().map(|(one, _)| one)).map(|person| (person, person));
    own.clone().iterate(move |scope, labels| {
        let (ties, own) = (ties.enter(scope), own.enter(scope));
        labels.join_map(ties, |_, label, other| (*other, *label)).concat(own).reduce_named(
            "Labels",
            |_, labels, out| {
                // Values come sorted.
                if let Some((smallest, _)) = labels.first() {
                    out.push((**smallest, 1));
                }
            },
        )
    })
}

/// The identities.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, IdentityRow> {
    let ties = merged(cx).flat_map(|((one, other), band)| [(one, (other, band)), (other, (one, band))]);
    let labels = labels(ties.clone().map(|(one, (other, _))| (one, other)));
    let tied = labels.join_map(ties, |person, label, (_, band)| (*label, (*person, *band)));
    let tied = reduce(tied, "Components", |_, ties, out| {
        // Values come sorted: the strongest tie of each account is its last.
        let strongest: BTreeMap<_, _> = ties.iter().map(|((person, band), _)| (*person, *band)).collect();
        let accounts = strongest.len() as i64;
        out.extend(strongest.into_iter().map(|(person, band)| ((person, band, accounts), 1)));
    });
    let tied = tied.as_collection(|identity, (person, band, accounts)| (*person, Some((*identity, *band, *accounts))));
    let all = cx.accounts().map(|account| (account.person, None)).concat(tied);
    let identities = reduce(all, "Identities", |person, said, out| {
        // Values come sorted: where there is a tie, it is the last; and what is tied is an account.
        let tie = said.last().and_then(|(tie, _)| **tie);
        out.push((tie.unwrap_or((*person, Band::CERTAIN, 1)), 1));
    });
    identities.as_collection(|person, (identity, band, accounts)| {
        let Band { confidence_bps, low_bps, high_bps } = *band;
        IdentityRow { person: *person, identity: *identity, confidence_bps, low_bps, high_bps, accounts: *accounts }
    })
}

/// The person behind an account, or nobody where it is a bot.
pub type Alias = Option<PersonId>;

/// Who an account acts as, where that is not the account itself: few act as somebody else, or as nobody.
pub fn aliases<'s>(cx: &mut Cx<'s>) -> Arranged<'s, PersonId, Alias> {
    let bots = cx.bots().map(|bot| (bot, None));
    let merged = cx.identities().filter(|i| i.identity != i.person).map(|i| (i.person, Some(i.identity)));
    bots.concat(merged).by_key()
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.identities();
    cx.emit(&VIEW.table, rows);
}
