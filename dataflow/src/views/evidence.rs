//! Why would one believe that this artifact belongs to that ticket?
//!
//! Grain: one row an artifact, a ticket and a kind of evidence. Key: `artifact_kind, artifact_id, ticket_key, kind`.
//! Inputs: keys found in artifacts, links of trackers, reports of people. A key counts only if its project is known (from
//! tickets and from settings), so that `UTF-8` and `CVE-2021-44228` are no tickets; it holds as long as the version of the
//! artifact that names it. Of a person's reports on one artifact and ticket the latest holds. One row per kind, however
//! often it was said: of several signals the smallest id is shown. Keeps I3.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{EdgeKind, EvidenceKind, ReportFact, Verb},
};

use crate::{
    cx::Cx,
    ops::{Coll, Version, distinct, id, latest},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "evidence",
        version: 1,
        key: &["artifact_kind", "artifact_id", "ticket_key", "kind"],
        columns: || EvidenceRow::COLUMNS.to_vec(),
        birth: Birth::Dated("at"),
        doc: "Reasons to believe that an artifact belongs to a ticket; one row an artifact, a ticket and a kind of reason.",
    },
    oracle: ORACLE,
    why:
        "select m.signal, m.at, m.kind from fact_mentions m
          where m.artifact_kind = $1 and m.artifact_id = $2 and m.ticket_key = $3 and m.kind = $4
          union all
          select r.signal, r.at, 'tracker_link' from fact_relations r
          where r.src_kind = $1 and r.src_id = $2 and r.dst_id = $3 and r.edge = 'LINKED_TO' and 'tracker_link' = $4
          union all
          select p.signal, p.at, p.verb from fact_reports p
          where p.artifact_kind = $1 and p.artifact_id = $2 and p.ticket_key = $3
            and case p.verb when 'confirm' then 'confirmed' when 'reject' then 'rejected' else 'manual_report' end = $4",
};

const ORACLE: &str = "
    with projects as (
        select project from tickets
        union
        select key from settings_in_force where name = 'project'
    ),
    stated as (
        -- keys found in artifacts whose version still holds
        select m.artifact_kind, m.artifact_id, m.ticket_key, m.project, m.kind, m.at, m.signal
        from fact_mentions m
        join (
            select 'PullRequest' as artifact_kind, pull_request as artifact_id, signal from pull_requests
            union
            select 'Commit', f.sha, f.signal
            from fact_commits f
            join (
                select repo, sha from (
                    select repo, sha, deleted, row_number() over (
                        partition by repo, sha order by at desc, signal desc, seq desc) as age
                    from fact_commits
                ) where age = 1 and not deleted
            ) a on f.repo = a.repo and f.sha = a.sha
            where not f.deleted
        ) v on m.artifact_kind = v.artifact_kind and m.artifact_id = v.artifact_id and m.signal = v.signal
        join projects p on m.project = p.project
        union
        -- links that a tracker states
        select src_kind, src_id, dst_id, regexp_replace(dst_id, '[-#][0-9]+$', ''), 'tracker_link', at, signal
        from (
            select *, row_number() over (
                partition by edge, src_kind, src_id, dst_kind, dst_id order by at desc, signal desc, seq desc) as age
            from fact_relations
        )
        where age = 1 and not deleted and edge = 'LINKED_TO' and dst_kind = 'Ticket'
          and src_kind in ('Commit', 'PullRequest')
        union
        -- what people report
        select artifact_kind, artifact_id, ticket_key, project,
               case verb when 'confirm' then 'confirmed' when 'reject' then 'rejected' else 'manual_report' end, at, signal
        from reports_in_force where artifact_id is not null
    ),
    one as (
        select *, row_number() over (
            partition by artifact_kind, artifact_id, ticket_key, kind order by signal, at, project) as rank
        from stated
    )
    select artifact_kind, artifact_id, ticket_key, o.kind, project, m.weight as weight_millinats,
           m.spread as spread_millinats, o.at, signal
    from one o join model m on o.kind = m.kind
    where rank = 1";

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, Record)]
pub struct EvidenceRow {
    /// Kind of the artifact: Commit, PullRequest, …
    pub artifact_kind: EntityKind,
    /// Native id of the artifact; for a commit its sha.
    pub artifact_id: Text,
    /// The ticket.
    pub ticket_key: Text,
    /// Kind of evidence.
    pub kind: EvidenceKind,
    /// Project of the ticket.
    pub project: Text,
    /// How strongly it speaks for the link, as log-odds.
    #[unit = "thousandths of a nat"]
    pub weight_millinats: i64,
    /// Standard deviation of the weight.
    #[unit = "thousandths of a nat"]
    pub spread_millinats: i64,
    /// The tool's clock of the statement.
    pub at: Micros,
    /// The signal that states it.
    pub signal: SignalId,
}

/// A report by artifact and ticket.
pub type Report = Version<Arc<ReportFact>>;

/// Reports in force: the latest of each person on each ticket and artifact.
pub fn reports<'s>(cx: &mut Cx<'s>) -> Coll<'s, Report> {
    let keyed = cx.facts.reports.clone().map(|v| {
        let r = &v.value;
        ((r.person, id(EntityKind::Ticket, &r.ticket_key), r.artifact_kind, r.artifact_id.clone()), v)
    });
    latest(keyed).map(|(_, v)| v)
}

