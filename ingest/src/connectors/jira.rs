//! Jira Cloud, Server and Data Center, by webhook.
//!
//! Verified by `X-Hub-Signature` (`sha256=…`, the HMAC of the raw body under the webhook's secret);
//! `X-Atlassian-Webhook-Identifier` is the identity, the bytes where an older server sends none (I2).
//! Documentation: <https://developer.atlassian.com/cloud/jira/platform/webhooks/>.
//!
//! - An issue event carries the whole issue, so it states a whole version, at the issue's own `updated`. Events that
//!   carry a part of it (comments, worklogs) state no version.
//! - A changed key leaves a tombstone of the old one, a changed type a tombstone of an incident that is none any more.
//! - Worklogs, links and the comments of servers name issues by number, not by key. Such a fact is worth keeping: its
//!   subject is then that number as text (`10001`), until something resolves it.
//! - What is deleted is gone at the `timestamp` of the event, or just after the last version if that is later.
//! - A project's event makes its key known (setting `project`), with or without tickets.
//! - Answers of the API are read as well, with the address that was asked in the header `x-flowsync-request`: an issue's
//!   remote links, and its development panel. What they link is stated by Jira itself.
//! - An event that Jira has and this connector does not read ([`UNREAD`]) says nothing; any other name is rejected.
//!
//! Nothing here knows what a ticket leads to; texts are not searched for keys.

use std::borrow::Cow;

use flowsync_schemas::{
    ConnectorSpec, EntityKind, FactBody, Micros, Parsed, PersonId, SignalId, Text,
    fact::{
        ActivityFact, ActivityKind, EdgeKind, IncidentFact, Progress, RelationFact, SettingFact, SprintFact, TicketFact,
    },
    id::Account,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

mod resources;

use super::{
    Channel, Connector, Delivery, Secret, Verified, VerifyError,
    json::{Id, Name, Reader, Str, Time, filled, is_name, shown},
    signature, words,
};

const SIGNATURE: &str = "x-hub-signature";

/// On a delivery that is the answer of Jira's API: the address that was asked.
const REQUEST: &str = "x-flowsync-request";

/// Keys that one event can take from an issue (I9); an issue that moves loses one.
const OLD_KEYS_MAX: usize = 16;

/// The connector.
pub struct Jira;

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "jira",
    version: 5,
    doc: "Webhooks of Jira Cloud, Server and Data Center: issues with their changelog, comments, worklogs, links, \
          sprints and projects. Also, imported, an issue's remote links and its development panel.",
    verification: "X-Hub-Signature: sha256= and the HMAC-SHA-256 of the body under the webhook's secret",
    events: &[
        "jira:issue_created",
        "jira:issue_updated",
        "jira:issue_deleted",
        "comment_created",
        "comment_updated",
        "comment_deleted",
        "worklog_created",
        "worklog_updated",
        "worklog_deleted",
        "issuelink_created",
        "issuelink_deleted",
        "sprint_created",
        "sprint_updated",
        "sprint_started",
        "sprint_closed",
        "sprint_deleted",
        "project_created",
        "project_updated",
        "project_deleted",
        "project_soft_deleted",
        "project_restored_deleted",
    ],
    headers: &[REQUEST],
    reference: "https://developer.atlassian.com/cloud/jira/platform/webhooks/",
};

/// Beginnings of the names of Jira's events that say nothing here.
const UNREAD: &[&str] = &[
    "attachment_",
    "board_",
    "field_",
    "filter_",
    "issue_property_",
    "issuetype_",
    "jira:version_",
    "jira:worklog_updated",
    "jira_expression_evaluation_failed",
    "option_",
    "project_archived",
    "project_restored_archived",
    "user_",
];

impl Connector for Jira {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn verify(&self, delivery: Delivery<'_>, secret: Option<&Secret>) -> Result<Verified, VerifyError> {
        signature::check(delivery, SIGNATURE, SPEC.name, secret)?;
        Ok(Verified::new(&SPEC, delivery, self.delivery_id(delivery).as_deref(), Channel::Webhook, "hmac-sha256"))
    }

