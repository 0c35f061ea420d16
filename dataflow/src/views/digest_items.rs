//! What happened that somebody wants to hear of?
//!
//! Grain: one row a piece of news. Key: `item` (`kind:native id`). Inputs: tickets, pull requests, deployments, incidents,
//! reports, `links`, `ticket_status`, `approvals`. Rows carry the day they belong to; what is "new" is decided by the query. Every item
//! has its band and the way to its evidence. A report that waits for a second person is news of its own kind until it counts.

use std::{cmp::Reverse, sync::Arc};

use flowsync_schemas::{
    Birth, Day, Micros, PersonId, Record, TableSpec, Text, ViewSpec,
    fact::{
        DeploymentFact, EvidenceKind, IncidentFact, Progress, PullRequestFact, PullRequestState, RunState, TicketFact,
        Verb,
    },
    model::Band,
    words,
};

use crate::{
    cx::Cx,
    ops::{Coll, Version, left_join, reduce},
    views::approvals::ApprovalState,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "digest_items",
        version: 1,
        key: &["item"],
        columns: || DigestItemRow::COLUMNS.to_vec(),
        birth: Birth::Dated("day"),
        doc: "News for digests and live feeds, by role; one row a piece of news.",
    },
    oracle: ORACLE,
    why: "select t.signal, t.updated_at as at, 'ticket' as what from tickets t
          where $1 in ('started:' || t.ticket_key, 'done:' || t.ticket_key, 'blocked:' || t.ticket_key,
                       'disagreement:' || t.ticket_key)
          union all
          select e.signal, e.at, e.kind from evidence e
          where $1 = 'disagreement:' || e.ticket_key
             or ($1 = 'merged:' || e.artifact_id and e.artifact_kind = 'PullRequest')
          union all select p.signal, p.updated_at, 'pull_request' from pull_requests p where $1 = 'merged:' || p.pull_request
          union all
          select d.signal, coalesce(d.finished_at, d.created_at), 'deployment' from deployments d
          where $1 in ('deployed:' || d.deployment, 'deploy_failed:' || d.deployment)
          union all
          select i.signal, i.opened_at, 'incident' from incidents i
          where $1 in ('incident_opened:' || i.incident, 'incident_resolved:' || i.incident)
          union all
          select r.signal, r.at, r.verb from fact_reports r
          where $1 in ('reported:' || r.signal, 'disagreement:' || r.ticket_key)
          union all select a.signal, a.at, a.action from approvals a where $1 = 'pending:' || a.signal",
};

