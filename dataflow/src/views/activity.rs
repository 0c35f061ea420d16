//! What did a person do on a day, and for which ticket?
//!
//! Grain: one row a person, a UTC day, a ticket and a kind of action. Key: `person, day, ticket_key, kind`. Inputs: commits,
//! pull requests, reviews, dated actions, reports, co-authors and smart commits, and the links that are asserted (at least 50 %).
//!
//! An action weighs points by its kind. An action on a ticket counts for that ticket. An action on an artifact is divided
//! over the artifact's tickets by the confidence of the links; what no link claims stays with the ticket `''`. So the points
//! of an action are never counted twice, and never lost. Sums are carried in the diff.
//!
//! `person` is the account that acted, not the person behind it (`identities`): a merge of two accounts must not rewrite
//! every row that names one. `effort` goes by person.

use flowsync_schemas::{
    Birth, Day, EntityId, EntityKind, PersonId, Record, TableSpec, Text, ViewSpec,
    fact::{ActivityFact, ActivityKind, TraceKind, Verb},
};
use serde::{Deserialize, Serialize};

use crate::{
    cx::Cx,
    ops::{Arranged, ByKey, Coll, id, latest, left_join, reduce, sums},
    views::evidence::Report,
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "activity",
        version: 2,
        key: &["person", "day", "ticket_key", "kind"],
        columns: || ActivityRow::COLUMNS.to_vec(),
        birth: Birth::Dated("day"),
        doc: "What people did, in points, by ticket; one row a person, a day, a ticket and a kind of action.",
    },
    oracle: ORACLE,
    why: "select c.signal, c.authored_at as at, 'commit' as what from commits c
          left join links l on l.artifact_kind = 'Commit' and l.artifact_id = c.sha and l.confidence_bps >= 5000
          where c.author = $1 and cast(c.authored_at as date) = $2 and (coalesce(l.ticket_key, '') = $3 or $3 = '') and $4 = 'commit'
          union all
          select p.signal, p.created_at, 'pull_request' from pull_requests p
          left join links l on l.artifact_kind = 'PullRequest' and l.artifact_id = p.pull_request and l.confidence_bps >= 5000
          where p.author = $1 and cast(p.created_at as date) = $2 and (coalesce(l.ticket_key, '') = $3 or $3 = '') and $4 = 'pull_request'
          union all
          select r.signal, r.submitted_at, 'review' from reviews r
          left join links l on l.artifact_kind = 'PullRequest' and l.artifact_id = r.pull_request and l.confidence_bps >= 5000
          where r.reviewer = $1 and cast(r.submitted_at as date) = $2 and (coalesce(l.ticket_key, '') = $3 or $3 = '') and $4 = 'review'
          union all
          select a.signal, a.acted_at, a.kind from fact_activities a
          where a.person = $1 and cast(a.acted_at as date) = $2 and a.kind = $4
          union all
          select t.signal, t.at, t.kind from fact_traces t join commits c on t.sha = c.sha
          where (t.person = $1 or c.author = $1) and cast(c.authored_at as date) = $2 and t.kind in ('co_author', $4)
          union all
          select p.signal, p.at, p.verb from fact_reports p
          where p.person = $1 and cast(p.at as date) = $2 and p.ticket_key = $3 and $4 = 'report'",
};

/// Points of an action, in thousandths, where nothing better is known. A worklog weighs its time: an hour is 100 points.
const fn points(kind: ActivityKind) -> i64 {
    match kind {
        ActivityKind::Commit | ActivityKind::PullRequest => 100_000,
        ActivityKind::Review => 60_000,
        ActivityKind::Report => 40_000,
        ActivityKind::Comment | ActivityKind::Worklog => 20_000,
        ActivityKind::Transition => 10_000,
    }
}

