//! Payloads as GitHub sends them: those fields that matter, in GitHub's names.

use flowsync_schemas::Micros;
use serde::Serialize;

use super::{
    organisation::{Person, Repository},
    story::{self, Commit, Note, Pull, Review},
    time::{Iso, SECOND, Sha},
};

/// The account of a program.
pub(super) const BOT: &str = "simulated-updates[bot]";

#[derive(Clone, Copy, Serialize)]
pub(super) struct User<'a> {
    login: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'a> User<'a> {
    pub fn of(person: &'a Person) -> Self {
        User { login: &person.github, kind: "User" }
    }

    pub const BOT: User<'static> = User { login: BOT, kind: "Bot" };
}

#[derive(Serialize)]
struct Login {
    login: &'static str,
}

/// A repository as it stands in every payload.
#[derive(Serialize)]
pub(super) struct Repo<'a> {
    full_name: &'a str,
    name: &'a str,
    owner: Login,
    private: bool,
    default_branch: &'static str,
    pushed_at: i64,
    html_url: &'a str,
}

impl<'a> Repo<'a> {
    /// Of a repository whose last push was at `pushed_at`.
    pub fn of(repo: &'a Repository, pushed_at: Micros) -> Self {
        Repo {
            full_name: &repo.name,
            name: repo.name.rsplit('/').next().unwrap_or_default(),
            owner: Login { login: "simulated-org" },
            private: true,
            default_branch: "main",
            pushed_at: pushed_at.0 / SECOND,
            html_url: &repo.url,
        }
    }
}

#[derive(Clone, Copy, Serialize)]
struct Signature<'a> {
    name: &'a str,
    email: &'a str,
    username: &'a str,
}

impl<'a> Signature<'a> {
    fn of(person: &'a Person, second: bool) -> Self {
        let email = person.second_email.as_ref().filter(|_| second).unwrap_or(&person.email);
        Signature { name: &person.name, email, username: &person.github }
    }

    const BOT: Signature<'static> = Signature { name: BOT, email: "updates@example.org", username: BOT };
}

#[derive(Serialize)]
struct PushedCommit<'a> {
    id: Sha,
    message: &'a str,
    timestamp: Iso,
    url: String,
    author: Signature<'a>,
    committer: Signature<'a>,
    distinct: bool,
    added: [&'a str; 0],
    removed: [&'a str; 0],
    modified: Vec<String>,
}

#[derive(Serialize)]
struct Push<'a> {
    #[serde(rename = "ref")]
    name: &'a str,
    before: Sha,
    after: Sha,
    created: bool,
    deleted: bool,
    forced: bool,
    head_commit: Option<&'a PushedCommit<'a>>,
    commits: &'a [PushedCommit<'a>],
    repository: Repo<'a>,
    pusher: Pusher<'a>,
    sender: User<'a>,
}

#[derive(Serialize)]
struct Pusher<'a> {
    name: &'a str,
    email: &'a str,
}

/// A push: its ref, what it replaces, and its commits.
pub(super) struct Pushing<'a> {
    pub name: &'a str,
    pub before: Sha,
    pub forced: bool,
    /// The commits, and whether each was on no branch before.
    pub commits: Vec<(&'a Commit, bool)>,
    /// The commits are a program's.
    pub bot: bool,
    /// What the paths of changed files are named after.
    pub topic: &'a str,
}

pub(super) fn push(repo: &Repository, people: &[Person], push: &Pushing<'_>, pusher: &Person, at: Micros) -> Vec<u8> {
    let commits: Vec<PushedCommit<'_>> = push
        .commits
        .iter()
        .map(|(commit, distinct)| {
            let author = if push.bot {
                Signature::BOT
            } else {
                Signature::of(&people[commit.author as usize], commit.second_email)
            };
            PushedCommit {
                id: commit.sha,
                message: &commit.message,
                timestamp: Iso(commit.at),
                url: format!("{}/commit/{}", repo.url, commit.sha),
                author,
                committer: author,
                distinct: *distinct,
                added: [],
                removed: [],
                modified: (0..commit.files).map(|n| format!("src/{}/part_{n}.rs", push.topic)).collect(),
            }
        })
        .collect();
    body(&Push {
        name: push.name,
        before: push.before,
        after: push.commits.last().map_or(Sha::NONE, |(c, _)| c.sha),
        created: push.before == Sha::NONE,
        deleted: false,
        forced: push.forced,
        head_commit: commits.last(),
        commits: &commits,
        repository: Repo::of(repo, at),
        pusher: Pusher { name: &pusher.github, email: &pusher.email },
        sender: if push.bot { User::BOT } else { User::of(pusher) },
    })
}

