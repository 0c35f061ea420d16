//! GitHub's events of code: pushes, branches and tags, pull requests and reviews.
//!
//! A function that returns `None` early has rejected what it lacks; what it stated before is sound and stays (I10).

use flowsync_schemas::{
    EntityKind, FactBody, Micros, PersonId, Text,
    fact::{CommitFact, EdgeKind, EvidenceKind, PullRequestFact, PullRequestState, RefFact, RelationFact, ReviewFact},
    id::Account,
};
use serde::Deserialize;

use super::{Cx, Envelope, Numbered, SPEC, User, person, repository, step};
use crate::connectors::{
    json::{NO_NAME, Name, Str, Time, filled, is_name, shown},
    keys, message,
    references::Dialect,
    words,
};

#[derive(Deserialize)]
struct Commit<'a> {
    #[serde(borrow)]
    id: Name<'a>,
    message: Str<'a>,
    timestamp: Option<Time>,
    author: Option<Signature<'a>>,
    committer: Option<Signature<'a>>,
    distinct: Option<bool>,
    #[serde(borrow)]
    added: Option<Vec<Str<'a>>>,
    #[serde(borrow)]
    removed: Option<Vec<Str<'a>>>,
    #[serde(borrow)]
    modified: Option<Vec<Str<'a>>>,
}

#[derive(Deserialize)]
struct Signature<'a> {
    #[serde(borrow)]
    name: Option<Str<'a>>,
    email: Option<Str<'a>>,
    username: Option<Str<'a>>,
    date: Option<Time>,
}

#[derive(Deserialize)]
struct Dated {
    timestamp: Option<Time>,
}

pub fn push(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?;
    let name = ref_name(cx, body)?;
    let at = match (repo.pushed_at, body.head_commit) {
        (Some(time), _) => time.0,
        (None, None) => cx.received_at,
        (None, head) => cx.section::<Dated>("head_commit", head)?.timestamp.map_or(cx.received_at, |t| t.0),
    };
    let deleted = body.deleted.unwrap_or_else(|| body.after.as_deref().is_some_and(|a| a.bytes().all(|b| b == b'0')));
    let sha = if deleted { None } else { filled(&body.after) };
    let repo_name = repo.full_name.text();
    cx.out.fact(at, FactBody::Ref(RefFact { repo: repo_name.clone(), name: name.text(), sha, deleted }));
    let branch = name.strip_prefix("refs/heads/").filter(|b| repo.default_branch.as_deref() != Some(*b));
    for (index, raw) in body.commits.iter().flatten().enumerate() {
        if let Some(pushed) = cx.section::<Commit<'_>>(&format!("commits[{index}]"), Some(raw)) {
            commit(cx, at, &repo_name, branch, &pushed);
        }
    }
    Some(())
}

/// The branch or tag that an event is about.
fn ref_name<'b, 'a>(cx: Cx<'_, '_, '_>, body: &'b Envelope<'a>) -> Option<&'b Str<'a>> {
    let name = body.git_ref.as_ref().filter(|n| is_name(n));
    if name.is_none() {
        let filled = body.git_ref.as_ref().is_some_and(|n| !n.is_empty());
        cx.reject("ref", if filled { NO_NAME } else { "missing" });
    }
    name
}

