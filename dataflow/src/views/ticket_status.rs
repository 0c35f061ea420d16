//! Where does a ticket stand: by its tracker, and by the evidence?
//!
//! Grain: one row a ticket that a tracker or some evidence knows. Key: `ticket_key`. Inputs: tickets, links that are
//! asserted (at least 50 %), pull requests, commits, reports that wait for no second person (`approvals`), transitions of smart
//! commits. The tracker's status stands beside the one that the evidence supports, so that they can disagree. The evidence
//! says what its latest word says; a pull request's state and a person's report are words, a bare commit (`in_progress`)
//! counts only where there is neither.

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, TableSpec, Text, ViewSpec,
    fact::{EvidenceKind, Progress, PullRequestState, TicketFact, TraceKind, Verb},
    model::Band,
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Coll, id, left_join, reduce, semijoin},
    views::{evidence::project_of, links::LinkRow},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "ticket_status",
        version: 2,
        key: &["ticket_key"],
        columns: || TicketStatusRow::COLUMNS.to_vec(),
        birth: Birth::Timeless,
        doc: "The tracker's status of a ticket beside the one that the evidence supports; one row a ticket.",
    },
    oracle: ORACLE,
    why: "select signal, at, 'tracker' as source from fact_tickets where ticket_key = $1
          union all select signal, at, 'report' from fact_reports where ticket_key = $1
          union all select signal, at, kind from fact_traces where target = $1
          union all select signal, at, kind from evidence where ticket_key = $1
          union all select p.signal, p.updated_at, 'pull_request' from pull_requests p
          join links l on l.artifact_kind = 'PullRequest' and l.artifact_id = p.pull_request where l.ticket_key = $1",
};

const ORACLE: &str = "
    with words as (
        select l.ticket_key, l.project, 1 as class, p.at as at,
               case p.progress when 'done' then 3 else 1 end as step, p.progress,
               l.confidence_bps, l.low_bps, l.high_bps, 'PullRequest' as evidence_kind, p.pull_request as evidence_id
        from links l join (
            select pull_request, 'done' as progress, coalesce(merged_at, updated_at) as at
            from pull_requests where state = 'merged'
            union all
            select pull_request, 'in_progress', coalesce(created_at, updated_at) from pull_requests where state = 'open'
        ) p on l.artifact_kind = 'PullRequest' and l.artifact_id = p.pull_request
        where l.confidence_bps >= 5000
        union all
        select l.ticket_key, l.project, 0, coalesce(c.committed_at, l.stated_at), 1, 'in_progress',
               l.confidence_bps, l.low_bps, l.high_bps, 'Commit', c.sha
        from links l join commits c on l.artifact_kind = 'Commit' and l.artifact_id = c.sha
        where l.confidence_bps >= 5000
        union all
        select r.ticket_key, r.project, 1, r.at, s.step, s.progress, b.confidence_bps, b.low_bps, b.high_bps,
               r.evidence_kind, r.evidence_id
        from (
            select ticket_key, project, at, verb, 'report' as evidence_kind, signal as evidence_id from counting_reports
            union all
            select ticket_key, project, committed_at, kind, 'Commit', sha from smart_commits
            where kind in ('start', 'done') and committed_at is not null
        ) r
        join (values ('start', 1, 'in_progress'), ('block', 2, 'blocked'), ('done', 3, 'done'), ('deploy', 3, 'done'))
            as s(verb, step, progress) on r.verb = s.verb
        cross join (
            select cast(round(10000.0 / (1.0 + exp(cast(-x as double) / 1000.0))) as bigint) as confidence_bps,
                   cast(round(10000.0 / (1.0 + exp(cast(-(x - spread) as double) / 1000.0))) as bigint) as low_bps,
                   cast(round(10000.0 / (1.0 + exp(cast(-(x + spread) as double) / 1000.0))) as bigint) as high_bps
            from (select weight + prior as x, spread from model where kind = 'manual_report')
        ) b
    ),
    best as (
        select * from (
            select *, row_number() over (
                partition by ticket_key
                order by class desc, at desc, step desc, confidence_bps desc, low_bps desc, high_bps desc,
                         evidence_kind desc, evidence_id desc) as rank
            from words
        ) where rank = 1
    )
    select coalesce(t.ticket_key, b.ticket_key) as ticket_key, coalesce(t.project, b.project) as project, t.title,
           t.status as tracker_status, t.progress as tracker_progress, b.progress as evidence_progress,
           case when t.ticket_key is null or b.ticket_key is null then null
                else (case t.progress when 'blocked' then 'in_progress' else t.progress end)
                   = (case b.progress when 'blocked' then 'in_progress' else b.progress end) end as agrees,
           b.at as evidence_at, b.confidence_bps, b.low_bps, b.high_bps, b.evidence_kind, b.evidence_id
    from tickets t full outer join best b on t.ticket_key = b.ticket_key";

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Record)]
pub struct TicketStatusRow {
    /// The ticket.
    pub ticket_key: Text,
    /// Its project.
    pub project: Text,
    /// Its title, where the tracker tells it.
    pub title: Option<Text>,
    /// Status as the tracker names it.
    pub tracker_status: Option<Text>,
    /// The tracker's status in FlowSync's steps.
    pub tracker_progress: Option<Progress>,
    /// The step that the evidence supports.
    pub evidence_progress: Option<Progress>,
    /// Whether the two agree (blocked work counts as in progress); missing where only one is known.
    pub agrees: Option<bool>,
    /// Clock of the latest word of the evidence.
    pub evidence_at: Option<Micros>,
    /// Probability that this word is about this ticket.
    #[unit = "basis points"]
    pub confidence_bps: Option<i64>,
    /// Low end of the band.
    #[unit = "basis points"]
    pub low_bps: Option<i64>,
    /// High end of the band.
    #[unit = "basis points"]
    pub high_bps: Option<i64>,
    /// What the word is: PullRequest, Commit, report.
    pub evidence_kind: Option<Text>,
    /// Native id of the artifact, or the signal of the report.
    pub evidence_id: Option<Text>,
}

