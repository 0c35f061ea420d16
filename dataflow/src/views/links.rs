//! Which artifact belongs to which ticket, how sure are we, and on whose word?
//!
//! Grain: one row an artifact and a ticket that some evidence connects. Key: `artifact_kind, artifact_id, ticket_key`.
//! Inputs: `evidence`. The weights are summed as log-odds over the model's prior; the band is one standard deviation of
//! that sum to either side. A link that a person rejected stays, with the confidence that is left. From 50 % on a link is
//! asserted, and only then is anything built on it; from 20 % on it is suggested.

use std::rc::Rc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, Record, TableSpec, Text, ViewSpec,
    fact::EvidenceKind,
    model::{Band, Model},
    words,
};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, reduce},
    views::evidence::{self, EvidenceRow},
};

/// Probability from which on a link is asserted, in basis points: at least as likely as not.
const ASSERTED_BPS: i64 = 5_000;

/// Probability from which on a link is worth a person's look, in basis points.
const SUGGESTED_BPS: i64 = 2_000;

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "links",
        version: 2,
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
                   count(*) filter (where kind in ('manual_report', 'confirmed', 'rejected')) as manual_count,
                   count(*) filter (where kind in (
                       'text_similarity', 'file_overlap', 'author_is_assignee', 'time_proximity', 'competition'
                   )) as inferred_count
            from evidence group by artifact_kind, artifact_id, ticket_key
        ),
        odds as (select s.*, weight + (select min(prior) from model where kind = 'confirmed') as x from sums s),
        bands as (
            select *, cast(round(10000.0 / (1.0 + exp(cast(-x as double) / 1000.0))) as bigint) as confidence_bps,
                   cast(round(10000.0 / (1.0 + exp(cast(-(x - spread) as double) / 1000.0))) as bigint) as low_bps,
                   cast(round(10000.0 / (1.0 + exp(cast(-(x + spread) as double) / 1000.0))) as bigint) as high_bps
            from odds
        )
        select artifact_kind, artifact_id, ticket_key, project, confidence_bps, low_bps, high_bps,
               case when confidence_bps >= 5000 then 'asserted' when confidence_bps >= 2000 then 'suggested'
                    else 'doubtful' end as standing,
               evidence_count,
               case when inferred_count = evidence_count then 'inferred' when manual_count = 0 then 'automated'
                    when manual_count = evidence_count then 'manual' else 'mixed' end as provenance,
               stated_at
        from bands",
    why: "select signal, at, kind, weight_millinats, spread_millinats from evidence
          where artifact_kind = $1 and artifact_id = $2 and ticket_key = $3 order by weight_millinats desc, signal",
};

words! {
    /// On whose word a link stands.
    pub enum Provenance {
        /// Read from what tools say.
        Automated = "automated",
        /// Stated by people alone.
        Manual = "manual",
        /// Both.
        Mixed = "mixed",
        /// Nobody states it: words, people and time speak for it.
        Inferred = "inferred",
    }
}

words! {
    /// What a link is good for.
    pub enum Standing {
        /// At least as likely as not: what is computed from links is computed from these.
        Asserted = "asserted",
        /// Worth a person's look; nothing is built on it.
        Suggested = "suggested",
        /// Kept to show why not.
        Doubtful = "doubtful",
    }
}

impl Standing {
    fn of(confidence_bps: i64) -> Self {
        match confidence_bps {
            ASSERTED_BPS.. => Standing::Asserted,
            SUGGESTED_BPS.. => Standing::Suggested,
            _ => Standing::Doubtful,
        }
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
    /// What it is good for: asserted, suggested, doubtful.
    pub standing: Standing,
    /// Kinds of evidence that speak for or against it.
    #[unit = "kinds of evidence"]
    pub evidence_count: i64,
    /// On whose word it stands: automated, manual, mixed, inferred.
    pub provenance: Provenance,
    /// Clock of the earliest statement.
    pub stated_at: Micros,
}

impl LinkRow {
    /// Whether it is at least as likely as not.
    pub fn is_asserted(&self) -> bool {
        self.standing == Standing::Asserted
    }

