//! How is a person's working day divided over tickets?
//!
//! Grain: one row a person, a UTC day and a ticket. Key: `person, day, ticket_key`. Inputs: `activity`, without bots, and
//! `identities`: a person has one working day, by however many accounts. The shares of a person-day are proportional to its
//! points and sum to exactly 1,000,000 (largest remainders, then the smaller key); work without a known ticket is the ticket
//! `''`.

use std::collections::BTreeMap;

use flowsync_schemas::{Birth, Day, PersonId, Record, TableSpec, Text, ViewSpec};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Coll, reduce},
    views::activity::Deed,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "effort",
        version: 2,
        key: &["person", "day", "ticket_key"],
        columns: || EffortRow::COLUMNS.to_vec(),
        birth: Birth::Dated("day"),
        doc: "Working days divided over tickets, with the band that the links allow; one row a person, a day and a ticket.",
    },
    oracle: "
        with points as (
            select coalesce(i.identity, a.person) as person, day, ticket_key, sum(millipoints) as p,
                   sum(low_millipoints) as l, sum(high_millipoints) as h
            from activity a left join identities i on a.person = i.person
            where a.person not in (select person from people where bot)
            group by coalesce(i.identity, a.person), day, ticket_key
        ),
        totals as (
            select *, sum(p) over (partition by person, day) as total from points where p > 0
        ),
        floors as (
            select *, p * 1000000 / total as share, (p * 1000000) % total as remainder from totals
        ),
        ranked as (
            select *, row_number() over (partition by person, day order by remainder desc, ticket_key) as rank,
                   1000000 - sum(share) over (partition by person, day) as missing
            from floors
        ),
        shares as (select *, share + case when rank <= missing then 1 else 0 end as share_ppm from ranked)
        select person, day, ticket_key, cast(share_ppm as bigint) as share_ppm,
               cast(least(share_ppm, l * 1000000 / total) as bigint) as low_ppm,
               cast(least(1000000, greatest(share_ppm, h * 1000000 / total)) as bigint) as high_ppm
        from shares",
    why: "select c.signal, c.authored_at as at, 'commit' as what from commits c
          left join links l on l.artifact_kind = 'Commit' and l.artifact_id = c.sha and l.confidence_bps >= 5000
          where c.author in (select person from identities where identity = $1) and cast(c.authored_at as date) = $2 and (coalesce(l.ticket_key, '') = $3 or $3 = '')
          union all
          select p.signal, p.created_at, 'pull_request' from pull_requests p
          left join links l on l.artifact_kind = 'PullRequest' and l.artifact_id = p.pull_request and l.confidence_bps >= 5000
          where p.author in (select person from identities where identity = $1) and cast(p.created_at as date) = $2 and (coalesce(l.ticket_key, '') = $3 or $3 = '')
          union all
          select r.signal, r.submitted_at, 'review' from reviews r
          left join links l on l.artifact_kind = 'PullRequest' and l.artifact_id = r.pull_request and l.confidence_bps >= 5000
          where r.reviewer in (select person from identities where identity = $1) and cast(r.submitted_at as date) = $2 and (coalesce(l.ticket_key, '') = $3 or $3 = '')
          union all
          select a.signal, a.acted_at, a.kind from fact_activities a
          where a.person in (select person from identities where identity = $1) and cast(a.acted_at as date) = $2 and (a.subject_id = $3 or a.subject_kind <> 'Ticket')
          union all
          select p.signal, p.at, p.verb from fact_reports p
          where p.person in (select person from identities where identity = $1) and cast(p.at as date) = $2 and p.ticket_key = $3",
};

/// A whole person-day, in millionths.
pub const WHOLE_PPM: i64 = 1_000_000;