const ORACLE: &str = "
    with best as (
        select * from (
            select *, row_number() over (
                partition by artifact_id order by confidence_bps desc, ticket_key) as rank
            from links where artifact_kind = 'PullRequest' and confidence_bps >= 5000
        ) where rank = 1
    ),
    manual as (
        select cast(round(10000.0 / (1.0 + exp(cast(-x as double) / 1000.0))) as bigint) as confidence_bps,
               cast(round(10000.0 / (1.0 + exp(cast(-(x - spread) as double) / 1000.0))) as bigint) as low_bps,
               cast(round(10000.0 / (1.0 + exp(cast(-(x + spread) as double) / 1000.0))) as bigint) as high_bps
        from (select weight + prior as x, spread from model where kind = 'manual_report')
    ),
    news as (
        select case progress when 'in_progress' then 'started' else progress end as kind,
               case progress when 'done' then coalesce(resolved_at, updated_at) else updated_at end as at,
               project, ticket_key, ticket_key as subject, title, assignee as person,
               10000 as confidence_bps, 10000 as low_bps, 10000 as high_bps, 'tickets' as evidence_view,
               ticket_key as evidence_key
        from tickets where progress <> 'todo'
        union all
        select 'merged', coalesce(p.merged_at, p.updated_at), b.project, b.ticket_key, p.pull_request, p.title, p.author,
               coalesce(b.confidence_bps, 10000), coalesce(b.low_bps, 10000), coalesce(b.high_bps, 10000),
               case when b.ticket_key is null then 'pull_requests' else 'links' end,
               case when b.ticket_key is null then p.pull_request
                    else 'PullRequest,' || p.pull_request || ',' || b.ticket_key end
        from pull_requests p left join best b on b.artifact_id = p.pull_request where p.state = 'merged'
        union all
        select case state when 'succeeded' then 'deployed' else 'deploy_failed' end, coalesce(finished_at, created_at),
               repo, null, deployment, repo || ' to ' || environment, creator, 10000 as c, 10000 as l, 10000 as h,
               'deployments', deployment as evidence_key
        from deployments where state in ('succeeded', 'failed') and coalesce(finished_at, created_at) is not null
        union all
        select case when resolved_at is null then 'incident_opened' else 'incident_resolved' end,
               coalesce(resolved_at, opened_at), null as project, ticket_key, incident, title, null as person,
               10000 as c, 10000 as l, 10000 as h, 'incidents', incident as evidence_key
        from incidents where coalesce(resolved_at, opened_at) is not null
        union all
        select 'disagreement', evidence_at, project, ticket_key, ticket_key as subject,
               coalesce(title, ticket_key) || ' (tracker: ' || tracker_status || ', evidence: ' || evidence_progress || ')',
               null, confidence_bps, low_bps, high_bps, 'ticket_status', ticket_key as evidence_key
        from ticket_status where not agrees
        union all
        select 'reported', r.at, r.project, r.ticket_key, r.signal,
               r.verb || ' ' || r.ticket_key || coalesce(' to ' || r.environment, ''), r.person,
               m.confidence_bps, m.low_bps, m.high_bps, 'digest_items', 'reported:' || r.signal
        from counting_reports r cross join manual m where r.verb not in ('confirm', 'reject')
        union all
        select 'pending', at, project, ticket_key, signal,
               action || ' ' || ticket_key || case environment when '' then '' else ' to ' || environment end,
               reporter, 10000 as c, 10000 as l, 10000 as h, 'approvals', signal as evidence_key
        from approvals where state = 'pending'
    )
    select kind || ':' || subject as item, cast(at as date) as day, at, kind,
           case kind when 'merged' then 'engineer' when 'started' then 'designer,engineer,product_manager'
                     when 'done' then 'designer,engineer,finance,product_manager'
                     when 'blocked' then 'engineer,product_manager'
                     when 'pending' then 'admin,engineer,product_manager'
                     when 'deployed' then 'admin,engineer,product_manager' when 'deploy_failed' then 'admin,engineer'
                     when 'incident_opened' then 'admin,engineer,product_manager'
                     when 'incident_resolved' then 'admin,engineer,product_manager'
                     else 'engineer,product_manager' end as audience,
           project, ticket_key, subject, title, person, confidence_bps, low_bps, high_bps, evidence_view, evidence_key
    from news";

words! {
    /// Kind of a piece of news.
    pub enum NewsKind {
        /// A pull request was merged.
        Merged = "merged",
        /// The tracker shows a ticket in progress.
        Started = "started",
        /// The tracker shows a ticket done.
        Done = "done",
        /// The tracker shows a ticket blocked.
        Blocked = "blocked",
        /// A deployment succeeded.
        Deployed = "deployed",
        /// A deployment failed.
        DeployFailed = "deploy_failed",
        /// An incident is open.
        IncidentOpened = "incident_opened",
        /// An incident is resolved.
        IncidentResolved = "incident_resolved",
        /// Tracker and evidence disagree on a ticket.
        Disagreement = "disagreement",
        /// A person reported by hand.
        Reported = "reported",
        /// A person reported something critical, and a second person has to say the same.
        Pending = "pending",
    }
}

