//! Payloads as Jira Cloud sends them: those fields that matter, in Jira's names. And what scripts and people report.

use flowsync_schemas::Micros;
use serde::Serialize;

use super::{
    github::body,
    organisation::Person,
    story::{Log, Note, Ticket},
    time::{Iso, JiraTime, SECOND},
};

pub(super) const SITE: &str = "https://simulated-org.example.org";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User<'a> {
    account_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_address: Option<&'a str>,
    display_name: &'a str,
    account_type: &'static str,
    active: bool,
}

impl<'a> User<'a> {
    pub fn of(person: &'a Person) -> Self {
        User {
            account_id: person.account_id(),
            email_address: (!person.hides_email).then_some(&person.email),
            display_name: &person.name,
            account_type: "atlassian",
            active: true,
        }
    }
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Keyed<'a> {
    key: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    name: &'static str,
    status_category: Keyed<'static>,
}

#[derive(Serialize)]
struct ProjectRef<'a> {
    key: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
struct Fields<'a> {
    summary: &'a str,
    issuetype: Named<'a>,
    project: ProjectRef<'a>,
    status: Status,
    priority: Named<'static>,
    labels: [&'static str; 1],
    reporter: User<'a>,
    assignee: Option<User<'a>>,
    parent: Option<Keyed<'a>>,
    timeoriginalestimate: Option<u32>,
    created: JiraTime,
    updated: JiraTime,
    resolutiondate: Option<JiraTime>,
}

#[derive(Serialize)]
struct Issue<'a> {
    id: String,
    key: &'a str,
    #[serde(rename = "self")]
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Fields<'a>>,
}

/// One item of a changelog.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change<'a> {
    pub field: &'a str,
    pub from_string: Option<&'a str>,
    pub to_string: Option<&'a str>,
}

#[derive(Serialize)]
struct Changelog<'a> {
    id: String,
    items: &'a [Change<'a>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IssueEvent<'a> {
    timestamp: i64,
    webhook_event: &'static str,
    user: User<'a>,
    issue: Issue<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changelog: Option<Changelog<'a>>,
}

/// A ticket with the names of what it refers to.
pub(super) struct TicketView<'a> {
    pub ticket: &'a Ticket,
    pub key: &'a str,
    pub project: (&'a str, &'a str),
    pub parent: Option<&'a str>,
    pub reporter: &'a Person,
    pub assignee: Option<&'a Person>,
}

impl<'a> TicketView<'a> {
    fn reference(&self) -> Issue<'a> {
        let id = self.ticket.id;
        Issue { id: id.to_string(), key: self.key, url: format!("{SITE}/rest/api/2/issue/{id}"), fields: None }
    }

    fn issue(&self, updated_at: Micros) -> Issue<'a> {
        let ticket = self.ticket;
        let (key, name) = self.project;
        let fields = Fields {
            summary: &ticket.title,
            issuetype: Named { name: ticket.kind },
            project: ProjectRef { key, name },
            status: Status { name: ticket.status.name(), status_category: Keyed { key: ticket.status.category() } },
            priority: Named { name: if ticket.kind == "Incident" { "Highest" } else { "Medium" } },
            labels: ["simulated"],
            reporter: User::of(self.reporter),
            assignee: self.assignee.map(User::of),
            parent: self.parent.map(|key| Keyed { key }),
            timeoriginalestimate: ticket.estimate_secs,
            created: JiraTime(ticket.created_at),
            updated: JiraTime(updated_at),
            resolutiondate: ticket.resolved_at.map(JiraTime),
        };
        Issue { fields: Some(fields), ..self.reference() }
    }

    /// An event of the whole issue.
    pub fn event(&self, event: &'static str, by: &Person, changes: &[Change<'_>], at: Micros) -> Vec<u8> {
        let id = || format!("{}{}", self.ticket.id, at.0 / SECOND);
        body(&IssueEvent {
            timestamp: at.0 / 1_000,
            webhook_event: event,
            user: User::of(by),
            issue: self.issue(at),
            changelog: (!changes.is_empty()).then(|| Changelog { id: id(), items: changes }),
        })
    }

    /// A comment that is created, updated or deleted.
    pub fn comment(&self, event: &'static str, note: &Note, by: &Person, at: Micros) -> Vec<u8> {
        let updated = if event == "comment_updated" { at } else { note.at };
        body(&CommentEvent {
            timestamp: at.0 / 1_000,
            webhook_event: event,
            comment: Comment {
                id: note.id.to_string(),
                author: User::of(by),
                body: &note.text,
                created: JiraTime(note.at),
                updated: JiraTime(updated),
            },
            issue: self.reference(),
        })
    }

    /// Logged time, when it is written or deleted.
    pub fn worklog(&self, event: &'static str, log: &Log, by: &Person, at: Micros) -> Vec<u8> {
        body(&WorklogEvent {
            timestamp: at.0 / 1_000,
            webhook_event: event,
            worklog: Worklog {
                id: log.id.to_string(),
                issue_id: self.ticket.id.to_string(),
                author: User::of(by),
                created: JiraTime(log.written),
                updated: JiraTime(log.written),
                started: JiraTime(log.began),
                time_spent_seconds: log.secs,
            },
            issue: self.reference(),
        })
    }
}