/// What the tracker says: key, project, title, status, progress.
type Tracker = (Text, Text, Text, Text, Progress);

/// One word of the evidence. The order of the fields is the order in which words outdo one another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Word {
    class: u8,
    at: Micros,
    progress: Progress,
    band: Band3,
    kind: Text,
    native: Text,
    project: Text,
    ticket_key: Text,
}

/// A band as data that the dataflow can carry: confidence, low, high.
type Band3 = (i64, i64, i64);

/// The two sides of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Side {
    Evidence(Word),
    Tracker(Tracker),
}

fn band3(band: Band) -> Band3 {
    (band.confidence_bps, band.low_bps, band.high_bps)
}

fn about(link: &LinkRow, class: u8, at: Micros, progress: Progress) -> (EntityId, Word) {
    let ticket = id(EntityKind::Ticket, &link.ticket_key);
    let band = band3(link.band());
    let kind = link.artifact_kind.word().into();
    let (native, project, ticket_key) = (link.artifact_id.clone(), link.project.clone(), link.ticket_key.clone());
    (ticket, Word { class, at, progress, band, kind, native, project, ticket_key })
}

fn words<'s>(cx: &mut Cx<'s>) -> Coll<'s, (EntityId, Word)> {
    let pulls = cx.pull_requests().join_core(cx.links(), |_, v, link| {
        let p = &v.value;
        let (at, progress) = match p.state {
            PullRequestState::Merged => (p.merged_at.unwrap_or(v.at), Progress::Done),
            PullRequestState::Open => (p.created_at.unwrap_or(v.at), Progress::InProgress),
            PullRequestState::Closed => return None,
        };
        link.is_asserted().then(|| about(link, 1, at, progress))
    });
    let commits = cx.commits().join_core(cx.links(), |_, (v, _), link| {
        let at = v.value.committed_at.unwrap_or(link.stated_at);
        link.is_asserted().then(|| about(link, 0, at, Progress::InProgress))
    });
    let weight = cx.model.weight(EvidenceKind::ManualReport);
    let band = band3(cx.model.band(weight.weight, weight.spread * weight.spread));
    let reports = cx.counting_reports().flat_map(move |v| {
        let progress = match v.value.verb {
            Verb::Start => Progress::InProgress,
            Verb::Block => Progress::Blocked,
            Verb::Done | Verb::Deploy => Progress::Done,
            Verb::Confirm | Verb::Reject => return None,
        };
        let ticket = id(EntityKind::Ticket, &v.value.ticket_key);
        let (project, ticket_key) = (v.value.project.clone(), v.value.ticket_key.clone());
        let native = v.signal.to_string().into();
        Some((ticket, Word { class: 1, at: v.at, progress, band, kind: "report".into(), native, project, ticket_key }))
    });
    let transitions = cx.smart_commits().flat_map(move |(ticket, s)| {
        let progress = match s.kind {
            TraceKind::Start => Progress::InProgress,
            TraceKind::Done => Progress::Done,
            _ => return None,
        };
        let SmartCommit { project, ticket_key, sha, committed_at, .. } = s;
        let (at, kind) = (committed_at?, EntityKind::Commit.word().into());
        Some((ticket, Word { class: 1, at, progress, band, kind, native: sha, project, ticket_key }))
    });
    pulls.concat(commits).concat(reports).concat(transitions)
}