/// Artifact, ticket and kind: what evidence is told apart by.
type Key = (EntityId, EntityId, EvidenceKind);

/// What is shown of a statement; ordered so that the smallest signal comes first.
type Statement = (SignalId, Micros, EntityKind, Text, Text, Text);

fn keyed(kind: EvidenceKind, (signal, at, artifact, artifact_id, project, ticket): Statement) -> (Key, Statement) {
    let key = (id(artifact, &artifact_id), id(EntityKind::Ticket, &ticket), kind);
    (key, (signal, at, artifact, artifact_id, project, ticket))
}

/// Keys found in artifacts whose version still holds, in known projects.
fn mentions<'s>(cx: &mut Cx<'s>) -> Coll<'s, (Key, Statement)> {
    let of_pull_requests = cx.pull_requests().map(|(artifact, v)| (artifact, v.signal));
    let of_commits = cx.commits().flat_map(|(c, (_, signals))| signals.into_iter().map(move |s| (c, s)));
    let holding = of_pull_requests.concat(of_commits);
    let projects = known_projects(cx);
    cx.facts
        .mentions
        .clone()
        .map(|v| ((id(v.value.artifact_kind, &v.value.artifact_id), v.signal), (v.at, v.value)))
        .semijoin(holding)
        .map(|((_, signal), (at, m))| (EntityId::of_project(&m.project), (signal, at, m)))
        .semijoin(projects)
        .map(|(_, (signal, at, m))| {
            let m = Arc::unwrap_or_clone(m);
            keyed(m.kind, (signal, at, m.artifact_kind, m.artifact_id, m.project, m.ticket_key))
        })
}

/// Projects that have a ticket, or that a setting names.
fn known_projects<'s>(cx: &mut Cx<'s>) -> Coll<'s, EntityId> {
    let tracked = cx.tickets().map(|(_, v)| EntityId::of_project(&v.value.project));
    let set = cx.settings().flat_map(|((name, key), _)| (&*name == "project").then(|| EntityId::of_project(&key)));
    distinct(tracked.concat(set))
}

/// Links between artifacts and tickets that a tracker states.
fn tracker_links<'s>(cx: &Cx<'s>) -> Coll<'s, (Key, Statement)> {
    let relations = cx.facts.relations.clone().flat_map(|v| {
        let r = &v.value;
        let of_work = matches!(r.src_kind, EntityKind::Commit | EntityKind::PullRequest);
        let link = r.edge == EdgeKind::LinkedTo && r.dst_kind == EntityKind::Ticket && of_work;
        let key = (id(r.src_kind, &r.src_id), id(r.dst_kind, &r.dst_id));
        link.then_some((key, v))
    });
    latest(relations).filter(|(_, v)| !v.value.deleted).map(|(_, v)| {
        let (r, project) = (&v.value, project_of(&v.value.dst_id));
        keyed(EvidenceKind::TrackerLink, (v.signal, v.at, r.src_kind, r.src_id.clone(), project, r.dst_id.clone()))
    })
}

/// `SHOP` of `SHOP-12`, `owner/repo` of `owner/repo#12`; the whole text where it is no key.
pub fn project_of(ticket_key: &str) -> Text {
    match ticket_key.rsplit_once(['-', '#']) {
        Some((project, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => project.into(),
        _ => ticket_key.into(),
    }
}

/// The evidence.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, EvidenceRow> {
    let reported = cx.reports().flat_map(|v| {
        let r = Arc::unwrap_or_clone(v.value);
        let kind = match r.verb {
            Verb::Confirm => EvidenceKind::Confirmed,
            Verb::Reject => EvidenceKind::Rejected,
            Verb::Start | Verb::Done | Verb::Block | Verb::Deploy => EvidenceKind::ManualReport,
        };
        let artifact = r.artifact_kind.zip(r.artifact_id);
        artifact.map(|(a, native)| keyed(kind, (v.signal, v.at, a, native, r.project, r.ticket_key)))
    });
    let model = std::rc::Rc::clone(&cx.model);
    mentions(cx)
        .concat(tracker_links(cx))
        .concat(reported)
        .reduce_named("Evidence", |_, statements, out| {
            if let Some((first, _)) = statements.first() {
                out.push(((*first).clone(), 1));
            }
        })
        .map(move |((_, _, kind), (signal, at, artifact_kind, artifact_id, project, ticket_key))| {
            let weight = model.weight(kind);
            EvidenceRow {
                artifact_kind,
                artifact_id,
                ticket_key,
                kind,
                project,
                weight_millinats: weight.weight,
                spread_millinats: weight.spread,
                at,
                signal,
            }
        })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.evidence();
    cx.emit(&VIEW.table, rows);
}

#[cfg(test)]
mod tests {
    use super::project_of;

    #[test]
    fn the_project_of_a_key() {
        assert_eq!(&*project_of("SHOP-12"), "SHOP");
        assert_eq!(&*project_of("owner/re-po#12"), "owner/re-po");
        assert_eq!(&*project_of("not-a-key"), "not-a-key");
        assert_eq!(&*project_of("A-B-3"), "A-B");
    }
}
