//! The graph: what is connected with what, how, and how surely?
//!
//! Grain: one row an edge. Key: `src_kind, src_id, edge, dst_kind, dst_id`. Inputs: links that are asserted (at least 50 %),
//! and what tools state: authors, reviewers, deployed commits, parents, relations. What the owning tool states is certain.

use flowsync_schemas::{
    Birth, EntityId, EntityKind, PersonId, Record, TableSpec, Text, ViewSpec,
    fact::{EdgeKind, RelationFact},
    model::Band,
};

use crate::{
    cx::Cx,
    ops::{Coll, distinct_by_id, id, latest},
    views::ASSERTED_BPS,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "edges",
        version: 1,
        key: &["src_kind", "src_id", "edge", "dst_kind", "dst_id"],
        columns: || EdgeRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "Edges of the graph, with confidence; one row an edge.",
    },
    oracle: "
        with certain as (
            select 'Commit' as src_kind, sha as src_id, 'AUTHORED_BY' as edge, 'User' as dst_kind, author as dst_id
            from commits where author is not null
            union
            select 'PullRequest', pull_request, 'AUTHORED_BY', 'User', author from pull_requests where author is not null
            union
            select 'PullRequest', pull_request, 'REVIEWED_BY', 'User', reviewer from reviews where reviewer is not null
            union
            select 'DeploymentEvent', deployment, 'DEPLOYS', 'Commit', sha from deployments
            union
            select 'Ticket', ticket_key, 'PART_OF', 'Ticket', parent_key from tickets where parent_key is not null
            union
            select 'Incident', incident, 'LINKED_TO', 'Ticket', ticket_key from incidents where ticket_key is not null
            union
            select src_kind, src_id, edge, dst_kind, dst_id
            from (
                select *, row_number() over (
                    partition by edge, src_kind, src_id, dst_kind, dst_id order by at desc, signal desc, seq desc) as age
                from fact_relations
            )
            where age = 1 and not deleted
              and not (edge = 'LINKED_TO' and dst_kind = 'Ticket' and src_kind in ('Commit', 'PullRequest'))
        )
        select src_kind, src_id, edge, dst_kind, dst_id, 10000 as confidence_bps, 10000 as low_bps, 10000 as high_bps
        from certain
        union all
        select artifact_kind, artifact_id, 'LINKED_TO', 'Ticket', ticket_key, confidence_bps, low_bps, high_bps
        from links where confidence_bps >= 5000",
    why: "select signal from evidence
          where artifact_kind = $1 and artifact_id = $2 and $3 = 'LINKED_TO' and $4 = 'Ticket' and ticket_key = $5
          union all
          select signal from fact_relations
          where src_kind = $1 and src_id = $2 and edge = $3 and dst_kind = $4 and dst_id = $5
          union all select signal from commits where $1 = 'Commit' and sha = $2 and author = $5
          union all select signal from pull_requests where $1 = 'PullRequest' and pull_request = $2 and author = $5
          union all select signal from reviews where $1 = 'PullRequest' and pull_request = $2 and reviewer = $5
          union all select signal from deployments where $1 = 'DeploymentEvent' and deployment = $2 and sha = $5
          union all select signal from tickets where $1 = 'Ticket' and ticket_key = $2 and parent_key = $5
          union all select signal from incidents where $1 = 'Incident' and incident = $2 and ticket_key = $5",
};

/// One edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct EdgeRow {
    /// Kind of the source.
    pub src_kind: EntityKind,
    /// Native id of the source; a pseudonym for a person.
    pub src_id: Text,
    /// Kind of the edge: AUTHORED_BY, LINKED_TO, DEPLOYS, REVIEWED_BY, PART_OF, …
    pub edge: EdgeKind,
    /// Kind of the target.
    pub dst_kind: EntityKind,
    /// Native id of the target; a pseudonym for a person.
    pub dst_id: Text,
    /// Probability that the edge holds.
    #[unit = "basis points"]
    pub confidence_bps: i64,
    /// Low end of the band.
    #[unit = "basis points"]
    pub low_bps: i64,
    /// High end of the band.
    #[unit = "basis points"]
    pub high_bps: i64,
}