/// What a smart commit asks for, by the id of the ticket.
pub type Smart = (EntityId, SmartCommit);

/// One command of a smart commit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SmartCommit {
    /// What is asked for: time, a comment, a transition.
    pub kind: TraceKind,
    /// Project of the ticket.
    pub project: Text,
    /// The ticket.
    pub ticket_key: Text,
    /// The commit.
    pub sha: Text,
    /// Its author.
    pub author: Option<PersonId>,
    /// Author's clock.
    pub authored_at: Option<Micros>,
    /// Committer's clock.
    pub committed_at: Option<Micros>,
    /// Time worked, in seconds.
    pub spent_secs: Option<i64>,
}

/// The commands of smart commits for tickets of known projects.
pub fn smart_commits<'s>(cx: &mut Cx<'s>) -> Coll<'s, Smart> {
    let asked = cx.traces().flat_map(|(_, t)| {
        let asks = matches!(t.fact.kind, TraceKind::Worklog | TraceKind::Comment | TraceKind::Start | TraceKind::Done);
        asks.then(|| (id(EntityKind::Ticket, &t.fact.target), t))
    });
    let renamed = left_join(asked, cx.ticket_names(), |_, t, now| {
        let key = &t.fact.target;
        let (project, ticket_key) = now.cloned().unwrap_or_else(|| (project_of(key), key.clone()));
        let (kind, sha, spent_secs) = (t.fact.kind, t.fact.sha.clone(), t.fact.spent_secs);
        let (author, authored_at, committed_at) = (t.author, t.authored_at, t.committed_at);
        let known = EntityId::of_project(&project);
        [(known, SmartCommit { kind, project, ticket_key, sha, author, authored_at, committed_at, spent_secs })]
    });
    semijoin(renamed, cx.known_projects()).map(|(_, s)| (id(EntityKind::Ticket, &s.ticket_key), s))
}

/// Blocked work is work in progress, where two words are compared.
fn step(progress: Progress) -> Progress {
    if progress == Progress::Blocked { Progress::InProgress } else { progress }
}

fn row(tracker: Option<&Tracker>, word: Option<&Word>) -> Option<TicketStatusRow> {
    let (ticket_key, project) = match (tracker, word) {
        (Some((key, project, ..)), _) => (key.clone(), project.clone()),
        (None, Some(w)) => (w.ticket_key.clone(), w.project.clone()),
        (None, None) => return None,
    };
    Some(TicketStatusRow {
        ticket_key,
        project,
        title: tracker.map(|t| t.2.clone()),
        tracker_status: tracker.map(|t| t.3.clone()),
        tracker_progress: tracker.map(|t| t.4),
        evidence_progress: word.map(|w| w.progress),
        agrees: tracker.zip(word).map(|(t, w)| step(t.4) == step(w.progress)),
        evidence_at: word.map(|w| w.at),
        confidence_bps: word.map(|w| w.band.0),
        low_bps: word.map(|w| w.band.1),
        high_bps: word.map(|w| w.band.2),
        evidence_kind: word.map(|w| w.kind.clone()),
        evidence_id: word.map(|w| w.native.clone()),
    })
}

/// The status of every ticket.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, TicketStatusRow> {
    let evidence = words(cx).map(|(ticket, word)| (ticket, Side::Evidence(word)));
    let tracker = cx.tickets().as_collection(|ticket, v| {
        let t = TicketFact::clone(&v.value);
        (*ticket, Side::Tracker((t.ticket_key, t.project, t.title, t.status, t.progress)))
    });
    let status = reduce(evidence.concat(tracker), "TicketStatus", |_, sides, out| {
        let mut tracker = None;
        let mut word = None;
        for (side, _) in sides {
            match side {
                Side::Tracker(t) => tracker = Some(t),
                // Sides come sorted: the last word outdoes those before it.
                Side::Evidence(w) => word = Some(w),
            }
        }
        out.extend(row(tracker, word).map(|r| (r, 1)));
    });
    status.as_collection(|_, row| row.clone())
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.ticket_status();
    cx.emit(&VIEW.table, rows);
}
