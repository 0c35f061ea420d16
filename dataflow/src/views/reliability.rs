//! How often is a kind of evidence right, by the word of people?
//!
//! Grain: one row a kind of automatic evidence that speaks for a link on which people have decided. Key: `kind`. Inputs:
//! `evidence`, and the verdicts of people (`reputation`). The majority decides, each person with one voice by however many
//! accounts; a tie decides nothing.
//!
//! The counts make a Beta posterior from even odds; beside it stands what the model claims where the kind speaks alone, so
//! that the two can disagree. They differ for an honest reason, too: people look at links that are in doubt, and other
//! kinds speak on most of them.
//!
//! It is never an input of `evidence` or `links`: each verdict would rewrite every link of the kind. New weights come by
//! calibration, as another model file. Keeps I3.

use flowsync_schemas::{Birth, EntityKind, Record, TableSpec, ViewSpec, fact::EvidenceKind, model::Band};

use crate::{
    cx::Cx,
    ops::{ByKey, id, sums},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "reliability",
        version: 1,
        key: &["kind"],
        columns: || ReliabilityRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "How often links that people decided on were so where a kind of evidence spoke, beside what the model claims; \
              one row a kind of evidence.",
    },
    oracle: "
        with counts as (
            select e.kind, count(*) filter (where t.confirmed > t.rejected) as yes,
                   count(*) filter (where t.confirmed < t.rejected) as no
            from tallies t
            join evidence e on t.artifact_kind = e.artifact_kind and t.artifact_id = e.artifact_id
                           and t.ticket_key = e.ticket_key
            where t.confirmed <> t.rejected and e.kind not in ('manual_report', 'confirmed', 'rejected')
            group by e.kind
        ),
        means as (select *, (10000 * (1 + yes) + (yes + no + 2) / 2) / (yes + no + 2) as mean from counts),
        bands as (
            select *, cast(floor(sqrt(cast(mean * (10000 - mean) / (yes + no + 3) as double))) as bigint) as spread
            from means
        )
        select b.kind, yes as confirmed_count, no as rejected_count, mean as reliability_bps, mean - b.spread as low_bps,
               mean + b.spread as high_bps,
               cast(round(10000.0 / (1.0 + exp(cast(-(m.weight + m.prior) as double) / 1000.0))) as bigint) as model_bps
        from bands b join model m on b.kind = m.kind",
    why: "select e.signal, e.at, e.kind, e.artifact_id, e.ticket_key from evidence e
          join (
              select artifact_kind, artifact_id, ticket_key from evidence where kind in ('confirmed', 'rejected')
              intersect
              select artifact_kind, artifact_id, ticket_key from evidence where kind = $1
          ) j on e.artifact_kind = j.artifact_kind and e.artifact_id = j.artifact_id and e.ticket_key = j.ticket_key
          where e.kind in ($1, 'confirmed', 'rejected')
          union
          select r.signal, r.at, r.verb, r.artifact_id, r.ticket_key from fact_reports r
          join evidence e on r.artifact_kind = e.artifact_kind and r.artifact_id = e.artifact_id
                         and r.ticket_key = e.ticket_key and e.kind = $1
          where r.verb in ('confirm', 'reject')",
};

/// One kind of evidence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Record)]
pub struct ReliabilityRow {
    /// Kind of evidence.
    pub kind: EvidenceKind,
    /// Links that it speaks for and that most people confirm.
    #[unit = "links"]
    pub confirmed_count: i64,
    /// Links that it speaks for and that most people reject.
    #[unit = "links"]
    pub rejected_count: i64,
    /// Probability that such a link is so: mean of Beta(1 + confirmed, 1 + rejected).
    #[unit = "basis points"]
    pub reliability_bps: i64,
    /// Low end of the band: a standard deviation less.
    #[unit = "basis points"]
    pub low_bps: i64,
    /// High end of the band: a standard deviation more.
    #[unit = "basis points"]
    pub high_bps: i64,
    /// Probability that the model gives a link for which this kind alone speaks.
    #[unit = "basis points"]
    pub model_bps: i64,
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let decided = cx
        .tallies()
        .flat_map(|((artifact, ticket), [confirmed, rejected, ..])| {
            (confirmed != rejected).then_some((artifact, (ticket, confirmed > rejected)))
        })
        .by_key();
    let spoke = cx.reasons().join_core(decided, |_, e, (ticket, so)| {
        let counts = !e.is_manual() && !e.kind.is_inferred() && id(EntityKind::Ticket, &e.ticket_key) == *ticket;
        counts.then_some((e.kind, *so))
    });
    let model = std::rc::Rc::clone(&cx.model);
    let counts = spoke.map(|(kind, so)| (kind, [so.into(), (!so).into(), 0, 0, 0]));
    let rows = sums(counts, move |kind, [confirmed_count, rejected_count, ..]| {
        let band = Band::of_counts(confirmed_count, rejected_count);
        let weight = model.weight(kind);
        [ReliabilityRow {
            kind,
            confirmed_count,
            rejected_count,
            reliability_bps: band.confidence_bps,
            low_bps: band.low_bps,
            high_bps: band.high_bps,
            model_bps: model.band(weight.weight, weight.spread.pow(2)).confidence_bps,
        }]
    });
    cx.emit(&VIEW.table, rows);
}
