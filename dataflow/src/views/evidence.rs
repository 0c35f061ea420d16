//! Why would one believe that this artifact belongs to that ticket?
//!
//! Grain: one row an artifact, a ticket and a kind of evidence. Key: `artifact_kind, artifact_id, ticket_key, kind`.
//! Inputs: keys and numbers found in artifacts, links of trackers, reports of people, traces in commit messages.
//!
//! - A key counts only if its project is known (from tickets and from settings), so that `UTF-8` and `CVE-2021-44228` are no
//!   tickets; a number only if there is such a ticket. Both hold as long as the version of the artifact that names them.
//! - What names a ticket by a key that it had before names the ticket.
//! - What a pull request, a merged, picked or reverted commit names, the commits (and the pull request) that go with it
//!   name as well: kinds of their own, passed on one step.
//! - Of a person's reports on one artifact and ticket the latest holds.
//! - Where nothing of that speaks for any ticket, words, people and time do: see [`crate::unstated`].
//! - One row per kind, however often it was said: of several signals the smallest id is shown. Keeps I3.

use std::{rc::Rc, sync::Arc};

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{EdgeKind, EvidenceKind, MentionFact, ReportFact, TraceKind, Verb},
    model::{Model, Weight},
};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, Version, distinct, id, latest, left_join, reduce, semijoin},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "evidence",
        version: 4,
        key: &["artifact_kind", "artifact_id", "ticket_key", "kind"],
        columns: || EvidenceRow::COLUMNS.to_vec(),
        birth: Birth::Dated("at"),
        doc: "Reasons to believe that an artifact belongs to a ticket; one row an artifact, a ticket and a kind of reason.",
    },
    oracle: "select * from stated_evidence union all select * from inferred_evidence",
    why: "select e.signal, e.at, e.kind from evidence e
          where e.artifact_kind = $1 and e.artifact_id = $2 and e.ticket_key = $3 and e.kind = $4
          union all
          select m.signal, m.at, m.kind from fact_mentions m
          where m.artifact_kind = $1 and m.artifact_id = $2 and m.ticket_key = $3 and m.kind = $4
          union all
          select t.signal, t.at, t.kind from fact_traces t
          where $1 = 'Commit' and (t.sha = $2 or t.kind = 'brought' and t.target = $2)
            and $4 in ('via_pull_request', 'cherry_pick', 'revert')
          union all
          select r.signal, r.at, 'tracker_link' from fact_relations r
          where r.src_kind = $1 and r.src_id = $2 and r.dst_id = $3 and r.edge = 'LINKED_TO' and 'tracker_link' = $4
          union all
          select p.signal, p.at, p.verb from fact_reports p
          where p.artifact_kind = $1 and p.artifact_id = $2 and p.ticket_key = $3
            and case p.verb when 'confirm' then 'confirmed' when 'reject' then 'rejected' else 'manual_report' end = $4
          union all
          select t.signal, t.at, 'ticket' from fact_tickets t
          where t.ticket_key = $3
            and $4 in ('text_similarity', 'file_overlap', 'author_is_assignee', 'time_proximity', 'competition')
          union all
          select c.signal, c.at, 'commit' from evidence e join fact_commits c on e.artifact_id = c.sha
          where $4 = 'file_overlap' and e.artifact_kind = 'Commit' and e.ticket_key = $3
          union all
          select c.signal, c.at, 'commit' from edges n
          join evidence e on e.ticket_key = case when n.src_id = $3 then n.dst_id else n.src_id end
          join fact_commits c on e.artifact_id = c.sha
          where $4 = 'file_overlap' and e.artifact_kind = 'Commit' and n.src_kind = 'Ticket' and n.dst_kind = 'Ticket'
            and (n.src_id = $3 or n.dst_id = $3)",
};