fn commit(cx: Cx<'_, '_, '_>, pushed_at: Micros, repo: &Text, branch: Option<&str>, commit: &Commit<'_>) {
    let authored_at = commit.author.as_ref().and_then(|s| s.date).or(commit.timestamp);
    let committed_at = commit.committer.as_ref().and_then(|s| s.date).or(commit.timestamp);
    let distinct = commit.distinct.unwrap_or(true);
    let at = if distinct { pushed_at } else { committed_at.map_or(pushed_at, |t| t.0).min(pushed_at) };
    let sha = commit.id.text();
    let lists = [&commit.added, &commit.removed, &commit.modified];
    let changed =
        lists.iter().any(|l| l.is_some()).then(|| lists.iter().flat_map(|l| l.iter()).map(|l| l.len() as i64).sum());
    let paths = || lists.iter().flat_map(|l| l.iter().flatten()).map(|path| &**path);
    let fact = CommitFact {
        repo: repo.clone(),
        sha: sha.clone(),
        author: signed(cx, at, commit.author.as_ref()),
        committer: signed(cx, at, commit.committer.as_ref()),
        authored_at: authored_at.map(|t| t.0),
        committed_at: committed_at.map(|t| t.0),
        subject: commit.message.lines().next().unwrap_or_default().into(),
        words: words::of_message(&commit.message),
        file_words: words::of_files(paths()),
        paths: words::of_paths(paths()),
        parent_count: None,
        added_lines: None,
        deleted_lines: None,
        changed_files: changed,
        deleted: false,
    };
    cx.out.fact(at, FactBody::Commit(fact));
    message::Commit { source: SPEC.name, at, repo, sha: &sha, message: &commit.message, brought: &[] }.read(cx.out);
    if let Some(branch) = branch.filter(|_| distinct) {
        keys::mention(cx.out, at, (EntityKind::Commit, &sha), EvidenceKind::BranchKey, branch);
    }
}

/// The author or committer of a commit: by e-mail address, which is the same in every tool, else by login.
fn signed(cx: Cx<'_, '_, '_>, at: Micros, signature: Option<&Signature<'_>>) -> Option<PersonId> {
    let signature = signature?;
    let name = signature.name.as_deref().unwrap_or_default();
    let login = signature.username.as_deref().filter(|l| !l.is_empty());
    let email = signature.email.as_deref().filter(|e| e.contains('@'));
    // What is merged on the web page is committed by GitHub itself.
    let bot = name.ends_with("[bot]")
        || login.is_some_and(|l| l.ends_with("[bot]") || l == "web-flow")
        || email == Some("noreply@github.com");
    let login = login.map(|login| Account::Login { source: SPEC.name, login });
    // GitHub has found out whose address it is: both accounts are one person's.
    let (account, also) = match email {
        Some(email) => (Account::Email(email), login),
        None => (login?, None),
    };
    Some(cx.out.person_also(at, SPEC.name, &account, also, name, bot))
}

pub fn created_ref(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    git_ref(cx, body, false)
}

pub fn deleted_ref(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    git_ref(cx, body, true)
}

fn git_ref(cx: Cx<'_, '_, '_>, body: &Envelope<'_>, deleted: bool) -> Option<()> {
    let repo = repository(cx, body)?;
    let folder = match body.ref_type.as_deref() {
        Some("branch") => "refs/heads/",
        Some("tag") => "refs/tags/",
        // Sent without a ref when a repository is created.
        Some("repository") => return None,
        Some(other) => {
            cx.reject("ref_type", &format!("{} is neither branch nor tag", shown(other)));
            return None;
        }
        None => {
            cx.reject("ref_type", "missing");
            return None;
        }
    };
    let name = &**ref_name(cx, body)?;
    // The push of the same moment knows the sha; it is the later version.
    let at = step(repo.pushed_at, cx.received_at, if deleted { 0 } else { -1 });
    let name = format!("{folder}{name}").into();
    cx.out.fact(at, FactBody::Ref(RefFact { repo: repo.full_name.text(), name, sha: None, deleted }));
    Some(())
}

#[derive(Deserialize)]
struct PullRequest<'a> {
    #[serde(borrow)]
    title: Str<'a>,
    number: i64,
    state: Str<'a>,
    body: Option<Str<'a>>,
    draft: Option<bool>,
    user: Option<User<'a>>,
    head: Branch<'a>,
    base: Base<'a>,
    merged: Option<bool>,
    merge_commit_sha: Option<Str<'a>>,
    created_at: Option<Time>,
    updated_at: Option<Time>,
    merged_at: Option<Time>,
    closed_at: Option<Time>,
    additions: Option<i64>,
    deletions: Option<i64>,
    changed_files: Option<i64>,
    html_url: Option<Str<'a>>,
}

#[derive(Deserialize)]
struct Branch<'a> {
    #[serde(borrow, rename = "ref")]
    name: Str<'a>,
    sha: Str<'a>,
}

#[derive(Deserialize)]
struct Base<'a> {
    #[serde(borrow, rename = "ref")]
    name: Str<'a>,
}