#[derive(Serialize)]
struct RefEvent<'a> {
    #[serde(rename = "ref")]
    name: &'a str,
    ref_type: &'static str,
    pusher_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_branch: Option<&'static str>,
    repository: Repo<'a>,
    sender: User<'a>,
}

/// `create` and `delete` of a branch or tag.
pub(super) fn reference(
    repo: &Repository,
    (ref_type, name): (&'static str, &str),
    sender: User<'_>,
    created: bool,
    at: Micros,
) -> Vec<u8> {
    let master_branch = created.then_some("main");
    body(&RefEvent { name, ref_type, pusher_type: "user", master_branch, repository: Repo::of(repo, at), sender })
}

#[derive(Serialize)]
struct Branch<'a> {
    #[serde(rename = "ref")]
    name: &'a str,
    sha: Sha,
}

#[derive(Serialize)]
struct PullPayload<'a> {
    number: u32,
    state: &'static str,
    title: &'a str,
    body: &'a str,
    draft: bool,
    user: User<'a>,
    head: Branch<'a>,
    base: Branch<'a>,
    created_at: Iso,
    updated_at: Iso,
    merged: bool,
    merged_at: Option<Iso>,
    closed_at: Option<Iso>,
    merge_commit_sha: Option<Sha>,
    additions: u32,
    deletions: u32,
    changed_files: u32,
    html_url: String,
}

/// A pull request in its repository, with its author.
#[derive(Clone, Copy)]
pub(super) struct PullView<'a> {
    pub pull: &'a Pull,
    pub repo: &'a Repository,
    pub author: User<'a>,
}

impl<'a> PullView<'a> {
    fn payload(&self, updated_at: Micros) -> PullPayload<'a> {
        let pull = self.pull;
        PullPayload {
            number: pull.number,
            state: if pull.closed_at.is_some() { "closed" } else { "open" },
            title: &pull.title,
            body: &pull.body,
            draft: false,
            user: self.author,
            head: Branch { name: &pull.branch, sha: pull.head },
            base: Branch { name: "main", sha: pull.before },
            created_at: Iso(pull.created_at),
            updated_at: Iso(updated_at),
            merged: pull.merge.is_some(),
            merged_at: pull.closed_at.filter(|_| pull.merge.is_some()).map(Iso),
            closed_at: pull.closed_at.map(Iso),
            merge_commit_sha: pull.merge,
            additions: pull.lines.0,
            deletions: pull.lines.1,
            changed_files: pull.files,
            html_url: format!("{}/pull/{}", self.repo.url, pull.number),
        }
    }

    pub fn event(&self, action: &'static str, sender: User<'_>, at: Micros) -> Vec<u8> {
        body(&PullEvent {
            action,
            number: self.pull.number,
            pull_request: self.payload(at),
            repository: Repo::of(self.repo, at),
            sender,
        })
    }

    pub fn review(&self, review: &Review, reviewer: User<'_>, at: Micros) -> Vec<u8> {
        body(&ReviewEvent {
            action: "submitted",
            review: ReviewPayload {
                id: review.id,
                user: reviewer,
                state: review.state,
                submitted_at: Iso(at),
                commit_id: self.pull.head,
                body: None,
            },
            pull_request: self.payload(at),
            repository: Repo::of(self.repo, at),
            sender: reviewer,
        })
    }

    /// A comment that is created or deleted.
    pub fn comment(&self, action: &'static str, note: &Note, by: User<'_>, at: Micros) -> Vec<u8> {
        body(&CommentEvent {
            action,
            issue: Numbered {
                number: self.pull.number,
                title: &self.pull.title,
                pull_request: Empty {},
                updated_at: Iso(at),
            },
            comment: CommentPayload {
                id: note.id,
                user: by,
                created_at: Iso(note.at),
                updated_at: Iso(note.at),
                body: &note.text,
            },
            repository: Repo::of(self.repo, at),
            sender: by,
        })
    }

    /// A run of the build; still running without a conclusion.
    pub fn build(&self, build: &story::Build, ended: bool, at: Micros) -> Vec<u8> {
        let status = if ended { "completed" } else { "in_progress" };
        let conclusion = if build.passed { "success" } else { "failure" };
        body(&RunEvent {
            action: status,
            workflow_run: RunPayload {
                id: build.id,
                name: "build",
                head_branch: &self.pull.branch,
                head_sha: build.sha,
                event: "pull_request",
                status,
                conclusion: ended.then_some(conclusion),
                created_at: Iso(build.began),
                run_started_at: Iso(build.began),
                updated_at: Iso(at),
            },
            workflow: Workflow { name: "build" },
            repository: Repo::of(self.repo, at),
            sender: self.author,
        })
    }
}

