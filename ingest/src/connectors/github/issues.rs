//! GitHub's events of issues and comments. An issue is a ticket; one with the label `incident` is an incident as well.
//!
//! A function that returns `None` early has rejected what it lacks; what it stated before is sound and stays (I10).

use flowsync_schemas::{
    EntityKind, FactBody, Micros, Text,
    fact::{ActivityFact, ActivityKind, IncidentFact, Progress, TicketFact},
};
use serde::{Deserialize, de::IgnoredAny};

use super::{Cx, Envelope, Named, Numbered, User, gone, person, repository, step};
use crate::connectors::{
    json::{Str, Time, filled, shown},
    words,
};

#[derive(Deserialize)]
struct Issue<'a> {
    #[serde(borrow)]
    title: Str<'a>,
    number: i64,
    state: Str<'a>,
    #[serde(rename = "type")]
    kind: Option<Named<'a>>,
    labels: Option<Vec<Named<'a>>>,
    user: Option<User<'a>>,
    assignee: Option<User<'a>>,
    assignees: Option<Vec<User<'a>>>,
    created_at: Option<Time>,
    updated_at: Option<Time>,
    closed_at: Option<Time>,
    html_url: Option<Str<'a>>,
    parent_issue_url: Option<Str<'a>>,
    pull_request: Option<IgnoredAny>,
}

impl Issue<'_> {
    /// Labels that stand for a type where the repository has no issue types.
    const KINDS: [&'static str; 8] = ["bug", "defect", "enhancement", "epic", "feature", "incident", "story", "task"];

    fn labelled(&self, word: &str) -> Option<&str> {
        let label = self.labels.iter().flatten().find(|l| l.name.eq_ignore_ascii_case(word));
        label.map(|l| &*l.name)
    }

    fn kind(&self) -> &str {
        let by_label = || Self::KINDS.iter().find_map(|word| self.labelled(word));
        self.kind.as_ref().map(|k| &*k.name).or_else(by_label).unwrap_or("Issue")
    }

    fn ticket(&self, cx: Cx<'_, '_, '_>, at: Micros, repo: &Text, closed: bool, deleted: bool) -> TicketFact {
        let assignee = self.assignee.as_ref().or_else(|| self.assignees.iter().flatten().next());
        let mut labels: Vec<&str> = self.labels.iter().flatten().map(|l| &*l.name).collect();
        labels.sort_unstable();
        let progress = match (closed, assignee) {
            (true, _) => Progress::Done,
            (false, Some(_)) => Progress::InProgress,
            (false, None) => Progress::Todo,
        };
        // …/repos/owner/repo/issues/12
        let parent =
            self.parent_issue_url.as_deref().and_then(|url| url.split_once("/repos/")?.1.split_once("/issues/"));
        TicketFact {
            ticket_key: format!("{repo}#{}", self.number).into(),
            native_id: None,
            project: repo.clone(),
            title: self.title.text(),
            words: words::of_title(&self.title),
            kind: self.kind().into(),
            status: self.state.text(),
            progress,
            priority: None,
            labels: labels.join(",").into(),
            reporter: person(cx, at, self.user.as_ref()),
            assignee: person(cx, at, assignee),
            parent_key: parent.map(|(repo, number)| format!("{repo}#{number}").into()),
            estimate_secs: None,
            created_at: self.created_at.map(|t| t.0),
            resolved_at: self.closed_at.filter(|_| closed).map(|t| t.0),
            url: filled(&self.html_url),
            deleted,
        }
    }
}

pub fn issue(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    // Pinning changes nothing that a ticket has, and sends a part of the issue only.
    if matches!(body.action(), "pinned" | "unpinned") {
        return None;
    }
    let repo = repository(cx, body)?.full_name.text();
    let issue: Issue<'_> = cx.section("issue", body.issue)?;
    // A pull request has its own events; it is no ticket.
    if issue.pull_request.is_some() {
        return None;
    }
    let closed = match &*issue.state {
        "open" => false,
        "closed" => true,
        other => {
            cx.reject("issue.state", &format!("{} is neither open nor closed", shown(other)));
            return None;
        }
    };
    let deleted = matches!(body.action(), "deleted" | "transferred");
    let rank = match body.action() {
        "opened" => 0,
        "closed" => 2,
        _ => 1,
    };
    let at =
        if deleted { gone(issue.updated_at, cx.received_at) } else { step(issue.updated_at, cx.received_at, rank) };
    let ticket = issue.ticket(cx, at, &repo, closed, deleted);
    let is_incident = issue.labelled("incident").is_some();
    // The payload of a removed label names it beside the issue that lacks it.
    let was_incident = body.action() == "unlabeled"
        && body.label.is_some()
        && cx.section::<Named<'_>>("label", body.label).is_some_and(|l| l.name.eq_ignore_ascii_case("incident"));
    if is_incident || was_incident {
        let incident = IncidentFact {
            incident: ticket.ticket_key.clone(),
            title: ticket.title.clone(),
            severity: None,
            ticket_key: Some(ticket.ticket_key.clone()),
            opened_at: ticket.created_at,
            resolved_at: ticket.resolved_at,
            url: ticket.url.clone(),
            deleted: deleted || !is_incident,
        };
        cx.out.fact(at, FactBody::Incident(incident));
    }
    cx.out.fact(at, FactBody::Ticket(ticket));
    Some(())
}

#[derive(Deserialize)]
struct Comment<'a> {
    #[serde(borrow)]
    user: Option<User<'a>>,
    id: i64,
    created_at: Time,
    updated_at: Option<Time>,
}

pub fn comment(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?;
    let issue: Numbered = cx.section("issue", body.issue)?;
    let comment: Comment<'_> = cx.section("comment", body.comment)?;
    let updated_at = comment.updated_at.or(Some(comment.created_at));
    let deleted = body.action() == "deleted";
    let at = if deleted { gone(updated_at, cx.received_at) } else { step(updated_at, cx.received_at, 0) };
    let subject_kind = if issue.pull_request.is_some() { EntityKind::PullRequest } else { EntityKind::Ticket };
    let fact = ActivityFact {
        activity: format!("{}/comments/{}", &*repo.full_name, comment.id).into(),
        kind: ActivityKind::Comment,
        person: if deleted { None } else { person(cx, at, comment.user.as_ref()) },
        subject_kind,
        subject_id: format!("{}#{}", &*repo.full_name, issue.number).into(),
        acted_at: comment.created_at.0,
        spent_secs: None,
        detail: None,
        deleted,
    };
    cx.out.fact(at, FactBody::Activity(fact));
    Some(())
}
