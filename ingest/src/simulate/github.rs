//! Payloads as GitHub sends them: those fields that matter, in GitHub's names.

use flowsync_schemas::Micros;
use serde_json::{Value, json};

use super::catalogue::Person;

/// GitHub writes whole seconds.
pub(super) fn time(at: Micros) -> String {
    format!("{}Z", &at.to_string()[..19])
}

pub(super) fn user(person: &Person) -> Value {
    json!({ "login": person.login, "type": "User", "html_url": format!("https://github.example.org/{}", person.login) })
}

fn signature(person: &Person) -> Value {
    json!({ "name": person.name, "email": person.email(), "username": person.login })
}

/// A repository whose last push was at `pushed_at`.
pub(super) fn repository(repo: &str, pushed_at: Micros) -> Value {
    json!({
        "full_name": repo,
        "name": repo.rsplit('/').next(),
        "owner": { "login": "simulated-org" },
        "private": true,
        "default_branch": "main",
        "pushed_at": pushed_at.0 / 1_000_000,
        "html_url": format!("https://github.example.org/{repo}"),
    })
}

/// One commit of a push.
#[derive(Clone, Debug)]
pub(super) struct Commit<'a> {
    pub sha: String,
    pub at: Micros,
    pub author: &'a Person,
    pub message: String,
    pub files: u32,
    /// Not on any branch before this push.
    pub distinct: bool,
}

impl Commit<'_> {
    fn payload(&self, repo: &str) -> Value {
        let files: Vec<String> = (0..self.files).map(|n| format!("src/part_{n}.rs")).collect();
        json!({
            "id": self.sha,
            "message": self.message,
            "timestamp": time(self.at),
            "url": format!("https://github.example.org/{repo}/commit/{}", self.sha),
            "author": signature(self.author),
            "committer": signature(self.author),
            "distinct": self.distinct,
            "added": [],
            "removed": [],
            "modified": files,
        })
    }
}

pub(super) fn push(repo: &str, name: &str, at: Micros, before: &str, commits: &[Commit<'_>], pusher: &Person) -> Value {
    let commits: Vec<Value> = commits.iter().map(|c| c.payload(repo)).collect();
    json!({
        "ref": name,
        "before": before,
        "after": commits.last().map(|c| c["id"].clone()),
        "created": false,
        "deleted": false,
        "forced": false,
        "head_commit": commits.last(),
        "commits": commits,
        "repository": repository(repo, at),
        "pusher": { "name": pusher.login, "email": pusher.email() },
        "sender": user(pusher),
    })
}

/// `create` and `delete` of a branch.
pub(super) fn branch(repo: &str, name: &str, at: Micros, sender: &Person, created: bool) -> Value {
    let mut payload = json!({
        "ref": name,
        "ref_type": "branch",
        "pusher_type": "user",
        "repository": repository(repo, at),
        "sender": user(sender),
    });
    if created {
        payload["master_branch"] = json!("main");
    }
    payload
}

/// A pull request as it stands.
#[derive(Clone, Debug)]
pub(super) struct PullRequest<'a> {
    pub repo: &'static str,
    pub number: u32,
    pub title: String,
    pub body: String,
    pub author: &'a Person,
    pub branch: String,
    pub head: String,
    pub created_at: Micros,
    pub merged: Option<(Micros, String)>,
    pub lines: (u32, u32),
    pub files: u32,
}

impl PullRequest<'_> {
    pub fn id(&self) -> String {
        format!("{}#{}", self.repo, self.number)
    }

    pub fn payload(&self, updated_at: Micros) -> Value {
        let merged_at = self.merged.as_ref().map(|(at, _)| time(*at));
        json!({
            "number": self.number,
            "title": self.title,
            "body": self.body,
            "state": if self.merged.is_some() { "closed" } else { "open" },
            "draft": false,
            "user": user(self.author),
            "head": { "ref": self.branch, "sha": self.head },
            "base": { "ref": "main", "sha": "0".repeat(40) },
            "created_at": time(self.created_at),
            "updated_at": time(updated_at),
            "merged": self.merged.is_some(),
            "merged_at": merged_at,
            "closed_at": merged_at,
            "merge_commit_sha": self.merged.as_ref().map(|(_, sha)| sha),
            "additions": self.lines.0,
            "deletions": self.lines.1,
            "changed_files": self.files,
            "html_url": format!("https://github.example.org/{}/pull/{}", self.repo, self.number),
        })
    }

    pub fn event(&self, action: &str, at: Micros, sender: &Person) -> Value {
        json!({
            "action": action,
            "number": self.number,
            "pull_request": self.payload(at),
            "repository": repository(self.repo, at),
            "sender": user(sender),
        })
    }

    pub fn review(&self, id: u64, state: &str, at: Micros, reviewer: &Person) -> Value {
        json!({
            "action": "submitted",
            "review": {
                "id": id,
                "user": user(reviewer),
                "state": state,
                "submitted_at": time(at),
                "commit_id": self.head,
                "body": null,
            },
            "pull_request": self.payload(at),
            "repository": repository(self.repo, at),
            "sender": user(reviewer),
        })
    }

    pub fn comment(&self, id: u64, at: Micros, person: &Person) -> Value {
        json!({
            "action": "created",
            "issue": { "number": self.number, "title": self.title, "pull_request": {}, "updated_at": time(at) },
            "comment": { "id": id, "user": user(person), "created_at": time(at), "updated_at": time(at), "body": "Thanks." },
            "repository": repository(self.repo, at),
            "sender": user(person),
        })
    }

    /// A run of the build; still running without a conclusion.
    pub fn build(&self, id: u64, started_at: Micros, at: Micros, conclusion: Option<&str>) -> Value {
        json!({
            "action": if conclusion.is_some() { "completed" } else { "in_progress" },
            "workflow_run": {
                "id": id,
                "name": "build",
                "head_branch": self.branch,
                "head_sha": self.head,
                "event": "pull_request",
                "status": if conclusion.is_some() { "completed" } else { "in_progress" },
                "conclusion": conclusion,
                "created_at": time(started_at),
                "run_started_at": time(started_at),
                "updated_at": time(at),
            },
            "workflow": { "name": "build" },
            "repository": repository(self.repo, at),
            "sender": user(self.author),
        })
    }
}

/// A deployment, or with a state its status.
pub(super) fn deployment(
    repo: &str,
    (id, sha, environment): (u64, &str, &str),
    created_at: Micros,
    status: Option<(&str, Micros)>,
    creator: &Person,
) -> Value {
    let mut payload = json!({
        "action": "created",
        "deployment": {
            "id": id,
            "sha": sha,
            "ref": "main",
            "environment": environment,
            "creator": user(creator),
            "created_at": time(created_at),
        },
        "repository": repository(repo, created_at),
        "sender": user(creator),
    });
    if let Some((state, at)) = status {
        payload["deployment_status"] = json!({
            "state": state,
            "environment": environment,
            "created_at": time(at),
            "target_url": format!("https://github.example.org/{repo}/deployments/{id}"),
        });
    }
    payload
}

pub(super) fn release(repo: &str, tag: &str, at: Micros, author: &Person) -> Value {
    json!({
        "action": "published",
        "release": { "tag_name": tag, "name": tag, "created_at": time(at), "published_at": time(at), "draft": false },
        "repository": repository(repo, at),
        "sender": user(author),
    })
}