#[derive(Serialize)]
struct Comment<'a> {
    id: String,
    author: User<'a>,
    body: &'a str,
    created: JiraTime,
    updated: JiraTime,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommentEvent<'a> {
    timestamp: i64,
    webhook_event: &'static str,
    comment: Comment<'a>,
    issue: Issue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Worklog<'a> {
    id: String,
    issue_id: String,
    author: User<'a>,
    created: JiraTime,
    updated: JiraTime,
    started: JiraTime,
    time_spent_seconds: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorklogEvent<'a> {
    timestamp: i64,
    webhook_event: &'static str,
    worklog: Worklog<'a>,
    issue: Issue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkType {
    id: u32,
    name: &'static str,
    is_sub_task_link_type: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    id: u64,
    source_issue_id: u64,
    destination_issue_id: u64,
    issue_link_type: LinkType,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkEvent {
    timestamp: i64,
    webhook_event: &'static str,
    issue_link: Link,
}

/// A link between two issues, by their numbers, created or deleted.
pub(super) fn link(event: &'static str, (id, from, to): (u64, u64, u64), at: Micros) -> Vec<u8> {
    body(&LinkEvent {
        timestamp: at.0 / 1_000,
        webhook_event: event,
        issue_link: Link {
            id,
            source_issue_id: from,
            destination_issue_id: to,
            issue_link_type: LinkType { id: 10_001, name: "Relates", is_sub_task_link_type: false },
        },
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectPayload<'a> {
    key: &'a str,
    name: &'a str,
    project_lead: User<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProjectEvent<'a> {
    timestamp: i64,
    webhook_event: &'static str,
    project: ProjectPayload<'a>,
}

/// A project that is created, or changed.
pub(super) fn project(event: &'static str, (key, name): (&str, &str), lead: &Person, at: Micros) -> Vec<u8> {
    let project = ProjectPayload { key, name, project_lead: User::of(lead) };
    body(&ProjectEvent { timestamp: at.0 / 1_000, webhook_event: event, project })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sprint<'a> {
    id: u64,
    name: &'a str,
    state: &'static str,
    start_date: JiraTime,
    end_date: JiraTime,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SprintEvent<'a> {
    timestamp: i64,
    webhook_event: &'static str,
    sprint: Sprint<'a>,
}

pub(super) fn sprint(
    (id, name): (u64, &str),
    (event, state): (&'static str, &'static str),
    (from, to): (Micros, Micros),
    at: Micros,
) -> Vec<u8> {
    let sprint = Sprint { id, name, state, start_date: JiraTime(from), end_date: JiraTime(to) };
    body(&SprintEvent { timestamp: at.0 / 1_000, webhook_event: event, sprint })
}

/// A report by a script.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub verb: &'static str,
    pub ticket: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact: Option<&'a str>,
    pub reporter: &'a str,
    pub at: Iso,
    pub id: &'a str,
}

/// A command typed into the chat.
pub(super) fn command(person: &Person, text: &str, trigger: &str) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("team_id", "SIMULATED"), ("team_domain", "simulated-org"), ("channel_name", "engineering")])
        .extend_pairs([("user_id", person.user_id().as_str()), ("user_name", person.github.as_str())])
        .extend_pairs([("command", "/flowsync"), ("text", text), ("trigger_id", trigger)])
        .finish()
        .into_bytes()
}
