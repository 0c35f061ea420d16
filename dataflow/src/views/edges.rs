//! The graph: what is connected with what, how, and how surely?
//!
//! Grain: one row an edge. Key: `src_kind, src_id, edge, dst_kind, dst_id`. Inputs: links that are asserted (at least 50 %),
//! and what tools state: authors, reviewers, deployed commits, parents, relations, traces in commit messages. What the owning
//! tool states is certain.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, TableSpec, Text, ViewSpec,
    fact::{EdgeKind, RelationFact, TraceKind},
    model::Band,
};

use crate::{
    cx::Cx,
    ops::{Coll, Version, id, latest, reduce},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "edges",
        version: 4,
        key: &["src_kind", "src_id", "edge", "dst_kind", "dst_id"],
        columns: || EdgeRow::COLUMNS.to_vec(),
        birth: Birth::Dated("since"),
        doc: "Edges of the graph, with confidence; one row an edge.",
    },
    oracle: "
        with certain as (
            select 'Commit' as src_kind, sha as src_id, 'AUTHORED_BY' as edge, 'User' as dst_kind, author as dst_id,
                   committed_at as since
            from commits where author is not null
            union all
            select 'PullRequest', pull_request, 'AUTHORED_BY', 'User', author, created_at
            from pull_requests where author is not null
            union all
            select 'PullRequest', pull_request, 'REVIEWED_BY', 'User', reviewer, submitted_at
            from reviews where reviewer is not null
            union all
            select 'DeploymentEvent', deployment, 'DEPLOYS', 'Commit', sha, created_at from deployments
            union all
            select 'Ticket', ticket_key, 'PART_OF', 'Ticket', parent_key, created_at
            from tickets where parent_key is not null
            union all
            select 'Incident', incident, 'LINKED_TO', 'Ticket', ticket_key, opened_at
            from incidents where ticket_key is not null
            union all
            select 'Commit', sha, case kind when 'pull_request' then 'PART_OF' when 'cherry_pick' then 'PICKED_FROM'
                                            when 'revert' then 'REVERTS' else 'AUTHORED_BY' end,
                   case kind when 'pull_request' then 'PullRequest' when 'co_author' then 'User' else 'Commit' end,
                   case kind when 'co_author' then person else target end, committed_at
            from traces_in_force where kind in ('pull_request', 'cherry_pick', 'revert', 'co_author')
            union all
            select 'Commit', sha, 'PART_OF', 'PullRequest', pull_request, committed_at from brought
            union all
            select src_kind, src_id, edge, dst_kind, dst_id, at
            from relations_in_force
            where not (edge = 'LINKED_TO' and dst_kind = 'Ticket' and src_kind in ('Commit', 'PullRequest'))
        )
        select src_kind, src_id, edge, dst_kind, dst_id, 10000 as confidence_bps, 10000 as low_bps, 10000 as high_bps,
               min(since) as since
        from certain group by src_kind, src_id, edge, dst_kind, dst_id
        union all
        select artifact_kind, artifact_id, 'LINKED_TO', 'Ticket', ticket_key, confidence_bps, low_bps, high_bps, stated_at
        from links where confidence_bps >= 5000",
    why: "select signal from evidence
          where artifact_kind = $1 and artifact_id = $2 and $3 = 'LINKED_TO' and $4 = 'Ticket' and ticket_key = $5
          union all
          select signal from fact_relations
          where src_kind = $1 and src_id = $2 and edge = $3 and dst_kind = $4 and dst_id = $5
          union all
          select signal from fact_traces
          where $1 = 'Commit' and (sha = $2 and (target = $5 or person = $5) or kind = 'brought' and target = $2)
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
    /// Since when: the tool's clock of the earliest statement.
    pub since: Option<Micros>,
}

type Ends = (EntityKind, Text, EdgeKind, EntityKind, Text);

/// An edge that a tool states, and since when.
type Stated = (Ends, Option<Micros>);

fn row((src_kind, src_id, edge, dst_kind, dst_id): Ends, band: Band, since: Option<Micros>) -> EdgeRow {
    let Band { confidence_bps, low_bps, high_bps } = band;
    EdgeRow { src_kind, src_id, edge, dst_kind, dst_id, confidence_bps, low_bps, high_bps, since }
}

fn id_of((src_kind, src_id, edge, dst_kind, dst_id): &Ends) -> EntityId {
    EntityId::of_parts("edge", &[src_kind.word(), src_id, edge.word(), dst_kind.word(), dst_id])
}

fn to_person(
    (kind, native): (EntityKind, &Text),
    edge: EdgeKind,
    person: Option<PersonId>,
    since: Option<Micros>,
) -> Option<Stated> {
    person.map(|p| ((kind, native.clone(), edge, EntityKind::User, p.to_string().into()), since))
}

/// A relation that a tool states.
pub type Relation = Version<Arc<RelationFact>>;