pub fn pull_request(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?;
    let pr: PullRequest<'_> = cx.section("pull_request", body.pull_request)?;
    let state = match (&*pr.state, pr.merged.unwrap_or(pr.merged_at.is_some())) {
        (_, true) => PullRequestState::Merged,
        ("open", false) => PullRequestState::Open,
        ("closed", false) => PullRequestState::Closed,
        (other, false) => {
            cx.reject("pull_request.state", &format!("{} is neither open nor closed", shown(other)));
            return None;
        }
    };
    let rank = match body.action() {
        "opened" => 0,
        "closed" => 2,
        _ => 1,
    };
    let at = step(pr.updated_at, cx.received_at, rank);
    let id: Text = format!("{}#{}", &*repo.full_name, pr.number).into();
    // Of an open pull request this is a trial merge that no branch holds.
    let merge_sha = filled(&pr.merge_commit_sha).filter(|_| state == PullRequestState::Merged);
    let head_sha = pr.head.sha.text();
    let text = pr.body.as_deref().unwrap_or_default();
    let fact = PullRequestFact {
        pull_request: id.clone(),
        repo: repo.full_name.text(),
        number: pr.number,
        title: pr.title.text(),
        words: words::of_change(&pr.title, text),
        state,
        draft: pr.draft.unwrap_or(false),
        author: person(cx, at, pr.user.as_ref()),
        head_branch: pr.head.name.text(),
        head_sha: head_sha.clone(),
        base_branch: pr.base.name.text(),
        merge_sha: merge_sha.clone(),
        created_at: pr.created_at.map(|t| t.0),
        merged_at: pr.merged_at.map(|t| t.0),
        closed_at: pr.closed_at.map(|t| t.0),
        added_lines: pr.additions,
        deleted_lines: pr.deletions,
        changed_files: pr.changed_files,
        url: filled(&pr.html_url),
        deleted: false,
    };
    cx.out.fact(at, FactBody::PullRequest(fact));
    let artifact = (EntityKind::PullRequest, &id);
    keys::mention(cx.out, at, artifact, EvidenceKind::BranchKey, &pr.head.name);
    message::branch_numbers(cx.out, at, artifact, &repo.full_name, &pr.head.name);
    keys::mention(cx.out, at, artifact, EvidenceKind::TitleKey, &pr.title);
    keys::mention(cx.out, at, artifact, EvidenceKind::BodyKey, text);
    message::numbers(cx.out, at, artifact, &repo.full_name, &pr.title, Dialect::GitHub);
    message::numbers(cx.out, at, artifact, &repo.full_name, text, Dialect::GitHub);
    for sha in [Some(head_sha), merge_sha].into_iter().flatten().filter(|sha| !sha.is_empty()) {
        let part = RelationFact {
            edge: EdgeKind::PartOf,
            src_kind: EntityKind::Commit,
            src_id: sha,
            dst_kind: EntityKind::PullRequest,
            dst_id: id.clone(),
            deleted: false,
        };
        cx.out.fact(at, FactBody::Relation(part));
    }
    Some(())
}

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    state: Str<'a>,
    id: i64,
    user: Option<User<'a>>,
    submitted_at: Option<Time>,
    updated_at: Option<Time>,
}

pub fn review(cx: Cx<'_, '_, '_>, body: &Envelope<'_>) -> Option<()> {
    let repo = repository(cx, body)?;
    let review: Review<'_> = cx.section("review", body.review)?;
    let pr: Numbered = cx.section("pull_request", body.pull_request)?;
    // A dismissal keeps the date of submission; the pull request then carries the newer one.
    let known = review.updated_at.max(review.submitted_at).max(pr.updated_at);
    let at = step(known, cx.received_at, i64::from(body.action() != "submitted"));
    let fact = ReviewFact {
        review: format!("{}/reviews/{}", &*repo.full_name, review.id).into(),
        pull_request: format!("{}#{}", &*repo.full_name, pr.number).into(),
        reviewer: person(cx, at, review.user.as_ref()),
        state: review.state.to_ascii_lowercase().into(),
        submitted_at: review.submitted_at.map(|t| t.0),
        deleted: false,
    };
    cx.out.fact(at, FactBody::Review(fact));
    Some(())
}