const ORACLE: &str = "
    with acted as (
        select * from (
            select *, row_number() over (partition by kind, activity order by at desc, signal desc, seq desc) as age
            from fact_activities
        ) where age = 1 and not deleted and person is not null
    ),
    actions as (
        select author as person, cast(authored_at as date) as day, 'commit' as kind, 'Commit' as subject_kind,
               sha as subject_id, sha as action, 100000 as points
        from commits where author is not null and authored_at is not null
        union all
        select person, cast(authored_at as date), 'commit', 'Commit', sha as subject_id, sha as action, 100000
        from traces_in_force
        where kind = 'co_author' and authored_at is not null and person is distinct from author
        union all
        select author, cast(authored_at as date), kind, 'Ticket', ticket_key, sha,
               case kind when 'worklog' then greatest(spent_secs, 0) * 100000 / 3600 else 20000 end
        from smart_commits where kind in ('worklog', 'comment') and author is not null and authored_at is not null
        union all
        select author, cast(created_at as date), 'pull_request', 'PullRequest', pull_request, pull_request as action, 100000
        from pull_requests where author is not null and created_at is not null
        union all
        select reviewer, cast(submitted_at as date), 'review', 'PullRequest', pull_request, review, 60000
        from reviews where reviewer is not null and submitted_at is not null
        union all
        select person, cast(acted_at as date), kind, subject_kind,
               case subject_kind when 'Ticket' then coalesce(n.ticket_key, subject_id) else subject_id end, activity,
               case kind when 'worklog' then case when spent_secs is null then 20000
                                                 else greatest(spent_secs, 0) * 100000 / 3600 end
                         when 'comment' then 20000 when 'review' then 60000 when 'transition' then 10000
                         when 'report' then 40000 else 100000 end
        from acted left join ticket_names n on subject_id = n.name
        union all
        select person, cast(at as date), 'report', 'Ticket', ticket_key, signal as action, 40000 from reports_in_force
        where verb not in ('confirm', 'reject')
    ),
    on_tickets as (
        select person, day, kind, subject_id as ticket_key, points, points as low_points, points as high_points
        from actions where subject_kind = 'Ticket'
    ),
    linked as (
        select a.*, l.ticket_key, l.confidence_bps, l.low_bps, l.high_bps,
               greatest(10000, sum(l.confidence_bps) over (partition by a.kind, a.action, a.person, a.day)) as total
        from actions a
        join links l on a.subject_kind = l.artifact_kind and a.subject_id = l.artifact_id and l.confidence_bps >= 5000
        where a.subject_kind <> 'Ticket'
    ),
    shares as (
        select person, day, kind, action, ticket_key, points * confidence_bps / total as points,
               points * low_bps / total as low_points, least(points, points * high_bps / total) as high_points
        from linked
    ),
    claimed as (
        select person, day, kind, action, sum(points) as points, sum(low_points) as low_points,
               sum(high_points) as high_points
        from shares group by person, day, kind, action
    ),
    rest as (
        select a.person, a.day, a.kind, '' as ticket_key, a.points - coalesce(c.points, 0) as points,
               greatest(0, a.points - coalesce(c.high_points, 0)) as low_points,
               greatest(0, a.points - coalesce(c.low_points, 0)) as high_points
        from actions a
        left join claimed c on a.person = c.person and a.day = c.day and a.kind = c.kind and a.action = c.action
        where a.subject_kind <> 'Ticket'
    ),
    divided as (
        select person, day, kind, ticket_key, points, low_points, high_points from on_tickets
        union all select person, day, kind, ticket_key, points, low_points, high_points from shares
        union all select person, day, kind, ticket_key, points, low_points, high_points from rest where high_points > 0
    )
    select person, day, ticket_key, kind, count(*) as action_count, cast(sum(points) as bigint) as millipoints,
           cast(sum(low_points) as bigint) as low_millipoints, cast(sum(high_points) as bigint) as high_millipoints
    from divided group by person, day, ticket_key, kind";

/// One person, day, ticket and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Record)]
pub struct ActivityRow {
    /// Who acted, by pseudonym.
    pub person: PersonId,
    /// On which UTC day.
    pub day: Day,
    /// For which ticket; empty where none is known.
    pub ticket_key: Text,
    /// Kind of action.
    pub kind: ActivityKind,
    /// Actions, in whole or in part.
    #[unit = "actions"]
    pub action_count: i64,
    /// Their points.
    #[unit = "thousandths of a point"]
    pub millipoints: i64,
    /// Points if every link were as weak as its band allows.
    #[unit = "thousandths of a point"]
    pub low_millipoints: i64,
    /// Points if every link were as strong as its band allows.
    #[unit = "thousandths of a point"]
    pub high_millipoints: i64,
}

