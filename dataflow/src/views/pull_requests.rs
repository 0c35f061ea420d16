//! Which pull requests are there, and how do they stand?
//!
//! Grain: one row a pull request. Key: `pull_request`. Inputs: pull request facts. Keeps I3: the latest version holds.

use std::sync::Arc;

use flowsync_schemas::{
    Birth, EntityId, EntityKind, Micros, PersonId, Record, SignalId, TableSpec, Text, ViewSpec,
    fact::{PullRequestFact, PullRequestState},
};

use crate::{
    cx::Cx,
    ops::{Arranged, Version, id, latest},
};

/// The view.
pub static VIEW: ViewSpec = ViewSpec {
    table: TableSpec {
        name: "pull_requests",
        version: 1,
        key: &["pull_request"],
        columns: || PullRequestRow::COLUMNS.to_vec(),
        birth: Birth::Dated("created_at"),
        doc: "Pull and merge requests as their hosts show them now; one row a pull request.",
    },
    oracle: "
        with versions as (
            select *, row_number() over (partition by pull_request order by at desc, signal desc, seq desc) as age
            from fact_pull_requests
        )
        select pull_request, repo, number, title, state, draft, author, head_branch, head_sha, base_branch, merge_sha,
               created_at, merged_at, closed_at, at as updated_at, added_lines, deleted_lines, changed_files, url, signal
        from versions where age = 1 and not deleted",
    why: "select signal, at, title, state, deleted from fact_pull_requests where pull_request = $1 order by at",
};

/// One pull request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Record)]
pub struct PullRequestRow {
    /// Native id, `owner/repo#number`.
    pub pull_request: Text,
    /// Repository, `owner/name`.
    pub repo: Text,
    /// Number within the repository.
    pub number: i64,
    /// Title.
    pub title: Text,
    /// State: open, closed, merged.
    pub state: PullRequestState,
    /// Whether it is a draft.
    pub draft: bool,
    /// Author, by pseudonym.
    pub author: Option<PersonId>,
    /// Branch that it would merge.
    pub head_branch: Text,
    /// Newest commit of that branch.
    pub head_sha: Text,
    /// Branch that it would merge into.
    pub base_branch: Text,
    /// Commit that the merge made.
    pub merge_sha: Option<Text>,
    /// When it was opened.
    pub created_at: Option<Micros>,
    /// When it was merged.
    pub merged_at: Option<Micros>,
    /// When it was closed, merged or not.
    pub closed_at: Option<Micros>,
    /// The version shown here, by the host's clock.
    pub updated_at: Micros,
    /// Lines added.
    #[unit = "lines"]
    pub added_lines: Option<i64>,
    /// Lines deleted.
    #[unit = "lines"]
    pub deleted_lines: Option<i64>,
    /// Files changed.
    #[unit = "files"]
    pub changed_files: Option<i64>,
    /// Where to open it.
    pub url: Option<Text>,
    /// The signal that states this version.
    pub signal: SignalId,
}

/// The latest undeleted versions.
pub fn define<'s>(cx: &mut Cx<'s>) -> Arranged<'s, EntityId, Version<Arc<PullRequestFact>>> {
    let versions = cx.facts.pull_requests.clone().map(|v| (id(EntityKind::PullRequest, &v.value.pull_request), v));
    latest(versions, |v| v.deleted)
}

/// Installs the view.
pub fn install(cx: &mut Cx<'_>) {
    let rows = cx.pull_requests().as_collection(|_, v| {
        let p = PullRequestFact::clone(&v.value);
        PullRequestRow {
            pull_request: p.pull_request,
            repo: p.repo,
            number: p.number,
            title: p.title,
            state: p.state,
            draft: p.draft,
            author: p.author,
            head_branch: p.head_branch,
            head_sha: p.head_sha,
            base_branch: p.base_branch,
            merge_sha: p.merge_sha,
            created_at: p.created_at,
            merged_at: p.merged_at,
            closed_at: p.closed_at,
            updated_at: v.at,
            added_lines: p.added_lines,
            deleted_lines: p.deleted_lines,
            changed_files: p.changed_files,
            url: p.url,
            signal: v.signal,
        }
    });
    cx.emit(&VIEW.table, rows);
}