/// What the oracle is made of: helpers that others read, too.
pub const HELPERS: &[(&str, &str)] = &[
    (
        // Commits and the pull requests that they are part of.
        "parts",
        "select sha, target as pull_request from traces_in_force where kind = 'pull_request'
         union
         select src_id, dst_id from relations_in_force
         where edge = 'PART_OF' and src_kind = 'Commit' and dst_kind = 'PullRequest'
         union
         select sha, pull_request from brought",
    ),
    (
        // What is stated of links, by tools or people.
        "stated_evidence",
        "with mentioned as (
        -- keys found in artifacts whose version still holds
        select m.artifact_kind, m.artifact_id, m.ticket_key, m.project, m.kind, m.at, m.signal
        from fact_mentions m
        join (
            select 'PullRequest' as artifact_kind, pull_request as artifact_id, signal from pull_requests
            union
            select 'Commit', sha, signal from standing_commits
        ) v on m.artifact_kind = v.artifact_kind and m.artifact_id = v.artifact_id and m.signal = v.signal
    ),
    said as (
        select m.artifact_kind, m.artifact_id, coalesce(n.ticket_key, m.ticket_key) as ticket_key,
               coalesce(n.project, m.project) as project, m.kind, m.at, m.signal
        from mentioned m
        left join ticket_names n on m.ticket_key = n.name
        join known_projects p on coalesce(n.project, m.project) = p.project
        where m.kind not in ('number_key', 'closing_key')
        union
        select m.artifact_kind, m.artifact_id, m.ticket_key, m.project, m.kind, m.at, m.signal
        from mentioned m join tickets t on m.ticket_key = t.ticket_key
        where m.kind in ('number_key', 'closing_key')
        union
        -- links that a tracker states
        select r.src_kind, r.src_id, coalesce(n.ticket_key, r.dst_id),
               coalesce(n.project, regexp_replace(r.dst_id, '[-#][0-9]+$', '')), 'tracker_link', r.at, r.signal
        from relations_in_force r left join ticket_names n on r.dst_id = n.name
        where r.edge = 'LINKED_TO' and r.dst_kind = 'Ticket' and r.src_kind in ('Commit', 'PullRequest')
          and (n.ticket_key is not null or r.dst_id like '%-%' or r.dst_id like '%#%')
    ),
    heirs as (
        select 'PullRequest' as of_kind, pull_request as of_id, 'Commit' as heir_kind, sha as heir_id,
               'via_pull_request' as kind from parts
        union all
        select 'Commit', sha, 'PullRequest', pull_request, 'via_commit' from parts
        union all
        select 'Commit', target, 'Commit', sha, kind from traces_in_force where kind in ('cherry_pick', 'revert')
    ),
    stated as (
        select * from said
        union
        select h.heir_kind, h.heir_id, s.ticket_key, s.project, h.kind, s.at, s.signal
        from said s join heirs h on s.artifact_kind = h.of_kind and s.artifact_id = h.of_id
        where s.kind in ('branch_key', 'commit_key', 'title_key', 'tolerant_key', 'closing_key', 'tracker_link')
        union
        -- what people report
        select artifact_kind, artifact_id, ticket_key, project,
               case verb when 'confirm' then 'confirmed' when 'reject' then 'rejected' else 'manual_report' end, at, signal
        from reports_in_force where artifact_id is not null
        union
        select 'Commit', p.sha, r.ticket_key, r.project, 'rejected', r.at, r.signal
        from reports_in_force r join parts p on r.artifact_id = p.pull_request
        where r.verb = 'reject' and r.artifact_kind = 'PullRequest'
    ),
    one as (
        select *, row_number() over (
            partition by artifact_kind, artifact_id, ticket_key, kind order by signal, at, project) as rank
        from stated
    )
    select artifact_kind, artifact_id, ticket_key, o.kind, project, m.weight as weight_millinats,
           m.spread as spread_millinats, o.at, signal
    from one o join model m on o.kind = m.kind
    where rank = 1",
    ),
];

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

/// A report of a ticket as it is called now, by the ticket as it was written.
pub type Renamed = (EntityId, Report);

/// Every report, of tickets as they are called now.
pub fn renamed_reports<'s>(cx: &mut Cx<'s>) -> Coll<'s, Renamed> {
    let written = cx.facts.reports.clone().map(|v| (id(EntityKind::Ticket, &v.value.ticket_key), v));
    left_join(written, cx.ticket_names(), |written, v, now| {
        let mut v = v.clone();
        if let Some((project, ticket_key)) = now {
            let report = Arc::make_mut(&mut v.value);
            (report.project, report.ticket_key) = (project.clone(), ticket_key.clone());
        }
        [(*written, v)]
    })
}

/// Of these reports the latest of each person on each ticket and artifact.
pub fn in_force<'s>(reports: Coll<'s, Renamed>) -> Coll<'s, Report> {
    let keyed = reports.map(|(written, v)| {
        let r = &v.value;
        ((r.person, written, r.artifact_kind, r.artifact_id.clone()), v)
    });
    latest(keyed, |_| false).as_collection(|_, report| report.clone())
}

/// Reports in force.
pub fn reports<'s>(cx: &mut Cx<'s>) -> Coll<'s, Report> {
    in_force(cx.renamed_reports())
}