/// One person, day and ticket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Record)]
pub struct EffortRow {
    /// Whose day: the person's identity, a pseudonym of one of their accounts.
    pub person: PersonId,
    /// Which UTC day.
    pub day: Day,
    /// For which ticket; empty where none is known.
    pub ticket_key: Text,
    /// Share of the person's day.
    #[unit = "millionths of a person-day"]
    pub share_ppm: i64,
    /// Low end of the band.
    #[unit = "millionths of a person-day"]
    pub low_ppm: i64,
    /// High end of the band.
    #[unit = "millionths of a person-day"]
    pub high_ppm: i64,
}

/// Divides a day by points (expected, low, high) a ticket: largest remainders first, then the smaller key.
fn divide(points: &BTreeMap<&Text, (i64, i64, i64)>) -> Vec<(Text, i64, i64, i64)> {
    let total: i128 = points.values().map(|p| i128::from(p.0)).sum();
    if total == 0 {
        return Vec::new();
    }
    let whole = i128::from(WHOLE_PPM);
    let scaled = |p: i64| (i128::from(p) * whole / total) as i64;
    let mut shares: Vec<(i128, &Text, i64)> = points
        .iter()
        .filter(|(_, p)| p.0 > 0)
        .map(|(ticket, p)| (i128::from(p.0) * whole % total, *ticket, scaled(p.0)))
        .collect();
    shares.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let missing = WHOLE_PPM - shares.iter().map(|s| s.2).sum::<i64>();
    for share in shares.iter_mut().take(missing as usize) {
        share.2 += 1;
    }
    shares
        .into_iter()
        .map(|(_, ticket, share)| {
            let (_, low, high) = points[ticket];
            (ticket.clone(), share, share.min(scaled(low)), WHOLE_PPM.min(share.max(scaled(high))))
        })
        .collect()
}

/// Activity under the person's identity, without that of bots.
fn by_identity<'s>(cx: &mut Cx<'s>) -> Coll<'s, (PersonId, Deed)> {
    // Few accounts go by another id, or by none: only their activity is looked at twice.
    let by_person = cx.activity_by_person();
    let all = by_person.clone().as_collection(|person, deed| (*person, deed.clone()));
    let others = by_person.join_core(cx.aliases(), |person, deed, identity| [(*person, *identity, deed.clone())]);
    let gone = others.clone().map(|(person, _, deed)| (person, deed)).negate();
    all.concat(gone).concat(others.flat_map(|(_, identity, deed)| identity.map(|identity| (identity, deed))))
}

/// The effort.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, EffortRow> {
    let days = by_identity(cx).map(|(person, (day, ticket, kind, points))| ((person, day), (ticket, kind, points)));
    let divided = reduce(days, "Effort", |_, activity, out| {
        let mut points: BTreeMap<&Text, (i64, i64, i64)> = BTreeMap::new();
        for ((ticket, _, (p, low, high)), accounts) in activity {
            // Two accounts of a person can have done the same.
            let n = *accounts as i64;
            let sum = points.entry(ticket).or_default();
            *sum = (sum.0 + n * p, sum.1 + n * low, sum.2 + n * high);
        }
        out.extend(divide(&points).into_iter().map(|share| (share, 1)));
    });
    divided.as_collection(|(person, day), (ticket_key, share_ppm, low_ppm, high_ppm)| EffortRow {
        person: *person,
        day: *day,
        ticket_key: ticket_key.clone(),
        share_ppm: *share_ppm,
        low_ppm: *low_ppm,
        high_ppm: *high_ppm,
    })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.effort();
    cx.emit(&VIEW.table, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_exactly_one_day() {
        let keys: Vec<Text> = (0..7).map(|i| format!("A-{i}").into()).collect();
        for seed in 1..50i64 {
            let points: BTreeMap<&Text, (i64, i64, i64)> =
                keys.iter().enumerate().map(|(i, k)| (k, (seed * 37 % (i as i64 + 3), 0, 9))).collect();
            let shares = divide(&points);
            if points.values().any(|p| p.0 > 0) {
                assert_eq!(shares.iter().map(|s| s.1).sum::<i64>(), WHOLE_PPM, "seed {seed}");
            }
            assert!(shares.iter().all(|s| s.2 <= s.1 && s.1 <= s.3));
        }
    }
}