    fn delivery_id<'a>(&self, delivery: Delivery<'a>) -> Option<Cow<'a, str>> {
        if let Some(address) = delivery.header(REQUEST) {
            // Answers for two issues can be the same bytes, and the answers for one issue change.
            let answer = SignalId::of_bytes(SPEC.name, delivery.body);
            return Some(Cow::Owned(format!("{address} {answer}")));
        }
        delivery.header("x-atlassian-webhook-identifier").filter(|id| !id.is_empty()).map(Cow::Borrowed)
    }

    fn parse(&self, verified: &Verified, out: &mut Parsed<'_>) {
        let signal = verified.signal();
        let advice = "send the event again with Jira's own body, or mend the recording";
        let mut cx = Reader { out, received_at: signal.received_at, advice };
        if signal.body.is_empty() {
            return cx.out.reject("body: empty; switch off \"exclude body\" in the webhook");
        }
        if let Some((_, address)) = signal.headers.iter().find(|(name, _)| name == REQUEST) {
            return resources::read(&mut cx, address, &signal.body);
        }
        let Some(body) = cx.body::<Envelope<'_>>(&signal.body) else { return };
        // The workflow step "trigger a webhook" sends the issue without naming an event.
        let unnamed = || (body.issue.is_some() && body.transition.is_some()).then_some("jira:issue_updated");
        let Some(event) = body.event.as_deref().or_else(unnamed) else { return cx.reject("webhookEvent", "missing") };
        // A handler that stops early has said why.
        let _: Option<()> = match event {
            "jira:issue_created" | "jira:issue_updated" | "jira:issue_deleted" => issue_event(&mut cx, &body, event),
            "comment_created" | "comment_updated" | "comment_deleted" => {
                comment(&mut cx, &body, event == "comment_deleted")
            }
            "worklog_created" | "worklog_updated" | "worklog_deleted" => {
                worklog(&mut cx, &body, event == "worklog_deleted")
            }
            "issuelink_created" | "issuelink_deleted" => link(&mut cx, &body, event == "issuelink_deleted"),
            "sprint_created" | "sprint_updated" | "sprint_started" | "sprint_closed" | "sprint_deleted" => {
                sprint(&mut cx, &body, event == "sprint_deleted")
            }
            "project_created" | "project_updated" | "project_restored_deleted" => project(&mut cx, &body, false),
            "project_deleted" | "project_soft_deleted" => project(&mut cx, &body, true),
            other if UNREAD.iter().any(|known| other.starts_with(known)) => None,
            other => {
                let name = shown(other);
                cx.out.reject(format!(
                    "webhookEvent: {name} is no event that this build knows; update FlowSync if it is new"
                ));
                None
            }
        };
    }
}

type Cx<'c, 'o, 'p> = &'c mut Reader<'o, 'p>;

/// The top of every payload; its sections are read one by one.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "webhookEvent")]
    event: Option<Str<'a>>,
    timestamp: Option<i64>,
    user: Option<&'a RawValue>,
    issue: Option<&'a RawValue>,
    changelog: Option<&'a RawValue>,
    comment: Option<&'a RawValue>,
    worklog: Option<&'a RawValue>,
    #[serde(rename = "issueLink")]
    link: Option<&'a RawValue>,
    sprint: Option<&'a RawValue>,
    project: Option<&'a RawValue>,
    transition: Option<IgnoredAny>,
}

impl Envelope<'_> {
    /// When the event happened.
    fn at(&self, cx: Cx<'_, '_, '_>) -> Micros {
        self.timestamp.map_or(cx.received_at, Micros::from_millis)
    }

    /// When something was deleted whose last version is of `updated`.
    fn gone(&self, cx: Cx<'_, '_, '_>, updated: Option<Time>) -> Micros {
        let after = updated.map_or(Micros(i64::MIN), |t| Micros(t.0.0.saturating_add(1)));
        self.at(cx).max(after)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User<'a> {
    #[serde(borrow)]
    account_id: Option<Str<'a>>,
    account_type: Option<Str<'a>>,
    name: Option<Str<'a>>,
    key: Option<Str<'a>>,
    email_address: Option<Str<'a>>,
    display_name: Option<Str<'a>>,
}

/// The person behind an account: by e-mail address where Jira shows it, which is then tied to the account, else by account.
fn person(cx: Cx<'_, '_, '_>, at: Micros, user: Option<&User<'_>>) -> Option<PersonId> {
    let user = user?;
    let set = |field: &'_ Option<Str<'_>>| field.as_ref().is_some_and(|f| !f.is_empty());
    let email = user.email_address.as_deref().filter(|e| e.contains('@'));
    let login = [&user.account_id, &user.name, &user.key].into_iter().find(|f| set(f)).and_then(|f| f.as_deref());
    let login = login.map(|login| Account::Login { source: SPEC.name, login });
    let (account, also) = match email {
        Some(email) => (Account::Email(email), login),
        None => (login?, None),
    };
    let bot = user.account_type.as_deref() == Some("app");
    let name = user.display_name.as_deref().unwrap_or_default();
    Some(cx.out.person_also(at, SPEC.name, &account, also, name, bot))
}