/// Artifact, ticket and kind: what evidence is told apart by.
pub type Key = (EntityId, EntityId, EvidenceKind);

/// What is shown of a statement; ordered so that the smallest signal comes first.
pub type Statement = (SignalId, Micros, EntityKind, Text, Text, Text);

fn keyed(kind: EvidenceKind, (signal, at, artifact, artifact_id, project, ticket): Statement) -> (Key, Statement) {
    let key = (id(artifact, &artifact_id), id(EntityKind::Ticket, &ticket), kind);
    (key, (signal, at, artifact, artifact_id, project, ticket))
}

/// Keys found in artifacts whose version still holds, in known projects; numbers, of tickets that there are.
fn mentions<'s>(cx: &mut Cx<'s>) -> Coll<'s, (Key, Statement)> {
    let mentions = cx.facts.mentions.clone();
    let said = mentions.map(|v| (id(v.value.artifact_kind, &v.value.artifact_id), (v.signal, v.at, v.value))).by_key();
    let of_pull_requests =
        said.clone().join_core(cx.pull_requests(), |_, said, v| (said.0 == v.signal).then(|| said.clone()));
    let of_commits = said
        .join_core(cx.commits(), |_, said, (_, signals)| signals.binary_search(&said.0).is_ok().then(|| said.clone()));
    let held = of_pull_requests
        .concat(of_commits)
        .map(|(signal, at, m)| (id(EntityKind::Ticket, &m.ticket_key), (signal, at, m)));
    let projects = cx.known_projects();
    let tickets = cx.tickets().as_collection(|ticket, _| *ticket);
    let by_number = |m: &MentionFact| matches!(m.kind, EvidenceKind::NumberKey | EvidenceKind::ClosingKey);
    let numbers = held.clone().filter(move |(_, (_, _, m))| by_number(m));
    let numbers = semijoin(numbers, tickets).map(|(_, said)| said);
    let keys = held.filter(move |(_, (_, _, m))| !by_number(m));
    let keys = left_join(keys, cx.ticket_names(), |_, (signal, at, m), now| {
        let mut m = m.clone();
        if let Some((project, ticket_key)) = now {
            let m = Arc::make_mut(&mut m);
            (m.project, m.ticket_key) = (project.clone(), ticket_key.clone());
        }
        [(EntityId::of_project(&m.project), (*signal, *at, m))]
    });
    let keys = semijoin(keys, projects).map(|(_, said)| said);
    keys.concat(numbers).map(|(signal, at, m)| {
        let m = Arc::unwrap_or_clone(m);
        keyed(m.kind, (signal, at, m.artifact_kind, m.artifact_id, m.project, m.ticket_key))
    })
}

/// Projects that have a ticket, or that a setting names.
pub fn known_projects<'s>(cx: &mut Cx<'s>) -> Coll<'s, EntityId> {
    let tracked = cx.tickets().as_collection(|_, v| EntityId::of_project(&v.value.project));
    let set = cx.settings().flat_map(|((name, key), _)| (&*name == "project").then(|| EntityId::of_project(&key)));
    distinct(tracked.concat(set))
}

/// Links between artifacts and tickets that a tracker states.
fn tracker_links<'s>(cx: &mut Cx<'s>) -> Coll<'s, (Key, Statement)> {
    let links = cx.relations().flat_map(|v| {
        let r = &v.value;
        let of_work = matches!(r.src_kind, EntityKind::Commit | EntityKind::PullRequest);
        let link = r.edge == EdgeKind::LinkedTo && r.dst_kind == EntityKind::Ticket && of_work;
        link.then(|| (id(EntityKind::Ticket, &r.dst_id), v.clone()))
    });
    left_join(links, cx.ticket_names(), |_, v, now| {
        let r = &v.value;
        // A tracker's own number that no ticket is known for is no key yet.
        let stated = || r.dst_id.contains(['-', '#']).then(|| (project_of(&r.dst_id), r.dst_id.clone()));
        let (project, ticket) = now.cloned().or_else(stated)?;
        Some(keyed(EvidenceKind::TrackerLink, (v.signal, v.at, r.src_kind, r.src_id.clone(), project, ticket)))
    })
}

/// An artifact that has what is said of another one said of it too, and on what ground.
type Heir = (EntityKind, Text, EvidenceKind);

/// A commit by its id and sha, and the pull request that it is part of.
pub type Part = (EntityId, Text, Text);

