//! Which artifact belongs to which ticket, how sure are we, and on whose word?
//!
//! Grain: one row an artifact and a ticket that some evidence connects. Key: `artifact_kind, artifact_id, ticket_key`.
//! Inputs: `evidence`. The weights are summed as log-odds over the model's prior; the band is one standard deviation of
//! that sum to either side. A link that a person rejected stays, with the confidence that is left; what is built on links
//! asserts those of at least 50 %.

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, Record, TableSpec, Text, ViewSpec, fact::EvidenceKind, model::Band, words,
};

use crate::{
    cx::Cx,
    ops::{Coll, id},
    views::evidence::EvidenceRow,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "links",
        version: 1,
        key: &["artifact_kind", "artifact_id", "ticket_key"],
        columns: || LinkRow::COLUMNS.to_vec(),
        birth: Birth::Dated("stated_at"),
        doc: "Artifacts and the tickets they belong to, with confidence; one row an artifact and a ticket.",
    },
    oracle: "
        with sums as (
            select artifact_kind, artifact_id, ticket_key, min(project) as project, min(at) as stated_at,
                   cast(sum(weight_millinats) as bigint) as weight,
                   cast(floor(sqrt(cast(sum(spread_millinats * spread_millinats) as double))) as bigint) as spread,
                   count(*) as evidence_count,
                   count(*) filter (where kind in ('manual_report', 'confirmed', 'rejected')) as manual_count
            from evidence group by artifact_kind, artifact_id, ticket_key
        ),
        odds as (select s.*, weight + (select min(prior) from model where kind = 'confirmed') as x from sums s)
        select artifact_kind, artifact_id, ticket_key, project,
               cast(round(10000.0 / (1.0 + exp(cast(-x as double) / 1000.0))) as bigint) as confidence_bps,
               cast(round(10000.0 / (1.0 + exp(cast(-(x - spread) as double) / 1000.0))) as bigint) as low_bps,
               cast(round(10000.0 / (1.0 + exp(cast(-(x + spread) as double) / 1000.0))) as bigint) as high_bps,
               evidence_count,
               case when manual_count = 0 then 'automated' when manual_count = evidence_count then 'manual'
                    else 'mixed' end as provenance,
               stated_at
        from odds",
    why: "select signal, at, kind, weight_millinats, spread_millinats from evidence
          where artifact_kind = $1 and artifact_id = $2 and ticket_key = $3 order by weight_millinats desc, signal",
};

words! {
    /// On whose word a link stands.
    pub enum Provenance {
        /// Found by FlowSync alone.
        Automated = "automated",
        /// Stated by people alone.
        Manual = "manual",
        /// Both.
        Mixed = "mixed",
    }
}

/// One link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct LinkRow {
    /// Kind of the artifact: Commit, PullRequest, …
    pub artifact_kind: EntityKind,
    /// Native id of the artifact; for a commit its sha.
    pub artifact_id: Text,
    /// The ticket.
    pub ticket_key: Text,
    /// Project of the ticket.
    pub project: Text,
    /// Probability that the artifact belongs to the ticket.
    #[unit = "basis points"]
    pub confidence_bps: i64,
    /// Low end of the band.
    #[unit = "basis points"]
    pub low_bps: i64,
    /// High end of the band.
    #[unit = "basis points"]
    pub high_bps: i64,
    /// Kinds of evidence that speak for or against it.
    #[unit = "kinds of evidence"]
    pub evidence_count: i64,
    /// On whose word it stands: automated, manual, mixed.
    pub provenance: Provenance,
    /// Clock of the earliest statement.
    pub stated_at: Micros,
}

impl LinkRow {
    /// The band.
    pub fn band(&self) -> Band {
        Band { confidence_bps: self.confidence_bps, low_bps: self.low_bps, high_bps: self.high_bps }
    }
}

/// A link by the id of its artifact.
pub type Keyed = (EntityId, LinkRow);

/// The links.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, Keyed> {
    let model = std::rc::Rc::clone(&cx.model);
    cx.evidence()
        .map(|e| ((id(e.artifact_kind, &e.artifact_id), id(EntityKind::Ticket, &e.ticket_key)), e))
        .reduce_named("Links", move |_, evidence, out| {
            let all = || evidence.iter().map(|(e, _)| *e);
            let Some(first) = all().next() else { return };
            let band = model.band(
                all().map(|e| e.weight_millinats).sum(),
                all().map(|e| e.spread_millinats * e.spread_millinats).sum(),
            );
            let manual = all().filter(|e| is_manual(e)).count();
            let link = LinkRow {
                artifact_kind: first.artifact_kind,
                artifact_id: first.artifact_id.clone(),
                ticket_key: first.ticket_key.clone(),
                project: all().map(|e| &e.project).min().unwrap_or(&first.project).clone(),
                confidence_bps: band.confidence_bps,
                low_bps: band.low_bps,
                high_bps: band.high_bps,
                evidence_count: evidence.len() as i64,
                provenance: match manual {
                    0 => Provenance::Automated,
                    n if n == evidence.len() => Provenance::Manual,
                    _ => Provenance::Mixed,
                },
                stated_at: all().map(|e| e.at).min().unwrap_or(first.at),
            };
            out.push((link, 1));
        })
        .map(|((artifact, _), link)| (artifact, link))
}

fn is_manual(evidence: &EvidenceRow) -> bool {
    matches!(evidence.kind, EvidenceKind::ManualReport | EvidenceKind::Confirmed | EvidenceKind::Rejected)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.links().map(|(_, link)| link);
    cx.emit(&VIEW.table, rows);
}