type Ends = (EntityKind, Text, EdgeKind, EntityKind, Text);

fn row((src_kind, src_id, edge, dst_kind, dst_id): Ends, band: Band) -> EdgeRow {
    let Band { confidence_bps, low_bps, high_bps } = band;
    EdgeRow { src_kind, src_id, edge, dst_kind, dst_id, confidence_bps, low_bps, high_bps }
}

fn id_of((src_kind, src_id, edge, dst_kind, dst_id): &Ends) -> EntityId {
    EntityId::of_parts("edge", &[src_kind.word(), src_id, edge.word(), dst_kind.word(), dst_id])
}

fn to_person(kind: EntityKind, native: &Text, edge: EdgeKind, person: Option<PersonId>) -> Option<Ends> {
    person.map(|p| (kind, native.clone(), edge, EntityKind::User, p.to_string().into()))
}

/// Relations that tools state, other than the tracker's links to work: those are evidence.
fn stated<'s>(cx: &Cx<'s>) -> Coll<'s, Ends> {
    let of_work = |r: &RelationFact| {
        r.edge == EdgeKind::LinkedTo
            && r.dst_kind == EntityKind::Ticket
            && matches!(r.src_kind, EntityKind::Commit | EntityKind::PullRequest)
    };
    let relations = cx.facts.relations.clone().filter(move |v| !of_work(&v.value)).map(|v| {
        let r = &v.value;
        ((id(r.src_kind, &r.src_id), r.edge, id(r.dst_kind, &r.dst_id)), v)
    });
    latest(relations).flat_map(|(_, v)| {
        let r = &v.value;
        (!r.deleted).then(|| (r.src_kind, r.src_id.clone(), r.edge, r.dst_kind, r.dst_id.clone()))
    })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    use EdgeKind::{AuthoredBy, Deploys, LinkedTo, PartOf, ReviewedBy};
    use EntityKind::{Commit, DeploymentEvent, Incident, PullRequest, Ticket};

    let commits = cx.commits().flat_map(|(_, (v, _))| to_person(Commit, &v.value.sha, AuthoredBy, v.value.author));
    let pulls =
        cx.pull_requests().flat_map(|(_, v)| to_person(PullRequest, &v.value.pull_request, AuthoredBy, v.value.author));
    let reviews =
        cx.reviews().flat_map(|(_, v)| to_person(PullRequest, &v.value.pull_request, ReviewedBy, v.value.reviewer));
    let deployed = cx
        .deployments()
        .map(|(_, v)| (DeploymentEvent, v.value.deployment.clone(), Deploys, Commit, v.value.sha.clone()));
    let parents = cx.tickets().flat_map(|(_, v)| {
        let t = &v.value;
        t.parent_key.as_ref().map(|parent| (Ticket, t.ticket_key.clone(), PartOf, Ticket, parent.clone()))
    });
    let incidents = cx.incidents().flat_map(|(_, v)| {
        let i = &v.value;
        i.ticket_key.as_ref().map(|ticket| (Incident, i.incident.clone(), LinkedTo, Ticket, ticket.clone()))
    });
    let relations = stated(cx);
    let certain = commits.concatenate([pulls, reviews, deployed, parents, incidents, relations]);
    let links = cx.links().filter(|(_, l)| l.confidence_bps >= ASSERTED_BPS).map(|(_, l)| {
        let band = l.band();
        row((l.artifact_kind, l.artifact_id, LinkedTo, Ticket, l.ticket_key), band)
    });
    let certain = certain.map(|ends| (id_of(&ends), ends));
    let rows = distinct_by_id(certain).map(|ends| row(ends, Band::CERTAIN)).concat(links);
    cx.emit(&VIEW.table, rows);
}