#[derive(Deserialize)]
struct Issue<'a> {
    #[serde(borrow)]
    key: Name<'a>,
    id: Option<Id>,
    #[serde(rename = "self")]
    url: Option<Str<'a>>,
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    summary: Str<'a>,
    status: Status<'a>,
    issuetype: Option<Named<'a>>,
    priority: Option<Named<'a>>,
    labels: Option<Vec<Str<'a>>>,
    project: Option<Keyed<'a>>,
    parent: Option<Keyed<'a>>,
    reporter: Option<User<'a>>,
    assignee: Option<User<'a>>,
    timeoriginalestimate: Option<i64>,
    created: Option<Time>,
    updated: Option<Time>,
    resolutiondate: Option<Time>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow)]
    name: Str<'a>,
    #[serde(rename = "statusCategory")]
    category: Option<Keyed<'a>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Str<'a>,
}

#[derive(Deserialize)]
struct Keyed<'a> {
    #[serde(borrow)]
    key: Name<'a>,
}

#[derive(Deserialize)]
struct Changelog<'a> {
    #[serde(borrow)]
    items: Vec<Change<'a>>,
    id: Option<Id>,
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    field: Str<'a>,
    #[serde(rename = "fromString")]
    from: Option<Str<'a>>,
    #[serde(rename = "toString")]
    to: Option<Str<'a>>,
}

impl Fields<'_> {
    fn progress(&self) -> Progress {
        let status = self.status.name.to_lowercase();
        let category = self.status.category.as_ref().map(|c| &*c.key);
        match category {
            Some("done") => Progress::Done,
            _ if status.split(|c: char| !c.is_alphanumeric()).any(|word| word == "blocked") => Progress::Blocked,
            Some("indeterminate") => Progress::InProgress,
            Some(_) => Progress::Todo,
            // Servers before categories: a resolved issue is done, and the default workflow names the step between.
            None if self.resolutiondate.is_some() => Progress::Done,
            None if status == "in progress" => Progress::InProgress,
            None => Progress::Todo,
        }
    }

    fn is_incident(&self) -> bool {
        self.issuetype.as_ref().is_some_and(|t| incident(&t.name))
    }
}

/// Whether a type of this name stands for incidents.
fn incident(issue_type: &str) -> bool {
    issue_type.to_lowercase().contains("incident")
}

/// The project part of a key.
fn project_of(key: &str) -> &str {
    key.rsplit_once('-').map(|(project, _)| project).filter(|project| !project.is_empty()).unwrap_or(key)
}

fn ticket(cx: Cx<'_, '_, '_>, at: Micros, issue: &Issue<'_>, deleted: bool) -> TicketFact {
    let fields = &issue.fields;
    let mut labels: Vec<&str> = fields.labels.iter().flatten().map(|l| &**l).collect();
    labels.sort_unstable();
    let project = fields.project.as_ref().map_or_else(|| project_of(&issue.key), |p| &p.key);
    // https://example.atlassian.net/rest/api/2/issue/10001
    let site = issue.url.as_deref().and_then(|url| url.split_once("/rest/")).map(|(site, _)| site);
    TicketFact {
        ticket_key: issue.key.text(),
        native_id: issue.id.as_ref().map(|id| id.0.clone()),
        project: project.into(),
        title: fields.summary.text(),
        words: words::of_title(&fields.summary),
        kind: fields.issuetype.as_ref().map(|t| t.name.text()).unwrap_or_default(),
        status: fields.status.name.text(),
        progress: fields.progress(),
        priority: fields.priority.as_ref().map(|p| p.name.text()),
        labels: labels.join(",").into(),
        reporter: person(cx, at, fields.reporter.as_ref()),
        assignee: person(cx, at, fields.assignee.as_ref()),
        parent_key: fields.parent.as_ref().map(|p| p.key.text()),
        estimate_secs: fields.timeoriginalestimate,
        created_at: fields.created.map(|t| t.0),
        resolved_at: fields.resolutiondate.map(|t| t.0),
        url: site.map(|site| format!("{site}/browse/{}", &*issue.key).into()),
        deleted,
    }
}

fn incident_of(ticket: &TicketFact, deleted: bool) -> FactBody {
    FactBody::Incident(IncidentFact {
        incident: ticket.ticket_key.clone(),
        title: ticket.title.clone(),
        severity: ticket.priority.clone(),
        ticket_key: Some(ticket.ticket_key.clone()),
        opened_at: ticket.created_at,
        resolved_at: ticket.resolved_at,
        url: ticket.url.clone(),
        deleted,
    })
}