    /// The band.
    pub fn band(&self) -> Band {
        Band { confidence_bps: self.confidence_bps, low_bps: self.low_bps, high_bps: self.high_bps }
    }
}

/// What speaks for one link: a statement, or all that is inferred together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Reason {
    /// The ticket; first, so that what speaks for one link lies together.
    pub ticket_key: Text,
    /// Kind of evidence; of what is inferred the first.
    pub kind: EvidenceKind,
    artifact_kind: EntityKind,
    artifact_id: Text,
    project: Text,
    /// Kinds of evidence.
    count: i64,
    /// Log-odds and their variance, all kinds together.
    weight: i64,
    variance: i64,
    at: Micros,
}

impl Reason {
    /// Of rows of one artifact and ticket.
    fn of(rows: &[EvidenceRow]) -> Option<Self> {
        let first = rows.first()?.clone();
        Some(Self {
            ticket_key: first.ticket_key,
            kind: first.kind,
            artifact_kind: first.artifact_kind,
            artifact_id: first.artifact_id,
            project: first.project,
            count: rows.len() as i64,
            weight: rows.iter().map(|e| e.weight_millinats).sum(),
            variance: rows.iter().map(|e| e.spread_millinats * e.spread_millinats).sum(),
            at: first.at,
        })
    }

    /// Whether a person gives it.
    pub fn is_manual(&self) -> bool {
        matches!(self.kind, EvidenceKind::ManualReport | EvidenceKind::Confirmed | EvidenceKind::Rejected)
    }
}

/// What speaks for links, by artifact.
pub fn reasons<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Reason> {
    let model = Rc::clone(&cx.model);
    let stated = cx.stated_evidence().flat_map_ref(move |(artifact, _, kind), statement| {
        let row = evidence::row(&model, *kind, statement);
        Reason::of(&[row]).map(|reason| (*artifact, reason))
    });
    let inferred = cx.inferred_evidence().flat_map(|(artifact, rows)| Some((artifact, Reason::of(&rows)?)));
    stated.concat(inferred).by_key()
}

/// What the reasons for one link come to.
fn link(model: &Model, reasons: &[(&Reason, isize)]) -> Option<LinkRow> {
    let all = || reasons.iter().map(|(reason, _)| *reason);
    let first = all().next()?;
    let band = model.band(all().map(|r| r.weight).sum(), all().map(|r| r.variance).sum());
    let manual = all().filter(|r| r.is_manual()).count();
    Some(LinkRow {
        artifact_kind: first.artifact_kind,
        artifact_id: first.artifact_id.clone(),
        ticket_key: first.ticket_key.clone(),
        project: all().map(|r| &r.project).min().unwrap_or(&first.project).clone(),
        confidence_bps: band.confidence_bps,
        low_bps: band.low_bps,
        high_bps: band.high_bps,
        standing: Standing::of(band.confidence_bps),
        evidence_count: all().map(|r| r.count).sum(),
        provenance: match manual {
            0 if all().all(|r| r.kind.is_inferred()) => Provenance::Inferred,
            0 => Provenance::Automated,
            n if n == reasons.len() => Provenance::Manual,
            _ => Provenance::Mixed,
        },
        stated_at: all().map(|r| r.at).min().unwrap_or(first.at),
    })
}

/// The links, by artifact.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, LinkRow> {
    let model = Rc::clone(&cx.model);
    reduce(cx.reasons(), "Links", move |_, reasons, out| {
        // They come sorted: those of one ticket lie together.
        let links = reasons.chunk_by(|(a, _), (b, _)| a.ticket_key == b.ticket_key);
        out.extend(links.filter_map(|reasons| Some((link(&model, reasons)?, 1))));
    })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.links().as_collection(|_, link| link.clone());
    cx.emit(&VIEW.table, rows);
}