/// Commits that are part of a pull request, as their message, the host or the merge that brought them along says.
pub fn parts<'s>(cx: &mut Cx<'s>) -> Coll<'s, Part> {
    use EntityKind::{Commit, PullRequest};
    let merged = cx.traces().flat_map(|(commit, t)| {
        (t.fact.kind == TraceKind::PullRequest).then(|| (commit, t.fact.sha.clone(), t.fact.target.clone()))
    });
    let stated = cx.relations().flat_map(|v| {
        let r = &v.value;
        let part = r.edge == EdgeKind::PartOf && (r.src_kind, r.dst_kind) == (Commit, PullRequest);
        part.then(|| (id(Commit, &r.src_id), r.src_id.clone(), r.dst_id.clone()))
    });
    let brought = cx.brought().map(|(sha, pull, _)| (id(Commit, &sha), sha, pull));
    distinct(merged.concat(stated).concat(brought))
}

/// Who inherits from an artifact: a commit from its pull request and the other way round, a commit from the one that it was
/// picked from, and from the one that it takes back.
fn heirs<'s>(cx: &mut Cx<'s>) -> Coll<'s, (EntityId, Heir)> {
    use EntityKind::{Commit, PullRequest};
    let parts = cx.parts().flat_map(|(commit, sha, pull)| {
        let of_pull = (id(PullRequest, &pull), (Commit, sha, EvidenceKind::ViaPullRequest));
        [of_pull, (commit, (PullRequest, pull, EvidenceKind::ViaCommit))]
    });
    let others = cx.traces().flat_map(|(_, t)| {
        let kind = match t.fact.kind {
            TraceKind::CherryPick => EvidenceKind::CherryPick,
            TraceKind::Revert => EvidenceKind::Revert,
            _ => return None,
        };
        Some((id(Commit, &t.fact.target), (Commit, t.fact.sha.clone(), kind)))
    });
    parts.concat(others)
}

/// Whether what is said is passed on: it names the ticket as what the change is for, not in passing. What somebody rejects of
/// a pull request is rejected of its commits, too; not the other way round, since others may belong to the ticket.
fn is_inherited(kind: EvidenceKind) -> bool {
    use EvidenceKind::*;
    matches!(kind, BranchKey | CommitKey | TitleKey | TolerantKey | ClosingKey | TrackerLink | Rejected)
}

/// `SHOP` of `SHOP-12`, `owner/repo` of `owner/repo#12`; the whole text where it is no key.
pub fn project_of(ticket_key: &str) -> Text {
    match ticket_key.rsplit_once(['-', '#']) {
        Some((project, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => project.into(),
        _ => ticket_key.into(),
    }
}

/// What is stated of links, by tools or people: of several signals that state the same, one.
pub fn stated<'s>(cx: &mut Cx<'s>) -> Arranged<'s, Key, Statement> {
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
    let said = mentions(cx).concat(tracker_links(cx)).concat(reported);
    // One step only: what is inherited is not passed on.
    let inherited = said
        .clone()
        .flat_map(|((artifact, _, kind), statement)| is_inherited(kind).then_some((artifact, (kind, statement))))
        .by_key()
        .join_core(heirs(cx).by_key(), |_, (said, (signal, at, _, _, project, ticket)), (artifact, native, way)| {
            let kind = match (*said, *way) {
                (EvidenceKind::Rejected, EvidenceKind::ViaPullRequest) => EvidenceKind::Rejected,
                (EvidenceKind::Rejected, _) => return None,
                (_, way) => way,
            };
            Some(keyed(kind, (*signal, *at, *artifact, native.clone(), project.clone(), ticket.clone())))
        });
    reduce(said.concat(inherited), "Evidence", |_, statements, out| {
        if let Some((first, _)) = statements.first() {
            out.push(((*first).clone(), 1));
        }
    })
}

/// An artifact and a ticket.
pub type Pair = (EntityId, EntityId);

/// The row of what is stated.
pub fn row(model: &Model, kind: EvidenceKind, statement: &Statement) -> EvidenceRow {
    let Weight { weight, spread } = model.weight(kind);
    let (signal, at, artifact_kind, artifact_id, project, ticket_key) = statement.clone();
    EvidenceRow {
        artifact_kind,
        artifact_id,
        ticket_key,
        kind,
        project,
        weight_millinats: weight,
        spread_millinats: spread,
        at,
        signal,
    }
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let model = Rc::clone(&cx.model);
    let stated = cx.stated_evidence().as_collection(move |(_, _, kind), statement| row(&model, *kind, statement));
    let inferred = cx.inferred_evidence().flat_map(|(_, rows)| rows.to_vec());
    cx.emit(&VIEW.table, stated.concat(inferred));
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