fn issue_event(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, event: &str) -> Option<()> {
    let deleted = event == "jira:issue_deleted";
    let changes: Option<Changelog<'_>> = body.changelog.and_then(|raw| cx.section("changelog", Some(raw)));
    let items = changes.as_ref().map_or(&[][..], |c| &c.items);
    if let Some(issue) = cx.section::<Issue<'_>>("issue", body.issue) {
        let updated = issue.fields.updated;
        let at = if deleted { body.gone(cx, updated) } else { updated.map_or_else(|| body.at(cx), |t| t.0) };
        let ticket = ticket(cx, at, &issue, deleted);
        let is_incident = issue.fields.is_incident();
        let was_incident = items.iter().any(|i| &*i.field == "issuetype" && i.from.as_deref().is_some_and(incident));
        if is_incident || was_incident {
            cx.out.fact(at, incident_of(&ticket, deleted || !is_incident));
        }
        let old_keys = items.iter().filter(|i| &*i.field == "Key").filter_map(|i| filled(&i.from));
        let old_keys: Vec<Text> = old_keys.filter(|key| is_name(key)).collect();
        // A tombstone repeats the whole ticket.
        if old_keys.len() > OLD_KEYS_MAX {
            cx.reject("changelog.items", &format!("more than {OLD_KEYS_MAX} keys that the issue had"));
        }
        for old_key in old_keys.into_iter().take(OLD_KEYS_MAX) {
            let project = project_of(&old_key).into();
            let moved = TicketFact { ticket_key: old_key, project, url: None, deleted: true, ..ticket.clone() };
            if is_incident || was_incident {
                cx.out.fact(at, incident_of(&moved, true));
            }
            cx.out.fact(at, FactBody::Ticket(moved));
        }
        cx.out.fact(at, FactBody::Ticket(ticket));
    }
    if let Some(changes) = changes.filter(|_| event == "jira:issue_updated") {
        transitions(cx, body, &changes);
    }
    // The workflow step sends its comment as plain text, most often empty.
    if body.comment.is_some_and(|raw| raw.get().starts_with('{')) {
        comment(cx, body, false);
    }
    Some(())
}

fn transitions(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, changes: &Changelog<'_>) -> Option<()> {
    let moves = || changes.items.iter().filter(|i| &*i.field == "status");
    moves().next()?;
    let subject = subject(cx, body, None)?;
    let at = body.at(cx);
    let user: Option<User<'_>> = body.user.and_then(|raw| cx.section("user", Some(raw)));
    // One changelog holds one transition; what holds more is told apart by its place.
    let id = changes.id.as_ref().map_or_else(|| format!("{subject}/{}", at.0), |id| id.0.to_string());
    let mover = person(cx, at, user.as_ref());
    for (index, change) in moves().enumerate() {
        let place = if index == 0 { String::new() } else { format!("/{index}") };
        let [from, to] = [&change.from, &change.to].map(|s| s.as_deref().unwrap_or_default());
        let fact = ActivityFact {
            activity: format!("jira/changelog/{id}{place}").into(),
            kind: ActivityKind::Transition,
            person: mover,
            subject_kind: EntityKind::Ticket,
            subject_id: subject.clone(),
            acted_at: at,
            spent_secs: None,
            detail: Some(format!("{from} → {to}").into()),
            deleted: false,
        };
        cx.out.fact(at, FactBody::Activity(fact));
    }
    Some(())
}

#[derive(Deserialize)]
struct Subject<'a> {
    #[serde(borrow)]
    key: Option<Str<'a>>,
    id: Option<Id>,
}

/// The issue that something happened on: its key, else the number that the payload has for it.
fn subject(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, number: Option<Text>) -> Option<Text> {
    let issue: Option<Subject<'_>> = body.issue.and_then(|raw| cx.section("issue", Some(raw)));
    let named = issue.and_then(|i| filled(&i.key).filter(|key| is_name(key)).or(i.id.map(|id| id.0)));
    let found = named.or(number);
    if found.is_none() {
        cx.reject("issue.key", "missing, and nothing else names the issue");
    }
    found
}

#[derive(Deserialize)]
struct Comment<'a> {
    #[serde(borrow, rename = "self")]
    url: Option<Str<'a>>,
    id: Id,
    author: Option<User<'a>>,
    created: Option<Time>,
    updated: Option<Time>,
}