/// One action on an artifact. `native` tells apart two actions of a person on the same artifact and day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Action {
    person: PersonId,
    day: Day,
    kind: ActivityKind,
    millipoints: i64,
    native: Text,
}

/// What meets at an artifact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum At {
    Action(Action),
    Link(Text, i64, i64, i64),
}

/// Who, when, for which ticket, how.
type Key = (PersonId, Day, Text, ActivityKind);

/// Points of one action for one ticket: expected, low, high.
type Points = (Key, [i64; 5]);

/// Divides an action over the tickets of its artifact.
fn divide(action: &Action, links: &[(&Text, i64, i64, i64)], out: &mut Vec<(Points, isize)>) {
    let total = links.iter().map(|l| l.1).sum::<i64>().max(10_000);
    let all = action.millipoints;
    let mut claimed = (0, 0, 0);
    let mut push = |ticket: Text, points: i64, low: i64, high: i64| {
        out.push((((action.person, action.day, ticket, action.kind), [1, points, low, high, 0]), 1));
    };
    for (ticket, confidence, low, high) in links {
        let share = (all * confidence / total, all * low / total, all.min(all * high / total));
        claimed = (claimed.0 + share.0, claimed.1 + share.1, claimed.2 + share.2);
        push((*ticket).clone(), share.0, share.1, share.2);
    }
    let rest = (all - claimed.0, (all - claimed.2).max(0), (all - claimed.1).max(0));
    if rest.2 > 0 {
        push("".into(), rest.0, rest.1, rest.2);
    }
}

/// Dated actions: on an artifact (by its id) or on a ticket (`None`, with its key).
fn actions<'s>(cx: &mut Cx<'s>) -> Coll<'s, (EntityId, Action)> {
    let act = |person: Option<PersonId>, day: Option<Day>, kind, native: Text| {
        Some(Action { person: person?, day: day?, kind, millipoints: points(kind), native })
    };
    let commits = cx.commits().flat_map_ref(move |artifact, (v, _)| {
        let c = &v.value;
        act(c.author, c.authored_at.map(|t| t.day()), ActivityKind::Commit, c.sha.clone()).map(|a| (*artifact, a))
    });
    let pulls = cx.pull_requests().flat_map_ref(move |artifact, v| {
        let p = &v.value;
        let day = p.created_at.map(|t| t.day());
        act(p.author, day, ActivityKind::PullRequest, p.pull_request.clone()).map(|a| (*artifact, a))
    });
    let reviews = cx.reviews().flat_map_ref(move |_, v| {
        let r = &v.value;
        let artifact = id(EntityKind::PullRequest, &r.pull_request);
        let day = r.submitted_at.map(|t| t.day());
        act(r.reviewer, day, ActivityKind::Review, r.review.clone()).map(|a| (artifact, a))
    });
    let co_authors = cx.traces().flat_map(move |(artifact, t)| {
        let author = t.fact.person.filter(|p| t.fact.kind == TraceKind::CoAuthor && Some(*p) != t.author);
        act(author, t.authored_at.map(|t| t.day()), ActivityKind::Commit, t.fact.sha.clone()).map(|a| (artifact, a))
    });
    commits.concat(pulls).concat(reviews).concat(co_authors)
}

/// Time and comments that smart commits log on tickets.
fn logged<'s>(cx: &mut Cx<'s>) -> Coll<'s, Points> {
    cx.smart_commits().flat_map(|(_, s)| {
        let (kind, millipoints) = match s.kind {
            TraceKind::Worklog => (ActivityKind::Worklog, s.spent_secs.unwrap_or_default().max(0) * 100_000 / 3_600),
            TraceKind::Comment => (ActivityKind::Comment, points(ActivityKind::Comment)),
            _ => return None,
        };
        Some(whole(s.author?, s.authored_at?.day(), s.ticket_key, kind, millipoints))
    })
}

/// The points of an action on one ticket alone.
fn whole(person: PersonId, day: Day, ticket: Text, kind: ActivityKind, millipoints: i64) -> Points {
    ((person, day, ticket, kind), [1, millipoints, millipoints, millipoints, 0])
}