/// Relations in force.
pub fn relations<'s>(cx: &mut Cx<'s>) -> Coll<'s, Relation> {
    let relations = cx.facts.relations.clone().map(|v| {
        let r = &v.value;
        ((id(r.src_kind, &r.src_id), r.edge, id(r.dst_kind, &r.dst_id)), v)
    });
    latest(relations, |r| r.deleted).as_collection(|_, relation| relation.clone())
}

/// Relations that tools state, other than the tracker's links to work: those are evidence.
fn stated<'s>(cx: &mut Cx<'s>) -> Coll<'s, Stated> {
    let of_work = |r: &RelationFact| {
        r.edge == EdgeKind::LinkedTo
            && r.dst_kind == EntityKind::Ticket
            && matches!(r.src_kind, EntityKind::Commit | EntityKind::PullRequest)
    };
    cx.relations().filter(move |v| !of_work(&v.value)).map(|v| {
        let r = &v.value;
        ((r.src_kind, r.src_id.clone(), r.edge, r.dst_kind, r.dst_id.clone()), Some(v.at))
    })
}

/// What commit messages say of pull requests, of other commits and of co-authors.
fn traced<'s>(cx: &mut Cx<'s>) -> Coll<'s, Stated> {
    use EntityKind::{Commit, PullRequest};
    cx.traces().flat_map(|(_, traced)| {
        let t = &traced.fact;
        let (edge, kind) = match t.kind {
            TraceKind::PullRequest => (EdgeKind::PartOf, PullRequest),
            TraceKind::CherryPick => (EdgeKind::PickedFrom, Commit),
            TraceKind::Revert => (EdgeKind::Reverts, Commit),
            TraceKind::CoAuthor => {
                return to_person((Commit, &t.sha), EdgeKind::AuthoredBy, t.person, traced.committed_at);
            }
            TraceKind::Brought | TraceKind::Worklog | TraceKind::Comment | TraceKind::Start | TraceKind::Done => {
                return None;
            }
        };
        Some(((Commit, t.sha.clone(), edge, kind, t.target.clone()), traced.committed_at))
    })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    use EdgeKind::{AuthoredBy, Deploys, LinkedTo, PartOf, ReviewedBy};
    use EntityKind::{Commit, DeploymentEvent, Incident, PullRequest, Ticket};

    let commits = cx.commits().flat_map_ref(|_, (v, _)| {
        let c = &v.value;
        to_person((Commit, &c.sha), AuthoredBy, c.author, c.committed_at)
    });
    let pulls = cx.pull_requests().flat_map_ref(|_, v| {
        let p = &v.value;
        to_person((PullRequest, &p.pull_request), AuthoredBy, p.author, p.created_at)
    });
    let reviews = cx.reviews().flat_map_ref(|_, v| {
        let r = &v.value;
        to_person((PullRequest, &r.pull_request), ReviewedBy, r.reviewer, r.submitted_at)
    });
    let deployed = cx.deployments().as_collection(|_, v| {
        let d = &v.value;
        ((DeploymentEvent, d.deployment.clone(), Deploys, Commit, d.sha.clone()), d.created_at)
    });
    let parents = cx.tickets().flat_map_ref(|_, v| {
        let t = &v.value;
        t.parent_key
            .as_ref()
            .map(|parent| ((Ticket, t.ticket_key.clone(), PartOf, Ticket, parent.clone()), t.created_at))
    });
    let incidents = cx.incidents().flat_map_ref(|_, v| {
        let i = &v.value;
        i.ticket_key
            .as_ref()
            .map(|ticket| ((Incident, i.incident.clone(), LinkedTo, Ticket, ticket.clone()), i.opened_at))
    });
    let brought = cx.brought().map(|(sha, pull, merged_at)| ((Commit, sha, PartOf, PullRequest, pull), merged_at));
    let (relations, traces) = (stated(cx), traced(cx));
    let certain = commits.concatenate([pulls, reviews, deployed, parents, incidents, brought, relations, traces]);
    let links = cx.links().flat_map_ref(|_, l| {
        let ends = || (l.artifact_kind, l.artifact_id.clone(), LinkedTo, Ticket, l.ticket_key.clone());
        l.is_asserted().then(|| row(ends(), l.band(), Some(l.stated_at)))
    });
    let certain = certain.map(|(ends, since)| (id_of(&ends), (since.is_none(), since, ends)));
    // Values come sorted: the earliest is the first, and one without a clock is last.
    let certain = reduce(certain, "Edges", |_, stated, out| {
        if let Some(((_, since, ends), _)) = stated.first() {
            out.push(((ends.clone(), *since), 1));
        }
    });
    let rows = certain.as_collection(|_, (ends, since)| row(ends.clone(), Band::CERTAIN, *since)).concat(links);
    cx.emit(&VIEW.table, rows);
}