fn comment(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, deleted: bool) -> Option<()> {
    let comment: Comment<'_> = cx.section("comment", body.comment)?;
    // …/rest/api/2/issue/10001/comment/10010
    let number = comment.url.as_deref().and_then(|url| url.split_once("/issue/")?.1.split_once("/comment/"));
    let number = number.map(|(issue, _)| issue).filter(|issue| is_name(issue));
    let subject_id = subject(cx, body, number.map(Text::from))?;
    let updated = comment.updated.or(comment.created);
    let at = if deleted { body.gone(cx, updated) } else { updated.map_or_else(|| body.at(cx), |t| t.0) };
    let fact = ActivityFact {
        activity: format!("jira/comments/{}", comment.id.0).into(),
        kind: ActivityKind::Comment,
        person: if deleted { None } else { person(cx, at, comment.author.as_ref()) },
        subject_kind: EntityKind::Ticket,
        subject_id,
        acted_at: comment.created.map_or(at, |t| t.0),
        spent_secs: None,
        detail: None,
        deleted,
    };
    cx.out.fact(at, FactBody::Activity(fact));
    Some(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Worklog<'a> {
    #[serde(borrow)]
    author: Option<User<'a>>,
    id: Id,
    issue_id: Option<Id>,
    created: Option<Time>,
    updated: Option<Time>,
    started: Option<Time>,
    time_spent_seconds: Option<i64>,
}

fn worklog(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, deleted: bool) -> Option<()> {
    let worklog: Worklog<'_> = cx.section("worklog", body.worklog)?;
    if !deleted && worklog.time_spent_seconds.is_none() {
        cx.reject("worklog.timeSpentSeconds", "missing");
        return None;
    }
    let subject_id = subject(cx, body, worklog.issue_id.map(|id| id.0))?;
    let updated = worklog.updated.or(worklog.created);
    let at = if deleted { body.gone(cx, updated) } else { updated.map_or_else(|| body.at(cx), |t| t.0) };
    let fact = ActivityFact {
        activity: format!("jira/worklogs/{}", worklog.id.0).into(),
        kind: ActivityKind::Worklog,
        person: if deleted { None } else { person(cx, at, worklog.author.as_ref()) },
        subject_kind: EntityKind::Ticket,
        subject_id,
        acted_at: worklog.started.or(worklog.created).map_or(at, |t| t.0),
        spent_secs: worklog.time_spent_seconds,
        detail: None,
        deleted,
    };
    cx.out.fact(at, FactBody::Activity(fact));
    Some(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    source_issue_id: Id,
    destination_issue_id: Id,
    issue_link_type: Option<LinkType>,
}

#[derive(Deserialize)]
struct LinkType {
    #[serde(rename = "isSubTaskLinkType")]
    sub_task: Option<bool>,
}

fn link(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, deleted: bool) -> Option<()> {
    let link: Link = cx.section("issueLink", body.link)?;
    let at = body.at(cx);
    let (src, dst) = (link.source_issue_id.0, link.destination_issue_id.0);
    // Jira links a parent to its sub-task; the graph goes from the part to the whole.
    let (edge, src_id, dst_id) = if link.issue_link_type.and_then(|t| t.sub_task).unwrap_or(false) {
        (EdgeKind::PartOf, dst, src)
    } else {
        (EdgeKind::LinkedTo, src, dst)
    };
    let kind = EntityKind::Ticket;
    let fact = RelationFact { edge, src_kind: kind, src_id, dst_kind: kind, dst_id, deleted };
    cx.out.fact(at, FactBody::Relation(fact));
    Some(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sprint<'a> {
    #[serde(borrow)]
    name: Str<'a>,
    id: Id,
    state: Str<'a>,
    start_date: Option<Time>,
    end_date: Option<Time>,
    complete_date: Option<Time>,
}

fn sprint(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, deleted: bool) -> Option<()> {
    let sprint: Sprint<'_> = cx.section("sprint", body.sprint)?;
    let fact = SprintFact {
        sprint: sprint.id.0,
        name: sprint.name.text(),
        state: sprint.state.to_lowercase().into(),
        starts_at: sprint.start_date.map(|t| t.0),
        ends_at: sprint.complete_date.or(sprint.end_date).map(|t| t.0),
        deleted,
    };
    let at = body.at(cx);
    cx.out.fact(at, FactBody::Sprint(fact));
    Some(())
}

fn project(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, deleted: bool) -> Option<()> {
    let project: Keyed<'_> = cx.section("project", body.project)?;
    let fact = SettingFact { name: "project".into(), key: project.key.text(), value: Text::default(), deleted };
    let at = body.at(cx);
    cx.out.fact(at, FactBody::Setting(fact));
    Some(())
}