/// The activity.
pub fn define<'s>(cx: &mut Cx<'s>) -> Coll<'s, ActivityRow> {
    let acted = cx
        .facts
        .activities
        .clone()
        .map(|v| (EntityId::of_parts("activity", &[v.value.kind.word(), &v.value.activity]), v));
    let acted = latest(acted, |a| a.deleted).flat_map_ref(|_, v| {
        let a = ActivityFact::clone(&v.value);
        let person = a.person?;
        let millipoints = match (a.kind, a.spent_secs) {
            (ActivityKind::Worklog, Some(secs)) => secs.max(0) * 100_000 / 3_600,
            (kind, _) => points(kind),
        };
        let action = Action { person, day: a.acted_at.day(), kind: a.kind, millipoints, native: a.activity };
        Some((a.subject_kind, a.subject_id, action))
    });
    let on_artifacts = acted
        .clone()
        .filter(|(kind, ..)| *kind != EntityKind::Ticket)
        .map(|(kind, native, action)| (id(kind, &native), action))
        .concat(actions(cx));
    let links = cx.links().flat_map_ref(|artifact, l| {
        let at = || (*artifact, At::Link(l.ticket_key.clone(), l.confidence_bps, l.low_bps, l.high_bps));
        l.is_asserted().then(at)
    });
    let met = on_artifacts.map(|(artifact, action)| (artifact, At::Action(action))).concat(links);
    let divided = reduce(met, "Activity", |_, at, out| {
        let links: Vec<_> = at
            .iter()
            .filter_map(|(v, _)| if let At::Link(ticket, c, l, h) = v { Some((ticket, *c, *l, *h)) } else { None })
            .collect();
        for (value, _) in at {
            if let At::Action(action) = value {
                divide(action, &links, out);
            }
        }
    });
    let divided = divided.as_collection(|_, points| points.clone());
    let on_tickets = acted
        .filter(|(kind, ..)| *kind == EntityKind::Ticket)
        .map(|(_, ticket, a)| (id(EntityKind::Ticket, &ticket), (ticket, a)));
    let on_tickets = left_join(on_tickets, cx.ticket_names(), |_, (ticket, a), now| {
        let ticket = now.map_or(ticket, |(_, key)| key);
        [whole(a.person, a.day, ticket.clone(), a.kind, a.millipoints)]
    });
    let logged = logged(cx);
    let reports = cx.reports().filter(is_work).map(move |v| {
        let kind = ActivityKind::Report;
        whole(v.value.person, v.at.day(), v.value.ticket_key.clone(), kind, points(kind))
    });
    let all = divided.concat(on_tickets).concat(reports).concat(logged);
    sums(all, |(person, day, ticket_key, kind), [n, points, low, high, _]| {
        [ActivityRow {
            person,
            day,
            ticket_key,
            kind,
            action_count: n,
            millipoints: points,
            low_millipoints: low,
            high_millipoints: high,
        }]
    })
}

/// What an account did: day, ticket, kind; points expected, low, high.
pub type Deed = (Day, Text, ActivityKind, (i64, i64, i64));

/// The activity by account.
pub fn by_person<'s>(cx: &mut Cx<'s>) -> Arranged<'s, PersonId, Deed> {
    cx.activity()
        .map(|a| {
            let points = (a.millipoints, a.low_millipoints, a.high_millipoints);
            (a.person, (a.day, a.ticket_key, a.kind, points))
        })
        .by_key()
}

/// A report about work, not about a link.
fn is_work(report: &Report) -> bool {
    !matches!(report.value.verb, Verb::Confirm | Verb::Reject)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.activity();
    cx.emit(&VIEW.table, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_of_an_action_are_neither_lost_nor_doubled() {
        let action = Action {
            person: PersonId(1),
            day: Day(1),
            kind: ActivityKind::Commit,
            millipoints: 100_000,
            native: "x".into(),
        };
        let (a, b) = (Text::from("A-1"), Text::from("B-2"));
        for links in
            [vec![], vec![(&a, 9_500, 9_000, 9_800)], vec![(&a, 9_500, 9_000, 9_800), (&b, 7_000, 6_000, 9_000)]]
        {
            let mut out = Vec::new();
            divide(&action, &links, &mut out);
            let total: i64 = out.iter().map(|((_, p), _)| p[1]).sum();
            assert_eq!(total, 100_000, "{links:?}");
            assert!(out.iter().all(|((_, [_, p, low, high, _]), _)| low <= p && p <= high), "{out:?}");
        }
    }
}