/// Who wants to hear of it: roles, sorted, separated by commas.
const fn audience(kind: NewsKind) -> &'static str {
    match kind {
        NewsKind::Merged => "engineer",
        NewsKind::Started => "designer,engineer,product_manager",
        NewsKind::Done => "designer,engineer,finance,product_manager",
        NewsKind::Blocked | NewsKind::Disagreement | NewsKind::Reported => "engineer,product_manager",
        NewsKind::Deployed | NewsKind::IncidentOpened | NewsKind::IncidentResolved | NewsKind::Pending => {
            "admin,engineer,product_manager"
        }
        NewsKind::DeployFailed => "admin,engineer",
    }
}

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Record)]
pub struct DigestItemRow {
    /// `kind:subject`.
    pub item: Text,
    /// UTC day it belongs to.
    pub day: Day,
    /// When it happened, by the tool's clock.
    pub at: Micros,
    /// merged, started, done, blocked, deployed, deploy_failed, incident_opened, incident_resolved, disagreement, reported, pending.
    pub kind: NewsKind,
    /// Roles that want to hear of it, sorted, separated by commas.
    pub audience: Text,
    /// Project or repository, where it belongs to one.
    pub project: Option<Text>,
    /// Ticket, where it belongs to one.
    pub ticket_key: Option<Text>,
    /// Native id of what it is about.
    pub subject: Text,
    /// What to show.
    pub title: Text,
    /// Who did it, by pseudonym.
    pub person: Option<PersonId>,
    /// Probability that it is so.
    #[unit = "basis points"]
    pub confidence_bps: i64,
    /// Low end of the band.
    #[unit = "basis points"]
    pub low_bps: i64,
    /// High end of the band.
    #[unit = "basis points"]
    pub high_bps: i64,
    /// View that explains it.
    pub evidence_view: Text,
    /// Key of the row in that view, as `flowsync why` takes it.
    pub evidence_key: Text,
}

/// What the kinds of news have in common: kind, clock, project, ticket, subject, title, person, band, view and key.
struct News {
    kind: NewsKind,
    at: Micros,
    project: Option<Text>,
    ticket_key: Option<Text>,
    subject: Text,
    title: Text,
    person: Option<PersonId>,
    band: Band,
    evidence: (&'static str, Text),
}

impl News {
    fn row(self) -> DigestItemRow {
        DigestItemRow {
            item: format!("{}:{}", self.kind, self.subject).into(),
            day: self.at.day(),
            at: self.at,
            kind: self.kind,
            audience: audience(self.kind).into(),
            project: self.project,
            ticket_key: self.ticket_key,
            subject: self.subject,
            title: self.title,
            person: self.person,
            confidence_bps: self.band.confidence_bps,
            low_bps: self.band.low_bps,
            high_bps: self.band.high_bps,
            evidence_view: self.evidence.0.into(),
            evidence_key: self.evidence.1,
        }
    }
}

fn of_tickets<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    cx.tickets().flat_map_ref(|_, v| {
        let (at, t) = (v.at, TicketFact::clone(&v.value));
        let (kind, at) = match t.progress {
            Progress::Todo => return None,
            Progress::InProgress => (NewsKind::Started, at),
            Progress::Blocked => (NewsKind::Blocked, at),
            Progress::Done => (NewsKind::Done, t.resolved_at.unwrap_or(at)),
        };
        let news = News {
            kind,
            at,
            project: Some(t.project),
            ticket_key: Some(t.ticket_key.clone()),
            subject: t.ticket_key.clone(),
            title: t.title,
            person: t.assignee,
            band: Band::CERTAIN,
            evidence: ("tickets", t.ticket_key),
        };
        Some(news.row())
    })
}

fn of_pull_requests<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    // The most confident, then the smaller key.
    let best = reduce(cx.links(), "BestLink", |_, links, out| {
        let asserted = links.iter().map(|(l, _)| *l).filter(|l| l.is_asserted());
        let best = asserted.min_by_key(|l| (Reverse(l.confidence_bps), &l.ticket_key));
        out.extend(best.map(|best| (best.clone(), 1)));
    });
    let merged = |v: &Version<Arc<PullRequestFact>>| v.value.state == PullRequestState::Merged;
    let merged = cx.pull_requests().flat_map_ref(move |pull, v| merged(v).then(|| (*pull, v.clone())));
    left_join(merged, best, |_, v, link| {
        let p = PullRequestFact::clone(&v.value);
        let (band, evidence) = match link {
            Some(l) => (l.band(), ("links", format!("PullRequest,{},{}", p.pull_request, l.ticket_key).into())),
            None => (Band::CERTAIN, ("pull_requests", p.pull_request.clone())),
        };
        let (project, ticket_key) = link.map(|l| (l.project.clone(), l.ticket_key.clone())).unzip();
        let news = News {
            kind: NewsKind::Merged,
            at: p.merged_at.unwrap_or(v.at),
            project,
            ticket_key,
            subject: p.pull_request,
            title: p.title,
            person: p.author,
            band,
            evidence,
        };
        [news.row()]
    })
}

