//! How often do others agree with what a person says of links?
//!
//! Grain: one row a person who confirmed or rejected a link. Key: `person`. Inputs: reports in force, `identities`. A person
//! has one verdict on a link, the latest by any of their accounts; bots have none. Each verdict of another person on the
//! same link agrees or disagrees, and counts once. The counts make a Beta posterior from even odds: whom nobody joined or
//! contradicted is as open as a coin. Agreement is not truth, and what everybody learns from one person agrees. It is no
//! input of any other view. Keeps I3.

use flowsync_schemas::{Birth, EntityKind, PersonId, Record, TableSpec, ViewSpec, fact::Verb, model::Band};

use crate::{
    cx::Cx,
    ops::{Coll, id, latest, left_join, sums},
    views::evidence::Pair,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "reputation",
        version: 1,
        key: &["person"],
        columns: || ReputationRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "How often others agree with what a person says of links; one row a person who confirmed or rejected one.",
    },
    oracle: "
        with compared as (
            select v.person, case v.verb when 'confirm' then t.confirmed else t.rejected end - 1 as agreed,
                   case v.verb when 'confirm' then t.rejected else t.confirmed end as disagreed
            from verdicts v
            join tallies t on v.artifact_kind = t.artifact_kind and v.artifact_id = t.artifact_id
                          and v.ticket_key = t.ticket_key
        ),
        counts as (
            select person, count(*) as verdict_count, cast(sum(agreed) as bigint) as yes,
                   cast(sum(disagreed) as bigint) as no
            from compared group by person
        ),
        means as (select *, (10000 * (1 + yes) + (yes + no + 2) / 2) / (yes + no + 2) as mean from counts),
        bands as (
            select *, cast(floor(sqrt(cast(mean * (10000 - mean) / (yes + no + 3) as double))) as bigint) as spread
            from means
        )
        select person, verdict_count, yes as agreed_count, no as disagreed_count, mean as reputation_bps,
               mean - spread as low_bps, mean + spread as high_bps
        from bands",
    why: "select distinct r.signal, r.at, r.verb, r.person as account, r.artifact_id, r.ticket_key from fact_reports r
          join fact_reports own on r.artifact_kind = own.artifact_kind and r.artifact_id = own.artifact_id
                               and r.ticket_key = own.ticket_key
          where r.verb in ('confirm', 'reject') and own.verb in ('confirm', 'reject')
            and own.person in (select person from identities where identity = $1)",
};

/// One person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Record)]
pub struct ReputationRow {
    /// The person's identity, a pseudonym of one of their accounts.
    pub person: PersonId,
    /// Links that the person confirms or rejects.
    #[unit = "links"]
    pub verdict_count: i64,
    /// Verdicts of others on these links that say the same.
    #[unit = "verdicts"]
    pub agreed_count: i64,
    /// Verdicts of others on these links that say the opposite.
    #[unit = "verdicts"]
    pub disagreed_count: i64,
    /// Probability that the next one to judge agrees: mean of Beta(1 + agreed, 1 + disagreed).
    #[unit = "basis points"]
    pub reputation_bps: i64,
    /// Low end of the band: a standard deviation less.
    #[unit = "basis points"]
    pub low_bps: i64,
    /// High end of the band: a standard deviation more.
    #[unit = "basis points"]
    pub high_bps: i64,
}

/// What a person says of a link: whether it is so.
pub type Verdict = (Pair, (PersonId, bool));

/// The latest word of each person on each link, by whichever of their accounts.
pub fn verdicts<'s>(cx: &mut Cx<'s>) -> Coll<'s, Verdict> {
    let said = cx.reports().flat_map(|v| {
        let confirms = match v.value.verb {
            Verb::Confirm => true,
            Verb::Reject => false,
            Verb::Start | Verb::Done | Verb::Block | Verb::Deploy => return None,
        };
        let artifact = id(v.value.artifact_kind?, v.value.artifact_id.as_deref()?);
        let pair = (artifact, id(EntityKind::Ticket, &v.value.ticket_key));
        Some((v.value.person, (pair, v.map(|_| confirms))))
    });
    let by_person = left_join(said, cx.aliases(), |account, (pair, v), alias| {
        let person = alias.copied().unwrap_or(Some(*account))?;
        Some(((*pair, person), v.clone()))
    });
    latest(by_person, |_| false).as_collection(|(pair, person), v| (*pair, (*person, v.value)))
}

/// A link, and how many people confirm and reject it.
pub type Tally = (Pair, [i64; 5]);

/// How many people confirm and reject each link.
pub fn tallies<'s>(cx: &mut Cx<'s>) -> Coll<'s, Tally> {
    let counts = cx.verdicts().map(|(pair, (_, confirms))| (pair, [confirms.into(), (!confirms).into(), 0, 0, 0]));
    sums(counts, |pair, counts| [(pair, counts)])
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let compared = cx.verdicts().join_map(cx.tallies(), |_, (person, confirms), [confirmed, rejected, ..]| {
        let (same, other) = if *confirms { (confirmed, rejected) } else { (rejected, confirmed) };
        // The person's own verdict agrees with nobody.
        (*person, [1, same - 1, *other, 0, 0])
    });
    let rows = sums(compared, |person, [verdict_count, agreed_count, disagreed_count, ..]| {
        let band = Band::of_counts(agreed_count, disagreed_count);
        [ReputationRow {
            person,
            verdict_count,
            agreed_count,
            disagreed_count,
            reputation_bps: band.confidence_bps,
            low_bps: band.low_bps,
            high_bps: band.high_bps,
        }]
    });
    cx.emit(&VIEW.table, rows);
}
