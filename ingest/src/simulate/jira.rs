//! Payloads as Jira Cloud sends them: those fields that matter, in Jira's names.

use flowsync_schemas::Micros;
use serde_json::{Value, json};

use super::catalogue::{Person, Project};

const SITE: &str = "https://simulated-org.example.org";

/// Jira writes milliseconds and a zone without a colon.
pub(super) fn time(at: Micros) -> String {
    format!("{}.000+0000", &at.to_string()[..19])
}

pub(super) fn user(person: &Person) -> Value {
    json!({
        "accountId": format!("simulated:{}", person.login),
        "emailAddress": person.email(),
        "displayName": person.name,
        "accountType": "atlassian",
        "active": true,
    })
}

/// A ticket as it stands.
#[derive(Clone, Debug)]
pub(super) struct Ticket<'a> {
    pub project: &'a Project,
    pub number: usize,
    pub id: usize,
    pub kind: &'static str,
    pub title: String,
    pub status: &'static str,
    pub reporter: &'a Person,
    pub assignee: Option<&'a Person>,
    pub parent: Option<String>,
    pub estimate_secs: Option<u32>,
    pub created_at: Micros,
    pub resolved_at: Option<Micros>,
}

impl Ticket<'_> {
    pub fn key(&self) -> String {
        format!("{}-{}", self.project.key, self.number)
    }

    fn category(&self) -> &'static str {
        match self.status {
            "To Do" => "new",
            "Done" => "done",
            _ => "indeterminate",
        }
    }

    fn reference(&self) -> Value {
        json!({ "id": self.id.to_string(), "key": self.key(), "self": format!("{SITE}/rest/api/2/issue/{}", self.id) })
    }

    fn issue(&self, updated_at: Micros) -> Value {
        let priority = if self.kind == "Incident" { "Highest" } else { "Medium" };
        let mut issue = self.reference();
        issue["fields"] = json!({
            "summary": self.title,
            "issuetype": { "name": self.kind },
            "project": { "key": self.project.key, "name": self.project.name },
            "status": { "name": self.status, "statusCategory": { "key": self.category() } },
            "priority": { "name": priority },
            "labels": ["simulated"],
            "reporter": user(self.reporter),
            "assignee": self.assignee.map(user),
            "parent": self.parent.as_ref().map(|key| json!({ "key": key })),
            "timeoriginalestimate": self.estimate_secs,
            "created": time(self.created_at),
            "updated": time(updated_at),
            "resolutiondate": self.resolved_at.map(time),
        });
        issue
    }

    /// An event of the whole issue; `changes` are field, from, to.
    pub fn event(&self, event: &str, at: Micros, by: &Person, changes: &[(&str, &str, &str)]) -> Value {
        let mut payload = json!({
            "timestamp": at.0 / 1_000,
            "webhookEvent": event,
            "user": user(by),
            "issue": self.issue(at),
        });
        if !changes.is_empty() {
            let items: Vec<Value> = changes
                .iter()
                .map(|(field, from, to)| json!({ "field": field, "fromString": from, "toString": to }))
                .collect();
            payload["changelog"] = json!({ "id": format!("{}{}", self.id, at.0 / 1_000_000), "items": items });
        }
        payload
    }

    pub fn comment(&self, id: u64, at: Micros, by: &Person) -> Value {
        json!({
            "timestamp": at.0 / 1_000,
            "webhookEvent": "comment_created",
            "comment": {
                "id": id.to_string(),
                "author": user(by),
                "body": "Agreed, with the small change we talked about.",
                "created": time(at),
                "updated": time(at),
            },
            "issue": self.reference(),
        })
    }

    pub fn worklog(&self, id: u64, started_at: Micros, secs: u32, by: &Person) -> Value {
        let written_at = Micros(started_at.0 + i64::from(secs) * 1_000_000);
        json!({
            "timestamp": written_at.0 / 1_000,
            "webhookEvent": "worklog_created",
            "worklog": {
                "id": id.to_string(),
                "issueId": self.id.to_string(),
                "author": user(by),
                "created": time(written_at),
                "updated": time(written_at),
                "started": time(started_at),
                "timeSpentSeconds": secs,
            },
            "issue": self.reference(),
        })
    }
}

pub(super) fn project(project: &Project, at: Micros, lead: &Person) -> Value {
    json!({
        "timestamp": at.0 / 1_000,
        "webhookEvent": "project_created",
        "project": { "key": project.key, "name": project.name, "projectLead": user(lead) },
    })
}

pub(super) fn sprint(number: usize, event: &str, state: &str, span: (Micros, Micros), at: Micros) -> Value {
    json!({
        "timestamp": at.0 / 1_000,
        "webhookEvent": event,
        "sprint": {
            "id": number,
            "name": format!("Sprint {number} (simulated)"),
            "state": state,
            "startDate": time(span.0),
            "endDate": time(span.1),
        },
    })
}