fn of_deployments<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    cx.deployments().flat_map_ref(|_, v| {
        let d = DeploymentFact::clone(&v.value);
        let kind = match d.state {
            RunState::Succeeded => NewsKind::Deployed,
            RunState::Failed => NewsKind::DeployFailed,
            RunState::Pending | RunState::Running | RunState::Cancelled => return None,
        };
        let news = News {
            kind,
            at: d.finished_at.or(d.created_at)?,
            title: format!("{} to {}", d.repo, d.environment).into(),
            project: Some(d.repo),
            ticket_key: None,
            subject: d.deployment.clone(),
            person: d.creator,
            band: Band::CERTAIN,
            evidence: ("deployments", d.deployment),
        };
        Some(news.row())
    })
}

fn of_incidents<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    cx.incidents().flat_map_ref(|_, v| {
        let i = IncidentFact::clone(&v.value);
        let resolved = i.resolved_at.is_some();
        let news = News {
            kind: if resolved { NewsKind::IncidentResolved } else { NewsKind::IncidentOpened },
            at: i.resolved_at.or(i.opened_at)?,
            project: None,
            ticket_key: i.ticket_key,
            subject: i.incident.clone(),
            title: i.title,
            person: None,
            band: Band::CERTAIN,
            evidence: ("incidents", i.incident),
        };
        Some(news.row())
    })
}

fn of_disagreements<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    cx.ticket_status().filter(|s| s.agrees == Some(false)).flat_map(|s| {
        let name = s.title.as_ref().unwrap_or(&s.ticket_key);
        let title = format!("{name} (tracker: {}, evidence: {})", s.tracker_status?, s.evidence_progress?).into();
        let band = Band { confidence_bps: s.confidence_bps?, low_bps: s.low_bps?, high_bps: s.high_bps? };
        let news = News {
            kind: NewsKind::Disagreement,
            at: s.evidence_at?,
            project: Some(s.project),
            ticket_key: Some(s.ticket_key.clone()),
            subject: s.ticket_key.clone(),
            title,
            person: None,
            band,
            evidence: ("ticket_status", s.ticket_key),
        };
        Some(news.row())
    })
}

fn of_reports<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    let weight = cx.model.weight(EvidenceKind::ManualReport);
    let band = cx.model.band(weight.weight, weight.spread * weight.spread);
    cx.counting_reports().filter(|v| !matches!(v.value.verb, Verb::Confirm | Verb::Reject)).map(move |v| {
        let (signal, r) = (v.signal.to_string(), Arc::unwrap_or_clone(v.value));
        let place = r.environment.map(|e| format!(" to {e}")).unwrap_or_default();
        News {
            kind: NewsKind::Reported,
            at: v.at,
            project: Some(r.project),
            title: format!("{} {}{place}", r.verb, r.ticket_key).into(),
            ticket_key: Some(r.ticket_key),
            subject: signal.as_str().into(),
            person: Some(r.person),
            band,
            evidence: ("digest_items", format!("reported:{signal}").into()),
        }
        .row()
    })
}

fn of_approvals<'s>(cx: &mut Cx<'s>) -> Coll<'s, DigestItemRow> {
    cx.claims().filter(|(a, _)| a.state == ApprovalState::Pending).map(|(a, _)| {
        let signal: Text = a.signal.to_string().into();
        let place = if a.environment.is_empty() { String::new() } else { format!(" to {}", a.environment) };
        News {
            kind: NewsKind::Pending,
            at: a.at,
            project: Some(a.project),
            title: format!("{} {}{place}", a.action, a.ticket_key).into(),
            ticket_key: Some(a.ticket_key),
            subject: signal.clone(),
            person: Some(a.reporter),
            band: Band::CERTAIN,
            evidence: ("approvals", signal),
        }
        .row()
    })
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = of_tickets(cx)
        .concat(of_pull_requests(cx))
        .concat(of_deployments(cx))
        .concat(of_incidents(cx))
        .concat(of_disagreements(cx))
        .concat(of_reports(cx))
        .concat(of_approvals(cx));
    cx.emit(&VIEW.table, rows);
}