#[derive(Serialize)]
struct PullEvent<'a> {
    action: &'static str,
    number: u32,
    pull_request: PullPayload<'a>,
    repository: Repo<'a>,
    sender: User<'a>,
}

#[derive(Serialize)]
struct ReviewPayload<'a> {
    id: u64,
    user: User<'a>,
    state: &'static str,
    submitted_at: Iso,
    commit_id: Sha,
    body: Option<&'a str>,
}

#[derive(Serialize)]
struct ReviewEvent<'a> {
    action: &'static str,
    review: ReviewPayload<'a>,
    pull_request: PullPayload<'a>,
    repository: Repo<'a>,
    sender: User<'a>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Numbered<'a> {
    number: u32,
    title: &'a str,
    pull_request: Empty,
    updated_at: Iso,
}

#[derive(Serialize)]
struct CommentPayload<'a> {
    id: u64,
    user: User<'a>,
    created_at: Iso,
    updated_at: Iso,
    body: &'a str,
}

#[derive(Serialize)]
struct CommentEvent<'a> {
    action: &'static str,
    issue: Numbered<'a>,
    comment: CommentPayload<'a>,
    repository: Repo<'a>,
    sender: User<'a>,
}

#[derive(Serialize)]
struct RunPayload<'a> {
    id: u64,
    name: &'static str,
    head_branch: &'a str,
    head_sha: Sha,
    event: &'static str,
    status: &'static str,
    conclusion: Option<&'static str>,
    created_at: Iso,
    run_started_at: Iso,
    updated_at: Iso,
}

#[derive(Serialize)]
struct Workflow {
    name: &'static str,
}

#[derive(Serialize)]
struct RunEvent<'a> {
    action: &'static str,
    workflow_run: RunPayload<'a>,
    workflow: Workflow,
    repository: Repo<'a>,
    sender: User<'a>,
}

#[derive(Serialize)]
struct DeploymentPayload<'a> {
    id: u64,
    sha: Sha,
    #[serde(rename = "ref")]
    name: &'static str,
    environment: &'static str,
    creator: User<'a>,
    created_at: Iso,
}

#[derive(Serialize)]
struct DeploymentStatus {
    state: &'static str,
    environment: &'static str,
    created_at: Iso,
    target_url: String,
}

#[derive(Serialize)]
struct DeploymentEvent<'a> {
    action: &'static str,
    deployment: DeploymentPayload<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployment_status: Option<DeploymentStatus>,
    repository: Repo<'a>,
    sender: User<'a>,
}

/// A deployment of this id, commit and environment, or with a state its status.
pub(super) fn deployment(
    repo: &Repository,
    (id, sha, environment): (u64, Sha, &'static str),
    began: Micros,
    status: Option<(&'static str, Micros)>,
    creator: User<'_>,
) -> Vec<u8> {
    let url = || format!("{}/deployments/{id}", repo.url);
    body(&DeploymentEvent {
        action: "created",
        deployment: DeploymentPayload { id, sha, name: "main", environment, creator, created_at: Iso(began) },
        deployment_status: status.map(|(state, at)| DeploymentStatus {
            state,
            environment,
            created_at: Iso(at),
            target_url: url(),
        }),
        repository: Repo::of(repo, began),
        sender: creator,
    })
}

#[derive(Serialize)]
struct ReleasePayload<'a> {
    tag_name: &'a str,
    name: &'a str,
    created_at: Iso,
    published_at: Iso,
    draft: bool,
}

#[derive(Serialize)]
struct ReleaseEvent<'a> {
    action: &'static str,
    release: ReleasePayload<'a>,
    repository: Repo<'a>,
    sender: User<'a>,
}

pub(super) fn release(repo: &Repository, tag: &str, author: User<'_>, at: Micros) -> Vec<u8> {
    let release = ReleasePayload { tag_name: tag, name: tag, created_at: Iso(at), published_at: Iso(at), draft: false };
    body(&ReleaseEvent { action: "published", release, repository: Repo::of(repo, at), sender: author })
}

/// JSON of what cannot fail to be written: plain structs of numbers and texts.
pub(super) fn body(payload: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1_536);
    let written = serde_json::to_writer(&mut bytes, payload);
    debug_assert!(written.is_ok(), "{written:?}");
    bytes
}
